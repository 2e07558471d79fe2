//! `apply`: writes a remedy into its drop-in and has systemd confirm the result; otherwise changes nothing.

use crate::audit::text::shown_path;
use crate::cli::args::{Apply, Common};
use crate::cli::exit_status::{ExitStatus, UsageError};
use crate::cli::lookup::context::Context;
use crate::cli::lookup::incident_source::{IncidentScope, ManagerScope, OtherSource};
use crate::cli::lookup::read_only::find_configuration;
use crate::cli::lookup::sighting_times::SightingTimes;
use crate::cli::lookup::subject::Subject;
use crate::cli::lookup::subject_search::find_subject;
use crate::cli::lookup::unit_answer::{SilentRefusals, answer_for_unit};
use crate::cli::lookup::unit_names::latest_sighting;
use crate::cli::lookup::unit_words::ChosenUnit;
use crate::cli::terminal::output::Detail;
use crate::cli::terminal::page::{Page, add_notes};
use crate::cli::terminal::prompt;
use crate::cli::verbs::each_unit;
use crate::cli::views::answer::{Answer, RemedyView};
use crate::cli::views::applied::{
    Applied, Applying, Restarted, RestartedInstance, connections_note, diff, instance_notes, reload_note, restart_note,
};
use crate::diagnosis::{Reservation, TakesEffect};
use crate::incidents::local_time::LocalTime;
use crate::kernel::clock::now_millis;
use crate::operations::apply::{ApplyPlan, ApplyRequest, Preparation, SettledUnit};
use crate::operations::instances::{RunningInstances, count_running_instances, restart_instances};
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::outcome::{DropInIsRead, DropInOutcome};
use crate::operations::permission::ensure_may_change;
use crate::operations::remedy_choice::RemedyChoice;
use crate::operations::restart::{RestartedUnit, restart};
use crate::syscalls::Groups;
use crate::systemd::manager::Managers;
use crate::units::Unit;
use anstream::ColorChoice;
use anyhow::{Context as _, ensure};
use std::io::IsTerminal as _;
use std::path::Path;

/// Applies remedies for units one after another.
///
/// # Errors
/// A word names no unit, or the only unit's remedy cannot be applied.
pub(crate) async fn apply_all(
    common: &Common,
    asked: &Apply,
    clock: &LocalTime,
    color: ColorChoice,
) -> anyhow::Result<ExitStatus> {
    let managers = ManagerScope::from_own_flags(asked.chosen.managers);
    let list =
        async || Context::open(common, &asked.source, OtherSource::Store).await?.list_denied_units(managers).await;
    let chosen = ChosenUnit::find_all(&asked.chosen.units, managers, "denials", list).await?;
    each_unit::run(common, color, &chosen, async |chosen| apply(common, asked, chosen, clock).await).await
}

