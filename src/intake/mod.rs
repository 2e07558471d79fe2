//! Where records come from. Each source strips its own envelope and hands on the bytes that the kernel wrote.

mod cleaning;
#[cfg(test)]
mod dialect_tests;
mod envelope;
pub(crate) mod journal_entry;
mod journal_export;
mod journal_fields;
mod json_line;
mod line_prefix;
mod lines;
pub(crate) mod log_encoding;
pub(crate) mod log_file;
pub(crate) mod logged_facts;
pub mod netlink;
mod record_sink;
pub(crate) mod record_source;
mod repeats;
pub(crate) mod sigsys_exit_line;
