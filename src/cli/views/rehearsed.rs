//! The views of a rehearsal: the plan, and the result.

use super::answer::Report;
use super::applied::Applied;
use super::survivors::{SurvivorView, add_survivors};
use crate::audit::text::{escape, join, join_or, plural, shown_path};
use crate::cli::exit_status::ExitStatus;
use crate::cli::terminal::output::{Detail, Reply};
use crate::cli::terminal::page::{BOLD, DIM, GOOD, PLACE, Page, WARN, styled};
use crate::cli::terminal::words::{describe_manager, describe_span};
use crate::diagnosis::RehearsalDropIn;
use crate::diagnosis::before_exec::is_systemds_own;
use crate::incidents::Incident;
use crate::operations::outcome::RehearsalOutcome;
use crate::operations::rehearsal::follow_up::StoppedRehearsal;
use crate::operations::rehearsal::plan::{Limits, RehearsalPlan};
use crate::operations::rehearsal::run::FinishedRehearsal;
use crate::operations::rehearsal::session::describe_state;
use crate::operations::rehearsal::target::TemporaryTarget;
use crate::operations::rehearsal::watch::RehearsalEnd;
use crate::policy::{Directive, InRehearsal};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most lines of a drop-in that a dry run shows without `--verbose`.
const MOST_LINES: usize = 10;

/// The most calls that a plan names without `--verbose`.
const NAMED: usize = 4;

/// The answer after a rehearsal.
#[derive(Debug, Serialize)]
pub(crate) struct Rehearsed {
    #[serde(flatten)]
    pub(crate) report: Report,
    pub(crate) rehearsal: RehearsalView,
    /// The result of `--apply`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) applied: Option<Applied>,
}

/// The rehearsal itself.
#[derive(Debug, Serialize)]
pub(crate) struct RehearsalView {
    pub(crate) unit: String,
    manager: String,
    /// `rehearsed`, `dry-run` or `declined`.
    pub(crate) outcome: RehearsalOutcome,
    /// The directives that are not in force during the rehearsal.
    lifted: Vec<&'static str>,
    /// The directives that stay in force, although a rehearsal could lift them.
    kept: Vec<&'static str>,
    /// Calls that the rehearsal allows without logging, because every program makes them.
    unlogged: BTreeMap<&'static str, Vec<String>>,
    /// The lines of the drop-in.
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_in: Option<String>,
    /// Its duration in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    /// What ended it: `interrupted`, `time`, `idle` or `unit-ended`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'static str>,
    /// The unit afterwards: `restarted`, `stopped` or `left`.
    #[serde(skip_serializing_if = "Option::is_none")]
    then: Option<&'static str>,
    /// The unit's `ActiveState` afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// Every call seen, with its count in this rehearsal.
    calls: Vec<RehearsedCallView>,
    /// The processes that outlive the rehearsal, and run without the unit's own settings until they end.
    survivors: Vec<SurvivorView>,
    #[serde(skip)]
    words: Vec<String>,
    /// What a dry run shows.
    #[serde(skip)]
    plan: String,
}

/// A call seen in a rehearsal.
#[derive(Debug, Serialize)]
struct RehearsedCallView {
    call: String,
    count: u64,
    /// Whether only systemd made the call, before it executed the program. A remedy leaves such a call denied.
    systemd: bool,
}

impl RehearsalView {
    /// The view of a planned rehearsal.
    pub(crate) fn planned(plan: &RehearsalPlan, outcome: RehearsalOutcome, detail: Detail) -> Self {
        let RehearsalDropIn { lifted, kept, unlogged, content, .. } = &plan.rehearsal;
        let keys = |directives: &[Directive]| directives.iter().map(|directive| directive.key()).collect();
        Self {
            unit: plan.target.unit.name.to_string(),
            manager: plan.target.unit.manager.to_string(),
            outcome,
            lifted: keys(lifted),
            kept: keys(kept),
            unlogged: unlogged
                .iter()
                .map(|(directive, calls)| (directive.key(), calls.iter().map(ToString::to_string).collect()))
                .collect(),
            drop_in: Some(content.clone()),
            seconds: None,
            ended: None,
            then: None,
            state: None,
            calls: Vec::new(),
            survivors: Vec::new(),
            words: Vec::new(),
            plan: if outcome == RehearsalOutcome::DryRun { describe_plan(plan, detail) } else { String::new() },
        }
    }

