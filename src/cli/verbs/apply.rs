//! `apply`: writes a remedy into its drop-in and has systemd confirm the result; otherwise changes nothing.

use crate::cli::args::{Apply, Common};
use crate::cli::lookup::context::Context;
use crate::cli::lookup::read_only::find_configuration;
use crate::cli::lookup::subject::Subject;
use crate::cli::lookup::subject_search::find_subject;
use crate::cli::lookup::unit_names::latest_sighting;
use crate::cli::terminal::page::{Page, add_notes};
use crate::cli::terminal::prompt;
use crate::cli::views::answer::RemedyView;
use crate::cli::views::applied::{
    Applied, Applying, Restarted, RestartedInstance, connections_note, diff, instance_notes, restart_note,
};
use crate::diagnosis::Reservation;
use crate::incidents::local_time::LocalTime;
use crate::operations::apply::{ApplyPlan, ApplyRequest, RemedyChoice};
use crate::operations::instances::{RunningInstances, count_running_instances, restart_instances};
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::outcome::DropInOutcome;
use crate::operations::permission::ensure_may_change;
use crate::syscalls::Groups;
use crate::systemd::manager::{Managers, UnitOutcome};
use crate::units::Unit;
use anyhow::{Context as _, ensure};
use std::io::IsTerminal as _;

/// Applies a remedy for a unit's denials.
///
/// # Errors
/// There is no remedy, the drop-in cannot be written, or systemd did not load it as predicted: nothing was changed then.
/// Or the unit was not restarted: the drop-in stays.
pub(crate) async fn apply(common: &Common, asked: &Apply, clock: &LocalTime) -> anyhow::Result<Applied> {
    ensure!(
        asked.yes || asked.dry_run || (std::io::stdin().is_terminal() && !common.json),
        "apply asks before it writes, and there is nobody to ask: say --yes or --dry-run"
    );
    let context = Context::open(common, &asked.source, clock).await?;
    let subject = find_subject(&context, &asked.chosen).await?;
    let named = subject.named();
    let Subject { unit, template, found, notes: lookup_notes } = subject;
    let evicted = context.eviction_note(latest_sighting(&found.incidents));
    let Context { managers, loaded_groups: loaded, mut notes, .. } = context;
    notes.extend(evicted);
    let machine = LocalMachine::new(&managers);
    notes.extend(lookup_notes);
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
    let mut plan = ApplyPlan::prepare(machine, request, &loaded.groups).await?;
    notes.append(&mut plan.notes);
    let (mut applied, text) = describe(&plan, &named, asked.remedy.is_none(), &loaded.groups, clock)?;
    notes.append(&mut applied.notes);
    applied.notes = notes;
    if !asked.runtime
        && let Some(configuration) = find_configuration(plan.unit.manager, &plan.remedy, &plan.situation)
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
    if !asked.yes && !prompt::ask(&question(&applied), &mut interruption).await.context("nothing was changed")? {
        applied.outcome = DropInOutcome::Declined;
        return Ok(applied);
    }
    plan.write(machine, &text, &loaded.groups, &mut interruption).await?;
    (applied.outcome, applied.confirmed) = (DropInOutcome::Applied, true);
    if template.is_some() {
        finish_template(machine, &named, asked.restart, &mut applied, &mut interruption).await?;
    } else if asked.restart {
        let UnitOutcome { active_state, result } = plan.restart(machine, &mut interruption).await?;
        applied.restarted = Some(Restarted { active_state, result });
    } else {
        applied.notes.push(restart_note(&plan.unit, plan.running));
    }
    Ok(applied)
}

/// Returns the command that does the same below `/run`.
fn runtime_command(asked: &Apply, named: &Unit) -> String {
    let remedy = asked.remedy.map_or_else(String::new, |number| format!("--remedy {number} "));
    let restart = if asked.restart { "--restart " } else { "" };
    format!("harden-why apply --runtime {remedy}{restart}{}{}", named.manager.option(), named.name)
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
        applied.notes.extend((running == RunningInstances::default()).then(|| restart_note(template, false)));
        applied.notes.extend(instance_notes(template, running));
        return Ok(());
    }
    let instances = restart_instances(machine, template, interruption).await.with_context(|| {
        format!(
            "the drop-in is in place and systemd holds what it says, but not all instances of {} restarted",
            template.name
        )
    })?;
    applied.instances =
        Some(instances.restarted.into_iter().map(|(name, outcome)| RestartedInstance::new(&name, outcome)).collect());
    applied.notes.extend(connections_note(instances.connections.len()));
    Ok(())
}

/// Returns the view of a plan, and the text of its drop-in.
fn describe(
    plan: &ApplyPlan,
    named: &Unit,
    default: bool,
    groups: &Groups,
    clock: &LocalTime,
) -> anyhow::Result<(Applied, String)> {
    let path = &plan.remedy.drop_in;
    let view = RemedyView::new(&plan.remedy, default, groups);
    let old = plan.present_drop_in()?;
    let text = plan.compose(&view.title, &clock.today());
    let diff = diff(old.as_deref().unwrap_or_default(), text.as_bytes());
    let mut applied = Applied::new(named, DropInOutcome::DryRun, Some(path), diff, plan.cautions());
    let of = plan.diagnosis.remedies.len();
    applied.remedy = Some(Applying { number: plan.number, of, title: view.title, opens: view.opens });
    Ok((applied, text))
}

fn question(applied: &Applied) -> String {
    let mut notes = Page::default();
    add_notes(&mut notes, &applied.notes);
    format!("{}{}\nWrite it?", applied.describe_plan(), notes.finish())
}
