//! The arguments of both programs: help, man pages and completions are derived from them.

pub mod help;
pub(crate) mod parse;
pub(crate) mod since;
pub(crate) mod time_span;
pub(crate) mod values;

use crate::policy::Directive;
use crate::syscalls::Abi;
use crate::systemd::bus_address::BusAddress;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use values::{Offered, duration, line_count, remedy_number, row_count};

/// The directory of the daemon's store.
pub const STATE_DIR: &str = "/var/lib/harden-why";

/// The heading of the options that every verb has.
const COMMON: &str = "Common options";

/// Why did systemd's hardening deny my service a system call, and what to change?
#[derive(Debug, Parser)]
#[command(name = "harden-why", version, max_term_width = 100, subcommand_precedence_over_arg = true)]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub common: Common,

    /// What to do instead of answering for units.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The units, where no verb is given.
    #[command(flatten)]
    pub units: Units,
}

/// Options of every verb.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Common {
    /// Bus on which harden-whyd answers: system, session, or a D-Bus address
    #[arg(long, global = true, help_heading = COMMON, value_name = "BUS", default_value = "system")]
    pub bus: BusAddress,

    /// Print JSON (schema 1) instead of text
    #[arg(
        long,
        global = true,
        help_heading = COMMON,
        value_name = "LAYOUT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "pretty"
    )]
    pub json: Option<JsonLayout>,

    /// Form of the answer
    #[arg(long, short, global = true, help_heading = COMMON, value_name = "FORM", conflicts_with = "json")]
    pub output: Option<OutputForm>,

    /// Exit with status 1 if there are denials, or a check fails
    #[arg(long, global = true, help_heading = COMMON)]
    pub exit_code: bool,

    /// Print no notes, hints and progress on standard error
    #[arg(long, short, global = true, help_heading = COMMON)]
    pub quiet: bool,

    /// Do not page the answer
    #[arg(long, global = true, help_heading = COMMON)]
    pub no_pager: bool,

    /// Colour the answer
    #[arg(long, global = true, help_heading = COMMON, value_name = "WHEN", default_value = "auto")]
    pub color: When,

    /// Show everything: each denial with its evidence, all remedies, groups and notes
    #[arg(long, short, global = true, help_heading = COMMON)]
    pub verbose: bool,

    /// Show every remedy, with its file
    #[arg(long, global = true, help_heading = COMMON)]
    pub all_remedies: bool,
}

/// How JSON is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum JsonLayout {
    /// On indented lines
    Pretty,
    /// On one line
    Short,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// The page of one screen
    Short,
    /// The page with everything, as --verbose
    Verbose,
    /// JSON on one line
    Json,
    /// JSON on indented lines
    JsonPretty,
}

impl Common {
    /// Returns whether the answer is JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json.is_some()
    }

    /// Replaces `--output` by the options that it stands for.
    fn resolve_output(&mut self) {
        match self.output {
            Some(OutputForm::Json) => self.json = Some(JsonLayout::Short),
            Some(OutputForm::JsonPretty) => self.json = Some(JsonLayout::Pretty),
            Some(OutputForm::Verbose) => self.verbose = true,
            Some(OutputForm::Short) | None => {}
        }
    }
}

/// Of what answers from incidents.
#[derive(Debug, Default, Args)]
pub struct StateDir {
    /// Read the store in DIR, without the daemon [the daemon's own is /var/lib/harden-why]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// From when to when denials count.
#[derive(Debug, Default, Args)]
pub struct TimeOptions {
    /// Only denials since TIME: "2026-11-23 14:00", "14:50", "yesterday", "-1h"
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,

    /// Only denials first seen until TIME
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
}

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

    /// Only units of the system manager
    #[arg(long, conflicts_with = "user")]
    pub system: bool,

    /// Only units of user managers
    #[arg(long)]
    pub user: bool,

    /// Also show fixed units, and units that can be refused calls silently
    #[arg(long, conflicts_with_all = ["units", "unknown"])]
    pub all: bool,

    /// List the units without the heading and the lines below; notes go to standard error
    #[arg(long, conflicts_with_all = ["units", "unknown", "unit_options"])]
    pub no_legend: bool,

