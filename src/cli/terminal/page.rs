//! Laying out text for the columns of a terminal, with colours that a pipe leaves out.

use crate::audit::Note;
use anstyle::{AnsiColor, Style};
use std::fmt::Display;
use std::io;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The columns an answer fits in: these unless it goes to a terminal. A path or a line to be copied is never broken.
static WIDTH: AtomicUsize = AtomicUsize::new(80);

/// Below, nothing of use fits beside a label; beyond, lines are hard to read.
const WIDTHS: RangeInclusive<usize> = 40..=100;

/// Where the text of a field begins.
const INDENT: usize = 9;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const PLACE: Style = AnsiColor::Cyan.on_default();

/// Has text laid out for the terminal that it goes to, if it does.
pub(crate) fn fit_terminal() {
    if let Some((columns, _)) = terminal_size::terminal_size_of(io::stdout()) {
        let columns = usize::from(columns.0).clamp(*WIDTHS.start(), *WIDTHS.end());
        WIDTH.store(columns, Ordering::Relaxed);
    }
}

/// Text being laid out.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// A line as it is.
    pub(crate) fn line(&mut self, line: impl Display) {
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    /// An empty line, unless there is one or nothing above.
    pub(crate) fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// A paragraph, its lines indented.
    pub(crate) fn paragraph(&mut self, indent: usize, text: &str) {
        let indent = " ".repeat(indent);
        for line in wrapped(text, &indent, &indent) {
            self.line(line);
        }
    }

    /// A paragraph behind a label, as wide as that indented.
    pub(crate) fn item(&mut self, label: &str, text: &str) {
        for line in wrapped(text, label, &" ".repeat(label.len())) {
            self.line(line);
        }
    }

    /// A field: a label, and text beside it.
    pub(crate) fn field(&mut self, label: &str, text: &str) {
        let (first, rest) = (format!("  {label:<width$}", width = INDENT - 2), " ".repeat(INDENT));
        for (number, line) in wrapped(text, &first, &rest).into_iter().enumerate() {
            match line.strip_prefix(&first) {
                Some(tail) if number == 0 => self.line(format_args!("{}{tail}", styled(DIM, &first))),
                _ => self.line(line),
            }
        }
    }

    /// A line below a field's text.
    pub(crate) fn below(&mut self, line: impl Display) {
        self.line(format_args!("{:INDENT$}{line}", ""));
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// All of it.
    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// Text in a style, and back to none.
pub(crate) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

fn wrapped(text: &str, first: &str, rest: &str) -> Vec<String> {
    let options = textwrap::Options::new(WIDTH.load(Ordering::Relaxed))
        .initial_indent(first)
        .subsequent_indent(rest)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
    textwrap::wrap(text, options).into_iter().map(std::borrow::Cow::into_owned).collect()
}

/// Notes below an answer.
pub(crate) fn notes(page: &mut Page, notes: &[Note]) {
    if notes.is_empty() {
        return;
    }
    page.gap();
    for note in notes {
        page.paragraph(0, &format!("{} {note}", styled(WARN, "note:")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(page: Page) -> String {
        anstream::adapter::strip_str(&page.finish()).to_string()
    }

    #[test]
    fn fields_align_and_wrap() {
        let mut page = Page::default();
        page.field("why", &"word ".repeat(30));
        let text = plain(page);
        assert!(text.lines().all(|line| line.len() <= 80));
        let mut lines = text.lines();
        assert!(lines.next().unwrap().starts_with("  why    word"));
        assert!(lines.next().unwrap().starts_with("         word"));
    }

    #[test]
    fn what_is_to_be_copied_is_not_broken() {
        let path = format!("/{}", "long".repeat(30));
        let mut page = Page::default();
        page.field("file", &path);
        assert!(plain(page).contains(&path));
    }

    #[test]
    fn colour_does_not_count_as_width() {
        let mut page = Page::default();
        page.paragraph(0, &format!("{} {}", styled(BAD, "a".repeat(40)), "b".repeat(39)));
        assert_eq!(plain(page).lines().count(), 1);
    }
}
