//! The daemon's status, shared with the bus: counters, errors, and what the daemon cannot see or do.

use crate::audit::text::Escaped;
use crate::host::blind_spots;
use crate::host::blind_spots::BlindSpot;
use crate::incidents::ReplacedFile;
use crate::outlet::StatusSource;
use crate::outlet::wire::Status;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How old the machine's limitations in an answer may be. Finding them takes reads of `/proc`, and any user may ask.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The status. It holds the daemon's own limitations; [`source`](Self::source) adds the machine's.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedStatus {
    status: Arc<Mutex<Status>>,
    /// Why the journal cannot be read, as long as it cannot.
    journal_limitation: Arc<Mutex<Option<String>>>,
}

/// What the daemon received during one turn of its loop.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TurnCounts {
    pub(super) records: u64,
    pub(super) overruns: u64,
    pub(super) ignored: u64,
    pub(super) malformed: u64,
}

impl SharedStatus {
    pub(super) fn new(status: Status) -> Self {
        Self { status: Arc::new(Mutex::new(status)), ..Self::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Status> {
        lock(&self.status)
    }

    /// Returns a function that returns the status to clients. `root` is the root of the machine's file system.
    pub(super) fn source(&self, root: PathBuf) -> StatusSource {
        let shared = self.clone();
        let is_listening = self.lock().listening;
        let machine: Mutex<Option<(Instant, Vec<String>)>> = Mutex::default();
        Arc::new(move || {
            let mut machine = lock(&machine);
            if machine.as_ref().is_none_or(|(at, _)| at.elapsed() >= MAX_AGE) {
                let limitations = blind_spots::find_further_blind_spots(&root, is_listening);
                *machine = Some((Instant::now(), limitations.iter().map(ToString::to_string).collect()));
            }
            let mut status = shared.lock().clone();
            let of_machine = machine.iter().flat_map(|(_, sentences)| sentences.iter().cloned());
            status.limitations.splice(0..0, of_machine.chain(lock(&shared.journal_limitation).clone()));
            status
        })
    }

    /// Adds the counts of a turn. `lost` is the number of lost events since the start.
    pub(super) fn count(&self, turn: TurnCounts, lost: u64) {
        let mut status = self.lock();
        status.records += turn.records;
        status.overruns += turn.overruns;
        status.ignored += turn.ignored;
        status.malformed += turn.malformed;
        status.lost = lost;
    }

    /// Adds a limitation of the daemon, once.
    pub(super) fn add_limitation(&self, limitation: &str) {
        let mut status = self.lock();
        if !status.limitations.iter().any(|known| known == limitation) {
            status.limitations.push(limitation.to_owned());
        }
    }

    /// Reports why the journal cannot be read, or that it can.
    pub(super) fn set_journal_limitation(&self, blind_spot: Option<&BlindSpot>) {
        *lock(&self.journal_limitation) = blind_spot.map(ToString::to_string);
    }

    /// Reports why the kernel's verifier refused a BPF program.
    pub(super) fn set_verifier_log(&self, log: &str) {
        for line in log.lines() {
            tracing::debug!("verifier: {}", Escaped(line.as_bytes()));
        }
        self.lock().verifier_log = Some(log.to_owned());
    }

    /// Reports that a damaged or deleted store was replaced.
    pub(super) fn on_store_replaced(&self, ReplacedFile { path, error }: &ReplacedFile) {
        let now = match path {
            Some(path) => format!("it was renamed to {}, and a new store was started", path.display()),
            None => "new incidents are in the present store".to_owned(),
        };
        tracing::error!("{error}; {now}");
        self.add_limitation(&format!("answers lack earlier incidents: {error}; {now}"));
    }

    /// Reports that exit events are unavailable from now on.
    pub(super) fn on_exit_events_unavailable(&self, error: &std::io::Error) {
        tracing::warn!("cannot receive exit events: {error}");
        self.add_limitation(&format!("cannot notice deaths by SIGSYS without a record: {error}"));
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_request_rereads_machine_limitations() {
        let root = tempfile::tempdir().unwrap();
        let logged = root.path().join("proc/sys/kernel/seccomp/actions_logged");
        std::fs::create_dir_all(logged.parent().unwrap()).unwrap();
        let set = |actions: &str| std::fs::write(&logged, actions).unwrap();
        set("kill_process kill_thread trap errno user_notif trace log\n");
        let status = SharedStatus::default();
        status.add_limitation("its own");
        status.add_limitation("its own");
        let source = status.source(root.path().to_owned());
        let always = blind_spots::silent_errno().to_string();
        assert_eq!(source().limitations, [always.clone(), "its own".to_owned()]);

        set("kill_process\n");
        std::thread::sleep(MAX_AGE);
        let limited = source().limitations;
        assert!(limited.len() == 3 && limited[0].contains("actions_logged lacks kill_thread"), "{limited:?}");
        set("kill_process kill_thread trap errno user_notif trace log\n");
        std::thread::sleep(MAX_AGE);
        assert_eq!(source().limitations, [always, "its own".to_owned()]);
    }

    #[test]
    fn journal_that_can_be_read_again_is_no_limitation() {
        let status = SharedStatus::default();
        let source = status.source("/nonexistent".into());
        let before = source().limitations;
        let unreadable = blind_spots::no_journal(&crate::systemd::journal::JournalReadError::None);
        status.set_journal_limitation(Some(&unreadable));
        assert!(source().limitations.contains(&unreadable.to_string()));
        status.set_journal_limitation(None);
        assert_eq!(source().limitations, before);
    }

    #[test]
    fn verifier_log_is_part_of_the_status() {
        let status = SharedStatus::default();
        status.set_verifier_log("0: (b7) r0 = 0\nR1 invalid mem access");
        let shown = status.source("/nonexistent".into())().verifier_log;
        assert_eq!(shown.as_deref(), Some("0: (b7) r0 = 0\nR1 invalid mem access"));
    }

    #[test]
    fn missing_audit_right_is_no_limitation_of_an_open_stream() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
        std::fs::write(root.path().join("proc/self/status"), "CapEff:\t0000000000001000\n").unwrap();
        for listening in [true, false] {
            let status = SharedStatus::new(Status { listening, ..Status::default() });
            let limitations = status.source(root.path().to_owned())().limitations;
            assert_eq!(limitations.len(), 1, "without a stream, the right is the reason for that: {limitations:?}");
        }
    }
}
