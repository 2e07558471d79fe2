//! The failures that a log tells without a record of a denial: of units, as their managers report them, and of what
//! programs could not do.
//!
//! A program's message belongs to a unit only if the journal says so. Others are kept with the tag under which they were
//! logged.

use super::death_line::{TaggedLine, split_tag};
use super::failed_call_records;
use super::failed_call_records::{CallRecordReader, RecordedFailure, find_field};
use super::failure_line;
use super::failure_line::{FailureLine, is_manager};
use super::failure_message;
use super::failure_message::{add_source_lines, parse_message};
use super::line_prefix::is_audit_tag;
use super::traceback::{TRACEBACK, Traceback};
use crate::incidents::{FailedAttempt, UnitFailure};
use crate::units::{Manager, Unit, UnitName};
use memchr::memmem;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// The most units that are kept, the most sources of messages, and the latest messages of each source.
const MOST_UNITS: usize = 256;
const MOST_SOURCES: usize = 256;
const MOST_OF_SOURCE: usize = 16;

/// The longest part of a line that is read, in bytes.
const LONGEST: usize = 4096;

/// How many lines after a unit's name a line is still about that unit.
const ABOUT_LINES: u64 = 40;

/// How many lines before the report of a failure a program tells the reason, and how many after it: the program's output
/// and its manager take different ways to the log.
const LINES_BEFORE: u64 = 200;
const LINES_AFTER: u64 = 20;

/// How many lines before the report of its start a program can have logged.
const SWAPPED: u64 = 3;

/// The most units whose starts are kept.
const MOST_STARTED: usize = 1024;

/// The failures of a log.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct LoggedFailures {
    /// By unit.
    pub(crate) units: BTreeMap<Unit, LoggedFailure>,
    /// By who logged them: what programs could not do.
    pub(crate) attempts: BTreeMap<AttemptSource, VecDeque<LoggedAttempt>>,
}

/// How a unit failed, and where the log says so.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct LoggedFailure {
    pub(crate) failure: UnitFailure,
    /// The lines that report it: the latest few.
    lines: VecDeque<u64>,
    /// The lines that report the start of a run: the latest few.
    starts: VecDeque<u64>,
}

/// Who logged an attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AttemptSource {
    /// A process of a unit, as the journal says.
    Unit(Unit),
    /// A program under its tag.
    Tag(Box<str>),
    /// The kernel, about a program with this executable.
    Executable(Box<[u8]>),
    /// Unknown: the line has no tag with a pid.
    Untagged,
}

/// An attempt, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoggedAttempt {
    pub(crate) attempt: FailedAttempt,
    line: u64,
}

/// The writer of a journal entry, as journald vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryWriter<'a> {
    /// The manager of a unit.
    Manager(Manager),
    /// A process of a unit. Before it executes its program it is systemd's own.
    Process(&'a Unit),
}

impl LoggedAttempt {
    /// The number of its line.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }
}

impl LoggedFailure {
    /// Whether a line is near a report of the failure.
    pub(crate) fn is_near(&self, attempt: &LoggedAttempt) -> bool {
        let near = |line: &u64| (line.saturating_sub(LINES_BEFORE)..=line + LINES_AFTER).contains(&attempt.line);
        self.lines.iter().any(near)
    }

    /// Whether a line is of the run that failed, as far as the log tells.
    pub(crate) fn is_of_last_run(&self, attempt: &LoggedAttempt) -> bool {
        let Some(end) = self.lines.back() else { return true };
        let Some(start) = self.starts.iter().rfind(|start| *start <= end) else { return true };
        let next = self.starts.iter().find(|start| *start > end);
        // The lines of a program and of its manager take different ways to the log.
        let earlier = self.lines.iter().rfind(|line| *line < start).copied();
        let first = earlier.unwrap_or_else(|| start.saturating_sub(SWAPPED));
        attempt.line > first && next.is_none_or(|next| attempt.line < *next)
    }
}

/// Appends a line number, and keeps the latest few.
fn push_line(lines: &mut VecDeque<u64>, line: u64) {
    const KEPT: usize = 4;
    if lines.len() >= KEPT {
        lines.pop_front();
    }
    lines.push_back(line);
}

fn push_start(starts: &mut HashMap<UnitName, VecDeque<u64>>, unit: UnitName, line: u64) {
    if starts.len() < MOST_STARTED || starts.contains_key(&unit) {
        push_line(starts.entry(unit).or_default(), line);
    }
}

/// Collects failures as a log is read.
#[derive(Debug, Default)]
pub(crate) struct FailureReader {
    found: LoggedFailures,
    calls: CallRecordReader,
    /// The number of the latest line.
    line: u64,
    /// The unit that the lines are about, and the line that names it.
    about: Option<(UnitName, u64)>,
    /// The latest lines at which runs of units began.
    starts: HashMap<UnitName, VecDeque<u64>>,
    traceback: Traceback,
}

