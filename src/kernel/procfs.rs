//! Facts about processes from `/proc` (`proc(5)`), or from a copy elsewhere.

use super::fuse_guard::{LastLink, open_handle};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes. `/proc/PID/cgroup` has at most a path of `PATH_MAX` for each hierarchy of
/// cgroup version 1: the kernel refuses to show a longer path.
const MOST_BYTES: u64 = 128 * 1024;

/// A proc file system.
#[derive(Debug, Clone)]
pub struct Procfs {
    root: PathBuf,
}

impl Procfs {
    /// Uses the file system at `root`.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Uses this machine's `/proc`.
    #[must_use]
    pub fn live() -> Self {
        Self::new("/proc")
    }

    /// Returns the bytes of `/proc/PID/cgroup`; `None` if the process is gone. This races with the process's exit, so it takes
    /// only one `open` and, in nearly all cases, one `read`.
    #[must_use]
    pub fn cgroup(&self, pid: u32) -> Option<Vec<u8>> {
        self.bytes(pid, "cgroup").filter(|bytes| !bytes.is_empty())
    }

    /// Returns when the process started, in clock ticks since boot. The pid and this time identify a process.
    #[must_use]
    pub fn start_time(&self, pid: u32) -> Option<u64> {
        stat_field(&self.bytes(pid, "stat")?, 22)?.parse().ok()
    }

    /// Whether the process with this [`start_time`](Self::start_time) still runs. A zombie has ended: it only waits for
    /// its parent.
    pub(crate) fn is_running(&self, pid: u32, started: u64) -> bool {
        match self.bytes(pid, "stat") {
            Some(stat) => !is_ended(&stat) && stat_field(&stat, 22).is_some_and(|now| now.parse() == Ok(started)),
            None => is_hidden(pid),
        }
    }

    /// Whether a running process has the pid, even one that `/proc` hides (`hidepid=`).
    pub(crate) fn is_pid_in_use(&self, pid: u32) -> bool {
        self.bytes(pid, "stat").map_or_else(|| is_hidden(pid), |stat| !is_ended(&stat))
    }

    /// Returns the pids of all processes that `/proc` shows.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Returns the audit session that a login began (`pam_loginuid(8)`); `None` for a process outside of a login.
    pub(crate) fn audit_session(&self, pid: u32) -> Option<u32> {
        let bytes = self.bytes(pid, "sessionid")?;
        std::str::from_utf8(&bytes).ok()?.trim().parse().ok().filter(|&session| session != u32::MAX)
    }

    /// Returns the command line, its arguments separated by spaces, or the name if there is none.
    pub(crate) fn command_line(&self, pid: u32) -> Option<Vec<u8>> {
        let line = self.bytes(pid, "cmdline")?;
        let line = line.strip_suffix(b"\0").unwrap_or(&line);
        if line.is_empty() {
            return self.comm(pid);
        }
        Some(line.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect())
    }

    /// Returns the parent's thread group; `None` for a process without a parent, such as PID 1.
    pub(crate) fn parent(&self, pid: u32) -> Option<u32> {
        stat_field(&self.bytes(pid, "stat")?, 4)?.parse().ok().filter(|&parent| parent != 0)
    }

    /// Returns the process of a thread. For a process, that is the process itself.
    pub(crate) fn thread_group(&self, tid: u32) -> Option<u32> {
        status_value(&self.bytes(tid, "status")?, "Tgid")?.parse().ok()
    }

    /// Returns the mode of seccomp in which a process runs: 0 for none, 2 with a filter (`Seccomp:`, `proc_pid_status(5)`).
    pub(crate) fn seccomp_mode(&self, pid: u32) -> Option<u32> {
        status_value(&self.bytes(pid, "status")?, "Seccomp")?.parse().ok()
    }

    /// Whether the kernel was built with seccomp: then the status of every process has a line for it.
    pub(crate) fn has_seccomp(&self) -> Option<bool> {
        Some(status_value(&std::fs::read(self.root.join("self/status")).ok()?, "Seccomp").is_some())
    }

    /// Returns the environment with which the process started, each variable with a NUL at its end; `None` if the caller
    /// may not read it.
    pub(crate) fn environment(&self, pid: u32) -> Option<Vec<u8>> {
        self.bytes(pid, "environ")
    }

    /// Returns the name of the process's main thread.
    pub(crate) fn comm(&self, pid: u32) -> Option<Vec<u8>> {
        let mut comm = self.bytes(pid, "comm")?;
        // The name itself can end with a newline, too.
        comm.pop_if(|last| *last == b'\n');
        Some(comm)
    }

    /// Returns the path of the executable, without the ` (deleted)` that the kernel appends once the file is replaced.
    pub(crate) fn exe(&self, pid: u32) -> Option<PathBuf> {
        let shown = std::fs::read_link(self.file(pid, "exe")).ok()?;
        match shown.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
            // A file can have this name.
            Some(replaced) if open_handle(&shown, LastLink::Target).is_err() => {
                Some(Path::new(std::ffi::OsStr::from_bytes(replaced)).to_owned())
            }
            _ => Some(shown),
        }
    }

    fn file(&self, pid: u32, name: &str) -> PathBuf {
        self.root.join(format!("{pid}/{name}"))
    }

    fn bytes(&self, pid: u32, name: &str) -> Option<Vec<u8>> {
        let mut file = File::open(self.file(pid, name)).ok()?;
        let mut first = [0; 4096];
        let length = file.read(&mut first).ok()?;
        let mut bytes = first.get(..length)?.to_vec();
        // A short read is the end of a proc file.
        if length == first.len() {
            file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
        }
        Some(bytes)
    }
}

