//! The processes that a manager remembers after they died: a unit's main process and its commands (`ExecStartPre=`, …).

use super::property_map::take;
use super::{ListedUnit, MANAGER, PATH, PropertyMap, SystemdError, SystemdManager, UNIT, in_time, interface};
use crate::audit::record::SIGSYS;
use crate::units::{Evidence, Rung, Unit};
use std::sync::Arc;
use tokio::task::JoinSet;
use zbus::OwnedObjectPath;

/// The largest difference between two clock readings of one event, in milliseconds.
const SLACK_MS: i64 = 1_000;
/// The age of a unit's settled state, in milliseconds, after which its commands have ended. After that, only the pid of
/// its main process can match.
const RECENT_MS: i64 = 600_000;
/// The number of D-Bus calls under way at a time: enough to hide the round trip, too few to delay the manager.
const MAX_CALLS: usize = 16;
/// The limit of units read.
const MOST_UNITS: usize = 4_096;

/// Unit types that start processes themselves.
const PATTERNS: [&str; 4] = ["*.service", "*.socket", "*.mount", "*.swap"];
/// The active states during or after the death of one of a unit's processes.
const TROUBLED: [&str; 6] = ["failed", "activating", "deactivating", "reloading", "refreshing", "maintenance"];
/// The other active states.
const SETTLED: [&str; 2] = ["active", "inactive"];

/// A command: path, arguments, whether failure is ignored, start and exit in real and monotonic time, pid, code, status
/// (`org.freedesktop.systemd1(5)`).
type ExecStatus = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// A process to look up by the pid that it had at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidAtTime {
    /// The process's pid.
    pub pid: u32,
    /// The moment, in milliseconds since the epoch.
    pub at: i64,
}

/// A process that a manager remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastProcess {
    /// The unit that the process belonged to.
    pub unit: Unit,
    /// [`Rung::MainProcess`] or [`Rung::ControlProcess`].
    pub rung: Rung,
    /// The process's pid in the manager's PID namespace.
    pub pid: u32,
    /// The start time, in microseconds since the epoch.
    pub started_us: u64,
    /// The time at which the manager reaped it, in microseconds since the epoch; `None` while it runs.
    pub exited_us: Option<u64>,
    /// The kind of exit (`CLD_*`, `waitid(2)`); 0 while it runs.
    pub code: i32,
    /// The exit status or signal.
    pub status: i32,
}

impl PastProcess {
    /// Whether the process died of SIGSYS.
    #[must_use]
    pub fn died_of_sigsys(&self) -> bool {
        matches!(self.code, libc::CLD_KILLED | libc::CLD_DUMPED) && self.status == SIGSYS
    }

    /// Whether this process had a pid at a moment, in milliseconds since the epoch.
    #[must_use]
    pub fn had(&self, pid: u32, millis: i64) -> bool {
        self.pid == pid && self.lived_at(millis)
    }

    /// Whether the process lived at a moment, in milliseconds since the epoch. Pids are reused.
    #[must_use]
    pub fn lived_at(&self, millis: i64) -> bool {
        let ms = |us: u64| i64::try_from(us / 1_000).unwrap_or(i64::MAX);
        let begun = self.started_us != 0 && ms(self.started_us) <= millis.saturating_add(SLACK_MS);
        begun && self.exited_us.is_none_or(|exited| ms(exited).saturating_add(SLACK_MS) >= millis)
    }
}

impl From<PastProcess> for Evidence {
    fn from(process: PastProcess) -> Self {
        Self::Named(process.rung, process.unit)
    }
}

impl SystemdManager {
    /// The remembered processes that had one of these pids at its moment. Units in a troubled state are read first, the
    /// others only if a process is still missing.
    ///
    /// A manager forgets the process when it starts the unit again, so ask soon. Ask a user manager only about that
    /// user's processes, because it can claim any pid.
    ///
    /// # Errors
    /// The manager does not answer within two seconds. Then it is *unknown* whether a unit had the process.
    pub async fn past_processes(&self, wanted: &[PidAtTime]) -> Result<Vec<PastProcess>, SystemdError> {
        in_time(async {
            let fits = |process: &PastProcess| wanted.iter().any(|one| process.had(one.pid, one.at));
            let troubled = self.each(self.list(&TROUBLED).await?, Self::processes).await;
            let mut found: Vec<_> = troubled.into_iter().filter(fits).collect();
            let missing = |one: &&PidAtTime| !found.iter().any(|process| process.had(one.pid, one.at));
            let missing: Arc<[PidAtTime]> = wanted.iter().filter(missing).copied().collect();
            if !missing.is_empty() {
                let ask = |this: Self, unit, path| this.settled(unit, path, Arc::clone(&missing));
                let settled = self.each(self.list(&SETTLED).await?, ask).await;
                found.extend(settled.into_iter().filter(fits));
            }
            Ok(found)
        })
        .await
    }

