//! Finds why a call was denied: by directives of the unit, or by something else.
//!
//! A record holds only the kernel's action. This module compares the action with the policy's verdict for the call. If
//! systemd never uses the action, or the policy permits the call, something other than the unit's settings denied the
//! call.

use super::access_needs::{find_undecided, find_withholding, is_granted};
use super::fixed;
use super::fixed::{Fixed, History, LaterChange, SettingsChange, TakesEffect};
use super::runtime::Runtime;
use super::situation::Situation;
use crate::audit::Action;
use crate::incidents::{Access, AccessDenial, Denial, Incident, IncidentEvent, Moment, SightingSource};
use crate::policy;
use crate::policy::program_path::find_exempt_command;
use crate::policy::{CauseReason, Effect, Policy, Verdict};
use crate::syscalls::Groups;
use std::path::{Path, PathBuf};

/// Why a call was denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DenialCause {
    /// The unit's settings deny the call with any arguments.
    Unit {
        /// What the settings do to the call.
        effect: Effect,
        /// Each directive that denies the call.
        by: Vec<policy::DirectiveCause>,
        /// The present settings have another effect than the record shows: they changed since, or the process still ran
        /// with older settings.
        changed: bool,
    },
    /// The unit's settings deny the call with some arguments, and no record holds arguments. Or a specifier of
    /// unknown value decides whether they withhold an access.
    Possible {
        /// The directives that may have denied the call.
        by: Vec<policy::DirectiveCause>,
    },
    /// The unit's settings deny the call, or may, but they changed since the process that was denied it started.
    BeforeChange {
        /// The directives that deny the call, or may.
        by: Vec<policy::DirectiveCause>,
        /// The change.
        change: LaterChange,
    },
    /// The unit's filter allows the call as far as is known here. The machine's own systemd may rule otherwise, since
    /// its groups or its libseccomp are not known.
    PossiblyOtherSystemd {
        /// The part of the filter.
        by: Vec<policy::DirectiveCause>,
    },
    /// The call was logged and allowed.
    Logged {
        /// The unit's `SystemCallLog=`, if it lists the call.
        by: Option<policy::DirectiveCause>,
    },
    /// Something other than the unit's settings denied the call.
    Elsewhere(Elsewhere),
    /// The unit's settings could not be read.
    SettingsUnread,
    /// The number has no known name, so no setting can name the call.
    UnknownCall,
    /// The process died of SIGSYS and the kernel sent no record.
    UnrecordedDeath,
}

impl DenialCause {
    /// Whether the unit's present settings denied the call, or may have.
    #[must_use]
    pub fn is_by_unit(&self) -> bool {
        matches!(self, Self::Unit { .. } | Self::Possible { .. })
    }

    /// Returns the directives that decide on the call, the deciding one first.
    #[must_use]
    pub fn directives(&self) -> &[policy::DirectiveCause] {
        match self {
            Self::Unit { by, .. }
            | Self::Possible { by }
            | Self::PossiblyOtherSystemd { by }
            | Self::BeforeChange { by, .. } => by,
            Self::Logged { by } => by.as_slice(),
            Self::Elsewhere(_) | Self::SettingsUnread | Self::UnknownCall | Self::UnrecordedDeath => &[],
        }
    }

    /// Returns the directives of the unit that deny the call, or may.
    fn into_directives(self) -> Vec<policy::DirectiveCause> {
        match self {
            Self::Unit { by, .. } | Self::Possible { by } | Self::BeforeChange { by, .. } => by,
            _ => Vec::new(),
        }
    }
}

