//! The answer as a page: the denials, their causes, and what to do.

use super::answer::{Answer, ExposureView, GroupHelp, LogTally, RemedyView, Report, SensitiveView, Silence, Unproven};
use super::brief_page;
use super::denials;
use super::failure_page::add_failure;
use super::machines::add_machines_of_remedy;
use super::program_evidence::describe_number;
use super::remedy::show_line;
use crate::audit::Note;
use crate::audit::text::{join_first, plural};
use crate::cli::exit_status::ExitStatus;
use crate::cli::terminal::output::{Detail, Reply};
use crate::cli::terminal::page::{BOLD, DIM, GOOD, PLACE, Page, WARN, add_notes, styled};
use crate::cli::terminal::words::describe_manager;
use std::collections::BTreeMap;

/// The most instances that the page names.
const NAMED_INSTANCES: usize = 3;

/// The most opened calls that the page names.
const NAMED: usize = 8;

/// Where a page has the notes of the whole report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotesPlace {
    /// First, since they say why there is no answer.
    Top,
    /// After the answers, in full.
    Bottom,
    /// After the answers, each cut after two lines.
    BottomCut,
}

impl NotesPlace {
    fn find(report: &Report, detail: Detail) -> Self {
        let tells_why = |log: &LogTally| has_failure_note(report) || !log.is_without_denials();
        match report.units.is_empty() {
            true if report.log.as_ref().is_some_and(tells_why) => Self::Top,
            false if detail != Detail::Full => Self::BottomCut,
            _ => Self::Bottom,
        }
    }
}

/// Whether a note says that units failed without a record.
fn has_failure_note(report: &Report) -> bool {
    report.notes.iter().any(|note| note.id == "failed-without-record")
}

impl Reply for Report {
    fn page(&self, detail: Detail) -> String {
        render_report(self, detail)
    }

    fn exit_status(&self) -> ExitStatus {
        self.units.iter().map(Answer::exit_status).max().unwrap_or(ExitStatus::Done)
    }
}

fn render_report(report: &Report, detail: Detail) -> String {
    let mut page = Page::default();
    if let Some(demo) = &report.demo {
        page.paragraph(0, &demo.words);
        page.gap();
        if detail == Detail::Full {
            page.line("The unit file:");
            for line in demo.unit_file.lines() {
                page.line(format_args!("  {}", styled(DIM, line)));
            }
        }
    }
    for answer in &report.units {
        page.gap();
        render_answer(&mut page, answer, detail);
    }
    let notes_place = NotesPlace::find(report, detail);
    if notes_place == NotesPlace::Top {
        add_notes(&mut page, &report.notes);
    }
    let log =
        report.log.as_ref().filter(|log| detail == Detail::Full || report.units.is_empty() || log.is_incomplete());
    if let Some(log) = log {
        page.gap();
        let is_empty = report.units.is_empty() && log.is_without_denials() && !has_failure_note(report);
        if is_empty {
            page.paragraph(0, &format!("No denials in {}.", if log.name.is_empty() { "the log" } else { &log.name }));
        }
        render_tally(&mut page, log);
        if is_empty {
            add_logs_with_denials(&mut page);
        }
    }
    match notes_place {
        NotesPlace::Top => {}
        NotesPlace::Bottom => add_notes(&mut page, &report.notes),
        NotesPlace::BottomCut => brief_page::add_report_notes(&mut page, &report.notes),
    }
    if report.demo.is_some() {
        page.gap();
        page.paragraph(
            0,
            "Next, while harden-whyd runs: list the units of this machine with denials, and name one for its answer.",
        );
        page.gap();
        page.line(format_args!("  {}", styled(GOOD, "harden-why")));
    }
    page.finish()
}

/// Adds which logs have denials, as commands.
fn add_logs_with_denials(page: &mut Page) {
    page.gap();
    page.paragraph(0, "The kernel's log and the audit log have the denials of a machine:");
    page.line(format_args!("  {}", styled(GOOD, "journalctl -k | harden-why explain -")));
    page.line(format_args!("  {}", styled(GOOD, "harden-why explain /var/log/audit/audit.log")));
}

/// Lays out the answer for one unit.
pub(crate) fn render_unit_answer(answer: &Answer, detail: Detail) -> String {
    let mut page = Page::default();
    render_answer(&mut page, answer, detail);
    page.finish()
}

fn render_answer(page: &mut Page, answer: &Answer, detail: Detail) {
    if answer.is_unknown {
        return render_unknown(page, answer);
    }
    if let Some(failure) = answer.failure.as_ref().filter(|_| answer.is_denied_elsewhere()) {
        add_failure(page, answer, failure, detail);
        if detail != Detail::Full || answer.denials.is_empty() {
            return;
        }
        page.gap();
    }
    if detail == Detail::Full || answer.denials.is_empty() {
        return render_fully(page, answer, detail);
    }
    page.append(&brief_page::lay_out(answer, detail == Detail::Short));
    if detail == Detail::AllRemedies {
        render_remedies(page, answer, detail);
    }
}

