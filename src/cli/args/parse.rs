//! Parsing beyond what clap does.
//!
//! Options may precede or follow a verb, as with systemctl. An option that the verb lacks is an error, never ignored.

use super::usage_error::{advise, check_boot};
use super::{Cli, Command, StateDir};
use crate::audit::text::escape_excerpt;
use clap::FromArgMatches as _;
use clap::error::ErrorKind;
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

    fn parse_words(words: &[OsString]) -> Result<Self, clap::Error> {
        let mut program = Self::program();
        let matches = program.try_get_matches_from_mut(words).map_err(|error| advise(error, words))?;
        let mut cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut program))?;
        cli.common.resolve_output();
        check_boot(words)?;
        if let Some(verb) = matches.subcommand_name() {
            cli.move_options_to_verb(verb).map_err(|why| program.error(ErrorKind::ArgumentConflict, why))?;
        }
        cli.units.units.append(&mut cli.units.unit_options);
        Ok(cli)
    }

    /// Moves the options before the verb to the verb.
    fn move_options_to_verb(&mut self, verb: &str) -> Result<(), String> {
        let Some(command) = &mut self.command else { return Ok(()) };
        let before = &mut self.units;
        if let Some(unit) = before.units.first() {
            let unit = escape_excerpt(unit);
            return Err(format!(
                "{unit} stands before the command '{verb}': units go behind it; if {verb} is a unit as well, write \
                 '{verb}.service'"
            ));
        }
        if let Some((system, user)) = command.managers() {
            *system |= std::mem::take(&mut before.system);
            *user |= std::mem::take(&mut before.user);
            if *system && *user {
                return Err("'--system' and '--user' exclude each other".to_owned());
            }
        }
        if let Some(source) = command.source()
            && let Some(dir) = before.source.state_dir.take()
        {
            source.state_dir = Some(dir);
        }
        if let Command::Follow(follow) = command
            && let Some(lines) = before.lines.take()
        {
            follow.lines = follow.lines.or(Some(lines));
        }
        if let Command::Explain(explain) = command {
            let super::TimeOptions { since, until } = std::mem::take(&mut before.times);
            explain.times.since = explain.times.since.take().or(since);
            explain.times.until = explain.times.until.take().or(until);
        }
        let left = [
            ("--system", before.system),
            ("--user", before.user),
            ("--state-dir", before.source.state_dir.is_some()),
            ("--unknown", before.unknown),
            ("--all", before.all),
            ("--no-legend", before.no_legend),
            ("--lines", before.lines.is_some()),
            ("--since", before.times.since.is_some()),
            ("--until", before.times.until.is_some()),
            ("--boot", before.boot),
            ("--directory", before.journals.directory.is_some()),
            ("--file", !before.journals.file.is_empty()),
            ("--merge", before.journals.merge),
            ("--unit", !before.unit_options.is_empty()),
        ];
        match left.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(format!(
                "'{option}' does not go with the command '{verb}': leave it out, or see 'harden-why {verb} --help'"
            )),
            None => Ok(()),
        }
    }
}

impl Command {
    /// Returns the verb's `--system` and `--user`, if it has them.
    fn managers(&mut self) -> Option<(&mut bool, &mut bool)> {
        match self {
            Self::Apply(super::Apply { chosen, .. })
            | Self::Revert(super::Revert { chosen, .. })
            | Self::Check(super::Check { chosen, .. }) => Some((&mut chosen.system, &mut chosen.user)),
            Self::Rehearse(super::Rehearse { chosen, .. }) => Some((&mut chosen.system, &mut chosen.user)),
            Self::Follow(super::Follow { system, user, .. })
            | Self::Forget(super::Forget { system, user, .. })
            | Self::Tap(super::TapArgs { system, user, .. })
            | Self::LogRefusals(super::LogRefusals { system, user, .. }) => Some((system, user)),
            Self::Explain(_)
            | Self::Syscall { .. }
            | Self::Demo
            | Self::Status
            | Self::Metrics(_)
            | Self::Restore
            | Self::Completions { .. }
            | Self::ListRemedies { .. }
            | Self::DemoVictim { .. } => None,
        }
    }

    /// Returns the verb's `--state-dir`, if it has one.
    fn source(&mut self) -> Option<&mut StateDir> {
        match self {
            Self::Apply(super::Apply { source, .. })
            | Self::Check(super::Check { source, .. })
            | Self::Forget(super::Forget { source, .. }) => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Apply, ChosenUnits, LogRefusals, Rehearse, Revert};

    fn parse(words: &str) -> Result<Cli, String> {
        let words: Vec<OsString> = ["harden-why"].into_iter().chain(words.split(' ')).map(Into::into).collect();
        Cli::parse_words(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn option_before_verb_belongs_to_verb() {
        let Some(Command::Apply(Apply { chosen: ChosenUnits { units, system, user }, source, .. })) =
            parse("--user --state-dir /s apply p -y").unwrap().command
        else {
            panic!("another verb")
        };
        assert_eq!((units, system, user, source.state_dir), (vec!["p".to_owned()], false, true, Some("/s".into())));
        let Some(Command::LogRefusals(LogRefusals { system, .. })) = parse("--system log-refusals p").unwrap().command
        else {
            panic!("another verb")
        };
        assert!(system);
        let Some(Command::Revert(Revert { chosen, yes })) = parse("--system revert --system -y p").unwrap().command
        else {
            panic!("another verb")
        };
        assert!(chosen.system && yes);
    }

    #[test]
    fn option_that_verb_lacks_is_an_error() {
        for (words, why) in [
            ("--user status", "'--user' does not go with the command 'status'"),
            ("--state-dir /s status", "'--state-dir' does not go with the command 'status'"),
            ("--state-dir /s revert p", "'--state-dir' does not go with the command 'revert'"),
            ("--since 1h apply p", "'--since' does not go with the command 'apply'"),
            ("--user apply --system p", "exclude each other"),
            ("nginx status", "if status is a unit as well, write 'status.service'"),
            ("\x1b[2J status", "\\x1b[2J stands before the command"),
            ("follow --state-dir /s", "unexpected argument '--state-dir'"),
            ("rehearse p --state-dir /s", "unexpected argument '--state-dir'"),
        ] {
            let said = parse(words).unwrap_err();
            assert!(said.contains(why), "{words}: {said}");
        }
        assert!(parse("--since 1h nginx").is_ok() && parse("--state-dir /s --unknown").is_ok());
    }

    #[test]
    fn until_idle_never_takes_the_unit_for_its_duration() {
        let idle = |flag: &str| match parse(&format!("rehearse {flag} a")).unwrap().command {
            Some(Command::Rehearse(Rehearse { chosen, until_idle, .. })) => {
                (chosen.unit, until_idle.unwrap().as_secs())
            }
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
