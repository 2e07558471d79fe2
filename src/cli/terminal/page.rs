//! Lays out text for the columns of a terminal. Colours are stripped when stdout is not one.

use crate::audit::Note;
use anstyle::{AnsiColor, Style};
use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The columns of the terminal. Paths and lines to copy are never broken.
static COLUMNS: AtomicUsize = AtomicUsize::new(80);

/// The narrowest terminal: in fewer columns, no text fits next to a label.
const NARROWEST: usize = 40;

/// The widest paragraph: longer lines are hard to read.
const WIDEST: usize = 100;

/// The column where the text of a field begins.
const INDENT: usize = 9;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const PLACE: Style = AnsiColor::Cyan.on_default();

/// Sets the columns of pages: those of the terminal on stdout, or elsewhere those of `COLUMNS`.
pub(crate) fn fit_terminal() {
    let columns = match terminal_size::terminal_size_of(io::stdout()) {
        Some((columns, _)) => Some(usize::from(columns.0)),
        None => std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()),
    };
    // A terminal that does not know its size tells 0.
    if let Some(columns) = columns.filter(|columns| *columns > 0) {
        COLUMNS.store(columns.max(NARROWEST), Ordering::Relaxed);
    }
}

/// Returns the columns that an answer may fill.
pub(crate) fn columns() -> usize {
    COLUMNS.load(Ordering::Relaxed)
}

