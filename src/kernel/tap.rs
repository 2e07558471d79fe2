//! Calls that seccomp refuses in running processes, with the error that the program gets, and calls that the kernel executes and
//! that fail as a sandbox makes them fail. The kernel writes no record of most of these refusals, and of no failure. But a
//! refused call leaves the kernel without having entered it, and tracepoints show that. When a call that was entered leaves,
//! its arguments and what the process may do can still be read.
//!
//! BPF programs count both in the kernel, so a burst of calls loses none, and calls that do not fail cost
//! little. While a tap lasts, the kernel takes its slower path into calls, for every process of the machine. The programs
//! end with the process that loaded them.
//!
//! A thread that was in a call when the tap began returns from a call whose entry the tap did not see. So the first
//! return of such a thread is [uncertain](Refusal::uncertain): the unit's policy tells whether it was a refusal.

pub(crate) mod error;
pub(crate) mod refusal;
pub(crate) mod tally;
pub(crate) mod targets;

pub use error::TapError;
pub(crate) use refusal::TapLosses;
pub use refusal::{CallResult, Refusal};
pub(crate) use tally::{ProcessOwner, ProcessReader, RefusalKind, RefusalTally, RefusalTotals};
pub use targets::TapTarget;

use super::bpf::{BpfError, BpfObject, KernelFunctions};
use super::call_notes::{CallNote, NoteWords, page_shift};
use super::call_rules::{CallRule, call_rules};
use super::clock::Clocks;
use super::failed_call::{FailedCall, FailureCount, FailureKey};
use super::heap;
use crate::incidents::CallSite;
use crate::syscalls::{Abi, Arch};
use aya::include_bytes_aligned;
use aya::maps::{Array, HashMap, MapData};
use error::MOST_TARGETS;
use std::collections;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use targets::WatchedCgroup;

/// The programs, from `src/kernel/bpf/tap.bpf.c`, which has the limits of their maps.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tap.bpf.o"));

/// What identifies a count (`struct refusal_key`): the thread, the process, the call's number, the target's index with
/// [flags](FIRST), what the call returned, and the argument that filters decide by.
type RefusalKey = [u32; 6];
/// A count (`struct refusal`): the number of refusals, the times of the first and the latest (`CLOCK_MONOTONIC`), the latest
/// call's address, the uid, and the thread's name at the latest in two words.
type RefusalCount = [u64; 7];

/// The bits of the target's index in its word of a [`RefusalKey`].
const TARGET: u32 = 0xffff;
/// Flag: the thread was unknown, so it may have been in this call when the tap began.
const FIRST: u32 = 1 << 16;
/// Flag: a call of the machine's 32-bit ABI.
const COMPAT: u32 = 1 << 17;
/// Flag: no filter refused the call.
const ENTERED: u32 = 1 << 19;
/// Flag: the argument that filters decide by is known.
const ARGUMENT: u32 = 1 << 20;
/// Stands for every returned value that is no error: no filter of systemd's answered the call.
const NO_ERROR: u32 = 1;

/// The indexes of the numbers that the programs and this process share: whether to count, and what had no room.
const LIVE: u32 = 0;
const REFUSALS_LOST: u32 = 1;
const THREADS_LOST: u32 = 2;
const FAILURES_LOST: u32 = 3;

/// How many failures the map holds (`FAILURES` in `tap_layout.h`). All targets have the same share.
const MOST_FAILURES: usize = 8192;

/// Which map an entry is in, for the count of the entries that were removed (`enum share`).
const OF_FAILURES: u32 = 0;
const OF_REFUSALS: u32 = 1;

/// What a tap counts in addition to the calls that seccomp refuses, and to those that fail with other errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TapOptions {
    /// Calls that fail since their path is not there. Programs look for many absent files.
    pub absent: bool,
    /// Calls that the kernel executes and that a filter could decide about by an argument, as in a rehearsal.
    pub entered: bool,
}

/// What a tap counted since the last report.
#[derive(Debug, Default)]
pub struct TapReport {
    /// Calls that seccomp refused.
    pub refusals: Vec<Refusal>,
    /// Calls that the kernel executed and that failed.
    pub failures: Vec<FailedCall>,
}

