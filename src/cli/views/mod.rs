//! Answers as data: each view serializes to JSON and lays itself out as a page.

mod access;
pub mod answer;
pub(crate) mod answer_page;
pub(crate) mod applied;
mod brief_help;
mod brief_notes;
mod brief_page;
pub(crate) mod cause;
pub(crate) mod decision;
pub(crate) mod denials;
pub(crate) mod fleet;
mod folded;
pub(crate) mod foreseen;
pub(crate) mod program_evidence;
pub(crate) mod progress_words;
pub(crate) mod refusal_logging;
pub(crate) mod rehearsal_progress;
pub(crate) mod rehearsed;
pub(crate) mod remedy;
pub(crate) mod remedy_list;
pub(crate) mod running_taps;
mod snippet;
pub mod system_configuration;
pub(crate) mod tap_progress;
pub(crate) mod tapped;
pub(crate) mod unit_effects;
pub(crate) mod unproven;
