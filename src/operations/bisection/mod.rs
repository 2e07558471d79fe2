//! A bisection: finds the hardening lines by which a unit does not work, by restarts without half of them.
//!
//! [`plan`] checks the conditions in advance. [`run`] runs the trials that `diagnosis::bisection` asks for, under the
//! temporary drop-in of a rehearsal, and then restores the unit's own settings as a rehearsal does. [`check`] says
//! whether a trial worked; [`check_command`] runs the user's command for it. [`lifting_drop_in`] is
//! the drop-in that the answer proposes.

pub(crate) mod check;
mod check_command;
pub(crate) mod lifting_drop_in;
pub(crate) mod plan;
pub(crate) mod run;
