//! Real calls, and what the kernel reports of them.

use super::*;
use crate::kernel::failed_call::{CallText, FailedEvent};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

fn pair(low: u32, high: u32) -> u64 {
    let bytes = [low.to_ne_bytes(), high.to_ne_bytes()].concat();
    u64::from_ne_bytes(bytes.try_into().unwrap())
}

/// The words of a path as the kernel writes them.
fn path(names: &[u8], is_whole: bool) -> Vec<u64> {
    let mut bytes = names.to_vec();
    bytes.resize((PATH_WORDS - 1) * 8, b'x');
    let (words, _) = bytes.as_chunks::<8>();
    let length = u32::try_from(names.len()).unwrap();
    [vec![pair(length, is_whole.into())], words.iter().map(|word| u64::from_ne_bytes(*word)).collect()].concat()
}

#[test]
fn report_has_what_the_kernel_filled_in() {
    let returned = (-libc::EROFS).cast_unsigned();
    let mut failure = vec![0; FAILURE_WORDS];
    (failure[0], failure[3]) = (1, 1);
    let cgroups: Vec<u64> = (1..=LEVELS as u64).collect();
    let words = [
        vec![5, 6, 1 << 10, pair(83, returned), pair(77, 1), 1],
        cgroups.clone(),
        path(b"mkdir\0bin\0usr\0", true),
        path(b"lib\0", false),
        failure,
    ]
    .concat();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let report = FailureReport::read(&bytes, &Clocks::now()).unwrap();
    assert_eq!((report.key, report.failed.pid, report.is_at_root), ([5, 6, 1 << 10, pair(83, returned)], 77, true));
    let FailedEvent::Call { number, errno, .. } = report.failed.event else { panic!("a call") };
    assert_eq!((number, errno, report.cgroups.to_vec()), (83, libc::EROFS, cgroups));
    assert_eq!((report.exe.as_deref(), report.directory), (Some(&b"/usr/bin/mkdir"[..]), None), "a part tells lies");
    assert_eq!(FailureReport::read(&bytes[..bytes.len() - 8], &Clocks::now()), None);
}

