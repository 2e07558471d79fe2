//! A user's program serves a file system (FUSE) and never answers. No command of root waits for it.

use crate::support::skip::skip;
use harden_why::audit::Action;
use harden_why::incidents::{
    CallSite, CodePlace, Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource, Store,
};
use harden_why::syscalls::{Arch, Call};
use harden_why::units::{Manager, Rung, Unit};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// Mounts a file system whose requests nobody reads, in a mount namespace of its own, and runs a command there.
const SCRIPT: &str = r#"
exec 3<>/dev/fuse
mount -i -t fuse -o "fd=3,rootmode=40000,user_id=$1,group_id=65534,allow_other" served "$2" || exit 70
shift 2
exec timeout --signal=KILL 20 "$@"
"#;

/// The status of the script without the mount.
const IS_NOT_MOUNTED: Option<i32> = Some(70);

/// Runs a command while a file system of a user hangs at a directory; `None` where there is no FUSE.
fn run_during_mount(user: u32, point: &Path, command: &[&str]) -> Option<Output> {
    if !nix::unistd::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        skip("only root mounts a file system for a user, and only where the kernel has FUSE");
        return None;
    }
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-c", SCRIPT, "sh", &user.to_string()]).arg(point).args(command);
    let output = shell.env("NO_COLOR", "1").output().unwrap();
    assert_ne!(output.status.code(), IS_NOT_MOUNTED, "{output:?}");
    Some(output)
}

/// Runs harden-why, and returns all that it prints.
fn run_during_hanging_mount(point: &Path, arguments: &[&str]) -> Option<String> {
    let command: Vec<&str> =
        std::iter::once(env!("CARGO_BIN_EXE_harden-why")).chain(arguments.iter().copied()).collect();
    let output = run_during_mount(65_534, point, &command)?;
    assert!(!hangs(&output), "{arguments:?} waits for a user's program");
    Some([output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat())
}

/// Whether `timeout` killed the command, and so itself.
fn hangs(output: &Output) -> bool {
    output.status.signal() == Some(9)
}

/// Returns a text with single blanks for all white space.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const SERVED: &str = "a program of another user serves";

#[test]
fn mount_of_this_test_hangs_whatever_looks_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(output) = run_during_mount(65_534, dir.path(), &["ls", dir.path().to_str().unwrap()]) else { return };
    assert!(hangs(&output), "{output:?}");
}

#[test]
fn executable_that_a_users_program_serves_is_named_as_unread() {
    let root = tempfile::tempdir().unwrap();
    let served = root.path().join("srv/u");
    let units = root.path().join("etc/systemd/system");
    for directory in [&served, &units] {
        fs::create_dir_all(directory).unwrap();
    }
    std::os::unix::fs::symlink("/srv/u/inner/program", root.path().join("srv/link")).unwrap();
    let log = root.path().join("log");
    let record = "type=SECCOMP msg=audit(1700000000.000:1): auid=4294967295 uid=1000 gid=1000 ses=4294967295 \
                  subj=unconfined pid=7 comm=\"program\" exe=\"/srv/u/program\" sig=31 arch=c000003e syscall=41 \
                  compat=0 ip=0x7f0000000000 code=0x80000000\n";
    fs::write(&log, record).unwrap();
    for (settings, reason) in [
        ("ExecStart=/srv/u/program", SERVED),
        ("ExecStart=/srv/link", SERVED),
        ("ExecStart=/srv/../srv/./u/../link", SERVED),
        ("ExecStart=/program\nRootDirectory=/srv/u", "/program is in an image or a root directory that is not read"),
    ] {
        let text = format!("[Service]\n{settings}\nSystemCallFilter=~@network-io\n");
        fs::write(units.join("x.service"), text).unwrap();
        let (log, root) = (log.to_str().unwrap(), root.path().to_str().unwrap());
        let arguments = ["explain", "--root", root, "--assume-unit", "x.service", "-v", log];
        let Some(printed) = run_during_hanging_mount(&served, &arguments) else { return };
        assert!(words(&printed).contains(reason), "{settings}: {printed}");
    }
}

#[test]
fn function_in_a_file_that_a_users_program_serves_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let served = dir.path().join("served");
    fs::create_dir(&served).unwrap();
    let path = served.join("libx.so").to_str().unwrap().as_bytes().to_vec();
    let code = CodePlace { offset: 64, build_id: vec![7; 20], path: path.clone(), ..CodePlace::default() };
    let denial = Denial { call: Call::named(Arch::X86_64, "fchown"), action: Action::KillProcess };
    let incident = Incident {
        key: IncidentKey {
            unit: Some(Unit { manager: Manager::System, name: "not-here.service".parse().unwrap() }),
            event: IncidentEvent::Denial(denial),
            exe: path,
            source: SightingSource::Audit,
        },
        rung: Some(Rung::OwnCgroup),
        count: 1,
        first: Moment::At(1_700_000_000_000),
        last: Moment::At(1_700_000_000_000),
        sample: Sample {
            call_site: Some(Box::new(CallSite { caller: Some(code.clone()), code, ..CallSite::default() })),
            ..Sample::default()
        },
    };
    Store::open(dir.path()).unwrap().record(&[incident]).unwrap();
    let state = dir.path().to_str().unwrap();
    let arguments = ["--bus", "unix:path=/nonexistent", "--state-dir", state, "not-here", "-v"];
    let Some(printed) = run_during_hanging_mount(&served, &arguments) else { return };
    assert!(words(&printed).contains("function unknown: a program of another user serves the file"), "{printed}");
}

#[test]
fn unit_files_that_a_users_program_serves_are_named_as_unread() {
    let root = tempfile::tempdir().unwrap();
    let served = root.path().join("home/u/.config/systemd/user");
    fs::create_dir_all(&served).unwrap();
    for (path, text) in [
        ("etc/passwd", "root:x:0:0::/home/u:/bin/sh\n"),
        ("usr/lib/systemd/user/x.service", "[Service]\nExecStart=/bin/false\n"),
    ] {
        fs::create_dir_all(root.path().join(path).parent().unwrap()).unwrap();
        fs::write(root.path().join(path), text).unwrap();
    }
    let arguments = ["check", "--root", root.path().to_str().unwrap(), "--user", "x.service", "-v"];
    let Some(printed) = run_during_hanging_mount(&served, &arguments) else { return };
    let note = "cannot read /home/u/.config/systemd/user: a program of uid 65534 serves its file system (FUSE)";
    assert!(words(&printed).contains(note) && printed.contains("/bin/false"), "{printed}");
}
