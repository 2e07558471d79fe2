//! Options and arguments that select units and denials.

use super::journals::JournalOptions;
use super::machine::OtherMachines;
use super::values::row_count;
use clap::Args;
use std::path::PathBuf;

/// Which units to answer for.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Units {
    /// Units to answer for; a name without suffix means .service
    #[arg(value_name = "UNIT")]
    pub units: Vec<String>,

    /// Answer for processes of unknown units
    #[arg(long, conflicts_with_all = ["units", "system", "user"])]
    pub unknown: bool,

    /// Whose units.
    #[command(flatten)]
    pub managers: ManagerFlags,

    /// Also show fixed units, and units that can be refused calls silently
    #[arg(long, conflicts_with_all = ["units", "unknown"])]
    pub all: bool,

    /// List the units alone, without heading and advice; notes go to standard error
    #[arg(long, conflicts_with_all = ["units", "unknown", "unit_options"])]
    pub no_legend: bool,

    /// Only the latest N denials of each unit; without units, the first N rows
    #[arg(long, short = 'n', value_name = "N", value_parser = row_count, allow_negative_numbers = true)]
    pub lines: Option<u32>,

    /// A unit to answer for, as in journalctl; may be repeated
    #[arg(long = "unit", short = 'u', value_name = "UNIT")]
    pub unit_options: Vec<String>,

    /// From when to when.
    #[command(flatten)]
    pub times: TimeOptions,

    /// Only denials since this boot
    #[arg(long, short)]
    pub boot: bool,

    /// Where else the remedy is to hold.
    #[command(flatten)]
    pub others: OtherMachines,

    /// Where the incidents are.
    #[command(flatten)]
    pub source: StateDir,

    /// The journals of several machines.
    #[command(flatten)]
    pub journals: JournalOptions,
}

/// The managers whose units are meant.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct ManagerFlags {
    /// Only units of the system manager
    #[arg(long, conflicts_with = "user")]
    pub system: bool,

    /// Only units of user managers (to change: your own)
    #[arg(long)]
    pub user: bool,
}

/// One unit.
#[derive(Debug, Args)]
pub struct Chosen {
    /// The unit; a name without suffix means .service
    #[arg(value_name = "UNIT")]
    pub unit: String,

    /// Whose units.
    #[command(flatten)]
    pub managers: ManagerFlags,
}

/// One unit or several.
#[derive(Debug, Args)]
pub struct ChosenUnits {
    /// The units: a name (without a suffix, .service), a quoted pattern ('web*'), a PID, or the path of an executable
    #[arg(value_name = "UNIT", required = true)]
    pub units: Vec<String>,

    /// Whose units.
    #[command(flatten)]
    pub managers: ManagerFlags,
}

/// Of what answers from incidents.
#[derive(Debug, Default, Args)]
pub struct StateDir {
    /// Read the store in DIR [/var/lib/harden-why], not the daemon
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// From when to when denials count.
#[derive(Debug, Default, Args)]
pub struct TimeOptions {
    /// Only since TIME: "14:50", "-1h", "2026-11-23 14:00"
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,

    /// Only denials that were first seen until TIME
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
}
