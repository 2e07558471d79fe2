//! `harden-why`: lists the units with denials, newest first, and those that can refuse calls without a record.

pub(crate) mod silent;

use crate::audit::Note;
use crate::audit::text::plural;
use crate::cli::args::Cli;
use crate::cli::exit_status::ExitStatus;
use crate::cli::lookup::context::Context;
use crate::cli::lookup::unit_names::parse_scope;
use crate::cli::terminal::output::{Detail, Reply};
use crate::cli::terminal::page::{BOLD, DIM, Page, WARN, add_notes, styled};
use crate::cli::terminal::words::{count_times, describe_manager};
use crate::cli::views::answer::SCHEMA;
use crate::incidents::UnitSummary;
use crate::incidents::local_time::{LocalTime, moment};
use crate::units::UnitName;
use serde::Serialize;
use silent::{SilentUnit, SilentUnits};

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
    /// Whether the page names all units.
    #[serde(skip)]
    all: bool,
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
    /// The directives that can refuse calls without a record, according to its manager.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silent: Vec<&'static str>,
    /// Whether `SystemCallFilter=` is one of them.
    #[serde(skip)]
    marked: bool,
    #[serde(skip)]
    shown: Option<String>,
    #[serde(skip)]
    ago: Option<String>,
}

/// Lists every unit with denials.
///
/// # Errors
/// `--since` is not a time, or the incident source fails.
pub(crate) async fn overview(cli: &Cli, clock: &LocalTime) -> anyhow::Result<Overview> {
    let scope = parse_scope(&cli.units, clock)?;
    let context = Context::open(&cli.common, &cli.units.source, clock).await?;
    let units = context.incidents.units(scope).await?;
    let mut lines: Vec<OverviewLine> = units.iter().map(|summary| OverviewLine::new(summary, clock)).collect();
    let silent = SilentUnits::query(&context.managers, scope.managers, clock).await;
    for line in &mut lines {
        let found = line.unit.as_deref().zip(line.manager.as_deref());
        line.mark(found.and_then(|(unit, manager)| silent.find(unit, manager)));
    }
    let hidden = context.hidden_incidents_note(scope.managers);
    let own_units_only = hidden.is_some();
    let evicted = context.eviction_note(scope.since);
    let mut notes = context.notes;
    notes.extend(silent.notes.iter().cloned());
    notes.extend(hidden.into_iter().chain(evicted));
    Ok(Overview { schema: SCHEMA, lines, silent, notes, own_units_only, all: cli.units.all })
}

impl OverviewLine {
    fn new(UnitSummary { unit, incidents, count, last }: &UnitSummary, clock: &LocalTime) -> Self {
        Self {
            unit: unit.as_ref().map(|unit| unit.name.to_string()),
            manager: unit.as_ref().map(|unit| unit.manager.to_string()),
            incidents: *incidents,
            count: *count,
            last: moment(last),
            silent: Vec::new(),
            marked: false,
            shown: clock.show(last),
            ago: clock.ago(last),
        }
    }

    /// The template of an instance.
    fn template(&self) -> Option<UnitName> {
        self.unit.as_deref()?.parse::<UnitName>().ok()?.template_name()
    }

    fn mark(&mut self, silent: Option<&SilentUnit>) {
        self.silent = silent.map_or_else(Vec::new, |silent| silent.directives.clone());
        self.marked = silent.is_some_and(|silent| silent.is_filtered() && !silent.recorded);
    }
}

/// A line of the page: a unit, or the instances of a template.
struct PageLine {
    /// The unit, or the instance with the newest denial and the sightings of all.
    line: OverviewLine,
    instances: usize,
}

impl Overview {
    /// Returns the lines, with one for all instances of a template, in the order of the newest denial.
    fn page_lines(&self) -> Vec<PageLine> {
        let mut shown: Vec<PageLine> = Vec::new();
        for line in &self.lines {
            let template = line.template();
            let same = |one: &&mut PageLine| {
                template.is_some() && one.line.template() == template && one.line.manager == line.manager
            };
            match shown.iter_mut().find(same) {
                Some(one) => {
                    one.instances += 1;
                    one.line.count = one.line.count.saturating_add(line.count);
                    one.line.marked |= line.marked;
                }
                None => shown.push(PageLine { line: line.clone(), instances: 1 }),
            }
        }
        shown
    }
}

impl Reply for Overview {
    fn page(&self, _: Detail) -> String {
        let mut page = Page::default();
        if self.lines.is_empty() {
            page.line(if self.own_units_only {
                "No denials of your own units are known. You may not see those of others."
            } else {
                "No denials are known."
            });
        } else {
            page.line(styled(BOLD, "Units with denials, newest first"));
            for PageLine { line, instances } in self.page_lines() {
                page.gap();
                let unit = match (line.unit.as_deref(), line.template()) {
                    (Some(_), Some(template)) if instances > 1 => {
                        format!("{template}, {}", plural(instances as u64, "instance"))
                    }
                    (unit, _) => unit.unwrap_or("unit unknown").to_owned(),
                };
                let whose = line
                    .manager
                    .as_deref()
                    .map_or_else(String::new, |manager| format!(" ({})", describe_manager(manager)));
                let mark = if line.marked {
                    styled(WARN, ", and can be refused more without a record")
                } else {
                    String::new()
                };
                page.line(format_args!("{}{}{mark}", styled(BOLD, unit), styled(DIM, whose)));
                let last = line.shown.as_ref().map_or_else(String::new, |last| format!(", last {last}"));
                let ago = line.ago.as_ref().map_or_else(String::new, |ago| format!(", {ago}"));
                // The instances of a template usually have the same denials.
                let denials = if instances > 1 { String::new() } else { plural(line.incidents, "denial") + ", " };
                let what = format!("{denials}seen {}{last}{ago}", count_times(line.count));
                page.paragraph(2, &what);
            }
            page.gap();
            page.line("'harden-why UNIT' tells why, and what to change.");
            if self.lines.iter().any(|line| line.unit.is_none()) {
                page.line("'harden-why --unknown' tells what is known of processes whose unit is not.");
            }
        }
        self.silent.add_to_page(&mut page, self.all);
        add_notes(&mut page, &self.notes);
        page.finish()
    }

    fn exit_status(&self) -> ExitStatus {
        match (self.lines.is_empty(), self.own_units_only) {
            (false, _) => ExitStatus::Found,
            (true, true) => ExitStatus::NoRights,
            (true, false) => ExitStatus::Done,
        }
    }
}
