//! Refusals counted by what they have in common, with the threads that each kind was refused to.

use super::refusal::{CallResult, Refusal};
use crate::incidents::CallSite;
use crate::kernel::procfs::Procfs;
use crate::syscalls::Arch;
use crate::units::Unit;
use crate::units::cgroup::{Placement, Unplaced, place};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStringExt as _;

/// How many kinds of refusals are counted: a process can make up any number.
const MOST_KINDS: usize = 4096;
/// How many threads of each kind are listed.
const MOST_THREADS: usize = 64;
/// How many processes' executables and owners are remembered.
const MOST_PROCESSES: usize = 4096;

/// How many arguments of a call are counted apart for one program: a process can make up any number. Further ones count
/// together, as unknown.
const MOST_ARGUMENTS: usize = 16;

/// What refusals have in common that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RefusalKind {
    /// The index of the target among those of the tap.
    pub(crate) target: usize,
    /// The call's architecture.
    pub(crate) arch: Arch,
    /// The call's number.
    pub(crate) number: u32,
    /// What the call returned.
    pub(crate) result: CallResult,
    /// Whether these may be the ends of permitted calls that began before the tap.
    pub(crate) uncertain: bool,
    /// The executable; empty where the process was gone before it could be read.
    pub(crate) exe: Vec<u8>,
    /// The owner of the process. It can differ from the target: children move to other cgroups, and a slice or a user
    /// manager has units below it.
    pub(crate) owner: ProcessOwner,
    /// The argument that filters decide by, if it is known. The last field, so that kinds that differ in it alone are
    /// neighbours in a sorted map.
    pub(crate) argument: Option<u32>,
}

/// Who owns a process, by the process's own cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ProcessOwner {
    /// A unit.
    Unit(Unit),
    /// A manager: the process is its own, or of a service that it is about to execute.
    Manager,
    /// No unit: a login session, for example.
    Nobody,
    /// The process was gone before its cgroup could be read, or the cgroup tells nothing.
    Unknown,
}

impl ProcessOwner {
    fn from_cgroup(cgroup: &[u8]) -> Self {
        match place(cgroup) {
            Placement::Unit(unit) => Self::Unit(unit),
            Placement::None(Unplaced::Manager(_)) => Self::Manager,
            Placement::None(why) if why.is_certain() => Self::Nobody,
            Placement::None(_) => Self::Unknown,
        }
    }
}

/// The refusals of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusalTotals {
    /// The number of refusals.
    pub(crate) count: u64,
    /// When the first was, in milliseconds since the epoch.
    pub(crate) first: i64,
    /// When the latest was, in milliseconds since the epoch.
    pub(crate) last: i64,
    /// The real uid of the latest, if known.
    pub(crate) uid: Option<u32>,
    /// The address of the latest call.
    pub(crate) ip: u64,
    /// Where in its code a process made the latest noted call.
    pub(crate) site: Option<Box<CallSite>>,
    /// The threads, in the order in which they were seen first.
    pub(crate) threads: Vec<RefusedThread>,
    /// The number of refusals to threads beyond those listed.
    pub(crate) others: u64,
}

/// A thread that was refused a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusedThread {
    /// The thread's process.
    pub(crate) pid: u32,
    /// The thread.
    pub(crate) tid: u32,
    /// The name that the thread gave itself.
    pub(crate) comm: Vec<u8>,
    /// The number of refusals.
    pub(crate) count: u64,
}

/// All refusals that a tap saw, by kind.
#[derive(Debug, Default)]
pub(crate) struct RefusalTally {
    kinds: BTreeMap<RefusalKind, RefusalTotals>,
    uncounted: u64,
}

/// Executables and owners of processes, remembered for when they are gone.
#[derive(Debug, Default)]
pub(crate) struct ProcessReader {
    known: HashMap<u32, (Vec<u8>, ProcessOwner)>,
    /// What was read since the poll began.
    read: HashMap<u32, (Vec<u8>, ProcessOwner)>,
}

impl ProcessReader {
    /// Begins a poll. A process is read once in a poll.
    pub(crate) fn begin_poll(&mut self) {
        self.read.clear();
        if self.known.len() > MOST_PROCESSES {
            self.known.clear();
        }
    }

    /// Returns a process's executable and owner: as they are, or as they were last seen once the process is gone.
    pub(crate) fn read(&mut self, pid: u32, procfs: &Procfs) -> (Vec<u8>, ProcessOwner) {
        if let Some(read) = self.read.get(&pid) {
            return read.clone();
        }
        let process = self.read_now(pid, procfs);
        self.read.insert(pid, process.clone());
        process
    }

