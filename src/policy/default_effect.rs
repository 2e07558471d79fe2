//! `SystemCallErrorNumber=`: what happens to calls that `SystemCallFilter=` denies.

use super::effect::Effect;
use super::unit_file::{Assignment, Origin};

/// What `SystemCallErrorNumber=` says, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultEffect {
    /// Kill unless said otherwise.
    pub effect: Effect,
    /// `None` where nothing was said.
    pub origin: Option<Origin>,
}

impl Default for DefaultEffect {
    fn default() -> Self {
        Self { effect: Effect::Kill, origin: None }
    }
}

impl DefaultEffect {
    /// Applies one line; false where systemd ignores it.
    pub(crate) fn apply(&mut self, line: &Assignment) -> bool {
        let effect = if line.value.is_empty() { Some(Effect::Kill) } else { Effect::parse(&line.value) };
        match effect {
            None | Some(Effect::Errno(0)) => false,
            Some(effect) => {
                *self = Self { effect, origin: Some(line.origin.clone()) };
                true
            }
        }
    }
}
