//! What a person at the terminal asks, and the answer.
//!
//! Each verb makes a value that holds all it has to say; that is printed as a page or as JSON.

pub mod args;
pub mod lookup;
pub mod terminal;
pub mod verbs;
pub mod views;

use crate::cli::terminal::clock::clock;
use crate::cli::terminal::output::{say, tell, waiting};
use crate::operations::outcome::NothingToDo;
use anstream::ColorChoice;
use args::{Cli, Command, When};
use std::io;
use std::process::ExitCode;
use terminal::page;
use verbs::{
    apply, check, demo, explain, follow, log_refusals, overview, rehearse, restore, revert, status, syscall, tap, units,
};

/// Answers, and says with which status to exit: 0 there was something to report, 1 there was nothing,
/// 2 no answer was possible.
#[must_use]
pub fn run(cli: &Cli) -> ExitCode {
    let color = match cli.common.color {
        When::Auto => ColorChoice::Auto,
        When::Always => ColorChoice::Always,
        When::Never => ColorChoice::Never,
    };
    page::fit_terminal();
    // Its child is under a filter already, and asks for one call.
    if !matches!(cli.command, Some(Command::DemoVictim { .. })) {
        restore::mend(&cli.common, color);
    }
    match answer(cli, color) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        // Who reads us has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            tell(color, page::BAD, &format!("{error:#}"));
            ExitCode::from(if error.is::<NothingToDo>() { 1 } else { 2 })
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn answer(cli: &Cli, color: ColorChoice) -> anyhow::Result<bool> {
    let common = &cli.common;
    match &cli.command {
        None if cli.units.units.is_empty() && !cli.units.unknown => {
            say(common, color, &waiting(overview::overview(cli, &clock()))?)
        }
        None => say(common, color, &waiting(units::answer(cli, &clock()))?),
        Some(Command::Explain { root, unit, groups, file }) => {
            say(common, color, &explain::run(root.as_deref(), unit.as_deref(), groups.as_deref(), file)?)
        }
        Some(Command::Follow(asked)) => waiting(follow::follow(common, asked, color)),
        Some(Command::Tap(asked)) => say(common, color, &waiting(tap::tap(common, asked))?),
        Some(Command::Apply(asked)) => say(common, color, &waiting(apply::apply(common, asked, &clock()))?),
        Some(Command::Rehearse(asked)) => waiting(rehearse::rehearse(common, asked, color)),
        Some(Command::Revert(asked)) => say(common, color, &waiting(revert::revert(common, &asked.chosen))?),
        Some(Command::LogRefusals(asked)) => {
            say(common, color, &waiting(log_refusals::log_refusals(common, asked, &clock()))?)
        }
        Some(Command::Check(asked)) => say(common, color, &waiting(check::check(common, asked, &clock()))?),
        Some(Command::Syscall { call, arch }) => say(common, color, &syscall::look_up(call, arch.as_deref())?),
        Some(Command::Status) => say(common, color, &waiting(async { Ok(status::ask(common, &clock()).await) })?),
        Some(Command::Demo) => say(common, color, &demo::run(&clock())?),
        // What there was to mend is mended before every verb.
        Some(Command::Restore) => Ok(true),
        Some(Command::DemoVictim { unit_file }) => Err(demo::be_victim(unit_file)),
    }
}
