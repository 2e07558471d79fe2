//! The units under rehearsal. During a rehearsal the kernel logs and allows the calls that it would deny otherwise.

use crate::audit::Action;
use crate::incidents::{IncidentEvent, Moment, Sighting, SightingSource};
use crate::units::Unit;
use std::collections::BTreeMap;

/// How late a record can arrive after the end of the rehearsal that caused it, in milliseconds.
const MAX_DELAY_MS: i64 = 2_000;

/// The units, each with the time of its rehearsal.
#[derive(Debug, Default)]
pub(super) struct RehearsedUnits(BTreeMap<Unit, Span>);

/// A time span, in milliseconds since the epoch; without an end while the rehearsal runs.
#[derive(Debug)]
struct Span {
    from: i64,
    until: Option<i64>,
}

impl RehearsedUnits {
    /// Notes that the rehearsal of a unit begins at a moment, in milliseconds since the epoch.
    pub(super) fn begin(&mut self, unit: Unit, at: i64) {
        self.0.retain(|_, span| span.until.is_none_or(|until| until + MAX_DELAY_MS > at));
        self.0.insert(unit, Span { from: at, until: None });
    }

    /// Notes that the rehearsal of a unit ends.
    pub(super) fn end(&mut self, unit: &Unit, at: i64) {
        if let Some(span) = self.0.get_mut(unit) {
            span.until.get_or_insert(at);
        }
    }

    /// Sets the source of a sighting. Returns whether its later repetitions have the same source.
    pub(super) fn set_source(&mut self, sighting: &mut Sighting) -> bool {
        let Some(unit) = &sighting.key.unit else { return true };
        let (Some(span), Moment::At(at)) = (self.0.get(unit), &sighting.at) else { return true };
        if span.until.is_some_and(|until| *at > until + MAX_DELAY_MS) {
            self.0.remove(unit);
            return true;
        }
        let within = *at >= span.from && span.until.is_none_or(|until| *at <= until);
        let is_lasting = within && span.until.is_none();
        let logged = matches!(&sighting.key.event, IncidentEvent::Denial(denial) if denial.action == Action::Log);
        if within && logged {
            sighting.key.source = SightingSource::Rehearsal;
        }
        is_lasting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::{Denial, IncidentKey, Sample};
    use crate::syscalls::{Abi, Call};
    use crate::units::Manager;

    fn unit(name: &str) -> Unit {
        Unit { manager: Manager::System, name: name.parse().unwrap() }
    }

    fn seen(rehearsals: &mut RehearsedUnits, name: &str, action: Action, at: i64) -> (SightingSource, bool) {
        let call = Call::named(Abi::native().arch(), "socket");
        let event = IncidentEvent::Denial(Denial { call, action });
        let key = IncidentKey { unit: Some(unit(name)), event, exe: Vec::new(), source: SightingSource::Audit };
        let mut sighting = Sighting { key, rung: None, at: Moment::At(at), sample: Sample::default() };
        let is_lasting = rehearsals.set_source(&mut sighting);
        (sighting.key.source, is_lasting)
    }

    #[test]
    fn record_logged_during_rehearsal_has_rehearsal_source() {
        let mut all = RehearsedUnits::default();
        all.begin(unit("a.service"), 1_000);
        assert_eq!(seen(&mut all, "a.service", Action::Log, 1_000), (SightingSource::Rehearsal, true));
        assert_eq!(seen(&mut all, "a.service", Action::Log, 999), (SightingSource::Audit, false));
        assert_eq!(seen(&mut all, "b.service", Action::Log, 1_000), (SightingSource::Audit, true));
        assert_eq!(seen(&mut all, "a.service", Action::KillThread, 1_000), (SightingSource::Audit, true));
    }

    #[test]
    fn late_record_of_rehearsal_has_rehearsal_source() {
        let mut all = RehearsedUnits::default();
        all.begin(unit("a.service"), 1_000);
        all.end(&unit("a.service"), 2_000);
        assert_eq!(seen(&mut all, "a.service", Action::Log, 2_001), (SightingSource::Audit, false));
        assert_eq!(seen(&mut all, "a.service", Action::Log, 2_000), (SightingSource::Rehearsal, false));
        assert_eq!(seen(&mut all, "a.service", Action::Log, 2_001 + MAX_DELAY_MS), (SightingSource::Audit, true));
        assert_eq!(seen(&mut all, "a.service", Action::Log, 2_000), (SightingSource::Audit, true), "it is forgotten");
        all.begin(unit("a.service"), 10_000);
        all.end(&unit("a.service"), 11_000);
        all.begin(unit("b.service"), 20_000);
        assert_eq!(all.0.len(), 1);
    }
}
