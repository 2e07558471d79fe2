//! The progress of a tap on the terminal.

use super::progress_words::{describe_end, describe_place, describe_place_of_access, describe_time, time_of_day};
use super::tapped::{count_accesses, describe_totals};
use crate::cli::terminal::live_table::{LiveRow, LiveTable};
use crate::incidents::local_time::LocalTime;
use crate::incidents::{Incident, Moment};
use crate::operations::tap::refusals::UnitRefusal;
use crate::policy::Policy;
use crate::syscalls::Call;
use crate::units::Unit;
use anstream::ColorChoice;
use std::time::Duration;

/// A table of refused calls and denied accesses, removed at the end.
pub(crate) struct TapProgress {
    table: Option<LiveTable>,
    /// What is tapped, in words.
    title: String,
    /// The policies of the tapped units.
    policies: Vec<(Unit, Policy)>,
    clock: LocalTime,
}

impl TapProgress {
    /// Shows progress on stderr, if `wanted` and stderr is a terminal.
    pub(crate) fn new(
        wanted: bool,
        color: ColorChoice,
        targets: &[String],
        policies: Vec<(Unit, Policy)>,
        clock: LocalTime,
    ) -> Self {
        let table = if wanted { LiveTable::open(color) } else { None };
        let title = format!("Tapping {}: refused calls and failed accesses", targets.join(", "));
        Self { table, title, policies, clock }
    }

    /// Shows the refusals and the denied accesses so far, in the order in which they were first seen.
    pub(crate) fn show(
        &mut self,
        elapsed: Duration,
        most: Duration,
        so_far: impl FnOnce() -> (Vec<UnitRefusal>, Vec<Incident>),
    ) {
        let Self { table: Some(table), title, policies, clock } = self else { return };
        let (refusals, accesses) = so_far();
        let seen = describe_totals(
            &refusals.iter().map(|refusal| refusal.totals.count).collect::<Vec<_>>(),
            &count_accesses(&accesses),
        );
        let seen = seen.unwrap_or_else(|| "nothing refused yet".to_owned());
        let mut rows: Vec<(i64, LiveRow)> = Vec::new();
        let mut add = |unit: Option<&Unit>, call: &Call, count, first, place: &dyn Fn(&Policy) -> String| {
            let policy = policies.iter().find(|(known, _)| Some(known) == unit).map(|(_, policy)| policy);
            let decided_by = match (unit, policy) {
                (_, Some(policy)) => place(policy),
                (Some(unit), None) => format!("settings of {}", unit.name),
                (None, None) => "unit unknown".to_owned(),
            };
            let row = LiveRow { call: call.to_string(), count, first: time_of_day(Some(first), clock), decided_by };
            rows.push((first, row));
        };
        for UnitRefusal { unit, kind, totals, denied, .. } in &refusals {
            let call = Call::numbered(kind.arch, kind.number);
            let place = |policy: &Policy| match denied {
                Some(denied) => describe_place_of_access(policy, denied),
                None => describe_place(policy, &call),
            };
            add(unit.as_ref(), &call, totals.count, totals.first, &place);
        }
        for incident in &accesses {
            let (Some(denial), Moment::At(first)) = (incident.access(), &incident.first) else { continue };
            let place = |policy: &Policy| describe_place_of_access(policy, denial);
            add(incident.key.unit.as_ref(), &denial.call, incident.count, *first, &place);
        }
        rows.sort_by_key(|(first, _)| *first);
        let rows: Vec<LiveRow> = rows.into_iter().map(|(_, row)| row).collect();
        let last = format!("{}: {seen}; {}", describe_time(elapsed), describe_end(Some(most), None));
        table.show(title, &rows, &last);
    }
}
