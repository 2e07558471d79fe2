//! What one can ask this machine. Every reader takes its root, so that a test is a directory.

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

/// Who can say whose process it was: this machine, or a log.
pub trait Host {
    /// Whether what stays open can be asked about later: a log cannot be asked.
    const ANSWERS: bool;

    /// What can be had at once. Called in the receive path: must not wait.
    fn glance(&mut self, record: &Record<'_>) -> Vec<Evidence>;

    /// Stands for all that [`glance`](Self::glance) would tell of a record's process, beside what the record itself
    /// holds: equal numbers, equal evidence. `None` where it has to be looked at again.
    fn context(&mut self, record: &Record<'_>) -> Option<u64>;

    /// The parent of a record's process, where nothing told its unit and it still can be had.
    fn parent(&mut self, _: &Record<'_>) -> Option<Parent> {
        None
    }
}
