//! Prints answers to stdout, and warnings to stderr.

use crate::cli::args::Common;
use crate::cli::terminal::page;
use anstream::{AutoStream, ColorChoice};
use serde::Serialize;
use std::io;
use std::io::Write as _;

/// A verb's answer.
pub(crate) trait Reply: Serialize {
    /// Lays the reply out for people; a pipe strips the colours.
    fn page(&self) -> String;

    /// Returns whether there is anything to report; decides the exit status.
    fn has_findings(&self) -> bool;

    /// Returns whether a reply without findings leaves open whether there are any, because the caller may not see all.
    fn is_inconclusive(&self) -> bool {
        false
    }
}

/// A reply is printed, and leaves open whether there is anything to report. Exit status 2, without a further message.
#[derive(Debug, thiserror::Error)]
#[error("the answer is inconclusive")]
pub(crate) struct Inconclusive;

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

/// Prints a reply to stdout. Returns whether there is anything to report.
///
/// # Errors
/// stdout cannot be written, or the reply is [`Inconclusive`].
pub(crate) fn print_reply(common: &Common, color: ColorChoice, reply: &impl Reply) -> anyhow::Result<bool> {
    let mut out = AutoStream::new(io::stdout(), color);
    if common.json {
        let mut json = serde_json::to_string_pretty(reply)?;
        json.push('\n');
        out.write_all(json.as_bytes())?;
    } else {
        out.write_all(reply.page().as_bytes())?;
    }
    out.flush()?;
    if !reply.has_findings() && reply.is_inconclusive() {
        return Err(Inconclusive.into());
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