    fn read_now(&mut self, pid: u32, procfs: &Procfs) -> (Vec<u8>, ProcessOwner) {
        // The cgroup first: systemd moves a process that ends before it is gone.
        let owner = procfs.cgroup(pid).map_or(ProcessOwner::Unknown, |cgroup| ProcessOwner::from_cgroup(&cgroup));
        match procfs.exe(pid) {
            Some(exe) => {
                let process = (exe.into_os_string().into_vec(), owner);
                self.known.insert(pid, process.clone());
                process
            }
            None => self.known.get(&pid).cloned().unwrap_or((Vec::new(), owner)),
        }
    }
}

impl RefusalTally {
    /// Counts what the tap returned.
    pub(crate) fn add(&mut self, refusals: Vec<Refusal>, processes: &mut ProcessReader, procfs: &Procfs) {
        for refusal in refusals {
            let (exe, owner) = processes.read(refusal.pid, procfs);
            let Refusal { target, arch, number, argument, result, uncertain, .. } = refusal;
            let mut kind = RefusalKind { target, arch, number, result, uncertain, exe, owner, argument };
            if argument.is_some() && !self.kinds.contains_key(&kind) && self.count_arguments(&kind) >= MOST_ARGUMENTS {
                kind.argument = None;
            }
            if self.kinds.len() >= MOST_KINDS && !self.kinds.contains_key(&kind) {
                self.uncounted = self.uncounted.saturating_add(refusal.count);
            } else {
                let totals = RefusalTotals::from(refusal);
                self.kinds.entry(kind).and_modify(|known| known.merge(&totals)).or_insert(totals);
            }
        }
    }

    /// Returns how many arguments of one call and one program are counted apart.
    fn count_arguments(&self, kind: &RefusalKind) -> usize {
        let with = |argument: u32| RefusalKind { argument: Some(argument), ..kind.clone() };
        self.kinds.range(with(0)..=with(u32::MAX)).count()
    }

    /// Returns the target's index and the process's owner of all refusals, certain or not.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (usize, &ProcessOwner)> {
        self.kinds.keys().map(|kind| (kind.target, &kind.owner))
    }

    /// Returns the certain refusals, and those uncertain ones that the unit's policy causes.
    pub(crate) fn refusals(&self, causes: impl Fn(&RefusalKind) -> bool) -> Vec<(RefusalKind, RefusalTotals)> {
        let mut refusals: BTreeMap<RefusalKind, RefusalTotals> = BTreeMap::new();
        for (kind, totals) in self.kinds.iter().filter(|(kind, _)| !kind.uncertain || causes(kind)) {
            let kind = RefusalKind { uncertain: false, ..kind.clone() };
            match refusals.entry(kind) {
                Entry::Vacant(vacant) => drop(vacant.insert(totals.clone())),
                Entry::Occupied(mut occupied) => occupied.get_mut().merge(totals),
            }
        }
        refusals.into_iter().collect()
    }

    /// Returns the number of refusals of kinds beyond those that are counted.
    pub(crate) fn uncounted(&self) -> u64 {
        self.uncounted
    }
}

impl From<Refusal> for RefusalTotals {
    fn from(Refusal { first, last, uid, ip, site, pid, tid, comm, count, .. }: Refusal) -> Self {
        Self { count, first, last, uid, ip, site, threads: vec![RefusedThread { pid, tid, comm, count }], others: 0 }
    }
}

