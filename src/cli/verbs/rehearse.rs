//! `rehearse`: runs a unit once with nothing blocked, and shows every call that its settings would have denied.

use super::apply;
use crate::audit::Note;
use crate::audit::text::join;
use crate::cli::args;
use crate::cli::args::{ChosenUnits, Common, ManagerFlags};
use crate::cli::exit_status::{ExitStatus, UsageError};
use crate::cli::lookup::context::Context;
use crate::cli::lookup::incident_source::{IncidentScope, ManagerScope};
use crate::cli::lookup::sighting_times::SightingTimes;
use crate::cli::lookup::started_unit::StartedUnit;
use crate::cli::lookup::unit_answer::{SilentRefusals, answer_for_unit};
use crate::cli::lookup::unit_names::managers_to_ask;
use crate::cli::lookup::unit_words::ChosenUnit;
use crate::cli::terminal::clock::local_time_now;
use crate::cli::terminal::output::SCHEMA;
use crate::cli::terminal::output::{Detail, print_before_question, print_message, print_remark, print_reply};
use crate::cli::terminal::page::{BAD, DIM, Page, add_notes};
use crate::cli::terminal::prompt;
use crate::cli::views::answer::Report;
use crate::cli::views::applied::Applied;
use crate::cli::views::rehearsal_progress::RehearsalProgress;
use crate::cli::views::rehearsed;
use crate::cli::views::rehearsed::{RehearsalView, Rehearsed};
use crate::diagnosis::before_exec::is_systemds_own;
use crate::incidents::Incident;
use crate::operations::interruption::{Interrupted, Interruption};
use crate::operations::local_machine::LocalMachine;
use crate::operations::outcome::{DropInIsRead, DropInOutcome, RehearsalOutcome};
use crate::operations::rehearsal::daemon_feed::{DaemonFeed, ListeningDaemon};
use crate::operations::rehearsal::follow_up::{FollowedRehearsal, StoppedRehearsal, rehearse_then};
use crate::operations::rehearsal::plan::{Limits, RehearsalPlan, RehearsalRequest, parse_kept};
use crate::operations::rehearsal::run;
use crate::operations::rehearsal::run::FinishedRehearsal;
use crate::operations::rehearsal::session::describe_state;
use crate::operations::rehearsal::watch::RehearsalEnd;
use crate::operations::tap::background::BackgroundTap;
use crate::outlet::caveats::list_reception_notes;
use crate::outlet::client::HardenWhyProxy;
use crate::systemd::manager::{Managers, UnitOutcome};
use crate::systemd::syscall_groups;
use crate::units::{Manager, Unit};
use anstream::ColorChoice;
use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::sync::Arc;

