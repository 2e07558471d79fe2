//! The default page of a unit: what was denied, the line that decided it, and the one command that fixes it, on one screen.

use super::answer::{Answer, DenialView, DirectiveView, PlaceView, RemedyView};
use super::brief_help::{Help, find_help};
use super::brief_notes::{first_notes, is_brief, last_notes};
use super::call_site::CallSiteView;
use super::folded::{CauseGroup, FoldedDenial, Folding, Round, fold, group_by_cause, join_some};
use super::machines::add_machines_of_remedy;
use super::remedy::show_line;
use super::snippet::{Snippet, add_snippet};
use crate::audit::Note;
use crate::audit::text::{base_name, plural};
use crate::cli::terminal::output::Detail;
use crate::cli::terminal::page::{BAD, BOLD, DIM, GOOD, Page, WARN, is_one_line, styled};
use crate::cli::terminal::words::count_times;
use crate::units::{Confidence, Manager};

/// The most lines of the page for one denial; each further denial may add one.
const LINES: usize = 15;

/// The most denials that are listed.
const LISTED: usize = 12;

/// The most lines of a remedy that are shown.
const REMEDY_LINES: usize = 3;

/// What ends a text that is cut.
const MORE: &str = " (more: -v)";

/// How much room the parts of a page take.
#[derive(Debug, Clone, Copy)]
struct Density {
    /// Whether an empty line is above and below each line of a file.
    is_framed: bool,
    /// How many lines of files are shown; of others only the place.
    snippets: usize,
    /// The most lines of a note.
    note_lines: usize,
    /// The most lines of a cause in words.
    cause_lines: usize,
    /// Whether an empty line is above the commands.
    has_gap: bool,
    /// Whether the help counts the other remedies, and a single denial shows the word "once".
    has_counts: bool,
    /// The most denials up to which each shows what called the function with the call.
    callers: usize,
}

/// The roomiest density.
const ROOMY: Density = Density {
    is_framed: true,
    snippets: usize::MAX,
    note_lines: 2,
    cause_lines: usize::MAX,
    has_gap: true,
    has_counts: true,
    callers: 1,
};

/// The densities, roomiest first. The lines of files go last.
const DENSITIES: [Density; 8] = [
    ROOMY,
    Density { is_framed: false, ..ROOMY },
    Density { is_framed: false, callers: 0, note_lines: 1, ..ROOMY },
    Density { is_framed: false, callers: 0, note_lines: 1, has_gap: false, ..ROOMY },
    Density { is_framed: false, callers: 0, note_lines: 1, has_gap: false, cause_lines: 2, ..ROOMY },
    DENSE,
    Density { snippets: 1, ..DENSE },
    Density { snippets: 0, ..DENSE },
];

/// The densest layout with all lines of files.
const DENSE: Density = Density {
    is_framed: false,
    snippets: usize::MAX,
    note_lines: 1,
    cause_lines: 1,
    has_gap: false,
    has_counts: false,
    callers: 0,
};

/// Lays out the answer for a unit on one screen. Without `has_help` it says nothing about remedies.
pub(super) fn lay_out(answer: &Answer, has_help: bool) -> Page {
    let denials = fold(&answer.denials, Folding::ByCall).len();
    let most = LINES + denials.saturating_sub(1).min(LISTED);
    let mut page = Page::default();
    for density in DENSITIES {
        page = lay_out_densely(answer, has_help, density);
        if page.height() <= most {
            break;
        }
    }
    if let Some(remedy) = find_suggested(answer).filter(|remedy| has_help && !remedy.machines.is_empty()) {
        page.gap();
        add_machines_of_remedy(&mut page, &remedy.machines, 0, Detail::Short);
    }
    page
}

/// Returns the remedy that the page shows.
fn find_suggested(answer: &Answer) -> Option<&RemedyView> {
    let open = fold(&answer.denials, Folding::ByCall).into_iter().filter(|denial| !denial.is_settled());
    find_help(answer, &open.collect::<Vec<_>>())?.remedy.map(|(_, remedy)| remedy)
}

/// Returns the caller that the page names: that of its only open denial.
pub(crate) fn find_named_caller(answer: &Answer) -> Option<&PlaceView> {
    let mut open = fold(&answer.denials, Folding::ByCall).into_iter().filter(|denial| !denial.is_settled());
    let only = open.next().filter(|_| open.next().is_none())?;
    only.view.call_site.as_ref()?.caller.as_ref()
}