/// Applies a remedy for a unit's denials.
///
/// # Errors
/// There is no remedy, the drop-in cannot be written, or systemd did not load it as predicted: nothing was changed then.
/// Or the unit was not restarted: the drop-in stays.
pub(crate) async fn apply(
    common: &Common,
    asked: &Apply,
    chosen: &ChosenUnit,
    clock: &LocalTime,
) -> anyhow::Result<Applied> {
    ensure!(
        asked.yes || asked.dry_run || (std::io::stdin().is_terminal() && !common.is_json()),
        UsageError("apply asks before it writes, but there is no terminal: add --yes or --dry-run".to_owned())
    );
    chosen.ensure_may_change("apply")?;
    let context = Context::open(common, &asked.source, OtherSource::Store).await?;
    let subject = find_subject(&context, chosen).await?;
    let named = subject.named();
    let Subject { unit, template, found, notes: lookup_notes } = subject;
    let (groups, mut notes) = (context.groups(), context.notes.clone());
    notes.extend(context.eviction_note(latest_sighting(&found.incidents)));
    notes.extend(lookup_notes);
    let machine = LocalMachine::new(&context.managers);
    ensure_may_change(&unit, machine.uid(), "apply")?;
    let request = ApplyRequest {
        unit,
        incidents: found.incidents,
        remedy: match asked.remedy {
            _ if asked.systemds_calls => RemedyChoice::Reserved(Reservation::BeforeExec),
            Some(number) => RemedyChoice::Number(number),
            None => RemedyChoice::Default,
        },
        runtime: asked.runtime,
    };
    let mut plan = match ApplyPlan::prepare(machine, request, groups).await? {
        Preparation::Ready(plan) => plan,
        Preparation::AlreadySo(mut settled) => {
            settled.notes.splice(0..0, notes);
            return leave_unchanged(&context, &named, settled, asked).await;
        }
    };
    notes.append(&mut plan.notes);
    let (mut applied, text) = describe(&plan, &named, asked.remedy.is_none(), groups, clock);
    notes.append(&mut applied.notes);
    applied.notes = notes;
    if !asked.runtime
        && let Some(configuration) = find_configuration(plan.unit.manager, &plan.chosen.remedy, &plan.chosen.situation)
    {
        applied.outcome = DropInOutcome::ReadOnly;
        applied.runtime = Some(runtime_command(asked, &named));
        applied.configuration = Some(configuration);
        return Ok(applied);
    }
    if asked.dry_run {
        return Ok(applied);
    }
    let mut interruption = Interruption::from_signals()?;
    if !asked.yes
        && !prompt::ask(&question(&applied, asked.restart.then_some(plan.running)), &mut interruption)
            .await
            .context("nothing was changed")?
    {
        applied.outcome = DropInOutcome::Declined;
        return Ok(applied);
    }
    plan.write(machine, &text, groups, &mut interruption).await?;
    (applied.outcome, applied.confirmed) = (DropInOutcome::Applied, true);
    if template.is_some() {
        finish_template(machine, &named, asked.restart, &mut applied, &mut interruption).await?;
    } else if asked.restart {
        let path = Some(plan.chosen.remedy.drop_in.as_path());
        applied.restarted = Some(restart_watched(&context, &plan.unit, path, &mut interruption).await?);
    } else {
        applied.notes.push(restart_note(&plan.unit, plan.running));
    }
    Ok(applied)
}

/// Answers for a unit with nothing to apply. Restarts it only if it does not run with its present settings yet.
async fn leave_unchanged(
    context: &Context,
    named: &Unit,
    settled: SettledUnit,
    asked: &Apply,
) -> anyhow::Result<Applied> {
    let SettledUnit { unit, drop_in, confirmed, running, takes, notes } = settled;
    let mut applied = Applied::new(named, DropInOutcome::Unchanged, drop_in.as_deref(), Vec::new(), notes);
    applied.confirmed = confirmed;
    let is_pending = takes.contains(&TakesEffect::AfterReload);
    if !is_pending && !takes.contains(&TakesEffect::AtNextStart) {
        return Ok(applied);
    }
    if !asked.restart || asked.dry_run || !asked.yes {
        applied.notes.extend(is_pending.then(|| reload_note(&unit)));
        applied.notes.push(restart_note(named, running));
        return Ok(applied);
    }
    let mut interruption = Interruption::from_signals()?;
    if is_pending {
        let reload = async { Ok(context.managers.connect(unit.manager).await?.reload().await?) };
        interruption.or(reload).await?;
        applied.confirmed = true;
    }
    if *named != unit {
        let machine = LocalMachine::new(&context.managers);
        finish_template(machine, named, true, &mut applied, &mut interruption).await?;
        return Ok(applied);
    }
    applied.restarted = Some(restart_watched(context, &unit, drop_in.as_deref(), &mut interruption).await?);
    Ok(applied)
}

/// Restarts a unit, and answers for what is denied to it then. `drop_in` is in force, if there is one.
///
/// # Errors
/// The unit is not restarted, or its denials cannot be read. The error has [`DropInIsRead`] as its context.
async fn restart_watched(
    context: &Context,
    unit: &Unit,
    drop_in: Option<&Path>,
    interruption: &mut Interruption,
) -> anyhow::Result<Restarted> {
    let restarted = restart_and_answer(context, unit, drop_in, interruption).await;
    match drop_in {
        Some(path) => restarted.with_context(|| DropInIsRead(shown_path(path))),
        None => restarted,
    }
}

