//! Alerts on their way to the journal. The journal can be slow or unavailable for a time. Each alert waits up to
//! [`MAX_WAIT`] for the cause of its denial.

use super::alert_rate::AlertRate;
use super::config::AlertLimits;
use super::explainer::{Answers, Explainer, MAX_WAIT, Ticket};
use super::retry::Retry;
use super::silent_deaths::CountedDeath;
use crate::incidents::{FairQueue, Incident, IncidentEvent, IncidentKey, Moment, Owner, Stored};
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

    /// Subtracts a death from those that it counts. Returns whether it counted the death.
    fn subtract(&mut self, death: &CountedDeath) -> bool {
        let Self::Incident { stored, .. } = self else { return false };
        let Incident { key, count, last, .. } = &mut stored.incident;
        let counts = has_death(key, last, death);
        *count -= u64::from(counts && *count > 0);
        counts
    }

    /// Whether a record came after all for each death that it counted.
    fn is_empty(&self) -> bool {
        matches!(self, Self::Incident { stored, .. } if stored.incident.count == 0)
    }

    /// Returns until when the alert waits for its cause.
    fn waits_until(&self) -> Option<Instant> {
        match self {
            Self::Incident { cause: AlertCause::Asked(_, until), .. } => Some(*until),
            Self::Incident { .. } | Self::Summary(_) | Self::Correction { .. } => None,
        }
    }
}

/// The deaths of one incident without a record that a sent alert counted.
#[derive(Debug)]
struct SentDeaths {
    key: IncidentKey,
    /// The latest of them.
    last: Moment,
    /// How many of them still have no record.
    count: u64,
}

/// Whether an incident whose latest sighting is `last` counts a death.
fn has_death(key: &IncidentKey, last: &Moment, death: &CountedDeath) -> bool {
    let is_earlier = match last {
        Moment::At(last) => death.at <= *last,
        Moment::Text(_) | Moment::Unknown => true,
    };
    is_earlier && *key == death.key
}

/// The alerts, in order.
pub(super) struct Alerts {
    path: PathBuf,
    explainer: Explainer,
    journal: Option<JournalSocket>,
    rate: AlertRate,
    unsent: FairQueue<Option<Owner>, Alert>,
    dropped: u64,
    /// The deaths without a record whose alerts were sent, by incident.
    sent_deaths: VecDeque<SentDeaths>,
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

    /// Retracts a death whose record came after all: subtracts it from alerts that wait, and corrects one that was sent.
    pub(super) fn retract(&mut self, death: &CountedDeath) {
        let mut is_empty = false;
        for alert in self.unsent.iter_mut() {
            is_empty |= alert.subtract(death) && alert.is_empty();
        }
        if is_empty {
            self.unsent.retain(|alert| !alert.is_empty());
        }
        let counts = |sent: &SentDeaths| has_death(&sent.key, &sent.last, death);
        let Some(place) = self.sent_deaths.iter().position(counts) else { return };
        if let Some(sent) = self.sent_deaths.get_mut(place) {
            sent.count = sent.count.saturating_sub(1);
            if sent.count == 0 {
                self.sent_deaths.remove(place);
            }
        }
        self.push(Alert::Correction { key: Box::new(death.key.clone()), pid: death.pid });
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

    /// Remembers the alert of deaths without a record, to correct it if a record comes after all.
    fn remember_death(&mut self, sent: Option<Alert>) {
        if let Some(Alert::Incident { stored, .. }) = sent
            && stored.incident.key.event == IncidentEvent::UnrecordedDeath
        {
            let Incident { key, last, count, .. } = stored.incident;
            // The new alert counts the deaths of an earlier one as well.
            self.sent_deaths.retain(|sent| sent.key != key);
            self.sent_deaths.push_back(SentDeaths { key, last, count });
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
        // A retraction can leave no alert to try again with.
        let retry = self.retry.at().filter(|_| !self.unsent.is_empty());
        retry.max(first).into_iter().chain(self.rate.next_wake()).min()
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
    use crate::daemon::system_settings::SystemSettings;
    use crate::incidents::{Sample, SightingSource};
    use crate::outlet::message_ids;
    use crate::systemd::manager::Managers;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;
    use std::sync::Arc;

    fn alerts(path: &Path) -> Alerts {
        let managers = Managers::with_paths("unix:path=/nonexistent", "/nonexistent");
        Alerts::new(path, AlertLimits::default(), Explainer::new(Arc::new(SystemSettings::new(Arc::new(managers)))))
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

    /// An alert about this many deaths, the latest of them at a time.
    fn deaths(count: u64, last: i64) -> Alert {
        let mut alert = incident(1);
        if let Alert::Incident { stored, .. } = &mut alert {
            (stored.incident.count, stored.incident.last) = (count, Moment::At(last));
        }
        alert
    }

    fn death(pid: u32, at: i64) -> CountedDeath {
        let Alert::Incident { stored, .. } = incident(1) else { unreachable!() };
        CountedDeath { key: stored.incident.key, pid, at }
    }

    /// The entries that arrived.
    fn entries(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        let next =
            || socket.recv(&mut buffer).ok().map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn retraction_of_the_only_alert_leaves_nothing_to_retry() {
        let (mut alerts, now) = (alerts(Path::new("/nonexistent")), Instant::now());
        alerts.push(deaths(1, 10));
        alerts.send(now);
        assert!(alerts.next_wake().is_some(), "the journal accepted nothing");
        alerts.retract(&death(7, 10));
        assert_eq!(alerts.next_wake(), None);
    }

    #[test]
    fn death_whose_record_came_late_leaves_the_alert_that_waits() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let (mut alerts, now) = (alerts(&path), Instant::now());
        let journal = UnixDatagram::bind(&path).unwrap();
        alerts.push(deaths(3, 30));
        alerts.retract(&death(9, 40));
        alerts.retract(&death(7, 10));
        alerts.send(now);
        let sent = entries(&journal);
        assert!(sent.len() == 1 && sent[0].contains("HARDEN_WHY_COUNT=2\n"), "{sent:?}");
        alerts.push(deaths(2, 50));
        alerts.retract(&death(9, 40));
        alerts.retract(&death(10, 50));
        assert!(alerts.unsent.is_empty());
    }

    #[test]
    fn sent_alert_is_corrected_for_each_of_its_deaths_whose_record_came_late() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let (mut alerts, now) = (alerts(&path), Instant::now());
        let journal = UnixDatagram::bind(&path).unwrap();
        alerts.push(deaths(2, 30));
        alerts.send(now);
        assert_eq!(arrived(&journal), [1]);
        for (pid, at) in [(9, 40), (7, 10), (8, 30), (6, 20)] {
            alerts.retract(&death(pid, at));
        }
        alerts.send(now);
        let sent = entries(&journal);
        assert_eq!(sent.len(), 2, "it counted two deaths, and not the later one: {sent:?}");
        for (entry, pid) in sent.iter().zip([7, 8]) {
            assert!(entry.contains(message_ids::CORRECTION), "{entry}");
            assert!(entry.contains(&format!("HARDEN_WHY_PID={pid}\n")), "{entry}");
        }
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
