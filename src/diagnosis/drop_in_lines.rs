//! Lines of a drop-in: joins `SystemCallFilter=` lines, and splits long ones.

use std::collections::BTreeSet;

const FILTER: &str = "SystemCallFilter=";

/// The longest line, in bytes: it has to fit indented on a terminal of 80 columns.
const WIDTH: usize = 72;

pub(super) fn is_filter(line: &str) -> bool {
    line.starts_with(FILTER)
}

pub(super) fn is_allowing(line: &str) -> bool {
    line.strip_prefix(FILTER).is_some_and(|value| !value.is_empty() && !value.starts_with('~'))
}

pub(super) fn is_denying(line: &str) -> bool {
    line.strip_prefix(FILTER).is_some_and(|value| value.starts_with('~'))
}

/// Returns the words of the allowing lines.
pub(super) fn allowed_words(lines: &[String]) -> impl Iterator<Item = &str> {
    let allowing = lines.iter().filter(|line| is_allowing(line));
    allowing.filter_map(|line| line.strip_prefix(FILTER)).flat_map(str::split_whitespace)
}

/// Joins two denying lines. If both name an error for a call, the later one counts.
pub(super) fn append_words(one: &str, other: &str) -> String {
    let words = other.strip_prefix(FILTER).and_then(|value| value.strip_prefix('~')).unwrap_or_default();
    format!("{one} {words}")
}

/// Splits a long line into several with the same meaning: systemd appends a line to an earlier line of the same kind.
pub(super) fn split_line(line: &str) -> Vec<String> {
    // A backslash would escape the space after it.
    let value = line.strip_prefix(FILTER).filter(|value| line.len() > WIDTH && !value.contains('\\'));
    let Some(value) = value else { return vec![line.to_owned()] };
    match value.strip_prefix('~') {
        Some(words) => list_lines("SystemCallFilter=~", words.split_whitespace(), WIDTH),
        None => list_lines(FILTER, value.split_whitespace(), WIDTH),
    }
}

/// Returns the lines of a list, each with its key and sign in front, and at most `width` bytes long if no word is longer.
pub(super) fn list_lines<'a>(start: &str, words: impl IntoIterator<Item = &'a str>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(last) if last.len() + 1 + word.len() <= width => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(format!("{start}{word}")),
        }
    }
    lines
}

/// Joins two allowing lines.
pub(super) fn unite_words(one: &str, other: &str) -> String {
    let words: BTreeSet<&str> =
        [one, other].into_iter().filter_map(|line| line.strip_prefix(FILTER)).flat_map(str::split_whitespace).collect();
    format!("{FILTER}{}", words.into_iter().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Effect, SyscallFilter, UnitFile};
    use crate::syscalls::Groups;
    use crate::syscalls::groups::GroupSource;
    use proptest::prelude::*;
    use std::path::Path;

    fn filter(lines: &[String]) -> Option<SyscallFilter> {
        let groups = Groups::parse(
            "@known\n    @io\n    mount\n    uname\n@io\n    read\n    write\n",
            GroupSource::Host("252".into()),
        );
        let text = format!("[Service]\n{}\n", lines.join("\n"));
        let file = UnitFile::parse(Path::new("x"), text.as_bytes());
        SyscallFilter::simulate(&file.assignments, &groups.unwrap())
    }

    /// Returns what a filter does with each call that the lines can name.
    fn rulings(lines: &[String]) -> Vec<Option<Effect>> {
        let denied = |call| filter(lines).and_then(|filter| filter.ruling(call).denied);
        ["read", "write", "mount", "uname", "exit"].map(denied).to_vec()
    }

    #[test]
    fn long_line_is_split_between_words() {
        let words = |count| vec!["clock_nanosleep"; count].join(" ");
        let long = format!("{FILTER}~{}", words(9));
        let lines = split_line(&long);
        assert_eq!(lines, [3, 3, 3].map(|count| format!("{FILTER}~{}", words(count))));
        let short = format!("{FILTER}{}", words(3));
        assert_eq!(split_line(&short), std::slice::from_ref(&short));
        let word = format!("{FILTER}{}", "x".repeat(2 * WIDTH));
        assert_eq!(split_line(&word), std::slice::from_ref(&word));
        let escaped = format!("{FILTER}{} a\\ b", words(9));
        assert_eq!(split_line(&escaped), std::slice::from_ref(&escaped));
    }

    proptest! {
        #[test]
        fn split_lines_mean_the_same_as_whole_line(
            lines in prop::collection::vec(
                (any::<bool>(), prop::collection::vec("(read|write|mount|uname|@io|bogus)(:EPERM|:kill|:0|)", 1..40)),
                1..4,
            )
        ) {
            let line = |(negated, words): &(bool, Vec<String>)| {
                format!("{FILTER}{}{}", if *negated { "~" } else { "" }, words.join(" "))
            };
            let whole: Vec<String> = lines.iter().map(line).collect();
            let broken: Vec<String> = whole.iter().flat_map(|line| split_line(line)).collect();
            prop_assert!(broken.iter().all(|line| line.len() <= WIDTH));
            prop_assert_eq!(rulings(&whole), rulings(&broken));
        }
    }
}
