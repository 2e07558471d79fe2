//! A policy's verdict on one call, and the directives that cause it.

use super::call_list::Word;
use super::directive::Directive;
use super::effect::Effect;
use super::sandbox::withheld::Withheld;
use super::unit_file::Origin;
use std::fmt;
use std::sync::Arc;

/// What a policy does with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The call passes without a record. If there is a record, something other than the unit's policy caused it.
    Permitted,
    /// The call passes, and the kernel logs it.
    LogOnly {
        /// The word of `SystemCallLog=` that logs it.
        by: DirectiveCause,
    },
    /// The verdict depends on the call's arguments, which no record holds.
    Possible {
        /// The directives that deny some arguments.
        by: Vec<DirectiveCause>,
    },
    /// The call is denied whatever its arguments.
    Denied {
        /// The strongest action; of several errors, the error of the filter installed last.
        effect: Effect,
        /// Every directive that denies the call, the deciding one first. The call passes only once all are lifted.
        by: Vec<DirectiveCause>,
        /// The directives that would still deny some arguments.
        possible: Vec<DirectiveCause>,
    },
}

/// One directive's part in a verdict: the directive, its line, and what it does to the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectiveCause {
    /// The directive.
    pub directive: Directive,
    /// The line of the directive; `None` if the setting comes from the manager, or from no line.
    pub origin: Option<Origin>,
    /// What the directive does to the call; `None` if it only logs the call.
    pub effect: Option<Effect>,
    /// Why the directive concerns the call.
    pub why: CauseReason,
}

impl DirectiveCause {
    /// Returns the word of the line that decides; `None` if the line as a whole decides.
    #[must_use]
    pub fn deciding_word(&self) -> Option<&str> {
        if let CauseReason::Withheld(withheld) = &self.why {
            // Several words are the whole value.
            return Some(&*withheld.word).filter(|word| !word.is_empty() && !word.contains(' '));
        }
        let (CauseReason::TakenOff { word, .. }
        | CauseReason::Listed(word)
        | CauseReason::UnknownToLibseccomp(word)
        | CauseReason::AllowedByOtherSystemd(word)) = &self.why
        else {
            return None;
        };
        // No file has the word that systemd adds.
        (!word.implied).then(|| word.text.strip_prefix('~').unwrap_or(&word.text))
    }
}

/// Why a directive concerns a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CauseReason {
    /// An allow-list lacks the call. The word is the first line of the list.
    NotAllowed(Arc<Word>),
    /// The word removed the call from an allow-list.
    TakenOff {
        /// The word.
        word: Arc<Word>,
        /// The first line of the list.
        list: Arc<Word>,
    },
    /// The word added the call to a deny-list, denied it in an allow-list, or logs it.
    Listed(Arc<Word>),
    /// A list of exceptions from logging lacks the call.
    NotExempt,
    /// systemd does not know the call, and an allow-list answers such calls with ENOSYS.
    UnknownToSystemd,
    /// The word lists the call, but systemd's libseccomp does not know it. No line of the unit can allow the call.
    UnknownToLibseccomp(Arc<Word>),
    /// The word allows the call as far as is known here. The unit's own systemd may have other calls in the group, or
    /// its libseccomp may not know the call.
    AllowedByOtherSystemd(Arc<Word>),
    /// `SystemCallArchitectures=` lacks the ABI of the call.
    Abi,
    /// The manager's own `SystemCallArchitectures=` lacks the ABI. No line of the unit can allow the call.
    ManagersAbi,
    /// The directive denies the call, for this reason.
    Always(&'static str),
    /// The directive denies some arguments of the call.
    Argument {
        /// The denied arguments, in words.
        which: String,
        /// Why systemd denies them.
        reason: &'static str,
    },
    /// The directive withholds what the call asks for.
    Withheld(Withheld),
}

impl fmt::Display for CauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed(_) => f.write_str("the allow-list does not contain it"),
            Self::TakenOff { word, .. } => write!(f, "{} takes it off the allow-list", word.text),
            Self::Listed(word) => write!(f, "{} lists it", word.text),
            Self::NotExempt => f.write_str("it is not among the calls that are not logged"),
            Self::UnknownToSystemd => {
                f.write_str("this systemd does not know it, and its allow-lists refuse such calls")
            }
            Self::UnknownToLibseccomp(word) => {
                write!(f, "{} lists it, but systemd ignores that: its libseccomp does not know the call", word.text)
            }
            Self::AllowedByOtherSystemd(word) if word.text.starts_with('@') => {
                write!(f, "{} may lack it in that machine's systemd", word.text)
            }
            Self::AllowedByOtherSystemd(word) => {
                write!(f, "{} lists it, but that machine's libseccomp may not know the call", word.text)
            }
            Self::Abi => f.write_str("its architecture is not listed"),
            Self::ManagersAbi => f.write_str("its architecture is not listed, for all units of the manager"),
            Self::Always(reason) => f.write_str(reason),
            Self::Withheld(withheld) => withheld.fmt(f),
            Self::Argument { which, .. } => write!(f, "depends on the arguments: {which}"),
        }
    }
}
