//! Denials on a page: those that differ only in the call share one block, and a call that was seen in several ways is one.

use super::answer::{CauseView, DenialView, DirectiveView};
use super::folded::{FoldedDenial, Folding, Round, fold};
use crate::audit::text::join;
use crate::cli::terminal::page::{BAD, BOLD, DIM, PLACE, Page, WARN, styled};
use crate::cli::terminal::words::count_times;
use crate::units::Confidence;

/// The most calls listed per block.
const LISTED: usize = 40;

/// The column of text below a field.
const BELOW: usize = 9;

/// The rounds of denials with their headings, newest first.
const ROUNDS: [(Round, &str); 3] = [
    (Round::New, "New since the latest change of the settings"),
    (Round::Open, "Not settled"),
    (Round::Settled, "Settled by a later change"),
];

/// Adds every denial to a page, in blocks, in the order of each block's first denial. Rounds have headings if there are
/// several.
pub(crate) fn add_denials(page: &mut Page, denials: &[DenialView]) {
    let folded = fold(denials, Folding::ByProgram);
    let rounds = ROUNDS.map(|(round, heading)| {
        let denials: Vec<&FoldedDenial<'_>> = folded.iter().filter(|denial| denial.round == round).collect();
        (heading, denials)
    });
    let has_several = rounds.iter().filter(|(_, denials)| !denials.is_empty()).count() > 1;
    for (heading, denials) in rounds.iter().filter(|(_, denials)| !denials.is_empty()) {
        if has_several {
            page.gap();
            page.line(styled(BOLD, heading));
        }
        add_blocks(page, denials);
    }
}

