//! Whose a process was that is gone: a BPF program notes the cgroup of each process under a seccomp filter
//! as it dies, and keeps the latest notes.
//!
//! Reading `/proc/PID/cgroup` races with death; this does not. Nothing wakes us: a note costs the dying
//! process a microsecond or two, and the table is looked at only when a record's process is gone. The
//! program runs at the exit rather than at the signal, because that also covers a process that was refused
//! a call and ended by itself, and because older kernels kill for seccomp without a signal.
//!
//! A note holds the ids of the cgroup and its ancestors; their names are found in the mounted hierarchy,
//! or, where a cgroup is gone too, in the notes of a second program, which runs when one is removed. It also
//! holds when the process started and died, so a pid that is used again misleads nobody.
//!
//! Needs `CAP_BPF` and `CAP_PERFMON`, Linux 5.14 (a program's view of its ancestors' ids) on a 64-bit
//! machine, the unified hierarchy, and the kernel's own type information.

pub(crate) mod cgroup_names;
pub(crate) mod name_cache;
pub(crate) mod program;

pub(crate) use cgroup_names::unified_mount;

use super::bpf;
use super::bpf::{BpfError, Btf, Map};
use super::clock::Clocks;
use cgroup_names::Tree;
use program::{CgroupOffsets, NAME_SIZE, TaskOffsets, WORDS};
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How many of the dead are remembered, of those that SIGSYS killed and of the others each: at 2,000 deaths
/// a second under filters, four seconds' worth, in a megabyte and a half of the kernel's memory.
const REMEMBERED: u32 = 8192;
/// And how many names of cgroups that were removed, in half a megabyte.
const NAMES: u32 = 1024;

/// How far apart a record and a note can place the same moment, in nanoseconds: records are stamped by
/// a clock that ticks every 10 ms at worst, and in whole milliseconds.
const SLACK_NS: i64 = 20_000_000;

/// What others see the programs called.
const PROGRAM: &[u8; 16] = b"harden_why\0\0\0\0\0\0";

/// The tables of the dead. The programs are in the kernel as long as this lives.
#[derive(Debug)]
pub struct ExitCgroups {
    /// Notes of those that SIGSYS killed, and of the others.
    processes: [Map<u32, [u64; WORDS]>; 2],
    cgroups: Map<u64, [u8; NAME_SIZE]>,
    _programs: [OwnedFd; 2],
    tree: Mutex<Tree>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ExitCgroupsError {
    /// No unified hierarchy, whose ids the kernel tells.
    #[error("no cgroup version 2 hierarchy is mounted")]
    NoHierarchy,
    /// No type information, or not of this kind.
    #[error("the kernel does not tell the layout of its structures")]
    NoTypes,
    /// The right to load a program is missing.
    #[error("not allowed to load a BPF program, which takes CAP_BPF and CAP_PERFMON")]
    NotAllowed,
    /// Anything else.
    #[error("the kernel does not take the BPF program: {0}")]
    Kernel(BpfError),
}

impl From<BpfError> for ExitCgroupsError {
    fn from(error: BpfError) -> Self {
        if error.is_missing_right() { Self::NotAllowed } else { Self::Kernel(error) }
    }
}

impl From<io::Error> for ExitCgroupsError {
    fn from(error: io::Error) -> Self {
        BpfError::from(error).into()
    }
}

impl ExitCgroupsError {
    /// Returns the end of the verifier's log, where the verifier refused a program. Escape it before you show it.
    #[must_use]
    pub fn verifier_log(&self) -> Option<&str> {
        if let Self::Kernel(error) = self { error.verifier_log() } else { None }
    }
}

impl ExitCgroups {
    /// Loads the program.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn open() -> Result<Self, ExitCgroupsError> {
        // Pointers are read as 64 bits, and ids are no inodes on anything smaller.
        if cfg!(not(target_pointer_width = "64")) {
            return Err(ExitCgroupsError::Kernel(io::ErrorKind::Unsupported.into()));
        }
        let tree = Tree::find(Path::new("/")).ok_or(ExitCgroupsError::NoHierarchy)?;
        let (task, cgroup) = offsets().ok_or(ExitCgroupsError::NoTypes)?;
        let killed = Map::new_lru(REMEMBERED)?;
        let other = Map::new_lru(REMEMBERED)?;
        let cgroups = Map::new_lru(NAMES)?;
        let process = program::build_process_note(killed.fd_number(), other.fd_number(), task)
            .ok_or(ExitCgroupsError::NoTypes)?;
        let cgroup = program::build_cgroup_note(cgroups.fd_number(), cgroup).ok_or(ExitCgroupsError::NoTypes)?;
        // Names first: what is removed before its processes are noted needs none.
        let cgroup = bpf::attach(PROGRAM, &cgroup, c"cgroup_rmdir")?;
        let process = bpf::attach(PROGRAM, &process, c"sched_process_exit")?;
        Ok(Self { processes: [killed, other], cgroups, _programs: [process, cgroup], tree: Mutex::new(tree) })
    }

