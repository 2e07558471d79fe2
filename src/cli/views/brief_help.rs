//! What the default page suggests: the default remedy, or why there is none, and the next command.

use super::answer::{Answer, DenialView, RemedyView};
use super::folded::{FoldedDenial, join_some, name_calls};
use super::program_evidence::{NO_EVIDENCE, describe_number};
use crate::audit::Note;
use crate::audit::text::{join, join_first, plural, quote_arguments, quote_word};
use crate::diagnosis::Reservation;
use crate::operations::drop_in::MARK;
use crate::units::Confidence;
use std::collections::BTreeSet;

/// Remedies for denials that a person has to judge, by their reservation.
const FALLBACK: &str = "has-fallback";
const LIBRARY_PROBE: &str = "library-probe";
const INTRUSION: &str = "possible-intrusion";
const BEFORE_EXEC: &str = "before-exec";
const OTHER_ARCHITECTURE: &str = "other-architecture";

/// The most calls named as allowed besides the denied ones.
const NAMED: usize = 3;

/// The outlook of a denial that followed a remedy.
const FOLLOWS_REMEDY: &str = "a remedy was applied before, and more denials may follow, one per restart. rehearse finds \
    all of them in one restart, with nothing blocked; apply keeps the filter on";

/// The most characters of a command that writes a drop-in.
const LONGEST_COMMAND: usize = 400;

/// A suggestion.
#[derive(Debug, Default)]
pub(super) struct Help<'a> {
    /// What to do, or why nothing is suggested.
    pub(super) text: String,
    /// How many other remedies there are.
    pub(super) ways: Option<String>,
    /// The shown remedy, and its number.
    pub(super) remedy: Option<(usize, &'a RemedyView)>,
    /// Whether a command writes its drop-in.
    pub(super) is_written: bool,
    /// How many denials may follow, and how to find them all at once.
    pub(super) outlook: Option<String>,
    /// What to know before doing it.
    pub(super) cautions: Vec<String>,
    /// The commands, each alone on its line.
    pub(super) commands: Vec<String>,
}

