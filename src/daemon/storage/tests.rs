//! The storage over a writer of a temporary directory. Some tests replace a result of the writer.

use super::*;
use crate::incidents::{IncidentEvent, Moment, Query, ReplacedFile, Sample, Sighting, SightingSource, Store};
use crate::outlet::client_requests::{self, ClientRequest, RequestQueue};
use crate::units::{Manager, Unit};
use std::path::Path;

fn storage(dir: &Path) -> Storage {
    let retention = Retention::from(&Config::default());
    let writer = StoreWriter::start(Some(Store::open(dir).unwrap()), dir.into(), retention).unwrap();
    Storage::new(writer, SharedStatus::default())
}

fn unit(name: &str) -> Unit {
    Unit { manager: Manager::System, name: name.parse().unwrap() }
}

/// A death without a record of a process of a unit.
fn death(name: &str) -> Sighting {
    let event = IncidentEvent::UnrecordedDeath;
    let key = IncidentKey { unit: Some(unit(name)), event, exe: Vec::new(), source: SightingSource::Audit };
    Sighting { key, rung: None, at: Moment::At(1), sample: Sample::default() }
}

fn fold(deaths: &[&str]) -> Fold {
    let mut fold = Fold::new_shared(64);
    for name in deaths {
        let _ = fold.add(death(name));
    }
    fold
}

fn full() -> StoreError {
    StoreError::Full { path: "/nonexistent".into() }
}

/// Makes the writer's next result a failure.
async fn fail_next(storage: &mut Storage) -> JobResult {
    let JobResult::Recorded(written) = storage.job_result().await else { panic!("nothing was recorded") };
    JobResult::Recorded(Written { rows: Err(full()), ..written })
}

fn counts<'a>(incidents: impl Iterator<Item = &'a Incident>) -> Vec<(String, u64)> {
    let mut counts: Vec<(String, u64)> =
        incidents.map(|one| (one.key.unit.as_ref().unwrap().name.to_string(), one.count)).collect();
    counts.sort();
    counts
}

/// Queues a request to forget a unit, as the bus does.
async fn request_forget(queue: RequestQueue, unit: Unit) -> Result<u64, String> {
    queue.forget(Some(unit), 0).await.map_err(|error| error.to_string())
}

/// Receives such a request, as the loop does.
async fn receive_forget(requests: &mut tokio::sync::mpsc::Receiver<client_requests::PendingRequest>) -> ForgetRequest {
    let (request, confirmation) = requests.recv().await.unwrap().split();
    confirmation.send();
    let ClientRequest::Forget(request) = request else { panic!("{request:?}") };
    request
}

#[tokio::test]
async fn new_store_whose_first_write_failed_is_reported_later() {
    let temp = tempfile::tempdir().unwrap();
    let (mut storage, mut fold) = (storage(temp.path()), fold(&["a.service"]));
    storage.flush(&mut fold);
    let JobResult::Recorded(written) = fail_next(&mut storage).await else { unreachable!() };
    let replaced = Some(ReplacedFile { path: None, error: full() });
    let failed = JobResult::Recorded(Written { replaced, ..written });
    assert!(matches!(storage.on_job_result(&mut fold, failed), WriteResult::Failed));
    for expected in [true, false] {
        storage.flush(&mut fold);
        let result = storage.job_result().await;
        let WriteResult::Stored { is_new_store, .. } = storage.on_job_result(&mut fold, result) else { panic!() };
        assert_eq!(is_new_store, expected);
        let _ = fold.add(death("a.service"));
    }
    storage.finish();
}

#[tokio::test]
async fn death_subtracted_during_its_write_is_not_passed_on() {
    let temp = tempfile::tempdir().unwrap();
    let mut storage = storage(temp.path());
    let mut fold = fold(&["a.service", "b.service", "b.service"]);
    storage.flush(&mut fold);
    for name in ["a.service", "b.service"] {
        storage.subtract_death(&mut fold, &death(name).key);
    }
    let result = storage.job_result().await;
    let WriteResult::Stored { incidents, .. } = storage.on_job_result(&mut fold, result) else { panic!() };
    let left = vec![("b.service".to_owned(), 1)];
    assert_eq!(counts(incidents.iter().map(|one| &one.stored.incident)), left);
    storage.finish();
    let stored = Store::open_read_only(temp.path()).unwrap().incidents(&Query::default()).unwrap();
    assert_eq!(counts(stored.iter().map(|one| &one.incident)), left);
}

#[tokio::test]
async fn death_subtracted_during_a_write_that_fails_is_subtracted_once() {
    let temp = tempfile::tempdir().unwrap();
    let mut storage = storage(temp.path());
    let mut fold = fold(&["a.service", "b.service", "b.service"]);
    storage.flush(&mut fold);
    for name in ["a.service", "b.service"] {
        storage.subtract_death(&mut fold, &death(name).key);
    }
    let failed = fail_next(&mut storage).await;
    assert!(matches!(storage.on_job_result(&mut fold, failed), WriteResult::Failed));
    let changes = fold.take_changes(usize::MAX);
    assert_eq!(counts(changes.iter().map(|change| &change.incident)), [("b.service".to_owned(), 1)]);
    storage.finish();
}

#[tokio::test]
async fn refused_dismissal_changes_nothing_and_an_accepted_one_counts_what_was_not_stored() {
    let temp = tempfile::tempdir().unwrap();
    let (mut storage, mut fold) = (storage(temp.path()), fold(&["a.service", "b.service"]));
    let (queue, mut requests) = client_requests::channel();
    let loop_that_refuses = async {
        let request = receive_forget(&mut requests).await;
        storage.on_job_result(&mut fold, JobResult::Forgotten(request, Err(full())))
    };
    let (answer, result) = tokio::join!(request_forget(queue.clone(), unit("a.service")), loop_that_refuses);
    assert!(answer.is_err() && matches!(result, WriteResult::Answered));
    let loop_that_forgets = async {
        let request = receive_forget(&mut requests).await;
        storage.forget(request);
        storage.flush(&mut fold);
        assert!(storage.is_busy(), "no changes follow until the answer is known");
        let result = storage.job_result().await;
        storage.on_job_result(&mut fold, result)
    };
    let (answer, _) = tokio::join!(request_forget(queue, unit("a.service")), loop_that_forgets);
    assert_eq!(answer, Ok(1), "memory still had it");
    let changes = fold.take_changes(usize::MAX);
    assert_eq!(counts(changes.iter().map(|change| &change.incident)), [("b.service".to_owned(), 1)]);
    storage.finish();
}
