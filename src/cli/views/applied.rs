//! The view of `apply` and `revert`.

use super::answer::{Answer, restart_command};
use super::answer_page::render_unit_answer;
use super::denials;
use super::system_configuration::SystemConfiguration;
use crate::audit::Note;
use crate::audit::text::{escape_lines, plural, shown_path};
use crate::cli::exit_status::ExitStatus;
use crate::cli::terminal::output::SCHEMA;
use crate::cli::terminal::output::{Detail, Reply};
use crate::cli::terminal::page::{BAD, BOLD, DIM, GOOD, PLACE, Page, add_notes, styled};
use crate::cli::terminal::words::{count_calls, describe_manager};
use crate::operations::instances::RunningInstances;
use crate::operations::outcome::DropInOutcome;
use crate::systemd::manager::{SystemdError, UnitOutcome};
use crate::units::{Unit, UnitName};
use serde::{Serialize, Serializer};
use std::path::Path;

/// The most lines of a change that the page shows without `--verbose`.
const MOST_LINES: usize = 14;

/// The result of `apply` or `revert`.
#[derive(Debug, Serialize)]
pub(crate) struct Applied {
    schema: u32,
    pub(crate) unit: String,
    manager: String,
    /// `applied`, `declined`, `dry-run`, `read-only`, `unchanged`, `reverted` or `nothing`.
    pub(crate) outcome: DropInOutcome,
    /// The applied remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<Applying>,
    /// The drop-in; if two were removed, the one in force.
    pub(crate) path: Option<String>,
    /// The changed lines: added (`+`), kept (a space), removed (`-`).
    diff: Vec<String>,
    /// Whether systemd, read back, holds the predicted settings; for `revert`, whether it holds no removed file.
    pub(crate) confirmed: bool,
    /// The unit's state after the restart.
    pub(crate) restarted: Option<Restarted>,
    /// The remedy in the system's own configuration, if its drop-in would be on a read-only file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) configuration: Option<SystemConfiguration>,
    /// The command that writes the drop-in below `/run` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) runtime: Option<String>,
    /// The instances after the restart, if the unit is a template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instances: Option<Vec<RestartedInstance>>,
    pub(crate) notes: Vec<Note>,
}

/// The applied remedy.
#[derive(Debug, Serialize)]
pub(crate) struct Applying {
    /// Its number in the answer.
    pub(crate) number: usize,
    /// The number of remedies.
    #[serde(skip)]
    pub(crate) of: usize,
    /// Its effect, in a sentence.
    pub(crate) title: String,
    /// The calls it opens beyond the denied ones.
    pub(crate) opens: Vec<String>,
}

/// A unit after its restart.
#[derive(Debug, Serialize)]
pub(crate) struct Restarted {
    pub(crate) active_state: String,
    pub(crate) result: Option<String>,
    /// Whether the unit runs, or did its work.
    pub(crate) up: bool,
    /// The answer for what was denied to it since the restart; JSON has its denials.
    #[serde(rename = "denials", serialize_with = "serialize_denials")]
    pub(crate) answer: Box<Answer>,
    /// The command that shows more, or applies the next remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

fn serialize_denials<S: Serializer>(answer: &Answer, serializer: S) -> Result<S::Ok, S::Error> {
    answer.denials.serialize(serializer)
}

/// An instance of a template after its restart.
#[derive(Debug, Serialize)]
pub(crate) struct RestartedInstance {
    unit: String,
    active_state: String,
    result: Option<String>,
}

impl RestartedInstance {
    pub(crate) fn new(name: &UnitName, UnitOutcome { active_state, result }: UnitOutcome) -> Self {
        Self { unit: name.to_string(), active_state, result }
    }
}

impl Applied {
    pub(crate) fn new(
        unit: &Unit,
        outcome: DropInOutcome,
        path: Option<&Path>,
        diff: Vec<String>,
        notes: Vec<Note>,
    ) -> Self {
        Self {
            schema: SCHEMA,
            unit: unit.name.to_string(),
            manager: unit.manager.to_string(),
            outcome,
            remedy: None,
            path: path.map(shown_path),
            diff,
            confirmed: false,
            restarted: None,
            instances: None,
            configuration: None,
            runtime: None,
            notes,
        }
    }

    /// Describes the unit, the file, and the changed lines.
    pub(crate) fn describe_plan(&self, detail: Detail) -> String {
        let mut page = Page::default();
        self.add_unit(&mut page);
        self.add_change(&mut page, detail);
        page.finish()
    }

