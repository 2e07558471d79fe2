//! A unit's settings, as the client asks for them and speaks of them.

pub(super) use crate::host::situation::{
    DROP_IN, Known, REHEARSAL, as_it_is, from_files, home_of, live, not_understood,
};

use crate::audit::text::join;
use crate::diagnosis::Situation;

/// What a unit's settings keep from being seen: calls refused with an error leave no record.
pub(super) fn silence(situation: &Situation) -> Option<String> {
    let names = join(situation.policy.refusing().into_iter().map(|directive| format!("{}=", directive.key())));
    (!names.is_empty()).then(|| {
        format!(
            "the unit's {names} can refuse calls with an error, and of those systemd lets the kernel write no record: \
             they are not seen here"
        )
    })
}