    /// Only the latest N denials of each unit; without units, the first N rows
    #[arg(long, short = 'n', value_name = "N", value_parser = row_count)]
    pub lines: Option<u32>,

    /// The units, as journalctl has them
    #[arg(long = "unit", short = 'u', value_name = "UNIT")]
    pub unit_options: Vec<String>,

    /// From when to when.
    #[command(flatten)]
    pub times: TimeOptions,

    /// Only denials since this boot
    #[arg(long, short)]
    pub boot: bool,

    /// Where the incidents are.
    #[command(flatten)]
    pub source: StateDir,
}

/// One unit.
#[derive(Debug, Args)]
pub struct Chosen {
    /// The unit; a name without suffix means .service
    #[arg(value_name = "UNIT")]
    pub unit: String,

    /// The unit of the system manager
    #[arg(long, conflicts_with = "user")]
    pub system: bool,

    /// The unit of your own user manager
    #[arg(long)]
    pub user: bool,
}

/// One unit or several.
#[derive(Debug, Args)]
pub struct ChosenUnits {
    /// The units: a name (without a suffix, .service), a quoted pattern ('web*'), a PID, or the path of an executable
    #[arg(value_name = "UNIT", required = true)]
    pub units: Vec<String>,

    /// Units of the system manager
    #[arg(long, conflicts_with = "user")]
    pub system: bool,

    /// Units of your own user manager
    #[arg(long)]
    pub user: bool,
}

/// What to apply, and how.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Apply {
    /// Which units.
    #[command(flatten)]
    pub chosen: ChosenUnits,

    /// The remedy, by its number in the answer of -v [the suggested one]
    #[arg(long, value_name = "N", value_parser = remedy_number)]
    pub remedy: Option<usize>,

    /// Only until the next boot: the drop-in goes below /run
    #[arg(long)]
    pub runtime: bool,

    /// Restart the unit, so that its processes get the new settings
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

    /// Do not ask; revert never asks
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

    /// Leave this directive on; may be given several times
    #[arg(long, value_name = "DIRECTIVE", value_parser = Offered(|| Directive::liftable().map(Directive::key).collect()))]
    pub keep: Vec<String>,

    /// Stop after this time: 90s, 5min, "1h 30min"
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub duration: Option<Duration>,

    /// Stop after this long without a new call.
    #[arg(
        help = "Stop after this long without a new call [30s]",
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30s",
        value_parser = duration
    )]
    pub until_idle: Option<Duration>,

    /// Do not reload the unit at the end
    #[arg(long)]
    pub no_reload: bool,

    /// Apply the remedy at the end, and start the unit under it
    #[arg(long)]
    pub apply: bool,

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
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub duration: Duration,

    /// Do not restart the units; they are logged from their next start
    #[arg(long)]
    pub no_restart: bool,

    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,

    /// Units of the system manager, as root [the default for root]
    #[arg(long, conflicts_with = "user")]
    pub system: bool,

    /// Units of your own user manager [the default for others]
    #[arg(long)]
    pub user: bool,
}

/// What to check.
#[derive(Debug, Args)]
pub struct Check {
    /// Which units.
    #[command(flatten)]
    pub chosen: ChosenUnits,

    /// Add this line in one more drop-in; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub with: Vec<String>,

    /// Read the unit's files below DIR instead of asking its manager
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Take the denials from the log FILE instead of the daemon; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "state_dir")]
    pub log: Option<PathBuf>,

    /// Read the groups from FILE: the output of 'systemd-analyze syscall-filter' on the log's machine
    #[arg(long, value_name = "FILE", requires = "log")]
    pub groups: Option<PathBuf>,

    /// Where the incidents are.
    #[command(flatten)]
    pub source: StateDir,
}

/// Which log to explain, and what is known about it.
#[derive(Debug, Args)]
pub struct Explain {
    /// Read unit files below DIR, and name directive, file and line ["/" for this machine's]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Show only the records of UNIT, a name or a pattern; may be given several times
    #[arg(long, short, value_name = "UNIT")]
    pub unit: Vec<String>,

    /// Assign records for which the log names no unit to UNIT
    #[arg(long, value_name = "UNIT")]
    pub assume_unit: Option<String>,

