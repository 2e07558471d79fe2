//! Lays out the table of units for the columns of the terminal.

use super::examined::DenialState;
use crate::cli::terminal::page::{BAD, BOLD, DIM, GOOD, PLACE, Page, WARN, columns, styled};
use crate::cli::terminal::words::count_times;
use crate::cli::views::decision::shorten_place;
use anstyle::Style;

/// The space between two columns.
const GAP: usize = 2;

/// The most columns for calls in a table; more are counted.
const MOST_CALLS: usize = 24;

/// The headings.
const HEADINGS: [&str; 6] = ["UNIT", "STATE", "CALLS", "COUNT", "LAST", "DECIDED BY"];

/// A row of the table: a unit, or the instances of a template.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// The unit, as the table names it.
    pub(crate) unit: String,
    /// The name to ask for; `None` for processes of an unknown unit.
    pub(crate) name: Option<String>,
    pub(crate) state: Option<DenialState>,
    /// The denied calls, newest first.
    pub(crate) calls: Vec<String>,
    /// The number of sightings.
    pub(crate) count: u64,
    /// The age of the latest sighting, or its time.
    pub(crate) last: String,
    /// Files and lines, or words, those of the newest denial first.
    pub(crate) decided_by: Vec<String>,
}

impl Row {
    fn state_word(&self) -> &'static str {
        self.state.map_or("-", DenialState::as_str)
    }

    fn state_style(&self) -> Style {
        match self.state {
            Some(DenialState::Failing | DenialState::Failed) => BAD,
            Some(DenialState::Restart | DenialState::Reload | DenialState::Running) => WARN,
            Some(DenialState::Fixed) => GOOD,
            Some(DenialState::Inactive | DenialState::Gone) | None => DIM,
        }
    }
}

/// Adds the table to a page. Where the columns do not fit, each unit has lines of its own. `is_full` shows whole paths.
pub(crate) fn add_table(page: &mut Page, rows: &[Row], has_legend: bool, is_full: bool) {
    let width = columns();
    for most_calls in [MOST_CALLS, 0] {
        let cells: Vec<[String; 5]> = rows.iter().map(|row| short_cells(row, most_calls)).collect();
        let mut widths: [usize; 5] = [0; 5];
        for (column, widest) in widths.iter_mut().enumerate() {
            let heading = HEADINGS.get(column).map_or(0, |heading| heading.len());
            let cell = cells.iter().filter_map(|cells| cells.get(column)).map(|cell| cell.chars().count()).max();
            *widest = heading.max(cell.unwrap_or_default());
        }
        let before = widths.iter().map(|width| width + GAP).sum::<usize>();
        let room = if is_full { usize::MAX } else { width.saturating_sub(before) };
        let least = rows.iter().map(|row| shorten_place(&row.decided_by, 0).chars().count()).max();
        if room >= least.unwrap_or_default().max(HEADINGS[5].len()) {
            return add_columns(page, rows, &cells, (widths, room), has_legend);
        }
    }
    for row in rows {
        add_stacked(page, row, width);
    }
}

/// Returns the cells before the last column.
fn short_cells(row: &Row, most_calls: usize) -> [String; 5] {
    let calls = shorten_calls(&row.calls, most_calls);
    [row.unit.clone(), row.state_word().to_owned(), calls, row.count.to_string(), row.last.clone()]
}

fn add_columns(
    page: &mut Page,
    rows: &[Row],
    texts: &[[String; 5]],
    (widths, room): ([usize; 5], usize),
    has_legend: bool,
) {
    let line = |texts: [&str; 5], styles: [Style; 2], last: String| {
        let pad = |text: &str, width: usize| " ".repeat(width.saturating_sub(text.chars().count()));
        let [unit, state, calls, count, ago] = texts;
        let [unit_width, state_width, calls_width, count_width, ago_width] = widths;
        format!(
            "{}{}  {}{}  {calls}{}  {}{count}  {ago}{}  {last}",
            styled(styles[0], unit),
            pad(unit, unit_width),
            styled(styles[1], state),
            pad(state, state_width),
            pad(calls, calls_width),
            pad(count, count_width),
            pad(ago, ago_width),
        )
    };
    if has_legend {
        let [unit, state, calls, count, last, decided] = HEADINGS;
        page.line(styled(DIM, line([unit, state, calls, count, last], [Style::new(); 2], decided.to_owned())));
    }
    for (row, texts) in rows.iter().zip(texts) {
        let place = shorten_place(&row.decided_by, room);
        let texts = [&texts[0], &texts[1], &texts[2], &texts[3], &texts[4]].map(String::as_str);
        page.line(line(texts, [BOLD, row.state_style()], styled(PLACE, place)));
    }
}

/// Adds a unit in lines of its own.
fn add_stacked(page: &mut Page, row: &Row, width: usize) {
    page.line(styled(BOLD, elide_middle(&row.unit, width)));
    let state = row.state.map_or_else(String::new, |_| format!("{}, ", styled(row.state_style(), row.state_word())));
    page.paragraph(2, &format!("{state}{}, last {}", count_times(row.count), row.last));
    let room = width.saturating_sub("  decided by ".len());
    let place = shorten_place(&row.decided_by, room);
    page.paragraph(2, &shorten_calls(&row.calls, width.saturating_sub(2)));
    if !["-", "unknown"].contains(&place.as_str()) {
        page.line(format_args!("  decided by {}", styled(PLACE, place)));
    }
}

/// Joins calls within a width, or names the first and counts the others.
fn shorten_calls(calls: &[String], most: usize) -> String {
    let all = calls.join(", ");
    match calls {
        [first, _, ..] if all.len() > most => format!("{first} +{}", calls.len() - 1),
        _ => all,
    }
}

/// Shortens a name in its middle.
fn elide_middle(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.to_owned();
    }
    let (head, tail) = (width / 2, width - width / 2 - 1);
    let start: String = name.chars().take(head).collect();
    let end: String = name.chars().skip(length - tail).collect();
    format!("{start}\u{2026}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_shortened_in_its_middle() {
        assert_eq!(elide_middle("abcdefghij", 10), "abcdefghij");
        assert_eq!(elide_middle("abcdefghij", 7), "abc\u{2026}hij");
    }
}