/// Whether lines may tell a failure.
fn may_tell(lines: &[u8]) -> bool {
    const WORDS: [&[u8]; 9] = [
        b": Failed ",
        b": Unable to ",
        b": Changing ",
        b"rocess exited, code=exited",
        b"(code=exited, status=",
        b"entered failed state",
        b"Loaded: loaded (",
        b" res=failed",
        TRACEBACK.as_bytes(),
    ];
    WORDS.iter().any(|words| memmem::find(lines, words).is_some())
        || failure_message::may_tell(lines)
        || failed_call_records::may_tell(lines)
}

impl FailureReader {
    /// Reads whole lines that hold no record of a denial.
    pub(super) fn read_lines(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        let whole = lines.strip_suffix(b"\n").unwrap_or(lines);
        if !self.calls.is_open() && !self.traceback.is_open() && !may_tell(lines) {
            self.read_starts(whole);
            return;
        }
        for line in whole.split(|byte| *byte == b'\n') {
            self.line += 1;
            self.read_line(&line[..line.len().min(LONGEST)]);
        }
    }

    /// Reads lines that tell no failure: only the reports of starts, and a heading of `systemctl status` at the beginning.
    fn read_starts(&mut self, lines: &[u8]) {
        const MARKS: [&str; 4] = ["\u{25cf} ", "\u{25cb} ", "\u{d7} ", "\u{21bb} "];
        let first = self.line + 1;
        let mut known = 0;
        let headed = MARKS.iter().any(|mark| lines.starts_with(mark.as_bytes())).then_some(0);
        for hit in headed.into_iter().chain(memmem::find_iter(lines, b"]: Start")) {
            let start = memchr::memrchr(b'\n', &lines[..hit]).map_or(0, |newline| newline + 1);
            let end = memchr::memchr(b'\n', &lines[hit..]).map_or(lines.len(), |length| hit + length);
            if start < known {
                continue;
            }
            self.line += memchr::memchr_iter(b'\n', &lines[known..start]).count() as u64;
            known = start;
            let text = String::from_utf8_lossy(&lines[start..end.min(start + LONGEST)]);
            match failure_line::parse(&text) {
                Some(FailureLine::Started(unit)) => push_start(&mut self.starts, unit, self.line + 1),
                Some(FailureLine::About(unit)) => self.about = Some((unit, self.line + 1)),
                _ => {}
            }
        }
        self.line = first + memchr::memchr_iter(b'\n', lines).count() as u64;
    }

    fn read_line(&mut self, line: &[u8]) {
        if memmem::find(line, b"audit(").is_some() {
            let (is_record, call) = self.calls.read_line(line);
            self.add_call(call);
            if let Some(unit) = parse_service_record(line).filter(|_| is_record) {
                self.report(Unit { manager: Manager::System, name: unit });
            }
            if is_record {
                return;
            }
        }
        let text = String::from_utf8_lossy(line);
        if let Some(found) = failure_line::parse(&text) {
            self.add_line(found);
            return;
        }
        let TaggedLine { tag, body } = split_tag(text.trim_end());
        let is_traced = self.traceback.read(tag.map_or("", |(name, _)| name), body);
        if is_traced || !failure_message::may_tell(line) {
            return;
        }
        let source = match tag {
            Some((name, _)) if is_audit_tag(name.as_bytes()) || is_manager(name) => return,
            Some((name, Some(_))) => AttemptSource::Tag(name.into()),
            _ => AttemptSource::Untagged,
        };
        let message = if source == AttemptSource::Untagged { text.trim_end() } else { body };
        if let Some(mut attempt) = parse_message(message) {
            add_source_lines(&mut attempt, &self.traceback.take());
            self.add_attempt(source, attempt);
        }
    }

    fn add_line(&mut self, line: FailureLine) {
        let is_recent = |(_, at): &(UnitName, u64)| self.line - at <= ABOUT_LINES;
        let about = self.about.clone().filter(is_recent).map(|(name, _)| name);
        let system = |name: Option<UnitName>| name.or(about).map(|name| Unit { manager: Manager::System, name });
        match line {
            FailureLine::About(name) => self.about = Some((name, self.line)),
            FailureLine::Started(name) => self.add_start(name),
            FailureLine::Exited { unit, status, is_of_user } => {
                let Some(mut unit) = system(unit) else { return };
                if is_of_user {
                    unit.manager = Manager::User(Manager::SOME_USER);
                }
                if let Some(failure) = self.report(unit) {
                    failure.status = Some(status);
                }
            }
            FailureLine::Failed { unit, result } => {
                let Some(unit) = system(unit) else { return };
                let unit = self.known(unit);
                if let Some(failure) = self.report(unit) {
                    failure.result = result.or(failure.result.take());
                }
            }
            // The process that writes it has another pid than its manager.
            FailureLine::Step { unit, step } => {
                let unit = self.known(Unit { manager: Manager::System, name: unit });
                if let Some(failure) = self.report(unit) {
                    failure.add_step(step);
                }
            }
        }
    }

    /// Returns the unit of the same name that failed already, whose manager is known then.
    fn known(&self, unit: Unit) -> Unit {
        let mut known = self.found.units.keys().filter(|known| known.name == unit.name);
        known.next().cloned().unwrap_or(unit)
    }

