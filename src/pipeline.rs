//! Record → attribution → fold: the same way live and offline, generic over who can be asked.
//!
//! Evidence that vanishes is grabbed when the record arrives ([`Host::glance`]); what has to be
//! asked for comes later ([`Host::ask`]), and only for what a glance did not settle.

mod recent;
mod rehearsals;

use crate::audit::text::escape;
use crate::audit::{ArchField, CallField, IdField, Record, Stamp};
use crate::host::Host;
use crate::host::live_host::DeathEvidence;
use crate::incidents::{
    Denial, Fold, Folded, Incident, IncidentEvent, IncidentKey, Moment, RepeatSighting, Sample, Sighting,
    SightingSource,
};
use crate::kernel::ancestors::Descendant;
use crate::syscalls::{Arch, Call};
use crate::units::process_ancestry::{Login, Whose};
use crate::units::{Attribution, Confidence, Evidence, Rung, Unit, attribution};
use recent::{Found, Known, Others, Recent};
use rehearsals::Rehearsals;
use std::borrow::Cow;

/// The longest path the kernel writes into `exe=` (`PATH_MAX`), and room for any LSM label.
const LONGEST_TEXT: usize = 4096;

/// What became of a record.
#[derive(Debug)]
#[must_use]
pub enum Sighted {
    /// It is counted.
    Folded(Folded),
    /// Its unit is not known yet.
    Open(Box<Open>),
    /// It is like one whose unit is not known yet, and will be counted with that.
    Pending,
}

/// A sighting whose unit is not known yet, with the evidence so far.
#[derive(Debug, Clone)]
pub struct Open {
    sighting: Sighting,
    evidence: Vec<Evidence>,
    /// Whose it was, as far as a record tells.
    whose: Option<Whose>,
    login: Option<Login>,
    /// What others like it wait under.
    key: Option<Box<[u8]>>,
}

/// Where records become incidents.
#[derive(Debug)]
pub struct Pipeline<H> {
    host: H,
    /// The incidents so far.
    pub fold: Fold,
    recent: Recent,
    rehearsals: Rehearsals,
}

impl<H: Host> Pipeline<H> {
    /// With a host to ask, and room for so many incidents.
    #[must_use]
    pub fn new(host: H, most_incidents: usize) -> Self {
        Self { host, fold: Fold::new(most_incidents), recent: Recent::default(), rehearsals: Rehearsals::default() }
    }

    /// Takes one record, and the unit that its source names for the process, if it does.
    pub fn sight(&mut self, record: &Record<'_>, named: Option<&Unit>) -> Sighted {
        let context = self.host.context(record);
        if let Some(context) = context {
            let comm = record.comm.decode();
            let glimpse = RepeatSighting { at: moment(record.stamp), pid: record.pid, comm: &comm, ip: record.ip };
            match self.recent.find(record, named, context) {
                Some(Found::Counted(slot)) if self.fold.count(slot, 1, &glimpse) => {
                    return Sighted::Folded(Folded::Again(slot));
                }
                Some(Found::Pending(others)) => {
                    others.add(&glimpse);
                    return Sighted::Pending;
                }
                Some(Found::Counted(_)) | None => {}
            }
        }
        let mut evidence = self.host.glance(record);
        evidence.extend(named.map(|unit| Evidence::Named(Rung::JournalEntry, unit.clone())));
        let login = Login::of(record);
        let mut open =
            Open { sighting: sighting(record), evidence: Vec::new(), whose: Whose::of(record), login, key: None };
        open.learn(evidence);
        let is_attributed = open.attribution().is_some();
        let is_known = is_attributed || open.is_settled();
        if !is_attributed {
            open.sighting.sample.parent = self.host.parent(record);
        }
        if is_known || !H::ANSWERS {
            let mut sighting = open.close_anyway();
            let lasts = self.rehearsals.mark(&mut sighting);
            let folded = self.fold.add(sighting);
            if context.is_some() && lasts {
                self.recent.remember(Known::Counted(folded.slot()));
            }
            return Sighted::Folded(folded);
        }
        open.key = context.map(|_| self.recent.remember(Known::Pending(Others::default())));
        Sighted::Open(Box::new(open))
    }

