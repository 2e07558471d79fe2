//! Parsing beyond what clap does.
//!
//! Options may precede or follow a verb, as with systemctl. An option that the verb lacks is an error, never ignored.

use super::Cli;
use super::usage_error::{advise, check_boot};
use super::values::EMPTY_UNIT;
use crate::audit::text::escape_excerpt;
use clap::error::ErrorKind;
use clap::{Arg, Command, FromArgMatches as _};
use std::ffi::OsString;

impl Cli {
    /// Parses this program's arguments.
    ///
    /// # Errors
    /// They are invalid, or ask for help or the version.
    pub fn parse_arguments() -> Result<Self, clap::Error> {
        let words: Vec<OsString> = std::env::args_os().collect();
        Self::parse_words(&words)
    }

    /// Parses the words of a command line, the program's name first.
    ///
    /// # Errors
    /// They are invalid, or ask for help or the version.
    pub(super) fn parse_words(words: &[OsString]) -> Result<Self, clap::Error> {
        let mut program = Self::program();
        let words = put_verb_first(&mut program, words)?;
        let matches = program.try_get_matches_from_mut(&words).map_err(|error| advise(error, &words))?;
        let mut cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut program))?;
        cli.common.resolve_output();
        check_boot(&words)?;
        cli.units.units.append(&mut cli.units.unit_options);
        if cli.command.is_none() && cli.units.units.iter().any(String::is_empty) {
            return Err(program.error(ErrorKind::InvalidValue, EMPTY_UNIT));
        }
        if !cli.units.others.machines.is_empty() && cli.units.units.is_empty() {
            let why = "'--for' needs a unit: it says what the unit's remedy means on other machines";
            return Err(program.error(ErrorKind::MissingRequiredArgument, why));
        }
        Ok(cli)
    }
}

/// Moves the verb in front of the options before it: they are its own.
///
/// # Errors
/// A unit stands before the verb.
fn put_verb_first(program: &mut Command, words: &[OsString]) -> Result<Vec<OsString>, clap::Error> {
    let mut unit = None;
    let mut at = 1;
    while let Some(word) = words.get(at).filter(|word| *word != "--") {
        let text = word.to_str().unwrap_or_default();
        if text.len() > 1 && text.starts_with('-') {
            at += if takes_next_word(program, text) { 2 } else { 1 };
        } else if text == "help" && unit.is_none() {
            break;
        } else if let (Some(unit), Some(_)) = (unit, program.find_subcommand(text)) {
            let unit = escape_excerpt(unit);
            let why = format!(
                "{unit} stands before the command '{text}': units go behind it; if {text} is a unit as well, write \
                 '{text}.service'"
            );
            return Err(program.error(ErrorKind::ArgumentConflict, why));
        } else if program.find_subcommand(text).is_some() {
            let mut moved = words.to_vec();
            moved[1..=at].rotate_right(1);
            return Ok(moved);
        } else {
            unit = unit.or(word.to_str());
            at += 1;
        }
    }
    Ok(words.to_vec())
}

