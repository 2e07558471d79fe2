//! Alerts on their way to the journal. The journal can be slow or unavailable for a time. Each alert waits up to
//! [`MAX_WAIT`] for the cause of its denial.

use super::alert_rate::AlertRate;
use super::config::AlertLimits;
use super::explainer::{Answers, Explainer, MAX_WAIT, Ticket};
use super::retry::Retry;
use crate::incidents::{FairQueue, Incident, IncidentEvent, IncidentKey, Owner, Stored};
use crate::outlet::alert_summary::Summary;
use crate::outlet::journal::{JournalSendError, JournalSocket};
use crate::outlet::{Explanation, NoDirective, alert, correction};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How many alerts can wait for the journal. The store has their incidents in any case.
const MAX_WAITING: usize = 1024;

/// How many sent alerts about deaths without a record can still be corrected.
const MAX_SENT_DEATHS: usize = 256;

/// The wait after a first failure to reach the journal.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// A message for the journal.
#[derive(Debug)]
enum Alert {
    Incident {
        stored: Box<Stored>,
        cause: AlertCause,
    },
    Summary(Summary),
    /// A death that had an alert has a record after all.
    Correction {
        key: Box<IncidentKey>,
        pid: u32,
    },
}

/// The cause of the denial that an alert reports.
#[derive(Debug)]
enum AlertCause {
    /// The alert waits for the answer until this moment.
    Asked(Ticket, Instant),
    /// The explainer answered or cannot answer.
    Known(Explanation),
}

impl Alert {
    /// Returns the owner of its incident; `None` for a summary.
    fn owner(&self) -> Option<Owner> {
        match self {
            Self::Incident { stored, .. } => Some(Owner::new(&stored.incident.key, &stored.incident.sample)),
            Self::Correction { key, .. } => Some(Owner::from_unit_or_uid(key.unit.as_ref(), "")),
            Self::Summary(_) => None,
        }
    }

    /// Whether it reports this death.
    fn is_about(&self, death: &IncidentKey, process: u32) -> bool {
        matches!(self, Self::Incident { stored, .. }
            if stored.incident.sample.pid == process && stored.incident.key == *death)
    }

    /// Returns until when the alert waits for its cause.
    fn waits_until(&self) -> Option<Instant> {
        match self {
            Self::Incident { cause: AlertCause::Asked(_, until), .. } => Some(*until),
            Self::Incident { .. } | Self::Summary(_) | Self::Correction { .. } => None,
        }
    }
}

/// The alerts, in order.
pub(super) struct Alerts {
    path: PathBuf,
    explainer: Explainer,
    journal: Option<JournalSocket>,
    rate: AlertRate,
    unsent: FairQueue<Option<Owner>, Alert>,
    dropped: u64,
    /// The deaths without a record whose alerts were sent, with the process of each.
    sent_deaths: VecDeque<(IncidentKey, u32)>,
    /// When to try again after a failure.
    retry: Retry,
    /// A change that [`take_change`](Self::take_change) has not returned yet.
    change: Option<JournalChange>,
}

/// A change in whether alerts reach the journal.
#[derive(Debug)]
pub(super) enum JournalChange {
    /// Alerts reach the journal again.
    Recovered,
    /// Alerts do not reach the journal, for this reason.
    Failed(String),
}

impl Alerts {
    /// Creates alerts for the journal's socket at `path`.
    pub(super) fn new(path: impl Into<PathBuf>, limits: AlertLimits, explainer: Explainer) -> Self {
        Self {
            path: path.into(),
            explainer,
            journal: None,
            rate: AlertRate::new(limits),
            unsent: FairQueue::new(MAX_WAITING),
            dropped: 0,
            sent_deaths: VecDeque::new(),
            retry: Retry::new(FIRST_RETRY),
            change: None,
        }
    }

    /// Returns whether the journal failed or recovered since the last call.
    pub(super) fn take_change(&mut self) -> Option<JournalChange> {
        self.change.take()
    }

