//! `tap`: watches running units and processes for calls that seccomp refuses without a record, and answers for those
//! calls.

use crate::audit::Note;
use crate::audit::text::join;
use crate::cli::args::{Common, TapArgs as Asked};
use crate::cli::exit_status::UsageError;
use crate::cli::lookup::call_sites::{ShownPackages, add_call_sites};
use crate::cli::lookup::incident_source::ManagerScope;
use crate::cli::lookup::source_lines::add_source_lines;
use crate::cli::lookup::started_unit::StartedUnit;
use crate::cli::lookup::unit_answer::apply_command;
use crate::cli::lookup::unit_words::ChosenUnit;
use crate::cli::terminal::clock::local_time_now;
use crate::cli::terminal::output::SCHEMA;
use crate::cli::terminal::output::color_choice;
use crate::cli::terminal::prompt;
use crate::cli::terminal::words::count_times;
use crate::cli::views::answer::Answer;
use crate::cli::views::remedy::add_exposure;
use crate::cli::views::tap_progress::TapProgress;
use crate::cli::views::tapped::{RefusalView, Tapped};
use crate::diagnosis::{Diagnosis, Finding, diagnose};
use crate::incidents::{Incident, name_access};
use crate::kernel::tap::{CallResult, TapError};
use crate::operations::interruption::Interruption;
use crate::operations::local_machine::LocalMachine;
use crate::operations::tap::refusals::{TappedUnit, UnitRefusal};
use crate::operations::tap::report::{failure_notes, loss_notes, report_to_daemon};
use crate::operations::tap::running::{TAPS, TapFile};
use crate::operations::tap::session::TapSession;
use crate::operations::tap::start::ensure_can_restart;
use crate::operations::tap::targets::{TargetRequest, resolve_target};
use crate::syscalls::Groups;
use crate::systemd::manager::Managers;
use crate::systemd::manager_lookup::all_managers;
use crate::systemd::syscall_groups;
use crate::units::{Manager, Unit};
use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

