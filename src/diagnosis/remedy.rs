//! A remedy: a drop-in that was tried on the unit's policy in memory, and solves every denial there.

use std::path::PathBuf;

/// A drop-in that was proven on the unit's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// How it lets the denied calls pass.
    pub kind: RemedyKind,
    /// The lines below the section header: the drop-in's present lines and the new lines.
    pub lines: Vec<String>,
    /// The whole file.
    pub content: String,
    /// The path of the drop-in: that of the unit, or of the template of an instance.
    pub drop_in: PathBuf,
    /// The calls that it opens in addition to the denied ones.
    pub opens: Vec<Box<str>>,
    /// Why it opens these calls, if each has its own reason.
    pub reasons: Vec<OpenedCall>,
    /// Denied calls that pass only with some arguments: nothing proves that the remedy helps these calls.
    pub conditional: Vec<Box<str>>,
    /// Newly allowed calls, the denied ones included, that administer the machine or weaken the isolation of
    /// programs: `(group, call)`, as in [`privileged_calls::GROUPS`](super::privileged_calls::GROUPS).
    pub sensitive: Vec<(Box<str>, Box<str>)>,
}

/// A call that a remedy opens before any denial of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedCall {
    /// The call.
    pub call: Box<str>,
    /// Why the remedy opens it.
    pub reason: &'static str,
}

/// How a remedy lets the denied calls pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemedyKind {
    /// It allows the denied calls alone.
    Calls,
    /// It also allows the calls that libc or the kernel may use in their place.
    Equivalents,
    /// It also allows the calls that such programs usually need, so that the unit does not fail at the next call.
    Predicted,
    /// It allows whole groups that contain the denied calls.
    Groups(Vec<Box<str>>),
    /// It relaxes other directives; no `SystemCallFilter=` denies the calls.
    RelaxDirectives,
    /// It lets the calls fail with an error that programs handle, in place of killing the process.
    FailWithError,
}