    /// From when to when.
    #[command(flatten)]
    pub times: TimeOptions,

    /// Read the groups from FILE: the output of 'systemd-analyze syscall-filter' on the log's machine
    #[arg(long, value_name = "FILE")]
    pub groups: Option<PathBuf>,

    /// The log; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// What to follow.
#[derive(Debug, Args)]
pub struct Follow {
    /// The units to follow.
    #[arg(value_name = "UNIT", help = "The units to follow [all]; a name without suffix means .service")]
    pub units: Vec<String>,

    /// A unit to follow, as in journalctl; may be given several times
    #[arg(long = "unit", short = 'u', value_name = "UNIT")]
    pub more_units: Vec<String>,

    /// First show the latest N denials
    #[arg(long, short = 'n', value_name = "N", value_parser = line_count)]
    pub lines: Option<u32>,

    /// Nothing changes: accepted as in journalctl
    #[arg(long, short)]
    pub follow: bool,

    /// Only units of the system manager
    #[arg(long, conflicts_with = "user")]
    pub system: bool,

    /// Only units of user managers
    #[arg(long)]
    pub user: bool,
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

    /// Only units of the system manager
    #[arg(long, conflicts_with = "user")]
    pub system: bool,

    /// Only units of user managers
    #[arg(long)]
    pub user: bool,

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
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub duration: Duration,

    /// Units of the system manager
    #[arg(long, conflicts_with = "user")]
    pub system: bool,

    /// Units of user managers
    #[arg(long)]
    pub user: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Explain the denials in a log, without a daemon
    ///
    /// Copies of a record, as journalctl prints them, count once. The unit of a record is
    /// known if the log names it. With --root, it is a guess if only one unit's commands run the program. A compressed log
    /// is read with 'zcat FILE | harden-why explain -', a journal file with 'journalctl --file FILE -o
    /// export | harden-why explain -'.
    Explain(Explain),

    /// Show denials as they happen
    Follow(Follow),

    /// Dismiss the denials of units until they come back
    ///
    /// The next denial of such a unit is new again, with an alert of its own. Root may dismiss the denials of any unit, and
    /// each user those of their own units.
    Forget(Forget),

    /// Watch a running unit for calls that fail silently
    Tap(TapArgs),

    /// Write the suggested drop-in, reload and confirm it
    Apply(Apply),

    /// Run a unit unblocked once, list what it would be denied
    Rehearse(Rehearse),

    /// Remove the drop-in that apply wrote
    Revert(Revert),

    /// Log calls that fail silently, for a limited time
    LogRefusals(LogRefusals),

    /// Check whether denied calls would pass now
    Check(Check),

    /// Show number, name and groups of a system call
    Syscall {
        /// Its name or number
        #[arg(
            value_name = "NAME|NUMBER",
            allow_negative_numbers = true,
            hide_possible_values = true,
            value_parser = Offered(|| Abi::all().flat_map(Abi::calls).map(|(_, name)| name).collect::<BTreeSet<_>>().into_iter().collect())
        )]
        call: String,

        /// Architecture of the number [this machine's]
        #[arg(long, value_name = "ARCH", value_parser = Offered(|| Abi::all().map(Abi::name).collect()))]
        arch: Option<String>,
    },

    /// Deny a child process a call, and explain the denial
    Demo,

    /// Show whether harden-whyd listens, and what it saw
    Status,

    /// Clean up after a harden-why that was killed
    ///
    /// Every other command does this first.
    Restore,

    /// Print the completions for a shell
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },

    /// The child of demo: puts itself under the demo's filter and asks for a socket.
    #[command(hide = true)]
    DemoVictim {
        /// The unit file whose filter it takes.
        unit_file: PathBuf,
    },
}

/// Watches the kernel's audit stream for seccomp denials and answers harden-why.
#[derive(Debug, Parser)]
#[command(name = "harden-whyd", version, max_term_width = 100)]
pub struct Daemon {
    /// Directory of the incident store
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    pub state_dir: PathBuf,

    /// Bus to answer on: system, session, or a D-Bus address
    #[arg(long, value_name = "BUS", default_value = "system")]
    pub bus: BusAddress,

    /// Read FILE alone [/etc/harden-why/harden-why.conf and its drop-ins]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
