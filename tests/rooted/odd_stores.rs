//! Stores that other programs hold, and processes that lack descriptors: a command ends, and its error names the reason.

use harden_why::incidents::Store;
use harden_why::incidents::store::FILE;
use rusqlite::Connection;
use std::path::Path;
use std::process::{Command, Output};

/// A state directory with an empty store.
fn state() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    drop(Store::open(temp.path()).unwrap());
    temp
}

/// Runs a command of the client through a shell, after other commands.
fn run_after(before: &str, state: &Path, arguments: &[&str]) -> Output {
    let script = format!(r#"{before}; exec "$0" "$@""#);
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_harden-why"), "--bus", "unix:path=/nonexistent/bus"]);
    command.arg("--state-dir").arg(state).args(arguments).output().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn lack_of_descriptors_is_called_so() {
    let temp = state();
    let mut failures = 0;
    // With fewer than 4, the shell itself cannot start the program.
    for limit in 4..24 {
        let output = run_after(&format!("ulimit -n {limit}"), temp.path(), &["a.service"]);
        let error = error(&output);
        if !error.is_empty() && !error.contains("shared libraries") {
            failures += 1;
            assert!(error.contains("Too many open files") && output.status.code() == Some(1), "limit {limit}: {error}");
        }
    }
    assert!(failures > 0, "no limit was too low");
}

#[test]
fn store_locked_by_another_program_does_not_hang_a_command() {
    let temp = state();
    let other = Connection::open(temp.path().join(FILE)).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT").unwrap();
    for arguments in [&["a.service"][..], &["--all"], &["forget", "a.service"]] {
        let output = run_after("true", temp.path(), arguments);
        let error = error(&output);
        assert!(!output.status.success() && error.contains("is busy: try again"), "{arguments:?}: {error}");
    }
}

#[test]
fn pipe_next_to_a_store_does_not_hang_a_command() {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let temp = state();
        let path = temp.path().join(format!("{FILE}{suffix}"));
        if suffix.is_empty() {
            std::fs::remove_file(&path).unwrap();
        }
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = error(&run_after("true", temp.path(), &["a.service"]));
        assert!(error.contains("not a regular file"), "{suffix}: {error}");
    }
}
