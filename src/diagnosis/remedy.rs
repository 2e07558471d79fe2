//! A remedy: a drop-in that was put into the unit's policy in memory and lets every denied call pass there.

/// A drop-in that was proven on the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// What it does.
    pub kind: Kind,
    /// Its lines below the section header: those that our drop-in has already, and what is new.
    pub lines: Vec<String>,
    /// The whole file.
    pub content: String,
    /// The calls it opens beyond the denied ones.
    pub opens: Vec<Box<str>>,
    /// Why it opens them, where there is a reason for each.
    pub because: Vec<Because>,
    /// Denied calls that it lets pass only with some arguments: that it helps is not proven.
    pub conditional: Vec<Box<str>>,
    /// Calls among those it newly allows, the denied ones included, that administer the machine or get
    /// around what keeps programs apart: `(group, call)`, as in [`privileged_calls::GROUPS`].
    pub sensitive: Vec<(Box<str>, Box<str>)>,
}

/// Why a call is opened that was not denied yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Because {
    /// The call.
    pub call: Box<str>,
    /// Why.
    pub reason: &'static str,
}

/// What a remedy does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Allows the denied calls alone.
    Calls,
    /// And the calls that libc or the kernel may swap them for.
    Siblings,
    /// And the calls that programs which make those usually need as well, so that the unit does not fail
    /// of the next one at the next start.
    Companions,
    /// Allows whole groups that contain them.
    Groups(Vec<Box<str>>),
    /// Loosens other directives; no `SystemCallFilter=` stands in the way.
    Loosen,
    /// Lets the calls fail with an error that programs are prepared for, instead of killing.
    Soften,
}
