//! Parses a unit file or drop-in into assignments with file and line (`systemd.syntax(7)`).
//!
//! The parser accepts what systemd's `conf-parser.c` accepts, skips lines that systemd skips with a warning, and stops
//! at lines at which systemd stops. Paths and values may hold any text: escape them before display.

use crate::audit::text::{Escaped, escape_excerpt};
use std::borrow::Cow;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

/// The longest line that systemd reads, in bytes (`LONG_LINE_MAX`). systemd ignores a longer line and
/// the rest of the file.
pub(crate) const LONGEST_LINE: usize = 1024 * 1024;

/// The characters that systemd trims and splits at (`WHITESPACE`).
pub(crate) const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The file and line of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The file, as a path below the root that the caller chose.
    pub path: Arc<Path>,
    /// The line's number, from 1; for a continued assignment, its last line, which is the one that systemd tells.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Escaped(self.path.as_os_str().as_bytes()), self.line)
    }
}

/// A note about a line or file that systemd ignores, at least in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNote {
    /// The line, if the note is about one.
    pub origin: Option<Origin>,
    /// The text, already escaped.
    pub text: String,
    /// The word of the line that it is about, as the file has it.
    pub word: Option<Box<str>>,
    /// What is wrong with the line.
    pub fault: LineFault,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LineFault {
    /// Anything else: the note's text tells.
    #[default]
    Other,
    /// It names a group of calls that this systemd does not know.
    UnknownGroup,
    /// It names a call that does not exist, and that is like another.
    MistypedCall,
}

impl FileNote {
    /// A note about a line.
    #[must_use]
    pub fn at(origin: &Origin, text: impl Into<String>) -> Self {
        Self { origin: Some(origin.clone()), text: text.into(), word: None, fault: LineFault::default() }
    }

    /// A note without a line.
    pub fn without_line(text: impl Into<String>) -> Self {
        Self { origin: None, text: text.into(), word: None, fault: LineFault::default() }
    }
}

impl fmt::Display for FileNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{origin}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// `Key=Value` in a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The section's name, without the brackets.
    pub section: Arc<str>,
    /// The key, trimmed and never empty.
    pub key: Box<str>,
    /// The value, trimmed and with continuation lines joined.
    pub value: Box<str>,
    /// Its file and line.
    pub origin: Origin,
}

/// One file's assignments, in order.
#[derive(Debug, Clone)]
pub struct UnitFile {
    /// The path as the caller gave it.
    pub path: Arc<Path>,
    /// The assignments in the order of their lines.
    pub assignments: Vec<Assignment>,
    /// The notes about lines for which systemd logs a warning.
    pub notes: Vec<FileNote>,
}

impl UnitFile {
    /// Parses the bytes of a whole file.
    #[must_use]
    pub fn parse(path: &Path, bytes: &[u8]) -> Self {
        let mut parser = UnitFileParser {
            file: Self { path: path.into(), assignments: Vec::new(), notes: Vec::new() },
            section: None,
            warned_outside: false,
        };
        // systemd stops at a fatal line and keeps the earlier lines, at least in a drop-in.
        if let Err(note) = parser.parse(bytes) {
            parser.file.notes.push(note);
        }
        parser.file
    }
}

struct UnitFileParser {
    file: UnitFile,
    section: Option<Arc<str>>,
    warned_outside: bool,
}

impl UnitFileParser {
    fn parse(&mut self, bytes: &[u8]) -> Result<(), FileNote> {
        for line in LogicalLines::new(bytes) {
            match line {
                Ok(line) => self.parse_line(line.number, &line.join())?,
                Err((number, why)) => return Err(FileNote::at(&self.origin(number), why)),
            }
        }
        Ok(())
    }

