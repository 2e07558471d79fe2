//! A temporary directory for unit files that are not below a root.

use crate::audit::text::shown_path;
use anyhow::Context as _;
use std::fs;
use std::path::PathBuf;

/// A temporary directory, removed on drop.
#[derive(Debug)]
pub(crate) struct ScratchDir {
    /// Its path.
    pub(crate) path: PathBuf,
}

impl ScratchDir {
    /// Creates a directory that only this user can read.
    ///
    /// # Errors
    /// The directory for temporary files cannot be written.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let template = std::env::temp_dir().join("harden-why-XXXXXX");
        let path = nix::unistd::mkdtemp(&template)
            .with_context(|| format!("cannot create a directory in {}", shown_path(&std::env::temp_dir())))?;
        Ok(Self { path })
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // systemd-tmpfiles removes what is left.
        let _ = fs::remove_dir_all(&self.path);
    }
}