/// Returns what to do about the open denials; `None` if there is nothing.
pub(super) fn find_help<'a>(answer: &'a Answer, open: &[FoldedDenial<'_>]) -> Option<Help<'a>> {
    let reserved = |which: &str| open.iter().find(|denial| denial.view.reservation == Some(which));
    if let Some(at) = answer.remedies.iter().position(|remedy| remedy.default) {
        let mut help = suggest(answer, open, at, "");
        if let Some(rehearse) = answer.rehearse.clone() {
            help.outlook = Some(match answer.expected_denials {
                Some(expected) => describe_outlook(&answer.notes, expected),
                None => FOLLOWS_REMEDY.to_owned(),
            });
            help.commands.insert(0, rehearse);
        }
        let names = |which: &str| -> Vec<&str> {
            let denials = open.iter().filter(|denial| denial.view.reservation == Some(which));
            denials.filter_map(|denial| denial.view.call.as_deref()).collect()
        };
        let fallback = names(FALLBACK);
        if !fallback.is_empty() {
            let calls = join_some(&fallback);
            help.cautions.push(format!("{calls}: most programs make an older call instead; if not: -v"));
        }
        if !names(INTRUSION).is_empty() {
            help.cautions.push(describe_intrusion(open));
        }
        if let Some(arguments) = &answer.arguments {
            let calls: Vec<&str> = arguments.calls.iter().map(String::as_str).collect();
            help.cautions.push(format!("{}: the argument that decides is unknown, see -v", join_some(&calls)));
        }
        return Some(help);
    }
    if let Some(at) = guessed_remedy(answer) {
        return Some(suggest(answer, open, at, "if the guess is right, "));
    }
    if reserved(INTRUSION).is_some() {
        return Some(Help { text: describe_intrusion(open), ..Help::default() });
    }
    if let Some(arguments) = &answer.arguments {
        let calls: Vec<&str> = arguments.calls.iter().map(String::as_str).collect();
        let text = format!("the argument that decides on {} is unknown. This shows it:", join_some(&calls));
        return Some(Help { text, commands: vec![arguments.command.clone()], ..Help::default() });
    }
    for (reservation, condition) in [
        (FALLBACK, "most programs make an older call instead, and nothing has to change. If this one fails, "),
        (LIBRARY_PROBE, "libraries look for the file and do without it. Only if the program does not, "),
        (
            OTHER_ARCHITECTURE,
            "no program of the unit is of this architecture. Only if it is meant to make such calls, ",
        ),
        (BEFORE_EXEC, "systemd makes the call, not the program. Only if the unit does not start without it, "),
    ] {
        let at = answer.remedies.iter().position(|remedy| remedy.reservation == Some(reservation));
        if let Some(at) = at.filter(|_| reserved(reservation).is_some()) {
            return Some(suggest(answer, open, at, condition));
        }
    }
    let why = ["no-remedy", "unsolvable", "unknown-to-libseccomp"];
    if let Some(note) = answer.notes.iter().find(|note| why.contains(&note.id)) {
        return Some(list_ways(answer, note.text.clone()));
    }
    if !answer.remedies.is_empty() {
        return Some(list_ways(answer, explain_no_default(answer).to_owned()));
    }
    if answer.is_of_log && open.iter().any(|denial| denial.view.cause.kind == "possibly-unit") {
        let text = "read the groups of the log's machine: --groups FILE, with the output of 'systemd-analyze \
            --no-pager syscall-filter' there";
        return Some(Help { text: text.to_owned(), ..Help::default() });
    }
    answer.unproven.as_ref().filter(|_| answer.is_of_log).map(|_| {
        let assume = if answer.unit.is_some() { "" } else { ", and --assume-unit UNIT if you know the unit" };
        let text = format!("read the unit's settings: --root DIR, or / for this machine{assume}");
        Help { text, ..Help::default() }
    })
}

/// Suggests a remedy, on a condition.
fn suggest<'a>(answer: &'a Answer, open: &[FoldedDenial<'_>], at: usize, condition: &str) -> Help<'a> {
    let Some(remedy) = answer.remedies.get(at) else { return Help::default() };
    let text = format!("{condition}{}", describe(remedy, open));
    let others = answer.remedies.len() - 1;
    let ways = (others > 0).then(|| format!(" ({}: -v)", plural(others as u64, "other way")));
    let mut cautions: Vec<String> = remedy.cautions.clone();
    if !remedy.sensitive.is_empty() {
        let calls: Vec<&str> = remedy.sensitive.iter().map(|one| one.call.as_str()).collect();
        // One line, however many they are.
        cautions.push(format!("{} can affect other programs or the machine", join_first(&calls, 2)));
    }
    if let Some(configuration) = &answer.configuration {
        let place = &configuration.read_only;
        cautions.push(format!("{place} is read-only: this lasts until a reboot; -v shows lines to keep"));
    }
    let number = format!("--remedy {}", at + 1);
    let apply = answer.apply.as_ref().map(|command| command.replace("--remedy N", &number));
    let by_hand = || {
        let write = write_command(answer, remedy);
        (write.is_some(), write.into_iter().chain(activation_by_hand(answer)).collect())
    };
    let (is_written, commands) = apply.map_or_else(by_hand, |apply| (true, vec![apply]));
    Help { text, ways, remedy: Some((at + 1, remedy)), is_written, outlook: None, cautions, commands }
}

/// Whether a command of an answer requires root.
fn is_of_system(answer: &Answer) -> bool {
    answer.manager.as_deref() == Some("system")
}

/// Returns the command that puts a drop-in into force which a person writes.
fn activation_by_hand(answer: &Answer) -> Option<String> {
    let sudo = if is_of_system(answer) { "sudo " } else { "" };
    let commands: Vec<String> = answer.then.iter().map(|command| format!("{sudo}{command}")).collect();
    (!commands.is_empty()).then(|| commands.join(" && "))
}

/// Returns the command that writes a remedy's drop-in; `None` if nothing would put it into force, or a text of it does
/// not fit into a command.
fn write_command(answer: &Answer, remedy: &RemedyView) -> Option<String> {
    let path = remedy.path.as_ref().filter(|_| !answer.then.is_empty())?;
    compose_write_command(path, &remedy.content, if is_of_system(answer) { "sudo " } else { "" })
}

/// Composes the command that writes a file, if it can be pasted into a shell. `sudo` stands before the writing program.
fn compose_write_command(path: &str, content: &str, sudo: &str) -> Option<String> {
    // A path with an escaped byte is not the file's.
    let is_plain = !path.contains('\\') && !content.chars().any(|c| c.is_control() && c != '\n');
    // With the mark, `revert` removes the file, and `apply` changes it.
    let lines: Vec<String> = std::iter::once(MARK).chain(content.lines()).map(quote_word).collect();
    let command = format!("printf '%s\\n' {} | {sudo}install -Dm644 /dev/stdin {}", lines.join(" "), quote_word(path));
    (is_plain && command.len() <= LONGEST_COMMAND).then_some(command)
}

/// Describes how many denials may follow, and the two commands.
fn describe_outlook(notes: &[Note], expected: u32) -> String {
    let lacks = notes.iter().any(|note| note.id == NO_EVIDENCE);
    let number = describe_number(expected);
    let basis = if lacks { " (a guess: its program shows no calls, see -v)" } else { "" };
    format!(
        "{number} more denials are likely, one per restart{basis}. rehearse finds them in one restart, with nothing \
         blocked; apply keeps the filter on"
    )
}

/// Returns the remedy that would be the default if the unit were known for sure.
fn guessed_remedy(answer: &Answer) -> Option<usize> {
    let is_guess =
        |denial: &DenialView| denial.attribution.as_ref().is_some_and(|found| found.confidence == Confidence::Guess);
    let is_guessed = !answer.denials.is_empty() && answer.denials.iter().all(is_guess);
    answer.remedies.iter().rposition(|remedy| remedy.reservation.is_none()).filter(|_| is_guessed)
}

/// Describes a remedy in a few words.
fn describe(remedy: &RemedyView, open: &[FoldedDenial<'_>]) -> String {
    let calls = name_calls_of(remedy, open);
    let doing = match remedy.kind {
        "calls" | "equivalents" | "evidence" => format!("allow {calls}"),
        "groups" => {
            let groups: Vec<&str> = remedy.groups.iter().map(|help| help.group.as_str()).collect();
            format!("allow {}", join_some(&groups))
        }
        "fail-with-error" | "fail-all-with-error" => format!("let {calls} fail with an error instead of a kill"),
        "deny-list" => "turn the allow-list into a deny-list".to_owned(),
        _ => describe_settings(&remedy.content),
    };
    match remedy.opens.as_slice() {
        [] => doing,
        opens if opens.len() <= NAMED => {
            let opens: Vec<&str> = opens.iter().map(String::as_str).collect();
            format!("{doing}; also allows {}", join_some(&opens))
        }
        opens => format!("{doing}; also allows {}", plural(opens.len() as u64, "call")),
    }
}

/// Explains why no remedy is the default.
fn explain_no_default(answer: &Answer) -> &'static str {
    let is_wider = |remedy: &RemedyView| remedy.reservation == Some(Reservation::WiderThanDenied.as_str());
    if answer.remedies.iter().all(is_wider) {
        "every remedy allows more than what was denied, so none is the default"
    } else {
        "no remedy is the default"
    }
}

/// Describes a remedy that changes other settings than a filter.
fn describe_settings(content: &str) -> String {
    let lines: Vec<(&str, &str)> = content.lines().filter_map(|line| line.split_once('=')).collect();
    match lines.as_slice() {
        [_, ..] if lines.iter().all(|(key, _)| *key == "ReadWritePaths") => {
            let paths = join(lines.iter().map(|(_, paths)| (*paths).to_owned()));
            return format!("allow writes below {paths}");
        }
        [(key, name)] if key.ends_with("Directory") => return format!("give the unit {key}={name}"),
        _ => {}
    }
    let keys: BTreeSet<&str> = lines.iter().map(|(key, _)| *key).collect();
    format!("relax {}", join(keys.into_iter().map(|key| format!("{key}="))))
}

/// Names the denied calls that a remedy is for.
fn name_calls_of(remedy: &RemedyView, open: &[FoldedDenial<'_>]) -> String {
    let denied =
        open.iter().filter(|denial| matches!(denial.view.cause.kind, "unit" | "possibly-unit" | "settings-changed"));
    let is_for =
        |denial: &&FoldedDenial<'_>| denial.view.reservation.is_none() || denial.view.reservation == remedy.reservation;
    let denied = denied.filter(is_for).map(FoldedDenial::clone);
    name_calls(&denied.collect::<Vec<_>>())
}

/// Says that a call may show an intrusion.
fn describe_intrusion(open: &[FoldedDenial<'_>]) -> String {
    let suspicious = open.iter().find(|denial| denial.view.reservation == Some(INTRUSION));
    let call = suspicious.and_then(|denial| denial.view.call.as_deref()).unwrap_or_default();
    let program = suspicious.and_then(|denial| denial.view.exe.as_deref()).unwrap_or("the program");
    let uid = suspicious.and_then(|denial| denial.view.uid.as_deref()).unwrap_or("unknown");
    format!(
        "{call} may show an intrusion: none of the unit's commands runs {program}, as uid {uid}. Find out what it is \
         first; -v shows the remedy"
    )
}

/// Gives a reason why no remedy is suggested, and how to see them.
fn list_ways<'a>(answer: &Answer, why: String) -> Help<'a> {
    let command = list_remedies(answer);
    let text = match answer.remedies.len() {
        0 => why,
        count => format!("{why} ({}: -v)", plural(count as u64, "way")),
    };
    Help { text, commands: command.into_iter().collect(), ..Help::default() }
}

/// Returns the command that lists all remedies, if the answer is about a unit of this machine.
fn list_remedies(answer: &Answer) -> Option<String> {
    answer.apply.as_ref().filter(|_| !answer.remedies.is_empty())?;
    let user = if is_of_system(answer) { "" } else { "--user " };
    Some(format!("harden-why --all-remedies {user}{}", quote_arguments([&**answer.unit.as_ref()?])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_command_is_quoted_for_a_shell_or_left_out() {
        let path = "/etc/systemd/system/a.service.d/zz-harden-why.conf";
        let command = |path: &str, content: &str| compose_write_command(path, content, "sudo ");
        assert_eq!(
            command(path, "[Service]\nSystemCallFilter=socket\n").unwrap(),
            format!(
                "printf '%s\\n' '# Written by harden-why' '[Service]' SystemCallFilter=socket | sudo install -Dm644 \
                 /dev/stdin {path}"
            )
        );
        let hostile = command(path, "[Service]\nReadWritePaths=/a'; reboot #$(x)\n").unwrap();
        assert!(hostile.contains("'ReadWritePaths=/a'\\''; reboot #$(x)' | sudo"), "{hostile}");
        assert_eq!(command(path, "[Service]\nA=\x1b[2J\n"), None);
        assert_eq!(command("/etc/a\\x2db", "[Service]\n"), None, "an escaped byte of the path");
        assert_eq!(command(path, &format!("[Service]\nSystemCallFilter={}\n", "read ".repeat(200))), None);
    }

    #[test]
    fn settings_of_one_kind_are_described_once() {
        let words = |lines: &str| describe_settings(&format!("# Written\n[Service]\n{lines}\n"));
        assert_eq!(words("ReadWritePaths=/a"), "allow writes below /a");
        assert_eq!(words("ReadWritePaths=/a\nReadWritePaths=/b"), "allow writes below /a and /b");
        assert_eq!(words("DeviceAllow=/dev/a r\nDeviceAllow=/dev/b r"), "relax DeviceAllow=");
        assert_eq!(words("BindPaths=-/dev/a\nDeviceAllow=/dev/a r"), "relax BindPaths= and DeviceAllow=");
    }

    #[test]
    fn outlook_names_the_number_and_what_it_rests_on() {
        let words = |notes: Vec<Note>| describe_outlook(&notes, 3);
        assert!(words(Vec::new()).starts_with("about 3 more denials are likely, one per restart. rehearse finds them"));
        let lacking = words(vec![Note::new(NO_EVIDENCE, "x does not exist")]);
        assert!(lacking.contains("one per restart (a guess"), "{lacking}");
    }
}
