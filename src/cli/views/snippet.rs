//! Draws a line of a unit file with its deciding part underlined, as compilers do.
//!
//! annotate-snippets draws such pages too. It does not break a label that is wider than the terminal, and it replaces
//! bytes that it cannot show, where every other page escapes them.

use crate::audit::text::escape;
use crate::cli::terminal::page::{BAD, DIM, PLACE, Page, columns, styled};
use crate::policy::SourceLine;
use serde::{Serialize, Serializer};
use textwrap::core::display_width;

/// What stands for text that does not fit.
const CUT: &str = "...";

/// The columns of a label of several lines.
const LABEL: usize = 48;

/// The columns between the line's number and its text.
const MARGIN: usize = 3;

/// The columns of a line in JSON.
const SERIALIZED: usize = 400;

/// A line of a unit file, and what it does.
#[derive(Debug)]
pub(super) struct Snippet<'a> {
    /// The file and line, or the directive if the line is unknown. Escaped.
    pub(super) place: String,
    /// What parts of the line do, each escaped. The line is unknown if the caller may not read it.
    pub(super) marks: Vec<(Option<&'a SourceLine>, String)>,
}

/// Adds a snippet to a page. With a frame, an empty line is above and below the file's line.
pub(super) fn add_snippet(page: &mut Page, snippet: &Snippet<'_>, is_framed: bool) {
    let lines: Option<Vec<(&SourceLine, &str)>> =
        snippet.marks.iter().map(|(line, label)| Some(((*line)?, label.as_str()))).collect();
    let Some(lines) = lines else { return add_place(page, snippet) };
    let Some(number) = lines.first().map(|(line, _)| line.number.to_string()) else { return };
    let margin = " ".repeat(number.len());
    let rule = styled(DIM, format_args!("{margin} |"));
    page.line(format_args!("{margin}{} {}", styled(DIM, "-->"), styled(PLACE, &snippet.place)));
    if is_framed {
        page.line(&rule);
    }
    let mut shown = String::new();
    for (line, label) in lines {
        let cut = cut_line(line, columns().saturating_sub(margin.len() + MARGIN));
        let text = format!("{}{}{}", cut.before, cut.pointed, cut.after);
        if text != shown {
            page.line(format_args!("{} {text}", styled(DIM, format_args!("{number} |"))));
            shown = text;
        }
        add_mark(page, &cut, label, &margin, is_framed);
    }
    if is_framed {
        page.line(&rule);
    }
}

/// Adds the place of a line that is not shown, and what it does.
fn add_place(page: &mut Page, snippet: &Snippet<'_>) {
    let place = format!(" {} {}", styled(DIM, "-->"), styled(PLACE, &snippet.place));
    let labels: Vec<&str> = snippet.marks.iter().map(|(_, label)| label.as_str()).collect();
    let labels = labels.join("; ");
    if display_width(&place) + 2 + display_width(&labels) <= columns() {
        page.line(format_args!("{place}: {labels}"));
    } else {
        page.line(place);
        page.paragraph(5, &labels);
    }
}

/// Adds the carets below the pointed part, and its label behind or below them. Without a frame, a whole value needs no
/// carets above its label.
fn add_mark(page: &mut Page, cut: &Cut, label: &str, margin: &str, is_framed: bool) {
    let rule = styled(DIM, format_args!("{margin} |"));
    let indent = display_width(&cut.before);
    let carets = styled(BAD, "^".repeat(display_width(&cut.pointed).max(1)));
    let marked = format!("{rule} {:indent$}{carets}", "");
    if display_width(&marked) + 1 + display_width(label) <= columns() {
        page.line(format_args!("{marked} {}", styled(BAD, label)));
        return;
    }
    if is_framed || !cut.is_whole_value() {
        page.line(&marked);
    }
    let room = columns().saturating_sub(margin.len() + MARGIN);
    let label_width = display_width(label);
    let wanted = if label_width <= room { label_width } else { LABEL };
    let indent = indent.min(room.saturating_sub(wanted));
    page.prefixed(&format!("{rule} {:indent$}", ""), &styled(BAD, label));
}

/// Serializes a line as its three parts, escaped, and cut to [`SERIALIZED`] columns.
///
/// # Errors
/// Those of the serializer.
pub(super) fn serialize_line<'a, S: Serializer>(
    line: impl Into<Option<&'a SourceLine>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    line.into().map(|line| cut_line(line, SERIALIZED)).serialize(serializer)
}

/// A line in three parts, escaped.
#[derive(Debug, Serialize)]
struct Cut {
    before: String,
    pointed: String,
    after: String,
}

impl Cut {
    /// Whether the part is all that the line assigns.
    fn is_whole_value(&self) -> bool {
        self.before.trim_end().ends_with('=') && self.after.trim().is_empty()
    }
}