    fn add_unit(&self, page: &mut Page) {
        page.line(format_args!(
            "{} {}",
            styled(BOLD, &self.unit),
            styled(DIM, format_args!("({})", describe_manager(&self.manager)))
        ));
    }

    /// Adds the remedy, the file and its lines. Without details, a long change is counted.
    fn add_change(&self, page: &mut Page, detail: Detail) {
        if let Some(Applying { number, of, title, .. }) = &self.remedy {
            page.item(&format!("  remedy {number} of {of}: "), title);
            if *number > 1 {
                page.line("  (--remedy 1 allows only the denied calls)");
            }
        }
        if let Some(path) = &self.path {
            page.line(format_args!("  {}", styled(PLACE, path)));
        }
        if detail != Detail::Full && self.diff.len() > MOST_LINES {
            let count = |mark: char| self.diff.iter().filter(|line| line.starts_with(mark)).count();
            let (added, removed) = (count('+'), count('-'));
            let opens = self.remedy.as_ref().map_or(0, |remedy| remedy.opens.len());
            let opens =
                if opens > 0 { format!(", with {} that were not denied", count_calls(opens)) } else { String::new() };
            page.paragraph(2, &format!("{added} lines added, {removed} removed{opens} (-v shows them)"));
            return;
        }
        for line in &self.diff {
            let style = match line.as_bytes().first() {
                Some(b'+') => GOOD,
                Some(b'-') => BAD,
                _ => DIM,
            };
            page.line(format_args!("  {}", styled(style, line)));
        }
    }
}

impl Applied {
    /// Returns whether a changed line is about calls.
    fn changes_filter(&self) -> bool {
        self.diff.iter().any(|line| line.trim_start_matches(['+', '-', ' ']).starts_with("SystemCall"))
    }
}

impl Reply for Applied {
    fn page(&self, detail: Detail) -> String {
        let mut page = Page::default();
        if let Some(restarted) = self.restarted.as_ref().filter(|restarted| restarted.has_denials())
            && detail != Detail::Full
        {
            return render_unit_answer(&restarted.answer, Detail::Short);
        }
        self.add_unit(&mut page);
        page.paragraph(
            0,
            match (self.outcome, self.confirmed) {
                (DropInOutcome::Applied, _) if self.changes_filter() => {
                    "Written and loaded; systemd confirms the new filter."
                }
                (DropInOutcome::Applied, _) => "Written and loaded; systemd confirms the new settings.",
                (DropInOutcome::Declined, _) => "Nothing was changed.",
                (DropInOutcome::ReadOnly, _) => "Nothing was written: the file system is read-only.",
                (DropInOutcome::DryRun, _) => "Nothing was written (--dry-run). apply would write:",
                (DropInOutcome::Unchanged, _) => {
                    "Nothing to apply: no process that started after the last change of its settings was denied anything."
                }
                (DropInOutcome::Reverted, true) => "Removed and reloaded.",
                (DropInOutcome::Reverted, false) => "Removed and reloaded, but systemd does not confirm it.",
                (DropInOutcome::Nothing, _) => "Nothing to do: there is no drop-in of harden-why to remove.",
            },
        );
        // The question showed a declined change.
        if self.outcome != DropInOutcome::Declined {
            self.add_change(&mut page, detail);
        }
        if let Some(runtime) = &self.runtime {
            page.line("To allow it until the next boot:");
            page.line(format_args!("  {}", styled(GOOD, runtime)));
        }
        if let Some(configuration) = &self.configuration {
            configuration.add_to_page(&mut page);
        }
        if let Some(restarted) = &self.restarted {
            restarted.add_to_page(&mut page);
        }
        match self.instances.as_deref() {
            Some([]) => page.line("No instance needed a restart."),
            instances => {
                for RestartedInstance { unit, active_state, result } in instances.into_iter().flatten() {
                    let state = describe_state(active_state, result.as_deref());
                    page.paragraph(0, &format!("Restarted {unit}: it is {state}."));
                }
            }
        }
        add_notes(&mut page, &self.notes);
        page.finish()
    }