/// Watches the targets, and answers.
///
/// # Errors
/// The caller lacks the rights, a target does not run, or the kernel lacks BPF: nothing was changed. Or a unit cannot be
/// restarted.
pub(crate) async fn tap(common: &Common, asked: &Asked) -> anyhow::Result<Tapped> {
    // Check this first: later errors would name the wrong cause.
    ensure!(nix::unistd::geteuid().is_root(), TapError::NotAllowed);
    ensure!(
        !asked.restart || asked.yes || (std::io::stdin().is_terminal() && !common.is_json()),
        UsageError("tap asks before it restarts a unit, but there is no terminal: add --yes".to_owned())
    );
    let loaded = syscall_groups::load();
    let managers = Managers::new(&common.bus);
    let machine = LocalMachine::new(&managers);
    let scope = ManagerScope::from_flags(asked.managers);
    let in_scope: Vec<Manager> = all_managers(&managers).filter(|manager| scope.includes(Some(*manager))).collect();
    let (mut watched, mut names, mut led) = (Vec::new(), Vec::new(), Vec::new());
    for name in &asked.targets {
        let mut candidates = in_scope.clone();
        let request = if let Ok(pid) = name.parse() {
            ensure!(!asked.restart, UsageError(format!("a process cannot be restarted: name the unit of {name}")));
            // A process without a unit can be tapped as well.
            let found = ChosenUnit::find(name, scope).map(drop);
            found.or_else(|error| if error.is::<UsageError>() { Err(error) } else { Ok(()) })?;
            names.push(name.clone());
            TargetRequest::Process(pid)
        } else {
            let chosen = ChosenUnit::find(name, scope)?;
            candidates.retain(|manager| chosen.managers.includes(Some(*manager)));
            let started = StartedUnit::find(&managers, chosen.name, &candidates).await?;
            led.extend(started.note());
            names.push(started.name.to_string());
            TargetRequest::Unit(started.name)
        };
        watched.push(resolve_target(machine, &request, &candidates, asked.restart).await?);
    }
    let mut interruption = Interruption::from_signals()?;
    if asked.restart {
        ensure_can_restart(machine, &watched).await?;
        let question = format!("Restart {}, and watch from the first call on?", join(names.iter().cloned()));
        let confirmed =
            asked.yes || prompt::ask(&question, &mut interruption).await.context("nothing was restarted")?;
        ensure!(confirmed, "nothing was restarted");
    }
    let session = TapSession::load(machine, watched, &loaded.groups, asked.restart).await;
    let file = announce(&names, asked.duration);
    let mut live =
        TapProgress::new(!common.is_json(), color_choice(common), &asked.targets, session.policies(), local_time_now());
    let finished = session
        .watch(machine, asked.duration, &loaded.groups, &mut interruption, |elapsed, so_far| {
            live.show(elapsed, asked.duration, so_far);
        })
        .await;
    drop(live);
    drop(file);
    let finished = finished?;

    let mut notes = led;
    notes.extend(finished.not_started.iter().cloned());
    notes.extend(loss_notes(finished.losses, finished.uncounted));
    notes.extend(syscall_groups::groups_note(&loaded));
    let refused = finished.refusals.iter().filter_map(UnitRefusal::to_incident);
    let mut incidents: Vec<Incident> = refused.chain(finished.accesses.iter().cloned()).collect();
    let (diagnoses, harmless): (Vec<Diagnosis>, Vec<Vec<Incident>>) =
        finished.units.iter().map(|tapped| diagnose_denials(tapped, &incidents, &loaded.groups)).unzip();
    let harmless = harmless.concat();
    incidents.retain(|incident| harmless.iter().all(|other| other.key != incident.key));
    notes.extend(harmless_notes(&harmless));
    notes.extend(failure_notes(finished.unjudged, finished.sees_capabilities));
    let not_stored = report_to_daemon(&common.bus, incidents).await;
    let is_stored = not_stored.is_none();
    notes.extend(not_stored);
    notes.extend(answered_note(&finished.refusals));
    let mut answers = Vec::new();
    for (tapped, diagnosis) in finished.units.iter().zip(&diagnoses) {
        let mut answer = answer(tapped, diagnosis, &loaded.groups, ShownPackages::from_options(common));
        if is_stored {
            suggest_apply(tapped.unit.as_ref(), &mut answer);
        }
        // Processes without a unit, and units that are no targets, appear only if they have refusals.
        if finished.is_target(tapped.unit.as_ref()) || !answer.denials.is_empty() {
            answers.push(answer);
        }
    }
    let (seconds, refusals) = (finished.took.as_secs_f64(), views(&finished.refusals, &harmless));
    Ok(Tapped { schema: SCHEMA, seconds, units: answers, refusals, notes })
}

/// Suggests `apply` for the default remedy. `apply` reads the stored denials, so other remedies can have other numbers.
fn suggest_apply(unit: Option<&Unit>, answer: &mut Answer) {
    let unit = unit.filter(|_| answer.remedies.iter().any(|remedy| remedy.default));
    answer.apply = unit.and_then(|unit| apply_command(unit, &answer.remedies, !unit.name.is_per_connection(), ""));
}

/// Announces the tap to `status`. The tap works without, for example where `/run` is read-only.
fn announce(targets: &[String], duration: Duration) -> Option<TapFile> {
    let now = Timestamp::now().as_millisecond();
    let length = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    TapFile::write(Path::new(TAPS), now, now.saturating_add(length), targets).ok()
}

