//! Tests of the fold.

use super::counter::text_length;
use super::*;
use crate::audit::Action;
use crate::incidents::incident::{Moment, Sample};
use crate::incidents::{Access, AccessDenial, AccessPath, Denial, IncidentEvent, SightingSource};
use crate::syscalls::{Arch, Call, CallId};
use crate::units::Rung;

const ALL: usize = usize::MAX;

fn sighting(number: u32, at: i64) -> Sighting {
    let call = Call { arch: Arch(0xc000_003e), id: CallId::Number(number) };
    let event = IncidentEvent::Denial(Denial { call, action: Action::Errno });
    Sighting {
        key: IncidentKey { unit: None, event, exe: b"/a".to_vec(), source: SightingSource::Audit },
        rung: None,
        at: Moment::At(at),
        sample: Sample { pid: 7, ..Sample::default() },
    }
}

fn is_first(folded: Folded) -> bool {
    matches!(folded, Folded::First(_))
}

fn span(change: &IncidentChange) -> (u64, &Moment, &Moment) {
    (change.incident.count, &change.incident.first, &change.incident.last)
}

#[test]
fn path_of_an_access_counts_as_text() {
    let path = |length| {
        let mut one = sighting(1, 1);
        let access = Access::HiddenPath(AccessPath::new(&vec![b'x'; length]));
        one.key.event = IncidentEvent::Access(AccessDenial { call: Call::numbered(Arch::X86_64, 2), errno: 2, access });
        one
    };
    let mut fold = Fold::new(1000);
    for length in 3_000..4_000 {
        let _ = fold.add(path(length));
    }
    assert!(fold.dropped() > 500, "{}: a thousand long paths do not fit", fold.dropped());
}

#[test]
fn same_event_is_counted_in_one_incident() {
    let mut fold = Fold::new(8);
    assert!(is_first(fold.add(sighting(41, 10))));
    assert!(!is_first(fold.add(sighting(41, 20))));
    assert!(is_first(fold.add(sighting(42, 30))));
    let mut changes = fold.take_changes(ALL);
    changes.sort_by_key(|change| change.incident.count);
    assert_eq!(span(&changes[1]), (2, &Moment::At(10), &Moment::At(20)));
}

#[test]
fn known_slot_counts_without_key() {
    let mut fold = Fold::new(8);
    let slot = fold.add(sighting(41, 10)).slot();
    let repeat = |at| RepeatSighting { at: Moment::At(at), pid: 9, comm: b"other", ip: 5 };
    assert!(fold.count(slot, 1, &repeat(20)));
    let change = fold.take_changes(ALL).remove(0);
    assert_eq!(span(&change), (2, &Moment::At(10), &Moment::At(20)));
    let sample = &change.incident.sample;
    assert_eq!((sample.pid, sample.ip, &*sample.comm), (9, 5, &b"other"[..]));
    assert!(fold.count(slot, 1, &repeat(30)));
    assert_eq!(span(&fold.take_changes(ALL)[0]), (1, &Moment::At(30), &Moment::At(30)));
    for number in 100..120 {
        let _ = fold.add(sighting(number, 40));
    }
    assert!(!fold.count(slot, 1, &repeat(50)), "another incident has the place now");
}

#[test]
fn forgotten_unit_begins_again_and_others_stay() {
    let unit = Unit { manager: crate::units::Manager::System, name: "a.service".parse().unwrap() };
    let of_unit = |number, at| {
        let mut sighting = sighting(number, at);
        sighting.key.unit = Some(unit.clone());
        sighting
    };
    let mut fold = Fold::new(8);
    let slot = fold.add(of_unit(41, 10)).slot();
    let _ = fold.add(of_unit(42, 10));
    let _ = fold.add(sighting(41, 10));
    let _ = fold.take_changes(1);
    assert_eq!(fold.forget_unit(Some(&unit)), 1, "one of two was taken");
    assert!(!fold.count(slot, 1, &RepeatSighting { at: Moment::At(20), pid: 7, comm: b"", ip: 0 }));
    let left = fold.take_changes(ALL);
    assert_eq!(left.iter().map(|change| change.incident.key.unit.clone()).collect::<Vec<_>>(), [None]);
    assert!(is_first(fold.add(of_unit(41, 30))) && fold.dropped() == 0);
    assert_eq!(span(&fold.take_changes(ALL)[0]), (1, &Moment::At(30), &Moment::At(30)));
    assert_eq!(fold.forget_unit(None), 0);
    assert!(is_first(fold.add(sighting(41, 40))) && !is_first(fold.add(of_unit(41, 50))));
}

#[test]
fn sightings_that_were_put_back_outlast_a_subtraction() {
    let mut fold = Fold::new(8);
    for at in [10, 20] {
        let _ = fold.add(sighting(41, at));
    }
    let changes = fold.take_changes(ALL);
    let key = changes[0].incident.key.clone();
    assert!(!fold.subtract(&key), "both were taken");
    fold.put_back(changes);
    assert!(fold.subtract(&key));
    assert_eq!(fold.take_changes(ALL).iter().map(|change| change.incident.count).collect::<Vec<_>>(), [1]);
}

