//! Groups the refusals that a tap saw by unit.

use super::targets::{ResolvedTarget, TapScope};
use crate::audit::Action;
use crate::diagnosis::before_exec::is_systemd_before_exec;
use crate::diagnosis::{Situation, find_withholding};
use crate::host::unit_settings::LoadedSettings;
use crate::incidents::{
    Access, AccessDenial, Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource,
};
use crate::kernel::tap::{CallResult, ProcessOwner, RefusalKind, RefusalTally, RefusalTotals};
use crate::policy::{Directive, DirectiveCause, Effect, Policy, Verdict};
use crate::syscalls::{Abi, Call};
use crate::units::{Rung, Unit};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// A unit under the tap. Its name is `None` for processes without a unit.
pub(crate) struct TappedUnit {
    pub(crate) unit: Option<Unit>,
    pub(crate) settings: Option<LoadedSettings>,
}

/// The refusals of one kind for the processes of one unit.
pub(crate) struct UnitRefusal {
    pub(crate) unit: Option<Unit>,
    rung: Option<Rung>,
    pub(crate) kind: RefusalKind,
    pub(crate) totals: RefusalTotals,
    /// What the call asked for by its argument, if that is why the unit's settings deny it.
    pub(crate) denied: Option<AccessDenial>,
    /// How the unit's filter killed the caller, if it did. The kernel writes a record of that, which the daemon reads.
    pub(crate) killed: Option<Action>,
}

impl TappedUnit {
    /// Returns the unit's settings in the form that a diagnosis takes.
    pub(crate) fn situation(&self) -> Option<&Situation> {
        self.settings.as_ref()?.situation.as_ref()
    }
}

impl UnitRefusal {
    /// Returns the incident; `None` for a call with a result that no filter of systemd's gives.
    pub(crate) fn to_incident(&self) -> Option<Incident> {
        let Self { unit, rung, kind, totals, denied, killed } = self;
        let denial = |action| IncidentEvent::Denial(Denial { call: Call::numbered(kind.arch, kind.number), action });
        let (event, source) = match (denied, kind.result) {
            (Some(denied), _) => (IncidentEvent::Access(denied.clone()), SightingSource::Tap { errno: denied.errno }),
            (None, CallResult::Errno(errno)) => (denial(Action::Errno), SightingSource::Tap { errno }),
            (None, CallResult::Answered | CallResult::Entered) => (denial((*killed)?), SightingSource::Audit),
        };
        let caller = totals.threads.last();
        Some(Incident {
            key: IncidentKey { unit: unit.clone(), event, exe: kind.exe.clone(), source },
            rung: *rung,
            count: totals.count,
            first: Moment::At(totals.first),
            last: Moment::At(totals.last),
            sample: Sample {
                pid: caller.map_or(0, |caller| caller.pid),
                comm: caller.map_or_else(Vec::new, |caller| caller.comm.clone()),
                uid: totals.uid.map_or_else(String::new, |uid| uid.to_string()).into(),
                ip: totals.ip,
                call_site: totals.site.clone(),
                ..Sample::default()
            },
        })
    }
}

/// Returns the unit of a refusal by a process of target number `target`, and the evidence for the unit.
pub(crate) fn find_unit(
    watched: &[ResolvedTarget],
    scope: TapScope,
    target: usize,
    owner: &ProcessOwner,
) -> Option<(Unit, Rung)> {
    let (unit, rung) = watched.get(target)?.attribute(owner, scope)?;
    Some((unit.clone(), rung))
}

