//! The keys of hardening that is in no row of the table of directives, since no denial is traced to it. A bisection lifts
//! it nevertheless. And the earlier names of keys.

/// The keys that are on or off.
pub(super) const SWITCHES: [&str; 4] = ["PrivateIPC", "PrivateMounts", "PrivateNetwork", "PrivatePIDs"];

/// The keys of lists whose first line says whether the list names what passes, or what does not.
pub(super) const LISTS: [&str; 2] = ["RestrictFileSystems", "RestrictNetworkInterfaces"];

/// The key of flags that add to each other.
pub(super) const FLAGS: &str = "SecureBits";

/// The earlier names that systemd still accepts, each with the key's name now (`load-fragment-gperf.gperf.in`).
const EARLIER_NAMES: [(&str, &str); 4] = [
    ("InaccessibleDirectories", "InaccessiblePaths"),
    ("ReadOnlyDirectories", "ReadOnlyPaths"),
    ("ReadWriteDirectories", "ReadWritePaths"),
    ("StartLimitInterval", "StartLimitIntervalSec"),
];

/// Returns the name of a key now, if a file has an earlier one.
pub(crate) fn current_key(key: &str) -> &str {
    EARLIER_NAMES.iter().find(|(earlier, _)| *earlier == key).map_or(key, |(_, now)| now)
}

/// Whether a key is one of these.
pub(super) fn is_hardening_key(key: &str) -> bool {
    SWITCHES.contains(&key) || LISTS.contains(&key) || key == FLAGS
}
