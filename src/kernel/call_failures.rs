//! Calls that fail because their process lacks a capability, or because its mount of a writable file system is read-only: the
//! kernel reports them as they happen, of all processes, and writes no record of them.
//!
//! BPF programs at the end of the kernel's own checks note what a call lacked, and others at the end of the calls look whether
//! it failed. Unlike a tap, this leaves the kernel's path into calls alone, so it can last. It sees the calls that
//! `src/kernel/bpf/call_failures.bpf.c` lists, and only those of the machine's own ABI.
//!
//! The kernel counts what fails again, and reports it once until [`CallFailures::take_count`] is called for it. Each owner, a service or
//! the slice of a user, has a limit for new reports in ten seconds, so that one owner's noise costs no other its reports.
//!
//! Requires what the [exit notes](super::exit_cgroups) require, and programs at the end of kernel functions (fexit): Linux 5.15,
//! on 64-bit ARM 6.4, unless the kernel is built without.

use super::bpf::{BpfError, BpfLink, BpfLoader, BpfObject, KernelFunctions};
use super::call_notes::{halves, join_path};
use super::clock::Clocks;
use super::exit_cgroups::cgroup_names::LEVELS;
use super::tap::FailedCall;
use super::tap::call_rules::{CallRule, call_rules};
use super::tap::failed_call::{FAILURE_WORDS, FailureCount, FailureKey};
use crate::syscalls::Abi;
use aya::include_bytes_aligned;
use aya::maps::{Array, HashMap, MapData, RingBuf};
use std::collections;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The programs, from `src/kernel/bpf/call_failures.bpf.c`.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/call_failures.bpf.o"));

/// What identifies a failure (`struct report_key`): the cgroup; a hash of what the call names, the program, where a relative
/// path starts, and the effective uid; the capabilities that were missed; and the call's number with what it returned.
pub(crate) type ReportKey = [u64; 4];
/// How often a failure was, and the time of the latest (`struct report_count`).
type ReportCount = [u64; 2];

/// The words of a report (`struct failure_report`), and of its parts.
const REPORT_WORDS: usize = KEY_WORDS + 2 + LEVELS + 2 * PATH_WORDS + FAILURE_WORDS;
const KEY_WORDS: usize = 4;
const PATH_WORDS: usize = 49;

/// The prefix of the names of the programs at the end of calls.
const OF_CALLS: &str = "at_end_";
/// Flag of a rule: a program is attached to the end of the call.
const WATCHED_CALL: u8 = 128;

/// What the kernel calls the functions of its own ABI (`SYSCALL_DEFINE`).
const FUNCTION_PREFIX: &str = if cfg!(target_arch = "x86_64") {
    "__x64_sys_"
} else if cfg!(target_arch = "aarch64") {
    "__arm64_sys_"
} else {
    "__riscv_sys_"
};

/// The functions by which the kernel checks whether a mount may be changed, with their programs. The second has the third's name
/// before Linux 6.8.
const MOUNT_CHECKS: [(&str, &str); 3] = [
    ("hardenwhy_want", "mnt_want_write"),
    ("hardenwhy_write", "mnt_get_write_access"),
    ("hardenwhy_write", "__mnt_want_write"),
];

/// The reports, and the programs that write them. Dropping this ends the programs.
pub(crate) struct CallFailures {
    reports: RingBuf<MapData>,
    counts: HashMap<MapData, ReportKey, ReportCount>,
    lost: Array<MapData, u64>,
    _programs: Vec<BpfLink>,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailureReport {
    /// What identifies the failure.
    pub(crate) key: ReportKey,
    /// The call, and what its process may do.
    pub(crate) failed: FailedCall,
    /// The ids of the cgroups that hold the process, from the root on; zeros follow.
    pub(crate) cgroups: [u64; LEVELS],
    /// The file that the process executes; `None` if its path is too long.
    pub(crate) exe: Option<Vec<u8>>,
    /// The directory where the call's path starts, if it is relative; `None` if its path is too long.
    pub(crate) directory: Option<Vec<u8>>,
    /// Whether the root directory of the process is that of its mount namespace.
    pub(crate) is_at_root: bool,
}

impl CallFailures {
    /// Loads the programs, which takes some seconds on a slow machine.
    ///
    /// # Errors
    /// The kernel refuses the programs, or lacks something that they need.
    pub(crate) fn open() -> Result<Self, BpfError> {
        static CONSTANTS: OnceLock<[(&str, u64); 1]> = OnceLock::new();
        let constants = CONSTANTS.get_or_init(|| [("watcher", std::process::id().into())]);
        let mut programs = BpfLoader::new().load(OBJECT, constants)?;
        let functions = KernelFunctions::read()?;
        let attached = attach(&mut programs, &functions);
        drop(functions);
        attached?;
        Ok(Self {
            reports: programs.take_map("reports")?,
            counts: programs.take_map("counts")?,
            lost: programs.take_map("lost")?,
            _programs: programs.into_links(),
        })
    }

