//! `rehearse`: a unit runs unblocked for once, and every call that its settings would have denied is told.
//!
//! All that can fail is looked at first ([`plan`]). A drop-in below /run then lifts what denies and logs instead
//! ([`stage`]), until somebody or something ends it ([`watch`]); whatever happens, the unit's own settings come back.
//! Where this process is killed, the next one brings them back ([`left`]).

pub(crate) use crate::operations::rehearsal::recover::left;

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
use crate::cli::terminal::page::Page;
use crate::cli::terminal::prompt;
use crate::cli::views::answer::{Report, SCHEMA};
use crate::cli::views::rehearsal_progress::Show;
use crate::cli::views::rehearsed;
use crate::cli::views::rehearsed::{RehearsalView, Rehearsed};
use crate::incidents::Incident;
use crate::incidents::local_time::LocalTime;
use crate::operations::interruption::Interruption;
use crate::operations::rehearsal::daemon_feed::Heard;
use crate::operations::rehearsal::preflight::{Limits, Plan, RehearsalRequest};
use crate::operations::rehearsal::session::{After, Stage};
use crate::operations::rehearsal::watch::{Ended, Observer as _};
use crate::operations::rehearsal::{session, watch};
use crate::outlet::wire::MAX_COUNT_LAG;
use crate::systemd::bus_address::BusAddress;
use crate::units::Manager;
use anstream::ColorChoice;
use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How long after a sighting it can be stored: the daemon's interval, and as much for what it does meanwhile.
const LATE: Duration = MAX_COUNT_LAG.saturating_mul(2);

/// How often a daemon that does not answer is asked again for what it heard.
const TRIES: usize = 5;

/// Rehearses a unit, and tells what it found; whether that is anything.
///
/// # Errors
/// Something speaks against it, and nothing was changed; or it failed, and the unit's own settings are in force again.
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
        keep: asked.keep.clone(),
    };
    let mut plan = Plan::of(&common.bus, &request, &clock).await?;
    let mut interruption = Interruption::heard()?;
    let refused = if asked.dry_run {
        Some("dry-run")
    } else if asked.yes || prompt::ask(&question(&plan), &mut interruption).await.context("nothing was changed")? {
        None
    } else {
        Some("declined")
    };
    if let Some(outcome) = refused {
        if asked.dry_run && !common.json {
            anstream::AutoStream::new(std::io::stdout(), color).write_all(rehearsed::plan(&plan).as_bytes())?;
        }
        let report = Report { schema: SCHEMA, demo: None, units: Vec::new(), log: None, notes: plan.notes.clone() };
        let rehearsal = RehearsalView::planned(&plan, outcome);
        return print_reply(common, color, &Rehearsed { report, rehearsal, applied: None });
    }
    plan.renew().await?;
    let Over { heard, ended, took, after, calls } = perform(common, &plan, &mut interruption, color).await?;
    if let Ended::Unit(state) = &ended
        && state.outcome.active_state == "failed"
        && calls.is_empty()
    {
        bail!(
            "{} was {} while nothing was denied to it, and made no call that would be: none of its filters is the \
             reason. {}",
            plan.unit.name,
            session::said(&state.outcome),
            after.words(plan.unit.name.as_str())
        );
    }
    let rehearsal = RehearsalView::over(&plan, &ended, took, &after, &calls);
    let mut rehearsed =
        Rehearsed { report: answer(&plan, heard, &common.bus, &clock).await?, rehearsal, applied: None };
    if let Ended::Unit(state) = &ended
        && state.outcome.active_state == "failed"
    {
        rehearsed.report.notes.push(Note::new(
            "failed-otherwise",
            format!(
                "it was {} while nothing was denied to it: more than these calls is amiss",
                session::said(&state.outcome)
            ),
        ));
    }
    let has_remedy = rehearsed.report.units.iter().any(|unit| unit.remedies.iter().any(|remedy| remedy.default));
    if asked.apply && !has_remedy {
        rehearsed.report.notes.push(Note::new("no-remedy", "there is no remedy to apply".to_owned()));
    }
    if !asked.apply || !has_remedy {
        return print_reply(common, color, &rehearsed);
    }
    if !common.json {
        print_reply(common, color, &rehearsed)?;
    }
    let applied = apply::apply(common, &to_apply(&plan, asked.yes), &clock).await;
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
                rehearsed
                    .report
                    .notes
                    .push(Note::new("remedy-not-applied", format!("the remedy was not applied: {error:#}")));
                print_reply(common, color, &rehearsed)?;
            }
            Err(error)
        }
    }
}

