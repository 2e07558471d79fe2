//! The answer for one unit: its incidents with their causes, and the remedies.

use super::before_exec::is_rehearsal_filter_load;
use super::cause::{DenialCause, Elsewhere, is_guessed_capability};
use super::finding::Finding;
use super::fixed::TakesEffect;
use super::remedy::Remedy;
use super::search;
use super::situation::Situation;
use super::unresolved_calls::find_ways_out;
use crate::incidents::{Access, CapabilityLack, Incident, SightingSource};
use crate::policy;
use crate::policy::Directive;
use crate::syscalls::Groups;
use crate::units::{Confidence, Rung};
use std::collections::{BTreeMap, BTreeSet};

/// The answer for one unit.
#[derive(Debug)]
pub struct Diagnosis {
    /// Each incident with its cause, in the order given. A call of a rehearsal is left out if its arguments are known.
    pub findings: Vec<Finding>,
    /// Drop-ins that let every denied call pass, least privilege first. Empty if none could be proven.
    pub remedies: Vec<Remedy>,
    /// Denied calls that no setting of the unit can let pass; the remedies solve the others.
    pub unsolvable: Vec<Box<str>>,
}

impl Diagnosis {
    /// Returns the index in [`remedies`](Self::remedies) of the default remedy. It opens the denied calls, their
    /// relatives, and calls with evidence about this program ([`DefaultScope`](super::DefaultScope)).
    ///
    /// A remedy with a [reservation](Remedy::reservation) is never the default. If the unit is a
    /// [guess](Self::is_guessed), there is no default: a person has to look first.
    #[must_use]
    pub fn default_remedy(&self) -> Option<usize> {
        if self.is_guessed() {
            return None;
        }
        self.remedies.iter().rposition(|remedy| remedy.reservation.is_none())
    }

    /// Whether nothing is left to do: the settings changed since each denial that they caused.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_optional = |finding: &Finding| finding.is_harmless() || finding.is_systemds_own();
        let is_denied = |finding: &Finding| finding.denied_call().is_some() || finding.denied_access().is_some();
        let is_open = |finding: &Finding| is_denied(finding) && !is_optional(finding);
        self.settled().next().is_some() && !self.findings.iter().any(is_open)
    }

    /// Returns when the changes take effect that settled denials.
    pub fn settled(&self) -> impl Iterator<Item = TakesEffect> {
        self.findings.iter().filter_map(|finding| match &finding.cause {
            DenialCause::Elsewhere(Elsewhere::Fixed(fixed)) => Some(fixed.takes),
            DenialCause::BeforeChange { change, .. } => Some(change.takes),
            _ => None,
        })
    }

    /// Whether the unit of every denial is only a guess.
    #[must_use]
    pub fn is_guessed(&self) -> bool {
        let is_guess = |rung: Rung| rung.confidence() == Confidence::Guess;
        !self.findings.is_empty() && self.findings.iter().all(|finding| finding.incident.rung.is_some_and(is_guess))
    }
}

/// Explains a unit's incidents, and looks for remedies that solve all of them together.
#[must_use]
pub fn diagnose(incidents: Vec<Incident>, situation: Option<&Situation>, groups: &Groups) -> Diagnosis {
    let Diagnosis { findings, .. } = diagnose_causes(incidents, situation, groups);
    let mut remedies = situation.map_or_else(Vec::new, |situation| search::find_remedies(&findings, situation, groups));
    let ways_out = situation.map_or_else(Vec::new, |situation| find_ways_out(&findings, situation, groups));
    let unsolvable = search::find_unsolvable(&findings, !ways_out.is_empty());
    remedies.extend(ways_out);
    Diagnosis { findings, remedies, unsolvable }
}

