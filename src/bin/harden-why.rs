//! The client: see [`harden_why::cli`].

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    harden_why::cli::run(&harden_why::cli::args::Cli::parse())
}
