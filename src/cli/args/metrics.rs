//! The arguments of `metrics`.

use clap::Args;
use std::path::PathBuf;

/// Where to write the metrics.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// Replace FILE with the metrics, for the textfile collector of node_exporter
    #[arg(long, value_name = "FILE")]
    pub textfile: Option<PathBuf>,
}
