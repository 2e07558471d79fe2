//! How many denials are expected after the default remedy, and what is not known about the unit's programs.

use super::foreseen_calls::DenialForecast;
use super::remedy::{Remedy, RemedyKind, Reservation};
use super::situation::Situation;
use super::unit_diagnosis::Diagnosis;
use crate::incidents::SightingSource;
use crate::policy::Directive;
use crate::programs::{Program, ProgramImage};
use crate::syscalls::Groups;

impl Diagnosis {
    /// Returns how many further denials are expected after the default remedy, one a restart. `None` if there is no
    /// default, a rehearsal saw the denials, or one of them may show an intrusion.
    #[must_use]
    pub fn expected_denials(&self, situation: &Situation, groups: &Groups) -> Option<f64> {
        let remedy = self.remedies.get(self.default_remedy()?)?;
        let policy = situation.policy.with_dropin(&remedy.drop_in, remedy.content.as_bytes(), groups);
        let forecast = || DenialForecast::new(&situation.programs, &policy, groups);
        self.can_be_rehearsed().then(|| forecast().expected_denials())
    }

    /// Whether calls were denied although an earlier remedy opened others: more of them may follow, one a restart.
    #[must_use]
    pub fn follows_remedy(&self, situation: &Situation) -> bool {
        let opens_calls = |remedy: &Remedy| remedy.kind != RemedyKind::RelaxDirectives;
        let is_filter = |key: &str| Directive::from_key(key).is_some_and(Directive::filters_calls);
        let mut lines = situation.policy.settings.assignments();
        self.can_be_rehearsed()
            && self.default_remedy().and_then(|index| self.remedies.get(index)).is_some_and(opens_calls)
            && lines.any(|line| situation.is_remedy(&line.origin.path) && is_filter(&line.key))
    }

    /// Whether a rehearsal would show more: none saw the denials, and none of them may show an intrusion.
    fn can_be_rehearsed(&self) -> bool {
        !self.findings.iter().any(|finding| {
            finding.incident.key.source == SightingSource::Rehearsal
                || finding.reservation == Some(Reservation::PossibleIntrusion)
        })
    }
}

impl Situation {
    /// Returns the programs that are no evidence: their files were not read, or have no imports.
    pub fn programs_without_evidence(&self) -> impl Iterator<Item = &Program> {
        self.programs.iter().filter(|program| matches!(program.image, ProgramImage::Static | ProgramImage::Unread(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::unit_diagnosis::diagnose;
    use super::*;
    use crate::audit::Action;
    use crate::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample};
    use crate::policy::{Policy, Settings, UnitFile};
    use crate::syscalls::{Abi, Arch, Call};
    use std::path::Path;

    /// Whether a denial of `uname` follows a remedy, in a unit with this drop-in of harden-why.
    fn follows(drop_in: Option<&str>, source: SightingSource) -> bool {
        const PATH: &str = "/etc/systemd/system/x.service.d/zz-harden-why.conf";
        let groups = Groups::embedded().with_native(Abi::X86_64);
        let file =
            |path: &str, lines: &str| UnitFile::parse(Path::new(path), format!("[Service]\n{lines}\n").as_bytes());
        let fragment = file("/etc/systemd/system/x.service", "ExecStart=/bin/x\nSystemCallFilter=~uname getsid");
        let drop_ins = drop_in.map(|lines| file(PATH, lines)).into_iter().collect();
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(fragment), drop_ins);
        let policy = Policy::new(settings, &groups);
        let situation = Situation { policy, drop_in: PATH.into(), history: None, programs: Vec::new() };
        let action = if source == SightingSource::Rehearsal { Action::Log } else { Action::KillProcess };
        let event = IncidentEvent::Denial(Denial { call: Call::named(Arch::X86_64, "uname"), action });
        let key = IncidentKey { unit: None, event, exe: b"/bin/x".to_vec(), source };
        let (first, last) = (Moment::Unknown, Moment::Unknown);
        let incident = Incident { key, rung: None, count: 1, first, last, sample: Sample::default() };
        let diagnosis = diagnose(vec![incident], Some(&situation), &groups);
        assert!(diagnosis.default_remedy().is_some(), "{diagnosis:?}");
        diagnosis.follows_remedy(&situation)
    }

    #[test]
    fn denial_after_a_remedy_for_calls_may_be_followed_by_more() {
        assert!(!follows(None, SightingSource::Audit));
        assert!(follows(Some("SystemCallFilter=getsid"), SightingSource::Audit));
        assert!(!follows(Some("ReadWritePaths=/srv"), SightingSource::Audit), "a remedy for a path");
        assert!(!follows(Some("SystemCallFilter=getsid"), SightingSource::Rehearsal), "it saw all of them");
    }
}
