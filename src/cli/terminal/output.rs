//! Prints answers to stdout, and warnings to stderr.

use crate::cli::args::{Common, JsonLayout, When};
use crate::cli::exit_status::ExitStatus;
use crate::cli::terminal::page;
use crate::cli::terminal::page::Page;
use crate::cli::terminal::pager::Pager;
use crate::cli::terminal::quiet::is_quiet;
use anstream::{AutoStream, ColorChoice};
use serde::Serialize;
use std::fs::File;
use std::io;
use std::io::{IsTerminal as _, Write as _};

/// The version of the JSON schema. Keys are added within a version, never changed or removed.
pub(crate) const SCHEMA: u32 = 1;

/// A verb's answer.
pub(crate) trait Reply: Serialize {
    /// Lays the reply out for people; a pipe strips the colours.
    fn page(&self, detail: Detail) -> String;

    /// Returns the exit status that the reply stands for.
    fn exit_status(&self) -> ExitStatus;
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

/// Returns the choice of `--color`.
pub(crate) fn color_choice(common: &Common) -> ColorChoice {
    match common.color {
        When::Auto => ColorChoice::Auto,
        When::Always => ColorChoice::Always,
        When::Never => ColorChoice::Never,
    }
}

/// Prints a warning to stderr, unless `--quiet` is given. The caller must escape foreign text.
pub(crate) fn warn(color: ColorChoice, what: &str) {
    print_remark(color, page::WARN, what);
}

/// Prints a message in a style to stderr, unless `--quiet` is given.
pub(crate) fn print_remark(color: ColorChoice, style: anstyle::Style, what: &str) {
    if !is_quiet() {
        print_message(color, style, what);
    }
}

/// Prints a message in a style to stderr: on a terminal between words, elsewhere on one line.
pub(crate) fn print_message(color: ColorChoice, style: anstyle::Style, what: &str) {
    let text = format!("{} {what}", page::styled(style, "harden-why:"));
    let mut out = AutoStream::new(io::stderr(), color);
    // If stderr is closed, there is no place to report that.
    let _ = if io::stderr().is_terminal() {
        let mut page = Page::default();
        page.hanging((0, 2), &text);
        out.write_all(page.finish().as_bytes())
    } else {
        writeln!(out, "{text}")
    };
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

/// Prints to stdout that a verb had nothing to do. The JSON object also has the key `error`, as before this was an
/// answer.
///
/// # Errors
/// stdout cannot be written.
pub(crate) fn print_nothing_to_do(is_json: bool, color: ColorChoice, text: &str) -> io::Result<()> {
    let mut out = AutoStream::new(io::stdout(), color);
    if is_json {
        writeln!(out, "{}", serde_json::json!({ "schema": SCHEMA, "nothing_to_do": text, "error": text }))?;
    } else {
        let mut page = Page::default();
        page.paragraph(0, text);
        out.write_all(page.finish().as_bytes())?;
    }
    out.flush()
}

/// Prints a reply to stdout, on a terminal through the pager. Returns its exit status.
///
/// # Errors
/// stdout cannot be written, or the pager fails.
pub(crate) fn print_reply(common: &Common, color: ColorChoice, reply: &impl Reply) -> anyhow::Result<ExitStatus> {
    print(common, color, reply, !common.no_pager)
}

/// Prints a reply to stdout like [`print_reply`], without a pager: a question about it follows.
///
/// # Errors
/// stdout cannot be written.
pub(crate) fn print_before_question(
    common: &Common,
    color: ColorChoice,
    reply: &impl Reply,
) -> anyhow::Result<ExitStatus> {
    print(common, color, reply, false)
}

fn print(common: &Common, color: ColorChoice, reply: &impl Reply, may_page: bool) -> anyhow::Result<ExitStatus> {
    let text = match common.json {
        Some(JsonLayout::Pretty) => format!("{}\n", serde_json::to_string_pretty(reply)?),
        Some(JsonLayout::Short) => format!("{}\n", serde_json::to_string(reply)?),
        None => reply.page(Detail::from_options(common)),
    };
    print_text(color, &text, may_page)?;
    Ok(reply.exit_status())
}

/// Prints a text to stdout, on a terminal through a pager if it may be paged.
///
/// # Errors
/// stdout cannot be written, or the pager fails.
pub(crate) fn print_text(color: ColorChoice, text: &str, may_page: bool) -> io::Result<()> {
    if let Some(pager) = may_page.then(|| Pager::start(text)).flatten() {
        // The pager shows what stdout would have shown.
        let color = if color == ColorChoice::Auto { AutoStream::choice(&io::stdout()) } else { color };
        let mut coloured = AutoStream::new(Vec::new(), color);
        coloured.write_all(text.as_bytes())?;
        pager.show(&coloured.into_inner())
    } else {
        let mut out = AutoStream::new(io::stdout(), color);
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// Runs a future to completion on this thread.
///
/// # Errors
/// The future fails, or the runtime cannot start.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // tokio panics if it has no descriptors for its signals: its runtime takes five.
    let spare: io::Result<Vec<File>> = (0..5).map(|_| File::open("/dev/null")).collect();
    drop(spare?);
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?.block_on(future)
}
