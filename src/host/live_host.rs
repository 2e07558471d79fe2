//! This machine as it runs.

use super::Host;
use super::late_evidence::LateEvidence;
use crate::audit::{Action, Record, Stamp};
use crate::incidents::Parent;
use crate::kernel::clock::{Clocks, ns_of_ticks};
use crate::kernel::exit_cgroups::ExitCgroups;
use crate::kernel::pid_cache::PidCache;
use crate::kernel::proc_events::{CoreDump, SigsysExit};
use crate::kernel::procfs::Procfs;
use crate::units::Evidence;
use std::sync::Arc;

/// How far apart a process's start and a record can place the same moment, in nanoseconds: both clocks
/// tick every 10 ms at worst.
const SLACK_NS: i64 = 20_000_000;

/// How old the record of a process that the filter let live can be for its pid to be its own still, in
/// milliseconds: all other pids would have to be used up meanwhile.
const LATELY_MS: i64 = 100;

/// What the kernel's notice of a death led to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeathEvidence {
    /// When the process died, or was about to, in milliseconds since the epoch.
    pub at: i64,
    /// Whose it was.
    pub evidence: Vec<Evidence>,
    /// Its parent, where nothing told whose it was.
    pub parent: Option<Parent>,
}

/// This machine's `/proc`, and notes of the dead.
#[derive(Debug)]
pub struct LiveHost {
    procfs: Procfs,
    departed: Option<ExitCgroups>,
    pids: PidCache,
    late_evidence: Arc<LateEvidence>,
}

impl LiveHost {
    /// With whom to ask later.
    #[must_use]
    pub fn new(late_evidence: LateEvidence) -> Self {
        Self { procfs: Procfs::live(), departed: None, pids: PidCache::new(), late_evidence: Arc::new(late_evidence) }
    }

    /// And with the notes of the dead, where the kernel makes them.
    #[must_use]
    pub fn with_departed(self, departed: Option<ExitCgroups>) -> Self {
        Self { departed, ..self }
    }

    /// All records of the next batch have arrived.
    pub fn begin_batch(&mut self) {
        self.pids.begin_batch();
    }

    /// Whom to ask about what the host could not tell at once.
    #[must_use]
    pub fn late_evidence(&self) -> Arc<LateEvidence> {
        Arc::clone(&self.late_evidence)
    }

    /// What is known of a process that is about to die, and of its parent.
    #[must_use]
    pub fn on_dying(&mut self, dying: &CoreDump) -> DeathEvidence {
        let clocks = Clocks::now();
        let at = clocks.millis_of_monotonic(dying.timestamp_ns);
        let own = self.own(dying.pid, at, clocks);
        // What the process says itself overrules what its parent does.
        self.told(own, dying.parent, at, clocks)
    }

    /// What is known of a process that just died.
    #[must_use]
    pub fn on_exit(&mut self, exit: &SigsysExit) -> DeathEvidence {
        let clocks = Clocks::now();
        let at = clocks.millis_of_monotonic(exit.timestamp_ns);
        self.told(self.noted(exit.pid, at), exit.parent, at, clocks)
    }

    /// What a process told of itself, or else what its parent tells.
    fn told(&self, own: Option<Evidence>, parent: Option<u32>, at: i64, clocks: Clocks) -> DeathEvidence {
        let mut evidence: Vec<Evidence> = own.into_iter().collect();
        if evidence.iter().any(Evidence::is_conclusive) {
            return DeathEvidence { at, evidence, parent: None };
        }
        let parents = parent.and_then(|parent| self.cgroup_of(parent, at, clocks)).map(Evidence::ParentCgroup);
        let parents = parents.filter(Evidence::is_conclusive);
        let parent = parent.filter(|_| parents.is_none()).and_then(|pid| self.named(pid, at, clocks));
        evidence.extend(parents);
        DeathEvidence { at, evidence, parent }
    }

    /// What its own cgroup tells, if it lives and is the process that had the pid at a moment, in
    /// milliseconds since the epoch.
    fn own(&self, pid: u32, at: i64, clocks: Clocks) -> Option<Evidence> {
        self.cgroup_of(pid, at, clocks).map(Evidence::OwnCgroup).filter(Evidence::is_usable)
    }

    /// What was noted as it died.
    fn noted(&self, pid: u32, at: i64) -> Option<Evidence> {
        self.departed.as_ref()?.cgroup(pid, at).map(Evidence::ExitCgroup).filter(Evidence::is_usable)
    }

