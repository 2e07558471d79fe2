//! Applies a remedy: chooses it, writes its drop-in, and confirms with systemd that it works as predicted.

use super::change_error::or_signal;
use super::confirm::{Prediction, confirm, roll_back};
use super::drop_in;
use super::interruption::Interruption;
use super::local_machine::LocalMachine;
use super::permission::{ensure_may_change, ensure_takes_drop_ins};
use super::remedy_choice::{ApplyDecision, RemedyChoice, choose};
use super::remedy_file::{ChosenRemedy, RemedyFile};
use super::service_manager::ServiceManagers;
use crate::audit::Note;
use crate::audit::text::{quote_arguments, shown_path};
use crate::diagnosis::TakesEffect;
use crate::host::known_paths::add_known_paths;
use crate::host::program_files::read_programs;
use crate::host::unit_settings::REMEDY_DROP_IN;
use crate::incidents::Incident;
use crate::syscalls::Groups;
use crate::systemd::manager::UnitProperties;
use crate::unit_files;
use crate::units::Unit;
use anyhow::{Context as _, ensure};
use std::path::{Path, PathBuf};

/// A remedy to apply.
#[derive(Debug)]
pub(crate) struct ApplyRequest {
    /// The unit.
    pub(crate) unit: Unit,
    /// Its denials.
    pub(crate) incidents: Vec<Incident>,
    pub(crate) remedy: RemedyChoice,
    /// Whether the drop-in goes below `/run`, and lasts until the next boot.
    pub(crate) runtime: bool,
}

/// What `apply` has to do. Nothing is written yet.
pub(crate) enum Preparation {
    /// Write a remedy.
    Ready(Box<ApplyPlan>),
    /// Nothing: the settings changed since the denials, or hold the remedy already.
    AlreadySo(SettledUnit),
}

/// A unit with nothing to apply.
pub(crate) struct SettledUnit {
    pub(crate) unit: Unit,
    /// The drop-in of an earlier remedy.
    pub(crate) drop_in: Option<PathBuf>,
    /// Whether the manager holds the settings of the files.
    pub(crate) confirmed: bool,
    pub(crate) running: bool,
    /// When the latest change takes effect for each denial.
    pub(crate) takes: Vec<TakesEffect>,
    pub(crate) notes: Vec<Note>,
}

/// A remedy that can be applied.
pub(crate) struct ApplyPlan {
    pub(crate) unit: Unit,
    /// The remedy, with the settings before the change and the path of the drop-in.
    pub(crate) chosen: ChosenRemedy,
    /// Whether the unit runs.
    pub(crate) running: bool,
    /// Notes about the unit's settings.
    pub(crate) notes: Vec<Note>,
    /// The content of the existing drop-in.
    pub(crate) present: Option<Vec<u8>>,
}

impl ApplyPlan {
    /// Chooses the remedy and checks that it can be applied.
    ///
    /// # Errors
    /// There is no remedy, the unit cannot take a drop-in, or another program's file has the name of the drop-in.
    pub(crate) async fn prepare<M: ServiceManagers>(
        machine: LocalMachine<'_, M>,
        request: ApplyRequest,
        groups: &Groups,
    ) -> anyhow::Result<Preparation> {
        let ApplyRequest { unit, incidents, remedy, runtime } = request;
        ensure_may_change(&unit, machine.uid(), "apply")?;
        machine.connect(unit.manager).await?;
        let known = machine.own_settings(&unit, groups).await;
        ensure_takes_drop_ins(&unit, &known)?;
        let running = known.properties.as_ref().is_some_and(UnitProperties::is_running);
        let mut situation = known.situation.with_context(|| format!("cannot read the settings of {}", unit.name))?;
        if runtime {
            let fragment = known.properties.as_ref().and_then(|properties| properties.fragment.as_deref());
            let owner = unit_files::drop_in_owner(&unit, fragment);
            let path = machine.resolve(&unit_files::runtime_dropin_path(&owner, REMEDY_DROP_IN));
            let persistent = std::mem::replace(&mut situation.drop_in, path);
            ensure!(
                !persistent.exists(),
                "{} exists and would hide one below /run: apply without --runtime, or revert first",
                shown_path(&persistent)
            );
        }
        read_programs(&mut situation, unit.manager, &machine.resolve(Path::new("/")), &incidents);
        add_known_paths(&mut situation, &machine.resolve(Path::new("/")), &incidents);
        let path = situation.remedy_path().to_owned();
        let mut present = drop_in::read(&path)?;
        let chosen = match choose(incidents, situation, present.as_deref(), remedy, &unit.name, groups)? {
            ApplyDecision::Write(chosen) => *chosen,
            ApplyDecision::AlreadySo(diagnosis) => {
                let takes: Vec<TakesEffect> = diagnosis.settled().collect();
                let confirmed = known.matches_manager && !takes.contains(&TakesEffect::AfterReload);
                let drop_in = present.map(|_| path);
                let settled = SettledUnit { unit, drop_in, confirmed, running, takes, notes: known.notes };
                return Ok(Preparation::AlreadySo(settled));
            }
        };
        if chosen.remedy.drop_in != path {
            present = drop_in::read(&chosen.remedy.drop_in)?;
        }
        Ok(Preparation::Ready(Box::new(Self { unit, chosen, running, notes: known.notes, present })))
    }

