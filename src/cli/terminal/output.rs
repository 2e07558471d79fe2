//! output.

use crate::cli::args::Common;
use crate::cli::terminal::page;
use anstream::{AutoStream, ColorChoice};
use serde::Serialize;
use std::io;
use std::io::Write as _;

/// What a verb has to say.
pub(crate) trait Reply: Serialize {
    /// As a screen, with colours that a pipe leaves out.
    fn page(&self) -> String;

    /// Whether there was anything to report: the exit status.
    fn found(&self) -> bool;
}

/// Says what is wrong beside the answer. Words of others are escaped by who took them.
pub(crate) fn complain(color: ColorChoice, what: &str) {
    tell(color, page::WARN, what);
}

pub(crate) fn tell(color: ColorChoice, style: anstyle::Style, what: &str) {
    let mut out = AutoStream::new(io::stderr(), color);
    // There is nobody left to tell that it cannot be told.
    let _ = writeln!(out, "{} {what}", page::styled(style, "harden-why:"));
}

/// Prints a reply; whether there was anything to report.
pub(crate) fn say(common: &Common, color: ColorChoice, reply: &impl Reply) -> anyhow::Result<bool> {
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
pub(crate) fn waiting<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?.block_on(future)
}