    /// The cgroup of the process that had a pid at a moment. One that started later is another, and one
    /// that still lives after its cgroup was read had it when it was.
    fn cgroup_of(&self, pid: u32, at: i64, clocks: Clocks) -> Option<Vec<u8>> {
        let cgroup = self.procfs.cgroup(pid)?;
        self.was_there(pid, at, clocks).then_some(cgroup)
    }

    /// A process that had a pid at a moment, by its name.
    fn named(&self, pid: u32, at: i64, clocks: Clocks) -> Option<Parent> {
        let comm = self.procfs.comm(pid)?;
        self.was_there(pid, at, clocks).then_some(Parent { pid, comm })
    }

    /// Whether the process that has a pid now had it at a moment.
    fn was_there(&self, pid: u32, at: i64, clocks: Clocks) -> bool {
        if clocks.is_future(at) {
            return false;
        }
        let started = self.procfs.start_time(pid).map(ns_of_ticks);
        started.is_some_and(|started| started <= clocks.boot_ns_of_millis(at).saturating_add(SLACK_NS))
    }
}

impl Host for LiveHost {
    const ANSWERS: bool = true;

    fn context(&mut self, record: &Record<'_>) -> Option<u64> {
        let Stamp::Millis(at) = record.stamp else { return None };
        // What kills is met once.
        let lives = matches!(record.action, Action::Errno | Action::Log | Action::Trace | Action::UserNotif);
        if lives { self.pids.number(&self.procfs, record.pid, at) } else { None }
    }

    fn glance(&mut self, record: &Record<'_>) -> Vec<Evidence> {
        let pid = record.pid;
        let Stamp::Millis(at) = record.stamp else { return Vec::new() };
        let clocks = Clocks::now();
        let looks: &[Look] = if record.action.is_kill() || record.action == Action::Trap {
            // Dead already, most likely; what is gone after all has been noted meanwhile.
            &[Look::Noted, Look::Own, Look::Noted]
        } else if clocks.millis_since(at) <= LATELY_MS && !clocks.is_future(at) {
            &[Look::Living, Look::Noted]
        } else {
            &[Look::Own, Look::Noted]
        };
        let mut found: Vec<Evidence> = Vec::new();
        for look in looks {
            found.extend(match look {
                Look::Living => self.procfs.cgroup(pid).map(Evidence::OwnCgroup).filter(Evidence::is_usable),
                Look::Own => self.own(pid, at, clocks),
                Look::Noted => self.noted(pid, at),
            });
            if found.last().is_some_and(Evidence::is_conclusive) {
                break;
            }
        }
        found
    }

    fn parent(&mut self, record: &Record<'_>) -> Option<Parent> {
        let Stamp::Millis(at) = record.stamp else { return None };
        let clocks = Clocks::now();
        let parent = self.procfs.parent(record.pid)?;
        // One that had the pid since could have another parent.
        self.was_there(record.pid, at, clocks).then(|| self.named(parent, at, clocks)).flatten()
    }
}