    /// Takes the precise time of a record that was counted when less of it was told.
    pub fn date(&mut self, record: &Record<'_>, named: Option<&Unit>) {
        let (Some(context), Stamp::Millis(at)) = (self.host.context(record), record.stamp) else { return };
        if let Some(Found::Counted(slot)) = self.recent.find(record, named, context) {
            self.fold.set_time(slot, at);
        }
    }

    /// Counts a sighting that was open, and those like it that came meanwhile, with or without a unit.
    pub fn settle(&mut self, open: Open) -> Folded {
        let key = open.key.clone();
        let mut sighting = open.close_anyway();
        let lasts = self.rehearsals.mark(&mut sighting);
        let folded = self.fold.add(sighting);
        if let Some(others) = key.and_then(|key| self.recent.settle(key, folded.slot(), lasts))
            && let Some(glimpse) = others.latest()
        {
            // The slot was made just now.
            let _ = self.fold.count(folded.slot(), others.count, &glimpse);
        }
        folded
    }

    /// Takes what is logged of a unit from now on, in milliseconds since the epoch, for its rehearsal's.
    pub fn rehearse(&mut self, unit: Unit, now: i64) {
        self.recent.forget_counted();
        self.rehearsals.begin(unit, now);
    }

    /// Takes what is logged of a unit from now on for what it is again.
    pub fn end_rehearsal(&mut self, unit: &Unit, now: i64) {
        self.recent.forget_counted();
        self.rehearsals.end(unit, now);
    }

    /// Counts what somebody else counted.
    pub fn count(&mut self, incident: Incident) -> Folded {
        let Incident { key, rung, count, first, last, sample } = incident;
        let folded = self.fold.add(Sighting { key, rung, at: first, sample: sample.clone() });
        let glimpse = RepeatSighting { at: last, pid: sample.pid, comm: &sample.comm, ip: sample.ip };
        // The slot was made just now.
        let _ = self.fold.count(folded.slot(), count.saturating_sub(1), &glimpse);
        folded
    }

    /// The host, to tell it what goes on.
    pub fn host_mut(&mut self) -> &mut H {
        &mut self.host
    }

    /// The host, to ask it.
    #[must_use]
    pub fn host(&self) -> &H {
        &self.host
    }
}

impl Open {
    /// What is known of a process that died without a record.
    #[must_use]
    pub fn silent_death(pid: u32, at: Moment, evidence: Vec<Evidence>) -> Self {
        let key = IncidentKey {
            unit: None,
            event: IncidentEvent::SilentDeath,
            exe: Vec::new(),
            source: SightingSource::Audit,
        };
        Self {
            sighting: Sighting { key, rung: None, at, sample: Sample { pid, ..Sample::default() } },
            evidence,
            whose: None,
            login: None,
            key: None,
        }
    }

    /// What is open.
    #[must_use]
    pub fn sighting(&self) -> &Sighting {
        &self.sighting
    }

