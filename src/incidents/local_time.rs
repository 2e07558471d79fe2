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
            Moment::Text(text) => Some(escape(text.as_bytes())),
            Moment::Unknown => None,
        }
    }

    /// Returns a time in the time zone, from milliseconds since the epoch; empty if it is out of range.
    pub(crate) fn show_millis(&self, millis: i64) -> String {
        self.show(&Moment::At(millis)).unwrap_or_default()
    }

    /// Returns how long ago a time was; `None` without a current time, or if it is over a minute in the future.
    pub(crate) fn ago(&self, moment: &Moment) -> Option<String> {
        let Moment::At(millis) = moment else { return None };
        let seconds = self.now?.as_second() - millis / 1000;
        let (amount, unit) = match seconds {
            ..-60 => return None,
            -60..1 => return Some("just now".to_owned()),
            1..60 => (seconds, "second"),
            60..3600 => (seconds / 60, "minute"),
            3600..86400 => (seconds / 3600, "hour"),
            _ => (seconds / 86400, "day"),
        };
        Some(format!("{amount} {unit}{} ago", if amount == 1 { "" } else { "s" }))
    }
}

/// Returns a time for JSON: RFC 3339 in UTC, or the words of a log.
pub(crate) fn moment(moment: &Moment) -> Option<String> {
    match moment {
        Moment::At(millis) => Some(Timestamp::from_millisecond(*millis).ok()?.to_string()),
        Moment::Text(text) => Some(escape(text.as_bytes())),
        Moment::Unknown => None,
    }
}
