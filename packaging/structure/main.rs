//! Counts a source tree: `cargo run --example structure -- [CHECKOUT]...`, one column a checkout (this one by default).
//! With `--faults` as the first argument it lists what breaks the rules that `tests/house.rs` checks.
//!
//! `analysis/mod.rs` says what an import is. *Files between* two files are those that the first imports, directly or
//! through others, and that import the second in the same way; both ends count. A record arrives in the daemon's loop:
//! the files between the loop and the record's type are those that a record can pass on its way to an alert. A unit's
//! name arrives in the verb that explains units: the files between it and the remedies are on that way.

mod analysis;

use analysis::Tree;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, io};

/// Both ends of a way through the tree, by today's path and by older ones.
struct Way {
    label: &'static str,
    from: &'static [&'static str],
    to: &'static [&'static str],
}

const WAYS: [Way; 2] = [
    Way {
        label: "files that a record can pass on its way to an alert",
        from: &["daemon/event_loop.rs", "daemon/watch.rs"],
        to: &["audit/record.rs"],
    },
    Way {
        label: "files between a unit's name and its remedy",
        from: &["cli/verbs/units.rs", "cli/units.rs"],
        to: &["diagnosis/remedy.rs"],
    },
];

/// A row of the table: its label, and its figure for one checkout.
type Row = (String, String);

fn main() -> io::Result<()> {
    let mut checkouts: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let only_faults = checkouts.first().is_some_and(|first| first.as_os_str() == "--faults");
    if only_faults {
        checkouts.remove(0);
    }
    if checkouts.is_empty() {
        checkouts.push(PathBuf::from("."));
    }
    let page = if only_faults { list_faults(&checkouts)? } else { tabulate(&checkouts)? };
    io::Write::write_all(&mut io::stdout(), page.as_bytes())
}

/// Lists circles, imports against the order of rooms, types with one name, and functions called `of`.
fn list_faults(checkouts: &[PathBuf]) -> io::Result<String> {
    let mut page = String::new();
    for checkout in checkouts {
        let tree = Tree::open(checkout)?;
        for circle in tree.circles() {
            _ = writeln!(page, "circle of {} files:\n{}", circle.len(), tree.describe_circle(&circle));
        }
        _ = writeln!(page, "imports against the order of rooms:\n{}", tree.backward_imports().join("\n"));
        page += "types with one name:\n";
        for shared in tree.shared_type_names() {
            _ = writeln!(page, "{}: {}", shared.name, shared.files.join(", "));
        }
        _ = writeln!(page, "functions called `of`:\n{}", tree.of_functions().join("\n"));
    }
    Ok(page)
}

/// Returns the table: one row a figure, one column a checkout.
fn tabulate(checkouts: &[PathBuf]) -> io::Result<String> {
    let columns: Vec<Vec<Row>> = checkouts.iter().map(|checkout| count(checkout)).collect::<io::Result<_>>()?;
    // A room that one checkout has and another has not is a row of its own.
    let mut labels: Vec<&String> = Vec::new();
    for (label, _) in columns.iter().flatten() {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let mut page = String::new();
    for label in labels {
        let figure = |column: &Vec<Row>| {
            let row = column.iter().find(|(other, _)| other == label);
            format!("{:>24}", row.map_or("–", |(_, figure)| figure))
        };
        _ = writeln!(page, "{label:<56}{}", columns.iter().map(figure).collect::<String>());
    }
    Ok(page)
}

/// Counts one checkout.
fn count(checkout: &Path) -> io::Result<Vec<Row>> {
    let tree = Tree::open(checkout)?;
    let rooms: BTreeSet<&str> = tree.code_files().map(analysis::File::room).filter(|room| !room.is_empty()).collect();
    let lines = |room: &str| {
        let files = tree.code_files().filter(|file| !file.is_generated && file.room() == room);
        files.map(|file| file.source.lines).sum::<usize>()
    };
    let tests =
        |room: &str| tree.files.iter().filter(|file| file.room() == room).map(|file| file.source.tests).sum::<usize>();
    let all_lines: usize = tree.code_files().filter(|file| !file.is_generated).map(|file| file.source.lines).sum();
    let all_tests: usize = tree.files.iter().map(|file| file.source.tests).sum();
    let circles = tree.circles();
    let largest = rooms.iter().max_by_key(|room| lines(room)).copied().unwrap_or_default();

    let mut rows = vec![
        row("rooms", &rooms.len()),
        row("files", &tree.code_files().count()),
        row("hand-written lines outside tests", &all_lines),
        row("files that import each other: pairs", &tree.arrows.len()),
        row("rooms that import from another: pairs", &tree.room_arrows().len()),
        row("imports against the order of rooms", &tree.backward_imports().len()),
        row("circles of files", &circles.len()),
        row("files in circles", &circles.iter().map(Vec::len).sum::<usize>()),
        row("largest room", &format!("{largest}, {} %", percent(lines(largest), all_lines))),
    ];
    rows.extend(WAYS.iter().map(|way| row(way.label, &files_on(&tree, way))));
    rows.push(row("type names with more than one definition", &tree.shared_type_names().len()));
    rows.push(row("functions called `of`", &tree.of_functions().len()));
    rows.push(row("unit tests", &all_tests));
    rows.push(row("unit tests per thousand lines", &percent(all_tests * 10, all_lines)));
    for room in rooms {
        let density = percent(tests(room) * 10, lines(room));
        rows.push(row(
            &format!("  {room}: lines, tests, tests per thousand lines"),
            &format!("{}, {}, {density}", lines(room), tests(room)),
        ));
    }
    Ok(rows)
}

fn row(label: &str, figure: &impl ToString) -> Row {
    (label.to_owned(), figure.to_string())
}

/// Returns `part` of `whole` in percent, rounded down.
fn percent(part: usize, whole: usize) -> usize {
    part * 100 / whole.max(1)
}

/// Counts the files between both ends of a way. An end that the checkout lacks makes it unknown.
fn files_on(tree: &Tree, way: &Way) -> String {
    let find = |paths: &[&str]| tree.files.iter().position(|file| paths.contains(&file.path.as_str()));
    match (find(way.from), find(way.to)) {
        (Some(from), Some(to)) => tree.between(from, to).len().to_string(),
        _ => "unknown".to_owned(),
    }
}