    /// Parses one logical line. An error ends the file.
    fn parse_line(&mut self, line: u32, bytes: &[u8]) -> Result<(), FileNote> {
        let origin = self.origin(line);
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(FileNote::at(&origin, "not valid UTF-8, the rest of the file is ignored"));
        };
        let text = text.trim_matches(WHITESPACE);
        if text.is_empty() {
            return Ok(());
        }
        if let Some(header) = text.strip_prefix('[') {
            let Some(section) = header.strip_suffix(']').filter(|name| !name.chars().any(|c| c.is_ascii_control()))
            else {
                let text = format!("invalid section header {}, the rest of the file is ignored", escape_excerpt(text));
                return Err(FileNote::at(&origin, text));
            };
            self.section = Some(section.into());
            return Ok(());
        }
        let Some(section) = &self.section else {
            if !self.warned_outside {
                self.warned_outside = true;
                self.file.notes.push(FileNote::at(&origin, "assignment outside of a section, ignored"));
            }
            return Ok(());
        };
        match text.split_once('=') {
            None => self.file.notes.push(FileNote::at(&origin, "no '=', line ignored")),
            Some(("", _)) => self.file.notes.push(FileNote::at(&origin, "no key before '=', line ignored")),
            Some((key, value)) => self.file.assignments.push(Assignment {
                section: Arc::clone(section),
                key: key.trim_matches(WHITESPACE).into(),
                value: value.trim_matches(WHITESPACE).into(),
                origin,
            }),
        }
        Ok(())
    }

    fn origin(&self, line: u32) -> Origin {
        Origin { path: Arc::clone(&self.file.path), line }
    }
}

/// A line of a file, or several that backslashes join.
pub(super) struct LogicalLine<'a> {
    /// The number by which systemd names it: that of its last line.
    pub(super) number: u32,
    /// The file's lines that make it up, without comments, each with its number.
    pub(super) parts: Vec<(u32, &'a [u8])>,
}

impl<'a> LogicalLine<'a> {
    /// Returns the text, with a space in place of each backslash at the end of a line.
    fn join(&self) -> Cow<'a, [u8]> {
        match self.parts.as_slice() {
            [(_, only)] if !is_continued(only) => Cow::Borrowed(only),
            parts => {
                let mut joined = Vec::new();
                for (_, part) in parts {
                    joined.extend_from_slice(part);
                    if let Some(last) = joined.last_mut().filter(|_| is_continued(part)) {
                        *last = b' ';
                    }
                }
                Cow::Owned(joined)
            }
        }
    }
}

/// The logical lines of a file, up to a line at which systemd stops: then its number, and why.
pub(super) struct LogicalLines<'a> {
    rest: &'a [u8],
    number: u32,
    is_mark_seen: bool,
}

impl<'a> LogicalLines<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, number: 0, is_mark_seen: false }
    }
}

impl<'a> Iterator for LogicalLines<'a> {
    type Item = Result<LogicalLine<'a>, (u32, &'static str)>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut parts = Vec::new();
        let mut length = 0;
        while let Some((mut text, after)) = split_line(self.rest) {
            self.rest = after;
            self.number = self.number.saturating_add(1);
            if text.len() > LONGEST_LINE {
                return Some(Err((self.number, "line too long, the rest of the file is ignored")));
            }
            if matches!(text.trim_ascii_start().first(), Some(b'#' | b';')) {
                continue;
            }
            if !self.is_mark_seen
                && let Some(stripped) = text.strip_prefix(BYTE_ORDER_MARK)
            {
                self.is_mark_seen = true;
                text = stripped;
            }
            length += text.len();
            if length > LONGEST_LINE {
                return Some(Err((self.number, "continued line too long, the rest of the file is ignored")));
            }
            parts.push((self.number, text));
            if !is_continued(text) {
                return Some(Ok(LogicalLine { number: self.number, parts }));
            }
        }
        // `config_parse` counts one more line here.
        (!parts.is_empty()).then(|| Ok(LogicalLine { number: self.number.saturating_add(1), parts }))
    }
}

