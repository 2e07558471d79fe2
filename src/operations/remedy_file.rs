//! The drop-in of a remedy: its settings, and the comments from which a later `apply` reads what earlier ones did.

use super::confirm::denied_calls;
use super::drop_in;
use crate::diagnosis::{Diagnosis, Finding, Remedy, Situation};
use crate::policy::Directive;
use std::collections::BTreeSet;

/// The start of a comment that holds a line of the drop-in before its latest change.
const BEFORE: &str = "# Before: ";

/// The start of the comment on the latest change. The number of the remedy and the denied calls follow.
const LATEST: &str = "# Latest change: remedy ";

/// The words before the denied calls in the first comment, and the mark after them.
const DENIALS: &str = "for denials of ";
const REST: char = ';';

/// What a drop-in is for that answers failed accesses, and the same after denied calls.
const ACCESSES: &str = "for failed accesses";
const AND_ACCESSES: &str = "; and for failed accesses";

/// What the drop-in of a remedy contains: its lines, and what its comments say about earlier changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RemedyFile {
    /// The settings.
    pub(crate) lines: Vec<String>,
    /// The settings before the latest change.
    pub(crate) before: Vec<String>,
    /// The denied calls that it was written for.
    pub(crate) denied: BTreeSet<String>,
    /// Whether it was written for failed accesses, too.
    has_accesses: bool,
    /// The denied calls of its latest change.
    pub(super) latest: BTreeSet<String>,
    /// Whether the latest change was for failed accesses, too.
    pub(super) latest_has_accesses: bool,
    /// The number of the remedy that was chosen then.
    pub(super) number: Option<usize>,
}

/// A remedy to write.
#[derive(Debug)]
pub(crate) struct ChosenRemedy {
    pub(crate) remedy: Remedy,
    /// Its number, from 1.
    pub(crate) number: usize,
    pub(crate) diagnosis: Diagnosis,
    /// The settings without the lines that the remedy replaces.
    pub(crate) situation: Situation,
    /// The lines of the drop-in to which the remedy was added.
    pub(crate) before: Vec<String>,
}

impl RemedyFile {
    /// Reads a drop-in that harden-why wrote.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let is_setting = |line: &&str| line.split_once('=').is_some_and(|(key, _)| Directive::from_key(key).is_some());
        let before = text.lines().filter_map(|line| line.strip_prefix(BEFORE));
        let first = text.lines().next().and_then(|first| first.split_once(DENIALS));
        let denied = first.map_or_else(BTreeSet::new, |(_, calls)| parse_calls(calls));
        let latest = text.lines().find_map(|line| line.strip_prefix(LATEST)?.split_once(' '));
        let (number, latest) = latest.unzip();
        let has_accesses = |text: &str| text.contains(ACCESSES);
        let is_for_accesses = text.lines().next().is_some_and(has_accesses);
        let latest_has_accesses = latest.map_or(is_for_accesses, has_accesses);
        let latest = latest.and_then(|rest| rest.split_once(DENIALS)).map(|(_, calls)| parse_calls(calls));
        Self {
            has_accesses: is_for_accesses,
            latest_has_accesses,
            lines: text.lines().filter(is_setting).map(str::to_owned).collect(),
            before: before.filter(is_setting).map(str::to_owned).collect(),
            latest: latest.unwrap_or_else(|| denied.clone()),
            number: number.and_then(|number| number.parse().ok()),
            denied,
        }
    }

    /// Returns the text of the file after a change: for these denied calls, from these lines before.
    pub(crate) fn compose(&self, chosen: &ChosenRemedy, title: &str, today: &str, undo: &str) -> String {
        let latest: BTreeSet<String> =
            denied_calls(&chosen.diagnosis).into_iter().map(|(_, call)| call.into()).collect();
        let solved = chosen.remedy.solves.iter().map(ToString::to_string);
        let denied: BTreeSet<String> = self.denied.iter().cloned().chain(solved).collect();
        let words = chosen.remedy.lines.iter().filter_map(|line| line.strip_prefix("SystemCallFilter="));
        let has_more = words
            .filter(|value| !value.starts_with('~'))
            .flat_map(str::split_whitespace)
            .any(|word| !denied.contains(word));
        let rest = if has_more { format!("{REST} the rest was not denied") } else { String::new() };
        let is_access = |finding: &Finding| finding.cause.is_by_unit() && finding.incident.access().is_some();
        let latest_has_accesses = chosen.diagnosis.findings.iter().any(is_access);
        let has_accesses = self.has_accesses || latest_has_accesses;
        let why = format!("{}{rest}", describe_purpose(&denied, has_accesses));
        // The title is about this change alone: what an earlier one opened stays in the file.
        let title = if chosen.remedy.opens.is_empty() { String::new() } else { format!("{REST} {title}") };
        let latest = format!("{LATEST}{} {}{title}\n", chosen.number, describe_purpose(&latest, latest_has_accesses));
        let before = chosen.before.iter().map(|line| format!("{BEFORE}{line}\n"));
        let comments: String = [latest].into_iter().chain(before).collect();
        drop_in::compose(&format!("{comments}{}", chosen.remedy.content), today, &why, undo)
    }
}

fn parse_calls(text: &str) -> BTreeSet<String> {
    let is_name = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let words = text.split(REST).next().into_iter().flat_map(str::split_whitespace);
    words.filter(is_name).map(str::to_owned).collect()
}

/// Says what a drop-in was written for: these denied calls, and perhaps accesses.
fn describe_purpose(calls: &BTreeSet<String>, has_accesses: bool) -> String {
    if calls.is_empty() {
        return ACCESSES.to_owned();
    }
    let accesses = if has_accesses { AND_ACCESSES } else { "" };
    format!("{DENIALS}{}{accesses}", calls.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
}
