//! `bisect`: finds the hardening lines by which a unit does not work, by restarts without half of them.

use crate::cli::args;
use crate::cli::args::{Common, StateDir};
use crate::cli::exit_status::{ExitStatus, UsageError};
use crate::cli::lookup::context::Context;
use crate::cli::lookup::incident_source::{IncidentScope, ManagerScope, OtherSource};
use crate::cli::lookup::sighting_times::SightingTimes;
use crate::cli::lookup::started_unit::StartedUnit;
use crate::cli::lookup::unit_answer::{SilentRefusals, answer_for_unit};
use crate::cli::lookup::unit_names::managers_to_ask;
use crate::cli::lookup::unit_words::ChosenUnit;
use crate::cli::terminal::clock::local_time_now;
use crate::cli::terminal::output::print_reply;
use crate::cli::terminal::page::{Page, add_notes};
use crate::cli::terminal::prompt;
use crate::cli::views::answer::Answer;
use crate::cli::views::bisected;
use crate::cli::views::bisected::Bisected;
use crate::cli::views::bisection_progress::BisectionProgress;
use crate::operations::bisection::plan::{BisectionPlan, BisectionRequest};
use crate::operations::bisection::run;
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::outcome::BisectionOutcome;
use crate::outlet::wire::MAX_COUNT_LAG;
use crate::policy::Directive;
use crate::systemd::manager::Managers;
use crate::systemd::syscall_groups;
use crate::units::Unit;
use anstream::ColorChoice;
use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the daemon may take to store a denial: twice its interval, to allow for its other work.
const STORE_DELAY: Duration = MAX_COUNT_LAG.saturating_mul(2);

/// The time between two looks at the incidents.
const STEP: Duration = Duration::from_millis(250);

/// Bisects a unit's hardening and prints the result. Returns its exit status.
///
/// # Errors
/// The bisection cannot start, and nothing was changed. Or it failed, and the unit has its own settings again.
pub(crate) async fn bisect(common: &Common, asked: &args::Bisect, color: ColorChoice) -> anyhow::Result<ExitStatus> {
    ensure!(
        asked.yes || asked.dry_run || (std::io::stdin().is_terminal() && !common.is_json()),
        UsageError("bisect asks before it lifts anything, but there is no terminal: add --yes or --dry-run".to_owned())
    );
    let managers = Managers::new(&common.bus);
    let scope = ManagerScope::from_own_flags(asked.chosen.managers);
    let chosen = ChosenUnit::find(&asked.chosen.unit, scope)?;
    chosen.ensure_may_change("bisect")?;
    if !asked.dry_run {
        chosen.ensure_root_if_system("bisect")?;
    }
    let candidates = managers_to_ask(chosen.managers);
    let started = StartedUnit::find(&managers, chosen.name, &candidates).await?;
    let request = BisectionRequest {
        unit: started.name.clone(),
        candidates,
        check: asked.check.clone(),
        wait: asked.wait,
        restarts: asked.restarts,
    };
    let machine = LocalMachine::new(&managers);
    let mut plan = BisectionPlan::prepare(machine, &request, syscall_groups::load(), &local_time_now()).await?;
    plan.target.notes.extend(started.note());
    let mut interruption = Interruption::from_signals()?;
    let refused = if asked.dry_run {
        Some(BisectionOutcome::DryRun)
    } else if asked.yes || prompt::ask(&question(&plan), &mut interruption).await.context("nothing was changed")? {
        None
    } else {
        Some(BisectionOutcome::Declined)
    };
    if let Some(outcome) = refused {
        return print_reply(common, color, &Bisected::planned(&plan, outcome));
    }
    plan.target.refresh(machine).await?;
    let since = Timestamp::now().as_millisecond();
    let mut show = BisectionProgress::new(&plan, color, common.is_json());
    let finished = Box::pin(run::bisect(machine, &plan, &mut show, &mut interruption)).await?;
    let mut view = Bisected::finished(&plan, &finished, Path::new("/"));
    if view.outcome == BisectionOutcome::Found {
        view.apply = find_narrower_remedy(common, &plan, &view, since).await;
    }
    print_reply(common, color, &view)
}

/// Returns the command that applies the proven remedy for what the unit was denied since the bisection began, if the lines
/// that the bisection found denied all that the remedy allows.
async fn find_narrower_remedy(common: &Common, plan: &BisectionPlan, view: &Bisected, since: i64) -> Option<String> {
    // Without harden-whyd and its store, there is no record of a denial.
    let context = Context::open(common, &StateDir::default(), OtherSource::Store).await.ok()?;
    let keys = view.culprit_keys();
    let is_filter = |key: &&str| Directive::from_key(key).is_some_and(Directive::filters_calls);
    // The daemon stores a denial a moment after it happened. It receives records of filters alone.
    let patience = if keys.iter().any(is_filter) { STORE_DELAY } else { Duration::ZERO };
    let begun = Instant::now();
    loop {
        let answer = answer_by_incidents(&context, &plan.target.unit).await?;
        let is_recent = answer
            .denials
            .iter()
            .any(|denial| denial.times.last_millis >= Some(since) && view.is_by_culprits(&denial.cause.directives));
        // The remedy opens what any of these lines denied.
        let is_by_these = answer
            .denials
            .iter()
            .filter(|denial| matches!(denial.cause.kind, "unit" | "possibly-unit"))
            .all(|denial| view.is_by_culprits(&denial.cause.directives));
        let has_default = answer.remedies.iter().any(|remedy| remedy.default);
        if is_recent || begun.elapsed() >= patience {
            return answer.apply.filter(|_| is_recent && is_by_these && has_default);
        }
        sleep(STEP).await;
    }
}

/// Answers for a unit from all of its incidents; `None` if they cannot be read.
async fn answer_by_incidents(context: &Context, unit: &Unit) -> Option<Answer> {
    let scope = IncidentScope { managers: unit.manager.into(), times: SightingTimes::default() };
    let mut found = context.incidents.incidents(Some(&unit.name), scope).await.ok()?;
    found.incidents.retain(|incident| incident.key.unit.as_ref() == Some(unit));
    Some(answer_for_unit(context, unit, found, SilentRefusals::Possible).await)
}

fn question(plan: &BisectionPlan) -> String {
    let mut notes = Page::default();
    add_notes(&mut notes, &plan.target.notes);
    let name = &plan.target.unit.name;
    let what = if plan.target.facts.is_running() {
        format!(
            "Restart {name} up to {} times without some of these lines, and with all of them at the end?",
            plan.most
        )
    } else {
        format!("Start {name} up to {} times without some of these lines, and stop it at the end?", plan.most)
    };
    format!("{}{}\n{what}", bisected::describe_plan(plan), notes.finish())
}