fn lay_out_densely(answer: &Answer, has_help: bool, density: Density) -> Page {
    let mut page = Page::default();
    let (settled, open): (Vec<_>, Vec<_>) =
        fold(&answer.denials, Folding::ByCall).into_iter().partition(FoldedDenial::is_settled);
    // Where nothing is left to do, a note is no cause of the finding.
    let mut is_alone = open.is_empty();
    if is_alone {
        for group in group_by_words(settled.clone()) {
            add_settled(&mut page, answer, &group, std::mem::take(&mut is_alone));
        }
    }
    // A cause is not cut to one line.
    for note in first_notes(answer) {
        add_note(&mut page, note, ROOMY);
    }
    let help = find_help(answer, &open).filter(|_| has_help);
    if !open.is_empty() {
        add_finding(&mut page, answer, &open, density.has_counts);
        add_processes(&mut page, &open);
        for denial in open.iter().filter(|_| open.len() <= density.callers) {
            if let Some(caller) = denial.view.call_site.as_ref().and_then(CallSiteView::describe_caller) {
                page.hanging((2, 4), &caller);
            }
        }
        let is_single = open.len() == 1;
        add_groups(&mut page, &group_by_cause(open), is_single, density);
        for group in group_by_words(settled) {
            add_settled(&mut page, answer, &group, false);
        }
    }
    let mut commands = Vec::new();
    if let Some(help) = help {
        add_help(&mut page, answer, &help, density.has_counts);
        commands = help.commands;
    }
    if answer.is_asked {
        commands.clear();
    } else if commands.is_empty() {
        commands.extend(answer.restart.clone().filter(|_| has_help));
    }
    for note in last_notes(answer) {
        add_note(&mut page, note, density);
    }
    if !commands.is_empty() && density.has_gap {
        page.gap();
    }
    for command in commands {
        page.line(format_args!("  {}", styled(GOOD, command)));
    }
    page
}