    /// Its process, for its ancestors to tell of; `None` without a record.
    #[must_use]
    pub fn descendant(&self) -> Option<Descendant<'_>> {
        let (Moment::At(at), sample) = (&self.sighting.at, &self.sighting.sample) else { return None };
        Some(Descendant { pid: sample.pid, at: *at, whose: self.whose?, comm: &sample.comm })
    }

    /// Whether more may be learned: nothing is known for certain, and at most a guess of the unit.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        let guessed = |found: Attribution| found.confidence() == Confidence::Guess;
        !self.is_settled() && self.attribution().is_none_or(guessed)
    }

    /// Adds what was learned meanwhile, but for a guess that contradicts who had logged in.
    pub fn learn(&mut self, evidence: impl IntoIterator<Item = Evidence>) {
        let login = self.login;
        let may = |one: &Evidence| match (login, one) {
            (Some(login), Evidence::Named(Rung::Executable, unit)) => login.may_be_of(unit.manager),
            _ => true,
        };
        self.evidence.extend(evidence.into_iter().filter(may));
    }

    /// Takes back what was learned from somewhere that is to be asked again, and may say otherwise.
    pub fn forget(&mut self, rung: Rung) {
        self.evidence.retain(|one| one.rung() != rung);
    }

    /// Adds what its death told.
    pub fn learn_of_death(&mut self, told: &DeathEvidence) {
        self.evidence.extend(told.evidence.iter().cloned());
        if let Some(parent) = &told.parent {
            self.sighting.sample.parent = Some(parent.clone());
        }
    }

    /// Whether it is known for certain that no unit can be named.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        attribution::is_settled(&self.evidence)
    }

    /// The unit that the evidence names, if it does.
    #[must_use]
    pub fn attribution(&self) -> Option<Attribution> {
        attribution::weigh(&self.evidence)
    }

    /// The sighting, with or without a unit.
    #[must_use]
    pub fn close_anyway(self) -> Sighting {
        let found = self.attribution();
        let mut sighting = self.sighting;
        if let Some(found) = found {
            sighting.key.unit = Some(found.unit);
            sighting.rung = Some(found.rung);
            sighting.sample.parent = None;
        }
        sighting
    }
}

/// A record as a sighting whose unit is not known.
fn sighting(record: &Record<'_>) -> Sighting {
    let exe = record.exe.map_or(Vec::new(), |exe| bounded(exe.decode()));
    let event = IncidentEvent::Denial(Denial { call: call(record), action: record.action });
    Sighting {
        key: IncidentKey { unit: None, event, exe, source: SightingSource::Audit },
        rung: None,
        at: moment(record.stamp),
        sample: Sample {
            pid: record.pid,
            comm: bounded(record.comm.decode()),
            uid: match record.uid {
                IdField::Number(uid) => uid.to_string().into(),
                IdField::Name(name) => escape(name).into(),
                IdField::Unset => "".into(),
            },
            ip: record.ip,
            subject: record.subject.map_or(Vec::new(), |label| bounded(label.into())),
            parent: None,
        },
    }
}

fn moment(stamp: Stamp<'_>) -> Moment {
    match stamp {
        Stamp::Millis(millis) => Moment::At(millis),
        Stamp::Printed(text) => Moment::Text(escape(text).into()),
        Stamp::Unknown => Moment::Unknown,
    }
}

/// The call of a record, by number wherever its architecture has one for the name.
#[must_use]
pub fn call(record: &Record<'_>) -> Call {
    match (record.arch, record.call) {
        (ArchField::Token(token), CallField::Number(number)) => Call::numbered(Arch(token), number),
        (ArchField::Token(token), CallField::Name(name)) => Call::named(Arch(token), &String::from_utf8_lossy(name)),
        (ArchField::Name(arch), CallField::Number(number)) => {
            Call::numbered(Arch::from_name(arch).unwrap_or(Arch(0)), number)
        }
        (ArchField::Name(arch), CallField::Name(name)) => Call::interpreted(arch, name),
    }
}

