//! Finds the units and incidents that a command asks about, and builds the answer for one unit.

pub(crate) mod call_sites;
pub(crate) mod context;
pub(crate) mod dumped_callers;
pub(crate) mod fleet_alerts;
pub(crate) mod incident_source;
pub(crate) mod log_failures;
pub(crate) mod log_groups;
pub(crate) mod log_incidents;
pub(crate) mod log_input;
pub(crate) mod pasted_root;
pub(crate) mod read_only;
pub(crate) mod scratch_dir;
pub(crate) mod sighting_times;
pub(crate) mod silent_refusals;
pub(crate) mod similar_names;
pub(crate) mod source_lines;
pub(crate) mod started_unit;
pub(crate) mod subject;
pub(crate) mod subject_search;
pub(crate) mod transient;
pub(crate) mod unit_answer;
pub(crate) mod unit_failure;
pub(crate) mod unit_names;
pub(crate) mod unit_words;
