//! Manual pages and completions cover everything that the programs understand.

#[path = "../../packaging/manuals/pages.rs"]
pub(crate) mod pages;

use crate::support::skip::skip;
use clap::{Arg, Command as Program};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns a generated file by its name.
pub(crate) fn content(path: &str) -> String {
    let files = pages::files().unwrap();
    files.into_iter().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path}")).content
}

/// Returns a page's text without its typesetting.
fn plain(page: &str) -> String {
    page.replace("\\-", "-").replace("\\(aq", "'").replace("\\fB", "").replace("\\fI", "").replace("\\fR", "")
}

pub(crate) fn long_options(program: &Program) -> Vec<String> {
    let shown = program.get_arguments().filter(|argument| !argument.is_hide_set());
    shown.filter_map(Arg::get_long).map(ToOwned::to_owned).collect()
}

pub(crate) fn verbs(program: &Program) -> impl Iterator<Item = &Program> {
    program.get_subcommands().filter(|verb| !verb.is_hide_set())
}

/// Returns the part of a page that is about a verb.
fn about<'a>(page: &'a str, verb: &str) -> &'a str {
    let start = page.find(&format!(".B \"{verb}")).unwrap_or_else(|| panic!("{verb} is not in the page"));
    let rest = &page[start + 3..];
    let end = ["\n.S", "\n.B \""].iter().filter_map(|mark| rest.find(mark)).min();
    end.map_or(rest, |end| &rest[..end])
}

#[test]
fn commands_of_page_are_in_the_groups_of_the_help() {
    let page = plain(&content("man/harden-why.1"));
    let commands = page.split(".SH COMMANDS\n").nth(1).unwrap().split("\n.SH ").next().unwrap();
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    let commands = commands.split("\n.SS \"More").next().unwrap();
    for line in commands.lines() {
        if let Some(group) = line.strip_prefix(".SS ") {
            found.push(group);
        } else if let Some(usage) = line.strip_prefix(".B \"") {
            found.push(usage.split(&[' ', '"'][..]).next().unwrap());
        }
    }
    for (group, verbs) in harden_why::cli::args::help::GROUPS {
        expected.push(group);
        expected.extend(verbs.iter().map(|(verb, _)| *verb).filter(|verb| !verb.is_empty()));
    }
    assert_eq!(found, expected);
    assert_eq!(commands.matches("\n.RS").count(), commands.matches("\n.RE").count());
}

#[test]
fn page_describes_every_option_and_verb() {
    for (name, section) in [("harden-why", 1), ("harden-whyd", 8)] {
        let (_, program) = pages::programs().into_iter().find(|(program, _)| *program == name).unwrap();
        let page = plain(&content(&format!("man/{name}.{section}")));
        let head = page.split(".SH COMMANDS").next().unwrap();
        let options = long_options(&program);
        assert!(options.len() >= 2);
        for option in options {
            assert!(head.contains(&format!("--{option}")), "--{option} is not in {name}({section})");
        }
        for verb in verbs(&program) {
            let part = about(&page, verb.get_name());
            for option in long_options(verb) {
                assert!(part.contains(&format!("--{option}")), "{}: --{option} is not in the page", verb.get_name());
            }
            for argument in verb.get_arguments() {
                let help = argument.get_help().unwrap().to_string();
                assert!(part.contains(&help), "{}: {help:?} is not in the page", verb.get_name());
            }
        }
        assert!(!page.contains("\n@") && !page.contains("demo-victim"), "{page}");
    }
}

#[test]
fn completions_offer_every_option_and_verb() {
    for (name, program) in pages::programs() {
        for path in [format!("bash/{name}"), format!("zsh/_{name}"), format!("fish/{name}.fish")] {
            let completion = content(&path);
            let option_word =
                |option: &str| if path.starts_with("fish") { format!("-l {option}") } else { format!("--{option}") };
            for verb in verbs(&program) {
                assert!(completion.contains(verb.get_name()), "{path} lacks {}", verb.get_name());
                for option in long_options(verb) {
                    assert!(completion.contains(&option_word(&option)), "{path} lacks --{option}");
                }
            }
            for option in long_options(&program) {
                assert!(completion.contains(&option_word(&option)), "{path} lacks --{option}");
            }
            assert!(!completion.contains("victim"), "{path}");
        }
    }
}

/// Returns the calls of harden-why and its options alone that a page in Markdown has as code.
fn commands_in(page: &str) -> Vec<&str> {
    let mut commands = Vec::new();
    for (index, part) in page.split("```").enumerate() {
        if index % 2 == 1 {
            let lines = part.lines().filter_map(|line| line.split(" # ").next()?.split_once("harden-why "));
            commands.extend(lines.map(|(_, arguments)| arguments));
        } else {
            let spans = part.split('`').skip(1).step_by(2);
            commands.extend(spans.filter(|span| span.starts_with("harden-why ") || span.starts_with("--")));
        }
    }
    commands
}

