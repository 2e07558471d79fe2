//! Errors about arguments: what is wrong in one line, and what to write.

use super::Cli;
use super::values::duration;
use crate::audit::text::{escape_excerpt, join_or};
use crate::cli::lookup::similar_names::{similar_verb, similar_word};
use clap::Arg;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;

/// The last line of an error.
const MORE: &str = "For more information, try '--help'.";

/// What to write for denials of an earlier boot.
const OTHER_BOOTS: &str = "'--since TIME --until TIME' selects denials of an earlier boot";

/// What to write for a log in a pipe.
const PIPED_LOG: &str = "for a log in a pipe: journalctl -k | harden-why explain -";

/// Replaces clap's advice about an error by advice that helps.
pub(super) fn advise(error: clap::Error, words: &[OsString]) -> clap::Error {
    match error.kind() {
        ErrorKind::UnknownArgument => name_verb(&error, words).unwrap_or_else(|| with_hint(error, words)),
        // `--for` takes a time with some verbs, and machines without one.
        ErrorKind::ValueValidation => with_hint(error, words),
        ErrorKind::InvalidValue => name_valid_values(&error).unwrap_or(error),
        ErrorKind::TooManyValues => name_flag(&error).unwrap_or(error),
        ErrorKind::MissingRequiredArgument if is_verb(words, "explain") => with_tip(error, PIPED_LOG),
        _ => error,
    }
}

/// Checks that no boot follows `-b`, as it may in journalctl. A word that can be a unit is one.
///
/// # Errors
/// A number or the ID of a boot follows.
pub(super) fn check_boot(words: &[OsString]) -> Result<(), clap::Error> {
    let is_boot = |word: &&str| {
        let is_id = word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id || word.trim_start_matches('+').parse() == Ok(0)
    };
    let find = |pair: &[OsString]| match pair {
        [option, word] if option == "-b" || option == "--boot" => word.to_str().filter(is_boot).map(ToOwned::to_owned),
        _ => None,
    };
    words.windows(2).find_map(find).map_or(Ok(()), |boot| Err(takes_no_value("--boot", &boot)))
}

/// Returns an error of one line, and the line that every error ends with.
fn two_lines(kind: ErrorKind, text: &str) -> clap::Error {
    clap::Error::raw(kind, format!("{text}\n\n{MORE}\n"))
}

/// Returns an error that names the valid values, if there is a list of them.
fn name_valid_values(error: &clap::Error) -> Option<clap::Error> {
    let ContextValue::Strings(valid) = error.get(ContextKind::ValidValue)? else { return None };
    let ContextValue::String(option) = error.get(ContextKind::InvalidArg)? else { return None };
    let ContextValue::String(value) = error.get(ContextKind::InvalidValue)? else { return None };
    if valid.is_empty() {
        return None;
    }
    let what = match value.as_str() {
        "" => format!("a value is required for '{option}' but none was supplied"),
        value => format!("invalid value '{}' for '{option}'", escape_excerpt(value)),
    };
    let valid: Vec<&str> = valid.iter().map(String::as_str).collect();
    Some(two_lines(error.kind(), &format!("{what}: write {}", join_or(&valid))))
}

/// Returns the error about a value of an option that takes none.
fn name_flag(error: &clap::Error) -> Option<clap::Error> {
    let ContextValue::String(option) = error.get(ContextKind::InvalidArg)? else { return None };
    let ContextValue::String(value) = error.get(ContextKind::InvalidValue)? else { return None };
    Some(takes_no_value(option, value))
}

fn takes_no_value(option: &str, value: &str) -> clap::Error {
    let advice = match option {
        "--boot" => format!("alone it means this boot, and {OTHER_BOOTS}"),
        option => format!("write {option}"),
    };
    let text = format!("'{option}' takes no value such as '{}': {advice}", escape_excerpt(value));
    two_lines(ErrorKind::TooManyValues, &text)
}

