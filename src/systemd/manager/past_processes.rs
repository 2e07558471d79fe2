//! The processes that a manager remembers after they are gone: a unit's main process and its
//! commands (`ExecStartPre=`, …).

use super::unit_properties::take;
use super::{ListedUnit, MANAGER, PATH, PropertyMap, SystemdError, SystemdManager, UNIT, in_time, interface};
use crate::audit::record::SIGSYS;
use crate::units::{Evidence, Rung, Unit};
use std::sync::Arc;
use tokio::task::JoinSet;
use zbus::OwnedObjectPath;

/// How far two clock readings of one event can be apart, in milliseconds.
const SLACK_MS: i64 = 1_000;
/// How long before the moment a unit can have changed and still be asked in detail, in
/// milliseconds: a command of a unit that settled earlier was over by then.
const RECENT_MS: i64 = 600_000;
/// Questions under way at a time: enough to hide the round trip, too few to hold the manager up.
const AT_ONCE: usize = 16;
/// Units looked at.
const MOST_UNITS: usize = 4_096;

/// Unit types that start processes themselves.
const PATTERNS: [&str; 4] = ["*.service", "*.socket", "*.mount", "*.swap"];
/// States that a unit is in while or after one of its processes died.
const TROUBLED: [&str; 6] = ["failed", "activating", "deactivating", "reloading", "refreshing", "maintenance"];
/// The others.
const SETTLED: [&str; 2] = ["active", "inactive"];

/// A command: path, arguments, failure ignored, start and exit in real and monotonic time,
/// pid, code, status.
type ExecStatus = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// A process that a manager is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidAtTime {
    /// The pid it had.
    pub pid: u32,
    /// When, in milliseconds since the epoch.
    pub at: i64,
}

/// A process that a manager remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastProcess {
    /// Whose process it was.
    pub unit: Unit,
    /// [`Rung::MainProcess`] or [`Rung::ControlProcess`].
    pub rung: Rung,
    /// Its pid, as the manager sees it.
    pub pid: u32,
    /// When it started, in microseconds since the epoch.
    pub started_us: u64,
    /// When it was reaped, in microseconds since the epoch; `None` while it runs.
    pub exited_us: Option<u64>,
    /// How it ended (`CLD_*`, `waitid(2)`); 0 while it runs.
    pub code: i32,
    /// Its exit status or signal.
    pub status: i32,
}

impl PastProcess {
    /// Whether it died of SIGSYS.
    #[must_use]
    pub fn died_of_sigsys(&self) -> bool {
        matches!(self.code, libc::CLD_KILLED | libc::CLD_DUMPED) && self.status == SIGSYS
    }

    /// Whether it was the process that had a pid at a moment, in milliseconds since the epoch.
    #[must_use]
    pub fn had(&self, pid: u32, millis: i64) -> bool {
        self.pid == pid && self.lived_at(millis)
    }

    /// Whether it lived at a moment, in milliseconds since the epoch: a pid is used again.
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
    /// The processes that it remembers to have had one of these pids at the moment it is wanted for. Units in
    /// trouble are looked at first, the others if any is still missing.
    ///
    /// A manager forgets when it starts the unit again, so ask soon. Ask a user's manager only
    /// about that user's processes: it can claim any pid.
    ///
    /// # Errors
    /// Where it does not answer, or not within two seconds: then it is *not known* that no
    /// unit had it.
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

    /// The units that start processes and are in one of these states.
    async fn list(&self, states: &[&str]) -> Result<Vec<(Unit, OwnedObjectPath)>, SystemdError> {
        let listed: Vec<ListedUnit> = self.ask(PATH, MANAGER, "ListUnitsByPatterns", &(states, &PATTERNS[..])).await?;
        let unit =
            |listed: ListedUnit| Some((Unit { manager: self.manager(), name: listed.0.parse().ok()? }, listed.6));
        Ok(listed.into_iter().take(MOST_UNITS).filter_map(unit).collect())
    }

    /// Asks about each unit, some at a time. One that is gone meanwhile has nothing to say.
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
            while answers.len() < AT_ONCE
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

    /// The processes of a settled unit, in detail only if something cheap speaks for it.
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

    /// All processes that are remembered of a unit.
    async fn processes(self, unit: Unit, path: OwnedObjectPath) -> Vec<PastProcess> {
        let Some(interface) = interface(unit.name.suffix()) else { return Vec::new() };
        let properties = self.get_all(&path, interface).await.unwrap_or_default();
        processes(&unit, &properties)
    }
}

/// Reads the processes from the properties of a unit's type.
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
        // The main process of most services is also the one of their ExecStart=.
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
    fn main_process_and_commands_are_remembered() {
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
    fn a_unit_that_never_ran_remembers_nothing() {
        assert_eq!(processes(&unit(), &properties(vec![("ExecMainPID", 0_u32.into())])), []);
        assert_eq!(processes(&unit(), &PropertyMap::new()), []);
    }

    #[test]
    fn a_pid_used_again_is_told_by_its_times() {
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
    fn only_a_death_by_sigsys_is_one() {
        let died = |code, status| {
            let exec = properties(vec![("ExecStartPre", command(8, 1, 2, code, status))]);
            processes(&unit(), &exec).iter().any(PastProcess::died_of_sigsys)
        };
        assert!(died(libc::CLD_KILLED, 31) && died(libc::CLD_DUMPED, 31));
        assert!(!died(libc::CLD_EXITED, 31) && !died(libc::CLD_KILLED, 9));
    }
}
