//! The running machine as a source of evidence.

use super::late_evidence::LateEvidence;
use super::{Ancestor, CallSiteNote, Host};
use crate::audit::{Action, Record, Stamp};
use crate::incidents::{Denial, IncidentEvent, Moment, Parent, Sighting};
use crate::kernel::call_sites::CallSites;
use crate::kernel::clock::{Clocks, PID_STABLE_MS, ns_of_ticks};
use crate::kernel::exit_cgroups::ExitCgroups;
use crate::kernel::pid_cache::PidCache;
use crate::kernel::proc_events::{CoreDump, SigsysExit};
use crate::kernel::procfs::Procfs;
use crate::units::Evidence;
use std::sync::Arc;

/// How many generations a lineage has at most.
const MOST_ANCESTORS: usize = 32;

/// The evidence about a process after the kernel reported its death.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DeathEvidence {
    /// The time of the death, in milliseconds since the epoch.
    pub at: i64,
    /// Evidence for the process's unit.
    pub evidence: Vec<Evidence>,
    /// The process's parent, if the evidence names no unit.
    pub parent: Option<Parent>,
}

/// This machine: `/proc`, and the cgroups that the kernel noted of dying processes.
#[derive(Debug)]
pub(crate) struct LiveHost {
    procfs: Procfs,
    exit_cgroups: Option<ExitCgroups>,
    call_sites: Option<Box<CallSites>>,
    pids: PidCache,
    late_evidence: Arc<LateEvidence>,
}

impl LiveHost {
    /// Creates a host without notes of dying processes. [`late_evidence`](Self::late_evidence) returns the argument.
    #[must_use]
    pub(crate) fn new(late_evidence: LateEvidence) -> Self {
        Self {
            procfs: Procfs::live(),
            exit_cgroups: None,
            call_sites: None,
            pids: PidCache::new(),
            late_evidence: Arc::new(late_evidence),
        }
    }

    /// Adds the cgroups that the kernel noted of dying processes.
    #[must_use]
    pub(crate) fn with_exit_cgroups(self, exit_cgroups: Option<ExitCgroups>) -> Self {
        Self { exit_cgroups, ..self }
    }

    /// Whether the kernel notes the cgroups of processes.
    #[must_use]
    pub(crate) fn has_exit_cgroups(&self) -> bool {
        self.exit_cgroups.is_some()
    }

    /// Returns the cgroup of a process, from the ids that the kernel reported: those of the cgroups that hold it, from the root
    /// on.
    #[must_use]
    pub(crate) fn own_cgroup_by_ids(&self, ids: &[u64]) -> Option<Evidence> {
        let path = self.exit_cgroups.as_ref()?.path(ids)?;
        Some(Evidence::OwnCgroup([b"0::", path.as_slice(), b"\n"].concat()))
    }

    /// Adds the places in their code that the kernel noted of killed processes.
    #[must_use]
    pub(crate) fn with_call_sites(self, call_sites: Option<CallSites>) -> Self {
        Self { call_sites: call_sites.map(Box::new), ..self }
    }

    /// Starts a batch of records. The caller has received all of its records.
    pub(crate) fn begin_batch(&mut self) {
        self.pids.begin_batch();
    }

    /// The slower sources, for records whose unit the host cannot find at once.
    #[must_use]
    pub(crate) fn late_evidence(&self) -> Arc<LateEvidence> {
        Arc::clone(&self.late_evidence)
    }

    /// Collects evidence about a dying process and its parent.
    #[must_use]
    pub(crate) fn on_dying(&mut self, dying: &CoreDump) -> DeathEvidence {
        let clocks = Clocks::now();
        let at = clocks.millis_of_monotonic(dying.timestamp_ns);
        let own = self.own_cgroup(dying.pid, at, clocks);
        // The process's own cgroup overrules its parent's.
        self.death_evidence(own, dying.parent, at, clocks)
    }

    /// Collects evidence about a dead process and its parent.
    #[must_use]
    pub(crate) fn on_exit(&mut self, exit: &SigsysExit) -> DeathEvidence {
        let clocks = Clocks::now();
        let at = clocks.millis_of_monotonic(exit.timestamp_ns);
        self.death_evidence(self.exit_cgroup(exit.pid, at), exit.parent, at, clocks)
    }

