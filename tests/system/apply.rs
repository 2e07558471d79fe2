//! From a real denial to a working unit: the client against a real systemd, with the store that a daemon would keep.

use crate::support;
use crate::support::denied::denied;
use crate::support::manager::TestManager;
use harden_why::incidents::{Incident, IncidentKey, Query, Store};
use harden_why::units::Manager;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Instant;

const DROP_IN: &str = "zz-harden-why.conf";

/// A program that calls uname(2), under a filter that kills it for that.
const UNIT: &str = "[Service]\nType=oneshot\nExecStart=/bin/uname\nSystemCallFilter=~uname\n";

/// A machine with a unit `x.service` and denials of it.
struct Machine {
    manager: TestManager,
    /// How the client names the unit's manager: the system's, or root's own user manager.
    user: bool,
}

impl Machine {
    fn start(user: bool, unit: &str, calls: &[&str]) -> Option<Self> {
        let machine = Self { manager: TestManager::start()?, user };
        machine.manager.write("x.service", unit);
        machine.manager.reload();
        let manager = if user { Manager::User(0) } else { Manager::System };
        let incidents: Vec<Incident> = calls.iter().map(|call| denied(manager, call)).collect();
        Store::open(&machine.store()).unwrap().record(&incidents).unwrap();
        Some(machine)
    }

    fn store(&self) -> PathBuf {
        self.manager.base().join("store")
    }

    /// The directory of the unit's drop-ins that last.
    fn drop_ins(&self) -> PathBuf {
        let below = if self.user { "home/.config/systemd/user" } else { "etc" };
        self.manager.base().join(below).join("x.service.d")
    }

    /// Runs the client where the manager is, which is root's own user manager there as well.
    fn harden_why(&self, arguments: &[&str]) -> Output {
        const AS_USER: &str = r#"
            mkdir -p /run/user && mount -t tmpfs tmpfs /run/user && mkdir /run/user/0 &&
            mount --bind "$XDG_RUNTIME_DIR" /run/user/0 && mount --bind "$HOME" /root && exec "$@""#;
        let before: &[&str] = if self.user { &["unshare", "--mount", "sh", "-c", AS_USER, "sh"] } else { &[] };
        self.client(before, arguments).output().unwrap()
    }

    /// Runs the client through another command.
    fn client(&self, before: &[&str], arguments: &[&str]) -> Command {
        let (bus, store) = (self.manager.bus(), self.store().display().to_string());
        let client = [env!("CARGO_BIN_EXE_harden-why"), "--bus", &bus];
        // Reverting removes a file, whatever the store contains.
        let source: &[&str] = if arguments.contains(&"revert") { &[] } else { &["--state-dir", &store] };
        self.manager.command(&[before, &client, source, arguments].concat())
    }

