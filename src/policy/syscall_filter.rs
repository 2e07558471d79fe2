//! The effective `SystemCallFilter=` of a unit (`systemd.exec(5)`).

use super::call_list::{CallList, CallListEntry, Dialect, Mode, Word};
use super::directive::Directive;
use super::effect::{DefaultEffect, Effect};
use super::manager_context::{systemd_release, systemd_version};
use super::unit_file::{Assignment, FileNote};
use crate::audit::text::escape_excerpt;
use crate::syscalls::{CallNames, Groups};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The first systemd whose allow-lists answer calls unknown to its build with ENOSYS (`override_default_action`,
/// `seccomp-util.c`). Older ones answer them with the filter's own action.
const ENOSYS_FOR_UNKNOWN_SINCE: u32 = 255;

/// The call by which systemd reports the time of `execve(2)` to the manager, after it installed the filters, and the first
/// systemd that therefore permits it in every list (`apply_syscall_filter`, `exec-invoke.c`). systemd 256 and 256.1 sent
/// the time by `sendto`, and permitted nothing for it.
const HANDOFF: &str = "write";
const HANDOFF_SINCE: (u32, u32) = (256, 2);

/// Two calls that only PowerPC has. Elsewhere libseccomp has one pseudo number for both, so a manager reports one call
/// if a file lists the other (seen with 2.5.4).
const SHARED_NUMBER: [&str; 2] = ["switch_endian", "sys_debug_setcontext"];

/// A unit's filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyscallFilter {
    list: CallList,
    default: DefaultEffect,
    /// Set if this systemd's allow-lists answer some calls with ENOSYS.
    known: Option<KnownCalls>,
    /// Calls that the files list but that libseccomp does not know, so the filter has no rule for them.
    unresolved: BTreeMap<Box<str>, Arc<Word>>,
}

/// The calls that systemd's build knows. Since systemd 255, an allow-list denies the unlisted calls of `refused` with
/// its default effect, and all other unlisted calls with ENOSYS.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KnownCalls {
    /// Calls that `@known` itself lists and that have a number in the native ABI. Calls of `@obsolete` and calls of
    /// other ABIs are not among them (seen with 257).
    refused: Arc<CallNames>,
    /// Every call that a line can name.
    named: Arc<CallNames>,
}

/// Why a call passes a filter, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The word lists the call.
    Listed,
    /// No word lists the call. The ruling's word is the first line of the list.
    NotListed,
    /// The word removed the call from the list.
    Removed,
    /// systemd's build does not know the call, and an allow-list answers such calls with ENOSYS.
    Unknown,
    /// The word lists the call, but systemd or its libseccomp does not know it, so the filter has no rule for it.
    Unresolved,
}

/// What a filter does with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Ruling {
    /// The effect on the call; `None` if it passes.
    pub denied: Option<Effect>,
    /// Why the call passes or not.
    pub reason: Reason,
    /// The word that decided.
    pub word: Arc<Word>,
}

