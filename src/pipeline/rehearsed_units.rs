//! The units under rehearsal. During a rehearsal the kernel logs and allows the calls that it would deny otherwise.
//!
//! A process keeps the filter of a rehearsal wherever it is moved, and until it ends. So a rehearsal also claims the logged
//! calls of processes that descend from the unit's processes, and of processes that outlive it.

use crate::audit::{Action, IdField, Record};
use crate::host::Ancestor;
use crate::incidents::{IncidentEvent, Moment, Owner, RehearsalSpan, Sighting, SightingSource};
use crate::units::cgroup::{Placement, place, scope_path};
use crate::units::{Evidence, Rung, Unit};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// How late a record can arrive after the end of the rehearsal that caused it, in milliseconds.
const MAX_DELAY_MS: i64 = 2_000;

/// How much earlier than in truth a process can seem to start, in milliseconds: `/proc` rounds to clock ticks. So one that
/// seems to start this shortly before the end of a rehearsal counts as later: the unit is stopped before the end.
const START_SLACK_MS: i64 = 20;

/// The most rehearsals that are remembered, and the most logins and scopes of one.
const MOST_UNITS: usize = 64;
const MOST_PLACES: usize = 256;

/// How long after its start a daemon lets a client continue a rehearsal that it found on disk, in milliseconds.
const RESUME_MS: i64 = 60_000;

/// The units, each with its latest rehearsal.
#[derive(Debug, Default)]
pub(super) struct RehearsedUnits {
    by_unit: BTreeMap<Unit, Rehearsal>,
    /// Whether they changed since they were last taken to be saved.
    is_changed: bool,
}

/// A rehearsal. Times are in milliseconds since the epoch.
#[derive(Debug)]
struct Rehearsal {
    from: i64,
    /// The end; `None` while the rehearsal runs.
    until: Option<i64>,
    /// The logins that a process of the unit began.
    logins: BTreeSet<u32>,
    /// The scopes into which processes of the unit were moved.
    scopes: BTreeSet<Vec<u8>>,
    /// Until when its client can continue it. It ran when an earlier daemon ended.
    resumable_until: Option<i64>,
}

/// What is known about the process of a logged call.
struct LoggedProcess<'a> {
    at: i64,
    /// The process and its ancestors, nearest first, as far as they are known.
    lineage: &'a [Ancestor],
    login: Option<u32>,
    scope: Option<&'a [u8]>,
}

impl RehearsedUnits {
    /// Notes that the rehearsal of a unit begins at a moment, in milliseconds since the epoch.
    pub(super) fn begin(&mut self, unit: Unit, at: i64) {
        self.is_changed = true;
        let known = self.by_unit.get_mut(&unit);
        // After a restart of the daemon, the client registers its rehearsal again.
        if let Some(known) = known.filter(|known| known.resumable_until.is_some_and(|until| at <= until)) {
            (known.until, known.resumable_until) = (None, None);
            return;
        }
        if self.by_unit.len() >= MOST_UNITS
            && let Some(leaving) = self.choose_leaving()
        {
            self.by_unit.remove(&leaving);
        }
        let (logins, scopes) = (BTreeSet::new(), BTreeSet::new());
        let rehearsal = Rehearsal { from: at, until: None, logins, scopes, resumable_until: None };
        self.by_unit.insert(unit, rehearsal);
    }

    /// Returns the ended rehearsal to remove: the oldest of the owner with the most.
    fn choose_leaving(&self) -> Option<Unit> {
        let owner = |unit: &Unit| Owner::from_unit_or_uid(Some(unit), "");
        let mut held: BTreeMap<Owner, usize> = BTreeMap::new();
        for unit in self.by_unit.keys() {
            *held.entry(owner(unit)).or_default() += 1;
        }
        let ended = self.by_unit.iter().filter_map(|(unit, rehearsal)| Some((rehearsal.until?, unit)));
        let leaving = ended.max_by_key(|(until, unit)| (held.get(&owner(unit)).copied(), Reverse(*until)));
        leaving.map(|(_, unit)| unit.clone())
    }

    /// Adds the rehearsals that an earlier daemon knew. One that ran then ends now, unless its client continues it.
    pub(super) fn restore(&mut self, spans: Vec<RehearsalSpan>, now: i64) {
        for RehearsalSpan { unit, from, until, logins, scopes } in spans.into_iter().take(MOST_UNITS) {
            let resumable_until = until.is_none().then(|| now + RESUME_MS);
            let rehearsal = Rehearsal { from, until: until.or(Some(now)), logins, scopes, resumable_until };
            self.by_unit.insert(unit, rehearsal);
        }
    }

