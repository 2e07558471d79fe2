//! A table on stderr that stays in its place while its contents change.
//!
//! The cursor is never hidden, and stands below the table after each change. So a process that is killed leaves nothing
//! to restore.

use super::page::{BOLD, DIM, styled};
use crate::cli::terminal::quiet::is_quiet;
use anstream::{AutoStream, ColorChoice};
use std::io;
use std::io::{IsTerminal as _, Write as _};
use textwrap::core::display_width;

/// Columns and lines of a terminal that does not know its size.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// The widest name of a call.
const CALL: usize = 24;

/// In fewer columns, the table leaves out when a call was first seen.
const WITH_FIRST: usize = 60;

/// A row of the table.
#[derive(Debug, Clone)]
pub(crate) struct LiveRow {
    pub(crate) call: String,
    pub(crate) count: u64,
    /// The time of day when it was first seen.
    pub(crate) first: String,
    /// The directive that decides the call, and its file and line.
    pub(crate) decided_by: String,
}

/// A table on a terminal.
#[derive(Debug)]
pub(crate) struct LiveTable {
    is_coloured: bool,
    /// The width of each line on the screen.
    shown: Vec<usize>,
}

impl LiveTable {
    /// Opens a table on stderr; `None` with `--quiet`, or if stderr is no terminal whose cursor can be moved.
    pub(crate) fn open(color: ColorChoice) -> Option<Self> {
        let is_dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        if is_quiet() || is_dumb || !io::stderr().is_terminal() {
            return None;
        }
        let color = if color == ColorChoice::Auto { AutoStream::choice(&io::stderr()) } else { color };
        Some(Self { is_coloured: color != ColorChoice::Never, shown: Vec::new() })
    }

    /// Shows a title, the rows, and the last line, in place of what the table showed before.
    pub(crate) fn show(&mut self, title: &str, rows: &[LiveRow], last: &str) {
        let size = terminal_size();
        self.draw(&lay_out(title, rows, last, size), size.0);
    }

    /// Prints a line above the table, which the next [`show`](Self::show) draws again.
    pub(crate) fn print_above(&mut self, print: impl FnOnce()) {
        self.clear();
        print();
    }

    /// Removes the table from the screen.
    pub(crate) fn clear(&mut self) {
        self.draw(&[], terminal_size().0);
    }

