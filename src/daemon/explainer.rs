//! Why: asked of the system manager while an alert waits, which it does not do for long.
//!
//! An answer is good for what was seen before its question went out: the settings can be others a moment later, and
//! then it would be the wrong line. So nothing is kept, and what waits for the same unit shares a question. Users'
//! managers are not asked: what they say of files would have root open them.

use crate::audit::Action;
use crate::diagnosis::diagnose_one;
use crate::host::unit_settings;
use crate::incidents::Incident;
use crate::outlet::Explanation;
use crate::policy;
use crate::syscalls::Groups;
use crate::systemd::libseccomp;
use crate::systemd::manager::Managers;
use crate::units::{Manager, Unit};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long an alert waits at most.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How many questions are under way at a time, and how many threads read files: one that hangs keeps its thread.
const AT_ONCE: usize = 4;

/// How many questions are asked in a window: a storm of new incidents is no storm of questions.
const MOST: u32 = 32;
const WINDOW: Duration = Duration::from_secs(10);

/// How many incidents share a question.
const MOST_SHARING: usize = 64;

/// How long a manager that was too slow is left alone.
const REST: Duration = Duration::from_secs(10);

/// Stands for an incident that is asked about.
pub(super) type Ticket = u64;

/// What was learned of the incident of each ticket.
pub(super) type Answers = Vec<(Ticket, Option<Explanation>)>;

/// What is being asked.
pub(super) struct Explainer {
    source: Arc<Source>,
    waiting: VecDeque<Question>,
    asked: JoinSet<Result<Answers, TooSlow>>,
    next_ticket: Ticket,
    /// When the window began, and how many questions were asked in it.
    window: Option<(Instant, u32)>,
    rests_until: Option<Instant>,
}

/// About one unit.
#[derive(Debug)]
struct Question {
    unit: Unit,
    incidents: Vec<(Ticket, Incident)>,
}

/// There was no answer in time; the incidents asked about stay without.
#[derive(Debug)]
struct TooSlow(Vec<Ticket>);

impl Explainer {
    /// Asks the system manager of these.
    pub(super) fn new(managers: Arc<Managers>) -> Self {
        let source = Source { managers, groups: Mutex::default(), readers: Arc::new(Semaphore::new(AT_ONCE)) };
        Self {
            source: Arc::new(source),
            waiting: VecDeque::new(),
            asked: JoinSet::new(),
            next_ticket: 0,
            window: None,
            rests_until: None,
        }
    }

    /// Takes an incident to ask about; `None` if there is nothing to learn, or it is not the time to ask.
    pub(super) fn ask(&mut self, incident: &Incident, now: Instant) -> Option<Ticket> {
        let unit = incident.key.unit.as_ref().filter(|_| is_explicable(incident))?;
        if self.rests_until.is_some_and(|until| now < until) {
            return None;
        }
        self.next_ticket += 1;
        let asked = (self.next_ticket, incident.clone());
        let shared = self.waiting.iter_mut().find(|one| one.unit == *unit && one.incidents.len() < MOST_SHARING);
        if let Some(question) = shared {
            question.incidents.push(asked);
        } else {
            let open = self.window.filter(|(began, _)| now.duration_since(*began) < WINDOW);
            let (began, count) = open.unwrap_or((now, 0));
            if count >= MOST {
                return None;
            }
            self.window = Some((began, count + 1));
            self.waiting.push_back(Question { unit: unit.clone(), incidents: vec![asked] });
        }
        Some(self.next_ticket)
    }

    /// Asks what there is to ask.
    pub(super) fn begin(&mut self) {
        while self.asked.len() < AT_ONCE
            && let Some(Question { unit, incidents }) = self.waiting.pop_front()
        {
            let source = Arc::clone(&self.source);
            let tickets = incidents.iter().map(|(ticket, _)| *ticket).collect();
            self.asked.spawn(async move {
                timeout(PATIENCE, source.explain(unit, incidents)).await.map_err(|_| TooSlow(tickets))
            });
        }
    }

    /// Whether something is asked.
    pub(super) fn is_asking(&self) -> bool {
        !self.asked.is_empty()
    }

    /// What was learned; never, while nothing is asked.
    pub(super) async fn next(&mut self) -> Answers {
        match self.asked.join_next().await {
            None => std::future::pending().await,
            Some(Ok(Ok(answers))) => answers,
            Some(Ok(Err(TooSlow(tickets)))) => {
                if self.rests_until.is_none_or(|until| until < Instant::now()) {
                    tracing::warn!("the system manager does not tell a unit's settings in time; alerts go without");
                }
                self.rests_until = Some(Instant::now() + REST);
                let left = self.waiting.drain(..).flat_map(|question| question.incidents);
                let left = left.map(|(ticket, _)| ticket).collect::<Vec<_>>();
                tickets.into_iter().chain(left).map(|ticket| (ticket, None)).collect()
            }
            Some(Err(error)) => {
                tracing::error!("a question about a unit's settings broke off: {error}");
                // What it was about is told when its time is over.
                Vec::new()
            }
        }
    }
}

/// Whether settings of a unit that the system manager runs can have had a part in it.
fn is_explicable(incident: &Incident) -> bool {
    let of_system = |unit: &Unit| {
        unit.manager == Manager::System && matches!(unit.name.suffix(), "service" | "socket" | "mount" | "swap")
    };
    let Some(denial) = incident.denial().filter(|_| incident.key.unit.as_ref().is_some_and(of_system)) else {
        return false;
    };
    match denial.action {
        // Without a name, only the architecture can be to blame.
        Action::KillThread => true,
        Action::KillProcess | Action::Errno | Action::Log => denial.call.name().is_some(),
        _ => false,
    }
}

