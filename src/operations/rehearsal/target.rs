//! A unit that runs for a while under a temporary drop-in: the checks before any change, and the state to restore.
//!
//! A rehearsal and a bisection both run such a unit.

use super::marker;
use super::marker::{Activity, RehearsalMarker};
use crate::audit::Note;
use crate::audit::note;
use crate::audit::text::{join_first, shown_path};
use crate::diagnosis::Situation;
use crate::host::unit_settings::REHEARSAL_DROP_IN;
use crate::incidents::local_time::LocalTime;
use crate::operations::drop_in;
use crate::operations::local_machine::LocalMachine;
use crate::operations::outcome::RequiresRoot;
use crate::operations::own_unit::{ensure_survives, find_own_unit};
use crate::operations::permission::{ensure_may_change, ensure_takes_drop_ins};
use crate::operations::service_manager::{ServiceManager, ServiceManagers};
use crate::systemd::manager::active_state::{has_ended, is_up};
use crate::systemd::manager::{SystemdError, UnitProperties};
use crate::systemd::syscall_groups::{LoadedGroups, groups_note};
use crate::unit_files::runtime_dropin_path;
use crate::units::{Manager, Unit, UnitName};
use anyhow::{Context as _, bail, ensure};
use std::path::{Path, PathBuf};

/// The buses, without which harden-why does not reach systemd.
const BUSES: [&str; 2] = ["dbus.service", "dbus-broker.service"];

/// How much room a drop-in and the file that replaces it take at most, without a bisection's lines.
pub(crate) const ROOM: u64 = 64 << 10;

/// The most units that one note names.
const NAMED: usize = 6;

/// The unit that a user named for a rehearsal or a bisection.
#[derive(Debug, Clone)]
pub(crate) struct TemporaryRequest {
    /// The unit's name, or an alias.
    pub(crate) unit: UnitName,
    /// The managers that may have the unit, the first of them first.
    pub(crate) candidates: Vec<Manager>,
    pub(crate) activity: Activity,
}

/// A unit that can run under a temporary drop-in.
#[derive(Debug)]
pub(crate) struct TemporaryTarget {
    pub(crate) unit: Unit,
    /// The unit's properties before.
    pub(crate) facts: UnitProperties,
    /// Its own settings.
    pub(crate) situation: Situation,
    /// The path of the drop-in.
    pub(crate) path: PathBuf,
    pub(crate) marker: RehearsalMarker,
    pub(crate) loaded: LoadedGroups,
    pub(crate) notes: Vec<Note>,
    /// The date for the drop-in's comments.
    today: String,
}

