//! The daemon: see [`harden_why::daemon`].

use anyhow::Context as _;
use clap::Parser as _;
use harden_why::cli::args;
use harden_why::daemon;
use harden_why::daemon::Options;
use harden_why::daemon::log_writer::LogWriter;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// How long the end waits for standard error to take the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args = args::Daemon::parse();
    let log = match LogWriter::start(std::io::stderr()) {
        Ok(log) => log,
        Err(error) => {
            _ = writeln!(std::io::stderr(), "cannot start the thread that writes the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    let lines = log.clone();
    // The journal adds the time, and only a terminal shows colours.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(move || lines.clone())
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
    let outcome = run(&Options { state_dir: args.state_dir, bus: args.bus, config: args.config });
    if let Err(error) = &outcome {
        tracing::error!("{error:#}");
    }
    log.flush_within(LAST_LINES);
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("cannot start the event loop")?;
    let outcome = runtime.block_on(daemon::run(options));
    // The daemon stops even if a read hangs, for example on an unreachable file server.
    runtime.shutdown_background();
    outcome
}
