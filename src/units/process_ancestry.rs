//! Who started whom, and in which unit each was seen, so that an ancestor can tell the unit of a process that is gone
//! and whose parent is gone.
//!
//! A child starts in its parent's cgroup and stays there until some process moves it. Some ancestors move their
//! descendants: `sshd`, a container's runtime, a desktop's shell. So an ancestor's unit counts only
//! - where no move had time to happen: each process in between had its child within milliseconds of its own birth, and
//!   the descendant still has the ancestor's name, so that it executed nothing that takes part in a move
//!   (`systemd-run`, a runtime); or
//! - where a denied process of the same owner vouches for the ancestor: it descends from it, and was in its unit.
//!
//! An ancestor's unit never counts once a descendant was seen in another unit, nor for a process of another login
//! session. An ancestor outside of every unit (in a manager's `init.scope`, in a session) ends the search.

use super::attribution::Rung;
use super::name::{Manager, Unit};
use crate::audit::{IdField, Record};
use std::collections::HashMap;

/// How far apart two clocks can place the same moment, in nanoseconds.
const SLACK_NS: i64 = 20_000_000;
/// How long a process is taken to keep its pid after it was last seen, in nanoseconds: the kernel gives the pid to
/// another process only after all other pids.
const BELIEVED_NS: i64 = 1_000_000_000;
/// A process that has a child so soon after its own birth was not moved before by a service manager, in nanoseconds:
/// a move takes a request and its answer.
const PROMPT_NS: i64 = 5_000_000;
/// How long after its own birth a process is taken to be still where it was born, in nanoseconds.
const YOUNG_NS: i64 = 1_000_000_000;
/// How many generations the search goes back.
const MOST_GENERATIONS: usize = 8;
/// How many births are remembered, how many ancestors, and for how many owners each of them counts.
const MOST_BIRTHS: usize = 16 << 10;
const MOST_ANCESTORS: usize = 1 << 10;
const MOST_OWNERS: usize = 16;

/// The user and login session of a process. Only a login changes the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessOwner {
    /// Its real uid.
    pub uid: u32,
    /// Its audit session, where it has one.
    pub session: Option<u32>,
}

impl ProcessOwner {
    /// The owner in a record of the running kernel; `None` where the record gives names in place of numbers.
    #[must_use]
    pub fn from_record(record: &Record<'_>) -> Option<Self> {
        let IdField::Number(uid) = record.uid else { return None };
        let session = match record.session {
            IdField::Number(session) => Some(session),
            IdField::Unset => None,
            IdField::Name(_) => return None,
        };
        Some(Self { uid, session })
    }
}

/// A login from which a process descends. Services of the system have none; the PAM session `systemd-user` gives a
/// user's manager, and so all of its units, a login of that user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// Whether the process runs as the user who logged in.
    pub own: bool,
}

impl Login {
    /// The login in a record, if there is one.
    #[must_use]
    pub fn from_record(record: &Record<'_>) -> Option<Self> {
        let is_set = record.session != IdField::Unset && record.auid != IdField::Unset;
        is_set.then(|| Self { own: record.auid == record.uid })
    }

    /// Whether a process with this login can belong to a unit of a manager.
    #[must_use]
    pub fn can_belong_to(self, manager: Manager) -> bool {
        self.own && manager != Manager::System
    }
}

/// What `/proc` says about a process at a moment. All times are nanoseconds since boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSnapshot {
    /// When it was looked at.
    pub at: i64,
    /// When it started.
    pub started: i64,
    /// Its parent at that moment, if it has one.
    pub parent: Option<u32>,
    /// The unit that its cgroup names, if the cgroup names one.
    pub unit: Option<Unit>,
    /// Its audit session, where it has one.
    pub session: Option<u32>,
    /// The name of its main thread. A process can set it at will, so it never decides alone.
    pub comm: Vec<u8>,
}

/// The births and ancestors that are remembered, bounded in number.
#[derive(Debug, Default)]
pub struct ProcessAncestry {
    births: RecentByPid<ParentLink>,
    ancestors: RecentByPid<Ancestor>,
}

/// Who started a process, and when.
#[derive(Debug, Clone, Copy)]
struct ParentLink {
    parent: u32,
    at: i64,
    /// Whether `at` is the moment of birth, rather than a later one.
    exact: bool,
}

