//! `tap`: watches running units and processes for calls that seccomp refuses without a record, and answers for those
//! calls.

pub(crate) mod targets;

use crate::audit::{Action, Note};
use crate::cli::args::{Common, Tap as Asked};
use crate::cli::terminal::clock::local_time_now;
use crate::cli::views::answer::{Answer, SCHEMA};
use crate::cli::views::tap_progress::TapProgress;
use crate::cli::views::tapped::{RefusalView, Tapped};
use crate::diagnosis::{Situation, diagnose};
use crate::host::unit_settings;
use crate::host::unit_settings::LoadedSettings;
use crate::incidents::local_time::LocalTime;
use crate::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource, Stored};
use crate::kernel::procfs::Procfs;
use crate::kernel::tap::{
    CallResult, ProcessOwner, RefusalKind, RefusalTally, RefusalTotals, Tap, TapError, TapLosses, TapTarget,
};
use crate::operations::interruption::Interruption;
use crate::outlet::wire::{IncidentDict, MAX_INCIDENTS};
use crate::policy::{Effect, Verdict};
use crate::syscalls::{Call, Groups};
use crate::systemd::bus_address::BusAddress;
use crate::systemd::manager::Managers;
use crate::systemd::syscall_groups;
use crate::units::{Rung, Unit};
use anyhow::ensure;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Instant;
use targets::{ResolvedTarget, resolve_targets};

/// The most further units whose settings are read, besides the targets.
const MOST_FURTHER_UNITS: usize = 256;

/// Watches the targets, and answers.
///
/// # Errors
/// The caller lacks the rights, a target does not run, or the kernel lacks BPF. Nothing is changed.
pub(crate) async fn tap(common: &Common, asked: &Asked) -> anyhow::Result<Tapped> {
    // Checked first: later errors would name the wrong cause.
    ensure!(nix::unistd::geteuid().is_root(), TapError::NotAllowed);
    let loaded = syscall_groups::load();
    let managers = crate::systemd::manager::Managers::new(&common.bus);
    let watched = resolve_targets(asked, &managers).await?;
    let mut cases: Vec<TappedUnit> = Vec::new();
    for ResolvedTarget { unit, .. } in &watched {
        if cases.iter().all(|case| case.unit != *unit) {
            cases.push(TappedUnit::load(unit.as_ref(), &managers, &loaded.groups).await);
        }
    }
    let targets: Vec<TapTarget> = watched.iter().map(|watched| watched.target.clone()).collect();

    let mut interruption = Interruption::from_signals()?;
    let mut tap = Tap::open(&targets)?;
    // Children of target processes are followed into any cgroup.
    let by_cgroups = targets.iter().all(|target| matches!(target, TapTarget::Cgroup(_)));
    let whose = |target: usize, owner: &ProcessOwner| {
        let whose = watched.get(target)?.attribute(owner, by_cgroups)?;
        Some((whose.0.clone(), whose.1))
    };
    let (began, procfs, mut tally) = (Instant::now(), Procfs::live(), RefusalTally::default());
    let live = TapProgress::new(!common.json);
    loop {
        let left = asked.duration.saturating_sub(began.elapsed());
        let waited = async {
            tokio::time::sleep(Tap::INTERVAL.min(left)).await;
            Ok(())
        };
        let ended = interruption.or(waited).await.is_err();
        tally.add(tap.collect(), &procfs);
        live.show(began.elapsed(), asked.duration, || views(&group_by_unit(&tally, &cases, whose)));
        if ended || began.elapsed() >= asked.duration || tap.is_over() {
            break;
        }
    }
    tally.add(tap.stop(), &procfs);
    let seconds = began.elapsed().as_secs_f64();
    drop(live);

    // Settings of units that appeared during the tap are read now, when no event waits.
    let mut units: Vec<Option<Unit>> =
        tally.owners().map(|(target, owner)| whose(target, owner).map(|(unit, _)| unit)).collect();
    units.sort();
    units.dedup();
    units.retain(|unit| cases.iter().all(|case| case.unit != *unit));
    for (place, unit) in units.into_iter().enumerate() {
        cases.push(if place < MOST_FURTHER_UNITS {
            TappedUnit::load(unit.as_ref(), &managers, &loaded.groups).await
        } else {
            TappedUnit { unit, known: None }
        });
    }
    let refusals = group_by_unit(&tally, &cases, whose);
    let mut notes = loss_notes(tap.losses(), tally.uncounted());
    notes.extend(syscall_groups::groups_note(&loaded));
    let incidents: Vec<Incident> = refusals.iter().filter_map(to_incident).collect();
    notes.extend(report_to_daemon(&common.bus, &incidents).await);
    let answered = refusals.iter().filter(|refused| refused.kind.result == CallResult::Answered).count();
    if answered > 0 {
        notes.push(Note::new(
            "answered-by-others",
            "calls that were answered without an error were answered by another than systemd's filters: a supervisor, \
             a tracer, or the program's own handler of SIGSYS",
        ));
    }
    let mut answers = Vec::new();
    for case in &cases {
        let answer = case.answer(&incidents, &loaded.groups, &local_time_now());
        // Processes without a unit and units that were no targets appear only with their refusals.
        let is_asked = case.unit.is_some() && watched.iter().any(|watched| watched.unit == case.unit);
        if is_asked || !answer.denials.is_empty() {
            answers.push(answer);
        }
    }
    Ok(Tapped { schema: SCHEMA, seconds, units: answers, refusals: views(&refusals), notes })
}

