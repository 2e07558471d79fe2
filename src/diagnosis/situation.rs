//! The settings of a unit that a diagnosis works from.

use super::fixed::History;
use crate::policy::Policy;
use std::path::{Path, PathBuf};

/// A unit's settings, as far as they are known.
#[derive(Debug)]
pub struct Situation {
    /// The unit's policy.
    pub policy: Policy,
    /// The path of the drop-in that a remedy writes: for an instance its template's, if a template is its unit file.
    /// [`Remedy::drop_in`](super::Remedy::drop_in) can be the instance's own instead.
    pub drop_in: PathBuf,
    /// When the settings changed. `None` for files copied from another machine: their times mean nothing here.
    pub history: Option<History>,
}

impl Situation {
    /// Whether a file is a remedy's drop-in for the unit.
    #[must_use]
    pub fn is_remedy(&self, path: &Path) -> bool {
        path.file_name() == self.drop_in.file_name()
    }
}
