//! What it cannot see or do, as the status tells: of the machine as that is when asked, and of the daemon itself.

use crate::host::blind_spots;
use crate::incidents::ReplacedFile;
use crate::outlet::StatusSource;
use crate::outlet::wire::Status;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How old what was found of the machine may be: it takes some reads of `/proc`, and anybody may ask.
const FRESH: Duration = Duration::from_secs(1);

/// The status as the bus asks for it, on the machine whose file system is at `root`; of one that was handed the audit
/// stream, if it was. In the status itself are the daemon's own limitations alone.
pub(super) fn source(status: &Arc<Mutex<Status>>, root: PathBuf, inherited: bool) -> StatusSource {
    let status = Arc::clone(status);
    let found: Mutex<Option<(Instant, Vec<String>)>> = Mutex::default();
    Arc::new(move || {
        let mut found = lock(&found);
        if found.as_ref().is_none_or(|(at, _)| at.elapsed() >= FRESH) {
            let limitations = blind_spots::find_blind_spots(&root).into_iter();
            let concerning = limitations.filter(|found| !(inherited && found.id == blind_spots::NO_AUDIT_READ));
            *found = Some((Instant::now(), concerning.map(|limitation| limitation.to_string()).collect()));
        }
        let mut status = lock(&status).clone();
        let of_machine = found.iter().flat_map(|(_, sentences)| sentences.iter().cloned());
        status.limitations.splice(0..0, of_machine);
        status
    })
}

/// Takes note that a store that was damaged or is gone was replaced.
pub(super) fn was_set_aside(status: &Mutex<Status>, ReplacedFile { path, error }: &ReplacedFile) {
    let now = match path {
        Some(path) => format!("it is kept as {}, and a new store was begun", path.display()),
        None => "what is seen from now on is in the one that is there now".to_owned(),
    };
    tracing::error!("{error}; {now}");
    limit(status, &format!("what was seen before is not among the answers: {error}; {now}"));
}

/// Takes note that exit events cannot be heard, or no longer.
pub(super) fn miss_exits(status: &Mutex<Status>, error: &std::io::Error) {
    tracing::warn!("exit events cannot be heard: {error}");
    limit(status, &format!("deaths by SIGSYS without a record go unnoticed: {error}"));
}

/// Takes note of something that it cannot do, once.
pub(super) fn limit(status: &Mutex<Status>, limitation: &str) {
    let mut status = lock(status);
    if !status.limitations.iter().any(|known| known == limitation) {
        status.limitations.push(limitation.to_owned());
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_looked_at_when_it_is_asked_about() {
        let root = tempfile::tempdir().unwrap();
        let logged = root.path().join("proc/sys/kernel/seccomp/actions_logged");
        std::fs::create_dir_all(logged.parent().unwrap()).unwrap();
        let set = |actions: &str| std::fs::write(&logged, actions).unwrap();
        set("kill_process kill_thread trap errno user_notif trace log\n");
        let status = Arc::new(Mutex::new(Status::default()));
        limit(&status, "its own");
        limit(&status, "its own");
        let source = source(&status, root.path().to_owned(), false);
        let always = blind_spots::silent_errno().to_string();
        assert_eq!(source().limitations, [always.clone(), "its own".to_owned()]);

        set("kill_process\n");
        std::thread::sleep(FRESH);
        let limited = source().limitations;
        assert!(limited.len() == 3 && limited[0].contains("actions_logged lacks kill_thread"), "{limited:?}");
        // And who mended it is not told of it any more.
        set("kill_process kill_thread trap errno user_notif trace log\n");
        std::thread::sleep(FRESH);
        assert_eq!(source().limitations, [always, "its own".to_owned()]);
    }

    #[test]
    fn who_was_handed_the_stream_needs_no_right_to_it() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
        std::fs::write(root.path().join("proc/self/status"), "CapEff:\t0000000000001000\n").unwrap();
        let status = Arc::default();
        let of = |inherited| source(&status, root.path().to_owned(), inherited)().limitations;
        assert_eq!((of(false).len(), of(true).len()), (2, 1));
    }
}
