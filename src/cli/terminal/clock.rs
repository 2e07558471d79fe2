//! clock.

use crate::cli::args::since as since_argument;
use crate::incidents::local_time::LocalTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

/// Here and now.
pub(crate) fn clock() -> LocalTime {
    LocalTime { now: Some(Timestamp::now()), zone: TimeZone::system() }
}

/// The moment `--since` means.
pub(crate) fn since(text: Option<&str>, clock: &LocalTime) -> anyhow::Result<Option<i64>> {
    let now: ZonedDateTime = clock.now.unwrap_or_else(Timestamp::now).to_zoned_datetime(clock.zone.clone());
    Ok(text.map(|text| since_argument::parse(text, &now)).transpose()?)
}
