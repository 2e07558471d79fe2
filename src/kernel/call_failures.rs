//! Calls that fail because their process lacks a capability, or because its mount of a writable file system is read-only: the
//! kernel reports them as they happen, of all processes, and writes no record of them.
//!
//! BPF programs at the end of the kernel's own checks see what a call lacks. [`final_checks`] lists the calls that then fail, and
//! those at whose result another program looks. Unlike a tap, this leaves the kernel's path into calls alone, so it can last. It
//! sees only calls of the machine's own ABI.
//!
//! The kernel counts what fails again, and reports it once until [`CallFailures::take_count`] is called for it. Each owner, a service or
//! the slice of a user, has a limit for new reports in ten seconds, so that one owner's noise costs no other its reports.
//!
//! Requires what the [exit notes](super::exit_cgroups) require, and programs at the end of kernel functions (fexit): Linux 5.15,
//! on 64-bit ARM 6.4, unless the kernel is built without.

mod final_checks;

use self::final_checks::{CheckRule, check_rule, deciding_functions};
use super::bpf::{BpfError, BpfLink, BpfLoader, BpfObject, KernelFunctions};
use super::call_notes::{halves, join_path};
use super::call_rules::{CallRule, call_rules};
use super::clock::Clocks;
use super::exit_cgroups::cgroup_names::LEVELS;
use super::failed_call::{FAILURE_WORDS, FailedCall, FailureCount, FailureKey};
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

/// Attaches the programs: those that look at results first, so that nothing is noted for a call at whose result no program looks.
fn attach(programs: &mut BpfObject, functions: &KernelFunctions) -> Result<(), BpfError> {
    let mut deciding = Vec::new();
    for (name, function) in deciding_functions(FUNCTION_PREFIX) {
        if attach_if_present(programs, &format!("at_end_{name}"), &function, functions)? {
            deciding.push(name);
        }
    }
    let mut rules: Array<MapData, CallRule> = programs.take_map("rules")?;
    let mut checks: Array<MapData, CheckRule> = programs.take_map("checks")?;
    let known: collections::HashMap<u32, CallRule> = call_rules(Abi::native()).collect();
    for (number, name) in Abi::native().calls() {
        if let Some(check) = check_rule(name, &deciding) {
            checks.set(number, check, 0)?;
            rules.set(number, known.get(&number).copied().unwrap_or_default(), 0)?;
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
mod tests;
