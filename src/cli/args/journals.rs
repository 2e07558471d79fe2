//! The options that select journals of several machines.

use clap::Args;
use std::path::PathBuf;

/// The journals whose alerts to list.
#[derive(Debug, Default, Args)]
pub struct JournalOptions {
    /// List the alerts of all machines with journals in DIR and below
    #[arg(long, short = 'D', value_name = "DIR", conflicts_with_all = ["unknown", "all", "no_legend", "state_dir", "boot", "machines"])]
    pub directory: Option<PathBuf>,

    /// List the alerts in the journal FILE; may be given several times
    #[arg(long, value_name = "FILE", conflicts_with_all = ["unknown", "all", "no_legend", "state_dir", "boot", "machines", "directory"])]
    pub file: Vec<PathBuf>,

    /// List the alerts of all machines with journals in /var/log/journal
    #[arg(long, short = 'm', conflicts_with_all = ["unknown", "all", "no_legend", "state_dir", "boot", "machines", "file"])]
    pub merge: bool,
}

impl JournalOptions {
    /// Returns whether one of the options is given.
    pub(crate) fn is_given(&self) -> bool {
        self.directory.is_some() || !self.file.is_empty() || self.merge
    }
}