/// What denied a call, other than the unit's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// The machine's systemd never uses this action for such a call: the program's own sandbox does, or a container
    /// runtime. No systemd traps, traces or asks a supervisor; since 243 its filters do not kill threads.
    ForeignAction,
    /// The unit's present settings permit the call.
    Permitted {
        /// The file times show that the settings also permitted the call when it was denied, so the program's own
        /// sandbox denied it.
        unchanged: bool,
    },
    /// The unit's settings would have done something else to the call.
    OtherEffect,
    /// The unit's settings changed since the denial, and now let the call pass.
    Fixed(Fixed),
    /// A container runtime, or another program that starts the unit's processes, gives them filters of its own.
    Runtime(Runtime),
    /// The unit runs the program by this line, whose prefix `+` exempts it from the unit's settings.
    ExemptCommand {
        /// The key of the line, for example `ExecStartPre`.
        key: Box<str>,
        /// The line.
        origin: policy::Origin,
    },
    /// The unit is a scope: systemd starts none of its processes, so it gives them no filter.
    Scope,
}

/// Returns why an incident happened.
pub(super) fn find_cause(incident: &Incident, situation: Option<&Situation>, groups: &Groups) -> DenialCause {
    let cause = find_cause_in_settings(incident, situation, groups);
    let can_be_exempt = !cause.directives().is_empty() && !is_of_filter(incident);
    let exempt = situation.filter(|_| can_be_exempt).and_then(|situation| {
        find_exempt_command(situation.policy.settings.commands(), &incident.key.exe, &incident.sample.comm)
    });
    exempt.map_or(cause, |command| {
        DenialCause::Elsewhere(Elsewhere::ExemptCommand { key: command.key.clone(), origin: command.origin.clone() })
    })
}

/// Whether the kernel recorded what a filter did: then a filter held the process, whatever command line ran the program.
fn is_of_filter(incident: &Incident) -> bool {
    let is_recorded =
        matches!(incident.key.source, SightingSource::Audit | SightingSource::Log | SightingSource::Rehearsal);
    is_recorded && matches!(incident.key.event, IncidentEvent::Denial(_))
}

/// Returns why an incident happened, if the unit's settings hold for the process.
fn find_cause_in_settings(incident: &Incident, situation: Option<&Situation>, groups: &Groups) -> DenialCause {
    let denial = match &incident.key.event {
        IncidentEvent::Denial(denial) => denial,
        IncidentEvent::Access(denial) => {
            return situation.map_or(DenialCause::SettingsUnread, |situation| {
                find_access_cause(incident, denial, situation, groups)
            });
        }
        IncidentEvent::UnrecordedDeath => return DenialCause::UnrecordedDeath,
    };
    let source = incident.key.source;
    let cause = cause_in_policy(denial, source, situation.map(|situation| &situation.policy));
    match cause {
        DenialCause::Elsewhere(elsewhere @ (Elsewhere::Permitted { .. } | Elsewhere::OtherEffect)) => {
            let change = || {
                let denies = |policy: &Policy| {
                    matches!(
                        cause_in_policy(denial, incident.key.source, Some(policy)),
                        DenialCause::Unit { changed: false, .. } | DenialCause::Possible { .. }
                    )
                };
                situation.map_or(SettingsChange::Unknown, |situation| find_change(incident, situation, groups, denies))
            };
            let elsewhere = filtering_program(incident).unwrap_or_else(|| match (change(), elsewhere) {
                (SettingsChange::Changed(fixed), _) => Elsewhere::Fixed(fixed),
                (SettingsChange::Unchanged, Elsewhere::Permitted { .. }) => Elsewhere::Permitted { unchanged: true },
                (_, elsewhere) => elsewhere,
            });
            DenialCause::Elsewhere(elsewhere)
        }
        DenialCause::Elsewhere(elsewhere) => DenialCause::Elsewhere(filtering_program(incident).unwrap_or(elsewhere)),
        DenialCause::SettingsUnread => {
            filtering_program(incident).map_or(DenialCause::SettingsUnread, DenialCause::Elsewhere)
        }
        cause @ (DenialCause::Unit { .. } | DenialCause::Possible { .. }) => {
            match situation.and_then(|situation| find_later_change(incident, denial, &cause, situation, groups)) {
                Some(change) => DenialCause::BeforeChange { by: cause.into_directives(), change },
                None => cause,
            }
        }
        cause => cause,
    }
}

