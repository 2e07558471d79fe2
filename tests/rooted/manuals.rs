//! Manual pages and completions cover everything that the programs understand.

#[path = "../../packaging/manuals/pages.rs"]
mod pages;

use clap::{Arg, Command as Program};
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Returns a generated file by its name.
fn content(path: &str) -> String {
    let files = pages::files().unwrap();
    files.into_iter().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path}")).content
}

/// Returns a page's text without its typesetting.
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

/// Returns the part of a page that is about a verb.
fn about<'a>(page: &'a str, verb: &str) -> &'a str {
    let start = page.find(&format!(".SS \"{verb}")).unwrap_or_else(|| panic!("{verb} is not in the page"));
    let rest = &page[start + 3..];
    rest.find("\n.S").map_or(rest, |end| &rest[..end])
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

/// What bash offers for the last of these words, with a unit of the system and one of a user. `None` without bash.
fn offered(words: &[&str]) -> Option<Vec<String>> {
    // Calls the registered function as bash calls it.
    const ASKS: &str = r#"
        # Of a shell that does complete alone.
        compopt() { :; }
        source "$1"
        shift
        registered=$(complete -p "$1")
        function=${registered#*-F } function=${function%% *}
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    const SYSTEMCTL: &str = r"#!/bin/sh
        case $1 in
            --system) echo 'web.service loaded active running A web server' ;;
            --user) echo 'srv-a\x2db.mount loaded failed failed /srv/a-b' ;;
        esac
    ";
    let dir = tempfile::tempdir().unwrap();
    let (script, systemctl) = (dir.path().join("harden-why"), dir.path().join("systemctl"));
    fs::write(&script, content("bash/harden-why")).unwrap();
    fs::write(&systemctl, SYSTEMCTL).unwrap();
    fs::set_permissions(&systemctl, Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", ASKS, "bash"]).arg(&script).arg("harden-why").args(words).env("PATH", path);
    let output = match bash.output() {
        Ok(output) => output,
        Err(error) => {
            let required = std::env::var_os("HARDEN_WHY_REQUIRE_KERNEL").is_some_and(|value| value == "1");
            assert!(!required, "required: bash: {error}");
            println!("skipped: bash: {error}");
            return None;
        }
    };
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let words = String::from_utf8(output.stdout).unwrap();
    Some(words.lines().filter(|word| !word.is_empty()).map(ToOwned::to_owned).collect())
}

#[test]
fn bash_completes_options_after_every_verb() {
    let (_, program) = pages::programs().into_iter().next().unwrap();
    for verb in verbs(&program) {
        let Some(words) = offered(&[verb.get_name(), "--"]) else { return };
        for option in long_options(verb) {
            assert!(words.contains(&format!("--{option}")), "{}: --{option} is not in {words:?}", verb.get_name());
        }
        assert!(offered(&["help", ""]).unwrap().iter().any(|word| word == verb.get_name()));
    }
    for (words, value) in [
        (["syscall", "--arch", "aar"], "aarch64"),
        (["rehearse", "--keep", "ProtectC"], "ProtectClock"),
        (["apply", "--color", "n"], "never"),
    ] {
        assert!(offered(&words).unwrap().iter().any(|word| word == value), "{words:?} without {value}");
    }
}

#[test]
fn bash_completes_units_where_a_word_can_be_one() {
    let both = ["web.service", r"srv-a\\x2db.mount"];
    for (words, units) in [
        (&["apply", ""][..], &both[..]),
        (&["apply", "we"], &both[..1]),
        (&["apply", "--user", ""], &both[1..]),
        (&["tap", "--system", "web.service", ""], &both[..1]),
        (&["explain", "--unit", "s"], &both[1..]),
        (&["explain", "--unit", "=", "w"], &both[..1]),
        (&["web.service", "s"], &["status", "syscall", both[1]]),
        (&["demo", "w"], &[]),
        (&["tap", "--for", "w"], &["w"]),
        (&["help", "w"], &[]),
    ] {
        let Some(mut words_offered) = offered(words) else { return };
        words_offered.sort_unstable_by_key(|word| units.iter().position(|unit| unit == word));
        assert_eq!(words_offered, units, "{words:?}");
    }
    assert!(!offered(&[""]).unwrap().contains(&both[0].to_owned()), "the verbs come first");
}

#[test]
fn installed_shells_can_read_their_completions() {
    let dir = tempfile::tempdir().unwrap();
    for file in pages::files().unwrap().iter().filter(|file| !file.path.starts_with("man/")) {
        let (shell, name) = file.path.split_once('/').unwrap();
        let path = dir.path().join(name);
        fs::write(&path, &file.content).unwrap();
        match Command::new(shell).arg("-n").arg(&path).output() {
            Ok(read) => assert!(read.status.success() && read.stderr.is_empty(), "{}: {read:?}", file.path),
            Err(error) => println!("skipped: {shell}: {error}"),
        }
    }
}

#[test]
fn zsh_completes_the_first_word_as_verb_or_unit() {
    let zsh = content("zsh/_harden-why");
    // What clap generates expects a unit before the verb.
    assert!(!zsh.contains("'::units --") && !zsh.contains("$line[2]") && !zsh.contains("_hosts"));
    let used = zsh.matches("_harden_why_units'").count();
    assert!(used > 5 && zsh.contains("_harden_why_units() {"), "{used}");
    assert!(zsh.contains("\":: :_harden_why_verbs_and_units\"") && zsh.contains("_harden_why_verbs_and_units() {"));
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
    let table = readme.split("## Use").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `harden-why"));
    let mut named = 0;
    for word in rows.flat_map(|row| row.split(['`', ' ', '='])).filter_map(|word| word.strip_prefix("--")) {
        named += 1;
        assert!(known.iter().any(|option| option == word), "the README tells of --{word}");
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
            assert!(
                std::env::var_os("HARDEN_WHY_REQUIRE_KERNEL").is_none_or(|value| value != "1"),
                "there is no groff"
            );
            println!("skipped: there is no groff");
            return;
        };
        let complaints = String::from_utf8(set.stderr).unwrap();
        assert!(set.status.success() && complaints.is_empty(), "{complaints}");
    }
}

#[test]
fn page_describes_every_key_of_the_answers() {
    let page = plain(&content("man/harden-why.1"));
    let json = page.split(".SH \"JSON OUTPUT\"").nth(1).unwrap().split("\n.SH ").next().unwrap();
    let source = include_str!("../../src/cli/views/answer.rs");
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
