//! Record → attribution → fold. Live records and logs take the same path; only the [`Host`] differs.
//!
//! Some evidence vanishes soon. The pipeline collects it as the record arrives ([`Host::collect_evidence`]). A sighting
//! that this evidence does not settle waits for later evidence in the [`attribution_queue`].

pub(crate) mod attribution_queue;
pub(crate) mod evidence_query;
mod process_memory;
mod record_cache;
mod rehearsed_units;
mod unattributed;
mod waiting_sightings;

pub use unattributed::UnattributedSighting;

use crate::audit::{Record, Stamp};
use crate::host::{CallSiteNote, Host};
use crate::incidents::{Fold, Folded, Incident, RehearsalSpan, RepeatSighting, Sighting};
use crate::units::{Evidence, Rung, Unit};
use record_cache::{CacheHit, CachedRecord, RecordCache, Repetitions, SeparateNumbers};
use rehearsed_units::RehearsedUnits;
use unattributed::moment_of_stamp;

/// What the pipeline did with a record.
#[derive(Debug)]
#[must_use]
pub enum RecordOutcome {
    /// The pipeline counted the record.
    Counted(Folded),
    /// The unit is not known yet.
    Unattributed(Box<UnattributedSighting>),
    /// The record repeats an unattributed record. The pipeline counts both together later.
    Repeated,
}

/// Turns records into incidents.
#[derive(Debug)]
pub struct Pipeline<H> {
    host: H,
    /// The incidents so far.
    pub fold: Fold,
    cache: RecordCache,
    rehearsed: RehearsedUnits,
}

impl<H: Host> Pipeline<H> {
    /// Creates a pipeline that asks `host` and holds at most `max_incidents` in memory.
    #[must_use]
    pub fn new(host: H, max_incidents: usize) -> Self {
        let (cache, rehearsed) = (RecordCache::default(), RehearsedUnits::default());
        Self { host, fold: Fold::new(max_incidents), cache, rehearsed }
    }

    /// Creates a pipeline for the processes of all users, with a [shared fold](Fold::new_shared).
    #[must_use]
    pub(crate) fn new_shared(host: H, max_incidents: usize) -> Self {
        Self { fold: Fold::new_shared(max_incidents), ..Self::new(host, max_incidents) }
    }

    /// Counts a record, unless later evidence may still name its unit. `named` is the unit that the record's source
    /// names, if any.
    pub fn add_record(&mut self, record: &Record<'_>, named: Option<&Unit>) -> RecordOutcome {
        let context = self.host.evidence_key(record);
        if let Some(context) = context {
            let comm = record.comm.decode();
            let glimpse =
                RepeatSighting { at: moment_of_stamp(record.stamp), pid: record.pid, comm: &comm, ip: record.ip };
            let numbers = self.separate_numbers(record);
            match self.cache.find(record, named, context, numbers) {
                Some(CacheHit::Counted(slot)) if self.fold.count(slot, 1, &glimpse) => {
                    return RecordOutcome::Counted(Folded::Again(slot));
                }
                Some(CacheHit::Waiting(repetitions)) => {
                    repetitions.add(&glimpse);
                    return RecordOutcome::Repeated;
                }
                Some(CacheHit::Counted(_)) | None => {}
            }
        }
        let mut evidence = self.host.collect_evidence(record);
        evidence.extend(named.map(|unit| Evidence::Named(Rung::JournalEntry, unit.clone())));
        let mut sighting = UnattributedSighting::from_record(record);
        let awaits_call_site = self.add_call_site(sighting.sighting_mut());
        if self.rehearsed.may_claim(record) {
            sighting.add_evidence(evidence.iter().cloned());
            let mut sighting = sighting.clone().into_sighting();
            let lineage = self.host.lineage(record);
            if self.rehearsed.claim(&mut sighting, record, &evidence, &lineage) {
                let folded = self.fold.add(sighting);
                if context.is_some() {
                    self.cache.remember(CachedRecord::Counted(folded.slot()));
                }
                return RecordOutcome::Counted(folded);
            }
        }
        sighting.add_evidence(evidence);
        let is_attributed = sighting.attribution().is_some();
        if !is_attributed {
            sighting.sighting_mut().sample.parent = self.host.parent(record);
        }
        if !sighting.is_inconclusive() && !awaits_call_site {
            let (folded, is_lasting) = self.count(sighting.into_sighting());
            if context.is_some() && is_lasting {
                self.cache.remember(CachedRecord::Counted(folded.slot()));
            }
            return RecordOutcome::Counted(folded);
        }
        sighting.set_key(context.map(|_| self.cache.remember(CachedRecord::Waiting(Repetitions::default()))));
        RecordOutcome::Unattributed(Box::new(sighting))
    }