    /// Notes that the line reports a failure of a unit; `None` if too many units failed.
    fn report(&mut self, unit: Unit) -> Option<&mut UnitFailure> {
        let of_name = Unit { manager: Manager::System, name: unit.name.clone() };
        if unit.manager != Manager::System
            && let Some(earlier) = self.found.units.remove(&of_name)
        {
            self.found.units.insert(unit.clone(), earlier);
        }
        if self.found.units.len() >= MOST_UNITS && !self.found.units.contains_key(&unit) {
            return None;
        }
        let failed = self.found.units.entry(unit).or_default();
        push_line(&mut failed.lines, self.line);
        Some(&mut failed.failure)
    }

    fn add_start(&mut self, unit: UnitName) {
        push_start(&mut self.starts, unit, self.line);
    }

    fn add_attempt(&mut self, source: AttemptSource, attempt: FailedAttempt) {
        let is_full = self.found.attempts.len() >= MOST_SOURCES;
        if is_full && !self.found.attempts.contains_key(&source) {
            return;
        }
        let line = self.line;
        let kept = self.found.attempts.entry(source).or_default();
        let is_bare = attempt.is_bare();
        let is_same =
            |known: &FailedAttempt| *known == attempt || (is_bare && known.is_bare() && known.errno == attempt.errno);
        kept.retain(|known| !is_same(&known.attempt));
        if kept.len() >= MOST_OF_SOURCE {
            if is_bare {
                return;
            }
            kept.pop_front();
        }
        kept.push_back(LoggedAttempt { attempt, line });
    }

    fn add_call(&mut self, call: Option<RecordedFailure>) {
        if let Some(RecordedFailure { exe, attempt }) = call {
            self.add_attempt(AttemptSource::Executable(exe), attempt);
        }
    }

    /// Reads the message of a journal entry.
    pub(crate) fn read_message(&mut self, message: &[u8], writer: EntryWriter<'_>) {
        self.line += 1;
        if !may_tell(message) && !self.traceback.is_open() && !message.starts_with(b"Start") {
            return;
        }
        for line in message[..message.len().min(LONGEST)].split(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            match (failure_line::parse_message(&text, false), writer) {
                (Some(found), EntryWriter::Manager(manager)) => self.add_entry(found, manager),
                (Some(FailureLine::Step { unit, step }), EntryWriter::Process(own)) if own.name == unit => {
                    self.add_entry(FailureLine::Step { unit, step }, own.manager);
                }
                (None, EntryWriter::Process(unit)) => {
                    if self.traceback.read("", &text) {
                        continue;
                    }
                    if let Some(mut attempt) = parse_message(&text) {
                        add_source_lines(&mut attempt, &self.traceback.take());
                        self.add_attempt(AttemptSource::Unit(unit.clone()), attempt);
                    }
                }
                _ => {}
            }
        }
    }

    /// Adds what an entry says about a unit of a manager.
    fn add_entry(&mut self, found: FailureLine, manager: Manager) {
        if let FailureLine::Started(unit) = found {
            return self.add_start(unit);
        }
        let (FailureLine::Exited { unit: Some(name), .. }
        | FailureLine::Failed { unit: Some(name), .. }
        | FailureLine::Step { unit: name, .. }) = &found
        else {
            return;
        };
        let Some(failure) = self.report(Unit { manager, name: name.clone() }) else { return };
        match found {
            FailureLine::Exited { status, .. } => failure.status = Some(status),
            FailureLine::Failed { result, .. } => failure.result = result,
            FailureLine::Step { step, .. } => failure.add_step(step),
            FailureLine::About(_) | FailureLine::Started(_) => {}
        }
    }

    /// Reads a record of the audit system in a journal.
    pub(super) fn read_record(&mut self, kind: &[u8], serial: u64, body: &[u8]) {
        let call = self.calls.read_entry(kind, serial, body);
        self.add_call(call);
    }

    /// Returns what was found.
    pub(crate) fn finish(mut self) -> LoggedFailures {
        for call in self.calls.finish() {
            self.add_call(Some(call));
        }
        for (unit, failed) in &mut self.found.units {
            failed.starts = self.starts.get(&unit.name).cloned().unwrap_or_default();
        }
        self.found
    }
}

/// Returns the service in systemd's own record of a failed start or of an end with a failure (`manager_send_unit_audit`).
fn parse_service_record(line: &[u8]) -> Option<UnitName> {
    let is_service = [&b"SERVICE_START"[..], b"SERVICE_STOP", b"type=1130", b"type=1131"];
    let is_service = is_service.iter().any(|words| memmem::find(line, words).is_some());
    let has = |key: &[u8], value: &[u8]| find_field(line, key) == Some(value);
    let failed = has(b"res=", b"failed");
    let is_of_systemd = has(b"pid=", b"1") && has(b"uid=", b"0");
    let name = find_field(line, b"unit=").filter(|_| is_service && failed && is_of_systemd)?;
    format!("{}.service", str::from_utf8(name).ok()?).parse().ok()
}

#[cfg(test)]
mod tests;
