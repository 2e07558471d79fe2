//! The view of `status`: whether the daemon listens, its counters, and what it cannot see on this machine.

use super::refusal_logging::RecordingView;
use super::running_taps::RunningTapView;
use crate::audit::text::{escape, escape_lines, join, plural};
use crate::cli::exit_status::ExitStatus;
use crate::cli::terminal::output::SCHEMA;
use crate::cli::terminal::output::{Detail, Reply};
use crate::cli::terminal::page::{BAD, BOLD, GOOD, Page, WARN, styled};
use crate::cli::terminal::words::{count_times, describe_manager};
use crate::host::blind_spots;
use crate::host::filter_in_force::FiltersOff;
use crate::incidents::Moment;
use crate::incidents::local_time::{LocalTime, moment};
use crate::operations::permission::root_command;
use crate::operations::rehearsal::recover::KnownRehearsal;
use crate::outlet::access::OWN_UNITS_ONLY;
use crate::outlet::caveats::WITHOUT_RECORDS;
use crate::outlet::wire::Status;
use crate::units::{Manager, UnitName};
use serde::Serialize;
use std::collections::BTreeSet;

/// The daemon's state, and what it cannot see on this machine.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Hearing {
    schema: u32,
    /// Whether the daemon runs and listens.
    listening: bool,
    /// Why the daemon receives no records, if it runs; absent if it does.
    not_listening: Option<String>,
    /// When the daemon began to listen, RFC 3339.
    since: Option<String>,
    /// The only manager whose denials the caller may see, `user:UID`; null if the caller may see all.
    only_manager: Option<String>,
    /// The daemon's counters; null if it does not answer.
    counters: Option<Counters>,
    /// Why the store cannot be written; absent if it can.
    store_error: Option<String>,
    /// Why alerts do not reach the journal; absent if they do.
    journal_error: Option<String>,
    /// The end of the verifier's log, if the kernel refused a BPF program.
    verifier_log: Option<String>,
    /// Whether the daemon watches for capabilities and read-only paths that units are denied.
    watches_calls: bool,
    /// Why it does not; absent if it does.
    calls_not_watched: Option<String>,
    /// Whether the kernel refuses it.
    watch_refused: bool,
    /// How many failed calls it did not look at.
    calls_skipped: u64,
    /// Why the daemon does not answer; absent if it does.
    absent: Option<String>,
    /// Whether the system manager and the caller's own manager log refusals.
    pub(crate) recording: Vec<RecordingView>,
    /// The system's units and the caller's own units that run without their own settings, for a rehearsal.
    pub(crate) rehearsals: Vec<RehearsedUnitView>,
    /// The taps that watch now.
    pub(crate) taps: Vec<RunningTapView>,
    /// The managers that install no filters at all, of the system manager and the caller's own.
    pub(crate) filters_off: Vec<FiltersOffView>,
    /// The system units whose filters name calls that libseccomp does not know, so that systemd ignores the names.
    pub(crate) unknown_calls: Vec<UnknownCallsView>,
    /// What the daemon cannot see on this machine, a sentence each.
    limitations: Vec<String>,
    /// The command that starts the daemon.
    #[serde(skip)]
    start_command: String,
    /// Each manager in words, and whether it logs refusals.
    #[serde(skip)]
    pub(crate) refusals: Vec<(String, RefusalState)>,
    #[serde(skip)]
    shown: Option<String>,
}

/// A unit under rehearsal.
#[derive(Debug, Serialize)]
pub(crate) struct RehearsedUnitView {
    unit: String,
    manager: String,
    /// When the rehearsal began, RFC 3339.
    since: Option<String>,
    /// The process that rehearses the unit; null if that was killed.
    pid: Option<u32>,
    #[serde(skip)]
    shown: Option<String>,
}

/// A manager that installs no filters.
#[derive(Debug, Serialize)]
pub(crate) struct FiltersOffView {
    manager: String,
    /// Why, in a sentence.
    reason: String,
    /// The change that brings the filters back.
    remedy: String,
}

/// A unit that names calls unknown to libseccomp.
#[derive(Debug, Serialize)]
pub(crate) struct UnknownCallsView {
    unit: String,
    calls: Vec<String>,
}

