//! The failures that a log tells without a record of a denial: of units, as their managers report them, and of what
//! programs could not do.
//!
//! A program's message belongs to a unit only if the journal says so. Others are kept with the tag under which they were
//! logged.

use super::death_line::{TaggedLine, split_tag};
use super::failed_call_records;
use super::failed_call_records::{CallRecordReader, RecordedFailure, find_field};
use super::failure_line;
use super::failure_line::{FailureLine, StartPhase, is_manager};
use super::failure_message;
use super::failure_message::{add_source_lines, parse_message};
use super::line_prefix::is_audit_tag;
use super::traceback::{TRACEBACK, Tracebacks, TracedLine, Writer};
use crate::incidents::{FailedAttempt, FailedStep, UnitFailure};
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
    /// Those that report the end of a run with a failure.
    ends: VecDeque<u64>,
    /// The lines that report the start of a run: the latest few.
    starts: VecDeque<u64>,
    /// What systemd itself could not do in any run, with the latest line that says so.
    steps: VecDeque<(u64, FailedStep)>,
}

/// The starts of a unit.
#[derive(Debug, Default)]
struct Starts {
    /// The first line of each: the latest few.
    lines: VecDeque<u64>,
    /// How far the latest one is.
    phase: Option<StartPhase>,
}

impl Starts {
    fn add(&mut self, line: u64, phase: StartPhase) {
        let is_same = self.phase.is_some_and(|before| before < phase);
        self.phase = Some(phase);
        if !is_same {
            push_line(&mut self.lines, line);
        }
    }

    /// Forgets a scheduled start that does not happen.
    fn cancel(&mut self) {
        if self.phase.take_if(|phase| *phase == StartPhase::Scheduled).is_some() {
            self.lines.pop_back();
        }
    }
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

    /// Whether a line is of the run that failed last, as far as the log tells.
    pub(crate) fn is_of_last_run(&self, line: u64) -> bool {
        let Some(end) = self.ends.back() else { return true };
        let Some(start) = self.starts.iter().rfind(|start| *start <= end) else { return true };
        let next = self.starts.iter().find(|start| *start > end);
        // The lines of a program and of its manager take different ways to the log.
        let earlier = self.ends.iter().rfind(|line| *line < start).copied();
        let first = earlier.unwrap_or_else(|| start.saturating_sub(SWAPPED));
        line > first && next.is_none_or(|next| line < *next)
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
    starts: HashMap<Unit, Starts>,
    tracebacks: Tracebacks,
}

/// Whether lines may tell a failure.
fn may_tell(lines: &[u8]) -> bool {
    const WORDS: [&[u8]; 11] = [
        b": Failed ",
        b": Unable to ",
        b": Changing ",
        b"rocess exited, code=exited",
        b"(code=exited, status=",
        b"entered failed state",
        b"Loaded: loaded (",
        b": Scheduled restart job",
        b"tart request repeated too quickly",
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
        if !self.calls.is_open() && !self.tracebacks.is_open() && !may_tell(lines) {
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
                Some(FailureLine::Start { unit, phase }) => {
                    let unit = self.find_unit(unit, failure_line::find_manager(&text));
                    self.add_start(unit, phase, self.line + 1);
                }
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
                self.report_end(Unit { manager: Manager::System, name: unit });
            }
            if is_record {
                return;
            }
        }
        let text = String::from_utf8_lossy(line);
        if let Some(found) = failure_line::parse(&text) {
            self.add_line(found, failure_line::find_manager(&text));
            return;
        }
        let TaggedLine { tag, body } = split_tag(text.trim_end());
        let find_writer = || tag.map_or(Writer::Unknown, |(name, pid)| Writer::Program(name.into(), pid));
        let source_lines = match self.tracebacks.read(body, find_writer) {
            TracedLine::Inside => return,
            TracedLine::Error(source) => source,
            TracedLine::Outside => Vec::new(),
        };
        if !failure_message::may_tell(line) {
            return;
        }
        let source = match tag {
            Some((name, _)) if is_audit_tag(name.as_bytes()) || is_manager(name) => return,
            Some((name, Some(_))) => AttemptSource::Tag(name.into()),
            _ => AttemptSource::Untagged,
        };
        let message = if source == AttemptSource::Untagged { text.trim_end() } else { body };
        if let Some(mut attempt) = parse_message(message) {
            add_source_lines(&mut attempt, &source_lines);
            self.add_attempt(source, attempt);
        }
    }

