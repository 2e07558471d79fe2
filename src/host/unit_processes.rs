//! The processes that a unit's processes started, wherever they were moved.
//!
//! A process keeps the filters of the process that started it. PAM moves a login into a `session-N.scope`
//! (`pam_systemd(8)`), and a program can move its children with `systemd-run --scope`. Such processes keep the unit's
//! filters, but their cgroup does not show the unit.

use crate::audit::text::{escape_excerpt, join_first};
use crate::kernel::clock::ns_of_ticks;
use crate::kernel::procfs::Procfs;
use crate::units::Unit;
use crate::units::cgroup::{Placement, place, scope_path};
use std::collections::{BTreeMap, BTreeSet};

/// The most processes that one sentence names.
const MOST_NAMED: usize = 5;

/// A process that a unit's processes started, or one of the unit's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitProcess {
    pub(crate) pid: u32,
    /// The command line.
    pub(crate) command: Vec<u8>,
    /// When it started, in clock ticks since boot.
    started: u64,
}

impl UnitProcess {
    /// Whether the process still runs.
    pub(crate) fn is_running(&self) -> bool {
        Procfs::live().is_running(self.pid, self.started)
    }
}

/// Returns the processes that still run.
pub(crate) fn still_running(processes: Vec<UnitProcess>) -> Vec<UnitProcess> {
    processes.into_iter().filter(UnitProcess::is_running).collect()
}

/// Names the processes that outlive a run without the unit's own settings; `None` without any.
pub(crate) fn describe_survivors(survivors: &[UnitProcess]) -> Option<String> {
    let name = |one: &UnitProcess| format!("{} ({})", one.pid, escape_excerpt(&String::from_utf8_lossy(&one.command)));
    let named = join_first(&survivors.iter().map(name).collect::<Vec<_>>(), MOST_NAMED);
    (!survivors.is_empty()).then(|| format!("these processes still run without its own settings, so end them: {named}"))
}

/// Finds the processes of a unit that started at or after a moment, in nanoseconds since boot, and the processes that
/// these started. Leaves out what earlier processes of the unit start.
pub(crate) fn find_started_since(unit: &Unit, since: i64) -> Vec<UnitProcess> {
    find_below(&Procfs::live(), unit, since)
}

fn find_below(procfs: &Procfs, unit: &Unit, since: i64) -> Vec<UnitProcess> {
    // `/proc` rounds the time of a start down to a tick.
    let since = since.saturating_sub(ns_of_ticks(1));
    let all = Processes::read(procfs, unit);
    let mut found: BTreeSet<u32> = all.0.keys().copied().filter(|pid| all.descends(*pid, since)).collect();
    // A process whose parent ended is still in its login, and in its scope.
    let moved = || found.iter().filter_map(|pid| all.0.get(pid)).filter(|process| process.place != Place::Unit);
    let own: BTreeSet<u32> =
        all.0.values().filter(|one| one.place == Place::Unit).filter_map(|one| one.session).collect();
    let sessions: BTreeSet<u32> = moved().filter_map(|one| one.session).filter(|id| !own.contains(id)).collect();
    let scopes: BTreeSet<Vec<u8>> = moved().filter_map(|one| one.place.scope().map(<[u8]>::to_vec)).collect();
    found.extend(all.0.iter().filter_map(|(pid, one)| {
        let is_in_login = one.session.is_some_and(|id| sessions.contains(&id));
        let is_in_scope = one.place.scope().is_some_and(|scope| scopes.contains(scope));
        (ns_of_ticks(one.started) >= since && (is_in_login || is_in_scope)).then_some(*pid)
    }));
    let processes = found.into_iter().filter_map(|pid| Some((pid, all.0.get(&pid)?)));
    processes
        .filter_map(|(pid, one)| Some(UnitProcess { pid, command: procfs.command_line(pid)?, started: one.started }))
        .collect()
}

/// Where a process is, as seen from one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// In the unit.
    Unit,
    /// In this cgroup of a scope or a login. Its processes have the filters with which they came.
    Scope(Vec<u8>),
    /// Elsewhere.
    Other,
}

impl Place {
    fn scope(&self) -> Option<&[u8]> {
        if let Self::Scope(cgroup) = self { Some(cgroup) } else { None }
    }
}

#[derive(Debug)]
struct Process {
    parent: Option<u32>,
    started: u64,
    session: Option<u32>,
    place: Place,
}

/// All processes of a machine, by pid.
#[derive(Debug)]
struct Processes(BTreeMap<u32, Process>);

