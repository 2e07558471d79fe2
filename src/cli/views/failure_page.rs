//! A failure that left no record, as a page: the lines that can be the cause, and the command that makes it certain.

use super::answer::Answer;
use super::brief_page::add_report_notes;
use super::failure::{FailureView, PossibleCauseView};
use super::snippet::{Snippet, add_snippet};
use crate::audit::text::{join, plural};
use crate::cli::terminal::output::Detail;
use crate::cli::terminal::page::{BAD, BOLD, GOOD, Page, WARN, add_notes, styled};
use std::collections::BTreeSet;

/// The most causes that the default page shows with their lines.
const SHOWN: usize = 2;

/// Lays out an answer that has a failure and no denial.
pub(super) fn add_failure(page: &mut Page, answer: &Answer, failure: &FailureView, detail: Detail) {
    let name = styled(BOLD, answer.unit.as_deref().unwrap_or("unknown unit"));
    let how = match (failure.status, failure.step, &failure.message) {
        (Some(status), Some(step), _) => format!("exit status {}", styled(BAD, format_args!("{status}/{step}"))),
        (.., Some(message)) => styled(BAD, message),
        _ => "unknown".to_owned(),
    };
    if failure.of_earlier_run {
        page.hanging(
            (0, 2),
            &format!("{name} failed, and no message of this run names a line. In an earlier run: {how}"),
        );
    } else {
        page.hanging((0, 2), &format!("{name} failed: {how}"));
    }
    add_other_messages(page, &failure.other_messages, detail);
    let causes = &failure.possible_causes;
    let shown = if detail == Detail::Full { causes.len() } else { causes.len().min(SHOWN) };
    let plural = if causes.len() == 1 { "possible cause" } else { "possible causes" };
    page.line(styled(WARN, format_args!("{plural}, not proven:")));
    for cause in causes.iter().take(shown) {
        let marks = vec![(cause.source.as_ref(), cause.why.clone())];
        add_snippet(page, &Snippet { place: cause.place(), marks }, causes.len() == 1);
    }
    let rest = causes.iter().skip(shown).map(|cause| format!("{}= ({})", cause.directive, cause.place()));
    if shown < causes.len() {
        page.hanging((2, 4), &format!("also possible: {}", join(rest)));
    }
    if let Some(fix) = causes.first().and_then(|cause| cause.fix.as_ref()) {
        page.hanging((0, 2), &format!("{} {fix}", styled(BOLD, "help:")));
    }
    let has_line = add_lines_to_try(page, causes);
    let has_fix = has_line || causes.first().is_some_and(|cause| cause.fix.is_some());
    let help = styled(BOLD, "help:");
    let how = match (has_fix, failure.check.contains("harden-why ")) {
        (true, true) => "To confirm the cause:".to_owned(),
        (true, false) => "Change the line, then:".to_owned(),
        (false, true) => format!("{help} watch a start to confirm the cause:"),
        (false, false) => format!("{help} change the line and restart to confirm the cause:"),
    };
    page.hanging((0, 2), &how);
    page.gap();
    page.line(format_args!("  {}", styled(GOOD, &failure.check)));
    if detail == Detail::Full {
        add_notes(page, &answer.notes);
    } else {
        add_report_notes(page, &answer.notes);
    }
}

/// Adds the other messages of the run; the short answer has a few.
fn add_other_messages(page: &mut Page, messages: &[String], detail: Detail) {
    const SHOWN: usize = 3;
    let shown = if detail == Detail::Full { messages.len() } else { messages.len().min(SHOWN) };
    for message in &messages[..shown] {
        page.hanging((2, 4), &format!("and: {}", styled(BAD, message)));
    }
    if shown < messages.len() {
        page.hanging((2, 4), &format!("and {} (-v)", plural((messages.len() - shown) as u64, "other message")));
    }
}

/// Adds the lines that may help together, and what they need besides. Returns whether there is one.
fn add_lines_to_try(page: &mut Page, causes: &[PossibleCauseView]) -> bool {
    let lines: BTreeSet<&String> = causes.iter().flat_map(|cause| &cause.lines_to_try).collect();
    let words: BTreeSet<&String> = causes.iter().filter_map(|cause| cause.also_needed.as_ref()).collect();
    let help = styled(BOLD, "help:");
    match lines.len() {
        0 => {}
        1 => page.hanging((0, 2), &format!("{help} this line may help, which is not proven:")),
        _ => page.hanging((0, 2), &format!("{help} these lines together may help, which is not proven:")),
    }
    for line in &lines {
        page.line(format_args!("  {}", styled(GOOD, format_args!("+ {line}"))));
    }
    if let Some(words) = (!words.is_empty()).then(|| join(words.into_iter().cloned())) {
        let start = if lines.is_empty() { format!("{help} ") } else { "and ".to_owned() };
        page.hanging((0, 2), &format!("{start}{words}"));
        return true;
    }
    !lines.is_empty()
}
