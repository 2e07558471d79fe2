//! What a unit's `SystemCallFilter=` lines come to (`systemd.exec(5)`).

use super::call_list::{CallList, CallListEntry, Dialect, Mode, Word};
use super::directive::Directive;
use super::effect::{DefaultEffect, Effect};
use super::manager_context::systemd_version;
use super::unit_file::{Assignment, FileNote};
use crate::syscalls::{Abi, CallNames, Groups};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The first systemd in which an allow-list answers calls its build does not know with ENOSYS,
/// rather than with the filter's own action (`override_default_action`, `seccomp-util.c`).
const ENOSYS_FOR_UNKNOWN_SINCE: u32 = 255;

/// Two calls of PowerPC alone. Elsewhere libseccomp has one pseudo number for both, so that a manager
/// tells the one where a file lists the other (seen with 2.5.4).
const SHARED_NUMBER: [&str; 2] = ["switch_endian", "sys_debug_setcontext"];

/// A filter in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyscallFilter {
    list: CallList,
    default: DefaultEffect,
    /// Where an allow-list answers some calls with ENOSYS.
    known: Option<KnownCalls>,
    /// Listed in the files, but not in force.
    unresolved: BTreeMap<Box<str>, Arc<Word>>,
}

/// The calls that an allow-list since 255 refuses as it refuses by default; what else is not listed gets ENOSYS.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KnownCalls {
    /// Those that `@known` lists itself and that have a number in the native ABI (seen with 257: calls of
    /// `@obsolete`, and those of another ABI alone, are not among them).
    refused: Arc<CallNames>,
    /// Every call that a line can name.
    named: Arc<CallNames>,
}

/// Why a call passes a filter or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The word put it on the list.
    Listed,
    /// No word did; the word is the line that began the list.
    NotListed,
    /// The word took it off the list again.
    Removed,
    /// systemd's build does not know the call, and an allow-list answers those with ENOSYS.
    Unknown,
    /// The word lists it, but systemd's libseccomp does not know the call, so no filter does.
    Unresolved,
}

/// What a filter does with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Ruling {
    /// `None` if the call passes.
    pub denied: Option<Effect>,
    /// Why.
    pub reason: Reason,
    /// The word that decided.
    pub word: Arc<Word>,
}