/// Rehearses a unit and prints the result. Returns its exit status.
///
/// # Errors
/// The rehearsal cannot start, and nothing was changed. Or it failed, and the unit has its own settings again.
pub(crate) async fn rehearse(
    common: &Common,
    asked: &args::Rehearse,
    color: ColorChoice,
) -> anyhow::Result<ExitStatus> {
    ensure!(
        asked.yes || asked.dry_run || (std::io::stdin().is_terminal() && !common.is_json()),
        UsageError(
            "rehearse asks before it lifts anything, but there is no terminal: add --yes or --dry-run".to_owned()
        )
    );
    let clock = local_time_now();
    let managers = Managers::new(&common.bus);
    let scope = ManagerScope::from_own_flags(asked.chosen.managers);
    let chosen = ChosenUnit::find(&asked.chosen.unit, scope)?;
    chosen.ensure_may_change("rehearse")?;
    if !asked.dry_run {
        chosen.ensure_root_if_system("rehearse")?;
    }
    let candidates = managers_to_ask(chosen.managers);
    let started = StartedUnit::find(&managers, chosen.name, &candidates).await?;
    let request = RehearsalRequest {
        unit: started.name.clone(),
        candidates,
        limits: Limits { time: asked.duration, idle: asked.until_idle },
        keep: parse_kept(&asked.keep)?,
        reloads: !asked.no_reload,
    };
    let daemon = ListeningDaemon::connect(&common.bus).await?;
    let machine = LocalMachine::new(&managers);
    let mut plan = RehearsalPlan::prepare(machine, &request, syscall_groups::load(), &clock).await?;
    plan.target.notes.extend(started.note());
    plan.target.notes.extend(list_reception_notes(&daemon.status));
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
    plan.target.refresh(machine).await?;
    let start = BackgroundTap::start(machine, &plan.target.unit, &plan.target.loaded.groups);
    let tap = match interruption.or(start).await {
        Ok(tap) => Some(Arc::new(tap)),
        Err(error) if error.is::<Interrupted>() => return Err(error.context("nothing was changed")),
        Err(error) => {
            plan.target.notes.push(unseen_accesses_note(&error));
            None
        }
    };
    let since = Timestamp::now().as_millisecond();
    let (client, unit) = (daemon.client, plan.target.unit.clone());
    let mut feed = DaemonFeed::begin(client, common.bus.clone(), unit, since, tap.clone()).await?;
    let mut show = RehearsalProgress::new(&plan, color, common.is_json(), clock);
    let work = RehearsalAnswerer { common, asked, plan: &plan, client: feed.client(), tap, color };
    if asked.apply {
        let follow_up = async |stopped: &StoppedRehearsal| work.apply(stopped).await;
        let rehearsal = rehearse_then(machine, &plan, &mut feed, &mut show, &mut interruption, follow_up);
        let FollowedRehearsal { finished, followed } = Box::pin(rehearsal).await?;
        return match finished {
            Ok(finished) => {
                ensure_no_other_failure(&plan, &finished)?;
                work.print_applied(&finished, followed)
            }
            Err(error) => Err(add_follow_up(error, followed)),
        };
    }
    let finished = Box::pin(run::rehearse(machine, &plan, &mut feed, &mut show, &mut interruption)).await?;
    ensure_no_other_failure(&plan, &finished)?;
    let rehearsal = RehearsalView::finished(&plan, &finished);
    let answered = work.answer(&finished.end, &finished.calls).await;
    let mut report = answered.map_err(|error| finished.explain(error, plan.target.unit.name.as_str()))?;
    report.notes.extend(finished.restoration.notes);
    print_reply(common, color, &Rehearsed { report, rehearsal, applied: None })
}

/// Fails if the unit failed during the rehearsal although none of its filters is the reason.
fn ensure_no_other_failure(plan: &RehearsalPlan, finished: &FinishedRehearsal) -> anyhow::Result<()> {
    let Some(outcome) = failure(&finished.end).filter(|_| finished.calls.is_empty()) else { return Ok(()) };
    let name = plan.target.unit.name.as_str();
    bail!(
        "{name} still {} with nothing blocked, and made no call that its settings deny: its filters are not the \
        reason. {}",
        describe_state(outcome),
        finished.restoration.describe_fully(name, &finished.survivors)
    )
}

/// Adds to the error of a restoration the drop-in that was applied before.
fn add_follow_up(error: anyhow::Error, answer: AppliedAnswer) -> anyhow::Error {
    match answer.applied {
        Some(Ok(Applied { outcome: DropInOutcome::Applied, path: Some(path), .. })) => {
            error.context(format!("{path} is written and loaded, and stays"))
        }
        Some(Err(why)) => error.context(unfinished_remedy_note(&why).text),
        _ => error,
    }
}

/// Notes that the remedy was not applied, or that it was and what followed failed.
fn unfinished_remedy_note(error: &anyhow::Error) -> Note {
    if error.is::<DropInIsRead>() {
        Note::new("remedy-applied", format!("the remedy is applied, but what followed failed: {error:#}"))
    } else {
        Note::new("remedy-not-applied", format!("the remedy was not applied: {error:#}"))
    }
}

/// Notes that the rehearsal sees calls only.
fn unseen_accesses_note(error: &anyhow::Error) -> Note {
    let text = format!("paths, capabilities, devices and arguments that are denied are not seen: {error:#}");
    Note::new("accesses-not-seen", text)
}

/// Prints what a rehearsal would do.
fn show_plan(
    common: &Common,
    plan: &RehearsalPlan,
    outcome: RehearsalOutcome,
    color: ColorChoice,
) -> anyhow::Result<ExitStatus> {
    let report = Report { schema: SCHEMA, demo: None, units: Vec::new(), log: None, notes: plan.target.notes.clone() };
    let rehearsal = RehearsalView::planned(plan, outcome, Detail::from_options(common));
    print_reply(common, color, &Rehearsed { report, rehearsal, applied: None })
}

