//! From when to when sightings count: `--since` and `--until`.

use crate::cli::args::TimeOptions;
use crate::cli::exit_status::UsageError;
use crate::cli::terminal::clock::parse_time;
use crate::incidents::local_time::LocalTime;
use crate::incidents::{Incident, Moment};

/// The limits of `--since` and `--until`, in milliseconds since the epoch; `None` for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SightingTimes {
    /// The earliest time of the latest sighting.
    pub(crate) since: Option<i64>,
    /// The latest time of the first sighting.
    pub(crate) until: Option<i64>,
}

impl SightingTimes {
    /// Parses the options.
    ///
    /// # Errors
    /// An option is not a time, or `--since` is after `--until`.
    pub(crate) fn parse(times: &TimeOptions, clock: &LocalTime) -> anyhow::Result<Self> {
        let since = parse_time(times.since.as_deref(), clock)?;
        let until = parse_time(times.until.as_deref(), clock)?;
        if since.zip(until).is_some_and(|(since, until)| since > until) {
            anyhow::bail!(UsageError("--since is after --until".to_owned()));
        }
        Ok(Self { since, until })
    }

    /// Whether an incident can have sightings between the limits. One without a time can.
    pub(crate) fn includes(self, incident: &Incident) -> bool {
        let is_after = |moment: &Moment, limit: i64| matches!(moment, Moment::At(millis) if *millis > limit);
        let is_before = |moment: &Moment, limit: i64| matches!(moment, Moment::At(millis) if *millis < limit);
        !self.since.is_some_and(|since| is_before(&incident.last, since))
            && !self.until.is_some_and(|until| is_after(&incident.first, until))
    }
}