    /// Queues an alert for an incident that was just stored, unless the rate forbids it. `is_new` means that
    /// the store did not have the incident before.
    pub(super) fn consider(&mut self, stored: Stored, is_new: bool, now: Instant) {
        if self.rate.admits(&stored, is_new, now) {
            let cause = match self.explainer.ask(&stored.incident, now) {
                Ok(ticket) => AlertCause::Asked(ticket, now + MAX_WAIT),
                Err(why) => AlertCause::Known(Explanation::NoDirective(why)),
            };
            self.push(Alert::Incident { stored: Box::new(stored), cause });
        }
    }

    /// Waits for explanations. Never returns while no question is under way.
    pub(super) async fn next_explanations(&mut self) -> Answers {
        self.explainer.next_answers().await
    }

    /// Whether a question is under way.
    pub(super) fn is_asking(&self) -> bool {
        self.explainer.is_asking()
    }

    /// Adds explanations to the alerts that wait for them. Ignores explanations of alerts that were sent already.
    pub(super) fn add_explanations(&mut self, answers: Answers) {
        for (answered, explanation) in answers {
            let waiting = self.unsent.iter_mut().find_map(|alert| match alert {
                Alert::Incident { cause: cause @ AlertCause::Asked(..), .. } => {
                    matches!(cause, AlertCause::Asked(ticket, _) if *ticket == answered).then_some(cause)
                }
                _ => None,
            });
            if let Some(cause) = waiting {
                *cause = AlertCause::Known(explanation);
            }
        }
    }

    pub(super) fn set_limits(&mut self, limits: AlertLimits) {
        self.rate.set_limits(limits);
    }

    /// Forgets which incidents had alerts, because a new store reuses row numbers.
    pub(super) fn forget_rows(&mut self) {
        self.rate.forget_rows();
    }

    fn push(&mut self, alert: Alert) {
        // The owner with the most alerts loses its oldest.
        self.dropped += u64::from(self.unsent.push(alert.owner(), alert).is_some());
    }

    /// Retracts the alert of a death whose record came after all: drops it if it waits, and corrects it if it was sent.
    pub(super) fn retract(&mut self, key: &IncidentKey, pid: u32) {
        let before = self.unsent.len();
        self.unsent.retain(|alert| !alert.is_about(key, pid));
        if self.unsent.len() < before {
            return;
        }
        if let Some(place) = self.sent_deaths.iter().position(|(sent, process)| *process == pid && sent == key) {
            self.sent_deaths.remove(place);
            self.push(Alert::Correction { key: Box::new(key.clone()), pid });
        }
    }

    /// Starts the questions about causes. Sends the alerts in order, up to the first that still waits for its cause.
    pub(super) fn send(&mut self, now: Instant) {
        if let Some(summary) = self.rate.take_summary(now) {
            self.push(Alert::Summary(summary));
        }
        self.explainer.start_questions();
        if !self.retry.is_due(now) {
            return;
        }
        while let Some(alert) = self.unsent.front().filter(|alert| alert.waits_until().is_none_or(|until| until <= now))
        {
            let entry = match alert {
                Alert::Incident { stored, cause } => {
                    let late = Explanation::NoDirective(NoDirective::Late);
                    let why = if let AlertCause::Known(why) = cause { why } else { &late };
                    alert::entry(&stored.incident, Some(stored.id), Some(why))
                }
                Alert::Summary(summary) => summary.entry(),
                Alert::Correction { key, pid } => correction::entry(key.unit.as_ref(), *pid),
            };
            let journal = match self.journal.take() {
                Some(journal) => Ok(journal),
                None => JournalSocket::connect(&self.path),
            };
            match journal.and_then(|journal| journal.send(&entry).map(|()| journal)) {
                Ok(journal) => {
                    self.journal = Some(journal);
                    let sent = self.unsent.pop_front();
                    self.remember_death(sent);
                    if self.retry.succeed() {
                        tracing::info!("the journal accepts alerts again");
                        self.change = Some(JournalChange::Recovered);
                    }
                }
                Err(error) => return self.schedule_retry(&error, now),
            }
        }
        if self.dropped > 0 {
            tracing::warn!("{} alerts were dropped while the journal accepted none", self.dropped);
            self.dropped = 0;
        }
    }