/// Escapes a line, and cuts it around its pointed part to a width.
fn cut_line(line: &SourceLine, width: usize) -> Cut {
    // More characters than fit, and few enough that a line of a megabyte costs nothing.
    let window = 4 * width;
    let part = |range: std::ops::Range<usize>| line.text.get(range).unwrap_or_default();
    // A tab separates words as a space does.
    let show = |text: &str| escape(text.replace('\t', " ").as_bytes());
    let before = part(0..line.span.start);
    let near = before.char_indices().rev().nth(window).map_or(0, |(at, _)| at);
    let before = show(before.get(near..).unwrap_or_default()).trim_start().to_owned();
    let start_of =
        |text: &str| show(text.char_indices().nth(window).and_then(|(at, _)| text.get(..at)).unwrap_or(text));
    let (pointed, after) = (start_of(part(line.span.clone())), start_of(part(line.span.end..line.text.len())));
    // The backslash at the end of a continued line is the file's own.
    let after = after.trim_end().strip_suffix("\\\\").map_or(after.trim_end().to_owned(), |text| format!("{text}\\"));
    if display_width(&before) + display_width(&pointed) + display_width(&after) <= width {
        return Cut { before, pointed, after };
    }
    let pointed = keep_start(&pointed, width.saturating_sub(2 * CUT.len()));
    let spare = width.saturating_sub(display_width(&pointed));
    // The start of a line names its directive, so it stays as long as some words behind the pointed one do.
    let keeps_start = display_width(&before) + display_width(&after).min(spare / 4) <= spare;
    let behind = if keeps_start { 0 } else { display_width(&after).min(spare / 2) };
    let before = keep_end(&before, spare - behind);
    let after = keep_start(&after, spare - display_width(&before));
    Cut { before, pointed, after }
}

/// Returns the start of a text that fits.
fn keep_start(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let kept = text.get(..fitting(text.chars(), width)).unwrap_or_default();
    if width < CUT.len() { kept.to_owned() } else { format!("{kept}{CUT}") }
}

/// Returns the end of a text that fits.
fn keep_end(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let kept = text.get(text.len() - fitting(text.chars().rev(), width)..).unwrap_or_default();
    if width < CUT.len() { kept.to_owned() } else { format!("{CUT}{kept}") }
}

/// Returns how many bytes of characters fit next to [`CUT`].
fn fitting(characters: impl Iterator<Item = char>, width: usize) -> usize {
    let (mut columns, mut bytes) = (CUT.len(), 0);
    for character in characters {
        columns += display_width(character.encode_utf8(&mut [0; 4]));
        if columns > width {
            break;
        }
        bytes += character.len_utf8();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(text: &str, pointed: &str, width: usize) -> (String, String) {
        let start = text.find(pointed).unwrap();
        let line = SourceLine { number: 1, text: text.to_owned(), span: start..start + pointed.len() };
        let Cut { before, pointed, after } = cut_line(&line, width);
        let shown = format!("{before}{pointed}{after}");
        assert!(display_width(&shown) <= width, "{shown}");
        (shown, pointed)
    }

    #[test]
    fn long_line_is_cut_around_the_pointed_word() {
        let line = "SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap";
        assert_eq!(cut(line, "@mount", 40), ("...debug @module @mount @obsolete @ra...".into(), "@mount".into()));
        assert_eq!(cut(line, "@clock", 40).0, "SystemCallFilter=~@clock @cpu-emulati...");
        assert!(cut(line, "@swap", 40).0.ends_with("@raw-io @reboot @swap"));
        assert_eq!(cut(line, line, 20).0, "SystemCallF...");
    }

    #[test]
    fn line_of_a_megabyte_is_cut_at_once() {
        for filler in ["a", "\u{301}", "\u{1b}"] {
            let filler = filler.repeat(1 << 20);
            let (shown, pointed) = cut(&format!("SystemCallFilter=~{filler} mount {filler}"), "mount", 40);
            assert!(pointed == "mount" && shown.len() < 1 << 12, "{shown}");
        }
    }

    #[test]
    fn line_of_a_hostile_file_is_escaped() {
        let (shown, _) = cut("\tSystemCallFilter=\u{1b}[2J mount \u{202e}x \\", "mount", 80);
        assert_eq!(shown, "SystemCallFilter=\\x1b[2J mount \\u{202e}x \\");
    }

    #[test]
    fn line_in_json_has_three_escaped_parts_of_bounded_length() {
        let text = format!("SystemCallFilter=~uname <b>\u{1b} {}", "x".repeat(1 << 20));
        let line = SourceLine { number: 1, text, span: 18..23 };
        let json = serialize_line(&line, serde_json::value::Serializer).unwrap();
        assert_eq!((&json["before"], &json["pointed"]), (&"SystemCallFilter=~".into(), &"uname".into()));
        let after = json["after"].as_str().unwrap();
        assert!(after.starts_with(" <b>\\x1b xx") && after.ends_with("x...") && after.len() < SERIALIZED, "{after}");
    }

    proptest! {
        #[test]
        fn any_cut_fits(text in r"[a-z@ \t\u{4e00}\u{1b}\\é]{0,120}", at in 0_usize..120, length in 0_usize..60, width in 20_usize..90) {
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let start = ends[at.min(ends.len() - 1)];
            let end = ends[(at + length).min(ends.len() - 1)];
            let line = SourceLine { number: 1, text: text.clone(), span: start..end.max(start) };
            let Cut { before, pointed, after } = cut_line(&line, width);
            let shown = format!("{before}{pointed}{after}");
            prop_assert!(display_width(&shown) <= width);
        }
    }
}
