//! The `MESSAGE_ID=` of each kind of entry. `systemd/harden-why.catalog` explains them.

/// A call that a filter refused or that got its process killed.
pub const DENIAL: &str = "08f099b23cdb4d1399f57dcd22ef4be3";
/// An entered call that failed because the unit's sandbox withholds a path, a capability or the like.
pub const ACCESS_DENIAL: &str = "cdb7aeedec4b477c886271c6eaf7c9af";
/// A denied call that controls the machine, of a process that may be an intruder.
pub const POSSIBLE_INTRUSION: &str = "e79c4b0a641c4b58963976df38d7a0c9";
/// A death by SIGSYS without a record.
pub const UNRECORDED_DEATH: &str = "791c5a887a8f4dddb129eafb28e97c69";
/// The correction of such an alert: the record arrived late.
pub const CORRECTION: &str = "d5e4f8c1b9a0437e8f2d6c3a71be9054";
/// A call that was only logged.
pub const LOGGED: &str = "ad655bb054d74639843e17b6cc99dc4c";
/// A summary of incidents that are too many for separate alerts.
pub const SUMMARY: &str = "b20ca02b8ba24516a125c9461842fb57";

/// All of them.
pub const ALL: [&str; 7] = [DENIAL, ACCESS_DENIAL, POSSIBLE_INTRUSION, UNRECORDED_DEATH, CORRECTION, LOGGED, SUMMARY];
