//! Describes an access that failed, for answers and alerts.

use super::access::{Access, AccessDenial, AccessPath, CapabilityLack, DeviceAccess};
use crate::audit::text::escape;
use crate::audit::text::join;
use crate::policy::{Effect, Namespaces, family_name};

/// `SCHED_DEADLINE` (`linux/sched.h`).
const SCHED_DEADLINE: i32 = 6;

/// The most characters of a path in a sentence. JSON has the whole path.
const MOST_OF_PATH: usize = 100;

/// Returns what could not be reached, in a few words: a path, a capability, a family.
pub(crate) fn name_access(access: &Access) -> String {
    match access {
        Access::ReadOnlyPath(path)
        | Access::HiddenPath(path)
        | Access::NoExecPath(path)
        | Access::SetIdProgram(path)
        | Access::Device { path, .. } => shorten_path(path),
        Access::Capability { capability, .. } => capability.to_string(),
        Access::UserNamespace => "the host's user namespace".to_owned(),
        Access::ExecutableMemory => "executable memory".to_owned(),
        Access::Address(address) => address.to_string(),
        Access::AddressFamily(number) => family_name(*number).map_or_else(|| format!("family {number}"), str::to_owned),
        Access::Namespaces(0) => "namespaces of any type".to_owned(),
        Access::Namespaces(flags) => format!("{} namespaces", join(Namespaces::names(*flags).map(str::to_owned))),
        Access::SetIdMode => "files with set-ID bits".to_owned(),
        Access::Scheduling(policy) => name_scheduling(*policy),
        Access::Personality(domain) => format!("execution domain {domain:#x}"),
    }
}

/// Returns the name of a scheduling policy (`linux/sched.h`).
fn name_scheduling(policy: u32) -> String {
    let known = [(libc::SCHED_FIFO, "SCHED_FIFO"), (libc::SCHED_RR, "SCHED_RR"), (SCHED_DEADLINE, "SCHED_DEADLINE")];
    let known = known.into_iter().find(|(number, _)| u32::try_from(*number) == Ok(policy));
    known.map_or_else(|| format!("scheduling policy {policy:#x}"), |(_, name)| name.to_owned())
}

/// Returns what the sandbox withholds, in a sentence without its end.
pub(crate) fn describe_access(access: &Access) -> String {
    let name = name_access(access);
    match access {
        Access::ReadOnlyPath(_) => format!("{name} is read-only for the unit"),
        Access::HiddenPath(_) => format!("{name} is hidden from the unit"),
        Access::NoExecPath(_) => format!("the unit may not execute {name}"),
        Access::SetIdProgram(_) => format!("{name} runs without its set-ID rights"),
        Access::Device { wanted, .. } => format!("the unit may not {} {name}", describe_device_access(*wanted)),
        Access::Capability { lack: CapabilityLack::NotInBoundingSet, .. } => format!("the unit can have no {name}"),
        Access::Capability { lack: CapabilityLack::NotEffective, .. } => format!("the process has no {name}"),
        Access::UserNamespace => "the unit has no rights in the host's user namespace".to_owned(),
        Access::ExecutableMemory => "the unit may not make memory executable".to_owned(),
        Access::Address(_) | Access::Scheduling(_) => format!("the unit may not use {name}"),
        Access::AddressFamily(_) => format!("the unit may not open sockets of {name}"),
        Access::Namespaces(_) => format!("the unit may not make or enter {name}"),
        Access::SetIdMode => format!("the unit may not make {name}"),
        Access::Personality(_) => format!("the unit may not change to {name}"),
    }
}

/// Returns what happened, in words that follow the call's name.
pub(super) fn describe_access_denial(AccessDenial { errno, access, .. }: &AccessDenial) -> String {
    let what = describe_access(access);
    if *errno == 0 { what } else { format!("failed with {}: {what}", Effect::Errno(*errno)) }
}

fn describe_device_access(wanted: DeviceAccess) -> &'static str {
    match (wanted.read, wanted.write, wanted.make) {
        (_, _, true) => "make",
        (true, true, _) => "read and write",
        (true, false, _) => "read",
        (false, true, _) => "write to",
        (false, false, false) => "use",
    }
}

/// Escapes a path and keeps its end, which says more than its start.
fn shorten_path(path: &AccessPath) -> String {
    let shown = escape(path.as_bytes());
    match shown.chars().count().checked_sub(MOST_OF_PATH) {
        None | Some(0) => shown,
        Some(surplus) => std::iter::once('…').chain(shown.chars().skip(surplus + 1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sentence_names_what_is_withheld() {
        let path = |text: &str| AccessPath::new(text.as_bytes());
        assert_eq!(describe_access(&Access::ReadOnlyPath(path("/etc/x"))), "/etc/x is read-only for the unit");
        let long = describe_access(&Access::HiddenPath(path(&format!("/home/{}/end", "x".repeat(500)))));
        assert!(long.starts_with('…') && long.contains("/end is hidden"), "{long}");
        assert_eq!(describe_access(&Access::AddressFamily(16)), "the unit may not open sockets of AF_NETLINK");
        assert_eq!(name_access(&Access::AddressFamily(999)), "family 999");
        assert_eq!(name_access(&Access::Namespaces(0x1002_0000)), "mnt and user namespaces");
        assert_eq!(name_access(&Access::Scheduling(2)), "SCHED_RR");
        assert_eq!(name_access(&Access::Scheduling(0x4000_0001)), "scheduling policy 0x40000001");
    }

    proptest! {
        #[test]
        fn sentence_about_any_path_is_short_and_has_no_control_character(path: Vec<u8>) {
            let sentence = describe_access(&Access::NoExecPath(AccessPath::new(&path)));
            prop_assert!(sentence.chars().count() < 140 && !sentence.chars().any(char::is_control));
        }
    }
}
