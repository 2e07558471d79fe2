//! Every cell of the table of verbs and exit statuses in harden-why(1).

use crate::live_screens::Machine;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

const PAGE: &str = include_str!("../../packaging/manuals/harden-why.1");

/// A bus that does not exist.
const NO_BUS: &str = "--bus=unix:path=/nonexistent/bus";

/// Needs a call that its filter denies, and fails even if the call is allowed.
const FAILS: &str = "[Service]\nType=oneshot\nSlice=system.slice\n\
    ExecStart=/usr/bin/python3 -I -c 'import os; os.getsid(0); raise SystemExit(3)'\n\
    SystemCallFilter=~getsid\nLimitCORE=0\n";

/// A log with a denial.
const LOG: &str = r#"type=SECCOMP msg=audit(1795456064.827:2): auid=4294967295 uid=0 gid=0 ses=4294967295 pid=7 comm="a" exe="/usr/bin/a" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f code=0x80000000"#;

/// Who runs a command.
#[derive(Debug, Clone, Copy)]
enum Caller {
    Root,
    /// A user without rights.
    Nobody,
    /// Root, who presses Ctrl-C after a second.
    Interrupting,
}

/// A verb, an exit status of its own, and a command that ends with it.
type Cell = (&'static str, i32, Caller, &'static [&'static str]);

/// The order matters: later commands find what earlier ones changed. `@` is a directory with `log`, and with `locked`,
/// which only root can read.
const CELLS: [Cell; 68] = {
    use Caller::{Interrupting, Nobody, Root};
    [
        ("(none)", 0, Root, &[]),
        ("(none)", 1, Root, &["--exit-code"]),
        ("(none)", 1, Root, &[NO_BUS]),
        ("(none)", 3, Nobody, &["--state-dir=@/locked"]),
        ("UNIT", 0, Root, &["web"]),
        ("UNIT", 1, Root, &["--exit-code", "web"]),
        ("UNIT", 1, Root, &[NO_BUS, "web"]),
        ("UNIT", 3, Nobody, &["--state-dir=@/locked", "web"]),
        ("UNIT", 4, Root, &["nosuch"]),
        ("UNIT", 4, Root, &["4194305"]),
        ("UNIT", 4, Root, &["./nosuch"]),
        ("follow", 1, Root, &["follow", NO_BUS]),
        ("follow", 130, Interrupting, &["follow"]),
        ("check", 0, Root, &["check", "web"]),
        ("check", 1, Root, &["check", "--exit-code", "web"]),
        ("check", 3, Nobody, &["check", "--state-dir=@/locked", "web"]),
        ("check", 4, Root, &["check", "nosuch"]),
        ("status", 0, Root, &["status"]),
        ("status", 1, Root, &["status", NO_BUS]),
        ("rehearse", 0, Root, &["rehearse", "--yes", "--for=1s", "quiet"]),
        ("rehearse", 1, Root, &["rehearse", "--yes", NO_BUS, "quiet"]),
        ("rehearse", 3, Nobody, &["rehearse", "--yes", "--system", "quiet"]),
        ("rehearse", 4, Root, &["rehearse", "--yes", "nosuch"]),
        ("bisect", 0, Root, &["bisect", "--yes", "--wait=1s", "quiet"]),
        ("bisect", 1, Root, &["bisect", "--yes", NO_BUS, "quiet"]),
        ("bisect", 3, Nobody, &["bisect", "--yes", "--system", "quiet"]),
        ("bisect", 4, Root, &["bisect", "--yes", "nosuch"]),
        ("tap", 0, Root, &["tap", "--for=1s", "quiet"]),
        ("tap", 1, Root, &["tap", "--for=1s", "web"]),
        ("tap", 3, Nobody, &["tap", "quiet"]),
        ("tap", 4, Root, &["tap", "nosuch"]),
        ("log-refusals", 0, Root, &["log-refusals", "--yes", "--no-restart", "quiet"]),
        ("log-refusals", 0, Root, &["log-refusals", "--off"]),
        ("log-refusals", 0, Root, &["log-refusals", "--off"]),
        ("log-refusals", 1, Root, &["log-refusals", "--yes", NO_BUS, "quiet"]),
        ("log-refusals", 3, Nobody, &["log-refusals", "--yes", "--system", "quiet"]),
        ("log-refusals", 4, Root, &["log-refusals", "--yes", "nosuch"]),
        ("apply", 0, Root, &["apply", "--yes", "web"]),
        ("apply", 0, Root, &["apply", "--yes", "web"]),
        ("apply", 1, Root, &["apply", "--yes", "--restart", "fails"]),
        ("apply", 3, Nobody, &["apply", "--yes", "--state-dir=@/locked", "web"]),
        ("apply", 4, Root, &["apply", "--yes", "nosuch"]),
        ("revert", 0, Root, &["revert", "web"]),
        ("revert", 0, Root, &["revert", "web"]),
        ("revert", 1, Root, &["revert", "foreign"]),
        ("revert", 3, Nobody, &["revert", "--system", "fails"]),
        ("revert", 4, Root, &["revert", "nosuch"]),
        ("forget", 0, Root, &["forget", "web"]),
        ("forget", 0, Root, &["forget", "web"]),
        ("forget", 1, Root, &["forget", NO_BUS, "web"]),
        ("forget", 3, Nobody, &["forget", "--state-dir=@/locked", "mail"]),
        ("forget", 4, Root, &["forget", "nowhere"]),
        ("explain", 0, Root, &["explain", "@/log"]),
        ("explain", 1, Root, &["explain", "--exit-code", "@/log"]),
        ("explain", 1, Root, &["explain", "@/nosuch"]),
        ("explain", 3, Nobody, &["explain", "@/locked/log"]),
        ("syscall", 0, Root, &["syscall", "socket"]),
        ("syscall", 1, Root, &["syscall", "nosuch"]),
        ("demo", 0, Root, &["demo"]),
        ("demo", 0, Nobody, &["demo"]),
        ("restore", 0, Root, &["restore"]),
        ("metrics", 0, Root, &["metrics"]),
        ("metrics", 0, Root, &["metrics", NO_BUS]),
        ("metrics", 1, Root, &["metrics", "--textfile=@/nosuch/file"]),
        ("metrics", 3, Nobody, &["metrics", "--textfile=@/locked/file"]),
        ("completions", 0, Root, &["completions", "bash"]),
        ("completions", 0, Root, &["completions", "zsh"]),
        ("completions", 0, Root, &["completions", "fish"]),
    ]
};

/// The rows of the table: verb and status.
fn rows() -> BTreeSet<(String, i32)> {
    let table = PAGE.split("Verb          Status  When\n").nth(1).unwrap().split("\n.ft").next().unwrap();
    let mut verb = String::new();
    let mut rows = BTreeSet::new();
    for line in table.lines().map(|line| line.replace("\\-", "-")) {
        let (name, rest) = line.split_at(14);
        if !name.trim().is_empty() {
            name.trim().clone_into(&mut verb);
        }
        if let Some(status) = rest.split(' ').next().and_then(|status| status.parse().ok()) {
            rows.insert((verb.clone(), status));
        }
    }
    rows
}

#[test]
fn every_exit_status_of_every_verb_is_in_the_table_and_comes() {
    let tested: BTreeSet<(String, i32)> =
        CELLS.iter().map(|(verb, status, ..)| ((*verb).to_owned(), *status)).collect();
    assert_eq!(rows(), tested);
    let Some(machine) = Machine::start() else { return };
    machine.manager.write("fails.service", FAILS);
    machine.manager.write("foreign.service", "[Service]\nExecStart=/bin/true\nSystemCallFilter=~getsid\n");
    machine.manager.reload();
    assert!(!machine.manager.start_unit("fails.service"));
    machine.wait_for_denial("fails.service");
    machine.shell(
        "mkdir -p /etc/systemd/system/foreign.service.d && \
         printf '[Service]\\nNice=1\\n' >/etc/systemd/system/foreign.service.d/zz-harden-why.conf",
    );
    let place = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(place.path().join("log"), LOG).unwrap();
    fs::create_dir(place.path().join("locked")).unwrap();
    fs::write(place.path().join("locked/log"), LOG).unwrap();
    fs::set_permissions(place.path().join("locked"), fs::Permissions::from_mode(0o700)).unwrap();
    let client = place.path().join("harden-why");
    fs::copy(env!("CARGO_BIN_EXE_harden-why"), &client).unwrap();
    let (client, bus) = (client.to_str().unwrap(), machine.manager.bus());
    let mut wrong = Vec::new();
    for (verb, expected, caller, arguments) in CELLS {
        let arguments: Vec<String> =
            arguments.iter().map(|word| word.replace('@', place.path().to_str().unwrap())).collect();
        let before: &[&str] = match caller {
            Caller::Root => &[],
            Caller::Nobody => &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"],
            Caller::Interrupting => &["timeout", "--preserve-status", "-s", "INT", "1", "env", "--default-signal=INT"],
        };
        let has_bus = arguments.iter().any(|word| word == NO_BUS);
        let bus: &[&str] = if has_bus { &[] } else { &["--bus", &bus] };
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = machine.manager.command(&[before, &[client], bus, &words].concat());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let status = output.status.code();
        if status != Some(expected) {
            let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            wrong.push(format!("{verb} {words:?} by {caller:?}: {status:?}, not {expected}\n{text}{error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // An invalid argument is 2 for every verb.
    let verbs = rows()
        .into_iter()
        .map(|(verb, _)| verb)
        .filter(|verb| verb.bytes().all(|b| b != b'(' && !b.is_ascii_uppercase()));
    for verb in verbs {
        let output = machine.manager.command(&[client, &verb, "--frobnicate"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{verb}");
    }
}