impl SyscallFilter {
    /// What the lines come to, in merge order; `None` if they leave no filter. Lines other than
    /// `SystemCallFilter=` and `SystemCallErrorNumber=` are skipped.
    #[must_use]
    pub fn simulate<'a>(lines: impl IntoIterator<Item = &'a Assignment>, groups: &Groups) -> Option<Self> {
        Self::resume(None, DefaultEffect::default(), lines, groups)
    }

    /// The filter after further lines, e.g. those of a drop-in that comes last.
    #[must_use]
    pub fn with<'a>(&self, lines: impl IntoIterator<Item = &'a Assignment>, groups: &Groups) -> Option<Self> {
        let mut filter = Self::resume(Some(self.list.clone()), self.default.clone(), lines, groups)?;
        filter.inherit(self);
        Some(filter)
    }

    /// Leaves out what another filter of the same machine showed libseccomp not to know.
    pub(crate) fn inherit(&mut self, other: &Self) {
        self.leave_out(|call, _| other.unresolved.contains_key(call));
    }

    fn resume<'a>(
        mut list: Option<CallList>,
        mut default: DefaultEffect,
        lines: impl IntoIterator<Item = &'a Assignment>,
        groups: &Groups,
    ) -> Option<Self> {
        let of_filter = lines.into_iter().filter(|line| match Directive::from_key(&line.key) {
            Some(Directive::SystemCallErrorNumber) => {
                default.apply(line);
                false
            }
            directive => directive == Some(Directive::SystemCallFilter),
        });
        CallList::apply(&mut list, of_filter, Dialect::Filter, groups);
        let mut filter = Self { list: list?, default, known: known(groups), unresolved: BTreeMap::new() };
        filter.leave_out(|call, _| !groups.is_resolvable(call));
        Some(filter)
    }

    /// The filter a manager says is in force, from the D-Bus properties `SystemCallFilter (bas)` and
    /// `SystemCallErrorNumber (i)`. `None` if there is none.
    ///
    /// The manager leaves out what `~call:ERRNO` lines keep in an allow-list, so those calls appear
    /// denied with the default effect.
    #[must_use]
    pub fn from_manager(allow_list: bool, entries: &[String], errno: i32, groups: &Groups) -> Option<Self> {
        if !allow_list && entries.is_empty() {
            return None;
        }
        let mode = if allow_list { Mode::Allow } else { Mode::Deny };
        let told = Word { text: "as systemd holds it".into(), origin: None, implied: false };
        let mut list = CallList::new(mode, told);
        let word = Arc::clone(&list.opened);
        for entry in entries {
            let (name, effect) = match entry.split_once(':') {
                Some((name, effect)) => (name, Effect::parse(effect)),
                None => (entry.as_str(), None),
            };
            if !groups.is_known(name) {
                let text = format!("{} is in force, but in no group of this systemd", super::unit_file::shown(name));
                list.notes.push(FileNote { origin: None, text });
            }
            list.entries.insert(name.into(), CallListEntry { effect, word: Arc::clone(&word) });
        }
        let effect = if (1..=super::errno::MAX).contains(&errno) { Effect::Errno(errno) } else { Effect::Kill };
        let default = DefaultEffect { effect, origin: None };
        Some(Self { list, default, known: known(groups), unresolved: BTreeMap::new() })
    }

    /// This filter, simulated from files, with what the manager holds where it holds less: calls that
    /// its libseccomp does not know, though its groups list them. Keeps the words that decided.
    ///
    /// `None` if the two differ in any other way: the files changed since they were loaded, or they
    /// are not all of them. Only meaningful where the manager says no reload is needed.
    #[must_use]
    pub fn reconciled(&self, held: &Self) -> Option<Self> {
        let (ours, theirs) = (&self.list.entries, &held.list.entries);
        let same = self.mode() == held.mode() && self.default.effect == held.default.effect;
        let alike = theirs
            .iter()
            .filter(|(call, _)| !SHARED_NUMBER.contains(&&***call))
            .all(|(call, entry)| ours.get(call).is_some_and(|own| own.effect == entry.effect));
        if !same || !alike {
            return None;
        }
        let mut filter = self.clone();
        // Of an allow-list the manager does not tell the entries with an effect.
        let told = |entry: &CallListEntry| self.mode() == Mode::Deny || entry.effect.is_none();
        filter.leave_out(|call, entry| told(entry) && !theirs.contains_key(call));
        Some(filter)
    }

    /// Takes calls off the list that libseccomp does not know.
    fn leave_out(&mut self, unresolved: impl Fn(&str, &CallListEntry) -> bool) {
        self.list.entries.retain(|call, entry| {
            let gone = unresolved(call, entry);
            if gone {
                self.unresolved.insert(call.clone(), Arc::clone(&entry.word));
            }
            !gone
        });
    }

    /// Whether it is an allow-list or a deny-list.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.list.mode
    }

    /// What happens to a denied call that has no effect of its own.
    #[must_use]
    pub fn default_effect(&self) -> &DefaultEffect {
        &self.default
    }

    /// The list itself: in an allow-list what passes (but for entries with an effect of their own),
    /// in a deny-list what does not.
    #[must_use]
    pub fn effective(&self) -> &BTreeMap<Box<str>, CallListEntry> {
        &self.list.entries
    }

    /// What systemd ignored.
    #[must_use]
    pub fn notes(&self) -> &[FileNote] {
        &self.list.notes
    }

    /// Whether it answers any call with an error rather than death.
    #[must_use]
    pub fn refuses(&self) -> bool {
        let is_errno = |effect: Effect| matches!(effect, Effect::Errno(_));
        let mut listed = self.list.entries.values().map(|entry| entry.effect);
        let by_default = is_errno(self.default.effect);
        match self.mode() {
            Mode::Allow => by_default || listed.any(|effect| effect.is_some_and(is_errno)),
            Mode::Deny => listed.any(|effect| effect.map_or(by_default, is_errno)),
        }
    }

    /// Whether a call passes.
    #[must_use]
    pub fn permits(&self, call: &str) -> bool {
        self.ruling(call).denied.is_none()
    }

    /// What happens to a call, and which word decided it.
    pub fn ruling(&self, call: &str) -> Ruling {
        let default = self.default.effect;
        let list = &self.list;
        if let Some(entry) = list.entries.get(call) {
            let denied = match (list.mode, entry.effect) {
                (_, Some(effect)) => Some(effect),
                (Mode::Allow, None) => None,
                (Mode::Deny, None) => Some(default),
            };
            return Ruling { denied, reason: Reason::Listed, word: Arc::clone(&entry.word) };
        }
        let enosys = |known: &KnownCalls| !known.refused.contains(call);
        let effect = if self.known.as_ref().is_some_and(enosys) { Effect::Errno(libc::ENOSYS) } else { default };
        let denied = (list.mode == Mode::Allow).then_some(effect);
        if let Some(word) = self.unresolved.get(call) {
            let denied = denied.map(|effect| if self.known.is_some() { Effect::Errno(libc::ENOSYS) } else { effect });
            return Ruling { denied, reason: Reason::Unresolved, word: Arc::clone(word) };
        }
        let nameless = |known: &KnownCalls| !known.named.contains(call);
        let (reason, word) = match list.removed.get(call) {
            Some(word) => (Reason::Removed, word),
            None if denied.is_some() && self.known.as_ref().is_some_and(nameless) => (Reason::Unknown, &list.opened),
            None => (Reason::NotListed, &list.opened),
        };
        Ruling { denied, reason, word: Arc::clone(word) }
    }
}

/// The calls systemd's build knows, if it treats the others differently.
fn known(groups: &Groups) -> Option<KnownCalls> {
    let treats = systemd_version(groups).is_some_and(|systemd| systemd >= ENOSYS_FOR_UNKNOWN_SINCE);
    let named = groups.calls("@known").filter(|_| treats)?;
    let refused = groups.own_calls("@known").filter(|call| Abi::native().call_number(call).is_some());
    Some(KnownCalls { refused: Arc::new(refused.map(Into::into).collect()), named: Arc::new(named.clone()) })
}

#[cfg(test)]
mod tests;
