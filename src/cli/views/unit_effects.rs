//! What a unit's settings alone tell: what they kill for, and what they refuse without a record.

use crate::audit::Note;
use crate::audit::text::{join, plural};
use crate::diagnosis::Situation;
use crate::policy::{DeniedCalls, Directive, Effect};
use crate::syscalls::Groups;
use crate::units::UnitName;

/// How many calls of a line are named.
const NAMED: usize = 6;

/// Notes what a unit kills for, and what it refuses without a record. Apart from these, notes that it kills for nothing,
/// which explains a death by SIGSYS alone.
pub(crate) fn effect_notes(unit: &UnitName, situation: &Situation, groups: &Groups) -> (Vec<Note>, Option<Note>) {
    let policy = &situation.policy;
    let abi = policy.native();
    let (killed, refused): (Vec<DeniedCalls>, Vec<DeniedCalls>) =
        policy.denied_calls(abi, groups).into_iter().partition(|denied| !matches!(denied.effect, Effect::Errno(_)));
    let abi = abi.name();
    let (mut notes, mut lack) = (Vec::new(), None);
    if killed.is_empty() {
        let filters = refused.iter().any(|denied| denied.directive == Directive::SystemCallFilter);
        let why = if filters { "" } else { ": no SystemCallFilter= denies a call" };
        let text = format!(
            "nothing in {unit} kills for calls of {abi}{why}. If SIGSYS killed a process of it, the program's own \
             sandbox is likelier, or another process that sent the signal"
        );
        lack = Some(Note::new("unit-kills-nothing", text));
    } else {
        let text = format!("{unit} kills with SIGSYS for calls of {abi}: {}", join(killed.iter().map(describe)));
        notes.push(Note::new("unit-kills", text));
    }
    if !refused.is_empty() {
        let text = format!(
            "{unit} refuses calls of {abi} with an error, without a record: {}",
            join(refused.iter().map(describe))
        );
        notes.push(Note::new("unit-refuses", text));
    }
    (notes, lack)
}

/// Returns `SystemCallFilter= at FILE:LINE (63 calls: mincore, …)`.
fn describe(denied: &DeniedCalls) -> String {
    let DeniedCalls { directive, origin, effect, is_conditional, calls } = denied;
    let place = origin.as_ref().map_or_else(String::new, |origin| format!(" at {origin}"));
    let names = calls.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    let more = if calls.len() > NAMED { ", …" } else { "" };
    let effect = if let Effect::Errno(_) = effect { format!(" with {effect}") } else { String::new() };
    let condition = if *is_conditional { ", some by their arguments" } else { "" };
    let count = plural(calls.len() as u64, "call");
    format!("{}={place}{effect} ({count}: {names}{more}{condition})", directive.key())
}
