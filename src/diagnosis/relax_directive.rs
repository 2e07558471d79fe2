//! The lines that lift directives other than `SystemCallFilter=`.

use crate::policy;
use crate::policy::{Directive, Policy};
use crate::syscalls::Abi;
use std::collections::BTreeSet;

/// Families that programs ask for, the likeliest to have been forgotten first: libc itself lists
/// interfaces by netlink and logs by local sockets.
const FAMILIES: [&str; 5] = ["AF_NETLINK", "AF_UNIX", "AF_INET", "AF_INET6", "AF_PACKET"];

/// Lines that lift what denied some calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lift {
    /// As narrowly as the directives go. Where arguments decide, whether it is enough cannot be proven.
    pub(crate) narrow: BTreeSet<String>,
    /// Each directive as a whole.
    pub(crate) whole: BTreeSet<String>,
}

impl Lift {
    /// Adds what lifts one directive for a call of an ABI; false where no line can.
    pub(crate) fn add(&mut self, cause: &policy::DirectiveCause, abi: Abi, policy: &Policy) -> bool {
        let (narrow, whole) = match cause.directive {
            Directive::SystemCallFilter => return true,
            Directive::SystemCallArchitectures => {
                let Some(name) = abi.systemd_name() else { return false };
                let line = format!("SystemCallArchitectures={name}");
                (line.clone(), line)
            }
            // What the service loses with it is no remedy for one call.
            Directive::DynamicUser => return false,
            Directive::RestrictAddressFamilies => (family(policy), "RestrictAddressFamilies=".to_owned()),
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

/// Lets one more family pass: the likeliest that does not yet.
fn family(policy: &Policy) -> String {
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
