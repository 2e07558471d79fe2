//! `harden-why`: the units with denials, newest first.

use super::answer::{Clock, SCHEMA, moment, plural};
use super::args::Cli;
use super::page::{BOLD, DIM, Page, styled};
use super::source::Source;
use super::units::{scope, unheard};
use super::{Reply, render};
use crate::incidents::UnitSummary;
use serde::Serialize;

/// The units with denials.
#[derive(Debug, Serialize)]
pub(super) struct Overview {
    schema: u32,
    /// Newest first.
    #[serde(rename = "overview")]
    lines: Vec<Line>,
    /// What limits the answer.
    notes: Vec<String>,
}

/// A unit with denials.
#[derive(Debug, Serialize)]
struct Line {
    /// Its name; null for processes whose unit is not known.
    unit: Option<String>,
    /// `system`, or `user:UID`.
    manager: Option<String>,
    /// Different denials.
    incidents: u64,
    /// Sightings of them.
    count: u64,
    /// The latest, RFC 3339.
    last: Option<String>,
    #[serde(skip)]
    shown: Option<String>,
    #[serde(skip)]
    ago: Option<String>,
}

/// Asks for every unit with denials.
///
/// # Errors
/// A time is none, or there is nobody to ask.
pub(super) async fn overview(cli: &Cli, clock: &Clock) -> anyhow::Result<Overview> {
    let scope = scope(&cli.units, clock)?;
    let (source, mut notes) = Source::open(&cli.common).await?;
    notes.extend(unheard(&source, clock).await);
    let lines = source.units(scope).await?.iter().map(|summary| Line::new(summary, clock)).collect();
    Ok(Overview { schema: SCHEMA, lines, notes })
}

impl Line {
    fn new(UnitSummary { unit, incidents, count, last }: &UnitSummary, clock: &Clock) -> Self {
        Self {
            unit: unit.as_ref().map(|unit| unit.name.to_string()),
            manager: unit.as_ref().map(|unit| unit.manager.to_string()),
            incidents: *incidents,
            count: *count,
            last: moment(last),
            shown: clock.show(last),
            ago: clock.ago(last),
        }
    }
}

impl Reply for Overview {
    fn page(&self) -> String {
        let mut page = Page::default();
        if self.lines.is_empty() {
            page.line("No denials are known.");
        } else {
            page.line(styled(BOLD, "Units with denials, newest first"));
            for line in &self.lines {
                page.gap();
                let unit = line.unit.as_deref().unwrap_or("unit unknown");
                let whose = line
                    .manager
                    .as_deref()
                    .map_or_else(String::new, |manager| format!(" ({})", render::whose(manager)));
                page.line(format_args!("{}{}", styled(BOLD, unit), styled(DIM, whose)));
                let last = line.shown.as_ref().map_or_else(String::new, |last| format!(", last {last}"));
                let ago = line.ago.as_ref().map_or_else(String::new, |ago| format!(", {ago}"));
                let what =
                    format!("{}, seen {}{last}{ago}", plural(line.incidents, "denial"), render::times(line.count));
                page.paragraph(2, &what);
            }
            page.gap();
            page.line("'harden-why UNIT' tells why, and what to change.");
            if self.lines.iter().any(|line| line.unit.is_none()) {
                page.line("'harden-why --unknown' tells what is known of processes whose unit is not.");
            }
        }
        render::notes(&mut page, &self.notes);
        page.finish()
    }

    fn found(&self) -> bool {
        !self.lines.is_empty()
    }
}
