//! What a unit's policy says about one call, and which directives say so.

use super::call_list::Word;
use super::directive::Directive;
use super::effect::Effect;
use super::unit_file::Origin;
use std::fmt;
use std::sync::Arc;

/// What the policy says about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It passes, and no record is written. A record of it is then somebody else's doing.
    Permitted,
    /// It passes and is logged.
    LogOnly {
        /// The word of `SystemCallLog=` that says so.
        by: DirectiveCause,
    },
    /// It depends on the arguments, which no record tells.
    Possible {
        /// What denies it for some arguments.
        by: Vec<DirectiveCause>,
    },
    /// It is denied whatever its arguments.
    Denied {
        /// The strongest action; of several errors the one installed last.
        effect: Effect,
        /// Everything that denies it, the one that decides first: each must be lifted for the call to pass.
        by: Vec<DirectiveCause>,
        /// What would then still deny it for some arguments.
        possible: Vec<DirectiveCause>,
    },
}

/// One directive's part in a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectiveCause {
    /// Which directive.
    pub directive: Directive,
    /// The line that made it so; `None` if the manager told it, or nothing did.
    pub origin: Option<Origin>,
    /// What it does to the call; `None` if it only logs it.
    pub effect: Option<Effect>,
    /// Why.
    pub why: CauseReason,
}

/// Why a directive concerns a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CauseReason {
    /// An allow-list does not contain it; the word began the list.
    NotAllowed(Arc<Word>),
    /// The word took it off an allow-list.
    TakenOff(Arc<Word>),
    /// The word put it on a deny-list, or denied it on an allow-list.
    Listed(Arc<Word>),
    /// systemd does not know it, and the allow-list answers such calls with ENOSYS.
    UnknownToSystemd,
    /// The word lists it, but systemd's libseccomp does not know it: no line of the unit can allow it.
    UnknownToLibseccomp(Arc<Word>),
    /// Its ABI is not among those listed.
    Abi,
    /// Its ABI is not among those that the manager lists for all that it starts: no line of the unit can allow it.
    ManagersAbi,
    /// The directive denies it, for this reason.
    Always(&'static str),
    /// The directive denies it with these arguments, for this reason.
    Argument {
        /// Which.
        which: String,
        /// Why.
        reason: &'static str,
    },
}

impl fmt::Display for CauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed(_) => f.write_str("the allow-list does not contain it"),
            Self::TakenOff(word) => write!(f, "{} takes it off the allow-list", word.text),
            Self::Listed(word) => write!(f, "{} lists it", word.text),
            Self::UnknownToSystemd => {
                f.write_str("this systemd does not know it, and its allow-lists refuse such calls")
            }
            Self::UnknownToLibseccomp(word) => {
                write!(f, "{} lists it, but the libseccomp of this systemd does not know it", word.text)
            }
            Self::Abi => f.write_str("its architecture is not listed"),
            Self::ManagersAbi => f.write_str("its architecture is not listed, for all units of the manager"),
            Self::Always(reason) => f.write_str(reason),
            Self::Argument { which, .. } => write!(f, "depends on the arguments: {which}"),
        }
    }
}