#[derive(Debug)]
struct Ancestor {
    snapshot: ProcessSnapshot,
    /// The owners of descendants that were seen in its unit.
    vouched_for: Vec<ProcessOwner>,
    /// A descendant was seen in another unit.
    moves_descendants: bool,
}

impl Ancestor {
    fn add_owner(&mut self, owner: ProcessOwner) {
        if self.vouched_for.len() < MOST_OWNERS && !self.vouched_for.contains(&owner) {
            self.vouched_for.push(owner);
        }
    }
}

impl ProcessAncestry {
    /// Records that a process started another.
    pub fn record_birth(&mut self, pid: u32, parent: u32, at: i64) {
        self.births.insert(pid, ParentLink { parent, at, exact: true }, MOST_BIRTHS);
    }

    fn record_late_birth(&mut self, pid: u32, parent: u32, at: i64) {
        self.births.insert(pid, ParentLink { parent, at, exact: false }, MOST_BIRTHS);
    }

    /// Records the parent that a process had when it died, unless its birth is known: that tells more.
    pub fn record_death(&mut self, pid: u32, parent: u32, at: i64) {
        if self.parent_of(pid, at).is_none() {
            self.record_late_birth(pid, parent, at);
        }
    }

    /// Forgets all births, after some were missed: a remembered one may belong to an earlier process of the same pid.
    pub fn forget_births(&mut self) {
        self.births = RecentByPid::default();
    }

    /// Records that a process was in a unit at a moment: its ancestors in that unit then count for processes of the same
    /// owner.
    pub fn vouch(
        &mut self,
        (mut pid, mut at): (u32, i64),
        owner: ProcessOwner,
        unit: &Unit,
        mut look: impl FnMut(u32) -> Option<ProcessSnapshot>,
    ) {
        for _ in 0..MOST_GENERATIONS {
            let Some(link) = self.parent_of(pid, at) else { return };
            match self.find_ancestor(link, &mut look) {
                Some(ancestor) if ancestor.snapshot.unit.as_ref() == Some(unit) => ancestor.add_owner(owner),
                Some(ancestor) => {
                    ancestor.moves_descendants = true;
                    return;
                }
                None => {}
            }
            (pid, at) = (link.parent, link.at);
        }
    }

    /// Returns the unit of the nearest ancestor that was seen, for a process that had a pid and this name at a moment.
    pub fn infer_unit(
        &mut self,
        (mut pid, mut at): (u32, i64),
        owner: ProcessOwner,
        comm: &[u8],
        mut look: impl FnMut(u32) -> Option<ProcessSnapshot>,
    ) -> Option<(Rung, Unit)> {
        // `prompt` holds while each birth on the way up was followed at once by the one below it.
        let (mut below, mut prompt): (Option<ParentLink>, _) = (None, true);
        for _ in 0..MOST_GENERATIONS {
            let link = self.parent_of(pid, at)?;
            prompt &= link.exact
                && match below {
                    None => at.saturating_sub(link.at) <= YOUNG_NS,
                    Some(child) => child.at.saturating_sub(link.at) <= PROMPT_NS,
                };
            if let Some(ancestor) = self.find_ancestor(link, &mut look) {
                let counts = !ancestor.moves_descendants && ancestor.snapshot.session == owner.session;
                let (rung, suffices) = match below {
                    // A parent counts as at an exit event.
                    None => (Rung::ParentCgroup, true),
                    Some(_) => {
                        let unmoved = prompt && ancestor.snapshot.comm == comm;
                        (Rung::Ancestor, unmoved || ancestor.vouched_for.contains(&owner))
                    }
                };
                return ancestor.snapshot.unit.clone().filter(|_| counts && suffices).map(|unit| (rung, unit));
            }
            (pid, at) = (link.parent, link.at);
            below = Some(link);
        }
        None
    }

    /// Returns who started the process that had a pid at a moment.
    fn parent_of(&self, pid: u32, at: i64) -> Option<ParentLink> {
        self.births.get(pid).copied().filter(|link| link.at <= at.saturating_add(SLACK_NS))
    }