/// Answers for the refusals of a unit.
fn answer(tapped: &TappedUnit, diagnosis: &Diagnosis, groups: &Groups, packages: ShownPackages) -> Answer {
    let situation = tapped.situation();
    let notes = tapped.settings.as_ref().map_or_else(Vec::new, |settings| settings.notes.clone());
    let mut answer = Answer::new(tapped.unit.as_ref(), diagnosis, situation, groups, &local_time_now(), notes);
    add_source_lines(&mut answer, diagnosis, Path::new("/"));
    add_call_sites(&mut answer, diagnosis, Path::new("/"), packages);
    if tapped.unit.is_none() {
        // Without a unit no setting can help.
        answer.unproven = None;
    }
    "None of its calls was refused during the tap.".clone_into(&mut answer.nothing);
    let properties = tapped.settings.as_ref().and_then(|settings| settings.properties.as_ref());
    if let (Some(properties), Some(situation)) = (properties, situation) {
        add_exposure(&mut answer.remedies, properties, situation);
    }
    answer
}

/// Diagnoses what a unit was denied. Returns separately the denials by which its programs miss nothing.
fn diagnose_denials(tapped: &TappedUnit, incidents: &[Incident], groups: &Groups) -> (Diagnosis, Vec<Incident>) {
    let own = incidents.iter().filter(|incident| incident.key.unit == tapped.unit).cloned().collect();
    let mut diagnosis = diagnose(own, tapped.situation(), groups);
    if !diagnosis.findings.iter().any(Finding::is_harmless) {
        return (diagnosis, Vec::new());
    }
    let (harmless, denials): (Vec<Finding>, Vec<Finding>) =
        std::mem::take(&mut diagnosis.findings).into_iter().partition(Finding::is_harmless);
    // What is harmless needs no remedy.
    let denials = denials.into_iter().map(|finding| finding.incident).collect();
    let harmless = harmless.into_iter().map(|finding| finding.incident).collect();
    (diagnose(denials, tapped.situation(), groups), harmless)
}

/// Says that something else than systemd's filters answered calls.
fn answered_note(refusals: &[UnitRefusal]) -> Option<Note> {
    let is_answered = |refusal: &UnitRefusal| refusal.kind.result == CallResult::Answered && refusal.killed.is_none();
    refusals.iter().any(is_answered).then(|| {
        Note::new(
            "answered-by-others",
            "some denied calls returned no error, as no filter of systemd's does: a supervisor, a tracer, or the \
            program's own handler of SIGSYS answered them",
        )
    })
}

/// Says which denials are not listed, since programs miss nothing by them.
fn harmless_notes(harmless: &[Incident]) -> impl Iterator<Item = Note> {
    let (files, calls): (Vec<&Incident>, Vec<&Incident>) =
        harmless.iter().partition(|incident| incident.access().is_some());
    let count = |incidents: &[&Incident]| {
        count_times(incidents.iter().map(|incident| incident.count).fold(0, u64::saturating_add))
    };
    let older = (!calls.is_empty()).then(|| {
        let names: BTreeSet<String> = calls.iter().filter_map(|incident| Some(incident.call()?.to_string())).collect();
        Note::new(
            "older-call",
            format!(
                "{} failed with ENOSYS, as on a kernel that does not know it, {}: most programs then make an older call, \
                so it is not listed as denied",
                join(names.into_iter()),
                count(&calls)
            ),
        )
    });
    let probes = (!files.is_empty()).then(|| {
        let paths: BTreeSet<String> =
            files.iter().filter_map(|incident| Some(name_access(&incident.access()?.access))).collect();
        Note::new(
            "library-probe",
            format!(
                "{} is hidden from the unit, and was looked for {}: libraries do without it, so it is not listed as denied",
                join(paths.into_iter()),
                count(&files)
            ),
        )
    });
    older.into_iter().chain(probes)
}

fn views(refusals: &[UnitRefusal], harmless: &[Incident]) -> Vec<RefusalView> {
    let is_fallback = |refusal: &UnitRefusal| {
        refusal.to_incident().is_some_and(|incident| harmless.iter().any(|other| other.key == incident.key))
    };
    let mut views: Vec<RefusalView> =
        refusals.iter().map(|refusal| RefusalView::new(refusal, is_fallback(refusal))).collect();
    views.sort_by_key(|view| std::cmp::Reverse(view.count));
    views
}
