//! Answers that rest on a unit's executables, below the root of another machine.

use crate::support::skip::skip_optional;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The number of uname on x86-64.
const UNAME: u32 = 63;

/// Builds a root with a unit `x.service` of these lines, and with these copies of executables.
pub(crate) fn build_root(lines: &str, copies: &[(&Path, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (from, to) in copies {
        let path = root.path().join(to.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(from, &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let units = root.path().join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("x.service"), format!("[Service]\n{lines}\n")).unwrap();
    root
}

/// Explains a record of uname by a unit with these lines, below a root with these copies of executables.
fn explain(option: &str, lines: &str, exe: &str, copies: &[(&Path, &str)]) -> Vec<u8> {
    explain_call(UNAME, option, lines, exe, copies)
}

fn explain_call(call: u32, option: &str, lines: &str, exe: &str, copies: &[(&Path, &str)]) -> Vec<u8> {
    let root = build_root(lines, copies);
    let log = root.path().join("log");
    let record = format!(
        "type=SECCOMP msg=audit(1795456064.827:2): auid=4294967295 uid=0 gid=0 ses=4294967295 pid=7 comm=\"x\" \
         exe=\"{exe}\" sig=31 arch=c000003e syscall={call} compat=0 ip=0x7f code=0x80000000\n"
    );
    fs::write(&log, record).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_harden-why"))
        .args(["explain", option, "--assume-unit", "x.service", "--root"])
        .args([root.path(), log.as_path()])
        .output()
        .unwrap();
    output.stdout
}

/// Returns what the default opens, with the reasons.
fn opened(lines: &str, exe: &str, copies: &[(&Path, &str)]) -> Vec<(String, String)> {
    opened_for(UNAME, lines, exe, copies)
}

/// Returns what the default opens for a denial of a call, with the reasons.
pub(crate) fn opened_for(call: u32, lines: &str, exe: &str, copies: &[(&Path, &str)]) -> Vec<(String, String)> {
    let output = explain_call(call, "--json", lines, exe, copies);
    let answer: serde_json::Value = serde_json::from_slice(&output).unwrap();
    let remedies = answer["units"][0]["remedies"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let default = remedies.iter().find(|remedy| remedy["default"] == true).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let reason = |call: &serde_json::Value| {
        let reasons = default["reasons"].as_array().into_iter().flatten();
        reasons.filter(|reason| reason["call"] == *call).map(|reason| text(&reason["reason"])).collect()
    };
    default["opens"].as_array().unwrap().iter().map(|call| (text(call), reason(call))).collect()
}

pub(crate) fn has(opened: &[(String, String)], call: &str, reason: &str) -> bool {
    opened.iter().any(|(name, why)| name == call && why == reason)
}

#[test]
fn default_opens_what_the_executable_below_the_root_imports() {
    if !cfg!(target_arch = "x86_64") {
        return skip_optional("the record is of x86-64");
    }
    let own = std::env::current_exe().unwrap();
    let strict = "SystemCallFilter=@basic-io @file-system\nExecStart=/usr/bin/webd";
    let opens = opened(strict, "/usr/bin/webd", &[(&own, "/usr/bin/webd")]);
    assert!(
        has(&opens, "socket", "imported by webd") && has(&opens, "recvfrom", "imported by webd as recv"),
        "{opens:?}"
    );
    let page = explain("--color=never", strict, "/usr/bin/webd", &[(&own, "/usr/bin/webd")]);
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("help: allow uname; also allows "), "{page}");
    let missing = opened(strict, "/usr/bin/webd", &[]);
    assert!(missing.is_empty(), "without the file nothing is opened but what was denied: {missing:?}");
    let helper = opened(strict, "/usr/lib/helper", &[(&own, "/usr/lib/helper")]);
    assert!(has(&helper, "socket", "imported by helper"), "{helper:?}");
    let jailed = "SystemCallFilter=@basic-io @file-system\nRootDirectory=/srv/jail\nExecStart=/bin/webd";
    let jailed = opened(jailed, "/bin/webd", &[(&own, "/srv/jail/bin/webd")]);
    assert!(has(&jailed, "socket", "imported by webd"), "{jailed:?}");
    let excluding = format!("{strict}\nSystemCallFilter=~@network-io");
    let excluding = opened(&excluding, "/usr/bin/webd", &[(&own, "/usr/bin/webd")]);
    assert!(!excluding.iter().any(|(call, _)| call == "socket"), "{excluding:?}");
}

#[test]
fn shell_that_tests_a_file_gets_no_network_call() {
    if !cfg!(target_arch = "x86_64") {
        return skip_optional("the record is of x86-64");
    }
    let network = ["socket", "connect", "bind", "listen", "accept", "accept4", "sendto", "recvfrom", "setsockopt"];
    for lines in ["SystemCallFilter=@basic-io", "SystemCallFilter=~@network-io uname"] {
        let lines = format!("{lines}\nExecStart=/bin/sh -c \"test -r /etc/passwd; sleep 60\"");
        for shell in ["/bin/sh", "/bin/bash"].into_iter().filter(|shell| Path::new(shell).exists()) {
            let copies = [(Path::new(shell), "/bin/sh"), (Path::new("/bin/sleep"), "/bin/sleep")];
            let opens = opened(&lines, "/bin/sh", &copies);
            assert!(!opens.iter().any(|(call, _)| network.contains(&&**call)), "{shell}: {opens:?}");
        }
    }
}

#[test]
fn large_executable_is_read_in_time() {
    if !cfg!(target_arch = "x86_64") {
        return skip_optional("the record is of x86-64");
    }
    let dir = TempDir::new().unwrap();
    let large = dir.path().join("large");
    fs::copy(std::env::current_exe().unwrap(), &large).unwrap();
    fs::OpenOptions::new().write(true).open(&large).unwrap().set_len(300 << 20).unwrap();
    let lines = "SystemCallFilter=@basic-io @file-system\nExecStart=/usr/bin/large";
    let begin = Instant::now();
    let opens = opened(lines, "/usr/bin/large", &[(&large, "/usr/bin/large")]);
    assert!(has(&opens, "socket", "imported by large"));
    assert!(begin.elapsed() < Duration::from_mins(1), "{:?}, the copy of the file included", begin.elapsed());
}
