//! The pager, in a real terminal.

use crate::support::skip::skip;
use crate::support::terminal::Terminal;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// A log with so many denials that the answer fills several screens.
fn long_log(directory: &Path) -> String {
    let line = |number: usize| {
        format!(
            "type=SECCOMP msg=audit(1795456064.{number:03}:{number}): auid=4294967295 uid=0 gid=0 ses=4294967295 \
             pid={pid} comm=\"p{number}\" exe=\"/usr/bin/p{number}\" sig=31 arch=c000003e syscall={number} \
             compat=0 ip=0x7f code=0x80000000\n",
            pid = 100 + number
        )
    };
    let lines = (0..60).map(line).collect::<Vec<_>>().concat();
    let path = directory.join("log");
    fs::write(&path, lines).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A terminal with a shell that finds harden-why, and the command that answers from a long log.
fn terminal(directory: &Path, variables: &[(&str, &str)]) -> Option<(Terminal, String)> {
    let program = Path::new(env!("CARGO_BIN_EXE_harden-why"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["--norc", "--noprofile"]).env("PATH", path).envs(variables.iter().copied());
    let terminal = Terminal::open(80, 24, &shell)?;
    Some((terminal, format!("harden-why -v explain {}", long_log(directory))))
}

fn has_less() -> bool {
    let is_there = Command::new("less").arg("--version").output().is_ok();
    if !is_there {
        skip("there is no less");
    }
    is_there
}

/// Whether less waits for a key. With its option M, it tells the lines.
fn is_at_prompt(screen: &str) -> bool {
    screen.lines().last().is_some_and(|line| line.starts_with("lines "))
}

#[test]
fn answer_longer_than_the_screen_is_paged_and_keeps_colours_and_status() {
    let directory = tempfile::tempdir().unwrap();
    let Some((terminal, command)) = terminal(directory.path(), &[]) else { return };
    if !has_less() {
        return;
    }
    terminal.begin(&command);
    // less shows the beginning, and waits.
    let screen = terminal.wait_until(is_at_prompt);
    assert!(screen.starts_with("unit unknown"), "{screen}");
    assert!(terminal.coloured_screen().contains("\x1b["), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    terminal.press("Space");
    terminal.wait_until(|screen| !screen.contains("unit unknown") && is_at_prompt(screen));
    terminal.press("q");
    assert!(terminal.wait_for_end().contains("status 0"));
    // With the options of less that systemctl uses, the text stays.
    assert!(terminal.history().contains("unit unknown"));
}

#[test]
fn ctrl_c_leaves_the_pager_and_keeps_the_terminal_and_the_status() {
    let directory = tempfile::tempdir().unwrap();
    for options in ["FRSXMK", "FRSXM"] {
        let Some((terminal, command)) = terminal(directory.path(), &[("SYSTEMD_LESS", options)]) else { return };
        if !has_less() {
            return;
        }
        terminal.begin(&command);
        // Ctrl-C drops what the terminal has not shown yet, even half of a colour's sequence (n_tty's `isig`), so less has
        // to be at its prompt.
        terminal.wait_until(|screen| screen.starts_with("unit unknown") && is_at_prompt(screen));
        terminal.press("C-c");
        if !options.contains('K') {
            terminal.press("q");
        }
        assert!(terminal.wait_for_end().contains("status 0"));
        terminal.type_line("stty -a | grep -o -- '-\\?echo\\b'");
        terminal.wait_until(|screen| screen.lines().any(|line| line == "echo"));
    }
}

#[test]
fn short_answer_stays_on_the_screen() {
    let directory = tempfile::tempdir().unwrap();
    let Some((terminal, _)) = terminal(directory.path(), &[]) else { return };
    let screen = terminal.finish("harden-why syscall socket");
    assert!(screen.contains("socket") && screen.contains("status 0"), "{screen}");
}

#[test]
fn pager_is_off_by_option_and_variable_and_in_a_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let never = directory.path().join("never");
    fs::write(&never, "#!/bin/sh\ncat >/dev/null\necho PAGED\n").unwrap();
    fs::set_permissions(&never, fs::Permissions::from_mode(0o755)).unwrap();
    let pager = never.to_str().unwrap();
    let variables = [("SYSTEMD_PAGER", pager), ("SYSTEMD_PAGERSECURE", "0")];
    let Some((terminal, command)) = terminal(directory.path(), &variables) else { return };
    let finish = |line: &str| terminal.finish(line);
    assert!(finish(&command).contains("PAGED\nstatus 0"));
    for line in [
        format!("{command} --no-pager | cat"),
        format!("{command} --no-pager"),
        format!("SYSTEMD_PAGER= {command}"),
        format!("SYSTEMD_PAGER=cat {command}"),
        format!("TERM=dumb {command}"),
        format!("{command} | tail -n 20"),
    ] {
        assert!(!finish(&line).contains("PAGED"), "{line}");
    }
    // The screen of a shell holds the end of a text without a pager.
    let whole = finish(&format!("{command} --no-pager"));
    assert!(whole.contains("Read 60 lines: 60 SECCOMP records."), "{whole}");
}

#[test]
fn exit_status_of_an_answer_survives_its_pager() {
    let directory = tempfile::tempdir().unwrap();
    let variables = [("SYSTEMD_PAGER", "false"), ("SYSTEMD_PAGERSECURE", "1")];
    let Some((terminal, command)) = terminal(directory.path(), &variables) else { return };
    assert!(terminal.finish(&command).contains("status 0"));
    // A pager that is not installed is passed over.
    assert!(terminal.finish(&format!("SYSTEMD_PAGER=no-such-pager {command} --json | tail -n 1")).contains('}'));
    assert!(terminal.finish("SYSTEMD_PAGER=no-such-pager harden-why syscall socket").contains("socket"));
}

#[test]
fn help_longer_than_the_screen_is_paged() {
    let directory = tempfile::tempdir().unwrap();
    let Some((terminal, _)) = terminal(directory.path(), &[]) else { return };
    if !has_less() {
        return;
    }
    terminal.begin("harden-why --help");
    let screen = terminal.wait_until(is_at_prompt);
    assert!(screen.starts_with("Why did systemd's hardening deny"), "{screen}");
    terminal.press("q");
    assert!(terminal.wait_for_end().contains("status 0"));
    // That of a command fits.
    assert!(terminal.finish("harden-why apply --help").contains("status 0"));
    assert!(terminal.finish("harden-why --no-pager --help").contains("status 0"));
}

#[test]
fn line_longer_than_the_screen_is_shown_whole_and_does_not_keep_the_pager() {
    let directory = tempfile::tempdir().unwrap();
    let Some((terminal, _)) = terminal(directory.path(), &[]) else { return };
    let log = long_log(directory.path());
    fs::write(&log, fs::read_to_string(&log).unwrap().lines().next().unwrap()).unwrap();
    let name = format!("{}.service", "long-name-".repeat(10));
    let screen = terminal.finish(&format!("harden-why explain --assume-unit {name} {log}"));
    assert!(screen.replace('\n', "").contains(&format!("{name}: ")), "{screen}");
}
