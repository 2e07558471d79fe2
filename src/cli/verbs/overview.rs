//! `harden-why`: a table of the units with denials, newest first.

pub(crate) mod examined;
pub(crate) mod silent;
pub(crate) mod table;

use crate::audit::Note;
use crate::audit::text::{plural, quote_arguments};
use crate::cli::args::Cli;
use crate::cli::exit_status::ExitStatus;
use crate::cli::lookup::context::Context;
use crate::cli::lookup::incident_source::{IncidentScope, OtherSource};
use crate::cli::lookup::unit_names::parse_scope;
use crate::cli::terminal::clock::local_time_now;
use crate::cli::terminal::output::SCHEMA;
use crate::cli::terminal::output::{Detail, Reply};
use crate::cli::terminal::page::{Page, add_notes};
use crate::cli::terminal::words::describe_unit;
use crate::incidents::UnitSummary;
use crate::incidents::local_time::{LocalTime, moment};
use crate::systemd::manager::Managers;
use crate::units::{Unit, UnitName};
use examined::{DenialState, ExaminedUnit, IncidentTimes, MOST_EXAMINED, examine};
use serde::Serialize;
use silent::{LoadedUnits, SilentUnit, SilentUnits};
use table::{Row, add_table};

/// The units with denials.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    schema: u32,
    /// Newest first.
    #[serde(rename = "overview")]
    lines: Vec<OverviewLine>,
    /// The units that can refuse calls without a record; those with a filter first.
    #[serde(serialize_with = "units")]
    silent: SilentUnits,
    /// What limits the answer.
    notes: Vec<Note>,
    /// Whether the caller may see the denials of their own units only.
    #[serde(skip)]
    own_units_only: bool,
    /// Whether the page shows fixed units, and names all units that can be refused calls without a record.
    #[serde(skip)]
    all: bool,
    /// The most rows of the table.
    #[serde(skip)]
    most: usize,
    /// Whether the page says more than the table's rows.
    #[serde(skip)]
    has_legend: bool,
}

fn units<S: serde::Serializer>(silent: &SilentUnits, serializer: S) -> Result<S::Ok, S::Error> {
    silent.units.serialize(serializer)
}

/// A unit with denials.
#[derive(Debug, Clone, Serialize)]
struct OverviewLine {
    /// The unit's name; null for processes of an unknown unit.
    unit: Option<String>,
    /// `system`, or `user:UID`.
    manager: Option<String>,
    /// The number of incidents.
    incidents: u64,
    /// The number of sightings.
    count: u64,
    /// The latest sighting, RFC 3339.
    last: Option<String>,
    /// The state now; null if the unit is unknown or its manager does not answer.
    state: Option<DenialState>,
    /// The denied calls, newest first.
    calls: Vec<String>,
    /// `FILE:LINE` of the settings that decided, or words in their place.
    decided_by: Vec<String>,
    /// The times of each incident.
    times: Vec<IncidentTimes>,
    /// The directives that can refuse calls without a record, according to its manager.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silent: Vec<&'static str>,
    /// The latest sighting as the table shows it.
    #[serde(skip)]
    shown: String,
}

/// Lists every unit with denials.
///
/// # Errors
/// `--since` is not a time, or the incident source fails.
pub(crate) async fn overview(cli: &Cli, clock: &LocalTime) -> anyhow::Result<Overview> {
    let scope = parse_scope(&cli.units, clock)?;
    let all = cli.units.all;
    let look_up = async {
        let context = Context::open(&cli.common, &cli.units.source, OtherSource::ExplainLog).await?;
        let lines = list_lines(&context, scope, all).await?;
        Ok((context, lines))
    };
    let ((context, mut lines), loaded) =
        tokio::try_join!(look_up, async { anyhow::Ok(query_loaded(cli, scope).await) })?;
    let silent = SilentUnits::find_in(loaded, context.groups());
    let known = lines.len();
    let most = cli.units.lines.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    if cli.common.is_json() {
        lines.truncate(most);
    }
    for line in &mut lines {
        let found = line.unit.as_deref().zip(line.manager.as_deref());
        let silent: Option<&SilentUnit> = found.and_then(|(unit, manager)| silent.find(unit, manager));
        line.silent = silent.map_or_else(Vec::new, |silent| silent.directives.clone());
    }
    let hidden = context.hidden_incidents_note(scope.managers);
    let own_units_only = hidden.is_some();
    let evicted = context.eviction_note(scope.times.since);
    let mut notes = context.notes;
    notes.extend(silent.notes.iter().cloned());
    notes.extend(hidden.into_iter().chain(evicted));
    notes.extend(unexamined_note(known, all));
    Ok(Overview { schema: SCHEMA, lines, silent, notes, own_units_only, all, most, has_legend: !cli.units.no_legend })
}

