//! Lines that may help if the unit's settings were not read.

use crate::audit::text::{escape, join};
use crate::diagnosis::{DenialCause, Finding};
use crate::incidents::{Incident, SightingSource, describe_outcome};
use crate::policy::Directive;
use crate::syscalls::{Abi, Groups};
use crate::units::Unit;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Remedies that could not be proven.
#[derive(Debug, Serialize)]
pub struct Unproven {
    /// Lines that would allow the calls, least privilege first; those of each program follow one another.
    pub lines: Vec<String>,
    /// The same lines by program and cause.
    pub programs: Vec<UnprovenLines>,
    /// Why they are not proven, and how to prove them.
    pub why: String,
}

/// Lines for one program that a filter acted on in one way.
#[derive(Debug, Serialize)]
pub struct UnprovenLines {
    /// The executable, escaped; the thread's name if the kernel gave none.
    pub program: String,
    /// What happened to its processes, in words.
    pub outcome: String,
    /// Lines that would allow the calls; any one of them is enough.
    pub lines: Vec<String>,
}

/// What the lines for one program have to allow.
#[derive(Debug, Default)]
struct Needs<'a> {
    /// The calls that a `SystemCallFilter=` may have denied.
    calls: BTreeSet<&'a str>,
    /// The architectures, in systemd's words, that a `SystemCallArchitectures=` may have denied.
    architectures: BTreeSet<&'static str>,
}

/// Lists lines that may help if harden-why could not read the settings. They are conditional, and never a drop-in. Calls
/// of different programs, or with different outcomes, never share a line: they may be of different units. A line is of a
/// directive that acts as the kernel recorded, so that the cause never contradicts it.
pub(crate) fn find_unproven(findings: &[Finding], unit: Option<&Unit>, groups: &Groups) -> Option<Unproven> {
    let mut programs: BTreeMap<(String, String), Needs<'_>> = BTreeMap::new();
    let mut others: BTreeSet<Directive> = BTreeSet::new();
    for finding in findings.iter().filter(|finding| may_be_denied(finding)) {
        let mut needs = Needs::default();
        let Some(denial) = finding.incident.denial() else { continue };
        let name = denial.call.name().filter(|name| groups.is_known(name));
        for directive in &finding.possible {
            match directive {
                Directive::SystemCallFilter => needs.calls.extend(name),
                Directive::SystemCallArchitectures => {
                    needs.architectures.extend(denial.call.abi().and_then(Abi::systemd_name));
                }
                other => _ = others.insert(*other),
            }
        }
        let program = programs.entry(name_program(&finding.incident)).or_default();
        program.calls.extend(needs.calls);
        program.architectures.extend(needs.architectures);
    }
    programs.retain(|_, needs| !(needs.calls.is_empty() && needs.architectures.is_empty()));
    let has_filter = programs.values().any(|needs| !needs.calls.is_empty());
    let has_architectures = programs.values().any(|needs| !needs.architectures.is_empty());
    let programs: Vec<UnprovenLines> = programs
        .into_iter()
        .map(|((program, outcome), needs)| UnprovenLines { program, outcome, lines: allowing_lines(&needs, groups) })
        .collect();
    let lines: Vec<String> = programs.iter().flat_map(|program| program.lines.clone()).collect();
    if lines.is_empty() {
        return None;
    }
    let how = if unit.is_some() {
        "--root DIR, or / for this machine"
    } else {
        "--root DIR, and --assume-unit UNIT if you know the unit"
    };
    let helps = match (has_filter, has_architectures) {
        (true, false) => {
            let which = if programs.len() > 1 { "one of the lines of its program" } else { "one of these lines" };
            format!("If it has a SystemCallFilter= that denied this, {which} allows it.")
        }
        (false, _) => {
            "If it has a SystemCallArchitectures= that denied this, the line allows the architecture.".to_owned()
        }
        (true, true) => "A line helps only if the unit has its directive, and that one denied this.".to_owned(),
    };
    let others = if others.is_empty() {
        String::new()
    } else {
        let names = join(others.iter().map(|directive| format!("{}=", directive.key())));
        format!(" {names} can deny it as well, and no line here helps against that.")
    };
    let harm = if has_filter { "In a unit without one they would forbid everything else: check" } else { "Check" };
    let why =
        format!("The unit's settings were not read, so nothing is proven. {helps}{others} {harm} them with {how}.");
    Some(Unproven { lines, programs, why })
}

/// Whether a setting of an unknown unit may have denied the call.
fn may_be_denied(finding: &Finding) -> bool {
    // strace shows errors that no filter gave, too.
    let is_traced = matches!(finding.incident.key.source, SightingSource::Strace { .. });
    let is_denial = finding.incident.denial().is_some_and(|denial| denial.action.is_denial());
    finding.cause == DenialCause::SettingsUnread && is_denial && !is_traced
}

/// Returns the program of an incident, and what happened to it.
fn name_program(incident: &Incident) -> (String, String) {
    let program = if incident.key.exe.is_empty() { &incident.sample.comm } else { &incident.key.exe };
    (escape(program), describe_outcome(incident).into_owned())
}

