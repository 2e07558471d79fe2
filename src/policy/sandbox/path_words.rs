//! The words of a list of paths, for lines that start the list again without some of them.

use super::sandbox_settings::parse_path;
use super::specifiers::SpecifierNames;
use crate::policy::directive::Directive;
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
