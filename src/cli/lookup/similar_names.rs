//! What a person may have meant by a name that is not known.

use crate::audit::text::escape_excerpt;
use crate::cli::args::Cli;
use crate::units::UnitName;
use clap::CommandFactory as _;
use std::collections::BTreeSet;

/// The suffixes of units that can be meant by a similar one.
const SUFFIXES: [&str; 11] =
    ["service", "socket", "target", "timer", "mount", "automount", "swap", "path", "slice", "scope", "device"];

/// The most names of a suggestion.
const MOST: usize = 3;

/// Returns the question "Did you mean …?" for a unit name that is not known; `None` if nothing is similar. A verb is
/// meant only where `may_be_verb`.
pub(crate) fn suggest(name: &UnitName, known: &BTreeSet<UnitName>, may_be_verb: bool) -> Option<String> {
    let word = name.as_str().strip_suffix(".service").filter(|_| may_be_verb);
    if let Some(habit) = word.and_then(hint_for_verb_of_others) {
        return Some(habit.to_owned());
    }
    let verb = word.and_then(similar_verb);
    if let Some(verb) = verb {
        return Some(format!("Did you mean the command '{verb}'?"));
    }
    let names = similar_units(name, known);
    let (last, before) = names.split_last()?;
    let names = match before {
        [] => last.clone(),
        before => format!("{} or {last}", before.join(", ")),
    };
    Some(format!("Did you mean {names}?"))
}

/// Returns what to type in place of a verb that systemctl, journalctl or other programs have.
pub(crate) fn hint_for_verb_of_others(word: &str) -> Option<&'static str> {
    Some(match word {
        "list" | "ls" | "list-units" => "'harden-why' alone lists the units with denials.",
        "show" | "why" | "unit" => "'harden-why UNIT' shows the denials of a unit.",
        "log" | "logs" | "tail" | "watch" | "monitor" => "'harden-why follow' shows denials as they happen.",
        "version" => "'harden-why --version' prints the version.",
        "fix" | "allow" => "'harden-why apply UNIT' allows what a unit was denied.",
        "undo" => "'harden-why revert UNIT' undoes apply.",
        "analyze" | "parse" => "'harden-why explain FILE' reads a log.",
        _ => return None,
    })
}

/// Returns the verb that a word resembles.
pub(crate) fn similar_verb(word: &str) -> Option<String> {
    let program = Cli::command();
    let verbs = program.get_subcommands().filter(|verb| !verb.is_hide_set()).map(|verb| verb.get_name().to_owned());
    nearest(word, verbs.filter(|verb| verb != word)).into_iter().next()
}

/// Returns the known word that a word resembles.
pub(crate) fn similar_word<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    nearest(word, known.map(ToOwned::to_owned)).into_iter().next()
}

/// Returns the name of the unit that a word with a misspelt suffix means: `webapp.service` for `webapp.servcie`.
pub(crate) fn misspelt_suffix(word: &str) -> Option<String> {
    let (stem, suffix) = word.rsplit_once('.').filter(|(stem, _)| !stem.is_empty())?;
    if SUFFIXES.contains(&suffix) {
        return None;
    }
    let meant = nearest(suffix, SUFFIXES.into_iter().map(ToOwned::to_owned)).into_iter().next()?;
    Some(escape_excerpt(&format!("{stem}.{meant}")))
}

fn similar_units(name: &UnitName, known: &BTreeSet<UnitName>) -> Vec<String> {
    let same_type = known.iter().filter(|other| other.suffix() == name.suffix() && *other != name);
    let stem = |name: &UnitName| name.as_str().strip_suffix(name.suffix()).unwrap_or_default().to_owned();
    let mut found = nearest(&stem(name), same_type.map(stem));
    found.truncate(MOST);
    found.into_iter().map(|stem| format!("{stem}{}", name.suffix())).collect()
}

/// Returns the words that differ least from a word, if they differ by at most a third, as rustc suggests names.
fn nearest(word: &str, known: impl Iterator<Item = String>) -> Vec<String> {
    let most = word.len().max(3) / 3;
    let distances = known.map(|other| (strsim::osa_distance(word, &other), other));
    let near: Vec<(usize, String)> = distances.filter(|(distance, _)| *distance <= most).collect();
    let best = near.iter().map(|(distance, _)| *distance).min();
    near.into_iter().filter(|(distance, _)| Some(*distance) == best).map(|(_, other)| other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggested(name: &str, may_be_verb: bool) -> Option<String> {
        let known =
            ["webapp.service", "webapp.timer", "nginx.service", "sshd@.service", "node-a.service", "node-b.service"];
        let known = known.map(|name| name.parse().unwrap()).into();
        suggest(&name.parse().unwrap(), &known, may_be_verb)
    }

    #[test]
    fn unknown_name_leads_to_similar_units_and_verbs() {
        assert_eq!(suggested("folow.service", true).as_deref(), Some("Did you mean the command 'follow'?"));
        assert_eq!(suggested("log-refusal.service", true).as_deref(), Some("Did you mean the command 'log-refusals'?"));
        assert_eq!(suggested("folow.service", false), None);
        assert_eq!(suggested("ngnix.service", true).as_deref(), Some("Did you mean nginx.service?"));
        assert_eq!(suggested("webap.service", true).as_deref(), Some("Did you mean webapp.service?"));
        assert_eq!(
            suggested("node-c.service", true).as_deref(),
            Some("Did you mean node-a.service or node-b.service?")
        );
        assert_eq!(suggested("postgresql.service", true), None);
        let listed = suggested("list.service", true);
        assert_eq!(listed.as_deref(), Some("'harden-why' alone lists the units with denials."));
        assert_eq!(suggested("logs.service", false), None, "only where a verb can stand");
    }

    #[test]
    fn misspelt_suffix_is_recognised_and_other_dots_are_not() {
        assert_eq!(misspelt_suffix("webapp.servcie").as_deref(), Some("webapp.service"));
        assert_eq!(misspelt_suffix("webapp.sevice").as_deref(), Some("webapp.service"));
        assert_eq!(misspelt_suffix("backup.tiemr").as_deref(), Some("backup.timer"));
        for word in ["webapp", "webapp.service", "dbus-org.foo", "my.app", "web.prod", ".servcie", "a.b.c"] {
            assert_eq!(misspelt_suffix(word), None, "{word}");
        }
    }
}
