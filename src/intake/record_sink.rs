//! Hands each record of a log on once.

use super::deaths::DeathReader;
use super::envelope::Suspicion;
use super::failures::FailureReader;
use super::logged_facts::LoggedFacts;
use super::repeats::{Novelty, RepeatFilter};
use crate::audit::Record;
use crate::units::Unit;

/// Receives a record, and the unit that the log names for its process, where it names one.
pub(super) type OnRecord<'a> = dyn FnMut(&Record<'_>, Option<&Unit>, Novelty) + 'a;

/// What a line or journal entry was.
#[must_use]
#[derive(Debug, Clone)]
pub(super) enum LineKind {
    Record,
    Repeat,
    /// It reports a death by SIGSYS, or of the unit that lines after it are about.
    Death,
    Foreign,
    /// It looks like a record and is none.
    Suspect(Suspicion),
}

/// Drops the records that were handed on before.
pub(super) struct RecordSink<'a, 'b> {
    on_record: &'a mut OnRecord<'b>,
    repeats: RepeatFilter,
    /// What the log shows about its machine.
    pub(super) facts: LoggedFacts,
    /// The deaths by SIGSYS that the log reports.
    pub(super) deaths: DeathReader,
    /// The other failures that the log reports.
    pub(super) failures: FailureReader,
}

impl<'a, 'b> RecordSink<'a, 'b> {
    pub(super) fn new(on_record: &'a mut OnRecord<'b>) -> Self {
        let (repeats, facts, deaths) = (RepeatFilter::default(), LoggedFacts::default(), DeathReader::default());
        Self { on_record, repeats, facts, deaths, failures: FailureReader::default() }
    }

    pub(super) fn push(&mut self, parsed: Result<Record<'_>, Suspicion>, unit: Option<&Unit>) -> LineKind {
        let record = match parsed {
            Ok(record) => record,
            Err(why) => return LineKind::Suspect(why),
        };
        self.facts.add_record(&record);
        let novelty = self.repeats.check(&record);
        if novelty == Some(Novelty::New) {
            self.deaths.add_record(&record, unit);
        }
        if let Some(novelty) = novelty {
            (self.on_record)(&record, unit, novelty);
        }
        if novelty == Some(Novelty::New) { LineKind::Record } else { LineKind::Repeat }
    }
}