/// Groups the refusals by unit.
pub(crate) fn group_by_unit(
    tally: &RefusalTally,
    units: &[TappedUnit],
    find_unit: impl Fn(usize, &ProcessOwner) -> Option<(Unit, Rung)>,
) -> Vec<UnitRefusal> {
    let mut all: BTreeMap<(Option<Unit>, RefusalKind), UnitRefusal> = BTreeMap::new();
    let find = |kind: &RefusalKind| find_unit(kind.target, &kind.owner).unzip();
    for (kind, totals) in tally.refusals(|kind| can_cause(units, find(kind).0.as_ref(), kind)) {
        let (unit, rung) = find(&kind);
        let denied = denied_argument(units, unit.as_ref(), &kind);
        let is_systemds = || totals.threads.iter().all(|thread| is_systemd_before_exec(&thread.comm, &kind.exe));
        // systemd sets the sandbox up before it loads the unit's filters.
        if kind.result == CallResult::Entered && (denied.is_none() || is_systemds()) {
            continue;
        }
        // An argument that does not decide tells no refusals apart.
        let argument = kind.argument.filter(|_| denied.is_some());
        let kind = RefusalKind { target: 0, owner: ProcessOwner::Unknown, argument, ..kind };
        match all.entry((unit.clone(), kind.clone())) {
            Entry::Vacant(vacant) => {
                let killed = killing_action(units, unit.as_ref(), &kind);
                vacant.insert(UnitRefusal { unit, rung, kind, totals, denied, killed });
            }
            Entry::Occupied(mut occupied) => {
                let known = occupied.get_mut();
                // The group is as uncertain as its least certain member.
                known.rung = known.rung.max(rung);
                known.totals.merge(&totals);
            }
        }
    }
    all.into_values().collect()
}

/// Returns whether the unit's policy gives that result for some arguments of the call. If not, the call itself failed
/// with that error, or the policy is unknown.
fn can_cause(units: &[TappedUnit], unit: Option<&Unit>, kind: &RefusalKind) -> bool {
    let Some((policy, abi, name)) = find_rules(units, unit, kind) else { return false };
    let verdict = policy.verdict(abi, name);
    let is_denied = || matches!(verdict, Verdict::Denied { effect: Effect::Errno(denied), .. } if CallResult::Errno(denied) == kind.result);
    is_denied() || denied_argument(units, unit, kind).is_some()
}

/// Returns how the unit's policy kills the caller of a call that returned no error, as the kernel shows a killing filter:
/// it puts the call's number back into the register of the result (`syscall_rollback()`).
fn killing_action(units: &[TappedUnit], unit: Option<&Unit>, kind: &RefusalKind) -> Option<Action> {
    let (policy, abi, name) = find_rules(units, unit, kind).filter(|_| kind.result == CallResult::Answered)?;
    match policy.verdict(abi, name) {
        Verdict::Denied { effect: Effect::Kill, .. } => Some(Action::KillProcess),
        Verdict::Denied { effect: Effect::KillThread, .. } => Some(Action::KillThread),
        _ => None,
    }
}

/// Returns what a call asked for by its argument, if the unit's policy denies it for this alone, with the error that the
/// process got.
fn denied_argument(units: &[TappedUnit], unit: Option<&Unit>, kind: &RefusalKind) -> Option<AccessDenial> {
    let (policy, abi, name) = find_rules(units, unit, kind)?;
    let access = Access::from_argument(name, kind.argument?)?;
    let of_families = |cause: &DirectiveCause| cause.directive == Directive::RestrictAddressFamilies;
    let by = match policy.verdict(abi, name) {
        Verdict::Possible { by } => by,
        // A list without any family denies the call whatever its argument, which alone tells the family that is missing.
        Verdict::Denied { by, .. } if by.iter().all(of_families) => by,
        _ => return None,
    };
    let mut denial = AccessDenial { call: Call::numbered(kind.arch, kind.number), errno: 0, access };
    let deciding = find_withholding(&denial, policy).into_iter().next()?.directive;
    let Effect::Errno(errno) = by.iter().find(|cause| cause.directive == deciding)?.effect? else { return None };
    denial.errno = errno;
    (kind.result == CallResult::Entered || kind.result == CallResult::Errno(errno)).then_some(denial)
}

fn find_rules<'a>(
    units: &'a [TappedUnit],
    unit: Option<&Unit>,
    kind: &RefusalKind,
) -> Option<(&'a Policy, Abi, &'static str)> {
    let tapped = units.iter().find(|tapped| tapped.unit.as_ref() == unit)?;
    let abi = Call::numbered(kind.arch, kind.number).abi()?;
    Some((&tapped.situation()?.policy, abi, abi.call_name(kind.number)?))
}
