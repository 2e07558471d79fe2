//! The view of `log-refusals`.

use crate::audit::Note;
use crate::audit::text::{escape, plural};
use crate::cli::exit_status::ExitStatus;
use crate::cli::terminal::output::SCHEMA;
use crate::cli::terminal::output::{Detail, Reply};
use crate::cli::terminal::page::{BAD, BOLD, DIM, GOOD, Page, WARN, add_notes, styled};
use crate::incidents::Moment;
use crate::incidents::local_time::{LocalTime, moment};
use crate::operations::outcome::RefusalLogOutcome;
use crate::operations::refusal_logging::log_switch::manager_text;
use crate::operations::refusal_logging::marker::RefusalLogMarker;
use crate::operations::refusal_logging::state::{ActiveLogging, LoggingCause};
use crate::operations::refusal_logging::units::LoggedUnit;
use crate::units::Manager;
use serde::Serialize;

/// The most stopped units that the page names.
const NAMED: usize = 8;

/// The result of `log-refusals`.
#[derive(Debug, Serialize)]
pub(crate) struct RefusalLogging {
    schema: u32,
    manager: String,
    /// `started`, `extended`, `others` (other configuration had turned logging on), `declined`, `ended` or `nothing`.
    pub(crate) outcome: RefusalLogOutcome,
    /// When the active logging began, RFC 3339.
    since: Option<String>,
    /// When it ends by itself, RFC 3339.
    until: Option<String>,
    #[serde(serialize_with = "views")]
    pub(crate) units: Vec<LoggedUnit>,
    pub(crate) notes: Vec<Note>,
    #[serde(skip)]
    whose: String,
    #[serde(skip)]
    shown: String,
}

/// A unit with logged refusals.
#[derive(Debug, Serialize)]
struct LoggedUnitView<'a> {
    unit: &'a str,
    /// The directives that can refuse a call without a record.
    directives: Vec<&'static str>,
    /// Whether it had processes before.
    running: bool,
    /// Its state after the restart, if there was one.
    active_state: Option<String>,
    result: Option<String>,
    /// Why harden-why did not restart it, or could not confirm the restart.
    error: Option<String>,
}

fn views<S: serde::Serializer>(units: &[LoggedUnit], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(units.iter().map(|unit| {
        let (outcome, error) = match &unit.restarted {
            Some(Ok(outcome)) => (Some(outcome), None),
            Some(Err(error)) => (None, Some(error.clone())),
            None => (None, unit.not_restarted.map(str::to_owned)),
        };
        LoggedUnitView {
            unit: unit.name.as_str(),
            directives: unit.directives.iter().map(|directive| directive.key()).collect(),
            running: unit.running,
            active_state: outcome.map(|outcome| escape(outcome.active_state.as_bytes())),
            result: outcome.and_then(|outcome| outcome.result.as_ref()).map(|result| escape(result.as_bytes())),
            error,
        }
    }))
}

impl RefusalLogging {
    pub(crate) fn new(
        manager: Manager,
        outcome: RefusalLogOutcome,
        clock: &LocalTime,
        marker: Option<&RefusalLogMarker>,
        units: Vec<LoggedUnit>,
        notes: Vec<Note>,
    ) -> Self {
        let mut logging = Self {
            schema: SCHEMA,
            manager: manager.to_string(),
            outcome,
            since: None,
            until: None,
            units,
            notes,
            whose: manager_text(manager),
            shown: String::new(),
        };
        if let Some(marker) = marker {
            logging.set_period(marker, clock);
        }
        logging
    }

    /// Sets the start and the end.
    pub(crate) fn set_period(&mut self, marker: &RefusalLogMarker, clock: &LocalTime) {
        self.since = moment(&Moment::At(marker.since));
        self.until = moment(&Moment::At(marker.until));
        self.shown = clock.show_millis(marker.until);
    }

    /// Returns the units that systemd restarts to log their calls.
    pub(crate) fn units_to_restart(&self) -> impl Iterator<Item = &LoggedUnit> {
        self.units.iter().filter(|unit| unit.running && unit.not_restarted.is_none())
    }

    /// Describes the planned changes.
    pub(crate) fn describe_plan(&self) -> String {
        let mut page = Page::default();
        page.paragraph(
            0,
            &format!(
                "Calls that fail with an error will be logged until {1}, for processes of {0} started from now on.",
                self.whose,
                styled(BOLD, &self.shown)
            ),
        );
        let restarted: Vec<&LoggedUnit> = self.units_to_restart().collect();
        let left: Vec<&LoggedUnit> =
            self.units.iter().filter(|unit| unit.running && unit.not_restarted.is_some()).collect();
        if !restarted.is_empty() {
            page.gap();
            page.line(styled(WARN, "systemd restarts these units:"));
            for unit in restarted {
                unit_line(&mut page, unit, "");
            }
        }
        if !left.is_empty() {
            page.gap();
            page.paragraph(0, "These units do not restart, and are logged from their next start:");
            for unit in left {
                unit_line(&mut page, unit, unit.not_restarted.unwrap_or_default());
            }
        }
        page.finish()
    }
}