/// Explains a unit's incidents, without a search for remedies.
#[must_use]
pub fn diagnose_causes(incidents: Vec<Incident>, situation: Option<&Situation>, groups: &Groups) -> Diagnosis {
    // Loading a rehearsal's own filter is no denial.
    let denials = incidents.into_iter().filter(|incident| !is_rehearsal_filter_load(incident));
    let mut findings: Vec<Finding> = denials.map(|incident| Finding::new(incident, situation, groups)).collect();
    let explained: BTreeSet<CalledBy> = findings.iter().filter_map(call_with_known_argument).collect();
    let mut traced: BTreeMap<FailedCallKey<'_>, Vec<&Finding>> = BTreeMap::new();
    for finding in &findings {
        if let Some(call) = traced_call(finding) {
            traced.entry(call).or_default().push(finding);
        }
    }
    let has_better_explanation = |finding: &Finding| {
        let of_call = traced_call(finding).and_then(|call| traced.get(&call));
        of_call.is_some_and(|of_call| has_better_finding(finding, of_call))
    };
    let is_left: Vec<bool> =
        findings.iter().map(|finding| !is_explained(finding, &explained) && !has_better_explanation(finding)).collect();
    let mut is_left = is_left.into_iter();
    findings.retain(|_| is_left.next().unwrap_or(true));
    Diagnosis { findings, remedies: Vec::new(), unsolvable: Vec::new() }
}

/// A call and the program that made it.
type CalledBy = (String, Vec<u8>);

/// Returns the call and the program of an access that the unit's settings deny because of an argument.
fn call_with_known_argument(finding: &Finding) -> Option<CalledBy> {
    let denial = finding.denied_access().filter(|denial| denial.access.is_of_argument())?;
    Some((denial.call.name()?.to_owned(), finding.incident.key.exe.clone()))
}

/// Whether a rehearsal recorded a call that may be denied for an argument, and its tap read the arguments.
fn is_explained(finding: &Finding, explained: &BTreeSet<CalledBy>) -> bool {
    // Without any family in the list, no socket passes, and its family is still the one to add.
    let mut deciding = finding.cause.directives().iter().map(|cause| cause.directive).peekable();
    let is_by_families =
        deciding.peek().is_some() && deciding.all(|directive| directive == Directive::RestrictAddressFamilies);
    let is_unsure = finding.incident.key.source == SightingSource::Rehearsal
        && (is_by_families || matches!(finding.cause, DenialCause::Possible { .. }));
    let call = finding.incident.denial().filter(|_| is_unsure).and_then(|denial| denial.call.name());
    call.is_some_and(|call| explained.contains(&(call.to_owned(), finding.incident.key.exe.clone())))
}

/// A failed call that strace showed: the error, the program and the call.
type FailedCallKey<'a> = (i32, &'a [u8], Option<&'a str>);

fn traced_call(finding: &Finding) -> Option<FailedCallKey<'_>> {
    let SightingSource::Strace { errno, .. } = finding.incident.key.source else { return None };
    let call = finding.incident.call().and_then(|call| call.name());
    Some((errno, &finding.incident.key.exe, call))
}

/// Whether another finding of the same call explains its failure better: strace shows one for the call as a whole, and one for
/// each thing that the call asked for.
fn has_better_finding(finding: &Finding, of_call: &[&Finding]) -> bool {
    let mut others = of_call.iter().copied();
    let is_by_unit = |other: &Finding| !other.cause.directives().is_empty();
    let is_access = |other: &Finding| other.incident.access().is_some();
    // A capability is out of reach, or only the unit's user starts without it.
    let lacks = |other: &Finding, of: CapabilityLack| {
        other
            .incident
            .access()
            .is_some_and(|denial| matches!(&denial.access, Access::Capability { lack, .. } if *lack == of))
    };
    let is_unbound = |other: &Finding| {
        let is_of_user =
            |cause: &policy::DirectiveCause| matches!(cause.directive, Directive::User | Directive::DynamicUser);
        lacks(other, CapabilityLack::NotInBoundingSet) && !other.cause.directives().iter().all(is_of_user)
    };
    if lacks(finding, CapabilityLack::NotInBoundingSet) && !is_unbound(finding) {
        return true;
    }
    if lacks(finding, CapabilityLack::NotEffective) && others.clone().any(is_unbound) {
        return true;
    }
    if is_access(finding) {
        let is_sure = !is_guessed_capability(&finding.incident);
        // The whole call tells it, unless the unit withholds what this asked for.
        return others.any(|other| !is_access(other) && (!is_by_unit(finding) || (is_by_unit(other) && !is_sure)));
    }
    let is_by_families =
        finding.cause.directives().iter().all(|cause| cause.directive == Directive::RestrictAddressFamilies);
    (!is_by_unit(finding) || is_by_families) && others.any(|other| is_access(other) && is_by_unit(other))
}