    /// Returns all rehearsals if they changed since the latest call.
    pub(super) fn take_changed(&mut self) -> Option<Vec<RehearsalSpan>> {
        let span = |(unit, one): (&Unit, &Rehearsal)| RehearsalSpan {
            unit: unit.clone(),
            from: one.from,
            until: one.until,
            logins: one.logins.clone(),
            scopes: one.scopes.clone(),
        };
        std::mem::take(&mut self.is_changed).then(|| self.by_unit.iter().map(span).collect())
    }

    /// Notes that no store has the rehearsals.
    pub(super) fn mark_unsaved(&mut self) {
        self.is_changed |= !self.by_unit.is_empty();
    }

    /// Notes that the rehearsal of a unit ends.
    pub(super) fn end(&mut self, unit: &Unit, at: i64) {
        if let Some(rehearsal) = self.by_unit.get_mut(unit) {
            rehearsal.until.get_or_insert(at);
            self.is_changed = true;
        }
    }

    /// Whether the rehearsal of a unit runs.
    pub(super) fn is_running(&self, unit: &Unit) -> bool {
        self.by_unit.get(unit).is_some_and(|rehearsal| rehearsal.until.is_none())
    }

    /// Whether a record can belong to a rehearsal, so that the lineage of its process matters.
    pub(super) fn may_claim(&self, record: &Record<'_>) -> bool {
        record.action == Action::Log && !self.by_unit.is_empty()
    }

    /// Sets unit and source of the sighting of a logged call, if the call's process has the filter of a rehearsal although
    /// its unit, or the time, does not show that. Returns whether it has.
    pub(super) fn claim(
        &mut self,
        sighting: &mut Sighting,
        record: &Record<'_>,
        evidence: &[Evidence],
        lineage: &[Ancestor],
    ) -> bool {
        let Moment::At(at) = sighting.at else { return false };
        let scope = evidence.iter().find_map(scope_of);
        let login = if let IdField::Number(login) = record.session { Some(login) } else { None };
        let process = LoggedProcess { at, lineage, login, scope };
        let own = sighting.key.unit.as_ref();
        let places = |all: &BTreeMap<Unit, Rehearsal>| all.values().map(Rehearsal::count_places).sum::<usize>();
        let before = places(&self.by_unit);
        let claiming = self.by_unit.iter_mut().find_map(|(unit, one)| {
            let is_within = one.until.is_none_or(|until| at <= until);
            // `set_source` does the rest.
            let is_plain = own == Some(unit) && is_within;
            (!is_plain && one.claims(unit, own == Some(unit), &process)).then(|| unit.clone())
        });
        self.is_changed |= places(&self.by_unit) != before;
        let Some(unit) = claiming else { return false };
        if own != Some(&unit) {
            (sighting.key.unit, sighting.rung) = (Some(unit), Some(Rung::Lineage));
        }
        sighting.key.source = SightingSource::Rehearsal;
        true
    }

    /// Sets the source of a sighting. Returns whether its later repetitions have the same source.
    pub(super) fn set_source(&mut self, sighting: &mut Sighting) -> bool {
        let Some(unit) = &sighting.key.unit else { return true };
        let (Some(span), Moment::At(at)) = (self.by_unit.get(unit), &sighting.at) else { return true };
        if span.until.is_some_and(|until| *at > until + MAX_DELAY_MS) {
            return true;
        }
        let within = *at >= span.from && span.until.is_none_or(|until| *at <= until);
        let is_lasting = within && span.until.is_none();
        let logged = matches!(&sighting.key.event, IncidentEvent::Denial(denial) if denial.action == Action::Log);
        if within && logged {
            sighting.key.source = SightingSource::Rehearsal;
        }
        is_lasting
    }
}

impl Rehearsal {
    fn count_places(&self) -> usize {
        self.logins.len() + self.scopes.len()
    }

