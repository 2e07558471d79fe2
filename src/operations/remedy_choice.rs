//! Decides what `apply` does with a unit: which remedy it writes, or that there is nothing to change.

use super::remedy_file::{ChosenRemedy, RemedyFile};
use crate::diagnosis::{Diagnosis, Remedy, Reservation, Situation, diagnose};
use crate::incidents::{Incident, Moment};
use crate::syscalls::Groups;
use crate::units::UnitName;
use anyhow::bail;

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

/// What to do.
#[derive(Debug)]
pub(crate) enum ApplyDecision {
    /// Write a remedy.
    Write(Box<ChosenRemedy>),
    /// The settings hold already, or no denial is newer than they are.
    AlreadySo(Diagnosis),
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
    let changed = present.filter(|_| number.is_some());
    let diagnosis = diagnose(incidents.clone(), Some(&situation), groups);
    // The numbers are others now: a command that is repeated must not choose again.
    if changed.as_ref().is_some_and(|file| file.number == number) && !has_newer_denial(&diagnosis, &situation) {
        return Ok(ApplyDecision::AlreadySo(diagnosis));
    }
    if let Some(file) = changed.filter(|_| diagnosis.is_settled()) {
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
        Reservation::LibraryProbe => "libraries look for the hidden file and do without it",
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