impl TemporaryTarget {
    /// Checks whether the unit can run under a temporary drop-in. Changes nothing.
    ///
    /// # Errors
    /// The error says what prevents it.
    pub(crate) async fn prepare<M: ServiceManagers>(
        machine: LocalMachine<'_, M>,
        request: &TemporaryRequest,
        loaded: LoadedGroups,
        clock: &LocalTime,
    ) -> anyhow::Result<Self> {
        let (activity, is_root) = (request.activity, machine.uid() == 0);
        let verb = activity.verb();
        ensure!(
            request.candidates != [Manager::System] || is_root,
            RequiresRoot(format!("only root can {verb} a system unit"))
        );
        let (unit, manager) = find_unit(machine, request).await?;
        let is_bus = unit.manager == Manager::System && BUSES.contains(&unit.name.as_str());
        ensure!(!is_bus, "without {} harden-why does not reach systemd, so it cannot {verb} that unit", unit.name);
        ensure_may_change(&unit, machine.uid(), verb)?;
        ensure!(
            unit.manager != Manager::System || is_root,
            RequiresRoot(format!("only root can {verb} {}, a system unit (for a user unit add --user)", unit.name))
        );
        let known = machine.settings_in_force(&unit, &loaded.groups).await;
        ensure_takes_drop_ins(&unit, &known)?;
        let facts = known.properties.context("systemd does not return the unit's settings")?;
        let situation = known.situation.with_context(|| format!("cannot read the settings of {}", unit.name))?;
        let section = situation.policy.settings.section();
        ensure!(!section.is_empty(), "{} runs no processes, so there is nothing to {verb}", unit.name);
        ensure_can_restart(&unit, &facts, activity)?;
        let path = machine.resolve(&runtime_dropin_path(&unit, REHEARSAL_DROP_IN));
        ensure_is_free(&path, &unit.name)?;
        drop_in::ensure_has_room(&path, ROOM).context("nothing was changed")?;
        if let Some(other) = facts.dropins.iter().find(|other| other.file_name() == path.file_name()) {
            bail!("{} would hide {}'s drop-in: move it away", shown_path(other), activity.noun());
        }
        ensure!(
            known.matches_manager,
            "the settings of {} in systemd differ from its files: {}",
            unit.name,
            note::join_texts(&known.notes)
        );
        let stopped = StoppedUnits::find(&facts, &manager).await?;
        let mut notes = stopped.describe(&unit.name);
        notes.extend(note_needed_units(&unit.name, &manager).await?);
        notes.extend(groups_note(&loaded));
        Ok(Self {
            marker: RehearsalMarker::new(activity, &facts, stopped.interrupted()),
            notes,
            today: clock.today(),
            unit,
            facts,
            situation,
            path,
            loaded,
        })
    }

    /// Rereads the unit's state, which can change while the user thinks about the plan.
    ///
    /// # Errors
    /// The unit's manager does not answer.
    pub(crate) async fn refresh<M: ServiceManagers>(&mut self, machine: LocalMachine<'_, M>) -> anyhow::Result<()> {
        let manager = machine.connect(self.unit.manager).await.context("nothing was changed")?;
        self.facts = manager.unit_properties(&self.unit.name).await.context("nothing was changed")?;
        let stopped = StoppedUnits::find(&self.facts, &manager).await?;
        self.marker = RehearsalMarker::new(self.marker.activity, &self.facts, stopped.interrupted());
        Ok(())
    }

    /// Returns the text of a drop-in with these settings.
    pub(crate) fn compose(&self, settings: &str) -> String {
        let why = format!("{} of {}, which is less protected during it", self.marker.activity.noun(), self.unit.name);
        let content = format!("{}{settings}", self.marker.lines());
        drop_in::compose(&content, &self.today, &why, "harden-why restore")
    }
}

/// Finds the unit under its own name, and its manager. The system manager comes first.
async fn find_unit<M: ServiceManagers>(
    machine: LocalMachine<'_, M>,
    request: &TemporaryRequest,
) -> anyhow::Result<(Unit, M::Connection)> {
    let name = &request.unit;
    let mut why = None;
    for &candidate in &request.candidates {
        let answer = async {
            let manager = machine.connect(candidate).await?;
            let facts = manager.unit_properties(name).await?;
            Ok::<_, SystemdError>((Unit { manager: candidate, name: facts.id }, manager))
        };
        match answer.await {
            Ok(found) => return Ok(found),
            // "There is no such unit" says more than that another manager does not run.
            Err(error @ SystemdError::NoSuchUnit(_)) => why = Some(error),
            Err(error @ SystemdError::Unreachable { .. }) => why = why.or(Some(error)),
            // A unit of that name that another manager has is another unit.
            Err(error) => {
                let text = format!(
                    "it is unknown whether the {candidate} service manager has a unit {name}: add --system or --user"
                );
                return Err(anyhow::Error::new(error).context(text));
            }
        }
    }
    Err(why.map_or_else(|| SystemdError::NoSuchUnit(name.clone()).into(), Into::into))
}

