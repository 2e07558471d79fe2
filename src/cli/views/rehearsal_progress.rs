//! The progress of a rehearsal. On a terminal: a table of calls, and the elapsed time. Elsewhere: one line per new call.

use super::progress_words::{describe_end, describe_place, describe_place_of_access, describe_time, time_of_day};
use crate::audit::text::plural;
use crate::cli::terminal::live_table::{LiveRow, LiveTable};
use crate::cli::terminal::output::warn;
use crate::cli::terminal::words::count_times;
use crate::incidents::local_time::LocalTime;
use crate::incidents::{AccessDenial, Incident, Moment, describe_access, name_access};
use crate::operations::rehearsal::feed::RehearsalObserver;
use crate::operations::rehearsal::plan::{Limits, RehearsalPlan};
use crate::policy::{Policy, Verdict};
use crate::syscalls::{Abi, Call};
use anstream::ColorChoice;
use std::collections::BTreeMap;
use std::time::Instant;

/// The progress of a rehearsal on the terminal.
pub(crate) struct RehearsalProgress {
    /// The unit's name.
    name: String,
    calls: BTreeMap<String, SeenCall>,
    policy: Policy,
    limits: Limits,
    begun: Instant,
    /// When the latest call was seen for the first time.
    latest_new: Instant,
    /// Whether the unit gets its own settings back.
    is_ending: bool,
    table: Option<LiveTable>,
    color: ColorChoice,
    clock: LocalTime,
    /// Whether only a program reads the output.
    silent: bool,
}

/// A call that the rehearsed unit made.
#[derive(Debug, Clone, PartialEq)]
struct SeenCall {
    call: Call,
    /// What it could not reach; `None` if a filter decides about it.
    access: Option<AccessDenial>,
    count: u64,
    first: Option<i64>,
}

impl RehearsalProgress {
    /// The progress of a rehearsal that has not begun.
    pub(crate) fn new(plan: &RehearsalPlan, color: ColorChoice, silent: bool, clock: LocalTime) -> Self {
        Self {
            name: plan.target.unit.name.to_string(),
            calls: BTreeMap::new(),
            policy: plan.target.situation.policy.clone(),
            limits: plan.limits,
            begun: Instant::now(),
            latest_new: Instant::now(),
            is_ending: false,
            table: None,
            color,
            clock,
            silent,
        }
    }

    fn draw(&mut self) {
        let Some(table) = &mut self.table else { return };
        let mut calls: Vec<(&String, &SeenCall)> = self.calls.iter().collect();
        calls.sort_by_key(|(_, seen)| seen.first);
        let rows: Vec<LiveRow> = calls
            .into_iter()
            .map(|(name, seen)| LiveRow {
                call: name.clone(),
                count: seen.count,
                first: time_of_day(seen.first, &self.clock),
                decided_by: match &seen.access {
                    Some(access) => describe_place_of_access(&self.policy, access),
                    None => describe_place(&self.policy, &seen.call),
                },
            })
            .collect();
        let times = self.calls.values().map(|seen| seen.count).fold(0, u64::saturating_add);
        let seen = match rows.len() {
            0 => "no call yet that its settings deny".to_owned(),
            calls => format!("{}, {}", plural(calls as u64, "call"), count_times(times)),
        };
        let idle = self.limits.idle.map(|idle| (self.latest_new.elapsed(), idle));
        let end = if self.is_ending {
            format!("{} stops and gets its own settings back", self.name)
        } else {
            describe_end(self.limits.time, idle)
        };
        let last = format!("{}: {seen}; {end}", describe_time(self.begun.elapsed()));
        table.show(&format!("Rehearsing {}: all calls are allowed and recorded", self.name), &rows, &last);
    }
}

impl RehearsalObserver for RehearsalProgress {
    fn start(&mut self) {
        (self.begun, self.latest_new) = (Instant::now(), Instant::now());
        self.table = if self.silent { None } else { LiveTable::open(self.color) };
        if self.table.is_none() && !self.silent {
            warn(self.color, &format!("{} is being rehearsed", self.name));
        }
        self.draw();
    }

    fn show_calls(&mut self, incidents: &[Incident]) -> bool {
        let mut calls: BTreeMap<String, SeenCall> = BTreeMap::new();
        for incident in incidents {
            let Some(call) = incident.call() else { continue };
            let first = if let Moment::At(millis) = incident.first { Some(millis) } else { None };
            let access = incident.access().cloned();
            let name = match &access {
                Some(access) => format!("{call} ({})", name_access(&access.access)),
                None => call.to_string(),
            };
            let seen = calls.entry(name).or_insert_with(|| SeenCall { call: call.clone(), access, count: 0, first });
            seen.count += incident.count;
            seen.first = seen.first.into_iter().chain(first).min();
        }
        let mut is_new = false;
        for (name, seen) in calls {
            let before = self.calls.insert(name.clone(), seen.clone());
            is_new |= before.is_none();
            if before.is_none() && self.table.is_none() && !self.silent {
                let verdict = match &seen.access {
                    Some(access) => describe_access(&access.access),
                    None => describe_verdict(&self.policy, seen.call.abi().zip(seen.call.name())),
                };
                warn(self.color, &format!("{name}: {verdict}"));
            }
        }
        if is_new {
            self.latest_new = Instant::now();
        }
        is_new
    }

    fn tick(&mut self) {
        self.draw();
    }

    fn say(&mut self, message: &str) {
        match &mut self.table {
            Some(table) => table.print_above(|| warn(self.color, message)),
            None => warn(self.color, message),
        }
    }

    fn show_end(&mut self) {
        self.is_ending = true;
        self.draw();
    }

    fn finish(&mut self) {
        self.table = None;
    }
}

/// Describes what the unit's own settings do to a call.
fn describe_verdict(policy: &Policy, call: Option<(Abi, &str)>) -> String {
    let Some((abi, name)) = call else { return "this call has no name here".to_owned() };
    match policy.verdict(abi, name) {
        Verdict::Denied { effect, by, .. } => {
            let by = by.first().map_or("", |cause| cause.directive.key());
            format!("{by}= would have answered {effect}").replace("answered kill", "killed for it")
        }
        Verdict::Possible { by } => {
            let by = by.first().map_or("", |cause| cause.directive.key());
            format!("{by}= might have denied it")
        }
        Verdict::Permitted | Verdict::LogOnly { .. } => "the unit's settings permit it".to_owned(),
    }
}
