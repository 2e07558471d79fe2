//! Failures without a record, as programs in many languages and many versions of systemd tell them: `explain` names the lines of
//! the unit that can be the cause, and no others. The texts are in `tests/data/failure-texts/texts`.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A block of the file.
#[derive(Default)]
struct FailureText {
    name: String,
    unit: Vec<String>,
    log: Vec<String>,
    /// Directives, each with a part of what it does.
    causes: Vec<(String, String)>,
}

fn read_texts() -> Vec<FailureText> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/failure-texts/texts");
    let mut texts: Vec<FailureText> = Vec::new();
    for line in fs::read_to_string(file).unwrap().lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            texts.push(FailureText { name: name.trim_end_matches(']').to_owned(), ..FailureText::default() });
            continue;
        }
        let text = texts.last_mut().unwrap();
        let (word, rest) = line.split_once(' ').unwrap();
        match word {
            "unit" => text.unit.push(rest.to_owned()),
            "log" => text.log.push(format!("Mar  3 10:20:30 host {rest}")),
            "line" => text.log.push(rest.to_owned()),
            "cause" => {
                let (directive, does) = rest.split_once(' ').unwrap_or((rest, ""));
                text.causes.push((directive.to_owned(), does.to_owned()));
            }
            _ => panic!("{line}"),
        }
    }
    texts
}

/// Returns the directives that the answer names, each with what it does. Each has to be the line that the answer points at.
fn find_causes(text: &FailureText) -> Vec<(String, String)> {
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("app.service"), format!("[Service]\n{}\n", text.unit.join("\n"))).unwrap();
    let log = root.path().join("log");
    fs::write(&log, text.log.join("\n") + "\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
    let output = command.args(["explain", "--json", "--root"]).arg(root.path()).arg(log).output().unwrap();
    let view: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}: {output:?}", text.name));
    let causes =
        view["units"].as_array().unwrap().iter().filter_map(|unit| unit["failure"]["possible_causes"].as_array());
    let words = |cause: &Value, key: &str| cause[key].as_str().unwrap_or_default().to_owned();
    let lines: Vec<&str> = std::iter::once("[Service]").chain(text.unit.iter().map(String::as_str)).collect();
    let named = causes.flatten().map(|cause| {
        let directive = words(cause, "directive");
        let line = lines[usize::try_from(cause["line"].as_u64().unwrap()).unwrap() - 1];
        assert!(line.starts_with(&format!("{directive}=")), "{}: {cause} points at {line}", text.name);
        (directive, words(cause, "why"))
    });
    named.collect()
}

#[test]
fn answer_to_each_failure_text_names_its_lines_and_no_others() {
    let texts = read_texts();
    assert!(texts.len() >= 40, "{}", texts.len());
    let mut wrong = Vec::new();
    for text in &texts {
        let found = find_causes(text);
        let is_same = |(directive, does): &(String, String), (other, words): &(String, String)| {
            directive == other && does.contains(words.as_str())
        };
        let all_found = text.causes.iter().all(|cause| found.iter().any(|one| is_same(one, cause)));
        let all_right = found.iter().all(|one| text.causes.iter().any(|cause| is_same(one, cause)));
        if !all_found || !all_right || found.len() != text.causes.len() {
            wrong.push(format!("{}: expected {:?}, found {found:?}", text.name, text.causes));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