/// Checks that a user may start and stop the unit.
fn ensure_can_restart(unit: &Unit, facts: &UnitProperties, activity: Activity) -> anyhow::Result<()> {
    let done = activity.participle();
    ensure!(
        facts.can_start != Some(false),
        "only other units may start {} (RefuseManualStart=), so it cannot be {done}",
        unit.name
    );
    ensure!(
        facts.refuse_manual_stop != Some(true),
        "only other units may stop {} (RefuseManualStop=), so it cannot be {done}",
        unit.name
    );
    Ok(())
}

/// The running units that jobs of the unit stop.
#[derive(Debug)]
struct StoppedUnits {
    /// Whether the unit itself ran before.
    ran: bool,
    /// Those that stop with the unit. They run again at the end if the unit ran before.
    dependents: Vec<UnitName>,
    /// Those that the unit's start stops. They run again at the end if the unit did not run before.
    conflicting: Vec<UnitName>,
}

impl StoppedUnits {
    /// Finds them.
    ///
    /// # Errors
    /// This program would stop as well, or the manager does not answer.
    async fn find(facts: &UnitProperties, manager: &impl ServiceManager) -> anyhow::Result<Self> {
        const UNCHANGED: &str = "nothing was changed";
        let name = &facts.id;
        let dependents = ensure_survives(manager, name).await.context(UNCHANGED)?;
        let linked = manager.linked_units(name, &["Conflicts", "ConflictedBy"]).await.context(UNCHANGED)?;
        let conflicting: Vec<UnitName> =
            linked.into_iter().filter(|(_, state)| is_up(state)).map(|(other, _)| other).collect();
        if let Some(own) = find_own_unit(manager, &conflicting).await.context(UNCHANGED)? {
            bail!("{UNCHANGED}: this harden-why runs within {own}, which the start of {name} stops");
        }
        Ok(Self { ran: facts.is_running(), dependents, conflicting })
    }

    /// Returns those that run again at the end.
    fn interrupted(self) -> Vec<UnitName> {
        if self.ran { self.dependents } else { self.conflicting }
    }

    /// Notes which units stop, and whether they run again.
    fn describe(&self, name: &UnitName) -> Vec<Note> {
        let fate = |runs_again| if runs_again { "which runs again at the end" } else { "and nothing starts it again" };
        let mut notes = Vec::new();
        if !self.dependents.is_empty() {
            let when = if self.ran { "every restart" } else { "the end" };
            let (fate, units) = (fate(self.ran), list_units(&self.dependents));
            let text = format!("{when} of {name} stops what depends on it, {fate}: {units}");
            notes.push(Note::new("dependents-stop", text));
        }
        if !self.conflicting.is_empty() {
            let (fate, units) = (fate(!self.ran), list_units(&self.conflicting));
            let text = format!("the start of {name} stops what conflicts with it, {fate}: {units}");
            notes.push(Note::new("conflicting-units-stop", text));
        }
        notes
    }
}

/// Notes which other units start with the unit.
async fn note_needed_units(name: &UnitName, manager: &impl ServiceManager) -> anyhow::Result<Option<Note>> {
    let linked = manager.linked_units(name, &["Requires", "BindsTo", "Wants"]).await.context("nothing was changed")?;
    // These run nothing.
    let runs_something = |other: &UnitName| !matches!(other.suffix(), "target" | "slice");
    let is_started = |(other, state): &(UnitName, String)| has_ended(state) && runs_something(other);
    let started: Vec<UnitName> = linked.into_iter().filter(is_started).map(|(other, _)| other).collect();
    let text =
        format!("the start of {name} starts what it needs, and nothing stops it again: {}", list_units(&started));
    Ok((!started.is_empty()).then(|| Note::new("needed-units-start", text)))
}

fn list_units(units: &[UnitName]) -> String {
    join_first(&units.iter().map(UnitName::as_str).collect::<Vec<_>>(), NAMED)
}