    fn exit_status(&self) -> ExitStatus {
        let has_unit_failed = self.restarted.as_ref().is_some_and(|restarted| !restarted.up);
        // The user wanted a change, and got none.
        let is_unchanged = matches!(self.outcome, DropInOutcome::Declined | DropInOutcome::ReadOnly);
        if has_unit_failed || is_unchanged { ExitStatus::Failed } else { ExitStatus::Done }
    }
}

impl Restarted {
    /// Makes the view of a unit after its restart. `path` is the drop-in in force, if there is one.
    pub(crate) fn new(
        outcome: UnitOutcome,
        up: bool,
        mut answer: Answer,
        path: Option<&Path>,
        next: Option<String>,
    ) -> Self {
        let UnitOutcome { active_state, result } = outcome;
        answer.state = Some(match active_state.as_str() {
            "failed" => "failed after the restart".to_owned(),
            state => format!("is {state} after the restart"),
        });
        let stays = |path| Note::new("drop-in-stays", format!("{} is written and loaded, and stays", shown_path(path)));
        answer.notes.extend(path.map(stays));
        Self { active_state, result, up, answer: Box::new(answer), next }
    }

    /// Whether anything was denied since the restart.
    fn has_denials(&self) -> bool {
        !self.answer.denials.is_empty()
    }

    fn add_to_page(&self, page: &mut Page) {
        let state = describe_state(&self.active_state, self.result.as_deref());
        let words = match (self.up, self.has_denials()) {
            (true, false) => format!("Restarted: it is {state}."),
            (true, true) => format!("Restarted: it is {state}. More was denied since the restart:"),
            (false, false) => format!("It does not come up: it is {state}. Nothing was denied since the restart."),
            (false, true) => format!("It does not come up: it is {state}. Denied since the restart:"),
        };
        page.paragraph(0, &words);
        denials::add_denials(page, &self.answer.denials);
        if let Some(next) = &self.next {
            page.gap();
            page.line(format_args!("  {}", styled(GOOD, next)));
        }
    }
}

/// Returns the state of a unit after its restart, with the reason of a failure.
fn describe_state(active_state: &str, result: Option<&str>) -> String {
    let result = match result {
        // A unit that did its work.
        Some("success") if active_state == "inactive" => " (finished)".to_owned(),
        Some("success") | None => String::new(),
        Some(result) => format!(" ({result})"),
    };
    let style = if active_state == "failed" { BAD } else { GOOD };
    format!("{}{result}", styled(style, active_state))
}

/// Returns the lines of both texts, each with `-`, a space, or `+` in front.
pub(crate) fn diff(old: &[u8], new: &[u8]) -> Vec<String> {
    let (old, new) = (escape_lines(old), escape_lines(new));
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("-{line}"));
    let rest = new.iter().map(|line| format!("{}{line}", if old.contains(line) { ' ' } else { '+' }));
    gone.chain(rest).collect()
}

/// Notes that systemd has not read the files yet.
pub(crate) fn reload_note(unit: &Unit) -> Note {
    Note::new(
        "reload-to-apply",
        format!("systemd has not reloaded its files: {}", unit.manager.systemctl("daemon-reload")),
    )
}

/// Notes when the running instances of a template take the change; none if no instance runs.
pub(crate) fn instance_notes(
    template: &Unit,
    running: Result<RunningInstances, SystemdError>,
) -> impl Iterator<Item = Note> {
    let (others, connections) = match running {
        Ok(running) => {
            let others = (running.others > 0).then(|| restart_note(template, true));
            (others, connections_note(running.connections))
        }
        Err(error) => {
            let restart = restart_command(template);
            let text = format!("it is unknown whether instances run and keep the old settings ({error}): {restart}");
            (Some(Note::new("instances-unknown", text)), None)
        }
    };
    others.into_iter().chain(connections)
}

/// Notes that instances which serve connections were not restarted.
pub(crate) fn connections_note(count: usize) -> Option<Note> {
    let text = format!(
        "{} of a connection {} the old settings until the connection ends; the next connection gets the new ones",
        plural(count as u64, "instance"),
        if count == 1 { "keeps" } else { "keep" }
    );
    (count > 0).then(|| Note::new("next-connection", text))
}

/// Notes when the change takes effect for the unit.
pub(crate) fn restart_note(unit: &Unit, running: bool) -> Note {
    if running {
        let restart = restart_command(unit);
        Note::new("restart-to-apply", format!("running processes keep the old filter until a restart: {restart}"))
    } else if unit.name.is_template() {
        Note::new("start-to-apply", "no instance runs: the next one to start gets the new settings")
    } else {
        let start = unit.systemctl("start");
        Note::new("start-to-apply", format!("the unit does not run: {start}"))
    }
}