    /// Counts a sighting that waited for evidence, with or without a unit, and the records that repeated it.
    pub(crate) fn add_sighting(&mut self, sighting: UnattributedSighting) -> Folded {
        let key = sighting.key().map(Box::from);
        let mut sighting = sighting.into_sighting();
        self.add_call_site(&mut sighting);
        let (folded, is_lasting) = self.count(sighting);
        if let Some(repetitions) = key.and_then(|key| self.cache.resolve(key, folded.slot(), is_lasting))
            && let Some(glimpse) = repetitions.latest()
        {
            // This cannot fail: `Fold::add` just returned the slot.
            let _ = self.fold.count(folded.slot(), repetitions.count, &glimpse);
        }
        folded
    }

    /// Counts an incident that another observer counted.
    pub(crate) fn add_incident(&mut self, incident: Incident) -> Folded {
        let Incident { key, rung, count, first, last, sample } = incident;
        let folded = self.fold.add(Sighting { key, rung, at: first, sample: sample.clone() });
        let glimpse = RepeatSighting { at: last, pid: sample.pid, comm: &sample.comm, ip: sample.ip };
        // This cannot fail: `Fold::add` just returned the slot.
        let _ = self.fold.count(folded.slot(), count.saturating_sub(1), &glimpse);
        folded
    }

    /// Sets the precise time of a record that the pipeline counted from a log line with a coarser time.
    pub(crate) fn set_time(&mut self, record: &Record<'_>, named: Option<&Unit>) {
        let (Some(context), Stamp::Millis(at)) = (self.host.evidence_key(record), record.stamp) else { return };
        if let Some(CacheHit::Counted(slot)) = self.cache.find(record, named, context, SeparateNumbers::All) {
            self.fold.set_time(slot, at);
        }
    }

    /// Attributes the logged calls of a unit to its rehearsal from `now` on, in milliseconds since the epoch.
    pub(crate) fn begin_rehearsal(&mut self, unit: Unit, now: i64) {
        self.cache.forget_counted();
        self.rehearsed.begin(unit, now);
    }

    /// Ends the rehearsal of a unit at `now`, in milliseconds since the epoch.
    pub(crate) fn end_rehearsal(&mut self, unit: &Unit, now: i64) {
        self.cache.forget_counted();
        self.rehearsed.end(unit, now);
    }

    /// Whether a unit is rehearsed now.
    pub(crate) fn is_rehearsed(&self, unit: &Unit) -> bool {
        self.rehearsed.is_running(unit)
    }

    /// Adds the rehearsals that an earlier daemon knew. `now` is in milliseconds since the epoch.
    pub(crate) fn restore_rehearsals(&mut self, spans: Vec<RehearsalSpan>, now: i64) {
        self.rehearsed.restore(spans, now);
    }

    /// Returns all rehearsals if they changed since the latest call.
    pub(crate) fn take_changed_rehearsals(&mut self) -> Option<Vec<RehearsalSpan>> {
        self.rehearsed.take_changed()
    }

    /// Notes that no store has the rehearsals.
    pub(crate) fn mark_rehearsals_unsaved(&mut self) {
        self.rehearsed.mark_unsaved();
    }

    /// The host, to pass it events.
    pub(crate) fn host_mut(&mut self) -> &mut H {
        &mut self.host
    }

