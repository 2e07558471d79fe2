//! An incident to find in a store.

use harden_why::audit::Action;
use harden_why::incidents::{Denial, Event, Incident, Key, Moment, Sample, Source};
use harden_why::syscalls::{Abi, Call};
use harden_why::units::{Manager, Rung, Unit};

/// `uname` of `x.service` was killed for a call.
pub(crate) fn denied(manager: Manager, call: &str) -> Incident {
    Incident {
        key: Key {
            unit: Some(Unit { manager, name: "x.service".parse().unwrap() }),
            event: Event::Denial(Denial { call: Call::named(Abi::native().arch(), call), action: Action::KillProcess }),
            exe: b"/bin/uname".to_vec(),
            source: Source::Audit,
        },
        rung: Some(Rung::OwnCgroup),
        count: 1,
        first: Moment::At(1_795_456_064_000),
        last: Moment::At(1_795_456_064_000),
        sample: Sample::default(),
    }
}