/// Explains one incident. Also returns the first remedy that [`diagnose`] would return for it, without a search for the
/// others.
#[must_use]
pub fn diagnose_one(incident: Incident, situation: &Situation, groups: &Groups) -> (Finding, Option<Remedy>) {
    let finding = Finding::new(incident, Some(situation), groups);
    let remedy = search::find_first_remedy(std::slice::from_ref(&finding), situation, groups);
    (finding, remedy)
}

#[cfg(test)]
mod tests {
    use super::super::remedy::Reservation;
    use super::*;
    use crate::audit::Action;
    use crate::diagnosis::{FileChange, History};
    use crate::incidents::{
        Access, AccessDenial, AccessPath, Denial, IncidentEvent, IncidentKey, Moment, Sample, SightingSource,
    };
    use crate::policy::{Policy, Settings, UnitFile};
    use crate::programs::{ElfFile, Program, ProgramImage, UnreadReason};
    use crate::syscalls::groups::GroupSource;
    use crate::syscalls::{Abi, Arch, Call};
    use crate::units::{Manager, Unit};
    use std::path::Path;

    const REMEDY: &str = "/etc/systemd/system/x.service.d/zz-harden-why.conf";

    fn groups() -> Groups {
        Groups::parse("@known\n    execve\n    read\n    socket\n    uname\n", GroupSource::Host("252".into())).unwrap()
    }