    /// The units in one of these states whose type starts processes.
    async fn list(&self, states: &[&str]) -> Result<Vec<(Unit, OwnedObjectPath)>, SystemdError> {
        let listed: Vec<ListedUnit> = self.call(PATH, MANAGER, "ListUnitsByPatterns", &(states, &PATTERNS[..])).await?;
        let unit =
            |listed: ListedUnit| Some((Unit { manager: self.manager(), name: listed.0.parse().ok()? }, listed.6));
        Ok(listed.into_iter().take(MOST_UNITS).filter_map(unit).collect())
    }

    /// Reads the processes of each unit, several units at a time. A unit that vanishes has no processes.
    async fn each<F>(
        &self,
        units: Vec<(Unit, OwnedObjectPath)>,
        ask: impl Fn(Self, Unit, OwnedObjectPath) -> F,
    ) -> Vec<PastProcess>
    where
        F: Future<Output = Vec<PastProcess>> + Send + 'static,
    {
        let mut units = units.into_iter();
        let mut answers = JoinSet::new();
        let mut found = Vec::new();
        loop {
            while answers.len() < MAX_CALLS
                && let Some((unit, path)) = units.next()
            {
                answers.spawn(ask(self.clone(), unit, path));
            }
            match answers.join_next().await {
                Some(answer) => found.extend(answer.unwrap_or_default()),
                None => return found,
            }
        }
    }

    /// Returns the processes of a unit in a settled state. Reads its properties only if its state changed recently or
    /// its main process has one of the pids.
    async fn settled(self, unit: Unit, path: OwnedObjectPath, wanted: Arc<[PidAtTime]>) -> Vec<PastProcess> {
        let Some(earliest) = wanted.iter().map(|one| one.at).min() else { return Vec::new() };
        let changed = self.get::<u64>(&path, UNIT, "StateChangeTimestamp").await.unwrap_or_default();
        let recent = i64::try_from(changed / 1_000).is_ok_and(|ms| ms >= earliest.saturating_sub(RECENT_MS));
        let main = match interface(unit.name.suffix()) {
            Some(interface) if !recent && unit.name.suffix() == "service" => {
                self.get::<u32>(&path, interface, "ExecMainPID").await.ok()
            }
            _ => None,
        };
        let is_wanted = main.is_some_and(|main| wanted.iter().any(|one| one.pid == main));
        if recent || is_wanted { self.processes(unit, path).await } else { Vec::new() }
    }

    /// All processes of a unit that the manager remembers.
    async fn processes(self, unit: Unit, path: OwnedObjectPath) -> Vec<PastProcess> {
        let Some(interface) = interface(unit.name.suffix()) else { return Vec::new() };
        let properties: PropertyMap = self.get_all(&path, interface).await.unwrap_or_default();
        processes(&unit, &properties)
    }
}

