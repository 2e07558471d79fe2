//! `rehearse`: a unit runs unblocked for once, and every call that its settings would have denied is told.

mod ledger;
mod left;

pub(super) use left::left;
