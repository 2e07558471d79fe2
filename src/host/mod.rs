//! Collects what this machine, or a log's machine, shows about a denial: the process's unit, the unit's settings, and
//! which denials stay invisible.
//!
//! - [`live_host`] and [`log_host`] implement [`Host`]. The pipeline asks it for evidence about a record.
//! - `log_machine` collects the facts of the machine that wrote a log: ABI, groups, versions.
//! - [`late_evidence`] asks service managers and the journal afterwards; `executable_guess` guesses from unit files.
//! - [`unit_settings`] reads a unit's settings from its manager and its files, and compares the two.
//! - `program_files` reads the executables of a unit.
//! - [`call_site_names`] names the functions of call sites, and `packages` the packages of files.
//! - [`unit_processes`] finds the processes that a unit's processes started, wherever they were moved.
//! - `access_verdict` weighs a call that failed: whether a unit's sandbox made it fail. `path_walk`, `host_files` and
//!   `failure_evidence` gather what it needs. `known_paths` finds which paths the machine has and lacks.
//! - [`blind_spots`] lists the reasons why denials, or their units, stay invisible.

pub(crate) mod access_verdict;
pub mod blind_spots;
pub mod call_site_names;
pub(crate) mod executable_guess;
pub(crate) mod failure_evidence;
pub(crate) mod file_rights;
pub(crate) mod filter_in_force;
pub(crate) mod host_files;
pub(crate) mod known_paths;
pub(crate) mod late_evidence;
pub(crate) mod live_host;
pub mod log_host;
pub(crate) mod log_machine;
pub(crate) mod packages;
pub(crate) mod path_walk;
pub mod program_files;
pub(crate) mod unit_processes;
pub(crate) mod unit_settings;

pub use crate::kernel::clock::{boot_time_millis, now_millis};

use crate::audit::Record;
use crate::incidents::{CallSite, Parent, Sighting};
use crate::units::Evidence;

/// A process, as its descendants' records need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ancestor {
    /// When it started, in milliseconds since the epoch.
    pub started: i64,
    /// The bytes of its `/proc/PID/cgroup`.
    pub cgroup: Vec<u8>,
    /// Its audit session.
    pub session: Option<u32>,
}

/// Where in its code a process made a denied call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallSiteNote {
    /// The kernel noted it.
    Noted(Box<CallSite>),
    /// The kernel notes it when it kills the process, which can be a moment after the record. Contains what it noted so far.
    Later(Option<Box<CallSite>>),
    /// The kernel notes nothing of such a call.
    None,
}

/// A source of evidence about the process of a record: this machine, or a log.
pub trait Host {
    /// Collects the evidence that is available at once. Runs in the receive path, so it must not wait.
    fn collect_evidence(&mut self, record: &Record<'_>) -> Vec<Evidence>;

    /// Returns a number for the evidence that [`collect_evidence`](Self::collect_evidence) would collect: equal numbers
    /// mean equal evidence. `None` if the caller must collect the evidence again.
    fn evidence_key(&mut self, record: &Record<'_>) -> Option<u64>;

    /// Returns a record's process and its ancestors, nearest first, as far as they are known.
    fn lineage(&mut self, _: &Record<'_>) -> Vec<Ancestor> {
        Vec::new()
    }

    /// Returns where in its code a process made the denied call, if the kernel noted it.
    fn call_site(&self, _: &Sighting) -> CallSiteNote {
        CallSiteNote::None
    }

    /// Returns the parent of a record's process, for a process with an unknown unit.
    fn parent(&mut self, _: &Record<'_>) -> Option<Parent> {
        None
    }
}
