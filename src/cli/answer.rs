//! The answer as data: all that the screen shows, and the JSON schema.
//!
//! Everything a process, a log or a file chose is escaped here, once; what follows only lays out.

mod cause;

use crate::audit::text::escape;
use crate::diagnosis::{Cause, Diagnosis, Finding, Kind, Remedy, Situation, denied, outcome};
use crate::incidents::{Incident, Moment};
use crate::syscalls::Groups;
use crate::units::{Confidence, Manager, Rung, Unit};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use std::path::Path;

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
    pub notes: Vec<String>,
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
    /// Lines about something else.
    pub foreign: u64,
    /// Lines that begin as a record and are none.
    pub malformed: u64,
    /// Lines too long to be one.
    pub overlong: u64,
    /// Records forgotten because the log holds too many different denials.
    pub given_way: u64,
    /// The first few skipped lines, with what is wrong.
    pub complaints: Vec<String>,
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
    /// The commands that put a remedy into force.
    pub then: Vec<String>,
    /// What was odd, or limits the answer.
    pub notes: Vec<String>,
}

/// One incident, explained.
#[derive(Debug, Serialize)]
pub struct DenialView {
    /// `denial`, or `silent-death`.
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
    pub rung: &'static str,
    /// `certain`, `likely` or `guess`.
    pub confidence: &'static str,
    /// In plain words.
    pub words: &'static str,
}

/// Why.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct CauseView {
    /// `unit`, `perhaps-unit`, `logged`, `elsewhere`, `runtime` (a container's, or another's that runs the unit's
    /// processes), `fixed`, `fixed-after-reload`, `fixed-next-start`, `settings-changed`, `unread`, `nameless` or
    /// `silent`.
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

/// A proven drop-in.
#[derive(Debug, Serialize)]
pub struct RemedyView {
    /// `calls`, `siblings`, `companions`, `groups`, `loosen` or `soften`.
    pub kind: &'static str,
    /// What it does, in a sentence.
    pub title: String,
    /// Where the drop-in goes.
    pub path: String,
    /// The whole drop-in.
    pub content: String,
    /// The calls it opens beyond the denied ones.
    pub opens: Vec<String>,
    /// Why it opens a call that was not denied yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<BecauseView>,
    /// Calls among those it allows that administer the machine or reach into other programs.
    pub sensitive: Vec<SensitiveView>,
    /// Denied calls that pass only with some arguments.
    pub conditional: Vec<String>,
    /// The one that `apply` takes where nobody chose another.
    pub default: bool,
    /// The unit's exposure as `systemd-analyze security` sees it, of a service that runs here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposure: Option<ExposureView>,
}

/// How a remedy changes a unit's exposure.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ExposureView {
    /// Without it, from 0.0, the least, to 10.0.
    pub before: f64,
    /// With it.
    pub after: f64,
}

/// Why a call is opened that was not denied yet.
#[derive(Debug, Serialize)]
pub struct BecauseView {
    /// The call.
    pub call: String,
    /// Why.
    pub reason: &'static str,
}

/// A call that is more than most to allow.
#[derive(Debug, Serialize)]
pub struct SensitiveView {
    /// The call.
    pub call: String,
    /// The group that says so, e.g. `@privileged`.
    pub group: String,
}

/// What could not be proven.
#[derive(Debug, Serialize)]
pub struct Unproven {
    /// Lines that would allow the calls, least privilege first.
    pub lines: Vec<String>,
    /// Why they are not proven, and how to have them proven.
    pub why: String,
}

/// The clock and the place of the person who asks.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Now; `None` where ages would mean nothing, as in an old log.
    pub now: Option<Timestamp>,
    /// Where times are shown for.
    pub zone: TimeZone,
}

