//! Parsers of argument values.

use super::time_span;
use clap::Arg;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use std::ffi::OsStr;
use std::time::Duration;

/// A word with suggested values for help and completion; the verb decides which values are valid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offered(pub(super) fn() -> Vec<&'static str>);

impl TypedValueParser for Offered {
    type Value = String;

    fn parse_ref(&self, command: &clap::Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0().into_iter().map(PossibleValue::new)))
    }
}

/// The error for an empty word in place of a unit.
pub(crate) const EMPTY_UNIT: &str = "UNIT is empty: name a unit (an unset variable of the shell leaves an empty word)";

const EXPECTED_COUNT: &str = "write how many to show, for example 20";

/// Parses a duration between a second and a week.
///
/// # Errors
/// The text is not such a duration.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_hours(7 * 24);
    let length =
        time_span::parse(text).ok_or_else(|| "write it as 30, 90s, 30min, \"1h 30min\" or \"1 day\"".to_owned())?;
    let is_allowed = (Duration::from_secs(1)..=LONGEST).contains(&length);
    is_allowed.then_some(length).ok_or_else(|| "it must be between a second and a week".to_owned())
}

/// Parses a number of rows or denials to show, at least 1.
///
/// # Errors
/// The text is no such number.
pub(super) fn row_count(text: &str) -> Result<u32, String> {
    line_count(text).and_then(|count| if count > 0 { Ok(count) } else { Err(EXPECTED_COUNT.to_owned()) })
}

/// Parses a number of earlier denials to show; 0 shows none.
///
/// # Errors
/// The text is no such number.
pub(super) fn line_count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| EXPECTED_COUNT.to_owned())
}

/// Parses a number of restarts. A bisection takes two before its search begins.
///
/// # Errors
/// The text is no such number.
pub(super) fn restart_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count >= 3);
    count.ok_or_else(|| "write a number of restarts, at least 3".to_owned())
}

/// Parses the number of a remedy. The verb knows which numbers there are.
///
/// # Errors
/// The text is no number.
pub(super) fn remedy_number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "write the number that 'harden-why -v UNIT' gives the remedy, for example 2".to_owned())
}

/// Parses a line for a drop-in. The verb knows which settings there are.
///
/// # Errors
/// The text is no setting.
pub(super) fn setting_line(text: &str) -> Result<String, String> {
    let has_key = text.split_once('=').is_some_and(|(key, _)| !key.trim().is_empty());
    let line = has_key.then(|| text.to_owned());
    line.ok_or_else(|| "write it as in a unit file, for example SystemCallFilter=@network-io".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_outside_bounds_is_an_error() {
        let seconds = |text: &str| duration(text).map(|length| length.as_secs());
        assert_eq!(["1s", "30", "90 s", "1h 30min", "7 d"].map(seconds), [1, 30, 90, 5_400, 604_800].map(Ok));
        for text in ["", "soon", "0s", "-1h", "8d", "0", "1 month"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn error_about_a_wrong_number_has_an_example() {
        assert_eq!((row_count("20"), line_count("0"), remedy_number("2")), (Ok(20), Ok(0), Ok(2)));
        for wrong in [row_count("abc"), row_count("0"), row_count("-1"), line_count("4294967296"), line_count("")] {
            assert!(wrong.is_err_and(|why| why.contains("for example 20")));
        }
        for wrong in ["abc", "-1", "99999999999999999999"] {
            assert!(remedy_number(wrong).is_err_and(|why| why.contains("for example 2")), "{wrong}");
        }
    }
}
