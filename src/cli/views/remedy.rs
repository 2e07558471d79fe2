//! Remedies as data.

use super::machines::MachineView;
use crate::audit::Note;
use crate::audit::text::{escape, join, shown_path};
use crate::cli::terminal::words::count_calls;
use crate::diagnosis::{DenialCause, Diagnosis, Finding, Remedy, RemedyKind, Reservation, Situation};
use crate::incidents::Incident;
use crate::policy::CauseReason;
use crate::syscalls::Groups;
use crate::systemd::exposure_score;
use crate::systemd::manager::UnitProperties;
use crate::units::{Manager, Unit};
use serde::Serialize;
use std::collections::BTreeSet;

/// A proven drop-in.
#[derive(Debug, Serialize)]
pub struct RemedyView {
    /// `calls`, `equivalents`, `evidence`, `groups`, `relax`, `fail-with-error`, `fail-all-with-error` or `deny-list`.
    pub kind: &'static str,
    /// Its effect, in a sentence.
    pub title: String,
    /// The help text of each group that it allows, if systemd has one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupHelp>,
    /// The path of the drop-in; null for a transient unit.
    pub path: Option<String>,
    /// The command that starts a transient unit again with the lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The whole drop-in.
    pub content: String,
    /// The calls that it allows besides the denied ones.
    pub opens: Vec<String>,
    /// The reason for each call that was not denied yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<BecauseView>,
    /// The allowed calls that administer the machine or reach into other programs.
    pub sensitive: Vec<SensitiveView>,
    /// The denied calls that pass only with some arguments.
    pub conditional: Vec<String>,
    /// Whether `apply` uses this remedy by default.
    pub default: bool,
    /// Why it can never be the default: `before-exec`, `has-fallback`, `library-probe`, `unknown-argument`,
    /// `wider-than-denied`, `keeps-denying`, `other-architecture` or `possible-intrusion`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<&'static str>,
    /// The reservation, in a sentence.
    #[serde(skip)]
    pub reserved: Option<&'static str>,
    /// What is new in the drop-in, if there is one already: the words of its lines that allow calls, and other lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    /// Effects of the remedy that its lines do not show.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cautions: Vec<String>,
    /// What its lines mean on the machines that `--for` names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) machines: Vec<MachineView>,
    /// The unit's score in `systemd-analyze security`, for a service of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposure: Option<ExposureView>,
}

/// A group's help text.
#[derive(Debug, Serialize)]
pub struct GroupHelp {
    /// The group.
    pub group: String,
    /// Its help, as `systemd-analyze syscall-filter` prints it.
    pub help: String,
}

/// How a remedy changes a unit's exposure score.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ExposureView {
    /// Without the remedy: 0.0 (least exposed) to 10.0.
    pub before: f64,
    /// With the remedy.
    pub after: f64,
}

/// Why a remedy allows a call that was not denied yet.
#[derive(Debug, Serialize)]
pub struct BecauseView {
    /// The call.
    pub call: String,
    /// The reason.
    pub reason: String,
}

/// A call of a privileged group.
#[derive(Debug, Serialize)]
pub struct SensitiveView {
    /// The call.
    pub call: String,
    /// That group, e.g. `@privileged`.
    pub group: String,
}

