//! Manual pages and completions leave nothing out that the programs understand.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

#[path = "../packaging/manuals/pages.rs"]
mod pages;

use clap::{Arg, Command as Program};
use std::process::Command;

/// Every file that is generated, by name.
fn content(path: &str) -> String {
    let files = pages::files().unwrap();
    files.into_iter().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path}")).content
}

/// What a page says, without its typesetting.
fn plain(page: &str) -> String {
    page.replace("\\-", "-").replace("\\(aq", "'").replace("\\fB", "").replace("\\fI", "").replace("\\fR", "")
}

fn long_options(program: &Program) -> Vec<String> {
    let shown = program.get_arguments().filter(|argument| !argument.is_hide_set());
    shown.filter_map(Arg::get_long).map(ToOwned::to_owned).collect()
}

fn verbs(program: &Program) -> impl Iterator<Item = &Program> {
    program.get_subcommands().filter(|verb| !verb.is_hide_set())
}

/// The part of a page that is about a verb.
fn about<'a>(page: &'a str, verb: &str) -> &'a str {
    let start = page.find(&format!(".SS \"{verb}")).unwrap_or_else(|| panic!("{verb} is not in the page"));
    let rest = &page[start + 3..];
    rest.find("\n.S").map_or(rest, |end| &rest[..end])
}

#[test]
fn a_page_tells_every_option_and_verb_with_its_help() {
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
fn completions_know_every_option_and_verb() {
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

#[test]
fn the_readme_tells_every_verb_and_no_option_that_is_not_there() {
    let readme = include_str!("../README.md");
    let (name, program) = pages::programs().into_iter().next().unwrap();
    for verb in verbs(&program) {
        assert!(readme.contains(&format!("`{name} {}", verb.get_name())), "{}", verb.get_name());
    }
    let mut known: Vec<String> = long_options(&program);
    known.extend(verbs(&program).flat_map(long_options));
    let table = readme.split("## Use").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `harden-why"));
    let mut named = 0;
    for word in rows.flat_map(|row| row.split(['`', ' '])).filter_map(|word| word.strip_prefix("--")) {
        named += 1;
        assert!(known.iter().any(|option| option == word), "the README tells of --{word}");
    }
    assert!(named > 5);
}

#[test]
fn the_pages_are_set_without_complaint() {
    let dir = tempfile::tempdir().unwrap();
    for file in pages::files().unwrap().iter().filter(|file| file.path.starts_with("man/")) {
        let path = dir.path().join(file.path.trim_start_matches("man/"));
        std::fs::write(&path, &file.content).unwrap();
        let Ok(set) = Command::new("groff").args(["-man", "-Tutf8", "-ww"]).arg(&path).output() else { return };
        let complaints = String::from_utf8(set.stderr).unwrap();
        assert!(set.status.success() && complaints.is_empty(), "{complaints}");
    }
}

#[test]
fn the_page_tells_every_key_of_the_answers() {
    let page = plain(&content("man/harden-why.1"));
    let json = page.split(".SH \"JSON OUTPUT\"").nth(1).unwrap().split("\n.SH ").next().unwrap();
    let source = include_str!("../src/cli/answer.rs");
    let structs = source.split("#[derive(").filter(|part| part.contains("Serialize)]"));
    let mut keys = 0;
    for part in structs {
        let body = part.split("\n}").next().unwrap();
        let mut skipped = false;
        for line in body.lines() {
            skipped |= line.contains("serde(skip)]");
            let Some((key, _)) = line.strip_prefix("    pub ").and_then(|field| field.split_once(':')) else {
                continue;
            };
            keys += 1;
            assert!(skipped || json.contains(key), "{key} is not in the page");
            skipped = false;
        }
    }
    assert!(keys > 50, "{keys}");
}
