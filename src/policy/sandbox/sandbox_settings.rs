//! The lines of directives that withhold paths, capabilities, devices and addresses, merged as systemd merges them
//! (`load-fragment.c`).

use super::absolute_path::{simplify, simplify_start};
use super::device_entry::parse_device_entry;
use super::specifiers::{Expansion, SpecifierNames, expand, expand_known};
use super::word_value::parse_word;
use crate::policy::directive::{Directive, ValueKind};
use crate::policy::settings::Settings;
use crate::policy::unit_file::{Assignment, Origin};
use crate::policy::words::{MOST_WORDS, Split, split};
use std::collections::BTreeMap;

/// A word of a value, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SandboxWord {
    /// The directive.
    pub(crate) directive: Directive,
    /// The word as the line has it; empty if the whole value counts.
    pub(crate) text: Box<str>,
    /// The line.
    pub(crate) origin: Origin,
}

/// A path of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedPath {
    /// The path, absolute and without needless slashes.
    pub(crate) path: Box<str>,
    /// The word that names it.
    pub(crate) word: SandboxWord,
}

/// A path that is shown at another place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoundPath {
    /// The path on the host.
    pub(crate) source: Box<str>,
    /// The place.
    pub(crate) target: ListedPath,
    /// Whether it is read-only there.
    pub(crate) read_only: bool,
}

/// A word with a specifier whose value is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnreadWord {
    /// The word.
    pub(crate) word: SandboxWord,
    /// The start of its path, before that specifier.
    pub(crate) start: Box<str>,
    /// Whether that is its whole path: the specifier is in the source of a bind mount.
    pub(crate) is_complete: bool,
}

/// The merged settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SandboxSettings {
    words: BTreeMap<Directive, (Box<str>, SandboxWord)>,
    lists: BTreeMap<Directive, Vec<ListedPath>>,
    /// `BindPaths=` and `BindReadOnlyPaths=`, which are one list.
    pub(crate) binds: Vec<BoundPath>,
    /// Whether a user's manager runs the unit.
    pub(crate) is_of_user_manager: bool,
    /// The words of other lists, as written.
    others: BTreeMap<Directive, Vec<SandboxWord>>,
    /// The words of lists of paths that are not understood here.
    pub(super) unread: Vec<UnreadWord>,
}

impl SandboxSettings {
    /// Merges the lines of a unit.
    pub(crate) fn new(settings: &Settings) -> Self {
        let names = SpecifierNames::new(settings);
        let mut merged = Self { is_of_user_manager: names.is_of_user, ..Self::default() };
        for line in settings.assignments() {
            if let Some(directive) = Directive::from_key(&line.key).filter(|directive| !directive.filters_calls()) {
                merged.apply(directive, line, &names);
            }
        }
        merged
    }

    fn apply(&mut self, directive: Directive, line: &Assignment, names: &SpecifierNames<'_>) {
        let value = &*line.value;
        let word = |text: &str| SandboxWord { directive, text: text.into(), origin: line.origin.clone() };
        let kind = directive.spec().value;
        let how = if kind == ValueKind::Binds { Split::Escaped } else { Split::Unquoted };
        let words = || split(value, how, MOST_WORDS).words;
        if kind.is_of_paths() {
            let is_of_list =
                |other: Directive| other == directive || (kind == ValueKind::Binds && other.spec().value == kind);
            self.unread.retain(|unread| !value.is_empty() || !is_of_list(unread.word.directive));
            self.unread.extend(words().iter().filter_map(|text| {
                let (start, is_complete) = find_unknown(directive, text, names)?;
                Some(UnreadWord { word: word(text), start, is_complete })
            }));
        }
        match kind {
            ValueKind::Word | ValueKind::Toggle => {
                if let Some(value) = parse_word(directive, value) {
                    self.words.insert(directive, (value, word("")));
                }
            }
            // Both directives fill one list.
            ValueKind::Binds if value.is_empty() => self.binds.clear(),
            ValueKind::Binds => {
                let read_only = directive == Directive::BindReadOnlyPaths;
                self.binds.extend(words().iter().filter_map(|text| {
                    let (source, target) = parse_bind(text, names)?;
                    Some(BoundPath { source, target: ListedPath { path: target, word: word(text) }, read_only })
                }));
            }
            ValueKind::Paths | ValueKind::Mounts | ValueKind::Names => {
                let list = self.lists.entry(directive).or_default();
                if value.is_empty() {
                    list.clear();
                }
                let parse = |text: &String| match kind {
                    ValueKind::Paths => parse_path(text, names),
                    ValueKind::Mounts => parse_path(text.split(':').next()?, names),
                    _ => parse_directory(directive, text, names),
                };
                list.extend(
                    words().iter().filter_map(|text| Some(ListedPath { path: parse(text)?, word: word(text) })),
                );
            }
            // `SocketBindAllow=` and `SocketBindDeny=` each reset themselves alone.
            ValueKind::SocketBinds | ValueKind::Addresses | ValueKind::Devices if value.is_empty() => {
                self.others.remove(&directive);
            }
            ValueKind::Devices if parse_device_entry(value, names).is_none() => {}
            ValueKind::Devices | ValueKind::SocketBinds => {
                self.others.entry(directive).or_default().push(word(value));
            }
            ValueKind::Addresses => {
                let list = self.others.entry(directive).or_default();
                list.extend(words().iter().map(|text| word(text)));
            }
            // `capability_lines.rs` merges these.
            _ => {}
        }
    }

