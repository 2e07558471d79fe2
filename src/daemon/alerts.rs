//! Alerts on their way to the journal, which can be behind or away for a while. Each waits a moment to learn why.

use super::config::Alerting;
use super::explainer::{Answers, Explainer, PATIENCE, Ticket};
use super::rate::Rate;
use crate::incidents::Stored;
use crate::outlet::alert::Summary;
use crate::outlet::journal::{Journal, JournalError};
use crate::outlet::{Explanation, alert};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How many alerts wait for the journal at most; what they tell is stored in any case.
const MOST: usize = 1024;

/// When the journal is tried again at first, and at last.
const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_mins(1);

/// Something to tell the journal.
#[derive(Debug)]
enum Alert {
    Incident { stored: Box<Stored>, why: Why },
    Summary(Summary),
}

/// What there is to say of the reason.
#[derive(Debug)]
enum Why {
    /// It is asked for, and waited for until then.
    Asked(Ticket, Instant),
    /// That is all.
    Known(Option<Explanation>),
}

impl Alert {
    /// Until when it waits.
    fn waits_until(&self) -> Option<Instant> {
        match self {
            Self::Incident { why: Why::Asked(_, until), .. } => Some(*until),
            Self::Incident { .. } | Self::Summary(_) => None,
        }
    }
}

/// The alerts, in order.
pub(super) struct Alerts {
    path: PathBuf,
    explainer: Explainer,
    journal: Option<Journal>,
    rate: Rate,
    unsent: VecDeque<Alert>,
    dropped: u64,
    /// Not before, and how long until the time after that: the journal failed.
    retry: Option<(Instant, Duration)>,
    /// As long as nobody was told.
    news: Option<News>,
}

/// Whether alerts reach the journal.
#[derive(Debug)]
pub(super) enum News {
    /// They do again.
    Again,
    /// They do not, and this is why.
    Failing(String),
}

impl Alerts {
    /// To the journal at a socket.
    pub(super) fn to(path: impl Into<PathBuf>, limits: Alerting, explainer: Explainer) -> Self {
        Self {
            path: path.into(),
            explainer,
            journal: None,
            rate: Rate::new(limits),
            unsent: VecDeque::new(),
            dropped: 0,
            retry: None,
            news: None,
        }
    }

    /// What changed since the last call.
    pub(super) fn news(&mut self) -> Option<News> {
        self.news.take()
    }

    /// Takes an incident that was just stored; `new` if it was not in the store before.
    pub(super) fn consider(&mut self, stored: Stored, new: bool, now: Instant) {
        if self.rate.admits(&stored, new, now) {
            let asked = self.explainer.ask(&stored.incident, now);
            let why = asked.map_or(Why::Known(None), |ticket| Why::Asked(ticket, now + PATIENCE));
            self.push(Alert::Incident { stored: Box::new(stored), why });
        }
    }

    /// What was learned of the reasons; never, while nothing is asked.
    pub(super) async fn learned(&mut self) -> Answers {
        self.explainer.next().await
    }

    /// Whether something is asked.
    pub(super) fn is_asking(&self) -> bool {
        self.explainer.is_asking()
    }

    /// Takes what was learned.
    pub(super) fn explain(&mut self, answers: Answers) {
        for (answered, explanation) in answers {
            let waiting = self.unsent.iter_mut().find_map(|alert| match alert {
                Alert::Incident { why: why @ Why::Asked(..), .. } => {
                    matches!(why, Why::Asked(ticket, _) if *ticket == answered).then_some(why)
                }
                _ => None,
            });
            // It may be told already.
            if let Some(why) = waiting {
                *why = Why::Known(explanation);
            }
        }
    }

    /// Other limits hold from now on.
    pub(super) fn limit(&mut self, limits: Alerting) {
        self.rate.limit(limits);
    }

    /// Numbers of incidents told so far mean others from now on.
    pub(super) fn forget_told(&mut self) {
        self.rate.forget_told();
    }

    fn push(&mut self, alert: Alert) {
        if self.unsent.len() < MOST {
            self.unsent.push_back(alert);
        } else {
            self.dropped += 1;
        }
    }

