//! refusal_logging.

pub(crate) mod end;
pub(crate) mod marker;
pub(crate) mod state;
pub(crate) mod switch;
pub(crate) mod targets;