/// A tap. It ends when this is dropped.
pub struct Tap {
    shared: Array<MapData, u64>,
    refusals: HashMap<MapData, RefusalKey, RefusalCount>,
    failures: HashMap<MapData, FailureKey, FailureCount>,
    /// Where the first call of each count was made. The keys are those of both kinds of counts.
    sites: HashMap<MapData, [u32; 6], NoteWords>,
    cgroups: Array<MapData, [u64; 4]>,
    /// The watched cgroups, with their targets' indexes and directories.
    watched: Vec<(u32, PathBuf, WatchedCgroup)>,
    /// How many levels the root of this cgroup namespace is below the machine's.
    root_level: u64,
    programs: Option<BpfObject>,
    /// The counts of living threads that [`collect`](Self::collect) has returned.
    reported: collections::HashMap<RefusalKey, u64>,
    reported_failures: collections::HashMap<FailureKey, u64>,
    /// Whether the kernel shows which capabilities a call missed.
    sees_capabilities: bool,
    /// The watched processes and their children.
    processes: HashMap<MapData, u32, u64>,
    /// By target and map, how many entries this process removed.
    removed: Array<MapData, u64>,
    target_count: usize,
}

impl Tap {
    /// How often to [`collect`](Self::collect) at least, so that the counts of threads that are gone make room.
    pub const INTERVAL: Duration = Duration::from_millis(100);

