//! The answer as data: the JSON schema, and everything a page shows.
//!
//! All text that a process, a log or a file chose is escaped here, once; pages only lay it out.

pub use super::remedy::{BecauseView, ExposureView, GroupHelp, RemedyView, SensitiveView, UnknownArguments};
pub use super::unproven::Unproven;

pub use super::access::AccessView;

use super::failure::FailureView;
use super::program_evidence;
use super::remedy;
use super::snippet;
use super::system_configuration::SystemConfiguration;
use super::unproven::find_unproven;
use crate::audit::Note;
use crate::audit::note::put_root_causes_first;
use crate::audit::text::escape;
use crate::cli::exit_status::ExitStatus;
use crate::diagnosis::{Diagnosis, Finding, Reservation, Situation};
use crate::incidents::local_time::{LocalTime, moment};
use crate::incidents::{Incident, Moment, describe_briefly, describe_headline, describe_outcome};
use crate::policy::{Effect, SourceLine};
use crate::syscalls::{Call, Groups};
use crate::units::{Confidence, Rung, Unit, UnitName};
use serde::Serialize;

/// The version of the JSON schema. Keys are added within a version, never changed or removed.
pub const SCHEMA: u32 = 1;

/// The answers of one invocation.
#[derive(Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The origin of a demonstration's record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demo: Option<Demo>,
    /// One answer per unit, newest denial first.
    pub units: Vec<Answer>,
    /// The contents of the log, if harden-why read one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogTally>,
    /// What limits all answers.
    pub notes: Vec<Note>,
}

/// The origin of a demonstration's record.
#[derive(Debug, Serialize)]
pub struct Demo {
    /// `kernel` for a record of this machine, or `bundled`.
    pub source: &'static str,
    /// What the demonstration did.
    pub words: String,
    /// The unit file of the case.
    pub unit_file: String,
}

/// The contents of a log, in counts.
#[derive(Debug, Serialize)]
pub struct LogTally {
    /// The log's path; empty if it has none.
    #[serde(skip)]
    pub name: String,
    /// Lines, or entries of a journal export.
    pub lines: u64,
    /// SECCOMP records.
    pub records: u64,
    /// Records that the log holds more than once; counted once.
    pub repeats: u64,
    /// Lines that report a death by SIGSYS, or of its unit, and lines of strace that show a denial; absent if there are
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<u64>,
    /// Lines about something else.
    pub unrelated: u64,
    /// Lines that look like a record and are none: a field is missing, or another program logged it.
    pub malformed: u64,
    /// Lines too long for a record.
    pub overlong: u64,
    /// Records forgotten because the log holds too many different denials.
    pub dropped: u64,
    /// Records that the answer leaves out because `--unit`, `--since` or `--until` asks for others.
    pub left_out: u64,
    /// The first few skipped lines, with what is wrong.
    pub skipped: Vec<String>,
}

impl LogTally {
    /// Whether the log has nothing to explain, and nothing was left out.
    pub(super) fn is_without_denials(&self) -> bool {
        self.records + self.left_out + self.dropped + self.told.unwrap_or_default() == 0
    }

    /// Whether the log may tell more than the answer does.
    pub(super) fn is_incomplete(&self) -> bool {
        self.malformed + self.overlong + self.dropped > 0
    }
}

