//! A rehearsal of a unit whose filter refuses calls, and whose sandbox withholds a path and a capability: one run finds all of
//! it, and one drop-in grants it.

use crate::support::daemon::{Daemon, PROGRAM};
use crate::support::manager::TestManager;
use crate::support::skip::skip;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

/// Does all that the unit may not, and fails at the end if anything failed.
const PROGRAM_TEXT: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None)
failed = []
def attempt(name, call, *arguments):
    try:
        if call(*arguments) == -1:
            failed.append(name)
    except OSError:
        failed.append(name)
place = sys.argv[1]
attempt("getsid", libc.getsid, 0)
attempt("munlockall", libc.munlockall)
attempt("write", open, place + "/file", "w")
attempt("chown", os.chown, sys.argv[2], 1, 1)
sys.exit(7 if failed else 0)
"#;

/// A directory of the host that only the test uses.
struct Place(PathBuf);

impl Place {
    fn make() -> Self {
        let path = PathBuf::from(format!("/var/lib/harden-why-rehearsed-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn client(manager: &TestManager, arguments: &[&str]) -> Output {
    let bus = manager.bus();
    let before = ["env", "--default-signal=HUP,INT,TERM", env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus, "--json"];
    manager.command(&[&before, arguments].concat()).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// Returns the calls and the kinds of accesses that an answer has denials of.
fn denials(answer: &Value) -> (Vec<&str>, Vec<&str>) {
    let units = answer["units"].as_array().into_iter().flatten();
    let all: Vec<&Value> = units.flat_map(|unit| unit["denials"].as_array().into_iter().flatten()).collect();
    let of = |is_access: bool, get: fn(&Value) -> Option<&str>| {
        let denials = all.iter().filter(|denial| denial["access"].is_null() != is_access);
        let mut found: Vec<&str> = denials.filter_map(|denial| get(denial)).collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    (of(false, |denial| denial["call"].as_str()), of(true, |denial| denial["access"]["kind"].as_str()))
}

#[test]
fn rehearsal_sees_accesses_and_one_drop_in_grants_them_with_the_refused_calls() {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return skip("the kernel has no type information");
    }
    let Some(manager) = TestManager::start() else { return };
    let place = Place::make();
    let program = manager.base().join("program.py");
    let owned = manager.base().join("owned");
    fs::write(&program, PROGRAM_TEXT).unwrap();
    fs::write(&owned, "").unwrap();
    manager.write(
        "x.service",
        &format!(
            "[Service]\nType=oneshot\nSlice=system.slice\nExecStart=/usr/bin/python3 -I {} {} {}\n\
             SystemCallFilter=~getsid munlockall\nSystemCallErrorNumber=EPERM\nProtectSystem=strict\n\
             ReadWritePaths={}\nCapabilityBoundingSet=~CAP_CHOWN\n",
            program.display(),
            place.0.display(),
            owned.display(),
            manager.base().display(),
        ),
    );
    manager.reload();
    let daemon = Daemon::start(manager.command(&[PROGRAM]), &manager.bus(), &manager.base().join("daemon"));
    assert!(!manager.start_unit("x.service"), "it cannot work yet");

    let rehearsed = json(&client(&manager, &["rehearse", "x", "--yes"]));
    let expected = (vec!["getsid", "munlockall"], vec!["capability", "read-only-path"]);
    assert_eq!(denials(&rehearsed), expected, "{rehearsed:#}");
    let drop_in = manager.base().join("etc/x.service.d/zz-harden-why.conf");
    assert!(!drop_in.exists() && !manager.start_unit("x.service"), "a rehearsal alone changes nothing");

    let applied = json(&client(&manager, &["rehearse", "x", "--yes", "--apply"]));
    assert_eq!(applied["applied"]["outcome"], "applied", "{applied:#}");
    let text = fs::read_to_string(&drop_in).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains('=') && !line.starts_with('#')).collect();
    let writable = format!("ReadWritePaths={}", place.0.display());
    assert_eq!(lines, ["CapabilityBoundingSet=CAP_CHOWN", &writable, "SystemCallFilter=getsid munlockall"], "{text}");
    let files: Vec<_> = fs::read_dir(drop_in.parent().unwrap()).unwrap().flatten().map(|file| file.path()).collect();
    assert_eq!(files, [drop_in], "one drop-in");
    assert_eq!(applied["applied"]["restarted"]["result"], "success", "{applied:#}");
    assert!(manager.start_unit("x.service"), "one rehearsal was enough");

    let reverted = json(&client(&manager, &["revert", "x"]));
    assert_eq!(reverted["outcome"], "reverted", "{reverted:#}");
    assert!(!manager.start_unit("x.service"), "its own settings are back");
    daemon.stop();
}