/// A rehearsal that is over.
struct Over {
    heard: Heard,
    ended: Ended,
    took: Duration,
    after: After,
    calls: Vec<Incident>,
}

/// From the first change to the last of them taken back.
async fn perform(
    common: &Common,
    plan: &Plan,
    interruption: &mut Interruption,
    color: ColorChoice,
) -> anyhow::Result<Over> {
    let since = Timestamp::now().as_millisecond();
    let mut heard = Heard::begin(plan.client.clone(), common.bus.clone(), plan.unit.clone(), since).await?;
    let begun = Instant::now();
    let mut stage = Stage::set(plan)?;
    let mut show = Show::of(plan, color, common.json);
    let ended = match interruption.or(stage.begin()).await {
        Ok(()) => watch::watch(plan, &mut heard, &mut show, interruption).await,
        Err(error) => Err(error),
    };
    let took = begun.elapsed();
    let restored = stage.end(interruption).await;
    heard.end().await;
    let (ended, after) = match (ended, restored) {
        (Ok(ended), Ok(after)) => (ended, after),
        (Err(error), Ok(after)) => {
            show.finish();
            return Err(error.context(after.words(plan.unit.name.as_str()).trim_end_matches('.').to_owned()));
        }
        (Ok(_), Err(error)) => {
            show.finish();
            return Err(error);
        }
        (Err(why), Err(error)) => {
            show.finish();
            return Err(error.context(format!("{why:#}")));
        }
    };
    // What it heard last is not stored yet.
    tokio::time::sleep(LATE).await;
    let mut calls = heard.calls().await;
    for _ in 0..TRIES {
        if calls.is_ok() {
            break;
        }
        // It may be about to come back.
        tokio::time::sleep(LATE).await;
        calls = heard.calls().await;
    }
    let name = plan.unit.name.as_str();
    let calls = calls.with_context(|| {
        format!("{} What was seen cannot be asked for now; 'harden-why {name}' tells it later", after.words(name))
    });
    if let Ok(calls) = &calls {
        show.calls(calls);
    }
    show.finish();
    Ok(Over { heard, ended, took, after, calls: calls? })
}

/// Answers for the rehearsed unit from all incidents that the daemon knows.
async fn answer(plan: &Plan, heard: Heard, bus: &BusAddress, local_time: &LocalTime) -> anyhow::Result<Report> {
    let context = Context::from_daemon(heard.client(), bus, local_time).await;
    let is_systems = plan.unit.manager == Manager::System;
    let scope = IncidentScope { managers: ManagerScope::from_flags(is_systems, !is_systems), since: None };
    let mut found = context.incidents.incidents(Some(&plan.unit.name), scope).await?;
    found.incidents.retain(|incident| incident.key.unit.as_ref() == Some(&plan.unit));
    let unit = answer_for_unit(&context, &plan.unit, found, SilentRefusals::AllRecorded).await;
    let mut notes = plan.notes.clone();
    notes.extend(context.notes.into_iter().filter(|note| !plan.notes.contains(note)));
    Ok(Report { schema: SCHEMA, demo: None, units: vec![unit], log: None, notes })
}

/// The remedy that the answer marks, and the unit under it.
fn to_apply(plan: &Plan, yes: bool) -> args::Apply {
    let is_systems = plan.unit.manager == Manager::System;
    let chosen = Chosen { unit: plan.unit.name.to_string(), system: is_systems, user: !is_systems };
    let source = args::StateDir::default();
    args::Apply { chosen, remedy: None, runtime: false, restart: true, dry_run: false, yes, source }
}

fn question(plan: &Plan) -> String {
    let mut notes = Page::default();
    crate::cli::terminal::page::add_notes(&mut notes, &plan.notes);
    format!("{}{}\nRehearse it?", rehearsed::plan(plan), notes.finish())
}