/// Returns the unit's failure, if the failure ended the rehearsal.
fn failure(end: &RehearsalEnd) -> Option<&UnitOutcome> {
    match end {
        RehearsalEnd::Unit(state) if state.outcome.active_state == "failed" => Some(&state.outcome),
        _ => None,
    }
}

/// What follows a run: the answer, and the remedy.
struct RehearsalAnswerer<'a> {
    common: &'a Common,
    asked: &'a args::Rehearse,
    plan: &'a RehearsalPlan,
    client: HardenWhyProxy<'static>,
    tap: Option<Arc<BackgroundTap>>,
    color: ColorChoice,
}

/// What was done while the unit was stopped.
struct AppliedAnswer {
    report: anyhow::Result<Report>,
    /// The result of applying the remedy; `None` if there is none.
    applied: Option<anyhow::Result<Applied>>,
}

impl RehearsalAnswerer<'_> {
    /// Answers, and applies the default remedy if there is one. Returns whether that started the unit.
    async fn apply(&self, stopped: &StoppedRehearsal) -> (AppliedAnswer, bool) {
        let mut report = match self.answer(&stopped.end, &stopped.calls).await {
            Ok(report) => report,
            Err(error) => return (AppliedAnswer { report: Err(error), applied: None }, false),
        };
        if !has_default_remedy(&report) {
            return (AppliedAnswer { report: Ok(report), applied: None }, false);
        }
        if !self.asked.yes {
            // The question is about the answer, and the unit waits for it.
            report.units.iter_mut().for_each(|answer| answer.is_asked = true);
            let shown = Rehearsed { report, rehearsal: RehearsalView::stopped(self.plan, stopped), applied: None };
            if let Err(error) = print_before_question(self.common, self.color, &shown) {
                return (AppliedAnswer { report: Err(error), applied: None }, false);
            }
            report = shown.report;
        }
        let applied = self.apply_and_start(&report).await;
        let is_started = applied.as_ref().is_ok_and(|applied| applied.restarted.is_some());
        (AppliedAnswer { report: Ok(report), applied: Some(applied) }, is_started)
    }

    /// Applies the remedy and starts the unit. If the unit does not come up, and the rehearsal saw calls of systemd's
    /// own, opens them as well.
    async fn apply_and_start(&self, report: &Report) -> anyhow::Result<Applied> {
        let mut arguments = apply_arguments(self.plan, self.asked.yes);
        let chosen = chosen_unit(self.plan);
        let applied = apply::apply(self.common, &arguments, &chosen, &local_time_now()).await?;
        let denials = report.units.iter().flat_map(|unit| &unit.denials);
        let denied: BTreeSet<&str> =
            denials.filter(|denial| denial.systemds_own).filter_map(|denial| denial.call.as_deref()).collect();
        let is_declined = applied.restarted.is_none();
        if denied.is_empty() || is_declined || has_come_up(&applied) {
            return Ok(applied);
        }
        (arguments.systemds_calls, arguments.yes) = (true, true);
        let Ok(mut second) = apply::apply(self.common, &arguments, &chosen, &local_time_now()).await else {
            return Ok(applied);
        };
        let calls = join(denied.into_iter().map(str::to_owned));
        let result = if has_come_up(&second) { "with it, the unit starts" } else { "and that did not help" };
        let text = format!(
            "{calls} allowed as well, since the unit did not start without these calls of systemd; \
            {result}"
        );
        second.notes.push(Note::new("opens-systemds-calls", text));
        Ok(second)
    }

    /// Prints the answer with the result of the remedy.
    fn print_applied(&self, finished: &FinishedRehearsal, answer: AppliedAnswer) -> anyhow::Result<ExitStatus> {
        let Self { common, color, .. } = *self;
        let AppliedAnswer { report, applied } = answer;
        let rehearsal = RehearsalView::finished(self.plan, finished);
        let name = self.plan.target.unit.name.as_str();
        let report = report.map_err(|error| finished.explain(error, name))?;
        let mut rehearsed = Rehearsed { report, rehearsal, applied: None };
        rehearsed.report.notes.extend(finished.restoration.notes.clone());
        match applied {
            None => print_reply(common, color, &rehearsed),
            Some(Ok(applied)) if common.is_json() => {
                rehearsed.applied = Some(applied);
                print_reply(common, color, &rehearsed)
            }
            Some(Ok(applied)) => {
                if self.asked.yes {
                    print_reply(common, color, &rehearsed)?;
                }
                let status = print_reply(common, color, &applied)?;
                if applied.restarted.is_none() {
                    print_remark(color, DIM, &finished.restoration.describe(name));
                }
                if !self.asked.yes {
                    // The answer was printed before the question.
                    finished.restoration.notes.iter().for_each(|note| print_remark(color, DIM, &note.text));
                }
                Ok(status.max(rehearsed.rehearsal.exit_status()))
            }
            Some(Err(error)) => {
                rehearsed.report.notes.push(unfinished_remedy_note(&error));
                if common.is_json() {
                    print_reply(common, color, &rehearsed)?;
                    print_message(color, BAD, &format!("{error:#}"));
                    return Ok(ExitStatus::from_error(&error));
                }
                if self.asked.yes {
                    print_reply(common, color, &rehearsed)?;
                    return Err(error);
                }
                // The answer was printed before the question, without the end of the rehearsal.
                Err(finished.explain(error, name))
            }
        }
    }

    /// Answers for the rehearsed unit from all incidents that the daemon knows.
    async fn answer(&self, end: &RehearsalEnd, calls: &[Incident]) -> anyhow::Result<Report> {
        let plan = self.plan;
        let context = Context::from_daemon(self.client.clone(), self.common).await;
        let scope = IncidentScope { managers: plan.target.unit.manager.into(), times: SightingTimes::default() };
        let mut found = context.incidents.incidents(Some(&plan.target.unit.name), scope).await?;
        found.incidents.retain(|incident| incident.key.unit.as_ref() == Some(&plan.target.unit));
        let unit = answer_for_unit(&context, &plan.target.unit, found, SilentRefusals::AllRecorded).await;
        let mut notes = plan.target.notes.clone();
        notes.extend(context.notes.into_iter().filter(|note| !plan.target.notes.contains(note)));
        notes.extend(self.tap.iter().flat_map(|tap| tap.notes()));
        let mut report = Report { schema: SCHEMA, demo: None, units: vec![unit], log: None, notes };
        report.notes.extend(no_remedy_note(&report, calls, &plan.target.unit));
        report.notes.extend(failure(end).map(|outcome| {
            let state = describe_state(outcome);
            let text = if calls.iter().any(|call| call.access().is_some()) {
                format!("the unit still {state} with no call blocked: what it could not reach may be the reason")
            } else {
                format!("the unit still {state} with nothing blocked, so these calls are not the only problem")
            };
            Note::new("failed-otherwise", text)
        }));
        Ok(report)
    }
}

