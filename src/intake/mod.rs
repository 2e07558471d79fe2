//! Where records come from. Each source strips its own envelope and hands on the bytes the
//! kernel wrote.

pub mod death;
pub mod entry;
pub mod journal;
mod lines;
pub mod log_file;
pub mod netlink;
pub mod packed;