impl SyscallFilter {
    /// Returns the filter that results from lines in merge order; `None` if there is none. Lines other than
    /// `SystemCallFilter=` and `SystemCallErrorNumber=` are skipped.
    #[must_use]
    pub fn simulate<'a>(lines: impl IntoIterator<Item = &'a Assignment>, groups: &Groups) -> Option<Self> {
        Self::resume(None, DefaultEffect::default(), lines, groups)
    }

    /// The filter after further lines, for example those of the last drop-in.
    #[must_use]
    pub fn with_lines<'a>(&self, lines: impl IntoIterator<Item = &'a Assignment>, groups: &Groups) -> Option<Self> {
        let mut filter = Self::resume(Some(self.list.clone()), self.default.clone(), lines, groups)?;
        filter.remove_unresolved_in(self);
        Some(filter)
    }

    /// Removes the calls that libseccomp does not know according to another filter of the same machine.
    pub(crate) fn remove_unresolved_in(&mut self, other: &Self) {
        self.remove_unresolved(|call, _| other.unresolved.contains_key(call));
    }

    fn resume<'a>(
        mut list: Option<CallList>,
        mut default: DefaultEffect,
        lines: impl IntoIterator<Item = &'a Assignment>,
        groups: &Groups,
    ) -> Option<Self> {
        let filter_lines = lines.into_iter().filter(|line| match Directive::from_key(&line.key) {
            Some(Directive::SystemCallErrorNumber) => {
                default.apply(line);
                false
            }
            directive => directive == Some(Directive::SystemCallFilter),
        });
        CallList::apply(&mut list, filter_lines, Dialect::Filter, groups);
        let mut list = list?;
        permit_handoff(&mut list, groups);
        let mut filter = Self { list, default, known: known_calls(groups), unresolved: BTreeMap::new() };
        filter.remove_unresolved(|call, _| !groups.is_resolvable(call));
        Some(filter)
    }

    /// The filter that a manager reports in the D-Bus properties `SystemCallFilter (bas)` and
    /// `SystemCallErrorNumber (i)`; `None` if there is none.
    ///
    /// The manager omits the `~call:ERRNO` entries of an allow-list, so those calls appear denied with the default
    /// effect.
    #[must_use]
    pub fn from_manager(allow_list: bool, entries: &[String], errno: i32, groups: &Groups) -> Option<Self> {
        if !allow_list && entries.is_empty() {
            return None;
        }
        let mode = if allow_list { Mode::Allow } else { Mode::Deny };
        let word = Word { text: "as systemd holds it".into(), origin: None, implied: false };
        let mut list = CallList::new(mode, word);
        let word = Arc::clone(&list.first_line);
        for entry in entries {
            let (name, effect) = match entry.split_once(':') {
                Some((name, effect)) => (name, Effect::parse(effect)),
                None => (entry.as_str(), None),
            };
            if !groups.is_known(name) {
                let text = format!("{} is in force, but in no group of this systemd", escape_excerpt(name));
                list.notes.push(FileNote::without_line(text));
            }
            list.entries.insert(name.into(), CallListEntry { effect, word: Arc::clone(&word) });
        }
        permit_handoff(&mut list, groups);
        let effect = if (1..=super::errno::MAX).contains(&errno) { Effect::Errno(errno) } else { Effect::Kill };
        let default = DefaultEffect { effect, origin: None };
        Some(Self { list, default, known: known_calls(groups), unresolved: BTreeMap::new() })
    }

    /// This filter, simulated from files, without the calls that the manager's filter lacks. systemd's groups list
    /// these calls, but its libseccomp does not know them. The result keeps the deciding words.
    ///
    /// Returns `None` if the two differ in any other way: the files changed after they were loaded, or some files are
    /// missing here. The result only counts if the manager reports that no reload is needed.
    #[must_use]
    pub fn reconciled(&self, held: &Self) -> Option<Self> {
        let (ours, theirs) = (&self.list.entries, &held.list.entries);
        let same = self.mode() == held.mode() && self.default.effect == held.default.effect;
        let is_subset = theirs
            .iter()
            .filter(|(call, _)| !SHARED_NUMBER.contains(&&***call))
            .all(|(call, entry)| ours.get(call).is_some_and(|own| own.effect == entry.effect));
        if !same || !is_subset {
            return None;
        }
        let mut filter = self.clone();
        // The manager omits the entries of an allow-list that have an effect.
        let is_reported = |entry: &CallListEntry| self.mode() == Mode::Deny || entry.effect.is_none();
        filter.remove_unresolved(|call, entry| is_reported(entry) && !theirs.contains_key(call));
        Some(filter)
    }

    /// Moves calls that libseccomp does not know from the list to the unresolved ones.
    fn remove_unresolved(&mut self, is_unresolved: impl Fn(&str, &CallListEntry) -> bool) {
        self.list.entries.retain(|call, entry| {
            let remove = is_unresolved(call, entry);
            if remove {
                self.unresolved.insert(call.clone(), Arc::clone(&entry.word));
            }
            !remove
        });
    }

    /// Whether the filter is an allow-list or a deny-list.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.list.mode
    }

    /// The first line since the last reset, which sets the mode.
    #[must_use]
    pub(crate) fn first_line(&self) -> Arc<Word> {
        Arc::clone(&self.list.first_line)
    }

    /// The effect on a denied call that has no effect of its own.
    #[must_use]
    pub fn default_effect(&self) -> &DefaultEffect {
        &self.default
    }

    /// The entries of the list. Entries of an allow-list pass, unless they have an effect of their own. Entries of a
    /// deny-list do not pass.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<Box<str>, CallListEntry> {
        &self.list.entries
    }

    /// The notes about words that systemd ignores.
    #[must_use]
    pub fn notes(&self) -> &[FileNote] {
        &self.list.notes
    }

    /// Whether the filter answers any call with an error rather than a kill.
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
        match self.list.entries.get(call) {
            Some(entry) => self.mode() == Mode::Allow && entry.effect.is_none(),
            None => self.mode() == Mode::Deny,
        }
    }

    /// Returns what happens to a call, and the word that decides it.
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
        let gets_enosys = |known: &KnownCalls| !known.refused.contains(call);
        let effect = if self.known.as_ref().is_some_and(gets_enosys) { Effect::Errno(libc::ENOSYS) } else { default };
        let denied = (list.mode == Mode::Allow).then_some(effect);
        if let Some(word) = self.unresolved.get(call).or_else(|| list.ignored.get(call)) {
            let denied = denied.map(|effect| if self.known.is_some() { Effect::Errno(libc::ENOSYS) } else { effect });
            return Ruling { denied, reason: Reason::Unresolved, word: Arc::clone(word) };
        }
        let is_nameless = |known: &KnownCalls| !known.named.contains(call);
        let (reason, word) = match list.removed.get(call) {
            Some(word) => (Reason::Removed, word),
            None if denied.is_some() && self.known.as_ref().is_some_and(is_nameless) => {
                (Reason::Unknown, &list.first_line)
            }
            None => (Reason::NotListed, &list.first_line),
        };
        Ruling { denied, reason, word: Arc::clone(word) }
    }
}

/// Permits the call that systemd itself needs. A unit that gives it an error of its own does not start (exit status 228),
/// as systemd cannot add it to the list, so this entry stays.
fn permit_handoff(list: &mut CallList, groups: &Groups) {
    if systemd_release(groups).is_none_or(|systemd| systemd < HANDOFF_SINCE) {
        return;
    }
    match list.mode {
        Mode::Allow => {
            let word = || Arc::new(Word { text: HANDOFF.into(), origin: None, implied: true });
            list.entries.entry(HANDOFF.into()).or_insert_with(|| CallListEntry { effect: None, word: word() });
        }
        Mode::Deny => _ = list.entries.remove(HANDOFF),
    }
}

/// Returns the calls that systemd's build knows, if its allow-lists treat unknown calls differently.
fn known_calls(groups: &Groups) -> Option<KnownCalls> {
    let has_enosys = systemd_version(groups).is_some_and(|systemd| systemd >= ENOSYS_FOR_UNKNOWN_SINCE);
    let named = groups.calls("@known").filter(|_| has_enosys)?;
    let refused = groups.own_calls("@known").filter(|call| groups.native().call_number(call).is_some());
    Some(KnownCalls { refused: Arc::new(refused.map(Into::into).collect()), named: Arc::new(named.clone()) })
}

#[cfg(test)]
mod tests;
