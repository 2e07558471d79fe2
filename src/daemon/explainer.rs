//! The cause of a denial, from the unit's settings. The explainer asks the system manager for them while the alert
//! waits.
//!
//! An answer holds only for denials from before its question: the settings can change a moment later. So the explainer
//! caches no settings. Incidents that wait for the same unit share a question. The explainer does not ask users'
//! managers, since root would then open files that a user names.

use super::system_settings::SystemSettings;
use crate::audit::Action;
use crate::diagnosis::diagnose_one;
use crate::host::unit_settings::LoadedSettings;
use crate::incidents::{FairWindow, Incident};
use crate::outlet::{Explanation, NoDirective};
use crate::policy;
use crate::syscalls::Groups;
use crate::units::{Manager, Unit};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long an alert waits for its cause.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(1);

/// How many questions are under way at a time.
const MAX_QUESTIONS: usize = 4;

/// How many questions the explainer asks per window. A unit with fewer than an equal share may still ask.
const MAX_PER_WINDOW: u64 = 32;
const WINDOW: Duration = Duration::from_secs(10);

/// How many incidents share a question.
const MAX_SHARING: usize = 64;

/// How long the explainer asks nothing after an answer came too late.
const PAUSE: Duration = Duration::from_secs(10);

/// Identifies an incident in a question.
pub(super) type Ticket = u64;

/// The explanation of each incident of a question.
pub(super) type Answers = Vec<(Ticket, Explanation)>;

/// The questions, waiting and under way.
pub(super) struct Explainer {
    system: Arc<SystemSettings>,
    waiting: VecDeque<UnitQuestion>,
    asked: JoinSet<Result<Answers, TooLate>>,
    next_ticket: Ticket,
    /// When the window began, and its questions.
    window: Option<Instant>,
    asked_of: FairWindow<Unit>,
    paused_until: Option<Instant>,
}

/// A question about the settings of one unit.
#[derive(Debug)]
struct UnitQuestion {
    unit: Unit,
    incidents: Vec<(Ticket, Incident)>,
}

/// The answer came too late for these incidents.
#[derive(Debug)]
struct TooLate(Vec<Ticket>);

impl Explainer {
    /// Creates an explainer that asks the system manager.
    pub(super) fn new(system: Arc<SystemSettings>) -> Self {
        Self {
            system,
            waiting: VecDeque::new(),
            asked: JoinSet::new(),
            next_ticket: 0,
            window: None,
            asked_of: FairWindow::default(),
            paused_until: None,
        }
    }

    /// Queues a question about an incident.
    ///
    /// # Errors
    /// Settings cannot explain the incident, the manager was late, or the window has too many questions.
    pub(super) fn ask(&mut self, incident: &Incident, now: Instant) -> Result<Ticket, NoDirective> {
        let unit = explicable_unit(incident)?;
        if self.paused_until.is_some_and(|until| now < until) {
            return Err(NoDirective::Late);
        }
        self.next_ticket += 1;
        let asked = (self.next_ticket, incident.clone());
        let shared = self.waiting.iter_mut().find(|one| one.unit == *unit && one.incidents.len() < MAX_SHARING);
        if let Some(question) = shared {
            question.incidents.push(asked);
        } else {
            if self.window.is_none_or(|began| now.duration_since(began) >= WINDOW) {
                self.window = Some(now);
                self.asked_of = FairWindow::default();
            }
            if !self.asked_of.admit(unit, MAX_PER_WINDOW) {
                return Err(NoDirective::Busy);
            }
            self.waiting.push_back(UnitQuestion { unit: unit.clone(), incidents: vec![asked] });
        }
        Ok(self.next_ticket)
    }

    /// Starts the questions that wait, as many as may be under way.
    pub(super) fn start_questions(&mut self) {
        while self.asked.len() < MAX_QUESTIONS
            && let Some(UnitQuestion { unit, incidents }) = self.waiting.pop_front()
        {
            let system = Arc::clone(&self.system);
            let tickets = incidents.iter().map(|(ticket, _)| *ticket).collect();
            self.asked.spawn(async move {
                timeout(MAX_WAIT, explain(system, unit, incidents)).await.map_err(|_| TooLate(tickets))
            });
        }
    }

