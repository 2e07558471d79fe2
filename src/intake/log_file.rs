//! A log of mixed dialects, with other lines between: audit logs, `ausearch` output, kernel logs, `journalctl`
//! output and journal exports.

use super::cleaning::clean_line;
use super::death_line;
use super::envelope::{Envelope, Suspicion, is_cut_off, join_line, looks_like_record};
use super::journal_export::JournalExport;
use super::journal_fields::{is_journal_object, starts_fields};
use super::json_line::{JsonNesting, find_program, parse_json, starts_json};
use super::line_prefix::{find_other_program, is_audit_tag};
use super::lines::{LONGEST_LINE, LineReader, LogLine};
use super::log_summary::LogSummary;
use super::pasted_units::PastedUnitReader;
use super::record_search::{Needles, line_around};
use super::record_sink::{LineKind, OnRecord, RecordSink};
pub(crate) use super::repeats::Novelty;
use super::strace_text::{StraceReader, TraceLine};
use crate::audit::{Action, Malformed, parse_record};
use memchr::{memchr_iter, memmem, memrchr};
use serde_json::Value;
use std::io;
use std::io::Read;

/// The most lines of one wrapped record, and of its text in bytes.
const MAX_WRAPPED: (u64, usize) = (24, 8 << 10);

/// The longest JSON text of several lines that is read as a whole, in bytes. A longer one is read line by line.
const LONGEST_JSON: usize = 4 * LONGEST_LINE;

/// How deep log shippers may wrap JSON as a text in JSON.
const MAX_WRAPPINGS: usize = 3;

/// Reads all of `input` and hands each record on once.
///
/// A record comes with the unit that a journal export named for its process, if any.
///
/// # Errors
/// Those of reading. Malformed input is counted.
pub(crate) fn read_log(input: &mut dyn Read, on_record: &mut OnRecord<'_>) -> io::Result<LogSummary> {
    let mut log = LogReader {
        summary: LogSummary::default(),
        needles: Needles::new(),
        sink: RecordSink::new(on_record),
        export: JournalExport::default(),
        wrapped: None,
        heading: Vec::new(),
        units: PastedUnitReader::default(),
        traces: StraceReader::default(),
    };
    let mut lines = LineReader::new(input);
    loop {
        if let Some(block) = lines.buffered_lines() {
            let plain = length_before_entry(block);
            if plain > 0 {
                log.read_block(&block[..plain]);
                lines.consume(plain);
                continue;
            }
        }
        let Some(line) = lines.next_line()? else {
            log.finish_wrapped();
            return Ok(log.finish());
        };
        match line {
            LogLine::Whole(line) if starts_fields(line) => {
                let first = line.to_vec();
                log.finish_wrapped();
                log.summary.lines += 1;
                log.export.fields.read_text(&first, &mut lines)?;
                let kind = log.deliver_entry();
                log.summary.count(kind, log.summary.lines);
            }
            LogLine::Whole(line) if starts_json(line) => {
                let first = line.to_vec();
                log.finish_wrapped();
                log.read_json(first, &mut lines)?;
            }
            LogLine::Whole(line) => log.read_line(line),
            LogLine::TooLong => {
                log.summary.lines += 1;
                log.summary.overlong += 1;
                log.summary.complain(log.summary.lines, format!("it is longer than {LONGEST_LINE} bytes"));
            }
        }
    }
}

/// Returns how many bytes of whole lines come before the first journal entry or JSON text.
fn length_before_entry(block: &[u8]) -> usize {
    let mut start = 0;
    for newline in memchr_iter(b'\n', block) {
        // Most lines are no entry by their first byte.
        let line = &block[start..newline];
        if starts_fields(line) || starts_json(line) {
            return start;
        }
        start = newline + 1;
    }
    block.len()
}

/// Reads the lines of a log, and counts them.
struct LogReader<'a, 'b> {
    summary: LogSummary,
    needles: Needles,
    sink: RecordSink<'a, 'b>,
    export: JournalExport,
    /// A record that goes on in the next line.
    wrapped: Option<WrappedRecord>,
    /// The start of the latest line that is not indented.
    heading: Vec<u8>,
    units: PastedUnitReader,
    traces: StraceReader,
}

/// A record of several lines, as far as it was read.
struct WrappedRecord {
    text: Vec<u8>,
    first_line: u64,
    lines: u64,
}

impl LogReader<'_, '_> {
    fn finish(self) -> LogSummary {
        LogSummary {
            facts: self.sink.facts,
            deaths: self.sink.deaths.finish(),
            failures: self.sink.failures.finish(),
            traced: self.traces.finish(),
            units: self.units.finish(),
            ..self.summary
        }
    }

    fn read_line(&mut self, line: &[u8]) {
        self.summary.lines += 1;
        if self.join_wrapped(line) {
            return;
        }
        self.sink.deaths.begin_line(line);
        if let Some(kind) = self.classify(line, 0) {
            let kind = match kind {
                LineKind::Foreign => {
                    self.sink.facts.add_line(line);
                    self.sink.failures.read_lines(line);
                    self.units.read_line(line, self.summary.lines);
                    self.read_foreign(line)
                }
                kind => kind,
            };
            self.summary.count(kind, self.summary.lines);
        }
        if !line.starts_with(b" ") {
            self.note_heading(line);
        }
    }

