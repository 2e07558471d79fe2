//! The words of a live table: what decides a call, and what ends the watching.

use crate::audit::text::{join, shown_path};
use crate::diagnosis::find_withholding;
use crate::incidents::local_time::LocalTime;
use crate::incidents::{AccessDenial, Moment, name_access};
use crate::policy::{DirectiveCause, Policy, Verdict};
use crate::syscalls::Call;
use std::path::Path;
use std::time::Duration;

/// Returns the directive that decides a call, and its file and line.
pub(crate) fn describe_place(policy: &Policy, call: &Call) -> String {
    let Some((abi, name)) = call.abi().zip(call.name()) else { return "no name is known for this call".to_owned() };
    match policy.verdict(abi, name) {
        Verdict::Denied { by, .. } => by.first().map_or_else(String::new, describe_cause),
        Verdict::Possible { by } => {
            by.first().map_or_else(String::new, |cause| format!("perhaps {}", describe_cause(cause)))
        }
        Verdict::Permitted | Verdict::LogOnly { .. } => "the unit's settings permit it".to_owned(),
    }
}

/// Returns the directive that withholds what an access needs, and its file and line; where none does, what failed.
pub(super) fn describe_place_of_access(policy: &Policy, denial: &AccessDenial) -> String {
    find_withholding(denial, policy).first().map_or_else(|| name_access(&denial.access), describe_cause)
}

/// Returns the directive, the name of its file, and the line. The answer has the whole path.
fn describe_cause(cause: &DirectiveCause) -> String {
    let key = cause.directive.key();
    match &cause.origin {
        Some(origin) => {
            let name = origin.path.file_name().map_or(&*origin.path, Path::new);
            format!("{key}= {}:{}", shown_path(name), origin.line)
        }
        None => format!("{key}="),
    }
}

/// Returns an elapsed time: `0:07`, `1:02:03`.
pub(crate) fn describe_time(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Describes what ends the watching: a signal, the time, or a time without a new call.
pub(crate) fn describe_end(time: Option<Duration>, idle: Option<(Duration, Duration)>) -> String {
    let mut ends = vec!["Ctrl-C".to_owned()];
    ends.extend(time.map(describe_time));
    ends.extend(idle.map(|(now, limit)| {
        format!("{} without a new call (now {})", describe_time(limit), describe_time(now.min(limit)))
    }));
    let ends =
        if let [only] = ends.as_slice() { only.clone() } else { join(ends.into_iter()).replace(" and ", " or ") };
    format!("{ends} ends it")
}

/// Returns the time of day of a time in milliseconds since the epoch.
pub(crate) fn time_of_day(millis: Option<i64>, clock: &LocalTime) -> String {
    let shown = millis.and_then(|millis| clock.show(&Moment::At(millis))).unwrap_or_default();
    shown.rsplit(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_names_every_limit() {
        let seconds = Duration::from_secs;
        assert_eq!(describe_end(None, None), "Ctrl-C ends it");
        assert_eq!(describe_end(Some(seconds(90)), None), "Ctrl-C or 1:30 ends it");
        let idle = Some((seconds(12), seconds(30)));
        assert_eq!(
            describe_end(Some(seconds(3_723)), idle),
            "Ctrl-C, 1:02:03 or 0:30 without a new call (now 0:12) ends it"
        );
    }
}
