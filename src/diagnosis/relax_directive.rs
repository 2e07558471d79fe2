//! Lines that relax directives other than `SystemCallFilter=`.

use crate::policy;
use crate::policy::{Directive, Policy};
use crate::syscalls::Abi;
use std::collections::BTreeSet;

/// Families that programs use, the most likely missing family first: libc itself lists interfaces by netlink and logs
/// by local sockets.
const FAMILIES: [&str; 5] = ["AF_NETLINK", "AF_UNIX", "AF_INET", "AF_INET6", "AF_PACKET"];

/// Lines that relax the directives that denied some calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RelaxingLines {
    /// The narrowest lines. If a directive looks at arguments, nothing proves that these lines are enough.
    pub(crate) narrow: BTreeSet<String>,
    /// Lines that turn off each directive as a whole.
    pub(crate) whole: BTreeSet<String>,
}

impl RelaxingLines {
    /// Adds the line that relaxes one directive for a call of an ABI. Returns whether such a line exists.
    #[must_use]
    pub(crate) fn add(&mut self, cause: &policy::DirectiveCause, abi: Abi, policy: &Policy) -> bool {
        let (narrow, whole) = match cause.directive {
            Directive::SystemCallFilter => return true,
            Directive::SystemCallArchitectures => {
                let Some(name) = abi.systemd_name() else { return false };
                let line = format!("SystemCallArchitectures={name}");
                (line.clone(), line)
            }
            // The service would lose too much for one call.
            Directive::DynamicUser => return false,
            Directive::RestrictAddressFamilies => (allow_family(policy), "RestrictAddressFamilies=".to_owned()),
            directive if directive.is_switch() || directive == Directive::RestrictNamespaces => {
                let line = format!("{}=no", directive.key());
                (line.clone(), line)
            }
            _ => return false,
        };
        self.narrow.insert(narrow);
        self.whole.insert(whole);
        true
    }
}

/// Returns the line that allows one more family: the most likely family that does not pass yet.
fn allow_family(policy: &Policy) -> String {
    let passes = |family: &str| {
        policy.families().is_none_or(|families| families.allow_list == families.listed.contains_key(family))
    };
    let forbidden = policy.families().filter(|families| !families.allow_list);
    let known = FAMILIES.into_iter().find(|family| !passes(family));
    let other = forbidden.and_then(|families| families.listed.keys().next().copied());
    match known.or(other) {
        Some(family) => format!("RestrictAddressFamilies={family}"),
        None => "RestrictAddressFamilies=".to_owned(),
    }
}
