//! The view of one incident: what was denied to whom, and the cause.

use super::access::AccessView;
use super::call_site::CallSiteView;
use super::snippet;
use crate::audit::text::escape;
use crate::diagnosis::{Finding, Reservation};
use crate::incidents::local_time::{LocalTime, moment};
use crate::incidents::{Incident, Moment, describe_briefly, describe_headline, describe_outcome};
use crate::policy::{Effect, SourceLine};
use crate::syscalls::Call;
use crate::units::{Confidence, Rung};
use serde::Serialize;

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
    /// Where in its code the process made the call, if the kernel noted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_site: Option<CallSiteView>,
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
    /// Why no default remedy lets the call pass, as in [`reservation`](super::remedy::RemedyView::reservation).
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
    /// The confidence in it.
    pub confidence: Confidence,
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

impl DenialView {
    pub(super) fn new(finding: &Finding, clock: &LocalTime) -> Self {
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
            call_site: None,
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
        Self { evidence: rung.as_str(), confidence: rung.confidence(), words: rung.describe() }
    }
}
