//! Lets the kernel judge answers about accesses: for each directive that withholds something, a real unit whose program asks
//! for it. The answer must name the directive with its file and line. With the remedy applied the program must work, and it
//! must fail again once the remedy is reverted.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

mod support {
    #[expect(dead_code, reason = "other tests use the rest")]
    pub(crate) mod daemon;
    #[expect(dead_code, reason = "other tests use the rest")]
    pub(crate) mod manager;
    #[expect(dead_code, reason = "other tests use the rest")]
    pub(crate) mod programs;
    #[expect(dead_code, reason = "other tests use the rest")]
    pub(crate) mod sandboxed;
    #[expect(dead_code, reason = "other programs need more of it")]
    pub(crate) mod skip;
    pub(crate) mod unchecked;
}

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::daemon::{Daemon, PROGRAM, wait_for};
use support::sandboxed::{Prepared, Service, client};

/// A directive, the lines of a unit that it stands in, and what the program does: its status tells whether it works.
struct Row {
    directive: &'static str,
    lines: &'static str,
    probe: &'static str,
    /// Lines that the remedy has to consist of, where it must be exact.
    remedy: &'static [&'static str],
}

const fn row(directive: &'static str, lines: &'static str, probe: &'static str) -> Row {
    Row { directive, lines, probe, remedy: &[] }
}

impl Row {
    const fn remedied_by(self, remedy: &'static [&'static str]) -> Self {
        Self { remedy, ..self }
    }
}

const NETLINK: &str = "python3 -c 'import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)'";