/// Counters since the daemon's start, except for evictions.
#[derive(Debug, Serialize)]
struct Counters {
    records: u64,
    lost: u64,
    overruns: u64,
    dropped: u64,
    /// Since the store was created.
    evicted: u64,
    ignored: u64,
    malformed: u64,
    receive_buffer: u64,
}

impl FiltersOffView {
    pub(crate) fn new(manager: Manager, reason: &FiltersOff) -> Self {
        Self { manager: manager.to_string(), reason: reason.to_string(), remedy: reason.remedy(manager) }
    }
}

impl UnknownCallsView {
    pub(crate) fn new(unit: &UnitName, calls: BTreeSet<Box<str>>) -> Self {
        Self { unit: unit.to_string(), calls: calls.into_iter().map(String::from).collect() }
    }
}

impl RehearsedUnitView {
    pub(crate) fn new(known: &KnownRehearsal, clock: &LocalTime) -> Self {
        let since = known.since.map_or(Moment::Unknown, Moment::At);
        Self {
            unit: known.unit.name.to_string(),
            manager: known.unit.manager.to_string(),
            since: moment(&since),
            pid: known.owner,
            shown: clock.show(&since),
        }
    }
}

impl Hearing {
    /// The state of a daemon that does not answer, for this reason.
    pub(crate) fn without_daemon(why: String, limitations: Vec<String>) -> Self {
        Self {
            schema: SCHEMA,
            absent: Some(why),
            limitations,
            start_command: root_command("systemctl enable --now harden-whyd"),
            ..Self::default()
        }
    }

    pub(crate) fn new(status: Status, clock: &LocalTime) -> Self {
        let since = Moment::At(status.since);
        Self {
            schema: SCHEMA,
            listening: status.listening,
            not_listening: status.not_listening.as_deref().map(|why| escape(why.as_bytes())),
            since: moment(&since),
            shown: clock.show(&since),
            only_manager: status.only_manager.as_deref().map(|manager| escape(manager.as_bytes())),
            counters: Some(Counters {
                records: status.records,
                lost: status.lost,
                overruns: status.overruns,
                dropped: status.dropped,
                evicted: status.evicted,
                ignored: status.ignored,
                malformed: status.malformed,
                receive_buffer: status.receive_buffer,
            }),
            store_error: status.store_error.map(|error| escape(error.as_bytes())),
            journal_error: status.journal_error.map(|error| escape(error.as_bytes())),
            verifier_log: status.verifier_log.as_deref().map(|log| escape_lines(log.as_bytes()).join("\n")),
            watches_calls: status.watches_calls,
            calls_not_watched: status.calls_not_watched.map(|why| escape(why.as_bytes())),
            watch_refused: status.watch_refused,
            calls_skipped: status.calls_skipped,
            limitations: status.limitations.iter().map(|text| escape(text.as_bytes())).collect(),
            ..Self::default()
        }
    }
}

/// Whether a manager logs refusals: since when and until when, not at all, or unknown for a reason.
#[derive(Debug)]
pub(crate) enum RefusalState {
    Logged(String),
    Silent,
    Unknown(String),
}

impl Hearing {
    /// Adds whether the daemon listens, and since when.
    fn add_state(&self, page: &mut Page) {
        match (&self.absent, self.listening) {
            (Some(why), _) => {
                page.paragraph(0, &format!("{} does not answer.", styled(BAD, "harden-whyd")));
                page.field("reason", why);
                page.field("start", &self.start_command);
            }
            (None, true) => {
                let since = self.shown.as_ref().map_or_else(String::new, |since| format!(" since {since}"));
                let listens = if since.is_empty() { "listens" } else { "has listened" };
                page.paragraph(0, &format!("{} {listens}{since}.", styled(GOOD, "harden-whyd")));
            }
            (None, false) => {
                page.paragraph(0, &format!("{} runs, but receives no records.", styled(BAD, "harden-whyd")));
                page.field("reason", self.not_listening.as_deref().unwrap_or_default());
                page.field("works", WITHOUT_RECORDS);
            }
        }
    }

    /// Adds what the daemon saw and lost, in one line.
    fn add_totals(&self, page: &mut Page) {
        let Some(counters) = &self.counters else { return };
        let lost = if counters.lost > 0 {
            styled(WARN, format_args!("{} lost", plural(counters.lost, "audit event")))
        } else {
            "none lost".to_owned()
        };
        let unstored = counters.dropped + counters.evicted;
        let unstored =
            if unstored > 0 { format!(", {} no longer stored", plural(unstored, "denial")) } else { String::new() };
        page.field("seen", &format!("{}, {lost}{unstored}", plural(counters.records, "record")));
    }