    /// Returns the text of the new drop-in. `title` describes the remedy in a sentence; `today` is the date.
    pub(crate) fn compose(&self, title: &str, today: &str) -> String {
        let present = self.present.as_deref().map(RemedyFile::parse).unwrap_or_default();
        let dir = self.chosen.remedy.drop_in.parent().and_then(Path::file_name).and_then(|dir| dir.to_str());
        let owner = dir.and_then(|dir| dir.strip_suffix(".d")).unwrap_or(self.unit.name.as_str());
        let undo = format!("harden-why revert {}{}", self.unit.manager.option(), quote_arguments([owner]));
        present.compose(&self.chosen, title, today, &undo)
    }

    /// Returns warnings for the user to read before [`write`](Self::write).
    pub(crate) fn cautions(&self) -> Vec<Note> {
        let remedy = &self.chosen.remedy;
        let mut notes = Vec::new();
        if !remedy.sensitive.is_empty() {
            let calls = remedy.sensitive.iter().map(|(group, call)| format!("{call} ({group})"));
            let calls = calls.collect::<Vec<_>>().join(", ");
            let text = format!("it allows calls that can affect other programs or the machine: {calls}");
            notes.push(Note::new("opens-privileged-calls", text));
        }
        if !remedy.unfiltered_io.is_empty() {
            let calls = remedy.unfiltered_io.join(", ");
            let text = format!("no filter sees what a program does through io_uring ({calls})");
            notes.push(Note::new("opens-io-uring", text));
        }
        if !remedy.conditional.is_empty() {
            let calls = remedy.conditional.join(", ");
            let text = format!("not proven for {calls}: other directives still look at the arguments");
            notes.push(Note::new("remedy-not-proven", text));
        }
        notes
    }

