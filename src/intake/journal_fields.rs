//! The fields of one journal entry, as `journalctl` prints them: `-o export`, `-o verbose`, or the JSON formats.

use super::lines::{LineReader, LogLine};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::io;

/// The fields that are read; all others are skipped.
const FIELDS: [&str; 23] = [
    "MESSAGE",
    "_TRANSPORT",
    "_AUDIT_TYPE",
    "_AUDIT_ID",
    "_SOURCE_REALTIME_TIMESTAMP",
    "__REALTIME_TIMESTAMP",
    "_PID",
    "_EXE",
    "_BOOT_ID",
    "_SYSTEMD_UNIT",
    "_SYSTEMD_USER_UNIT",
    "_SYSTEMD_OWNER_UID",
    // The tag of a program without `_TRANSPORT`.
    "SYSLOG_IDENTIFIER",
    // A manager's entry about a process that exited.
    "MESSAGE_ID",
    "_UID",
    "UNIT",
    "USER_UNIT",
    "EXIT_CODE",
    "EXIT_STATUS",
    // An entry of systemd-coredump.
    "COREDUMP_PID",
    "COREDUMP_CGROUP",
    "COREDUMP_TIMESTAMP",
    "COREDUMP_SIGNAL",
];

/// Fields that may stand first in an entry, besides those of journald.
const FIRST: [&[u8]; 5] = [b"MESSAGE=", b"MESSAGE_ID=", b"PRIORITY=", b"SYSLOG_IDENTIFIER=", b"SYSLOG_FACILITY="];

/// The longest value of a field, in bytes (`DATA_SIZE_MAX`, systemd's `journal-importer.h`). Eight characters of text are
/// a larger number.
const LONGEST_VALUE: u64 = 768 << 20;

/// The fields of the latest entry.
#[derive(Default)]
pub(super) struct JournalFields(HashMap<&'static str, Vec<u8>>);

impl JournalFields {
    /// Reads the lines of an entry up to the blank line, the next text, or the end.
    ///
    /// In `-o verbose` each field is indented, and more so the further lines of its value.
    pub(super) fn read_text(&mut self, first: &[u8], lines: &mut LineReader<'_>) -> io::Result<()> {
        self.0.clear();
        let indent = count_blanks(first);
        self.insert_line(&first[indent..]);
        loop {
            let name = match lines.next_line()? {
                None => return Ok(()),
                Some(LogLine::TooLong) => continue,
                Some(LogLine::Whole(line)) if line.trim_ascii().is_empty() => return Ok(()),
                Some(LogLine::Whole(line)) => {
                    let own = count_blanks(line);
                    let text = line[own..].strip_suffix(b"\r").unwrap_or(&line[own..]);
                    let is_binary = indent == 0 && is_name(text);
                    // `-o export` indents no line.
                    if own < indent || (indent == 0 && own > 0) || (own == indent && !is_field(text) && !is_binary) {
                        lines.unread_line();
                        return Ok(());
                    }
                    if !is_binary {
                        if own == indent {
                            self.insert_line(text);
                        }
                        continue;
                    }
                    find_field(text)
                }
            };
            // After a name alone: a little-endian length, that many bytes, and a newline.
            let length = lines.peek_bytes()?.map(u64::from_le_bytes).filter(|length| *length <= LONGEST_VALUE);
            let Some(length) = length else {
                // A line of a text log, with more text below it.
                lines.unread_line();
                return Ok(());
            };
            lines.read_bytes(8)?;
            let Some(value) = lines.read_bytes(length)? else { return Ok(()) };
            if let Some(name) = name {
                self.0.insert(name, value);
            }
            lines.read_bytes(1)?;
        }
    }

    /// Takes the fields of a JSON object. A value that is no text is an array of bytes, or of several values.
    pub(super) fn set_json(&mut self, object: &Map<String, Value>) {
        self.0.clear();
        for name in FIELDS {
            let text = match object.get(name) {
                Some(Value::String(text)) => text.as_bytes().to_vec(),
                Some(Value::Number(number)) => number.to_string().into_bytes(),
                Some(Value::Array(values)) => match values.first() {
                    Some(Value::String(text)) => text.as_bytes().to_vec(),
                    _ => values.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect(),
                },
                _ => continue,
            };
            self.0.insert(name, text);
        }
    }

    fn insert_line(&mut self, line: &[u8]) {
        if let Some(equals) = memchr::memchr(b'=', line)
            && let Some(name) = find_field(&line[..equals])
        {
            self.0.insert(name, line[equals + 1..].to_vec());
        }
    }

    /// Returns a field's value; empty if the entry lacks it.
    pub(super) fn get(&self, name: &str) -> &[u8] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns a field's value if the entry has it.
    pub(super) fn find(&self, name: &str) -> Option<&Vec<u8>> {
        self.0.get(name)
    }

    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        str::from_utf8(self.get(name)).ok()?.trim().parse().ok()
    }
}

/// Whether a line begins an entry of fields.
pub(super) fn starts_fields(line: &[u8]) -> bool {
    let text = match line.first() {
        Some(b'_' | b'M' | b'P' | b'S') => line,
        Some(b' ' | b'\t') => &line[count_blanks(line)..],
        _ => return false,
    };
    FIRST.iter().any(|first| text.starts_with(first)) || (text.starts_with(b"_") && is_field(text))
}

/// Whether a JSON object is a journal entry.
pub(super) fn is_journal_object(object: &Map<String, Value>) -> bool {
    object.contains_key("MESSAGE") || object.contains_key("_TRANSPORT") || object.contains_key("__CURSOR")
}

fn count_blanks(line: &[u8]) -> usize {
    line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

fn is_field(line: &[u8]) -> bool {
    memchr::memchr(b'=', line).is_some_and(|equals| is_name(&line[..equals]))
}

/// Whether a text is a field's name (`journal_field_valid`, systemd's `journal-file.c`).
fn is_name(text: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    (1..=64).contains(&text.len()) && text.iter().all(is_part)
}

fn find_field(name: &[u8]) -> Option<&'static str> {
    FIELDS.into_iter().find(|field| field.as_bytes() == name)
}
