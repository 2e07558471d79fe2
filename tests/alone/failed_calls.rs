//! What a tap sees of calls that the kernel executes and that fail: real processes in real sandboxes.

use crate::support::skip::skip;
use harden_why::audit::Action;
use harden_why::kernel::failed_call::{CallText, FailedCall, FailedEvent};
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::kernel::tap::{Tap, TapOptions, TapTarget};
use harden_why::syscalls::{Abi, Arch};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

const FAILURES: TapOptions = TapOptions { absent: false, entered: false };
const CAP_CHOWN: u64 = 1;

/// A shell script in a mount namespace of its own. It prepares, says `ready`, waits for a line, and goes on.
struct Script(Child, ChildStdin);

impl Script {
    fn start(directory: &Path, prepare: &str, go_on: &str) -> Self {
        let text = format!("cd {} && {prepare}\necho ready; read line\n{go_on}", directory.display());
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", &text])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{prepare}");
        let stdin = child.stdin.take().unwrap();
        Self(child, stdin)
    }

    /// Lets the script go on under a tap, and returns what failed.
    fn failures(mut self, options: TapOptions) -> Option<Vec<FailedCall>> {
        let mut tap = match Tap::open(&[TapTarget::Process(self.0.id())], options) {
            Ok(tap) => tap,
            Err(error) => {
                skip(&format!("no tap: {error}"));
                return None;
            }
        };
        self.1.write_all(b"go\n").unwrap();
        let (deadline, mut failures) = (Instant::now() + Duration::from_secs(20), Vec::new());
        while self.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the script hangs");
            failures.extend(tap.collect().failures);
            std::thread::sleep(Duration::from_millis(10));
        }
        failures.extend(tap.stop().failures);
        Some(failures)
    }
}