/// Whether the next line belongs to a line: an odd number of backslashes ends it.
pub(super) fn is_continued(line: &[u8]) -> bool {
    line.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Splits off the next line. `\n`, `\r` and NUL end a line. A run of different ends counts as one end, and a NUL ends
/// the run (systemd's `read_line`).
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if bytes.is_empty() {
        return None;
    }
    let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r' | 0)).unwrap_or(bytes.len());
    let (line, tail) = bytes.split_at(end);
    let mut skip = 0;
    let mut seen: &[u8] = &[];
    for byte in tail {
        if !matches!(byte, b'\n' | b'\r' | 0) || seen.contains(byte) || seen.last() == Some(&0) {
            break;
        }
        skip += 1;
        seen = tail.get(..skip).unwrap_or_default();
    }
    Some((line, tail.get(skip..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> (Vec<(u32, String)>, Vec<String>) {
        let file = UnitFile::parse(Path::new("/etc/x.service"), bytes);
        let lines =
            file.assignments.iter().map(|a| (a.origin.line, format!("[{}]{}={}", a.section, a.key, a.value))).collect();
        (lines, file.notes.iter().map(ToString::to_string).collect())
    }

    fn only(line: u32, text: &str) -> Vec<(u32, String)> {
        vec![(line, text.into())]
    }

    #[test]
    fn assignment_has_section_and_line() {
        let (lines, notes) = read(b"[Unit]\nDescription = a = b \n\n[Service]\n# no\n ; no\nUser=x\n");
        assert_eq!(lines, [(2, "[Unit]Description=a = b".into()), (7, "[Service]User=x".into())]);
        assert!(notes.is_empty());
    }

    #[test]
    fn continued_assignment_has_its_last_line_and_skips_comments() {
        let (lines, _) = read(b"[S]\nA=one \\\n# not me\n  two \\\n\nB=3\n");
        assert_eq!(lines, [(5, "[S]A=one    two".into()), (6, "[S]B=3".into())]);
    }

    #[test]
    fn even_number_of_backslashes_ends_the_line() {
        assert_eq!(read(b"[S]\nA=x\\\\\nB=y").0, [(2, "[S]A=x\\\\".into()), (3, "[S]B=y".into())]);
    }

    #[test]
    fn continued_last_line_counts() {
        assert_eq!(read(b"[S]\nA=x\\").0, only(3, "[S]A=x"));
    }

    #[test]
    fn byte_order_mark_and_carriage_returns_are_dropped() {
        assert_eq!(read(b"\xef\xbb\xbf[S]\r\nA=x\r\n").0, only(2, "[S]A=x"));
    }

    #[test]
    fn nul_ends_the_line() {
        assert_eq!(read(b"[S]\nA=x\0B=y\n").0, [(2, "[S]A=x".into()), (3, "[S]B=y".into())]);
    }

    #[test]
    fn skipped_line_leaves_a_note_and_later_lines_count() {
        let (lines, notes) = read(b"X=1\nY=2\n[S]\nnothing\n=z\nA=x\n");
        assert_eq!(lines, only(6, "[S]A=x"));
        assert_eq!(
            notes,
            [
                "/etc/x.service:1: assignment outside of a section, ignored",
                "/etc/x.service:4: no '=', line ignored",
                "/etc/x.service:5: no key before '=', line ignored"
            ]
        );
    }

    #[test]
    fn fatal_line_ends_the_file() {
        let (lines, notes) = read(b"[S]\nA=x\nB=\xff\nC=y\n");
        assert_eq!(lines, only(2, "[S]A=x"));
        assert_eq!(notes, ["/etc/x.service:3: not valid UTF-8, the rest of the file is ignored"]);
        let (lines, notes) = read(b"[S]\nA=x\n[S\x1b[2J\nC=y\n");
        assert_eq!(lines, only(2, "[S]A=x"));
        assert_eq!(notes, ["/etc/x.service:3: invalid section header [S\\x1b[2J, the rest of the file is ignored"]);
        let mut long = b"[S]\nA=x\nB=".to_vec();
        long.resize(long.len() + LONGEST_LINE, b'y');
        let (lines, notes) = read(&long);
        assert_eq!(lines, only(2, "[S]A=x"));
        assert_eq!(notes, ["/etc/x.service:3: line too long, the rest of the file is ignored"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(bytes: Vec<u8>) {
            let _ = UnitFile::parse(Path::new("x"), &bytes);
        }

        #[test]
        fn any_lines_are_parsed(text in r"(\[S\]|A=|#|;|\\|\n|\r| |~|b){0,60}") {
            let file = UnitFile::parse(Path::new("x"), text.as_bytes());
            for assignment in &file.assignments {
                prop_assert!(!assignment.value.ends_with(' '));
                prop_assert!(assignment.origin.line >= 1);
            }
        }
    }
}
