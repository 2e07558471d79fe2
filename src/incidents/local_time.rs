//! Shows the times of incidents, for people and for JSON.

use crate::audit::text::escape;
use crate::incidents::Moment;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The current time and the time zone of the reader.
#[derive(Debug, Clone)]
pub struct LocalTime {
    /// The current time; `None` if ages would mean nothing, as in an old log.
    pub now: Option<Timestamp>,
    /// The time zone in which times are shown.
    pub zone: TimeZone,
}

impl LocalTime {
    /// Returns the current date; empty if there is no current time.
    pub(crate) fn today(&self) -> String {
        self.now.map_or_else(String::new, |now| now.to_zoned_datetime(self.zone.clone()).date().to_string())
    }

    /// Returns a time in the time zone, or the words of a log.
    pub(crate) fn show(&self, moment: &Moment) -> Option<String> {
        match moment {
            Moment::At(millis) => {
                let zoned = Timestamp::from_millisecond(*millis).ok()?.to_zoned_datetime(self.zone.clone());
                Some(zoned.strftime("%Y-%m-%d %H:%M:%S").to_string())
            }
            Moment::Text(text) if has_year(text) => Some(escape(text.as_bytes())),
            Moment::Text(text) => Some(format!("{} (year unknown)", escape(text.as_bytes()))),
            Moment::Unknown => None,
        }
    }

    /// Returns a time in the time zone, from milliseconds since the epoch; empty if it is out of range.
    pub(crate) fn show_millis(&self, millis: i64) -> String {
        self.show(&Moment::At(millis)).unwrap_or_default()
    }

    /// Returns a time of today as `14:56`, and another one with its date.
    pub(crate) fn show_briefly(&self, millis: i64) -> String {
        let zoned = |timestamp: Timestamp| timestamp.to_zoned_datetime(self.zone.clone());
        let Ok(at) = Timestamp::from_millisecond(millis).map(zoned) else { return String::new() };
        let is_today = self.now.is_some_and(|now| zoned(now).date() == at.date());
        at.strftime(if is_today { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
    }

    /// Returns how long ago a time was, in the units of systemd: `9 s ago`; `None` as for [`ago`](Self::ago).
    pub(crate) fn ago_briefly(&self, moment: &Moment) -> Option<String> {
        let ago = self.ago(moment)?;
        let mut words = ago.split(' ');
        let (amount, unit) = (words.next()?, words.next()?);
        Some(match unit.trim_end_matches('s') {
            "second" => format!("{amount} s ago"),
            "minute" => format!("{amount} min ago"),
            "hour" => format!("{amount} h ago"),
            _ => ago,
        })
    }

    /// Returns how long ago a time was; `None` without a current time, or if it is over a minute in the future.
    pub(crate) fn ago(&self, moment: &Moment) -> Option<String> {
        Some(match self.age(moment)? {
            (0, _) => "just now".to_owned(),
            (amount, (unit, _)) => format!("{amount} {unit}{} ago", if amount == 1 { "" } else { "s" }),
        })
    }

    /// Returns how long ago a time was, as short as systemctl shows it.
    pub(crate) fn short_ago(&self, moment: &Moment) -> Option<String> {
        Some(match self.age(moment)? {
            (0, _) => "now".to_owned(),
            (amount, (_, unit)) => format!("{amount}{unit} ago"),
        })
    }

    /// Returns the age of a time in its greatest unit, with the long and the short name of the unit.
    fn age(&self, moment: &Moment) -> Option<(i64, (&'static str, &'static str))> {
        let Moment::At(millis) = moment else { return None };
        Some(match self.now?.as_second() - millis / 1000 {
            ..-60 => return None,
            seconds @ ..60 => (seconds.max(0), ("second", "s")),
            seconds @ 60..3600 => (seconds / 60, ("minute", "min")),
            seconds @ 3600..86400 => (seconds / 3600, ("hour", "h")),
            seconds => (seconds / 86400, ("day", "d")),
        })
    }
}

/// Whether the words of a log state the year, or are no date: `Nov 23 22:01:02` lacks it.
fn has_year(text: &str) -> bool {
    let numbers = |text: &str| text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).count();
    let date = text.find(':').map(|colon| text[..colon].trim_end_matches(|c: char| c.is_ascii_digit()));
    // A time since boot has no colon.
    let Some(date) = date else { return true };
    let is_year = |part: &str| part.len() == 4 && part.bytes().all(|digit| digit.is_ascii_digit());
    numbers(date) >= 3 || text.split(|c: char| !c.is_alphanumeric()).any(is_year) || date.contains('\u{5e74}')
}

/// Returns a time for JSON: RFC 3339 in UTC, or the words of a log.
pub(crate) fn moment(moment: &Moment) -> Option<String> {
    match moment {
        Moment::At(millis) => Some(Timestamp::from_millisecond(*millis).ok()?.to_string()),
        Moment::Text(text) => Some(escape(text.as_bytes())),
        Moment::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_counts_from_the_present_time() {
        let now = Timestamp::from_second(1_795_456_064).unwrap();
        let time = LocalTime { now: Some(now), zone: TimeZone::UTC };
        let ages = |seconds: i64| {
            let moment = Moment::At((now.as_second() - seconds) * 1_000);
            [time.ago(&moment), time.ago_briefly(&moment), time.short_ago(&moment)].map(Option::unwrap_or_default)
        };
        assert_eq!(ages(0), ["just now", "just now", "now"]);
        assert_eq!(ages(-30), ages(0), "clocks differ by a little");
        assert_eq!(ages(9), ["9 seconds ago", "9 s ago", "9s ago"]);
        assert_eq!(ages(119), ["1 minute ago", "1 min ago", "1min ago"]);
        assert_eq!(ages(7_200), ["2 hours ago", "2 h ago", "2h ago"]);
        assert_eq!(ages(86_400), ["1 day ago", "1 day ago", "1d ago"]);
        assert_eq!(ages(-120), ["", "", ""], "the future has no age");
        let of_log = LocalTime { now: None, zone: TimeZone::UTC };
        assert_eq!(of_log.ago(&Moment::At(0)), None);
    }

    #[test]
    fn date_without_its_year_is_shown_as_such() {
        let clock = LocalTime { now: None, zone: TimeZone::UTC };
        let shown = |text: &str| clock.show(&Moment::Text(text.into())).unwrap();
        for without in ["Nov 23 22:01:02", "f\u{e9}vr. 21 11:06:48", "2\u{6708} 21 11:06:48", "02-21 11:06:48.788"] {
            assert_eq!(shown(without), format!("{without} (year unknown)"));
        }
        for with in [
            "Fri 2025-02-21 11:06:48 CET",
            "10/29/24 19:56:58.492",
            "02/21/2025 11:06:48.788",
            "Fri Feb 21 11:06:48 2025",
            "2025\u{5e74}02\u{6708}21\u{65e5} 11:06:48.788",
            "[  961.261094]",
        ] {
            assert_eq!(shown(with), with);
        }
    }
}