    /// Whether a process started under the rehearsal's filter. Notes where its kin are.
    fn claims(&mut self, unit: &Unit, is_in_unit: bool, process: &LoggedProcess<'_>) -> bool {
        if process.at < self.from {
            return false;
        }
        let is_units = |one: &&Ancestor| place(&one.cgroup) == Placement::Unit(unit.clone());
        // The filter is that of the oldest ancestor in the unit. Later processes of the unit have another.
        if let Some(oldest) = process.lineage.iter().rfind(is_units) {
            let is_rehearsed = oldest.started >= self.from - START_SLACK_MS
                && self.until.is_none_or(|until| oldest.started <= until - START_SLACK_MS);
            if is_rehearsed && !is_in_unit {
                self.note_places(oldest, process);
            }
            return is_rehearsed;
        }
        // A process of such a place, or a descendant of one. A dying process itself may have no place any more.
        let since = self.from - START_SLACK_MS;
        let is_kin = |started: Option<i64>, login: Option<u32>, scope: Option<&[u8]>| {
            started.is_none_or(|started| started >= since)
                && (login.is_some_and(|login| self.logins.contains(&login))
                    || scope.is_some_and(|scope| self.scopes.contains(scope)))
        };
        is_kin(process.lineage.first().map(|own| own.started), process.login, process.scope)
            || process.lineage.iter().any(|one| is_kin(Some(one.started), one.session, scope_path(&one.cgroup)))
    }

    /// Notes the login and the scope of a process that was moved. Its kin lose their lineage when an ancestor ends.
    fn note_places(&mut self, ancestor: &Ancestor, process: &LoggedProcess<'_>) {
        // All units of a user manager share a login, which proves nothing then.
        let login = process.login.filter(|login| ancestor.session != Some(*login));
        if self.logins.len() < MOST_PLACES {
            self.logins.extend(login);
        }
        let below = process.lineage.iter().take_while(|one| *one != ancestor);
        for scope in below.filter_map(|one| scope_path(&one.cgroup)).chain(process.scope) {
            if self.scopes.len() < MOST_PLACES {
                self.scopes.insert(scope.to_vec());
            }
        }
    }
}

/// Returns the path of the scope or the login in which the evidence finds the process.
fn scope_of(evidence: &Evidence) -> Option<&[u8]> {
    match evidence {
        Evidence::OwnCgroup(bytes) => scope_path(bytes),
        Evidence::ExitCgroup(path) => scope_of_path(path),
        Evidence::ParentCgroup(_) | Evidence::Named(..) => None,
    }
}

