//! Finds groups that together contain all of the given calls.

use crate::policy::Policy;
use crate::syscalls::Groups;
use std::collections::BTreeSet;

/// Returns sets of groups that contain all of the calls: each group that alone is enough, and a set that opens few
/// other calls.
pub(super) fn find_choices<'a>(names: &BTreeSet<&str>, groups: &'a Groups, policy: &Policy) -> Vec<Vec<&'a str>> {
    let containing: Vec<Vec<&str>> = names.iter().map(|name| groups.containing(name)).collect();
    let Some((first, rest)) = containing.split_first() else { return Vec::new() };
    let is_enough = |group: &&&str| rest.iter().all(|others| others.contains(group));
    let mut choices: Vec<Vec<&str>> = first.iter().filter(is_enough).map(|group| vec![*group]).collect();
    choices.extend(find_cover(names, groups, policy).filter(|chosen| chosen.len() > 1));
    choices
}

/// Returns groups that together contain all of the calls. Each step adds the group that opens the fewest other calls
/// per covered call.
fn find_cover<'a>(names: &BTreeSet<&str>, groups: &'a Groups, policy: &Policy) -> Option<Vec<&'a str>> {
    let mut left: BTreeSet<&str> = names.clone();
    let mut opened: BTreeSet<&str> = BTreeSet::new();
    let mut chosen = Vec::new();
    while !left.is_empty() {
        let price = |group: &str| {
            let calls = groups.calls(group)?;
            let covers = left.iter().filter(|call| calls.contains(**call)).count();
            let others =
                || calls.iter().map(AsRef::as_ref).filter(|call| !names.contains(call) && !opened.contains(call));
            let opens = || others().filter(|call| !policy.permits(policy.native(), call)).count();
            (covers > 0).then(|| (opens() * 1000 / covers, calls.len()))
        };
        let best =
            groups.names().filter(|name| *name != "@known").filter_map(|name| Some((price(name)?, name))).min()?.1;
        let calls = groups.calls(best)?;
        left.retain(|call| !calls.contains(*call));
        opened.extend(calls.iter().map(|call| &**call));
        chosen.push(best);
    }
    chosen.sort_unstable();
    Some(chosen)
}
