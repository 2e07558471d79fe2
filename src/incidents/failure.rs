//! How a unit failed, as its manager and its programs tell it where the kernel recorded nothing.
//!
//! These are facts of a log: any program that can write to the log can forge them.

use super::access::AccessPath;
use super::refused_argument::KnownArgument;
use core::net::SocketAddr;

/// The most steps and the most attempts that are kept of one unit.
const MOST_KEPT: usize = 16;

/// A unit that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFailure {
    /// The exit status of its process, if it exited.
    pub status: Option<u8>,
    /// The manager's word for the result, such as `exit-code`.
    pub result: Option<Box<str>>,
    /// What systemd itself could not do before it executed the program, in order.
    pub steps: Vec<FailedStep>,
    /// What the unit's programs could not do, in order.
    pub attempts: Vec<FailedAttempt>,
    /// What they could not do in earlier runs, in order.
    pub earlier: Vec<FailedAttempt>,
}

/// A step of systemd's that failed before it executed a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStep {
    /// What failed, in systemd's words: the name of a step, such as `NAMESPACE`, or what it tried to do.
    pub tried: Box<str>,
    /// The path that systemd names.
    pub path: Option<AccessPath>,
    /// The error; `None` if its text is not known here.
    pub errno: Option<i32>,
}

/// What a program could not do, as its message or a record of the failed call tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailedAttempt {
    /// The error.
    pub errno: i32,
    /// The system call.
    pub call: Option<&'static str>,
    /// The argument by which filters judge the call.
    pub argument: KnownArgument,
    /// Whether it was about to make a directory.
    pub makes_directory: bool,
    /// The paths; several if the call has several.
    pub paths: Vec<AccessPath>,
    /// The address, and what the program did with it.
    pub address: Option<(SocketAddr, AddressRole)>,
    /// The socket address family, by number.
    pub family: Option<u16>,
    /// The message, or the record in words. Escape it before display.
    pub text: Box<str>,
}

impl FailedAttempt {
    /// Whether nothing but the error is known.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.paths.is_empty()
            && self.call.is_none()
            && self.address.is_none()
            && self.family.is_none()
            && self.argument == KnownArgument::Unknown
    }
}

/// What a program did with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRole {
    /// It bound a socket to the address.
    Bound,
    /// It sent to the address.
    Reached,
    /// The message does not tell.
    Unknown,
}

impl UnitFailure {
    /// Adds a step, unless it is known. Of too many, the latest stay.
    pub fn add_step(&mut self, step: FailedStep) {
        push_latest(&mut self.steps, step);
    }

    /// Adds an attempt, unless it is known. Of too many, the latest stay.
    pub fn add_attempt(&mut self, attempt: FailedAttempt) {
        push_latest(&mut self.attempts, attempt);
    }

    /// Adds an attempt of an earlier run, unless it is known. Of too many, the latest stay.
    pub fn add_earlier(&mut self, attempt: FailedAttempt) {
        push_latest(&mut self.earlier, attempt);
    }
}

/// Appends an item that is not among the latest ones.
fn push_latest<T: PartialEq>(items: &mut Vec<T>, item: T) {
    if items.contains(&item) {
        return;
    }
    if items.len() >= MOST_KEPT {
        items.remove(0);
    }
    items.push(item);
}
