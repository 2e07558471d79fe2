//! What a tap saw so far, in its units.

use super::access_evidence::EvidenceCollector;
use super::access_tally::AccessTally;
use super::refusals::{TappedUnit, UnitRefusal, find_unit, group_by_unit};
use super::targets::{ResolvedTarget, TapScope};
use crate::host::access_verdict::UnitPrivileges;
use crate::incidents::Incident;
use crate::kernel::procfs::Procfs;
use crate::kernel::tap::{ProcessOwner, ProcessReader, RefusalTally, TapReport, TapTarget};
use crate::policy::Policy;
use crate::units::Unit;
use std::collections::BTreeSet;

/// The refusals and the denied accesses that a tap saw, with the settings of its units.
pub(crate) struct TapSightings {
    watched: Vec<ResolvedTarget>,
    units: Vec<TappedUnit>,
    /// By target, what the unit's settings withhold.
    privileges: Vec<UnitPrivileges>,
    scope: TapScope,
    refusals: RefusalTally,
    pub(crate) accesses: AccessTally,
    processes: ProcessReader,
    procfs: Procfs,
    /// The number of refusals without a place in a tally that was taken.
    uncounted: u64,
}

impl TapSightings {
    /// Begins with nothing seen. `units` are those of the targets.
    pub(crate) fn new(watched: Vec<ResolvedTarget>, units: Vec<TappedUnit>) -> Self {
        let privileges = |target: &ResolvedTarget| {
            let policy = find_policy(&units, target.unit.as_ref())?;
            Some(UnitPrivileges::from_settings(&policy.settings))
        };
        Self {
            privileges: watched.iter().map(|target| privileges(target).unwrap_or_default()).collect(),
            scope: TapScope::from_targets(watched.iter().map(|target| &target.target)),
            watched,
            units,
            refusals: RefusalTally::default(),
            accesses: AccessTally::new(EvidenceCollector::from_this_process()),
            processes: ProcessReader::default(),
            procfs: Procfs::live(),
            uncounted: 0,
        }
    }

    /// Returns the targets.
    pub(crate) fn watched(&self) -> &[ResolvedTarget] {
        &self.watched
    }

    /// Whether a process of the targets has mounts of its own. Only these can hide a path from it.
    pub(crate) fn has_own_mounts(&mut self) -> bool {
        let pids: Vec<u32> = self.watched.iter().flat_map(|watched| watched.target.processes()).collect();
        pids.into_iter().any(|pid| self.accesses.has_own_mounts(pid))
    }

    /// Adds what a tap counted since the last report.
    pub(crate) fn add(&mut self, report: TapReport) {
        self.processes.begin_poll();
        self.refusals.add(report.refusals, &mut self.processes, &self.procfs);
        self.accesses.begin_poll(self.watched.iter().flat_map(|watched| watched.target.processes()));
        let settings = |target: usize| {
            let unit = self.watched.get(target).and_then(|watched| watched.unit.as_ref());
            (self.privileges.get(target).copied().unwrap_or_default(), find_policy(&self.units, unit))
        };
        let attribute = |target: usize, owner: &ProcessOwner| find_unit(&self.watched, self.scope, target, owner);
        self.accesses.add(report.failures, &mut self.processes, attribute, settings);
    }

    /// Returns the refusals so far, by unit.
    pub(crate) fn refusals(&self) -> Vec<UnitRefusal> {
        group_by_unit(&self.refusals, &self.units, |target, owner| find_unit(&self.watched, self.scope, target, owner))
    }

    /// Returns what was denied since the last call, and forgets it.
    pub(crate) fn take_incidents(&mut self) -> Vec<Incident> {
        let refused: Vec<Incident> = self.refusals().iter().filter_map(UnitRefusal::to_incident).collect();
        let taken = std::mem::take(&mut self.refusals);
        self.uncounted = self.uncounted.saturating_add(taken.uncounted());
        [refused, self.accesses.take_incidents()].concat()
    }

    /// Returns the number of refusals and denied accesses that had no place here.
    pub(crate) fn uncounted(&self) -> u64 {
        self.uncounted.saturating_add(self.refusals.uncounted()).saturating_add(self.accesses.uncounted())
    }

    /// Returns the units of what was seen whose settings are not here.
    pub(crate) fn further_units(&self) -> BTreeSet<Option<Unit>> {
        let owners = self.refusals.owners();
        let of_refusals =
            owners.map(|(target, owner)| find_unit(&self.watched, self.scope, target, owner).map(|(unit, _)| unit));
        let of_accesses = self.accesses.incidents().map(|incident| incident.key.unit.clone());
        let is_new = |unit: &Option<Unit>| self.units.iter().all(|tapped| tapped.unit != *unit);
        of_refusals.chain(of_accesses).filter(is_new).collect()
    }

    /// Adds the settings of a unit.
    pub(crate) fn add_unit(&mut self, unit: TappedUnit) {
        self.units.push(unit);
    }

    /// Ends the collection, and returns the targets and the units.
    pub(crate) fn into_parts(self) -> (Vec<ResolvedTarget>, Vec<TappedUnit>) {
        (self.watched, self.units)
    }
}

/// Returns what the tap of some targets looks at.
pub(crate) fn list_targets(watched: &[ResolvedTarget]) -> Vec<TapTarget> {
    watched.iter().map(|watched| watched.target.clone()).collect()
}

fn find_policy<'a>(units: &'a [TappedUnit], unit: Option<&Unit>) -> Option<&'a Policy> {
    let tapped = units.iter().find(|tapped| tapped.unit.as_ref() == unit)?;
    Some(&tapped.situation()?.policy)
}