    /// Reads a line, or a text in JSON; `None` if it is a record that may go on in the next line.
    ///
    /// A plain line is read as it is. Only a line that has words of a record and no record is cleaned.
    fn classify(&mut self, line: &[u8], wrappings: usize) -> Option<LineKind> {
        if let Some(event) = line.strip_prefix(b"type=SECCOMP msg=")
            && let Ok(record) = parse_record(event)
            && !matches!(record.action, Action::Kill | Action::Other(_))
        {
            return Some(self.sink.push(Ok(record), None));
        }
        if !self.needles.may_be_record(line) {
            return Some(LineKind::Foreign);
        }
        if let Some(word) = self.find_program_above(line)
            && looks_like_record(line)
        {
            return Some(LineKind::Suspect(Suspicion::OtherProgram(word)));
        }
        if wrappings < MAX_WRAPPINGS
            && let Some((prefix, value)) = parse_json(line)
        {
            let program = find_other_program(prefix).map(<[u8]>::to_vec);
            return Some(self.read_value(&value, program.as_deref(), wrappings + 1));
        }
        let parsed = Envelope::find(line).map(Envelope::parse);
        if matches!(parsed, Some(Ok(_))) && !is_cut_off(line) {
            return parsed.map(|parsed| self.sink.push(parsed, None));
        }
        let cleaned = clean_line(line);
        if wrappings == 0 && is_cut_off(&cleaned) {
            self.wrapped = Some(WrappedRecord { text: cleaned, first_line: self.summary.lines, lines: 1 });
            return None;
        }
        Some(self.read_cleaned(&cleaned))
    }

    fn read_cleaned(&mut self, line: &[u8]) -> LineKind {
        match Envelope::find(line) {
            Some(envelope) => self.sink.push(envelope.parse(), None),
            None if looks_like_record(line) => LineKind::Suspect(Suspicion::Malformed(Malformed::Stamp)),
            None => LineKind::Foreign,
        }
    }

    /// Adds a line to the wrapped record before it; false if it does not belong to one.
    fn join_wrapped(&mut self, line: &[u8]) -> bool {
        let Some(mut wrapped) = self.wrapped.take() else { return false };
        let cleaned = clean_line(line);
        let start = cleaned.iter().position(|byte| !b" >|".contains(byte)).unwrap_or(cleaned.len());
        let has_room = wrapped.lines < MAX_WRAPPED.0 && wrapped.text.len() + cleaned.len() <= MAX_WRAPPED.1;
        if !has_room || !join_line(&mut wrapped.text, &cleaned[start..]) {
            self.wrapped = Some(wrapped);
            self.summary.lines -= 1;
            self.finish_wrapped();
            self.summary.lines += 1;
            return false;
        }
        wrapped.lines += 1;
        self.summary.continued += 1;
        let goes_on = is_cut_off(&wrapped.text);
        self.wrapped = Some(wrapped);
        if !goes_on {
            self.finish_wrapped();
        }
        true
    }

    fn finish_wrapped(&mut self) {
        if let Some(WrappedRecord { text, first_line, .. }) = self.wrapped.take() {
            let kind = self.read_cleaned(&text);
            self.summary.count(kind, first_line);
        }
    }

    /// Hands on the entry whose fields were read.
    fn deliver_entry(&mut self) -> LineKind {
        let kind = self.export.deliver(&mut self.sink);
        self.export.add_facts(&mut self.sink.facts);
        self.export.add_failures(&mut self.sink.failures);
        match kind {
            LineKind::Foreign if self.export.add_deaths(&mut self.sink.deaths) => LineKind::Death,
            kind => kind,
        }
    }

    /// Reads a JSON text that begins with this line.
    fn read_json(&mut self, first: Vec<u8>, lines: &mut LineReader<'_>) -> io::Result<()> {
        let mut nesting = JsonNesting::default();
        let mut is_whole = nesting.read(&first);
        let mut text = first;
        while !is_whole && text.len() <= LONGEST_JSON {
            match lines.next_line()? {
                None => break,
                Some(LogLine::TooLong) => text.push(b'\n'),
                Some(LogLine::Whole(line)) => {
                    text.push(b'\n');
                    text.extend_from_slice(line);
                    is_whole = nesting.read(line);
                }
            }
        }
        let is_wrapped = text.contains(&b'\n');
        let is_relevant = self.needles.may_be_record(&text) || memmem::find(&text, b"\"_TRANSPORT\"").is_some();
        if is_whole
            && (is_wrapped || is_relevant)
            && let Some((_, value)) = parse_json(&text)
        {
            self.summary.lines += 1;
            let kind = self.read_value(&value, None, 1);
            self.summary.count(kind, self.summary.lines);
            return Ok(());
        }
        for line in text.split(|byte| *byte == b'\n') {
            self.read_line(line);
        }
        Ok(())
    }

