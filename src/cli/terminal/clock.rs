//! The current time, and the times that `--since` and `--until` mean.

use crate::cli::args::since as since_argument;
use crate::incidents::local_time::LocalTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

/// Returns the current time in the local time zone.
pub(crate) fn local_time_now() -> LocalTime {
    LocalTime { now: Some(Timestamp::now()), zone: TimeZone::system() }
}

/// Parses `--since` or `--until`. Returns milliseconds since the epoch.
///
/// # Errors
/// The text is not a time.
pub(crate) fn parse_time(text: Option<&str>, clock: &LocalTime) -> anyhow::Result<Option<i64>> {
    let now: ZonedDateTime = clock.now.unwrap_or_else(Timestamp::now).to_zoned_datetime(clock.zone.clone());
    Ok(text.map(|text| since_argument::parse(text, &now)).transpose()?)
}
