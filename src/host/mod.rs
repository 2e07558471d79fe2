//! What this machine, or a log's machine, can tell about a denial: whose process it was, what the unit's settings are,
//! and which denials stay invisible.
//!
//! - [`live_host`] and [`log_host`] implement [`Host`], which the pipeline asks for evidence about a record.
//! - [`late_evidence`] asks service managers and the journal afterwards; `executable_guess` guesses from unit files.
//! - [`unit_settings`] reads a unit's settings from its manager and its files, and compares the two.
//! - [`blind_spots`] lists what keeps denials, or their units, from being seen.

pub mod blind_spots;
pub(crate) mod executable_guess;
pub mod late_evidence;
pub mod live_host;
pub mod log_host;
pub mod unit_settings;

pub use crate::kernel::clock::{boot_time_millis, now_millis};

use crate::audit::Record;
use crate::incidents::Parent;
use crate::units::Evidence;

/// A source of evidence about the process of a record: this machine, or a log.
pub trait Host {
    /// Whether the host can be asked again about a record that stays without a unit. A log cannot.
    const CAN_ANSWER_LATER: bool;

    /// Collects the evidence that is available at once. Runs in the receive path, so it must not wait.
    fn collect_evidence(&mut self, record: &Record<'_>) -> Vec<Evidence>;

    /// A number that stands for the evidence which [`collect_evidence`](Self::collect_evidence) would add to the
    /// record: equal numbers mean equal evidence. `None` where it must be collected again.
    fn evidence_key(&mut self, record: &Record<'_>) -> Option<u64>;

    /// The parent of a record's process, for a process whose unit is unknown.
    fn parent(&mut self, _: &Record<'_>) -> Option<Parent> {
        None
    }
}
