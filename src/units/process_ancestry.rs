//! Who started whom, and where they were seen: so that a process that is gone, and whose parent is gone too, is told of by
//! an ancestor that lives on, or did a moment ago.
//!
//! A child is born into its parent's cgroup and stays there until somebody moves it, and some ancestors do just that, or
//! have it done: `sshd`, a container's runtime, a desktop's shell. So an ancestor's unit counts only
//! - where there was no time for that: each of those between had its child within milliseconds of its own birth, and they
//!   have the ancestor's name still, so that nobody executed what takes part in a move (`systemd-run`, a runtime); or
//! - where a witness was seen in it: another of its descendants, of the same user, that was denied something as well.
//!
//! It never counts where a descendant was seen elsewhere, nor for somebody of another login session. What is no unit
//! (a manager's `init.scope`, a session) speaks for nobody, and nobody above it does.

use super::attribution::Rung;
use super::name::{Manager, Unit};
use crate::audit::{IdField, Record};
use std::collections::HashMap;

/// How far apart two clocks can place the same moment, in nanoseconds.
const SLACK_NS: i64 = 20_000_000;
/// How long a process is believed to have its pid after it was last seen, in nanoseconds: no other can have it before all
/// other pids are used up.
const BELIEVED_NS: i64 = 1_000_000_000;
/// Who has a child so soon after its birth was not moved by a service manager before, in nanoseconds: that takes a call
/// to it, and an answer.
const PROMPT_NS: i64 = 5_000_000;
/// How long after its own birth a process is taken to be where it was born, in nanoseconds.
const YOUNG_NS: i64 = 1_000_000_000;
/// How many generations are gone back.
const MOST_GENERATIONS: usize = 8;
/// How many births are remembered, how many processes that were looked at, and for whom each of them speaks.
const MOST_BIRTHS: usize = 16 << 10;
const MOST_SEEN: usize = 1 << 10;
const MOST_LENT: usize = 16;

/// Whose a process is: what its record tells. Only somebody who logs in gets another session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whose {
    /// Its real uid.
    pub uid: u32,
    /// Its audit session, where it has one.
    pub session: Option<u32>,
}

impl Whose {
    /// What a record of the running kernel tells.
    #[must_use]
    pub fn of(record: &Record<'_>) -> Option<Self> {
        let IdField::Number(uid) = record.uid else { return None };
        let session = match record.session {
            IdField::Number(session) => Some(session),
            IdField::Unset => None,
            IdField::Name(_) => return None,
        };
        Some(Self { uid, session })
    }
}

/// That somebody had logged in before a process came to be. Services begin without (`systemd-user`'s PAM makes a user's
/// manager, and so all of its units, such a login of that user).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// Whether the process runs as who logged in.
    pub own: bool,
}

impl Login {
    /// What a record tells.
    #[must_use]
    pub fn of(record: &Record<'_>) -> Option<Self> {
        let is_set = record.session != IdField::Unset && record.auid != IdField::Unset;
        is_set.then(|| Self { own: record.auid == record.uid })
    }

    /// Whether it can be a process of one of a manager's units.
    #[must_use]
    pub fn may_be_of(self, manager: Manager) -> bool {
        self.own && manager != Manager::System
    }
}

/// A process at a moment. All times are nanoseconds since boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glimpse {
    /// When it was looked at.
    pub at: i64,
    /// When it started.
    pub started: i64,
    /// Its parent now, if it has one.
    pub parent: Option<u32>,
    /// The unit that its cgroup names, if it does.
    pub unit: Option<Unit>,
    /// Its audit session, where it has one.
    pub session: Option<u32>,
    /// The name of its main thread. It can be changed at will, so it is never all that speaks for anything.
    pub comm: Vec<u8>,
}

/// The table.
#[derive(Debug, Default)]
pub struct Kin {
    births: Generations<Birth>,
    homes: Generations<Home>,
}

#[derive(Debug, Clone, Copy)]
struct Birth {
    parent: u32,
    at: i64,
    /// Whether this is the very moment.
    exact: bool,
}

#[derive(Debug)]
struct Home {
    seen: Glimpse,
    /// Who was seen below it, in its unit.
    lends: Vec<Whose>,
    /// A descendant was seen elsewhere.
    moves: bool,
}

impl Home {
    fn lend(&mut self, whose: Whose) {
        if self.lends.len() < MOST_LENT && !self.lends.contains(&whose) {
            self.lends.push(whose);
        }
    }
}

impl Kin {
    /// A process was started by another.
    pub fn born(&mut self, pid: u32, parent: u32, at: i64) {
        self.births.insert(pid, Birth { parent, at, exact: true }, MOST_BIRTHS);
    }

