//! Predicts which calls a unit will be denied next, and chooses the calls to open early.
//!
//! The model is a noisy-or network: profiles are independent causes, and a program makes a call if any of its profiles
//! makes it. A denied call raises the likelihood of the profiles that explain it, and these raise that of their other
//! calls. The estimate takes one call after another as evidence and treats the profiles as independent throughout. That
//! costs one pass over the table per call, and was as good as exact inference on the recorded programs.

use super::call_profiles::{CallProfile, PROFILES, Prevalence};
use std::collections::BTreeSet;

/// The part of programs that make a call outside of all profiles.
const UNEXPLAINED: f64 = 0.01;

/// The part of programs that use the Internet where their unit allows it.
const INTERNET: f64 = 0.95;

/// The part of programs not running as root that do a task that requires root.
const NOT_ROOT: f64 = 0.02;

/// A call less likely than this is never opened early.
const LEAST: f64 = 0.12;

/// A call at least this likely is always opened early, however many calls were opened in vain before.
const PROBABLE: f64 = 0.5;

/// How many calls may be opened in vain, as a part of the calls that the program probably needs. It is below one
/// because the estimate errs: at first, a service of few calls looks like any other.
const IN_VAIN: f64 = 0.5;

/// A number of denied calls, the part that each further call adds to [`IN_VAIN`], and the maximum: the estimate gets
/// more certain.
const SURER: (usize, f64, f64) = (3, 0.05, 0.75);

/// Facts about a unit's program.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProgramEvidence<'a> {
    /// The calls that it made, by its records.
    pub(crate) made: BTreeSet<&'a str>,
    /// Whether it runs as root; `None` if no record holds a uid.
    pub(crate) root: Option<bool>,
    /// Whether the unit allows Internet sockets by name.
    pub(crate) internet: bool,
}

/// A call to open early.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PredictedCall {
    /// The call.
    pub(crate) call: &'static str,
    /// The likelihood that the program makes it, between 0 and 1.
    pub(crate) likelihood: f64,
    /// The reason of the profile that makes it most likely.
    pub(crate) reason: &'static str,
}

/// The calls that decide how many more may be opened early.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpeningScope<'a> {
    /// How many calls were denied, and so needed.
    pub(crate) needed: usize,
    /// Calls that an earlier remedy opened, and that no record has shown.
    pub(crate) opened_early: BTreeSet<&'a str>,
}

/// How likely each profile is for a program.
pub(crate) struct ProfileEstimate {
    profiles: Vec<(&'static CallProfile, f64)>,
}

impl ProfileEstimate {
    /// Estimates the profiles from the evidence.
    pub(crate) fn new(evidence: &ProgramEvidence<'_>) -> Self {
        let mut estimate =
            Self { profiles: PROFILES.iter().map(|profile| (profile, prior(profile, evidence))).collect() };
        for call in &evidence.made {
            estimate.add_call(call);
        }
        estimate
    }

    /// Raises the profiles that explain a call.
    fn add_call(&mut self, call: &str) {
        let unmade = self.unmade(call);
        for (profile, likelihood) in &mut self.profiles {
            let share = share(profile, call);
            let by_others = unmade / (1.0 - *likelihood * share);
            *likelihood *= (1.0 - (1.0 - share) * by_others) / (1.0 - unmade);
        }
    }

    /// Returns the likelihood that the program does not make a call.
    fn unmade(&self, call: &str) -> f64 {
        self.profiles
            .iter()
            .fold(1.0 - UNEXPLAINED, |unmade, (profile, likelihood)| unmade * (1.0 - likelihood * share(profile, call)))
    }

    /// Returns the likelihood that the program makes a call.
    pub(crate) fn likelihood(&self, call: &str) -> f64 {
        1.0 - self.unmade(call)
    }

    /// Returns the reason of the profile that makes a call most likely.
    fn reason(&self, call: &str) -> Option<&'static str> {
        let weight = |(profile, likelihood): &(&CallProfile, f64)| likelihood * share(profile, call);
        let most = self.profiles.iter().max_by(|one, other| weight(one).total_cmp(&weight(other)));
        most.filter(|most| weight(most) > 0.0).map(|(profile, _)| profile.reason)
    }

    /// Returns the calls to open early, the most likely first. It adds calls while the number expected in vain stays
    /// within a part of the calls that the program needs, and every call that is probable. `can_open` says whether a
    /// call may be opened early, and `is_denied` whether the call does not pass now.
    pub(crate) fn choose(
        &self,
        scope: &OpeningScope<'_>,
        is_denied: impl Fn(&str) -> bool,
        can_open: impl Fn(&str) -> bool,
    ) -> Vec<PredictedCall> {
        let still: Vec<&'static str> = profiled_calls().filter(|call| is_denied(call)).collect();
        let sum = |calls: &mut dyn Iterator<Item = &str>| calls.map(|call| self.likelihood(call)).sum::<f64>();
        let early = sum(&mut scope.opened_early.iter().copied());
        let needed = count(scope.needed) + early + sum(&mut still.iter().copied());
        let mut in_vain = count(scope.opened_early.len()) - early;
        let allowance = needed * part_in_vain(scope.needed);

        let mut predicted: Vec<PredictedCall> = still
            .into_iter()
            .filter_map(|call| {
                Some(PredictedCall { call, likelihood: self.likelihood(call), reason: self.reason(call)? })
            })
            .filter(|predicted| predicted.likelihood >= LEAST && can_open(predicted.call))
            .collect();
        predicted
            .sort_by(|one, other| other.likelihood.total_cmp(&one.likelihood).then_with(|| one.call.cmp(other.call)));
        predicted
            .into_iter()
            .take_while(|predicted| {
                in_vain += 1.0 - predicted.likelihood;
                in_vain <= allowance || predicted.likelihood >= PROBABLE
            })
            .collect()
    }
}

