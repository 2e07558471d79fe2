//! What a tap reports: refused calls, thread by thread.

use crate::incidents::CallSite;
use crate::syscalls::Arch;

/// Refusals of one call to one thread, since the last report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The index of the target among those of the tap.
    pub target: usize,
    /// The thread's process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The call's architecture.
    pub arch: Arch,
    /// The call's number.
    pub number: u32,
    /// The argument that filters decide by, as far as they look at it; `None` if the call has none, or if it is unknown.
    pub argument: Option<u32>,
    /// What the call returned.
    pub result: CallResult,
    /// Whether this may be the end of a permitted call that began before the tap.
    pub uncertain: bool,
    /// The number of refusals.
    pub count: u64,
    /// When the first was, in milliseconds since the epoch.
    pub first: i64,
    /// When the latest was, in milliseconds since the epoch.
    pub last: i64,
    /// The thread's name.
    pub comm: Vec<u8>,
    /// The thread's real uid, if known.
    pub uid: Option<u32>,
    /// The address of the latest call.
    pub ip: u64,
    /// Where in its code the process made the first of these calls, if the kernel noted it.
    pub site: Option<Box<CallSite>>,
}

/// What a program got from a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallResult {
    /// An error; 0 looks like success.
    Errno(i32),
    /// A value that is no error: from a supervisor, a tracer or a handler of SIGSYS, never from a filter of systemd's.
    Answered,
    /// Any value: the kernel executed the call, which a filter can deny by its argument.
    Entered,
}

/// What a tap had no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TapLosses {
    /// The number of refusals that were not counted.
    pub(crate) refusals: u64,
    /// The number of failures that were not counted.
    pub(crate) failures: u64,
    /// The number of returns of threads that were not followed, refused or not.
    pub(crate) threads: u64,
}
