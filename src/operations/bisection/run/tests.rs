//! Tests of bisections against a fake manager: every step can fail, be interrupted, or be the last before a kill.

use super::*;
use crate::host::unit_settings::REHEARSAL_DROP_IN;
use crate::incidents::local_time::LocalTime;
use crate::operations::bisection::plan::BisectionRequest;
use crate::operations::fake_manager::{FakeMachine, Fault, GROUPS};
use crate::operations::outcome::RequiresRoot;
use crate::operations::rehearsal::session::RestoreAction;
use crate::systemd::manager::UnitJob;
use crate::systemd::syscall_groups::LoadedGroups;
use crate::units::Manager;
use jiff::tz::TimeZone;

/// Eight lines of hardening.
const UNIT: &str = "[Service]\nExecStart=/bin/true\nSystemCallFilter=~uname\nSystemCallErrorNumber=EPERM\n\
    ProtectHostname=yes\nRestrictRealtime=yes\nProtectKernelLogs=yes\nProtectClock=yes\nLockPersonality=yes\n\
    MemoryDenyWriteExecute=yes\nProtectKernelModules=yes\n";

/// The steps from one failing call to the next: a trial has fewer calls, and another number of them.
const STRIDE: usize = 13;

#[derive(Default)]
struct Watched {
    trials: Vec<(usize, Option<bool>)>,
    has_ended: bool,
}

impl BisectionObserver for Watched {
    fn show_trial(&mut self, number: usize, lifted: &BTreeSet<usize>) {
        assert_eq!(number, self.trials.len() + 1);
        self.trials.push((lifted.len(), None));
    }

    fn show_outcome(&mut self, outcome: &TrialOutcome) {
        self.trials.last_mut().unwrap().1 = Some(outcome.works);
    }

    fn show_end(&mut self) {
        self.has_ended = true;
    }
}

fn machine(is_running: bool) -> FakeMachine {
    let fake = FakeMachine::new(Manager::System);
    fake.write("etc/systemd/system/x.service", UNIT);
    fake.reload();
    if is_running {
        fake.start_unit();
    }
    fake
}

fn prepare_as(fake: &FakeMachine, machine: LocalMachine<'_, FakeMachine>) -> anyhow::Result<BisectionPlan> {
    let request = BisectionRequest {
        unit: fake.unit.name.clone(),
        candidates: vec![fake.unit.manager],
        check: None,
        wait: Duration::from_millis(1),
        restarts: None,
    };
    let loaded = LoadedGroups { groups: GROUPS.clone(), note: None };
    let clock = LocalTime { now: None, zone: TimeZone::UTC };
    fake.run(BisectionPlan::prepare(machine, &request, loaded, &clock)).unwrap()
}

/// Plans a bisection of a unit that works once one of these lines is in the drop-in.
fn prepare(fake: &FakeMachine, helps: &[&str]) -> BisectionPlan {
    let mut plan = prepare_as(fake, fake.machine()).unwrap();
    let patterns: Vec<String> = helps.iter().map(|line| format!("-e '^{line}$'")).collect();
    plan.check.command = Some(format!("grep -q {} {}", patterns.join(" "), plan.target.path.display()));
    plan
}

fn run(fake: &FakeMachine, plan: &BisectionPlan) -> Option<anyhow::Result<FinishedBisection>> {
    let mut interruption = fake.interruption();
    fake.run(bisect(fake.machine(), plan, &mut Watched::default(), &mut interruption))
}

/// Returns the keys of the found lines.
fn keys(plan: &BisectionPlan, finished: &FinishedBisection) -> Vec<String> {
    let BisectionEnd::Result(BisectionResult::Found(culprits)) = &finished.end else { panic!("{finished:?}") };
    let lines = culprits.iter().flat_map(|culprit| [culprit.line].into_iter().chain(culprit.partners.iter().copied()));
    lines.map(|line| plan.hardening.lines()[line].first.key.to_string()).collect()
}

