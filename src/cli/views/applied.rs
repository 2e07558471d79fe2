//! The view of `apply` and `revert`.

use super::answer::SCHEMA;
use crate::audit::Note;
use crate::audit::text::{escape_lines, shown_path};
use crate::cli::terminal::output::Reply;
use crate::cli::terminal::page::{BAD, BOLD, DIM, GOOD, PLACE, Page, add_notes, styled};
use crate::cli::terminal::words::describe_manager;
use crate::operations::outcome::DropInOutcome;
use crate::units::Unit;
use serde::Serialize;
use std::path::Path;

/// The result of `apply` or `revert`.
#[derive(Debug, Serialize)]
pub(crate) struct Applied {
    schema: u32,
    unit: String,
    manager: String,
    /// `applied`, `declined`, `dry-run`, `reverted` or `nothing`.
    pub(crate) outcome: DropInOutcome,
    /// The applied remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<Applying>,
    /// The drop-in; if two were removed, the one in force.
    path: Option<String>,
    /// The changed lines: added (`+`), kept (a space), removed (`-`).
    diff: Vec<String>,
    /// Whether systemd, read back, holds the predicted settings; for `revert`, whether it holds no removed file.
    pub(crate) confirmed: bool,
    /// The unit's state after the restart.
    pub(crate) restarted: Option<Restarted>,
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
            notes,
        }
    }

    /// Describes the unit, the file, and the changed lines.
    pub(crate) fn describe_plan(&self) -> String {
        let mut page = Page::default();
        page.line(format_args!(
            "{} {}",
            styled(BOLD, &self.unit),
            styled(DIM, format_args!("({})", describe_manager(&self.manager)))
        ));
        if let Some(Applying { number, of, title, .. }) = &self.remedy {
            page.item(&format!("  remedy {number} of {of}: "), title);
            if *number > 1 {
                page.line("  (--remedy 1 does no more than what was denied takes)");
            }
        }
        if let Some(path) = &self.path {
            page.line(format_args!("  {}", styled(PLACE, path)));
        }
        for line in &self.diff {
            let style = match line.as_bytes().first() {
                Some(b'+') => GOOD,
                Some(b'-') => BAD,
                _ => DIM,
            };
            page.line(format_args!("  {}", styled(style, line)));
        }
        page.finish()
    }
}

impl Reply for Applied {
    fn page(&self) -> String {
        let mut page = Page::default();
        page.line(self.describe_plan());
        page.line(match (self.outcome, self.confirmed) {
            (DropInOutcome::Applied, _) => "Written. systemd has read it, and holds what was predicted.",
            (DropInOutcome::Declined, _) => "Nothing was changed.",
            (DropInOutcome::DryRun, _) => "Nothing was written: this is what apply would write.",
            (DropInOutcome::Reverted, true) => "Removed. systemd has read its files again, and this is not among them.",
            (DropInOutcome::Reverted, false) => {
                "Removed. systemd has read its files again, but is not seen to be rid of it."
            }
            (DropInOutcome::Nothing, _) => "There is no drop-in of harden-why's to remove.",
        });
        if let Some(Restarted { active_state, result }) = &self.restarted {
            let result = result
                .as_ref()
                .filter(|result| *result != "success")
                .map_or_else(String::new, |result| format!(" ({result})"));
            let style = if active_state == "failed" { BAD } else { GOOD };
            page.line(format_args!("Restarted: it is {}{result}.", styled(style, active_state)));
        }
        add_notes(&mut page, &self.notes);
        page.finish()
    }

    fn has_findings(&self) -> bool {
        !matches!(self.outcome, DropInOutcome::Declined | DropInOutcome::Nothing)
    }
}

/// Returns the lines of both texts, each with `-`, a space, or `+` in front.
pub(crate) fn diff(old: &[u8], new: &[u8]) -> Vec<String> {
    let (old, new) = (escape_lines(old), escape_lines(new));
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("-{line}"));
    let rest = new.iter().map(|line| format!("{}{line}", if old.contains(line) { ' ' } else { '+' }));
    gone.chain(rest).collect()
}

/// Notes when the change takes effect for the unit.
pub(crate) fn restart_note(unit: &Unit, running: bool) -> Note {
    let (flag, name) = (unit.manager.option(), &unit.name);
    if running {
        let text = format!("processes that run already keep the filter of their start: systemctl {flag}restart {name}");
        Note::new("restart-to-apply", text)
    } else {
        Note::new("start-to-apply", format!("it does not run: systemctl {flag}start {name}"))
    }
}
