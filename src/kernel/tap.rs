//! Calls that seccomp refuses in processes that run, as they come back to the program. Most such refusals leave no
//! record; but each leaves the kernel without having entered it, and that shows in its tracepoints.
//!
//! Two ways lead there. A BPF program counts in the kernel, so no count is lost, however many calls there are, and only
//! what is refused costs more than a look. Where there is no BPF, a private instance of tracefs sends every call of the
//! watched threads our way. Both put every process of the machine on the kernel's slower way into calls while they last,
//! and both are gone with us: the one by itself, the other also by [`leftovers`].
//!
//! A thread that was in a call when this began comes back without having been seen to enter it. So the first return of a
//! thread that was there before is [uncertain](Refusal::uncertain): who knows the policy can tell.

pub(crate) mod bpf;
pub(crate) mod instance;
pub(crate) mod pairing;
pub(crate) mod program;
pub(crate) mod ring;
pub(crate) mod tally;
pub(crate) mod targets;
pub(crate) mod tracefs;

pub use tally::{Caller, Group, Kind, Owner, Tally};
pub use targets::Target;

use super::clock::Clocks;
use crate::syscalls::Arch;
use bpf::Counted;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};
use tracefs::Traced;

/// The most targets of one tap: each costs every call of the machine a look.
pub const MOST_TARGETS: usize = 16;

/// A tap in place. It is gone when this is dropped.
#[derive(Debug)]
pub struct Tap {
    back_end: BackEnd,
}

#[derive(Debug)]
enum BackEnd {
    Bpf(Counted),
    Tracefs(Box<Traced>),
}

/// By which way to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A BPF program.
    Bpf,
    /// A private instance of tracefs.
    Tracefs,
}

/// What one thread was refused since it was asked last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The place of the target among those asked for.
    pub target: usize,
    /// Process and thread.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The call's architecture and number.
    pub arch: Arch,
    /// Its number.
    pub number: u32,
    /// What the program saw of it.
    pub end: End,
    /// It may be the end of a call that was let through, and began before the tap did.
    pub uncertain: bool,
    /// How often.
    pub count: u64,
    /// The first time, in milliseconds since the epoch.
    pub first: i64,
    /// The latest.
    pub last: i64,
    /// The thread's name.
    pub comm: Vec<u8>,
    /// Its real uid, where it is known.
    pub uid: Option<u32>,
    /// Where it called from the last time, where that is known.
    pub ip: u64,
}

/// What the program saw of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// An error; 0 looks like success.
    Errno(i32),
    /// Something else: a supervisor or a tracer answered, or a handler of SIGSYS did.
    Answered,
}

/// What could not be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lost {
    /// Refusals that there was no room for.
    pub refusals: u64,
    /// Returns of threads that there was no room for, refused or not.
    pub threads: u64,
    /// Events that were overwritten before they were read.
    pub events: u64,
}

/// Why there is no tap.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// Only root may.
    #[error("not allowed: a tap takes root, with CAP_BPF and CAP_PERFMON or access to tracefs")]
    NotAllowed,
    /// The kernel is locked down.
    #[error("the kernel is locked down ({0}), which forbids to look into it: boot without lockdown=confidentiality")]
    LockedDown(String),
    /// PIDs mean others here.
    #[error(
        "the tap sees the machine's own PIDs, and this is a PID namespace of its own: run it outside the container"
    )]
    PidNamespace,
    /// No unified hierarchy.
    #[error("no cgroup version 2 hierarchy is mounted, by which a unit's processes are known: give their PIDs")]
    NoHierarchy,
    /// Nothing runs there.
    #[error("{0} has no processes")]
    Empty(String),
    /// Too many.
    #[error("at most {MOST_TARGETS} units and processes can be watched at once")]
    TooMany,
    /// No BPF.
    #[error("the kernel does not take the BPF program: {0}")]
    Bpf(String),
    /// No tracefs.
    #[error("tracefs cannot be used: {0}")]
    Tracefs(String),
    /// Neither.
    #[error("{bpf}; and {tracefs}")]
    Neither {
        /// Why not by BPF.
        bpf: Box<TapError>,
        /// Why not by tracefs.
        tracefs: Box<TapError>,
    },
}

