//! The keys of hardening that is in no row of the table of directives, since no denial is traced to it. A bisection lifts
//! it nevertheless.

/// The keys that are on or off.
pub(super) const SWITCHES: [&str; 3] = ["PrivateIPC", "PrivateMounts", "PrivateNetwork"];

/// The keys of lists whose first line says whether the list names what passes, or what does not.
pub(super) const LISTS: [&str; 2] = ["RestrictFileSystems", "RestrictNetworkInterfaces"];

/// The key of flags that add to each other.
pub(super) const FLAGS: &str = "SecureBits";

/// Whether a key is one of these.
pub(super) fn is_hardening_key(key: &str) -> bool {
    SWITCHES.contains(&key) || LISTS.contains(&key) || key == FLAGS
}