/// Whether the unit runs, or did its work, after its start.
fn has_come_up(applied: &Applied) -> bool {
    applied.restarted.as_ref().is_some_and(|restarted| restarted.up)
}

/// Whether an answer has a default remedy.
fn has_default_remedy(report: &Report) -> bool {
    report.units.iter().any(|unit| unit.remedies.iter().any(|remedy| remedy.default))
}

fn chosen_unit(plan: &RehearsalPlan) -> ChosenUnit {
    ChosenUnit { name: plan.target.unit.name.clone(), managers: plan.target.unit.manager.into() }
}

/// Says why a rehearsal ends without a remedy, and what to do next; `None` if there is a remedy.
fn no_remedy_note(report: &Report, calls: &[Incident], unit: &Unit) -> Option<Note> {
    if has_default_remedy(report) {
        return None;
    }
    let command = unit.to_arguments();
    let has_own = calls.iter().any(|call| !is_systemds_own(call));
    let mut remedies = report.units.iter().flat_map(|answer| &answer.remedies);
    let text = match remedies.find_map(|remedy| remedy.reserved) {
        _ if !has_own => {
            format!(
                "no remedy is needed for what the program did: its settings deny none of it. Rehearse longer, and use \
                 the program during it: harden-why rehearse {command}"
            )
        }
        Some(reserved) => {
            format!("no remedy is applied unless you choose it, since {reserved}: harden-why -v {command}")
        }
        None => {
            format!("no drop-in allows these calls, for the reason that each of them names: harden-why -v {command}")
        }
    };
    Some(Note::new("no-remedy", text))
}