    /// The cgroup of the process that had this pid at a moment (milliseconds since the epoch) and is gone
    /// now, as `/proc/PID/cgroup` would show its path. Only as deep as it takes to tell the unit.
    #[must_use]
    pub fn cgroup(&self, pid: u32, at: i64) -> Option<Vec<u8>> {
        let moment = Clocks::now().boot_ns_of_millis(at);
        let note = self.processes.iter().filter_map(|notes| notes.get(pid)).find(|note| lived_at(note, moment))?;
        let [_, _, ids @ ..] = &note;
        let removed = |id| self.cgroups.get(id).and_then(|name| Some(CStr::from_bytes_until_nul(&name).ok()?.into()));
        self.tree.lock().unwrap_or_else(PoisonError::into_inner).path(ids, removed, Instant::now())
    }
}

/// Whether the process of a note lived at a moment.
fn lived_at(note: &[u64; WORDS], boot_ns: i64) -> bool {
    let [started, died, ..] = note;
    let ns = |time: &u64| i64::try_from(*time).unwrap_or(i64::MAX);
    ns(started) <= boot_ns.saturating_add(SLACK_NS) && ns(died) >= boot_ns.saturating_sub(SLACK_NS)
}

fn offsets() -> Option<(TaskOffsets, CgroupOffsets)> {
    let bytes = std::fs::read("/sys/kernel/btf/vmlinux").ok()?;
    let btf = Btf::parse(&bytes)?;
    let [seccomp, leader, start, code] =
        btf.offsets("task_struct", ["seccomp", "group_leader", "start_boottime", "exit_code"])?;
    let [mode] = btf.offsets("seccomp", ["mode"])?;
    let [root, node] = btf.offsets("cgroup", ["root", "kn"])?;
    let [hierarchy] = btf.offsets("cgroup_root", ["hierarchy_id"])?;
    let [id, name] = btf.offsets("kernfs_node", ["id", "name"])?;
    let mode = seccomp.checked_add(mode)?;
    Some((TaskOffsets { mode, leader, start, code }, CgroupOffsets { root, hierarchy, node, id, name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn only_the_process_of_that_time_is_meant() {
        let mut note = [0; WORDS];
        (note[0], note[1], note[2]) = (5 * SECOND, 9 * SECOND, 1);
        let fits = |millis: i64| lived_at(&note, millis * 1_000_000);
        assert!(fits(5_000) && fits(7_000) && fits(9_000));
        assert!(fits(4_990) && fits(9_010), "clocks tick");
        assert!(!fits(4_900), "another had the pid before");
        assert!(!fits(9_100), "and another has it since");
    }

    #[test]
    fn strange_times_are_nobodys() {
        let mut note = [0; WORDS];
        (note[0], note[1]) = (u64::MAX, 0);
        assert!(!lived_at(&note, 0));
        assert!(!lived_at(&note, i64::MIN));
    }
}
