//! The arguments of the verbs that change units: `apply`, `revert`, `rehearse`, `bisect` and `log-refusals`.

use super::selection::{Chosen, ChosenUnits, ManagerFlags, StateDir};
use super::values::{Offered, duration, remedy_number, restart_count};
use crate::policy::Directive;
use clap::Args;
use std::time::Duration;

/// What to apply, and how.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Apply {
    /// Which units.
    #[command(flatten)]
    pub chosen: ChosenUnits,

    /// The remedy with this number in -v [the suggested one]
    #[arg(long, value_name = "N", value_parser = remedy_number, allow_negative_numbers = true)]
    pub remedy: Option<usize>,

    /// Only until the next boot: the drop-in goes below /run
    #[arg(long)]
    pub runtime: bool,

    /// Restart the unit, so that the new settings take effect
    #[arg(long)]
    pub restart: bool,

    /// Show the change, and write nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,

    /// Where the incidents are.
    #[command(flatten)]
    pub source: StateDir,

    /// Whether `rehearse` also opens the calls of systemd's own that it saw.
    #[arg(skip)]
    pub systemds_calls: bool,
}

/// What to take back.
#[derive(Debug, Args)]
pub struct Revert {
    /// Which units.
    #[command(flatten)]
    pub chosen: ChosenUnits,

    /// Do not ask first
    #[arg(long, short)]
    pub yes: bool,
}

/// What to rehearse, and until when.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Rehearse {
    /// Which unit.
    #[command(flatten)]
    pub chosen: Chosen,

    /// Leave this setting in force, and find no call for it
    #[arg(long, value_name = "DIRECTIVE", hide_possible_values = true, value_parser = Offered(|| Directive::liftable().map(Directive::key).collect()))]
    pub keep: Vec<String>,

    /// Stop after this time: 90s, 5min, "1h 30min"
    #[arg(long = "for", value_name = "SPAN", value_parser = duration, allow_hyphen_values = true)]
    pub duration: Option<Duration>,

    /// Stop after this long without a new call.
    #[arg(
        help = "Stop after this long without a new call [30s]",
        long,
        value_name = "SPAN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30s",
        value_parser = duration
    )]
    pub until_idle: Option<Duration>,

    /// Do not reload the unit at the end
    #[arg(long)]
    pub no_reload: bool,

    /// Apply the remedy at the end, then start the unit
    #[arg(long)]
    pub apply: bool,

    /// Show the plan, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// What to bisect, and what decides.
#[derive(Debug, Args)]
pub struct Bisect {
    /// Which unit.
    #[command(flatten)]
    pub chosen: Chosen,

    /// Shell command that succeeds if $UNIT does its work
    #[arg(long, value_name = "COMMAND")]
    pub check: Option<String>,

    /// How long it stays active, or the check may fail.
    #[arg(
        help = "How long it stays active, or the check may fail [5s]",
        long,
        value_name = "SPAN",
        default_value = "5s",
        hide_default_value = true,
        value_parser = duration,
        allow_hyphen_values = true
    )]
    pub wait: Duration,

    /// Stop after this many restarts [enough for two lines]
    #[arg(long, value_name = "N", value_parser = restart_count, allow_negative_numbers = true)]
    pub restarts: Option<usize>,

    /// Show the plan, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Which units to log refusals of, and for how long.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["units", "all", "off"])))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct LogRefusals {
    /// The units; a name without suffix means .service
    #[arg(value_name = "UNIT")]
    pub units: Vec<String>,

    /// Every loaded unit that can refuse calls without a record
    #[arg(long)]
    pub all: bool,

    /// Stop logging
    #[arg(long, conflicts_with_all = ["duration", "no_restart", "yes"])]
    pub off: bool,

    /// Stop after this time, at most a week: "30min", "2h", "1 day"
    #[arg(long = "for", value_name = "SPAN", default_value = "1h", value_parser = duration, allow_hyphen_values = true)]
    pub duration: Duration,

    /// Do not restart the units; they are logged from their next start
    #[arg(long)]
    pub no_restart: bool,

    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,

    /// Whose units.
    #[command(flatten)]
    pub managers: ManagerFlags,
}
