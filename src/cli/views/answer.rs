//! The answer as data: all that the screen shows, and the JSON schema.
//!
//! Everything a process, a log or a file chose is escaped here, once; what follows only lays out.

pub use super::remedy::{BecauseView, ExposureView, GroupHelp, RemedyView, SensitiveView, Unproven};

use super::remedy;
use crate::audit::Note;
use crate::audit::text::escape;
use crate::diagnosis::{Diagnosis, Finding, Situation};
use crate::incidents::local_time::{LocalTime, moment};
use crate::incidents::{Incident, Moment, describe_headline, describe_outcome};
use crate::policy::Effect;
use crate::syscalls::Groups;
use crate::units::{Confidence, Rung, Unit};
use serde::Serialize;

/// The version of the JSON schema. Keys are added within a version, never changed or removed.
pub const SCHEMA: u32 = 1;

/// Everything one invocation answers.
#[derive(Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Where a demonstration's record came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demo: Option<Demo>,
    /// One answer per unit, newest denial first.
    pub units: Vec<Answer>,
    /// What was read, for a log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogTally>,
    /// What limits the answer as a whole.
    pub notes: Vec<Note>,
}

/// Where a demonstration's record came from.
#[derive(Debug, Serialize)]
pub struct Demo {
    /// `kernel`, a moment ago on this machine, or `bundled`.
    pub source: &'static str,
    /// What was done, in plain words.
    pub words: String,
    /// The unit file that the case is about.
    pub unit_file: String,
}

/// What a log held.
#[derive(Debug, Serialize)]
pub struct LogTally {
    /// Lines, or entries of a journal export.
    pub lines: u64,
    /// SECCOMP records among them.
    pub records: u64,
    /// Records that the log holds once more: not counted again.
    pub repeats: u64,
    /// Lines about something else.
    pub unrelated: u64,
    /// Lines that begin as a record and are none.
    pub malformed: u64,
    /// Lines too long to be one.
    pub overlong: u64,
    /// Records forgotten because the log holds too many different denials.
    pub dropped: u64,
    /// The first few skipped lines, with what is wrong.
    pub skipped: Vec<String>,
}

/// The answer for one unit.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// Its name; null for processes whose unit is not known.
    pub unit: Option<String>,
    /// `system`, or `user:UID`.
    pub manager: Option<String>,
    /// What was denied.
    pub denials: Vec<DenialView>,
    /// What to change, least privilege first; each was proven on the unit's policy.
    pub remedies: Vec<RemedyView>,
    /// What would allow the calls if the unit's `SystemCallFilter=` denied them; where that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unproven: Option<Unproven>,
    /// The commands that put a remedy into force once its file is written.
    pub then: Vec<String>,
    /// The command that writes it and does them, where the unit is one that the caller may change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apply: Option<String>,
    /// Its directives that can refuse calls with an error, of which systemd has the kernel write no record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<&'static str>,
    /// What was odd, or limits the answer.
    pub notes: Vec<Note>,
    /// What the screen says of that where there are no denials.
    #[serde(skip)]
    pub silence: Option<Silence>,
    /// What there is to say where there are no denials.
    #[serde(skip)]
    pub nothing: &'static str,
}

