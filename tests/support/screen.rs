//! Golden screens: what a command prints at the widths of terminals, with and without colour.
//!
//! A golden file holds the command, standard output, standard error and the exit status. `UPDATE=1` rewrites it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// The columns of each screen.
pub(crate) const WIDTHS: [usize; 3] = [80, 120, 40];

/// The programs that begin a line to copy.
const PROGRAMS: [&str; 8] =
    ["harden-why", "printf", "sudo", "systemctl", "systemd-run", "journalctl", "sysctl", "kill"];

/// Runs a command at every width, with and without colour. Returns what differs from the golden files in `directory`,
/// and what is wider than the terminal. `mask` replaces what differs from run to run.
pub(crate) fn check(
    directory: &Path,
    shown: &str,
    command: impl Fn() -> Command,
    mask: impl Fn(String) -> String,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for columns in WIDTHS {
        let run = |color: &str| {
            let mut command = command();
            let output = command.env("COLUMNS", columns.to_string()).args(["--color", color]).output().unwrap();
            mask(describe(shown, &output))
        };
        let (plain, coloured) = (run("never"), run("always"));
        let name = directory.display();
        wrong.extend(wide_lines(&plain, columns).map(|line| format!("{name} at {columns} columns is wider: {line}")));
        let stripped = anstream::adapter::strip_str(&coloured).to_string();
        if stripped != plain {
            wrong.push(format!("{name} at {columns} columns is another text in colour:\n{coloured}"));
        }
        for (text, end) in [(plain, "txt"), (coloured, "ansi")] {
            wrong.extend(compare(&directory.join(format!("{columns}.{end}")), &text));
        }
    }
    wrong
}

/// Compares a text with a golden file, or rewrites the file with `UPDATE=1`.
pub(crate) fn compare(file: &Path, text: &str) -> Option<String> {
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::write(file, text).unwrap();
        return None;
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    (expected != text).then(|| format!("{} differs; it is now:\n{text}", file.display()))
}

/// Returns the command and all that it printed, as a person sees it.
fn describe(shown: &str, output: &Output) -> String {
    let mut text = format!("$ harden-why {shown}\n");
    text += str::from_utf8(&output.stdout).unwrap();
    if !output.stderr.is_empty() {
        write!(text, "[stderr]\n{}", str::from_utf8(&output.stderr).unwrap()).unwrap();
    }
    let status = output.status.code().map_or_else(|| "a signal".to_owned(), |code| code.to_string());
    writeln!(text, "[exit status {status}]").unwrap();
    text
}

/// Returns the lines that are wider than the terminal, without those that may be: contents of files, paths, commands.
pub(crate) fn wide_lines(text: &str, columns: usize) -> impl Iterator<Item = &str> {
    // The first line is the command. Elsewhere than on a terminal, a message is one line.
    text.lines()
        .skip(1)
        .take_while(|line| *line != "[stderr]")
        .filter(move |line| line.chars().count() > columns && !may_be_wide(line, columns))
}

/// Returns whether a line must not be broken.
fn may_be_wide(line: &str, columns: usize) -> bool {
    let text = line.trim_start();
    let is_program =
        PROGRAMS.iter().any(|program| text.strip_prefix(program).is_some_and(|rest| rest.starts_with(' ')));
    let is_command = line.len() > text.len() && is_program;
    // `6 | SystemCallFilter=…`, `  | ^^^ reason`, ` --> file:6`, `  + SystemCallFilter=…`
    let is_source = text.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|');
    let is_place = text.starts_with("--> ");
    let is_setting = |text: &str| {
        let key = text.split('=').next().unwrap_or_default();
        text.contains('=') && !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let is_content = is_setting(text.trim_start_matches(['+', '-', ' ']));
    // No break before the last word would help.
    let (before, last) = text.rsplit_once(' ').unwrap_or(("", text));
    let is_word = last.chars().count() + (line.len() - text.len()) > columns || (before.is_empty() && last.len() > 1);
    // Of a drop-in, or of metrics, which programs read.
    let is_comment = text.trim_start_matches(['+', '-']).starts_with('#');
    is_comment
        || is_command
        || text.starts_with("Usage: ")
        || is_source
        || is_place
        || is_content
        || is_word
        || last.starts_with(['/', '~'])
}

/// Replaces the digits of dates and times by zeros.
pub(crate) fn mask_times(text: &str) -> String {
    let (bytes, mut masked) = (text.as_bytes(), text.as_bytes().to_vec());
    let has_form = |at: usize, form: &[u8]| {
        let fits = |(byte, of): (&u8, &u8)| if *of == b'0' { byte.is_ascii_digit() } else { byte == of };
        bytes.get(at..at + form.len()).is_some_and(|part| part.iter().zip(form).all(fits))
    };
    for at in 0..bytes.len() {
        // A part of a longer number is no time.
        let begins = at == 0 || !bytes[at - 1].is_ascii_digit();
        for form in ["0000-00-00", "00:00:00", "00:00"] {
            if begins && has_form(at, form.as_bytes()) {
                masked[at..at + form.len()].copy_from_slice(form.as_bytes());
            }
        }
    }
    String::from_utf8(masked).unwrap()
}
