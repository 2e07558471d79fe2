//! Applies a remedy: chooses it, writes its drop-in, and confirms with systemd that it works as predicted.

use super::confirm::{Prediction, confirm, denied_calls, roll_back};
use super::drop_in;
use super::drop_in::DropInError;
use super::interruption::Interruption;
use super::local_machine::LocalMachine;
use super::outcome::NothingToDo;
use super::permission::{ensure_may_change, ensure_takes_drop_ins};
use super::service_manager::{ServiceManager as _, ServiceManagers};
use crate::audit::Note;
use crate::audit::text::shown_path;
use crate::diagnosis::{Diagnosis, Remedy, RemedyKind, Reservation, Situation, diagnose};
use crate::host::unit_settings::REMEDY_DROP_IN;
use crate::incidents::Incident;
use crate::syscalls::Groups;
use crate::systemd::manager::{UnitJob, UnitOutcome, UnitProperties};
use crate::unit_files;
use crate::units::{Unit, UnitName};
use anyhow::{Context as _, bail, ensure};
use std::path::Path;

/// Which remedy to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemedyChoice {
    /// The default.
    Default,
    /// The one with this number, from 1.
    Number(usize),
    /// The narrowest with this reservation.
    Reserved(Reservation),
}

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

/// A remedy that can be applied. Nothing is written yet.
pub(crate) struct ApplyPlan {
    pub(crate) unit: Unit,
    pub(crate) remedy: Remedy,
    /// The number of the remedy, from 1.
    pub(crate) number: usize,
    /// Whether the unit runs.
    pub(crate) running: bool,
    /// Notes about the unit's settings.
    pub(crate) notes: Vec<Note>,
    pub(crate) diagnosis: Diagnosis,
    /// The settings before the change, with the path of the drop-in.
    pub(crate) situation: Situation,
}

impl ApplyPlan {
    /// Chooses the remedy and checks that it can be applied.
    ///
    /// # Errors
    /// There is no remedy, or the unit cannot take a drop-in.
    pub(crate) async fn prepare<M: ServiceManagers>(
        machine: LocalMachine<'_, M>,
        request: ApplyRequest,
        groups: &Groups,
    ) -> anyhow::Result<Self> {
        let ApplyRequest { unit, incidents, remedy, runtime } = request;
        ensure_may_change(&unit, machine.uid(), "apply")?;
        machine.connect(unit.manager).await?;
        let known = machine.own_settings(&unit, groups).await;
        ensure_takes_drop_ins(&unit.name, &known)?;
        let running = known.properties.as_ref().is_some_and(UnitProperties::is_running);
        let mut situation = known.situation.with_context(|| format!("the settings of {} cannot be read", unit.name))?;
        if runtime {
            let fragment = known.properties.as_ref().and_then(|properties| properties.fragment.as_deref());
            let owner = unit_files::drop_in_owner(&unit, fragment);
            let path = machine.resolve(&unit_files::runtime_dropin_path(&owner, REMEDY_DROP_IN));
            let persistent = std::mem::replace(&mut situation.drop_in, path);
            ensure!(
                !persistent.exists(),
                "{} is there already and would hide one below /run: apply without --runtime, or revert first",
                shown_path(&persistent)
            );
        }
        let diagnosis = diagnose(incidents, Some(&situation), groups);
        let (number, remedy) = choose_remedy(&diagnosis, remedy, &unit.name)?;
        let remedy = remedy.clone();
        Ok(Self { unit, remedy, number, running, notes: known.notes, diagnosis, situation })
    }

    /// Returns the content of the existing drop-in.
    ///
    /// # Errors
    /// Another program's file has this name, or the file cannot be read.
    pub(crate) fn present_drop_in(&self) -> Result<Option<Vec<u8>>, DropInError> {
        drop_in::read(&self.remedy.drop_in)
    }

    /// Returns the text of the new drop-in. `title` describes the remedy in a sentence; `today` is the date.
    pub(crate) fn compose(&self, title: &str, today: &str) -> String {
        let denied = denied_calls(&self.diagnosis).into_iter().map(|(_, call)| call).collect::<Vec<_>>().join(" ");
        let why = match self.remedy.kind {
            RemedyKind::Predicted | RemedyKind::Relatives | RemedyKind::Groups(_) | RemedyKind::DenyList => {
                format!("for denials of {denied}; the rest was not denied. {title}")
            }
            RemedyKind::Calls
            | RemedyKind::RelaxDirectives
            | RemedyKind::FailWithError
            | RemedyKind::FailAllWithError => {
                format!("for denials of {denied}")
            }
        };
        let dir = self.remedy.drop_in.parent().and_then(Path::file_name).and_then(|dir| dir.to_str());
        let owner = dir.and_then(|dir| dir.strip_suffix(".d")).unwrap_or(self.unit.name.as_str());
        let undo = format!("harden-why revert {}{owner}", self.unit.manager.option());
        drop_in::compose(&self.remedy.content, today, &why, &undo)
    }

