//! Which further calls a program will soon be denied, and which of them to open ahead.
//!
//! The habits are independent causes, and a call is made if any of the habits it belongs to makes it: a
//! noisy-or network. A denied call raises the habits that explain it, and these the calls they share.
//! Evidence is taken one call after another with the habits kept independent, which costs a pass over
//! the table and was as good as exact inference on the recorded programs.

use super::call_profiles::{Common, HABITS, Habit};
use std::collections::{BTreeMap, BTreeSet};

/// How many programs make a call for no reason listed.
const UNEXPLAINED: f64 = 0.01;

/// How many programs that are allowed the Internet use it.
const INTERNET: f64 = 0.95;

/// How many programs that are not root do what only root can.
const NOT_ROOT: f64 = 0.02;

/// A call less likely than this is never opened ahead.
const LEAST: f64 = 0.12;

/// A call as likely as this is opened whatever was opened in vain before: it rather pays than costs.
const PROBABLE: f64 = 0.5;

/// Of the calls a program is thought to need beyond its filter, this part may be opened in vain. Below
/// one, since the estimate errs: a service of few calls looks like any other at first.
const IN_VAIN: f64 = 0.5;

/// And this part more for each denied call beyond the first few, as the estimate grows surer.
const SURER: (usize, f64, f64) = (3, 0.05, 0.75);

/// A sibling may be the call of the next upgrade, however unlikely it is today.
const SIBLING: f64 = 0.25;

/// What is known of a unit's program.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence<'a> {
    /// Every call a record shows that it makes.
    pub(crate) seen: BTreeSet<&'a str>,
    /// Whether it runs as root, where the records tell.
    pub(crate) root: Option<bool>,
    /// The unit allows it Internet sockets by name.
    pub(crate) internet: bool,
}

/// A call to open ahead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Foreseen {
    /// The call.
    pub(crate) call: &'static str,
    /// How likely the program makes it.
    pub(crate) likely: f64,
    /// The habit or the kinship that speaks for it most.
    pub(crate) reason: &'static str,
}

/// What may be opened, and what has been.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope<'a> {
    /// Denied calls that were found needed.
    pub(crate) needed: usize,
    /// Calls opened ahead before, that no record has shown needed.
    pub(crate) ahead: BTreeSet<&'a str>,
    /// Siblings of the denied calls, with the reason.
    pub(crate) siblings: BTreeMap<&'static str, &'static str>,
}

/// How likely a program has each habit.
pub(crate) struct Outlook {
    habits: Vec<(&'static Habit, f64)>,
}

impl Outlook {
    /// What the evidence comes to.
    pub(crate) fn new(evidence: &Evidence<'_>) -> Self {
        let mut outlook = Self { habits: HABITS.iter().map(|habit| (habit, prior(habit, evidence))).collect() };
        for call in &evidence.seen {
            outlook.learn(call);
        }
        outlook
    }

    /// Raises the habits that explain a call.
    fn learn(&mut self, call: &str) {
        let unmade = self.unmade(call);
        for (habit, likely) in &mut self.habits {
            let share = share(habit, call);
            let by_others = unmade / (1.0 - *likely * share);
            *likely *= (1.0 - (1.0 - share) * by_others) / (1.0 - unmade);
        }
    }

    /// How likely a call is not made.
    fn unmade(&self, call: &str) -> f64 {
        self.habits
            .iter()
            .fold(1.0 - UNEXPLAINED, |unmade, (habit, likely)| unmade * (1.0 - likely * share(habit, call)))
    }

    /// How likely a call is made.
    pub(crate) fn likely(&self, call: &str) -> f64 {
        1.0 - self.unmade(call)
    }

    /// The habit that speaks most for a call.
    fn reason(&self, call: &str) -> Option<&'static str> {
        let speaks = |(habit, likely): &(&Habit, f64)| likely * share(habit, call);
        let most = self.habits.iter().max_by(|one, other| speaks(one).total_cmp(&speaks(other)));
        most.filter(|most| speaks(most) > 0.0).map(|(habit, _)| habit.reason)
    }

    /// The calls to open ahead, likeliest first: as many as can be expected to be in vain no more often
    /// than the program needs calls at all. `eligible` says whether a call may be opened so; `denied`,
    /// whether it does not pass now.
    pub(crate) fn choose(
        &self,
        scope: &Scope<'_>,
        denied: impl Fn(&str) -> bool,
        eligible: impl Fn(&str) -> bool,
    ) -> Vec<Foreseen> {
        let still: Vec<&'static str> = foretold().filter(|call| denied(call)).collect();
        let sum = |calls: &mut dyn Iterator<Item = &str>| calls.map(|call| self.likely(call)).sum::<f64>();
        let ahead = sum(&mut scope.ahead.iter().copied());
        let needed = count(scope.needed) + ahead + sum(&mut still.iter().copied());
        let mut in_vain = count(scope.ahead.len()) - ahead;
        let allowance = needed * part_in_vain(scope.needed);

        let mut foreseen: Vec<Foreseen> = still
            .into_iter()
            .filter(|call| !scope.siblings.contains_key(call))
            .filter_map(|call| Some(Foreseen { call, likely: self.likely(call), reason: self.reason(call)? }))
            .chain(scope.siblings.iter().filter(|(call, _)| denied(call)).map(|(call, reason)| Foreseen {
                call,
                likely: self.likely(call).max(SIBLING),
                reason,
            }))
            .filter(|foreseen| foreseen.likely >= LEAST && eligible(foreseen.call))
            .collect();
        foreseen.sort_by(|one, other| other.likely.total_cmp(&one.likely).then_with(|| one.call.cmp(other.call)));
        foreseen
            .into_iter()
            .take_while(|foreseen| {
                in_vain += 1.0 - foreseen.likely;
                in_vain <= allowance || foreseen.likely >= PROBABLE
            })
            .collect()
    }
}