    /// Adds every counter.
    fn add_counters(&self, page: &mut Page) {
        let Some(counters) = &self.counters else { return };
        let lost = plural(counters.lost, "audit event");
        let lost = if counters.lost > 0 { styled(WARN, lost) } else { lost };
        page.field("seen", &plural(counters.records, "record"));
        page.field("lost", &format!("{lost}; the receive buffer overran {}", count_times(counters.overruns)));
        page.field("other", &format!("{} that are no denials", plural(counters.ignored, "audit message")));
        if counters.malformed > 0 {
            page.field("odd", &format!("{} that could not be parsed", plural(counters.malformed, "record")));
        }
        if counters.dropped > 0 {
            let sightings = plural(counters.dropped, "sighting");
            page.field("gone", &format!("{sightings}: too many different denials came at once"));
        }
        if counters.evicted > 0 {
            let denials = plural(counters.evicted, "denial");
            page.field("forgot", &format!("{denials} since the store was created: it was full"));
        }
        page.field("buffer", &format!("{} KiB", counters.receive_buffer / 1024));
    }

    /// Adds what does not work, and for whom.
    fn add_problems(&self, page: &mut Page) {
        if self.only_manager.is_some() {
            page.field("you", &styled(WARN, OWN_UNITS_ONLY));
        }
        if let Some(error) = &self.store_error {
            page.field("store", &styled(BAD, error));
        }
        if let Some(error) = &self.journal_error {
            page.field("alerts", &styled(BAD, format!("cannot be written to the journal yet: {error}")));
        }
        for off in &self.filters_off {
            let whose = styled(BAD, format_args!("The {} filters no calls", describe_manager(&off.manager)));
            page.field("filter", &format!("{whose}: {}; {}", off.reason, off.remedy));
        }
        for one in &self.rehearsals {
            let since = one.shown.as_ref().map_or_else(String::new, |since| format!(" since {since}"));
            let who = match one.pid {
                Some(pid) => format!("harden-why (pid {pid}) rehearses it"),
                None => "the harden-why that rehearsed it was killed: 'harden-why restore'".to_owned(),
            };
            let text = format!("{} runs without its own settings{since}: {who}", one.unit);
            page.field("lifted", &styled(WARN, text));
        }
        for tap in &self.taps {
            page.field("tapped", tap.line());
        }
    }

    /// Adds whether the daemon watches for what fails without a filter.
    fn add_accesses(&self, page: &mut Page) {
        if let Some(why) = &self.calls_not_watched {
            let why = if self.watch_refused { styled(WARN, why) } else { why.clone() };
            let text = format!("no failed calls: {why}; 'harden-why tap UNIT' shows them");
            page.field("watch", &text);
        } else if self.watches_calls {
            let text = match self.calls_skipped {
                0 => "failed calls of system units, for capabilities and read-only paths".to_owned(),
                skipped => {
                    let skipped = styled(WARN, format_args!("{skipped} were too many to look at"));
                    format!("failed calls of system units ({skipped})")
                }
            };
            page.field("watch", &text);
        }
    }

    /// Adds which managers log refusals now, and how to see those of the others.
    fn add_refusals(&self, page: &mut Page) {
        let mut silent = Vec::new();
        for (whose, state) in &self.refusals {
            match state {
                RefusalState::Logged(when) => {
                    page.field("logs", &format!("refused calls of units of the {whose}, {when}"));
                }
                RefusalState::Silent => silent.push(whose.as_str()),
                // The bus does not answer: the page says so above.
                RefusalState::Unknown(why) if self.absent.as_ref().is_some_and(|absent| why.ends_with(absent)) => {}
                RefusalState::Unknown(why) => {
                    page.field("logs", &format!("whether the {whose} logs refused calls is unknown: {why}"));
                }
            }
        }
        if !silent.is_empty() {
            let whose = silent.join(", ");
            let text =
                format!("calls refused with an error leave no record ({whose}): 'harden-why tap UNIT' shows them");
            page.field("silent", &text);
        }
    }

