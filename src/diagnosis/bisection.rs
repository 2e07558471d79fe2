//! The search of a bisection: finds the hardening lines by which a unit does not work, in few trials.
//!
//! A trial runs the unit with some lines lifted. Lifting more lines never withholds more, so if the unit works with some
//! lines lifted, it works with more of them lifted, and one trial answers for many. Where that does not hold, for example
//! because the host's `/tmp` is in the way without `PrivateTmp=`, the search can end without a line: it names only lines that
//! trials prove. The search is pure: it takes the outcomes so far, and returns the next trial or the result.

use std::collections::BTreeSet;

/// The outcomes of trials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trials(Vec<(BTreeSet<usize>, bool)>);

/// The next step of a bisection.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BisectionStep {
    /// Run the unit with these lines lifted.
    Try(BTreeSet<usize>),
    /// The search is over.
    End(BisectionResult),
}

/// What a bisection found.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BisectionResult {
    /// The unit works with no line lifted.
    Works,
    /// The unit does not work with all lines lifted.
    NotHardening,
    /// The unit works once these lines are lifted, and with none of them less. A repetition had the same outcomes.
    Found(Vec<Culprit>),
    /// The outcomes contradict each other: another cause decides whether the unit works.
    Contradictory,
}

/// A line that keeps the unit from working.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Culprit {
    /// The line.
    pub(crate) line: usize,
    /// The lines without which it would do no harm; none if it does harm by itself.
    pub(crate) partners: BTreeSet<usize>,
}

/// The search needs the outcome of this trial.
struct Untried(BTreeSet<usize>);

impl Trials {
    /// Adds the outcome of a trial: whether the unit worked.
    pub(crate) fn add(&mut self, lifted: BTreeSet<usize>, works: bool) {
        self.0.push((lifted, works));
    }

    /// Returns the number of trials.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the fewest lines whose lifting helped.
    pub(crate) fn fewest_that_work(&self) -> Option<&BTreeSet<usize>> {
        self.0.iter().filter(|(_, works)| *works).map(|(lifted, _)| lifted).min_by_key(|lifted| lifted.len())
    }

    /// Returns whether the unit works with these lines lifted, as far as a trial answers that.
    fn outcome(&self, lifted: &BTreeSet<usize>) -> Result<bool, Untried> {
        let answers = |(tried, works): &&(BTreeSet<usize>, bool)| {
            if *works { tried.is_subset(lifted) } else { tried.is_superset(lifted) }
        };
        self.0.iter().find(answers).map(|(_, works)| *works).ok_or_else(|| Untried(lifted.clone()))
    }

    /// Returns the next step of the search among `count` lines, numbered from 0.
    pub(crate) fn next_step(&self, count: usize) -> BisectionStep {
        if self.has_contradiction() {
            return BisectionStep::End(BisectionResult::Contradictory);
        }
        match self.search(count) {
            Ok(result) => self.next_repetition(&result).map_or(BisectionStep::End(result), BisectionStep::Try),
            Err(Untried(lifted)) => BisectionStep::Try(lifted),
        }
    }

    /// Whether the unit worked in a trial, and not in one with the same lines lifted, or more of them.
    fn has_contradiction(&self) -> bool {
        let failures = || self.0.iter().filter(|(_, works)| !works);
        let mut successes = self.0.iter().filter(|(_, works)| *works);
        successes.any(|(lifted, _)| failures().any(|(more, _)| lifted.is_subset(more)))
    }

    /// Returns the next trial that repeats the proof of a result: with all lines in force, and with the culprits lifted. A
    /// unit that fails now and then rarely has the same outcomes twice.
    fn next_repetition(&self, result: &BisectionResult) -> Option<BTreeSet<usize>> {
        let BisectionResult::Found(culprits) = result else { return None };
        let lifted = culprits.iter().map(|culprit| culprit.line).collect();
        let is_repeated = |set: &BTreeSet<usize>| self.0.iter().filter(|(tried, _)| tried == set).count() > 1;
        [BTreeSet::new(), lifted].into_iter().find(|set| !is_repeated(set))
    }

