//! How many denials are expected after the default remedy, and what is not known about the unit's programs.

use super::foreseen_calls::DenialForecast;
use super::remedy::Reservation;
use super::situation::Situation;
use super::unit_diagnosis::Diagnosis;
use crate::incidents::SightingSource;
use crate::programs::{Program, ProgramImage};
use crate::syscalls::Groups;

impl Diagnosis {
    /// Returns how many further denials are expected after the default remedy, one a restart. `None` if there is no
    /// default, a rehearsal saw the denials, or one of them may show an intrusion.
    #[must_use]
    pub fn expected_denials(&self, situation: &Situation, groups: &Groups) -> Option<f64> {
        let remedy = self.remedies.get(self.default_remedy()?)?;
        let is_settled_otherwise = self.findings.iter().any(|finding| {
            finding.incident.key.source == SightingSource::Rehearsal
                || finding.reservation == Some(Reservation::PossibleIntrusion)
        });
        let policy = situation.policy.with_dropin(&remedy.drop_in, remedy.content.as_bytes(), groups);
        let forecast = || DenialForecast::new(&situation.programs, &policy, groups);
        (!is_settled_otherwise).then(|| forecast().expected_denials())
    }
}

impl Situation {
    /// Returns the programs that are no evidence: their files were not read, or have no imports.
    pub fn programs_without_evidence(&self) -> impl Iterator<Item = &Program> {
        self.programs.iter().filter(|program| matches!(program.image, ProgramImage::Static | ProgramImage::Unread(_)))
    }
}