    /// Begins to watch targets that run.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn open(targets: &[TapTarget], options: TapOptions) -> Result<Self, TapError> {
        // In a PID namespace, a target's PIDs mean others.
        targets::check_namespace()?;
        for target in targets {
            target.check()?;
        }
        Self::open_before_start(targets, options)
    }

    /// Begins to watch targets that need not run yet.
    ///
    /// # Errors
    /// Says what is missing.
    pub(crate) fn open_before_start(targets: &[TapTarget], options: TapOptions) -> Result<Self, TapError> {
        if targets.len() > MOST_TARGETS {
            return Err(TapError::TooMany);
        }
        targets::check_namespace()?;
        if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            return Err(TapError::NoTypes);
        }
        // A lockdown refuses with the error of a missing right.
        Self::load(targets, options).map_err(|error| locked_down().unwrap_or(error.into()))
    }

    fn load(targets: &[TapTarget], options: TapOptions) -> Result<Self, BpfError> {
        let cgroups = targets.iter().filter(|target| matches!(target, TapTarget::Cgroup(_))).count();
        let processes = targets.len() - cgroups;
        let root = targets::unified_root();
        let constants = [
            // A cgroup has the index of its target.
            ("cgroup_count", if cgroups == 0 { 0 } else { targets.len() as u64 }),
            ("has_processes", u64::from(processes > 0)),
            ("root_cgroup", root.unwrap_or_default()),
            ("target_count", targets.len().max(1) as u64),
            ("count_absent", options.absent.into()),
            ("count_entered", options.entered.into()),
            ("watcher", std::process::id().into()),
            ("page_shift", page_shift()?),
        ];
        let mut programs = BpfObject::load(OBJECT, &constants)?;
        let mut tap = Self {
            shared: programs.take_map("shared")?,
            refusals: programs.take_map("refusals")?,
            failures: programs.take_map("failures")?,
            sites: programs.take_map("sites")?,
            cgroups: programs.take_map("cgroups")?,
            processes: programs.take_map("processes")?,
            removed: programs.take_map("removed")?,
            target_count: targets.len().max(1),
            watched: Vec::new(),
            root_level: root_level(root, &mut programs)?,
            programs: None,
            reported: collections::HashMap::new(),
            reported_failures: collections::HashMap::new(),
            sees_capabilities: false,
        };
        let mut rules: Array<MapData, CallRule> = programs.take_map("rules")?;
        for (number, rule) in call_rules(Abi::native()) {
            rules.set(number, rule, 0)?;
        }
        for (index, target) in (0..).zip(targets) {
            match target {
                TapTarget::Cgroup(directory) => {
                    let cgroup = WatchedCgroup::find(directory, tap.root_level)?;
                    tap.cgroups.set(index, cgroup.to_words(), 0)?;
                    tap.watched.push((index, directory.clone(), cgroup));
                }
                TapTarget::Process(pid) => tap.processes.insert(*pid, u64::from(index), 0)?,
            }
        }
        programs.attach("hardenwhy_exec", "sched_process_exec")?;
        tap.sees_capabilities = attach_to_capability_checks(&mut programs);
        programs.attach("hardenwhy_end", "sched_process_exit")?;
        programs.attach("hardenwhy_fork", "sched_process_fork")?;
        if !tap.watched.is_empty() {
            programs.attach("hardenwhy_mkdir", "cgroup_mkdir")?;
        }
        programs.attach("hardenwhy_enter", "sys_enter")?;
        // An older kernel cannot find the code of a call.
        if let Err(error) = programs.attach("hardenwhy_site", "sys_exit") {
            tracing::debug!("the tap cannot note where calls are made: {error}");
            programs.attach("hardenwhy_leave", "sys_exit")?;
        }
        tap.programs = Some(programs);
        // Starts all programs at once: a program that counts before the others sees half of a call.
        tap.shared.set(LIVE, 1, 0)?;
        Ok(tap)
    }

    /// Returns what was refused and what failed since the last call, and watches the new cgroups of units that were restarted.
    pub fn collect(&mut self) -> TapReport {
        self.follow_restarts();
        self.read_counts()
    }

    /// Ends the tap, and returns what was refused and what failed since the last [`collect`](Self::collect).
    pub fn stop(&mut self) -> TapReport {
        // Closing the programs ends them, too.
        _ = self.shared.set(LIVE, 0, 0);
        self.programs = None;
        self.read_counts()
    }

    /// Watches the new cgroups of units whose slice is new, too. The kernel watches the others by itself.
    fn follow_restarts(&mut self) {
        for (index, directory, known) in &mut self.watched {
            if let Ok(found) = WatchedCgroup::find(directory, self.root_level)
                && found.replaces(known)
                && self.cgroups.set(*index, found.to_words(), 0).is_ok()
            {
                *known = found;
            }
        }
    }

    fn read_counts(&mut self) -> TapReport {
        let clocks = Clocks::now();
        TapReport { refusals: self.read_refusals(&clocks), failures: self.read_failures(&clocks) }
    }

    fn read_failures(&mut self, clocks: &Clocks) -> Vec<FailedCall> {
        let mut failures = Vec::new();
        let keys: Vec<FailureKey> = self.failures.keys().flatten().collect();
        let mut entries: collections::HashMap<u32, usize> = collections::HashMap::new();
        for [_, _, flags, ..] in &keys {
            *entries.entry(flags & TARGET).or_default() += 1;
        }
        let crowded = MOST_FAILURES / self.target_count / 2;
        for key in keys {
            let [pid, _, flags, ..] = key;
            let is_crowded = entries.get(&(flags & TARGET)).is_some_and(|count| *count >= crowded);
            let is_gone = !targets::task_exists(pid, pid);
            let Ok(value) = self.failures.get(&key, 0) else { continue };
            let [count, ..] = value;
            let before = self.reported_failures.get(&key).copied().unwrap_or_default();
            // One that did not recur leaves the map to others; one that recurs keeps its exact count while there is room.
            let leaves = is_gone || count > 0 && (count == before || is_crowded);
            if count > before
                && let Some(failure) = FailedCall::new(key, &value, count - before, clocks)
            {
                let site = if before == 0 { self.take_site(&key) } else { None };
                failures.push(FailedCall { site, ..failure });
                self.reported_failures.insert(key, count);
            }
            if leaves {
                if self.failures.remove(&key).is_ok() {
                    self.count_removed(flags, OF_FAILURES);
                }
                self.reported_failures.remove(&key);
            }
        }
        failures
    }

    fn read_refusals(&mut self, clocks: &Clocks) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let keys: Vec<RefusalKey> = self.refusals.keys().flatten().collect();
        for key in keys {
            let [tid, pid, _, flags, ..] = key;
            // Before the count is read: once the thread is gone, its count is final.
            let gone = !targets::task_exists(pid, tid);
            let Ok(value) = self.refusals.get(&key, 0) else { continue };
            let [count, ..] = value;
            let before = self.reported.get(&key).copied().unwrap_or_default();
            if count > before {
                let site = if before == 0 { self.take_site(&key) } else { None };
                refusals.push(Refusal { site, ..refusal(key, value, count - before, clocks) });
            }
            if gone {
                if self.refusals.remove(&key).is_ok() {
                    self.count_removed(flags, OF_REFUSALS);
                }
                self.reported.remove(&key);
            } else {
                self.reported.insert(key, count);
            }
        }
        refusals
    }

    /// Takes the note of where the first call of a count was made.
    fn take_site(&mut self, key: &[u32; 6]) -> Option<Box<CallSite>> {
        let note = self.sites.get(key, 0).ok()?;
        // If it stays, it is the first to make room.
        _ = self.sites.remove(key);
        Some(Box::new(CallNote::read(&note)?.noted.site))
    }

    /// Gives the place of an entry back to its target.
    fn count_removed(&mut self, flags: u32, map: u32) {
        let index = (flags & TARGET) * 2 + map;
        let before = self.removed.get(&index, 0).unwrap_or_default();
        // Without it, the target has less room: its losses are counted.
        _ = self.removed.set(index, before + 1, 0);
    }

    /// Whether all watched processes and their children are gone. A cgroup can always get new processes.
    pub(crate) fn is_over(&self) -> bool {
        self.watched.is_empty() && self.processes.keys().next().is_none()
    }

    /// Returns what the maps had no room for so far.
    pub(crate) fn losses(&self) -> TapLosses {
        let count = |place| self.shared.get(&place, 0).unwrap_or_default();
        TapLosses { refusals: count(REFUSALS_LOST), threads: count(THREADS_LOST), failures: count(FAILURES_LOST) }
    }

    /// Whether the kernel shows which capabilities a call missed. Without it, EPERM of an entered call has no known reason.
    #[must_use]
    pub fn sees_capabilities(&self) -> bool {
        self.sees_capabilities
    }
}