/// Whether a stat line is that of a process that ended: a zombie, or a dead task (`proc_pid_stat(5)`).
fn is_ended(stat: &[u8]) -> bool {
    matches!(stat_field(stat, 3), Some("Z" | "X" | "x"))
}

/// Whether a process exists that `/proc` hides.
fn is_hidden(pid: u32) -> bool {
    pid.try_into().is_ok_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::EPERM))
}

/// Returns field `number` of a stat line (`proc_pid_stat(5)`), from 3 on. Field 2, the command name, can hold any byte and
/// so a `)`, too: counting starts at the last one.
fn stat_field(stat: &[u8], number: usize) -> Option<&str> {
    let end = stat.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)
}

/// Returns the value of `key` in the bytes of `/proc/PID/status`. The kernel escapes line breaks in a command name, so no
/// process can forge a line.
#[must_use]
pub fn status_value<'a>(status: &'a [u8], key: &str) -> Option<&'a str> {
    let line = status.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b":"))?;
    Some(std::str::from_utf8(line).ok()?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Procfs) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("7")).unwrap();
        for (name, bytes) in files {
            std::fs::write(root.path().join("7").join(name), bytes).unwrap();
        }
        let procfs = Procfs::new(root.path());
        (root, procfs)
    }

    #[test]
    fn facts_of_process_are_read_below_a_root() {
        let (root, procfs) = machine(&[
            ("cgroup", b"0::/system.slice/a.service\n"),
            ("stat", b"7 (a) S 1 7 7 0 -1 4194560 9 8 7 6 5 4 3 2 20 0 1 0 4242 1000 5 18446744073709551615"),
            ("status", b"Name:\ta\nTgid:\t6\nGid:\t5\t5\t5\t5\n"),
        ]);
        std::os::unix::fs::symlink("/usr/bin/gone (deleted)", root.path().join("7/exe")).unwrap();
        assert_eq!(procfs.cgroup(7).as_deref(), Some(&b"0::/system.slice/a.service\n"[..]));
        assert_eq!(procfs.start_time(7), Some(4242));
        assert_eq!(procfs.parent(7), Some(1));
        assert_eq!(procfs.thread_group(7), Some(6));
        assert_eq!(procfs.exe(7).as_deref(), Some(Path::new("/usr/bin/gone")));
    }

    #[test]
    fn missing_process_has_no_facts() {
        let (_root, procfs) = machine(&[]);
        for pid in [7, 8] {
            assert_eq!(procfs.cgroup(pid), None);
            assert_eq!(procfs.start_time(pid), None);
            assert_eq!(procfs.parent(pid), None);
            assert_eq!(procfs.exe(pid), None);
        }
    }

    #[test]
    fn command_name_cannot_forge_fields() {
        let (_root, procfs) = machine(&[
            ("stat", b"7 (a) S 99 (b) S 3 7 7 0 -1 0 9 8 7 6 5 4 3 2 20 0 1 0 4242 1000\n"),
            ("status", b"Name:\tx\\nTgid:\\t9\nTgid:\t3\n"),
        ]);
        assert_eq!(procfs.parent(7), Some(3));
        assert_eq!(procfs.start_time(7), Some(4242));
        assert_eq!(procfs.thread_group(7), Some(3));
    }

    #[test]
    fn damaged_files_have_no_facts() {
        let (_root, procfs) = machine(&[("stat", b"7 (a"), ("status", b"Tgid:\n"), ("cgroup", b"")]);
        assert_eq!((procfs.parent(7), procfs.start_time(7), procfs.thread_group(7)), (None, None, None));
        assert_eq!(procfs.cgroup(7), None);
        assert_eq!(stat_field(b"7 (a)", 22), None);
        assert_eq!(stat_field(b"7 (a) S 1", 0), None);
    }

    #[test]
    fn long_file_is_read_whole_and_endless_file_up_to_the_limit() {
        let long = b"5:cpu:/x\n".repeat(1_000);
        let (_root, procfs) = machine(&[("cgroup", &long)]);
        assert_eq!(procfs.cgroup(7), Some(long));
        let (root, procfs) = machine(&[]);
        std::os::unix::fs::symlink("/dev/zero", root.path().join("7/cgroup")).unwrap();
        assert_eq!(procfs.cgroup(7).map(|bytes| bytes.len()), Some(4096 + 128 * 1024));
    }

    #[test]
    fn facts_of_this_process_are_read_from_proc() {
        let procfs = Procfs::live();
        let me = std::process::id();
        assert_eq!(procfs.parent(me), Some(std::os::unix::process::parent_id()));
        assert_eq!(procfs.exe(me), std::env::current_exe().ok());
        assert!(procfs.cgroup(me).is_some_and(|bytes| bytes.ends_with(b"\n")));
        assert!(procfs.start_time(me).is_some_and(|ticks| ticks > 0));
    }
}