/// Every call of any habit, once.
pub(crate) fn foretold() -> impl Iterator<Item = &'static str> {
    let calls = HABITS.iter().flat_map(|habit| habit.calls).map(|(call, _)| *call);
    calls.collect::<BTreeSet<_>>().into_iter()
}

fn prior(habit: &Habit, evidence: &Evidence<'_>) -> f64 {
    match (habit.common, evidence.root) {
        (Common::All, _) => 1.0,
        (Common::Internet(_), _) if evidence.internet => INTERNET,
        (Common::Root(_), Some(false)) => NOT_ROOT,
        (Common::Root(part), None) => part.midpoint(NOT_ROOT),
        (Common::Part(part) | Common::Internet(part) | Common::Root(part), _) => part,
    }
}

fn share(habit: &Habit, call: &str) -> f64 {
    habit.calls.iter().find(|(own, _)| *own == call).map_or(0.0, |(_, share)| share.part())
}

fn part_in_vain(needed: usize) -> f64 {
    let (first, more, most) = SURER;
    (IN_VAIN + more * count(needed.saturating_sub(first))).min(most)
}

fn count(calls: usize) -> f64 {
    f64::from(u16::try_from(calls).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen<'a>(calls: &[&'a str]) -> Evidence<'a> {
        Evidence { seen: calls.iter().copied().collect(), root: None, internet: false }
    }

    #[test]
    fn a_call_foretells_those_of_its_habit() {
        let likely = |calls: &[&str], call: &str| Outlook::new(&seen(calls)).likely(call);
        assert!(likely(&["timer_create"], "timer_settime") > 0.7);
        assert!(likely(&[], "timer_settime") < LEAST);
        assert!(likely(&["fsync"], "fdatasync") > likely(&[], "fdatasync"));
        assert!(likely(&["listen"], "accept4") > likely(&[], "accept4"));
        assert!(likely(&["shmget"], "reboot") < 0.02);
    }

    #[test]
    fn who_is_not_root_is_not_thought_to_become_another() {
        let likely = |root| Outlook::new(&Evidence { root: Some(root), ..seen(&["ioctl"]) }).likely("setgid");
        assert!(likely(true) > 0.4 && likely(false) < LEAST);
    }

    #[test]
    fn what_is_opened_in_vain_is_paid_for_by_what_is_needed() {
        let outlook = Outlook::new(&seen(&["socket"]));
        let few = outlook.choose(&Scope { needed: 1, ..Scope::default() }, |call| call.starts_with("timer"), |_| true);
        assert!(few.is_empty(), "{few:?}");
        let many = outlook.choose(&Scope { needed: 1, ..Scope::default() }, |call| call != "socket", |_| true);
        assert!(many.len() > 10 && many.is_sorted_by(|one, other| one.likely >= other.likely));
        let before: BTreeSet<&str> = many.iter().map(|foreseen| foreseen.call).collect();
        let again = Scope { needed: 1, ahead: before.clone(), ..Scope::default() };
        let more = outlook.choose(&again, |call| call != "socket" && !before.contains(call), |_| true);
        assert!(more.len() <= 1, "the allowance is spent: {more:?}");
    }

    #[test]
    fn what_is_not_eligible_or_not_denied_is_left() {
        let outlook = Outlook::new(&seen(&["listen"]));
        let scope =
            Scope { needed: 1, siblings: BTreeMap::from([("accept", "x"), ("pause", "y")]), ..Scope::default() };
        let chosen = outlook.choose(&scope, |call| call != "bind", |call| call != "uname");
        let calls: Vec<&str> = chosen.iter().map(|foreseen| foreseen.call).collect();
        assert!(!calls.contains(&"bind") && !calls.contains(&"uname") && calls.contains(&"accept"), "{calls:?}");
        assert_eq!(chosen.iter().find(|foreseen| foreseen.call == "accept").map(|foreseen| foreseen.reason), Some("x"));
    }

    proptest! {
        #[test]
        fn likelihoods_stay_likelihoods(calls in prop::collection::vec(prop::sample::select(&["socket", "listen", "setuid",
            "setgroups", "fsync", "ioctl", "keyctl", "shmat", "reboot", "timer_create", "mlock", "x"][..]), 0..12)) {
            let outlook = Outlook::new(&seen(&calls));
            for (call, _) in HABITS.iter().flat_map(|habit| habit.calls) {
                prop_assert!((0.0..=1.0).contains(&outlook.likely(call)), "{} {}", call, outlook.likely(call));
            }
        }
    }
}