    /// Returns the parent as it was seen about the time of the birth or, if it is still the same process, as it is now.
    fn find_ancestor(
        &mut self,
        link: ParentLink,
        look: &mut impl FnMut(u32) -> Option<ProcessSnapshot>,
    ) -> Option<&mut Ancestor> {
        let (pid, then) = (link.parent, link.at);
        let was_there = |seen: &ProcessSnapshot| seen.started <= then.saturating_add(SLACK_NS);
        let known = self.ancestors.get(pid).map(|ancestor| &ancestor.snapshot);
        if !known.is_some_and(|seen| was_there(seen) && seen.at.saturating_add(BELIEVED_NS) >= then) {
            let seen = look(pid).filter(was_there)?;
            if let Some(parent) = seen.parent
                && self.parent_of(pid, then).is_none()
            {
                self.record_late_birth(pid, parent, seen.started);
            }
            self.remember(pid, seen);
        }
        self.ancestors.get_mut(pid)
    }

    fn remember(&mut self, pid: u32, seen: ProcessSnapshot) {
        match self.ancestors.get_mut(pid) {
            Some(Ancestor { snapshot, .. }) if snapshot.started == seen.started && snapshot.unit == seen.unit => {
                *snapshot = seen;
            }
            _ => {
                let ancestor = Ancestor { snapshot: seen, vouched_for: Vec::new(), moves_descendants: false };
                self.ancestors.insert(pid, ancestor, MOST_ANCESTORS);
            }
        }
    }
}

/// A bounded table by pid. It forgets half of its entries at once, so that forgetting costs nothing per entry.
#[derive(Debug)]
struct RecentByPid<T> {
    new: HashMap<u32, T>,
    old: HashMap<u32, T>,
}

impl<T> Default for RecentByPid<T> {
    fn default() -> Self {
        Self { new: HashMap::new(), old: HashMap::new() }
    }
}

impl<T> RecentByPid<T> {
    fn get(&self, pid: u32) -> Option<&T> {
        self.new.get(&pid).or_else(|| self.old.get(&pid))
    }

    /// Returns an entry and counts it as new.
    fn get_mut(&mut self, pid: u32) -> Option<&mut T> {
        if let Some(known) = self.old.remove(&pid) {
            self.new.entry(pid).or_insert(known);
        }
        self.new.get_mut(&pid)
    }