    /// Sends what can be sent now.
    pub(super) fn send(&mut self, now: Instant) {
        if let Some(summary) = self.rate.summary(now) {
            self.push(Alert::Summary(summary));
        }
        self.explainer.begin();
        if self.retry.is_some_and(|(at, _)| now < at) {
            return;
        }
        while let Some(alert) = self.unsent.front().filter(|alert| alert.waits_until().is_none_or(|until| until <= now))
        {
            let entry = match alert {
                Alert::Incident { stored, why } => {
                    let why = if let Why::Known(why) = why { why.as_ref() } else { None };
                    alert::entry(&stored.incident, Some(stored.id), why)
                }
                Alert::Summary(summary) => summary.entry(),
            };
            let journal = match self.journal.take() {
                Some(journal) => Ok(journal),
                None => Journal::connect(&self.path),
            };
            match journal.and_then(|journal| journal.send(&entry).map(|()| journal)) {
                Ok(journal) => {
                    self.journal = Some(journal);
                    self.unsent.pop_front();
                    if self.retry.take().is_some() {
                        tracing::info!("the journal takes alerts again");
                        self.news = Some(News::Again);
                    }
                }
                Err(error) => return self.put_off(&error, now),
            }
        }
        if self.dropped > 0 {
            tracing::warn!("{} alerts were dropped while the journal took none", self.dropped);
            self.dropped = 0;
        }
    }

    fn put_off(&mut self, error: &JournalError, now: Instant) {
        let wait = if let Some((_, wait)) = self.retry {
            (2 * wait).min(LATE)
        } else {
            tracing::warn!("{error}; alerts wait until the journal takes them");
            self.news = Some(News::Failing(error.to_string()));
            SOON
        };
        self.retry = Some((now + wait, wait));
    }

    /// When there is something to send.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let retry = self.retry.map(|(at, _)| at);
        let first = self.unsent.front().and_then(Alert::waits_until);
        retry.max(first).into_iter().chain(self.rate.next_wake()).min()
    }

    /// Sends what can still be sent, and waits no more.
    pub(super) fn finish(mut self) {
        self.retry = None;
        for alert in &mut self.unsent {
            if let Alert::Incident { why: why @ Why::Asked(..), .. } = alert {
                *why = Why::Known(None);
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
    use crate::incidents::{Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
    use crate::systemd::manager::Managers;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;
    use std::sync::Arc;

    fn alerts(path: &Path) -> Alerts {
        let managers = Managers::with_paths("unix:path=/nonexistent", "/nonexistent");
        Alerts::to(path, Alerting::default(), Explainer::new(Arc::new(managers)))
    }

    fn incident(id: i64) -> Alert {
        let incident = Incident {
            key: IncidentKey {
                unit: None,
                event: IncidentEvent::SilentDeath,
                exe: Vec::new(),
                source: SightingSource::Audit,
            },
            rung: None,
            count: 1,
            first: Moment::Unknown,
            last: Moment::Unknown,
            sample: Sample::default(),
        };
        Alert::Incident { stored: Box::new(Stored { id, incident }), why: Why::Known(None) }
    }

    /// The ids of what arrived.
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
    fn a_journal_that_comes_back_is_told_what_it_missed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let (mut alerts, mut now) = (alerts(&path), Instant::now());
        alerts.push(incident(1));
        alerts.send(now);
        let journal = UnixDatagram::bind(&path).unwrap();
        alerts.push(incident(2));
        alerts.send(now);
        assert!(arrived(&journal).is_empty(), "not before its time");
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
    fn an_alert_waits_for_its_reason_and_not_for_long() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let (mut alerts, now) = (alerts(&path), Instant::now());
        for ticket in 1..4 {
            let mut alert = incident(i64::try_from(ticket).unwrap());
            let Alert::Incident { why, .. } = &mut alert else { unreachable!() };
            *why = Why::Asked(ticket, now + PATIENCE);
            alerts.push(alert);
        }
        alerts.push(incident(4));
        alerts.explain(vec![(2, None), (9, None)]);
        alerts.send(now);
        assert_eq!((arrived(&journal), alerts.next_wake()), (vec![], Some(now + PATIENCE)), "they keep their order");
        alerts.explain(vec![(1, None)]);
        alerts.send(now);
        assert_eq!(arrived(&journal), [1, 2], "what is learned is not waited for");
        alerts.send(now + PATIENCE);
        assert_eq!((arrived(&journal), alerts.next_wake()), (vec![3, 4], None));
        alerts.explain(vec![(3, None)]);
    }

    #[test]
    fn a_journal_that_is_behind_is_given_time() {
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
    fn without_a_journal_it_is_tried_ever_more_rarely_and_what_waits_is_bounded() {
        let (mut alerts, start) = (alerts(Path::new("/nonexistent")), Instant::now());
        for id in 0..5000 {
            alerts.push(incident(id));
        }
        let mut now = start;
        for _ in 0..20 {
            alerts.send(now);
            now = alerts.next_wake().unwrap();
        }
        assert!(now - start > 5 * LATE);
        assert_eq!((alerts.unsent.len(), alerts.dropped), (MOST, 5000 - MOST as u64));
    }
}