/// Returns why an access failed.
fn find_access_cause(
    incident: &Incident,
    denial: &AccessDenial,
    situation: &Situation,
    groups: &Groups,
) -> DenialCause {
    let by = find_withholding(denial, &situation.policy);
    if by.is_empty() {
        let undecided = find_undecided(denial, &situation.policy);
        if !undecided.is_empty() {
            return DenialCause::Possible { by: undecided };
        }
        let denies = |policy: &Policy| !is_granted(denial, policy);
        let elsewhere = match find_change(incident, situation, groups, denies) {
            SettingsChange::Changed(fixed) => Elsewhere::Fixed(fixed),
            SettingsChange::Unchanged => Elsewhere::Permitted { unchanged: true },
            SettingsChange::Unknown => Elsewhere::Permitted { unchanged: false },
        };
        return DenialCause::Elsewhere(elsewhere);
    }
    let is_deciding = |path: &Path| {
        let without = || situation.policy.without_dropins(|other| other == path, groups);
        let mut origins = by.iter().filter_map(|cause| cause.origin.as_ref());
        origins.any(|origin| &*origin.path == path) || find_withholding(denial, &without()) != by
    };
    let later = match (&incident.last, dated_history(situation)) {
        (Moment::At(last), Some(history)) => {
            fixed::find_later_change(*last, history, is_deciding, |path| situation.is_remedy(path))
        }
        _ => None,
    };
    match later {
        Some(change) => DenialCause::BeforeChange { by, change },
        // The kernel refuses such a call for other reasons as well.
        None if is_guessed_capability(incident) => DenialCause::Possible { by },
        None => DenialCause::Unit { effect: Effect::Errno(denial.errno), by, changed: false },
    }
}

/// Whether strace showed that a call failed which needs a capability, and not that the kernel asked for it.
pub(super) fn is_guessed_capability(incident: &Incident) -> bool {
    let is_capability = |denial: &AccessDenial| matches!(denial.access, Access::Capability { .. });
    matches!(incident.key.source, SightingSource::Strace { .. }) && incident.access().is_some_and(is_capability)
}

/// Returns the program that filters the process in place of systemd, if the unit's name or the process's label shows one.
fn filtering_program(incident: &Incident) -> Option<Elsewhere> {
    let unit = incident.key.unit.as_ref().map(|unit| &unit.name);
    let runtime = unit.and_then(Runtime::from_unit_name).or_else(|| Runtime::from_label(&incident.sample.subject));
    let scope = || unit.filter(|unit| unit.suffix() == "scope").map(|_| Elsewhere::Scope);
    runtime.map(Elsewhere::Runtime).or_else(scope)
}

/// Returns whether the unit's settings changed since the denial, and the drop-in without which they would still deny
/// the call. If the times of the files or of the denial are unknown, a remedy that lets the call pass counts as newer.
fn find_change(
    incident: &Incident,
    situation: &Situation,
    groups: &Groups,
    denies: impl Fn(&Policy) -> bool,
) -> SettingsChange {
    let without = |path: &PathBuf| situation.policy.without_dropins(|other| other == path, groups);
    if let (Some(history), Moment::At(last)) = (dated_history(situation), &incident.last) {
        let first = if let Moment::At(first) = incident.first { first } else { *last };
        return fixed::find_change((first, *last), history, without, denies);
    }
    let mut files = situation.policy.settings.assignments().map(|line| &line.origin.path);
    let remedy = files.find(|path| situation.is_remedy(path)).map(|path| path.to_path_buf());
    match remedy.filter(|path| denies(&without(path))) {
        Some(path) => SettingsChange::Changed(Fixed { at: None, by: Some(path), takes: TakesEffect::Now }),
        None => SettingsChange::Unknown,
    }
}