/// Returns every call of any profile, once.
pub(crate) fn profiled_calls() -> impl Iterator<Item = &'static str> {
    let calls = PROFILES.iter().flat_map(|profile| profile.calls).map(|(call, _)| *call);
    calls.collect::<BTreeSet<_>>().into_iter()
}

fn prior(profile: &CallProfile, evidence: &ProgramEvidence<'_>) -> f64 {
    match (profile.prevalence, evidence.root) {
        (Prevalence::All, _) => 1.0,
        (Prevalence::Internet(_), _) if evidence.internet => INTERNET,
        (Prevalence::Root(_), Some(false)) => NOT_ROOT,
        (Prevalence::Root(part), None) => part.midpoint(NOT_ROOT),
        (Prevalence::Part(part) | Prevalence::Internet(part) | Prevalence::Root(part), _) => part,
    }
}

fn share(profile: &CallProfile, call: &str) -> f64 {
    profile.calls.iter().find(|(own, _)| *own == call).map_or(0.0, |(_, share)| share.part())
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

    fn made<'a>(calls: &[&'a str]) -> ProgramEvidence<'a> {
        ProgramEvidence { made: calls.iter().copied().collect(), root: None, internet: false }
    }

    #[test]
    fn call_raises_likelihood_of_calls_of_its_profile() {
        let likely = |calls: &[&str], call: &str| ProfileEstimate::new(&made(calls)).likelihood(call);
        assert!(likely(&["timer_create"], "timer_settime") > 0.7);
        assert!(likely(&[], "timer_settime") < LEAST);
        assert!(likely(&["fsync"], "fdatasync") > likely(&[], "fdatasync"));
        assert!(likely(&["listen"], "accept4") > likely(&[], "accept4"));
        assert!(likely(&["shmget"], "reboot") < 0.02);
    }

    #[test]
    fn program_not_running_as_root_is_not_predicted_to_change_user() {
        let likely =
            |root| ProfileEstimate::new(&ProgramEvidence { root: Some(root), ..made(&["ioctl"]) }).likelihood("setgid");
        assert!(likely(true) > 0.4 && likely(false) < LEAST);
    }

    #[test]
    fn calls_opened_in_vain_are_limited_by_needed_calls() {
        let estimate = ProfileEstimate::new(&made(&["socket"]));
        let few = estimate.choose(
            &OpeningScope { needed: 1, ..OpeningScope::default() },
            |call| call.starts_with("timer"),
            |_| true,
        );
        assert!(few.is_empty(), "{few:?}");
        let many =
            estimate.choose(&OpeningScope { needed: 1, ..OpeningScope::default() }, |call| call != "socket", |_| true);
        assert!(many.len() > 10 && many.is_sorted_by(|one, other| one.likelihood >= other.likelihood));
        let before: BTreeSet<&str> = many.iter().map(|predicted| predicted.call).collect();
        let again = OpeningScope { needed: 1, opened_early: before.clone() };
        let more = estimate.choose(&again, |call| call != "socket" && !before.contains(call), |_| true);
        assert!(more.len() <= 1, "no more may be opened in vain: {more:?}");
    }

    #[test]
    fn call_that_passes_or_may_not_be_opened_is_not_chosen() {
        let estimate = ProfileEstimate::new(&made(&["listen"]));
        let scope = OpeningScope { needed: 1, ..OpeningScope::default() };
        let chosen = estimate.choose(&scope, |call| call != "bind", |call| call != "uname");
        let calls: Vec<&str> = chosen.iter().map(|predicted| predicted.call).collect();
        assert!(!calls.contains(&"bind") && !calls.contains(&"uname") && calls.contains(&"accept4"), "{calls:?}");
    }

    proptest! {
        #[test]
        fn likelihood_stays_between_zero_and_one(calls in prop::collection::vec(prop::sample::select(&["socket", "listen", "setuid",
            "setgroups", "fsync", "ioctl", "keyctl", "shmat", "reboot", "timer_create", "mlock", "x"][..]), 0..12)) {
            let estimate = ProfileEstimate::new(&made(&calls));
            for (call, _) in PROFILES.iter().flat_map(|profile| profile.calls) {
                prop_assert!((0.0..=1.0).contains(&estimate.likelihood(call)), "{} {}", call, estimate.likelihood(call));
            }
        }
    }
}
