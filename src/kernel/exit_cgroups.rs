//! The cgroups of processes that are gone. A BPF program notes the cgroup of each process under a seccomp filter when the
//! process exits, and a map keeps the latest notes.
//!
//! Reading `/proc/PID/cgroup` races with the exit; these notes do not. No note wakes this process: a note costs the exiting
//! process a microsecond or two, and is read only once a record's process is gone. The program runs at the exit rather
//! than at the signal. So it also covers a process that was refused a call and ended by itself, and kernels that kill for
//! seccomp without a signal.
//!
//! A note holds the ids of the cgroup and its ancestors. Their names come from the mounted hierarchy or, where a cgroup is
//! gone too, from the notes of a second program, which runs when a cgroup is removed. A note also holds when the process
//! started and exited, which distinguishes the process from others that had its pid.
//!
//! Requires `CAP_BPF` and `CAP_PERFMON`, a 64-bit machine with Linux 5.14 (for `bpf_get_current_ancestor_cgroup_id` in
//! tracepoints), the unified hierarchy, and the kernel's type information.

pub(crate) mod cgroup_names;
pub(crate) mod name_cache;
pub(crate) mod program;

pub(crate) use cgroup_names::unified_mount;

use super::bpf;
use super::bpf::{BpfError, BpfMap, Btf};
use super::clock::Clocks;
use cgroup_names::CgroupNames;
use program::{CgroupOffsets, NAME_SIZE, TaskOffsets, WORDS};
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How many notes are kept of processes that SIGSYS killed, and of others: four seconds' worth at 2,000 exits a second under
/// filters, in 1.5 MB of the kernel's memory.
const PROCESSES: u32 = 8192;
/// How many names of removed cgroups are kept, in 0.5 MB of the kernel's memory.
const CGROUPS: u32 = 1024;

/// The name under which `bpftool prog` lists the programs.
const PROGRAM: &[u8; 16] = b"harden_why\0\0\0\0\0\0";

/// The notes, and the programs that write them. Dropping this ends the programs.
#[derive(Debug)]
pub struct ExitCgroups {
    /// The notes of processes that SIGSYS killed, and of others.
    processes: [BpfMap<u32, [u64; WORDS]>; 2],
    cgroups: BpfMap<u64, [u8; NAME_SIZE]>,
    _programs: [OwnedFd; 2],
    names: Mutex<CgroupNames>,
}

/// Why the kernel makes no notes.
#[derive(Debug, thiserror::Error)]
pub enum ExitCgroupsError {
    /// No unified hierarchy is mounted.
    #[error("no cgroup version 2 hierarchy is mounted")]
    NoHierarchy,
    /// The kernel has no type information, or lacks a member that is read.
    #[error("the kernel lacks type information (CONFIG_DEBUG_INFO_BTF)")]
    NoTypes,
    /// The right to load a program is missing.
    #[error("not allowed to load a BPF program: it requires CAP_BPF and CAP_PERFMON")]
    NotAllowed,
    /// The kernel refuses a program or map.
    #[error("the kernel rejects the BPF program: {0}")]
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
    /// Loads the programs.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn open() -> Result<Self, ExitCgroupsError> {
        // The programs read pointers of 64 bits, and inodes of 32 bits would not be ids.
        if cfg!(not(target_pointer_width = "64")) {
            return Err(ExitCgroupsError::Kernel(io::ErrorKind::Unsupported.into()));
        }
        let names = CgroupNames::open(Path::new("/")).ok_or(ExitCgroupsError::NoHierarchy)?;
        let (task, cgroup) = offsets().ok_or(ExitCgroupsError::NoTypes)?;
        let killed = BpfMap::new_lru(PROCESSES)?;
        let other = BpfMap::new_lru(PROCESSES)?;
        let cgroups = BpfMap::new_lru(CGROUPS)?;
        let process = program::build_process_note(killed.fd_number(), other.fd_number(), task)
            .ok_or(ExitCgroupsError::NoTypes)?;
        let cgroup = program::build_cgroup_note(cgroups.fd_number(), cgroup).ok_or(ExitCgroupsError::NoTypes)?;
        // The names first: then every noted process whose cgroup is removed has that cgroup's name noted, too.
        let cgroup = bpf::attach(PROGRAM, &cgroup, c"cgroup_rmdir")?;
        let process = bpf::attach(PROGRAM, &process, c"sched_process_exit")?;
        Ok(Self { processes: [killed, other], cgroups, _programs: [process, cgroup], names: Mutex::new(names) })
    }

    /// Returns the cgroup of a process that is gone, which had this pid at a moment, in milliseconds since the epoch. The path
    /// has the form of `/proc/PID/cgroup`, and ends where it names the unit.
    #[must_use]
    pub fn cgroup(&self, pid: u32, at: i64) -> Option<Vec<u8>> {
        let [_, _, _, ids @ ..] = &self.note(pid, at)?;
        let removed = |id| self.cgroups.get(id).and_then(|name| Some(CStr::from_bytes_until_nul(&name).ok()?.into()));
        self.names.lock().unwrap_or_else(PoisonError::into_inner).path(ids, removed, Instant::now())
    }

    /// Returns the parent of a process that is gone, which had this pid at a moment, in milliseconds since the epoch, and
    /// when the process started, in nanoseconds since boot.
    pub(crate) fn parent_and_start(&self, pid: u32, at: i64) -> Option<(u32, i64)> {
        let [started, _, parent, ..] = self.note(pid, at)?;
        let [a, b, c, d, ..] = parent.to_ne_bytes();
        Some((u32::from_ne_bytes([a, b, c, d]), i64::try_from(started).ok()?))
    }

    /// Returns the note of the process that had a pid at a moment.
    fn note(&self, pid: u32, at: i64) -> Option<[u64; WORDS]> {
        let clocks = Clocks::now();
        self.processes.iter().filter_map(|notes| notes.get(pid)).find(|note| existed_at(note, at, &clocks))
    }
}

/// Whether the process of a note existed at a moment, in milliseconds since the epoch.
fn existed_at(note: &[u64; WORDS], at: i64, clocks: &Clocks) -> bool {
    let [started, exited, ..] = note;
    let ns = |time: &u64| i64::try_from(*time).unwrap_or(i64::MAX);
    clocks.had_pid_at(at, ns(started), Some(ns(exited)))
}

fn offsets() -> Option<(TaskOffsets, CgroupOffsets)> {
    let bytes = std::fs::read("/sys/kernel/btf/vmlinux").ok()?;
    let btf = Btf::parse(&bytes)?;
    let members = ["seccomp", "group_leader", "start_boottime", "real_parent", "tgid", "exit_code"];
    let [seccomp, leader, start, parent, tgid, code] = btf.offsets("task_struct", members)?;
    let [mode] = btf.offsets("seccomp", ["mode"])?;
    let [root, node] = btf.offsets("cgroup", ["root", "kn"])?;
    let [hierarchy] = btf.offsets("cgroup_root", ["hierarchy_id"])?;
    let [id, name] = btf.offsets("kernfs_node", ["id", "name"])?;
    let mode = seccomp.checked_add(mode)?;
    Some((TaskOffsets { mode, leader, start, parent, tgid, code }, CgroupOffsets { root, hierarchy, node, id, name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn note_that_ends_before_it_starts_matches_no_moment() {
        let mut note = [0; WORDS];
        (note[0], note[1]) = (u64::MAX, 0);
        let clocks = Clocks::now();
        assert!(![0, i64::MIN, i64::MAX].into_iter().any(|at| existed_at(&note, at, &clocks)));
    }
}