impl RemedyView {
    pub(crate) fn new(remedy: &Remedy, default: bool, groups: &Groups) -> Self {
        let (kind, title) = (kind_word(&remedy.kind), describe_kind(remedy));
        let helped = |name: &str| {
            let help = groups.help(name).filter(|help| !help.is_empty())?;
            Some(GroupHelp { group: name.to_owned(), help: escape(help.as_bytes()) })
        };
        let named: &[Box<str>] = if let RemedyKind::Groups(named) = &remedy.kind { named } else { &[] };
        Self {
            kind,
            title,
            groups: named.iter().filter_map(|name| helped(name)).collect(),
            path: Some(shown_path(&remedy.drop_in)),
            command: None,
            content: remedy.content.clone(),
            opens: remedy.opens.iter().map(ToString::to_string).collect(),
            reasons: remedy
                .reasons
                .iter()
                .map(|because| BecauseView { call: because.call.to_string(), reason: because.reason.to_string() })
                .collect(),
            sensitive: remedy
                .sensitive
                .iter()
                .map(|(group, call)| SensitiveView { call: call.to_string(), group: group.to_string() })
                .collect(),
            conditional: remedy.conditional.iter().map(ToString::to_string).collect(),
            default,
            reservation: remedy.reservation.map(Reservation::as_str),
            reserved: remedy.reservation.and_then(|reservation| describe_reservation(reservation, &remedy.kind)),
            added: remedy.added.iter().map(ToString::to_string).collect(),
            cautions: io_uring_caution(remedy).into_iter().collect(),
            machines: Vec::new(),
            exposure: None,
        }
    }
}

/// Returns the word in JSON.
fn kind_word(kind: &RemedyKind) -> &'static str {
    match kind {
        RemedyKind::Calls => "calls",
        RemedyKind::Relatives => "equivalents",
        RemedyKind::Evidence => "evidence",
        RemedyKind::Groups(_) => "groups",
        RemedyKind::RelaxDirectives => "relax",
        RemedyKind::FailWithError => "fail-with-error",
        RemedyKind::FailAllWithError => "fail-all-with-error",
        RemedyKind::DenyList => "deny-list",
    }
}

/// Returns the effect of a remedy, in a sentence. A drop-in that is there already stays, with all that it allows.
fn describe_kind(remedy: &Remedy) -> String {
    let more = || format!("{} more", count_calls(remedy.opens.len()));
    let is_first = remedy.added.is_empty();
    let allow = |what: &str| {
        if is_first { format!("Allow {what}") } else { format!("Add {what} to the present drop-in") }
    };
    match &remedy.kind {
        RemedyKind::Calls if remedy.reservation == Some(Reservation::HasFallback) => {
            format!("{}.", allow("what was denied, and the calls that have a fallback as well"))
        }
        RemedyKind::Calls if remedy.opens.is_empty() && is_first => "Allow what was denied, and nothing else.".to_owned(),
        RemedyKind::Calls if remedy.opens.is_empty() => {
            "Add what was denied to the present drop-in, and nothing else.".to_owned()
        }
        RemedyKind::Calls => {
            format!("{}, and relax the setting that also denied it: {}.", allow("what was denied"), more())
        }
        RemedyKind::Relatives => {
            format!("{}: {}.", allow("what was denied, and the calls that give no further power"), more())
        }
        RemedyKind::Evidence => {
            format!("{}: {}.", allow("what was denied, and what this program shows that it needs"), more())
        }
        RemedyKind::Groups(groups) => format!("{}: {}.", allow(&join(groups.iter().map(ToString::to_string))), more()),
        RemedyKind::RelaxDirectives if is_first => "Relax the setting that denied it.".to_owned(),
        RemedyKind::RelaxDirectives => "Relax the setting that denied it, and keep the present drop-in.".to_owned(),
        RemedyKind::FailAllWithError => {
            "Keep denying it, but let every call that the filter denies fail with ENOSYS instead of a kill, for a program \
             that works without it."
                .to_owned()
        }
        RemedyKind::DenyList => {
            "Turn the allow-list into a deny-list of all other calls. It opens every call that libseccomp does not know, \
             also those of later kernels."
                .to_owned()
        }
        RemedyKind::FailWithError => format!(
            "Keep denying {}, but with an error instead of death, for a program that works without it.",
            join(remedy.failing.iter().map(ToString::to_string))
        ),
    }
}

/// Returns a line of a drop-in as a page shows it: as it is, to be copied, unless it would affect the terminal.
pub(super) fn show_line(line: &str) -> String {
    let is_plain = line.chars().all(|c| !c.is_control());
    if is_plain { line.to_owned() } else { escape(line.as_bytes()) }
}