fn bounded(text: Cow<'_, [u8]>) -> Vec<u8> {
    let mut text = text.into_owned();
    text.truncate(LONGEST_TEXT);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parse_record;
    use crate::units::Manager;

    /// A machine on which one process lives, of a unit that is told late or never.
    struct Machine {
        context: Option<u64>,
        evidence: Vec<Evidence>,
        glances: u32,
    }

    impl Host for Machine {
        const ANSWERS: bool = true;

        fn glance(&mut self, _: &Record<'_>) -> Vec<Evidence> {
            self.glances += 1;
            self.evidence.clone()
        }

        fn context(&mut self, _: &Record<'_>) -> Option<u64> {
            self.context
        }
    }

    fn unit() -> Unit {
        Unit { manager: Manager::System, name: "a.service".parse().unwrap() }
    }

    fn sight(pipeline: &mut Pipeline<Machine>, second: u32, call: u32) -> Sighted {
        let line = format!(
            "audit({second}.000:{second}): auid=0 uid=0 gid=0 ses=1 pid={second} comm=\"c{second}\" exe=\"/a\" sig=0 \
             arch=c000003e syscall={call} compat=0 ip=0x7 code=0x50000"
        );
        // The thread's name is the one thing that differs, besides what always does.
        let line = line.replace(&format!("\"c{second}\""), "\"c\"");
        pipeline.sight(&parse_record(line.as_bytes()).unwrap(), None)
    }

    #[test]
    fn a_guess_does_not_give_a_service_what_somebody_logged_in_ran() {
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
            assert_eq!(matches!(pipeline.sight(&record, None), Sighted::Folded(_)), expected, "{ids} {guess:?}");
            let mut pipeline = machine(Some(1), Vec::new());
            let Sighted::Open(mut open) = pipeline.sight(&record, None) else { panic!("nothing is known") };
            open.learn([Evidence::Named(Rung::Executable, guess)]);
            assert_eq!(open.attribution().is_some(), expected, "{ids}");
        }
    }

    fn machine(context: Option<u64>, evidence: Vec<Evidence>) -> Pipeline<Machine> {
        Pipeline::new(Machine { context, evidence, glances: 0 }, 8)
    }

    #[test]
    fn a_process_is_looked_at_once_as_long_as_it_is_the_same() {
        let mut pipeline = machine(Some(1), vec![Evidence::Named(Rung::MainProcess, unit())]);
        for second in 1..=5 {
            assert!(matches!(sight(&mut pipeline, second, 41), Sighted::Folded(_)));
        }
        assert_eq!(pipeline.host.glances, 1);
        assert!(matches!(sight(&mut pipeline, 6, 42), Sighted::Folded(Folded::First(_))), "another call");
        pipeline.host.context = Some(2);
        assert!(matches!(sight(&mut pipeline, 7, 41), Sighted::Folded(Folded::Again(_))), "another process");
        assert_eq!(pipeline.host.glances, 3);
        let changes = pipeline.fold.take_changes(usize::MAX);
        let socket = changes.iter().find(|change| change.incident.count == 6).unwrap();
        assert_eq!((&socket.incident.first, &socket.incident.last), (&Moment::At(1_000), &Moment::At(7_000)));
        assert_eq!(socket.incident.sample.pid, 7);
    }

    #[test]
    fn without_a_context_each_is_looked_at() {
        let mut pipeline = machine(None, vec![Evidence::Named(Rung::MainProcess, unit())]);
        for second in 1..=3 {
            assert!(matches!(sight(&mut pipeline, second, 41), Sighted::Folded(_)));
        }
        assert_eq!(pipeline.host.glances, 3);
    }

    #[test]
    fn what_is_like_an_open_one_is_counted_with_it() {
        let mut pipeline = machine(Some(1), Vec::new());
        let Sighted::Open(mut open) = sight(&mut pipeline, 1, 41) else { panic!("nothing is known") };
        for second in 2..=9 {
            assert!(matches!(sight(&mut pipeline, second, 41), Sighted::Pending));
        }
        open.learn([Evidence::Named(Rung::MainProcess, unit())]);
        let _ = pipeline.settle(*open);
        assert!(matches!(sight(&mut pipeline, 10, 41), Sighted::Folded(Folded::Again(_))));
        let incident = pipeline.fold.take_changes(usize::MAX).remove(0).incident;
        assert_eq!((incident.key.unit, incident.count, incident.last), (Some(unit()), 10, Moment::At(10_000)));
    }
}
