//! Why a call was denied, and what to change: computed from the incidents and the policy in force
//! at the time of asking, never stored.

#![forbid(unsafe_code)]

pub mod call_profiles;
pub mod cause;
pub mod equivalent_calls;
pub mod errno_fallback;
pub mod fixed;
mod group_cover;
mod lines;
mod predicted_calls;
pub mod privileged_calls;
mod proof;
pub mod rehearsal;
mod relax_directive;
pub mod remedy;
pub mod runtime;

pub use cause::{Cause, Elsewhere};
pub use fixed::{Change, Fixed, History, Takes};
pub use rehearsal::Rehearsal;
pub use remedy::{Because, Kind, Remedy};
pub use runtime::Runtime;

use crate::audit::Action;
use crate::incidents::{Denial, Event, Incident, Source};
use crate::policy::{Effect, Policy};
use crate::syscalls::Groups;
use crate::units::{Confidence, Rung};
use std::borrow::Cow;
use std::path::PathBuf;

/// What is known of a unit's settings.
#[derive(Debug)]
pub struct Situation {
    /// Its policy.
    pub policy: Policy,
    /// Where a drop-in of ours would go.
    pub drop_in: PathBuf,
    /// When they changed, where that means anything: files copied from elsewhere have other times.
    pub history: Option<History>,
}

/// The answer for one unit.
#[derive(Debug)]
pub struct Diagnosis {
    /// Each incident with its cause, in the order given.
    pub findings: Vec<Finding>,
    /// What would let every denied call pass, least privilege first. Empty where nothing could be proven.
    pub remedies: Vec<Remedy>,
    /// Denied calls that no setting of the unit can let pass; the remedies solve the others.
    pub beyond: Vec<Box<str>>,
}

impl Diagnosis {
    /// The remedy to apply where nobody chose one, by its place among [`remedies`](Self::remedies): the one
    /// that spares the unit its next denials, where there is one, and else the narrowest. It opens no
    /// [sensitive](privileged_calls::GROUPS) call that was not denied, but for what a loosened directive opens. None is where
    /// the unit is a [guess](Self::is_guessed): a person has to look first.
    #[must_use]
    pub fn default_remedy(&self) -> Option<usize> {
        if self.is_guessed() {
            return None;
        }
        let foreseeing = self.remedies.iter().position(|remedy| remedy.kind == Kind::Companions);
        foreseeing.or_else(|| self.remedies.iter().position(|remedy| remedy.kind != Kind::Soften))
    }

    /// Whether it is no more than a guess of every denial that it was the unit's.
    #[must_use]
    pub fn is_guessed(&self) -> bool {
        let is_guess = |rung: Rung| rung.confidence() == Confidence::Guess;
        !self.findings.is_empty() && self.findings.iter().all(|finding| finding.incident.rung.is_some_and(is_guess))
    }
}

/// One incident, explained.
#[derive(Debug)]
pub struct Finding {
    /// What was seen.
    pub incident: Incident,
    /// Why.
    pub cause: Cause,
    /// The groups that hold the call, smallest first.
    pub groups: Vec<Box<str>>,
    /// It happened in systemd's own code, after the filter was loaded and before the program was executed.
    pub before_exec: bool,
}

impl Finding {
    /// Whether callers do without the call as they do on a kernel that lacks it, so that nothing has to change.
    #[must_use]
    pub fn is_done_without(&self) -> bool {
        remedy::is_done_without(self)
    }
}

/// Explains a unit's incidents and looks for remedies that solve all of them together.
#[must_use]
pub fn diagnose(incidents: Vec<Incident>, situation: Option<&Situation>, groups: &Groups) -> Diagnosis {
    let findings: Vec<Finding> =
        incidents.into_iter().map(|incident| Finding::new(incident, situation, groups)).collect();
    let remedies = situation.map_or_else(Vec::new, |situation| remedy::find(&findings, situation, groups));
    let beyond = remedy::beyond(&findings);
    Diagnosis { findings, remedies, beyond }
}

/// Explains one incident, with the first of the remedies that [`diagnose`] finds for it alone: quicker where the others
/// are not asked for.
#[must_use]
pub fn diagnose_one(incident: Incident, situation: &Situation, groups: &Groups) -> (Finding, Option<Remedy>) {
    let finding = Finding::new(incident, Some(situation), groups);
    let remedy = remedy::first(std::slice::from_ref(&finding), situation, groups);
    (finding, remedy)
}

impl Finding {
    fn new(incident: Incident, situation: Option<&Situation>, groups: &Groups) -> Self {
        Self {
            cause: cause::of(&incident, situation, groups),
            groups: denied(&incident)
                .and_then(|denial| denial.call.name())
                .map_or_else(Vec::new, |call| groups.containing(call).into_iter().map(Into::into).collect()),
            before_exec: is_before_exec(&incident),
            incident,
        }
    }
}

/// The denial of an incident that is one.
#[must_use]
pub fn denied(incident: &Incident) -> Option<&Denial> {
    match &incident.key.event {
        Event::Denial(denial) => Some(denial),
        Event::SilentDeath => None,
    }
}

/// systemd names a task `(program)` between fork and exec; since 255 it runs systemd-executor there.
fn is_before_exec(incident: &Incident) -> bool {
    let comm = &incident.sample.comm;
    let named = comm.first() == Some(&b'(');
    let exe = incident.key.exe.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    named && matches!(exe, b"systemd" | b"systemd-executor")
}

/// What happened to the caller, in words that complete "the process …".
#[must_use]
pub fn outcome(incident: &Incident) -> Cow<'static, str> {
    let Some(denial) = denied(incident) else { return "was killed by SIGSYS".into() };
    match incident.key.source {
        Source::Tap { errno: 0 } => return "was told that the call succeeded, and it was not made".into(),
        Source::Tap { errno } => return format!("got {} from the call", Effect::Errno(errno)).into(),
        Source::Rehearsal => return "was let through, as its unit was rehearsed".into(),
        Source::Audit => {}
    }
    let words = match denial.action {
        Action::KillProcess | Action::Kill => "was killed by SIGSYS",
        Action::KillThread => "lost a thread to SIGSYS",
        Action::Trap => "was sent SIGSYS",
        Action::Errno => "got an error from the call",
        Action::UserNotif => "had to wait for a supervisor's decision",
        Action::Trace => "was stopped for its tracer",
        Action::Log => "was logged, and the call was made",
        Action::Other(_) => "met an action this version does not know",
    };
    words.into()
}