    /// Adds what a line says about a unit. `manager` is its writer, if the tag tells.
    fn add_line(&mut self, line: FailureLine, manager: Option<Manager>) {
        let is_recent = |(_, at): &(UnitName, u64)| self.line - at <= ABOUT_LINES;
        let about = self.about.clone().filter(is_recent).map(|(name, _)| name);
        match line {
            FailureLine::About(name) => self.about = Some((name, self.line)),
            FailureLine::Start { unit, phase } => {
                let unit = self.find_unit(unit, manager);
                self.add_start(unit, phase, self.line);
            }
            FailureLine::NoRestart(unit) => self.cancel_start(&self.find_unit(unit, manager)),
            FailureLine::Exited { unit, status } => {
                let Some(unit) = unit.or(about) else { return };
                if let Some(failure) = self.report_end(self.find_unit(unit, manager)) {
                    failure.status = Some(status);
                }
            }
            FailureLine::Failed { unit, result } => {
                let Some(unit) = unit.or(about) else { return };
                if let Some(failure) = self.report_end(self.find_unit(unit, manager)) {
                    failure.result = result.or(failure.result.take());
                }
            }
            // The process that writes it has another pid than its manager.
            FailureLine::Step { unit, step } => self.add_step(self.find_unit(unit, None), step),
        }
    }

    /// Returns a unit of a manager; of an unknown one, the unit of this name that failed already, or the system's.
    fn find_unit(&self, name: UnitName, manager: Option<Manager>) -> Unit {
        let known = || self.found.units.keys().find(|known| known.name == name).map(|known| known.manager);
        let manager = manager.or_else(known).unwrap_or(Manager::System);
        Unit { manager, name }
    }

    /// Notes that the line reports a failure of a unit; `None` if too many units failed.
    fn report(&mut self, unit: Unit) -> Option<&mut LoggedFailure> {
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
        Some(failed)
    }

    /// Notes that the line reports the end of a run with a failure. What an earlier run ended with counts no more.
    fn report_end(&mut self, unit: Unit) -> Option<&mut UnitFailure> {
        let start = self.starts.get(&unit).and_then(|starts| starts.lines.back().copied());
        let line = self.line;
        let failed = self.report(unit)?;
        if failed.ends.back().zip(start).is_some_and(|(end, start)| *end < start) {
            failed.failure = UnitFailure::default();
        }
        push_line(&mut failed.ends, line);
        Some(&mut failed.failure)
    }

    fn add_step(&mut self, unit: Unit, step: FailedStep) {
        let line = self.line;
        let Some(LoggedFailure { steps, .. }) = self.report(unit) else { return };
        steps.retain(|(_, known)| *known != step);
        if steps.len() >= MOST_OF_SOURCE {
            steps.pop_front();
        }
        steps.push_back((line, step));
    }

    fn add_start(&mut self, unit: Unit, phase: StartPhase, line: u64) {
        if self.starts.len() < MOST_STARTED || self.starts.contains_key(&unit) {
            self.starts.entry(unit).or_default().add(line, phase);
        }
    }

    fn cancel_start(&mut self, unit: &Unit) {
        if let Some(starts) = self.starts.get_mut(unit) {
            starts.cancel();
        }
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
        if !may_tell(message) && !self.tracebacks.is_open() && !message.starts_with(b"Start") {
            return;
        }
        for line in message[..message.len().min(LONGEST)].split(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            match (failure_line::parse_message(&text), writer) {
                (Some(found), EntryWriter::Manager(manager)) => self.add_entry(found, manager),
                (Some(FailureLine::Step { unit, step }), EntryWriter::Process(own)) if own.name == unit => {
                    self.add_step(own.clone(), step);
                }
                (None, EntryWriter::Process(unit)) => self.read_text(unit, &text),
                _ => {}
            }
        }
    }

    /// Reads what a process of a unit wrote.
    fn read_text(&mut self, unit: &Unit, text: &str) {
        let source_lines = match self.tracebacks.read(text, || Writer::Unit(unit.clone())) {
            TracedLine::Inside => return,
            TracedLine::Error(source) => source,
            TracedLine::Outside => Vec::new(),
        };
        if let Some(mut attempt) = parse_message(text) {
            add_source_lines(&mut attempt, &source_lines);
            self.add_attempt(AttemptSource::Unit(unit.clone()), attempt);
        }
    }

    /// Adds what an entry of a manager says about one of its units by name.
    fn add_entry(&mut self, found: FailureLine, manager: Manager) {
        match found {
            FailureLine::About(_) | FailureLine::Exited { unit: None, .. } | FailureLine::Failed { unit: None, .. } => {
            }
            FailureLine::Step { unit, step } => self.add_step(Unit { manager, name: unit }, step),
            found => self.add_line(found, Some(manager)),
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
            failed.starts = self.starts.remove(unit).unwrap_or_default().lines;
            for (line, step) in std::mem::take(&mut failed.steps) {
                if failed.is_of_last_run(line) {
                    failed.failure.add_step(step);
                }
            }
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