impl Answer {
    /// The answer for a unit, from its diagnosis.
    #[must_use]
    pub fn new(
        unit: Option<&Unit>,
        diagnosis: &Diagnosis,
        situation: Option<&Situation>,
        groups: &Groups,
        clock: &Clock,
        notes: Vec<String>,
    ) -> Self {
        let remedies: Vec<RemedyView> = situation.map_or_else(Vec::new, |situation| {
            let default = diagnosis.default_remedy();
            let remedies = diagnosis.remedies.iter().enumerate();
            remedies.map(|(at, remedy)| RemedyView::new(remedy, &situation.drop_in, default == Some(at))).collect()
        });
        let mut notes = notes;
        notes.extend(situation.and_then(|situation| hopeless(diagnosis, situation)));
        Self {
            unit: unit.map(|unit| unit.name.to_string()),
            manager: unit.map(|unit| unit.manager.to_string()),
            denials: diagnosis.findings.iter().map(|finding| DenialView::new(finding, clock)).collect(),
            then: unit.filter(|_| !remedies.is_empty()).map_or_else(Vec::new, commands),
            remedies,
            unproven: unproven(&diagnosis.findings, unit, groups),
            notes,
        }
    }
}

impl DenialView {
    fn new(finding: &Finding, clock: &Clock) -> Self {
        let Incident { key, rung, count, first, last, sample } = &finding.incident;
        let denial = denied(&finding.incident);
        Self {
            event: if denial.is_some() { "denial" } else { "silent-death" },
            call: denial.map(|denial| denial.call.to_string()),
            number: denial.and_then(|denial| denial.call.number()),
            arch: denial.map(|denial| {
                denial.call.abi().map_or_else(|| denial.call.arch.to_string(), |abi| abi.name().to_owned())
            }),
            groups: finding.groups.iter().map(ToString::to_string).collect(),
            action: denial.map(|denial| denial.action.to_string()),
            outcome: denial.map_or("was killed by SIGSYS", |denial| outcome(denial.action)).to_owned(),
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
        Self { rung: rung.as_str(), confidence, words: rung.describe() }
    }
}

impl RemedyView {
    fn new(remedy: &Remedy, path: &Path, default: bool) -> Self {
        let (kind, title) = match &remedy.kind {
            Kind::Calls => ("calls", "Allow what was denied, and nothing else.".to_owned()),
            Kind::Siblings => (
                "siblings",
                format!("Allow them with what may be called in their place: {} more.", calls(remedy.opens.len())),
            ),
            Kind::Companions => (
                "companions",
                format!("Allow them with what such programs usually need next: {} more.", calls(remedy.opens.len())),
            ),
            Kind::Groups(groups) => {
                let names = join(groups.iter().map(ToString::to_string));
                ("groups", format!("Allow {names}: {} more.", calls(remedy.opens.len())))
            }
            Kind::Loosen => ("loosen", "Loosen what denied it.".to_owned()),
            Kind::Soften => (
                "soften",
                "Keep denying it, but with an error instead of death, for a program that can live without.".to_owned(),
            ),
        };
        Self {
            kind,
            title,
            path: shown_path(path),
            content: remedy.content.clone(),
            opens: remedy.opens.iter().map(ToString::to_string).collect(),
            because: remedy
                .because
                .iter()
                .map(|because| BecauseView { call: because.call.to_string(), reason: because.reason })
                .collect(),
            sensitive: remedy
                .sensitive
                .iter()
                .map(|(group, call)| SensitiveView { call: call.to_string(), group: group.to_string() })
                .collect(),
            conditional: remedy.conditional.iter().map(ToString::to_string).collect(),
            default,
            exposure: None,
        }
    }
}

/// Why there is no remedy for what the unit's settings denied.
fn hopeless(diagnosis: &Diagnosis, situation: &Situation) -> Option<String> {
    if !diagnosis.beyond.is_empty() {
        let names = join(diagnosis.beyond.iter().map(ToString::to_string));
        return Some(format!(
            "no setting of the unit can let {names} pass: this systemd or its libseccomp does not know the call, or \
             DynamicUser= or the manager's own SystemCallArchitectures= rules it out"
        ));
    }
    let denied = diagnosis.findings.iter().any(|finding| matches!(finding.cause, Cause::Unit { .. }));
    if !denied || !diagnosis.remedies.is_empty() {
        return None;
    }
    let later = join(situation.policy.settings.dropins_behind(&situation.drop_in).map(shown_path));
    Some(if later.is_empty() {
        "no drop-in was found that lifts all of it; change the lines above".to_owned()
    } else {
        format!(
            "a drop-in of ours would not help, since {later} comes after it and denies the calls again: change it there"
        )
    })
}

/// What may help where the settings were not read: an offer with a condition, never a drop-in.
fn unproven(findings: &[Finding], unit: Option<&Unit>, groups: &Groups) -> Option<Unproven> {
    let mut names: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.cause == Cause::Unread)
        .filter_map(|finding| denied(&finding.incident)?.call.name())
        .filter(|name| groups.knows(name))
        .collect();
    names.sort_unstable();
    names.dedup();
    let first = names.first()?;
    let mut lines = vec![format!("SystemCallFilter={}", names.join(" "))];
    let wider = groups
        .containing(first)
        .into_iter()
        .find(|group| groups.calls(group).is_some_and(|calls| names.iter().all(|name| calls.contains(*name))));
    lines.extend(wider.map(|group| format!("SystemCallFilter={group}")));
    let how = if unit.is_some() { "--root DIR, or / for this machine" } else { "--unit UNIT and --root DIR" };
    let why = format!(
        "The unit's settings were not read, so nothing is proven. If it has a SystemCallFilter= that denied this, one \
         of these lines allows it. In a unit without one they would forbid everything else: have them checked with {how}."
    );
    Some(Unproven { lines, why })
}

