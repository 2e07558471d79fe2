//! A line of a unit that can be the cause of a failure without a record.

use crate::audit::text::escape;
use crate::policy::{CauseReason, DirectiveCause, Origin};

/// A line that can be the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PossibleCause {
    /// The key of the line.
    pub key: Box<str>,
    /// The line; `None` if no file has it.
    pub origin: Option<Origin>,
    /// The word that decides; `None` for the whole value.
    pub word: Option<Box<str>>,
    /// What the line does, in words. Escaped.
    pub does: String,
    /// The error that it gives.
    pub errno: Option<i32>,
    /// What surely helps, in words, if anything does. Escaped.
    pub fix: Option<String>,
    /// Lines of a drop-in that may help together, one for each key. Nothing proves them.
    pub lines_to_try: Vec<String>,
    /// What such a line needs besides, in words. Escaped.
    pub also_needed: Option<String>,
}

impl PossibleCause {
    /// Makes one of a directive's cause. `name` is what it withholds, escaped.
    pub(super) fn new(cause: &DirectiveCause, name: &str, errno: Option<i32>) -> Self {
        let does = match &cause.why {
            CauseReason::Withheld(withheld) => format!("{}{name}{}", withheld.before, withheld.after),
            CauseReason::NotAllowed(_) => format!("this allow-list lacks {name}"),
            CauseReason::Always(reason) => format!("denies {name}: {reason}"),
            CauseReason::Argument { which, .. } => {
                format!("denies {name}, depending on its arguments: {}", escape(which.as_bytes()))
            }
            _ => format!("denies {name}"),
        };
        let word = cause.deciding_word().map(Into::into);
        Self {
            key: cause.directive.key().into(),
            origin: cause.origin.clone(),
            word,
            does,
            errno,
            fix: None,
            lines_to_try: Vec::new(),
            also_needed: None,
        }
    }

    /// Adds what may help against another cause of the same line.
    pub(super) fn add_help(&mut self, other: Self) {
        for line in other.lines_to_try {
            self.add_line(line);
        }
        self.also_needed = match (self.also_needed.take(), other.also_needed) {
            (Some(words), Some(other)) if words != other => Some(format!("{words}, and {other}")),
            (words, other) => words.or(other),
        };
    }

    /// Adds a line to those that may help: its words to the line of the same key, if there is one.
    fn add_line(&mut self, line: String) {
        let own = line.split_once('=').and_then(|(key, word)| {
            let is_of_key = |own: &&mut String| own.strip_prefix(key).is_some_and(|rest| rest.starts_with('='));
            Some((self.lines_to_try.iter_mut().find(is_of_key)?, word))
        });
        match own {
            Some((own, word)) if !own.split(['=', ' ']).any(|known| known == word) => *own = format!("{own} {word}"),
            Some(_) => {}
            None => self.lines_to_try.push(line),
        }
    }

    /// Whether two causes are the same part of a line.
    pub(super) fn is_same_line(&self, other: &Self) -> bool {
        (&self.key, &self.origin, &self.word) == (&other.key, &other.origin, &other.word)
    }
}