/// Adds denials in blocks.
fn add_blocks(page: &mut Page, denials: &[&FoldedDenial<'_>]) {
    let mut kinds: Vec<Vec<&FoldedDenial<'_>>> = Vec::new();
    for denial in denials {
        let is_kind =
            |kind: &[&FoldedDenial<'_>]| kind.first().is_some_and(|first| share_block(first.view, denial.view));
        match kinds.iter_mut().find(|kind| is_kind(kind)) {
            Some(kind) => kind.push(denial),
            None => kinds.push(vec![denial]),
        }
    }
    for kind in &kinds {
        page.gap();
        add_block(page, kind);
    }
}

fn share_block(one: &DenialView, other: &DenialView) -> bool {
    let facts = |denial: &DenialView| (denial.event, denial.outcome.clone(), denial.exe.clone(), denial.before_exec);
    let found = |denial: &DenialView| denial.attribution.as_ref().map(|attribution| attribution.evidence);
    facts(one) == facts(other) && found(one) == found(other) && one.cause == other.cause
}

fn add_block(page: &mut Page, kind: &[&FoldedDenial<'_>]) {
    let Some(first) = kind.first().map(|first| first.view) else { return };
    let style = if first.action.as_deref() == Some("log") && first.source == "audit" { WARN } else { BAD };
    let title = match kind {
        [only] => only.view.call.clone().unwrap_or_else(|| "SIGSYS".to_owned()),
        several => format!("{} calls", several.len()),
    };
    let count = kind.iter().map(|denial| denial.count).fold(0, u64::saturating_add);
    page.hanging((2, 4), &format!("{}  {}, {}", styled(style, title), first.headline, count_times(count)));

    match kind {
        [only] => {
            let which = describe_number(only.view).map(|which| format!("{which}{}", in_groups(only.view)));
            let ways = describe_other_ways(only);
            if let Some(which) = which {
                page.field("what", &format!("{which}{ways}"));
            }
        }
        several => {
            for (index, denial) in several.iter().take(LISTED).enumerate() {
                let DenialView { call, count, .. } = denial.view;
                let call = call.as_deref().unwrap_or("SIGSYS");
                let which = describe_number(denial.view).map_or_else(String::new, |which| format!(", {which}"));
                let (groups, ways) = (in_groups(denial.view), describe_other_ways(denial));
                let text = format!("{call}{which}, {}{groups}{ways}", count_times(*count));
                page.field(if index == 0 { "what" } else { "" }, &text);
            }
            if several.len() > LISTED {
                page.below(format_args!("and {} more", several.len() - LISTED));
            }
        }
    }
    add_process(page, first);
    add_call_sites(page, kind);
    add_times(page, kind);
    add_cause(page, &first.cause);
    if first.before_exec {
        page.paragraph(BELOW, "systemd itself made the call, before it executed the program.");
    }
}

/// Returns the architecture and number of the call.
fn describe_number(denial: &DenialView) -> Option<String> {
    let number = denial.number.map_or_else(String::new, |number| format!(" call {}", number.cast_signed()));
    Some(format!("{}{number}", denial.arch.as_ref()?))
}

fn in_groups(denial: &DenialView) -> String {
    if denial.groups.is_empty() { String::new() } else { format!(", in {}", denial.groups.join(" ")) }
}

/// Says in which other ways the call was seen.
fn describe_other_ways(denial: &FoldedDenial<'_>) -> String {
    let ways = denial.other_ways();
    let ways = join(ways.iter().map(|(way, count)| format!("{way} ({})", count_times(*count))));
    if ways.is_empty() { ways } else { format!("; also seen {ways}") }
}

fn add_process(page: &mut Page, denial: &DenialView) {
    let program = denial.exe.as_deref().unwrap_or("unknown executable");
    // A log can report a death without the pid.
    let pid = (denial.pid != 0).then(|| format!("pid {}", denial.pid));
    let comm = (!denial.comm.is_empty()).then(|| format!("comm {}", denial.comm));
    let uid = denial.uid.as_ref().map(|uid| format!("uid {uid}"));
    let facts: Vec<String> = [Some(program.to_owned()), comm, pid, uid].into_iter().flatten().collect();
    page.field("who", &facts.join(", "));
    if let Some(parent) = &denial.parent {
        page.paragraph(BELOW, &format!("started by {}, pid {}", parent.comm, parent.pid));
    }
    if let Some(attribution) = &denial.attribution {
        let style = if attribution.confidence == Confidence::Certain { DIM } else { WARN };
        page.paragraph(BELOW, &styled(style, format_args!("unit found by {}", attribution.words)));
    }
}

/// Adds where the calls of a block were made: of the call, or of each call if there are several.
fn add_call_sites(page: &mut Page, kind: &[&FoldedDenial<'_>]) {
    let sites = kind.iter().take(LISTED).filter_map(|denial| Some((denial.view, denial.view.call_site.as_ref()?)));
    for (index, (view, site)) in sites.enumerate() {
        let call = view.call.as_deref().filter(|_| kind.len() > 1).map_or_else(String::new, |call| format!("{call}, "));
        page.field(if index == 0 { "from" } else { "" }, &format!("{call}{}", site.describe()));
    }
}

/// Adds the latest time of a block, and the first.
fn add_times(page: &mut Page, kind: &[&FoldedDenial<'_>]) {
    // Denials are sorted newest first.
    let newest = kind.first().map(|denial| denial.newest);
    let Some((newest, last)) = newest.and_then(|denial| Some((denial, denial.times.last.as_ref()?))) else {
        return;
    };
    let all = kind.iter().flat_map(|denial| &denial.all);
    let oldest = all.min_by_key(|denial| denial.times.first_millis);
    let ago = newest.times.ago.as_ref().map_or_else(String::new, |ago| format!(", {ago}"));
    let since = oldest.and_then(|denial| denial.times.first.as_ref()).filter(|first| *first != last);
    let since = since.map_or_else(String::new, |first| format!(", first {first}"));
    page.field("when", &format!("{last}{ago}{since}"));
}

fn add_cause(page: &mut Page, cause: &CauseView) {
    page.field("why", &cause.words);
    for directive in &cause.directives {
        page.below(describe_location(directive));
        page.paragraph(11, &describe_directive(directive));
    }
}

fn describe_location(directive: &DirectiveView) -> String {
    match (&directive.file, directive.line) {
        (Some(file), Some(line)) => styled(PLACE, format_args!("{file}:{line}")),
        _ => styled(PLACE, format_args!("{}=, as systemd holds it", directive.directive)),
    }
}

fn describe_directive(directive: &DirectiveView) -> String {
    let effect = match directive.effect.as_deref() {
        None => "logs".to_owned(),
        Some("kill") => "kills".to_owned(),
        Some("kill thread") => "kills the thread".to_owned(),
        Some(errno) => format!("answers {errno}"),
    };
    format!("{}= {effect}: {}", directive.directive, directive.why)
}
