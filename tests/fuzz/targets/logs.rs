//! Records of every dialect, and logs that hold them.

use crate::audit::text::{UntrustedText, escape};
use crate::audit::{Record, parse_fields, parse_record, parse_serial};
use crate::intake::log_file::read_log;
use crate::intake::log_summary::LogSummary;
use std::io;
use std::io::Read;

/// Reads a record, alone and as a line of a log.
pub(super) fn check_record(input: &[u8]) {
    if let Ok(record) = parse_record(input) {
        assert_eq!(parse_serial(input), Some(record.serial), "both parsers agree about the serial number");
        check_text(&record);
        let fields = memchr::memmem::find(input, b": ").map(|at| &input[at + 2..]);
        if let Some(Ok(again)) = fields.map(|fields| parse_fields(fields, record.stamp, record.serial)) {
            check_text(&again);
        }
    }
    read(&mut &*input);
}

/// Reads a log at once and in small chunks, and compares the results.
pub(super) fn check_chunks(input: &[u8]) {
    let whole = read(&mut &*input);
    let chunk = input.first().map_or(1, |first| usize::from(*first) + 1);
    let trickled = read(&mut Trickle { rest: input, chunk });
    assert_eq!(whole, trickled, "the size of the chunks changes the result");
}

fn read(input: &mut dyn Read) -> (LogSummary, u64) {
    let mut seen = 0;
    let summary = read_log(input, &mut |record, unit, _| {
        seen += 1;
        check_text(record);
        if let Some(unit) = unit {
            assert!(!unit.name.as_str().is_empty());
        }
    });
    let summary = summary.unwrap_or_default();
    assert!(seen >= summary.records, "each record of {} is passed on", summary.records);
    for (_, complaint) in &summary.complaints {
        assert!(!complaint.chars().any(char::is_control), "{complaint:?} has control characters");
    }
    (summary, seen)
}

/// Checks that no text of a process reaches a terminal unescaped.
fn check_text(record: &Record<'_>) {
    for text in [Some(record.comm), record.exe].into_iter().flatten() {
        let decoded = UntrustedText::decode(text);
        let shown = escape(&decoded);
        assert!(!shown.chars().any(char::is_control), "{shown:?} has control characters");
    }
}

/// Passes on a few bytes at a time.
struct Trickle<'a> {
    rest: &'a [u8],
    chunk: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.rest.len().min(self.chunk).min(into.len());
        into[..length].copy_from_slice(&self.rest[..length]);
        self.rest = &self.rest[length..];
        Ok(length)
    }
}
