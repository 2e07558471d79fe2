//! The progress of a rehearsal. On a terminal: a table of calls with counts, and the elapsed time. Elsewhere: one line
//! per new call.

use crate::audit::text::plural;
use crate::cli::terminal::output::warn;
use crate::cli::terminal::page::{BOLD, DIM, WARN, styled};
use crate::incidents::Incident;
use crate::operations::rehearsal::feed::RehearsalObserver;
use crate::operations::rehearsal::plan::RehearsalPlan;
use crate::policy::{Policy, Verdict};
use crate::syscalls::Abi;
use anstream::ColorChoice;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io;
use std::io::IsTerminal as _;

/// The most calls with a row of their own.
const ROWS: usize = 20;

/// The progress of a rehearsal on the terminal.
pub(crate) struct RehearsalProgress {
    /// The unit's name.
    name: String,
    /// The number of sightings of each call.
    counts: BTreeMap<String, u64>,
    policy: Policy,
    table: Option<ProgressTable>,
    color: ColorChoice,
    /// Whether only a program reads the output.
    silent: bool,
}

struct ProgressTable {
    bars: MultiProgress,
    rows: BTreeMap<String, ProgressBar>,
    time: ProgressBar,
}

impl RehearsalProgress {
    /// The progress of a rehearsal that has not begun.
    pub(crate) fn new(plan: &RehearsalPlan, color: ColorChoice, silent: bool) -> Self {
        let (name, policy) = (plan.unit.name.to_string(), plan.situation.policy.clone());
        Self { name, counts: BTreeMap::new(), policy, table: None, color, silent }
    }
}

impl RehearsalObserver for RehearsalProgress {
    fn start(&mut self) {
        self.table = (!self.silent && io::stderr().is_terminal()).then(|| ProgressTable::new(&self.name));
        if self.table.is_none() && !self.silent {
            self.say(&format!("{} is being rehearsed", self.name));
        }
    }

    fn show_calls(&mut self, incidents: &[Incident]) -> bool {
        let mut counts: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for incident in incidents {
            let Some(denial) = incident.denial() else { continue };
            let (count, _) = counts
                .entry(denial.call.to_string())
                .or_insert_with(|| (0, describe_verdict(&self.policy, denial.call.abi().zip(denial.call.name()))));
            *count += incident.count;
        }
        let mut new = false;
        for (call, (count, why)) in counts {
            let before = self.counts.insert(call.clone(), count);
            new |= before.is_none();
            match &mut self.table {
                Some(table) if before != Some(count) => table.row(&call, count, &why),
                None if before.is_none() && !self.silent => self.say(&format!("{call}: {why}")),
                _ => {}
            }
        }
        if let Some(table) = &self.table {
            let times = self.counts.values().sum();
            let more = self.counts.len().saturating_sub(ROWS);
            let more = if more > 0 { format!(" ({more} not shown)") } else { String::new() };
            let calls = plural(self.counts.len() as u64, "call");
            table.time.set_message(format!("{calls}{more}, {}; Ctrl-C ends it", plural(times, "sighting")));
        }
        new
    }

    fn tick(&self) {
        if let Some(table) = &self.table {
            table.time.tick();
        }
    }

    fn say(&self, message: &str) {
        match &self.table {
            Some(table) => table.bars.suspend(|| warn(self.color, message)),
            None => warn(self.color, message),
        }
    }

    fn finish(&mut self) {
        let Some(table) = self.table.take() else { return };
        table.rows.values().for_each(ProgressBar::finish);
        table.time.finish_and_clear();
    }
}

impl ProgressTable {
    fn new(name: &str) -> Self {
        let bars = MultiProgress::new();
        let time = bars.add(ProgressBar::new_spinner());
        time.set_style(style("{elapsed_precise} {msg}"));
        time.set_message(format!("{name} is being rehearsed; Ctrl-C ends it"));
        time.tick();
        Self { bars, rows: BTreeMap::new(), time }
    }

    fn row(&mut self, call: &str, count: u64, why: &str) {
        if !self.rows.contains_key(call) {
            if self.rows.len() >= ROWS {
                return;
            }
            let row = self.bars.insert_before(&self.time, ProgressBar::new_spinner());
            row.set_style(style("{msg}"));
            self.rows.insert(call.to_owned(), row);
        }
        if let Some(row) = self.rows.get(call) {
            row.set_message(format!("{count:>8}  {} {}", styled(BOLD, call), styled(DIM, why)));
            row.tick();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // Tests on a terminal would show a wrong template.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Describes what the unit's own settings do to a call.
fn describe_verdict(policy: &Policy, call: Option<(Abi, &str)>) -> String {
    let Some((abi, name)) = call else { return "it has no name here".to_owned() };
    match policy.verdict(abi, name) {
        Verdict::Denied { effect, by, .. } => {
            let by = by.first().map_or("", |cause| cause.directive.key());
            format!("{by}= would have answered {effect}").replace("answered kill", "killed for it")
        }
        Verdict::Possible { by } => {
            let by = by.first().map_or("", |cause| cause.directive.key());
            styled(WARN, format_args!("{by}= might have denied it"))
        }
        Verdict::Permitted | Verdict::LogOnly { .. } => "the unit's settings permit it".to_owned(),
    }
}