/// Returns what a page says about a reservation, unless the remedy's title says it.
fn describe_reservation(reservation: Reservation, kind: &RemedyKind) -> Option<&'static str> {
    Some(match reservation {
        Reservation::BeforeExec => {
            "only if the unit does not start without it: systemd makes the call, not the program"
        }
        Reservation::HasFallback => "only for a caller that does not make an older call instead",
        Reservation::LibraryProbe => "only for a program that does not do without the file, as libraries do",
        Reservation::UnknownArgument => "a guess, and not proven: the deciding argument is unknown",
        Reservation::WiderThanDenied if *kind == RemedyKind::RelaxDirectives => "allows more than the denied calls",
        Reservation::OtherArchitecture => {
            "only if the unit is meant to make such calls: no program of it that was read is of this architecture"
        }
        Reservation::PossibleIntrusion => "only if the unit is meant to do this: it may be an intrusion",
        Reservation::WiderThanDenied | Reservation::KeepsDenying => return None,
    })
}

/// Warns that a remedy allows calls of `io_uring`.
pub(crate) fn io_uring_caution(remedy: &Remedy) -> Option<String> {
    (!remedy.unfiltered_io.is_empty())
        .then(|| "io_uring: no SystemCallFilter= sees what a program does through it".to_owned())
}

/// The denied calls whose arguments decide, and how to see the arguments.
#[derive(Debug, Serialize)]
pub struct UnknownArguments {
    /// The calls.
    pub calls: Vec<String>,
    /// Why they matter, in a sentence.
    pub words: String,
    /// A command that shows the arguments.
    pub command: String,
}

impl UnknownArguments {
    /// Returns the calls with an argument that decides and is unknown; `None` if there is no such call.
    pub(crate) fn find(findings: &[Finding], unit: Option<&Unit>) -> Option<Self> {
        let unknown = findings.iter().filter(|finding| finding.reservation == Some(Reservation::UnknownArgument));
        let calls: BTreeSet<&str> = unknown.filter_map(|finding| finding.incident.denial()?.call.name()).collect();
        let unit = unit.filter(|_| !calls.is_empty())?;
        let calls: Vec<String> = calls.into_iter().map(Into::into).collect();
        Some(Self {
            words: format!(
                "No record holds the arguments of {}, which decide which remedy helps. This command shows them when \
                the unit makes the call again:",
                join(calls.iter().cloned())
            ),
            command: format!(
                "strace -f -e trace={} -p \"$({})\"",
                calls.join(","),
                unit.systemctl("show -p MainPID --value")
            ),
            calls,
        })
    }
}

/// Notes which denials may show an intrusion.
pub(crate) fn intrusion_note(diagnosis: &Diagnosis) -> Option<Note> {
    let suspicious = |finding: &&Finding| finding.reservation == Some(Reservation::PossibleIntrusion);
    let findings = diagnosis.findings.iter().filter(suspicious);
    let findings: Vec<&Finding> = findings.collect();
    let calls: BTreeSet<&str> = findings.iter().filter_map(|finding| finding.incident.denial()?.call.name()).collect();
    let names = join(calls.iter().map(ToString::to_string));
    let whose: BTreeSet<String> = findings.iter().map(|finding| name_process(&finding.incident)).collect();
    let text = format!(
        "{names} may show an intrusion: {} made the call. The unit's commands do not run as this user, and none of them \
         runs this program. Find out what it is before you allow the call; apply does so only with --remedy",
        join(whose.into_iter())
    );
    (!calls.is_empty()).then(|| Note::new("possible-intrusion", text))
}

/// Names the user and the program of an incident.
fn name_process(incident: &Incident) -> String {
    let program = if incident.key.exe.is_empty() { &incident.sample.comm } else { &incident.key.exe };
    format!("uid {} with {}", escape(incident.sample.uid.as_bytes()), escape(program))
}

