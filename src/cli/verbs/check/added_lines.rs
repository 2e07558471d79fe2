//! The lines that `check --with` adds to a unit's settings.

use crate::audit::text::{escape_excerpt, quote_word};
use crate::cli::exit_status::UsageError;
use crate::cli::lookup::similar_names::similar_word;
use crate::operations::permission::{owner_command, root_command};
use crate::policy;
use crate::policy::{Directive, Policy};
use crate::syscalls::Groups;
use crate::units::Unit;
use anyhow::bail;
use std::collections::BTreeMap;
use std::path::Path;

/// Sorts after any drop-in.
const LAST: &str = "zzzz-check.conf";

/// Returns the policy of a unit with lines after all others.
/// `judges_accesses` says whether the unit has accesses that failed.
pub(super) fn with_lines(
    unit: &Unit,
    policy: &Policy,
    lines: &[String],
    groups: &Groups,
    judges_accesses: bool,
) -> anyhow::Result<Policy> {
    if lines.is_empty() {
        return Ok(policy.clone());
    }
    for line in lines {
        require_setting(unit, line, judges_accesses)?;
    }
    let content = format!("[{}]\n{}\n", policy.settings.section(), lines.join("\n"));
    let with = policy.with_dropin(Path::new(LAST), content.as_bytes(), groups);
    // systemd ignores unknown words and starts the unit. The user gave these words, so they are errors here.
    let mut faults: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for note in with.notes() {
        if let Some(origin) = note.origin.as_ref().filter(|origin| is_option(&origin.path)) {
            faults.entry(origin.line).or_default().push(describe_fault(&note.text));
        }
    }
    if !faults.is_empty() {
        let faults = faults.into_iter().map(|(number, faults)| {
            let line = option_at(lines, number).map_or_else(String::new, escape_excerpt);
            format!("{line}: {}", faults.join("; "))
        });
        bail!(UsageError(format!("invalid --with {}", faults.collect::<Vec<_>>().join("; "))));
    }
    Ok(with)
}

/// Requires a `--with` line to be a setting that decides on system calls, or on accesses if there are any to judge.
fn require_setting(unit: &Unit, line: &str, judges_accesses: bool) -> anyhow::Result<()> {
    let key = line.split_once('=').map(|(key, _)| key.trim());
    let known = key.and_then(Directive::from_key);
    let decides = |directive: Directive| judges_accesses || directive.filters_calls();
    if known.is_some_and(decides) && !line.contains(['\n', '\r', '\0']) {
        return Ok(());
    }
    let meant = key.and_then(|key| similar_word(key, Directive::ALL.iter().map(|directive| directive.key())));
    let is_one_line = !line.contains(['\n', '\r', '\0']);
    if let Some(directive) = known.filter(|_| is_one_line) {
        let (key, name) = (directive.key(), quote_word(unit.name.as_str()));
        let edit = owner_command(unit.manager, &unit.manager.systemctl("edit --runtime"));
        let tap = root_command(&format!("harden-why tap --restart {}{name}", unit.manager.option()));
        bail!(
            "check cannot foresee what {key}= withholds from {name}. Add it until the next reboot ({edit} {name}), and \
             watch a start: {tap}"
        );
    }
    let advice = match meant {
        Some(meant) => format!("; did you mean {meant}=?"),
        None => ", such as 'SystemCallFilter=…'".to_owned(),
    };
    let line = escape_excerpt(line);
    bail!(UsageError(format!("invalid --with {line}: check judges settings that decide on system calls{advice}")))
}

/// Describes what systemd would ignore as a fault of the user's line.
fn describe_fault(ignored: &str) -> String {
    match ignored.split_once(", ignored") {
        Some((what, "")) => what.to_owned(),
        Some((what, meant)) => format!("{what} ({})", meant.trim_start_matches([':', ' '])),
        None => ignored.to_owned(),
    }
}

/// Returns the `--with` line at a line of the drop-in.
fn option_at(with: &[String], line: u32) -> Option<&str> {
    // Line 1 is the section header.
    Some((line as usize).checked_sub(2).and_then(|at| with.get(at))?.as_str())
}

fn is_option(path: &Path) -> bool {
    path == Path::new(LAST)
}

/// Whether an option has the line that a directive's denial comes from.
pub(super) fn is_added(cause: &policy::DirectiveCause) -> bool {
    cause.origin.as_ref().is_some_and(|origin| is_option(&origin.path))
}

/// Returns where a directive is: its file and line, or its `--with` option.
pub(super) fn describe_origin(cause: &policy::DirectiveCause, with: &[String]) -> String {
    match &cause.origin {
        Some(origin) if is_option(&origin.path) => {
            format!(
                "--with '{}'",
                option_at(with, origin.line).map_or_else(|| format!("{}=…", cause.directive.key()), escape_excerpt)
            )
        }
        Some(origin) => format!("{}= at {origin}", cause.directive.key()),
        None => format!("{}=, as systemd holds it", cause.directive.key()),
    }
}
