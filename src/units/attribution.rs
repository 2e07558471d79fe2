//! Weighs evidence about the unit of a process into one attribution.
//!
//! A wrong unit is worse than none. If the surest evidence contradicts itself, or says that no unit owns the process,
//! there is no attribution, whatever weaker evidence says.

use super::cgroup;
use super::cgroup::{Placement, Unplaced};
use super::name::{Manager, Unit};
use super::rung::{Confidence, Rung};

/// One piece of evidence about the unit of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// The bytes of `/proc/PID/cgroup`.
    OwnCgroup(Vec<u8>),
    /// The path of the process's cgroup, noted when the process died.
    ExitCgroup(Vec<u8>),
    /// The bytes of the parent's `/proc/PID/cgroup`.
    ParentCgroup(Vec<u8>),
    /// A unit, from evidence other than a cgroup.
    Named(Rung, Unit),
}

/// The unit of a process, and the kind of evidence for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    /// The unit.
    pub unit: Unit,
    /// The surest kind of evidence for the unit.
    pub rung: Rung,
}

impl Attribution {
    /// The confidence in the unit.
    #[must_use]
    pub fn confidence(&self) -> Confidence {
        self.rung.confidence()
    }
}

impl Evidence {
    /// Whether the evidence names a unit or rules out every unit. Collecting can then stop.
    #[must_use]
    pub fn is_conclusive(&self) -> bool {
        matches!(self.claim(), Claim::Unit(_) | Claim::NoUnit)
    }

    /// Whether the evidence claims anything about the unit.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.claim() != Claim::Nothing
    }

    /// The kind of evidence.
    #[must_use]
    pub fn rung(&self) -> Rung {
        match self {
            Self::OwnCgroup(_) => Rung::OwnCgroup,
            Self::ExitCgroup(_) => Rung::ExitCgroup,
            Self::ParentCgroup(_) => Rung::ParentCgroup,
            Self::Named(rung, _) => *rung,
        }
    }

    fn claim(&self) -> Claim {
        match self {
            Self::OwnCgroup(bytes) => claim_of_own_cgroup(cgroup::place(bytes)),
            Self::ExitCgroup(path) => claim_of_own_cgroup(cgroup::place_path(path)),
            // A parent outside of every unit can have a child in a unit.
            Self::ParentCgroup(bytes) => match cgroup::place(bytes) {
                Placement::Unit(unit) => Claim::Unit(unit),
                Placement::None(_) => Claim::Nothing,
            },
            Self::Named(_, unit) => Claim::Unit(unit.clone()),
        }
    }
}

/// Returns what a process's own cgroup claims.
fn claim_of_own_cgroup(placement: Placement) -> Claim {
    match placement {
        Placement::Unit(unit) => Claim::Unit(unit),
        // A user can start a program of a system unit below the user's own manager.
        Placement::None(Unplaced::Manager(manager @ Manager::User(_))) => Claim::UnitOf(manager),
        Placement::None(why) if why.is_certain() => Claim::NoUnit,
        Placement::None(_) => Claim::Nothing,
    }
}

/// What a piece of evidence claims.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    /// This unit owns the process.
    Unit(Unit),
    /// A unit of this manager owns the process, or no unit does.
    UnitOf(Manager),
    /// No unit owns the process.
    NoUnit,
    /// The evidence claims nothing about the unit.
    Nothing,
}

/// Weighs evidence, given in any order, into an attribution.
///
/// The surest evidence decides, if all of it agrees, and the attribution gives the surest rung. A unit that the user
/// named counts only against guesses. For a process below a user manager, evidence for units of other managers does not count.
#[must_use]
pub fn weigh(evidence: &[Evidence]) -> Option<Attribution> {
    let mut claims: Vec<_> = evidence.iter().map(|one| (one.rung(), one.claim())).collect();
    let bounds: Vec<Manager> = claims
        .iter()
        .filter_map(|(_, claim)| if let Claim::UnitOf(manager) = claim { Some(*manager) } else { None })
        .collect();
    claims.retain(|(rung, claim)| match claim {
        Claim::Unit(unit) => *rung == Rung::Assumed || bounds.iter().all(|manager| unit.manager == *manager),
        Claim::NoUnit => true,
        Claim::UnitOf(_) | Claim::Nothing => false,
    });
    let surest = claims.iter().map(|(rung, _)| rank(*rung)).min()?;
    let mut deciding = claims.into_iter().filter(|(rung, _)| rank(*rung) == surest);
    let (first_rung, claim) = deciding.next()?;
    let rung = deciding.try_fold(first_rung, |best, (rung, other)| (other == claim).then_some(best.min(rung)))?;
    match claim {
        Claim::Unit(unit) => Some(Attribution { unit, rung }),
        Claim::NoUnit | Claim::UnitOf(_) | Claim::Nothing => None,
    }
}