/// Parses the processes from the properties of a unit's type.
fn processes(unit: &Unit, properties: &PropertyMap) -> Vec<PastProcess> {
    let number = |name| take::<u64>(properties, name).unwrap_or_default();
    let signed = |name| take::<i32>(properties, name).unwrap_or_default();
    let main = take::<u32>(properties, "ExecMainPID").filter(|&pid| pid != 0).map(|pid| PastProcess {
        unit: unit.clone(),
        rung: Rung::MainProcess,
        pid,
        started_us: number("ExecMainStartTimestamp"),
        exited_us: Some(number("ExecMainExitTimestamp")).filter(|&exited| exited != 0),
        code: signed("ExecMainCode"),
        status: signed("ExecMainStatus"),
    });
    let mut found: Vec<PastProcess> = main.into_iter().collect();
    let mut lists: Vec<&String> = properties.keys().filter(|name| name.starts_with("Exec")).collect();
    lists.sort_unstable();
    for command in lists.into_iter().filter_map(|name| take::<Vec<ExecStatus>>(properties, name)).flatten() {
        let (_, _, _, started_us, _, exited_us, _, pid, code, status) = command;
        // The main process of most services is also the process of their ExecStart=.
        if pid != 0 && found.iter().all(|process| process.pid != pid) {
            found.push(PastProcess {
                unit: unit.clone(),
                rung: Rung::ControlProcess,
                pid,
                started_us,
                exited_us: Some(exited_us).filter(|&exited| exited != 0),
                code,
                status,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Manager;
    use zbus::Variant;

    fn unit() -> Unit {
        Unit { manager: Manager::System, name: "a.service".parse().unwrap() }
    }

    fn command(pid: u32, start_us: u64, exit_us: u64, code: i32, status: i32) -> Variant<'static> {
        let argv = vec!["/bin/x".to_owned()];
        let command: ExecStatus = ("/bin/x".to_owned(), argv, false, start_us, 1, exit_us, 2, pid, code, status);
        Variant::new(vec![command])
    }

    fn properties(list: Vec<(&str, Variant<'static>)>) -> PropertyMap {
        list.into_iter().map(|(name, value)| (name.to_owned(), value.try_into().unwrap())).collect()
    }

    #[test]
    fn main_process_and_commands_are_parsed() {
        let found = processes(
            &unit(),
            &properties(vec![
                ("ExecMainPID", 9_u32.into()),
                ("ExecMainStartTimestamp", 5_000_u64.into()),
                ("ExecMainExitTimestamp", 6_000_u64.into()),
                ("ExecMainCode", libc::CLD_DUMPED.into()),
                ("ExecMainStatus", 31_i32.into()),
                ("ExecStart", command(9, 5_000, 6_000, 3, 31)),
                ("ExecStartPre", command(8, 3_000, 4_000, 1, 0)),
                ("ExecStop", command(0, 0, 0, 0, 0)),
                ("ExecStartEx", "of another type".into()),
            ]),
        );
        let seen: Vec<_> = found.iter().map(|one| (one.pid, one.rung, one.died_of_sigsys())).collect();
        assert_eq!(seen, [(9, Rung::MainProcess, true), (8, Rung::ControlProcess, false)]);
        assert_eq!(Evidence::from(found[0].clone()), Evidence::Named(Rung::MainProcess, unit()));
    }

    #[test]
    fn unit_that_never_ran_has_no_past_processes() {
        assert_eq!(processes(&unit(), &properties(vec![("ExecMainPID", 0_u32.into())])), []);
        assert_eq!(processes(&unit(), &PropertyMap::new()), []);
    }

    #[test]
    fn reused_pid_differs_by_its_times() {
        let process = |started_us, exited_us| PastProcess {
            unit: unit(),
            rung: Rung::MainProcess,
            pid: 9,
            started_us,
            exited_us,
            code: 0,
            status: 0,
        };
        let ended = process(10_000_000, Some(20_000_000));
        assert!(ended.lived_at(10_000) && ended.lived_at(15_000) && ended.lived_at(20_000));
        assert!(ended.lived_at(20_900), "clocks are read at different moments");
        assert!(!ended.lived_at(8_000) && !ended.lived_at(22_000));
        assert!(process(10_000_000, None).lived_at(i64::MAX));
        assert!(!process(10_000_000, None).lived_at(i64::MIN));
        assert!(!process(0, None).lived_at(5), "it never started");
        assert!(!process(u64::MAX, Some(u64::MAX)).lived_at(5));
    }

    #[test]
    fn only_signal_sigsys_counts_as_death_of_sigsys() {
        let died = |code, status| {
            let exec = properties(vec![("ExecStartPre", command(8, 1, 2, code, status))]);
            processes(&unit(), &exec).iter().any(PastProcess::died_of_sigsys)
        };
        assert!(died(libc::CLD_KILLED, 31) && died(libc::CLD_DUMPED, 31));
        assert!(!died(libc::CLD_EXITED, 31) && !died(libc::CLD_KILLED, 9));
    }
}
