//! Tests against the running kernel, a real systemd, a real journald and real buses. Most require root.
//!
//! A test says why it is skipped; with `HARDEN_WHY_REQUIRE_KERNEL=1` that is a failure.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

mod apply;
mod apply_again;
mod attribution_hostile;
mod bisect;
mod bus;
mod call_sites;
mod causes;
mod daemon;
mod disclosure;
mod exit_status;
mod failures;
mod filter_in_force;
mod fixed;
mod journal;
mod journal_entries;
mod kernel;
mod live_screens;
mod live_tables;
mod log_refusals;
mod no_audit;
mod odd_managers;
mod outages;
mod overview;
mod own_bus;
mod proc_events;
mod real_systemd;
mod rehearse;
mod rehearse_accesses;
mod unit_names;

#[path = "../support"]
mod support {
    pub(crate) mod actor;
    pub(crate) mod bus;
    pub(crate) mod child;
    #[expect(dead_code, reason = "other programs need more of it")]
    pub(crate) mod daemon;
    pub(crate) mod denied;
    pub(crate) mod exit_status;
    pub(crate) mod listener;
    pub(crate) mod manager;
    pub(crate) mod nobody;
    pub(crate) mod placed;
    pub(crate) mod program;
    pub(crate) mod random;
    pub(crate) mod screen;
    #[expect(dead_code, reason = "other programs need more of it")]
    pub(crate) mod skip;
    #[expect(dead_code, reason = "other programs need more of it")]
    pub(crate) mod terminal;
}
