//! The command line: arguments, lookups, verbs, and views.
//!
//! Each verb returns a view: a value that prints itself as a page or as JSON.

pub mod args;
pub mod completions;
pub(crate) mod exit_status;
pub(crate) mod lookup;
pub(crate) mod own_command;
pub(crate) mod terminal;
pub(crate) mod verbs;
pub mod views;

use crate::cli::terminal::clock::local_time_now;
use crate::cli::terminal::output::{
    block_on, color_choice, print_error, print_error_object, print_nothing_to_do, print_reply, print_text, warn,
};
use crate::operations::outcome::NothingToDo;
use anstream::ColorChoice;
use args::{Cli, Command};
use clap::error::ErrorKind;
use exit_status::{ExitStatus, requires_root};
use own_command::repeat_as_root;
use std::io;
use std::process::ExitCode;
use terminal::page;
use terminal::quiet::set_quiet;
use verbs::restore::Restored;
use verbs::{
    apply, bisect, check, demo, explain, fleet, follow, forget, log_refusals, metrics, overview, rehearse, restore,
    revert, status, syscall, tap, units,
};
use views::remedy_list::RemedyList;

/// Parses this program's arguments and runs the invocation. Prints the error and exits if the arguments are invalid.
#[must_use]
pub fn run_arguments() -> ExitCode {
    // Help is laid out as answers are.
    page::fit_terminal();
    match Cli::parse_arguments() {
        Ok(cli) => run(&cli),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            let text = error.render().ansi().to_string();
            let printed = print_text(ColorChoice::Auto, &text, !has_word("--no-pager"));
            // A reader who has seen enough is no failure.
            match printed {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
                _ => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            if error.use_stderr() && has_word("--json") {
                let text = error.render().to_string();
                // Without stdout, the exit status remains.
                let _ = print_error_object(text.lines().next().unwrap_or_default().trim_start_matches("error: "));
            }
            error.exit()
        }
    }
}

/// Returns whether an argument starts with a word.
fn has_word(start: &str) -> bool {
    std::env::args_os().any(|word| word.to_str().is_some_and(|word| word.starts_with(start)))
}

/// Runs one invocation. `exit_status` lists what the exit status means.
#[must_use]
pub fn run(cli: &Cli) -> ExitCode {
    let color = color_choice(&cli.common);
    set_quiet(cli.common.quiet);
    page::fit_terminal();
    // The demo child runs under a filter that denies what recovery would call.
    let is_victim = matches!(cli.command, Some(Command::DemoVictim { .. }));
    let restored = if is_victim { Restored::default() } else { restore::recover_leftovers(&cli.common, color) };
    match answer(cli, &restored, color) {
        Ok(status) => status.code(cli.common.exit_code),
        // The reader closed the pipe and needs no more output.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<NothingToDo>() => {
            // Without stdout, the exit status remains.
            let _ = print_nothing_to_do(cli.common.is_json(), color, &format!("{error:#}"));
            ExitStatus::Done.code(cli.common.exit_code)
        }
        Err(error) => {
            let _ = print_error(cli.common.is_json(), color, &describe_error(&error));
            ExitStatus::from_error(&error).code(cli.common.exit_code)
        }
    }
}

/// Describes an error, with the command to type if it would not occur to root.
fn describe_error(error: &anyhow::Error) -> String {
    let command = requires_root(error).then(repeat_as_root).flatten();
    command.map_or_else(|| format!("{error:#}"), |command| format!("{error:#}: {command}"))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn answer(cli: &Cli, restored: &Restored, color: ColorChoice) -> anyhow::Result<ExitStatus> {
    let common = &cli.common;
    match &cli.command {
        None if cli.units.journals.is_given() => {
            print_reply(common, color, &fleet::list_alerts(&cli.units, &local_time_now())?)
        }
        None if cli.units.units.is_empty() && !cli.units.unknown => {
            let overview = block_on(overview::overview(cli, &local_time_now()))?;
            // JSON has the notes.
            for note in overview.notes_off_page().iter().filter(|_| !common.is_json()) {
                warn(color, &note.text);
            }
            print_reply(common, color, &overview)
        }
        None => print_reply(common, color, &block_on(units::answer(common, &cli.units, &local_time_now()))?),
        Some(Command::ListRemedies { units }) => {
            let report = block_on(units::answer(common, units, &local_time_now()))?;
            print_reply(common, color, &RemedyList::new(&report.units))
        }
        Some(Command::Explain(asked)) if asked.file.is_dir() => {
            print_reply(common, color, &explain::gathered::explain_journals(asked)?)
        }
        Some(Command::Explain(asked)) => print_reply(common, color, &explain::run(asked)?),
        Some(Command::Follow(asked)) => block_on(follow::follow(common, asked, color)),
        Some(Command::Forget(asked)) => print_reply(common, color, &block_on(forget::forget(common, asked))?),
        Some(Command::Tap(asked)) => print_reply(common, color, &block_on(tap::tap(common, asked))?),
        Some(Command::Apply(asked)) => block_on(apply::apply_all(common, asked, &local_time_now(), color)),
        Some(Command::Rehearse(asked)) => block_on(rehearse::rehearse(common, asked, color)),
        Some(Command::Bisect(asked)) => block_on(bisect::bisect(common, asked, color)),
        Some(Command::Revert(asked)) => block_on(revert::revert_all(common, asked, color)),
        Some(Command::LogRefusals(asked)) => {
            print_reply(common, color, &block_on(log_refusals::log_refusals(common, asked, &local_time_now()))?)
        }
        Some(Command::Check(asked)) => block_on(check::check_all(common, asked, color)),
        Some(Command::Syscall { call, arch, groups }) => {
            print_reply(common, color, &syscall::look_up(call, arch.as_deref(), groups.as_deref())?)
        }
        Some(Command::Status) => {
            print_reply(common, color, &block_on(async { Ok(status::query_status(common, &local_time_now()).await) })?)
        }
        Some(Command::Metrics(asked)) => {
            let answer = block_on(async { Ok(metrics::metrics(common).await) })?;
            match metrics::write_textfile(common, asked, &answer)? {
                Some(written) => Ok(written),
                None => print_reply(common, color, &answer),
            }
        }
        Some(Command::Demo) => print_reply(common, color, &block_on(demo::run(&common.bus, &local_time_now()))?),
        Some(Command::Completions { shell }) => completions::print(*shell),
        // Recovery ran above, as before every verb.
        Some(Command::Restore) => print_reply(common, color, restored),
        Some(Command::DemoVictim { unit_file }) => Err(demo::run_demo_child(unit_file)),
    }
}
