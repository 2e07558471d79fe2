//! Finds the word of a unit file that decides a call, in the file's own line.

use super::unit_file::{LogicalLine, LogicalLines, WHITESPACE, is_continued};
use super::verdict::DirectiveCause;
use std::ops::Range;

/// A line of a unit file, and the part of it that decides. The text is untrusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceLine {
    /// The line's number in the file. systemd names a continued assignment by its last line; this is the line of the word.
    pub number: u32,
    /// The line, without its end.
    pub text: String,
    /// The bytes of the text that decide: a word of the value, or the whole value.
    pub span: Range<usize>,
}

impl SourceLine {
    /// Finds the line and the word that decide, in the contents of the cause's file; `None` if the file does not hold
    /// them (any more).
    #[must_use]
    pub fn find_cause(contents: &[u8], cause: &DirectiveCause) -> Option<Self> {
        Self::find(contents, cause.origin.as_ref()?.line, cause.directive.key(), cause.deciding_word())
    }

    /// Finds a word in the value of an assignment, or the whole value. `number` is the line by which systemd names the
    /// assignment. Of several equal words the last one counts, as for systemd.
    #[must_use]
    pub fn find(contents: &[u8], number: u32, key: &str, word: Option<&str>) -> Option<Self> {
        let mut lines = LogicalLines::new(contents).map_while(Result::ok);
        let line = lines.find(|line| line.number >= number).filter(|line| line.number == number)?;
        let words = split_value(&line, key)?;
        let (number, span) = if let Some(word) = word {
            let (at, _, span) = words.iter().rev().find(|(_, text, _)| names_word(text, word))?;
            (*at, span.clone())
        } else {
            let (first, _, start) = words.first()?;
            let end = words.iter().take_while(|(at, ..)| at == first).last()?.2.end;
            (*first, start.start..end)
        };
        let (_, text) = line.parts.iter().find(|(at, _)| *at == number)?;
        Some(Self { number, text: std::str::from_utf8(text).ok()?.to_owned(), span })
    }
}

/// Splits the value of an assignment into words, each with the number of its line and its place there. A `~` in front
/// of the value is part of no word, unless it stands alone. `None` if the line does not assign the key.
fn split_value<'a>(line: &LogicalLine<'a>, key: &str) -> Option<Vec<(u32, &'a str, Range<usize>)>> {
    let mut words = Vec::new();
    let mut is_first = true;
    for (number, part) in &line.parts {
        let end = part.len() - usize::from(is_continued(part));
        let mut text = std::str::from_utf8(part.get(..end)?).ok()?;
        let mut start = 0;
        if is_first {
            let (name, value) = text.split_once('=').filter(|(name, _)| name.trim_matches(WHITESPACE) == key)?;
            start = name.len() + 1;
            text = value;
            is_first = false;
        }
        for word in text.split(WHITESPACE).filter(|word| !word.is_empty()) {
            let at = start + (word.as_ptr().addr() - text.as_ptr().addr());
            let named = if words.is_empty() && word.len() > 1 { word.strip_prefix('~').unwrap_or(word) } else { word };
            let at = at + word.len() - named.len();
            words.push((*number, named, at..at + named.len()));
        }
    }
    Some(words)
}

/// Whether a word of a file is a name, perhaps in quotes or with an error number behind it.
fn names_word(text: &str, name: &str) -> bool {
    let text = text.trim_matches(['"', '\'']);
    text == name || text.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "SystemCallFilter";

    /// Returns the line's number and its pointed part.
    fn pointed(contents: &str, number: u32, word: Option<&str>) -> Option<(u32, String)> {
        let line = SourceLine::find(contents.as_bytes(), number, KEY, word)?;
        Some((line.number, line.text[line.span].to_owned()))
    }

    fn at(number: u32, text: &str) -> (u32, String) {
        (number, text.to_owned())
    }

    #[test]
    fn deciding_word_is_found_in_its_line() {
        let file = "[Service]\nSystemCallFilter=@system-service\n SystemCallFilter = ~@network-io mount:EPERM mount\n";
        assert_eq!(pointed(file, 3, Some("@network-io")), Some(at(3, "@network-io")));
        assert_eq!(pointed(file, 3, Some("mount")), Some(at(3, "mount")), "the last of equal words counts");
        assert_eq!(pointed(&file.replace(" mount\n", "\n"), 3, Some("mount")), Some(at(3, "mount:EPERM")));
        assert_eq!(pointed(file, 2, None), Some(at(2, "@system-service")));
        assert_eq!(pointed(file, 3, None), Some(at(3, "@network-io mount:EPERM mount")));
        assert_eq!(pointed("[S]\nSystemCallFilter=~\n", 2, None), Some(at(2, "~")));
    }

    #[test]
    fn word_of_continued_assignment_is_found_in_its_own_line() {
        let file = "[Service]\nSystemCallFilter=~chmod \\\n# mount\n  mount \\\n  swapon\nUser=x\n";
        assert_eq!(pointed(file, 5, Some("mount")), Some(at(4, "mount")));
        assert_eq!(pointed(file, 5, Some("chmod")), Some(at(2, "chmod")));
        assert_eq!(pointed(file, 5, Some("swapon")), Some(at(5, "swapon")));
        assert_eq!(pointed(file, 5, None), Some(at(2, "chmod")));
        assert_eq!(pointed("SystemCallFilter=\\\n  mount \\", 3, Some("mount")), Some(at(2, "mount")));
    }

    #[test]
    fn changed_file_has_no_pointed_line() {
        let file = "[Service]\nUser=x\nSystemCallFilter=~mount\n";
        for (number, word) in [(2, Some("mount")), (3, Some("chmod")), (4, None), (0, None)] {
            assert_eq!(pointed(file, number, word), None, "{number} {word:?}");
        }
        assert_eq!(SourceLine::find(b"SystemCallFilter=\xff mount\n", 1, KEY, Some("mount")), None);
        assert_eq!(pointed("SystemCallFilter=\n", 1, None), None);
    }

    proptest! {
        #[test]
        fn found_span_is_in_its_line(text in r"(SystemCallFilter=|~|@a|b|é|\\|\n| |:E|=){0,40}", number in 0_u32..6) {
            for word in [None, Some("b"), Some("@a")] {
                if let Some(line) = SourceLine::find(text.as_bytes(), number, KEY, word) {
                    let pointed = line.text.get(line.span.clone()).unwrap();
                    prop_assert!(word.is_none_or(|word| names_word(pointed, word)));
                    prop_assert!(line.number <= number && !line.text.contains('\n'));
                }
            }
        }
    }
}