/// A page under construction.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// Adds a line, unbroken.
    pub(crate) fn line(&mut self, line: impl Display) {
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    /// Adds an empty line, unless the page is empty or ends in one.
    pub(crate) fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// Adds a wrapped, indented paragraph.
    pub(crate) fn paragraph(&mut self, indent: usize, text: &str) {
        let indent = " ".repeat(indent);
        for line in wrapped(text, &indent, &indent) {
            self.line(line);
        }
    }

    /// Adds a paragraph after a label, indented by the width of the label.
    pub(crate) fn item(&mut self, label: &str, text: &str) {
        for line in wrapped(text, label, &" ".repeat(label.len())) {
            self.line(line);
        }
    }

    /// Adds a wrapped paragraph. `indents` are those of its first line and of the others.
    pub(crate) fn hanging(&mut self, indents: (usize, usize), text: &str) {
        for line in wrapped(text, &" ".repeat(indents.0), &" ".repeat(indents.1)) {
            self.line(line);
        }
    }

    /// Adds a wrapped paragraph whose further lines are indented. If it has more than `most` lines, it ends after the last
    /// clause that fits, or after its first one, and `tail` follows.
    pub(crate) fn cut_paragraph(&mut self, indents: (usize, usize), text: &str, most: usize, tail: &str) {
        let (first, rest) = (" ".repeat(indents.0), " ".repeat(indents.1));
        let fits = |text: &str| wrapped(text, &first, &rest).len() <= most;
        if fits(text) {
            return self.hanging(indents, text);
        }
        let clauses: Vec<String> = clauses(text).map(|clause| format!("{clause}{tail}")).collect();
        let kept = clauses.iter().rfind(|clause| fits(clause)).or(clauses.first());
        self.hanging(indents, kept.map_or(text, String::as_str));
    }

    /// Adds another page.
    pub(crate) fn append(&mut self, other: &Self) {
        self.text += &other.text;
    }

    /// Adds a wrapped paragraph, with a prefix before each line.
    pub(crate) fn prefixed(&mut self, prefix: &str, text: &str) {
        for line in wrapped(text, prefix, prefix) {
            self.line(line);
        }
    }

    /// Adds a field: a label, and wrapped text next to it.
    pub(crate) fn field(&mut self, label: &str, text: &str) {
        let (first, rest) = (format!("  {label:<width$}", width = INDENT - 2), " ".repeat(INDENT));
        for (number, line) in wrapped(text, &first, &rest).into_iter().enumerate() {
            match line.strip_prefix(&first) {
                Some(tail) if number == 0 => self.line(format_args!("{}{tail}", styled(DIM, &first))),
                _ => self.line(line),
            }
        }
    }

    /// Adds a line in the column of a field's text.
    pub(crate) fn below(&mut self, line: impl Display) {
        self.line(format_args!("{:INDENT$}{line}", ""));
    }

    /// Returns the number of lines.
    pub(crate) fn height(&self) -> usize {
        self.text.lines().count()
    }

    /// Returns whether the page is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Returns the text.
    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// Returns whether a text fits one line.
pub(crate) fn is_one_line(text: &str) -> bool {
    wrapped(text, "", "").len() <= 1
}

/// Wraps text in a style.
pub(crate) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

fn wrapped(text: &str, first: &str, rest: &str) -> Vec<String> {
    let options = textwrap::Options::new(columns().min(WIDEST))
        .initial_indent(first)
        .subsequent_indent(rest)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
    textwrap::wrap(text, options).into_iter().map(std::borrow::Cow::into_owned).collect()
}

/// Returns each start of a text that can stand alone: it ends before `; `, `: ` or `. `, outside of parentheses. A label
/// and the place in a file are no clause.
fn clauses(text: &str) -> impl Iterator<Item = &str> {
    let ends = text.char_indices().filter(|(_, c)| matches!(c, ';' | ':' | '.')).map(|(at, _)| at);
    let split = ends.filter_map(|at| text.split_at_checked(at)).filter(|(_, rest)| rest.get(1..2) == Some(" "));
    split.map(|(clause, _)| clause).filter(|clause| {
        let plain = anstream::adapter::strip_str(clause).to_string();
        plain.split(": ").last().is_some_and(|words| words.contains(' '))
            && clause.matches('(').count() == clause.matches(')').count()
    })
}

/// Adds the notes below an answer.
pub(crate) fn add_notes(page: &mut Page, notes: &[Note]) {
    if notes.is_empty() {
        return;
    }
    page.gap();
    for note in notes {
        let text = note.to_string();
        let (words, command) = split_command(&text);
        page.paragraph(0, &format!("{} {words}", styled(WARN, "note:")));
        if let Some(command) = command {
            page.line(format_args!("  {}", styled(GOOD, command)));
        }
    }
}

/// Splits a text that ends in a command to copy, as `…: systemctl restart x.service` does. A command of several lines,
/// or within a sentence, is none.
fn split_command(text: &str) -> (&str, Option<&str>) {
    let Some((words, command)) = text.rsplit_once(": ") else { return (text, None) };
    let is_command = ["harden-why", "systemctl", "sudo"].into_iter().any(|program| {
        let arguments = command.strip_prefix(program).unwrap_or_default();
        arguments.starts_with(' ') && !arguments.contains([';', ',', '(', '\''])
    });
    if is_command { (&text[..=words.len()], Some(command)) } else { (text, None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(page: Page) -> String {
        anstream::adapter::strip_str(&page.finish()).to_string()
    }

    #[test]
    fn field_text_aligns_and_wraps() {
        let mut page = Page::default();
        page.field("why", &"word ".repeat(30));
        let text = plain(page);
        assert!(text.lines().all(|line| line.len() <= 80));
        let mut lines = text.lines();
        assert!(lines.next().unwrap().starts_with("  why    word"));
        assert!(lines.next().unwrap().starts_with("         word"));
    }

    #[test]
    fn long_paragraph_ends_after_a_clause() {
        let text = "note: /a:7: @x is no group (nor; a call), so systemd ignores all of it: did you mean @y, of which there \
            are many; or @z? One of them is right, and the other is not";
        for (most, cut) in [
            (1, "note: /a:7: @x is no group (nor; a call), so systemd ignores all of it (-v)"),
            (
                2,
                "note: /a:7: @x is no group (nor; a call), so systemd ignores all of it: did you mean @y, of which there are many (-v)",
            ),
            (3, text),
        ] {
            let mut page = Page::default();
            page.cut_paragraph((0, 2), text, most, " (-v)");
            assert_eq!(plain(page).split_whitespace().collect::<Vec<_>>().join(" "), cut);
        }
        let mut page = Page::default();
        let long = ["word"; 40].join(" ");
        page.cut_paragraph((0, 2), &format!("{long}; more"), 1, " (-v)");
        assert!(plain(page).trim_end().ends_with("word (-v)"));
    }

    #[test]
    fn line_to_copy_is_not_broken() {
        let path = format!("/{}", "long".repeat(30));
        let mut page = Page::default();
        page.field("file", &path);
        assert!(plain(page).contains(&path));
    }

    #[test]
    fn command_at_the_end_of_a_note_stands_alone() {
        let split = |text| split_command(text);
        let (words, command) = split("processes keep the old filter: systemctl restart x.service");
        assert_eq!((words, command), ("processes keep the old filter:", Some("systemctl restart x.service")));
        for text in
            ["it fails: harden-why restore, or a restart", "harden-why: no", "systemctl: gone", "a: systemctls x"]
        {
            assert_eq!(split(text), (text, None));
        }
    }

    #[test]
    fn colour_codes_have_no_width() {
        let mut page = Page::default();
        page.paragraph(0, &format!("{} {}", styled(BAD, "a".repeat(40)), "b".repeat(39)));
        assert_eq!(plain(page).lines().count(), 1);
    }
}