/// Where a process's own cgroup is looked for.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// In `/proc`, of a process that lives.
    Living,
    /// In `/proc`, if it is the one that had the pid.
    Own,
    /// In the kernel's notes of the dead.
    Noted,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parse_record;
    use crate::kernel::clock::now_millis;
    use crate::systemd::manager::Managers;
    use crate::units::{Rung, weigh};
    use std::fs;

    /// A machine on which process 7, in a.service, and its parent 3, in b.service, started so many
    /// milliseconds ago.
    fn machine(own_ms: i64, parent_ms: i64) -> (tempfile::TempDir, LiveHost) {
        let root = tempfile::tempdir().unwrap();
        let now = Clocks::now();
        for (pid, name, ago) in [(7, "a.service", own_ms), (3, "b.service", parent_ms)] {
            let directory = root.path().join(format!("{pid}"));
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("cgroup"), format!("0::/system.slice/{name}\n")).unwrap();
            let ticks = now.boot_ns_of_millis(now_millis() - ago) / 10_000_000;
            fs::write(directory.join("stat"), format!("{pid} (x) S 3{} {ticks}", " 0".repeat(17))).unwrap();
        }
        let late_evidence = LateEvidence::new(Managers::with_paths("unix:path=/nonexistent", root.path()));
        let host = LiveHost { procfs: Procfs::new(root.path()), ..LiveHost::new(late_evidence) };
        (root, host)
    }

    /// Which units the host sees in a record of process 7, made so many milliseconds ago.
    fn seen(host: &mut LiveHost, code: &str, ago: i64) -> Vec<Rung> {
        let at = now_millis() - ago;
        let line = format!(
            "audit({}.{:03}:2): auid=1 uid=0 gid=0 ses=1 pid=7 comm=\"x\" exe=\"/x\" sig=0 arch=c000003e syscall=41 \
             compat=0 ip=0x7f code={code}",
            at / 1_000,
            at % 1_000
        );
        host.glance(&parse_record(line.as_bytes()).unwrap()).iter().map(Evidence::rung).collect()
    }

    const KILLED: &str = "0x80000000";
    const LOGGED: &str = "0x7ffc0000";

    #[test]
    fn a_process_is_the_one_that_was_there_then() {
        let (_root, mut host) = machine(10_000, 10_000);
        assert_eq!(seen(&mut host, KILLED, 5), [Rung::OwnCgroup]);
        assert_eq!(seen(&mut host, KILLED, 9_000), [Rung::OwnCgroup]);
        assert_eq!(seen(&mut host, KILLED, 11_000), [], "this one started after the record was made");
        assert_eq!(seen(&mut host, LOGGED, 9_000), [Rung::OwnCgroup]);
        assert_eq!(seen(&mut host, LOGGED, 11_000), []);
    }

    #[test]
    fn a_record_of_a_clock_since_set_back_is_nobodys() {
        let (_root, mut host) = machine(10_000, 10_000);
        for code in [KILLED, LOGGED] {
            assert_eq!(seen(&mut host, code, -10), [Rung::OwnCgroup]);
            assert_eq!(seen(&mut host, code, -3_000), [], "the pid may have been another's then");
        }
    }

    #[test]
    fn a_process_that_lives_on_needs_no_second_look() {
        let (root, mut host) = machine(10_000, 10_000);
        fs::remove_file(root.path().join("7/stat")).unwrap();
        assert_eq!(seen(&mut host, LOGGED, 5), [Rung::OwnCgroup]);
        assert_eq!(seen(&mut host, LOGGED, 9_000), []);
        assert_eq!(seen(&mut host, KILLED, 5), [], "it may be another by now");
    }

    #[test]
    fn whose_manager_a_process_is_below_is_kept() {
        let (root, mut host) = machine(10_000, 10_000);
        let scope = "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n";
        fs::write(root.path().join("7/cgroup"), scope).unwrap();
        assert_eq!(seen(&mut host, KILLED, 5), [Rung::OwnCgroup]);
        assert_eq!(seen(&mut host, LOGGED, 5), [Rung::OwnCgroup]);
        let now = u64::try_from(Clocks::now().monotonic).unwrap();
        let told = host.on_dying(&CoreDump { pid: 7, parent: Some(3), timestamp_ns: now });
        assert_eq!(told.evidence.iter().map(Evidence::rung).collect::<Vec<_>>(), [Rung::OwnCgroup, Rung::ParentCgroup]);
        assert_eq!(weigh(&told.evidence), None, "its parent is in a unit of the system's");
    }

    #[test]
    fn a_parent_speaks_for_a_child_that_is_gone() {
        let rungs = |told: &DeathEvidence| told.evidence.iter().map(Evidence::rung).collect::<Vec<_>>();
        let (root, mut host) = machine(10_000, 10_000);
        let now = u64::try_from(Clocks::now().monotonic).unwrap();
        let dying = CoreDump { pid: 7, parent: Some(3), timestamp_ns: now };
        assert_eq!(rungs(&host.on_dying(&dying)), [Rung::OwnCgroup]);
        fs::remove_dir_all(root.path().join("7")).unwrap();
        assert_eq!(rungs(&host.on_dying(&dying)), [Rung::ParentCgroup]);
        let exit = SigsysExit { pid: 7, parent: Some(3), timestamp_ns: now, core_dumped: false };
        assert_eq!(rungs(&host.on_exit(&exit)), [Rung::ParentCgroup]);
        let (_root, mut host) = machine(0, 0);
        let before = SigsysExit { timestamp_ns: now - 5_000_000_000, ..exit };
        assert_eq!(rungs(&host.on_exit(&before)), [], "that parent is another's");
        assert!((host.on_exit(&exit).at - now_millis()).abs() < 1_000);
    }
}