    /// Adds what the daemon cannot see here besides refusals with an error, which [`add_refusals`](Self::add_refusals)
    /// tells.
    fn add_first_limitation(&self, page: &mut Page) {
        let common = blind_spots::silent_errno().to_string();
        let mut others = self.limitations.iter().filter(|limitation| **limitation != common);
        if let Some(first) = others.next() {
            let more = others.count();
            let more = if more > 0 { format!(" (and {more} more: 'harden-why status -v')") } else { String::new() };
            page.field("unseen", &format!("{first}{more}"));
        }
    }
}

impl Reply for Hearing {
    fn page(&self, detail: Detail) -> String {
        let mut page = Page::default();
        self.add_state(&mut page);
        if detail != Detail::Full {
            self.add_totals(&mut page);
            self.add_accesses(&mut page);
            self.add_problems(&mut page);
            self.add_refusals(&mut page);
            self.add_first_limitation(&mut page);
            return page.finish();
        }
        self.add_counters(&mut page);
        self.add_accesses(&mut page);
        self.add_problems(&mut page);
        self.add_refusals(&mut page);
        if !self.unknown_calls.is_empty() {
            let units = self.unknown_calls.iter().map(|one| format!("{} ({})", one.unit, one.calls.join(", ")));
            page.gap();
            page.paragraph(0, &styled(BOLD, "Names that libseccomp does not know, so systemd ignores them"));
            page.paragraph(2, &join(units));
        }
        page.gap();
        page.line(styled(BOLD, "What harden-whyd cannot see here"));
        for limitation in &self.limitations {
            page.gap();
            page.paragraph(2, limitation);
        }
        page.finish()
    }

    fn exit_status(&self) -> ExitStatus {
        if self.listening { ExitStatus::Done } else { ExitStatus::Failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outlet::wire::CallsNotWatched;
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    #[test]
    fn only_a_refusal_of_the_kernel_is_a_warning_that_calls_are_not_watched() {
        let clock = LocalTime { now: Some(Timestamp::UNIX_EPOCH), zone: TimeZone::UTC };
        let why = || "no: \u{1b}".to_owned();
        for (why_not, is_warning) in [(CallsNotWatched::NotNow(why()), false), (CallsNotWatched::Refused(why()), true)]
        {
            let mut status = Status { listening: true, ..Status::default() };
            status.set_calls_watched(Some(why_not));
            let page = Hearing::new(status, &clock).page(Detail::Short);
            let shown = if is_warning { styled(WARN, r"no: \x1b") } else { r"no: \x1b".to_owned() };
            assert!(page.contains(&format!("no failed calls: {shown}; 'harden-why tap UNIT'")), "{page}");
        }
    }

    #[test]
    fn page_has_at_most_ten_lines_and_shows_what_is_wrong() {
        let clock = LocalTime { now: Some(Timestamp::UNIX_EPOCH), zone: TimeZone::UTC };
        let (common, other) =
            (blind_spots::silent_errno().to_string(), "no exit events: names are missing; run as root");
        let status = Status {
            listening: true,
            records: 14_212,
            lost: 3,
            only_manager: Some("user:1000".to_owned()),
            watches_calls: true,
            calls_skipped: 2,
            limitations: vec![other.to_owned(), "another: b; c".to_owned(), common],
            ..Status::default()
        };
        let mut hearing = Hearing::new(status, &clock);
        hearing.refusals = vec![
            ("system manager".to_owned(), RefusalState::Silent),
            ("user manager".to_owned(), RefusalState::Logged("since 14:56".to_owned())),
        ];
        let plain = |detail| anstream::adapter::strip_str(&hearing.page(detail)).to_string();
        let page = plain(Detail::Short);
        assert!(page.lines().count() <= 10, "{page}");
        for part in [
            "harden-whyd has listened since 1970-01-01 00:00:00.\n",
            "  seen   14212 records, 3 audit events lost\n",
            "  watch  failed calls of system units (2 were too many to look at)\n",
            "  you    you may see only the denials of your own units",
            "  silent calls refused with an error leave no record (system manager)",
            "  logs   refused calls of units of the user manager, since 14:56\n",
            "  unseen no exit events: names are missing; run as root (and 1 more:",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        let full = plain(Detail::Full);
        assert!(full.contains("  buffer ") && full.contains("another: b; c") && full.contains("leave no record"));
    }
}