impl Tap {
    /// Begins to watch.
    ///
    /// # Errors
    /// Says what is missing. Nothing was changed then.
    pub fn open(targets: &[Target], way: Option<Way>) -> Result<Self, TapError> {
        if targets.len() > MOST_TARGETS {
            return Err(TapError::TooMany);
        }
        targets::check_namespace()?;
        for target in targets {
            target.check()?;
        }
        let bpf = || Counted::open(targets).map(BackEnd::Bpf);
        let tracefs = || Traced::open(targets).map(|traced| BackEnd::Tracefs(Box::new(traced)));
        let back_end = match way {
            Some(Way::Bpf) => bpf(),
            Some(Way::Tracefs) => tracefs(),
            None => bpf().or_else(|no_bpf| {
                tracefs().map_err(|no_tracefs| match (&no_bpf, &no_tracefs) {
                    (TapError::NotAllowed, TapError::NotAllowed) => TapError::NotAllowed,
                    _ => TapError::Neither { bpf: no_bpf.into(), tracefs: no_tracefs.into() },
                })
            }),
        };
        // What is then not allowed, is not for want of rights.
        back_end.map(|back_end| Self { back_end }).map_err(|error| locked_down().unwrap_or(error))
    }

    /// By which way it looks.
    #[must_use]
    pub fn way(&self) -> Way {
        match self.back_end {
            BackEnd::Bpf(_) => Way::Bpf,
            BackEnd::Tracefs(_) => Way::Tracefs,
        }
    }

    /// How often to look at least, so that what the buffers hold is not overwritten.
    #[must_use]
    pub fn step(&self) -> Duration {
        match self.back_end {
            BackEnd::Bpf(_) => Duration::from_millis(100),
            BackEnd::Tracefs(_) => Duration::from_millis(20),
        }
    }

    /// What was refused since this was asked last, and follows units that were started anew.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn look(&mut self) -> io::Result<Vec<Refusal>> {
        match &mut self.back_end {
            BackEnd::Bpf(counted) => {
                counted.follow();
                Ok(counted.look(&Clocks::now()))
            }
            BackEnd::Tracefs(traced) => traced.look(&Clocks::now()),
        }
    }

    /// Stops to watch, and tells what was refused since this was asked last.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn stop(&mut self) -> io::Result<Vec<Refusal>> {
        match &mut self.back_end {
            BackEnd::Bpf(counted) => {
                counted.stop();
                Ok(counted.look(&Clocks::now()))
            }
            BackEnd::Tracefs(traced) => {
                traced.stop()?;
                traced.look(&Clocks::now())
            }
        }
    }

    /// Whether nobody is left to be watched, nor will be: all processes that were asked for are gone, and their
    /// children.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match &self.back_end {
            BackEnd::Bpf(counted) => counted.is_over(),
            BackEnd::Tracefs(traced) => traced.is_over(),
        }
    }

    /// What could not be seen so far.
    #[must_use]
    pub fn lost(&self) -> Lost {
        match &self.back_end {
            BackEnd::Bpf(counted) => counted.lost(),
            BackEnd::Tracefs(traced) => traced.lost(),
        }
    }
}

/// What taps that were killed left behind: instances of tracefs, which still trace.
#[must_use]
pub fn leftovers() -> Vec<PathBuf> {
    instance::leftovers()
}

/// Removes what a tap left behind.
///
/// # Errors
/// It cannot be removed.
pub fn remove(leftover: &Path) -> io::Result<()> {
    instance::remove(leftover)
}

/// Whether the kernel keeps even root from looking into it.
fn locked_down() -> Option<TapError> {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let mode = modes.split_once('[')?.1.split_once(']')?.0;
    (mode == "confidentiality").then(|| TapError::LockedDown(mode.to_owned()))
}