/// A unit under the tap; `None` for processes without one.
struct TappedUnit {
    unit: Option<Unit>,
    known: Option<LoadedSettings>,
}

impl TappedUnit {
    async fn load(unit: Option<&Unit>, managers: &Managers, groups: &Groups) -> Self {
        let known = match unit {
            Some(unit) => Some(unit_settings::load(managers, unit, groups).await),
            None => None,
        };
        Self { unit: unit.cloned(), known }
    }

    fn situation(&self) -> Option<&Situation> {
        self.known.as_ref()?.situation.as_ref()
    }

    /// Answers for the unit's refusals.
    fn answer(&self, incidents: &[Incident], groups: &Groups, clock: &LocalTime) -> Answer {
        let own = incidents.iter().filter(|incident| incident.key.unit == self.unit).cloned().collect();
        let situation = self.situation();
        let notes = self.known.as_ref().map_or_else(Vec::new, |known| known.notes.clone());
        let diagnosis = diagnose(own, situation, groups);
        let mut answer = Answer::new(self.unit.as_ref(), &diagnosis, situation, groups, clock, notes);
        if self.unit.is_none() {
            // Without a unit no setting can help.
            answer.unproven = None;
        }
        answer.nothing = "None of its calls was refused meanwhile.";
        let facts = self.known.as_ref().and_then(|known| known.properties.as_ref());
        if let (Some(facts), Some(situation)) = (facts, situation) {
            crate::cli::views::remedy::add_exposure(&mut answer.remedies, facts, situation);
        }
        answer
    }
}

/// Returns whether the unit's policy gives that result for some arguments of the call. If not, the call itself failed
/// with that error.
fn can_cause(cases: &[TappedUnit], unit: Option<&Unit>, kind: &RefusalKind) -> bool {
    let case = cases.iter().find(|case| case.unit.as_ref() == unit);
    let Some(situation) = case.and_then(TappedUnit::situation) else { return false };
    let call = Call::numbered(kind.arch, kind.number);
    let (Some(abi), Some(name), CallResult::Errno(errno)) = (call.abi(), call.name(), kind.result) else {
        return false;
    };
    let verdict = situation.policy.verdict(abi, name);
    matches!(verdict, Verdict::Denied { effect: Effect::Errno(denied), .. } if denied == errno)
}

/// The refusals of one kind, of the processes of one unit.
struct UnitRefusal {
    unit: Option<Unit>,
    rung: Option<Rung>,
    kind: RefusalKind,
    group: RefusalTotals,
}