    /// The value of a directive that takes one word, and its line; `yes` and `no` for booleans.
    pub(crate) fn word(&self, directive: Directive) -> Option<(&str, &SandboxWord)> {
        self.words.get(&directive).map(|(value, word)| (&**value, word))
    }

    /// The paths of a list.
    pub(crate) fn paths(&self, directive: Directive) -> &[ListedPath] {
        self.lists.get(&directive).map_or(&[], Vec::as_slice)
    }

    /// The entries of `DeviceAllow=`, `SocketBindAllow=` and similar lists, as written.
    pub(crate) fn entries(&self, directive: Directive) -> &[SandboxWord] {
        self.others.get(&directive).map_or(&[], Vec::as_slice)
    }
}

/// Returns the start of a word's path up to a specifier whose value is unknown, and whether that is the whole path; `None` if
/// all are known.
fn find_unknown(directive: Directive, word: &str, names: &SpecifierNames<'_>) -> Option<(Box<str>, bool)> {
    let start_of = |text: &str| match expand_known(text, names) {
        Expansion::Known(_) | Expansion::Invalid => None,
        Expansion::Unknown(start) => simplify_start(&start).map(|start| (start, false)),
    };
    match directive.spec().value {
        ValueKind::Binds => {
            let parts = split_at_colons(word)?;
            let source = without_prefixes(parts.first()?);
            let Some(target) = parts.get(1) else { return start_of(source) };
            let is_unknown = match expand_known(source, names) {
                Expansion::Known(source) => simplify(&source).map(|_| false)?,
                Expansion::Unknown(start) => simplify_start(&start).map(|_| true)?,
                Expansion::Invalid => return None,
            };
            match expand_known(target, names) {
                Expansion::Known(target) if is_unknown => Some((simplify(&target)?, true)),
                _ => start_of(target),
            }
        }
        ValueKind::Names => {
            let Expansion::Unknown(start) = expand_known(word.split(':').next()?, names) else { return None };
            let parent = parent_of(directive).filter(|_| !names.is_of_user)?;
            Some((simplify_start(&format!("{parent}/{start}"))?, false))
        }
        ValueKind::Mounts => start_of(word.split(':').next()?),
        _ => start_of(without_prefixes(word)),
    }
}

/// Parses a path of a list, perhaps behind `-` and `+`.
pub(super) fn parse_path(word: &str, names: &SpecifierNames<'_>) -> Option<Box<str>> {
    simplify(&expand(without_prefixes(word), names)?)
}

fn without_prefixes(word: &str) -> &str {
    let word = word.strip_prefix('-').unwrap_or(word);
    word.strip_prefix('+').unwrap_or(word)
}

/// Parses `SOURCE:TARGET:OPTIONS`; a source is enough. systemd ignores a word with an empty target (`config_parse_bind_paths`).
pub(super) fn parse_bind(word: &str, names: &SpecifierNames<'_>) -> Option<(Box<str>, Box<str>)> {
    let parts = split_at_colons(word)?;
    let source = parse_path(parts.first()?, names)?;
    let target = match parts.get(1) {
        Some(target) => simplify(&expand(target, names)?)?,
        None => source.clone(),
    };
    Some((source, target))
}

/// Splits a word at its colons. A backslash keeps a colon.
fn split_at_colons(word: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match (c, parts.last_mut()) {
            (':', _) => parts.push(String::new()),
            ('\\', Some(part)) => part.extend(chars.next()),
            (c, Some(part)) => part.push(c),
            (_, None) => return None,
        }
    }
    Some(parts)
}

/// Returns the parent of a system unit's own directories.
fn parent_of(directive: Directive) -> Option<&'static str> {
    Some(match directive {
        Directive::RuntimeDirectory => "/run",
        Directive::StateDirectory => "/var/lib",
        Directive::CacheDirectory => "/var/cache",
        Directive::LogsDirectory => "/var/log",
        _ => return None,
    })
}

/// Parses the name of a directory of the unit.
fn parse_directory(directive: Directive, word: &str, names: &SpecifierNames<'_>) -> Option<Box<str>> {
    let parent = parent_of(directive).filter(|_| !names.is_of_user)?;
    let name = expand(word.split(':').next()?, names)?;
    if name.is_empty() || name.starts_with('/') || name == "private" || name.starts_with("private/") {
        return None;
    }
    simplify(&format!("{parent}/{name}"))
}
