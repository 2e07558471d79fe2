//! The page of an answer: denials of several rounds and ways, and the words of remedies.

use super::*;
use crate::audit::Action;
use crate::diagnosis::{FileChange, History, RemedyKind, Situation, diagnose};
use crate::incidents::local_time::LocalTime;
use crate::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
use crate::policy::{Policy, Settings, UnitFile};
use crate::syscalls::{Abi, Arch, Call, Groups};
use crate::units::{Manager, Rung, Unit};
use jiff::tz::TimeZone;
use std::path::Path;
use std::sync::LazyLock;

const REMEDY: &str = "/etc/systemd/system/x.service.d/zz-harden-why.conf";
const UNIT: &str = "/etc/systemd/system/x.service";

static GROUPS: LazyLock<Groups> = LazyLock::new(|| Groups::embedded().with_native(Abi::X86_64));

/// A unit whose file was written at 50, and whose remedy, if it has one, at 60. It started at 65.
pub(super) fn situation(unit: &str, remedy: &str) -> Situation {
    let file = |path: &str, lines: &str| UnitFile::parse(Path::new(path), format!("[Service]\n{lines}\n").as_bytes());
    let dropins = (!remedy.is_empty()).then(|| file(REMEDY, remedy)).into_iter().collect();
    let settings = Settings::new(&"x.service".parse().unwrap(), Some(file(UNIT, unit)), dropins);
    let change = |path: &str, at| FileChange { path: path.into(), at };
    let written = (!remedy.is_empty()).then(|| change(REMEDY, 60));
    let changes = [change(UNIT, 50)].into_iter().chain(written).collect();
    let history = History { changes, started: Some(65), running: true, ..History::default() };
    let policy = Policy::new(settings, &GROUPS);
    Situation { policy, drop_in: REMEDY.into(), history: Some(history), programs: Vec::new() }
}

pub(super) fn unit() -> Unit {
    Unit { manager: Manager::System, name: "x.service".parse().unwrap() }
}

fn seen(call: &str, source: SightingSource, (count, last): (u64, i64)) -> Incident {
    let action = if source == SightingSource::Rehearsal { Action::Log } else { Action::Errno };
    Incident {
        key: IncidentKey {
            unit: Some(unit()),
            event: IncidentEvent::Denial(Denial { call: Call::named(Arch::X86_64, call), action }),
            exe: b"/bin/x".to_vec(),
            source,
        },
        rung: Some(Rung::OwnCgroup),
        count,
        first: Moment::At(last),
        last: Moment::At(last),
        sample: Sample::default(),
    }
}

pub(super) fn answer(incidents: Vec<Incident>, situation: &Situation) -> Answer {
    let diagnosis = diagnose(incidents, Some(situation), &GROUPS);
    let clock = LocalTime { now: None, zone: TimeZone::UTC };
    Answer::new(Some(&unit()), &diagnosis, Some(situation), &GROUPS, &clock, Vec::new())
}

/// Returns a page without styles.
pub(super) fn page(answer: &Answer, detail: Detail) -> String {
    anstream::adapter::strip_str(&render_unit_answer(answer, detail)).to_string()
}

#[test]
fn call_seen_in_several_ways_is_one_line_of_the_full_page() {
    let situation = situation("SystemCallFilter=~uname socket\nSystemCallErrorNumber=EPERM", "");
    let tap = SightingSource::Tap { errno: libc::EPERM };
    let (audit, rehearsal) = (SightingSource::Audit, SightingSource::Rehearsal);
    let incidents = vec![seen("uname", rehearsal, (1, 90)), seen("uname", audit, (3, 80)), seen("uname", tap, (2, 70))];
    let shown = page(&answer(incidents, &situation), Detail::Full);
    assert_eq!(shown.matches("\n  why ").count(), 1, "{shown}");
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("uname the process got an error from the call, 3 times what x86_64 call 63"), "{shown}");
    assert!(words.contains("; also seen in a rehearsal (once) and by a tap (2 times)"), "{shown}");

    // Another program, or another call, is another denial.
    let mut other = seen("uname", rehearsal, (1, 90));
    other.key.exe = b"/bin/y".to_vec();
    let incidents = vec![other, seen("socket", tap, (1, 85)), seen("uname", audit, (3, 80))];
    let shown = page(&answer(incidents, &situation), Detail::Full);
    assert_eq!((shown.matches("\n  who ").count(), shown.contains("also seen")), (3, false), "{shown}");
}

#[test]
fn calls_in_one_block_name_the_other_ways_each() {
    let situation = situation("SystemCallFilter=@basic-io\nSystemCallErrorNumber=EPERM", "");
    let (audit, rehearsal) = (SightingSource::Audit, SightingSource::Rehearsal);
    let incidents = vec![
        seen("uname", rehearsal, (1, 90)),
        seen("socket", audit, (4, 85)),
        seen("uname", audit, (3, 80)),
        seen("socket", rehearsal, (2, 70)),
    ];
    let shown = page(&answer(incidents, &situation), Detail::Full);
    assert!(shown.contains("  2 calls  the process got an error from the call, 7 times"), "{shown}");
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("uname, x86_64 call 63, 3 times, in @system-service; also seen in a rehearsal (once)"),
        "{shown}"
    );
    assert!(words.contains("; also seen in a rehearsal (2 times)"), "{shown}");
}

