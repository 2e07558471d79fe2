//! Units that are rehearsed: what is logged of them meanwhile was let through on purpose.

use crate::audit::Action;
use crate::incidents::{IncidentEvent, Moment, Sighting, SightingSource};
use crate::units::Unit;
use std::collections::BTreeMap;

/// How long after the end of a rehearsal a record of its time can come, in milliseconds.
const LATE: i64 = 2_000;

/// The units, each with the time of its rehearsal in milliseconds since the epoch.
#[derive(Debug, Default)]
pub(super) struct Rehearsals(BTreeMap<Unit, Span>);

#[derive(Debug)]
struct Span {
    from: i64,
    until: Option<i64>,
}

impl Rehearsals {
    /// A unit is rehearsed from a moment on.
    pub(super) fn begin(&mut self, unit: Unit, at: i64) {
        self.0.retain(|_, span| span.until.is_none_or(|until| until + LATE > at));
        self.0.insert(unit, Span { from: at, until: None });
    }

    /// It is not rehearsed any more.
    pub(super) fn end(&mut self, unit: &Unit, at: i64) {
        if let Some(span) = self.0.get_mut(unit) {
            span.until.get_or_insert(at);
        }
    }

    /// Sets the source of a sighting. Gives whether it will be the same for others like it, as far as can be told.
    pub(super) fn mark(&mut self, sighting: &mut Sighting) -> bool {
        let Some(unit) = &sighting.key.unit else { return true };
        let (Some(span), Moment::At(at)) = (self.0.get(unit), &sighting.at) else { return true };
        if span.until.is_some_and(|until| *at > until + LATE) {
            self.0.remove(unit);
            return true;
        }
        let within = *at >= span.from && span.until.is_none_or(|until| *at <= until);
        let lasts = within && span.until.is_none();
        let logged = matches!(&sighting.key.event, IncidentEvent::Denial(denial) if denial.action == Action::Log);
        if within && logged {
            sighting.key.source = SightingSource::Rehearsal;
        }
        lasts
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

    fn seen(rehearsals: &mut Rehearsals, name: &str, action: Action, at: i64) -> (SightingSource, bool) {
        let call = Call::named(Abi::native().arch(), "socket");
        let event = IncidentEvent::Denial(Denial { call, action });
        let key = IncidentKey { unit: Some(unit(name)), event, exe: Vec::new(), source: SightingSource::Audit };
        let mut sighting = Sighting { key, rung: None, at: Moment::At(at), sample: Sample::default() };
        let lasts = rehearsals.mark(&mut sighting);
        (sighting.key.source, lasts)
    }

    #[test]
    fn what_is_logged_of_a_unit_meanwhile_is_its_rehearsals() {
        let mut all = Rehearsals::default();
        all.begin(unit("a.service"), 1_000);
        assert_eq!(seen(&mut all, "a.service", Action::Log, 1_000), (SightingSource::Rehearsal, true));
        assert_eq!(seen(&mut all, "a.service", Action::Log, 999), (SightingSource::Audit, false));
        assert_eq!(seen(&mut all, "b.service", Action::Log, 1_000), (SightingSource::Audit, true));
        assert_eq!(seen(&mut all, "a.service", Action::KillThread, 1_000), (SightingSource::Audit, true));
    }

    #[test]
    fn records_of_its_time_can_come_late() {
        let mut all = Rehearsals::default();
        all.begin(unit("a.service"), 1_000);
        all.end(&unit("a.service"), 2_000);
        assert_eq!(seen(&mut all, "a.service", Action::Log, 2_001), (SightingSource::Audit, false));
        assert_eq!(seen(&mut all, "a.service", Action::Log, 2_000), (SightingSource::Rehearsal, false));
        assert_eq!(seen(&mut all, "a.service", Action::Log, 2_001 + LATE), (SightingSource::Audit, true));
        assert_eq!(seen(&mut all, "a.service", Action::Log, 2_000), (SightingSource::Audit, true), "it is forgotten");
        all.begin(unit("a.service"), 10_000);
        all.end(&unit("a.service"), 11_000);
        all.begin(unit("b.service"), 20_000);
        assert_eq!(all.0.len(), 1);
    }
}
