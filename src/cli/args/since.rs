//! Parses the TIME of `--since` and `--until`.

use super::time_span;
use jiff::{Timestamp, ZonedDateTime, civil};

/// The text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a time: write \"2026-11-23 14:00\", \"14:50\", \"today\", \"yesterday\", \"-1h\" or \"3 days ago\""
)]
pub(crate) struct BadTime(String);

/// Parses a time. Returns milliseconds since the epoch.
///
/// # Errors
/// The text is not a time; the error lists the forms.
pub(crate) fn parse(text: &str, now: &ZonedDateTime) -> Result<i64, BadTime> {
    let bad = || BadTime(text.to_owned());
    let text = text.trim();
    let midnight = |day: civil::Date| day.to_zoned_datetime(now.time_zone().clone()).ok();
    let moment = match text {
        "now" => Some(now.clone()),
        "today" => midnight(now.date()),
        "yesterday" => now.date().yesterday().ok().and_then(midnight),
        _ => None,
    };
    let moment = moment
        .map(|zoned| zoned.timestamp())
        .or_else(|| text.parse::<Timestamp>().ok())
        .or_else(|| parse_local(text, now))
        .or_else(|| parse_age(text, now))
        .ok_or_else(bad)?;
    Ok(moment.as_millisecond())
}

/// Parses a date, or a date and time, in the local time zone.
fn parse_local(text: &str, now: &ZonedDateTime) -> Option<Timestamp> {
    let zone = now.time_zone().clone();
    // A time alone is one of today.
    let is_time = text.contains(':') && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    let civil: civil::DateTime =
        if is_time { now.date().to_datetime(text.parse::<civil::Time>().ok()?) } else { text.parse().ok()? };
    Some(civil.to_zoned_datetime(zone).ok()?.timestamp())
}

/// Parses an age: `-1h`, `2h`, `3 days ago`.
fn parse_age(text: &str, now: &ZonedDateTime) -> Option<Timestamp> {
    let length = text.strip_prefix('-').or_else(|| text.strip_suffix("ago")).unwrap_or(text);
    // A number alone is more likely a mistake than an age in seconds.
    let age = time_span::parse(length).filter(|_| length.contains(char::is_alphabetic))?;
    Some(now.checked_sub(age).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_is_parsed() {
        let now: ZonedDateTime = "2026-11-23T12:00:00+01:00[+01:00]".parse().unwrap();
        let at = |text: &str| parse(text, &now).map(|millis| Timestamp::from_millisecond(millis).unwrap().to_string());
        assert_eq!(at("2026-11-23 10:30").as_deref(), Ok("2026-11-23T09:30:00Z"));
        assert_eq!(at("2026-11-22").as_deref(), Ok("2026-11-21T23:00:00Z"));
        assert_eq!(at("2026-11-22T10:00:00Z").as_deref(), Ok("2026-11-22T10:00:00Z"));
        assert_eq!(at("today").as_deref(), Ok("2026-11-22T23:00:00Z"));
        assert_eq!(at("yesterday").as_deref(), Ok("2026-11-21T23:00:00Z"));
        assert_eq!(at("2h").as_deref(), Ok("2026-11-23T09:00:00Z"));
        assert_eq!(at("2 hours ago").as_deref(), Ok("2026-11-23T09:00:00Z"));
        assert_eq!(at("10:30").as_deref(), Ok("2026-11-23T09:30:00Z"));
        assert_eq!(at("10:30:15").as_deref(), Ok("2026-11-23T09:30:15Z"));
        assert_eq!(at("-1h").as_deref(), Ok("2026-11-23T10:00:00Z"));
        assert_eq!(at("1h 30min ago").as_deref(), Ok("2026-11-23T09:30:00Z"));
        assert_eq!(at("-3d").as_deref(), Ok("2026-11-20T11:00:00Z"));
    }

    #[test]
    fn invalid_time_names_the_forms() {
        let now: ZonedDateTime = "2026-11-23T12:00:00+01:00[+01:00]".parse().unwrap();
        for text in ["", "soon", "25:00", "99999999999999d", "2026-13-01"] {
            assert!(parse(text, &now).unwrap_err().to_string().contains("is not a time"), "{text}");
        }
    }
}
