//! What a person at the terminal asks, and the answer.
//!
//! Each verb makes a value that holds all it has to say; that is printed as a page or as JSON.

pub mod args;
pub mod lookup;
pub mod terminal;
pub mod verbs;
pub mod views;

use anstream::{AutoStream, ColorChoice};
use args::since as since_argument;
use args::{Cli, Command, Common, When};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use serde::Serialize;
use std::io;
use std::io::Write;
use std::process::ExitCode;
use terminal::page;
use verbs::apply;
use verbs::check;
use verbs::demo;
use verbs::explain;
use verbs::follow;
use verbs::log_refusals;
use verbs::overview;
use verbs::rehearse;
use verbs::restore;
use verbs::revert;
use verbs::status;
use verbs::syscall;
use verbs::tap;
use verbs::units;
use views::answer::Clock;

/// What a verb has to say.
trait Reply: Serialize {
    /// As a screen, with colours that a pipe leaves out.
    fn page(&self) -> String;

    /// Whether there was anything to report: the exit status.
    fn found(&self) -> bool;
}

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

/// There is nothing to do, which is no failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NothingToDo(pub(crate) String);

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
        Some(Command::Expose(asked)) => say(common, color, &waiting(log_refusals::expose(common, asked, &clock()))?),
        Some(Command::Check(asked)) => say(common, color, &waiting(check::check(common, asked, &clock()))?),
        Some(Command::Syscall { call, arch }) => say(common, color, &syscall::look_up(call, arch.as_deref())?),
        Some(Command::Status) => say(common, color, &waiting(async { Ok(status::ask(common, &clock()).await) })?),
        Some(Command::Demo) => say(common, color, &demo::run(&clock())?),
        // What there was to mend is mended before every verb.
        Some(Command::Restore) => Ok(true),
        Some(Command::DemoVictim { unit_file }) => Err(demo::be_victim(unit_file)),
    }
}

/// Says what is wrong beside the answer. Words of others are escaped by who took them.
fn complain(color: ColorChoice, what: &str) {
    tell(color, page::WARN, what);
}

fn tell(color: ColorChoice, style: anstyle::Style, what: &str) {
    let mut out = AutoStream::new(io::stderr(), color);
    // There is nobody left to tell that it cannot be told.
    let _ = writeln!(out, "{} {what}", page::styled(style, "harden-why:"));
}

/// Prints a reply; whether there was anything to report.
fn say(common: &Common, color: ColorChoice, reply: &impl Reply) -> anyhow::Result<bool> {
    let mut out = AutoStream::new(io::stdout(), color);
    if common.json {
        let mut json = serde_json::to_string_pretty(reply)?;
        json.push('\n');
        out.write_all(json.as_bytes())?;
    } else {
        out.write_all(reply.page().as_bytes())?;
    }
    out.flush()?;
    Ok(reply.found())
}

/// Runs what has to wait for others.
fn waiting<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?.block_on(future)
}

/// Here and now.
fn clock() -> Clock {
    Clock { now: Some(Timestamp::now()), zone: TimeZone::system() }
}

/// The moment `--since` means.
fn since(text: Option<&str>, clock: &Clock) -> anyhow::Result<Option<i64>> {
    let now: ZonedDateTime = clock.now.unwrap_or_else(Timestamp::now).to_zoned_datetime(clock.zone.clone());
    Ok(text.map(|text| since_argument::parse(text, &now)).transpose()?)
}
