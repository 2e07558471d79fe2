//! Queries for late evidence. The owner of the attribution queue makes them.

/// A query that the queue's owner makes for all sightings of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum EvidenceQuery {
    /// The service managers, and the unit files.
    Managers,
    /// The journal.
    Journal(Attempt),
}

/// An attempt to find a sighting in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Attempt {
    /// The first attempt. Another may follow.
    First,
    /// The last attempt.
    Last,
}

/// Whether the daemon can read the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JournalAccess {
    /// The daemon can read it, and missing entries may still arrive.
    Readable,
    /// The daemon cannot read it.
    Unreadable,
}
