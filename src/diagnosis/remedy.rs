//! A remedy: a drop-in that was tried on the unit's policy in memory, and solves every denial there.

use std::borrow::Cow;
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
    /// Why it is never the default; `None` if it can be.
    pub reservation: Option<Reservation>,
    /// What it adds to the present drop-in: the words of the lines that allow calls, and other lines. Empty if there is
    /// no drop-in yet.
    pub added: Vec<Box<str>>,
    /// Denied calls that pass only with some arguments: nothing proves that the remedy helps these calls.
    pub conditional: Vec<Box<str>>,
    /// The denied calls that it is for.
    pub solves: Vec<Box<str>>,
    /// Denied calls that fail with an error under it.
    pub failing: Vec<Box<str>>,
    /// Newly allowed calls of `io_uring`: no filter sees what a program does through these.
    pub unfiltered_io: Vec<Box<str>>,
    /// Newly allowed calls, the denied ones included, that administer the machine or weaken the isolation of
    /// programs: `(group, call)`, as in [`privileged_calls::GROUPS`](super::privileged_calls::GROUPS).
    pub sensitive: Vec<(Box<str>, Box<str>)>,
}

impl Remedy {
    /// Returns the remedy with another reservation.
    #[must_use]
    pub(super) fn with_reservation(self, reservation: Reservation) -> Self {
        Self { reservation: Some(reservation), ..self }
    }

    /// Whether two remedies for the same denials change the same.
    #[must_use]
    pub(super) fn has_same_effect(&self, other: &Self) -> bool {
        let effect = |remedy: &Self| (remedy.opens.clone(), remedy.conditional.clone(), remedy.kind.keeps_denying());
        effect(self) == effect(other)
    }
}

/// Why a remedy is never the default, although it would let the denied calls pass: a person has to choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reservation {
    /// Only systemd made the call in a rehearsal, before it executed the program, and mostly succeeds without it.
    BeforeExec,
    /// The denied call fails as on a kernel without it, and most callers then make an older call. Only a caller that
    /// does not needs the remedy.
    HasFallback,
    /// The unit's settings hide a file that a library looks for, and does without.
    LibraryProbe,
    /// A directive looks at an argument that no record holds, so the remedy guesses the argument's value.
    UnknownArgument,
    /// The remedy opens more than what was denied and its relatives.
    WiderThanDenied,
    /// The remedy lets the calls fail, which this program may not survive.
    KeepsDenying,
    /// The call is of an architecture that no executable of the unit has, as far as they were read.
    OtherArchitecture,
    /// A call that controls the machine was denied to a process that may not be the unit's own.
    PossibleIntrusion,
}

impl Reservation {
    /// Returns its word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeExec => "before-exec",
            Self::HasFallback => "has-fallback",
            Self::LibraryProbe => "library-probe",
            Self::UnknownArgument => "unknown-argument",
            Self::WiderThanDenied => "wider-than-denied",
            Self::KeepsDenying => "keeps-denying",
            Self::OtherArchitecture => "other-architecture",
            Self::PossibleIntrusion => "possible-intrusion",
        }
    }
}

/// A call that a remedy opens before any denial of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedCall {
    /// The call.
    pub call: Box<str>,
    /// Why the remedy opens it, in a word group or a sentence. It contains no control characters.
    pub reason: Cow<'static, str>,
}

impl RemedyKind {
    /// Whether the denied calls still fail, in place of a kill.
    #[must_use]
    pub(super) fn keeps_denying(&self) -> bool {
        matches!(self, Self::FailWithError | Self::FailAllWithError)
    }
}

/// How a remedy lets the denied calls pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemedyKind {
    /// It allows the denied calls alone.
    Calls,
    /// It also allows their [relatives](super::relatives).
    Relatives,
    /// It also allows the calls for which there is evidence about this program.
    Evidence,
    /// It allows whole groups that contain the denied calls.
    Groups(Vec<Box<str>>),
    /// It relaxes other directives; no `SystemCallFilter=` denies the calls.
    RelaxDirectives,
    /// It lets the calls fail with an error that programs handle, in place of killing the process.
    FailWithError,
    /// It lets every call that the filter denies fail with an error, since no line can name the denied call.
    FailAllWithError,
    /// It replaces the allow-list by a deny-list of all other calls, since no line can name the denied call.
    DenyList,
}