/// The answer for one unit.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// The unit's name; null for processes of an unknown unit.
    pub unit: Option<String>,
    /// `system`, or `user:UID`.
    pub manager: Option<String>,
    /// The instances with these denials, newest first, if the unit is a template.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<String>,
    /// The denials.
    pub denials: Vec<DenialView>,
    /// How the unit failed without a record, and the lines that can be the cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureView>,
    /// The remedies, least privilege first, each proven on the unit's policy.
    pub remedies: Vec<RemedyView>,
    /// The denied calls whose arguments decide which remedy helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<UnknownArguments>,
    /// Lines that would allow the calls if the unit's directive of a line denied them; for a unit with unread settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unproven: Option<Unproven>,
    /// The commands that put a remedy into force once its file is written.
    pub then: Vec<String>,
    /// The command that writes and activates a remedy; absent if the caller may not change the unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apply: Option<String>,
    /// The command that finds every denial in one restart and applies the remedy, where more than one further denial is
    /// expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearse: Option<String>,
    /// How many further denials are expected after the default remedy, one a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_denials: Option<u32>,
    /// The default remedy in the system's own configuration, if its drop-in cannot be written because of a read-only file
    /// system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<SystemConfiguration>,
    /// The unit's directives that can refuse calls without a record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<&'static str>,
    /// What limits the answer.
    pub notes: Vec<Note>,
    /// What a page without denials says about silent refusals.
    #[serde(skip)]
    pub silence: Option<Silence>,
    /// What a page without denials says.
    #[serde(skip)]
    pub nothing: String,
    /// Whether the caller may not see the unit's denials.
    #[serde(skip)]
    pub is_hidden: bool,
    /// Whether the denials are those of a log, about which the user may know more.
    #[serde(skip)]
    pub is_of_log: bool,
    /// Whether no manager knows a unit of the name.
    #[serde(skip)]
    pub(crate) is_unknown: bool,
}

/// Why a unit without denials may have been refused calls.
#[derive(Debug)]
pub struct Silence {
    /// The reason, in a sentence.
    pub words: String,
    /// The commands that show refusals, and what each does.
    pub commands: [(String, &'static str); 3],
}

/// One incident, explained.
#[derive(Debug, Serialize)]
pub struct DenialView {
    /// `denial`, `access-denial` or `unrecorded-death`.
    pub event: &'static str,
    /// The call's name, or its number in words.
    pub call: Option<String>,
    /// The call's number, if known.
    pub number: Option<u32>,
    /// The ABI, e.g. `x86_64`.
    pub arch: Option<String>,
    /// The groups that hold the call, smallest first.
    pub groups: Vec<String>,
    /// The filter's action in the kernel's word, e.g. `kill_process`.
    pub action: Option<String>,
    /// How harden-why saw the denial: `audit`, `rehearsal` or `tap`.
    pub source: &'static str,
    /// The error that the calling program got, if a tap saw it or an access failed.
    pub errno: Option<String>,
    /// What an entered call could not reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<AccessView>,
    /// The outcome in words.
    pub outcome: String,
    /// The number of sightings.
    pub count: u64,
    /// The first sighting, RFC 3339 or in the log's words.
    pub first: Option<String>,
    /// The latest sighting.
    pub last: Option<String>,
    /// The executable's path, escaped; null if the kernel gave none.
    pub exe: Option<String>,
    /// The thread's name, escaped.
    pub comm: String,
    /// The process of the latest sighting.
    pub pid: u32,
    /// Its uid, as a number or in the log's words.
    pub uid: Option<String>,
    /// Its LSM label.
    pub subject: Option<String>,
    /// The parent process, if the unit is unknown.
    pub parent: Option<ParentView>,
    /// Instruction pointer of the call, in hex.
    pub ip: String,
    /// The attribution to the unit.
    pub attribution: Option<AttributionView>,
    /// The cause.
    pub cause: CauseView,
    /// Whether systemd's own code made the call, before it executed the program.
    pub before_exec: bool,
    /// Whether a rehearsal saw a call of systemd's own, which a remedy leaves denied.
    #[serde(skip)]
    pub systemds_own: bool,
    /// The outcome as it follows the call's name on the screen.
    #[serde(skip)]
    pub headline: String,
    /// The outcome in a few words.
    #[serde(skip)]
    pub brief: String,
    /// Why no default remedy lets the call pass, as in [`RemedyView::reservation`].
    #[serde(skip)]
    pub reservation: Option<&'static str>,
    /// The times as a page shows them.
    #[serde(skip)]
    pub times: Times,
}

/// A process's parent.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ParentView {
    /// Its pid.
    pub pid: u32,
    /// Its name, escaped.
    pub comm: String,
}

/// First and latest sighting in local time.
#[derive(Debug, Default)]
pub struct Times {
    /// The first.
    pub first: Option<String>,
    /// The latest.
    pub last: Option<String>,
    /// The age of the latest.
    pub ago: Option<String>,
    /// The age of the latest, with abbreviated units.
    pub ago_brief: Option<String>,
    /// The first, in milliseconds since the epoch.
    pub first_millis: Option<i64>,
    /// The latest, in milliseconds since the epoch.
    pub last_millis: Option<i64>,
}

/// The attribution of a denial to its unit.
#[derive(Debug, Serialize)]
pub struct AttributionView {
    /// The kind of evidence.
    pub evidence: &'static str,
    /// `certain`, `likely` or `guess`.
    pub confidence: &'static str,
    /// The evidence in words.
    pub words: &'static str,
}

/// The cause of a denial.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct CauseView {
    /// `unit`, `possibly-unit`, `logged`, `elsewhere`, `runtime` (a container manager, or another program that
    /// runs the unit's processes), `fixed`, `fixed-after-reload`, `fixed-next-start`, `before-change`,
    /// `settings-changed`, `settings-unread`, `unknown-call` or `unrecorded-death`.
    pub kind: &'static str,
    /// For `fixed…` and `before-change`: the time of the change, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The same time, in milliseconds since the epoch.
    #[serde(skip)]
    pub changed: Option<i64>,
    /// The cause in words.
    pub words: String,
    /// The directives that decide the call.
    pub directives: Vec<DirectiveView>,
}

