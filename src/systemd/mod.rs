//! systemd.

pub mod bus_address;
pub mod exposure_score;
pub(crate) mod find_manager;
pub mod journal;
pub mod libseccomp;
pub mod manager;
pub mod syscall_groups;
