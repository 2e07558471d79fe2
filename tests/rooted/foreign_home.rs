//! Root runs harden-why with the home of another user, as `sudo` can leave it.

use crate::support::skip::skip;
use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;

/// The file that `log-refusals` lends to a user manager during a reload.
const LENT: &str = "zz-harden-why-log-refusals.conf";

#[test]
fn file_that_another_user_planted_in_their_home_is_ignored() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root has the homes of others");
    }
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join(".config/systemd/user.conf.d");
    fs::create_dir_all(&dir).unwrap();
    let planted = dir.join(LENT);
    fs::write(&planted, "# Written by harden-why on a day: a test\n[Manager]\n").unwrap();
    let restore = |variable: &str, value: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
        command.args(["--bus", "unix:path=/nonexistent/bus", "restore"]).env_remove("XDG_CONFIG_HOME");
        let output = command.env(variable, value).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let said = restore("HOME", home.path());
    assert!(said.contains("logging of refusals"), "root's own leftover is found: {said}");
    for path in [home.path().join(".config/systemd"), dir, planted.clone()] {
        chown(path, Some(65_534), Some(65_534)).unwrap();
    }
    assert_eq!(restore("HOME", home.path()), "");
    assert_eq!(restore("XDG_CONFIG_HOME", &home.path().join(".config")), "");
    assert!(planted.exists());
}