    /// A unit whose file changed at 50, and whose remedy, if it has one, was written at 60.
    fn situation(unit: &str, remedy: Option<&str>, started: Option<i64>) -> Situation {
        let file =
            |path: &str, lines: &str| UnitFile::parse(Path::new(path), format!("[Service]\n{lines}\n").as_bytes());
        let dropins = remedy.map(|lines| file(REMEDY, lines)).into_iter().collect();
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(file("/x.service", unit)), dropins);
        let change = |path: &str, at| FileChange { path: path.into(), at };
        let changes = [change("/x.service", 50)].into_iter().chain(remedy.map(|_| change(REMEDY, 60))).collect();
        let history = History { changes, started, running: true, ..History::default() };
        let policy = Policy::new(settings, &groups().with_native(Abi::X86_64));
        Situation { policy, drop_in: REMEDY.into(), history: Some(history), programs: Vec::new() }
    }

    fn denied(call: &str, action: Action, at: i64) -> Incident {
        Incident {
            key: IncidentKey {
                unit: Some(Unit { manager: Manager::System, name: "x.service".parse().unwrap() }),
                event: IncidentEvent::Denial(Denial { call: Call::named(Arch::X86_64, call), action }),
                exe: b"/bin/x".to_vec(),
                source: SightingSource::Audit,
            },
            rung: Some(Rung::OwnCgroup),
            count: 1,
            first: Moment::At(at),
            last: Moment::At(at),
            sample: Sample::default(),
        }
    }

    fn diagnose_denial(situation: &Situation, call: &str, action: Action, at: i64) -> Diagnosis {
        diagnose(vec![denied(call, action, at)], Some(situation), &groups())
    }

    #[test]
    fn denial_before_latest_family_change_has_no_remedy() {
        let (unit, remedy) = ("RestrictAddressFamilies=AF_UNIX", Some("RestrictAddressFamilies=AF_NETLINK"));
        let before = diagnose_denial(&situation(unit, None, Some(52)), "socket", Action::Errno, 55);
        assert!(!before.remedies.is_empty());
        for (started, denied_at, is_before) in [(52, 55, true), (52, 70, true), (65, 55, true), (65, 70, false)] {
            let now = situation(unit, remedy, Some(started));
            let after = diagnose_denial(&now, "socket", Action::Errno, denied_at);
            assert_eq!(after.remedies.is_empty(), is_before, "started at {started}, denied at {denied_at}");
            assert_eq!(matches!(after.findings[0].cause, DenialCause::BeforeChange { .. }), is_before);
        }
    }

    #[test]
    fn call_of_a_rehearsal_whose_argument_is_known_is_one_finding_with_a_proven_remedy() {
        for families in ["AF_UNIX", "none"] {
            expect_one_proven_finding(families);
        }
    }

    /// Expects one finding of a refused socket whose family is known.
    fn expect_one_proven_finding(families: &str) {
        let situation = situation(&format!("RestrictAddressFamilies={families}"), None, None);
        let mut unsure = denied("socket", Action::Log, 55);
        unsure.key.source = SightingSource::Rehearsal;
        let found = |incidents| diagnose(incidents, Some(&situation), &groups());
        let guess = found(vec![unsure.clone()]);
        assert_eq!((guess.findings.len(), guess.default_remedy()), (1, None));
        let call = Call::named(Arch::X86_64, "socket");
        let access = Access::AddressFamily(16);
        let mut known = unsure.clone();
        known.key.event = IncidentEvent::Access(AccessDenial { call, errno: libc::EAFNOSUPPORT, access });
        known.key.source = SightingSource::Tap { errno: libc::EAFNOSUPPORT };
        let proven = found(vec![unsure.clone(), known.clone()]);
        assert_eq!(proven.findings.len(), 1);
        assert_eq!(proven.remedies[proven.default_remedy().unwrap()].lines, ["RestrictAddressFamilies=AF_NETLINK"]);
        known.key.exe = b"/bin/y".to_vec();
        assert_eq!(found(vec![unsure, known]).findings.len(), 2, "another program");
    }

    #[test]
    fn denial_before_change_of_denying_line_has_no_remedy() {
        let unit = "SystemCallFilter=~uname socket";
        let at = |at| {
            diagnose_denial(&situation(unit, Some("SystemCallFilter=socket"), None), "uname", Action::KillProcess, at)
        };
        assert!(matches!(at(45).findings[0].cause, DenialCause::BeforeChange { .. }) && at(45).remedies.is_empty());
        assert_eq!(at(55).remedies[0].lines, ["SystemCallFilter=socket uname"], "the remedy of socket decides nothing");
    }

    #[test]
    fn denial_in_files_without_times_is_fixed_by_remedy_that_names_the_call() {
        let mut situation = situation("SystemCallFilter=~uname", Some("SystemCallFilter=uname"), None);
        situation.history = None;
        let diagnosis = diagnose_denial(&situation, "uname", Action::KillProcess, 55);
        let DenialCause::Elsewhere(Elsewhere::Fixed(fixed)) = &diagnosis.findings[0].cause else {
            panic!("{:?}", diagnosis.findings[0].cause)
        };
        assert_eq!((fixed.at, fixed.by.as_deref()), (None, Some(Path::new(REMEDY))));
        assert!(diagnosis.remedies.is_empty());
    }

    #[test]
    fn call_of_systemds_own_in_a_rehearsal_is_left_denied() {
        let situation = situation("SystemCallFilter=~uname socket execve", None, None);
        let rehearsed = |call: &str, comm: &str, exe: &str| {
            let mut incident = denied(call, Action::Log, 55);
            (incident.key.source, incident.key.exe) = (SightingSource::Rehearsal, exe.into());
            incident.sample.comm = comm.into();
            incident
        };
        let executor = "/usr/lib/systemd/systemd-executor";
        let all = || {
            vec![
                rehearsed("socket", "(x)", executor),
                rehearsed("execve", "(x)", "/usr/lib/systemd/systemd"),
                rehearsed("seccomp", "(x)", executor),
                rehearsed("uname", "x", "/bin/x"),
            ]
        };
        let default = |incidents| {
            let found = diagnose(incidents, Some(&situation), &groups());
            found.remedies[found.default_remedy().unwrap()].content.clone()
        };
        let found = diagnose(all(), Some(&situation), &groups());
        assert_eq!(found.findings.len(), 3, "loading the rehearsal's own filter is no finding");
        assert_eq!(default(all()), "[Service]\nSystemCallFilter=execve uname\n");
        let mut reserved = found.remedies.iter().filter(|remedy| remedy.reservation == Some(Reservation::BeforeExec));
        assert_eq!(reserved.next().unwrap().content, "[Service]\nSystemCallFilter=execve socket uname\n");
        let of_program = vec![rehearsed("socket", "x", "/bin/x")];
        assert_eq!(default(of_program), "[Service]\nSystemCallFilter=socket\n");
    }

    #[test]
    fn other_architecture_is_opened_by_default_if_an_executable_of_it_or_none_was_read() {
        let program = |image| Program::new(b"/bin/x".as_slice(), image);
        let native = |abi| {
            let imports = std::iter::empty::<&str>().map(Into::into).collect();
            let file = ElfFile { abi: Some(abi), imports, ..ElfFile::default() };
            program(ProgramImage::Native(file))
        };
        let (wide, narrow) = (|| native(Abi::X86_64), || native(Abi::I386));
        let unread = || program(ProgramImage::Unread(UnreadReason::Missing));
        let of_static = || program(ProgramImage::Static);
        for (programs, has_default) in [
            (vec![], true),
            (vec![unread()], true),
            (vec![narrow()], true),
            (vec![wide(), narrow()], true),
            (vec![wide(), of_static()], true),
            (vec![wide()], false),
            (vec![wide(), unread()], false),
        ] {
            let mut situation = situation("SystemCallArchitectures=native", None, None);
            situation.programs = programs;
            let mut incident = denied("uname", Action::KillThread, 55);
            let call = Call::named(Arch::I386, "uname");
            incident.key.event = IncidentEvent::Denial(Denial { call, action: Action::KillThread });
            let found = diagnose(vec![incident], Some(&situation), &groups());
            let [remedy] = found.remedies.as_slice() else { panic!("{:?}", found.remedies) };
            assert_eq!(remedy.content, "[Service]\nSystemCallArchitectures=x86\n");
            assert_eq!(found.default_remedy().is_some(), has_default, "{:?}", situation.programs);
            let reserved = (!has_default).then_some(Reservation::OtherArchitecture);
            assert_eq!(remedy.reservation, reserved, "{:?}", situation.programs);
        }
    }

    #[test]
    fn command_without_the_sandbox_is_not_denied_by_the_settings() {
        let unit = "ExecStartPre=+/bin/x\nExecStart=/bin/main\nSystemCallFilter=~uname:EPERM";
        let tap = SightingSource::Tap { errno: libc::EPERM };
        let cause = |exe: &str, source| {
            let mut incident = denied("uname", Action::Errno, 55);
            (incident.key.exe, incident.key.source) = (exe.into(), source);
            diagnose(vec![incident], Some(&situation(unit, None, None)), &groups()).findings.remove(0).cause
        };
        let exempt = cause("/bin/x", tap);
        let DenialCause::Elsewhere(Elsewhere::ExemptCommand { key, origin }) = &exempt else { panic!("{exempt:?}") };
        assert_eq!((&**key, origin.line), ("ExecStartPre", 2));
        assert!(cause("/bin/main", tap).is_by_unit());
        assert!(cause("/bin/x", SightingSource::Audit).is_by_unit(), "a record proves that a filter held it");
    }

    #[test]
    fn access_of_a_process_without_a_unit_names_directives_that_withhold_it() {
        let call = Call::named(Arch::X86_64, "openat");
        let access = Access::ReadOnlyPath(AccessPath::new(b"/etc/x"));
        let mut incident = denied("openat", Action::Log, 55);
        incident.key.event = IncidentEvent::Access(AccessDenial { call, errno: libc::EROFS, access });
        let found = diagnose(vec![incident], None, &groups());
        assert!(found.findings[0].possible.contains(&Directive::ProtectSystem));
    }
}
