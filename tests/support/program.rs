//! Programs that a test puts elsewhere and runs there.

use std::path::Path;
use std::process::Command;

/// Copies a program with a process of its own: while this one held the copy open for writing, another of its threads
/// could fork and keep it so, and it could not be run (`ETXTBSY`).
pub(crate) fn copy(from: impl AsRef<Path>, to: &Path) {
    assert!(
        Command::new("cp").arg("--").args([from.as_ref(), to]).status().unwrap().success(),
        "{} is written",
        to.display()
    );
}
