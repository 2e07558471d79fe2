//! Capabilities and read-only paths that units are denied, as they happen. The kernel reports the failed calls; the unit's own
//! settings, which this asks the system manager for, decide which of them are denials.
//!
//! Only units of the system manager count, and only failures that their settings caused for certain. The programs in the
//! kernel are loaded in a thread, since the kernel takes its time to attach them.

use super::system_settings::SystemSettings;
use crate::host::failure_evidence::find_denial;
use crate::incidents::{AccessDenial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
use crate::kernel::bpf::BpfError;
use crate::kernel::call_failures::{CallFailures, FailureReport, ReportKey};
use crate::kernel::mounts::MountTable;
use crate::units::{Attribution, Manager};
use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::io;
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

/// How many reports one turn receives.
const MAX_REPORTS: usize = 256;

/// How many questions about settings are under way at a time, and how long one may take.
const MAX_QUESTIONS: usize = 2;
const MAX_WAIT: Duration = Duration::from_secs(30);

/// How many reports wait for settings.
const MAX_WAITING: usize = 1024;

/// How long a failure that recurs is only counted, by the kernel, and how many such failures are remembered.
const COUNTING: Duration = Duration::from_secs(10);
const MAX_COUNTED: usize = 4096;

/// Failures, with the incidents of those that are denials; or the number of those for which the settings are unknown.
type WeighedCalls = Result<Vec<(ReportKey, Option<Incident>)>, u64>;

/// The types of units whose processes systemd starts under settings.
const TYPES: [&str; 4] = ["service", "socket", "mount", "swap"];

/// The reports of the kernel, and the denials among them.
pub(super) struct CallWatcher {
    state: WatcherState,
    /// Whether the last [`receive`](Self::receive) left nothing to receive.
    is_drained: bool,
    system: Arc<SystemSettings>,
    waiting: VecDeque<UnitCalls>,
    asked: JoinSet<WeighedCalls>,
    counted: VecDeque<CountedCall>,
    /// The denials of failures whose recurrences are counted.
    denials: HashMap<ReportKey, Incident>,
    /// Failures that were not weighed: there were too many, or the settings of their unit are unknown. Those that the kernel did
    /// not report are among them once the watcher is off.
    dropped: u64,
}

/// What happened.
pub(super) enum WatcherEvent {
    /// The programs were loaded, or refused.
    Opened(Result<(), BpfError>),
    /// A report may be ready to [receive](CallWatcher::receive).
    Reported,
    /// Failed calls were weighed: these are denials.
    Denials(Vec<Incident>),
}

/// Whether the kernel reports failed calls.
enum WatcherState {
    Off,
    Opening(oneshot::Receiver<Result<CallFailures, BpfError>>),
    On(Box<AsyncFd<CallFailures>>),
}

/// Failed calls of one unit, which wait for its settings.
struct UnitCalls {
    attribution: Attribution,
    calls: Vec<FailureReport>,
}

/// A failure that the kernel counts until then.
struct CountedCall {
    until: Instant,
    key: ReportKey,
}

impl CallWatcher {
    /// Creates a watcher that is off.
    pub(super) fn new(system: Arc<SystemSettings>) -> Self {
        Self {
            state: WatcherState::Off,
            is_drained: true,
            system,
            waiting: VecDeque::new(),
            asked: JoinSet::new(),
            counted: VecDeque::new(),
            denials: HashMap::new(),
            dropped: 0,
        }
    }

    /// Starts or stops watching. What was not weighed by then is dropped.
    ///
    /// # Errors
    /// No thread can be started to load the programs.
    pub(super) fn switch(&mut self, is_on: bool) -> io::Result<()> {
        match (&self.state, is_on) {
            (WatcherState::Off, true) => {
                let (sender, opening) = oneshot::channel();
                thread::Builder::new()
                    .name("watcher".to_owned())
                    .spawn(move || _ = sender.send(CallFailures::open()))?;
                self.state = WatcherState::Opening(opening);
            }
            (WatcherState::Opening(_) | WatcherState::On(_), false) => {
                if let WatcherState::On(failures) = mem::replace(&mut self.state, WatcherState::Off) {
                    let failures = failures.into_inner();
                    self.dropped += failures.lost();
                    // For each program, the kernel waits until no processor is in it.
                    _ = thread::Builder::new().name("watcher".to_owned()).spawn(move || drop(failures));
                }
                self.dropped += self.waiting.drain(..).map(|unit| unit.calls.len() as u64).sum::<u64>();
                self.asked = JoinSet::new();
                self.counted.clear();
                self.denials.clear();
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the kernel reports failed calls now.
    pub(super) fn is_on(&self) -> bool {
        matches!(self.state, WatcherState::On(_))
    }

    /// Waits until something happens. Never returns while it is off.
    ///
    /// # Errors
    /// The async runtime fails.
    pub(super) async fn next(&mut self) -> io::Result<WatcherEvent> {
        let Self { state, is_drained, asked, .. } = self;
        tokio::select! {
            event = wait(state, *is_drained) => match event? {
                Some(opened) => Ok(WatcherEvent::Opened(self.on_opened(opened))),
                None => Ok(WatcherEvent::Reported),
            },
            Some(weighed) = asked.join_next() => Ok(WatcherEvent::Denials(self.on_weighed(weighed))),
        }
    }

    fn on_opened(&mut self, opened: Result<CallFailures, BpfError>) -> Result<(), BpfError> {
        self.state = WatcherState::Off;
        let failures = opened?.into_async()?;
        self.state = WatcherState::On(Box::new(failures));
        self.is_drained = false;
        Ok(())
    }

    fn on_weighed(&mut self, weighed: Result<WeighedCalls, JoinError>) -> Vec<Incident> {
        let weighed = match weighed {
            Ok(Ok(weighed)) => weighed,
            Ok(Err(count)) => {
                tracing::debug!("the settings of a unit are unknown, so {count} failed calls of it do not count");
                self.dropped += count;
                Vec::new()
            }
            Err(error) => {
                tracing::error!("a query of a unit's settings failed: {error}");
                self.dropped += 1;
                Vec::new()
            }
        };
        let denials: Vec<_> = weighed.into_iter().filter_map(|(key, denial)| Some((key, denial?))).collect();
        // The settings can come after the kernel's count was taken.
        let is_counted = |key: &ReportKey| self.counted.iter().any(|counted| counted.key == *key);
        let counted: Vec<_> = denials.iter().filter(|(key, _)| is_counted(key)).cloned().collect();
        self.denials.extend(counted);
        denials.into_iter().map(|(_, denial)| denial).collect()
    }

    /// Receives reports for one turn. `attribute` returns the unit of a process by the ids of its cgroups, unless its denials
    /// do not count.
    pub(super) fn receive(&mut self, attribute: impl Fn(&FailureReport) -> Option<Attribution>, now: Instant) {
        let WatcherState::On(failures) = &mut self.state else { return };
        for _ in 0..MAX_REPORTS {
            let Some(call) = failures.get_mut().next() else {
                self.is_drained = true;
                return;
            };
            if self.counted.len() < MAX_COUNTED {
                self.counted.push_back(CountedCall { until: now + COUNTING, key: call.key });
            } else {
                // The kernel reports its next recurrence.
                _ = failures.get_mut().take_count(&call.key);
            }
            let Some(attribution) = attribute(&call).filter(has_readable_settings) else { continue };
            if self.waiting.iter().map(|unit| unit.calls.len()).sum::<usize>() >= MAX_WAITING {
                self.dropped += 1;
                continue;
            }
            match self.waiting.iter_mut().find(|unit| unit.attribution.unit == attribution.unit) {
                Some(unit) => unit.calls.push(call),
                None => self.waiting.push_back(UnitCalls { attribution, calls: vec![call] }),
            }
        }
        self.is_drained = false;
    }

    /// Starts the questions about settings that wait, as many as may be under way.
    pub(super) fn start_questions(&mut self) {
        while self.asked.len() < MAX_QUESTIONS
            && let Some(unit) = self.waiting.pop_front()
        {
            let system = Arc::clone(&self.system);
            let count = unit.calls.len() as u64;
            self.asked.spawn(async move { timeout(MAX_WAIT, weigh(system, unit)).await.unwrap_or(Err(count)) });
        }
    }

    /// Whether a question is under way.
    pub(super) fn is_asking(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Returns the denials that recurred, for which the kernel's count is due.
    pub(super) fn take_recurred(&mut self, now: Instant) -> Vec<Incident> {
        let mut recurred = Vec::new();
        while self.counted.front().is_some_and(|counted| counted.until <= now)
            && let Some(counted) = self.counted.pop_front()
        {
            let WatcherState::On(failures) = &mut self.state else { break };
            let is_undecided = !self.waiting.is_empty() || !self.asked.is_empty();
            if is_undecided && !self.denials.contains_key(&counted.key) {
                self.counted.push_back(CountedCall { until: now + COUNTING, ..counted });
                continue;
            }
            let taken = failures.get_mut().take_count(&counted.key);
            let Some(denial) = self.denials.remove(&counted.key) else { continue };
            match taken {
                // The first was reported.
                Some((count, last)) if count > 1 => {
                    let last = Moment::At(last);
                    recurred.push(Incident { count: count - 1, first: last.clone(), last, ..denial });
                }
                Some(_) => {}
                // The kernel needed its place.
                None => self.dropped += 1,
            }
        }
        recurred
    }

    /// Returns the denials that recurred since they were last counted.
    pub(super) fn finish(&mut self) -> Vec<Incident> {
        self.take_recurred(Instant::now() + COUNTING)
    }

    /// Returns when [`take_recurred`](Self::take_recurred) has something to do.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.counted.front().map(|counted| counted.until)
    }

    /// Returns how many failures were not looked at so far: too many of one owner, or too many at all.
    pub(super) fn lost(&self) -> u64 {
        let unreported = match &self.state {
            WatcherState::On(failures) => failures.get_ref().lost(),
            WatcherState::Off | WatcherState::Opening(_) => 0,
        };
        self.dropped + unreported
    }
}

/// Waits until the programs are loaded or refused, and returns them, or until a report may be ready.
async fn wait(state: &mut WatcherState, is_drained: bool) -> io::Result<Option<Result<CallFailures, BpfError>>> {
    match state {
        WatcherState::Off => pending().await,
        WatcherState::Opening(opening) => {
            Ok(Some(opening.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))))
        }
        WatcherState::On(_) if !is_drained => Ok(None),
        WatcherState::On(failures) => {
            failures.readable_mut().await?.clear_ready();
            Ok(None)
        }
    }
}

/// Whether the settings of a unit can be read, and apply to its processes.
fn has_readable_settings(attribution: &Attribution) -> bool {
    attribution.unit.manager == Manager::System && TYPES.contains(&attribution.unit.name.suffix())
}

/// Weighs failed calls of a unit.
async fn weigh(system: Arc<SystemSettings>, unit: UnitCalls) -> WeighedCalls {
    let UnitCalls { attribution, calls } = unit;
    let (asked, count) = (attribution.unit.clone(), calls.len() as u64);
    let weighed = system.read(asked, move |known, _| {
        let policy = &known.situation.as_ref()?.policy;
        let host_mounts = MountTable::read("1").ok();
        let is_certain = |directive| known.is_certain_of(directive);
        let find = |call: &FailureReport| find_denial(call, policy, is_certain, host_mounts.as_ref());
        let weigh = |call: &FailureReport| Some(incident(&attribution, call, find(call)?));
        Some(calls.iter().map(|call| (call.key, weigh(call))).collect())
    });
    let weighed = weighed.await.inspect_err(|error| tracing::debug!("cannot read the settings of a unit: {error}"));
    weighed.ok().flatten().ok_or(count)
}

fn incident(attribution: &Attribution, call: &FailureReport, denial: AccessDenial) -> Incident {
    let failed = &call.failed;
    Incident {
        key: IncidentKey {
            unit: Some(attribution.unit.clone()),
            event: IncidentEvent::Access(denial),
            exe: call.exe.clone().unwrap_or_default(),
            source: SightingSource::Audit,
        },
        rung: Some(attribution.rung),
        count: 1,
        first: Moment::At(failed.first),
        last: Moment::At(failed.last),
        sample: Sample {
            pid: failed.pid,
            comm: failed.comm.clone(),
            uid: failed.credentials.uid.to_string().into(),
            ip: failed.ip,
            ..Sample::default()
        },
    }
}