/// Adds that no manager knows the unit.
fn render_unknown(page: &mut Page, answer: &Answer) {
    let (finding, others): (Vec<Note>, Vec<Note>) =
        answer.notes.iter().cloned().partition(|note| note.id == "unit-unknown");
    for note in finding {
        page.paragraph(0, &note.text);
    }
    if answer.is_hidden {
        page.line("You may not see its denials.");
    }
    add_notes(page, &others);
}

fn render_fully(page: &mut Page, answer: &Answer, detail: Detail) {
    match (&answer.unit, &answer.manager) {
        (Some(unit), Some(manager)) => {
            let manager = styled(DIM, format_args!("({})", describe_manager(manager)));
            page.paragraph(0, &format!("{} {manager}", styled(BOLD, describe_unit(unit, &answer.instances))));
            add_instances(page, &answer.instances);
        }
        (Some(unit), None) => page.line(styled(BOLD, unit)),
        _ => {
            page.paragraph(
                0,
                &format!("{} {}", styled(BOLD, "unit unknown"), styled(DIM, "(no evidence of its unit)")),
            );
        }
    }
    match (&answer.silence, answer.denials.is_empty()) {
        (Some(silence), true) => render_silence(page, answer, silence),
        (None, true) if answer.is_hidden => page.line("  You may not see its denials."),
        (None, true) => page.paragraph(2, &answer.nothing),
        _ => {}
    }
    denials::add_denials(page, &answer.denials);
    render_remedies(page, answer, detail);
    // The words about silent refusals say the same, without the calls.
    let is_repeated = |note: &&Note| note.id == "unit-refuses" && answer.silence.is_some() && detail != Detail::Full;
    let notes: Vec<Note> = answer.notes.iter().filter(|note| !is_repeated(note)).cloned().collect();
    add_notes(page, &notes);
}

/// Adds every remedy, and how to apply one.
fn render_remedies(page: &mut Page, answer: &Answer, detail: Detail) {
    if !answer.remedies.is_empty() {
        page.gap();
        page.line(styled(BOLD, "What to do, least privilege first"));
        for (number, remedy) in answer.remedies.iter().enumerate() {
            page.gap();
            render_remedy(page, number + 1, remedy, detail);
        }
        if let Some(arguments) = &answer.arguments {
            page.gap();
            page.paragraph(0, &arguments.words);
            page.line(format_args!("  {}", styled(GOOD, &arguments.command)));
        }
        if !answer.is_asked {
            render_instructions(page, answer);
        }
    }
    if let Some(restart) = answer.restart.as_ref().filter(|_| answer.remedies.is_empty()) {
        page.gap();
        page.line("To put the changed settings into force:");
        page.line(format_args!("  {}", styled(GOOD, restart)));
    }
    if let Some(unproven) = &answer.unproven {
        page.gap();
        render_unproven(page, unproven);
    }
}

/// Returns the unit's name, with the number of its instances if it is a template.
fn describe_unit(unit: &str, instances: &[String]) -> String {
    match instances.len() {
        0 => unit.to_owned(),
        count => format!("{} of {unit}", plural(count as u64, "instance")),
    }
}

fn add_instances(page: &mut Page, instances: &[String]) {
    if !instances.is_empty() {
        page.paragraph(2, &join_first(instances, NAMED_INSTANCES));
    }
}

/// Adds how to apply a remedy: by the `apply` command if there is one, and by hand.
fn render_instructions(page: &mut Page, answer: &Answer) {
    if let Some(apply) = &answer.apply {
        page.gap();
        page.line("To do it:");
        page.line(format_args!("  {}", styled(GOOD, apply)));
    }
    if let Some(rehearse) = &answer.rehearse {
        page.line("In one restart, with nothing blocked:");
        page.line(format_args!("  {}", styled(GOOD, rehearse)));
        let outlook = match answer.expected_denials {
            Some(expected) => format!("{} more denials are expected, one a restart", describe_number(expected)),
            None => "more denials may follow, one a restart, as this one followed an earlier remedy".to_owned(),
        };
        page.paragraph(0, &format!("Without it, {outlook}."));
    }
    if let Some(configuration) = &answer.configuration {
        page.gap();
        configuration.add_to_page(page);
    }
    if !answer.then.is_empty() {
        page.gap();
        page.line("By hand: write the file, and then");
        for command in &answer.then {
            page.line(format_args!("  {command}"));
        }
    }
}

