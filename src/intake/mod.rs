//! Where records come from. Each source strips its own envelope and hands on the bytes the
//! kernel wrote.

pub mod compressed;
pub mod journal;
pub mod journal_entry;
mod lines;
pub mod log_file;
pub mod netlink;
pub mod sigsys_exit_line;
