//! Calls that seccomp refuses in running processes, with the error that the program gets. The kernel writes no record of
//! most of these refusals. But a refused call leaves the kernel without having entered it, and tracepoints show that.
//!
//! BPF programs count the refusals in the kernel, so a burst of calls loses none, and calls that are not refused cost
//! little. While a tap lasts, the kernel takes its slower path into calls, for every process of the machine. The programs
//! end with the process that loaded them.
//!
//! A thread that was in a call when the tap began returns from a call whose entry the tap did not see. So the first
//! return of such a thread is [uncertain](Refusal::uncertain): the unit's policy tells whether it was a refusal.

pub(crate) mod error;
pub(crate) mod program;
pub(crate) mod refusal;
pub(crate) mod tally;
pub(crate) mod targets;

pub use error::TapError;
pub(crate) use refusal::TapLosses;
pub use refusal::{CallResult, Refusal};
pub(crate) use tally::{ProcessOwner, RefusalKind, RefusalTally, RefusalTotals};
pub use targets::TapTarget;

use super::bpf::{self, BpfArray, BpfError, BpfMap, Btf, CgroupArray};
use super::clock::Clocks;
use crate::syscalls::{Abi, Arch};
use error::MOST_TARGETS;
use program::{
    COMPAT, FIRST, LIVE, NO_ERROR, REFUSALS_LOST, RefusalCount, RefusalKey, SHARED, TARGET, THREADS_LOST, TapMaps,
    TapOffsets,
};
use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

/// How many threads are followed at a time, in 1.5 MB of the kernel's memory.
const THREADS: u32 = 16 << 10;
/// How many different refusals of living threads are counted, in 2 MB of the kernel's memory.
const REFUSALS: u32 = 16 << 10;
/// How many watched processes and children of theirs are followed.
const PROCESSES: u32 = 8 << 10;

/// The name under which `bpftool prog` lists the programs.
const PROGRAM: &[u8; 16] = b"harden_why_tap\0\0";

/// A tap. It ends when this is dropped.
#[derive(Debug)]
pub struct Tap {
    shared: BpfArray,
    refusals: BpfMap<RefusalKey, RefusalCount>,
    cgroups: CgroupArray,
    /// The watched cgroups: the target's index, the directory, and the id of the cgroup that is in the map.
    watched: Vec<(u32, PathBuf, u64)>,
    programs: Vec<OwnedFd>,
    /// The counts of living threads that [`collect`](Self::collect) has returned.
    reported: HashMap<RefusalKey, u64>,
    /// The watched processes and their children, where a target is a process.
    processes: Option<BpfMap<u32, u64>>,
    /// The state of each thread, which only the programs use.
    _threads: BpfMap<u32, u64>,
}

impl Tap {
    /// How often to [`collect`](Self::collect) at least, so that the counts of threads that are gone make room.
    pub const INTERVAL: Duration = Duration::from_millis(100);

