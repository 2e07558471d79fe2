//! outcome.

/// There is nothing to do, which is no failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NothingToDo(pub(crate) String);
