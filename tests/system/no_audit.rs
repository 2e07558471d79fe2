//! The real daemon where no records can arrive: a state that it and its clients report, and no failure.

use crate::support::bus::{Bus, asked};
use crate::support::daemon::{Daemon, PROGRAM};
use crate::support::skip::skip;
use harden_why::outlet::wire::Status;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A program under a filter that refuses the audit socket, as a kernel with `audit=0` does (`EPROTONOSUPPORT`) and
/// systemd-nspawn (`EAFNOSUPPORT`).
fn without_audit(program: &str, errno: i32) -> Command {
    fn statement(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k }
    }
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    // `struct seccomp_data`: the number at 0, and the third argument at 32, its low half first.
    let mut filter = [
        statement(load, 0, 0, 0),
        statement(equals, 0, 3, u32::try_from(libc::SYS_socket).unwrap()),
        statement(load, 0, 0, if cfg!(target_endian = "big") { 36 } else { 32 }),
        statement(equals, 0, 1, u32::try_from(libc::NETLINK_AUDIT).unwrap()),
        statement(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap()),
        statement(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let mut command = Command::new(program);
    // SAFETY: between fork and exec this only makes a system call, on memory that the closure owns.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: 6, filter: filter.as_mut_ptr() };
            match libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    command
}

/// Starts the daemon, checks that it stays, and returns its status and log.
fn status_of(command: Command, dir: &Path) -> Option<(Status, String)> {
    std::fs::create_dir_all(dir).unwrap();
    let (_bus, address) = Bus::within(dir)?;
    let daemon = Daemon::start(command, &address, dir);
    let began = Instant::now();
    let status = asked(&address).unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "a client waits");
    let why = status.not_listening.clone().unwrap();
    let client = |arguments: &[&str]| {
        let mut client = Command::new(env!("CARGO_BIN_EXE_harden-why"));
        let output = client.args(["--bus", &address]).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let (code, page) = client(&["status"]);
    assert!(code == Some(1) && page.contains("receives no records") && page.contains(&why), "{page}");
    assert!(!page.contains("enable --now"), "that would not help: {page}");
    let (_, answer) = client(&["nosuch.service", "-v"]);
    assert!(answer.contains(&why) && answer.contains("'harden-why tap UNIT'"), "{answer}");
    let (_, answer) = client(&["nosuch.service"]);
    assert!(answer.contains("harden-whyd receives no records here: "), "{answer}");
    let (code, refused) = client(&["rehearse", "nosuch", "--yes"]);
    assert!(code == Some(1) && refused.contains(&why), "{refused}");
    let log = daemon.log();
    assert_eq!(log.matches("not listening").count(), 1, "{log}");
    daemon.stop();
    Some((status, log))
}

#[test]
fn kernel_or_container_without_audit_is_a_state_of_the_daemon() {
    if !nix::unistd::geteuid().is_root() {
        return skip("a filter requires root");
    }
    let temp = tempfile::tempdir().unwrap();
    for (name, errno) in [("off", libc::EPROTONOSUPPORT), ("nspawn", libc::EAFNOSUPPORT)] {
        let Some((status, log)) = status_of(without_audit(PROGRAM, errno), &temp.path().join(name)) else { return };
        assert!(!status.listening && status.receive_buffer == 0, "{status:?}");
        assert!(status.not_listening.unwrap().contains("audit"), "{log}");
    }
}

#[test]
fn other_network_namespace_is_a_state_of_the_daemon() {
    if !Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success()) {
        return skip("a network namespace requires root");
    }
    let temp = tempfile::tempdir().unwrap();
    let mut unshared = Command::new("unshare");
    unshared.args(["--net", PROGRAM]);
    let Some((status, log)) = status_of(unshared, &temp.path().join("net")) else { return };
    let why = status.not_listening.unwrap();
    assert!(!status.listening && why.contains("network namespace"), "{why}: {log}");
    assert!(!status.limitations.contains(&why), "told once: {:?}", status.limitations);
}
