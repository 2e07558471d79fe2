//! Queries for late evidence, which the owner of the attribution queue makes.

/// A query that the queue's owner makes for all sightings of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum EvidenceQuery {
    /// The service managers, and the unit files.
    Managers,
    /// The journal.
    Journal(Attempt),
}

/// Which attempt to find a sighting in the journal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Attempt {
    /// The first, which another may follow.
    First,
    /// The last.
    Last,
}

/// Whether the journal can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JournalAccess {
    /// It can, and missing entries may follow.
    Readable,
    /// It cannot.
    Unreadable,
}