const ROWS: [Row; 40] = [
    row("ProtectSystem", "ProtectSystem=strict", "mkdir /etc/harden-why-x && rmdir /etc/harden-why-x"),
    row("ProtectSystem", "ProtectSystem=full", "mkdir /etc/harden-why-x && rmdir /etc/harden-why-x")
        .remedied_by(&["ProtectSystem=yes"]),
    row("ProtectSystem", "ProtectSystem=yes", "touch /usr/local/harden-why-x/new")
        .remedied_by(&["ReadWritePaths=/usr/local/harden-why-x"]),
    row("ReadOnlyPaths", "ReadOnlyPaths=-/nowhere /opt", "mkdir /opt/z && rmdir /opt/z"),
    row("BindReadOnlyPaths", "BindReadOnlyPaths=/opt", "touch /opt/y/new && rm /opt/y/new")
        .remedied_by(&["ReadWritePaths=/opt/y"]),
    row("BindReadOnlyPaths", "BindReadOnlyPaths=/srv /opt", "mkdir /opt/z && rmdir /opt/z")
        .remedied_by(&["BindPaths=", "BindPaths=/opt", "BindReadOnlyPaths=/srv"]),
    row("ProtectHome", "ProtectHome=yes", "cat /home/harden-why-x/file"),
    row("ProtectHome", "ProtectHome=tmpfs", "cat /home/harden-why-x/file"),
    row("ProtectHome", "ProtectHome=read-only", "touch /home/harden-why-x/new")
        .remedied_by(&["ReadWritePaths=/home/harden-why-x"]),
    row("ProtectHome", "User=nobody\nProtectHome=yes", "cat /home/harden-why-x/file"),
    row("ProtectKernelTunables", "ProtectKernelTunables=yes", "at=/proc/sys/kernel/printk_ratelimit; was=$(cat $at) && echo $was >$at")
        .remedied_by(&["ReadWritePaths=-/proc/sys/kernel/printk_ratelimit"]),
    row("ProtectControlGroups", "ProtectControlGroups=yes", "mkdir /sys/fs/cgroup/system.slice/x.service/z")
        .remedied_by(&["ReadWritePaths=-/sys/fs/cgroup/system.slice/x.service"]),
    row("InaccessiblePaths", "InaccessiblePaths=/srv /opt", "cat /opt/file"),
    row("InaccessiblePaths", "User=nobody\nInaccessiblePaths=/opt", "cat /opt/file"),
    row("InaccessiblePaths", "User=nobody\nInaccessiblePaths=-/nowhere /opt/file", "cat /opt/file"),
    row("PrivateTmp", "PrivateTmp=yes", "cat /tmp/harden-why-x"),
    row("TemporaryFileSystem", "TemporaryFileSystem=/opt", "cat /opt/file"),
    row("ProcSubset", "ProcSubset=pid", "cat /proc/meminfo"),
    row("ProtectProc", "User=nobody\nProtectProc=invisible", "cat /proc/1/comm"),
    row("NoExecPaths", "NoExecPaths=/opt\nExecPaths=/opt/y", "/opt/program"),
    row("ProtectKernelLogs", "ProtectKernelLogs=yes", "head -c 0 /dev/kmsg"),
    row("PrivateDevices", "PrivateDevices=yes", "head -c 0 /dev/fuse")
        .remedied_by(&["BindPaths=-/dev/fuse", "DeviceAllow=/dev/fuse r"]),
    row("PrivateDevices", "PrivateDevices=yes", "head -c 0 /dev/loop-control"),
    row("DevicePolicy", "DevicePolicy=closed", "head -c 0 /dev/fuse").remedied_by(&["DeviceAllow=/dev/fuse r"]),
    row("DeviceAllow", "DeviceAllow=/dev/fuse r", "python3 -c 'open(\"/dev/fuse\", \"r+b\", 0)'")
        .remedied_by(&["DeviceAllow=/dev/fuse rw"]),
    row("CapabilityBoundingSet", "CapabilityBoundingSet=~CAP_CHOWN", "touch f; chown 1 f"),
    row("User", "User=nobody", "python3 -c 'import socket; socket.socket().bind((\"127.0.0.1\", 82))'"),
    row("NoNewPrivileges", "User=nobody\nNoNewPrivileges=yes", "[ \"$(/opt/set-id --user)\" = 0 ]"),
    // The program starts, and lacks the rights of its file only later.
    row("NoNewPrivileges", "User=nobody\nNoNewPrivileges=yes", "touch f; /opt/set-id-chown 1 f")
        .remedied_by(&["NoNewPrivileges=no"]),
    row("PrivateUsers", "PrivateUsers=yes", "touch f; chown 12345 f"),
    row("SocketBindDeny", "SocketBindDeny=ipv4:82", "python3 -c 'import socket; socket.socket().bind((\"127.0.0.1\", 82))'"),
    row(
        "IPAddressDeny",
        "IPAddressDeny=any",
        "python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b\"\", (\"127.0.0.1\", 9))'",
    )
    .remedied_by(&["IPAddressAllow=127.0.0.1"]),
    row(
        "MemoryDenyWriteExecute",
        "MemoryDenyWriteExecute=yes",
        "python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)'",
    ),
    row("RestrictAddressFamilies", "RestrictAddressFamilies=AF_UNIX AF_INET", NETLINK)
        .remedied_by(&["RestrictAddressFamilies=AF_NETLINK"]),
    row("RestrictAddressFamilies", "RestrictAddressFamilies=~AF_PACKET AF_NETLINK", NETLINK),
    row(
        "RestrictAddressFamilies",
        "RestrictAddressFamilies=none",
        "HOME=/ python3 -c 'import socket; socket.socket(socket.AF_INET6)'",
    )
    .remedied_by(&["RestrictAddressFamilies=AF_INET6"]),
    row("RestrictNamespaces", "RestrictNamespaces=mnt", "unshare --uts true"),
    row("RestrictSUIDSGID", "RestrictSUIDSGID=yes", "touch f && chmod 4755 f"),
    row("RestrictRealtime", "RestrictRealtime=yes", "chrt --fifo 1 true"),
    row("LockPersonality", "LockPersonality=yes", "setarch --addr-no-randomize true"),
];

/// Directories of this test alone, on the host.
const DIRECTORIES: [&str; 2] = ["/home/harden-why-x", "/usr/local/harden-why-x"];
/// Files there that the test makes, and those that a probe makes.
const FILES: [&str; 2] = ["/home/harden-why-x/file", "/tmp/harden-why-x"];
const NEW: [&str; 2] = ["/home/harden-why-x/new", "/usr/local/harden-why-x/new"];

