//! Prints answers to stdout, and warnings to stderr.

use crate::cli::args::{Common, When};
use crate::cli::terminal::page;
use crate::cli::views::answer::SCHEMA;
use anstream::{AutoStream, ColorChoice};
use serde::Serialize;
use std::io;
use std::io::Write as _;

/// A verb's answer.
pub(crate) trait Reply: Serialize {
    /// Lays the reply out for people; a pipe strips the colours.
    fn page(&self, detail: Detail) -> String;

    /// Returns whether there is anything to report; decides the exit status.
    fn has_findings(&self) -> bool;

    /// Returns whether a reply without findings leaves open whether there are any, because the caller may not see all.
    fn is_inconclusive(&self) -> bool {
        false
    }

    /// Returns whether the verb did not do all that was requested.
    fn has_failed(&self) -> bool {
        false
    }
}

/// How much a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// One screen: what happened, why, and what to do.
    Short,
    /// The short page with every remedy.
    AllRemedies,
    /// Everything.
    Full,
}

impl Detail {
    /// Returns what `--verbose` and `--all-remedies` ask for.
    pub(crate) fn from_options(common: &Common) -> Self {
        match (common.verbose, common.all_remedies) {
            (true, _) => Self::Full,
            (false, true) => Self::AllRemedies,
            (false, false) => Self::Short,
        }
    }
}

/// A reply is printed, and is inconclusive or reports a failure. Exit status 2, without a further message.
#[derive(Debug, thiserror::Error)]
#[error("the answer is inconclusive, or reports a failure")]
pub(crate) struct PrintedFailure;

/// Returns the choice of `--color`.
pub(crate) fn color_choice(common: &Common) -> ColorChoice {
    match common.color {
        When::Auto => ColorChoice::Auto,
        When::Always => ColorChoice::Always,
        When::Never => ColorChoice::Never,
    }
}

/// Prints a warning to stderr. The caller must escape foreign text.
pub(crate) fn warn(color: ColorChoice, what: &str) {
    print_message(color, page::WARN, what);
}

/// Prints a message in a style to stderr.
pub(crate) fn print_message(color: ColorChoice, style: anstyle::Style, what: &str) {
    let mut out = AutoStream::new(io::stderr(), color);
    // If stderr is closed, there is no place to report that.
    let _ = writeln!(out, "{} {what}", page::styled(style, "harden-why:"));
}

/// Prints an error to stderr. With `--json`, prints it to stdout as well, as the one object in place of the reply.
///
/// # Errors
/// stdout cannot be written.
pub(crate) fn print_error(is_json: bool, color: ColorChoice, text: &str) -> io::Result<()> {
    print_message(color, page::BAD, text);
    if is_json { print_error_object(text) } else { Ok(()) }
}

/// Prints an error to stdout as a JSON object on one line.
///
/// # Errors
/// stdout cannot be written.
pub(crate) fn print_error_object(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{}", serde_json::json!({ "schema": SCHEMA, "error": text }))?;
    out.flush()
}

/// Prints a reply to stdout. Returns whether there is anything to report.
///
/// # Errors
/// stdout cannot be written, or the reply is a [`PrintedFailure`].
pub(crate) fn print_reply(common: &Common, color: ColorChoice, reply: &impl Reply) -> anyhow::Result<bool> {
    let mut out = AutoStream::new(io::stdout(), color);
    if common.json {
        let mut json = serde_json::to_string_pretty(reply)?;
        json.push('\n');
        out.write_all(json.as_bytes())?;
    } else {
        out.write_all(reply.page(Detail::from_options(common)).as_bytes())?;
    }
    out.flush()?;
    if reply.has_failed() || (!reply.has_findings() && reply.is_inconclusive()) {
        return Err(PrintedFailure.into());
    }
    Ok(reply.has_findings())
}

/// Runs a future to completion on this thread.
///
/// # Errors
/// The future fails, or the runtime cannot start.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?.block_on(future)
}