/// Groups the refusals by unit.
fn group_by_unit(
    tally: &RefusalTally,
    cases: &[TappedUnit],
    whose: impl Fn(usize, &ProcessOwner) -> Option<(Unit, Rung)>,
) -> Vec<UnitRefusal> {
    let mut all: BTreeMap<(Option<Unit>, RefusalKind), UnitRefusal> = BTreeMap::new();
    let of = |kind: &RefusalKind| whose(kind.target, &kind.owner).unzip();
    for (kind, group) in tally.refusals(|kind| can_cause(cases, of(kind).0.as_ref(), kind)) {
        let (unit, rung) = of(&kind);
        let kind = RefusalKind { target: 0, owner: ProcessOwner::Unknown, ..kind };
        match all.entry((unit.clone(), kind.clone())) {
            Entry::Vacant(vacant) => drop(vacant.insert(UnitRefusal { unit, rung, kind, group })),
            Entry::Occupied(mut occupied) => {
                let known = occupied.get_mut();
                // The group is as uncertain as its least certain member.
                known.rung = known.rung.max(rung);
                known.group.merge(&group);
            }
        }
    }
    all.into_values().collect()
}

fn views(refused: &[UnitRefusal]) -> Vec<RefusalView> {
    let view = |one: &UnitRefusal| RefusalView::new(one.unit.as_ref(), &one.kind, &one.group);
    let mut views: Vec<RefusalView> = refused.iter().map(view).collect();
    views.sort_by_key(|view| std::cmp::Reverse(view.count));
    views
}

/// Returns the incident to store; `None` for a result without an error, which no systemd filter gives.
fn to_incident(UnitRefusal { unit, rung, kind, group }: &UnitRefusal) -> Option<Incident> {
    let CallResult::Errno(errno) = kind.result else { return None };
    let caller = group.threads.last();
    Some(Incident {
        key: IncidentKey {
            unit: unit.clone(),
            event: IncidentEvent::Denial(Denial {
                call: Call::numbered(kind.arch, kind.number),
                action: Action::Errno,
            }),
            exe: kind.exe.clone(),
            source: SightingSource::Tap { errno },
        },
        rung: *rung,
        count: group.count,
        first: Moment::At(group.first),
        last: Moment::At(group.last),
        sample: Sample {
            pid: caller.map_or(0, |caller| caller.pid),
            comm: caller.map_or_else(Vec::new, |caller| caller.comm.clone()),
            uid: group.uid.map_or_else(String::new, |uid| uid.to_string()).into(),
            ip: group.ip,
            ..Sample::default()
        },
    })
}

/// Sends the incidents to the daemon. Returns a note if it does not store them.
async fn report_to_daemon(bus: &BusAddress, incidents: &[Incident]) -> Option<Note> {
    let dicts: Vec<IncidentDict> =
        incidents.iter().map(|incident| IncidentDict::from(&Stored { id: 0, incident: incident.clone() })).collect();
    if dicts.is_empty() {
        return None;
    }
    let report = async {
        let daemon = crate::outlet::client::daemon(bus).await?;
        for dicts in dicts.chunks(MAX_INCIDENTS as usize) {
            daemon.report(dicts).await.map_err(crate::outlet::client::explained)?;
        }
        anyhow::Ok(())
    };
    let error = report.await.err()?;
    Some(Note::new("not-stored", format!("what was seen is not stored, since harden-whyd does not take it: {error:#}")))
}

/// Notes about refusals that were not counted.
fn loss_notes(lost: TapLosses, forgotten: u64) -> Vec<Note> {
    let mut notes = Vec::new();
    let refusals = lost.refusals.saturating_add(forgotten);
    if refusals > 0 {
        notes.push(Note::new(
            "refusals-not-told-apart",
            format!("{refusals} refusals more were of too many different calls or threads to be told apart"),
        ));
    }
    if lost.threads > 0 {
        notes.push(Note::new(
            "threads-not-followed",
            "more threads ran than can be followed at a time: some of what they were refused was not seen",
        ));
    }
    notes
}
