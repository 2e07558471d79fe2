//! The alerts of many machines, or the denials in their journals, as a table and as JSON.

use crate::audit::Note;
use crate::audit::text::{join_first, plural};
use crate::cli::exit_status::ExitStatus;
use crate::cli::lookup::fleet_alerts::{FleetAlerts, FleetKey, FleetRow, HostAlerts};
use crate::cli::terminal::output::SCHEMA;
use crate::cli::terminal::output::{Detail, Reply};
use crate::cli::terminal::page::{BAD, BOLD, DIM, GOOD, Page, columns, styled};
use crate::incidents::Moment;
use crate::incidents::local_time::{LocalTime, moment};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FleetCount {
    /// The alerts of harden-whyd.
    Alerts,
    /// The denials in the kernel's records, and deaths without a record.
    Denials,
}

impl FleetCount {
    /// The headings of the table.
    fn headings(self) -> [&'static str; 7] {
        let count = match self {
            Self::Alerts => "ALERTS",
            Self::Denials => "DENIALS",
        };
        ["UNIT", "DIRECTIVE", "DENIED", "HOSTS", count, "FIRST", "LAST"]
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Alerts => "alert",
            Self::Denials => "denial",
        }
    }
}

/// The most machines that the page names at once.
const NAMED: usize = 8;

/// The alerts of many machines.
#[derive(Debug, Serialize)]
pub(crate) struct FleetReport {
    schema: u32,
    /// The row with the newest alert first.
    fleet: Vec<FleetLine>,
    /// The machines with alerts.
    hosts: BTreeSet<String>,
    /// The number of alerts.
    alerts: u64,
    /// The number of alerts that no row counts, since there were too many different ones.
    left_out: u64,
    /// The number of incidents that only summaries count.
    without_alert: u64,
    /// What the table does not show.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<Note>,
    #[serde(skip)]
    count: FleetCount,
    /// How many rows `--lines` leaves out.
    #[serde(skip)]
    further: usize,
}

/// A call or an access that one directive denied to one unit.
#[derive(Debug, Serialize)]
struct FleetLine {
    unit: String,
    manager: String,
    directive: String,
    call: String,
    /// Of an access that failed: its kind, and what it could not reach.
    #[serde(skip_serializing_if = "String::is_empty")]
    access: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    withheld: String,
    alerts: u64,
    /// The first and the latest alert, RFC 3339.
    first: Option<String>,
    last: Option<String>,
    hosts: Vec<FleetHost>,
    /// The file and line that denied the call.
    origins: Vec<FleetVariant>,
    /// The lines of the default remedy.
    remedies: Vec<FleetVariant>,
    #[serde(skip)]
    shown: [String; 2],
}

/// A machine with alerts of a row.
#[derive(Debug, Serialize)]
struct FleetHost {
    host: String,
    alerts: u64,
    first: Option<String>,
    last: Option<String>,
}

/// The machines on which something is the same.
#[derive(Debug, Serialize)]
struct FleetVariant {
    lines: Vec<String>,
    hosts: BTreeSet<String>,
}

impl FleetReport {
    /// Makes the report of at most `most` rows.
    pub(crate) fn new(
        fleet: &FleetAlerts,
        count: FleetCount,
        notes: Vec<Note>,
        clock: &LocalTime,
        most: Option<u32>,
    ) -> Self {
        let mut rows: Vec<(&FleetKey, &FleetRow, HostAlerts)> =
            fleet.rows.iter().map(|(key, row)| (key, row, sum_hosts(row))).collect();
        rows.sort_by_key(|(_, _, all)| std::cmp::Reverse(all.last));
        let most = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        let further = rows.len().saturating_sub(most);
        rows.truncate(most);
        Self {
            schema: SCHEMA,
            fleet: rows.into_iter().map(|(key, row, all)| FleetLine::new(key, row, all, clock)).collect(),
            hosts: fleet.hosts.clone(),
            alerts: fleet.alerts,
            left_out: fleet.left_out,
            without_alert: fleet.without_alert,
            notes,
            count,
            further,
        }
    }

    fn is_empty(&self) -> bool {
        self.fleet.is_empty() && self.without_alert == 0
    }
}

fn sum_hosts(row: &FleetRow) -> HostAlerts {
    row.hosts.values().fold(HostAlerts { alerts: 0, first: u64::MAX, last: 0 }, |all, host| HostAlerts {
        alerts: all.alerts.saturating_add(host.alerts),
        first: all.first.min(host.first),
        last: all.last.max(host.last),
    })
}

fn at(micros: u64) -> Moment {
    Moment::At(i64::try_from(micros / 1_000).unwrap_or(i64::MAX))
}

fn variants(found: &BTreeMap<Vec<String>, BTreeSet<String>>) -> Vec<FleetVariant> {
    let mut variants: Vec<FleetVariant> =
        found.iter().map(|(lines, hosts)| FleetVariant { lines: lines.clone(), hosts: hosts.clone() }).collect();
    variants.sort_by_key(|variant| std::cmp::Reverse(variant.hosts.len()));
    variants
}

impl FleetLine {
    fn new(key: &FleetKey, row: &FleetRow, all: HostAlerts, clock: &LocalTime) -> Self {
        let FleetKey { unit, manager, directive, call, access, withheld } = key.clone();
        let hosts = row.hosts.iter().map(|(host, seen)| FleetHost {
            host: host.clone(),
            alerts: seen.alerts,
            first: moment(&at(seen.first)),
            last: moment(&at(seen.last)),
        });
        let show = |micros| clock.show(&at(micros)).unwrap_or_default();
        Self {
            unit,
            manager,
            directive,
            call,
            access,
            withheld,
            alerts: all.alerts,
            first: moment(&at(all.first)),
            last: moment(&at(all.last)),
            hosts: hosts.collect(),
            origins: variants(&row.origins),
            remedies: variants(&row.remedies),
            shown: [show(all.first), show(all.last)],
        }
    }