    /// Returns warnings for the user to read before [`write`](Self::write).
    pub(crate) fn cautions(&self) -> Vec<Note> {
        let remedy = &self.remedy;
        let mut notes = Vec::new();
        if !remedy.sensitive.is_empty() {
            let calls = remedy.sensitive.iter().map(|(group, call)| format!("{call} ({group})"));
            let calls = calls.collect::<Vec<_>>().join(", ");
            let text = format!("among what it allows can reach beyond the program: {calls}");
            notes.push(Note::new("opens-privileged-calls", text));
        }
        if !remedy.unfiltered_io.is_empty() {
            let calls = remedy.unfiltered_io.join(", ");
            let text = format!("no filter sees the files and sockets that a program uses through io_uring ({calls})");
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
    /// The drop-in cannot be written, systemd does not apply it as predicted, or a signal came. Either the files and
    /// systemd's settings are as before, or the error says what is left.
    pub(crate) async fn write<M: ServiceManagers>(
        &self,
        machine: LocalMachine<'_, M>,
        text: &str,
        groups: &Groups,
        interruption: &mut Interruption,
    ) -> anyhow::Result<()> {
        let manager = machine.connect(self.unit.manager).await?;
        let undo = drop_in::write(&self.remedy.drop_in, text.as_bytes())?;
        let prediction = Prediction {
            unit: &self.unit,
            before: &self.situation,
            diagnosis: &self.diagnosis,
            path: &self.remedy.drop_in,
            drop_in: text.as_bytes(),
        };
        let confirmed = confirm(machine, &manager, &prediction, groups);
        match interruption.or(confirmed).await {
            Ok(()) => {
                undo.keep();
                Ok(())
            }
            Err(error) => Err(roll_back(vec![undo], &manager, error, interruption).await),
        }
    }

    /// Restarts the unit, so that it runs with the drop-in.
    ///
    /// # Errors
    /// The manager refuses or does not answer, or a signal came. The drop-in stays.
    pub(crate) async fn restart<M: ServiceManagers>(
        &self,
        machine: LocalMachine<'_, M>,
        interruption: &mut Interruption,
    ) -> anyhow::Result<UnitOutcome> {
        let name = &self.unit.name;
        let restart = async {
            let manager = machine.connect(self.unit.manager).await?;
            Ok(manager.run_job(name, UnitJob::Restart).await?)
        };
        interruption.or(restart).await.with_context(|| {
            let path = shown_path(&self.remedy.drop_in);
            format!("{path} is in place and systemd holds what it says, but {name} was not seen to start anew")
        })
    }
}

/// Returns the remedy to apply, with its number.
fn choose_remedy<'a>(
    diagnosis: &'a Diagnosis,
    choice: RemedyChoice,
    name: &UnitName,
) -> anyhow::Result<(usize, &'a Remedy)> {
    let count = diagnosis.remedies.len();
    let index = match choice {
        RemedyChoice::Number(number) => number.checked_sub(1),
        RemedyChoice::Default => diagnosis.default_remedy(),
        RemedyChoice::Reserved(why) => diagnosis.remedies.iter().position(|remedy| remedy.reservation == Some(why)),
    };
    match index.and_then(|index| Some((index + 1, diagnosis.remedies.get(index)?))) {
        Some(remedy) => Ok(remedy),
        None if choice == RemedyChoice::Default && diagnosis.is_guessed() => bail!(
            "that it was {name} is a guess, so none is applied unasked: look at 'harden-why {name}', then say --remedy N"
        ),
        None if count == 0 => bail!(NothingToDo(format!(
            "there is no remedy to apply for the denials of {name}; 'harden-why {name}' tells why"
        ))),
        None if choice == RemedyChoice::Default => {
            let reservation = diagnosis.remedies.first().and_then(|remedy| remedy.reservation);
            let why = reservation.map_or("none can be the default", describe_missing_default);
            bail!("{why}: look at 'harden-why {name}', then choose one with --remedy N")
        }
        None => bail!("the remedies for {name} are numbered 1 to {count}; 'harden-why {name}' shows them"),
    }
}

/// Returns why no remedy is applied without `--remedy`.
fn describe_missing_default(reservation: Reservation) -> &'static str {
    match reservation {
        Reservation::BeforeExec => "only systemd made the denied calls, and mostly gets by without them",
        Reservation::HasFallback => {
            "most callers do without the denied call, and only one that does not needs a remedy"
        }
        Reservation::UnknownArgument => "no remedy is proven, because no record holds the argument that decides",
        Reservation::PossibleIntrusion => "the denied process may be an intruder, so no remedy is applied unasked",
        Reservation::WiderThanDenied | Reservation::Prediction | Reservation::KeepsDenying => {
            "each remedy opens more than what was denied, or keeps denying it"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake_manager::{FakeMachine, Fault, GROUPS, denial};
    use crate::units::Manager;

    const PATH: &str = "etc/systemd/system/x.service.d/zz-harden-why.conf";

    fn prepare(fake: &FakeMachine, remedy: Option<usize>, runtime: bool) -> anyhow::Result<ApplyPlan> {
        let (unit, incidents) = (fake.unit.clone(), vec![denial(&fake.unit)]);
        let remedy = remedy.map_or(RemedyChoice::Default, RemedyChoice::Number);
        let request = ApplyRequest { unit, incidents, remedy, runtime };
        fake.run(ApplyPlan::prepare(fake.machine(), request, &GROUPS)).unwrap()
    }

    fn request_without_denials(unit: Unit) -> ApplyRequest {
        ApplyRequest { unit, incidents: Vec::new(), remedy: RemedyChoice::Default, runtime: false }
    }

    fn write(fake: &FakeMachine, plan: &ApplyPlan) -> anyhow::Result<()> {
        let text = plan.compose("a title", "2026-11-28");
        fake.run(plan.write(fake.machine(), &text, &GROUPS, &mut fake.interruption())).unwrap()
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
                        assert!(format!("{error:#}").contains("systemctl daemon-reload makes sure"), "{step}");
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
        let outcome = fake.run(plan.restart(fake.machine(), &mut FakeMachine::no_signals())).unwrap().unwrap();
        assert_eq!(outcome.active_state, "active");
        assert!(fake.snapshot().runs_with(REMEDY_DROP_IN));
    }

    #[test]
    fn apply_is_all_or_nothing_when_the_manager_fails_at_any_step() {
        assert!(fail_at_every_step(&Fault::OF_MANAGER, false) >= 16);
    }

    #[test]
    fn apply_is_all_or_nothing_when_a_signal_comes_at_any_step() {
        assert!(fail_at_every_step(&Fault::SIGNALS, false) >= 8);
    }

    #[test]
    fn apply_is_all_or_nothing_when_two_signals_come_at_any_step() {
        assert!(fail_at_every_step(&Fault::SIGNALS, true) >= 8);
    }

    #[test]
    fn drop_in_that_systemd_ignores_is_removed_again() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, None, false).unwrap();
        let before = fake.snapshot();
        fake.ignore_drop_ins();
        let error = format!("{:#}", write(&fake, &plan).unwrap_err());
        assert!(error.contains("was put back as it was: systemd does not look for drop-ins in"), "{error}");
        assert_eq!(fake.snapshot(), before);
    }

