//! systemd.

pub mod bus_address;
pub mod exposure_score;
pub mod journal;
pub mod libseccomp;
pub mod manager;
pub(crate) mod manager_lookup;
pub mod syscall_groups;
