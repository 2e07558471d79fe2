//! The arguments of both programs: help, man pages and completions are derived from them.

pub mod changes;
pub mod common_options;
pub mod help;
pub mod journals;
pub(crate) mod machine;
pub mod metrics;
pub(crate) mod parse;
#[cfg(test)]
mod printed_commands;
pub mod queries;
pub mod selection;
pub(crate) mod since;
pub(crate) mod time_span;
mod usage_error;
pub(crate) mod values;

pub use changes::{Apply, Bisect, LogRefusals, Rehearse, Revert};
pub use common_options::{Common, JsonLayout, OutputForm, When};
pub use journals::JournalOptions;
pub use metrics::MetricsArgs;
pub use queries::{Check, Explain, Follow, Forget, TapArgs};
pub use selection::{Chosen, ChosenUnits, ManagerFlags, StateDir, TimeOptions, Units};

use crate::syscalls::Abi;
use crate::systemd::bus_address::BusAddress;
use clap::{Parser, Subcommand, ValueEnum};
use std::collections::BTreeSet;
use std::path::PathBuf;
use values::Offered;

/// The directory of the daemon's store.
pub const STATE_DIR: &str = "/var/lib/harden-why";

/// Why did systemd's hardening deny my service a system call, and what to change?
#[derive(Debug, Parser)]
#[command(name = "harden-why", version, max_term_width = 100)]
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

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Explain the denials in a log, without a daemon
    ///
    /// A journal file: 'journalctl --file FILE -o export | harden-why explain -'.
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

    /// Run a unit once without its filters, list its denials
    Rehearse(Rehearse),

    /// Find the line that breaks a unit, restart by restart
    ///
    /// Each restart lifts some of the unit's hardening lines, by a drop-in below /run. At the end its own settings return.
    Bisect(Bisect),

    /// Remove the drop-in that apply wrote
    Revert(Revert),

    /// Log calls that fail silently, for a limited time
    LogRefusals(LogRefusals),

    /// Check which calls would be denied, now or elsewhere
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

        /// Output of 'systemd-analyze syscall-filter' there
        #[arg(long, value_name = "FILE")]
        groups: Option<PathBuf>,
    },

    /// Print denials and the daemon's counters for Prometheus
    Metrics(MetricsArgs),

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
        /// The shell: bash, zsh or fish
        #[arg(value_name = "SHELL", hide_possible_values = true)]
        shell: CompletedShell,
    },

    /// For completions: prints the numbers of a unit's remedies with their titles, one a line.
    #[command(hide = true)]
    ListRemedies {
        /// The unit.
        #[command(flatten)]
        units: Units,
    },

    /// The child of demo: puts itself under the demo's filter and asks for a socket.
    #[command(hide = true)]
    DemoVictim {
        /// The unit file whose filter it takes.
        unit_file: PathBuf,
    },
}

/// A shell that has completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompletedShell {
    /// bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
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