#[test]
fn each_line_is_found_and_the_unit_is_as_before() {
    let lines = UNIT.lines().filter(|line| line.ends_with("=yes") || line.starts_with("SystemCallFilter"));
    for line in lines {
        let key = line.split('=').next().unwrap();
        for is_running in [true, false] {
            let fake = machine(is_running);
            let off = if key == "SystemCallFilter" { "" } else { "no" };
            let plan = prepare(&fake, &[&format!("{key}={off}")]);
            let before = fake.snapshot();
            let finished = run(&fake, &plan).unwrap().unwrap();
            assert_eq!(keys(&plan, &finished), [key]);
            assert!(finished.restarts <= 9, "{} restarts", finished.restarts);
            let action = if is_running { RestoreAction::Restarted } else { RestoreAction::Stopped };
            assert_eq!(finished.restoration.action, action);
            assert_eq!(fake.snapshot(), before);
        }
    }
}

#[test]
fn lines_that_do_harm_only_together_are_found() {
    let fake = machine(true);
    let plan = prepare(&fake, &["ProtectClock=no", "ProtectHostname=no"]);
    let finished = run(&fake, &plan).unwrap().unwrap();
    let mut found = keys(&plan, &finished);
    found.sort();
    assert_eq!(found, ["ProtectClock", "ProtectHostname"]);
}

#[test]
fn unit_that_works_and_one_that_never_does_take_few_restarts() {
    let fake = machine(true);
    let mut plan = prepare(&fake, &[]);
    for (command, result, restarts) in
        [("true", BisectionResult::Works, 1), ("false", BisectionResult::NotHardening, 2)]
    {
        plan.check.command = Some(command.to_owned());
        let mut watched = Watched::default();
        let before = fake.snapshot();
        fake.renew_signals();
        let mut interruption = fake.interruption();
        let work = bisect(fake.machine(), &plan, &mut watched, &mut interruption);
        let finished = fake.run(work).unwrap().unwrap();
        assert_eq!((finished.end, finished.restarts), (BisectionEnd::Result(result), restarts));
        assert!(watched.has_ended && watched.trials.iter().all(|(_, works)| works.is_some()));
        assert_eq!(fake.snapshot(), before);
    }
}

#[test]
fn limit_of_restarts_ends_the_search_with_lines_that_help() {
    let fake = machine(false);
    let mut plan = prepare(&fake, &["ProtectClock=no"]);
    plan.most = 3;
    let finished = run(&fake, &plan).unwrap().unwrap();
    let BisectionEnd::Limit(lifted) = &finished.end else { panic!("{finished:?}") };
    let helps = lifted.iter().any(|line| &*plan.hardening.lines()[*line].first.key == "ProtectClock");
    assert!(helps && finished.restarts == 3, "{finished:?}");
}

#[test]
fn each_restart_has_the_drop_in_and_the_last_one_has_not() {
    let fake = machine(true);
    let plan = prepare(&fake, &["ProtectClock=no"]);
    let finished = run(&fake, &plan).unwrap().unwrap();
    let jobs = fake.jobs_with(REHEARSAL_DROP_IN);
    let mut expected = vec![(UnitJob::Restart, true); finished.restarts];
    expected.extend([(UnitJob::Stop, true), (UnitJob::Restart, false)]);
    assert_eq!(jobs, expected);
}

/// Makes a call to the manager fail at one step after the other. Checks that the unit is as before, or that the error names
/// `harden-why restore`, which restores the unit. Returns the number of steps.
fn fail_at_steps(faults: &[Fault], is_running: bool) -> usize {
    let mut steps = 0;
    for (index, &fault) in faults.iter().enumerate() {
        // The trials resemble each other, so each fault comes at other steps of them.
        for number in (index + usize::from(is_running)..).step_by(STRIDE) {
            let fake = machine(is_running);
            let plan = prepare(&fake, &["ProtectClock=no"]);
            let before = fake.snapshot();
            fake.fail_at(number, fault);
            let result = run(&fake, &plan);
            if !fake.has_failed() {
                break;
            }
            steps += 1;
            let step = format!("{fault:?} at {} ({number}): {result:?}", fake.failed_call());
            if fake.snapshot() != before {
                if let Some(result) = result {
                    let error = format!("{:#}", result.expect_err(&step));
                    assert!(error.contains("harden-why restore"), "{step}");
                }
                let messages = fake.recover();
                assert_eq!(messages.len(), 1, "{step}: {messages:?}");
                assert!(messages[0].starts_with("a killed bisection left x.service"), "{step}: {messages:?}");
                assert_eq!(fake.snapshot(), before, "{step}: {messages:?}");
            }
            assert!(fake.recover().is_empty(), "{step}");
        }
    }
    steps
}