    /// Runs the client with other file systems mounted, and lists `/etc/systemd/system` there after a line `left`.
    fn amid(&self, mounts: &str, before: &[&str], arguments: &[&str]) -> Output {
        let script =
            format!(r#"{mounts} || exit 9; "$@"; status=$?; echo left; ls -A /etc/systemd/system; exit $status"#);
        let before = [&["unshare", "--mount", "sh", "-c", &script, "sh"], before].concat();
        self.client(&before, arguments).output().unwrap()
    }

    /// The one line of an error there, and the remaining files.
    #[track_caller]
    fn error_amid(&self, mounts: &str, arguments: &[&str]) -> (String, String) {
        self.error_amid_as(mounts, &[], arguments)
    }

    #[track_caller]
    fn error_amid_as(&self, mounts: &str, before: &[&str], arguments: &[&str]) -> (String, String) {
        let output = self.amid(mounts, before, arguments);
        let (said, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        let status = support::exit_status::of_error(&error);
        assert_eq!((output.status.code(), error.lines().count()), (Some(status), 1), "{said}{error}");
        (error, said.strip_prefix("left\n").unwrap().to_owned())
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.harden_why(&[&["--json"], arguments].concat());
        assert!(output.stderr.is_empty(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The one line of an error.
    #[track_caller]
    fn error(&self, arguments: &[&str]) -> String {
        let output = self.harden_why(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        let status = support::exit_status::of_error(&text);
        assert_eq!((output.status.code(), text.lines().count()), (Some(status), 1), "{text}");
        text
    }

    /// The unit's filter as systemd has it.
    fn held(&self) -> String {
        String::from_utf8(self.manager.systemctl(&["show", "-P", "SystemCallFilter", "x.service"]).stdout).unwrap()
    }
}

#[test]
fn remedy_is_applied_confirmed_and_reverted() {
    let Some(machine) = Machine::start(false, UNIT, &["uname"]) else { return };
    assert!(!machine.manager.start_unit("x.service"));
    let before = machine.held();
    assert_eq!(machine.harden_why(&["check", "x"]).status.code(), Some(0));
    assert_eq!(machine.harden_why(&["check", "x", "--exit-code"]).status.code(), Some(1));

    let dry = machine.json(&["apply", "x", "--dry-run"]);
    assert_eq!((&dry["outcome"], &dry["confirmed"]), (&"dry-run".into(), &false.into()));
    assert!(!machine.drop_ins().exists());

    let applied = machine.json(&["apply", "x", "--yes", "--restart"]);
    assert_eq!((&applied["outcome"], &applied["confirmed"]), (&"applied".into(), &true.into()), "{applied}");
    assert_eq!(applied["restarted"]["result"], "success", "{applied}");
    assert_eq!(applied["path"], "/etc/systemd/system/x.service.d/zz-harden-why.conf");
    let written = fs::read_to_string(machine.drop_ins().join(DROP_IN)).unwrap();
    assert!(
        written.starts_with("# Written by harden-why on ") && written.contains("for denials of uname"),
        "{written}"
    );
    assert!(!machine.held().contains("uname"));
    assert!(machine.manager.start_unit("x.service"), "it works");
    assert_eq!(machine.harden_why(&["check", "x", "--exit-code"]).status.code(), Some(0));

    let reverted = machine.json(&["revert", "x"]);
    assert_eq!(reverted["outcome"], "reverted");
    assert!(!machine.drop_ins().exists());
    assert_eq!(machine.held(), before);
    let nothing = machine.harden_why(&["revert", "x"]);
    assert_eq!(nothing.status.code(), Some(0), "{nothing:?}");
    let nowhere = machine.error(&["revert", "nowhere"]);
    assert!(nowhere.contains("Unit nowhere.service not found."), "{nowhere}");
}

#[test]
fn unit_at_its_start_limit_is_restarted() {
    let often = format!("[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n{UNIT}");
    let Some(machine) = Machine::start(false, &often, &["uname"]) else { return };
    let process = || machine.manager.systemctl(&["show", "-P", "ExecMainPID", "x.service"]).stdout;
    assert!(!machine.manager.start_unit("x.service"));
    let first = process();
    assert!(!machine.manager.start_unit("x.service"));
    assert_eq!(process(), first, "it is not even tried");
    let applied = machine.json(&["apply", "x", "--yes", "--restart"]);
    assert_eq!(applied["restarted"]["result"], "success", "{applied}");
}

#[test]
fn unit_of_a_user_is_changed_below_the_home_directory() {
    let Some(machine) = Machine::start(true, UNIT, &["uname"]) else { return };
    assert!(!machine.manager.start_unit("x.service"));
    let applied = machine.json(&["apply", "x", "--user", "--yes"]);
    assert_eq!((&applied["outcome"], &applied["confirmed"]), (&"applied".into(), &true.into()), "{applied}");
    assert!(machine.drop_ins().join(DROP_IN).exists());
    assert!(machine.manager.start_unit("x.service"));
    assert_eq!(machine.json(&["revert", "x", "--user"])["outcome"], "reverted");
    assert!(!machine.manager.start_unit("x.service"));
}

#[test]
fn second_apply_adds_to_the_first() {
    let unit = "[Service]\nType=oneshot\nExecStart=/bin/true\nSystemCallFilter=~uname sysinfo\n";
    let Some(machine) = Machine::start(false, unit, &["uname"]) else { return };
    assert_eq!(machine.json(&["apply", "x", "--yes", "--remedy", "1"])["outcome"], "applied");
    let more = Machine::start(false, unit, &["sysinfo"]).unwrap();
    // The same machine, with a store that has another denial.
    fs::remove_dir_all(machine.store()).unwrap();
    fs::rename(more.store(), machine.store()).unwrap();
    assert_eq!(machine.json(&["apply", "x", "--yes", "--remedy", "1"])["outcome"], "applied");
    assert!(!machine.held().contains("uname") && !machine.held().contains("sysinfo"), "{}", machine.held());
    assert_eq!(fs::read_dir(machine.drop_ins()).unwrap().count(), 1);
    let written = fs::read_to_string(machine.drop_ins().join(DROP_IN)).unwrap();
    assert!(written.contains("for denials of sysinfo uname\n"), "{written}");
    assert!(written.contains("\n# Before: SystemCallFilter=uname\n"), "{written}");
    assert_eq!(machine.json(&["apply", "x", "--yes"])["outcome"], "unchanged");
    assert_eq!(fs::read_to_string(machine.drop_ins().join(DROP_IN)).unwrap(), written);
}

#[test]
fn runtime_drop_in_goes_below_run() {
    let Some(machine) = Machine::start(false, UNIT, &["uname"]) else { return };
    let applied = machine.json(&["apply", "x", "--yes", "--runtime"]);
    assert_eq!(applied["path"], "/run/systemd/system/x.service.d/zz-harden-why.conf", "{applied}");
    assert!(!machine.drop_ins().exists() && machine.manager.start_unit("x.service"));
    assert_eq!(machine.json(&["revert", "x"])["outcome"], "reverted");
}

#[test]
fn denials_that_the_store_forgot_are_reported() {
    let Some(machine) = Machine::start(false, UNIT, &["uname"]) else { return };
    let mut store = Store::open(&machine.store()).unwrap();
    let known = store.incidents(&Query::default()).unwrap().remove(0).incident;
    let another = |number: u32| Incident {
        key: IncidentKey { exe: format!("/bin/{number}").into_bytes(), ..known.key.clone() },
        ..known.clone()
    };
    store.record(&[another(1), another(2)]).unwrap();
    store.prune(0..0, 1).unwrap();
    drop(store);
    for question in [&["apply", "x", "--dry-run"][..], &["check", "x"]] {
        let notes = machine.json(question)["notes"].to_string();
        assert!(notes.contains("the store was full: 2 denials of all units"), "{question:?}: {notes}");
    }
}

#[test]
fn remedies_applied_twice_are_reverted_at_once() {
    let Some(machine) = Machine::start(false, UNIT, &["uname"]) else { return };
    let before = machine.held();
    assert_eq!(machine.json(&["apply", "x", "--yes", "--runtime"])["outcome"], "applied");
    // As a lasting drop-in, which hides the other.
    let runtime = machine.manager.command(&["cat", &format!("/run/systemd/system/x.service.d/{DROP_IN}")]).output();
    fs::create_dir_all(machine.drop_ins()).unwrap();
    fs::write(machine.drop_ins().join(DROP_IN), runtime.unwrap().stdout).unwrap();
    machine.manager.reload();
    assert_ne!(machine.held(), before);

    let reverted = machine.json(&["revert", "x"]);
    assert_eq!((&reverted["outcome"], &reverted["confirmed"]), (&"reverted".into(), &true.into()), "{reverted}");
    assert_eq!(reverted["path"], "/etc/systemd/system/x.service.d/zz-harden-why.conf");
    let notes = reverted["notes"].to_string();
    assert!(notes.contains("/run/systemd/system/x.service.d/zz-harden-why.conf was removed as well"), "{notes}");
    assert_eq!(machine.held(), before);
    assert_eq!(machine.json(&["revert", "x"])["outcome"], "nothing");
}

#[test]
fn drop_in_that_cannot_be_removed_keeps_the_other() {
    let Some(machine) = Machine::start(false, UNIT, &["uname"]) else { return };
    machine.json(&["apply", "x", "--yes", "--runtime"]);
    fs::create_dir_all(machine.drop_ins()).unwrap();
    fs::write(machine.drop_ins().join(DROP_IN), "# Written by harden-why\n").unwrap();
    machine.manager.reload();
    let readonly =
        "mount --bind /run/systemd/system /run/systemd/system && mount -o remount,ro,bind /run/systemd/system";
    let (error, left) = machine.error_amid(readonly, &["revert", "x", "--system"]);
    assert!(error.contains("/etc/systemd/system/x.service.d/zz-harden-why.conf was put back as it was"), "{error}");
    assert!(error.contains("/run/systemd/system/x.service.d/zz-harden-why.conf is on a read-only"), "{error}");
    assert_eq!(left, "x.service.d\n");
}

#[test]
fn drop_in_still_held_by_systemd_is_not_reported_removed() {
    let Some(machine) = Machine::start(false, UNIT, &["uname"]) else { return };
    machine.json(&["apply", "x", "--yes"]);
    // The client removes it from another /etc than the one that systemd reads.
    let elsewhere = "mount -t tmpfs tmpfs /mnt && cp -a /etc/systemd/system/x.service.d /mnt &&
        mount --bind /mnt /etc/systemd/system";
    let output = machine.amid(elsewhere, &[], &["--json", "revert", "x", "--system"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let reverted: serde_json::Value = serde_json::from_str(said.split("left\n").next().unwrap()).unwrap();
    assert_eq!((&reverted["outcome"], &reverted["confirmed"]), (&"reverted".into(), &false.into()), "{reverted}");
    assert!(reverted["notes"].to_string().contains("systemd still lists /etc/systemd/system/x.service.d"), "{said}");
}

#[test]
fn change_that_cannot_be_applied_says_why_and_changes_nothing() {
    let Some(machine) = Machine::start(false, UNIT, &["uname"]) else { return };
    assert!(machine.error(&["apply", "x"]).contains("add --yes or --dry-run"));
    assert!(machine.error(&["apply", "x", "--yes", "--remedy", "9"]).contains("are numbered 1 to"));
    assert!(machine.error(&["apply", "x", "--yes", "--remedy", "0"]).contains("are numbered 1 to"));
    assert!(machine.error(&["apply", "y", "--yes"]).contains("Unit y.service not found."));
    assert!(
        machine.error(&["check", "x", "--with", "ExecStart=/bin/sh"]).contains("settings that decide on system calls")
    );

    fs::create_dir_all(machine.drop_ins()).unwrap();
    let foreign = machine.drop_ins().join(DROP_IN);
    fs::write(&foreign, "[Service]\nNice=1\n").unwrap();
    assert!(machine.error(&["apply", "x", "--yes"]).contains("harden-why did not write /"));
    assert!(machine.error(&["revert", "x"]).contains("harden-why did not write /"));
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "[Service]\nNice=1\n");
    fs::remove_file(&foreign).unwrap();

    // A later drop-in of the administrator decides.
    fs::write(machine.drop_ins().join("zzz.conf"), "[Service]\nSystemCallFilter=~uname\n").unwrap();
    machine.manager.reload();
    assert_eq!(machine.json(&["apply", "x", "--yes"])["outcome"], "unchanged", "it was not denied since");
    Store::open(&machine.store()).unwrap().record(&[denied(Manager::System, "uname")]).unwrap();
    assert!(machine.error(&["apply", "x", "--yes"]).contains("there is no remedy"));
    assert!(!foreign.exists());
    fs::remove_file(machine.drop_ins().join("zzz.conf")).unwrap();

    fs::remove_file(machine.manager.base().join("units/x.service")).unwrap();
    std::os::unix::fs::symlink("/dev/null", machine.manager.base().join("units/x.service")).unwrap();
    machine.manager.reload();
    let masked = machine.error(&["apply", "x", "--yes"]);
    assert!(masked.contains("is masked"), "{masked}");
}

#[test]
fn transient_unit_is_left_to_its_creator() {
    let Some(machine) = Machine::start(false, UNIT, &["uname"]) else { return };
    fs::remove_file(machine.manager.base().join("units/x.service")).unwrap();
    machine.manager.reload();
    let run = ["systemd-run", "--user", "--unit=x", "-p", "SystemCallFilter=~uname", "sleep", "600"];
    let started = machine.manager.command(&run).output().unwrap();
    assert!(started.status.success(), "{started:?}");
    let transient = machine.error(&["apply", "x", "--yes"]);
    assert!(transient.contains("is transient"), "{transient}");
}

#[test]
fn command_for_a_transient_unit_starts_it_with_the_remedy() {
    let Some(machine) = Machine::start(false, UNIT, &["uname"]) else { return };
    fs::remove_file(machine.manager.base().join("units/x.service")).unwrap();
    machine.manager.reload();
    let run = ["systemd-run", "--user", "--unit=x", "--remain-after-exit", "-p", "SystemCallFilter=~uname", "sh", "-c"];
    let run = [&run[..], &["uname; test $? = 0"]].concat();
    assert!(machine.manager.command(&run).output().unwrap().status.success());
    Store::open(&machine.store()).unwrap().record(&[denied(Manager::System, "uname")]).unwrap();
    let answer = machine.json(&["x"])["units"][0].clone();
    let command = answer["apply"].as_str().unwrap().to_owned();
    assert_eq!(answer["remedies"][0]["command"], command, "{answer}");
    assert_eq!((&answer["remedies"][0]["path"], &answer["then"]), (&serde_json::Value::Null, &serde_json::json!([])));
    let expected =
        "systemd-run --unit=x.service -p 'SystemCallFilter=~uname' -p RemainAfterExit=yes -p SystemCallFilter=uname ";
    assert!(command.starts_with(expected), "{command}");
    // The test's system manager is a user manager.
    let again = command.replacen("systemd-run", "systemd-run --user", 1);
    machine.manager.systemctl(&["stop", "x.service"]);
    machine.manager.systemctl(&["reset-failed"]);
    assert!(machine.manager.command(&["sh", "-c", &again]).output().unwrap().status.success());
    let deadline = Instant::now() + std::time::Duration::from_secs(20);
    let state =
        || String::from_utf8(machine.manager.systemctl(&["show", "-P", "SubState", "x.service"]).stdout).unwrap();
    while state() == "running\n" && Instant::now() < deadline {
        sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(state(), "exited\n", "the call passes");
}

#[test]
fn link_into_the_store_of_nixos_is_read_only() {
    let Some(machine) = Machine::start(false, UNIT, &["uname"]) else { return };
    let nixos = "mount -t tmpfs tmpfs /mnt && mkdir -p /mnt/nix /mnt/nix/store/abc-units &&
        mount --bind /mnt/nix /nix && mount -t tmpfs tmpfs /etc/systemd &&
        ln -s /nix/store/abc-units /etc/systemd/system";
    let is_made = fs::create_dir("/nix").is_ok();
    let output = machine.amid(nixos, &[], &["--json", "apply", "x", "--yes", "--restart"]);
    let answer = machine.amid(nixos, &[], &["-v", "x"]);
    if is_made {
        fs::remove_dir("/nix").unwrap();
    }
    let said = String::from_utf8(output.stdout).unwrap();
    let applied: serde_json::Value = serde_json::from_str(said.split("left\n").next().unwrap()).unwrap();
    assert_eq!((&applied["outcome"], output.status.code()), (&"read-only".into(), Some(1)), "{applied}");
    assert_eq!(applied["runtime"], "harden-why apply --runtime --restart x.service");
    let lines = serde_json::json!(["systemd.services.x.serviceConfig.SystemCallFilter = lib.mkAfter [ \"uname\" ];"]);
    assert_eq!((&applied["configuration"]["form"], &applied["configuration"]["lines"]), (&"nixos".into(), &lines));
    let page = String::from_utf8(answer.stdout).unwrap();
    assert!(page.contains("To do it:\n  harden-why apply --runtime --restart --state-dir "), "{page}");
    assert!(page.contains("/run/systemd/system/x.service.d/zz-harden-why.conf"), "{page}");
}

#[test]
fn change_that_systemd_does_not_take_is_rolled_back() {
    let Some(machine) = Machine::start(false, UNIT, &["uname"]) else { return };
    // The client sees another /etc than systemd.
    let (error, left) = machine.error_amid("mount -t tmpfs tmpfs /etc/systemd/system", &["apply", "x", "--yes"]);
    assert!(error.contains("was put back as it was: systemd reads no drop-ins in"), "{error}");
    assert_eq!(left, "");
}

#[test]
fn failed_write_leaves_nothing_behind() {
    let Some(machine) = Machine::start(false, UNIT, &["uname"]) else { return };
    let before = machine.held();
    let apply = ["apply", "x", "--yes"];

    let readonly = "mount --bind /etc/systemd/system /etc/systemd/system &&
        mount -o remount,ro,bind /etc/systemd/system";
    let output = machine.amid(readonly, &[], &apply);
    let page = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(1), 0), "{page}");
    assert!(page.contains("Nothing was written: the file system is read-only."), "{page}");
    assert!(page.contains("\n  harden-why apply --runtime x.service\n"), "{page}");
    assert!(page.contains("/etc/systemd/system is read-only. To keep") && page.contains("\n  [Service]\n"), "{page}");
    assert!(page.ends_with("left\n"), "{page}");

    // Of two inodes, the directory takes the second, and none is left for the file.
    let full = "mount -t tmpfs -o nr_inodes=2 tmpfs /etc/systemd/system";
    let (error, left) = machine.error_amid(full, &apply);
    assert!(
        error.contains("cannot change /etc/systemd/system/x.service.d/zz-harden-why.conf: No space left"),
        "{error}"
    );
    assert_eq!(left, "");

    // Root without capabilities, where another user owns the directory.
    let others = "mount -t tmpfs -o uid=65534,mode=0755 tmpfs /etc/systemd/system";
    let powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let (error, left) = machine.error_amid_as(others, &powerless, &apply);
    assert!(error.contains("cannot change /etc/systemd/system/x.service.d (Permission denied"), "{error}");
    assert_eq!(left, "");

    assert_eq!(machine.held(), before);
    // The advice of the message works.
    let output = machine.amid(readonly, &[], &[&apply[..], &["--runtime"]].concat());
    assert!(
        String::from_utf8(output.stdout).unwrap().contains("Written and loaded; systemd confirms the new filter."),
        "{:?}",
        output.stderr
    );
    assert_ne!(machine.held(), before);

    fs::create_dir_all(machine.drop_ins()).unwrap();
    let written = "# Written by harden-why\n[Service]\nSystemCallFilter=uname\n";
    fs::write(machine.drop_ins().join(DROP_IN), written).unwrap();
    let (error, left) = machine.error_amid(readonly, &["revert", "x", "--system"]);
    assert!(error.contains("zz-harden-why.conf is on a read-only file system"), "{error}");
    assert_eq!(left, "x.service.d\n");
}

#[test]
fn signal_at_any_moment_leaves_all_or_nothing() {
    const ROUNDS: u32 = 30;
    let Some(machine) = Machine::start(false, UNIT, &["uname"]) else { return };
    let before = machine.held();
    let start = Instant::now();
    assert_eq!(machine.json(&["apply", "x", "--yes"])["outcome"], "applied");
    let (whole, after) = (start.elapsed(), machine.held());
    assert_eq!(machine.json(&["revert", "x", "--system"])["outcome"], "reverted");
    let mut outcomes = BTreeMap::<&str, u32>::new();
    for round in 0..=ROUNDS {
        let signal = if round % 2 == 0 { Signal::SIGINT } else { Signal::SIGTERM };
        let child = machine.client(&[], &["apply", "x", "--yes"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        if round == ROUNDS {
            // Once the signal comes too late, however slow the machine is.
            child.wait().unwrap();
        } else {
            sleep(whole * 3 * round / (2 * ROUNDS));
            // It may have ended already. It is reaped only below, so the PID is its own.
            kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let outcome = match output.status.code() {
            Some(0) => "applied",
            Some(1) => "put back",
            Some(code) => panic!("{code}: {said}"),
            None => "killed",
        };
        let is = (machine.drop_ins().join(DROP_IN).exists(), machine.held());
        let (expected, words) = match outcome {
            "applied" => ((true, after.clone()), "Written and loaded; systemd confirms the new filter."),
            "put back" => ((false, before.clone()), "was put back as it was: interrupted by"),
            _ => ((false, before.clone()), ""),
        };
        assert_eq!(is, expected, "{round}: {outcome}: {said}");
        assert!(said.contains(words) && (!words.is_empty() || said.is_empty()), "{round}: {outcome}: {said}");
        if outcome == "applied" {
            assert_eq!(machine.json(&["revert", "x", "--system"])["outcome"], "reverted");
        }
        assert!(!machine.drop_ins().exists(), "nothing is left beside the drop-in");
        *outcomes.entry(outcome).or_default() += 1;
    }
    println!("{outcomes:?}");
    assert!(["killed", "put back", "applied"].iter().all(|outcome| outcomes.contains_key(outcome)), "{outcomes:?}");
}

#[test]
fn other_settings_are_tried_without_being_written() {
    let unit = "[Service]\nExecStart=/bin/true\nSystemCallFilter=@system-service\nRestrictAddressFamilies=AF_UNIX\n";
    let Some(machine) = Machine::start(false, unit, &["socket", "mount"]) else { return };
    let checked = machine.json(&["check", "x"]);
    let verdicts = |checked: &serde_json::Value| -> Vec<String> {
        checked["calls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|call| format!("{} {}", call["call"], call["verdict"]).replace('"', ""))
            .collect()
    };
    assert_eq!(verdicts(&checked), ["mount denied", "socket depends"]);
    assert_eq!(checked["pass"], false);
    let with = machine.json(&["check", "x", "--with", "SystemCallFilter=mount", "--with", "RestrictAddressFamilies="]);
    assert_eq!(verdicts(&with), ["mount pass", "socket pass"]);
    assert_eq!(with["pass"], true);
    let still = machine.json(&["check", "x", "--with", "SystemCallFilter=~socket"]);
    assert_eq!(still["calls"][1]["by"], serde_json::json!(["--with 'SystemCallFilter=~socket'"]), "{still}");
    let error = machine.error(&["check", "x", "--with", "SystemCallFilter=~@netwrk-io"]);
    assert!(
        error.contains("invalid --with SystemCallFilter=~@netwrk-io: ")
            && error.contains("(did you mean @network-io?)"),
        "{error}"
    );
    assert!(!machine.drop_ins().exists());
}

#[test]
fn settings_of_every_kind_equal_those_of_systemd() {
    let unit = "[Service]\nExecStart=/bin/true\nSystemCallFilter=@system-service\nSystemCallFilter=~uname:EPERM @mount\n\
        SystemCallErrorNumber=EACCES\nSystemCallLog=~reboot @obsolete\nSystemCallArchitectures=native x86\n\
        RestrictAddressFamilies=AF_LOCAL AF_ROUTE\nRestrictNamespaces=~net time\nProtectClock=yes\nDynamicUser=yes\n";
    let Some(machine) = Machine::start(false, unit, &["mount"]) else { return };
    assert_eq!(machine.json(&["check", "x"])["notes"], serde_json::json!([]));
    for line in ["RestrictAddressFamilies=~AF_INET", "RestrictNamespaces=yes", "SystemCallLog=read", "SystemCallLog="] {
        machine.manager.write("x.service.d/50.conf", &format!("[Service]\n{line}\n"));
        machine.manager.reload();
        assert_eq!(machine.json(&["check", "x"])["notes"], serde_json::json!([]), "{line}");
    }
}