fn commands(unit: &Unit) -> Vec<String> {
    let user = if unit.manager == Manager::System { "" } else { "--user " };
    vec![format!("systemctl {user}daemon-reload"), format!("systemctl {user}restart {}", unit.name)]
}

impl Clock {
    /// The day.
    pub(super) fn today(&self) -> String {
        self.now.map_or_else(String::new, |now| now.to_zoned_datetime(self.zone.clone()).date().to_string())
    }

    /// Local time, as the screen shows it.
    pub(super) fn show(&self, moment: &Moment) -> Option<String> {
        match moment {
            Moment::At(millis) => {
                let zoned = Timestamp::from_millisecond(*millis).ok()?.to_zoned_datetime(self.zone.clone());
                Some(zoned.strftime("%Y-%m-%d %H:%M:%S").to_string())
            }
            Moment::Said(text) => Some(escape(text.as_bytes())),
            Moment::Unknown => None,
        }
    }

    /// How long ago.
    pub(super) fn ago(&self, moment: &Moment) -> Option<String> {
        let Moment::At(millis) = moment else { return None };
        let seconds = self.now?.as_second() - millis / 1000;
        let (amount, unit) = match seconds {
            ..-60 => return None,
            -60..1 => return Some("just now".to_owned()),
            1..60 => (seconds, "second"),
            60..3600 => (seconds / 60, "minute"),
            3600..86400 => (seconds / 3600, "hour"),
            _ => (seconds / 86400, "day"),
        };
        Some(format!("{amount} {unit}{} ago", if amount == 1 { "" } else { "s" }))
    }
}

/// For JSON: RFC 3339 in UTC, or what the log said.
pub(super) fn moment(moment: &Moment) -> Option<String> {
    match moment {
        Moment::At(millis) => Some(Timestamp::from_millisecond(*millis).ok()?.to_string()),
        Moment::Said(text) => Some(escape(text.as_bytes())),
        Moment::Unknown => None,
    }
}

pub(super) fn shown_path(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    escape(path.as_os_str().as_bytes())
}

pub(super) fn calls(count: usize) -> String {
    plural(count as u64, "call")
}

/// `1 call`, `2 calls`.
pub(super) fn plural(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn join(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}