/// Lets a program start without capabilities in its bounding set.
fn without(capabilities: std::ops::RangeInclusive<libc::c_ulong>, command: &mut Command) -> &mut Command {
    // SAFETY: it only makes calls.
    unsafe {
        command.pre_exec(move || {
            for capability in capabilities.clone() {
                if libc::prctl(libc::PR_CAPBSET_DROP, capability) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        })
    }
}

/// Starts a program without `CAP_CHOWN` in its bounding set.
fn start_without_chown(command: &mut Command) -> std::io::Result<Child> {
    without(0..=0, command).spawn()
}

fn wait_for_report(failures: &mut CallFailures, is_it: impl Fn(&FailureReport) -> bool) -> Option<FailureReport> {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        match failures.next() {
            Some(call) if is_it(&call) => return Some(call),
            Some(_) => {}
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    None
}

/// Loads the programs; `None` if the kernel has no programs at the end of functions, or permits none. The verifier must
/// accept them.
fn open() -> Option<CallFailures> {
    let error = match CallFailures::open() {
        Ok(failures) => return Some(failures),
        Err(error) => error,
    };
    let is_required = std::env::var_os("HARDEN_WHY_REQUIRE_FEXIT").is_some_and(|value| value == "1");
    assert!(!is_required && error.verifier_log().is_none(), "{error}: {}", error.verifier_log().unwrap_or_default());
    None
}

#[test]
fn failure_of_another_program_directory_or_user_is_reported_again() {
    let Some(mut failures) = open() else { return };
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for directory in [&first, &second] {
        std::fs::write(directory.path().join("f"), "").unwrap();
        std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let perl = "perl -e 'chown 1, -1, \"f\"'";
    let by_user = "perl -e '$> = 65534; chown 1, -1, \"f\"'";
    let script = format!(
        "cd {}; chown 1 f; chown 1 f; {perl}; {perl}; {by_user}; cd {}; chown 1 f; chown 1 f; true",
        first.path().display(),
        second.path().display()
    );
    start_without_chown(Command::new("/bin/sh").args(["-c", &script])).unwrap().wait().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let mut seen = Vec::new();
    while let Some(call) = failures.next() {
        if call.failed.missed == 1 && call.failed.text == CallText::Path(b"f".to_vec()) {
            let name = call.failed.program.clone();
            seen.push((String::from_utf8(name).unwrap(), call.failed.credentials.effective_uid, call.directory));
        }
    }
    let place = |directory: &tempfile::TempDir| {
        Some(std::fs::canonicalize(directory).unwrap().into_os_string().into_encoded_bytes())
    };
    let expected = [
        ("chown".to_owned(), 0, place(&first)),
        ("perl".to_owned(), 0, place(&first)),
        ("perl".to_owned(), 65_534, place(&first)),
        ("chown".to_owned(), 0, place(&second)),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn failing_call_is_reported_once_and_then_counted() {
    let Some(mut failures) = open() else { return };
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("f"), "").unwrap();
    let script = "chown 1 f; chown 1 f; chown 1 f; chown 1 no-such-file; true";
    let mut command = Command::new("/bin/sh");
    start_without_chown(command.current_dir(&directory).args(["-c", script])).unwrap().wait().unwrap();
    let report = wait_for_report(&mut failures, |call| call.failed.comm == b"chown").unwrap();
    let FailedEvent::Call { errno, .. } = report.failed.event else { panic!("a call") };
    assert_eq!((errno, report.failed.missed), (libc::EPERM, 1));
    assert_eq!(report.failed.text, CallText::Path(b"f".to_vec()));
    let place = std::fs::canonicalize(&directory).unwrap();
    assert_eq!(report.directory.as_deref(), Some(place.as_os_str().as_encoded_bytes()));
    assert_eq!(report.exe.as_deref(), Some(&b"/usr/bin/chown"[..]));
    assert!(report.is_at_root && report.failed.credentials.bounding & 1 == 0);
    assert_eq!(failures.take_count(&report.key).map(|(count, _)| count), Some(3));
    assert_eq!(failures.take_count(&report.key), None, "the next one is reported");
    while let Some(call) = failures.next() {
        assert_ne!(call.failed.comm, b"chown", "a file that is absent is no lack: {call:?}");
    }
}

#[test]
fn one_owner_has_a_limit_for_reports() {
    let Some(mut failures) = open() else { return };
    let directory = tempfile::tempdir().unwrap();
    let script = "for i in $(seq 100); do : >$i; done; chown 1 *; true";
    let mut command = Command::new("/bin/sh");
    start_without_chown(command.current_dir(&directory).args(["-c", script])).unwrap().wait().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let mut reports = 0;
    while let Some(call) = failures.next() {
        reports += u64::from(call.failed.comm == b"chown");
    }
    assert!((1..=40).contains(&reports) && reports + failures.lost() >= 100, "{reports} and {}", failures.lost());
}

/// Calls of Perl without a capability, with the errors that the kernel gives. `$pid` is a process of another user, and `S`, `U` and
/// `N` are a socket of TCP, one of files and a namespace. Of the files, `own` is root's, `foreign` of another user, as are `closed`, a
/// directory for its owner alone, and `sticky`, a sticky directory with files of a third user.
const WITHOUT_CAPABILITIES: [(&str, &str, i32); 61] = [
    ("acct", "'own'", libc::EPERM),
    ("adjtimex", "pack('L x204', 1)", libc::EPERM),
    ("bind", "fileno(S), pack('SnNx8', 2, 81, 0), 16", libc::EACCES),
    ("bind", "fileno(U), pack('Sa100', 1, 'closed/s'), 102", libc::EACCES),
    ("bpf", "12, pack('x128'), 128", libc::EPERM),
    ("chmod", "'foreign', 0600", libc::EPERM),
    ("chmod", "'own', 0600", 0),
    ("chown", "'own', 1, -1", libc::EPERM),
    ("chroot", "'/'", libc::EPERM),
    ("clock_settime", "0, pack('qq', 1, 0)", libc::EPERM),
    ("delete_module", "'x', 0", libc::EPERM),
    ("finit_module", "0, '', 0", libc::EPERM),
    ("init_module", "0, 0, ''", libc::EPERM),
    ("ioctl", "fileno(S), 0x8914, pack('a16Sx30', 'lo', 0)", libc::EPERM),
    ("ioperm", "0, 1, 1", libc::EPERM),
    ("iopl", "3", libc::EPERM),
    ("kill", "$pid, 15", libc::EPERM),
    ("link", "'foreign', 'l'", libc::EPERM),
    ("mkdir", "'closed/x', 0700", libc::EACCES),
    ("mkdir", "'own', 0700", libc::EEXIST),
    ("mknod", "'n', 020600, 259", libc::EPERM),
    ("mount", "'none', '/mnt', 'tmpfs', 0, 0", libc::EPERM),
    ("open", "'closed/x', 0", libc::EACCES),
    ("open", "'own', 0", 0),
    ("open", "'own', 0101, 0", 0),
    ("perf_event_open", "pack('LLQx100', 1, 112, 0), 0, -1, -1, 0", libc::EACCES),
    ("pivot_root", "'/', '/'", libc::EPERM),
    ("process_vm_readv", "$pid, pack('PQ', $to, 8), 1, pack('PQ', $to, 8), 1, 0", libc::EPERM),
    ("ptrace", "16, $pid, 0, 0", libc::EPERM),
    ("reboot", "0, 0, 0, 0", libc::EPERM),
    ("rename", "'sticky/f', 'sticky/g'", libc::EPERM),
    ("rmdir", "'sticky/d'", libc::EPERM),
    ("sched_setaffinity", "$pid, 8, pack('Q', 1)", libc::EPERM),
    ("sched_setscheduler", "0, 1, pack('l', 1)", libc::EPERM),
    ("setdomainname", "'x', 1", libc::EPERM),
    ("setgid", "5", libc::EPERM),
    ("setgroups", "1, pack('L', 5)", libc::EPERM),
    ("sethostname", "'x', 1", libc::EPERM),
    ("setns", "fileno(N), 0", libc::EPERM),
    ("setpriority", "0, 0, -5", libc::EACCES),
    ("setregid", "5, 5", libc::EPERM),
    ("setresgid", "5, 5, 5", libc::EPERM),
    ("setresuid", "0, 0, 0", 0),
    ("setresuid", "5, 5, 5", libc::EPERM),
    ("setreuid", "5, 5", libc::EPERM),
    ("setrlimit", "1, pack('QQ', 1 << 30, 1 << 30)", 0),
    ("setrlimit", "1, pack('QQ', 1 << 30, 1 << 31)", libc::EPERM),
    ("setsockopt", "fileno(S), 1, 36, pack('L', 1), 4", libc::EPERM),
    ("setsockopt", "fileno(S), 6, 13, 'reno', 4", 0),
    ("settimeofday", "pack('qq', 1, 0), 0", libc::EPERM),
    ("setuid", "0", 0),
    ("setuid", "5", libc::EPERM),
    ("setxattr", "'own', 'trusted.a', 'v', 1, 0", libc::EPERM),
    ("socket", "2, 3, 1", libc::EPERM),
    ("swapoff", "'own'", libc::EPERM),
    ("swapon", "'own', 0", libc::EPERM),
    ("syslog", "5, 0, 0", libc::EPERM),
    ("truncate", "'foreign', 0", libc::EACCES),
    ("umount2", "'/', 0", libc::EPERM),
    ("unlink", "'sticky/f'", libc::EPERM),
    ("unshare", "0x04000000", libc::EPERM),
];

/// The same of a directory `ro` that is read-only for the process. Other files exist in it.
const WITHOUT_WRITABLE_MOUNT: [(&str, &str, i32); 19] = [
    ("bind", "fileno(U), pack('Sa100', 1, 'ro/s'), 102", libc::EROFS),
    ("chmod", "'ro/f', 0600", libc::EROFS),
    ("chown", "'ro/f', 1, -1", libc::EROFS),
    ("link", "'ro/f', 'ro/l'", libc::EROFS),
    ("mkdir", "'ro/f', 0700", libc::EEXIST),
    ("mkdir", "'ro/x', 0700", libc::EROFS),
    ("mknod", "'ro/n', 0100600, 0", libc::EROFS),
    ("open", "'ro/f', 0", 0),
    ("open", "'ro/f', 0100, 0600", 0),
    ("open", "'ro/f', 2", libc::EROFS),
    ("open", "'ro/x', 0101, 0600", libc::EROFS),
    ("rename", "'ro/f', 'ro/g'", libc::EROFS),
    ("rmdir", "'ro/d'", libc::EROFS),
    ("setxattr", "'ro/f', 'trusted.a', 'v', 1, 0", libc::EROFS),
    ("symlink", "'f', 'ro/l'", libc::EROFS),
    ("truncate", "'ro/f', 0", libc::EROFS),
    ("unlink", "'ro/f'", libc::EROFS),
    ("utime", "'ro/f', 0", libc::EROFS),
    ("utimensat", "-100, 'ro/f', 0, 0", libc::EROFS),
];

/// A process, which ends with the test.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a Perl program that makes calls, and prints the error of each; 0 for none.
fn script(cases: &[(&str, &str, i32)], pid: u32) -> String {
    use std::fmt::Write as _;
    let mut script = format!(
        "use Socket; socket(S, PF_INET, SOCK_STREAM, 0); socket(U, PF_UNIX, SOCK_STREAM, 0); open(N, '<', '/proc/self/ns/uts'); \
         our $to = 'x' x 8; our $pid = {pid}; $| = 1; \
         sub call {{ my ($number, @given) = @_; my $result = syscall($number, @given); print $result == -1 ? $! + 0 : 0, qq(\\n) }}"
    );
    for (call, arguments, _) in cases {
        let number = Abi::native().call_number(call).unwrap();
        write!(script, "\ncall({number}, {arguments});").unwrap();
    }
    script
}

/// Compares what the kernel answers, and what it reports, with what is expected. The first of the command's arguments that is `-e`
/// is followed by the script.
fn hold(failures: &mut CallFailures, cases: &[(&str, &str, i32)], command: &mut Command) {
    let output = command.output().unwrap();
    let answers = String::from_utf8_lossy(&output.stdout);
    let answered: Vec<i32> = answers.lines().map(|line| line.parse().unwrap()).collect();
    let expected: Vec<i32> = cases.iter().map(|(.., errno)| *errno).collect();
    assert_eq!(answered, expected, "the kernel's own answers: {output:?}");
    std::thread::sleep(Duration::from_millis(300));
    let mut reported = Vec::new();
    while let Some(FailureReport { failed, .. }) = failures.next() {
        let FailedEvent::Call { number, errno, .. } = failed.event else { panic!("a call") };
        if failed.program == b"perl" {
            reported.push((Abi::native().call_name(number).unwrap().to_owned(), errno));
        }
    }
    let denials = cases.iter().filter(|(.., errno)| [libc::EPERM, libc::EACCES, libc::EROFS].contains(errno));
    let mut expected: Vec<(String, i32)> = denials.map(|(call, _, errno)| ((*call).to_owned(), *errno)).collect();
    reported.sort_unstable();
    expected.sort_unstable();
    assert_eq!(reported, expected);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn each_call_that_lacks_a_capability_is_reported_with_the_error_that_it_gets() {
    let Some(mut failures) = open() else { return };
    let directory = tempfile::tempdir().unwrap();
    let layout = "chmod 755 . && touch own foreign && chown 1 foreign && mkdir -m 700 closed && chown 1 closed && \
                  mkdir -p sticky/d && touch sticky/f && chown 2 sticky/f sticky/d && chown 1 sticky && chmod 1777 sticky";
    assert!(Command::new("sh").current_dir(&directory).args(["-c", layout]).status().unwrap().success());
    let other = Other(Command::new("sleep").arg("1000").uid(1).spawn().unwrap());
    for cases in WITHOUT_CAPABILITIES.chunks(28) {
        let script = script(cases, other.0.id());
        let mut perl = Command::new("perl");
        hold(&mut failures, cases, without(0..=40, perl.current_dir(&directory).args(["-e", &script])));
        // An owner has a limit for reports.
        std::thread::sleep(Duration::from_secs(11));
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn each_call_that_lacks_a_writable_mount_is_reported_with_the_error_that_it_gets() {
    let Some(mut failures) = open() else { return };
    let directory = tempfile::tempdir().unwrap();
    let layout =
        "mkdir -p ro/d && touch ro/f && mount --bind ro ro && mount -o remount,bind,ro ro && exec perl -e \"$0\"";
    let script = script(&WITHOUT_WRITABLE_MOUNT, std::process::id());
    let mut shell = Command::new("unshare");
    shell.current_dir(&directory).args(["--mount", "sh", "-c", layout, &script]);
    hold(&mut failures, &WITHOUT_WRITABLE_MOUNT, &mut shell);
}
