//! Parsers of argument values.

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

/// Parses a duration between a second and a week.
///
/// # Errors
/// The text is not such a duration.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_hours(7 * 24);
    let span: jiff::Span = text.trim().parse().map_err(|_| "write it as 90s, 30min, 2h or \"1 day\"".to_owned())?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok();
    let length = length.and_then(|length| Duration::try_from(length).ok());
    length
        .filter(|length| (Duration::from_secs(1)..=LONGEST).contains(length))
        .ok_or_else(|| "it must be between a second and a week".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_outside_bounds_is_an_error() {
        let seconds = |text: &str| duration(text).map(|length| length.as_secs());
        assert_eq!(["1s", "90 s", "30min", "2h", "7 d"].map(seconds), [1, 90, 1_800, 7_200, 604_800].map(Ok));
        for text in ["", "soon", "0s", "-1h", "8d", "5", "1 month"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
