//! `rehearse`: runs a unit once with nothing blocked, and shows every call that its settings would have denied.

use super::apply;
use crate::audit::Note;
use crate::cli::args;
use crate::cli::args::{Chosen, Common};
use crate::cli::lookup::context::Context;
use crate::cli::lookup::incident_source::{IncidentScope, ManagerScope};
use crate::cli::lookup::unit_answer::{SilentRefusals, answer_for_unit};
use crate::cli::lookup::unit_names::parse_instance_name;
use crate::cli::terminal::clock::local_time_now;
use crate::cli::terminal::output::print_reply;
use crate::cli::terminal::page::{Page, add_notes};
use crate::cli::terminal::prompt;
use crate::cli::views::answer::{Report, SCHEMA};
use crate::cli::views::rehearsal_progress::RehearsalProgress;
use crate::cli::views::rehearsed;
use crate::cli::views::rehearsed::{RehearsalView, Rehearsed};
use crate::incidents::local_time::LocalTime;
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::outcome::RehearsalOutcome;
use crate::operations::rehearsal::daemon_feed::{DaemonFeed, ListeningDaemon};
use crate::operations::rehearsal::plan::{Limits, RehearsalPlan, RehearsalRequest, parse_kept};
use crate::operations::rehearsal::run;
use crate::operations::rehearsal::session::describe_state;
use crate::operations::rehearsal::watch::RehearsalEnd;
use crate::outlet::caveats::hearing_notes;
use crate::systemd::bus_address::BusAddress;
use crate::systemd::manager::{Managers, UnitOutcome};
use crate::systemd::syscall_groups;
use crate::units::Manager;
use anstream::ColorChoice;
use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use std::io::{IsTerminal as _, Write as _};

/// Rehearses a unit and prints the result. Returns whether any call was seen.
///
/// # Errors
/// The rehearsal cannot start, and nothing was changed. Or it failed, and the unit has its own settings again.
pub(crate) async fn rehearse(common: &Common, asked: &args::Rehearse, color: ColorChoice) -> anyhow::Result<bool> {
    ensure!(
        asked.yes || asked.dry_run || (std::io::stdin().is_terminal() && !common.json),
        "rehearse asks before it lifts anything, and there is nobody to ask: say --yes or --dry-run"
    );
    let clock = local_time_now();
    let request = RehearsalRequest {
        unit: parse_instance_name(&asked.chosen.unit)?,
        system: asked.chosen.system,
        user: asked.chosen.user,
        limits: Limits { time: asked.duration, idle: asked.until_idle },
        keep: parse_kept(&asked.keep)?,
    };
    let daemon = ListeningDaemon::connect(&common.bus).await?;
    let managers = Managers::new(&common.bus);
    let machine = LocalMachine::new(&managers);
    let mut plan = RehearsalPlan::prepare(machine, &request, syscall_groups::load(), &clock).await?;
    plan.notes.extend(hearing_notes(&daemon.status));
    let mut interruption = Interruption::from_signals()?;
    let refused = if asked.dry_run {
        Some(RehearsalOutcome::DryRun)
    } else if asked.yes || prompt::ask(&question(&plan), &mut interruption).await.context("nothing was changed")? {
        None
    } else {
        Some(RehearsalOutcome::Declined)
    };
    if let Some(outcome) = refused {
        return show_plan(common, &plan, outcome, color);
    }
    plan.refresh(machine).await?;
    let since = Timestamp::now().as_millisecond();
    let mut feed = DaemonFeed::begin(daemon.client, common.bus.clone(), plan.unit.clone(), since).await?;
    let mut show = RehearsalProgress::new(&plan, color, common.json);
    let finished = run::rehearse(machine, &plan, &mut feed, &mut show, &mut interruption).await?;
    let failure = failure(&finished.end);
    if let Some(outcome) = failure
        && finished.calls.is_empty()
    {
        let name = plan.unit.name.as_str();
        bail!(
            "{name} was {} while nothing was denied to it, and made no call that would be: none of its filters is the \
             reason. {}",
            describe_state(outcome),
            finished.restoration.describe(name)
        );
    }
    let rehearsal = RehearsalView::finished(&plan, &finished);
    let report = answer(&plan, &feed, &common.bus, &clock).await?;
    let mut rehearsed = Rehearsed { report, rehearsal, applied: None };
    rehearsed.report.notes.extend(failure.map(|outcome| {
        let state = describe_state(outcome);
        let text = format!("it was {state} while nothing was denied to it: more than these calls is amiss");
        Note::new("failed-otherwise", text)
    }));
    finish(common, asked, &plan, rehearsed, color).await
}

