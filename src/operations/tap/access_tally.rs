//! Denied accesses that a tap saw, counted by what they have in common.

use super::access_evidence::EvidenceCollector;
use crate::diagnosis::before_exec::is_systemd_before_exec;
use crate::host::access_verdict::{AccessVerdict, UnitPrivileges, call_name, weigh};
use crate::incidents::{AccessDenial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
use crate::kernel::failed_call::{FailedCall, FailedEvent};
use crate::kernel::procfs::Procfs;
use crate::kernel::tap::{ProcessOwner, ProcessReader};
use crate::policy::Policy;
use crate::syscalls::{Abi, Arch, Call};
use crate::units::{Rung, Unit};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// How many different denials are counted: a process can make up any number of paths.
const MOST_DENIALS: usize = 1024;

/// The denied accesses, as incidents.
#[derive(Debug)]
pub(crate) struct AccessTally {
    evidence: EvidenceCollector,
    denials: BTreeMap<IncidentKey, Incident>,
    uncounted: u64,
    unknown: u64,
}

impl AccessTally {
    pub(crate) fn new(evidence: EvidenceCollector) -> Self {
        Self { evidence, denials: BTreeMap::new(), uncounted: 0, unknown: 0 }
    }

    /// Weighs the failed calls, and counts those that the sandbox made fail. `attribute` returns the unit of a process of
    /// target number N. `settings` returns what the settings of that target withhold, and its policy.
    pub(crate) fn add<'a>(
        &mut self,
        mut failures: Vec<FailedCall>,
        processes: &mut ProcessReader,
        attribute: impl Fn(usize, &ProcessOwner) -> Option<(Unit, Rung)>,
        settings: impl Fn(usize) -> (UnitPrivileges, Option<&'a Policy>),
    ) {
        let procfs = Procfs::live();
        // A program that started without its rights explains what it lacks later.
        failures.sort_by_key(|failure| !matches!(failure.event, FailedEvent::Exec { .. }));
        let is_of_systemd = |failure: &FailedCall| is_systemd_before_exec(&failure.comm, &failure.program);
        for failure in failures.into_iter().filter(|failure| !is_of_systemd(failure)) {
            let (privileges, policy) = settings(failure.target);
            let evidence = self.evidence.gather(&failure, privileges, policy);
            match weigh(&failure, &evidence) {
                AccessVerdict::Harmless => {}
                AccessVerdict::Unknown => self.unknown = self.unknown.saturating_add(failure.count),
                AccessVerdict::Denied(access) => {
                    let (exe, owner) = processes.read(failure.pid, &procfs);
                    let (unit, rung) = attribute(failure.target, &owner).unzip();
                    let errno = if let FailedEvent::Call { errno, .. } = failure.event { errno } else { 0 };
                    let event = IncidentEvent::Access(AccessDenial { call: call(&failure), errno, access });
                    let key = IncidentKey { unit, event, exe, source: SightingSource::Tap { errno } };
                    self.count(Incident {
                        key,
                        rung,
                        count: failure.count,
                        first: Moment::At(failure.first),
                        last: Moment::At(failure.last),
                        sample: Sample {
                            pid: failure.pid,
                            comm: failure.comm,
                            uid: failure.credentials.uid.to_string().into(),
                            ip: failure.ip,
                            call_site: failure.site,
                            ..Sample::default()
                        },
                    });
                }
            }
        }
    }

    fn count(&mut self, incident: Incident) {
        let has_room = self.denials.len() < MOST_DENIALS;
        match self.denials.entry(incident.key.clone()) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.count = known.count.saturating_add(incident.count);
                known.rung = known.rung.max(incident.rung);
                let earlier = known.sample.call_site.take();
                (known.last, known.sample) = (incident.last, incident.sample);
                known.sample.call_site = known.sample.call_site.take().or(earlier);
            }
            Entry::Vacant(vacant) if has_room => drop(vacant.insert(incident)),
            Entry::Vacant(_) => self.uncounted = self.uncounted.saturating_add(incident.count),
        }
    }

    /// Begins a poll: remembers the mounts of processes for those that end before they are read.
    pub(crate) fn begin_poll(&mut self, processes: impl IntoIterator<Item = u32>) {
        self.evidence.begin_poll();
        for pid in processes {
            self.evidence.remember_mounts(pid);
        }
    }

    /// Whether a process has other mounts than the host, as far as it can be read.
    pub(crate) fn has_own_mounts(&mut self, pid: u32) -> bool {
        self.evidence.has_own_mounts(pid)
    }

    /// Returns the denied accesses, and forgets them.
    pub(crate) fn take_incidents(&mut self) -> Vec<Incident> {
        std::mem::take(&mut self.denials).into_values().collect()
    }

    /// Returns the denied accesses.
    pub(crate) fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.denials.values()
    }

    /// Returns the number of denials of kinds beyond those that are counted.
    pub(crate) fn uncounted(&self) -> u64 {
        self.uncounted
    }

    /// Returns the number of failures whose evidence was gone.
    pub(crate) fn unknown(&self) -> u64 {
        self.unknown
    }
}

fn call(failure: &FailedCall) -> Call {
    match failure.event {
        FailedEvent::Call { number, .. } => Call::numbered(Arch::native(), number),
        FailedEvent::Exec { .. } => {
            let number = call_name(failure).and_then(|name| Abi::native().call_number(name));
            Call::numbered(Arch::native(), number.unwrap_or_default())
        }
    }
}