    fn born_before(&mut self, pid: u32, parent: u32, at: i64) {
        self.births.insert(pid, Birth { parent, at, exact: false }, MOST_BIRTHS);
    }

    /// Its parent was told late, when it died; what its birth told is better.
    pub fn died(&mut self, pid: u32, parent: u32, at: i64) {
        if self.parent_of(pid, at).is_none() {
            self.born_before(pid, parent, at);
        }
    }

    /// Births went unheard: one that is remembered may be that of another process with the same pid.
    pub fn forget_births(&mut self) {
        self.births = Generations::default();
    }

    /// A process was found to have been in a unit at a moment: its ancestors there can speak for others like it.
    pub fn witness(
        &mut self,
        (mut pid, mut at): (u32, i64),
        whose: Whose,
        unit: &Unit,
        mut look: impl FnMut(u32) -> Option<Glimpse>,
    ) {
        for _ in 0..MOST_GENERATIONS {
            let Some(birth) = self.parent_of(pid, at) else { return };
            match self.home(birth, &mut look) {
                Some(home) if home.seen.unit.as_ref() == Some(unit) => home.lend(whose),
                Some(home) => {
                    home.moves = true;
                    return;
                }
                None => {}
            }
            (pid, at) = (birth.parent, birth.at);
        }
    }

    /// The unit that the nearest ancestor that is known tells of a process that had a pid, and this name, at a moment.
    pub fn unit(
        &mut self,
        (mut pid, mut at): (u32, i64),
        whose: Whose,
        comm: &[u8],
        mut look: impl FnMut(u32) -> Option<Glimpse>,
    ) -> Option<(Rung, Unit)> {
        // The births below the one that is looked at, of which each has to have followed the one before at once.
        let (mut below, mut prompt): (Option<Birth>, _) = (None, true);
        for _ in 0..MOST_GENERATIONS {
            let birth = self.parent_of(pid, at)?;
            prompt &= birth.exact
                && match below {
                    None => at.saturating_sub(birth.at) <= YOUNG_NS,
                    Some(child) => child.at.saturating_sub(birth.at) <= PROMPT_NS,
                };
            if let Some(home) = self.home(birth, &mut look) {
                let speaks = !home.moves && home.seen.session == whose.session;
                let (rung, knows) = match below {
                    // As at an exit event.
                    None => (Rung::ParentCgroup, true),
                    Some(_) => (Rung::Ancestor, prompt && home.seen.comm == comm || home.lends.contains(&whose)),
                };
                return home.seen.unit.clone().filter(|_| speaks && knows).map(|unit| (rung, unit));
            }
            (pid, at) = (birth.parent, birth.at);
            below = Some(birth);
        }
        None
    }

    /// Who started the process that had a pid at a moment, and when.
    fn parent_of(&self, pid: u32, at: i64) -> Option<Birth> {
        self.births.get(pid).copied().filter(|birth| birth.at <= at.saturating_add(SLACK_NS))
    }

    /// Where the parent was when it gave birth, as seen about then or, if it still is the same, now.
    fn home(&mut self, birth: Birth, look: &mut impl FnMut(u32) -> Option<Glimpse>) -> Option<&mut Home> {
        let (pid, then) = (birth.parent, birth.at);
        let was_there = |seen: &Glimpse| seen.started <= then.saturating_add(SLACK_NS);
        let known = self.homes.get(pid).map(|home| &home.seen);
        if !known.is_some_and(|seen| was_there(seen) && seen.at.saturating_add(BELIEVED_NS) >= then) {
            let seen = look(pid).filter(was_there)?;
            if let Some(parent) = seen.parent
                && self.parent_of(pid, then).is_none()
            {
                self.born_before(pid, parent, seen.started);
            }
            self.see(pid, seen);
        }
        self.homes.get_mut(pid)
    }

    fn see(&mut self, pid: u32, seen: Glimpse) {
        match self.homes.get_mut(pid) {
            Some(home) if home.seen.started == seen.started && home.seen.unit == seen.unit => home.seen = seen,
            _ => self.homes.insert(pid, Home { seen, lends: Vec::new(), moves: false }, MOST_SEEN),
        }
    }
}

/// What is known by pid, in two generations, so that forgetting costs nothing.
#[derive(Debug)]
struct Generations<T> {
    new: HashMap<u32, T>,
    old: HashMap<u32, T>,
}

impl<T> Default for Generations<T> {
    fn default() -> Self {
        Self { new: HashMap::new(), old: HashMap::new() }
    }
}

impl<T> Generations<T> {
    fn get(&self, pid: u32) -> Option<&T> {
        self.new.get(&pid).or_else(|| self.old.get(&pid))
    }