/// Returns the arguments that apply the answer's default remedy and restart the unit.
fn apply_arguments(plan: &RehearsalPlan, yes: bool) -> args::Apply {
    let system = plan.target.unit.manager == Manager::System;
    let managers = ManagerFlags { system, user: !system };
    let chosen = ChosenUnits { units: vec![plan.target.unit.name.to_string()], managers };
    let source = args::StateDir::default();
    args::Apply {
        chosen,
        remedy: None,
        runtime: false,
        restart: true,
        dry_run: false,
        yes,
        source,
        systemds_calls: false,
    }
}

fn question(plan: &RehearsalPlan) -> String {
    let mut notes = Page::default();
    add_notes(&mut notes, &plan.target.notes);
    let name = &plan.target.unit.name;
    let what = if plan.target.facts.is_running() {
        format!("Restart {name} without these settings now, and with them at the end?")
    } else {
        format!("Start {name} without these settings, and stop it at the end?")
    };
    format!("{}{}\n{what}", rehearsed::describe_plan(plan, Detail::Short), notes.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;
    use crate::cli::views::answer::Answer;
    use crate::diagnosis::{Situation, diagnose};
    use crate::incidents::local_time::LocalTime;
    use crate::incidents::{Denial, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
    use crate::policy::{Policy, Settings, UnitFile};
    use crate::syscalls::{Abi, Arch, Call, Groups};
    use jiff::tz::TimeZone;
    use std::path::Path;

    /// Rehearses a unit with these settings, whose program makes a call. Returns the note.
    fn note(lines: &str, calls: &[&str]) -> Option<String> {
        let unit = Unit { manager: Manager::System, name: "x.service".parse().unwrap() };
        let groups = Groups::embedded().with_native(Abi::X86_64);
        let file = UnitFile::parse(Path::new("/x.service"), format!("[Service]\n{lines}\n").as_bytes());
        let policy = Policy::new(Settings::new(&unit.name, Some(file), Vec::new()), &groups);
        let drop_in = "/etc/systemd/system/x.service.d/zz-harden-why.conf".into();
        let situation = Situation { policy, drop_in, history: None, programs: Vec::new() };
        let seen = |call: &&str| {
            let event = IncidentEvent::Denial(Denial { call: Call::named(Arch::X86_64, call), action: Action::Log });
            let source = SightingSource::Rehearsal;
            let key = IncidentKey { unit: Some(unit.clone()), event, exe: b"/bin/x".to_vec(), source };
            let (first, last) = (Moment::Unknown, Moment::Unknown);
            Incident { key, rung: None, count: 1, first, last, sample: Sample::default() }
        };
        let calls: Vec<Incident> = calls.iter().map(seen).collect();
        let diagnosis = diagnose(calls.clone(), Some(&situation), &groups);
        let clock = LocalTime { now: None, zone: TimeZone::UTC };
        let answer = Answer::new(Some(&unit), &diagnosis, Some(&situation), &groups, &clock, Vec::new());
        let report = Report { schema: SCHEMA, demo: None, units: vec![answer], log: None, notes: Vec::new() };
        no_remedy_note(&report, &calls, &unit).map(|note| note.text)
    }

    #[test]
    fn remedy_whose_restart_alone_failed_is_called_applied() {
        let error = || anyhow::anyhow!("x.service was not restarted");
        assert_eq!(unfinished_remedy_note(&error()).id, "remedy-not-applied");
        let read = error().context(DropInIsRead("/x.conf".to_owned()));
        let note = unfinished_remedy_note(&read);
        let text =
            "the remedy is applied, but what followed failed: systemd has read /x.conf: x.service was not restarted";
        assert_eq!((note.id, note.text.as_str()), ("remedy-applied", text));
    }

    #[test]
    fn rehearsal_without_a_default_remedy_says_why_and_what_to_do_next() {
        assert_eq!(note("SystemCallFilter=~uname", &["uname"]), None);
        let nothing = note("SystemCallFilter=~uname", &[]).unwrap();
        assert!(nothing.contains("its settings deny none of it") && nothing.ends_with("harden-why rehearse x.service"));
        let fallback = note("RestrictSUIDSGID=yes", &["openat2"]).unwrap();
        assert!(
            fallback.starts_with("no remedy is applied unless you choose it, since only for a caller"),
            "{fallback}"
        );
        assert!(fallback.ends_with(": harden-why -v x.service"), "{fallback}");
        let none = note("DynamicUser=yes", &["openat2"]).unwrap();
        assert!(none.starts_with("no drop-in allows these calls"), "{none}");
    }
}
