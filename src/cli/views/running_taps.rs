//! The running taps, for `status`.

use crate::audit::text::{escape_excerpt, join};
use crate::incidents::Moment;
use crate::incidents::local_time::{LocalTime, moment};
use crate::operations::tap::running::RunningTap;
use serde::Serialize;

/// A tap that watches now.
#[derive(Debug, Serialize)]
pub(crate) struct RunningTapView {
    /// The units and PIDs that it watches.
    targets: Vec<String>,
    /// When it began, RFC 3339.
    since: Option<String>,
    /// When it ends by itself, RFC 3339.
    until: Option<String>,
    /// The process that taps.
    pid: u32,
    #[serde(skip)]
    shown: String,
}

impl RunningTapView {
    pub(crate) fn new(tap: &RunningTap, clock: &LocalTime) -> Self {
        let (since, until) = (Moment::At(tap.since), Moment::At(tap.until));
        let targets: Vec<String> = tap.targets.iter().map(|target| escape_excerpt(target)).collect();
        let show = |time: &Moment| clock.show(time).unwrap_or_default();
        let what = match targets.len() {
            0..=3 => join(targets.iter().cloned()),
            more => format!("{more} units and processes"),
        };
        let shown = format!("{what} since {}, until {}: harden-why (pid {})", show(&since), show(&until), tap.pid);
        Self { targets, since: moment(&since), until: moment(&until), pid: tap.pid, shown }
    }

    /// Returns what it watches, since when and until when.
    pub(crate) fn line(&self) -> &str {
        &self.shown
    }
}
