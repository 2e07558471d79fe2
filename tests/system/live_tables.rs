//! The live tables of `rehearse` and `tap`, and questions, in a real terminal.

use crate::support::daemon::{Daemon, PROGRAM, wait_for};
use crate::support::manager::TestManager;
use crate::support::skip::skip;
use crate::support::terminal::Terminal;
use std::path::Path;

/// Makes calls now and then that its filter denies silently.
const RUNS: &str = "[Service]\nSlice=system.slice\n\
    ExecStart=/bin/sh -c 'while :; do uname; sleep 0.2; done'\n\
    StandardOutput=null\nSystemCallFilter=~uname\nSystemCallErrorNumber=EPERM\n";

/// Writes now and then where its sandbox lets it read.
const WRITES: &str = "[Service]\nSlice=system.slice\nProtectSystem=strict\nStandardError=null\n\
    ExecStart=/bin/sh -c 'while :; do mkdir /var/lib/harden-why-test; sleep 0.2; done'\n";

/// The lines of a screen that is free of a table.
const OF_TABLE: &str = "DECIDED BY";

struct Desk {
    manager: TestManager,
    _daemon: Daemon,
    terminal: Terminal,
}

impl Desk {
    /// A machine with a unit that runs, and a terminal whose shell calls the client `$H`.
    fn open() -> Option<Self> {
        let manager = TestManager::start()?;
        let daemon = Daemon::start(manager.command(&[PROGRAM]), &manager.bus(), &manager.base().join("daemon"));
        manager.write("x.service", RUNS);
        manager.reload();
        assert!(manager.start_unit("x.service"));
        let mut shell = manager.command(&["env", "--default-signal=HUP,INT,TERM", "bash", "--norc", "--noprofile"]);
        shell.env("H", format!("{} --bus {}", env!("CARGO_BIN_EXE_harden-why"), manager.bus()));
        let terminal = Terminal::open(80, 24, &shell)?;
        Some(Self { manager, _daemon: daemon, terminal })
    }

    fn show(&self, property: &str) -> String {
        let shown = self.manager.systemctl(&["show", "-P", property, "x.service"]);
        String::from_utf8(shown.stdout).unwrap().trim().to_owned()
    }

    /// Waits until the table is steady on a screen of this width.
    #[track_caller]
    fn wait_for_table(&self, columns: usize) -> String {
        self.terminal.wait_until(|screen| {
            let is_steady = screen.matches(OF_TABLE).count() == 1 && screen.matches("Ctrl-C").count() == 1;
            is_steady && screen.contains("  uname ") && screen.lines().all(|line| line.chars().count() < columns)
        })
    }
}

