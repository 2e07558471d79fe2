//! The arguments of the verbs that look at denials: `check`, `explain`, `follow`, `forget` and `tap`.

use super::machine::OtherMachines;
use super::selection::{ChosenUnits, ManagerFlags, StateDir, TimeOptions};
use super::values::{duration, line_count, setting_line};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// What to check.
#[derive(Debug, Args)]
pub struct Check {
    /// Which units.
    #[command(flatten)]
    pub chosen: ChosenUnits,

    /// Add this line behind the unit's own; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting_line)]
    pub with: Vec<String>,

    /// Read the unit files below DIR, not from systemd
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Take the denials from the log FILE, or - (stdin)
    #[arg(long, value_name = "FILE", conflicts_with = "state_dir")]
    pub log: Option<PathBuf>,

    /// Output of 'systemd-analyze syscall-filter' there
    #[arg(long, value_name = "FILE", requires = "log")]
    pub groups: Option<PathBuf>,

    /// Where else it is to run.
    #[command(flatten)]
    pub others: OtherMachines,

    /// Where the incidents are.
    #[command(flatten)]
    pub source: StateDir,
}

/// Which log to explain, and what is known about it.
#[derive(Debug, Args)]
pub struct Explain {
    /// Name the deciding line in the unit files below DIR
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Only records of UNIT, a name or a pattern
    #[arg(long, short, value_name = "UNIT")]
    pub unit: Vec<String>,

    /// Take records without a unit as those of UNIT
    #[arg(long, value_name = "UNIT")]
    pub assume_unit: Option<String>,

    /// From when to when.
    #[command(flatten)]
    pub times: TimeOptions,

    /// Output of 'systemd-analyze syscall-filter' there
    #[arg(long, value_name = "FILE")]
    pub groups: Option<PathBuf>,

    /// Where else the remedy is to hold.
    #[command(flatten)]
    pub others: OtherMachines,

    /// The log, - for stdin, or a directory of journals
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// What to follow.
#[derive(Debug, Args)]
pub struct Follow {
    /// The units to follow.
    #[arg(value_name = "UNIT", help = "The units to follow [all]; a name without suffix means .service")]
    pub units: Vec<String>,

    /// A unit to follow, as in journalctl; may be repeated
    #[arg(long = "unit", short = 'u', value_name = "UNIT")]
    pub more_units: Vec<String>,

    /// First show the latest N denials
    #[arg(long, short = 'n', value_name = "N", value_parser = line_count, allow_negative_numbers = true)]
    pub lines: Option<u32>,

    /// No effect: accepted as in journalctl
    #[arg(long, short)]
    pub follow: bool,

    /// Whose units.
    #[command(flatten)]
    pub managers: ManagerFlags,
}

/// The units whose denials to dismiss.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("dismissed").required(true).args(["units", "unknown"])))]
pub struct Forget {
    /// Units or patterns ('web-*'); a name without suffix means .service
    #[arg(value_name = "UNIT")]
    pub units: Vec<String>,

    /// The denials of processes of unknown units, as root
    #[arg(long, conflicts_with_all = ["system", "user"])]
    pub unknown: bool,

    /// Whose units.
    #[command(flatten)]
    pub managers: ManagerFlags,

    /// Where the incidents are.
    #[command(flatten)]
    pub source: StateDir,
}

/// What to tap, and how long.
#[derive(Debug, Args)]
pub struct TapArgs {
    /// Running units (a name without suffix means .service), or PIDs with the children that they start
    #[arg(value_name = "UNIT|PID", required = true)]
    pub targets: Vec<String>,

    /// How long to watch: 10s, 5min, 1h
    #[arg(long = "for", value_name = "SPAN", default_value = "30s", value_parser = duration, allow_hyphen_values = true)]
    pub duration: Duration,

    /// Restart the units, or start them, to see their calls from the first one on
    #[arg(long)]
    pub restart: bool,

    /// Do not ask before the restart
    #[arg(long, short)]
    pub yes: bool,

    /// Whose units.
    #[command(flatten)]
    pub managers: ManagerFlags,
}
