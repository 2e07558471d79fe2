//! The time of a log line, as far as lines of one log can be compared by it.

use memchr::memchr;

/// How far into a line its time is searched for, in bytes.
pub(super) const SEARCHED: usize = 64;

/// A day has no fixed offset to UTC in a log, but every time zone is a multiple of this many seconds away from it.
const ZONE_STEP: i64 = 900;

/// How many milliseconds after a record a manager's entry about the death can be, and how many before it.
const AFTER_MS: i64 = 1_000;
const BEFORE_MS: i64 = 20;

/// When a line was written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct LineTime {
    /// In milliseconds since the epoch, if the log tells.
    pub(super) millis: Option<i64>,
    /// As printed, to the second.
    printed: Option<PrintedTime>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PrintedTime {
    /// The bytes before the time of day: the date, in any locale.
    day: Box<[u8]>,
    /// Seconds since midnight, or since boot.
    second: i64,
    /// Whether the time is one of a day, not since boot.
    is_of_day: bool,
}

impl LineTime {
    /// A time that needs no printed form.
    pub(super) fn from_millis(millis: i64) -> Self {
        Self { millis: Some(millis), printed: None }
    }

    /// Parses the time at the start of a line.
    pub(super) fn parse(line: &[u8]) -> Self {
        let head = &line[..line.len().min(SEARCHED)];
        Self { millis: parse_unix(head), printed: parse_time_of_day(head).or_else(|| parse_since_boot(head)) }
    }

    /// The printed date and time of a line that has one.
    pub(super) fn text(line: &[u8]) -> Option<&[u8]> {
        let head = &line[..line.len().min(SEARCHED)];
        find_time_of_day(head).map(|at| line[..at + 8].trim_ascii_start())
    }

    /// Whether a manager's line at `death` can be about a process that a record at this time is about.
    pub(super) fn precedes(&self, death: &Self) -> bool {
        match ((self.millis, &self.printed), (death.millis, &death.printed)) {
            ((_, Some(own)), (_, Some(other))) if own.is_comparable(other) => {
                own.day == other.day && (0..=1).contains(&(other.second - own.second))
            }
            ((Some(own), _), (Some(other), _)) => (own - BEFORE_MS..=own + AFTER_MS).contains(&other),
            (own, other) => {
                let second = |(millis, printed): (Option<i64>, &Option<PrintedTime>)| {
                    let printed = || printed.as_ref().filter(|printed| printed.is_of_day).map(|time| time.second);
                    millis.map(|millis| millis.div_euclid(1_000)).or_else(printed)
                };
                let after = second(own).zip(second(other)).map(|(own, other)| (other - own).rem_euclid(ZONE_STEP));
                matches!(after, Some(0 | 1))
            }
        }
    }
}

impl PrintedTime {
    /// Whether two times are printed in one format.
    fn is_comparable(&self, other: &Self) -> bool {
        let shape = |day: &[u8]| -> Vec<u8> {
            day.iter().map(|byte| if byte.is_ascii_digit() || *byte == b' ' { b'0' } else { *byte }).collect()
        };
        let has_names = self.day.iter().any(u8::is_ascii_alphabetic);
        self.is_of_day == other.is_of_day
            && (shape(&self.day) == shape(&other.day) || (has_names && self.day.len() == other.day.len()))
    }
}

/// Returns where `HH:MM:SS` is.
fn find_time_of_day(head: &[u8]) -> Option<usize> {
    let is_time = |at: &usize| {
        let Some(time) = head.get(*at..*at + 8) else { return false };
        let separated = *at == 0 || !head[*at - 1].is_ascii_digit() && head[*at - 1] != b':';
        separated && (0..8).all(|index| if index % 3 == 2 { time[index] == b':' } else { time[index].is_ascii_digit() })
    };
    (0..head.len()).find(is_time)
}

fn parse_time_of_day(head: &[u8]) -> Option<PrintedTime> {
    let at = find_time_of_day(head)?;
    let number = |from: usize| str::from_utf8(&head[at + from..at + from + 2]).ok()?.parse::<i64>().ok();
    let second = (number(0)? * 60 + number(3)?) * 60 + number(6)?;
    Some(PrintedTime { day: head[..at].trim_ascii_start().into(), second, is_of_day: true })
}

/// Parses the kernel's `[   12.345678]`.
fn parse_since_boot(head: &[u8]) -> Option<PrintedTime> {
    let rest = head.trim_ascii_start().strip_prefix(b"[")?.trim_ascii_start();
    let second = str::from_utf8(&rest[..memchr(b'.', rest)?]).ok()?.parse().ok()?;
    Some(PrintedTime { day: Box::default(), second, is_of_day: false })
}

/// Parses the seconds since the epoch that `journalctl -o short-unix` prints.
fn parse_unix(head: &[u8]) -> Option<i64> {
    let word = head.split(|byte| *byte == b' ').next()?;
    let (seconds, fraction) = str::from_utf8(word).ok()?.split_once('.')?;
    let millis = fraction.get(..3)?;
    (seconds.len() == 10).then(|| format!("{seconds}{millis}").parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn death_in_the_second_of_a_record_follows_it() {
        let precedes =
            |record: &str, death: &str| LineTime::parse(record.as_bytes()).precedes(&LineTime::parse(death.as_bytes()));
        assert!(precedes("Aug 06 13:28:10 host kernel: x", "Aug 06 13:28:10 host systemd[1]: y"));
        assert!(precedes("Aug 06 13:28:10 host kernel: x", "Aug 06 13:28:11 host systemd[1]: y"), "over a second");
        assert!(!precedes("Aug 06 13:28:10 host kernel: x", "Aug 06 13:28:12 host systemd[1]: y"));
        assert!(!precedes("Aug 06 13:28:10 host kernel: x", "Aug 06 13:28:09 host systemd[1]: y"));
        assert!(!precedes("Aug 06 13:28:10 host kernel: x", "Aug 07 13:28:10 host systemd[1]: y"));
        assert!(!precedes("Aug 06 13:28:10 host kernel: x", "Sep 06 13:28:10 host systemd[1]: y"));
        assert!(precedes("2026-08-06T13:28:10.124+02:00 host", "2026-08-06T13:28:10.150+02:00 host"));
        assert!(precedes("[   12.345] kernel", "[   12.349] systemd[1]"));
        assert!(!precedes("[   12.345] kernel", "Aug 06 13:28:10 host systemd[1]"), "since boot says no time of day");
        assert!(precedes("08/06/2026 13:28:10.124", "Aug 06 13:28:10 host"), "another format");
        assert!(!precedes("no time", "Aug 06 13:28:10 host") && !precedes("", ""));
    }

    #[test]
    fn record_with_time_since_epoch_is_compared_across_time_zones() {
        let record = LineTime::from_millis(1_786_022_890_124);
        assert!(record.precedes(&LineTime::parse(b"Aug 06 13:28:10 host")), "13:28:10 is UTC");
        assert!(record.precedes(&LineTime::parse(b"Aug 06 19:13:10 host")), "Nepal");
        assert!(!record.precedes(&LineTime::parse(b"Aug 06 13:28:20 host")));
        assert!(record.precedes(&LineTime::from_millis(1_786_022_890_164)));
        assert!(!record.precedes(&LineTime::from_millis(1_786_022_892_164)));
        assert!(!record.precedes(&LineTime::from_millis(1_786_022_890_000)));
    }
}