    /// What is asked for stays.
    fn get_mut(&mut self, pid: u32) -> Option<&mut T> {
        if let Some(known) = self.old.remove(&pid) {
            self.new.entry(pid).or_insert(known);
        }
        self.new.get_mut(&pid)
    }

    fn insert(&mut self, pid: u32, what: T, most: usize) {
        self.old.remove(&pid);
        if self.new.len() >= most / 2 {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(pid, what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Manager;

    const MS: i64 = 1_000_000;
    const SECOND: i64 = 1_000 * MS;
    const ROOT: Whose = Whose { uid: 0, session: None };

    fn unit(name: &str) -> Unit {
        Unit { manager: Manager::System, name: name.parse().unwrap() }
    }

    /// PID 1, and 10, which it started long ago in a.service.
    fn look(pid: u32) -> Option<Glimpse> {
        let glimpse = |parent, unit| Glimpse {
            at: 100 * SECOND,
            started: SECOND,
            parent,
            unit,
            session: None,
            comm: b"a".into(),
        };
        match pid {
            1 => Some(glimpse(None, None)),
            10 => Some(glimpse(Some(1), Some(unit("a.service")))),
            _ => None,
        }
    }

    /// 10 started `parent` a while before, which starts `child`; both are gone.
    fn family(kin: &mut Kin, parent: u32, child: u32, at: i64) {
        kin.born(parent, 10, at - 10 * MS);
        kin.born(child, parent, at);
    }

    /// Seen in a.service: the child of a parent that is gone.
    fn witnessed() -> Kin {
        let mut kin = Kin::default();
        family(&mut kin, 20, 21, 100 * SECOND);
        kin.witness((21, 100 * SECOND), ROOT, &unit("a.service"), look);
        kin
    }

    #[test]
    fn an_ancestor_speaks_for_those_like_one_that_was_seen_in_its_unit() {
        let mut kin = witnessed();
        family(&mut kin, 30, 31, 101 * SECOND);
        let found = |kin: &mut Kin, whose| kin.unit((31, 101 * SECOND), whose, b"a", look);
        assert_eq!(found(&mut kin, ROOT), Some((Rung::Ancestor, unit("a.service"))));
        assert_eq!(found(&mut kin, Whose { uid: 7, ..ROOT }), None, "somebody else");
        assert_eq!(found(&mut kin, Whose { session: Some(3), ..ROOT }), None, "somebody who logged in");
        assert_eq!(kin.unit((99, 101 * SECOND), ROOT, b"a", look), None, "nobody knows where it comes from");
    }

    #[test]
    fn without_a_witness_no_ancestor_counts() {
        let mut kin = Kin::default();
        family(&mut kin, 30, 31, 101 * SECOND);
        assert_eq!(kin.unit((31, 101 * SECOND), ROOT, b"a", look), None);
        // The parent itself does.
        kin.born(32, 10, 101 * SECOND);
        assert_eq!(kin.unit((32, 101 * SECOND), ROOT, b"a", look), Some((Rung::ParentCgroup, unit("a.service"))));
        let logged_in = Whose { session: Some(3), ..ROOT };
        assert_eq!(kin.unit((32, 101 * SECOND), logged_in, b"a", look), None, "not for who logged in");
    }

    #[test]
    fn who_had_no_time_to_be_moved_needs_no_witness() {
        let mut kin = Kin::default();
        let at = 101 * SECOND;
        kin.born(30, 10, at - PROMPT_NS);
        kin.born(31, 30, at);
        let found = Some((Rung::Ancestor, unit("a.service")));
        assert_eq!(kin.unit((31, at), ROOT, b"b", look), None, "it executed something, or gave itself another name");
        assert_eq!(kin.unit((31, at), ROOT, b"a", look), found);
        assert_eq!(kin.unit((31, at + YOUNG_NS), ROOT, b"a", look), found);
        assert_eq!(kin.unit((31, at + YOUNG_NS + 1), ROOT, b"a", look), None, "it may itself have been moved since");
        assert_eq!(kin.unit((31, at), Whose { session: Some(3), ..ROOT }, b"a", look), None, "who logged in was moved");
        kin.born(32, 31, at + PROMPT_NS);
        assert_eq!(kin.unit((32, at + PROMPT_NS), ROOT, b"a", look), found, "a generation more");
        kin.born(33, 31, at + PROMPT_NS + 1);
        assert_eq!(kin.unit((33, at + PROMPT_NS + 1), ROOT, b"a", look), None, "a moment later");
        kin.died(41, 31, at);
        assert_eq!(kin.unit((41, at), ROOT, b"a", look), None, "its birth is not known to the moment");
    }

    #[test]
    fn who_moves_its_descendants_speaks_for_none() {
        let mut kin = witnessed();
        family(&mut kin, 30, 31, 101 * SECOND);
        kin.witness((31, 101 * SECOND), ROOT, &unit("run-r1.scope"), look);
        family(&mut kin, 40, 41, 102 * SECOND);
        assert_eq!(kin.unit((41, 102 * SECOND), ROOT, b"a", look), None);
        kin.born(42, 10, 102 * SECOND);
        assert_eq!(kin.unit((42, 102 * SECOND), ROOT, b"a", look), None, "not even for its child");
    }

    #[test]
    fn a_manager_speaks_for_none_and_nobody_above_does() {
        let mut kin = Kin::default();
        kin.born(30, 1, 101 * SECOND);
        kin.born(31, 30, 101 * SECOND);
        kin.witness((31, 101 * SECOND), ROOT, &unit("a.service"), look);
        kin.born(40, 1, 102 * SECOND);
        kin.born(41, 40, 102 * SECOND);
        assert_eq!(kin.unit((41, 102 * SECOND), ROOT, b"a", look), None);
        assert_eq!(kin.unit((40, 102 * SECOND), ROOT, b"a", look), None);
    }

    #[test]
    fn an_ancestor_that_is_gone_is_remembered_for_a_moment() {
        let mut kin = witnessed();
        let gone = |_| None;
        family(&mut kin, 30, 31, 100 * SECOND + 900 * MS);
        assert_eq!(kin.unit((31, 101 * SECOND), ROOT, b"a", gone), Some((Rung::Ancestor, unit("a.service"))));
        family(&mut kin, 40, 41, 102 * SECOND);
        assert_eq!(kin.unit((41, 102 * SECOND), ROOT, b"a", gone), None, "the pid may be another's by then");
    }

    #[test]
    fn a_pid_used_again_is_another_process() {
        let mut kin = witnessed();
        let later = |pid| look(pid).map(|seen| Glimpse { started: 200 * SECOND, at: 200 * SECOND, ..seen });
        family(&mut kin, 30, 31, 150 * SECOND);
        assert_eq!(kin.unit((31, 150 * SECOND), ROOT, b"a", later), None, "this one started after the birth");
        family(&mut kin, 30, 31, 160 * SECOND);
        assert_eq!(kin.unit((31, 150 * SECOND), ROOT, b"a", look), None, "a later birth is another's");
        family(&mut kin, 50, 51, 201 * SECOND);
        assert_eq!(
            kin.unit((51, 201 * SECOND), ROOT, b"a", later),
            None,
            "what was seen below the other is not its own"
        );
        kin.forget_births();
        assert_eq!(kin.unit((31, 160 * SECOND), ROOT, b"a", look), None);
    }

    #[test]
    fn a_death_tells_the_parent_where_no_birth_did() {
        let mut kin = witnessed();
        kin.died(31, 10, 101 * SECOND);
        assert!(kin.unit((31, 101 * SECOND), ROOT, b"a", look).is_some());
        family(&mut kin, 40, 41, 101 * SECOND);
        kin.died(41, 1, 101 * SECOND + MS);
        assert!(kin.unit((41, 101 * SECOND), ROOT, b"a", look).is_some(), "an orphan is adopted before it dies");
    }

    #[test]
    fn a_living_parents_parent_is_known_without_its_birth() {
        let mut kin = Kin::default();
        let look = |pid| match pid {
            30 => Some(Glimpse { started: 50 * SECOND, parent: Some(10), ..look(10)? }),
            _ => look(pid),
        };
        kin.died(31, 30, 101 * SECOND);
        kin.witness((31, 101 * SECOND), ROOT, &unit("a.service"), look);
        assert_eq!(kin.homes.get(10).map(|home| home.lends.clone()), Some(vec![ROOT]));
    }

    #[test]
    fn a_circle_of_births_ends() {
        let mut kin = Kin::default();
        kin.born(30, 31, SECOND);
        kin.born(31, 30, SECOND);
        assert_eq!(kin.unit((30, SECOND), ROOT, b"a", |_| None), None);
        kin.witness((30, SECOND), ROOT, &unit("a.service"), |_| None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut kin = Kin::default();
        let own = |pid| look(10).map(|seen| Glimpse { parent: Some(pid + 1), ..seen });
        for pid in 100..40_000 {
            kin.born(pid, pid + 1, 100 * SECOND);
            kin.witness((pid, 100 * SECOND), Whose { uid: pid, session: None }, &unit("a.service"), own);
            kin.witness((100, 100 * SECOND), Whose { uid: pid, session: None }, &unit("a.service"), own);
        }
        assert!(kin.births.new.len() + kin.births.old.len() <= MOST_BIRTHS);
        assert!(kin.homes.new.len() + kin.homes.old.len() <= MOST_SEEN);
        assert!(kin.homes.new.values().all(|home| home.lends.len() <= MOST_LENT));
    }
}
