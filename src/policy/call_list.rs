//! The list behind `SystemCallFilter=` and `SystemCallLog=`, built up line by line.
//!
//! The algebra is that of `config_parse_syscall_filter` and `seccomp_parse_syscall_filter` in
//! systemd: the first line since the last reset sets the mode, later ones add or take away.

use super::effect::Effect;
use super::unit_file::{Assignment, FileNote, Origin, shown};
use super::words::{Split, split};
use crate::syscalls::Groups;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// More words (or lines) than this in one unit's lists are not simulated; the largest real units have
/// some hundred.
pub const MOST_WORDS: usize = 4096;

/// Notes beyond these are dropped.
const MOST_NOTES: usize = 200;

/// What being on the list means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What is listed passes.
    Allow,
    /// What is listed does not.
    Deny,
}

/// Which directive's dialect a line is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// An allow-list starts with `@default`, and words take `:ERRNO`.
    Filter,
    /// Neither.
    Log,
}

/// A word of a list, as evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// As written, with the `~` its line began with.
    pub text: Box<str>,
    /// Where; `None` if the manager told it.
    pub origin: Option<Origin>,
    /// systemd's own addition: `@default`, for which the origin is the line that began the allow-list.
    pub implied: bool,
}

/// A call that is on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallListEntry {
    /// An effect of its own (`~call:ERRNO`): such a call is denied in either mode.
    pub effect: Option<Effect>,
    /// The word that put it there last.
    pub word: Arc<Word>,
}

/// A list in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallList {
    pub(crate) mode: Mode,
    pub(crate) opened: Arc<Word>,
    pub(crate) entries: BTreeMap<Box<str>, CallListEntry>,
    pub(crate) removed: BTreeMap<Box<str>, Arc<Word>>,
    pub(crate) notes: Vec<FileNote>,
}

impl CallList {
    pub(crate) fn new(mode: Mode, opened: Word) -> Self {
        Self { mode, opened: Arc::new(opened), entries: BTreeMap::new(), removed: BTreeMap::new(), notes: Vec::new() }
    }

    /// Applies lines to what the lines before them made.
    pub(crate) fn apply<'a>(
        list: &mut Option<Self>,
        lines: impl IntoIterator<Item = &'a Assignment>,
        dialect: Dialect,
        groups: &Groups,
    ) {
        let mut left = MOST_WORDS;
        for line in lines {
            if line.value.is_empty() {
                *list = None;
            } else if left > 0 {
                Self::line(list, line, dialect, groups, &mut left);
            }
        }
    }

    /// One line, of which `left` words at most are read.
    fn line(list: &mut Option<Self>, line: &Assignment, dialect: Dialect, groups: &Groups, left: &mut usize) {
        let (negated, value) = match line.value.strip_prefix('~') {
            Some(value) => (true, value),
            None => (false, &*line.value),
        };
        let origin = &line.origin;
        let list = list.get_or_insert_with(|| {
            let mode = if negated { Mode::Deny } else { Mode::Allow };
            let mut list =
                Self::new(mode, Word { text: shown(&line.value).into(), origin: Some(origin.clone()), implied: false });
            if dialect == Dialect::Filter && !negated {
                list.add("@default", false, None, origin, true, groups);
            }
            list
        });
        let words = split(value, Split::Plain, *left);
        *left = left.saturating_sub(words.words.len().max(1));
        if *left == 0 {
            list.note(origin, &line.value, "goes beyond what is simulated, it and later lines are ignored in part");
        } else if !words.complete {
            list.note(origin, &line.value, "has a syntax error, its rest is ignored");
        }
        // Of equal words in a line only the last has an effect: skip the others, so that a line
        // cannot be made slow by repeating a group.
        let mut seen = BTreeSet::new();
        let effective: Vec<&String> = words.words.iter().rev().filter(|word| seen.insert(word.as_str())).collect();
        for word in effective.into_iter().rev() {
            list.word(word, negated, dialect, origin, groups);
        }
    }

    fn word(&mut self, word: &str, negated: bool, dialect: Dialect, origin: &Origin, groups: &Groups) {
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

    /// Adds or takes away a call or group.
    fn add(
        &mut self,
        name: &str,
        negated: bool,
        effect: Option<Effect>,
        origin: &Origin,
        implied: bool,
        groups: &Groups,
    ) {
        let text = format!("{}{}", if negated { "~" } else { "" }, shown(name));
        let word = Arc::new(Word { text: text.into(), origin: Some(origin.clone()), implied });
        if name.starts_with('@') {
            match groups.calls(name) {
                Some(calls) => calls.iter().for_each(|call| self.set(call, negated, effect, &word)),
                None => self.note(origin, name, "is no group this systemd knows, ignored"),
            }
        } else if groups.is_known(name) {
            self.set(name, negated, effect, &word);
        } else {
            self.note(origin, name, "is no call this systemd knows, ignored");
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
        if self.notes.len() < MOST_NOTES {
            self.notes.push(FileNote::at(origin, format!("{} {what}", shown(word))));
        }
    }
}