    /// Writes the drop-in and confirms it.
    ///
    /// # Errors
    /// The drop-in was changed since the plan or cannot be written, systemd does not apply it as predicted, or a signal came. Either
    /// the files and systemd's settings are as before, or the error says what is left.
    pub(crate) async fn write<M: ServiceManagers>(
        &self,
        machine: LocalMachine<'_, M>,
        text: &str,
        groups: &Groups,
        interruption: &mut Interruption,
    ) -> anyhow::Result<()> {
        let manager = machine.connect(self.unit.manager).await?;
        // Another harden-why may have changed the drop-in while the user answered.
        let undo = drop_in::write_over(&self.chosen.remedy.drop_in, self.present.as_deref(), text.as_bytes())?;
        let prediction = Prediction {
            unit: &self.unit,
            before: &self.chosen.situation,
            diagnosis: &self.chosen.diagnosis,
            path: &self.chosen.remedy.drop_in,
            drop_in: text.as_bytes(),
        };
        let confirmed = Box::pin(confirm(machine, &manager, &prediction, groups));
        match or_signal(confirmed, interruption).await {
            Ok(()) => {
                undo.keep();
                Ok(())
            }
            Err(error) => Err(roll_back(vec![undo], &manager, error, interruption).await),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::drop_in::DropInError;
    use crate::operations::fake_manager::{FakeMachine, Fault, GROUPS, denial};
    use crate::operations::restart::{RestartedUnit, restart};
    use crate::units::Manager;

    const PATH: &str = "etc/systemd/system/x.service.d/zz-harden-why.conf";

    fn prepare(fake: &FakeMachine, remedy: Option<usize>, runtime: bool) -> anyhow::Result<ApplyPlan> {
        match prepare_for(fake, vec![denial(&fake.unit)], remedy, runtime)? {
            Preparation::Ready(plan) => Ok(*plan),
            Preparation::AlreadySo(_) => panic!("there is nothing to apply"),
        }
    }

    fn prepare_for(
        fake: &FakeMachine,
        incidents: Vec<Incident>,
        remedy: Option<usize>,
        runtime: bool,
    ) -> anyhow::Result<Preparation> {
        let remedy = remedy.map_or(RemedyChoice::Default, RemedyChoice::Number);
        let request = ApplyRequest { unit: fake.unit.clone(), incidents, remedy, runtime };
        fake.run(ApplyPlan::prepare(fake.machine(), request, &GROUPS)).unwrap()
    }

    fn request_without_denials(unit: Unit) -> ApplyRequest {
        ApplyRequest { unit, incidents: Vec::new(), remedy: RemedyChoice::Default, runtime: false }
    }

    fn write(fake: &FakeMachine, plan: &ApplyPlan) -> anyhow::Result<()> {
        let text = plan.compose("a title", "2026-11-28");
        fake.run(plan.write(fake.machine(), &text, &GROUPS, &mut fake.interruption())).unwrap()
    }

    fn restart_unit(fake: &FakeMachine) -> anyhow::Result<RestartedUnit> {
        let mut signals = FakeMachine::no_signals();
        let work = restart(fake.machine(), &fake.unit, &mut signals);
        fake.run(work).unwrap()
    }

    /// Makes the call to the manager fail at each step in turn. Returns the number of steps.
    fn fail_at_every_step(faults: &[Fault], second_signal: bool) -> usize {
        let mut steps = 0;
        for &fault in faults {
            for number in 0.. {
                let fake = FakeMachine::running();
                let plan = prepare(&fake, None, false).unwrap();
                let before = fake.snapshot();
                fake.fail_at(number, fault);
                if second_signal {
                    fake.signal_twice();
                }
                let result = write(&fake, &plan);
                if !fake.has_failed() {
                    assert!(result.is_ok(), "{result:?}");
                    break;
                }
                steps += 1;
                let step = format!("{fault:?} at {} ({number}): {result:?}", fake.failed_call());
                match result {
                    Ok(()) => assert!(fake.snapshot().holds(REMEDY_DROP_IN), "{step}"),
                    Err(error) if fake.snapshot() != before => {
                        assert!(format!("{error:#}").contains("run systemctl daemon-reload"), "{step}");
                        fake.end_process();
                        fake.reload();
                        assert_eq!(fake.snapshot(), before, "{step}");
                    }
                    Err(_) => {}
                }
            }
        }
        steps
    }

    #[test]
    fn applied_drop_in_is_written_and_in_force() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, None, false).unwrap();
        write(&fake, &plan).unwrap();
        let after = fake.snapshot();
        assert!(after.holds(REMEDY_DROP_IN) && !after.runs_with(REMEDY_DROP_IN));
        let restarted = restart_unit(&fake).unwrap();
        assert!(restarted.is_up && restarted.outcome.active_state == "active");
        assert!(fake.snapshot().runs_with(REMEDY_DROP_IN));
    }

    #[test]
    fn apply_is_all_or_nothing_when_the_manager_fails_at_any_step() {
        assert!(fail_at_every_step(&Fault::OF_MANAGER, false) >= 10);
    }

    #[test]
    fn apply_is_all_or_nothing_when_a_signal_comes_at_any_step() {
        assert!(fail_at_every_step(&Fault::SIGNALS, false) >= 5);
    }

    #[test]
    fn apply_is_all_or_nothing_when_two_signals_come_at_any_step() {
        assert!(fail_at_every_step(&Fault::SIGNALS, true) >= 5);
    }