    /// Remembers the alert of a death without a record, to correct it if the record comes after all.
    fn remember_death(&mut self, sent: Option<Alert>) {
        if let Some(Alert::Incident { stored, .. }) = sent
            && stored.incident.key.event == IncidentEvent::UnrecordedDeath
        {
            let Incident { key, sample, .. } = stored.incident;
            self.sent_deaths.push_back((key, sample.pid));
            if self.sent_deaths.len() > MAX_SENT_DEATHS {
                self.sent_deaths.pop_front();
            }
        }
    }

    fn schedule_retry(&mut self, error: &JournalSendError, now: Instant) {
        if !self.retry.is_failing() {
            tracing::warn!("{error}; alerts wait until the journal accepts them");
            self.change = Some(JournalChange::Failed(error.to_string()));
        }
        self.retry.fail(now);
    }

    /// Returns when the next alert or summary is due.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let first = self.unsent.front().and_then(Alert::waits_until);
        self.retry.at().max(first).into_iter().chain(self.rate.next_wake()).min()
    }

    /// Sends all alerts that the journal takes now, without waiting for causes.
    pub(super) fn finish(mut self) {
        self.retry.succeed();
        for alert in self.unsent.iter_mut() {
            if let Alert::Incident { cause: cause @ AlertCause::Asked(..), .. } = alert {
                *cause = AlertCause::Known(Explanation::NoDirective(NoDirective::Late));
            }
        }
        let now = Instant::now();
        self.send(self.rate.next_wake().map_or(now, |end| end.max(now)));
        if !self.unsent.is_empty() {
            tracing::warn!("{} alerts did not reach the journal", self.unsent.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::{Moment, Sample, SightingSource};
    use crate::outlet::message_ids;
    use crate::systemd::manager::Managers;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;
    use std::sync::Arc;

    fn alerts(path: &Path) -> Alerts {
        let managers = Managers::with_paths("unix:path=/nonexistent", "/nonexistent");
        Alerts::new(path, AlertLimits::default(), Explainer::new(Arc::new(managers)))
    }

    fn incident(id: i64) -> Alert {
        let incident = Incident {
            key: IncidentKey {
                unit: None,
                event: IncidentEvent::UnrecordedDeath,
                exe: Vec::new(),
                source: SightingSource::Audit,
            },
            rung: None,
            count: 1,
            first: Moment::Unknown,
            last: Moment::Unknown,
            sample: Sample::default(),
        };
        Alert::Incident {
            stored: Box::new(Stored { id, incident }),
            cause: AlertCause::Known(Explanation::NoDirective(NoDirective::UnknownUnit)),
        }
    }

    /// The incident numbers of the entries that arrived.
    fn arrived(socket: &UnixDatagram) -> Vec<i64> {
        socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        let mut ids = Vec::new();
        while let Ok(length) = socket.recv(&mut buffer) {
            let text = str::from_utf8(&buffer[..length]).unwrap();
            let id = text.lines().find_map(|line| line.strip_prefix("HARDEN_WHY_INCIDENT=")).unwrap();
            ids.push(id.parse().unwrap());
        }
        ids
    }

    #[test]
    fn journal_that_comes_back_gets_missed_alerts() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let (mut alerts, mut now) = (alerts(&path), Instant::now());
        alerts.push(incident(1));
        alerts.send(now);
        let journal = UnixDatagram::bind(&path).unwrap();
        alerts.push(incident(2));
        alerts.send(now);
        assert!(arrived(&journal).is_empty(), "the retry is not due");
        now = alerts.next_wake().unwrap();
        alerts.send(now);
        assert_eq!((arrived(&journal), alerts.next_wake()), (vec![1, 2], None));

        drop(journal);
        std::fs::remove_file(&path).unwrap();
        alerts.push(incident(3));
        alerts.send(now);
        let journal = UnixDatagram::bind(&path).unwrap();
        alerts.send(alerts.next_wake().unwrap());
        assert_eq!(arrived(&journal), [3]);
    }

    #[test]
    fn alert_of_death_whose_record_came_late_is_dropped_or_corrected() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let (mut alerts, now) = (alerts(&path), Instant::now());
        let key = |alert: &Alert| match alert {
            Alert::Incident { stored, .. } => stored.incident.key.clone(),
            _ => unreachable!(),
        };
        alerts.push(incident(1));
        let death = key(&incident(1));
        alerts.retract(&death, 9);
        assert_eq!(alerts.unsent.len(), 1, "another process");
        alerts.retract(&death, 0);
        assert!(alerts.unsent.is_empty(), "it was not sent yet");
        let journal = UnixDatagram::bind(&path).unwrap();
        alerts.push(incident(2));
        alerts.send(now);
        assert_eq!(arrived(&journal), [2]);
        for _ in 0..2 {
            alerts.retract(&death, 0);
        }
        alerts.send(now);
        let mut buffer = [0; 4096];
        let length = journal.recv(&mut buffer).unwrap();
        assert!(String::from_utf8_lossy(&buffer[..length]).contains(message_ids::CORRECTION));
        assert!(journal.recv(&mut buffer).is_err(), "an alert is corrected once");
    }

    #[test]
    fn alert_waits_for_its_cause_for_a_limited_time() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let (mut alerts, now) = (alerts(&path), Instant::now());
        for ticket in 1..4 {
            let mut alert = incident(i64::try_from(ticket).unwrap());
            let Alert::Incident { cause, .. } = &mut alert else { unreachable!() };
            *cause = AlertCause::Asked(ticket, now + MAX_WAIT);
            alerts.push(alert);
        }
        alerts.push(incident(4));
        let why = || Explanation::NoDirective(NoDirective::Elsewhere);
        alerts.add_explanations(vec![(2, why()), (9, why())]);
        alerts.send(now);
        assert_eq!((arrived(&journal), alerts.next_wake()), (vec![], Some(now + MAX_WAIT)), "alerts keep their order");
        alerts.add_explanations(vec![(1, why())]);
        alerts.send(now);
        assert_eq!(arrived(&journal), [1, 2], "these have their causes");
        alerts.send(now + MAX_WAIT);
        assert_eq!((arrived(&journal), alerts.next_wake()), (vec![3, 4], None));
        alerts.add_explanations(vec![(3, why())]);
    }

    #[test]
    fn journal_that_is_behind_gets_alerts_later() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut alerts = alerts(&path);
        let mut now = Instant::now();
        // More than a socket's queue holds (net.unix.max_dgram_qlen).
        for id in 0..1000 {
            alerts.push(incident(id));
        }
        let mut got = Vec::new();
        alerts.send(now);
        assert!(alerts.next_wake().is_some(), "the queue is full");
        while let Some(later) = alerts.next_wake() {
            got.extend(arrived(&journal));
            now = later;
            alerts.send(now);
        }
        got.extend(arrived(&journal));
        assert_eq!(got, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn missing_journal_is_tried_ever_more_rarely_and_waiting_alerts_are_bounded() {
        let (mut alerts, start) = (alerts(Path::new("/nonexistent")), Instant::now());
        for id in 0..5000 {
            alerts.push(incident(id));
        }
        let mut now = start;
        for _ in 0..20 {
            alerts.send(now);
            now = alerts.next_wake().unwrap();
        }
        assert!(now - start > Duration::from_mins(5));
        assert_eq!((alerts.unsent.len(), alerts.dropped), (MAX_WAITING, 5000 - MAX_WAITING as u64));
    }
}