async fn restart_and_answer(
    context: &Context,
    unit: &Unit,
    drop_in: Option<&Path>,
    interruption: &mut Interruption,
) -> anyhow::Result<Restarted> {
    let since = now_millis();
    let scope = IncidentScope { managers: ManagerScope::All, times: SightingTimes { since: Some(since), until: None } };
    let machine = LocalMachine::new(&context.managers);
    let RestartedUnit { outcome, is_up } = restart(machine, unit, interruption).await?;
    let mut found = context.incidents.incidents(Some(&unit.name), scope).await?;
    found.incidents.retain(|incident| incident.key.unit.as_ref() == Some(unit));
    let answer = answer_for_unit(context, unit, found, SilentRefusals::Possible).await;
    let next = match &answer {
        _ if is_up && answer.denials.is_empty() => None,
        Answer { rehearse: Some(command), .. } => Some(command.clone()),
        Answer { apply: Some(command), remedies, .. } if remedies.iter().any(|remedy| remedy.default) => {
            Some(command.clone())
        }
        Answer { denials, .. } if denials.is_empty() => Some(unit.systemctl("status")),
        _ => Some(format!("harden-why {}", unit.to_arguments())),
    };
    Ok(Restarted::new(outcome, is_up, answer, drop_in, next))
}

/// Returns the command that does the same below `/run`.
fn runtime_command(asked: &Apply, named: &Unit) -> String {
    let remedy = asked.remedy.map_or_else(String::new, |number| format!("--remedy {number} "));
    let restart = if asked.restart { "--restart " } else { "" };
    format!("harden-why apply --runtime {remedy}{restart}{}", named.to_arguments())
}

/// Restarts the instances of a template, or says when they take the drop-in.
async fn finish_template(
    machine: LocalMachine<'_, Managers>,
    template: &Unit,
    restart: bool,
    applied: &mut Applied,
    interruption: &mut Interruption,
) -> anyhow::Result<()> {
    if !restart {
        let running = count_running_instances(machine, template).await;
        let runs_none = running.as_ref().is_ok_and(|running| *running == RunningInstances::default());
        applied.notes.extend(runs_none.then(|| restart_note(template, false)));
        applied.notes.extend(instance_notes(template, running));
        return Ok(());
    }
    let instances = restart_instances(machine, template, interruption).await.with_context(|| {
        format!("the drop-in is written and loaded, but not all instances of {} restarted", template.name)
    })?;
    applied.instances =
        Some(instances.restarted.into_iter().map(|(name, outcome)| RestartedInstance::new(&name, outcome)).collect());
    applied.notes.extend(connections_note(instances.connections.len()));
    Ok(())
}

/// Returns the view of a plan, and the text of its drop-in.
fn describe(plan: &ApplyPlan, named: &Unit, default: bool, groups: &Groups, clock: &LocalTime) -> (Applied, String) {
    let path = &plan.chosen.remedy.drop_in;
    let view = RemedyView::new(&plan.chosen.remedy, default, groups);
    let text = plan.compose(&view.title, &clock.today());
    let diff = diff(plan.present.as_deref().unwrap_or_default(), text.as_bytes());
    let mut applied = Applied::new(named, DropInOutcome::DryRun, Some(path), diff, plan.cautions());
    let of = plan.chosen.diagnosis.remedies.len();
    applied.remedy = Some(Applying { number: plan.chosen.number, of, title: view.title, opens: view.opens });
    (applied, text)
}

/// Asks about a plan. `restart` is whether the unit runs, if it is to be restarted.
fn question(applied: &Applied, restart: Option<bool>) -> String {
    let mut notes = Page::default();
    add_notes(&mut notes, &applied.notes);
    let then = match restart {
        Some(true) => format!(", reload systemd and restart {}?", applied.unit),
        Some(false) => format!(", reload systemd and start {}?", applied.unit),
        None => " and reload systemd?".to_owned(),
    };
    format!("{}{}\nWrite this drop-in{then}", applied.describe_plan(Detail::Short), notes.finish())
}
