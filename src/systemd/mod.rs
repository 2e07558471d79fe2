//! Asks systemd: service managers over D-Bus, the journal, and the programs and libraries that come with systemd.
//!
//! - [`manager`] connects to the system manager and to user managers; `manager_lookup` finds the one that has a unit.
//! - [`journal`] reads the entries that name the unit of a dead process.
//! - [`syscall_groups`] reads this systemd's system call groups, [`libseccomp`] the call names that it cannot resolve, and
//!   `installed` which systemd is installed below a root.
//! - [`exposure_score`] runs `systemd-analyze security` on a copy of a unit.
//! - [`bus_address`] names a D-Bus bus.

pub mod bus_address;
pub(crate) mod exposure_score;
pub(crate) mod installed;
pub(crate) mod journal;
pub(crate) mod libseccomp;
pub mod manager;
pub(crate) mod manager_lookup;
pub mod syscall_groups;
