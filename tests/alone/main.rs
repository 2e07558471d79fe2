//! Tests that disturb others or that others disturb: floods of records, measurements, thousands of cgroups. They run one
//! after another, in a program of their own.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

mod exit_cgroups;
mod failed_calls;
mod idle;
mod killed;
mod listening_cost;
mod logged_storm;
mod lost_records;
mod own_filter;
mod quiet_units;
mod stopped;
mod swaps;
mod unread_log;

#[path = "../support"]
mod support {
    pub(crate) mod actor;
    pub(crate) mod bus;
    pub(crate) mod child;
    #[expect(dead_code, reason = "other programs need more of it")]
    pub(crate) mod daemon;
    pub(crate) mod denied;
    #[expect(dead_code, reason = "other programs need more of it")]
    pub(crate) mod manager;
    pub(crate) mod random;
    #[expect(dead_code, reason = "other programs need more of it")]
    pub(crate) mod skip;
}

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits until no other test of this program runs.
fn take_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
