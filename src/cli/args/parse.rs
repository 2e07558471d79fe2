//! Parsing beyond what clap does.
//!
//! Options may precede or follow a verb, as with systemctl. An option that the verb lacks is an error, never ignored.

use super::{Cli, Command, StateDir, duration};
use crate::audit::text::escape_excerpt;
use crate::cli::lookup::similar_names::similar_verb;
use clap::FromArgMatches as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
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
        let matches = program.try_get_matches_from_mut(words).map_err(|error| with_hint(error, words))?;
        let mut cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut program))?;
        cli.common.resolve_output();
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
            | Self::Restore
            | Self::Completions { .. }
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

/// Replaces clap's advice about an unknown option by a hint that helps.
fn with_hint(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    let behind = words.iter().position(|word| word == "--until-idle").and_then(|at| words.get(at + 1)?.to_str());
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return error };
    let word = words.get(1).and_then(|word| word.to_str()).filter(|word| !word.starts_with('-'));
    let hint = if let Some(time) = behind.filter(|time| duration(time).is_ok()) {
        Some(format!("a time is joined to it: '--until-idle={time}'"))
    } else if let Some(habit) = hint_for_habit(unknown) {
        Some(habit.to_owned())
    } else {
        let verb = word.filter(|word| Cli::program().find_subcommand(word).is_none()).and_then(similar_verb);
        verb.map(|verb| format!("did you mean the command '{verb}'?"))
    };
    let is_escape = |tip: &ContextValue| matches!(tip, ContextValue::StyledStrs(tips) if tips.iter().any(|tip| tip.to_string().contains("'-- ")));
    if let Some(hint) = hint {
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    } else if error.get(ContextKind::Suggested).is_some_and(is_escape) {
        // No unit and no file that harden-why takes begins with a dash.
        error.remove(ContextKind::Suggested);
    }
    error
}

/// Returns what to do in place of an option that journalctl or systemctl have.
fn hint_for_habit(option: &str) -> Option<&'static str> {
    Some(match option.split('=').next().unwrap_or_default() {
        "-f" | "--follow" => "'harden-why follow' shows denials as they happen",
        "-H" | "--host" => "run it there: ssh HOST harden-why …",
        "-M" | "--machine" => "run it there: systemd-run --pipe -M MACHINE harden-why …",
        "-a" => "'--all' or '--verbose' show more",
        _ => return None,
    })
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
}
