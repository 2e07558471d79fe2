//! What a log held: the counts of its lines, and what they show.

use super::deaths::Deaths;
use super::envelope::Suspicion;
use super::failures::LoggedFailures;
use super::logged_facts::LoggedFacts;
use super::pasted_units::PastedUnit;
use super::record_sink::LineKind;
use super::strace_text::TracedCalls;
use crate::audit::text::escape_excerpt;

/// How many skipped lines are described; all are counted.
const MAX_COMPLAINTS: usize = 5;

/// What a log held.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct LogSummary {
    /// Lines, or journal entries in a format with fields.
    pub(crate) lines: u64,
    /// SECCOMP records.
    pub(crate) records: u64,
    /// Further copies of these records.
    pub(crate) repeats: u64,
    /// Lines and entries that report a death, or of its unit, and lines of strace that show a denial.
    pub(crate) told: u64,
    /// Lines about something else.
    pub(crate) foreign: u64,
    /// Lines that look like a record and are none.
    pub(crate) malformed: u64,
    /// Lines that continue a wrapped record.
    pub(crate) continued: u64,
    /// Lines over [`LONGEST_LINE`](super::lines::LONGEST_LINE).
    pub(crate) overlong: u64,
    /// What the log shows about its machine.
    pub(crate) facts: LoggedFacts,
    /// Deaths by SIGSYS that other programs than the kernel report.
    pub(crate) deaths: Deaths,
    /// Failures of units, and of what programs could not do.
    pub(crate) failures: LoggedFailures,
    /// Denials in lines of strace.
    pub(crate) traced: TracedCalls,
    /// Unit files between the lines.
    pub(crate) units: Vec<PastedUnit>,
    /// The first few malformed or overlong lines: the line number, and what is wrong.
    pub(crate) complaints: Vec<(u64, String)>,
}

impl LogSummary {
    /// Describes a skipped line, unless enough are.
    pub(super) fn complain(&mut self, line: u64, why: String) {
        if self.complaints.len() < MAX_COMPLAINTS {
            self.complaints.push((line, why));
        }
    }

    /// Counts a line or entry, which began at `line`.
    pub(super) fn count(&mut self, kind: LineKind, line: u64) {
        match kind {
            LineKind::Record => self.records += 1,
            LineKind::Repeat => self.repeats += 1,
            LineKind::Death => self.told += 1,
            LineKind::Foreign => self.foreign += 1,
            LineKind::Suspect(why) => {
                self.malformed += 1;
                let why = match why {
                    Suspicion::Malformed(why) => format!("looks like a record, but {why}"),
                    Suspicion::OtherProgram(word) => {
                        let word = escape_excerpt(String::from_utf8_lossy(&word).trim_end_matches(':'));
                        format!("looks like a record, but is logged under '{word}': any program can log such a text")
                    }
                };
                self.complain(line, why);
            }
        }
    }
}
