//! The words of a list of paths, for lines that start the list again without some of them.

use super::sandbox_settings::{parse_bind, parse_path};
use super::specifiers::SpecifierNames;
use crate::policy::directive::{Directive, ValueKind};
use crate::policy::settings::Settings;
use crate::policy::words::{Split, split};

/// A word of a list of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathWord {
    /// The word as written, without its quotes.
    pub text: Box<str>,
    /// The path that it names.
    pub path: Box<str>,
}

/// A word of the list that `BindPaths=` and `BindReadOnlyPaths=` fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindWord {
    /// The directive of its line.
    pub directive: Directive,
    /// The word as written, without its quotes and with its escapes.
    pub text: Box<str>,
    /// The path at which it shows another one.
    pub target: Box<str>,
}

/// Returns every word of the list of bind mounts; `None` if one is not understood here.
pub(super) fn find_bind_words(settings: &Settings) -> Option<Vec<BindWord>> {
    let names = SpecifierNames::new(settings);
    let mut words: Option<Vec<BindWord>> = Some(Vec::new());
    for line in settings.assignments() {
        let directive = Directive::from_key(&line.key);
        let Some(directive) = directive.filter(|directive| directive.spec().value == ValueKind::Binds) else {
            continue;
        };
        // Either directive starts the list again.
        if line.value.is_empty() {
            words = Some(Vec::new());
            continue;
        }
        let split = split(&line.value, Split::Escaped, usize::MAX);
        let parse = |text: String| {
            let (_, target) = parse_bind(&text, &names)?;
            Some(BindWord { directive, target, text: text.into() })
        };
        let parsed: Option<Vec<BindWord>> = split.words.into_iter().map(parse).collect();
        words = words.zip(parsed.filter(|_| split.complete)).map(|(mut words, parsed)| {
            words.extend(parsed);
            words
        });
    }
    words
}

/// Returns every word of a list; `None` if one is not understood here, since a list without it would protect less.
pub(super) fn find_words(settings: &Settings, directive: Directive) -> Option<Vec<PathWord>> {
    let names = SpecifierNames::new(settings);
    let mut words: Option<Vec<PathWord>> = Some(Vec::new());
    for line in settings.lines(directive) {
        if line.value.is_empty() {
            words = Some(Vec::new());
            continue;
        }
        let split = split(&line.value, Split::Unquoted, usize::MAX);
        let parse = |text: String| Some(PathWord { path: parse_path(&text, &names)?, text: text.into() });
        let parsed: Option<Vec<PathWord>> = split.words.into_iter().map(parse).collect();
        words = words.zip(parsed.filter(|_| split.complete)).map(|(mut words, parsed)| {
            words.extend(parsed);
            words
        });
    }
    words
}