    /// Reads the journal entries and texts in JSON. Returns the first kind that is not foreign, and counts the others.
    fn read_value(&mut self, value: &Value, program: Option<&[u8]>, wrappings: usize) -> LineKind {
        let mut first = LineKind::Foreign;
        let mut add = |log: &mut Self, kind: LineKind| match (&first, &kind) {
            (_, LineKind::Foreign) => {}
            (LineKind::Foreign, _) => first = kind,
            _ => log.summary.count(kind, log.summary.lines),
        };
        match value {
            Value::Object(object) if is_journal_object(object) => {
                self.export.fields.set_json(object);
                let kind = self.deliver_entry();
                add(self, kind);
            }
            Value::Object(object) => {
                let named = find_program(object).map(str::as_bytes).filter(|program| !is_audit_tag(program));
                let program = named.or(program);
                for value in object.values() {
                    let kind = self.read_value(value, program, wrappings);
                    add(self, kind);
                }
            }
            Value::Array(values) => {
                for value in values {
                    let kind = self.read_value(value, program, wrappings);
                    add(self, kind);
                }
            }
            Value::String(text) if self.needles.may_be_record(text.as_bytes()) => {
                for line in text.lines() {
                    let kind = match program {
                        Some(program) if looks_like_record(line.as_bytes()) => {
                            Some(LineKind::Suspect(Suspicion::OtherProgram(program.to_vec())))
                        }
                        _ => self.classify(line.as_bytes(), wrappings),
                    };
                    add(self, kind.unwrap_or(LineKind::Foreign));
                }
            }
            _ => {}
        }
        first
    }

    /// Remembers a line whose message may go on in indented lines.
    fn note_heading(&mut self, line: &[u8]) {
        const LONGEST: usize = 512;
        self.heading.clear();
        self.heading.extend_from_slice(&line[..line.len().min(LONGEST)]);
    }

    /// Returns the program whose message goes on in this line.
    ///
    /// `journalctl` indents the further lines of a message to where the message begins (`print_multiline`, systemd's
    /// `logs-show.c`).
    fn find_program_above(&self, line: &[u8]) -> Option<Vec<u8>> {
        let indent = line.iter().take_while(|byte| **byte == b' ').count();
        if indent == 0 {
            return None;
        }
        let message = memmem::find(&self.heading, b": ")? + 2;
        let column = String::from_utf8_lossy(&self.heading[..message]).chars().count();
        find_other_program(&self.heading[..message]).filter(|_| indent >= column).map(<[u8]>::to_vec)
    }

    /// Reads what a line tells that is no record.
    fn read_foreign(&mut self, line: &[u8]) -> LineKind {
        match self.traces.read_line(line) {
            TraceLine::Denial => LineKind::Death,
            TraceLine::Other if self.sink.deaths.read_line(line) => LineKind::Death,
            TraceLine::Other | TraceLine::Call => LineKind::Foreign,
        }
    }

    /// Reads whole lines, and searches for those that may be records instead of looking at each.
    fn read_block(&mut self, block: &[u8]) {
        let mut candidates = self.needles.candidates();
        let mut at = 0;
        // Up to here, the heading is known.
        let mut noted = 0;
        while at < block.len() {
            let hit = if self.wrapped.is_some() { Some(at) } else { candidates.next_after(block, at) };
            let Some(hit) = hit else { break };
            let (start, end) = line_around(block, at, hit);
            self.skip_foreign(&block[at..start]);
            if block[start] == b' ' {
                self.find_heading(&block[noted..start]);
                noted = start;
            }
            self.read_line(&block[start..end]);
            at = block.len().min(end + 1);
        }
        self.skip_foreign(&block[at..]);
        self.find_heading(&block[noted..]);
    }

    /// Remembers the last of these lines that is not indented.
    fn find_heading(&mut self, lines: &[u8]) {
        let mut end = lines.len();
        while end > 0 {
            let line_end = if lines[end - 1] == b'\n' { end - 1 } else { end };
            let start = memrchr(b'\n', &lines[..line_end]).map_or(0, |newline| newline + 1);
            if lines[start] != b' ' {
                self.note_heading(&lines[start..line_end]);
                return;
            }
            end = start;
        }
    }

    /// Counts whole lines that are no records, and reads the deaths that they report.
    fn skip_foreign(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        let count = memchr_iter(b'\n', lines).count() as u64;
        if self.units.may_hold(lines) {
            let whole = lines.strip_suffix(b"\n").unwrap_or(lines);
            for (line, number) in whole.split(|byte| *byte == b'\n').zip(self.summary.lines + 1..) {
                self.units.read_line(line, number);
            }
        }
        self.summary.lines += count;
        self.sink.failures.read_lines(lines);
        let mut told = 0;
        if death_line::may_tell(lines) || StraceReader::may_tell(lines) {
            for line in lines.split(|byte| *byte == b'\n') {
                told += u64::from(matches!(self.read_foreign(line), LineKind::Death));
            }
        } else {
            self.sink.deaths.skip_lines(count);
        }
        self.summary.told += told;
        self.summary.foreign += count - told;
        for words in &self.needles.facts {
            for hit in words.find_iter(lines) {
                let (start, end) = line_around(lines, 0, hit);
                self.sink.facts.add_line(&lines[start..end]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