    #[test]
    fn file_of_another_program_is_kept() {
        let fake = FakeMachine::running();
        fake.write(PATH, "[Service]\n");
        fake.reload();
        let before = fake.snapshot();
        let plan = prepare(&fake, None, false).unwrap();
        assert!(matches!(plan.present_drop_in(), Err(DropInError::Foreign(_))));
        assert!(matches!(write(&fake, &plan).unwrap_err().downcast_ref(), Some(DropInError::Foreign(_))));
        assert_eq!(fake.snapshot(), before);
    }

    #[test]
    fn failed_restart_keeps_the_drop_in() {
        let fake = FakeMachine::running();
        let plan = prepare(&fake, None, false).unwrap();
        write(&fake, &plan).unwrap();
        fake.fail_at(1, Fault::Refused);
        let restarted = fake.run(plan.restart(fake.machine(), &mut FakeMachine::no_signals())).unwrap();
        let error = format!("{:#}", restarted.unwrap_err());
        assert!(error.contains("is in place and systemd holds what it says"), "{error}");
        assert!(fake.snapshot().holds(REMEDY_DROP_IN));
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
        assert!(error.contains("is there already and would hide one below /run"), "{error}");
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
        let request = request_without_denials(fake.unit.clone());
        let plan = fake.run(ApplyPlan::prepare(fake.machine(), request, &GROUPS)).unwrap();
        assert!(plan.err().unwrap().is::<NothingToDo>());
    }

    #[test]
    fn unit_of_another_user_is_refused() {
        let fake = FakeMachine::running();
        let unit = Unit { manager: Manager::User(4_242), name: fake.unit.name.clone() };
        let request = request_without_denials(unit);
        let plan = fake.run(ApplyPlan::prepare(fake.machine(), request, &GROUPS)).unwrap();
        let error = plan.err().unwrap().to_string();
        assert!(error.contains("is run by the manager of uid 4242"), "{error}");
    }
}
