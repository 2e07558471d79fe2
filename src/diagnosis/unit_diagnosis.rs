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
    /// What would let every denied call pass, least privilege first. Empty where nothing could be proven.
    pub remedies: Vec<Remedy>,
    /// Denied calls that no setting of the unit can let pass; the remedies solve the others.
    pub unsolvable: Vec<Box<str>>,
}

impl Diagnosis {
    /// The remedy to apply where nobody chose one, by its place among [`remedies`](Self::remedies): the one
    /// that spares the unit its next denials, where there is one, and else the narrowest. It opens no
    /// [sensitive](super::privileged_calls::GROUPS) call that was not denied, but for what a loosened directive opens. None is where
    /// the unit is a [guess](Self::is_guessed): a person has to look first.
    #[must_use]
    pub fn default_remedy(&self) -> Option<usize> {
        if self.is_guessed() {
            return None;
        }
        let foreseeing = self.remedies.iter().position(|remedy| remedy.kind == RemedyKind::Predicted);
        foreseeing.or_else(|| self.remedies.iter().position(|remedy| remedy.kind != RemedyKind::FailWithError))
    }

    /// Whether it is no more than a guess of every denial that it was the unit's.
    #[must_use]
    pub fn is_guessed(&self) -> bool {
        let is_guess = |rung: Rung| rung.confidence() == Confidence::Guess;
        !self.findings.is_empty() && self.findings.iter().all(|finding| finding.incident.rung.is_some_and(is_guess))
    }
}

/// Explains a unit's incidents and looks for remedies that solve all of them together.
#[must_use]
pub fn diagnose(incidents: Vec<Incident>, situation: Option<&Situation>, groups: &Groups) -> Diagnosis {
    let findings: Vec<Finding> =
        incidents.into_iter().map(|incident| Finding::new(incident, situation, groups)).collect();
    let remedies = situation.map_or_else(Vec::new, |situation| search::find(&findings, situation, groups));
    let unsolvable = search::unsolvable(&findings);
    Diagnosis { findings, remedies, unsolvable }
}

/// Explains one incident, with the first of the remedies that [`diagnose`] finds for it alone: quicker where the others
/// are not asked for.
#[must_use]
pub fn diagnose_one(incident: Incident, situation: &Situation, groups: &Groups) -> (Finding, Option<Remedy>) {
    let finding = Finding::new(incident, Some(situation), groups);
    let remedy = search::first(std::slice::from_ref(&finding), situation, groups);
    (finding, remedy)
}