    #[test]
    fn manager_that_is_silent_after_the_reload_is_waited_for() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, None, false).unwrap();
        fake.fail_at(2, Fault::LostRequest);
        write(&fake, &plan).unwrap();
        assert_eq!(fake.failed_call(), "unit_properties");
        assert!(fake.snapshot().holds(REMEDY_DROP_IN));
    }

    #[test]
    fn drop_in_that_another_process_wrote_since_the_plan_is_kept() {
        let other = "# Written by harden-why\n[Service]\nSystemCallFilter=uname reboot\n";
        for earlier in [None, Some("# Written by harden-why\n[Service]\nSystemCallFilter=uname2\n")] {
            let fake = FakeMachine::running();
            if let Some(earlier) = earlier {
                fake.write(PATH, earlier);
                fake.reload();
            }
            let plan = prepare(&fake, None, false).unwrap();
            fake.write(PATH, other);
            let before = fake.snapshot();
            let error = write(&fake, &plan).unwrap_err();
            assert!(matches!(error.downcast_ref(), Some(DropInError::Changed(_))), "{error:#}");
            assert_eq!(fake.snapshot(), before);
        }
    }

    #[test]
    fn drop_in_that_another_process_writes_during_the_reload_is_not_undone() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, None, false).unwrap();
        fake.ignore_drop_ins();
        let other = "# Written by harden-why\n[Service]\nSystemCallFilter=uname reboot\n";
        let work = async {
            let text = plan.compose("a title", "2026-11-28");
            let mut signals = FakeMachine::no_signals();
            let written = plan.write(fake.machine(), &text, &GROUPS, &mut signals);
            let other_process = async {
                // The first call is the connection, the second one the reload.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                fake.write(PATH, other);
            };
            tokio::join!(written, other_process).0
        };
        let error = format!("{:#}", fake.run(work).unwrap().unwrap_err());
        assert!(error.contains("the change cannot be undone: another process has changed"), "{error}");
        assert!(fake.snapshot().has_text(other), "{error}");
    }

    #[test]
    fn drop_in_that_systemd_ignores_is_removed_again() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, None, false).unwrap();
        let before = fake.snapshot();
        fake.ignore_drop_ins();
        let error = format!("{:#}", write(&fake, &plan).unwrap_err());
        assert!(error.contains("was put back as it was: systemd reads no drop-ins in"), "{error}");
        assert_eq!(fake.snapshot(), before);
    }

    #[test]
    fn file_of_another_program_is_kept() {
        let fake = FakeMachine::running();
        fake.write(PATH, "[Service]\n");
        fake.reload();
        let before = fake.snapshot();
        let error = prepare(&fake, None, false).err().unwrap();
        assert!(matches!(error.downcast_ref(), Some(DropInError::Foreign(_))));
        assert_eq!(fake.snapshot(), before);
    }

    #[test]
    fn failed_restart_keeps_the_drop_in() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, None, false).unwrap();
        write(&fake, &plan).unwrap();
        fake.fail_at(3, Fault::Refused);
        let error = format!("{:#}", restart_unit(&fake).unwrap_err());
        assert_eq!(fake.failed_call(), "start_job");
        assert!(error.contains("was not restarted (run systemctl restart x.service)"), "{error}");
        assert!(fake.snapshot().holds(REMEDY_DROP_IN));
    }

    #[test]
    fn restart_that_systemd_accepted_is_not_called_undone() {
        for (number, fault, call) in [
            (3, Fault::LostAnswer, "start_job"),
            (4, Fault::Refused, "wait_for_job"),
            (4, Fault::Signal, "wait_for_job"),
        ] {
            let fake = FakeMachine::running();
            fake.fail_at(number, fault);
            let restart = async { restart(fake.machine(), &fake.unit, &mut fake.interruption()).await };
            let error = format!("{:#}", fake.run(restart).unwrap().unwrap_err());
            assert_eq!(fake.failed_call(), call);
            let expected =
                "x.service restarts, and it is unknown whether it comes up (see systemctl status x.service): ";
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn restart_that_starts_nothing_is_an_error() {
        let fake = FakeMachine::new(Manager::System);
        fake.link("Requires", "db.service", "failed");
        let error = format!("{:#}", restart_unit(&fake).unwrap_err());
        assert!(error.contains("it needs units that do not run: db.service is failed"), "{error}");
    }

    #[test]
    fn plan_changes_nothing_and_fails_without_a_manager() {
        for number in 0..3 {
            let fake = FakeMachine::running();
            let before = fake.snapshot();
            fake.fail_at(number, Fault::ManagerGone);
            assert!(prepare(&fake, None, false).is_err());
            assert_eq!(fake.snapshot(), before);
        }
    }

    #[test]
    fn runtime_drop_in_below_a_persistent_one_is_refused() {
        let fake = FakeMachine::running();
        fake.write(PATH, "# Written by harden-why\n[Service]\n");
        fake.reload();
        let error = prepare(&fake, None, true).err().unwrap().to_string();
        assert!(error.contains("exists and would hide one below /run"), "{error}");
    }

    #[test]
    fn remedy_number_out_of_range_is_refused() {
        let fake = FakeMachine::running();
        for number in [0, 99] {
            let error = prepare(&fake, Some(number), false).err().unwrap().to_string();
            assert!(error.contains("the remedies for x.service are numbered 1 to "), "{error}");
        }
    }

    #[test]
    fn unit_without_denials_has_nothing_to_apply() {
        let fake = FakeMachine::running();
        let error = prepare_for(&fake, Vec::new(), None, false).err().unwrap();
        assert!(error.to_string().contains("there is no remedy to apply"), "{error}");
    }

    #[test]
    fn unit_of_another_user_is_refused() {
        let fake = FakeMachine::running();
        let unit = Unit { manager: Manager::User(4_242), name: fake.unit.name.clone() };
        let request = request_without_denials(unit);
        let plan = fake.run(ApplyPlan::prepare(fake.machine(), request, &GROUPS)).unwrap();
        let error = plan.err().unwrap().to_string();
        assert!(error.contains("belongs to the user manager of uid 4242"), "{error}");
    }
}