/// Why no denials of a unit need not mean that nothing was denied.
#[derive(Debug)]
pub struct Silence {
    /// In a sentence.
    pub words: String,
    /// The commands that show what it is denied, and what each does.
    pub ways: [(String, &'static str); 3],
}

/// One incident, explained.
#[derive(Debug, Serialize)]
pub struct DenialView {
    /// `denial`, or `unrecorded-death`.
    pub event: &'static str,
    /// The call's name, or what is said in its place.
    pub call: Option<String>,
    /// Its number, where one is known.
    pub number: Option<u32>,
    /// The ABI, e.g. `x86_64`.
    pub arch: Option<String>,
    /// The groups that hold the call, smallest first.
    pub groups: Vec<String>,
    /// The filter's decision in the kernel's word, e.g. `kill_process`.
    pub action: Option<String>,
    /// Which way it was seen: `audit`, `rehearsal` or `tap`.
    pub source: &'static str,
    /// The error that a tap saw the caller get.
    pub errno: Option<String>,
    /// The same in plain words.
    pub outcome: String,
    /// How often.
    pub count: u64,
    /// The first time, RFC 3339 or as the log said it.
    pub first: Option<String>,
    /// The latest time.
    pub last: Option<String>,
    /// Executable path, escaped; null where the kernel gave none.
    pub exe: Option<String>,
    /// Thread name, escaped.
    pub comm: String,
    /// Process of the latest sighting.
    pub pid: u32,
    /// Its uid, as a number or as the log said it.
    pub uid: Option<String>,
    /// Its LSM label.
    pub subject: Option<String>,
    /// What started it, where the unit is not known.
    pub parent: Option<ParentView>,
    /// Instruction pointer of the call, in hex.
    pub ip: String,
    /// How the unit was found.
    pub attribution: Option<AttributionView>,
    /// Why.
    pub cause: CauseView,
    /// It happened in systemd's own code, before the program was executed.
    pub before_exec: bool,
    /// The outcome as it follows the call's name on the screen.
    #[serde(skip)]
    pub headline: String,
    /// As the screen shows them.
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

/// First and latest time in local time.
#[derive(Debug, Default)]
pub struct Times {
    /// The first.
    pub first: Option<String>,
    /// The latest.
    pub last: Option<String>,
    /// How long ago the latest was.
    pub ago: Option<String>,
    /// The first, to be compared.
    pub first_millis: Option<i64>,
}

/// How a unit was found.
#[derive(Debug, Serialize)]
pub struct AttributionView {
    /// The rung of the ladder of evidence.
    pub evidence: &'static str,
    /// `certain`, `likely` or `guess`.
    pub confidence: &'static str,
    /// In plain words.
    pub words: &'static str,
}

/// Why.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct CauseView {
    /// `unit`, `possibly-unit`, `logged`, `elsewhere`, `runtime` (a container's, or another's that runs the unit's
    /// processes), `fixed`, `fixed-after-reload`, `fixed-next-start`, `settings-changed`, `settings-unread`, `unknown-call` or
    /// `unrecorded-death`.
    pub kind: &'static str,
    /// Of what is fixed: since when, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// In plain words.
    pub words: String,
    /// The directives that decide it.
    pub directives: Vec<DirectiveView>,
}

/// A directive's part.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct DirectiveView {
    /// Its key, e.g. `SystemCallFilter`.
    pub directive: &'static str,
    /// The file, where it is known.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// What it does to the call: `kill`, an errno, or null if it only logs.
    pub effect: Option<String>,
    /// Why it concerns the call.
    pub why: String,
}

impl Answer {
    /// The answer for a unit, from its diagnosis.
    #[must_use]
    pub fn new(
        unit: Option<&Unit>,
        diagnosis: &Diagnosis,
        situation: Option<&Situation>,
        groups: &Groups,
        clock: &LocalTime,
        notes: Vec<Note>,
    ) -> Self {
        let remedies: Vec<RemedyView> = situation.map_or_else(Vec::new, |situation| {
            let default = diagnosis.default_remedy();
            let remedies = diagnosis.remedies.iter().enumerate();
            remedies
                .map(|(at, remedy)| RemedyView::new(remedy, &situation.drop_in, default == Some(at), groups))
                .collect()
        });
        let mut notes = notes;
        notes.extend(situation.and_then(|situation| remedy::hopeless(diagnosis, situation)));
        Self {
            unit: unit.map(|unit| unit.name.to_string()),
            manager: unit.map(|unit| unit.manager.to_string()),
            denials: diagnosis.findings.iter().map(|finding| DenialView::new(finding, clock)).collect(),
            then: unit.filter(|_| !remedies.is_empty()).map_or_else(Vec::new, commands),
            remedies,
            unproven: remedy::unproven(&diagnosis.findings, unit, groups),
            silent: Vec::new(),
            notes,
            silence: None,
            apply: None,
            nothing: "No denials of it are known.",
        }
    }
}

impl DenialView {
    fn new(finding: &Finding, clock: &LocalTime) -> Self {
        let Incident { key, rung, count, first, last, sample } = &finding.incident;
        let denial = finding.incident.denial();
        Self {
            event: if denial.is_some() { "denial" } else { "unrecorded-death" },
            call: denial.map(|denial| denial.call.to_string()),
            number: denial.and_then(|denial| denial.call.number()),
            arch: denial.map(|denial| {
                denial.call.abi().map_or_else(|| denial.call.arch.to_string(), |abi| abi.name().to_owned())
            }),
            groups: finding.groups.iter().map(ToString::to_string).collect(),
            action: denial.map(|denial| denial.action.to_string()),
            source: key.source.as_str(),
            errno: key.source.errno().map(|errno| Effect::Errno(errno).to_string()),
            outcome: describe_outcome(&finding.incident).into_owned(),
            headline: describe_headline(&finding.incident),
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
            times: Times {
                first: clock.show(first),
                last: clock.show(last),
                ago: clock.ago(last),
                first_millis: if let Moment::At(millis) = first { Some(*millis) } else { None },
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

fn commands(unit: &Unit) -> Vec<String> {
    let user = unit.manager.option();
    vec![format!("systemctl {user}daemon-reload"), format!("systemctl {user}restart {}", unit.name)]
}
