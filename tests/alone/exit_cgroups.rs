//! The cgroups that the kernel program notes of dying processes: real processes, real cgroups.

use crate::support::skip::skip;
use harden_why::audit::Action;
use harden_why::kernel::exit_cgroups::ExitCgroups;
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::syscalls::Arch;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio, id};
use std::time::{SystemTime, UNIX_EPOCH};

/// Opens the notes. Skips where the kernel has none, and fails where they are required.
fn departed() -> Option<ExitCgroups> {
    match ExitCgroups::open() {
        Ok(departed) => Some(departed),
        Err(err) => {
            skip(&err.to_string());
            None
        }
    }
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A cgroup of the unified hierarchy. Dropping it removes it with all below it.
struct Cgroup(PathBuf, &'static str);

impl Cgroup {
    fn new(name: &'static str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let unified = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
        // Tests of other processes may run at the same time.
        let base = PathBuf::from(unified.split(' ').nth(1).unwrap()).join(Self::top(name));
        fs::create_dir_all(base.join(name)).unwrap();
        Self(base, name)
    }

    fn top(name: &str) -> String {
        format!("harden-why-departed-{}-{}", id(), &name[..1])
    }

    fn path(&self) -> String {
        format!("/{}/{}", Self::top(self.1), self.1)
    }

    /// Runs a process in the cgroup until it ends, under a filter or not. Returns its PID and a time at which it lived.
    fn lived(&self, filtered: bool) -> (u32, i64) {
        let procs = self.0.join(self.1).join("cgroup.procs");
        let mut command = Command::new("cat");
        let filter = SeccompFilter::new(Arch::native(), &[(u32::MAX, return_value(Action::Errno, 1))], ALLOW);
        // SAFETY: writes a file and calls prctl and seccomp; the child has no other thread.
        unsafe {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).pre_exec(move || {
                fs::OpenOptions::new().write(true).open(&procs)?.write_all(b"0")?;
                if filtered { filter.load(false) } else { Ok(()) }
            })
        };
        let mut child = command.spawn().unwrap();
        // It echoes its input, and lives until its input ends.
        let (mut told, mut said) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        told.write_all(b"x").unwrap();
        said.read_exact(&mut [0]).unwrap();
        let at = now();
        drop(told);
        child.wait().unwrap();
        (child.id(), at)
    }

    fn remove(&self) {
        let mut path = self.0.join(self.1);
        while path.starts_with(&self.0) {
            let _ = fs::remove_dir(&path);
            path.pop();
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.remove();
    }
}

fn noted(departed: &ExitCgroups, pid: u32, at: i64) -> Option<String> {
    departed.cgroup(pid, at).map(|path| String::from_utf8(path).unwrap())
}

#[test]
fn cgroup_of_a_dead_process_is_known() {
    let _turn = crate::take_turn();
    let Some(departed) = departed() else { return };
    let cgroup = Cgroup::new("a.slice/b.service");
    let before = now();
    let (pid, at) = cgroup.lived(true);
    assert_eq!(noted(&departed, pid, at), Some(cgroup.path()));
    assert_eq!(noted(&departed, pid, before - 1_000), None, "the pid was somebody else's");
    assert_eq!(noted(&departed, pid, now() + 1_000), None, "and will be");
    assert_eq!(noted(&departed, id(), now()), None, "this process lives");
}

#[test]
fn cgroup_that_was_removed_keeps_its_name() {
    let _turn = crate::take_turn();
    let Some(departed) = departed() else { return };
    let cgroup = Cgroup::new("c.slice/d.service");
    let (pid, at) = cgroup.lived(true);
    cgroup.remove();
    assert!(!cgroup.0.exists());
    assert_eq!(noted(&departed, pid, at), Some(cgroup.path()));
}

#[test]
fn cgroup_among_thousands_of_siblings_is_found() {
    let _turn = crate::take_turn();
    let Some(departed) = departed() else { return };
    let (crowded, other) = (Cgroup::new("g.slice/h.service"), Cgroup::new("i.slice/j.service"));
    let siblings: Vec<PathBuf> = (0..4_000).map(|number| crowded.0.join(format!("g.slice/{number}.service"))).collect();
    for sibling in &siblings {
        fs::create_dir(sibling).unwrap();
    }
    let found: Vec<_> = (0..50)
        .flat_map(|_| [&crowded, &other])
        .map(|cgroup| {
            let (pid, at) = cgroup.lived(true);
            (noted(&departed, pid, at), cgroup.path())
        })
        .collect();
    for sibling in &siblings {
        fs::remove_dir(sibling).unwrap();
    }
    for (found, path) in found {
        assert_eq!(found, Some(path));
    }
}

#[test]
fn process_without_a_filter_is_not_noted() {
    let _turn = crate::take_turn();
    let Some(departed) = departed() else { return };
    let cgroup = Cgroup::new("e.service");
    let (pid, at) = cgroup.lived(false);
    assert_eq!(noted(&departed, pid, at), None);
}
