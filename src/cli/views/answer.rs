//! The answer as data: the JSON schema, and everything a page shows.
//!
//! All text that a process, a log or a file chose is escaped here, once; pages only lay it out.

pub use super::access::AccessView;
pub use super::call_site::{CallSiteView, PlaceView};
pub use super::denial_view::{AttributionView, CauseView, DenialView, DirectiveView, ParentView, Times};
pub use super::remedy::{BecauseView, ExposureView, GroupHelp, RemedyView, SensitiveView, UnknownArguments};
pub use super::unproven::Unproven;

use super::failure::FailureView;
use super::machines::{MachineView, PortedUnit};
use super::program_evidence;
use super::remedy;
use super::system_configuration::SystemConfiguration;
use super::unproven::find_unproven;
use crate::audit::Note;
use crate::audit::note::put_root_causes_first;
use crate::audit::text::quote_arguments;
use crate::cli::args::machine::Machine;
use crate::cli::exit_status::ExitStatus;
use crate::diagnosis::{Diagnosis, Situation};
use crate::incidents::local_time::LocalTime;
use crate::syscalls::Groups;
use crate::units::{Unit, UnitName};
use serde::Serialize;

/// The answers of one invocation.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version of the JSON schema.
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
    /// Other lines.
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

impl Answer {
    /// Whether its only denials are failed calls that strace shows and that no setting of the unit makes fail.
    pub(crate) fn is_denied_elsewhere(&self) -> bool {
        self.denials.iter().all(|denial| denial.source == "strace" && denial.cause.kind == "elsewhere")
    }
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
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
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
    /// expected, or the denials followed an earlier remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearse: Option<String>,
    /// How many further denials are expected after the default remedy, one a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_denials: Option<u32>,
    /// The command that puts the unit's changed settings into force, if each denial is settled but for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<String>,
    /// The default remedy in the system's own configuration, if its drop-in cannot be written because of a read-only file
    /// system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<SystemConfiguration>,
    /// The unit's directives that can refuse calls without a record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<&'static str>,
    /// What limits the answer.
    pub notes: Vec<Note>,
    /// The unit's state after a restart, in words that follow its name in the finding.
    #[serde(skip)]
    pub(crate) state: Option<String>,
    /// Whether a question about the remedy follows the page, so that the page has no command.
    #[serde(skip)]
    pub(crate) is_asked: bool,
    /// Whether the denials followed an earlier remedy.
    #[serde(skip)]
    pub(crate) follows_remedy: bool,
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
    pub commands: Vec<(String, &'static str)>,
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
        notes.extend(situation.and_then(|situation| remedy::no_remedy_note(diagnosis, situation, unit)));
        notes.extend(remedy::intrusion_note(diagnosis));
        notes.extend(situation.into_iter().flat_map(|known| program_evidence::lack_notes(diagnosis, known)));
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
            restart: None,
            configuration: None,
            state: None,
            is_asked: false,
            follows_remedy: situation.is_some_and(|known| diagnosis.follows_remedy(known)),
            nothing: "No denials.".to_owned(),
            is_hidden: false,
            is_of_log: false,
            is_unknown: false,
        }
    }
}

impl Answer {
    /// Returns the exit status that the answer stands for. A denial counts until it is fixed and in force.
    pub(crate) fn exit_status(&self) -> ExitStatus {
        let is_fixed = |denial: &DenialView| denial.cause.kind == "fixed";
        if !self.denials.is_empty() && self.denials.iter().all(is_fixed) {
            return ExitStatus::Done;
        }
        match (self.denials.is_empty(), self.is_unknown, self.is_hidden) {
            (false, _, _) => ExitStatus::Found,
            (true, true, _) => ExitStatus::NoSuchUnit,
            (true, false, true) => ExitStatus::NoRights,
            (true, false, false) => ExitStatus::Done,
        }
    }

    /// Judges each remedy for other machines: the policy there with the remedy's lines.
    pub(crate) fn judge_elsewhere(
        &mut self,
        machines: &[Machine],
        diagnosis: &Diagnosis,
        situation: Option<&Situation>,
        groups: &Groups,
    ) {
        if let Some(situation) = situation.filter(|_| !machines.is_empty()) {
            for (view, remedy) in self.remedies.iter_mut().zip(&diagnosis.remedies) {
                let file = Some(&*remedy.drop_in);
                let policy = &situation.policy.with_dropin(&remedy.drop_in, remedy.content.as_bytes(), groups);
                let unit = PortedUnit { policy, programs: &situation.programs, groups, file };
                view.machines = MachineView::list(machines, &unit);
            }
        }
        if self.remedies.is_empty() && !machines.is_empty() {
            let text = "--for judges remedies, and there is none; harden-why check --for judges the unit's own lines";
            self.notes.push(Note::new("no-remedy-elsewhere", text));
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

/// Returns the commands that put a written drop-in into force.
fn activation_commands(unit: &Unit) -> Vec<String> {
    vec![unit.manager.systemctl("daemon-reload"), restart_command(unit)]
}

/// Returns the command that restarts a unit, or the running instances of a template.
pub(crate) fn restart_command(unit: &Unit) -> String {
    if unit.name.is_template() {
        // The shell must not expand it.
        let pattern = unit.name.as_str().replace('\\', "\\\\").replacen("@.", "@*.", 1);
        unit.manager.systemctl(&format!("try-restart {}", quote_arguments([&*pattern])))
    } else {
        unit.systemctl("restart")
    }
}