#[test]
fn readme_describes_every_verb_and_only_existing_options() {
    let readme = include_str!("../../README.md");
    let (name, program) = pages::programs().into_iter().next().unwrap();
    for verb in verbs(&program) {
        assert!(readme.contains(&format!("`{name} {}", verb.get_name())), "{}", verb.get_name());
    }
    let mut known: Vec<String> = long_options(&program);
    known.extend(verbs(&program).flat_map(long_options));
    let mut named = 0;
    for command in commands_in(readme) {
        for word in command.split([' ', '=']).filter_map(|word| word.strip_prefix("--")) {
            named += 1;
            assert!(known.iter().any(|option| option == word), "README names --{word}");
        }
    }
    assert!(named > 5);
}

#[test]
fn pages_are_typeset_without_warnings() {
    let dir = tempfile::tempdir().unwrap();
    for file in pages::files().unwrap().iter().filter(|file| file.path.starts_with("man/")) {
        let path = dir.path().join(file.path.trim_start_matches("man/"));
        fs::write(&path, &file.content).unwrap();
        let Ok(set) = Command::new("groff").args(["-man", "-Tutf8", "-ww"]).arg(&path).output() else {
            return skip("there is no groff");
        };
        let complaints = String::from_utf8(set.stderr).unwrap();
        assert!(set.status.success() && complaints.is_empty(), "{complaints}");
    }
}

/// The keys that a type with `#[derive(Serialize)]` prints, from its source.
fn keys_of_struct(body: &str) -> Vec<String> {
    let (mut keys, mut attributes) = (Vec::new(), String::new());
    for line in body.lines().map(str::trim) {
        if line.starts_with("#[serde") {
            attributes.push_str(line);
            continue;
        }
        let field = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
        let Some((key, _)) =
            field.split_once(": ").filter(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        else {
            continue;
        };
        let renamed = attributes.split_once("rename = \"").and_then(|(_, rest)| rest.split_once('"'));
        if !attributes.contains("serde(skip)") && !attributes.contains("flatten") {
            keys.push(renamed.map_or(key, |(name, _)| name).to_owned());
        }
        attributes.clear();
    }
    keys
}

/// All keys in a JSON value.
fn keys_of_value(value: &serde_json::Value, keys: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            keys.extend(object.keys().cloned());
            // The labels of metrics are no keys of the schema.
            let others = object.iter().filter(|(key, _)| *key != "labels");
            others.for_each(|(_, value)| keys_of_value(value, keys));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| keys_of_value(value, keys)),
        _ => {}
    }
}

/// The files below a directory of this repository whose names end so.
fn files_below(directory: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files_below(&entry, end));
        } else if entry.to_str().unwrap().ends_with(end) {
            found.push(entry);
        }
    }
    found
}

/// The keys of all structs of a source file that derive a trait.
fn keys_of_structs(file: &Path, by: &str) -> BTreeSet<String> {
    let source = fs::read_to_string(file).unwrap();
    let derives = |part: &&str| part.split(')').next().unwrap().split(',').any(|one| one.trim() == by);
    let types = source.split("#[derive(").skip(1).filter(derives);
    let bodies = types.filter_map(|part| part.split("\n}").next()?.split_once("struct "));
    bodies.flat_map(|(_, body)| keys_of_struct(body)).collect()
}

/// The words in the lines of a page that have bold text.
fn words_of_bold_lines(page: &str) -> BTreeSet<&str> {
    let bold =
        page.lines().filter(|line| [".B ", ".BR ", ".RB ", ".BI ", ".IB "].iter().any(|bold| line.starts_with(bold)));
    bold.flat_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))).collect()
}

/// The words in bold of a page.
fn words_in_bold(page: &str) -> BTreeSet<String> {
    let mut bold = Vec::new();
    for line in page.lines() {
        let Some((font, text)) = line.strip_prefix('.').and_then(|line| line.split_once(' ')) else { continue };
        // Fonts with two letters alternate from word to word.
        let is_bold = |at: usize| font.as_bytes().get(at % font.len()) == Some(&b'B');
        if ["B", "BR", "RB", "BI", "IB"].contains(&font) {
            bold.extend(text.split(' ').enumerate().filter(|(at, _)| is_bold(*at)).map(|(_, word)| word));
        }
    }
    let words = bold.into_iter().flat_map(|word| word.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')));
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase())).map(ToOwned::to_owned).collect()
}

/// Checks that a page has each key as a word in bold.
fn assert_has_words(page: &str, keys: &BTreeSet<String>) {
    let words = words_of_bold_lines(page);
    let missing: Vec<&String> = keys.iter().filter(|key| !words.contains(key.as_str())).collect();
    let start: String = page.chars().take(60).collect();
    assert!(missing.is_empty(), "{missing:?} are not in the page: {start}");
}

