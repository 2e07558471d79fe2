//! harden-why as a user whose permissions count.

use std::path::Path;
use std::process::Command;

/// Copies harden-why into a directory that all users may enter, and runs it from there. Where the tests run as root, it
/// runs as nobody, without capabilities.
pub(crate) fn harden_why(dir: &Path) -> Command {
    let copy = dir.join("harden-why");
    super::program::copy(env!("CARGO_BIN_EXE_harden-why"), &copy);
    let mut command = if nix::unistd::geteuid().is_root() {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"]);
        setpriv
    } else {
        Command::new("env")
    };
    command.arg(&copy);
    command
}