    /// Collects the evidence for a record that arrives when the clocks stand so.
    fn collect_evidence_at(&self, record: &Record<'_>, clocks: Clocks) -> Vec<Evidence> {
        let pid = record.pid;
        let Stamp::Millis(at) = record.stamp else { return Vec::new() };
        let places: &[CgroupPlace] = if record.action.is_kill() || record.action == Action::Trap {
            // The process is probably dead. If it dies between the first two reads, the third read finds its note.
            &[CgroupPlace::ExitNote, CgroupPlace::SameProcess, CgroupPlace::ExitNote]
        } else if clocks.millis_since(at) <= PID_STABLE_MS && !clocks.is_future(at) {
            &[CgroupPlace::CurrentPid, CgroupPlace::ExitNote]
        } else {
            &[CgroupPlace::SameProcess, CgroupPlace::ExitNote]
        };
        let mut found: Vec<Evidence> = Vec::new();
        for place in places {
            found.extend(match place {
                CgroupPlace::CurrentPid => self.procfs.cgroup(pid).map(Evidence::OwnCgroup).filter(Evidence::is_usable),
                CgroupPlace::SameProcess => self.own_cgroup(pid, at, clocks),
                CgroupPlace::ExitNote => self.exit_cgroup(pid, at),
            });
            if found.last().is_some_and(Evidence::is_conclusive) {
                break;
            }
        }
        found
    }

    /// Evidence from the process itself, or else from its parent.
    fn death_evidence(&self, own: Option<Evidence>, parent: Option<u32>, at: i64, clocks: Clocks) -> DeathEvidence {
        let mut evidence: Vec<Evidence> = own.into_iter().collect();
        if evidence.iter().any(Evidence::is_conclusive) {
            return DeathEvidence { at, evidence, parent: None };
        }
        let parents = parent.and_then(|parent| self.cgroup_of(parent, at, clocks)).map(Evidence::ParentCgroup);
        let parents = parents.filter(Evidence::is_conclusive);
        let parent = parent.filter(|_| parents.is_none()).and_then(|pid| self.named_process(pid, at, clocks));
        evidence.extend(parents);
        DeathEvidence { at, evidence, parent }
    }

    /// Evidence from the process's own cgroup, if the process still lives. The process had the pid at a moment, in
    /// milliseconds since the epoch.
    fn own_cgroup(&self, pid: u32, at: i64, clocks: Clocks) -> Option<Evidence> {
        self.cgroup_of(pid, at, clocks).map(Evidence::OwnCgroup).filter(Evidence::is_usable)
    }

    /// Evidence from the cgroup that the kernel noted at the death of the process.
    fn exit_cgroup(&self, pid: u32, at: i64) -> Option<Evidence> {
        self.exit_cgroups.as_ref()?.cgroup(pid, at).map(Evidence::ExitCgroup).filter(Evidence::is_usable)
    }

    /// Reads the cgroup of the process that had a pid at a moment. If the current process started later, it is another
    /// process. This reads the start time after the cgroup, so both belong to the same process.
    fn cgroup_of(&self, pid: u32, at: i64, clocks: Clocks) -> Option<Vec<u8>> {
        let cgroup = self.procfs.cgroup(pid)?;
        self.had_pid_at(pid, at, clocks).then_some(cgroup)
    }

    /// The process that had a pid at a moment, with its name.
    fn named_process(&self, pid: u32, at: i64, clocks: Clocks) -> Option<Parent> {
        let comm = self.procfs.comm(pid)?;
        self.had_pid_at(pid, at, clocks).then_some(Parent { pid, comm })
    }

    /// Returns the process that has a pid now and had it at a moment, and its parent.
    fn living_ancestor(&self, pid: u32, at: i64, clocks: Clocks) -> Option<(Ancestor, Option<u32>)> {
        let (cgroup, session, parent) =
            (self.procfs.cgroup(pid)?, self.procfs.audit_session(pid), self.procfs.parent(pid));
        let started = clocks.millis_of_boot(ns_of_ticks(self.procfs.start_time(pid)?));
        self.had_pid_at(pid, at, clocks).then_some((Ancestor { started, cgroup, session }, parent))
    }