/// Returns the line that allows calls, the line that allows the smallest group with all of them, and the line that
/// allows their architectures.
fn allowing_lines(needs: &Needs<'_>, groups: &Groups) -> Vec<String> {
    let names = &needs.calls;
    let joined = |words: Vec<&str>| words.join(" ");
    let holds_all =
        |group: &&str| groups.calls(group).is_some_and(|calls| names.iter().all(|name| calls.contains(*name)));
    let wider = names.first().and_then(|first| groups.containing(first).into_iter().find(holds_all));
    let calls = names.first().map(|_| format!("SystemCallFilter={}", joined(names.iter().copied().collect())));
    let architectures = &needs.architectures;
    let listed = || format!("SystemCallArchitectures={}", joined(architectures.iter().copied().collect()));
    let listed = architectures.first().map(|_| listed());
    calls.into_iter().chain(wider.map(|group| format!("SystemCallFilter={group}"))).chain(listed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;
    use crate::cli::views::answer::CauseView;
    use crate::diagnosis::diagnose;
    use crate::incidents::local_time::LocalTime;
    use crate::incidents::{Denial, IncidentEvent, IncidentKey, Moment, Sample};
    use crate::syscalls::groups::GroupSource;
    use crate::syscalls::{Arch, Call};
    use jiff::tz::TimeZone;

    fn groups(version: &str) -> Groups {
        let listing = "@known\n    @clock\n    @net\n    read\n@clock\n    settimeofday\n@net\n    socket\n    bind\n";
        Groups::parse(listing, GroupSource::Host(version.into())).unwrap()
    }

    /// Returns why a call was denied, and what may help.
    fn explain(arch: Arch, call: &str, action: Action, groups: &Groups) -> (String, Option<Unproven>) {
        let event = IncidentEvent::Denial(Denial { call: Call::named(arch, call), action });
        let key = IncidentKey { unit: None, event, exe: b"/bin/x".to_vec(), source: SightingSource::Audit };
        let (first, last) = (Moment::Unknown, Moment::Unknown);
        let incident = Incident { key, rung: None, count: 1, first, last, sample: Sample::default() };
        let findings = diagnose(vec![incident], None, groups).findings;
        let clock = LocalTime { now: None, zone: TimeZone::UTC };
        (CauseView::new(&findings[0], &clock).words, find_unproven(&findings, None, groups))
    }

    #[test]
    fn line_that_may_help_is_of_a_directive_that_the_cause_names() {
        let actions = [
            Action::KillProcess,
            Action::Kill,
            Action::KillThread,
            Action::Trap,
            Action::Errno,
            Action::UserNotif,
            Action::Trace,
            Action::Log,
            Action::Other(7),
        ];
        let mut compared = 0;
        for (version, action) in ["242", "252"].into_iter().flat_map(|version| actions.map(|action| (version, action)))
        {
            for (arch, call) in [(Arch::X86_64, "socket"), (Arch::X86_64, "settimeofday"), (Arch::I386, "read")] {
                let (why, helps) = explain(arch, call, action, &groups(version));
                for line in helps.iter().flat_map(|helps| &helps.lines) {
                    compared += 1;
                    let directive = line.split_inclusive('=').next().unwrap();
                    assert!(why.contains(directive), "{line} for {call} ({action}): {why}");
                }
            }
        }
        assert!(compared >= 20, "{compared}");
    }

    #[test]
    fn every_directive_that_may_refuse_is_named_with_the_lines() {
        let (why, helps) = explain(Arch::X86_64, "settimeofday", Action::Errno, &groups("252"));
        assert!(
            why.contains("Either ProtectClock=, SystemCallFilter= or the program's own sandbox refused the call"),
            "{why}"
        );
        let helps = helps.unwrap();
        assert_eq!(helps.lines, ["SystemCallFilter=settimeofday", "SystemCallFilter=@clock"]);
        assert!(helps.why.contains("ProtectClock= can deny it as well, and no line here helps"), "{}", helps.why);
        let (_, helps) = explain(Arch::X86_64, "read", Action::Errno, &groups("252"));
        assert!(!helps.unwrap().why.contains("as well"), "only the filter refuses read");
    }

    #[test]
    fn thread_killed_by_a_new_systemd_is_about_the_architecture_alone() {
        let (why, helps) = explain(Arch::I386, "read", Action::KillThread, &groups("252"));
        assert!(!why.contains("SystemCallFilter="), "{why}");
        let helps = helps.unwrap();
        assert_eq!(helps.lines, ["SystemCallArchitectures=x86"]);
        assert!(helps.why.contains("If it has a SystemCallArchitectures= that denied this"), "{}", helps.why);
        let (_, helps) = explain(Arch::I386, "read", Action::KillThread, &groups("242"));
        let helps = helps.unwrap();
        assert_eq!(helps.lines, ["SystemCallFilter=read", "SystemCallArchitectures=x86"]);
        assert!(helps.why.contains("A line helps only if the unit has its directive"), "{}", helps.why);
    }
}
