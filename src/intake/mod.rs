//! Where records come from. Each source strips its own envelope and hands on the bytes that the kernel wrote.

mod call_arguments;
mod cleaning;
pub(crate) mod core_dump_text;
mod death_line;
mod death_words;
pub(crate) mod deaths;
#[cfg(test)]
mod dialect_tests;
mod envelope;
mod errno_text;
mod failed_call_records;
mod failure_line;
mod failure_message;
pub(crate) mod failures;
pub(crate) mod journal_entry;
mod journal_export;
mod journal_fields;
mod json_line;
mod line_prefix;
mod line_time;
mod lines;
pub(crate) mod log_encoding;
pub(crate) mod log_file;
pub(crate) mod log_summary;
pub(crate) mod logged_facts;
pub mod netlink;
pub(crate) mod pasted_units;
mod record_search;
mod record_sink;
pub(crate) mod record_source;
mod repeats;
pub(crate) mod strace_text;
mod traceback;
