//! Processes that a test puts into a cgroup.

use super::manager::TestManager;
use harden_why::audit::Action;
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::syscalls::Arch;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

/// Starts a program in a cgroup, under a killing filter or without one.
pub(crate) fn within(manager: &TestManager, cgroup: &str, mut command: Command, filtered: bool) -> Child {
    let procs = manager.cgroup().join(cgroup).join("cgroup.procs");
    let number = libc::SYS_acct.try_into().unwrap();
    let filter = SeccompFilter::new(Arch::native(), &[(number, return_value(Action::KillProcess, 0))], ALLOW);
    let enter = move || {
        fs::write(&procs, "0")?;
        // SAFETY: sets a limit.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &NO_CORE) };
        if filtered { filter.load(false) } else { Ok(()) }
    };
    // SAFETY: makes a few system calls; the child holds no lock.
    unsafe { command.pre_exec(enter) }.spawn().unwrap()
}

const NO_CORE: libc::rlimit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
