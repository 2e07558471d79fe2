//! Completions of bash, zsh and fish, in these shells.

use crate::manuals::{content, long_options, pages, verbs};
use crate::support::skip::skip;
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Two managers with a unit each.
const SYSTEMCTL: &str = r"#!/bin/sh
    case $1 in
        --system) echo 'web.service loaded active running A web server' ;;
        --user) echo 'srv-a\x2db.mount loaded failed failed /srv/a-b' ;;
    esac
";

/// Lists a unit with denials, and its remedies.
const HARDEN_WHY: &str = r"#!/bin/sh
    case $* in
        *--no-legend*--system)
            echo 'zz-denied.service  failing  socket  1  9 s ago  -'
            echo 'unit unknown       -        socket  1  9 s ago  -' ;;
        *'list-remedies -- zz-denied' | *'list-remedies --user -- zz-denied')
            printf '1\tallow socket\n2\tallow @network-io\n' ;;
    esac
";

/// Runs a script in a shell, with the completion for it as the first argument and these words after it. Returns the
/// lines that it prints; `None` without the shell.
fn run_in(shell: &str, options: &[&str], completion: &str, words: &[&str]) -> Option<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("completion");
    fs::write(&script, content(completion)).unwrap();
    for (program, text) in [("systemctl", SYSTEMCTL), ("harden-why", HARDEN_WHY)] {
        let program = dir.path().join(program);
        fs::write(&program, text).unwrap();
        fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(shell);
    command.args(options).arg(&script).args(words).env("PATH", path).env("HOME", dir.path());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            skip(&format!("{shell}: {error}"));
            return None;
        }
    };
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let words = String::from_utf8(output.stdout).unwrap();
    Some(words.lines().filter(|word| !word.is_empty()).map(ToOwned::to_owned).collect())
}

/// What bash offers for the last of these words, with a unit of the system and one of a user. `None` without bash.
fn offered(words: &[&str]) -> Option<Vec<String>> {
    // Calls the registered function as bash calls it.
    const ASKS: &str = r#"
        # Of a shell that does complete alone.
        compopt() { :; }
        source "$1"
        shift
        registered=$(complete -p harden-why)
        function=${registered#*-F } function=${function%% *}
        COMP_WORDS=(harden-why "$@") COMP_CWORD=$#
        "$function" harden-why "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    run_in("bash", &["--norc", "-c", ASKS, "bash"], "bash/harden-why", words)
}

/// What zsh offers where a function completes the words after `harden-why`: each match, with its text if zsh shows another.
fn offered_by_zsh(function: &str, words: &[&str]) -> Option<Vec<String>> {
    // Stands for what zsh gives a function that completes, and takes from it.
    let asks = format!(
        r#"
        compdef() {{ : }}
        compadd() {{
            local matches=${{@[-1]}} texts=${{@[-3]}} at
            matches=("${{(P@)matches}}")
            [[ $* == *'-d '* ]] && texts=("${{(P@)texts}}") || texts=()
            for at in {{1..$#matches}}; do print -r -- ${{matches[at]}}${{texts[at]:+: }}${{texts[at]}}; done
        }}
        source "$1"
        shift
        BUFFER="harden-why $*" words=("$@")
        {function}
        "#
    );
    run_in("zsh", &["-f", "-c", &asks, "zsh"], "zsh/_harden-why", words)
}

/// What fish offers for a command line: each word, and its description behind a tab.
fn offered_by_fish(line: &str) -> Option<Vec<String>> {
    const ASKS: &str = "source $argv[1]; complete -C $argv[2]";
    run_in("fish", &["--no-config", "-c", ASKS], "fish/harden-why.fish", &[line])
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
fn bash_completes_units_with_denials_first_and_names_of_calls() {
    let Some(units) = offered(&["apply", "--system", ""]) else { return };
    assert_eq!(units, ["zz-denied.service", "web.service"]);
    assert_eq!(offered(&["syscall", "openat"]).unwrap(), ["openat", "openat2"]);
}

#[test]
fn bash_completes_numbers_of_remedies_of_the_unit_on_the_line() {
    for (words, numbers) in [
        (&["apply", "zz-denied", "--remedy", ""][..], &["1", "2"][..]),
        (&["--user", "apply", "--restart", "zz-denied", "--remedy", "2"], &["2"]),
        (&["apply", "--state-dir", "/tmp", "zz-denied", "--remedy", "="], &["1", "2"]),
        (&["apply", "web.service", "--remedy", ""], &[]),
        (&["apply", "--remedy", ""], &[]),
    ] {
        let Some(offered) = offered(words) else { return };
        assert_eq!(offered, numbers, "{words:?}");
    }
}

#[test]
fn zsh_completes_units_with_denials_first_and_numbers_of_remedies() {
    let Some(units) = offered_by_zsh("_harden_why_units", &["apply", ""]) else { return };
    assert_eq!(units, ["zz-denied.service", "web.service", r"srv-a\x2db.mount"]);
    assert_eq!(offered_by_zsh("_harden_why_units", &["apply", "--user", ""]).unwrap(), [r"srv-a\x2db.mount"]);
    for words in [
        &["apply", "zz-denied", "--remedy", ""][..],
        &["apply", "--user", "--state-dir", "/tmp", "zz-denied", "--remedy="],
    ] {
        let remedies = offered_by_zsh("_harden_why_remedies", words).unwrap();
        assert_eq!(remedies, ["1: 1 -- allow socket", "2: 2 -- allow @network-io"], "{words:?}");
    }
    let zsh = content("zsh/_harden-why");
    assert!(zsh.contains(":N:_harden_why_remedies' \\\n") && !zsh.contains("\n'*::"));
}

#[test]
fn fish_completes_units_with_denials_first_and_numbers_of_remedies() {
    let Some(units) = offered_by_fish("harden-why apply ") else { return };
    let units: Vec<&String> = units.iter().filter(|word| !word.starts_with('-')).collect();
    assert_eq!(units, ["zz-denied.service\tdenied calls", "web.service", r"srv-a\x2db.mount"]);
    for line in ["harden-why apply zz-denied --remedy ", "harden-why --user apply --restart zz-denied --remedy "] {
        assert_eq!(offered_by_fish(line).unwrap(), ["1\tallow socket", "2\tallow @network-io"], "{line}");
    }
    assert_eq!(offered_by_fish("harden-why apply --remedy ").unwrap(), [""; 0]);
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
        words_offered.retain(|word| word != "zz-denied.service");
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
            Err(error) => skip(&format!("{shell}: {error}")),
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
