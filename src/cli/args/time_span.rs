//! Parses lengths of time as systemd.time(7) has them.

use std::time::Duration;

/// The units, each with its length in microseconds (`src/basic/time-util.c`).
const UNITS: [(&str, u64); 33] = [
    ("usec", 1),
    ("us", 1),
    ("µs", 1),
    ("msec", 1_000),
    ("ms", 1_000),
    ("seconds", SECOND),
    ("second", SECOND),
    ("secs", SECOND),
    ("sec", SECOND),
    ("s", SECOND),
    ("", SECOND),
    ("minutes", 60 * SECOND),
    ("minute", 60 * SECOND),
    ("mins", 60 * SECOND),
    ("min", 60 * SECOND),
    ("m", 60 * SECOND),
    ("hours", 3_600 * SECOND),
    ("hour", 3_600 * SECOND),
    ("hr", 3_600 * SECOND),
    ("h", 3_600 * SECOND),
    ("days", DAY),
    ("day", DAY),
    ("d", DAY),
    ("weeks", 7 * DAY),
    ("week", 7 * DAY),
    ("w", 7 * DAY),
    ("months", MONTH),
    ("month", MONTH),
    ("M", MONTH),
    ("years", YEAR),
    ("year", YEAR),
    ("yrs", YEAR),
    ("y", YEAR),
];

const SECOND: u64 = 1_000_000;
const DAY: u64 = 24 * 3_600 * SECOND;
/// 30.44 days, as systemd has it.
const MONTH: u64 = 2_629_800 * SECOND;
/// 365.25 days.
const YEAR: u64 = 31_557_600 * SECOND;

/// Parses `30`, `30s`, `5min`, `1h 30min`, `2 days`. A number without a unit counts seconds. Returns `None` if the text
/// is no length of time, or too long.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut micros: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        let after = after.trim_start();
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len()));
        let length = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, length)| length)?;
        micros = micros.checked_add(number.parse::<u64>().ok()?.checked_mul(*length)?)?;
        rest = after.trim_start();
    }
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_parsed_with_and_without_units() {
        let seconds = |text| parse(text).map(|length| length.as_secs());
        for (text, expected) in [
            ("30", 30),
            ("30s", 30),
            ("90 s", 90),
            ("5min", 300),
            ("5 minutes", 300),
            ("1h 30min", 5_400),
            ("1h30min", 5_400),
            ("1h 30", 3_630),
            ("2 days", 172_800),
            ("1w", 604_800),
            ("1M", 2_629_800),
            ("1500ms", 1),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in ["", " ", "soon", "-5", "5 parsecs", "min", "1.5h", "99999999999999999y", "5min ago"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
