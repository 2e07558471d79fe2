//! The processes that outlive a rehearsal or a bisection.

use crate::audit::text::escape_excerpt;
use crate::cli::terminal::page::{GOOD, Page, WARN, styled};
use crate::host::unit_processes::UnitProcess;
use serde::Serialize;

/// A process that outlives a rehearsal or a bisection.
#[derive(Debug, Serialize)]
pub(super) struct SurvivorView {
    pid: u32,
    command: String,
}

impl SurvivorView {
    pub(super) fn new(process: &UnitProcess) -> Self {
        Self { pid: process.pid, command: escape_excerpt(&String::from_utf8_lossy(&process.command)) }
    }
}

/// Adds the processes that outlive `what` to a page.
pub(super) fn add_survivors(page: &mut Page, survivors: &[SurvivorView], what: &str) {
    if survivors.is_empty() {
        return;
    }
    let which = match survivors.len() {
        1 => format!("1 process outlives the {what}, and runs without the unit's own settings until it ends:"),
        count => {
            format!("{count} processes outlive the {what}, and run without the unit's own settings until they end:")
        }
    };
    page.gap();
    page.paragraph(0, &styled(WARN, which));
    for one in survivors {
        page.line(format_args!("  {:>8}  {}", one.pid, one.command));
    }
    page.line("Log out of such a session, or end them yourself:");
    let pids: Vec<String> = survivors.iter().map(|one| one.pid.to_string()).collect();
    page.line(format_args!("  {}", styled(GOOD, format_args!("kill {}", pids.join(" ")))));
}
