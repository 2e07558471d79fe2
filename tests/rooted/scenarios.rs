//! Golden cases: in every directory of `tests/data` that has a `log`, `harden-why explain` must print `expected.txt`,
//! and with `--json` `expected.json`. A file `args` holds further arguments, one a line.
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

fn explain(case: &Path, json: bool) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
    command.current_dir(case).env("TZ", "UTC").args(["explain", "--groups", GROUPS]);
    if case.join("root").exists() {
        command.args(["--root", "root"]);
    }
    if json {
        command.arg("--json");
    }
    let more = fs::read_to_string(case.join("args")).unwrap_or_default();
    let output = command.args(more.lines()).arg("log").output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {output:?}", case.display());
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
        for (json, name) in [(false, "expected.txt"), (true, "expected.json")] {
            let (said, file) = (explain(&case, json), case.join(name));
            if update {
                fs::write(&file, said).unwrap();
            } else if fs::read_to_string(&file).unwrap_or_default() != said {
                wrong.push(format!("{} differs; it is now:\n{said}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn answer_fits_the_terminal_and_holds_no_control_byte() {
    for case in cases() {
        for line in explain(&case, false).lines() {
            assert!(!line.chars().any(char::is_control), "{}: {line:?}", case.display());
            // Paths and lines to copy, other than the list of a filter, are never broken.
            let filter = line.trim_start().starts_with("SystemCallFilter=");
            let breakable = line.trim_start().contains(' ') && (filter || !line.contains('='));
            assert!(!breakable || line.chars().count() <= 80, "{}: {line:?}", case.display());
        }
    }
}