    fn insert(&mut self, pid: u32, value: T, most: usize) {
        self.old.remove(&pid);
        if self.new.len() >= most / 2 {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(pid, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Manager;

    const MS: i64 = 1_000_000;
    const SECOND: i64 = 1_000 * MS;
    const ROOT: ProcessOwner = ProcessOwner { uid: 0, session: None };

    fn unit(name: &str) -> Unit {
        Unit { manager: Manager::System, name: name.parse().unwrap() }
    }

    /// PID 1, and PID 10, which PID 1 started long ago in a.service.
    fn look(pid: u32) -> Option<ProcessSnapshot> {
        let snapshot = |parent, unit| ProcessSnapshot {
            at: 100 * SECOND,
            started: SECOND,
            parent,
            unit,
            session: None,
            comm: b"a".into(),
        };
        match pid {
            1 => Some(snapshot(None, None)),
            10 => Some(snapshot(Some(1), Some(unit("a.service")))),
            _ => None,
        }
    }

    /// PID 10 started `parent`, which started `child` 10 ms later. Both are gone.
    fn add_family(ancestry: &mut ProcessAncestry, parent: u32, child: u32, at: i64) {
        ancestry.record_birth(parent, 10, at - 10 * MS);
        ancestry.record_birth(child, parent, at);
    }

    /// An ancestry in which a process of root vouched for PID 10.
    fn vouched() -> ProcessAncestry {
        let mut ancestry = ProcessAncestry::default();
        add_family(&mut ancestry, 20, 21, 100 * SECOND);
        ancestry.vouch((21, 100 * SECOND), ROOT, &unit("a.service"), look);
        ancestry
    }

    #[test]
    fn vouched_ancestor_gives_its_unit_to_processes_of_the_same_owner() {
        let mut ancestry = vouched();
        add_family(&mut ancestry, 30, 31, 101 * SECOND);
        let found = |ancestry: &mut ProcessAncestry, owner| ancestry.infer_unit((31, 101 * SECOND), owner, b"a", look);
        assert_eq!(found(&mut ancestry, ROOT), Some((Rung::Ancestor, unit("a.service"))));
        assert_eq!(found(&mut ancestry, ProcessOwner { uid: 7, ..ROOT }), None, "another user");
        assert_eq!(found(&mut ancestry, ProcessOwner { session: Some(3), ..ROOT }), None, "a login session");
        assert_eq!(ancestry.infer_unit((99, 101 * SECOND), ROOT, b"a", look), None, "its parent is unknown");
    }

    #[test]
    fn ancestor_without_vouching_process_gives_no_unit() {
        let mut ancestry = ProcessAncestry::default();
        add_family(&mut ancestry, 30, 31, 101 * SECOND);
        assert_eq!(ancestry.infer_unit((31, 101 * SECOND), ROOT, b"a", look), None);
        // A parent needs no vouching process.
        ancestry.record_birth(32, 10, 101 * SECOND);
        assert_eq!(
            ancestry.infer_unit((32, 101 * SECOND), ROOT, b"a", look),
            Some((Rung::ParentCgroup, unit("a.service")))
        );
        let logged_in = ProcessOwner { session: Some(3), ..ROOT };
        assert_eq!(ancestry.infer_unit((32, 101 * SECOND), logged_in, b"a", look), None, "a login session");
    }

    #[test]
    fn descendant_that_cannot_have_been_moved_needs_no_vouching() {
        let mut ancestry = ProcessAncestry::default();
        let at = 101 * SECOND;
        ancestry.record_birth(30, 10, at - PROMPT_NS);
        ancestry.record_birth(31, 30, at);
        let found = Some((Rung::Ancestor, unit("a.service")));
        assert_eq!(ancestry.infer_unit((31, at), ROOT, b"b", look), None, "it executed something, or changed its name");
        assert_eq!(ancestry.infer_unit((31, at), ROOT, b"a", look), found);
        assert_eq!(ancestry.infer_unit((31, at + YOUNG_NS), ROOT, b"a", look), found);
        assert_eq!(
            ancestry.infer_unit((31, at + YOUNG_NS + 1), ROOT, b"a", look),
            None,
            "it may have been moved since"
        );
        assert_eq!(
            ancestry.infer_unit((31, at), ProcessOwner { session: Some(3), ..ROOT }, b"a", look),
            None,
            "a login moves the process"
        );
        ancestry.record_birth(32, 31, at + PROMPT_NS);
        assert_eq!(ancestry.infer_unit((32, at + PROMPT_NS), ROOT, b"a", look), found, "one generation more");
        ancestry.record_birth(33, 31, at + PROMPT_NS + 1);
        assert_eq!(ancestry.infer_unit((33, at + PROMPT_NS + 1), ROOT, b"a", look), None, "a nanosecond too late");
        ancestry.record_death(41, 31, at);
        assert_eq!(ancestry.infer_unit((41, at), ROOT, b"a", look), None, "the exact time of its birth is unknown");
    }

    #[test]
    fn ancestor_that_moves_its_descendants_gives_no_unit() {
        let mut ancestry = vouched();
        add_family(&mut ancestry, 30, 31, 101 * SECOND);
        ancestry.vouch((31, 101 * SECOND), ROOT, &unit("run-r1.scope"), look);
        add_family(&mut ancestry, 40, 41, 102 * SECOND);
        assert_eq!(ancestry.infer_unit((41, 102 * SECOND), ROOT, b"a", look), None);
        ancestry.record_birth(42, 10, 102 * SECOND);
        assert_eq!(ancestry.infer_unit((42, 102 * SECOND), ROOT, b"a", look), None, "not even for its child");
    }

    #[test]
    fn child_of_a_manager_gets_no_unit() {
        let mut ancestry = ProcessAncestry::default();
        ancestry.record_birth(30, 1, 101 * SECOND);
        ancestry.record_birth(31, 30, 101 * SECOND);
        ancestry.vouch((31, 101 * SECOND), ROOT, &unit("a.service"), look);
        ancestry.record_birth(40, 1, 102 * SECOND);
        ancestry.record_birth(41, 40, 102 * SECOND);
        assert_eq!(ancestry.infer_unit((41, 102 * SECOND), ROOT, b"a", look), None);
        assert_eq!(ancestry.infer_unit((40, 102 * SECOND), ROOT, b"a", look), None);
    }

    #[test]
    fn dead_ancestor_counts_for_one_second() {
        let mut ancestry = vouched();
        let gone = |_| None;
        add_family(&mut ancestry, 30, 31, 100 * SECOND + 900 * MS);
        assert_eq!(
            ancestry.infer_unit((31, 101 * SECOND), ROOT, b"a", gone),
            Some((Rung::Ancestor, unit("a.service")))
        );
        add_family(&mut ancestry, 40, 41, 102 * SECOND);
        assert_eq!(
            ancestry.infer_unit((41, 102 * SECOND), ROOT, b"a", gone),
            None,
            "another process may have the pid by then"
        );
    }

    #[test]
    fn reused_pid_is_another_process() {
        let mut ancestry = vouched();
        let later = |pid| look(pid).map(|seen| ProcessSnapshot { started: 200 * SECOND, at: 200 * SECOND, ..seen });
        add_family(&mut ancestry, 30, 31, 150 * SECOND);
        assert_eq!(
            ancestry.infer_unit((31, 150 * SECOND), ROOT, b"a", later),
            None,
            "this parent started after the birth"
        );
        add_family(&mut ancestry, 30, 31, 160 * SECOND);
        assert_eq!(
            ancestry.infer_unit((31, 150 * SECOND), ROOT, b"a", look),
            None,
            "the birth is later than the process"
        );
        add_family(&mut ancestry, 50, 51, 201 * SECOND);
        assert_eq!(
            ancestry.infer_unit((51, 201 * SECOND), ROOT, b"a", later),
            None,
            "the earlier process was vouched for, not this one"
        );
        ancestry.forget_births();
        assert_eq!(ancestry.infer_unit((31, 160 * SECOND), ROOT, b"a", look), None);
    }

    #[test]
    fn death_gives_the_parent_only_if_birth_is_unknown() {
        let mut ancestry = vouched();
        ancestry.record_death(31, 10, 101 * SECOND);
        assert!(ancestry.infer_unit((31, 101 * SECOND), ROOT, b"a", look).is_some());
        add_family(&mut ancestry, 40, 41, 101 * SECOND);
        ancestry.record_death(41, 1, 101 * SECOND + MS);
        assert!(
            ancestry.infer_unit((41, 101 * SECOND), ROOT, b"a", look).is_some(),
            "at its death an orphan has another parent than at its birth"
        );
    }

    #[test]
    fn grandparent_is_read_from_the_living_parent() {
        let mut ancestry = ProcessAncestry::default();
        let look = |pid| match pid {
            30 => Some(ProcessSnapshot { started: 50 * SECOND, parent: Some(10), ..look(10)? }),
            _ => look(pid),
        };
        ancestry.record_death(31, 30, 101 * SECOND);
        ancestry.vouch((31, 101 * SECOND), ROOT, &unit("a.service"), look);
        assert_eq!(ancestry.ancestors.get(10).map(|ancestor| ancestor.vouched_for.clone()), Some(vec![ROOT]));
    }

    #[test]
    fn circle_of_births_ends_the_search() {
        let mut ancestry = ProcessAncestry::default();
        ancestry.record_birth(30, 31, SECOND);
        ancestry.record_birth(31, 30, SECOND);
        assert_eq!(ancestry.infer_unit((30, SECOND), ROOT, b"a", |_| None), None);
        ancestry.vouch((30, SECOND), ROOT, &unit("a.service"), |_| None);
    }

    #[test]
    fn births_ancestors_and_owners_are_bounded() {
        let mut ancestry = ProcessAncestry::default();
        let own = |pid| look(10).map(|seen| ProcessSnapshot { parent: Some(pid + 1), ..seen });
        for pid in 100..40_000 {
            ancestry.record_birth(pid, pid + 1, 100 * SECOND);
            ancestry.vouch((pid, 100 * SECOND), ProcessOwner { uid: pid, session: None }, &unit("a.service"), own);
            ancestry.vouch((100, 100 * SECOND), ProcessOwner { uid: pid, session: None }, &unit("a.service"), own);
        }
        assert!(ancestry.births.new.len() + ancestry.births.old.len() <= MOST_BIRTHS);
        assert!(ancestry.ancestors.new.len() + ancestry.ancestors.old.len() <= MOST_ANCESTORS);
        assert!(ancestry.ancestors.new.values().all(|ancestor| ancestor.vouched_for.len() <= MOST_OWNERS));
    }
}