/// Notes that the state of the units with the oldest denials is unknown, since nobody asked for it.
fn unexamined_note(units: usize, all: bool) -> Option<Note> {
    let left = units.saturating_sub(MOST_EXAMINED);
    (left > 0 && !all).then(|| {
        let units = plural(left as u64, "unit");
        let text =
            format!("the state of the {units} with the oldest denials was not looked up: 'harden-why --all' does");
        Note::new("units-not-examined", text)
    })
}

/// Asks the managers for their loaded units, unless neither the page nor stderr would show those that can refuse calls
/// without a record: it takes a query for each unit.
async fn query_loaded(cli: &Cli, scope: IncidentScope) -> Vec<LoadedUnits> {
    if cli.units.no_legend && cli.common.quiet && !cli.common.is_json() {
        return Vec::new();
    }
    LoadedUnits::query(&Managers::new(&cli.common.bus), scope.managers).await
}

async fn list_lines(context: &Context, scope: IncidentScope, all: bool) -> anyhow::Result<Vec<OverviewLine>> {
    let summaries = context.incidents.units(scope).await?;
    if summaries.is_empty() {
        return Ok(Vec::new());
    }
    let incidents = context.incidents.all_incidents(scope).await?.incidents;
    let units: Vec<Option<Unit>> = summaries.iter().map(|summary| summary.unit.clone()).collect();
    let examined = examine(context, &units, incidents, all).await;
    let lines = summaries.iter().zip(examined);
    Ok(lines.map(|(summary, examined)| OverviewLine::new(summary, examined, &local_time_now())).collect())
}

impl OverviewLine {
    fn new(summary: &UnitSummary, examined: ExaminedUnit, clock: &LocalTime) -> Self {
        let UnitSummary { unit, incidents, count, last } = summary;
        let ExaminedUnit { state, calls, decided_by, times } = examined;
        Self {
            unit: unit.as_ref().map(|unit| unit.name.to_string()),
            manager: unit.as_ref().map(|unit| unit.manager.to_string()),
            incidents: *incidents,
            count: *count,
            last: moment(last),
            state,
            calls,
            decided_by,
            times,
            silent: Vec::new(),
            shown: clock.short_ago(last).or_else(|| clock.show(last)).unwrap_or_else(|| "-".to_owned()),
        }
    }

    /// The template of an instance.
    fn template(&self) -> Option<UnitName> {
        self.unit.as_deref()?.parse::<UnitName>().ok()?.template_name()
    }

    fn row(&self) -> Row {
        let named = self.unit.as_deref().zip(self.manager.as_deref());
        Row {
            unit: named.map_or_else(|| "unit unknown".to_owned(), |(unit, manager)| describe_unit(unit, manager)),
            name: self.unit.clone(),
            state: self.state,
            calls: self.calls.clone(),
            count: self.count,
            last: self.shown.clone(),
            decided_by: self.decided_by.clone(),
        }
    }
}

/// Lines of one unit, or of all instances of a template, newest first.
type FoldedLines<'a> = Vec<&'a OverviewLine>;

