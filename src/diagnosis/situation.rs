//! The settings of a unit that a diagnosis works from.

use super::fixed::History;
use crate::policy::Policy;
use crate::programs::Program;
use crate::syscalls::Groups;
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
    /// The programs of the unit, as far as their executables were read; none if nobody looked for them.
    pub programs: Vec<Program>,
}

impl Situation {
    /// Whether a file is a remedy's drop-in for the unit.
    #[must_use]
    pub fn is_remedy(&self, path: &Path) -> bool {
        path.file_name() == self.drop_in.file_name()
    }

    /// Returns the path of the remedy's drop-in in force, or of the one that a remedy writes.
    #[must_use]
    pub fn remedy_path(&self) -> &Path {
        let mut files = self.policy.settings.assignments().map(|line| &*line.origin.path);
        files.find(|path| self.is_remedy(path)).unwrap_or(&self.drop_in)
    }

    /// Returns the situation before the latest change of the remedy's drop-in, which contained these lines then.
    #[must_use]
    pub fn before_remedy(&self, lines: &[String], groups: &Groups) -> Self {
        let policy = if lines.is_empty() {
            self.policy.without_dropins(|path| self.is_remedy(path), groups)
        } else {
            let content = format!("[{}]\n{}\n", self.policy.settings.section(), lines.join("\n"));
            self.policy.with_dropin(self.remedy_path(), content.as_bytes(), groups)
        };
        let mut history = self.history.clone();
        if let Some(history) = &mut history {
            history.changes.retain(|change| !self.is_remedy(&change.path));
        }
        Self { policy, drop_in: self.drop_in.clone(), history, programs: self.programs.clone() }
    }
}
