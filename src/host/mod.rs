//! What one can ask this machine. Every reader takes its root, so that a test is a directory.

pub mod dropin;
pub mod exits;
pub mod exposure;
pub mod groups;
pub mod hearing;
pub mod libseccomp;
pub mod live;
pub mod log;
pub mod procfs;
pub mod seccomp;
pub mod systemd;
pub mod unit_files;

use crate::audit::Record;
use crate::incidents::Sighting;
use crate::units::Evidence;

/// Who can say whose process it was: this machine, or a log.
pub trait Host {
    /// What can be had at once. Called for every record, in the receive path: must not wait.
    fn glance(&mut self, record: &Record<'_>) -> Vec<Evidence>;

    /// Stands for all that [`glance`](Self::glance) would tell of a record's process, beside what the record itself
    /// holds: equal numbers, equal evidence. `None` where it has to be looked at again.
    fn context(&mut self, record: &Record<'_>) -> Option<u64>;

    /// Whether [`ask`](Self::ask) can tell anything: a log cannot be asked.
    const ANSWERS: bool;

    /// What has to be asked for, and can be after the process is gone.
    fn ask(&self, sighting: &Sighting) -> impl Future<Output = Vec<Evidence>>;
}