impl Overview {
    /// Folds the instances of each template, in the order of the newest denial.
    fn fold_lines(&self) -> Vec<FoldedLines<'_>> {
        let mut folded: Vec<FoldedLines<'_>> = Vec::new();
        for line in &self.lines {
            let template = line.template();
            let is_same = |lines: &&mut FoldedLines<'_>| {
                let newest = lines.first().filter(|newest| newest.manager == line.manager);
                template.is_some() && newest.is_some_and(|newest| newest.template() == template)
            };
            match folded.iter_mut().find(is_same) {
                Some(lines) => lines.push(line),
                None => folded.push(vec![line]),
            }
        }
        folded
    }

    /// Returns the notes that the page leaves out.
    pub(crate) fn notes_off_page(&self) -> &[Note] {
        if self.has_legend { &[] } else { &self.notes }
    }

    /// Returns the rows of the table, and how many fixed units it leaves out.
    fn rows(&self, detail: Detail) -> (Vec<Row>, usize) {
        let is_fixed = |row: &Row| row.state == Some(DenialState::Fixed);
        let rows: Vec<Row> = if detail == Detail::Full {
            self.lines.iter().map(OverviewLine::row).collect()
        } else {
            self.fold_lines().iter().filter_map(|lines| fold_rows(lines)).collect()
        };
        let (fixed, open): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| !self.all && is_fixed(row));
        (open, fixed.len())
    }
}

/// Adds the command that explains the newest of the rows.
fn add_next_command(page: &mut Page, rows: &[Row]) {
    if let Some(name) = rows.iter().find_map(|row| row.name.as_ref()) {
        page.gap();
        page.line("Why, and what to change:");
        page.line(format_args!("  harden-why {}", quote_arguments([&**name])));
    }
    if rows.iter().any(|row| row.name.is_none()) {
        page.gap();
        page.line("Processes of unknown units:");
        page.line("  harden-why --unknown");
    }
}

/// Returns the row of a unit, or one for all instances of a template: in the worst state of any of them.
fn fold_rows(lines: &[&OverviewLine]) -> Option<Row> {
    let (newest, others) = lines.split_first()?;
    let mut row = newest.row();
    if let Some(template) = newest.template().filter(|_| !others.is_empty()) {
        let manager = newest.manager.as_deref().unwrap_or_default();
        row.unit = format!("{} ({})", describe_unit(template.as_str(), manager), lines.len());
        row.name = Some(template.to_string());
    }
    for other in others {
        row.count = row.count.saturating_add(other.count);
        row.state = match (row.state, other.state) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        for (list, more) in [(&mut row.calls, &other.calls), (&mut row.decided_by, &other.decided_by)] {
            for text in more {
                if !list.contains(text) {
                    list.push(text.clone());
                }
            }
        }
    }
    Some(row)
}

impl Reply for Overview {
    fn page(&self, detail: Detail) -> String {
        let mut page = Page::default();
        let (mut rows, fixed) = self.rows(detail);
        let left_out = rows.len().saturating_sub(self.most);
        rows.truncate(self.most);
        if !self.has_legend {
            add_table(&mut page, &rows, false, detail == Detail::Full);
            return page.finish();
        }
        match (self.lines.is_empty(), rows.is_empty()) {
            (true, _) if self.own_units_only => {
                page.paragraph(0, "No denials of your own units. You may not see those of others.");
            }
            (true, _) => page.line("No denials."),
            (false, true) => page.line("All denials are fixed."),
            (false, false) => add_table(&mut page, &rows, true, detail == Detail::Full),
        }
        page.gap();
        if left_out > 0 {
            page.line(format_args!("{} left out by --lines.", plural(left_out as u64, "older row")));
        }
        if fixed > 0 {
            let verb = if fixed == 1 { "is" } else { "are" };
            let units = plural(fixed as u64, "fixed unit");
            page.paragraph(0, &format!("{units} {verb} not shown: 'harden-why --all' lists them."));
        }
        self.silent.add_to_page(&mut page, self.all);
        add_next_command(&mut page, &rows);
        add_notes(&mut page, &self.notes);
        page.finish()
    }

    fn exit_status(&self) -> ExitStatus {
        let is_open = |line: &OverviewLine| line.state != Some(DenialState::Fixed);
        match (self.lines.is_empty(), self.own_units_only) {
            (false, _) if self.lines.iter().any(is_open) => ExitStatus::Found,
            (true, true) => ExitStatus::NoRights,
            (false, _) | (true, false) => ExitStatus::Done,
        }
    }
}