/// Adds that a unit without denials may have been refused calls without a record.
fn render_silence(page: &mut Page, answer: &Answer, Silence { words, commands }: &Silence) {
    let nothing = if answer.is_hidden { "You may not see its denials." } else { &answer.nothing };
    page.paragraph(2, &format!("{nothing} But {words}"));
    page.gap();
    let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    for (command, what) in commands {
        page.hanging((2, 6), &format!("{}  {what}", styled(GOOD, format_args!("{command:<width$}"))));
    }
}

fn render_remedy(page: &mut Page, number: usize, remedy: &RemedyView, detail: Detail) {
    let mark = match (remedy.default, &remedy.path) {
        (false, _) => "",
        (true, Some(_)) => " (apply takes this one)",
        (true, None) => " (the command below takes this one)",
    };
    page.item(&format!("  {number}. "), &format!("{}{mark}", remedy.title));
    if let Some(path) = &remedy.path {
        page.line(format_args!("     {}", styled(PLACE, path)));
    }
    for line in remedy.content.lines() {
        page.line(format_args!("       {}", styled(GOOD, show_line(line))));
    }
    for GroupHelp { group, help } in &remedy.groups {
        page.paragraph(5, &format!("{group}: {help}"));
    }
    if let Some(reserved) = remedy.reserved {
        page.paragraph(5, &styled(WARN, reserved));
    }
    if !remedy.added.is_empty() {
        let added = join_first(&remedy.added, NAMED);
        page.paragraph(5, &format!("new is {added}; the drop-in holds the rest already"));
    }
    if !remedy.opens.is_empty() {
        page.paragraph(5, &format!("also allows {}", join_first(&remedy.opens, NAMED)));
    }
    if !remedy.sensitive.is_empty() {
        page.paragraph(
            5,
            &styled(
                WARN,
                format_args!("of these can affect other programs or the machine: {}", join_by_group(&remedy.sensitive)),
            ),
        );
    }
    for caution in &remedy.cautions {
        page.paragraph(5, &styled(WARN, caution));
    }
    add_machines_of_remedy(page, &remedy.machines, 5, detail);
    if let Some(exposure) = remedy.exposure {
        page.paragraph(5, &describe_exposure(exposure));
    }
    if !remedy.conditional.is_empty() && remedy.reservation != Some("unknown-argument") {
        let names = remedy.conditional.join(", ");
        page.paragraph(5, &format!("not proven for {names}: other directives still look at the arguments"));
    }
}

/// Describes the change of the score of `systemd-analyze security`.
fn describe_exposure(exposure: ExposureView) -> String {
    let ExposureView { before, after } = exposure;
    if (before - after).abs() < 0.05 {
        format!("exposure stays {before:.1} (systemd-analyze security)")
    } else {
        format!("exposure {before:.1} becomes {after:.1} (systemd-analyze security)")
    }
}

/// Returns `chroot (@mount)`, or for many calls `12 of @clock`.
fn join_by_group(calls: &[SensitiveView]) -> String {
    if calls.len() <= NAMED {
        return calls.iter().map(|one| format!("{} ({})", one.call, one.group)).collect::<Vec<_>>().join(", ");
    }
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for one in calls {
        *groups.entry(&one.group).or_default() += 1;
    }
    groups.into_iter().map(|(group, count)| format!("{count} of {group}")).collect::<Vec<_>>().join(", ")
}

fn render_unproven(page: &mut Page, unproven: &Unproven) {
    page.line(styled(BOLD, "What may help"));
    for program in &unproven.programs {
        if unproven.programs.len() > 1 {
            page.paragraph(2, &format!("for {}, which {}:", program.program, program.outcome));
        }
        for line in &program.lines {
            page.line(format_args!("  {}", styled(WARN, line)));
        }
    }
    page.paragraph(0, &unproven.why);
}

fn render_tally(page: &mut Page, log: &LogTally) {
    let skipped =
        [(log.repeats, "repeated"), (log.malformed, "that only looked like a record"), (log.overlong, "too long")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect::<Vec<_>>();
    let told = log.told.map_or_else(String::new, |told| format!(", {} about deaths or denials", plural(told, "line")));
    let others = if log.unrelated > 0 { format!(", {}", plural(log.unrelated, "other line")) } else { String::new() };
    let skipped = if skipped.is_empty() { String::new() } else { format!("; skipped {}", skipped.join(", ")) };
    page.paragraph(
        0,
        &format!(
            "Read {}: {}{told}{others}{skipped}.",
            plural(log.lines, "line"),
            plural(log.records, "SECCOMP record")
        ),
    );
    for complaint in &log.skipped {
        page.paragraph(2, complaint);
    }
    if log.dropped > 0 {
        page.paragraph(
            0,
            &format!("{} were dropped: the log has too many different denials.", plural(log.dropped, "record")),
        );
    }
}

#[cfg(test)]
mod access_pages;
#[cfg(test)]
mod tests;