    /// The view of a rehearsal whose unit is still stopped.
    pub(crate) fn stopped(plan: &RehearsalPlan, stopped: &StoppedRehearsal) -> Self {
        let StoppedRehearsal { end, took, calls } = stopped;
        let mut view = Self::after_run(plan, (end, *took), calls);
        view.words.push(format!("{} is stopped, and starts when you have answered.", plan.target.unit.name));
        view
    }

    /// The view of a finished rehearsal.
    pub(crate) fn finished(plan: &RehearsalPlan, finished: &FinishedRehearsal) -> Self {
        let FinishedRehearsal { end, took, restoration, calls, survivors } = finished;
        let mut view = Self::after_run(plan, (end, *took), calls);
        view.then = Some(restoration.action.as_str());
        view.state = restoration.outcome.as_ref().map(|outcome| escape(outcome.active_state.as_bytes()));
        view.words.push(restoration.describe(plan.target.unit.name.as_str()));
        view.survivors = survivors.iter().map(SurvivorView::new).collect();
        view
    }

    fn after_run(plan: &RehearsalPlan, (end, took): (&RehearsalEnd, Duration), calls: &[Incident]) -> Self {
        let mut counts: BTreeMap<String, (u64, bool)> = BTreeMap::new();
        for incident in calls {
            if let Some(call) = incident.call() {
                let (count, systemd) = counts.entry(call.to_string()).or_insert((0, true));
                *count += incident.count;
                *systemd &= is_systemds_own(incident);
            }
        }
        let name = plan.target.unit.name.as_str();
        let why = match end {
            RehearsalEnd::Signal("SIGINT") => "until Ctrl-C".to_owned(),
            RehearsalEnd::Signal(signal) => format!("until {signal}"),
            RehearsalEnd::Time => "for the given time".to_owned(),
            RehearsalEnd::Idle => "until no new call came".to_owned(),
            RehearsalEnd::Unit(state) if state.sub_state == "exited" => "until it had finished".to_owned(),
            RehearsalEnd::Unit(state) => format!("until it ended by itself, {}", describe_state(&state.outcome)),
        };
        let seen = match counts.values().filter(|(_, systemd)| !systemd).count() {
            0 => "made no call that its settings deny".to_owned(),
            calls => format!("made {} that its settings deny or may deny", plural(calls as u64, "call")),
        };
        let seconds = (took.as_secs_f64() * 10.0).round() / 10.0;
        Self {
            drop_in: None,
            seconds: Some(seconds),
            ended: Some(end.as_str()),
            calls: counts
                .into_iter()
                .map(|(call, (count, systemd))| RehearsedCallView { call, count, systemd })
                .collect(),
            words: vec![format!("{name} was rehearsed {why} ({seconds} s), and {seen}.")],
            ..Self::planned(plan, RehearsalOutcome::Rehearsed, Detail::Short)
        }
    }

    /// Adds the drop-in of a dry run. Without details, a long one is counted.
    fn add_drop_in(&self, page: &mut Page, detail: Detail) {
        let lines: Vec<&str> = self.drop_in.iter().flat_map(|content| content.lines()).collect();
        if detail != Detail::Full && lines.len() > MOST_LINES {
            let words = format!("{} (-v shows them)", plural(lines.len() as u64, "line"));
            return page.field("writes", &words);
        }
        for line in lines {
            page.line(format_args!("  {}", styled(GOOD, line)));
        }
    }

    pub(crate) fn exit_status(&self) -> ExitStatus {
        match self.outcome {
            RehearsalOutcome::Rehearsed if !self.calls.is_empty() => ExitStatus::Found,
            RehearsalOutcome::Rehearsed | RehearsalOutcome::DryRun => ExitStatus::Done,
            RehearsalOutcome::Declined => ExitStatus::Failed,
        }
    }
}

