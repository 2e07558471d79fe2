//! Processes that a filter lets live: their cgroup is read once, not once for each record.
//!
//! The cache holds each process by a pidfd (`pidfd_open(2)`), and one epoll reports which of them ended. Until the epoll
//! reports the end of a process, no other process has its pid. So all records that arrived before are the process's own.

use super::clock::{Clocks, ns_of_ticks};
use super::procfs::Procfs;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How many processes are held. A full cache is emptied.
const MOST: usize = 256;

/// How long a cgroup counts as current. A process can be moved to another cgroup.
const FRESH: Duration = Duration::from_secs(1);

/// The processes that are held, by pid.
#[derive(Debug)]
pub(crate) struct PidCache {
    processes: HashMap<u32, HeldProcess>,
    /// Reports which processes ended. Without it no process is held.
    ends: Option<Epoll>,
    now: Instant,
    clocks: Clocks,
    last_number: u64,
}

#[derive(Debug)]
struct HeldProcess {
    /// Closing it removes the process from the epoll.
    _pidfd: OwnedFd,
    /// When the process started, in nanoseconds since boot.
    started: i64,
    cgroup: Vec<u8>,
    /// Identifies the process in this cgroup.
    number: u64,
    read_at: Instant,
}

impl PidCache {
    pub(crate) fn new() -> Self {
        let ends = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        if let Err(error) = &ends {
            tracing::warn!("cannot watch processes, so each record looks up its process: {error}");
        }
        Self { processes: HashMap::new(), ends: ends.ok(), now: Instant::now(), clocks: Clocks::now(), last_number: 0 }
    }

    /// Begins a batch whose records have all arrived: drops the processes that ended before.
    pub(crate) fn begin_batch(&mut self) {
        self.now = Instant::now();
        self.clocks = Clocks::now();
        self.drop_ended();
    }

    fn drop_ended(&mut self) {
        let Some(ends) = self.ends.as_ref().filter(|_| !self.processes.is_empty()) else { return };
        let mut events = [EpollEvent::empty(); 64];
        loop {
            // Where the epoll fails, any process may have ended.
            let Ok(count) = ends.wait(&mut events, EpollTimeout::ZERO) else { return self.processes.clear() };
            for event in events.iter().take(count) {
                if let Ok(pid) = u32::try_from(event.data()) {
                    self.processes.remove(&pid);
                }
            }
            if count < events.len() {
                return;
            }
        }
    }

    /// Returns a number for the process that made a record at a moment, in milliseconds since the epoch. The number stays
    /// the same while the process lives in the same cgroup. `None` if the process cannot be held or started later, or if the
    /// moment is in the future.
    pub(crate) fn number(&mut self, procfs: &Procfs, pid: u32, at: i64) -> Option<u64> {
        // Without the record's true time, another process may have had the pid.
        if self.clocks.is_future(at) {
            return None;
        }
        let clocks = self.clocks;
        if let Some(process) = self.processes.get_mut(&pid) {
            let is_fresh = self.now.duration_since(process.read_at) < FRESH;
            if is_fresh || procfs.cgroup(pid).is_some_and(|cgroup| cgroup == process.cgroup) {
                if !is_fresh {
                    process.read_at = self.now;
                }
                return clocks.had_pid_at(at, process.started, None).then_some(process.number);
            }
            self.processes.remove(&pid);
        }
        let Some(process) = self.hold(procfs, pid) else {
            // Descriptors may have run out, and other parts of the program need them more.
            self.processes.clear();
            return None;
        };
        let number = clocks.had_pid_at(at, process.started, None).then_some(process.number);
        if self.processes.len() >= MOST {
            self.processes.clear();
        }
        self.processes.insert(pid, process);
        // The files were this process's own only if it has not ended since.
        self.drop_ended();
        number.filter(|_| self.processes.contains_key(&pid))
    }

    fn hold(&mut self, procfs: &Procfs, pid: u32) -> Option<HeldProcess> {
        let pidfd = pidfd_open(pid).ok()?;
        self.ends.as_ref()?.add(&pidfd, EpollEvent::new(EpollFlags::EPOLLIN, pid.into())).ok()?;
        let (started, cgroup) = (ns_of_ticks(procfs.start_time(pid)?), procfs.cgroup(pid)?);
        self.last_number += 1;
        Some(HeldProcess { _pidfd: pidfd, started, cgroup, number: self.last_number, read_at: self.now })
    }
}

fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers, and returns a new descriptor or fails.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made this descriptor for this call, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::clock::now_millis;
    use std::process::{Command, Stdio};

    #[test]
    fn number_of_process_is_kept_while_it_lives() {
        let procfs = Procfs::live();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let (at, mut cache) = (now_millis(), PidCache::new());
        let first = cache.number(&procfs, child.id(), at).unwrap();
        cache.begin_batch();
        assert_eq!(cache.number(&procfs, child.id(), at), Some(first));
        assert_ne!(cache.number(&procfs, std::process::id(), at), Some(first));
        assert_eq!(cache.number(&procfs, child.id(), at - 60_000), None, "before the process");
        assert_eq!(cache.number(&procfs, child.id(), at + 60_000), None, "the clock was set back");
        drop(child.stdin.take());
        child.wait().unwrap();
        cache.begin_batch();
        assert_eq!(cache.number(&procfs, child.id(), at), None);
    }

    #[test]
    fn process_in_another_cgroup_gets_another_number() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join(std::process::id().to_string());
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("stat"), format!("7 (x) S 3{} 1", " 0".repeat(17))).unwrap();
        std::fs::write(own.join("cgroup"), "0::/a.service\n").unwrap();
        let at = now_millis();
        let (procfs, mut cache, pid) = (Procfs::new(root.path()), PidCache::new(), std::process::id());
        let first = cache.number(&procfs, pid, at).unwrap();
        std::fs::write(own.join("cgroup"), "0::/b.service\n").unwrap();
        cache.now += FRESH;
        let second = cache.number(&procfs, pid, at).unwrap();
        assert_ne!(first, second);
        cache.now += FRESH;
        assert_eq!(cache.number(&procfs, pid, at), Some(second));
    }

    #[test]
    fn held_processes_are_bounded() {
        let mut cache = PidCache::new();
        let procfs = Procfs::live();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                let _ = cache.number(&procfs, pid, now_millis());
            }
        }
        assert!(cache.processes.len() <= MOST);
        assert_eq!(cache.number(&procfs, u32::MAX, now_millis()), None);
    }
}
