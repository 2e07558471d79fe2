//! Calls as they come: on a terminal a table with counts and a line that tells how long it takes, elsewhere a line for
//! each new call.

use crate::audit::text::plural;
use crate::cli::terminal::output::warn;
use crate::cli::terminal::page::{BOLD, DIM, WARN, styled};
use crate::incidents::Incident;
use crate::operations::rehearsal::preflight::Plan;
use crate::operations::rehearsal::watch::Observer;
use crate::policy::{Policy, Verdict};
use anstream::ColorChoice;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io;
use std::io::IsTerminal as _;

/// How many calls have a row of their own.
const ROWS: usize = 20;

/// What is shown meanwhile.
pub(crate) struct Show {
    /// By the call, with how often it came.
    counts: BTreeMap<String, u64>,
    policy: Policy,
    table: Option<Table>,
    color: ColorChoice,
    /// Nobody looks but a program.
    silent: bool,
}

struct Table {
    bars: MultiProgress,
    rows: BTreeMap<String, ProgressBar>,
    time: ProgressBar,
}

impl Show {
    /// Of a rehearsal that begins now.
    pub(crate) fn of(plan: &Plan, color: ColorChoice, silent: bool) -> Self {
        let name = &plan.unit.name;
        let table = (!silent && io::stderr().is_terminal()).then(|| Table::new(name.as_str()));
        let show = Self { counts: BTreeMap::new(), policy: plan.situation.policy.clone(), table, color, silent };
        if show.table.is_none() && !silent {
            show.say(&format!("{name} is being rehearsed"));
        }
        show
    }

    /// Ends it: the calls stay to be read.
    pub(crate) fn finish(self) {
        let Some(table) = self.table else { return };
        table.rows.values().for_each(ProgressBar::finish);
        table.time.finish_and_clear();
    }
}

impl Observer for Show {
    /// Takes note of the calls so far; whether one of them is new.
    fn calls(&mut self, incidents: &[Incident]) -> bool {
        let mut counts: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for incident in incidents {
            let Some(denial) = incident.denial() else { continue };
            let (count, _) = counts
                .entry(denial.call.to_string())
                .or_insert_with(|| (0, why(&self.policy, denial.call.abi().zip(denial.call.name()))));
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

    /// Brings the time up to date.
    fn tick(&self) {
        if let Some(table) = &self.table {
            table.time.tick();
        }
    }

    /// Says something beside.
    fn say(&self, what: &str) {
        match &self.table {
            Some(table) => table.bars.suspend(|| warn(self.color, what)),
            None => warn(self.color, what),
        }
    }
}

impl Table {
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
    // A template that is wrong would show in every test of the terminal.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// What the unit's own settings do to a call.
fn why(policy: &Policy, call: Option<(crate::syscalls::Abi, &str)>) -> String {
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
