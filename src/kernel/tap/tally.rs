//! Refusals, folded: what is the same but for the thread is one, with its threads.

use super::refusal::{CallResult, Refusal};
use crate::kernel::procfs::Procfs;
use crate::syscalls::Arch;
use crate::units::Unit;
use crate::units::cgroup::{Placement, Unplaced, place};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStringExt as _;

/// How many different refusals are kept; a process can make up any number.
const MOST_GROUPS: usize = 4096;
/// How many threads of each are told.
const MOST_CALLERS: usize = 64;
/// How many processes' executables and owners are remembered.
const MOST_PROCESSES: usize = 4096;

/// Refusals that are one fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// The place of the target among those asked for.
    pub target: usize,
    /// The call's architecture.
    pub arch: Arch,
    /// Its number.
    pub number: u32,
    /// What the program saw of it.
    pub result: CallResult,
    /// It may be the end of a call that was let through.
    pub uncertain: bool,
    /// The executable; empty where the process was gone before it could be asked.
    pub exe: Vec<u8>,
    /// Whose the process is, which can be another's than what was asked for: children go elsewhere, and a slice or a
    /// user's manager has units below it.
    pub owner: Owner,
}

/// Whose a process is, by its own cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A unit's.
    Unit(Unit),
    /// A manager's own, or of a service that it is about to execute.
    Manager,
    /// No unit's, such as a login session's.
    Nobody,
    /// It was gone before it could be asked, or its cgroup tells nothing.
    Unknown,
}

impl Owner {
    fn of(cgroup: &[u8]) -> Self {
        match place(cgroup) {
            Placement::Unit(unit) => Self::Unit(unit),
            Placement::None(Unplaced::Manager(_)) => Self::Manager,
            Placement::None(why) if why.is_certain() => Self::Nobody,
            Placement::None(_) => Self::Unknown,
        }
    }
}

/// One fact, with its count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// How often.
    pub count: u64,
    /// The first time, in milliseconds since the epoch.
    pub first: i64,
    /// The latest.
    pub last: i64,
    /// The real uid of the latest, where it is known.
    pub uid: Option<u32>,
    /// Where the latest was called from.
    pub ip: u64,
    /// The threads, in the order in which they were seen first.
    pub callers: Vec<Caller>,
    /// How many of the refusals were of threads for which there was no place among them.
    pub others: u64,
}

/// A thread that was refused something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Its name, as it chose it.
    pub comm: Vec<u8>,
    /// How often.
    pub count: u64,
}

/// All that a tap saw.
#[derive(Debug, Default)]
pub struct Tally {
    groups: BTreeMap<Kind, Group>,
    processes: HashMap<u32, (Vec<u8>, Owner)>,
    forgotten: u64,
}

impl Tally {
    /// Takes what was seen since.
    pub fn add(&mut self, refusals: Vec<Refusal>, procfs: &Procfs) {
        if self.processes.len() > MOST_PROCESSES {
            self.processes.clear();
        }
        let mut asked: HashMap<u32, (Vec<u8>, Owner)> = HashMap::new();
        for refusal in refusals {
            let (exe, owner) = asked.entry(refusal.pid).or_insert_with(|| {
                // First, since a process that ends is moved away before it is gone.
                let owner = procfs.cgroup(refusal.pid).map_or(Owner::Unknown, |cgroup| Owner::of(&cgroup));
                match procfs.exe(refusal.pid) {
                    Some(exe) => {
                        let known = (exe.into_os_string().into_vec(), owner);
                        self.processes.insert(refusal.pid, known.clone());
                        known
                    }
                    None => self.processes.get(&refusal.pid).cloned().unwrap_or((Vec::new(), owner)),
                }
            });
            let kind = Kind {
                target: refusal.target,
                arch: refusal.arch,
                number: refusal.number,
                result: refusal.result,
                uncertain: refusal.uncertain,
                exe: exe.clone(),
                owner: owner.clone(),
            };
            if self.groups.len() >= MOST_GROUPS && !self.groups.contains_key(&kind) {
                self.forgotten = self.forgotten.saturating_add(refusal.count);
                continue;
            }
            self.groups.entry(kind).or_insert_with(|| Group::of(&refusal)).add(refusal);
        }
    }

    /// Whose all of it is, for certain or not: the place of the target, and the owner.
    pub fn owners(&self) -> impl Iterator<Item = (usize, &Owner)> {
        self.groups.keys().map(|kind| (kind.target, &kind.owner))
    }

    /// What was refused for certain, and of what is uncertain that which the policy causes.
    pub fn refused(&self, causes: impl Fn(&Kind) -> bool) -> Vec<(Kind, Group)> {
        let mut refused: BTreeMap<Kind, Group> = BTreeMap::new();
        for (kind, group) in self.groups.iter().filter(|(kind, _)| !kind.uncertain || causes(kind)) {
            let kind = Kind { uncertain: false, ..kind.clone() };
            match refused.entry(kind) {
                Entry::Vacant(vacant) => drop(vacant.insert(group.clone())),
                Entry::Occupied(mut occupied) => occupied.get_mut().merge(group),
            }
        }
        refused.into_iter().collect()
    }

