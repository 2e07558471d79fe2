//! The keys of lines that systemd applies before it executes a unit's program, and that withhold nothing from it: the
//! working directory, the group, limits, credentials and others. An exit status of systemd's own tells that one failed.

/// The keys that hold one value: the last line counts.
const VALUES: [&str; 28] = [
    "AppArmorProfile",
    "CPUAffinity",
    "CPUSchedulingPolicy",
    "CPUSchedulingPriority",
    "Group",
    "IOSchedulingClass",
    "IOSchedulingPriority",
    "IPCNamespacePath",
    "KeyringMode",
    "NUMAMask",
    "NUMAPolicy",
    "NetworkNamespacePath",
    "Nice",
    "OOMScoreAdjust",
    "PAMName",
    "Personality",
    "PrivateIPC",
    "PrivateNetwork",
    "RootDirectory",
    "RootImage",
    "SELinuxContext",
    "SmackProcessLabel",
    "StandardError",
    "StandardInput",
    "StandardOutput",
    "TimerSlackNSec",
    "User",
    "WorkingDirectory",
];

/// The keys that hold lists: an empty line starts the list again.
const LISTS: [&str; 7] = [
    "ConfigurationDirectory",
    "ImportCredential",
    "LoadCredential",
    "LoadCredentialEncrypted",
    "RestrictFileSystems",
    "SecureBits",
    "SupplementaryGroups",
];

/// The start of the keys of resource limits.
const LIMIT: &str = "Limit";

/// Whether a key is one of these.
pub(super) fn is_set_up_key(key: &str) -> bool {
    VALUES.contains(&key) || LISTS.contains(&key) || key.starts_with(LIMIT)
}

/// Whether a key holds one value, rather than a list.
pub(super) fn has_one_value(key: &str) -> bool {
    VALUES.contains(&key)
}