    fn search(&self, count: usize) -> Result<BisectionResult, Untried> {
        let all: BTreeSet<usize> = (0..count).collect();
        if self.outcome(&BTreeSet::new())? {
            return Ok(BisectionResult::Works);
        }
        if !self.outcome(&all)? {
            return Ok(BisectionResult::NotHardening);
        }
        let candidates: Vec<usize> = all.iter().copied().collect();
        let lifted = find_smallest(&candidates, |lifted| self.outcome(lifted))?;
        let mut culprits = Vec::new();
        for &line in &lifted {
            // With the other culprits lifted, it fails by this line and lines that are not lifted. Lines that come later
            // are first: the search above kept them in force together with this one.
            let (before, after): (Vec<usize>, Vec<usize>) =
                all.difference(&lifted).copied().partition(|other| *other < line);
            let others: Vec<usize> = after.into_iter().chain(before).collect();
            let fails_with = |kept: &BTreeSet<usize>| {
                let lifted = all.iter().filter(|other| **other != line && !kept.contains(other)).copied().collect();
                self.outcome(&lifted).map(|works| !works)
            };
            culprits.push(Culprit { line, partners: find_smallest(&others, fails_with)? });
        }
        Ok(BisectionResult::Found(culprits))
    }
}

/// Finds a smallest set of candidates for which a predicate holds: none of its members can go. The predicate holds for all
/// candidates, and for every set that includes one for which it holds.
///
/// It looks for the shortest run of candidates, from the first, that is enough together with the members found so far. The
/// last candidate of that run is a member (`QuickXplain` and `ddmin` are relatives of this).
fn find_smallest<E>(
    candidates: &[usize],
    mut holds: impl FnMut(&BTreeSet<usize>) -> Result<bool, E>,
) -> Result<BTreeSet<usize>, E> {
    let mut found = BTreeSet::new();
    let mut rest = candidates;
    while !rest.is_empty() && !holds(&found)? {
        // Too few candidates, and enough of them.
        let (mut few, mut enough) = (0, rest.len());
        while enough - few > 1 {
            let middle = few.midpoint(enough);
            let tried = found.iter().chain(rest.iter().take(middle)).copied().collect();
            if holds(&tried)? {
                enough = middle;
            } else {
                few = middle;
            }
        }
        let Some((member, before)) = rest.get(..enough).and_then(<[usize]>::split_last) else { break };
        found.insert(*member);
        rest = before;
    }
    Ok(found)
}

/// Returns how many trials halve `count` lines down to one.
pub(crate) fn count_halvings(count: usize) -> usize {
    count.next_power_of_two().trailing_zeros() as usize
}

