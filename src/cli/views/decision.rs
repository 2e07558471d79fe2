//! The file and line that decided a denial, in one word.

use super::answer::CauseView;
use crate::audit::text::{base_name, shown_path};
use crate::diagnosis::{DenialCause, Elsewhere, Finding};
use crate::incidents::local_time::LocalTime;

/// Returns the file and line that decided a denial, or a word in place of these.
pub(crate) fn describe_decision(finding: &Finding, clock: &LocalTime) -> String {
    if let DenialCause::Elsewhere(Elsewhere::Fixed(fixed)) = &finding.cause {
        return fixed.by.as_deref().map_or_else(|| "changed settings".to_owned(), shown_path);
    }
    let CauseView { kind, directives, .. } = CauseView::new(finding, clock);
    match directives.first() {
        Some(decided) => match (&decided.file, decided.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            _ => format!("{}=", decided.directive),
        },
        None => match kind {
            "elsewhere" => "another filter",
            "runtime" => "a container runtime",
            _ => "unknown",
        }
        .to_owned(),
    }
}

/// Shows the first place within a width, and counts the others. Leaves out directories from the left.
pub(crate) fn shorten_place(places: &[String], room: usize) -> String {
    let Some(first) = places.first() else { return "-".to_owned() };
    let more = if places.len() > 1 { format!(" +{}", places.len() - 1) } else { String::new() };
    let fits = |place: &str| place.chars().count() + more.len() <= room;
    if fits(first) {
        return format!("{first}{more}");
    }
    let name = base_name(first);
    let parents =
        first.match_indices('/').skip(1).map(|(at, _)| format!("\u{2026}{}", first.get(at..).unwrap_or(name)));
    let longest = parents.into_iter().find(|place| fits(place));
    format!("{}{more}", longest.as_deref().unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_loses_directories_from_the_left_and_keeps_its_file() {
        let places = ["/etc/systemd/system/web.service.d/50-hardening.conf:6".to_owned(), "x".to_owned()];
        let shorten = |room| shorten_place(&places, room);
        assert_eq!(shorten(80), "/etc/systemd/system/web.service.d/50-hardening.conf:6 +1");
        assert_eq!(shorten(44), "\u{2026}/web.service.d/50-hardening.conf:6 +1");
        assert_eq!(shorten(0), "50-hardening.conf:6 +1");
        assert_eq!(shorten_place(&["another filter".to_owned()], 3), "another filter");
        assert_eq!(shorten_place(&[], 3), "-");
    }
}