/// Checks that no rehearsal and no bisection of the unit runs, or was killed and is not restored yet.
///
/// # Errors
/// The error names the process that runs, or the file that is left.
pub(crate) fn ensure_is_free(path: &Path, name: &UnitName) -> anyhow::Result<()> {
    for path in [path, &marker::disarmed_path(path)] {
        let Some(drop_in) = drop_in::read(path)? else { continue };
        let marker = RehearsalMarker::parse(&drop_in);
        if let Some(pid) = marker.living_owner() {
            bail!("process {pid} is {} {name} already", marker.activity.gerund());
        }
        let noun = marker.activity.plain_noun();
        bail!("an earlier {noun} of {name} left {}: run harden-why restore", shown_path(path));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::procfs::Procfs;
    use crate::operations::fake_manager::{FakeMachine, GROUPS};
    use crate::operations::rehearsal::fake_rehearsal::kill_rehearsal;
    use jiff::tz::TimeZone;

    fn prepare(fake: &FakeMachine, candidates: &[Manager]) -> anyhow::Result<TemporaryTarget> {
        let request = TemporaryRequest {
            unit: fake.unit.name.clone(),
            candidates: candidates.to_vec(),
            activity: Activity::Rehearsal,
        };
        let loaded = LoadedGroups { groups: GROUPS.clone(), note: None };
        let clock = LocalTime { now: None, zone: TimeZone::UTC };
        fake.run(TemporaryTarget::prepare(fake.machine(), &request, loaded, &clock)).unwrap()
    }

    #[test]
    fn unit_of_another_manager_is_not_taken_while_the_first_one_is_silent() {
        let own = Manager::User(4_242);
        let fake = FakeMachine::new(own);
        assert_eq!(prepare(&fake, &[Manager::System, own]).unwrap().unit.manager, own, "no system manager runs");
        fake.add_silent_manager(Manager::System);
        let error = format!("{:#}", prepare(&fake, &[Manager::System, own]).unwrap_err());
        assert!(error.contains("unknown whether the system service manager has a unit x.service"), "{error}");
    }

    #[test]
    fn unit_whose_end_would_end_this_program_is_refused() {
        let own = Procfs::live().cgroup(std::process::id()).unwrap();
        let own = own.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"0::")).unwrap();
        let own = std::str::from_utf8(own).unwrap();
        // In a container, the process can be in the root cgroup.
        let above = own.rsplit_once('/').map(|(above, _)| above).filter(|above| !above.is_empty());
        let cases = [Some((own, true)), above.map(|above| (above, true)), Some(("/elsewhere/x.service", false))];
        for (control_group, is_refused) in cases.into_iter().flatten() {
            for dependent in [None, Some("y.service")] {
                let fake = FakeMachine::running();
                let place = |name| fake.place(name, control_group);
                match dependent {
                    None => place("x.service"),
                    Some(name) => {
                        fake.add_dependent(name);
                        place(name);
                    }
                }
                let prepared = prepare(&fake, &[Manager::System]);
                assert_eq!(prepared.is_err(), is_refused, "{control_group:?}");
                let Err(error) = prepared else { continue };
                let expected = match dependent {
                    None => "this harden-why runs within x.service, and would stop with it".to_owned(),
                    Some(name) => format!("this harden-why runs within {name}, which stops with x.service"),
                };
                assert_eq!(format!("{error:#}"), format!("nothing was changed: {expected}"));
            }
        }
    }

    #[test]
    fn rehearsal_of_a_rehearsed_unit_is_refused() {
        let fake = FakeMachine::running();
        kill_rehearsal(&fake);
        let error = || prepare(&fake, &[Manager::System]).unwrap_err().to_string();
        fake.repair();
        assert!(error().contains("is rehearsing x.service already"), "{}", error());
        fake.end_process();
        assert!(error().contains("left") && error().contains("harden-why restore"), "{}", error());
    }

    #[test]
    fn refresh_reads_whether_the_unit_runs_now() {
        let fake = FakeMachine::running();
        let mut target = prepare(&fake, &[Manager::System]).unwrap();
        assert!(target.marker.ran);
        fake.stop();
        fake.run(target.refresh(fake.machine())).unwrap().unwrap();
        assert!(!target.marker.ran);
    }
}