/// Returns the latest change of a file that decides the call, if no process that started after it is known to be denied
/// the call. A file decides the call if it has a denying line, or if the verdict differs without it. Each line of a
/// directive that looks at arguments counts as well. If the record shows another effect, any change counts.
fn find_later_change(
    incident: &Incident,
    denial: &Denial,
    cause: &DenialCause,
    situation: &Situation,
    groups: &Groups,
) -> Option<LaterChange> {
    let Moment::At(last) = incident.last else { return None };
    let (by, has_changed) = match cause {
        DenialCause::Unit { by, changed, .. } => (by, *changed),
        DenialCause::Possible { by } => (by, false),
        _ => return None,
    };
    let policy = &situation.policy;
    let verdict = |policy: &Policy| Some(policy.verdict(denial.call.abi()?, denial.call.name()?));
    let decides = |path: &Path| {
        let looks_at_arguments = |cause: &&policy::DirectiveCause| matches!(cause.why, CauseReason::Argument { .. });
        let lines = by.iter().filter(looks_at_arguments).flat_map(|cause| policy.settings.lines(cause.directive));
        let origins = by.iter().filter_map(|cause| cause.origin.as_ref()).chain(lines.map(|line| &line.origin));
        let without = || policy.without_dropins(|other| other == path, groups);
        has_changed
            || origins.into_iter().any(|origin| &*origin.path == path)
            || verdict(&without()) != verdict(&policy.after_reload(groups))
    };
    fixed::find_later_change(last, dated_history(situation)?, decides, |path| situation.is_remedy(path))
}

fn dated_history(situation: &Situation) -> Option<&History> {
    situation.history.as_ref().filter(|history| !history.changes.is_empty())
}

/// Returns the cause of a denial under a policy.
fn cause_in_policy(denial: &Denial, source: SightingSource, policy: Option<&Policy>) -> DenialCause {
    match source {
        SightingSource::Audit | SightingSource::Log => cause_of_action(denial, policy),
        SightingSource::Rehearsal => cause_with_effect(denial, policy, |cause| cause.effect.is_some()),
        // If the process got another error, something else refused the call.
        SightingSource::Tap { errno } | SightingSource::Strace { errno, knows_argument: false } => {
            cause_with_effect(denial, policy, |cause| cause.effect == Some(Effect::Errno(errno)))
        }
        SightingSource::Strace { errno, knows_argument: true } => cause_with_effect(denial, policy, |cause| {
            cause.effect == Some(Effect::Errno(errno)) && !matches!(cause.why, CauseReason::Argument { .. })
        }),
    }
}

/// Returns the cause of a call that a rehearsal let pass, or whose effect a tap or strace saw. `fits` says whether a
/// directive that acts so matches the sighting.
fn cause_with_effect(
    denial: &Denial,
    policy: Option<&Policy>,
    fits: impl Fn(&policy::DirectiveCause) -> bool,
) -> DenialCause {
    let Some(policy) = policy else { return DenialCause::SettingsUnread };
    let (Some(abi), Some(name)) = (denial.call.abi(), denial.call.name()) else {
        return cause_of_unnamed_call(denial, policy);
    };
    match policy.verdict(abi, name) {
        Verdict::Permitted | Verdict::LogOnly { .. } => {
            DenialCause::Elsewhere(Elsewhere::Permitted { unchanged: false })
        }
        Verdict::Denied { effect, by, possible } if by.iter().chain(&possible).any(&fits) => {
            DenialCause::Unit { effect, by, changed: false }
        }
        Verdict::Possible { by } if by.iter().any(&fits) => {
            DenialCause::Possible { by: by.into_iter().filter(fits).collect() }
        }
        Verdict::Denied { .. } | Verdict::Possible { .. } => DenialCause::Elsewhere(Elsewhere::OtherEffect),
    }
}