    /// Returns the process that had a pid at a moment and is gone, and its parent, from the kernel's notes.
    fn departed_ancestor(&self, pid: u32, at: i64, clocks: Clocks) -> Option<(Ancestor, Option<u32>)> {
        let exit_cgroups = self.exit_cgroups.as_ref()?;
        let (parent, started) = exit_cgroups.parent_and_start(pid, at)?;
        let path = exit_cgroups.cgroup(pid, at).unwrap_or_default();
        let cgroup = [b"0::", path.as_slice(), b"\n"].concat();
        Some((Ancestor { started: clocks.millis_of_boot(started), cgroup, session: None }, Some(parent)))
    }

    /// Whether the process that has a pid now had it at a moment.
    fn had_pid_at(&self, pid: u32, at: i64, clocks: Clocks) -> bool {
        if clocks.is_future(at) {
            return false;
        }
        let started = self.procfs.start_time(pid).map(ns_of_ticks);
        started.is_some_and(|started| clocks.had_pid_at(at, started, None))
    }
}

impl Host for LiveHost {
    fn evidence_key(&mut self, record: &Record<'_>) -> Option<u64> {
        let Stamp::Millis(at) = record.stamp else { return None };
        // A killed process makes one record, so its evidence is never needed again.
        let survives = matches!(record.action, Action::Errno | Action::Log | Action::Trace | Action::UserNotif);
        if survives { self.pids.number(&self.procfs, record.pid, at) } else { None }
    }

    fn collect_evidence(&mut self, record: &Record<'_>) -> Vec<Evidence> {
        self.collect_evidence_at(record, Clocks::now())
    }

    fn lineage(&mut self, record: &Record<'_>) -> Vec<Ancestor> {
        let Stamp::Millis(at) = record.stamp else { return Vec::new() };
        let clocks = Clocks::now();
        let mut lineage = Vec::new();
        let mut next = Some(record.pid);
        while let Some(pid) = next.filter(|_| lineage.len() < MOST_ANCESTORS) {
            // A process that dies after the first look has left its note.
            let living = || self.living_ancestor(pid, at, clocks);
            let Some((ancestor, parent)) = living().or_else(|| self.departed_ancestor(pid, at, clocks)) else { break };
            lineage.push(ancestor);
            next = parent;
        }
        lineage
    }

    fn call_site(&self, sighting: &Sighting) -> CallSiteNote {
        // The other two may kill the process or not.
        let (ip, may_wait) = match sighting.key.event {
            IncidentEvent::Denial(Denial { action: Action::KillProcess, .. }) => (Some(sighting.sample.ip), true),
            IncidentEvent::Denial(Denial { action: Action::KillThread | Action::Trap, .. }) => {
                (Some(sighting.sample.ip), false)
            }
            IncidentEvent::UnrecordedDeath => (None, false),
            IncidentEvent::Denial(_) | IncidentEvent::Access(_) => return CallSiteNote::None,
        };
        let (Some(notes), Moment::At(at)) = (&self.call_sites, &sighting.at) else { return CallSiteNote::None };
        let site = notes.call_site(sighting.sample.pid, *at, ip);
        match site {
            Some(found) if found.is_complete || !may_wait => CallSiteNote::Noted(Box::new(found.site)),
            None if !may_wait => CallSiteNote::None,
            found => CallSiteNote::Later(found.map(|found| Box::new(found.site))),
        }
    }

    fn parent(&mut self, record: &Record<'_>) -> Option<Parent> {
        let Stamp::Millis(at) = record.stamp else { return None };
        let clocks = Clocks::now();
        let parent = self.procfs.parent(record.pid)?;
        // A later process with the same pid can have another parent.
        self.had_pid_at(record.pid, at, clocks).then(|| self.named_process(parent, at, clocks)).flatten()
    }
}

/// A place to look up a process's own cgroup.
#[derive(Debug, Clone, Copy)]
enum CgroupPlace {
    /// `/proc`, for the process that has the pid now.
    CurrentPid,
    /// `/proc`, if the process that has the pid now had it at the time of the record.
    SameProcess,
    /// The kernel's notes of dying processes.
    ExitNote,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::parse_record;
    use crate::kernel::clock::now_millis;
    use crate::systemd::manager::Managers;
    use crate::units::{Rung, weigh};
    use std::fs;

    /// A machine with process 7 in a.service and its parent 3 in b.service, which started this many milliseconds ago.
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

