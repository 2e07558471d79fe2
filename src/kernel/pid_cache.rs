//! Processes that a filter lets live: whose they are is looked up once, not once a record.
//!
//! A process is held by a pidfd (`pidfd_open(2)`), and all of them are watched by one epoll. While a process is not
//! said to have ended nobody else can have its pid, so every record that had arrived before is its own.

use super::clock::{Clocks, ns_of_ticks};
use super::procfs::Procfs;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How many processes are held; then it starts over.
const MOST: usize = 256;

/// A process can be moved to another cgroup, so it is looked at again so often.
const FRESH: Duration = Duration::from_secs(1);

/// How far apart a process's start and a record can place the same moment, in nanoseconds.
const SLACK_NS: i64 = 20_000_000;

/// The processes held.
#[derive(Debug)]
pub(crate) struct Living {
    held: HashMap<u32, Held>,
    /// Tells which of them ended; without one nobody is held.
    ends: Option<Epoll>,
    now: Instant,
    clocks: Clocks,
    /// Of the next look at a process.
    number: u64,
}

#[derive(Debug)]
struct Held {
    /// Closing it ends the watch.
    _pidfd: OwnedFd,
    /// When it started, in nanoseconds since boot.
    started: i64,
    cgroup: Vec<u8>,
    /// Stands for the process in this cgroup.
    number: u64,
    looked: Instant,
}

impl Living {
    pub(crate) fn new() -> Self {
        let ends = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        if let Err(error) = &ends {
            tracing::warn!("processes cannot be watched, and are looked up for every record: {error}");
        }
        Self { held: HashMap::new(), ends: ends.ok(), now: Instant::now(), clocks: Clocks::now(), number: 0 }
    }

    /// All records of the next batch have arrived: whoever ended before is let go.
    pub(crate) fn begin_batch(&mut self) {
        self.now = Instant::now();
        self.clocks = Clocks::now();
        self.let_go_of_the_dead();
    }

    fn let_go_of_the_dead(&mut self) {
        let Some(ends) = self.ends.as_ref().filter(|_| !self.held.is_empty()) else { return };
        let mut events = [EpollEvent::empty(); 64];
        loop {
            // A failure is no news of an end: then nobody is believed to live.
            let Ok(count) = ends.wait(&mut events, EpollTimeout::ZERO) else { return self.held.clear() };
            for event in events.iter().take(count) {
                if let Ok(pid) = u32::try_from(event.data()) {
                    self.held.remove(&pid);
                }
            }
            if count < events.len() {
                return;
            }
        }
    }

    /// A number for the process that made a record at a moment (in milliseconds since the epoch), as long as it
    /// lives and its cgroup is the same.
    pub(crate) fn number(&mut self, procfs: &Procfs, pid: u32, at: i64) -> Option<u64> {
        // Only who started before it can have made it; of a time that is still to come nothing is known.
        if self.clocks.is_future(at) {
            return None;
        }
        let made = self.clocks.boot_ns_of_millis(at).saturating_add(SLACK_NS);
        if let Some(held) = self.held.get_mut(&pid) {
            let fresh = self.now.duration_since(held.looked) < FRESH;
            if fresh || procfs.cgroup(pid).is_some_and(|cgroup| cgroup == held.cgroup) {
                if !fresh {
                    held.looked = self.now;
                }
                return (held.started <= made).then_some(held.number);
            }
            self.held.remove(&pid);
        }
        let Some(held) = self.hold(procfs, pid) else {
            // Perhaps for want of descriptors, which others need more.
            self.held.clear();
            return None;
        };
        let number = (held.started <= made).then_some(held.number);
        if self.held.len() >= MOST {
            self.held.clear();
        }
        self.held.insert(pid, held);
        // What was read is the process's own if it lived all the while.
        self.let_go_of_the_dead();
        number.filter(|_| self.held.contains_key(&pid))
    }

    fn hold(&mut self, procfs: &Procfs, pid: u32) -> Option<Held> {
        let pidfd = pidfd_open(pid).ok()?;
        self.ends.as_ref()?.add(&pidfd, EpollEvent::new(EpollFlags::EPOLLIN, pid.into())).ok()?;
        let (started, cgroup) = (ns_of_ticks(procfs.start_time(pid)?), procfs.cgroup(pid)?);
        self.number += 1;
        Some(Held { _pidfd: pidfd, started, cgroup, number: self.number, looked: self.now })
    }
}

fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers and gives a new descriptor, or fails.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::clock::now_millis;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_keeps_its_number_while_it_lives() {
        let procfs = Procfs::live();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let (at, mut living) = (now_millis(), Living::new());
        let first = living.number(&procfs, child.id(), at).unwrap();
        living.begin_batch();
        assert_eq!(living.number(&procfs, child.id(), at), Some(first));
        assert_ne!(living.number(&procfs, std::process::id(), at), Some(first));
        assert_eq!(living.number(&procfs, child.id(), at - 60_000), None, "before it started");
        assert_eq!(living.number(&procfs, child.id(), at + 60_000), None, "of a clock that was set back");
        drop(child.stdin.take());
        child.wait().unwrap();
        living.begin_batch();
        assert_eq!(living.number(&procfs, child.id(), at), None);
    }

    #[test]
    fn another_cgroup_is_another_number() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join(std::process::id().to_string());
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("stat"), format!("7 (x) S 3{} 1", " 0".repeat(17))).unwrap();
        std::fs::write(own.join("cgroup"), "0::/a.service\n").unwrap();
        let at = now_millis();
        let (procfs, mut living, pid) = (Procfs::at(root.path()), Living::new(), std::process::id());
        let first = living.number(&procfs, pid, at).unwrap();
        std::fs::write(own.join("cgroup"), "0::/b.service\n").unwrap();
        living.now += FRESH;
        let second = living.number(&procfs, pid, at).unwrap();
        assert_ne!(first, second);
        living.now += FRESH;
        assert_eq!(living.number(&procfs, pid, at), Some(second));
    }

    #[test]
    fn not_everybody_is_held() {
        let mut living = Living::new();
        let procfs = Procfs::live();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                let _ = living.number(&procfs, pid, now_millis());
            }
        }
        assert!(living.held.len() <= MOST);
        assert_eq!(living.number(&procfs, u32::MAX, now_millis()), None);
    }
}