/// Where answers come from.
#[derive(Debug)]
struct Source {
    managers: Arc<Managers>,
    /// Those built in, in place of those of the systemd of this version: the daemon may run no program to ask for its.
    groups: Mutex<Option<(String, Arc<Groups>)>>,
    readers: Arc<Semaphore>,
}

impl Source {
    async fn explain(self: Arc<Self>, unit: Unit, incidents: Vec<(Ticket, Incident)>) -> Answers {
        let none = incidents.iter().map(|(ticket, _)| (*ticket, None)).collect();
        match self.learn(&unit, incidents).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::debug!("the settings of {} are not known: {error}", unit.name);
                none
            }
        }
    }

    async fn learn(
        self: Arc<Self>,
        unit: &Unit,
        incidents: Vec<(Ticket, Incident)>,
    ) -> Result<Answers, Box<dyn std::error::Error + Send + Sync>> {
        let manager = self.managers.connect(Manager::System).await?;
        let (facts, version) = tokio::join!(manager.unit_properties(&unit.name), manager.version());
        let (facts, version) = (facts?, version?);
        let reader = Arc::clone(&self.readers).try_acquire_owned()?;
        let unit = unit.clone();
        let read = move || {
            let _reader = reader;
            let groups = self.groups(version);
            let known = unit_settings::from_properties(&unit, facts, Path::new(""), &groups);
            let explain = |incident: Incident| {
                let (finding, remedy) = diagnose_one(incident, known.situation.as_ref()?, &groups);
                let certain = |cause: &policy::DirectiveCause| known.is_certain_of(cause.directive);
                Explanation::of(&finding, remedy.as_ref(), certain, known.matches_manager)
            };
            incidents.into_iter().map(|(ticket, incident)| (ticket, explain(incident))).collect()
        };
        Ok(tokio::task::spawn_blocking(read).await?)
    }

    fn groups(&self, version: String) -> Arc<Groups> {
        let mut kept = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, groups)) = kept.as_ref().filter(|(of, _)| *of == version) {
            return Arc::clone(groups);
        }
        let groups = Groups::embedded().with_running_version(&version);
        let unresolved = libseccomp::unresolved(Path::new("/"), &groups);
        let groups = Arc::new(groups.with_unresolved(unresolved));
        *kept = Some((version, Arc::clone(&groups)));
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::{Denial, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
    use crate::syscalls::{Arch, Call};
    use std::os::unix::net::UnixListener;

    /// How long what has to come may take on a busy machine.
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
        Explainer::new(Arc::new(Managers::with_paths(address, "/nonexistent")))
    }

    #[test]
    fn only_what_settings_can_explain_is_asked_about() {
        let mut explainer = explainer("unix:path=/nonexistent");
        let mut asks = |incident: &Incident| explainer.ask(incident, Instant::now()).is_some();
        assert!(asks(&killed("a.service")));
        assert!(!asks(&killed("a.scope")), "systemd starts none of its processes");
        assert!(!asks(&denied_by(Manager::User(1000), "a.service", 41, Action::KillProcess)));
        assert!(!asks(&denied_by(Manager::System, "a.service", 41, Action::Trap)), "systemd never does that");
        assert!(!asks(&denied_by(Manager::System, "a.service", 9999, Action::KillProcess)), "no setting can name it");
        assert!(asks(&denied_by(Manager::System, "a.service", 9999, Action::KillThread)));
        let mut silent = killed("a.service");
        silent.key.event = IncidentEvent::SilentDeath;
        assert!(!asks(&silent));
    }

    #[test]
    fn a_storm_of_incidents_is_no_storm_of_questions() {
        let (mut explainer, now) = (explainer("unix:path=/nonexistent"), Instant::now());
        let mut asked = |unit: u32, now| explainer.ask(&killed(&format!("u{unit}.service")), now).is_some();
        assert!((0..MOST).all(|unit| asked(unit, now)));
        assert!(asked(0, now), "those that wait share a question");
        assert!(!asked(MOST, now) && asked(MOST, now + WINDOW));
    }

    #[tokio::test]
    async fn a_manager_that_is_not_there_is_no_wait() {
        let mut explainer = explainer("unix:path=/nonexistent");
        let ticket = explainer.ask(&killed("a.service"), Instant::now()).unwrap();
        explainer.begin();
        let answers = timeout(LONG, explainer.next()).await.unwrap();
        assert_eq!(answers, [(ticket, None)]);
        assert_eq!(explainer.rests_until, None, "it did not take too long");
    }

    #[tokio::test]
    async fn a_manager_that_hangs_is_left_alone_for_a_while() {
        let temp = tempfile::tempdir().unwrap();
        let bus = temp.path().join("bus");
        let _listener = UnixListener::bind(&bus).unwrap();
        let mut explainer = explainer(&format!("unix:path={}", bus.display()));
        let now = Instant::now();
        let tickets: Vec<_> =
            (0..9).filter_map(|unit| explainer.ask(&killed(&format!("u{unit}.service")), now)).collect();
        explainer.begin();
        assert_eq!(explainer.asked.len(), AT_ONCE);
        let mut given_up = 0;
        while given_up < tickets.len() {
            let answers = timeout(LONG, explainer.next()).await.unwrap();
            assert!(answers.iter().all(|(_, explanation)| explanation.is_none()));
            given_up += answers.len();
        }
        assert!(now.elapsed() >= PATIENCE);
        assert_eq!(explainer.ask(&killed("u0.service"), Instant::now()), None);
        assert!(explainer.ask(&killed("u0.service"), Instant::now() + REST).is_some());
    }
}
