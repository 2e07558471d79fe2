//! Copies of programs that a test runs elsewhere.

use std::path::Path;
use std::process::Command;

/// Copies a program with a separate process. If this process held the copy open for writing, a fork of another thread
/// would keep it open, and the copy could not be executed (`ETXTBSY`).
pub(crate) fn copy(from: impl AsRef<Path>, to: &Path) {
    assert!(
        Command::new("cp").arg("--").args([from.as_ref(), to]).status().unwrap().success(),
        "{} is written",
        to.display()
    );
}