/// Prints what a rehearsal would do.
fn show_plan(
    common: &Common,
    plan: &RehearsalPlan,
    outcome: RehearsalOutcome,
    color: ColorChoice,
) -> anyhow::Result<bool> {
    if outcome == RehearsalOutcome::DryRun && !common.json {
        anstream::AutoStream::new(std::io::stdout(), color).write_all(rehearsed::describe_plan(plan).as_bytes())?;
    }
    let report = Report { schema: SCHEMA, demo: None, units: Vec::new(), log: None, notes: plan.notes.clone() };
    let rehearsal = RehearsalView::planned(plan, outcome);
    print_reply(common, color, &Rehearsed { report, rehearsal, applied: None })
}

/// Returns the unit's failure, if the failure ended the rehearsal.
fn failure(end: &RehearsalEnd) -> Option<&UnitOutcome> {
    match end {
        RehearsalEnd::Unit(state) if state.outcome.active_state == "failed" => Some(&state.outcome),
        _ => None,
    }
}

/// Prints the result, and first applies the remedy if the user requested that.
async fn finish(
    common: &Common,
    asked: &args::Rehearse,
    plan: &RehearsalPlan,
    mut rehearsed: Rehearsed,
    color: ColorChoice,
) -> anyhow::Result<bool> {
    let has_remedy = rehearsed.report.units.iter().any(|unit| unit.remedies.iter().any(|remedy| remedy.default));
    if asked.apply && !has_remedy {
        rehearsed.report.notes.push(Note::new("no-remedy", "there is no remedy to apply"));
    }
    if !asked.apply || !has_remedy {
        return print_reply(common, color, &rehearsed);
    }
    if !common.json {
        print_reply(common, color, &rehearsed)?;
    }
    let applied = apply::apply(common, &apply_arguments(plan, asked.yes), &local_time_now()).await;
    match applied {
        Ok(applied) if common.json => {
            rehearsed.applied = Some(applied);
            print_reply(common, color, &rehearsed)
        }
        Ok(applied) => {
            print_reply(common, color, &applied)?;
            Ok(rehearsed.rehearsal.has_findings())
        }
        Err(error) => {
            if common.json {
                let text = format!("the remedy was not applied: {error:#}");
                rehearsed.report.notes.push(Note::new("remedy-not-applied", text));
                print_reply(common, color, &rehearsed)?;
            }
            Err(error)
        }
    }
}

/// Answers for the rehearsed unit from all incidents that the daemon knows.
async fn answer(
    plan: &RehearsalPlan,
    feed: &DaemonFeed,
    bus: &BusAddress,
    local_time: &LocalTime,
) -> anyhow::Result<Report> {
    let context = Context::from_daemon(feed.client(), bus, local_time).await;
    let is_systems = plan.unit.manager == Manager::System;
    let scope = IncidentScope { managers: ManagerScope::from_flags(is_systems, !is_systems), since: None };
    let mut found = context.incidents.incidents(Some(&plan.unit.name), scope).await?;
    found.incidents.retain(|incident| incident.key.unit.as_ref() == Some(&plan.unit));
    let unit = answer_for_unit(&context, &plan.unit, found, SilentRefusals::AllRecorded).await;
    let mut notes = plan.notes.clone();
    notes.extend(context.notes.into_iter().filter(|note| !plan.notes.contains(note)));
    Ok(Report { schema: SCHEMA, demo: None, units: vec![unit], log: None, notes })
}

/// Returns the arguments that apply the answer's default remedy and restart the unit.
fn apply_arguments(plan: &RehearsalPlan, yes: bool) -> args::Apply {
    let is_systems = plan.unit.manager == Manager::System;
    let chosen = Chosen { unit: plan.unit.name.to_string(), system: is_systems, user: !is_systems };
    let source = args::StateDir::default();
    args::Apply { chosen, remedy: None, runtime: false, restart: true, dry_run: false, yes, source }
}

fn question(plan: &RehearsalPlan) -> String {
    let mut notes = Page::default();
    add_notes(&mut notes, &plan.notes);
    format!("{}{}\nRehearse it?", rehearsed::describe_plan(plan), notes.finish())
}