#[test]
fn bisected_unit_is_restored_when_the_manager_fails_at_any_step() {
    for is_running in [true, false] {
        assert!(fail_at_steps(&Fault::OF_MANAGER, is_running) >= 20);
    }
}

#[test]
fn bisected_unit_is_restored_when_a_signal_comes_at_any_step() {
    for is_running in [true, false] {
        assert!(fail_at_steps(&Fault::SIGNALS, is_running) >= 10);
    }
}

#[test]
fn bisected_unit_is_restored_after_a_kill_at_any_step() {
    for is_running in [true, false] {
        assert!(fail_at_steps(&Fault::KILLS, is_running) >= 10);
    }
}

#[test]
fn signal_ends_the_bisection_and_restores_the_unit() {
    let fake = machine(true);
    let plan = prepare(&fake, &["ProtectClock=no"]);
    let before = fake.snapshot();
    fake.fail_at(20, Fault::Signal);
    let error = format!("{:#}", run(&fake, &plan).unwrap().unwrap_err());
    assert!(error.ends_with("interrupted by SIGINT") && error.contains("restarted under its own settings"), "{error}");
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn second_bisection_is_refused_before_and_after_the_plan() {
    let fake = machine(true);
    let (first, second) = (prepare(&fake, &["ProtectClock=no"]), prepare(&fake, &["ProtectClock=no"]));
    fake.fail_at(20, Fault::Kill);
    assert!(run(&fake, &first).is_none());
    fake.repair();
    let error = prepare_as(&fake, fake.machine()).unwrap_err().to_string();
    assert!(error.contains("is bisecting x.service already"), "{error}");
    let held = fake.snapshot();
    fake.renew_signals();
    let error = run(&fake, &second).unwrap().unwrap_err().to_string();
    assert!(error.contains("is bisecting x.service already"), "{error}");
    assert_eq!(fake.snapshot(), held, "the second one changes nothing");
    fake.end_process();
    let error = prepare_as(&fake, fake.machine()).unwrap_err().to_string();
    assert!(
        error.contains("an earlier bisection of x.service left") && error.contains("harden-why restore"),
        "{error}"
    );
}

#[test]
fn bisection_without_rights_or_hardening_is_refused() {
    let fake = machine(false);
    let error = prepare_as(&fake, fake.machine_of(4_242)).unwrap_err();
    assert!(error.is::<RequiresRoot>() && error.to_string() == "only root can bisect a system unit", "{error}");
    fake.write("etc/systemd/system/x.service", "[Service]\nExecStart=/bin/true\nUser=web\nDynamicUser=yes\n");
    fake.reload();
    let error = prepare_as(&fake, fake.machine()).unwrap_err().to_string();
    assert!(error.contains("there is nothing to bisect"), "{error}");
}

#[test]
fn later_drop_in_with_hardening_is_refused_and_another_one_is_not() {
    let fake = machine(false);
    let later = "etc/systemd/system/x.service.d/zzzzz.conf";
    fake.write(later, "[Service]\nNice=1\n");
    fake.reload();
    assert!(prepare_as(&fake, fake.machine()).is_ok());
    fake.write(later, "[Service]\nProtectClock=yes\n");
    fake.reload();
    let error = prepare_as(&fake, fake.machine()).unwrap_err().to_string();
    assert!(error.contains("zzzzz.conf comes after a bisection's drop-in"), "{error}");
    for line in ["[Unit]\nFailureAction=reboot", "[Service]\nStartLimitInterval=1h", "[Service]\nRestart=always"] {
        fake.write(later, &format!("{line}\n"));
        fake.reload();
        let error = prepare_as(&fake, fake.machine()).unwrap_err().to_string();
        assert!(error.contains("would stay in force"), "{line}: {error}");
    }
}

#[test]
fn plan_names_the_units_that_its_restarts_stop_or_start() {
    let fake = machine(false);
    for (property, other, state) in [
        ("Conflicts", "rival.service", "active"),
        ("Conflicts", "shutdown.target", "inactive"),
        ("Wants", "helper.service", "inactive"),
        ("Requires", "other.service", "active"),
        ("Wants", "network-online.target", "inactive"),
    ] {
        fake.link(property, other, state);
    }
    let plan = prepare(&fake, &[]);
    let notes: Vec<(&str, bool, bool)> = plan
        .target
        .notes
        .iter()
        .map(|note| (note.id, note.text.contains("rival.service"), note.text.contains("helper.service")))
        .collect();
    assert_eq!(notes, [("conflicting-units-stop", true, false), ("needed-units-start", false, true)]);
    let texts: Vec<&str> = plan.target.notes.iter().map(|note| &*note.text).collect();
    assert!(![".target", "other"].iter().any(|name| texts.concat().contains(name)), "{texts:?}");
}

#[test]
fn plan_tells_which_units_run_again_at_the_end() {
    for (is_running, dependents, conflicting) in [
        (true, "which runs again at the end", "and nothing starts it again"),
        (false, "and nothing starts it again", "which runs again at the end"),
    ] {
        let fake = machine(is_running);
        fake.add_dependent("app.service");
        fake.link("ConflictedBy", "rival.service", "active");
        let plan = prepare(&fake, &[]);
        let texts: Vec<&str> = plan.target.notes.iter().map(|note| &*note.text).collect();
        assert!(texts[0].ends_with(&format!("stops what depends on it, {dependents}: app.service")), "{texts:?}");
        assert!(
            texts[1].ends_with(&format!("stops what conflicts with it, {conflicting}: rival.service")),
            "{texts:?}"
        );
    }
}

#[test]
fn unit_that_a_bisection_stopped_runs_again_although_no_trial_has_an_outcome() {
    let fake = machine(false);
    fake.link("Conflicts", "rival.service", "active");
    let mut plan = prepare(&fake, &[]);
    plan.check.command = None;
    fake.start_again_and_again();
    let error = format!("{:#}", run(&fake, &plan).unwrap().unwrap_err());
    assert!(error.contains("something else restarted x.service during a trial"), "{error}");
    assert_eq!(fake.other_jobs(), [("rival.service".to_owned(), UnitJob::Start)]);
}

#[test]
fn unit_that_is_bisected_is_called_so() {
    let fake = machine(true);
    let plan = prepare(&fake, &[]);
    let begun = plan.target.compose(&plan.settings(&BTreeSet::new()));
    for (text, word) in [(begun.as_str(), "bisected"), ("# Written by harden-why\n[Service]\n", "rehearsed")] {
        std::fs::create_dir_all(plan.target.path.parent().unwrap()).unwrap();
        std::fs::write(&plan.target.path, text).unwrap();
        fake.reload();
        let known = fake.run(fake.machine().own_settings(&fake.unit, &GROUPS)).unwrap();
        let note = known.notes.iter().find(|note| note.id == "unit-rehearsed").unwrap();
        assert_eq!(note.text, format!("x.service is being {word}; the answer is for its own settings"));
    }
}

#[test]
fn unit_without_a_start_ends_the_bisection_and_is_as_before() {
    let fake = machine(false);
    let plan = prepare(&fake, &["ProtectClock=no"]);
    let before = fake.snapshot();
    fake.link("Requires", "need.service", "failed");
    let error = format!("{:#}", run(&fake, &plan).unwrap().unwrap_err());
    assert!(error.contains("need.service is failed"), "{error}");
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn unit_that_works_now_and_then_gets_no_culprit() {
    let fake = machine(false);
    let mut plan = prepare(&fake, &[]);
    let count = fake.machine().resolve(std::path::Path::new("/count"));
    let count = count.display();
    let path = plan.target.path.display().to_string();
    // It works with a line lifted, and from the eighth trial on always.
    plan.check.command =
        Some(format!("echo >>{count}; grep -q ProtectClock=no {path} || test $(wc -l <{count}) -ge 8"));
    plan.check.wait = Duration::ZERO;
    let finished = run(&fake, &plan).unwrap().unwrap();
    assert_eq!(finished.end, BisectionEnd::Result(BisectionResult::Contradictory), "{finished:?}");
}

#[test]
fn files_that_change_during_the_bisection_end_it() {
    let fake = machine(true);
    let mut plan = prepare(&fake, &[]);
    let unit = fake.machine().resolve(std::path::Path::new("/etc/systemd/system/x.service"));
    plan.check.command = Some(format!("sed -i s/ProtectClock=yes/ProtectClock=no/ {}; false", unit.display()));
    let error = format!("{:#}", run(&fake, &plan).unwrap().unwrap_err());
    assert!(error.contains("the files of x.service changed during the bisection"), "{error}");
    assert!(!fake.snapshot().holds(REHEARSAL_DROP_IN));
}