    /// Begins to watch.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn open(targets: &[TapTarget]) -> Result<Self, TapError> {
        if targets.len() > MOST_TARGETS {
            return Err(TapError::TooMany);
        }
        targets::check_namespace()?;
        for target in targets {
            target.check()?;
        }
        if cfg!(not(target_pointer_width = "64")) {
            return Err(BpfError::unsupported("not on a 32-bit machine").into());
        }
        let types = fs::read("/sys/kernel/btf/vmlinux").unwrap_or_default();
        let types = Btf::parse(&types).ok_or(TapError::NoTypes)?;
        let at =
            TapOffsets::find(&types).ok_or_else(|| BpfError::unsupported("the layout of its structures is unknown"))?;
        // A lockdown refuses with the error of a missing right.
        Self::load(targets, at).map_err(|error| locked_down().unwrap_or(error.into()))
    }

    fn load(targets: &[TapTarget], at: TapOffsets) -> Result<Self, BpfError> {
        let shared = BpfArray::new_array(SHARED)?;
        let threads = BpfMap::new_hash(THREADS)?;
        let refusals = BpfMap::new_hash(REFUSALS)?;
        let places = u32::try_from(targets.len().max(1)).map_err(io::Error::other)?;
        let cgroups = CgroupArray::new_cgroup_array(places)?;
        let mut watched = Vec::new();
        let mut processes: Option<BpfMap<u32, u64>> = None;
        for (index, target) in (0..).zip(targets) {
            match target {
                TapTarget::Cgroup(directory) => {
                    let (file, id) = targets::open_cgroup(directory)?;
                    cgroups.insert_cgroup(index, file.as_fd())?;
                    watched.push((index, directory.clone(), id));
                }
                TapTarget::Process(pid) => {
                    let map = match processes.take() {
                        Some(map) => map,
                        None => BpfMap::new_hash(PROCESSES)?,
                    };
                    map.insert(*pid, index.into())?;
                    processes = Some(map);
                }
            }
        }
        let maps = TapMaps {
            shared: shared.fd_number(),
            threads: threads.fd_number(),
            refusals: refusals.fd_number(),
            // An empty array has no cgroup to compare with.
            cgroups: (cgroups.fd_number(), if watched.is_empty() { 0 } else { places }),
            processes: processes.as_ref().map(BpfMap::fd_number),
        };
        let attach = |program: Option<Vec<_>>, tracepoint| {
            bpf::attach(PROGRAM, &program.ok_or(io::ErrorKind::Unsupported)?, tracepoint)
        };
        let programs = vec![
            attach(program::build_exit(maps, at), c"sched_process_exit")?,
            attach(program::build_fork(maps, at), c"sched_process_fork")?,
            attach(program::build_sys_enter(maps), c"sys_enter")?,
            attach(program::build_sys_exit(maps, at), c"sys_exit")?,
        ];
        // Starts all programs at once: a program that counts before the others sees half of a call.
        shared.insert(LIVE, 1)?;
        Ok(Self {
            shared,
            refusals,
            cgroups,
            watched,
            programs,
            reported: HashMap::new(),
            processes,
            _threads: threads,
        })
    }

    /// Returns what was refused since the last call, and watches the new cgroups of units that were restarted.
    pub fn collect(&mut self) -> Vec<Refusal> {
        self.follow_restarts();
        self.read_counts()
    }

    /// Ends the tap, and returns what was refused since the last [`collect`](Self::collect).
    pub fn stop(&mut self) -> Vec<Refusal> {
        // Closing the programs ends them, too.
        _ = self.shared.insert(LIVE, 0);
        self.programs.clear();
        self.read_counts()
    }

    fn follow_restarts(&mut self) {
        for (index, directory, known) in &mut self.watched {
            if let Ok((file, id)) = targets::open_cgroup(directory)
                && id != *known
                && self.cgroups.insert_cgroup(*index, file.as_fd()).is_ok()
            {
                *known = id;
            }
        }
    }

    fn read_counts(&mut self) -> Vec<Refusal> {
        let clocks = Clocks::now();
        let mut refusals = Vec::new();
        for key in self.refusals.keys() {
            let [tid, pid, ..] = key;
            // Before the count is read: once the thread is gone, its count is final.
            let gone = !targets::task_exists(pid, tid);
            let Some(value) = self.refusals.get(key) else { continue };
            let [count, ..] = value;
            let before = self.reported.get(&key).copied().unwrap_or_default();
            if count > before {
                refusals.push(refusal(key, value, count - before, &clocks));
            }
            if gone {
                self.refusals.remove(key);
                self.reported.remove(&key);
            } else {
                self.reported.insert(key, count);
            }
        }
        refusals
    }

    /// Whether all watched processes and their children are gone. A cgroup can always get new processes.
    pub(crate) fn is_over(&self) -> bool {
        self.watched.is_empty() && self.processes.as_ref().is_none_or(BpfMap::is_empty)
    }

    /// Returns what the maps had no room for so far.
    pub(crate) fn losses(&self) -> TapLosses {
        let count = |place| self.shared.get(place).unwrap_or_default();
        TapLosses { refusals: count(REFUSALS_LOST), threads: count(THREADS_LOST) }
    }
}

fn refusal(key: RefusalKey, value: RefusalCount, count: u64, clocks: &Clocks) -> Refusal {
    let [tid, pid, number, flags, returned] = key;
    let [_, first, last, ip, uid, comm @ ..] = value;
    let comm = comm.map(u64::to_ne_bytes).concat();
    let length = comm.iter().position(|&byte| byte == 0).unwrap_or(comm.len());
    Refusal {
        target: (flags & TARGET) as usize,
        pid,
        tid,
        arch: arch(flags & COMPAT != 0),
        number,
        result: if returned == NO_ERROR {
            CallResult::Answered
        } else {
            CallResult::Errno(returned.cast_signed().checked_neg().unwrap_or_default())
        },
        uncertain: flags & FIRST != 0,
        count,
        first: clocks.millis_of_monotonic(first),
        last: clocks.millis_of_monotonic(last),
        comm: comm.get(..length).unwrap_or_default().to_vec(),
        uid: u32::try_from(uid).ok(),
        ip,
    }
}

/// Returns the machine's own architecture, or that of its 32-bit ABI.
fn arch(compat: bool) -> Arch {
    let narrow = match Abi::native() {
        Abi::X86_64 => Abi::I386,
        Abi::Aarch64 => Abi::Arm,
        native => native,
    };
    if compat { narrow.arch() } else { Arch::native() }
}

/// Returns the error of a kernel that is locked down so far that not even root may read its memory.
fn locked_down() -> Option<TapError> {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let mode = modes.split_once('[')?.1.split_once(']')?.0;
    (mode == "confidentiality").then(|| TapError::LockedDown(mode.to_owned()))
}
