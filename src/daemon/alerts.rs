//! The queue of alerts for the journal. The alerts keep their order. Each waits up to [`MAX_WAIT`] for the cause of its
//! denial, and as long as the journal accepts none.

use super::alert_rate::AlertRate;
use super::config::AlertLimits;
use super::explainer::{Answers, Explainer, MAX_WAIT};
use super::journal_connection::{JournalChange, JournalConnection};
use super::sent_deaths::SentDeaths;
use super::silent_deaths::CountedDeath;
use super::waiting_alert::{Alert, AlertCause};
use crate::incidents::{FairQueue, Owner, Stored};
use crate::outlet::{Explanation, NoDirective};
use std::path::PathBuf;
use std::time::Instant;

/// How many alerts can wait for the journal. The store has their incidents in any case.
const MAX_WAITING: usize = 1024;

/// The alerts, in order.
pub(super) struct Alerts {
    explainer: Explainer,
    journal: JournalConnection,
    rate: AlertRate,
    unsent: FairQueue<Option<Owner>, Alert>,
    dropped: u64,
    sent_deaths: SentDeaths,
}

impl Alerts {
    /// Creates alerts for the journal's socket at `path`.
    pub(super) fn new(path: impl Into<PathBuf>, limits: AlertLimits, explainer: Explainer) -> Self {
        Self {
            explainer,
            journal: JournalConnection::new(path),
            rate: AlertRate::new(limits),
            unsent: FairQueue::new(MAX_WAITING),
            dropped: 0,
            sent_deaths: SentDeaths::default(),
        }
    }

    /// Returns whether the journal failed or recovered since the last call.
    pub(super) fn take_change(&mut self) -> Option<JournalChange> {
        self.journal.take_change()
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
            let asks = |alert: &&mut Alert| alert.question().is_some_and(|(ticket, _)| ticket == answered);
            if let Some(alert) = self.unsent.iter_mut().find(asks) {
                alert.explain(explanation);
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
        self.unsent.iter_mut().for_each(|alert| alert.subtract(death));
        self.unsent.retain(|alert| !alert.is_empty());
        if self.sent_deaths.subtract(death) {
            self.push(Alert::Correction { key: Box::new(death.key.clone()), pid: death.pid });
        }
    }

    /// Starts the questions about causes. Sends the alerts in order, up to the first that still waits for its cause.
    pub(super) fn send(&mut self, now: Instant) {
        if let Some(summary) = self.rate.take_summary(now) {
            self.push(Alert::Summary(summary));
        }
        self.explainer.start_questions();
        if self.journal.retry_at().is_some_and(|at| at > now) {
            return;
        }
        let is_ready = |alert: &&Alert| alert.question().is_none_or(|(_, until)| until <= now);
        while let Some(alert) = self.unsent.front().filter(is_ready) {
            if !self.journal.send(&alert.entry(), now) {
                return;
            }
            if let Some(Alert::Incident { stored, .. }) = self.unsent.pop_front() {
                self.sent_deaths.remember(stored.incident);
            }
        }
        if self.dropped > 0 {
            tracing::warn!("{} alerts were dropped while the journal accepted none", self.dropped);
            self.dropped = 0;
        }
    }

    /// Returns when the next alert or summary is due.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let first = self.unsent.front().and_then(Alert::question).map(|(_, until)| until);
        // A retraction can leave no alert to try again with.
        let retry = self.journal.retry_at().filter(|_| !self.unsent.is_empty());
        retry.max(first).into_iter().chain(self.rate.next_wake()).min()
    }

    /// Sends all alerts that the journal takes now, without waiting for causes.
    pub(super) fn finish(mut self) {
        self.journal.retry_now();
        for alert in self.unsent.iter_mut().filter(|alert| alert.question().is_some()) {
            alert.explain(Explanation::NoDirective(NoDirective::Late));
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
    use crate::incidents::{Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
    use crate::outlet::message_ids;
    use crate::systemd::manager::Managers;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

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

    /// The entries that arrived.
    fn entries(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        let next =
            || socket.recv(&mut buffer).ok().map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
        std::iter::from_fn(next).collect()
    }

    /// The incident numbers of the entries that arrived.
    fn arrived(socket: &UnixDatagram) -> Vec<i64> {
        let id = |line: &str| line.strip_prefix("HARDEN_WHY_INCIDENT=")?.parse().ok();
        entries(socket).iter().map(|entry| entry.lines().find_map(id).unwrap()).collect()
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