    /// Whether a question is under way.
    pub(super) fn is_asking(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Waits for the answers of a question. Never returns while none is under way.
    pub(super) async fn next_answers(&mut self) -> Answers {
        match self.asked.join_next().await {
            None => std::future::pending().await,
            Some(Ok(Ok(answers))) => answers,
            Some(Ok(Err(TooLate(tickets)))) => {
                if self.paused_until.is_none_or(|until| until < Instant::now()) {
                    tracing::warn!(
                        "the system manager does not return a unit's settings in time; alerts name no \
                        directive"
                    );
                }
                self.paused_until = Some(Instant::now() + PAUSE);
                let waiting = self.waiting.drain(..).flat_map(|question| question.incidents);
                let waiting = waiting.map(|(ticket, _)| ticket).collect::<Vec<_>>();
                let late = Explanation::NoDirective(NoDirective::Late);
                tickets.into_iter().chain(waiting).map(|ticket| (ticket, late.clone())).collect()
            }
            Some(Err(error)) => {
                tracing::error!("a query of a unit's settings failed: {error}");
                // Its alerts are sent when their wait is over.
                Vec::new()
            }
        }
    }
}

/// Returns the unit of an incident whose settings can have caused it.
///
/// # Errors
/// No settings can have caused it, or the daemon does not read them.
fn explicable_unit(incident: &Incident) -> Result<&Unit, NoDirective> {
    let unit = incident.key.unit.as_ref().ok_or(NoDirective::UnknownUnit)?;
    let call = incident.call().ok_or(NoDirective::UnrecordedDeath)?;
    if !matches!(unit.name.suffix(), "service" | "socket" | "mount" | "swap") {
        return Err(NoDirective::UnitType);
    }
    match incident.denial().map(|denial| denial.action) {
        // An access does not depend on the call's name, and only SystemCallArchitectures= denies calls without one.
        None | Some(Action::KillThread) => {}
        Some(Action::KillProcess | Action::Errno | Action::Log) if call.name().is_some() => {}
        Some(Action::KillProcess | Action::Errno | Action::Log) => return Err(NoDirective::UnknownCall),
        Some(_) => return Err(NoDirective::ForeignAction),
    }
    if unit.manager == Manager::System { Ok(unit) } else { Err(NoDirective::UserUnit) }
}

/// Explains incidents of a unit.
async fn explain(system: Arc<SystemSettings>, unit: Unit, incidents: Vec<(Ticket, Incident)>) -> Answers {
    let unread = Explanation::NoDirective(NoDirective::SettingsUnread);
    let no_answers = incidents.iter().map(|(ticket, _)| (*ticket, unread.clone())).collect();
    let name = unit.name.clone();
    let explain = move |known: &LoadedSettings, groups: &Groups| {
        let explain = |incident: Incident| {
            let Some(situation) = &known.situation else {
                return Explanation::NoDirective(NoDirective::SettingsUnread);
            };
            let (finding, remedy) = diagnose_one(incident, situation, groups);
            let certain = |cause: &policy::DirectiveCause| known.is_certain_of(cause.directive);
            Explanation::from_finding(&finding, remedy.as_ref(), certain, known.matches_manager)
        };
        incidents.into_iter().map(|(ticket, incident)| (ticket, explain(incident))).collect()
    };
    match system.read(unit, explain).await {
        Ok(answers) => answers,
        Err(error) => {
            tracing::debug!("cannot read the settings of {name}: {error}");
            no_answers
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::{Denial, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
    use crate::syscalls::{Arch, Call};
    use crate::systemd::manager::Managers;
    use std::os::unix::net::UnixListener;

    /// How long an answer may take on a busy machine.
    const LONG: Duration = Duration::from_secs(20);

    fn denied_by(manager: Manager, unit: &str, number: u32, action: Action) -> Incident {
        let call = Call::numbered(Arch::X86_64, number);
        let unit = Some(Unit { manager, name: unit.parse().unwrap() });
        Incident {
            key: IncidentKey {
                unit,
                event: IncidentEvent::Denial(Denial { call, action }),
                exe: Vec::new(),
                source: SightingSource::Audit,
            },
            rung: None,
            count: 1,
            first: Moment::Unknown,
            last: Moment::Unknown,
            sample: Sample::default(),
        }
    }

    fn killed(unit: &str) -> Incident {
        denied_by(Manager::System, unit, 41, Action::KillProcess)
    }

    fn explainer(address: &str) -> Explainer {
        Explainer::new(Arc::new(SystemSettings::new(Arc::new(Managers::with_paths(address, "/nonexistent")))))
    }

    #[test]
    fn only_incident_that_settings_can_explain_gets_a_question() {
        let mut explainer = explainer("unix:path=/nonexistent");
        let mut asks = |incident: &Incident| explainer.ask(incident, Instant::now()).err();
        let of_system = |number, action| denied_by(Manager::System, "a.service", number, action);
        assert_eq!(asks(&killed("a.service")), None);
        assert_eq!(asks(&killed("a.scope")), Some(NoDirective::UnitType), "systemd starts none of its processes");
        let of_user = denied_by(Manager::User(1000), "a.service", 41, Action::KillProcess);
        assert_eq!(asks(&of_user), Some(NoDirective::UserUnit));
        assert_eq!(asks(&of_system(41, Action::Trap)), Some(NoDirective::ForeignAction), "systemd never does that");
        assert_eq!(asks(&of_system(9999, Action::KillProcess)), Some(NoDirective::UnknownCall));
        assert_eq!(asks(&of_system(9999, Action::KillThread)), None);
        let mut silent = killed("a.service");
        silent.key.event = IncidentEvent::UnrecordedDeath;
        assert_eq!(asks(&silent), Some(NoDirective::UnrecordedDeath));
        silent.key.unit = None;
        assert_eq!(asks(&silent), Some(NoDirective::UnknownUnit));
    }

    #[test]
    fn number_of_questions_per_window_is_bounded() {
        let (mut explainer, now) = (explainer("unix:path=/nonexistent"), Instant::now());
        let mut asked = |unit: u64, now| explainer.ask(&killed(&format!("u{unit}.service")), now).is_ok();
        assert!((0..MAX_PER_WINDOW).all(|unit| asked(unit, now)));
        assert!(asked(0, now), "waiting incidents of a unit share a question");
        assert!(!asked(MAX_PER_WINDOW, now) && asked(MAX_PER_WINDOW, now + WINDOW));
    }

    #[tokio::test]
    async fn missing_manager_gives_no_answer_at_once() {
        let mut explainer = explainer("unix:path=/nonexistent");
        let ticket = explainer.ask(&killed("a.service"), Instant::now()).unwrap();
        explainer.start_questions();
        let answers = timeout(LONG, explainer.next_answers()).await.unwrap();
        assert_eq!(answers, [(ticket, Explanation::NoDirective(NoDirective::SettingsUnread))]);
        assert_eq!(explainer.paused_until, None, "the answer was not late");
    }

    #[tokio::test]
    async fn manager_that_hangs_is_not_asked_for_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let bus = temp.path().join("bus");
        let _listener = UnixListener::bind(&bus).unwrap();
        let mut explainer = explainer(&format!("unix:path={}", bus.display()));
        let now = Instant::now();
        let tickets: Vec<_> =
            (0..9).filter_map(|unit| explainer.ask(&killed(&format!("u{unit}.service")), now).ok()).collect();
        explainer.start_questions();
        assert_eq!(explainer.asked.len(), MAX_QUESTIONS);
        let mut answered = 0;
        while answered < tickets.len() {
            let answers = timeout(LONG, explainer.next_answers()).await.unwrap();
            let late = Explanation::NoDirective(NoDirective::Late);
            assert!(answers.iter().all(|(_, explanation)| *explanation == late));
            answered += answers.len();
        }
        assert!(now.elapsed() >= MAX_WAIT);
        assert_eq!(explainer.ask(&killed("u0.service"), Instant::now()), Err(NoDirective::Late));
        assert!(explainer.ask(&killed("u0.service"), Instant::now() + PAUSE).is_ok());
    }
}