/// Returns a path if it is that of a scope or a login.
fn scope_of_path(path: &[u8]) -> Option<&[u8]> {
    let line = [b"0::", path, b"\n"].concat();
    scope_path(&line).is_some().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parse_record;
    use crate::incidents::{Denial, IncidentKey, Sample};
    use crate::syscalls::{Abi, Call};
    use crate::units::Manager;

    const SESSION: &str = "/user.slice/user-0.slice/session-7.scope";

    fn unit(name: &str) -> Unit {
        Unit { manager: Manager::System, name: name.parse().unwrap() }
    }

    fn sighting(unit: Option<Unit>, action: Action, at: i64) -> Sighting {
        let call = Call::named(Abi::native().arch(), "socket");
        let event = IncidentEvent::Denial(Denial { call, action });
        let key = IncidentKey { unit, event, exe: Vec::new(), source: SightingSource::Audit };
        Sighting { key, rung: None, at: Moment::At(at), sample: Sample::default() }
    }

    fn seen(rehearsals: &mut RehearsedUnits, name: &str, action: Action, at: i64) -> (SightingSource, bool) {
        let mut sighting = sighting(Some(unit(name)), action, at);
        let is_lasting = rehearsals.set_source(&mut sighting);
        (sighting.key.source, is_lasting)
    }

    /// Claims a logged call at a moment, of a process in a cgroup and a login. A process: its start and cgroup.
    fn claimed(
        all: &mut RehearsedUnits,
        at: i64,
        (cgroup, login): (&str, &str),
        lineage: &[(i64, &str)],
    ) -> Option<String> {
        let line = format!(
            "audit(1.000:1): auid=0 uid=0 gid=0 ses={login} pid=7 comm=\"c\" exe=\"/a\" sig=0 arch=c000003e syscall=1 \
             compat=0 ip=0x7 code=0x7ffc0000"
        );
        let record = parse_record(line.as_bytes()).unwrap();
        assert!(all.may_claim(&record));
        let bytes = |cgroup: &str| format!("0::{cgroup}\n").into_bytes();
        let own = match place(&bytes(cgroup)) {
            Placement::Unit(unit) => Some(unit),
            Placement::None(_) => None,
        };
        let lineage: Vec<Ancestor> = lineage
            .iter()
            .map(|(started, cgroup)| Ancestor { started: *started, cgroup: bytes(cgroup), session: None })
            .collect();
        let mut sighting = sighting(own, Action::Log, at);
        let evidence = [Evidence::ExitCgroup(cgroup.as_bytes().to_vec())];
        let is_claimed = all.claim(&mut sighting, &record, &evidence, &lineage);
        assert_eq!(is_claimed, sighting.key.source == SightingSource::Rehearsal);
        is_claimed.then(|| sighting.key.unit.unwrap().name.to_string())
    }

    #[test]
    fn user_with_many_rehearsals_pushes_out_none_of_root() {
        let mut rehearsals = RehearsedUnits::default();
        rehearsals.begin(unit("web.service"), 1);
        rehearsals.end(&unit("web.service"), 2);
        for number in 0..i64::try_from(2 * MOST_UNITS).unwrap() {
            let users = Unit { manager: Manager::User(1000), name: format!("u{number}.service").parse().unwrap() };
            rehearsals.begin(users.clone(), 10 + number);
            rehearsals.end(&users, 10 + number);
        }
        assert_eq!(rehearsals.by_unit.len(), MOST_UNITS);
        assert!(rehearsals.by_unit.contains_key(&unit("web.service")));
    }

    #[test]
    fn record_logged_during_rehearsal_has_rehearsal_source() {
        let mut all = RehearsedUnits::default();
        all.begin(unit("a.service"), 1_000);
        assert_eq!(seen(&mut all, "a.service", Action::Log, 1_000), (SightingSource::Rehearsal, true));
        assert_eq!(seen(&mut all, "a.service", Action::Log, 999), (SightingSource::Audit, false));
        assert_eq!(seen(&mut all, "b.service", Action::Log, 1_000), (SightingSource::Audit, true));
        assert_eq!(seen(&mut all, "a.service", Action::KillThread, 1_000), (SightingSource::Audit, true));
    }

    #[test]
    fn late_record_of_rehearsal_has_rehearsal_source() {
        let mut all = RehearsedUnits::default();
        all.begin(unit("a.service"), 1_000);
        all.end(&unit("a.service"), 2_000);
        assert_eq!(seen(&mut all, "a.service", Action::Log, 2_001), (SightingSource::Audit, false));
        assert_eq!(seen(&mut all, "a.service", Action::Log, 2_000), (SightingSource::Rehearsal, false));
        assert_eq!(seen(&mut all, "a.service", Action::Log, 2_001 + MAX_DELAY_MS), (SightingSource::Audit, true));
    }

    #[test]
    fn process_moved_out_of_rehearsed_unit_is_claimed_with_its_kin() {
        const UNSET: &str = "4294967295";
        let mut all = RehearsedUnits::default();
        all.begin(unit("ssh.service"), 1_000);
        let ssh = "/system.slice/ssh.service";
        let chain = [(1_500, SESSION), (1_400, SESSION), (1_000, ssh), (0, "/init.scope")];
        let owner = Some("ssh.service".to_owned());
        assert_eq!(claimed(&mut all, 1_600, (SESSION, "7"), &[]), None, "nothing is known of this login yet");
        assert_eq!(claimed(&mut all, 1_600, (SESSION, "7"), &chain), owner);
        assert_eq!(claimed(&mut all, 1_700, (SESSION, UNSET), &[]), owner, "a dead process of the scope");
        assert_eq!(claimed(&mut all, 1_700, ("/system.slice/b.service", "7"), &[]), owner, "and of the login");
        assert_eq!(claimed(&mut all, 1_700, ("/system.slice/b.service", UNSET), &[(1_600, ssh)]), owner);
        assert_eq!(claimed(&mut all, 1_700, ("/system.slice/b.service", UNSET), &[]), None);
        assert_eq!(claimed(&mut all, 1_700, (ssh, UNSET), &[(1_600, ssh)]), None, "its unit shows it");
        assert_eq!(claimed(&mut all, 1_700, ("/", UNSET), &[(1_690, "/"), (1_500, SESSION)]), owner, "a dying child");
        let other = "/user.slice/user-0.slice/session-8.scope";
        assert_eq!(claimed(&mut all, 1_700, (other, "8"), &[(1_650, other)]), None);
        assert_eq!(claimed(&mut all, 1_700, (SESSION, "7"), &[(500, SESSION)]), None, "it was there before");
    }

    #[test]
    fn process_that_outlives_rehearsal_is_claimed_later() {
        const UNSET: &str = "4294967295";
        let mut all = RehearsedUnits::default();
        let a = "/system.slice/a.service";
        all.begin(unit("a.service"), 1_000);
        assert!(claimed(&mut all, 1_500, (SESSION, "7"), &[(1_400, SESSION), (1_300, a)]).is_some());
        all.end(&unit("a.service"), 2_000);
        let owner = Some("a.service".to_owned());
        assert_eq!(claimed(&mut all, 90_000, (a, UNSET), &[(1_500, a)]), owner);
        assert_eq!(claimed(&mut all, 90_000, (a, UNSET), &[(80_000, a), (1_500, a)]), owner, "its child");
        assert_eq!(claimed(&mut all, 90_000, (a, UNSET), &[(3_000, a)]), None, "it started under the unit's settings");
        assert_eq!(claimed(&mut all, 90_000, (a, UNSET), &[(1_995, a)]), None, "it started later than the clock tick");
        assert_eq!(claimed(&mut all, 90_000, (a, UNSET), &[(500, a)]), None, "it started before");
        assert_eq!(claimed(&mut all, 90_000, (SESSION, "7"), &[(80_000, SESSION)]), owner);
    }

    #[test]
    fn process_that_outlives_rehearsal_is_claimed_by_a_restarted_daemon() {
        const UNSET: &str = "4294967295";
        let (a, owner) = ("/system.slice/a.service", Some("a.service".to_owned()));
        let mut before = RehearsedUnits::default();
        before.begin(unit("a.service"), 1_000);
        assert!(before.take_changed().is_some() && before.take_changed().is_none());
        assert!(claimed(&mut before, 1_500, (SESSION, "7"), &[(1_400, SESSION), (1_300, a)]).is_some());
        assert!(before.take_changed().is_some(), "the login and the scope are new");
        assert!(claimed(&mut before, 1_600, (SESSION, "7"), &[(1_400, SESSION), (1_300, a)]).is_some());
        assert!(before.take_changed().is_none());
        before.end(&unit("a.service"), 2_000);
        let saved = before.take_changed().unwrap();

        let mut after = RehearsedUnits::default();
        after.restore(saved, 50_000);
        assert_eq!(claimed(&mut after, 90_000, (a, UNSET), &[(1_500, a)]), owner);
        assert_eq!(claimed(&mut after, 90_000, (SESSION, "7"), &[(80_000, SESSION)]), owner);
        assert_eq!(
            claimed(&mut after, 90_000, (a, UNSET), &[(3_000, a)]),
            None,
            "it started under the unit's settings"
        );
        assert_eq!(seen(&mut after, "a.service", Action::Log, 90_000), (SightingSource::Audit, true));
        after.begin(unit("a.service"), 90_000);
        assert_eq!(claimed(&mut after, 95_000, (SESSION, "7"), &[(1_500, a)]), None, "another rehearsal");
    }

    #[test]
    fn rehearsal_that_ran_at_a_restart_is_continued_by_its_client_alone() {
        let mut before = RehearsedUnits::default();
        before.begin(unit("a.service"), 1_000);
        let saved = before.take_changed().unwrap();
        let restarted = |again: Option<i64>| {
            let mut after = RehearsedUnits::default();
            after.restore(saved.clone(), 2_000);
            if let Some(at) = again {
                after.begin(unit("a.service"), at);
            }
            [1_500, 2_500].map(|at| seen(&mut after, "a.service", Action::Log, at).0 == SightingSource::Rehearsal)
        };
        assert_eq!(restarted(Some(2_300)), [true, true]);
        assert_eq!(restarted(None), [true, false], "it ended with the earlier daemon as far as known");
        assert_eq!(restarted(Some(90_000)), [false, false], "a later rehearsal");
    }

    #[test]
    fn remembered_rehearsals_are_bounded() {
        let mut all = RehearsedUnits::default();
        for number in 0..100 {
            all.begin(unit(&format!("u{number}.service")), number);
            all.end(&unit(&format!("u{number}.service")), number + 1);
        }
        assert_eq!(all.by_unit.len(), MOST_UNITS);
        assert!(all.by_unit.contains_key(&unit("u99.service")) && !all.by_unit.contains_key(&unit("u0.service")));
    }
}
