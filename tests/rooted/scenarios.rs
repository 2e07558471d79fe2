//! Golden cases: in every directory of `tests/data` that has a `log`, `harden-why explain` must print `expected.txt`,
//! with `-v` `verbose.txt`, and with `--json` `expected.json`. A file `args` holds further arguments, one a line.
//!
//! `UPDATE=1 cargo test --test rooted scenarios` rewrites the expected files. Read the difference before you commit it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The groups of one systemd, whatever version runs here.
const GROUPS: &str = "../systemd-252.syscalls";

fn cases() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).filter(|dir| dir.join("log").exists()).collect();
    cases.sort();
    cases
}

/// Runs `explain` on a case with further options, on a terminal of so many columns.
fn explain(case: &Path, options: &[&str], columns: usize) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
    command.current_dir(case).env("TZ", "UTC").env("COLUMNS", columns.to_string());
    command.args(["explain", "--groups", GROUPS]).args(options);
    if case.join("root").exists() {
        command.args(["--root", "root"]);
    }
    let more = fs::read_to_string(case.join("args")).unwrap_or_default();
    let output = command.args(more.lines()).arg("log").output().unwrap();
    assert!(output.status.success(), "{}: {output:?}", case.display());
    assert!(output.stderr.is_empty(), "{}: {output:?}", case.display());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn golden_case_is_explained_as_expected() {
    let update = std::env::var_os("UPDATE").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 12, "{cases:?}");
    for case in cases {
        let files: [(&[&str], &str); 3] =
            [(&[], "expected.txt"), (&["-v"], "verbose.txt"), (&["--json"], "expected.json")];
        for (options, name) in files {
            let (said, file) = (explain(&case, options, 80), case.join(name));
            if update {
                fs::write(&file, said).unwrap();
            } else if fs::read_to_string(&file).unwrap_or_default() != said {
                wrong.push(format!("{} differs; it is now:\n{said}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a line holds a path, a line of a file or a command, which are never broken.
fn is_to_copy(line: &str) -> bool {
    let line = line.trim_start();
    let is_line_of_file = line.starts_with("+ ") || line.starts_with("--> ") || line.contains(" | ");
    let is_command = ["systemctl ", "sudo ", "printf ", "harden-why ", "strace ", "SystemCallFilter=", "Restrict"]
        .iter()
        .any(|start| line.starts_with(start));
    is_line_of_file || is_command || line.split(' ').any(|word| word.contains('/') && word.len() > 30)
}

#[test]
fn answer_fits_the_terminal_and_holds_no_control_byte() {
    for case in cases() {
        for (columns, options) in [(80, &[][..]), (40, &[]), (80, &["-v"]), (40, &["-v"]), (80, &["--all-remedies"])] {
            for line in explain(&case, options, columns).lines() {
                assert!(!line.chars().any(char::is_control), "{}: {line:?}", case.display());
                assert!(
                    is_to_copy(line) || line.chars().count() <= columns,
                    "{} at {columns}: {line:?}",
                    case.display()
                );
            }
        }
    }
}

#[test]
fn default_answer_has_at_most_15_lines_and_one_for_each_further_denial() {
    for case in cases() {
        let json: serde_json::Value = serde_json::from_str(&explain(&case, &["--json"], 80)).unwrap();
        let units = json["units"].as_array().unwrap();
        let denials: usize = units.iter().map(|unit| unit["denials"].as_array().unwrap().len().saturating_sub(1)).sum();
        let page = explain(&case, &[], 80);
        // What the log held follows the answers, and what `--for` asks follows an answer.
        let end = ["Read ", "\non aarch64: "].into_iter().filter_map(|start| page.find(start)).min();
        let answers = end.map_or(page.as_str(), |at| &page[..at]);
        // An empty line separates units. Without any, one line or a note says so.
        let most = if units.is_empty() { 5 } else { units.len() * 16 } + denials;
        assert!(answers.lines().count() <= most, "{}: more than {most} lines:\n{answers}", case.display());
    }
}