/// Notes why there is no remedy for the calls that the unit's settings denied.
pub(crate) fn no_remedy_note(diagnosis: &Diagnosis, situation: &Situation, unit: Option<&Unit>) -> Option<Note> {
    let is_way_out = |remedy: &Remedy| matches!(remedy.kind, RemedyKind::FailAllWithError | RemedyKind::DenyList);
    if diagnosis.unsolvable.is_empty() && diagnosis.remedies.iter().any(is_way_out) {
        let manager = unit.map_or(Manager::System, |unit| unit.manager);
        let text = format!(
            "no line can allow by name a call that libseccomp does not know; a newer libseccomp, and a restart of the \
            service manager ({}), would let the unit's own line do so",
            manager.systemctl("daemon-reexec")
        );
        return Some(Note::new("unknown-to-libseccomp", text));
    }
    if !diagnosis.unsolvable.is_empty() {
        if let Some(place) = managers_line(diagnosis) {
            let text = format!("no setting of the unit can override this: change {place}, which applies to all units");
            return Some(Note::new("unsolvable", text));
        }
        let names = join(diagnosis.unsolvable.iter().map(ToString::to_string));
        return Some(Note::new(
            "unsolvable",
            format!(
                "no setting of the unit can let {names} pass: this systemd or its libseccomp does not know the call, or \
             DynamicUser= or the manager's own SystemCallArchitectures= rules it out"
            ),
        ));
    }
    let missed = |finding: &Finding| matches!(finding.cause, DenialCause::Unit { .. }) && !finding.has_fallback();
    let denied = diagnosis.findings.iter().any(missed);
    if !denied || !diagnosis.remedies.is_empty() {
        return None;
    }
    let later = join(situation.policy.settings.later_dropins(&situation.drop_in).map(shown_path));
    let text = if later.is_empty() {
        "no drop-in allows all denied calls; change the lines above".to_owned()
    } else {
        format!(
            "a drop-in of harden-why would not help, since {later} comes after it and denies the calls again: change \
            that file"
        )
    };
    Some(Note::new("no-remedy", text))
}

/// Returns the file and line of the manager's `SystemCallArchitectures=` if it rules out all calls without a remedy.
fn managers_line(diagnosis: &Diagnosis) -> Option<String> {
    let is_unsolvable = |finding: &&Finding| {
        let name = finding.incident.denial().and_then(|denial| denial.call.name());
        name.is_some_and(|name| diagnosis.unsolvable.iter().any(|other| **other == *name))
    };
    let line = |finding: &Finding| {
        let by = finding.cause.directives().iter().find(|cause| cause.why == CauseReason::ManagersAbi)?;
        let origin = by.origin.as_ref()?;
        Some(format!("{}:{}", shown_path(&origin.path), origin.line))
    };
    let findings = diagnosis.findings.iter().filter(is_unsolvable);
    let denied = findings.filter(|finding| matches!(finding.cause, DenialCause::Unit { .. }));
    denied.map(line).collect::<Option<Vec<_>>>()?.into_iter().next()
}

/// Adds to each remedy its effect on the exposure score, if systemd-analyze can compute it from the loaded files.
pub(crate) fn add_exposure(remedies: &mut [RemedyView], facts: &UnitProperties, situation: &Situation) {
    let Some(fragment) = facts.fragment.as_ref().filter(|_| !facts.need_daemon_reload && !remedies.is_empty()) else {
        return;
    };
    let contents: Vec<&str> = remedies.iter().map(|remedy| remedy.content.as_str()).collect();
    let levels = exposure_score::measure_exposure(&facts.id, fragment, &facts.dropins, &situation.drop_in, &contents);
    let Some((before, after)) = levels.as_deref().and_then(<[f64]>::split_first) else { return };
    for (remedy, after) in remedies.iter_mut().zip(after) {
        remedy.exposure = Some(ExposureView { before: *before, after: *after });
    }
}