#[test]
fn new_call_is_marked_among_those_of_earlier_rounds() {
    let lines = "SystemCallFilter=~uname socket mount\nSystemCallErrorNumber=EPERM";
    let situation = situation(lines, "SystemCallFilter=socket");
    let audit = |call, at| seen(call, SightingSource::Audit, (1, at));
    let incidents = vec![audit("uname", 70), audit("socket", 55)];
    let answer_of_two_rounds = answer(incidents, &situation);
    let full = page(&answer_of_two_rounds, Detail::Full);
    let at = |part: &str| full.find(part).unwrap_or_else(|| panic!("{part}: {full}"));
    assert!(
        at("New since the latest change of the settings\n\n  uname ") < at("Settled by a later change\n\n  socket ")
    );
    let all = page(&answer_of_two_rounds, Detail::AllRemedies);
    assert!(all.starts_with("x.service: uname(2) denied") && all.contains("\n  earlier, socket: fixed "), "{all}");
    assert!(all.contains("new is uname; the drop-in holds the rest already"), "{all}");

    // Without an earlier round nothing is marked.
    let full = page(&answer(vec![audit("uname", 70)], &situation), Detail::Full);
    assert!(!full.contains("latest change") && !full.contains("Settled"), "{full}");
}

#[test]
fn title_of_a_remedy_says_what_the_present_drop_in_keeps() {
    let filter = "SystemCallFilter=~uname socket settimeofday\nSystemCallErrorNumber=EPERM\nProtectClock=yes";
    let titles = |call: &str, remedy: &str| -> Vec<(&'static str, String, Vec<String>)> {
        let found = answer(vec![seen(call, SightingSource::Audit, (1, 70))], &situation(filter, remedy));
        found.remedies.into_iter().map(|remedy| (remedy.kind, remedy.title, remedy.added)).collect()
    };
    let nothing_else = "Allow what was denied, and nothing else.";
    assert_eq!(titles("uname", "")[0], ("calls", nothing_else.to_owned(), vec![]));
    let add = "Add what was denied to the present drop-in, and nothing else.";
    for (present, added) in [
        // An earlier remedy opened more than what was denied now.
        ("SystemCallFilter=socket bind listen", "uname"),
        // A line of another kind stays as well.
        ("RestrictNamespaces=no", "uname"),
        ("SystemCallFilter=~socket:ENOSYS", "uname"),
    ] {
        assert_eq!(titles("uname", present)[0], ("calls", add.to_owned(), vec![added.to_owned()]), "{present}");
    }
    // A switch cannot be relaxed for one call.
    let (kind, title, added) = &titles("settimeofday", "")[0];
    assert_eq!((*kind, added.len()), ("calls", 0));
    assert!(title.starts_with("Allow what was denied, and relax the setting that also denied it: "), "{title}");
    let (_, title, added) = &titles("settimeofday", "SystemCallFilter=socket")[0];
    assert!(title.starts_with("Add what was denied to the present drop-in, and relax the setting"), "{title}");
    assert_eq!(*added, ["settimeofday", "ProtectClock=no"]);
}

#[test]
fn remedy_that_only_relaxes_keeps_the_present_drop_in_and_says_so() {
    let found = answer(
        vec![seen("settimeofday", SightingSource::Audit, (1, 70))],
        &situation("ProtectClock=yes\nSystemCallFilter=~socket", "SystemCallFilter=socket"),
    );
    let remedy = &found.remedies[0];
    assert_eq!(remedy.title, "Relax the setting that denied it, and keep the present drop-in.");
    assert_eq!(remedy.content, "[Service]\nSystemCallFilter=socket\nProtectClock=no\n");
    assert_eq!(remedy.added, ["ProtectClock=no"]);
}

/// Every remedy whose title promises nothing else opens nothing else, whatever the settings and the drop-in.
#[test]
fn promise_of_nothing_else_is_kept() {
    let units = [
        "SystemCallFilter=~uname socket @clock",
        "SystemCallFilter=@basic-io\nProtectClock=yes",
        "SystemCallFilter=~@clock\nProtectClock=yes\nPrivateDevices=yes\nRestrictNamespaces=yes",
        "RestrictAddressFamilies=AF_UNIX\nSystemCallFilter=~uname",
        "DynamicUser=yes\nSystemCallFilter=~openat2 uname\nSystemCallErrorNumber=EPERM",
    ];
    let drop_ins = ["", "SystemCallFilter=socket bind", "RestrictNamespaces=no", "SystemCallFilter=~bind:ENOSYS"];
    let mut promised = 0;
    for (unit, drop_in) in units.iter().flat_map(|unit| drop_ins.map(|drop_in| (*unit, drop_in))) {
        let situation = situation(unit, drop_in);
        for call in ["uname", "socket", "settimeofday", "clock_adjtime", "unshare", "openat2", "bind"] {
            let incidents = vec![seen(call, SightingSource::Audit, (1, 70))];
            let diagnosis = diagnose(incidents.clone(), Some(&situation), &GROUPS);
            let views = answer(incidents, &situation).remedies;
            for (remedy, view) in diagnosis.remedies.iter().zip(views) {
                if view.title.contains("nothing else") {
                    promised += 1;
                    assert!(
                        remedy.opens.is_empty() && remedy.kind == RemedyKind::Calls,
                        "{unit} {drop_in}: {remedy:?}"
                    );
                    assert_eq!(view.title.starts_with("Add"), !drop_in.is_empty(), "{unit} {drop_in}: {view:?}");
                }
            }
        }
    }
    assert!(promised > 20, "{promised}");
}