/// Returns the failures of some calls with an error, with their arguments.
fn failed<'a>(all: &'a [FailedCall], names: &[&str], wanted: i32) -> Vec<(&'a FailedCall, [u64; 6])> {
    let numbers: Vec<u32> = names.iter().filter_map(|name| Abi::native().call_number(name)).collect();
    all.iter()
        .filter_map(|failure| match failure.event {
            FailedEvent::Call { number, errno, arguments } if errno == wanted && numbers.contains(&number) => {
                Some((failure, arguments))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn paths_of_a_read_only_mount_are_seen_with_what_the_process_may_do() {
    let _turn = crate::take_turn();
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("ro")).unwrap();
    let path = directory.path().join("ro");
    let long = format!("{}/{}", path.display(), "x/".repeat(200));
    let go_on = format!("mkdir {0}/a; mkdir {0}/a; cd ro; mkdir b; : > {long}y; exit 0", path.display());
    let script = Script::start(directory.path(), "mount --bind ro ro && mount -o remount,bind,ro ro", &go_on);
    let Some(failures) = script.failures(FAILURES) else { return };
    let read_only = failed(&failures, &["mkdir"], libc::EROFS);
    let texts: Vec<&CallText> = read_only.iter().map(|(failure, _)| &failure.text).collect();
    let absolute = CallText::Path(format!("{}/a", path.display()).into_bytes());
    assert_eq!(texts.iter().filter(|text| ***text == absolute).count(), 2, "{failures:#?}");
    assert!(texts.contains(&&CallText::Path(b"b".to_vec())), "{failures:#?}");
    let own = fs::metadata("/proc/self/ns/mnt").map(|file| std::os::unix::fs::MetadataExt::ino(&file)).unwrap();
    for (failure, _) in read_only {
        let credentials = failure.credentials;
        assert_eq!((failure.comm.as_slice(), credentials.uid, failure.missed), (&b"mkdir"[..], 0, 0), "{failure:?}");
        assert_ne!(u64::from(credentials.mount_namespace), own, "{failure:?}");
        assert!(credentials.bounding & CAP_CHOWN != 0 && !credentials.no_new_privileges, "{failure:?}");
    }
}

#[test]
fn capability_that_a_call_missed_is_seen() {
    let _turn = crate::take_turn();
    let directory = tempfile::tempdir().unwrap();
    let go_on = "setpriv --bounding-set=-chown chown 1 file; : > absent/file; : > absent/file; exit 0";
    let script = Script::start(directory.path(), ": > file", go_on);
    let Some(failures) = script.failures(FAILURES) else { return };
    let changes = failed(&failures, &["chown", "fchownat"], libc::EPERM);
    let [(failure, _)] = changes[..] else { panic!("{failures:#?}") };
    assert_eq!((failure.missed & CAP_CHOWN, failure.missed_elsewhere), (CAP_CHOWN, 0), "{failure:?}");
    let credentials = failure.credentials;
    assert_eq!((credentials.bounding & CAP_CHOWN, credentials.effective & CAP_CHOWN), (0, 0), "{failure:?}");
    assert!(failed(&failures, &["open", "openat"], libc::ENOENT).is_empty(), "absent files do not count");
}

#[test]
fn capability_in_another_user_namespace_and_unmapped_ids_are_seen() {
    let _turn = crate::take_turn();
    let directory = tempfile::tempdir().unwrap();
    let go_on = "exec unshare --user --map-root-user sh -c 'chown 5 file; hostname x; exit 0'";
    let script = Script::start(directory.path(), ": > file", go_on);
    let Some(failures) = script.failures(FAILURES) else { return };
    assert_eq!(failed(&failures, &["chown", "fchownat"], libc::EINVAL).len(), 1, "{failures:#?}");
    let names = failed(&failures, &["sethostname"], libc::EPERM);
    let [(failure, _)] = names[..] else { panic!("{failures:#?}") };
    assert!(failure.missed != 0 && failure.missed == failure.missed_elsewhere, "{failure:?}");
    assert_eq!(failure.credentials.effective & failure.missed, failure.missed, "it holds them in its own namespace");
}

#[test]
fn set_id_program_without_new_privileges_is_seen() {
    let _turn = crate::take_turn();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let go_on = "setpriv --no-new-privs ./true; ./true; setpriv --no-new-privs true; exit 0";
    let prepare = "cp /bin/true true && chown 7:8 true && chmod 6755 true";
    let script = Script::start(directory.path(), prepare, go_on);
    let Some(failures) = script.failures(FAILURES) else { return };
    let programs: Vec<_> =
        failures.iter().filter(|failure| matches!(failure.event, FailedEvent::Exec { .. })).collect();
    let [program] = programs[..] else { panic!("{failures:#?}") };
    assert_eq!(program.event, FailedEvent::Exec { mode: 0o106_755, uid: 7, gid: 8 });
    assert_eq!(program.text, CallText::Path(b"./true".to_vec()));
}

#[test]
fn address_of_bind_is_seen_and_the_watcher_itself_is_not() {
    let _turn = crate::take_turn();
    let directory = tempfile::tempdir().unwrap();
    let python = "import socket\ntry: socket.socket().bind((\"127.0.0.1\", 81))\nexcept OSError: pass";
    let go_on = format!("exec setpriv --bounding-set=-net_bind_service python3 -c '{python}'");
    let script = Script::start(directory.path(), "true", &go_on);
    let Some(failures) = script.failures(FAILURES) else { return };
    let binds = failed(&failures, &["bind"], libc::EACCES);
    let [(failure, _)] = binds[..] else { panic!("{failures:#?}") };
    let CallText::Address(address) = &failure.text else { panic!("{failure:?}") };
    assert_eq!(address[2..8], [0, 81, 127, 0, 0, 1], "{address:?}");

    let Ok(mut tap) = Tap::open(&[TapTarget::Process(std::process::id())], FAILURES) else { return };
    // SAFETY: acct(2) gets no valid address.
    unsafe { libc::syscall(libc::SYS_acct, 8) };
    assert!(fs::create_dir("/proc/x").is_err());
    let report = tap.stop();
    assert!(report.failures.is_empty() && report.refusals.is_empty(), "{report:?}");
}

#[test]
fn process_with_many_failing_paths_fills_the_map_for_a_moment_only() {
    let _turn = crate::take_turn();
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("ro")).unwrap();
    let python = "import os\nfor n in range(9000):\n try: os.mkdir(\"ro/%d\" % n)\n except OSError: pass";
    let go_on = format!("exec python3 -c '{python}'");
    let script = Script::start(directory.path(), "mount --bind ro ro && mount -o remount,bind,ro ro", &go_on);
    let options = TapOptions { absent: true, ..FAILURES };
    let Some(failures) = script.failures(options) else { return };
    let seen = failed(&failures, &["mkdir"], libc::EROFS).len();
    assert!((7_000..=9_000).contains(&seen), "{seen}");

    let waves = "import os, time\nfor n in range(15000):\n try: os.mkdir(\"ro/%d\" % n)\n except OSError: pass\n \
                 if n % 1000 == 0: time.sleep(0.1)";
    let go_on = format!("exec python3 -c '{waves}'");
    let script = Script::start(directory.path(), "mount --bind ro ro && mount -o remount,bind,ro ro", &go_on);
    let Some(failures) = script.failures(FAILURES) else { return };
    assert_eq!(failed(&failures, &["mkdir"], libc::EROFS).len(), 15_000, "the process lived all along");
}

#[test]
fn refused_calls_with_many_arguments_are_all_counted() {
    let _turn = crate::take_turn();
    let number = Abi::native().call_number("personality").unwrap();
    let filter = SeccompFilter::new(Arch::native(), &[(number, return_value(Action::Errno, 1))], ALLOW);
    let calls = format!(
        "import ctypes\ncall = ctypes.CDLL(None).syscall\nprint(\"ready\", flush=True)\ninput()\n\
         for n in range(20000): call({number}, n)"
    );
    let mut command = Command::new("python3");
    command.args(["-c", &calls]).stdin(Stdio::piped()).stdout(Stdio::piped());
    // SAFETY: it calls prctl and seccomp; the child has no other thread.
    unsafe { command.pre_exec(move || filter.load(false)) };
    let mut child = command.spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let Ok(mut tap) = Tap::open(&[TapTarget::Process(child.id())], FAILURES) else {
        child.kill().unwrap();
        child.wait().unwrap();
        return skip("no tap");
    };
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child.wait().unwrap();
    // The programs count each argument apart; the tally folds them.
    let report = tap.stop();
    let counts = report.refusals.iter().filter(|refusal| refusal.number == number).map(|refusal| refusal.count);
    assert_eq!(counts.sum::<u64>(), 20_000);
}