/// How often a screen's table has the call.
fn count(screen: &str) -> u64 {
    let row = screen.lines().find(|line| line.starts_with("  uname ")).unwrap();
    row.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn rehearsal_shows_one_steady_table_and_then_the_answer() {
    let Some(desk) = Desk::open() else { return };
    let terminal = &desk.terminal;
    terminal.begin("$H rehearse x --yes --for 5min");
    let screen = desk.wait_for_table(80);
    println!("{screen}");
    for words in ["Rehearsing x.service", "FIRST SEEN", "SystemCallFilter= x.service:5", "Ctrl-C or 5:00 ends it"] {
        assert!(screen.contains(words), "{words}: {screen}");
    }
    // It counts on in its place, and fits a terminal that becomes smaller or larger.
    let before = count(&screen);
    terminal.wait_until(|screen| screen.contains("  uname ") && count(screen) > before);
    for (columns, lines) in [(40, 10), (60, 6), (120, 40), (80, 24)] {
        terminal.resize(columns, lines);
        let screen = desk.wait_for_table(columns as usize);
        println!("{screen}");
    }
    assert_eq!(terminal.value("cursor_flag"), "1");
    terminal.press("C-c");
    let screen = terminal.wait_for_end();
    println!("{screen}");
    assert!(screen.contains("status 0") && !screen.contains(OF_TABLE), "{screen}");
    assert!(terminal.history().contains("x.service was rehearsed"), "{screen}");
    assert_eq!((desk.show("SystemCallFilter").as_str(), desk.show("ActiveState").as_str()), ("~uname", "active"));
}

#[test]
fn tap_shows_one_steady_table_and_leaves_the_terminal_after_a_kill() {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        skip("the kernel has no type information");
        return;
    }
    let Some(desk) = Desk::open() else { return };
    let terminal = &desk.terminal;
    terminal.begin("$H tap x --for 5min");
    let screen = desk.wait_for_table(80);
    for words in
        ["Tapping x", "FIRST SEEN", "SystemCallFilter= x.service:5", "1 call refused", "Ctrl-C or 5:00 ends it"]
    {
        assert!(screen.contains(words), "{words}: {screen}");
    }
    terminal.press("C-c");
    let screen = terminal.wait_for_end();
    println!("{screen}");
    assert!(screen.contains("status 0") && !screen.contains(OF_TABLE), "{screen}");
    // The daemon stored the denial, so the next command is the one that the answer of the unit gives.
    assert!(screen.contains("\n  harden-why apply --restart x.service\n"), "{screen}");
    assert!(screen.contains("x.service: uname denied, failed with EPERM, by SystemCallFilter="), "{screen}");
    assert!(!screen.contains("Threads") && screen.lines().count() <= 19, "{screen}");
    // A process that is killed cannot restore anything, and nothing needs it.
    terminal.begin("timeout --foreground -s KILL 3 $H tap x");
    let screen = terminal.wait_for_end();
    assert!(screen.contains("status 137"), "{screen}");
    assert_eq!(terminal.value("cursor_flag"), "1");
    assert!(terminal.finish("echo well").contains("well\nstatus 0"));
}

#[test]
fn tap_that_sees_only_failed_accesses_does_not_say_that_nothing_was_refused() {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        skip("the kernel has no type information");
        return;
    }
    let Some(desk) = Desk::open() else { return };
    desk.manager.write("writes.service", WRITES);
    desk.manager.reload();
    assert!(desk.manager.start_unit("writes.service"));
    let screen = desk.terminal.finish("$H tap writes --exit-code --for 3s");
    println!("{screen}");
    assert!(screen.contains("writes.service: mkdir failed with EROFS: /var/lib/harden-why-test"), "{screen}");
    assert!(!screen.contains("no call was refused"), "{screen}");
    assert!(screen.contains("\nhelp: give the unit StateDirectory=harden-why-test\n"), "{screen}");
    assert!(screen.contains("\n  harden-why apply --restart writes.service\n"), "{screen}");
    assert!(screen.contains("status 1") && screen.lines().count() <= 22, "{screen}");
    // Where only a wide remedy helps, the answer says so.
    desk.manager.write("shares.service", &WRITES.replace("/var/lib", "/usr/share"));
    desk.manager.reload();
    assert!(desk.manager.start_unit("shares.service"));
    let wide = desk.terminal.finish("$H tap shares --for 3s");
    assert!(wide.contains("help: every remedy allows more than what was denied, so none is the default"), "{wide}");
    // The drop-in says what it is for, and no filter is claimed to be new.
    let screen = desk.terminal.finish("$H apply --yes writes");
    println!("{screen}");
    assert!(screen.contains("systemd confirms the new settings."), "{screen}");
    let comments: Vec<&str> = screen.lines().filter(|line| line.contains(" for ")).collect();
    assert!(!comments.is_empty() && comments.iter().all(|line| line.ends_with(" for failed accesses")), "{screen}");
}

#[test]
fn question_says_what_happens_fits_the_screen_and_defaults_to_no() {
    let Some(desk) = Desk::open() else { return };
    let before = desk.show("InvocationID");
    desk.terminal.begin("$H rehearse x");
    let screen = desk.terminal.wait_for("[y/N]");
    println!("{screen}");
    assert!(screen.lines().count() < 24 && screen.starts_with("x.service"), "{screen}");
    desk.terminal.press("Enter");
    let screen = desk.terminal.wait_for_end();
    assert!(screen.contains("Nothing was changed.\n") && screen.contains("status 1"), "{screen}");
    assert_eq!(desk.show("InvocationID"), before);
    wait_for(|| (desk.show("ActiveState") == "active").then_some(()), || "it runs".to_owned());
}