    fn draw(&mut self, lines: &[String], columns: usize) {
        let mut text = return_to_top(&self.shown, columns);
        for line in lines {
            text += &if self.is_coloured { line.clone() } else { anstream::adapter::strip_str(line).to_string() };
            // What an older, longer line left.
            text += "\x1b[K\n";
        }
        text += "\x1b[J";
        self.shown = lines.iter().map(|line| display_width(line)).collect();
        // If stderr is closed, there is no place to report that.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

impl Drop for LiveTable {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Returns the columns and lines of the terminal on stderr.
fn terminal_size() -> (usize, usize) {
    let size = terminal_size::terminal_size_of(io::stderr()).map(|(columns, lines)| (columns.0.into(), lines.0.into()));
    size.filter(|(columns, lines)| *columns > 0 && *lines > 0).unwrap_or(USUAL_SIZE)
}

/// Returns what moves the cursor to the first of the lines on the screen. A terminal that became narrower breaks lines.
fn return_to_top(shown: &[usize], columns: usize) -> String {
    let lines: usize = shown.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum();
    if lines == 0 { "\r".to_owned() } else { format!("\r\x1b[{lines}A") }
}

/// Lays out the lines of a table that fits the terminal. Newer rows, which are the last, push out older ones.
fn lay_out(title: &str, rows: &[LiveRow], last: &str, (columns, lines): (usize, usize)) -> Vec<String> {
    // A full last column or last line would scroll.
    let (columns, lines) = (columns.saturating_sub(1), lines.saturating_sub(1));
    let last = cut(last, columns);
    // The title, the heading, a row or a count of hidden rows, and the last line.
    if lines < 4 {
        return if lines == 0 { Vec::new() } else { vec![last] };
    }
    let mut text = vec![styled(BOLD, cut(title, columns))];
    if !rows.is_empty() {
        text.extend(lay_out_rows(rows, columns, lines - 3));
    }
    text.push(last);
    text
}

fn lay_out_rows(rows: &[LiveRow], columns: usize, most: usize) -> Vec<String> {
    let (hidden, shown) = if rows.len() <= most { rows.split_at(0) } else { rows.split_at(rows.len() - (most - 1)) };
    let width = |cells: &dyn Fn(&LiveRow) -> usize, heading: &str| {
        shown.iter().map(cells).max().unwrap_or_default().max(heading.len())
    };
    let call = width(&|row| display_width(&row.call), "CALL").min(CALL).min(columns / 2);
    let count = width(&|row| row.count.to_string().len(), "COUNT");
    let has_first = columns >= WITH_FIRST;
    let first = width(&|row| display_width(&row.first), "FIRST SEEN");
    let line = |cells: [&str; 4], call_style, style| {
        let name = format!("{:<call$}", cut(cells[0], call));
        let first = if has_first { format!("  {:<first$}", cells[2]) } else { String::new() };
        let before = format!("  {name}  {:>count$}{first}  ", cells[1]);
        if display_width(&before) > columns {
            return cut(&before, columns);
        }
        let by = cut(cells[3], columns - display_width(&before));
        let before = before.replacen(&name, &styled(call_style, &name), 1);
        format!("{before}{}", styled(style, by))
    };
    let mut text = vec![line(["CALL", "COUNT", "FIRST SEEN", "DECIDED BY"], DIM, DIM)];
    if !hidden.is_empty() {
        text.push(cut(&format!("  … {} seen earlier", hidden.len()), columns));
    }
    let row = |row: &LiveRow| line([&row.call, &row.count.to_string(), &row.first, &row.decided_by], BOLD, DIM);
    text.extend(shown.iter().map(row));
    text
}

/// Cuts a text to a width, and marks the cut.
fn cut(text: &str, columns: usize) -> String {
    if display_width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    for letter in text.chars() {
        if display_width(&kept) + display_width(letter.encode_utf8(&mut [0; 4])) >= columns {
            break;
        }
        kept.push(letter);
    }
    if columns > 0 { kept + "…" } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize) -> Vec<LiveRow> {
        (0..count)
            .map(|number| LiveRow {
                call: if number == 3 {
                    "a_call_with_a_name_longer_than_any".to_owned()
                } else {
                    format!("call{number}")
                },
                count: 10_u64.pow(u32::try_from(number % 9).unwrap()),
                first: "17:47:44".to_owned(),
                decided_by: "SystemCallFilter= at /etc/systemd/system/x.service.d/50-hardening.conf:6".to_owned(),
            })
            .collect()
    }

    fn screen(count: usize, size: (usize, usize)) -> Vec<String> {
        let lines = lay_out("Rehearsing x.service", &rows(count), "0:12, 3 calls; Ctrl-C ends it", size);
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    #[test]
    fn table_fits_every_terminal() {
        for columns in [1, 2, 10, 40, 60, 80, 200] {
            for height in [1, 2, 3, 4, 5, 10, 24] {
                for count in [0, 1, 5, 100] {
                    let lines = screen(count, (columns, height));
                    assert!(lines.len() < height, "{columns}×{height}: {lines:#?}");
                    assert!(lines.iter().all(|line| display_width(line) < columns), "{columns}×{height}: {lines:#?}");
                }
            }
        }
    }

    #[test]
    fn table_of_eighty_columns_shows_when_and_by_which_line() {
        let lines = screen(2, (80, 24));
        assert_eq!(lines[0], "Rehearsing x.service");
        assert_eq!(lines[1], "  CALL   COUNT  FIRST SEEN  DECIDED BY");
        assert_eq!(lines[2], "  call0      1  17:47:44    SystemCallFilter= at /etc/systemd/system/x.service…");
        assert_eq!(lines[4], "0:12, 3 calls; Ctrl-C ends it");
        assert_eq!(screen(1, (40, 24))[1], "  CALL   COUNT  DECIDED BY");
    }

    #[test]
    fn newest_calls_stay_when_not_all_fit() {
        let lines = screen(100, (80, 10));
        assert_eq!(lines.len(), 9);
        assert_eq!(lines[2], "  … 95 seen earlier");
        assert!(lines[7].contains("call99"), "{lines:#?}");
    }

    #[test]
    fn lines_that_a_narrower_terminal_breaks_are_counted() {
        assert_eq!(return_to_top(&[], 80), "\r");
        assert_eq!(return_to_top(&[79, 10, 0], 80), "\r\x1b[3A");
        assert_eq!(return_to_top(&[79, 10, 0], 40), "\r\x1b[4A");
    }
}