/// Attaches to the kernel's capability checks, by the tracepoint or, before Linux 6.14, at the end of the function. Returns
/// whether that works.
fn attach_to_capability_checks(programs: &mut BpfObject) -> bool {
    if programs.attach("hardenwhy_cap", "cap_capable").is_ok() {
        return true;
    }
    let attached = KernelFunctions::read()
        .and_then(|functions| programs.attach_to_function("hardenwhy_capold", "cap_capable", &functions));
    heap::trim();
    attached.is_ok()
}

/// Returns how many levels the root of this cgroup namespace is below the machine's root, whose id is 1
/// (`cgroup_setup_root`, `kernel/cgroup/cgroup.c`).
fn root_level(root: Option<u64>, programs: &mut BpfObject) -> Result<u64, BpfError> {
    if root.is_none_or(|id| id == 1) {
        return Ok(0);
    }
    let level = programs.run("hardenwhy_level")?.cast_signed();
    u64::try_from(level).map_err(|_| BpfError::unsupported("this process is in a cgroup outside of its namespace"))
}

fn refusal(key: RefusalKey, value: RefusalCount, count: u64, clocks: &Clocks) -> Refusal {
    let [tid, pid, number, flags, returned, argument] = key;
    let [_, first, last, ip, uid, comm @ ..] = value;
    let comm = comm.map(u64::to_ne_bytes).concat();
    let length = comm.iter().position(|&byte| byte == 0).unwrap_or(comm.len());
    let is_compat = flags & COMPAT != 0;
    Refusal {
        target: (flags & TARGET) as usize,
        pid,
        tid,
        arch: arch(is_compat),
        number,
        argument: (flags & ARGUMENT != 0).then_some(argument),
        result: if flags & ENTERED != 0 {
            CallResult::Entered
        } else if returned == NO_ERROR {
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
        site: None,
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
