//! The daemon: see [`harden_why::daemon`].

use anyhow::Context as _;
use clap::Parser as _;
use harden_why::cli::args;
use harden_why::daemon;
use harden_why::daemon::Options;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = args::Daemon::parse();
    // The journal adds the time, and only a terminal shows colours.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
    match run(&Options { state_dir: args.state_dir, bus: args.bus, config: args.config }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
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
