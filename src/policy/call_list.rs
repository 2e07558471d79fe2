//! The list of calls in `SystemCallFilter=` or `SystemCallLog=`, built line by line.
//!
//! The code follows `config_parse_syscall_filter` and `seccomp_parse_syscall_filter` in systemd: the first line after a
//! reset sets the mode, and later lines add or remove calls.

use super::effect::Effect;
use super::unit_file::{Assignment, FileNote, LineFault, Origin};
use super::words::{Split, split};
use crate::audit::text::escape_excerpt;
use crate::syscalls::Groups;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The limit on simulated words (and lines) of one list; the largest real units have some hundred.
pub(crate) const MOST_LISTED: usize = 4096;

/// The limit on notes kept for one list.
const MOST_NOTES: usize = 200;

/// What the list does to the calls on it: `SystemCallFilter=` lets them pass or not, `SystemCallLog=` logs them or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The listed calls pass, or the kernel logs them.
    Allow,
    /// The listed calls do not pass, or the kernel logs all other calls.
    Deny,
}

/// The directive whose syntax the lines follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `SystemCallFilter=`: an allow-list starts with `@default`, and words take `:ERRNO`.
    Filter,
    /// `SystemCallLog=`: no `@default`, and no `:ERRNO`.
    Log,
}

/// A word of a list, or its whole first line. Answers quote the word to explain a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word without `:ERRNO`, after the `~` that its line begins with, if any. For a first line, the line's value.
    pub text: Box<str>,
    /// The line of the word; `None` if the word comes from the manager.
    pub origin: Option<Origin>,
    /// Whether systemd adds the word by itself (`@default`). The origin is then the first line of the allow-list.
    pub implied: bool,
}

/// A call that is on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallListEntry {
    /// The call's own effect (`~call:ERRNO`). An entry with an effect denies the call in either mode.
    pub effect: Option<Effect>,
    /// The last word that added the call.
    pub word: Arc<Word>,
}

/// The effective list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallList {
    pub(crate) mode: Mode,
    pub(crate) first_line: Arc<Word>,
    pub(crate) entries: BTreeMap<Box<str>, CallListEntry>,
    pub(crate) removed: BTreeMap<Box<str>, Arc<Word>>,
    /// Names that systemd ignores, since it does not know them, and that would be on the list otherwise.
    pub(crate) ignored: BTreeMap<Box<str>, Arc<Word>>,
    pub(crate) notes: Vec<FileNote>,
}

impl CallList {
    pub(crate) fn new(mode: Mode, first_line: Word) -> Self {
        Self {
            mode,
            first_line: Arc::new(first_line),
            entries: BTreeMap::new(),
            removed: BTreeMap::new(),
            ignored: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// Applies further lines to a list.
    pub(crate) fn apply<'a>(
        list: &mut Option<Self>,
        lines: impl IntoIterator<Item = &'a Assignment>,
        dialect: Dialect,
        groups: &Groups,
    ) {
        let mut left = MOST_LISTED;
        for line in lines {
            if line.value.is_empty() {
                *list = None;
            } else if left > 0 {
                Self::apply_line(list, line, dialect, groups, &mut left);
            }
        }
    }

    /// Applies one line. Reads at most `left` words of the line.
    fn apply_line(list: &mut Option<Self>, line: &Assignment, dialect: Dialect, groups: &Groups, left: &mut usize) {
        let (negated, value) = match line.value.strip_prefix('~') {
            Some(value) => (true, value),
            None => (false, &*line.value),
        };
        let origin = &line.origin;
        let list = list.get_or_insert_with(|| {
            let mode = if negated { Mode::Deny } else { Mode::Allow };
            let mut list = Self::new(
                mode,
                Word { text: escape_excerpt(&line.value).into(), origin: Some(origin.clone()), implied: false },
            );
            if dialect == Dialect::Filter && !negated {
                list.add("@default", false, None, origin, true, groups);
            }
            list
        });
        let words = split(value, Split::Plain, *left);
        *left = left.saturating_sub(words.words.len().max(1));
        if *left == 0 {
            list.note(
                origin,
                &line.value,
                "exceeds the limits of the simulation, which ignores a part of it and of \
                later lines",
            );
        } else if !words.complete {
            list.note(origin, &line.value, "has a syntax error, its rest is ignored");
        }
        // Only the last of several equal words in a line has an effect. Skipping the others saves time if a line
        // repeats a group.
        let mut seen = BTreeSet::new();
        let effective: Vec<&String> = words.words.iter().rev().filter(|word| seen.insert(word.as_str())).collect();
        for word in effective.into_iter().rev() {
            list.apply_word(word, negated, dialect, origin, groups);
        }
    }

    fn apply_word(&mut self, word: &str, negated: bool, dialect: Dialect, origin: &Origin, groups: &Groups) {
        let (name, effect) = match word.split_once(':') {
            Some((name, effect)) if dialect == Dialect::Filter => match Effect::parse(effect) {
                Some(effect) if !name.is_empty() => (name, Some(effect)),
                _ => return self.note(origin, word, "is not call:errno, ignored"),
            },
            _ => (word, None),
        };
        if effect.is_some() && !negated {
            return self.note(origin, word, "is ignored: only lines that begin with ~ take an error number");
        }
        self.add(name, negated, effect, origin, false, groups);
    }

    /// Adds or removes a call or group.
    fn add(
        &mut self,
        name: &str,
        negated: bool,
        effect: Option<Effect>,
        origin: &Origin,
        implied: bool,
        groups: &Groups,
    ) {
        let text = format!("{}{}", if negated { "~" } else { "" }, escape_excerpt(name));
        let word = Arc::new(Word { text: text.into(), origin: Some(origin.clone()), implied });
        if name.starts_with('@') {
            if let Some(calls) = groups.calls(name) {
                for call in calls {
                    self.set(call, negated, effect, &word);
                }
            } else {
                let what = with_meant("is no group this systemd knows, ignored", groups.nearest_group(name));
                self.note_fault(origin, name, &what, LineFault::UnknownGroup);
            }
        } else if groups.is_known(name) {
            self.set(name, negated, effect, &word);
        } else {
            let meant = groups.nearest_call(name);
            let fault = meant.map_or(LineFault::Other, |_| LineFault::MistypedCall);
            self.note_fault(origin, name, &with_meant("is no call this systemd knows, ignored", meant), fault);
            if negated == (self.mode == Mode::Deny) {
                self.ignored.insert(name.into(), word);
            } else {
                self.ignored.remove(name);
            }
        }
    }

    fn set(&mut self, call: &str, negated: bool, effect: Option<Effect>, word: &Arc<Word>) {
        if negated == (self.mode == Mode::Deny) || effect.is_some() {
            self.removed.remove(call);
            self.entries.insert(call.into(), CallListEntry { effect, word: Arc::clone(word) });
        } else if self.entries.remove(call).is_some() {
            self.removed.insert(call.into(), Arc::clone(word));
        }
    }

    fn note(&mut self, origin: &Origin, word: &str, what: &str) {
        self.note_fault(origin, word, what, LineFault::Other);
    }

    fn note_fault(&mut self, origin: &Origin, word: &str, what: &str, fault: LineFault) {
        if self.notes.len() < MOST_NOTES {
            let note = FileNote::at(origin, format!("{} {what}", escape_excerpt(word)));
            self.notes.push(FileNote { word: Some(word.into()), fault, ..note });
        }
    }
}

/// Adds the name that was probably meant.
fn with_meant(what: &str, meant: Option<&str>) -> String {
    meant.map_or_else(|| what.to_owned(), |meant| format!("{what}: did you mean {meant}?"))
}
