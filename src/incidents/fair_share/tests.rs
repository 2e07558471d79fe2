//! Properties of the sharing of room, for random tables.

use super::*;
use random::Random;

#[path = "../../../tests/support/random.rs"]
mod random;

fn held(rows: &[OwnedRow<u64>]) -> BTreeMap<u64, u64> {
    rows.iter().fold(BTreeMap::new(), |mut held, row| {
        *held.entry(row.owner).or_default() += row.cost;
        held
    })
}

#[test]
fn owner_within_equal_share_loses_nothing_and_the_room_is_used() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..2_000 {
        let owners = 1 + random.below(9);
        let rows: Vec<OwnedRow<u64>> = (0..random.below(200))
            .map(|_| {
                // The first owner makes most of the noise.
                let owner = random.below(owners) * random.below(2);
                let (count, seen) = (1 + random.below(5), random.below(50).into());
                OwnedRow { owner, cost: 1, is_saved: random.below(3) == 0, count, seen }
            })
            .collect();
        let most = random.below(220);
        let leaving = choose_leaving(&rows, most);
        assert_eq!(rows.len() as u64 - leaving.len() as u64, most.min(rows.len() as u64), "no more than needed leave");
        let left: Vec<OwnedRow<u64>> =
            rows.iter().enumerate().filter(|(index, _)| !leaving.contains(index)).map(|(_, row)| *row).collect();
        let (before, after) = (held(&rows), held(&left));
        let largest = after.values().max().copied().unwrap_or(0);
        for (owner, held) in &before {
            let kept = after.get(owner).copied().unwrap_or(0);
            assert!(*held > most / owners || kept == *held, "{owner} holds {held} of {most} and keeps {kept}");
            assert!(kept == *held || kept + 1 >= largest, "{owner} gave way before an owner that holds more");
        }
    }
}

#[test]
fn rows_of_different_cost_fit_after_leaving() {
    let mut random = Random(7);
    for _ in 0..500 {
        let rows: Vec<OwnedRow<u64>> = (0..random.below(100))
            .map(|_| OwnedRow {
                owner: random.below(4),
                cost: 1 + random.below(30),
                is_saved: random.below(2) == 0,
                count: random.below(9),
                seen: random.below(50).into(),
            })
            .collect();
        let most = random.below(2_000);
        let leaving: BTreeSet<usize> = choose_leaving(&rows, most).into_iter().collect();
        let left = rows.iter().enumerate().filter(|(index, _)| !leaving.contains(index)).map(|(_, row)| row.cost);
        assert!(left.sum::<u64>() <= most);
    }
}

#[test]
fn own_saved_then_oldest_of_the_rarer_half_leave() {
    let row = |is_saved, count, seen| OwnedRow { owner: 1, cost: 1, is_saved, count, seen };
    let rows = [row(false, 9, 0), row(false, 1, 5), row(false, 1, 4), row(true, 9, 9), row(false, 8, 1)];
    assert_eq!(choose_leaving(&rows, 4), [3]);
    assert_eq!(choose_leaving(&rows, 3), [3, 2]);
    assert_eq!(choose_leaving(&rows, 2), [3, 2, 1]);
}

#[test]
fn queue_makes_room_at_the_cost_of_its_largest_owner() {
    let mut random = Random(3);
    let mut queue = FairQueue::new(64);
    let mut waiting: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for number in 0..20_000 {
        let owner = random.below(8) * random.below(2);
        waiting.entry(owner).or_default().push(number);
        if let Some((of, gone)) = queue.push(owner, (owner, number)) {
            let most = waiting.values().map(Vec::len).max().unwrap();
            let own = waiting.get_mut(&of).unwrap();
            assert_eq!((own.len(), own.remove(0)), (most, gone), "the largest owner loses its oldest row");
        }
        if random.below(50) == 0 {
            let (of, gone) = queue.pop_front().unwrap();
            assert_eq!(waiting.get_mut(&of).unwrap().remove(0), gone, "the rows of an owner keep their order");
        }
        assert!(queue.len() <= 64 && queue.len() == waiting.values().map(Vec::len).sum::<usize>());
    }
    queue.retain(|(owner, _)| *owner != 0);
    assert!(queue.iter().all(|(owner, _)| *owner != 0) && queue.len() == queue.iter().count());
}

#[test]
fn taken_shares_hold_every_quiet_owner() {
    let mut queue = FairQueue::new(1_000);
    for number in 0..900 {
        assert_eq!(queue.push("noisy", number), None);
    }
    for (number, owner) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(queue.push(owner, 900 + number), None);
    }
    let taken = queue.take_shares(100);
    assert_eq!((taken.len(), &taken[..2], &taken[97..]), (100, &[0, 1][..], &[900, 901, 902][..]));
    assert_eq!((queue.len(), queue.front()), (803, Some(&97)));
}

#[test]
fn window_leaves_room_for_an_owner_below_its_share() {
    let mut window = FairWindow::<u32>::default();
    assert_eq!((0..1_000).filter(|_| window.admit(&1, 20)).count(), 20);
    assert_eq!((0..1_000).filter(|_| window.admit(&2, 20)).count(), 10);
    assert_eq!((0..1_000).filter(|_| window.admit(&3, 20)).count(), 6);
    let all = (4..1_000).filter(|owner| window.admit(owner, 20)).count();
    assert!(all < 20 && window.owners() == all + 3, "{all}");
}
