//! Alerts on their way to the journal, which can be behind or away for a while.

use super::config::Alerting;
use super::rate::Rate;
use crate::incidents::Stored;
use crate::outlet::alert::{self, Summary};
use crate::outlet::journal::{Journal, JournalError};
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
    Incident(Box<Stored>),
    Summary(Summary),
}

/// The alerts, in order.
#[derive(Debug)]
pub(super) struct Alerts {
    path: PathBuf,
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
    pub(super) fn to(path: impl Into<PathBuf>, limits: Alerting) -> Self {
        Self {
            path: path.into(),
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
            self.push(Alert::Incident(Box::new(stored)));
        }
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
        if self.retry.is_some_and(|(at, _)| now < at) {
            return;
        }
        while let Some(alert) = self.unsent.front() {
            let entry = match alert {
                Alert::Incident(stored) => alert::entry(&stored.incident, Some(stored.id)),
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
        self.retry.map(|(at, _)| at).into_iter().chain(self.rate.next_wake()).min()
    }

    /// Sends what can still be sent.
    pub(super) fn finish(mut self) {
        self.retry = None;
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
    use crate::incidents::{Event, Incident, Key, Moment, Sample, Source};
    use std::os::unix::net::UnixDatagram;

    fn incident(id: i64) -> Alert {
        let incident = Incident {
            key: Key { unit: None, event: Event::SilentDeath, exe: Vec::new(), source: Source::Audit },
            rung: None,
            count: 1,
            first: Moment::Unknown,
            last: Moment::Unknown,
            sample: Sample::default(),
        };
        Alert::Incident(Box::new(Stored { id, incident }))
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
        let (mut alerts, mut now) = (Alerts::to(&path, Alerting::default()), Instant::now());
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
    fn a_journal_that_is_behind_is_given_time() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut alerts = Alerts::to(&path, Alerting::default());
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
        let (mut alerts, start) = (Alerts::to("/nonexistent", Alerting::default()), Instant::now());
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
