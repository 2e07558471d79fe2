//! Malformed unit files: harden-why reads each as far as possible, within moments, answers, and notes what is wrong.

use crate::support;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const LOG: &str = "type=SECCOMP msg=audit(1795456064.827:201): auid=4294967295 uid=990 gid=990 ses=4294967295 pid=2294 \
    comm=\"x\" exe=\"/usr/bin/x\" sig=31 arch=c000003e syscall=99 compat=0 ip=0x7f613e11f829 code=0x80000000\n";
const UNIT: &str = "[Service]\nExecStart=/usr/bin/x\nSystemCallFilter=@basic-io\n";

/// A machine with one unit, and one denied call of it.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(machine.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(machine.units().join("x.service.d")).unwrap();
        fs::write(machine.units().join("x.service"), UNIT).unwrap();
        fs::write(machine.0.path().join("log"), LOG).unwrap();
        machine
    }

    fn units(&self) -> PathBuf {
        self.0.path().join("etc/systemd/system")
    }

    fn drop_in(&self) -> PathBuf {
        self.units().join("x.service.d/50.conf")
    }

    /// The client's notes on the unit, and the kind of the cause.
    fn answer(&self, mut command: Command) -> (Vec<String>, String) {
        let start = Instant::now();
        let groups = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/systemd-252.syscalls");
        let listing = self.0.path().join("groups");
        fs::copy(groups, &listing).unwrap();
        command.args(["--json", "explain", "--assume-unit", "x.service", "--groups"]).arg(listing).arg("--root");
        let output = command.arg(self.0.path()).arg(self.0.path().join("log")).output().unwrap();
        assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
        assert!(output.stderr.is_empty(), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let unit = &report["units"][0];
        let notes =
            unit["notes"].as_array().unwrap().iter().map(|note| note["text"].as_str().unwrap().to_owned()).collect();
        (notes, unit["denials"][0]["cause"]["kind"].as_str().unwrap().to_owned())
    }

    #[track_caller]
    fn says(&self, note: &str, kind: &str) {
        let (notes, found) = self.answer(Command::new(env!("CARGO_BIN_EXE_harden-why")));
        assert!(notes.iter().any(|said| said.contains(note)), "{notes:?}");
        assert_eq!(found, kind, "{notes:?}");
    }
}

#[test]
fn file_with_bytes_that_are_no_text_ends_there() {
    let machine = Machine::new();
    fs::write(machine.drop_in(), b"[Service]\nSystemCallFilter=\xff\xfe\nSystemCallFilter=sysinfo\n").unwrap();
    machine.says("/etc/systemd/system/x.service.d/50.conf:2: not valid UTF-8, the rest of the file is ignored", "unit");
}

#[test]
fn continuation_without_end_is_one_long_line() {
    let machine = Machine::new();
    fs::write(machine.drop_in(), format!("[Service]\nSystemCallFilter={}", "sysinfo \\\n".repeat(100_000))).unwrap();
    machine.says("exceeds the limits of the simulation", "elsewhere");
    let longer = format!("[Service]\nSystemCallFilter=sysinfo {}", "\\\n".repeat(510_000));
    fs::write(machine.drop_in(), longer).unwrap();
    let (notes, kind) = machine.answer(Command::new(env!("CARGO_BIN_EXE_harden-why")));
    assert_eq!((notes, kind.as_str()), (vec![], "elsewhere"), "white space is no word");
}

#[test]
fn line_or_file_of_a_megabyte_is_not_read() {
    let machine = Machine::new();
    fs::write(machine.drop_in(), format!("[Service]\nSystemCallFilter={}\n", "y".repeat(1024 * 1024 - 50))).unwrap();
    machine.says("is no call this systemd knows, ignored", "unit");
    fs::write(machine.drop_in(), format!("[Service]\nSystemCallFilter=sysinfo {}\n", "y".repeat(1024 * 1024))).unwrap();
    machine.says("cannot read /etc/systemd/system/x.service.d/50.conf: larger than 1 MiB", "unit");
}

#[test]
fn broken_and_circular_links_are_noted() {
    let machine = Machine::new();
    symlink("50.conf", machine.drop_in()).unwrap();
    machine.says("cannot read /etc/systemd/system/x.service.d/50.conf: Too many levels of symbolic links", "unit");
    fs::remove_file(machine.drop_in()).unwrap();
    symlink("/nowhere", machine.drop_in()).unwrap();
    machine.says("cannot read /etc/systemd/system/x.service.d/50.conf: No such file", "unit");
    fs::remove_dir_all(machine.units().join("x.service.d")).unwrap();
    symlink("x.service.d", machine.units().join("x.service.d")).unwrap();
    machine.says("cannot read /etc/systemd/system/x.service.d: Too many levels of symbolic links", "unit");
}

#[test]
fn fifo_in_place_of_a_file_is_not_waited_for() {
    let machine = Machine::new();
    nix::unistd::mkfifo(&machine.drop_in(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    machine.says("cannot read /etc/systemd/system/x.service.d/50.conf: not a regular file", "unit");
    fs::remove_file(machine.drop_in()).unwrap();
    fs::create_dir(machine.drop_in()).unwrap();
    machine.says("cannot read /etc/systemd/system/x.service.d/50.conf: not a regular file", "unit");
}

#[test]
fn unreadable_file_is_noted() {
    let machine = Machine::new();
    fs::write(machine.drop_in(), "[Service]\nSystemCallFilter=sysinfo\n").unwrap();
    fs::set_permissions(machine.drop_in(), fs::Permissions::from_mode(0o0)).unwrap();
    let (notes, kind) = machine.answer(support::nobody::harden_why(machine.0.path()));
    let denied = "cannot read /etc/systemd/system/x.service.d/50.conf: Permission denied";
    assert!(notes.iter().any(|note| note.starts_with(denied)), "{notes:?}");
    assert_eq!(kind, "unit", "the answer is about what could be read, and says so");
}
