//! The options that every verb has.

use crate::systemd::bus_address::BusAddress;
use clap::{Args, ValueEnum};

/// Their heading in the help.
pub(super) const COMMON: &str = "Common options";

/// Options of every verb.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Common {
    /// Show everything: each denial with its evidence, all remedies, groups and notes
    #[arg(long, short, global = true, help_heading = COMMON)]
    pub verbose: bool,

    /// Show every remedy, with its file
    #[arg(long, global = true, help_heading = COMMON)]
    pub all_remedies: bool,

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

    /// Print the answer as FORM
    #[arg(
        long,
        short,
        global = true,
        help_heading = COMMON,
        value_name = "FORM",
        conflicts_with = "json"
    )]
    pub output: Option<OutputForm>,

    /// Print no notes, hints and progress on standard error
    #[arg(long, short, global = true, help_heading = COMMON)]
    pub quiet: bool,

    /// Do not page the answer
    #[arg(long, global = true, help_heading = COMMON)]
    pub no_pager: bool,

    /// Colour the answer
    #[arg(
        long,
        global = true,
        help_heading = COMMON,
        value_name = "WHEN",
        default_value = "auto"
    )]
    pub color: When,

    /// Exit with 1 if a denial is not fixed, or a check fails
    #[arg(long, global = true, help_heading = COMMON)]
    pub exit_code: bool,

    /// Bus on which harden-whyd answers: system, session, or a D-Bus address
    #[arg(long, global = true, help_heading = COMMON, value_name = "BUS", default_value = "system")]
    pub bus: BusAddress,
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

impl Common {
    /// Returns whether the answer is JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json.is_some()
    }

    /// Replaces `--output` by the options that it stands for.
    pub(super) fn resolve_output(&mut self) {
        match self.output {
            Some(OutputForm::Json) => self.json = Some(JsonLayout::Short),
            Some(OutputForm::JsonPretty) => self.json = Some(JsonLayout::Pretty),
            Some(OutputForm::Verbose) => self.verbose = true,
            Some(OutputForm::Short) | None => {}
        }
    }
}