/// Returns the error about an option that the program has, but not the verb.
fn name_verb(error: &clap::Error, words: &[OsString]) -> Option<clap::Error> {
    let ContextValue::String(unknown) = error.get(ContextKind::InvalidArg)? else { return None };
    let option = unknown.split('=').next().unwrap_or_default();
    let program = Cli::program();
    let verb = program.find_subcommand(words.get(1)?)?;
    let has = |arg: &Arg| match (option.strip_prefix("--"), option.strip_prefix('-')) {
        (Some(long), _) => arg.get_long() == Some(long),
        (None, short) => short.is_some_and(|short| arg.get_short().is_some_and(|letter| short.starts_with(letter))),
    };
    let arg = program.get_arguments().find(|arg| has(arg))?;
    let has_units = verb.get_positionals().any(|positional| positional.get_id().as_str().starts_with("unit"));
    let advice = match arg.get_id().as_str() {
        "unit_options" if has_units => "the units stand behind it".to_owned(),
        _ => format!("leave it out, or see 'harden-why {} --help'", verb.get_name()),
    };
    let option = arg.get_long().map_or_else(|| option.to_owned(), |long| format!("--{long}"));
    let text = format!("'{option}' does not go with the command '{}': {advice}", verb.get_name());
    Some(two_lines(ErrorKind::UnknownArgument, &text))
}

/// Replaces clap's advice about an unknown option, or a wrong value, by a hint that helps.
fn with_hint(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    let behind = words.iter().position(|word| word == "--until-idle").and_then(|at| words.get(at + 1)?.to_str());
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return error };
    let word = words.get(1).and_then(|word| word.to_str()).filter(|word| !word.starts_with('-'));
    let hint = if let Some(time) = behind.filter(|time| duration(time).is_ok()) {
        Some(format!("a time is joined to it: '--until-idle={time}'"))
    } else if is_earlier_boot(unknown, words) {
        Some(OTHER_BOOTS.to_owned())
    } else if let Some(habit) = hint_for_habit(unknown) {
        Some(habit.to_owned())
    } else if is_verb(words, "explain") && !unknown.starts_with('-') {
        Some(format!("to see the records of one unit: --unit {}", escape_excerpt(unknown)))
    } else {
        let verb = word.filter(|word| Cli::program().find_subcommand(word).is_none()).and_then(similar_verb);
        verb.map(|verb| format!("did you mean the command '{verb}'?"))
    };
    // A similar name is no advice if it is not similar enough for a typing error.
    if let Some(ContextValue::String(similar)) = error.get(ContextKind::SuggestedArg)
        && similar_word(unknown, [similar.as_str()].into_iter()).is_none()
    {
        error.remove(ContextKind::SuggestedArg);
    }
    let is_escape = |tip: &ContextValue| matches!(tip, ContextValue::StyledStrs(tips) if tips.iter().any(|tip| tip.to_string().contains("'-- ")));
    if let Some(hint) = hint {
        return with_tip(error, &hint);
    }
    if error.get(ContextKind::Suggested).is_some_and(is_escape) {
        // No unit and no file that harden-why takes begins with a dash.
        error.remove(ContextKind::Suggested);
    }
    error
}

/// Replaces clap's advice by a tip.
fn with_tip(mut error: clap::Error, tip: &str) -> clap::Error {
    error.remove(ContextKind::SuggestedArg);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.to_owned().into()]));
    error
}

/// Whether the words call a verb.
fn is_verb(words: &[OsString], verb: &str) -> bool {
    words.get(1).is_some_and(|word| word == verb)
}

/// Returns whether a number follows `-b`, as in `journalctl -b -1`.
fn is_earlier_boot(unknown: &str, words: &[OsString]) -> bool {
    let is_number = unknown.strip_prefix('-').is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()));
    let follows = |pair: &[OsString]| matches!(pair, [option, _] if option == "-b" || option == "--boot");
    is_number && words.windows(2).any(follows)
}

/// Returns what to do in place of an option that journalctl or systemctl have.
fn hint_for_habit(option: &str) -> Option<&'static str> {
    Some(match option.split('=').next().unwrap_or_default() {
        "-f" | "--follow" => "'harden-why follow' shows denials as they happen",
        "-H" | "--host" => "run it there: ssh HOST harden-why …",
        "-M" | "--machine" => "run it there: systemd-run --pipe -M MACHINE harden-why …",
        "-a" => "'--all' or '--verbose' show more",
        "-S" => "'--since TIME' selects newer denials",
        "-U" => "'--until TIME' selects older denials",
        "-r" | "--reverse" => "the newest denials are the first ones",
        "--failed" => "'harden-why' lists the units with denials, and which of them fail",
        "--root" => {
            "'harden-why check --root DIR UNIT' and 'harden-why explain --root DIR FILE' read the unit files below DIR"
        }
        _ => return None,
    })
}
