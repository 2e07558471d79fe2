//! terminal.

pub(crate) mod page;
pub(crate) mod progress;
pub(crate) mod prompt;
