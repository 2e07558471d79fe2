//! The answer for one unit: its incidents with their causes, and the remedies.

use super::finding::Finding;
use super::remedy::{Remedy, RemedyKind};
use super::search;
use super::situation::Situation;
use crate::incidents::Incident;
use crate::syscalls::Groups;
use crate::units::{Confidence, Rung};

/// The answer for one unit.
#[derive(Debug)]
pub struct Diagnosis {
    /// Each incident with its cause, in the order given.
    pub findings: Vec<Finding>,
    /// Drop-ins that let every denied call pass, least privilege first. Empty if none could be proven.
    pub remedies: Vec<Remedy>,
    /// Denied calls that no setting of the unit can let pass; the remedies solve the others.
    pub unsolvable: Vec<Box<str>>,
}

impl Diagnosis {
    /// Returns the index in [`remedies`](Self::remedies) of the default remedy: the predicting remedy if there is one,
    /// else the narrowest remedy.
    ///
    /// The default opens no call of a [sensitive group](super::privileged_calls::GROUPS) that was not denied, unless a
    /// relaxed directive opens it. If the unit is a [guess](Self::is_guessed), there is no default: a person has to
    /// look first.
    #[must_use]
    pub fn default_remedy(&self) -> Option<usize> {
        if self.is_guessed() {
            return None;
        }
        let predicting = self.remedies.iter().position(|remedy| remedy.kind == RemedyKind::Predicted);
        predicting.or_else(|| self.remedies.iter().position(|remedy| remedy.kind != RemedyKind::FailWithError))
    }

    /// Whether the unit of every denial is only a guess.
    #[must_use]
    pub fn is_guessed(&self) -> bool {
        let is_guess = |rung: Rung| rung.confidence() == Confidence::Guess;
        !self.findings.is_empty() && self.findings.iter().all(|finding| finding.incident.rung.is_some_and(is_guess))
    }
}

/// Explains a unit's incidents, and looks for remedies that solve all of them together.
#[must_use]
pub fn diagnose(incidents: Vec<Incident>, situation: Option<&Situation>, groups: &Groups) -> Diagnosis {
    let findings: Vec<Finding> =
        incidents.into_iter().map(|incident| Finding::new(incident, situation, groups)).collect();
    let remedies = situation.map_or_else(Vec::new, |situation| search::find_remedies(&findings, situation, groups));
    let unsolvable = search::find_unsolvable(&findings);
    Diagnosis { findings, remedies, unsolvable }
}

/// Explains one incident. Also returns the first remedy that [`diagnose`] would return for it, without a search for the
/// others.
#[must_use]
pub fn diagnose_one(incident: Incident, situation: &Situation, groups: &Groups) -> (Finding, Option<Remedy>) {
    let finding = Finding::new(incident, Some(situation), groups);
    let remedy = search::find_first_remedy(std::slice::from_ref(&finding), situation, groups);
    (finding, remedy)
}