    /// The evidence for a record of process 7 that is this many milliseconds old.
    fn rungs_for_record(host: &LiveHost, code: &str, ago: i64) -> Vec<Rung> {
        let clocks = Clocks::now();
        let at = clocks.millis_of_boot(clocks.boot_ns()) - ago;
        let line = format!(
            "audit({}.{:03}:2): auid=1 uid=0 gid=0 ses=1 pid=7 comm=\"x\" exe=\"/x\" sig=0 arch=c000003e syscall=41 \
             compat=0 ip=0x7f code={code}",
            at / 1_000,
            at % 1_000
        );
        host.collect_evidence_at(&parse_record(line.as_bytes()).unwrap(), clocks).iter().map(Evidence::rung).collect()
    }

    const KILLED: &str = "0x80000000";
    const LOGGED: &str = "0x7ffc0000";

    #[test]
    fn process_started_after_record_is_not_evidence() {
        let (_root, host) = machine(10_000, 10_000);
        assert_eq!(rungs_for_record(&host, KILLED, 5), [Rung::OwnCgroup]);
        assert_eq!(rungs_for_record(&host, KILLED, 9_000), [Rung::OwnCgroup]);
        assert_eq!(rungs_for_record(&host, KILLED, 600_000), [], "this one started after the record was made");
        assert_eq!(rungs_for_record(&host, LOGGED, 9_000), [Rung::OwnCgroup]);
        assert_eq!(rungs_for_record(&host, LOGGED, 600_000), []);
    }

    #[test]
    fn record_from_future_has_no_evidence() {
        let (_root, host) = machine(10_000, 10_000);
        for code in [KILLED, LOGGED] {
            assert_eq!(rungs_for_record(&host, code, -10), [Rung::OwnCgroup]);
            assert_eq!(rungs_for_record(&host, code, -3_000), [], "another process may have had the pid then");
        }
    }

    #[test]
    fn recent_record_of_survivor_needs_no_start_time() {
        let (root, host) = machine(10_000, 10_000);
        fs::remove_file(root.path().join("7/stat")).unwrap();
        assert_eq!(rungs_for_record(&host, LOGGED, 5), [Rung::OwnCgroup]);
        assert_eq!(rungs_for_record(&host, LOGGED, 9_000), []);
        assert_eq!(rungs_for_record(&host, KILLED, 5), [], "another process may have the pid by now");
    }

    #[test]
    fn cgroup_below_user_manager_contradicts_parents_system_unit() {
        let (root, mut host) = machine(10_000, 10_000);
        let scope = "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n";
        fs::write(root.path().join("7/cgroup"), scope).unwrap();
        assert_eq!(rungs_for_record(&host, KILLED, 5), [Rung::OwnCgroup]);
        assert_eq!(rungs_for_record(&host, LOGGED, 5), [Rung::OwnCgroup]);
        let now = u64::try_from(Clocks::now().monotonic).unwrap();
        let death = host.on_dying(&CoreDump { pid: 7, parent: Some(3), timestamp_ns: now });
        assert_eq!(
            death.evidence.iter().map(Evidence::rung).collect::<Vec<_>>(),
            [Rung::OwnCgroup, Rung::ParentCgroup]
        );
        assert_eq!(weigh(&death.evidence), None, "its parent is in a system unit");
    }

    #[test]
    fn parent_gives_evidence_for_dead_child() {
        let rungs = |death: &DeathEvidence| death.evidence.iter().map(Evidence::rung).collect::<Vec<_>>();
        let (root, mut host) = machine(10_000, 10_000);
        let earliest = now_millis();
        let now = u64::try_from(Clocks::now().monotonic).unwrap();
        let latest = now_millis();
        let dying = CoreDump { pid: 7, parent: Some(3), timestamp_ns: now };
        assert_eq!(rungs(&host.on_dying(&dying)), [Rung::OwnCgroup]);
        fs::remove_dir_all(root.path().join("7")).unwrap();
        assert_eq!(rungs(&host.on_dying(&dying)), [Rung::ParentCgroup]);
        let exit = SigsysExit { pid: 7, parent: Some(3), timestamp_ns: now, core_dumped: false };
        assert_eq!(rungs(&host.on_exit(&exit)), [Rung::ParentCgroup]);
        let (_root, mut host) = machine(0, 0);
        let before = SigsysExit { timestamp_ns: now - 5_000_000_000, ..exit };
        assert_eq!(rungs(&host.on_exit(&before)), [], "that parent started after the exit");
        let at = host.on_exit(&exit).at;
        assert!((earliest - 1_000..=latest + 1_000).contains(&at), "{at} is not from {earliest} to {latest}");
    }
}
