//! Ancestors of processes that are gone, where the kernel does not note whose the dying are.
//!
//! Without those notes a process whose parent is gone as well leaves no trace. So once one could not be told, births are
//! listened to for a while (see [`BirthListener`]): nothing where nothing is denied, and no wake-up for any of them but
//! one a second, lest the kernel's buffer overflow.

use super::clock::{Clocks, ns_of_ticks};
use super::proc_events::BirthListener;
use super::procfs::Procfs;
use crate::units::process_ancestry::{ProcessAncestry, ProcessOwner, ProcessSnapshot};
use crate::units::{Evidence, Placement, Unit, Unplaced, cgroup};
use std::time::{Duration, Instant};

/// How long births are listened to after somebody could not be told.
const FOR: Duration = Duration::from_mins(1);
/// How often they are fetched at least: the buffer holds 10,000.
const EVERY: Duration = Duration::from_secs(1);

/// The ancestors that are known.
#[derive(Debug, Default)]
pub(crate) struct Ancestors {
    ancestry: ProcessAncestry,
    watch: Option<Watch>,
    /// Births could not be heard; that is not tried again before.
    deaf_until: Option<Instant>,
}

#[derive(Debug)]
struct Watch {
    births: BirthListener,
    until: Instant,
    fetch_at: Instant,
}

/// A process that had a pid at a moment, in milliseconds since the epoch, and whose it was.
#[derive(Debug, Clone, Copy)]
pub struct Descendant<'a> {
    /// The pid.
    pub pid: u32,
    /// When.
    pub at: i64,
    /// Whose.
    pub owner: ProcessOwner,
    /// Its name.
    pub comm: &'a [u8],
}

impl Ancestors {
    /// What its ancestors tell of a process. Listens to births from now on, if it did not.
    pub(crate) fn of(&mut self, procfs: &Procfs, who: Descendant<'_>) -> Option<Evidence> {
        let now = Instant::now();
        self.listen(now);
        self.fetch(now);
        let clocks = Clocks::now();
        if clocks.is_to_come(who.at) {
            return None;
        }
        let then = (who.pid, clocks.boot_ns_of_millis(who.at));
        let (rung, unit) = self.ancestry.infer_unit(then, who.owner, who.comm, |pid| look(procfs, pid, clocks))?;
        Some(Evidence::Named(rung, unit))
    }

    /// A process was found in a unit; of use only while it may be asked for others.
    pub(crate) fn witness(&mut self, procfs: &Procfs, who: Descendant<'_>, unit: &Unit) {
        if self.watch.is_some() {
            self.fetch(Instant::now());
            let clocks = Clocks::now();
            if clocks.is_to_come(who.at) {
                return;
            }
            let then = (who.pid, clocks.boot_ns_of_millis(who.at));
            self.ancestry.vouch(then, who.owner, unit, |pid| look(procfs, pid, clocks));
        }
    }

    /// The parent of a process that died, in nanoseconds since boot.
    pub(crate) fn died(&mut self, pid: u32, parent: u32, at: i64) {
        if self.watch.is_some() {
            self.fetch(Instant::now());
            self.ancestry.record_death(pid, parent, at);
        }
    }

    /// Whether it may know more of somebody later.
    pub(crate) fn is_learning(&self) -> bool {
        self.watch.is_some()
    }

    /// Does what is due.
    pub(crate) fn tend(&mut self, now: Instant) {
        if self.watch.as_ref().is_some_and(|watch| watch.until <= now) {
            *self = Self::default();
        }
        if self.watch.as_ref().is_some_and(|watch| watch.fetch_at <= now) {
            self.fetch(now);
        }
    }

    /// When something is due.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.watch.as_ref().map(|watch| watch.fetch_at.min(watch.until))
    }

    fn listen(&mut self, now: Instant) {
        let until = now + FOR;
        if let Some(watch) = &mut self.watch {
            watch.until = until;
        } else if self.deaf_until.is_none_or(|at| at <= now) {
            match BirthListener::open() {
                Ok(births) => self.watch = Some(Watch { births, until, fetch_at: now + EVERY }),
                Err(error) => {
                    tracing::warn!("births cannot be heard, so fewer ancestors are known: {error}");
                    self.deaf_until = Some(until);
                }
            }
        }
    }

    /// Takes the births that were heard so far.
    fn fetch(&mut self, now: Instant) {
        let Some(watch) = &mut self.watch else { return };
        watch.fetch_at = now + EVERY;
        let clocks = Clocks::now();
        loop {
            match watch.births.receive() {
                Ok(Some(birth)) => {
                    self.ancestry.record_birth(
                        birth.pid,
                        birth.parent,
                        clocks.boot_ns_of_monotonic(birth.timestamp_ns),
                    );
                }
                Ok(None) => return,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.ancestry.forget_births(),
                Err(error) => {
                    tracing::warn!("births cannot be heard any more: {error}");
                    *self = Self { deaf_until: Some(now + FOR), ..Self::default() };
                    return;
                }
            }
        }
    }
}

/// A process that lives, or waits to be reaped.
fn look(procfs: &Procfs, pid: u32, clocks: Clocks) -> Option<ProcessSnapshot> {
    let cgroup = procfs.cgroup(pid)?;
    let (session, comm) = (procfs.session(pid), procfs.comm(pid)?);
    // One that is still there after the rest was read had it when it was.
    let (started, parent) = procfs.descent(pid)?;
    let unit = match cgroup::place(&cgroup) {
        Placement::Unit(unit) => Some(unit),
        // It is on its way out.
        Placement::None(Unplaced::Root | Unplaced::Unreadable) => return None,
        Placement::None(_) => None,
    };
    Some(ProcessSnapshot { at: clocks.boot(), started: ns_of_ticks(started), parent, unit, session, comm })
}