/// Returns the most trials that the search takes among `count` lines if one line is the culprit, or two are: each by
/// itself, or only together.
pub(crate) fn most_trials(count: usize) -> (usize, usize) {
    let halvings = count_halvings(count);
    // Two trials come first: with no line lifted, and with all. One shows that lifting a line is enough, and one for each
    // culprit whether it does harm by itself. Two repeat the proof.
    (halvings + 6, 2 * halvings + 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs the search for a unit that fails while all lines of one of these sets are in force. Returns the result and
    /// the number of trials.
    fn bisect(count: usize, harmful: &[BTreeSet<usize>]) -> (BisectionResult, usize) {
        let mut trials = Trials::default();
        loop {
            match trials.next_step(count) {
                BisectionStep::End(result) => return (result, trials.len()),
                BisectionStep::Try(lifted) => {
                    let times = trials.0.iter().filter(|(tried, _)| *tried == lifted).count();
                    assert!(times < 2, "{lifted:?} was tried twice");
                    assert!(trials.len() < 10_000);
                    let works = harmful.iter().all(|set| !set.is_disjoint(&lifted));
                    trials.add(lifted, works);
                }
            }
        }
    }

    fn found(result: BisectionResult) -> Vec<Culprit> {
        match result {
            BisectionResult::Found(culprits) => culprits,
            other => panic!("{other:?}"),
        }
    }

    fn alone(line: usize) -> Culprit {
        Culprit { line, partners: BTreeSet::new() }
    }

    #[test]
    fn each_single_culprit_is_found_within_the_promise() {
        for count in 1..70 {
            let mut most = 0;
            for line in 0..count {
                let (result, trials) = bisect(count, &[BTreeSet::from([line])]);
                assert_eq!(found(result), [alone(line)]);
                most = most.max(trials);
            }
            assert!(most <= most_trials(count).0, "{most} for {count}");
        }
        assert_eq!(most_trials(30), (11, 18));
    }

    #[test]
    fn each_pair_is_found_within_the_promise() {
        let count = 30;
        let mut most = 0;
        for (one, other) in (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other))) {
            let (result, trials) = bisect(count, &[BTreeSet::from([one]), BTreeSet::from([other])]);
            assert_eq!(found(result), [alone(one), alone(other)]);
            let (together, more) = bisect(count, &[BTreeSet::from([one, other])]);
            let culprits = found(together);
            let [culprit] = &culprits[..] else { panic!("{culprits:?}") };
            let lines: BTreeSet<usize> = culprit.partners.iter().copied().chain([culprit.line]).collect();
            assert_eq!(lines, BTreeSet::from([one, other]));
            most = most.max(trials).max(more);
        }
        assert!(most <= most_trials(count).1, "{most}");
    }

    #[test]
    fn working_unit_and_other_failure_take_few_trials() {
        assert_eq!(bisect(30, &[]), (BisectionResult::Works, 1));
        assert_eq!(bisect(30, &[BTreeSet::new()]), (BisectionResult::NotHardening, 2));
        assert_eq!(bisect(0, &[BTreeSet::new()]), (BisectionResult::NotHardening, 1));
    }

    #[test]
    fn fewest_lines_that_help_are_known_before_the_end() {
        let mut trials = Trials::default();
        trials.add(BTreeSet::from([0, 1, 2]), true);
        trials.add(BTreeSet::from([0]), false);
        trials.add(BTreeSet::from([0, 1]), true);
        assert_eq!(trials.fewest_that_work(), Some(&BTreeSet::from([0, 1])));
    }

    /// Runs the search for a unit whose trial of this number, from 0, has the wrong outcome; `None` at the limit.
    fn bisect_flaky(count: usize, culprit: usize, wrong: usize) -> Option<BisectionResult> {
        let mut trials = Trials::default();
        loop {
            match trials.next_step(count) {
                BisectionStep::End(result) => return Some(result),
                BisectionStep::Try(_) if trials.len() >= most_trials(count).1 => return None,
                BisectionStep::Try(lifted) => {
                    let works = lifted.contains(&culprit) != (trials.len() == wrong);
                    trials.add(lifted, works);
                }
            }
        }
    }

    #[test]
    fn unit_that_works_now_and_then_gets_no_culprit_that_its_repetition_disproves() {
        for culprit in 0..30 {
            let (_, trials) = bisect(30, &[BTreeSet::from([culprit])]);
            for wrong in [trials - 2, trials - 1] {
                assert_eq!(bisect_flaky(30, culprit, wrong), Some(BisectionResult::Contradictory), "{culprit} {wrong}");
            }
        }
        // A success by chance makes the search end at lines that do not matter.
        for (culprit, wrong) in (0..30).flat_map(|culprit| (2..7).map(move |wrong| (culprit, wrong))) {
            if let Some(BisectionResult::Found(culprits)) = bisect_flaky(30, culprit, wrong) {
                assert!(culprits.iter().any(|found| found.line == culprit), "{culprit} {wrong}: {culprits:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn found_lines_are_a_smallest_set_that_helps(
            count in 1..48_usize,
            harmful in prop::collection::vec(prop::collection::btree_set(0..48_usize, 1..4), 1..5),
        ) {
            let harmful: Vec<BTreeSet<usize>> =
                harmful.into_iter().map(|set| set.into_iter().map(|line| line % count).collect()).collect();
            let works = |lifted: &BTreeSet<usize>| harmful.iter().all(|set| !set.is_disjoint(lifted));
            let (result, trials) = bisect(count, &harmful);
            let culprits = found(result);
            let lifted: BTreeSet<usize> = culprits.iter().map(|culprit| culprit.line).collect();
            prop_assert!(works(&lifted));
            for culprit in &culprits {
                let mut fewer = lifted.clone();
                fewer.remove(&culprit.line);
                prop_assert!(!works(&fewer), "{:?} is not needed", culprit);
                // These lines are harmful together, and none of them can go.
                let together: BTreeSet<usize> = culprit.partners.iter().copied().chain([culprit.line]).collect();
                let kept = |kept: &BTreeSet<usize>| (0..count).filter(|line| !kept.contains(line)).collect();
                prop_assert!(!works(&kept(&together)), "{:?}", culprit);
                for line in &together {
                    let mut fewer = together.clone();
                    fewer.remove(line);
                    prop_assert!(works(&kept(&fewer)), "{:?}", culprit);
                }
            }
            // Each culprit and each partner takes one search and one trial more.
            let members: usize = culprits.iter().map(|culprit| 1 + culprit.partners.len()).sum();
            prop_assert!(trials <= 5 + (members + culprits.len()) + members * count_halvings(count), "{}", trials);
        }
    }
}
