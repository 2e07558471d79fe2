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

pub(crate) use cgroup_names::unified_mount;

use super::bpf::{BpfError, BpfLink, BpfLoader};
use super::clock::Clocks;
use aya::include_bytes_aligned;
use aya::maps::{HashMap, MapData};
use cgroup_names::{CgroupNames, LEVELS};
use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The programs, from `src/kernel/bpf/exit_notes.bpf.c`.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/exit_notes.bpf.o"));

/// The words of a process's note: its start, its exit, its parent's pid in the first four bytes, and the ids of its
/// cgroup's ancestors and the cgroup itself.
const WORDS: usize = 3 + LEVELS;

/// The size of the longest name of a directory (`NAME_MAX`) with a zero byte.
const NAME_SIZE: usize = 256;

/// The notes, and the programs that write them. Dropping this ends the programs.
#[derive(Debug)]
pub struct ExitCgroups {
    /// The notes of processes that SIGSYS killed, and of others.
    processes: [HashMap<MapData, u32, [u64; WORDS]>; 2],
    cgroups: HashMap<MapData, u64, [u8; NAME_SIZE]>,
    _programs: Vec<BpfLink>,
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
        Self::open_with(&mut BpfLoader::new())
    }

    /// Does the same with a loader that loads other programs as well.
    pub(crate) fn open_with(loader: &mut BpfLoader<'_>) -> Result<Self, ExitCgroupsError> {
        // The programs read pointers of 64 bits, and inodes of 32 bits would not be ids.
        if cfg!(not(target_pointer_width = "64")) {
            return Err(ExitCgroupsError::Kernel(io::ErrorKind::Unsupported.into()));
        }
        let names = CgroupNames::open(Path::new("/")).ok_or(ExitCgroupsError::NoHierarchy)?;
        if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            return Err(ExitCgroupsError::NoTypes);
        }
        let mut programs = loader.load(OBJECT, &[])?;
        let processes = [programs.take_map("killed")?, programs.take_map("ended")?];
        let cgroups = programs.take_map("removed")?;
        // The names first: then every noted process whose cgroup is removed has that cgroup's name noted, too.
        programs.attach("hardenwhy_rmdir", "cgroup_rmdir")?;
        programs.attach("hardenwhy_exit", "sched_process_exit")?;
        Ok(Self { processes, cgroups, _programs: programs.into_links(), names: Mutex::new(names) })
    }

    /// Returns the cgroup of a process that is gone, which had this pid at a moment, in milliseconds since the epoch. The path
    /// has the form of `/proc/PID/cgroup`, and ends where it names the unit.
    #[must_use]
    pub fn cgroup(&self, pid: u32, at: i64) -> Option<Vec<u8>> {
        let [_, _, _, ids @ ..] = &self.note(pid, at)?;
        self.path(ids)
    }

    /// Returns the path of a cgroup from the ids of its ancestors, the topmost first, and its own id; zeros follow.
    pub(crate) fn path(&self, ids: &[u64]) -> Option<Vec<u8>> {
        let removed = |id| Some(CStr::from_bytes_until_nul(&self.cgroups.get(&id, 0).ok()?).ok()?.into());
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
        self.processes.iter().filter_map(|notes| notes.get(&pid, 0).ok()).find(|note| existed_at(note, at, &clocks))
    }
}

/// Whether the process of a note existed at a moment, in milliseconds since the epoch.
fn existed_at(note: &[u64; WORDS], at: i64, clocks: &Clocks) -> bool {
    let [started, exited, ..] = note;
    let ns = |time: &u64| i64::try_from(*time).unwrap_or(i64::MAX);
    clocks.had_pid_at(at, ns(started), Some(ns(exited)))
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
