//! Unit files to a policy, and denials to remedies: a remedy lets the denied calls pass, closes no call, and names the
//! calls that it opens. A default opens nothing outside of its definition.

use crate::audit::Action;
use crate::diagnosis::{
    DefaultScope, DenialCause, Diagnosis, Remedy, RemedyKind, Situation, diagnose, privileged_calls,
};
use crate::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
use crate::policy::{Effect, Policy, Settings, SyscallFilter, UnitFile, Verdict};
use crate::programs::{ElfFile, Program, ProgramImage};
use crate::syscalls::{Abi, Call, Groups};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

/// How many denials of an input count.
const MOST_DENIALS: usize = 6;

const DROP_IN: &str = "/etc/systemd/system/x.service.d/zz-harden-why.conf";

static GROUPS: LazyLock<Groups> = LazyLock::new(|| Groups::embedded().with_native(Abi::X86_64));

/// The calls whose verdicts are compared: those of the native ABI.
static CALLS: LazyLock<Vec<&'static str>> = LazyLock::new(|| Abi::X86_64.calls().map(|(_, name)| name).collect());

/// Diagnoses the denials of an input, and checks each remedy.
///
/// Lines of `--` separate the parts: denials (`ABI CALL ACTION UID` each), unit file, early drop-in, harden-why's own
/// drop-in, late drop-in, and imports of the program.
pub(super) fn check(input: &[u8]) {
    let mut parts = split_parts(input).into_iter();
    let mut part = || parts.next().unwrap_or_default();
    let denials: Vec<Incident> = lines(part()).filter_map(parse_denial).take(MOST_DENIALS).collect();
    let fragment = UnitFile::parse(Path::new("/usr/lib/systemd/system/x.service"), part());
    let dropins = ["/etc/systemd/system/x.service.d/50.conf", DROP_IN, "/etc/systemd/system/x.service.d/zzz.conf"]
        .into_iter()
        .map(|path| (path, part()))
        .filter(|(_, text)| !text.is_empty())
        .map(|(path, text)| UnitFile::parse(Path::new(path), text))
        .collect();
    let Ok(name) = "x.service".parse() else { return };
    let policy = Policy::new(Settings::new(&name, Some(fragment), dropins), &GROUPS);
    let programs = vec![build_program(part())];
    let situation = Situation { policy, drop_in: DROP_IN.into(), history: None, programs };
    check_situation(denials, &situation);
}