/// The source files of each verb's answer, by the headings of its sections in the page.
const ANSWERS: [(&[&str], &[&str]); 14] = [
    (&[".B harden-why"], &["verbs/overview.rs", "verbs/overview/silent.rs"]),
    (&[".B follow"], &["verbs/follow.rs"]),
    (&[".B forget"], &["verbs/forget.rs"]),
    (&[".BR apply "], &["views/applied.rs"]),
    (&[".B log-refusals", ".B status"], &["views/refusal_logging.rs"]),
    (&[".B tap"], &["views/tapped.rs"]),
    (&[".B check"], &["verbs/check.rs", "verbs/check/checked_access.rs", "views/foreseen.rs"]),
    (&[".B syscall"], &["verbs/syscall.rs"]),
    (&[".B status"], &["views/hearing.rs", "views/running_taps.rs"]),
    (&[".B rehearse"], &["views/rehearsed.rs", "views/survivors.rs"]),
    (&[".B bisect"], &["views/bisected.rs"]),
    (&[".B restore"], &["verbs/restore.rs"]),
    (&[".B metrics"], &["verbs/metrics.rs"]),
    (&[".B --directory"], &["views/fleet.rs"]),
];

#[test]
fn page_describes_every_key_that_json_has() {
    let page = plain(&content("man/harden-why.1"));
    let json = page.split(".SH \"JSON OUTPUT\"").nth(1).unwrap().split("\n.SH ").next().unwrap();
    let (units, others) = json.split_once("The other commands:").unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut left: BTreeSet<PathBuf> = files_below(&source, ".rs").into_iter().collect();
    for (headings, files) in ANSWERS {
        let is_own = |section: &&str| headings.iter().any(|heading| section.starts_with(heading));
        let section = others.split("\n.TP\n").filter(is_own).collect::<Vec<_>>().join("\n");
        for file in files.iter().map(|file| source.join("cli").join(file)) {
            let mut keys = keys_of_structs(&file, "Serialize");
            assert!(left.remove(&file) && !keys.is_empty(), "{}", file.display());
            keys.remove("schema");
            assert_has_words(&section, &keys);
        }
    }
    let mut keys: BTreeSet<String> = left.iter().flat_map(|file| keys_of_structs(file, "Serialize")).collect();
    assert!(keys.len() > 60, "{keys:?}");
    for file in files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data"), "expected.json") {
        keys_of_value(&serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap(), &mut keys);
    }
    assert_has_words(units, &keys);
}

/// The part of the page about JSON.
fn json_part() -> String {
    let page = plain(&content("man/harden-why.1"));
    page.split(".SH \"JSON OUTPUT\"").nth(1).unwrap().split("\n.SH ").next().unwrap().to_owned()
}

#[test]
fn page_describes_no_key_that_json_lacks() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = files_below(&source, ".rs");
    let keys: BTreeSet<String> = files.iter().flat_map(|file| keys_of_structs(file, "Serialize")).collect();
    let (_, program) = pages::programs().into_iter().next().unwrap();
    let mut others: BTreeSet<String> = verbs(&program).map(|verb| verb.get_name().to_owned()).collect();
    others.extend(long_options(&program));
    others.extend(verbs(&program).flat_map(long_options));
    // Words of the names of commands, options and the interface on the bus.
    let other_words = "harden why json assume systemd analyze security org hardenwhy1";
    others.extend(other_words.split(' ').map(ToOwned::to_owned));
    let documented = words_in_bold(&json_part());
    assert!(documented.len() > 100, "{documented:?}");
    let unknown: Vec<&String> =
        documented.iter().filter(|word| !keys.contains(*word) && !others.contains(*word)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are no keys");
}

#[test]
fn page_describes_every_key_that_commands_print() {
    let part = json_part();
    let documented = words_of_bold_lines(&part);
    let (mut keys, mut values) = (BTreeSet::new(), 0);
    for (case, value) in crate::screens::json_of_cases() {
        let mut own = BTreeSet::new();
        keys_of_value(&value, &mut own);
        let missing: Vec<&String> = own.iter().filter(|key| !documented.contains(key.as_str())).collect();
        assert!(missing.is_empty(), "{case}: {missing:?} are not in the page");
        keys.extend(own);
        values += 1;
    }
    assert!(values > 20 && keys.len() > 60, "{values} values, {} keys", keys.len());
}

#[test]
fn page_describes_every_key_on_the_bus() {
    let pascal_case = |key: String| {
        let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
        key.split('_').map(capital).collect::<String>()
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/outlet/wire.rs");
    let keys: BTreeSet<String> = keys_of_structs(&file, "SerializeDict").into_iter().map(pascal_case).collect();
    assert!(keys.len() > 30, "{keys:?}");
    assert_has_words(&plain(&content("man/org.hardenwhy1.5")), &keys);
}