/// Returns the cause of a call for which the kernel recorded an action.
fn cause_of_action(denial: &Denial, policy: Option<&Policy>) -> DenialCause {
    if matches!(denial.action, Action::Trap | Action::UserNotif | Action::Trace) {
        return DenialCause::Elsewhere(Elsewhere::ForeignAction);
    }
    let Some(policy) = policy else { return DenialCause::SettingsUnread };
    // Since systemd 243, only SystemCallArchitectures= kills threads, and never for calls of the native ABI.
    let is_native = denial.call.abi() == Some(policy.native());
    if denial.action == Action::KillThread && is_native && policy.kills_processes() {
        return DenialCause::Elsewhere(Elsewhere::ForeignAction);
    }
    let (Some(abi), Some(name)) = (denial.call.abi(), denial.call.name()) else {
        return cause_of_unnamed_call(denial, policy);
    };
    let verdict = policy.verdict(abi, name);
    if denial.action == Action::Log {
        return match verdict {
            Verdict::LogOnly { by } => DenialCause::Logged { by: Some(by) },
            _ => DenialCause::Logged { by: None },
        };
    }
    match verdict {
        Verdict::Permitted | Verdict::LogOnly { .. } => match policy.possible_filter_cause(name) {
            Some(cause) if fits_filter(denial.action, cause.effect) => {
                DenialCause::PossiblyOtherSystemd { by: vec![cause] }
            }
            _ => DenialCause::Elsewhere(Elsewhere::Permitted { unchanged: false }),
        },
        // A directive that looks at arguments refuses with an error and never kills.
        Verdict::Possible { .. } if denial.action.is_kill() => DenialCause::Elsewhere(Elsewhere::OtherEffect),
        Verdict::Possible { by } => DenialCause::Possible { by },
        Verdict::Denied { effect, by, .. } => {
            let (does, did) = (effect.severity(), recorded_severity(denial.action));
            let threads = by.iter().any(|cause| cause.effect == Some(Effect::KillThread));
            let by_old_filter =
                denial.action == Action::KillThread && effect == Effect::Kill && !policy.kills_processes();
            if by_old_filter {
                DenialCause::Unit { effect, by, changed: false }
            } else if did.is_some_and(|did| did > does) {
                DenialCause::Elsewhere(Elsewhere::OtherEffect)
            } else if denial.action == Action::KillThread && !threads {
                // The unit does not block the ABI, and its filters kill whole processes.
                DenialCause::Elsewhere(Elsewhere::OtherEffect)
            } else {
                DenialCause::Unit { effect, by, changed: did.is_some_and(|did| did < does) }
            }
        }
    }
}

/// Whether a filter with this effect causes an action.
fn fits_filter(action: Action, effect: Option<Effect>) -> bool {
    match effect {
        Some(Effect::Errno(_)) => action == Action::Errno,
        _ => action.is_kill(),
    }
}

/// Returns the cause of a call without a name. A policy denies such a call because of its ABI, or because an allow-list
/// lacks it.
fn cause_of_unnamed_call(denial: &Denial, policy: &Policy) -> DenialCause {
    let Some(abi) = denial.call.abi() else { return DenialCause::UnknownCall };
    match policy.verdict(abi, "") {
        Verdict::Denied { effect: effect @ Effect::KillThread, by, .. } if denial.action == Action::KillThread => {
            DenialCause::Unit { effect, by, changed: false }
        }
        _ => DenialCause::UnknownCall,
    }
}

/// Returns how strong an action is on the scale of [`Effect::severity`]; `None` if two effects record the same action.
fn recorded_severity(action: Action) -> Option<u8> {
    let effect = match action {
        Action::Errno => Effect::Errno(0),
        Action::KillThread => Effect::KillThread,
        Action::KillProcess => Effect::Kill,
        _ => return None,
    };
    Some(effect.severity())
}