    /// How many refusals there was no place for, because too many were different.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

impl Group {
    fn of(refusal: &Refusal) -> Self {
        let Refusal { first, last, uid, ip, .. } = *refusal;
        Self { count: 0, first, last, uid, ip, callers: Vec::new(), others: 0 }
    }

    /// Takes in another, of the same fact.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.others = self.others.saturating_add(other.others);
        self.first = self.first.min(other.first);
        if other.last >= self.last {
            (self.last, self.uid, self.ip) = (other.last, other.uid.or(self.uid), other.ip);
        }
        for caller in &other.callers {
            self.add_caller(caller.clone());
        }
    }

    fn add(&mut self, refusal: Refusal) {
        self.count = self.count.saturating_add(refusal.count);
        self.first = self.first.min(refusal.first);
        if refusal.last >= self.last {
            (self.last, self.uid, self.ip) = (refusal.last, refusal.uid.or(self.uid), refusal.ip);
        }
        let Refusal { pid, tid, comm, count, .. } = refusal;
        self.add_caller(Caller { pid, tid, comm, count });
    }

    fn add_caller(&mut self, caller: Caller) {
        let room = self.callers.len() < MOST_CALLERS;
        match self.callers.iter_mut().find(|known| (known.pid, known.tid) == (caller.pid, caller.tid)) {
            Some(known) => known.count = known.count.saturating_add(caller.count),
            None if room => self.callers.push(caller),
            None => self.others = self.others.saturating_add(caller.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(tid: u32, number: u32, count: u64) -> Refusal {
        Refusal {
            target: 0,
            pid: 4_000_000,
            tid,
            arch: Arch::native(),
            number,
            result: CallResult::Errno(1),
            uncertain: false,
            count,
            first: i64::from(tid),
            last: i64::from(tid) + 5,
            comm: b"t".to_vec(),
            uid: None,
            ip: u64::from(tid),
        }
    }

    fn nobody() -> Procfs {
        Procfs::at("/nonexistent")
    }

    #[test]
    fn threads_of_one_refusal_are_counted_together_and_apart() {
        let mut tally = Tally::default();
        tally.add(vec![refusal(1, 39, 3), refusal(2, 39, 4), refusal(1, 40, 1)], &nobody());
        tally.add(vec![refusal(1, 39, 2)], &nobody());
        tally.add(vec![Refusal { uncertain: true, ..refusal(2, 39, 1) }], &nobody());
        let counts = |causes: bool| -> Vec<_> {
            tally.refused(|_| causes).into_iter().map(|(kind, group)| (kind.number, group.count)).collect()
        };
        assert_eq!(counts(false), [(39, 9), (40, 1)], "what is uncertain is not counted");
        assert_eq!(counts(true), [(39, 10), (40, 1)], "unless the policy causes it");
        let (_, group) = &tally.refused(|_| false)[0];
        assert_eq!(group.callers.iter().map(|caller| (caller.tid, caller.count)).collect::<Vec<_>>(), [(1, 5), (2, 4)]);
        assert_eq!((group.first, group.last, group.ip), (1, 7, 2), "the latest");
    }

    #[test]
    fn a_process_is_its_own_cgroups_and_nobodys_once_it_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let process = root.path().join("4000000");
        std::fs::create_dir(&process).unwrap();
        std::os::unix::fs::symlink("/bin/true", process.join("exe")).unwrap();
        let procfs = Procfs::at(root.path());
        let unit = Unit { manager: crate::units::Manager::User(1000), name: "a.service".parse().unwrap() };
        let user = "/user.slice/user-1000.slice/user@1000.service";
        for (cgroup, owner) in [
            (format!("{user}/app.slice/a.service/below"), Owner::Unit(unit)),
            (format!("{user}/init.scope"), Owner::Manager),
            ("/user.slice/user-1000.slice/session-3.scope".to_owned(), Owner::Nobody),
            ("/".to_owned(), Owner::Unknown),
        ] {
            std::fs::write(process.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
            let mut tally = Tally::default();
            tally.add(vec![refusal(1, 39, 1)], &procfs);
            // What is seen of it later, when it is gone, is not another's.
            tally.add(vec![refusal(1, 39, 1)], &nobody());
            assert_eq!(tally.owners().collect::<Vec<_>>(), [(0, &owner)], "{cgroup}");
            let mut tally = Tally::default();
            tally.add(vec![refusal(1, 39, 1)], &nobody());
            assert_eq!(tally.owners().collect::<Vec<_>>(), [(0, &Owner::Unknown)]);
        }
    }

    #[test]
    fn memory_is_bounded_and_what_is_left_out_is_counted() {
        let mut tally = Tally::default();
        for number in 0..u32::try_from(MOST_GROUPS).unwrap() + 3 {
            tally.add(vec![refusal(1, number, 2)], &nobody());
        }
        assert_eq!((tally.groups.len(), tally.forgotten()), (MOST_GROUPS, 6));
        for tid in 0..u32::try_from(MOST_CALLERS).unwrap() + 5 {
            tally.add(vec![refusal(tid, 0, 1)], &nobody());
        }
        let (_, group) = &tally.refused(|_| false)[0];
        assert_eq!((group.callers.len(), group.others), (MOST_CALLERS, 5));
        assert_eq!(group.count, 2 + 69);
    }
}