/// Adds the finding: unit, call, outcome, count and time.
fn add_finding(page: &mut Page, answer: &Answer, open: &[FoldedDenial<'_>], has_counts: bool) {
    let state = answer.state.as_ref().map_or_else(String::new, |state| format!(" {state}"));
    let name = format!("{}{state}", styled(BOLD, name_unit(answer)));
    let text = match open {
        [only] => {
            let what = only.call().map_or_else(String::new, |call| format!("{} ", styled(BAD, call)));
            let finding = |count: &str| format!("{name}: {what}{}, {count}", only.view.brief);
            let counted = finding(&describe_count(only, true));
            // The time of a single denial says that it was one.
            let short = only.last().filter(|_| only.count == 1).map(finding);
            short.filter(|short| !has_counts || (!is_one_line(&counted) && is_one_line(short))).unwrap_or(counted)
        }
        several => {
            let total = several.iter().map(|denial| denial.count).fold(0, u64::saturating_add);
            let logged = several.iter().all(|denial| denial.view.cause.kind == "logged");
            let verb = if logged { "logged" } else { "denied" };
            let last =
                several.first().and_then(FoldedDenial::last).map_or_else(String::new, |last| format!(", last {last}"));
            format!(
                "{name}: {} {verb} ({}){last}",
                styled(BAD, plural(several.len() as u64, "call")),
                plural(total, if logged { "record" } else { "denial" })
            )
        }
    };
    page.hanging((0, 2), &text);
}

/// Returns the unit's name, with the number of its instances if it is a template.
fn name_unit(answer: &Answer) -> String {
    let name = answer.unit.as_deref().unwrap_or("unknown unit");
    // Several users can have a unit of the same name.
    let uid = answer.manager.as_deref().and_then(|manager| manager.strip_prefix("user:"));
    let uid = uid.filter(|uid| uid.parse() != Ok(Manager::SOME_USER));
    let unit = uid.map_or_else(|| name.to_owned(), |uid| format!("{name} (uid {uid})"));
    match answer.instances.len() {
        0 => unit,
        count => format!("{unit}, {}", plural(count as u64, "instance")),
    }
}

/// Returns `3 times, last 9 s ago`.
fn describe_count(denial: &FoldedDenial<'_>, is_sentence: bool) -> String {
    let count = count_times(denial.count);
    match denial.last() {
        Some(last) if denial.count > 1 && is_sentence => format!("{count}, last {last}"),
        Some(last) => format!("{count}, {last}"),
        None => count,
    }
}

/// Adds which programs made the calls.
fn add_processes(page: &mut Page, open: &[FoldedDenial<'_>]) {
    let mut programs: Vec<&DenialView> = Vec::new();
    for denial in open.iter().map(|denial| denial.view) {
        if !programs.iter().any(|other| other.exe == denial.exe && (denial.exe.is_some() || other.comm == denial.comm))
        {
            programs.push(denial);
        }
    }
    let Some((first, rest)) = programs.split_first() else { return };
    let mut text = format!("by {}", describe_process(first));
    match rest {
        [] => {}
        [second] => text.extend([" and ", &name_program(second)]),
        more => text.extend([" and ", &more.len().to_string(), " other programs"]),
    }
    let is_guess = |denial: &FoldedDenial<'_>| {
        denial.view.attribution.as_ref().is_some_and(|found| found.confidence == Confidence::Guess)
    };
    if open.iter().any(is_guess) {
        text.extend(["; ", &styled(WARN, "its unit is a guess")]);
    }
    page.hanging((2, 4), &text);
}

fn name_program(denial: &DenialView) -> String {
    denial
        .exe
        .clone()
        .unwrap_or_else(|| if denial.comm.is_empty() { "an unknown program".to_owned() } else { denial.comm.clone() })
}

fn describe_process(denial: &DenialView) -> String {
    let program = name_program(denial);
    let base = base_name(&program);
    let is_other =
        !denial.before_exec && denial.exe.is_some() && !denial.comm.is_empty() && !base.starts_with(&denial.comm);
    let is_main = denial.attribution.as_ref().is_some_and(|found| found.evidence == "main-process");
    let facts: Vec<String> = [
        is_other.then(|| denial.comm.clone()),
        is_main.then(|| "main process".to_owned()),
        (denial.pid != 0).then(|| format!("pid {}", denial.pid)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let who = if denial.before_exec { "systemd itself, before it executed the program".to_owned() } else { program };
    if facts.is_empty() { who } else { format!("{who} ({})", facts.join(", ")) }
}

/// Adds each cause: the calls, if there are several, and the line that decides or the reason in words.
fn add_groups(page: &mut Page, groups: &[CauseGroup<'_>], is_single: bool, density: Density) {
    let has_older = groups.iter().flat_map(|group| &group.denials).any(|denial| denial.round == Round::Open);
    let mut listed = 0;
    let mut hidden = 0;
    for (number, group) in groups.iter().enumerate() {
        if !is_single {
            let room = LISTED.saturating_sub(listed).min(group.denials.len());
            listed += room;
            hidden += group.denials.len() - room;
            add_calls(page, group.denials.get(..room).unwrap_or_default(), has_older);
            if room == 0 {
                continue;
            }
        }
        if group.deciding().is_some() {
            add_cause(page, group, density, number < density.snippets);
        } else {
            let indent = if is_single { 2 } else { 4 };
            let words = group.cause().map_or("", |cause| cause.words.as_str());
            page.cut_paragraph((indent, indent), words, density.cause_lines, MORE);
        }
    }
    if hidden > 0 {
        page.line(format_args!("  and {} more: -v", plural(hidden as u64, "call")));
    }
}

/// Adds a line for each call. A call that was denied since the latest change is marked if others are older.
fn add_calls(page: &mut Page, denials: &[FoldedDenial<'_>], has_older: bool) {
    let mark = |denial: &FoldedDenial<'_>| if has_older && denial.round == Round::New { "new, " } else { "" };
    let call = |denial: &FoldedDenial<'_>| denial.call().unwrap_or_else(|| "unknown call".to_owned());
    let width = denials.iter().map(|denial| call(denial).len()).max().unwrap_or_default();
    for denial in denials {
        let brief = denial.view.brief.as_str();
        let outcome = brief.strip_prefix("denied, ").or(brief.strip_suffix(UNKNOWN)).unwrap_or(brief);
        let text = format!(
            "{}  {}{outcome}, {}",
            styled(BAD, format_args!("{:width$}", call(denial))),
            mark(denial),
            describe_count(denial, false)
        );
        page.hanging((2, 4), &text);
    }
}

/// What the outcome of a death without a record ends in, which the list says in place of the call.
const UNKNOWN: &str = ", call unknown";

/// Adds the line that decides, and the places of further lines that deny the same.
fn add_cause(page: &mut Page, group: &CauseGroup<'_>, density: Density, is_shown: bool) {
    let Some(deciding) = group.deciding() else { return };
    let marks = group.marks();
    let line = deciding.source.as_ref().map(|source| source.number).or(deciding.line);
    let snippet = Snippet {
        place: describe_place(deciding, line),
        marks: marks.into_iter().map(|(line, label)| (line.filter(|_| is_shown), label)).collect(),
    };
    add_snippet(page, &snippet, density.is_framed);
    let others = list_others(group, deciding);
    if !others.is_empty() {
        page.hanging((2, 4), &format!("also denied by {}", join_some(&others)));
    }
}

/// Lists each further directive that denies a call of a group, with its place: in the deciding file, the line alone.
fn list_others(group: &CauseGroup<'_>, deciding: &DirectiveView) -> Vec<String> {
    let mut others: Vec<&DirectiveView> = Vec::new();
    for other in group.denials.iter().flat_map(|denial| denial.view.cause.directives.iter().skip(1)) {
        let place = |one: &DirectiveView| (one.directive, one.file.clone(), one.line);
        if place(other) != place(deciding) && !others.iter().any(|listed| place(listed) == place(other)) {
            others.push(other);
        }
    }
    others.sort_by_key(|other| (other.file != deciding.file, other.file.clone(), other.line));
    let describe = |other: &DirectiveView| match other.line.filter(|_| other.file == deciding.file) {
        Some(line) => format!("{}= (line {line})", other.directive),
        None => format!("{}= ({})", other.directive, describe_place(other, other.line)),
    };
    others.into_iter().map(describe).collect()
}

/// Returns the file and line of a directive.
fn describe_place(directive: &DirectiveView, line: Option<u32>) -> String {
    match (&directive.file, line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        _ => format!("{}=, as systemd holds it", directive.directive),
    }
}

/// Groups settled denials by what settled them.
fn group_by_words(settled: Vec<FoldedDenial<'_>>) -> Vec<CauseGroup<'_>> {
    let mut groups: Vec<CauseGroup<'_>> = Vec::new();
    for denial in settled {
        match groups.iter_mut().find(|group| group.cause().is_some_and(|cause| cause.words == denial.view.cause.words))
        {
            Some(group) => group.denials.push(denial),
            None => groups.push(CauseGroup { denials: vec![denial] }),
        }
    }
    groups
}

/// Adds what settled earlier denials: as the finding if nothing else is left.
fn add_settled(page: &mut Page, answer: &Answer, group: &CauseGroup<'_>, is_alone: bool) {
    let words = group.cause().map_or("", |cause| cause.words.as_str());
    let words = if group.denials.len() > 1 { words.replace("the call is", "they are") } else { words.to_owned() };
    let calls = group.name_calls();
    let calls = if calls.is_empty() { "SIGSYS".to_owned() } else { calls };
    if is_alone {
        page.hanging(
            (0, 2),
            &format!("{}: {} {words}", styled(BOLD, name_unit(answer)), styled(GOOD, format_args!("{calls}:"))),
        );
    } else {
        page.hanging((2, 4), &format!("{} {words}", styled(DIM, format_args!("earlier, {calls}:"))));
    }
}

/// Adds the suggestion, and the lines that it adds.
fn add_help(page: &mut Page, answer: &Answer, help: &Help<'_>, has_counts: bool) {
    let ways = help.ways.as_deref().filter(|_| has_counts).unwrap_or_default();
    page.hanging((0, 2), &format!("{} {}{ways}", styled(BOLD, "help:"), help.text));
    if let Some((_, remedy)) = help.remedy {
        // Without the command, a person writes the file.
        let path = remedy.path.as_ref().filter(|_| answer.apply.is_none() && !help.is_written);
        if let Some(path) = path {
            page.line(format_args!("  write to {path}:"));
        }
        let lines: Vec<&str> = remedy.content.lines().filter(|line| path.is_some() || !line.starts_with('[')).collect();
        let shown = if lines.len() > REMEDY_LINES + 1 { REMEDY_LINES } else { lines.len() };
        for line in lines.iter().take(shown) {
            page.line(format_args!("  {}", styled(GOOD, format_args!("+ {}", show_line(line)))));
        }
        if lines.len() > shown {
            page.line(format_args!("  and {} more lines: -v", lines.len() - shown));
        }
    }
    if let Some(outlook) = &help.outlook {
        page.hanging((2, 4), outlook);
    }
    for caution in &help.cautions {
        page.hanging((0, 2), &format!("{} {caution}", styled(WARN, "caution:")));
    }
}

/// Adds the notes of a whole report, each cut after two lines.
pub(super) fn add_report_notes(page: &mut Page, notes: &[Note]) {
    let notes: Vec<&Note> = notes.iter().filter(|note| is_brief(note)).collect();
    if !notes.is_empty() {
        page.gap();
    }
    for note in notes {
        add_note(page, &note.text, ROOMY);
    }
}

/// Adds a note, cut at a clause after a few lines.
fn add_note(page: &mut Page, note: &str, density: Density) {
    page.cut_paragraph((0, 2), &format!("{} {note}", styled(WARN, "note:")), density.note_lines, MORE);
}