fn unit_line(page: &mut Page, unit: &LoggedUnit, more: &str) {
    let more = if more.is_empty() { String::new() } else { format!(" ({more})") };
    page.line(format_args!("  {}{}", styled(BOLD, &unit.name), styled(DIM, more)));
}

impl Reply for RefusalLogging {
    fn page(&self, _: Detail) -> String {
        let mut page = Page::default();
        let whose = &self.whose;
        match self.outcome {
            RefusalLogOutcome::Started | RefusalLogOutcome::Extended => {
                page.paragraph(
                    0,
                    &format!(
                        "Logging until {}: calls that fail with an error, of processes of {whose} started from now on. \
                         'harden-why UNIT' shows them; {} ends it sooner.",
                        styled(BOLD, &self.shown),
                        end_command(&self.manager)
                    ),
                );
                page.gap();
                let idle = self.units.iter().filter(|unit| !unit.running).count();
                for unit in self.units.iter().filter(|unit| unit.running || idle <= NAMED) {
                    add_result(&mut page, unit);
                }
                if idle > NAMED {
                    let units = plural(idle as u64, "unit");
                    page.paragraph(2, &format!("{units} do not run: logged from their next start"));
                }
            }
            RefusalLogOutcome::OnByOthers | RefusalLogOutcome::Declined => page.line("Nothing was changed."),
            RefusalLogOutcome::Ended => page.paragraph(
                0,
                &format!(
                    "Ended for {whose}: calls that fail with an error leave no record in processes started from \
                    now on."
                ),
            ),
            RefusalLogOutcome::Nothing => {
                page.paragraph(0, &format!("Nothing to do: harden-why logs no refusals for {whose}."));
            }
        }
        add_notes(&mut page, &self.notes);
        page.finish()
    }

    fn exit_status(&self) -> ExitStatus {
        if self.outcome == RefusalLogOutcome::Declined { ExitStatus::Failed } else { ExitStatus::Done }
    }
}

fn end_command(manager: &str) -> &'static str {
    if manager == "system" { "'harden-why log-refusals --off'" } else { "'harden-why log-refusals --off --user'" }
}

/// Adds what happened to a unit.
fn add_result(page: &mut Page, unit: &LoggedUnit) {
    let what = match (&unit.restarted, unit.not_restarted) {
        (Some(Ok(outcome)), _) => {
            let state = escape(outcome.active_state.as_bytes());
            let result = outcome.result.as_ref().filter(|result| *result != "success");
            let result = result.map_or_else(String::new, |result| format!(" ({})", escape(result.as_bytes())));
            match state.as_str() {
                "inactive" => format!("has ended{result}: logged from its next start"),
                "failed" => format!("restarted: {}{result}", styled(BAD, &state)),
                _ => format!("restarted: {}{result}", styled(GOOD, &state)),
            }
        }
        (Some(Err(error)), _) => styled(BAD, format_args!("did not restart in time: {error}")),
        (None, Some(why)) => format!("not restarted ({why})"),
        (None, None) => "does not run: logged from its next start".to_owned(),
    };
    page.item(&format!("  {}  ", unit.name), &what);
}

/// Whether a manager logs refusals, for JSON.
#[derive(Debug, Serialize)]
pub(crate) struct RecordingView {
    /// `system`, or `user:UID`.
    manager: String,
    /// Whether the manager logs refusals of newly started processes; null if unknown.
    on: Option<bool>,
    /// `harden-why`, or the file and line that turn it on.
    by: Option<String>,
    since: Option<String>,
    /// When it ends by itself, RFC 3339.
    until: Option<String>,
}

impl RecordingView {
    pub(crate) fn new(manager: Manager, logging: Option<&ActiveLogging>) -> Self {
        let (by, since, until) = match logging.map(|logging| &logging.cause) {
            Some(LoggingCause::HardenWhy { since, until }) => {
                (Some("harden-why".to_owned()), moment(&Moment::At(*since)), moment(&Moment::At(*until)))
            }
            Some(LoggingCause::Others(other)) => (Some(other.clone()), None, None),
            None => (None, None, None),
        };
        Self { manager: manager.to_string(), on: Some(logging.is_some()), by, since, until }
    }

    /// The view of a manager that does not answer.
    pub(crate) fn unknown(manager: Manager) -> Self {
        Self { manager: manager.to_string(), on: None, by: None, since: None, until: None }
    }
}
