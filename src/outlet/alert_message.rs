//! The text of an alert, in one line.

use super::alert_fields::call_word;
use super::explanation::Explanation;
use crate::audit::text;
use crate::incidents::{Incident, describe_event};
use crate::syscalls::Call;
use crate::units::{Manager, Unit};

/// The longest message, in characters.
pub const MAX_MESSAGE: usize = 280;

/// Returns one line of at most [`MAX_MESSAGE`] characters: the unit, the program, what happened, the setting if it is
/// known, and the command that shows more.
#[must_use]
pub fn message(incident: &Incident, why: Option<&Explanation>) -> String {
    let key = &incident.key;
    let whose = match &key.unit {
        Some(Unit { manager: Manager::System, name }) => shorten(name.as_str(), 80),
        Some(Unit { manager: Manager::User(uid), name }) => format!("{} of user {uid}", shorten(name.as_str(), 80)),
        None => "unknown unit".to_owned(),
    };
    let program = if key.exe.is_empty() { &incident.sample.comm } else { &key.exe };
    let program = match program.as_slice() {
        [] => "a process".to_owned(),
        program => shorten_front(&text::escape(program), 60),
    };
    let call = incident.call().map_or_else(String::new, |call| shorten(&call_phrase(call), 40));
    let what = describe_event(&key.event, &call);
    let often = if incident.count > 1 { format!(", {} times so far", incident.count) } else { String::new() };
    let facts = format!("{whose}: {program} (pid {}) {what}{often}", incident.sample.pid);
    let hints = key.unit.iter().map(|unit| format!("; see 'harden-why {}'", unit.name.to_argument()));
    let shortest = "; see 'harden-why'";
    let hints: Vec<String> = hints.chain([shortest.to_owned()]).collect();
    let clauses = why.into_iter().flat_map(Explanation::clauses).chain([String::new()]);
    let longest_first = clauses.flat_map(|clause| hints.iter().map(move |hint| format!("{clause}{hint}")));
    let left = MAX_MESSAGE.saturating_sub(facts.chars().count());
    match longest_first.into_iter().find(|end| end.chars().count() <= left) {
        Some(end) => facts + &end,
        None => shorten(&facts, MAX_MESSAGE - shortest.len()) + shortest,
    }
}

/// Returns the call's word for a sentence. An incident of the daemon counts all numbers without a name.
fn call_phrase(call: &Call) -> String {
    let word = call_word(call);
    if call.name().is_none() && call.number().is_some() { format!("{word} or another unnamed one") } else { word }
}

/// Returns at most so many characters from the start.
pub(super) fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Returns at most so many characters from the end: the end of a path says more.
fn shorten_front(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    ['…'].into_iter().chain(text.chars().skip(length.saturating_sub(most.saturating_sub(1)))).collect()
}
