//! Tests that need neither root nor a manager: file trees, logs, the client's pages, the store, tables, documentation.
//!
//! A test that does more as root says which part it skips without.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

mod bad_unit_files;
mod call_sites;
mod cli;
mod cockpit;
mod completions;
mod exit_status;
mod failure_texts;
mod follow;
mod foreign_home;
mod forget;
mod journals;
mod json_failures;
mod manuals;
mod notices;
mod odd_stores;
mod options;
mod pager;
mod picture;
mod programs;
mod real_programs;
mod recorded_imports;
mod remedies;
mod removal;
mod replay;
mod scenarios;
mod screens;
mod served_files;
mod store;
mod syscall_tables;
mod unit_words;

#[path = "../support"]
mod support {
    pub(crate) mod exit_status;
    pub(crate) mod nobody;
    pub(crate) mod program;
    pub(crate) mod screen;
    pub(crate) mod skip;
    #[expect(dead_code, reason = "other programs need more of it")]
    pub(crate) mod terminal;
}