/// A directive that decides a call.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct DirectiveView {
    /// Its key, e.g. `SystemCallFilter`.
    pub directive: &'static str,
    /// The file, if known.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// The effect on the call: `kill`, an errno, or null if it only logs.
    pub effect: Option<String>,
    /// Why it applies to the call.
    pub why: String,
    /// What its line does to the call: the words before and after the names of calls.
    pub does: (String, String),
    /// Its line in the file, if the caller may read it: the text before, in and after the deciding part.
    #[serde(serialize_with = "snippet::serialize_line", skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceLine>,
}

impl Answer {
    /// Builds the answer for a unit from its diagnosis.
    #[must_use]
    pub fn new(
        unit: Option<&Unit>,
        diagnosis: &Diagnosis,
        situation: Option<&Situation>,
        groups: &Groups,
        clock: &LocalTime,
        notes: Vec<Note>,
    ) -> Self {
        let default = diagnosis.default_remedy();
        let remedies = diagnosis.remedies.iter().enumerate();
        let remedies: Vec<RemedyView> =
            remedies.map(|(at, remedy)| RemedyView::new(remedy, default == Some(at), groups)).collect();
        let mut notes = notes;
        notes.extend(situation.and_then(|situation| remedy::no_remedy_note(diagnosis, situation)));
        notes.extend(remedy::intrusion_note(diagnosis));
        notes.extend(situation.and_then(|known| program_evidence::lack_note(diagnosis, known)));
        put_root_causes_first(&mut notes);
        Self {
            unit: unit.map(|unit| unit.name.to_string()),
            manager: unit.map(|unit| unit.manager.to_string()),
            instances: Vec::new(),
            denials: diagnosis.findings.iter().map(|finding| DenialView::new(finding, clock)).collect(),
            failure: None,
            then: unit.filter(|_| !remedies.is_empty()).map_or_else(Vec::new, activation_commands),
            remedies,
            arguments: UnknownArguments::find(&diagnosis.findings, unit),
            unproven: find_unproven(&diagnosis.findings, unit, groups),
            silent: Vec::new(),
            notes,
            silence: None,
            apply: None,
            rehearse: None,
            expected_denials: situation.and_then(|known| program_evidence::expected_denials(diagnosis, known, groups)),
            configuration: None,
            nothing: "No denials.".to_owned(),
            is_hidden: false,
            is_of_log: false,
            is_unknown: false,
        }
    }
}

impl Answer {
    /// Returns the exit status that the answer stands for.
    pub(crate) fn exit_status(&self) -> ExitStatus {
        match (self.denials.is_empty(), self.is_unknown, self.is_hidden) {
            (false, _, _) => ExitStatus::Found,
            (true, true, _) => ExitStatus::NoSuchUnit,
            (true, false, true) => ExitStatus::NoRights,
            (true, false, false) => ExitStatus::Done,
        }
    }