impl Reply for Rehearsed {
    fn page(&self, detail: Detail) -> String {
        let mut page = Page::default();
        match self.rehearsal.outcome {
            RehearsalOutcome::Declined => page.line("Nothing was changed."),
            RehearsalOutcome::DryRun => {
                page.line(self.rehearsal.plan.trim_end());
                self.rehearsal.add_drop_in(&mut page, detail);
                page.line("Nothing was changed (--dry-run).");
            }
            RehearsalOutcome::Rehearsed => {}
        }
        for words in &self.rehearsal.words {
            page.paragraph(0, words);
        }
        add_survivors(&mut page, &self.rehearsal.survivors, "rehearsal");
        let report = self.report.page(detail);
        if !report.is_empty() {
            page.gap();
            page.line(report.trim_end());
        }
        page.finish()
    }

    fn exit_status(&self) -> ExitStatus {
        let applied = self.applied.as_ref().map_or(ExitStatus::Done, Reply::exit_status);
        self.rehearsal.exit_status().max(applied)
    }
}

/// Describes what a rehearsal would do, and its risks. Without details, calls are counted.
pub(crate) fn describe_plan(plan: &RehearsalPlan, detail: Detail) -> String {
    let RehearsalPlan { target, rehearsal, limits, reloads } = plan;
    let TemporaryTarget { unit, facts, path, marker, .. } = target;
    let mut page = Page::default();
    let whose = describe_manager(&unit.manager.to_string());
    page.line(format_args!("{} {}", styled(BOLD, &unit.name), styled(DIM, format_args!("({whose})"))));
    page.line(format_args!("  {}", styled(PLACE, shown_path(path))));
    let begin = if facts.is_running() { "restarts" } else { "starts" };
    page.paragraph(
        2,
        &styled(
            WARN,
            format_args!(
                "systemd {begin} it without the lifted settings. It is less protected until the end: calls that they \
                deny take effect, and harden-whyd records them."
            ),
        ),
    );
    let keys = |directives: &mut dyn Iterator<Item = &Directive>| {
        join(directives.map(|directive| format!("{}=", directive.key())))
    };
    page.field("lifted", &keys(&mut rehearsal.lifted.iter()));
    let lifts_more = |one: &&Directive| one.spec().rehearsal == InRehearsal::LiftsMoreThanCalls;
    let more: Vec<&Directive> = rehearsal.lifted.iter().filter(lifts_more).collect();
    if let Some(first) = more.first() {
        let restrict = if more.len() == 1 { "restricts" } else { "restrict" };
        let names = keys(&mut more.iter().copied());
        let text = format!(
            "{names} also {restrict} devices, capabilities or files; this is off during the rehearsal. --keep {} leaves \
             it on",
            first.key()
        );
        page.field("more", &text);
    }
    for (directive, calls) in &rehearsal.unlogged {
        let calls = match calls.len() {
            0 => "none of its calls is shown".to_owned(),
            count if count > NAMED && detail != Detail::Full => {
                format!("{} are not shown (-v names them)", plural(count as u64, "call"))
            }
            _ => format!("not shown: {}", join(calls.iter().map(ToString::to_string))),
        };
        page.field(
            "unlogged",
            &format!("{}= looks at the arguments of calls that every program makes: {calls}", directive.key()),
        );
    }
    if !rehearsal.enosys.is_empty() {
        let calls = join(rehearsal.enosys.iter().map(ToString::to_string));
        page.field(
            "ENOSYS",
            &format!(
                "{calls} still fail as on a kernel without them, so that programs make other \
            calls"
            ),
        );
    }
    if rehearsal.replaces_log {
        page.field("replaced", "its own SystemCallLog=, which logs nothing during the rehearsal");
    }
    let stays = keys(&mut rehearsal.kept.iter());
    if !stays.is_empty() {
        page.field("kept", &stays);
    }
    page.field("ends", &describe_limits(limits, *reloads, marker.ran));
    page.finish()
}

fn describe_limits(limits: &Limits, reloads: bool, ran: bool) -> String {
    let mut when = vec!["Ctrl-C".to_owned(), "until it exits".to_owned()];
    if let Some(time) = limits.time {
        when.push(format!("for {} at most", describe_span(time)));
    }
    if let Some(idle) = limits.idle {
        when.push(format!("until no new call comes for {}", describe_span(idle)));
    }
    let when: Vec<&str> = when.iter().map(String::as_str).collect();
    let then = if ran { "restarts it under its own settings" } else { "stops it, because it does not run now" };
    let reload = if reloads { "reloads it once, if it can (not with --no-reload), and " } else { "" };
    format!("It runs until {}. Then systemd {reload}{then}", join_or(&when))
}