    /// The host, to query it.
    #[must_use]
    pub(crate) fn host(&self) -> &H {
        &self.host
    }

    /// A shared fold counts numbers without a name as one incident, except those of a rehearsal.
    fn separate_numbers(&self, record: &Record<'_>) -> SeparateNumbers {
        if self.fold.is_shared() && !self.rehearsed.may_claim(record) {
            SeparateNumbers::Named
        } else {
            SeparateNumbers::All
        }
    }

    /// Adds where the process made the call, as far as the kernel noted it. Returns whether the kernel notes more later.
    fn add_call_site(&self, sighting: &mut Sighting) -> bool {
        let (noted, is_awaited) = match self.host.call_site(sighting) {
            CallSiteNote::Noted(site) => (Some(site), false),
            CallSiteNote::Later(site) => (site, true),
            CallSiteNote::None => (None, false),
        };
        let known = &mut sighting.sample.call_site;
        *known = noted.or(known.take());
        is_awaited
    }

    /// Counts a sighting. Returns its place, and whether repeating records count in the same place.
    fn count(&mut self, mut sighting: Sighting) -> (Folded, bool) {
        let is_lasting = self.rehearsed.set_source(&mut sighting);
        (self.fold.add(sighting), is_lasting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parse_record;
    use crate::incidents::{CallSite, CodePlace, Moment};
    use crate::units::Manager;

    /// A machine with one live process.
    struct Machine {
        context: Option<u64>,
        evidence: Vec<Evidence>,
        collections: u32,
        site: CallSiteNote,
    }

    impl Host for Machine {
        fn collect_evidence(&mut self, _: &Record<'_>) -> Vec<Evidence> {
            self.collections += 1;
            self.evidence.clone()
        }

        fn evidence_key(&mut self, _: &Record<'_>) -> Option<u64> {
            self.context
        }

        fn call_site(&self, _: &Sighting) -> CallSiteNote {
            self.site.clone()
        }
    }

    fn unit() -> Unit {
        Unit { manager: Manager::System, name: "a.service".parse().unwrap() }
    }

    fn add_record(pipeline: &mut Pipeline<Machine>, second: u32, call: u32) -> RecordOutcome {
        let line = format!(
            "audit({second}.000:{second}): auid=0 uid=0 gid=0 ses=1 pid={second} comm=\"c\" exe=\"/a\" sig=0 \
             arch=c000003e syscall={call} compat=0 ip=0x7 code=0x50000"
        );
        pipeline.add_record(&parse_record(line.as_bytes()).unwrap(), None)
    }

    #[test]
    fn executable_guess_of_system_service_is_ignored_for_logged_in_user() {
        let user = Unit { manager: Manager::User(1000), ..unit() };
        for (ids, guess, expected) in [
            ("auid=4294967295 uid=1000 gid=0 ses=4294967295", unit(), true),
            ("auid=1000 uid=1000 gid=0 ses=3", unit(), false),
            ("auid=1000 uid=0 gid=0 ses=3", unit(), false),
            ("auid=1000 uid=1000 gid=0 ses=3", user.clone(), true),
            ("auid=1001 uid=1000 gid=0 ses=3", user, false),
        ] {
            let line = format!(
                "audit(1.000:1): {ids} pid=7 comm=\"c\" exe=\"/a\" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7 \
                 code=0x80000000"
            );
            let record = parse_record(line.as_bytes()).unwrap();
            let mut pipeline = machine(Some(1), vec![Evidence::Named(Rung::Executable, guess.clone())]);
            let RecordOutcome::Unattributed(sighting) = pipeline.add_record(&record, None) else {
                panic!("a guess can be replaced")
            };
            assert_eq!(sighting.attribution().is_some(), expected, "{ids} {guess:?}");
            let mut pipeline = machine(Some(1), Vec::new());
            let RecordOutcome::Unattributed(mut sighting) = pipeline.add_record(&record, None) else {
                panic!("nothing is known")
            };
            sighting.add_evidence([Evidence::Named(Rung::Executable, guess)]);
            assert_eq!(sighting.attribution().is_some(), expected, "{ids}");
        }
    }

    fn machine(context: Option<u64>, evidence: Vec<Evidence>) -> Pipeline<Machine> {
        Pipeline::new(Machine { context, evidence, collections: 0, site: CallSiteNote::None }, 8)
    }

    #[test]
    fn attributed_record_waits_for_the_note_of_its_call_site() {
        let mut pipeline = machine(None, vec![Evidence::Named(Rung::MainProcess, unit())]);
        let site = Box::new(CallSite::default());
        pipeline.host.site = CallSiteNote::Later(Some(site.clone()));
        let RecordOutcome::Unattributed(sighting) = add_record(&mut pipeline, 1, 41) else {
            panic!("the kernel notes the caller in a moment")
        };
        let site = Box::new(CallSite { caller: Some(CodePlace::default()), ..*site });
        pipeline.host.site = CallSiteNote::Noted(site.clone());
        let _ = pipeline.add_sighting(*sighting);
        assert!(matches!(add_record(&mut pipeline, 2, 41), RecordOutcome::Counted(Folded::Again(_))));
        pipeline.host.site = CallSiteNote::None;
        assert!(matches!(add_record(&mut pipeline, 3, 41), RecordOutcome::Counted(Folded::Again(_))));
        let incident = pipeline.fold.take_changes(usize::MAX).remove(0).incident;
        assert_eq!((incident.count, incident.sample.call_site), (3, Some(site)), "of an earlier sighting");
    }

    #[test]
    fn evidence_of_unchanged_process_is_collected_once() {
        let mut pipeline = machine(Some(1), vec![Evidence::Named(Rung::MainProcess, unit())]);
        for second in 1..=5 {
            assert!(matches!(add_record(&mut pipeline, second, 41), RecordOutcome::Counted(_)));
        }
        assert_eq!(pipeline.host.collections, 1);
        assert!(matches!(add_record(&mut pipeline, 6, 42), RecordOutcome::Counted(Folded::First(_))), "another call");
        pipeline.host.context = Some(2);
        assert!(
            matches!(add_record(&mut pipeline, 7, 41), RecordOutcome::Counted(Folded::Again(_))),
            "another process"
        );
        assert_eq!(pipeline.host.collections, 3);
        let changes = pipeline.fold.take_changes(usize::MAX);
        let socket = changes.iter().find(|change| change.incident.count == 6).unwrap();
        assert_eq!((&socket.incident.first, &socket.incident.last), (&Moment::At(1_000), &Moment::At(7_000)));
        assert_eq!(socket.incident.sample.pid, 7);
    }

    #[test]
    fn evidence_without_context_is_collected_per_record() {
        let mut pipeline = machine(None, vec![Evidence::Named(Rung::MainProcess, unit())]);
        for second in 1..=3 {
            assert!(matches!(add_record(&mut pipeline, second, 41), RecordOutcome::Counted(_)));
        }
        assert_eq!(pipeline.host.collections, 3);
    }

    #[test]
    fn record_repeating_unattributed_one_is_counted_with_it() {
        let mut pipeline = machine(Some(1), Vec::new());
        let RecordOutcome::Unattributed(mut sighting) = add_record(&mut pipeline, 1, 41) else {
            panic!("nothing is known")
        };
        for second in 2..=9 {
            assert!(matches!(add_record(&mut pipeline, second, 41), RecordOutcome::Repeated));
        }
        sighting.add_evidence([Evidence::Named(Rung::MainProcess, unit())]);
        let _ = pipeline.add_sighting(*sighting);
        assert!(matches!(add_record(&mut pipeline, 10, 41), RecordOutcome::Counted(Folded::Again(_))));
        let incident = pipeline.fold.take_changes(usize::MAX).remove(0).incident;
        assert_eq!((incident.key.unit, incident.count, incident.last), (Some(unit()), 10, Moment::At(10_000)));
    }
}
