//! The client: see [`harden_why::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    harden_why::cli::run_arguments()
}
