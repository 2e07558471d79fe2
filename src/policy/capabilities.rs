//! The capabilities that a unit's processes can have, merged as systemd merges `CapabilityBoundingSet=` and
//! `AmbientCapabilities=`.

use super::directive::Directive;
use std::fmt;
use std::str::FromStr;

/// The names of capabilities; the index is the number (`linux/capability.h`).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The capabilities that a directive takes from the bounding set after all lines are merged (`unit_patch_contexts()` of
/// systemd, which `systemctl show` reflects).
const WITHHELD: [(Directive, &[&str]); 4] = [
    (Directive::PrivateDevices, &["CAP_MKNOD", "CAP_SYS_RAWIO"]),
    (Directive::ProtectKernelModules, &["CAP_SYS_MODULE"]),
    (Directive::ProtectKernelLogs, &["CAP_SYSLOG"]),
    (Directive::ProtectClock, &["CAP_SYS_TIME", "CAP_WAKE_ALARM"]),
];

/// Returns the capabilities that a directive takes from a unit when it is on.
pub(crate) fn find_withheld(directive: Directive) -> &'static [&'static str] {
    WITHHELD.into_iter().find(|(other, _)| *other == directive).map_or(&[], |(_, names)| names)
}

/// A capability, by its number (`linux/capability.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Capability(u8);

/// The error for text that is no capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a capability that this version knows")]
pub struct UnknownCapability;

impl Capability {
    /// The capability with a number. The kernel may know some that this version does not.
    #[must_use]
    pub fn new(number: u8) -> Self {
        Self(number)
    }

    /// All capabilities that this version knows.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).map(Self).take(NAMES.len())
    }

    /// Returns the name, such as `CAP_CHOWN`; `None` if this version does not know the number.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.get(usize::from(self.0)).copied()
    }
}

/// Prints the name, or the number if this version does not know it.
impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Parses a name in upper case, or a number.
impl FromStr for Capability {
    type Err = UnknownCapability;

    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let by_name = NAMES.iter().position(|name| *name == text).and_then(|number| u8::try_from(number).ok());
        by_name.or_else(|| text.parse().ok()).map(Self).ok_or(UnknownCapability)
    }
}

/// A set of capabilities, one bit for each number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CapabilitySet(u64);

impl CapabilitySet {
    pub(super) const ALL: Self = Self(u64::MAX >> 1);
    pub(super) const NONE: Self = Self(0);

    /// Whether the set holds a capability by its number.
    #[must_use]
    pub(super) fn holds(self, Capability(number): Capability) -> bool {
        self.0.checked_shr(u32::from(number)).is_some_and(|bits| bits & 1 == 1)
    }

    /// The set in a D-Bus property.
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Whether the set holds a capability, such as `CAP_SETUID`.
    #[must_use]
    pub(crate) fn contains(self, name: &str) -> bool {
        parse_capability(name).is_some_and(|bit| self.0 & bit != 0)
    }

    /// The set with some capabilities added.
    #[must_use]
    pub(crate) fn with(self, names: &[&str]) -> Self {
        names.iter().filter_map(|name| parse_capability(name)).fold(self, |set, bit| Self(set.0 | bit))
    }

    /// The names of its capabilities.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().filter(move |name| self.contains(name))
    }

    /// Merges a line as `config_parse_capability_set()` does: a line without capabilities replaces the set, and so does
    /// a line that meets the initial set.
    pub(super) fn merge(&mut self, initial: Self, value: &str) {
        let (value, inverted) = value.strip_prefix('~').map_or((value, false), |rest| (rest, true));
        let sum = value.split_whitespace().filter_map(parse_capability).fold(0, |sum, bit| sum | bit);
        *self = match (sum == 0 || *self == initial, inverted) {
            (true, false) => Self(sum),
            (true, true) => Self(Self::ALL.0 & !sum),
            (false, false) => Self(self.0 | sum),
            (false, true) => Self(self.0 & !sum),
        };
    }
}

/// Whether a line names no capability. Such a line replaces any set.
pub(super) fn has_no_capability(value: &str) -> bool {
    let words = value.strip_prefix('~').unwrap_or(value);
    words.split_whitespace().all(|word| parse_capability(word).is_none())
}

/// Returns the bit of a capability's name or number. Case does not matter.
fn parse_capability(name: &str) -> Option<u64> {
    let by_name = || NAMES.iter().position(|other| other.eq_ignore_ascii_case(name));
    let by_number = || name.parse::<usize>().ok().filter(|number| *number < NAMES.len());
    by_name().or_else(by_number).map(|number| 1 << number)
}

/// The settings of a unit about capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CapabilitySettings {
    /// `CapabilityBoundingSet=`: no process of the unit gains another capability.
    pub(super) bounding: CapabilitySet,
    /// `AmbientCapabilities=`: what the processes of a unit with `User=` start with.
    pub(super) ambient: CapabilitySet,
}

impl Default for CapabilitySettings {
    fn default() -> Self {
        Self { bounding: CapabilitySet::ALL, ambient: CapabilitySet::NONE }
    }
}

impl CapabilitySettings {
    /// Takes a line of `CapabilityBoundingSet=`.
    pub(super) fn apply_bounding(&mut self, value: &str) {
        self.bounding.merge(CapabilitySet::ALL, value);
    }

    /// Takes a line of `AmbientCapabilities=`.
    pub(super) fn apply_ambient(&mut self, value: &str) {
        self.ambient.merge(CapabilitySet::NONE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(initial: CapabilitySet, lines: &[&str]) -> Vec<&'static str> {
        let mut set = initial;
        for line in lines {
            set.merge(initial, line);
        }
        set.names().collect()
    }

    #[test]
    fn lines_of_a_bounding_set_merge_as_in_systemd() {
        let bounding = |lines: &[&str]| merge(CapabilitySet::ALL, lines);
        assert_eq!(bounding(&[]).len(), NAMES.len());
        assert!(bounding(&[""]).is_empty());
        assert_eq!(bounding(&["CAP_KILL", "cap_chown"]), ["CAP_CHOWN", "CAP_KILL"]);
        assert_eq!(bounding(&["CAP_KILL CAP_CHOWN", "~CAP_KILL"]), ["CAP_CHOWN"]);
        assert_eq!(bounding(&["CAP_KILL", "~"]).len(), NAMES.len());
        assert_eq!(bounding(&["~", "CAP_KILL"]), ["CAP_KILL"], "the whole set is as good as unset");
        assert_eq!(bounding(&["~CAP_KILL"]).len(), NAMES.len() - 1);
        assert_eq!(bounding(&["5 CAP_UNKNOWN 99"]), ["CAP_KILL"], "by number; unknown ones are ignored");
    }

    #[test]
    fn lines_of_ambient_capabilities_merge_as_in_systemd() {
        let ambient = |lines: &[&str]| merge(CapabilitySet::NONE, lines);
        assert!(ambient(&[]).is_empty());
        assert_eq!(ambient(&["CAP_KILL", "CAP_CHOWN"]), ["CAP_CHOWN", "CAP_KILL"]);
        assert!(ambient(&["CAP_KILL", ""]).is_empty());
        assert_eq!(ambient(&["~CAP_KILL"]).len(), NAMES.len() - 1, "an inverted first line replaces the empty set");
    }
}
