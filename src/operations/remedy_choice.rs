//! Decides what `apply` does with a unit: which remedy it writes, or that there is nothing to change.

use super::confirm::denied_calls;
use super::drop_in;
use crate::diagnosis::{Diagnosis, Finding, Remedy, Reservation, Situation, diagnose};
use crate::incidents::{Incident, Moment};
use crate::policy::Directive;
use crate::syscalls::Groups;
use crate::units::UnitName;
use anyhow::bail;
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

/// Which remedy to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemedyChoice {
    /// The default.
    Default,
    /// The one with this number, from 1.
    Number(usize),
    /// The narrowest with this reservation.
    Reserved(Reservation),
}

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
    latest: BTreeSet<String>,
    /// Whether the latest change was for failed accesses, too.
    latest_has_accesses: bool,
    /// The number of the remedy that was chosen then.
    number: Option<usize>,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum ApplyDecision {
    /// Write a remedy.
    Write(Box<ChosenRemedy>),
    /// The settings hold already, or no denial is newer than they are.
    AlreadySo(Diagnosis),
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

/// Chooses the remedy with this number, or the default remedy. `present` is the content of the drop-in.
///
/// If nothing is denied now, a number means a remedy for what was denied before the latest change of the drop-in: it
/// replaces the one that was chosen then.
///
/// # Errors
/// There is no remedy, or the number is out of range.
pub(crate) fn choose(
    incidents: Vec<Incident>,
    situation: Situation,
    present: Option<&[u8]>,
    choice: RemedyChoice,
    name: &UnitName,
    groups: &Groups,
) -> anyhow::Result<ApplyDecision> {
    let number = if let RemedyChoice::Number(number) = choice { Some(number) } else { None };
    let present = present.map(RemedyFile::parse);
    let lines = present.as_ref().map_or_else(Vec::new, |file| file.lines.clone());
    let earlier = present.filter(|_| number.is_some());
    let diagnosis = diagnose(incidents.clone(), Some(&situation), groups);
    // The numbers are others now: a command that is repeated must not choose again.
    if earlier.as_ref().is_some_and(|file| file.number == number) && !has_newer_denial(&diagnosis, &situation) {
        return Ok(ApplyDecision::AlreadySo(diagnosis));
    }
    if let Some(file) = earlier.filter(|_| diagnosis.is_settled()) {
        if file.number == number {
            return Ok(ApplyDecision::AlreadySo(diagnosis));
        }
        let before = situation.before_remedy(&file.before, groups);
        let is_latest = |incident: &Incident| {
            let call = incident.denial().and_then(|denial| denial.call.name());
            call.is_some_and(|call| file.latest.contains(call))
                || (file.latest_has_accesses && incident.access().is_some())
        };
        let earlier = diagnose(incidents.into_iter().filter(is_latest).collect(), Some(&before), groups);
        if diagnosis.remedies.is_empty() && !earlier.remedies.is_empty() {
            let (number, remedy) = choose_remedy(&earlier, choice, name)?;
            let remedy = remedy.clone();
            let chosen = ChosenRemedy { remedy, number, diagnosis: earlier, situation: before, before: file.before };
            return Ok(ApplyDecision::Write(Box::new(chosen)));
        }
    }
    if diagnosis.is_settled() && (diagnosis.remedies.is_empty() || choice == RemedyChoice::Default) {
        return Ok(ApplyDecision::AlreadySo(diagnosis));
    }
    let (number, remedy) = choose_remedy(&diagnosis, choice, name)?;
    let remedy = remedy.clone();
    Ok(ApplyDecision::Write(Box::new(ChosenRemedy { remedy, number, diagnosis, situation, before: lines })))
}

/// Whether the unit's settings denied a call after the drop-in was written, as far as known.
fn has_newer_denial(diagnosis: &Diagnosis, situation: &Situation) -> bool {
    let path = situation.remedy_path();
    let changes = situation.history.as_ref().map_or(&[][..], |history| &history.changes);
    let Some(written) = changes.iter().find(|change| change.path == path).map(|change| change.at) else { return true };
    let is_newer = |incident: &Incident| !matches!(incident.last, Moment::At(last) if last <= written);
    diagnosis.findings.iter().any(|finding| finding.cause.is_by_unit() && is_newer(&finding.incident))
}

/// Returns a remedy of the diagnosis, with its number.
fn choose_remedy<'a>(
    diagnosis: &'a Diagnosis,
    choice: RemedyChoice,
    name: &UnitName,
) -> anyhow::Result<(usize, &'a Remedy)> {
    let count = diagnosis.remedies.len();
    let argument = name.to_argument();
    let index = match choice {
        RemedyChoice::Number(number) => number.checked_sub(1),
        RemedyChoice::Default => diagnosis.default_remedy(),
        RemedyChoice::Reserved(why) => diagnosis.remedies.iter().position(|remedy| remedy.reservation == Some(why)),
    };
    match index.and_then(|index| Some((index + 1, diagnosis.remedies.get(index)?))) {
        Some(remedy) => Ok(remedy),
        None if choice == RemedyChoice::Default && diagnosis.is_guessed() => bail!(
            "the unit {name} is a guess, so there is no default remedy: read 'harden-why {argument}', then add --remedy \
            N"
        ),
        None if count == 0 => {
            bail!("there is no remedy to apply for the denials of {name}; 'harden-why {argument}' shows why")
        }
        None if choice == RemedyChoice::Default => {
            let reservation = diagnosis.remedies.first().and_then(|remedy| remedy.reservation);
            let why = reservation.map_or("no remedy can be the default", describe_missing_default);
            bail!("{why}: read 'harden-why {argument}', then choose one with --remedy N")
        }
        None => {
            bail!(
                "the remedies for {name} are numbered 1 to {count}; 'harden-why --all-remedies {argument}' shows them"
            )
        }
    }
}

/// Returns why no remedy is applied without `--remedy`.
fn describe_missing_default(reservation: Reservation) -> &'static str {
    match reservation {
        Reservation::BeforeExec => "only systemd itself made the denied calls, and mostly succeeds without them",
        Reservation::HasFallback => "most callers make another call instead, and only one that does not needs a remedy",
        Reservation::UnknownArgument => "no remedy is proven, since no record holds the deciding argument",
        Reservation::OtherArchitecture => {
            "no program of the unit that was read is of the architecture of the denied call"
        }
        Reservation::PossibleIntrusion => "the denied process may be an intruder, so there is no default remedy",
        Reservation::WiderThanDenied | Reservation::KeepsDenying => {
            "each remedy allows more than the denied calls, or keeps denying them"
        }
    }
}

#[cfg(test)]
mod tests;