fn check_situation(denials: Vec<Incident>, situation: &Situation) {
    let before = &situation.policy;
    let denied: BTreeSet<(Abi, &'static str)> = denials.iter().filter_map(denied_call).collect();
    let diagnosis = diagnose(denials, Some(situation), &GROUPS);
    let solvable = find_solvable(&diagnosis);
    let default = diagnosis.default_remedy();
    if diagnosis.remedies.is_empty() {
        return;
    }
    let permitted: Vec<bool> = CALLS.iter().map(|call| before.permits(Abi::X86_64, call)).collect();
    for (index, remedy) in diagnosis.remedies.iter().enumerate() {
        assert!(default != Some(index) || remedy.reservation.is_none(), "the default has a reservation");
        assert!(!remedy.content.chars().any(|c| c.is_control() && c != '\n'), "{:?}", remedy.content);
        let after = before.with_dropin(&remedy.drop_in, remedy.content.as_bytes(), &GROUPS);
        assert_eq!(mode(&after), mode(before), "{remedy:?} changes the mode of the list");
        for (abi, call) in &solvable {
            check_passes(&after, *abi, call, remedy);
        }
        let scope = (default == Some(index)).then(|| {
            DefaultScope::new(denied.iter().copied(), before, &GROUPS).with_programs(&situation.programs, &GROUPS)
        });
        check_other_calls((before, &permitted), &after, &denied, remedy, scope.as_ref());
    }
}

fn check_passes(after: &Policy, abi: Abi, call: &str, remedy: &Remedy) {
    let verdict = after.verdict(abi, call);
    assert_eq!(after.permits(abi, call), !matches!(verdict, Verdict::Denied { .. }), "{call} after {remedy:?}");
    let is_softened = matches!(remedy.kind, RemedyKind::FailWithError | RemedyKind::FailAllWithError)
        && matches!(verdict, Verdict::Denied { effect: Effect::Errno(_), .. });
    assert!(is_softened || after.permits(abi, call), "{call} of {abi:?} stays denied after {remedy:?}");
    let is_conditional = remedy.conditional.iter().any(|other| **other == *call);
    assert!(is_conditional || !matches!(verdict, Verdict::Possible { .. }), "{call} may be denied after {remedy:?}");
}

/// Checks that the remedy closes no call, that it names what it opens, and that a default opens only what it may.
fn check_other_calls(
    (before, permitted): (&Policy, &[bool]),
    after: &Policy,
    denied: &BTreeSet<(Abi, &str)>,
    remedy: &Remedy,
    scope: Option<&DefaultScope<'_>>,
) {
    let opens: BTreeSet<&str> = remedy.opens.iter().map(AsRef::as_ref).collect();
    let sensitive: BTreeSet<&str> = remedy.sensitive.iter().map(|(_, name)| &**name).collect();
    for (call, was_permitted) in CALLS.iter().copied().zip(permitted.iter().copied()) {
        let passes = after.permits(Abi::X86_64, call);
        assert!(passes || !was_permitted, "{remedy:?} closes {call}");
        if was_permitted || !passes {
            continue;
        }
        let is_named = denied.iter().any(|(_, name)| *name == call) || opens.contains(call);
        assert!(is_named || !GROUPS.is_known(call), "{remedy:?} opens {call} without a word");
        let is_risk = privileged_calls::find_risk(call, &before.settings, &GROUPS).is_some();
        assert!(sensitive.contains(call) || !is_risk, "{remedy:?} does not report that {call} is privileged");
        if let Some(scope) = scope {
            assert!(scope.permits(Abi::X86_64, call), "the default {remedy:?} opens {call}");
        }
    }
}

/// Returns the denied calls that each remedy has to solve.
fn find_solvable(diagnosis: &Diagnosis) -> BTreeSet<(Abi, &'static str)> {
    let is_of_unit = |cause: &DenialCause| matches!(cause, DenialCause::Unit { .. } | DenialCause::Possible { .. });
    let findings = diagnosis.findings.iter();
    let open = findings.filter(|finding| finding.reservation.is_none() && is_of_unit(&finding.cause));
    let calls = open.filter_map(|finding| denied_call(&finding.incident));
    calls.filter(|(_, call)| !diagnosis.unsolvable.iter().any(|beyond| **beyond == **call)).collect()
}

fn denied_call(incident: &Incident) -> Option<(Abi, &'static str)> {
    let call = &incident.denial()?.call;
    let abi = call.abi()?;
    Some((abi, abi.call_name(call.number()?)?))
}

fn mode(policy: &Policy) -> Option<crate::policy::Mode> {
    policy.filter.as_ref().map(SyscallFilter::mode)
}

fn split_parts(input: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = input;
    while let Some(at) = memchr::memmem::find(rest, b"--\n").filter(|_| parts.len() < 5) {
        parts.push(&rest[..at]);
        rest = &rest[at + 3..];
    }
    parts.push(rest);
    parts
}

fn lines(part: &[u8]) -> impl Iterator<Item = &str> {
    str::from_utf8(part).unwrap_or_default().lines()
}

fn parse_denial(line: &str) -> Option<Incident> {
    let mut words = line.split_ascii_whitespace();
    let abi = Abi::from_name(words.next()?)?;
    let number = abi.call_number(words.next()?)?;
    let action: Action = words.next()?.parse().ok()?;
    let event = IncidentEvent::Denial(Denial { call: Call::numbered(abi.arch(), number), action });
    let sample = Sample { uid: words.next().unwrap_or("0").into(), ..Sample::default() };
    let key = IncidentKey { unit: None, event, exe: b"/usr/bin/x".to_vec(), source: SightingSource::Audit };
    Some(Incident { key, rung: None, count: 1, first: Moment::Unknown, last: Moment::Unknown, sample })
}

fn build_program(imports: &[u8]) -> Program {
    let file = ElfFile {
        abi: Some(Abi::X86_64),
        imports: lines(imports).flat_map(str::split_ascii_whitespace).map(Into::into).collect(),
        ..ElfFile::default()
    };
    Program::new(b"/usr/bin/x".as_slice(), ProgramImage::Native(file))
}