    fn cells(&self) -> [String; 7] {
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let [first, last] = self.shown.clone();
        let (hosts, alerts) = (self.hosts.len().to_string(), self.alerts.to_string());
        [or_dash(&self.unit_words()), or_dash(&self.directive), or_dash(&self.denied()), hosts, alerts, first, last]
    }

    /// Returns the unit, with its user: any user can have a unit of the name that a system unit has.
    fn unit_words(&self) -> String {
        match self.manager.strip_prefix("user:") {
            Some(uid) => format!("{} of user {uid}", self.unit),
            None => self.unit.clone(),
        }
    }

    /// Returns what was denied: the call, and what it could not reach.
    fn denied(&self) -> String {
        if self.withheld.is_empty() { self.call.clone() } else { format!("{}: {}", self.call, self.withheld) }
    }

    /// Adds what helps: one remedy for all machines, or one for each kind of settings.
    fn add_remedy(&self, page: &mut Page) {
        if self.remedies.is_empty() {
            return;
        }
        let denied = self.denied();
        let unit = self.unit_words();
        let what = if denied.is_empty() { &unit } else { &denied };
        let known: usize = self.remedies.iter().map(|variant| variant.hosts.len()).sum();
        page.gap();
        page.line(format_args!("{}: {}", styled(BOLD, &unit), styled(BAD, what)));
        let is_one = self.remedies.len() == 1 && known == self.hosts.len();
        for variant in &self.remedies {
            let whose = if is_one { "one remedy for all".to_owned() } else { name_hosts(&variant.hosts) };
            page.paragraph(2, &format!("{whose}:"));
            for line in &variant.lines {
                page.line(format_args!("    {}", styled(GOOD, format_args!("+ {line}"))));
            }
        }
        if self.origins.len() > 1 {
            page.paragraph(2, "The settings differ:");
            for variant in &self.origins {
                page.paragraph(4, &format!("{}: {}", variant.lines.join(", "), name_hosts(&variant.hosts)));
            }
        }
    }
}

fn name_hosts(hosts: &BTreeSet<String>) -> String {
    join_first(&hosts.iter().collect::<Vec<_>>(), NAMED)
}

impl Reply for FleetReport {
    fn page(&self, _: Detail) -> String {
        let mut page = Page::default();
        if self.is_empty() {
            page.line(match self.count {
                FleetCount::Alerts => "No alerts of harden-whyd in these journals.",
                FleetCount::Denials => "No denials in these journals.",
            });
        } else if !self.fleet.is_empty() {
            add_table(&mut page, self.count, &self.fleet);
        }
        for line in &self.fleet {
            line.add_remedy(&mut page);
        }
        for note in &self.notes {
            page.gap();
            page.item("note: ", &note.text);
        }
        if self.is_empty() {
            return page.finish();
        }
        page.gap();
        let noun = self.count.noun();
        let counts = format!("{} of {}", plural(self.alerts, noun), plural(self.hosts.len() as u64, "host"));
        let further = if self.further > 0 { format!(", {} more rows", self.further) } else { String::new() };
        let left_out =
            if self.left_out > 0 { format!(", {} left out: too many hosts", self.left_out) } else { String::new() };
        page.paragraph(0, &styled(DIM, format_args!("{counts}{further}{left_out}")));
        if self.without_alert > 0 {
            let incidents = plural(self.without_alert, "more denial");
            page.line(styled(
                DIM,
                format_args!("{incidents} without an alert of their own: run 'harden-why' on these hosts"),
            ));
        }
        page.finish()
    }

    fn exit_status(&self) -> ExitStatus {
        if self.is_empty() { ExitStatus::Done } else { ExitStatus::Found }
    }
}

/// Adds the table. Where it is too wide, the first times are left out, then each row has two lines.
fn add_table(page: &mut Page, count: FleetCount, lines: &[FleetLine]) {
    let rows: Vec<[String; 7]> = lines.iter().map(FleetLine::cells).collect();
    let headings = count.headings().map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().chain([&headings]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let all: Vec<usize> = (0..headings.len()).collect();
    let without_first: Vec<usize> = all.iter().copied().filter(|column| *column != 5).collect();
    let fits = |shown: &[usize]| shown.iter().map(|column| width(*column) + 2).sum::<usize>() <= columns() + 2;
    let Some(shown) = [all, without_first].into_iter().find(|shown| fits(shown)) else {
        for (line, [unit, directive, denied, ..]) in lines.iter().zip(&rows) {
            page.line(format_args!("{}  {directive}  {denied}", styled(BOLD, unit)));
            let (hosts, alerts) = (plural(line.hosts.len() as u64, "host"), plural(line.alerts, count.noun()));
            let [first, last] = &line.shown;
            page.paragraph(2, &format!("{hosts}, {alerts}, from {first} to {last}"));
        }
        return;
    };
    for (number, row) in [&headings].into_iter().chain(&rows).enumerate() {
        let cells = shown.iter().filter_map(|column| Some((row.get(*column)?, width(*column))));
        let line = cells.map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>().join("  ");
        let line = line.trim_end().to_owned();
        page.line(if number == 0 { styled(DIM, line) } else { line });
    }
}