#[test]
fn guess_does_not_replace_sample_of_certain_attribution() {
    let attributed_by =
        |rung, pid, at| Sighting { rung: Some(rung), sample: Sample { pid, ..Sample::default() }, ..sighting(41, at) };
    let mut fold = Fold::new(8);
    let _ = fold.add(attributed_by(Rung::ExitEntry, 1, 10));
    let _ = fold.add(attributed_by(Rung::ParentCgroup, 2, 20));
    let _ = fold.add(attributed_by(Rung::Executable, 3, 30));
    let changes = fold.take_changes(ALL);
    let facts = |change: &IncidentChange| (change.incident.rung, change.incident.sample.pid, change.incident.count);
    assert_eq!(facts(&changes[0]), (Some(Rung::ParentCgroup), 2, 3));
    assert_eq!(changes[0].incident.last, Moment::At(30));
    let _ = fold.add(attributed_by(Rung::ExitEntry, 4, 40));
    assert_eq!(facts(&fold.take_changes(ALL)[0]), (Some(Rung::ParentCgroup), 2, 1), "taken or not");
}

#[test]
fn clock_set_back_moves_first_sighting_to_latest() {
    let mut fold = Fold::new(8);
    let slot = fold.add(sighting(41, 3_600_000)).slot();
    let _ = fold.add(sighting(41, 10));
    assert!(fold.count(slot, 1, &RepeatSighting { at: Moment::At(5), pid: 9, comm: b"c", ip: 5 }));
    assert_eq!(span(&fold.take_changes(ALL)[0]), (3, &Moment::At(5), &Moment::At(5)));
}

#[test]
fn change_counts_only_new_sightings() {
    let mut fold = Fold::new(8);
    let _ = fold.add(sighting(41, 10));
    assert_eq!(fold.take_changes(ALL).len(), 1);
    assert!(fold.take_changes(ALL).is_empty());
    assert!(!is_first(fold.add(sighting(41, 20))));
    assert_eq!(span(&fold.take_changes(ALL)[0]), (1, &Moment::At(20), &Moment::At(20)));
}

#[test]
fn change_that_could_not_be_stored_is_not_lost() {
    let mut fold = Fold::new(8);
    let _ = fold.add(sighting(41, 10));
    let changes = fold.take_changes(ALL);
    let _ = fold.add(sighting(41, 20));
    fold.put_back(changes);
    let changes = fold.take_changes(ALL);
    assert_eq!(span(&changes[0]), (2, &Moment::At(10), &Moment::At(20)));
    fold.put_back(changes);
    assert_eq!(fold.take_changes(ALL)[0].incident.count, 2);
}

#[test]
fn incident_stays_new_if_its_change_is_put_back() {
    let mut fold = Fold::new(8);
    let _ = fold.add(sighting(41, 10));
    let changes = fold.take_changes(ALL);
    assert!(changes[0].first);
    fold.put_back(changes);
    assert!(fold.take_changes(ALL)[0].first);
    let _ = fold.add(sighting(41, 20));
    assert!(!fold.take_changes(ALL)[0].first);
}

#[test]
fn full_fold_drops_oldest_and_counts_their_sightings() {
    let mut fold = Fold::new(8);
    for number in 0..8 {
        let _ = fold.add(sighting(number, 0));
    }
    let _ = fold.add(sighting(0, 1));
    assert!(is_first(fold.add(sighting(99, 2))));
    assert_eq!(fold.dropped(), 2, "1 and 2, since 0 was seen again");
    assert!(!is_first(fold.add(sighting(0, 3))));
    assert!(is_first(fold.add(sighting(1, 3))));
}

#[test]
fn frequent_incident_outlasts_rare_ones() {
    let mut fold = Fold::new(8);
    for _ in 0..100 {
        let _ = fold.add(sighting(1_000, 0));
    }
    for number in 0..500 {
        let _ = fold.add(sighting(number, 1));
    }
    assert!(fold.can_lose_sightings() || !fold.is_full());
    assert!(!is_first(fold.add(sighting(1_000, 2))), "its sighting is the oldest, and it has the most");
}

#[test]
fn exact_time_replaces_date_in_words() {
    let mut fold = Fold::new(8);
    let dated = |date: &str| Sighting { at: Moment::Text(date.into()), ..sighting(1, 0) };
    let slot = fold.add(dated("Nov 23 17:12:17")).slot();
    fold.set_time(slot, 5_000);
    let _ = fold.add(dated("Nov 23 17:12:18"));
    fold.set_time(slot, 6_000);
    let incident = fold.take_changes(ALL).remove(0).incident;
    assert_eq!((incident.count, incident.first, incident.last), (2, Moment::At(5_000), Moment::At(6_000)));
}

