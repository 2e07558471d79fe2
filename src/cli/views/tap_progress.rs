//! The progress of a tap on the terminal.

use super::progress_words::{describe_end, describe_place, describe_time, time_of_day};
use crate::audit::text::plural;
use crate::cli::terminal::live_table::{LiveRow, LiveTable};
use crate::cli::terminal::words::count_times;
use crate::incidents::local_time::LocalTime;
use crate::operations::tap::refusals::UnitRefusal;
use crate::policy::Policy;
use crate::syscalls::Call;
use crate::units::Unit;
use anstream::ColorChoice;
use std::time::Duration;

/// A table of refused calls, removed at the end.
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
        let title = format!("Tapping {}: calls that are refused with an error", targets.join(", "));
        Self { table, title, policies, clock }
    }

    /// Shows the refusals so far.
    pub(crate) fn show(&mut self, elapsed: Duration, most: Duration, refusals: impl FnOnce() -> Vec<UnitRefusal>) {
        let Self { table: Some(table), title, policies, clock } = self else { return };
        let mut refusals = refusals();
        refusals.sort_by_key(|refusal| refusal.totals.first);
        let count = refusals.iter().map(|refusal| refusal.totals.count).fold(0, u64::saturating_add);
        let seen = match refusals.len() {
            0 => "no call refused yet".to_owned(),
            calls => format!("{} refused, {}", plural(calls as u64, "call"), count_times(count)),
        };
        let row = |refusal: &UnitRefusal| {
            let call = Call::numbered(refusal.kind.arch, refusal.kind.number);
            let policy =
                policies.iter().find(|(unit, _)| Some(unit) == refusal.unit.as_ref()).map(|(_, policy)| policy);
            let decided_by = match (&refusal.unit, policy) {
                (_, Some(policy)) => describe_place(policy, &call),
                (Some(unit), None) => format!("settings of {}", unit.name),
                (None, None) => "unit unknown".to_owned(),
            };
            LiveRow {
                call: call.to_string(),
                count: refusal.totals.count,
                first: time_of_day(Some(refusal.totals.first), clock),
                decided_by,
            }
        };
        let rows: Vec<LiveRow> = refusals.iter().map(row).collect();
        let last = format!("{}: {seen}; {}", describe_time(elapsed), describe_end(Some(most), None));
        table.show(title, &rows, &last);
    }
}
