//! An incident for a store.

use harden_why::audit::Action;
use harden_why::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
use harden_why::syscalls::{Abi, Call};
use harden_why::units::{Manager, Rung, Unit};
use std::time::SystemTime;

/// `uname` of `x.service` was killed for a call just now.
pub(crate) fn denied(manager: Manager, call: &str) -> Incident {
    let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    Incident {
        key: IncidentKey {
            unit: Some(Unit { manager, name: "x.service".parse().unwrap() }),
            event: IncidentEvent::Denial(Denial {
                call: Call::named(Abi::native().arch(), call),
                action: Action::KillProcess,
            }),
            exe: b"/bin/uname".to_vec(),
            source: SightingSource::Audit,
        },
        rung: Some(Rung::OwnCgroup),
        count: 1,
        first: Moment::At(now),
        last: Moment::At(now),
        sample: Sample::default(),
    }
}