impl RefusalTotals {
    /// Adds refusals of the same kind.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.others = self.others.saturating_add(other.others);
        self.first = self.first.min(other.first);
        if other.last >= self.last {
            (self.last, self.uid, self.ip) = (other.last, other.uid.or(self.uid), other.ip);
            self.site = other.site.clone().or(self.site.take());
        } else if self.site.is_none() {
            self.site.clone_from(&other.site);
        }
        for thread in &other.threads {
            self.add_thread(thread);
        }
    }

    fn add_thread(&mut self, thread: &RefusedThread) {
        let has_room = self.threads.len() < MOST_THREADS;
        match self.threads.iter_mut().find(|known| (known.pid, known.tid) == (thread.pid, thread.tid)) {
            // The latest name: it is another since the process executed its program.
            Some(known) => {
                known.count = known.count.saturating_add(thread.count);
                known.comm.clone_from(&thread.comm);
            }
            None if has_room => self.threads.push(thread.clone()),
            None => self.others = self.others.saturating_add(thread.count),
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
            argument: None,
            result: CallResult::Errno(1),
            uncertain: false,
            count,
            first: i64::from(tid),
            last: i64::from(tid) + 5,
            comm: b"t".to_vec(),
            uid: None,
            ip: u64::from(tid),
            site: None,
        }
    }

    fn no_processes() -> Procfs {
        Procfs::new("/nonexistent")
    }

    #[test]
    fn same_refusal_in_two_threads_is_one_kind_with_a_count_for_each() {
        let (mut tally, mut processes) = (RefusalTally::default(), ProcessReader::default());
        tally.add(vec![refusal(1, 39, 3), refusal(2, 39, 4), refusal(1, 40, 1)], &mut processes, &no_processes());
        tally.add(vec![refusal(1, 39, 2)], &mut processes, &no_processes());
        tally.add(vec![Refusal { uncertain: true, ..refusal(2, 39, 1) }], &mut processes, &no_processes());
        let counts = |causes: bool| -> Vec<_> {
            tally.refusals(|_| causes).into_iter().map(|(kind, totals)| (kind.number, totals.count)).collect()
        };
        assert_eq!(counts(false), [(39, 9), (40, 1)], "uncertain refusals are left out");
        assert_eq!(counts(true), [(39, 10), (40, 1)], "unless the policy causes it");
        let (_, totals) = &tally.refusals(|_| false)[0];
        assert_eq!(
            totals.threads.iter().map(|caller| (caller.tid, caller.count)).collect::<Vec<_>>(),
            [(1, 5), (2, 4)]
        );
        assert_eq!((totals.first, totals.last, totals.ip), (1, 7, 2), "the latest");
    }

    #[test]
    fn many_arguments_of_one_call_count_together() {
        let (mut tally, mut processes) = (RefusalTally::default(), ProcessReader::default());
        let made_up = (0..20_000).map(|argument| Refusal { argument: Some(argument), ..refusal(1, 39, 1) });
        tally.add(made_up.collect(), &mut processes, &no_processes());
        tally.add(vec![refusal(1, 40, 1)], &mut processes, &no_processes());
        let refusals = tally.refusals(|_| false);
        assert_eq!(refusals.len(), MOST_ARGUMENTS + 2, "with the unknown ones, and another call");
        assert_eq!(refusals.iter().map(|(_, totals)| totals.count).sum::<u64>(), 20_001);
        assert_eq!(tally.uncounted(), 0);
    }

    #[test]
    fn owner_is_read_from_cgroup_and_remembered_once_process_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let process = root.path().join("4000000");
        std::fs::create_dir(&process).unwrap();
        std::os::unix::fs::symlink("/bin/true", process.join("exe")).unwrap();
        let procfs = Procfs::new(root.path());
        let unit = Unit { manager: crate::units::Manager::User(1000), name: "a.service".parse().unwrap() };
        let user = "/user.slice/user-1000.slice/user@1000.service";
        for (cgroup, owner) in [
            (format!("{user}/app.slice/a.service/below"), ProcessOwner::Unit(unit)),
            (format!("{user}/init.scope"), ProcessOwner::Manager),
            ("/user.slice/user-1000.slice/session-3.scope".to_owned(), ProcessOwner::Nobody),
            ("/".to_owned(), ProcessOwner::Unknown),
        ] {
            std::fs::write(process.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
            let (mut tally, mut processes) = (RefusalTally::default(), ProcessReader::default());
            tally.add(vec![refusal(1, 39, 1)], &mut processes, &procfs);
            processes.begin_poll();
            tally.add(vec![refusal(1, 39, 1)], &mut processes, &no_processes());
            assert_eq!(tally.owners().collect::<Vec<_>>(), [(0, &owner)], "{cgroup}");
            let (mut tally, mut processes) = (RefusalTally::default(), ProcessReader::default());
            tally.add(vec![refusal(1, 39, 1)], &mut processes, &no_processes());
            assert_eq!(tally.owners().collect::<Vec<_>>(), [(0, &ProcessOwner::Unknown)]);
        }
    }

    #[test]
    fn kinds_and_threads_beyond_the_limit_are_counted_but_not_listed() {
        let (mut tally, mut processes) = (RefusalTally::default(), ProcessReader::default());
        for number in 0..u32::try_from(MOST_KINDS).unwrap() + 3 {
            tally.add(vec![refusal(1, number, 2)], &mut processes, &no_processes());
        }
        assert_eq!((tally.kinds.len(), tally.uncounted()), (MOST_KINDS, 6));
        for tid in 0..u32::try_from(MOST_THREADS).unwrap() + 5 {
            tally.add(vec![refusal(tid, 0, 1)], &mut processes, &no_processes());
        }
        let (_, totals) = &tally.refusals(|_| false)[0];
        assert_eq!((totals.threads.len(), totals.others), (MOST_THREADS, 5));
        assert_eq!(totals.count, 2 + 69);
    }
}