/// Returns whether the value of an option, or of the last of several letters, is the next word.
fn takes_next_word(program: &Command, option: &str) -> bool {
    let own = program.get_subcommands().flat_map(Command::get_arguments);
    let mut arguments = program.get_arguments().chain(own);
    let takes = |arg: &Arg| arg.get_action().takes_values() && !arg.is_require_equals_set();
    if let Some(long) = option.strip_prefix("--") {
        return arguments.any(|arg| arg.get_long() == Some(long) && takes(arg));
    }
    let with_value: Vec<char> = arguments.filter(|arg| takes(arg)).filter_map(Arg::get_short).collect();
    // What follows the first such letter is its value.
    option.chars().position(|letter| with_value.contains(&letter)) == Some(option.chars().count() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Command as Verb, Rehearse};

    fn parse(words: &str) -> Result<Cli, String> {
        let words: Vec<OsString> = ["harden-why"].into_iter().chain(words.split(' ')).map(Into::into).collect();
        Cli::parse_words(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn option_before_verb_belongs_to_verb() {
        for (before, behind) in [
            ("--user --state-dir /s apply p -y", "apply --user --state-dir /s p -y"),
            ("-y --system apply --system p", "apply -y --system p"),
            ("-qu nginx follow -n 5", "follow -qu nginx -n 5"),
            ("-u nginx -n5 follow", "follow -u nginx -n5"),
            ("--unit=nginx --since -1h explain F", "explain --unit=nginx --since -1h F"),
            ("--unknown forget", "forget --unknown"),
            ("--for 5min tap nginx", "tap --for 5min nginx"),
            ("--for arm64 check nginx", "check --for arm64 nginx"),
            ("--for arm64 explain F", "explain --for arm64 F"),
            ("--json -v status", "status --json -v"),
            ("-o json status", "status -o json"),
        ] {
            let parsed = parse(before).unwrap_or_else(|why| panic!("{before}: {why}"));
            assert_eq!(format!("{parsed:?}"), format!("{:?}", parse(behind).unwrap()), "{before}");
            assert!(parsed.command.is_some(), "{before}");
        }
        assert!(parse("-- follow").unwrap().command.is_none());
    }

    #[test]
    fn name_of_a_verb_after_an_option_is_the_value_of_the_option() {
        for words in ["-u follow", "--unit follow", "-u status --unit follow", "-qu follow", "-u follow --since 1h"] {
            let parsed = parse(words).unwrap_or_else(|why| panic!("{words}: {why}"));
            assert!(parsed.command.is_none(), "{words}");
            assert_eq!(parsed.units.units.last().map(String::as_str), Some("follow"), "{words}");
        }
        let followed = parse("-u status follow").unwrap();
        assert!(matches!(followed.command, Some(Verb::Follow(_))), "the verb is the word that is no value");
        assert!(parse("--for follow nginx").unwrap_err().contains("neither an architecture"));
        assert!(parse("-o follow").unwrap_err().contains("write short, verbose, json or json-pretty"));
    }

    #[test]
    fn option_that_verb_lacks_is_an_error() {
        for (words, why) in [
            (
                "--user status",
                "'--user' does not go with the command 'status': leave it out, or see 'harden-why status",
            ),
            ("--state-dir /s status", "'--state-dir' does not go with the command 'status'"),
            ("--state-dir /s revert p", "'--state-dir' does not go with the command 'revert'"),
            ("--since 1h apply p", "'--since' does not go with the command 'apply'"),
            ("-b apply p", "'--boot' does not go with the command 'apply'"),
            ("-u p apply", "'--unit' does not go with the command 'apply': the units stand behind it"),
            ("--user apply --system p", "'--user' cannot be used with '--system'"),
            ("nginx status", "if status is a unit as well, write 'status.service'"),
            ("\x1b[2J status", "\\x1b[2J stands before the command"),
            ("--for arm64 status", "'--for' does not go with the command 'status'"),
            ("--for arm64", "'--for' needs a unit"),
            ("--for vax nginx", "neither an architecture (such as aarch64"),
            ("follow --state-dir /s", "'--state-dir' does not go with the command 'follow'"),
            ("rehearse p --state-dir /s", "'--state-dir' does not go with the command 'rehearse'"),
        ] {
            let said = parse(words).unwrap_err();
            assert!(said.contains(why), "{words}: {said}");
        }
        assert!(parse("--since 1h nginx").is_ok() && parse("--state-dir /s --unknown").is_ok());
        assert_eq!(parse("-u p --for arm64,systemd=257").unwrap().units.others.machines.len(), 2);
    }

    #[test]
    fn until_idle_never_takes_the_unit_for_its_duration() {
        let idle = |flag: &str| match parse(&format!("rehearse {flag} a")).unwrap().command {
            Some(Verb::Rehearse(Rehearse { chosen, until_idle, .. })) => (chosen.unit, until_idle.unwrap().as_secs()),
            other => panic!("{other:?}"),
        };
        assert_eq!(idle("--until-idle"), ("a".to_owned(), 30));
        assert_eq!(idle("--until-idle=5s"), ("a".to_owned(), 5));
    }

    #[test]
    fn separate_duration_after_until_idle_gets_a_hint() {
        for words in ["rehearse p --until-idle 5s", "rehearse --until-idle 5s p"] {
            let said = parse(words).unwrap_err();
            assert!(said.contains("tip: a time is joined to it: '--until-idle=5s'"), "{said}");
        }
        assert!(!parse("rehearse p q").unwrap_err().contains("--until-idle="));
    }

    #[test]
    fn words_of_other_programs_get_a_tip_that_leads_on() {
        for (words, tip) in [
            ("explain", "tip: for a log in a pipe: journalctl -k | harden-why explain -"),
            ("explain log nginx", "tip: to see the records of one unit: --unit nginx"),
            ("nginx --root /", "tip: 'harden-why check --root DIR UNIT' and"),
            ("-S today", "tip: '--since TIME'"),
            ("-U today", "tip: '--until TIME'"),
            ("--reverse", "tip: the newest denials are the first ones"),
            ("--failed", "tip: 'harden-why' lists the units with denials"),
            ("--sinc 1h", "a similar argument exists: '--since'"),
            ("", "UNIT is empty: name a unit"),
        ] {
            let said = parse(words).unwrap_err();
            assert!(said.contains(tip), "{words}: {said}");
        }
        let said = parse("--plain").unwrap_err();
        assert!(!said.contains("similar argument"), "no option is so similar that it was meant: {said}");
    }

    #[test]
    fn error_about_a_wrong_value_has_one_line_with_what_to_write() {
        for (words, expected) in [
            ("-o xml", "invalid value 'xml' for '--output <FORM>': write short, verbose, json or json-pretty"),
            ("--output= a", "'--output <FORM>' but none was supplied: write short, verbose, json or json-pretty"),
            ("--color red", "invalid value 'red' for '--color <WHEN>': write auto, always or never"),
            ("--json=yaml", "invalid value 'yaml' for '--json[=<LAYOUT>]': write pretty or short"),
            ("completions elvish", "invalid value 'elvish' for '<SHELL>': write bash, zsh or fish"),
            ("--bus here", "or an address like unix:path=/run/dbus/system_bus_socket"),
            ("-n abc", "for example 20"),
            ("-n -1", "for example 20"),
            ("follow -n -1", "for example 20"),
            ("apply a --remedy -1", "for example 2"),
            ("tap a --for soon", "write it as 30, 90s, 30min"),
            ("rehearse a --for -1h", "write it as 30, 90s, 30min"),
            ("log-refusals a --for -1h", "write it as 30, 90s, 30min"),
            ("rehearse a --until-idle=soon", "write it as 30, 90s, 30min"),
            ("check a --with @mount", "for example SystemCallFilter=@network-io"),
            ("check a --with =@mount", "for example SystemCallFilter=@network-io"),
            ("--quiet=yes", "'--quiet' takes no value such as 'yes': write --quiet"),
            ("--boot=abc", "'--boot' takes no value such as 'abc': alone it means this boot, and '--since TIME"),
            ("-b 0", "'--boot' takes no value such as '0'"),
            ("-b 2f2c1ef4cbd5408d92a0e4f70a8bd0e4", "'--boot' takes no value such as '2f2c"),
        ] {
            let said = parse(words).unwrap_err();
            let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
            assert!(
                matches!(lines[..], [first, "For more information, try '--help'."] if first.contains(expected)),
                "{words}: {said}"
            );
        }
        assert!(
            parse("-b -1").unwrap_err().contains("tip: '--since TIME --until TIME' selects denials of an earlier boot")
        );
        assert!(parse("-b nginx").is_ok_and(|cli| cli.units.boot && cli.units.units == ["nginx"]));
    }
}