/// Returns why this machine cannot check a row: it lacks what the directive or its probe needs.
fn find_lack(row: &Row) -> Option<&'static str> {
    let version =
        || String::from_utf8_lossy(&Command::new("systemctl").arg("--version").output().unwrap().stdout).into_owned();
    if row.directive.starts_with("SocketBind") && !version().contains("+BPF_FRAMEWORK") {
        return Some("this systemd was built without BPF_FRAMEWORK, so it ignores the directive");
    }
    let start = row.probe.find("/dev/")?;
    let device = row.probe.get(start..)?.split(|c: char| !c.is_ascii_alphanumeric() && !"/-_".contains(c)).next()?;
    (!Path::new(device).exists()).then_some("the machine has no such device")
}

/// Makes them, and removes them when it is dropped.
struct Files;

impl Files {
    fn make() -> Self {
        for directory in DIRECTORIES {
            fs::create_dir_all(directory).unwrap();
        }
        for file in FILES {
            fs::write(file, "").unwrap();
        }
        Self
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for file in FILES.into_iter().chain(NEW) {
            _ = fs::remove_file(file);
        }
        for directory in DIRECTORIES {
            _ = fs::remove_dir(directory);
        }
    }
}

fn harden_why(service: &Service, arguments: &[&str]) -> Output {
    let bus = service.manager.bus();
    let client = [client(&service.manager), "--bus", &bus, "--json"];
    service.manager.command(&[&client, arguments].concat()).output().unwrap()
}

/// Returns the unit's file and the drop-in for its remedy.
fn unit_files(service: &Service) -> (PathBuf, PathBuf) {
    let base = service.manager.base();
    let (units, drop_ins) = if service.manager.is_pid1() {
        ("/run/systemd/system".into(), "/etc/systemd/system".into())
    } else {
        (base.join("units"), base.join("etc"))
    };
    (units.join("x.service"), drop_ins.join("x.service.d/zz-harden-why.conf"))
}

/// Starts a daemon, unless PID 1 has the installed one.
fn start_daemon(service: &Service) -> Option<Daemon> {
    let manager = &service.manager;
    let start = || Daemon::start(manager.command(&[PROGRAM]), &manager.bus(), &manager.base().join("daemon"));
    (!manager.is_pid1()).then(start)
}

/// Waits until the daemon has stored what the tap saw.
fn wait_for_access(service: &Service, daemon: Option<&Daemon>) {
    if let Some(daemon) = daemon {
        daemon.wait_for_incident(|incident| incident.access().is_some());
        return;
    }
    let is_stored = || {
        let output = harden_why(service, &["x.service"]);
        let json: Value = serde_json::from_slice(&output.stdout).ok()?;
        let denials = answer(&json)?["denials"].as_array()?;
        denials.iter().any(|denial| !denial["access"].is_null()).then_some(())
    };
    wait_for(is_stored, || "the daemon stores no access".to_owned());
}

/// Returns the answer for the unit.
fn answer(json: &Value) -> Option<&Value> {
    json["units"].as_array()?.iter().find(|answer| answer["unit"] == "x.service")
}

/// Whether the answer names the directive, with its file and line, first and for each denial.
fn names_line(answer: &Value, row: &Row, unit_file: &str) -> bool {
    let text = fs::read_to_string(unit_file).unwrap();
    let line = text.lines().position(|line| line.starts_with(&format!("{}=", row.directive))).unwrap() + 1;
    let denials = answer["denials"].as_array().unwrap();
    let is_right = |denial: &Value| {
        let first = &denial["cause"]["directives"][0];
        first["directive"] == row.directive && first["file"] == unit_file && first["line"] == line
    };
    !denials.is_empty() && denials.iter().all(is_right)
}