    /// Registers the reports with the async runtime.
    pub(crate) fn into_async(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: `as_raw_fd` always returns the map's descriptor, which `self` keeps open until the runtime drops it.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// Returns the next report; `None` if there is none now.
    pub(crate) fn next(&mut self) -> Option<FailureReport> {
        loop {
            let report = self.reports.next()?;
            if let Some(failure) = FailureReport::read(&report, &Clocks::now()) {
                return Some(failure);
            }
        }
    }

    /// Returns how often a failure was since its report, and when it was last, in milliseconds since the epoch. The next one is
    /// reported again.
    pub(crate) fn take_count(&mut self, key: &ReportKey) -> Option<(u64, i64)> {
        let [count, last] = self.counts.get(key, 0).ok()?;
        self.counts.remove(key).ok()?;
        Some((count, Clocks::now().millis_of_monotonic(last)))
    }

    /// Returns how many failures the kernel did not report so far: beyond an owner's limit, or for lack of room.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.get(&0, 0).unwrap_or_default()
    }
}

impl AsRawFd for CallFailures {
    /// A descriptor that is readable while there are reports.
    fn as_raw_fd(&self) -> RawFd {
        self.reports.as_raw_fd()
    }
}

/// Attaches the programs: those at the end of calls and of processes first, so that nothing is noted for a call at whose end no
/// program looks.
fn attach(programs: &mut BpfObject, functions: &KernelFunctions) -> Result<(), BpfError> {
    let mut rules: Array<MapData, CallRule> = programs.take_map("rules")?;
    let known: collections::HashMap<u32, CallRule> = call_rules(Abi::native()).collect();
    let of_calls: Vec<String> = programs.programs().filter(|name| name.starts_with(OF_CALLS)).map(Into::into).collect();
    for program in of_calls {
        let function = program.strip_prefix(OF_CALLS).unwrap_or_default();
        // The kernel's function has the call's older name.
        let call = if function == "umount" { "umount2" } else { function };
        let Some(number) = Abi::native().call_number(call) else { continue };
        if attach_if_present(programs, &program, &format!("{FUNCTION_PREFIX}{function}"), functions)? {
            let mut rule = known.get(&number).copied().unwrap_or_default();
            rule[1] |= WATCHED_CALL;
            rules.set(number, rule, 0)?;
        }
    }
    programs.attach("hardenwhy_gone", "sched_process_exit")?;
    let mut sees_mounts = false;
    for (program, function) in MOUNT_CHECKS {
        sees_mounts |= attach_if_present(programs, program, function, functions)?;
    }
    if !sees_mounts {
        return Err(BpfError::unsupported("the kernel has no function that checks mounts"));
    }
    programs.attach_to_function("hardenwhy_cap", "cap_capable", functions)
}

/// Attaches a program to the end of a kernel function. Returns whether the kernel has that function.
fn attach_if_present(
    programs: &mut BpfObject,
    program: &str,
    function: &str,
    functions: &KernelFunctions,
) -> Result<bool, BpfError> {
    match programs.attach_to_function(program, function, functions) {
        Err(error) if error.is_absent() => Ok(false),
        attached => attached.map(|()| true),
    }
}

impl FailureReport {
    fn read(bytes: &[u8], clocks: &Clocks) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        let words: &[u64; REPORT_WORDS] = words.first_chunk()?;
        let (key, rest) = words.split_first_chunk::<KEY_WORDS>()?;
        let ([process, _], rest) = rest.split_first_chunk::<2>()?;
        let (cgroups, rest) = rest.split_first_chunk::<LEVELS>()?;
        let (program, rest) = rest.split_first_chunk::<PATH_WORDS>()?;
        let (directory, rest) = rest.split_first_chunk::<PATH_WORDS>()?;
        let failure: &FailureCount = rest.first_chunk()?;
        let [_, _, _, call] = key;
        let ([pid, is_at_root], [number, returned]) = (halves(*process), halves(*call));
        let key_of_failure: FailureKey = [pid, number, 0, returned, 0, 0];
        Some(Self {
            key: *key,
            failed: FailedCall::new(key_of_failure, failure, 1, clocks)?,
            cgroups: *cgroups,
            exe: read_path(program),
            directory: read_path(directory),
            is_at_root: is_at_root != 0,
        })
    }
}

/// Reads a path (`struct path_names`); `None` if the kernel did not read it whole.
fn read_path(words: &[u64; PATH_WORDS]) -> Option<Vec<u8>> {
    let [lengths, names @ ..] = words;
    let [length, is_whole] = halves(*lengths);
    let names: Vec<u8> = names.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let names = names.get(..usize::try_from(length).ok()?)?;
    (is_whole != 0).then(|| join_path(names, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tap::{CallText, FailedEvent};
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
        assert_eq!(
            (report.exe.as_deref(), report.directory),
            (Some(&b"/usr/bin/mkdir"[..]), None),
            "a part tells lies"
        );
        assert_eq!(FailureReport::read(&bytes[..bytes.len() - 8], &Clocks::now()), None);
    }

    /// Starts a program without `CAP_CHOWN` in its bounding set.
    fn start_without_chown(command: &mut Command) -> std::io::Result<Child> {
        // SAFETY: it makes one call.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_CAPBSET_DROP, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        command.spawn()
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
        assert!(
            !is_required && error.verifier_log().is_none(),
            "{error}: {}",
            error.verifier_log().unwrap_or_default()
        );
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
}