    /// Names the instances for whose template this answers. Connections end by themselves, so that no command restarts
    /// them.
    pub(crate) fn describe_instances(&mut self, template: &Unit, instances: &[UnitName]) {
        self.instances = instances.iter().map(ToString::to_string).collect();
        if !instances.is_empty() && instances.iter().all(UnitName::is_per_connection) && !self.remedies.is_empty() {
            let restart = restart_command(template);
            self.then.retain(|command| *command != restart);
            let text =
                "each instance serves one connection and ends with it: the next connection gets the new settings";
            self.notes.push(Note::new("next-connection", text));
        }
    }
}

impl DenialView {
    fn new(finding: &Finding, clock: &LocalTime) -> Self {
        let Incident { key, rung, count, first, last, sample } = &finding.incident;
        let (denial, access) = (finding.incident.denial(), finding.incident.access());
        let call = finding.incident.call();
        let errno = access.map(|denial| denial.errno).filter(|errno| *errno != 0).or(key.source.errno());
        Self {
            event: key.event.as_str(),
            call: call.map(ToString::to_string),
            number: call.and_then(Call::number),
            arch: call.map(|call| call.abi().map_or_else(|| call.arch.to_string(), |abi| abi.name().to_owned())),
            access: access.map(|denial| AccessView::new(&denial.access)),
            groups: finding.groups.iter().map(ToString::to_string).collect(),
            action: denial.map(|denial| denial.action.to_string()),
            source: key.source.as_str(),
            errno: errno.map(|errno| Effect::Errno(errno).to_string()),
            outcome: describe_outcome(&finding.incident).into_owned(),
            headline: describe_headline(&finding.incident),
            brief: describe_briefly(&finding.incident, finding.cause.directives().first().and_then(|by| by.effect)),
            reservation: finding.reservation.map(Reservation::as_str),
            count: *count,
            first: moment(first),
            last: moment(last),
            exe: (!key.exe.is_empty()).then(|| escape(&key.exe)),
            comm: escape(&sample.comm),
            pid: sample.pid,
            uid: (!sample.uid.is_empty()).then(|| escape(sample.uid.as_bytes())),
            subject: (!sample.subject.is_empty()).then(|| escape(&sample.subject)),
            parent: sample.parent.as_ref().map(|parent| ParentView { pid: parent.pid, comm: escape(&parent.comm) }),
            ip: format!("{:#x}", sample.ip),
            attribution: rung.map(AttributionView::new),
            cause: CauseView::new(finding, clock),
            before_exec: finding.before_exec,
            systemds_own: finding.is_systemds_own(),
            times: Times {
                first: clock.show(first),
                last: clock.show(last),
                ago: clock.ago(last),
                ago_brief: clock.ago_briefly(last),
                first_millis: if let Moment::At(millis) = first { Some(*millis) } else { None },
                last_millis: if let Moment::At(millis) = last { Some(*millis) } else { None },
            },
        }
    }
}

impl AttributionView {
    fn new(rung: Rung) -> Self {
        let confidence = match rung.confidence() {
            Confidence::Certain => "certain",
            Confidence::Likely => "likely",
            Confidence::Guess => "guess",
        };
        Self { evidence: rung.as_str(), confidence, words: rung.describe() }
    }
}

/// Returns the commands that put a written drop-in into force.
fn activation_commands(unit: &Unit) -> Vec<String> {
    let user = unit.manager.option();
    vec![format!("systemctl {user}daemon-reload"), restart_command(unit)]
}

/// Returns the command that restarts a unit, or the running instances of a template.
pub(crate) fn restart_command(unit: &Unit) -> String {
    let user = unit.manager.option();
    if unit.name.is_template() {
        // The shell must not expand it.
        let pattern = unit.name.as_str().replace('\\', "\\\\").replacen("@.", "@*.", 1);
        format!("systemctl {user}try-restart '{pattern}'")
    } else {
        format!("systemctl {user}restart {}", unit.name)
    }
}