/// Judges a row. Returns what is wrong.
fn judge(row: &Row) -> Result<(), String> {
    let script = format!("if {}; then : > PLACE/worked; fi", row.probe);
    let Some(service) = Service::start(row.lines, &script) else { return Ok(()) };
    let daemon = start_daemon(&service);
    let (unit_file, drop_in) = unit_files(&service);
    let json = service.watch();
    if service.has_worked() {
        return Err("the directive does not work here".to_owned());
    }
    let Some(answer) = answer(&json) else { return Err(format!("no answer: {json:#}")) };
    if !names_line(answer, row, &unit_file.display().to_string()) {
        return Err(format!("another cause: {json:#}"));
    }
    wait_for_access(&service, daemon.as_ref());
    let is_default = answer["remedies"].as_array().unwrap().iter().any(|remedy| remedy["default"] == true);
    let number: &[&str] = if is_default { &[] } else { &["--remedy", "1"] };
    let applied = harden_why(&service, &[&["apply", "--yes"], number, &["x.service"]].concat());
    let lines = fs::read_to_string(&drop_in).unwrap_or_default();
    // The tests' own bind mount stays on the list.
    let is_of_row = |line: &&str| line.contains('=') && !line.starts_with('#') && !line.contains(".play");
    let written: Vec<&str> = lines.lines().filter(is_of_row).collect();
    if !row.remedy.is_empty() && written != row.remedy {
        return Err(format!("another remedy: {written:?}: {json:#}"));
    }
    if !applied.status.success() {
        return Err(format!("not applied: {applied:?}"));
    }
    if !service.play_again() {
        return Err(format!("no help: {lines}"));
    }
    // What was granted is no denial any more.
    let again = harden_why(&service, &["check", "--exit-code", "x.service"]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    if again["accesses"].as_array().is_none_or(|accesses| accesses.iter().any(|access| access["verdict"] != "pass")) {
        return Err(format!("check: {again:#}"));
    }
    let second = harden_why(&service, &["apply", "--yes", "x.service"]);
    let kept = fs::read_to_string(&drop_in).unwrap_or_default();
    if kept != lines {
        return Err(format!("asked twice: {second:?}: {kept}"));
    }
    let reverted = harden_why(&service, &["revert", "x.service"]);
    if !reverted.status.success() || service.play_again() {
        return Err(format!("not reverted: {reverted:?}"));
    }
    println!("{}: named, remedied, reverted", row.lines.replace('\n', ", "));
    Ok(())
}

/// Returns which part of the rows to judge, and of how many: `HARDEN_WHY_PART=2/4`. All rows take some virtual machines too long.
fn chosen_part() -> (usize, usize) {
    let Ok(chosen) = std::env::var("HARDEN_WHY_PART") else { return (1, 1) };
    let (part, parts) = chosen.split_once('/').unwrap();
    (part.parse().unwrap(), parts.parse().unwrap())
}

#[test]
fn each_directive_is_named_and_its_remedy_works_until_it_is_reverted() {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return support::skip::skip("the kernel has no type information");
    }
    let only = std::env::var("HARDEN_WHY_ROW").unwrap_or_default();
    let (part, parts) = chosen_part();
    let rows = ROWS.iter().skip(part - 1).step_by(parts).filter(|row| row.lines.contains(&only));
    let rows: Vec<&Row> = rows.collect();
    assert!(!rows.is_empty(), "no row has {only}");
    let (mut wrong, mut unchecked) = (Vec::new(), 0);
    for row in &rows {
        if let Some(why) = find_lack(row) {
            support::unchecked::say_unchecked(row.lines, why);
            unchecked += 1;
            continue;
        }
        let (_prepared, _files) = (Prepared::new(), Files::make());
        if let Err(why) = judge(row) {
            println!("{}: {}", row.lines, why.chars().take(4_000).collect::<String>());
            wrong.push(format!("{}: {why}", row.lines));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} rows, {unchecked} of them not checked", rows.len());
}

/// The heading and the columns of the table of all rows in `tests/README.md`.
const TABLE: &str = "| unit | what it does | lines that the remedy has to be |\n|---|---|---|\n";

#[test]
fn table_of_the_rows_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md");
    let text = fs::read_to_string(&path).unwrap();
    let code = |lines: &mut dyn Iterator<Item = &str>| {
        lines.map(|line| format!("`{}`", line.replace('|', "\\|"))).collect::<Vec<_>>().join(" ")
    };
    let rows = ROWS.iter().map(|row| {
        let [unit, probe, remedy] = [
            code(&mut row.lines.lines()),
            code(&mut std::iter::once(row.probe)),
            code(&mut row.remedy.iter().copied()),
        ];
        format!("| {unit} | {probe} | {remedy} |\n")
    });
    let expected = rows.collect::<String>();
    let (before, table) = text.split_once(TABLE).unwrap();
    let length = table.lines().take_while(|line| line.starts_with('|')).map(|line| line.len() + 1).sum();
    let (present, after) = table.split_at(length);
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::write(&path, [before, TABLE, &expected, after].concat()).unwrap();
    } else {
        assert_eq!(present, expected, "UPDATE=1 writes it again");
    }
}
