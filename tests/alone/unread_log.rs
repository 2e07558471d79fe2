//! Nobody reads the daemon's standard error: it goes on, and counts the lines that are lost.

use crate::support::bus::{Bus, asked};
use crate::support::child::{call, listen, violate};
use crate::support::daemon::{Daemon, PROGRAM};
use harden_why::audit::Action;
use harden_why::incidents::IncidentEvent;
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::syscalls::Arch;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::OpenOptions;
use std::process::Command;

/// More lines than the pipe holds.
const DEATHS: u32 = 300;

#[test]
fn daemon_goes_on_while_nobody_reads_its_log() {
    let _turn = crate::take_turn();
    if listen().is_none() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let Some((_bus, address)) = Bus::within(temp.path()) else { return };
    let pipe = temp.path().join("log");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let unread = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    fcntl(&unread, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec \"$0\" \"$@\" 2>{}", pipe.display()), PROGRAM]);
    let daemon = Daemon::start(command, &address, &temp.path().join("daemon"));
    // Each death is a line of the log at its debug level.
    for _ in 0..DEATHS {
        let status = Command::new("sh").args(["-c", "ulimit -c 0; kill -SYS $$"]).status().unwrap();
        assert!(!status.success());
    }
    std::thread::sleep(std::time::Duration::from_secs(3));
    let number = 3_000_000 + std::process::id();
    let killing = SeccompFilter::new(Arch::native(), &[(number, return_value(Action::KillProcess, 0))], ALLOW);
    violate(killing, c"denied", call(number));
    daemon.wait_for_incident(
        |incident| matches!(&incident.key.event, IncidentEvent::Denial(denial) if denial.call.number() == Some(number)),
    );
    assert!(asked(&address).is_some(), "it answers on the bus");
    daemon.stop();
}