impl Processes {
    fn read(procfs: &Procfs, unit: &Unit) -> Self {
        let one = |pid: u32| {
            let cgroup = procfs.cgroup(pid)?;
            let place = match place(&cgroup) {
                Placement::Unit(other) if other == *unit => Place::Unit,
                _ => scope_path(&cgroup).map_or(Place::Other, |path| Place::Scope(path.to_vec())),
            };
            let (parent, started) = (procfs.parent(pid), procfs.start_time(pid)?);
            Some((pid, Process { parent, started, session: procfs.audit_session(pid), place }))
        };
        Self(procfs.pids().into_iter().filter_map(one).collect())
    }

    /// Whether a process is one of the unit's, or has an ancestor that is, and that one started at or after a moment.
    fn descends(&self, pid: u32, since: i64) -> bool {
        let mut oldest = None;
        let mut next = Some(pid);
        // The kernel may reuse a pid between two reads, so a chain can be circular.
        for _ in 0..self.0.len() {
            let Some(process) = next.and_then(|pid| self.0.get(&pid)) else { break };
            if process.place == Place::Unit {
                oldest = Some(process);
            }
            next = process.parent;
        }
        oldest.is_some_and(|oldest| ns_of_ticks(oldest.started) >= since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Manager;
    use std::fs;

    const UNIT: &str = "/system.slice/ssh.service";
    const SESSION: &str = "/user.slice/user-0.slice/session-7.scope";

    /// Finds the pids of the unit's processes that started after 10 s. A process: pid, parent, seconds since boot, audit
    /// session, cgroup.
    fn find_pids(processes: &[(u32, u32, u64, u32, &str)]) -> Vec<u32> {
        let root = tempfile::tempdir().unwrap();
        for (pid, parent, started, session, cgroup) in processes {
            let directory = root.path().join(pid.to_string());
            fs::create_dir(&directory).unwrap();
            let stat = format!("{pid} (x) S {parent}{} {}", " 0".repeat(17), started * 100);
            for (name, text) in [("stat", stat), ("cgroup", format!("0::{cgroup}\n")), ("cmdline", "x\0y\0".to_owned())]
            {
                fs::write(directory.join(name), text).unwrap();
            }
            fs::write(directory.join("sessionid"), session.to_string()).unwrap();
        }
        let unit = Unit { manager: Manager::System, name: "ssh.service".parse().unwrap() };
        let found = find_below(&Procfs::new(root.path()), &unit, 10_009_000_000);
        assert!(found.iter().all(|one| one.command == b"x y"), "{found:?}");
        found.iter().map(|one| one.pid).collect()
    }

    #[test]
    fn survivors_are_named_by_pid_and_command() {
        let one = |pid| UnitProcess { pid, command: b"sleep \x1b[31m9".to_vec(), started: 1 };
        assert_eq!(describe_survivors(&[]), None);
        let text = describe_survivors(&[one(7), one(8)]).unwrap();
        assert!(text.contains("7 (sleep ") && text.contains("8 (sleep ") && !text.contains('\x1b'), "{text}");
        assert!(describe_survivors(&(1..20).map(one).collect::<Vec<_>>()).unwrap().contains("14 more"));
    }

    #[test]
    fn process_moved_to_session_is_found_by_ancestor_login_and_scope() {
        let login = [
            (1, 0, 0, u32::MAX, "/init.scope"),
            (20, 1, 11, u32::MAX, UNIT),
            (21, 20, 12, 7, SESSION),
            (22, 21, 12, 7, SESSION),
            (23, 1, 13, 7, "/system.slice/other.service"),
            (24, 1, 13, u32::MAX, SESSION),
            (30, 1, 13, 8, "/user.slice/user-0.slice/session-8.scope"),
        ];
        assert_eq!(find_pids(&login), [20, 21, 22, 23, 24]);
        assert_eq!(find_pids(&login[2..]), [0; 0], "the unit has no process");
    }

    #[test]
    fn process_that_started_before_is_left_out_with_its_children() {
        assert_eq!(find_pids(&[(20, 1, 10, u32::MAX, UNIT)]), [20]);
        let left = [(20, 1, 9, u32::MAX, UNIT), (21, 20, 12, u32::MAX, UNIT), (22, 1, 12, u32::MAX, UNIT)];
        assert_eq!(find_pids(&left), [22]);
    }

    #[test]
    fn login_of_user_manager_does_not_join_its_units() {
        let unit = [(20, 1, 11, 7, UNIT), (21, 20, 12, 7, SESSION), (22, 1, 12, 7, "/system.slice/other.service")];
        assert_eq!(find_pids(&unit), [20, 21]);
    }
}