/// Whether no weaker evidence can change the attribution: the unit is certain, no unit owns the process, or certain
/// evidence contradicts itself.
#[must_use]
pub(crate) fn is_settled(evidence: &[Evidence]) -> bool {
    evidence.iter().any(|one| one.rung().confidence() == Confidence::Certain && one.is_conclusive())
}

/// Orders evidence: the smallest rank overrules the others.
fn rank(rung: Rung) -> (Confidence, bool) {
    (rung.confidence(), rung == Rung::Assumed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Manager;
    use proptest::prelude::*;

    fn unit(name: &str) -> Unit {
        Unit { manager: Manager::System, name: name.parse().unwrap() }
    }

    fn own(name: &str) -> Evidence {
        Evidence::OwnCgroup(format!("0::/system.slice/{name}\n").into_bytes())
    }

    fn parent(name: &str) -> Evidence {
        Evidence::ParentCgroup(format!("0::/system.slice/{name}\n").into_bytes())
    }

    fn named(rung: Rung, name: &str) -> Evidence {
        Evidence::Named(rung, unit(name))
    }

    fn verdict(evidence: &[Evidence]) -> Option<(String, Rung)> {
        weigh(evidence).map(|found| (found.unit.name.to_string(), found.rung))
    }

    #[expect(clippy::unnecessary_wraps, reason = "compared with the option that weigh() returns")]
    fn expected(name: &str, rung: Rung) -> Option<(String, Rung)> {
        Some((name.to_owned(), rung))
    }

    #[test]
    fn child_of_user_manager_is_not_attributed_to_system_unit() {
        let below = |path: &str| Evidence::OwnCgroup(format!("0::{path}\n").into_bytes());
        let dying = Evidence::ExitCgroup(b"/user.slice/user-1000.slice/user@1000.service".to_vec());
        let scope = below("/user.slice/user-1000.slice/user@1000.service/init.scope");
        let users = Unit { manager: Manager::User(1000), name: "a.service".parse().unwrap() };
        for own in [scope, dying] {
            assert!(own.is_usable() && !own.is_conclusive());
            for rung in Rung::ALL.into_iter().filter(|rung| *rung != Rung::Assumed) {
                let weighed = |unit: Unit| weigh(&[own.clone(), Evidence::Named(rung, unit)]).map(|found| found.unit);
                assert_eq!(weighed(unit("logind.service")), None, "{rung}");
                assert_eq!(weighed(users.clone()), Some(users.clone()), "{rung}");
            }
            assert!(weigh(&[own, named(Rung::Assumed, "logind.service")]).is_some());
        }
        assert!(!below("/init.scope").is_usable(), "services start in the system manager's own scope");
    }

    #[test]
    fn no_evidence_gives_no_attribution() {
        assert_eq!(verdict(&[]), None);
        assert_eq!(verdict(&[Evidence::OwnCgroup(b"0::/\n".to_vec())]), None);
        assert_eq!(verdict(&[Evidence::OwnCgroup(Vec::new())]), None);
    }

    #[test]
    fn single_evidence_decides() {
        assert_eq!(verdict(&[own("a.service")]), expected("a.service", Rung::OwnCgroup));
        assert_eq!(verdict(&[parent("a.service")]), expected("a.service", Rung::ParentCgroup));
        assert_eq!(verdict(&[named(Rung::Executable, "a.service")]), expected("a.service", Rung::Executable));
    }

    #[test]
    fn surer_evidence_overrules_weaker() {
        assert_eq!(verdict(&[parent("a.service"), own("b.service")]), expected("b.service", Rung::OwnCgroup));
        assert_eq!(
            verdict(&[named(Rung::Executable, "a.service"), named(Rung::JournalEntry, "b.service")]),
            expected("b.service", Rung::JournalEntry)
        );
    }

    #[test]
    fn agreeing_evidence_gives_the_surest_rung() {
        assert_eq!(
            verdict(&[named(Rung::ControlProcess, "a.service"), own("a.service"), parent("a.service")]),
            expected("a.service", Rung::OwnCgroup)
        );
    }

    #[test]
    fn contradiction_of_equally_sure_evidence_gives_no_attribution() {
        let torn = [named(Rung::MainProcess, "a.service"), own("b.service"), parent("b.service")];
        assert_eq!(verdict(&torn), None);
        assert_eq!(verdict(&[parent("a.service"), named(Rung::JournalEntry, "b.service")]), None);
    }

    #[test]
    fn same_name_under_another_manager_is_another_unit() {
        let user = Unit { manager: Manager::User(1000), ..unit("a.service") };
        assert_eq!(verdict(&[own("a.service"), Evidence::Named(Rung::MainProcess, user)]), None);
    }

    #[test]
    fn unit_named_by_user_wins_over_guesses_only() {
        assert_eq!(
            verdict(&[own("a.service"), named(Rung::Assumed, "b.service")]),
            expected("a.service", Rung::OwnCgroup)
        );
        assert_eq!(
            verdict(&[named(Rung::JournalEntry, "a.service"), named(Rung::Assumed, "b.service")]),
            expected("a.service", Rung::JournalEntry)
        );
        assert_eq!(
            verdict(&[named(Rung::Executable, "a.service"), named(Rung::Assumed, "b.service")]),
            expected("b.service", Rung::Assumed)
        );
        assert_eq!(verdict(&[named(Rung::Assumed, "a.service"), named(Rung::Assumed, "b.service")]), None);
    }

    #[test]
    fn process_in_login_session_is_attributed_to_no_unit() {
        let session = Evidence::OwnCgroup(b"0::/user.slice/user-0.slice/session-1.scope\n".to_vec());
        assert_eq!(verdict(&[session.clone(), named(Rung::Executable, "nginx.service")]), None);
        assert_eq!(verdict(&[session.clone(), parent("nginx.service")]), None);
        assert_eq!(verdict(&[session.clone(), named(Rung::MainProcess, "nginx.service")]), None);
        assert_eq!(verdict(&[session, named(Rung::Assumed, "nginx.service")]), None);
    }

    #[test]
    fn certain_evidence_settles_the_attribution() {
        let session = Evidence::OwnCgroup(b"0::/user.slice/user-0.slice/session-1.scope\n".to_vec());
        assert!(is_settled(&[own("a.service")]) && is_settled(&[parent("a.service"), session]));
        let early = Evidence::OwnCgroup(b"0::/init.scope\n".to_vec());
        assert!(!is_settled(&[]) && !is_settled(&[early, parent("a.service")]));
    }

    #[test]
    fn exit_cgroup_is_as_sure_as_own_cgroup() {
        let noted = |path: &str| Evidence::ExitCgroup(path.as_bytes().to_vec());
        assert_eq!(
            verdict(&[noted("/system.slice/a.service"), parent("b.service")]),
            expected("a.service", Rung::ExitCgroup)
        );
        assert_eq!(verdict(&[noted("/system.slice/a.service"), own("b.service")]), None);
        assert_eq!(verdict(&[noted("/system.slice/s.slice"), parent("b.service")]), None, "a slice is no unit");
        assert_eq!(verdict(&[noted("/"), parent("b.service")]), expected("b.service", Rung::ParentCgroup));
    }

    #[test]
    fn process_in_init_scope_can_be_a_main_process() {
        let early = Evidence::OwnCgroup(b"0::/init.scope\n".to_vec());
        assert_eq!(verdict(&[early, named(Rung::MainProcess, "a.service")]), expected("a.service", Rung::MainProcess));
    }

    #[test]
    fn parent_outside_units_is_no_evidence() {
        let parent = Evidence::ParentCgroup(b"0::/user.slice/user-0.slice/session-1.scope\n".to_vec());
        assert_eq!(
            verdict(&[parent, named(Rung::JournalEntry, "a.service")]),
            expected("a.service", Rung::JournalEntry)
        );
    }

    fn any_evidence() -> impl Strategy<Value = Evidence> {
        let name = prop_oneof![Just("a.service"), Just("b.service")];
        (0..Rung::ALL.len(), name).prop_map(|(index, name)| match Rung::ALL[index] {
            Rung::OwnCgroup => own(name),
            Rung::ExitCgroup => Evidence::ExitCgroup(format!("/system.slice/{name}").into_bytes()),
            Rung::ParentCgroup => parent(name),
            rung => named(rung, name),
        })
    }

    proptest! {
        #[test]
        fn order_of_evidence_does_not_matter(evidence in prop::collection::vec(any_evidence(), 0..6)) {
            let reversed: Vec<_> = evidence.iter().rev().cloned().collect();
            prop_assert_eq!(weigh(&evidence), weigh(&reversed));
        }

        #[test]
        fn weaker_evidence_never_changes_a_settled_attribution(evidence in prop::collection::vec(any_evidence(), 1..5), more in any_evidence()) {
            prop_assume!(is_settled(&evidence) && more.rung() != Rung::Assumed && more.rung().confidence() != Confidence::Certain);
            let before = weigh(&evidence);
            let mut after = evidence;
            after.push(more);
            prop_assert_eq!(before, weigh(&after));
        }

        #[test]
        fn weaker_evidence_never_changes_the_attribution(evidence in prop::collection::vec(any_evidence(), 1..5), more in any_evidence()) {
            let before = weigh(&evidence);
            let surest = evidence.iter().map(|one| one.rung().confidence()).min();
            prop_assume!(Some(more.rung().confidence()) > surest);
            let mut after = evidence;
            after.push(more);
            prop_assert_eq!(before, weigh(&after));
        }
    }
}