#[test]
fn taken_incidents_are_dropped_before_sightings_are_lost() {
    let mut fold = Fold::new(8);
    for number in 0..4 {
        let _ = fold.add(sighting(number, 0));
    }
    assert_eq!(fold.take_changes(ALL).len(), 4);
    for number in 4..10 {
        assert!(!fold.can_lose_sightings());
        let _ = fold.add(sighting(number, 1));
    }
    assert_eq!(fold.dropped(), 0);
    assert!(!is_first(fold.add(sighting(3, 1))), "the oldest went first");
}

#[test]
fn new_incidents_are_taken_first_and_in_batches() {
    let mut fold = Fold::new(8);
    let _ = fold.add(sighting(1, 0));
    let _ = fold.take_changes(ALL);
    for number in 1..5 {
        let _ = fold.add(sighting(number, 1));
    }
    let firsts: Vec<bool> = fold.take_changes(2).iter().map(|change| change.first).collect();
    assert_eq!(firsts, [true, true]);
    let firsts: Vec<bool> = fold.take_changes(ALL).iter().map(|change| change.first).collect();
    assert_eq!(firsts, [true, false]);
}

#[test]
fn text_of_incidents_is_bounded() {
    let mut fold = Fold::new(8_000);
    for number in 0..2_000 {
        let mut long = sighting(number, 0);
        long.key.exe = vec![b'x'; 4096];
        let _ = fold.add(long);
    }
    let kept = fold.take_changes(ALL);
    assert!(kept.iter().map(|change| change.incident.key.exe.len()).sum::<usize>() <= MOST_TEXT + 4096);
    assert_eq!(kept.len() as u64 + fold.dropped(), 2_000);
    // A label can grow later.
    let mut fold = Fold::new(8_000);
    for label in [0, 4096] {
        for number in 0..2_000 {
            let mut labelled = sighting(number, 0);
            labelled.sample.subject = vec![b'l'; label];
            let _ = fold.add(labelled);
        }
    }
    let held: usize = fold.counters.iter().flatten().map(|counter| text_length(&counter.change)).sum();
    assert!(held == fold.holdings.all.text && held <= MOST_TEXT + 4096, "{held}");
}

#[test]
fn storm_of_new_incidents_is_bounded() {
    let mut fold = Fold::new(100);
    for number in 0..10_000 {
        let _ = fold.add(sighting(number, 0));
    }
    let kept: u64 = fold.take_changes(ALL).iter().map(|change| change.incident.count).sum();
    assert!(kept <= 100 && fold.holdings.all.changed_cost == 0);
    assert_eq!(kept + fold.dropped(), 10_000);
}

fn by_uid(number: u32, uid: &str, exe: &str) -> Sighting {
    let mut sighting = sighting(number, 1);
    (sighting.sample.uid, sighting.key.exe) = (uid.into(), exe.into());
    sighting
}

#[test]
fn noise_of_one_owner_costs_no_other_owner_an_incident() {
    let mut fold = Fold::new_shared(64);
    let quiet = |number: u32| by_uid(number, &(10 + number % 3).to_string(), "/quiet");
    for number in 0..12 {
        let _ = fold.add(quiet(number));
    }
    for number in 0..50_000 {
        let _ = fold.add(by_uid(number % 300, &(number % 3).to_string(), &format!("/tmp/{}", number / 300)));
        if number % 1_000 == 0 {
            let _ = fold.take_changes(8);
        }
    }
    assert!((0..12).all(|number| !is_first(fold.add(quiet(number)))), "a quiet owner lost an incident");
    let first = (0..3).map(|uid| fold.holdings.held_by(&Owner::User(uid.to_string().into())).recorded).max();
    assert!(first <= Some(16), "no owner holds more than a quarter: {first:?}");
}

#[test]
fn numbers_without_a_name_are_one_incident_per_executable_and_action() {
    let mut fold = Fold::new_shared(64);
    for number in 5_000..6_000 {
        let _ = fold.add(by_uid(number, "7", "/a"));
        let _ = fold.add(by_uid(number, "7", "/b"));
    }
    let mut rehearsed = by_uid(7_000, "7", "/a");
    rehearsed.key.source = SightingSource::Rehearsal;
    assert!(is_first(fold.add(rehearsed.clone())));
    rehearsed.key.event = by_uid(7_001, "7", "/a").key.event;
    assert!(is_first(fold.add(rehearsed)), "a rehearsal keeps every number");
    let mut counts: Vec<u64> = fold.take_changes(ALL).iter().map(|change| change.incident.count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 1_000, 1_000]);
    let mut of_log = Fold::new(64);
    assert!((5_000..5_010).all(|number| is_first(of_log.add(by_uid(number, "7", "/a")))), "a log keeps every number");
}

#[test]
fn quiet_owner_is_in_the_first_batch_of_changes() {
    let mut fold = Fold::new(1_000);
    for number in 0..900 {
        let _ = fold.add(by_uid(number, "1", "/a"));
    }
    let _ = fold.add(by_uid(1, "2", "/b"));
    let batch = fold.take_changes(100);
    assert_eq!(batch.len(), 100);
    assert!(batch.iter().any(|change| &*change.incident.sample.uid == "2"));
}
