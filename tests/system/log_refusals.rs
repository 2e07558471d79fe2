//! `log-refusals` against a real systemd: refused calls are recorded while it is on, and at no other time, whatever
//! happens to the client. Once for the system's manager, once for a user's, without root.

use crate::support;
use crate::support::bus::Bus;
use crate::support::child::{call, listen, violate, wait};
use crate::support::manager::TestManager;
use harden_why::audit::{Action, parse_record};
use harden_why::incidents::Store;
use harden_why::intake::netlink::{AuditMessage, AuditSocket, ReceiveError};
use harden_why::kernel::procfs::Procfs;
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::syscalls::Arch;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const FILE: &str = "zz-harden-why-log-refusals.conf";
/// How long anything may take here.
const PATIENCE: Duration = Duration::from_mins(1);
/// A unit whose call is refused and that runs on.
const QUIET: &str = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStartPre=-/bin/uname\nExecStart=/bin/sleep 1000\n\
                     SystemCallFilter=~uname\nSystemCallErrorNumber=EPERM\nLockPersonality=yes\n";
/// A unit that has done its work and stays active.
const DONE: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nLockPersonality=yes\n";
const LOUD: &str = "[Service]\nExecStart=/bin/sleep 1000\nSystemCallFilter=~uname\n";

/// Prepares the namespaces of the test's manager: as a user's manager it reads what the system's would read.
const AS_SYSTEM: &str = "ln -s system.conf.d /run/systemd/user.conf.d && mount -t tmpfs tmpfs /run/user";

/// A user's manager, without root, where the system's would start it.
const AS_USER: &str = r#"[Service]
Slice=user-65534.slice
Delegate=yes
Environment=HOME=/run/user/home XDG_RUNTIME_DIR=/run/user/65534 DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent
UnsetEnvironment=XDG_CONFIG_HOME SYSTEMD_UNIT_PATH
ExecStart=/bin/sh -c 'chown -R 65534 "/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)"; \
    exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all /lib/systemd/systemd --user --unit=basic.target'
"#;

/// A machine on which the tested manager is the system's, or a user's.
struct Machine {
    manager: TestManager,
    user: bool,
}

impl Machine {
    fn start(user: bool) -> Option<Self> {
        let manager = TestManager::start()?;
        if manager.is_pid1() {
            support::skip::skip("no refusals are logged for the machine's own manager");
            return None;
        }
        let machine = Self { manager, user };
        machine.shell(AS_SYSTEM);
        Store::open(&machine.store()).unwrap();
        if user {
            let client = env!("CARGO_BIN_EXE_harden-why");
            machine.shell(&format!(
                "mkdir -p /run/user/65534 /run/user/home/.config/systemd/user /run/user/store && \
                 cp {client} /run/user/harden-why && cp -r {}/. /run/user/store && \
                 printf '[Unit]\n' >/run/user/home/.config/systemd/user/basic.target && \
                 chown -R 65534 /run/user/65534 /run/user/home /run/user/store",
                machine.store().display()
            ));
            machine.manager.write("user@65534.service", AS_USER);
            machine.manager.reload();
            assert!(machine.manager.start_unit("user@65534.service"));
            let up = || machine.systemctl(&["is-active", "basic.target"]).status.success();
            wait_until(up, || format!("{:?}", machine.manager.systemctl(&["status", "user@65534"])));
        }
        machine.write("quiet.service", QUIET);
        machine.write("done.service", DONE);
        machine.write("loud.service", LOUD);
        machine.reload();
        Some(machine)
    }

    fn store(&self) -> PathBuf {
        self.manager.base().join("store")
    }

    /// Runs a script as root where the managers are.
    #[track_caller]
    fn shell(&self, script: &str) -> String {
        let output = self.manager.command(&["sh", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        if self.user {
            let text = text.replace('\n', "\\n");
            self.shell(&format!("printf '{text}' >/run/user/home/.config/systemd/user/{name}"));
        } else {
            self.manager.write(name, text);
        }
    }

    /// A command of the user who runs the verb.
    fn command(&self, command: &[&str]) -> Command {
        const SETPRIV: [&str; 12] = [
            "env",
            "-u",
            "XDG_CONFIG_HOME",
            "-u",
            "DBUS_SESSION_BUS_ADDRESS",
            "HOME=/run/user/home",
            "XDG_RUNTIME_DIR=/run/user/65534",
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
        ];
        let before: &[&str] = if self.user { &SETPRIV } else { &[] };
        self.manager.command(&[before, command].concat())
    }

    fn systemctl(&self, arguments: &[&str]) -> Output {
        self.command(&[&["systemctl", "--user"], arguments].concat()).output().unwrap()
    }

    fn reload(&self) {
        let output = self.systemctl(&["daemon-reload"]);
        assert!(output.status.success(), "{output:?}");
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let (bus, store) = (self.manager.bus(), self.store().display().to_string());
        let (client, store) = if self.user {
            ("/run/user/harden-why", "/run/user/store")
        } else {
            (env!("CARGO_BIN_EXE_harden-why"), store.as_str())
        };
        let flag: &[&str] = if self.user { &["--user"] } else { &[] };
        // Verbs that read no incidents have no store option.
        let source: &[&str] = match arguments {
            arguments if ["log-refusals", "status", "restore"].iter().any(|verb| arguments.contains(verb)) => &[],
            _ => &["--state-dir", store],
        };
        let flag = if arguments.contains(&"log-refusals") { flag } else { &[] };
        self.command(&[&[client, "--bus", &bus], source, arguments, flag].concat())
    }

    fn harden_why(&self, arguments: &[&str]) -> Output {
        self.client(arguments).output().unwrap()
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.harden_why(&[&["--json"], arguments].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// The one line of an error.
    #[track_caller]
    fn error(&self, arguments: &[&str]) -> String {
        let output = self.harden_why(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        let status = support::exit_status::of_error(&error);
        assert_eq!((output.status.code(), error.lines().count()), (Some(status), 1), "{error}");
        error
    }

    /// The one line that explains why there is nothing to do.
    #[track_caller]
    fn nothing_to_do(&self, arguments: &[&str]) -> String {
        let output = self.harden_why(arguments);
        assert!(output.status.code() == Some(0) && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The state of the manager as `status` shows it.
    #[track_caller]
    fn recording(&self) -> Value {
        let of = if self.user { "user:65534" } else { "system" };
        let status = self.json(&["status"]);
        let found = status["recording"].as_array().unwrap().iter().find(|one| one["manager"] == of);
        found.unwrap_or_else(|| panic!("{status}")).clone()
    }

    /// Restarts the unit and returns how many of its refused calls were recorded.
    #[track_caller]
    fn refusals(&self, audit: &mut AuditSocket) -> usize {
        // `uname` marks the start of this call's records.
        seen(audit, |_| false);
        let restarted = self.systemctl(&["restart", "quiet.service"]);
        assert!(restarted.status.success(), "{restarted:?}");
        let shown = text(&self.systemctl(&["show", "-P", "ExecStartPreEx", "quiet.service"]));
        let field = |name: &str| {
            let value = shown.split("; ").find_map(|field| field.strip_prefix(name)).unwrap();
            value.split([' ', '/']).next().unwrap().to_owned()
        };
        assert_eq!(field("status="), "1", "it was refused what it asked: {shown}");
        let pid: u32 = field("pid=").parse().unwrap();
        seen(audit, |record| *record == (pid, Action::Errno)).len()
    }

    /// The manager's PID.
    fn pid(&self) -> Pid {
        const ASK: &str = "call org.freedesktop.DBus / org.freedesktop.DBus GetConnectionUnixProcessID s \
                           org.freedesktop.systemd1";
        let bus = self.manager.bus();
        let words: Vec<&str> = ["busctl", "--address", &bus].into_iter().chain(ASK.split_whitespace()).collect();
        let said = text(&self.manager.command(&words).output().unwrap());
        Pid::from_raw(said.trim().strip_prefix("u ").unwrap().parse().unwrap())
    }

    /// All files that the verb may write.
    fn left(&self) -> Vec<String> {
        let script = "find /run/systemd /run/user /etc/systemd \\( -name '*harden-why*' -o -name '.harden-why*' \\) \
                      ! -path /run/user/harden-why ! -path '*/transient/*' ! -path '/run/systemd/units/*'";
        let mut left: Vec<String> = self.shell(script).lines().map(str::to_owned).collect();
        left.sort();
        left
    }

    fn has_timer(&self) -> bool {
        let listed = self.systemctl(&["list-units", "--all", "--no-legend", "harden-why-log-refusals*"]);
        !listed.stdout.is_empty()
    }
}

/// PID and action of every record until one that this test makes.
fn seen(audit: &mut AuditSocket, such: impl Fn(&(u32, Action)) -> bool) -> Vec<(u32, Action)> {
    let number = 9_000_000 + std::process::id();
    let (marker, _) = violate(
        SeccompFilter::new(Arch::native(), &[(number, return_value(Action::KillProcess, 0))], ALLOW),
        c"marker",
        call(number),
    );
    let (deadline, mut found) = (Instant::now() + PATIENCE, Vec::new());
    loop {
        match audit.receive() {
            Ok(Some(AuditMessage::Seccomp(payload))) => {
                let record = parse_record(payload).unwrap();
                if record.pid == marker {
                    return found;
                }
                found.extend(Some((record.pid, record.action)).filter(|record| such(record)));
            }
            Ok(Some(_)) | Err(ReceiveError::Overrun) => {}
            Ok(None) => {
                assert!(Instant::now() < deadline, "no record of the marker");
                wait(audit);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[track_caller]
fn wait_until(mut is: impl FnMut() -> bool, otherwise: impl FnOnce() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "{}", otherwise());
        sleep(Duration::from_millis(50));
    }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// On, off, and nothing left: refused calls are recorded in between only.
fn recorded_while_it_is_on(user: bool) {
    let Some(mut audit) = listen() else { return };
    let Some(machine) = Machine::start(user) else { return };
    let on = |machine: &Machine| machine.recording()["on"].as_bool();
    assert_eq!((machine.refusals(&mut audit), on(&machine)), (0, Some(false)), "silent before");

    // Running units are restarted; a unit that has done its work does not do it again.
    let done = || text(&machine.systemctl(&["show", "-P", "InvocationID", "done.service"]));
    assert!(machine.systemctl(&["start", "done.service"]).status.success());
    let invocation = done();
    let exposed = machine.json(&["log-refusals", "quiet", "done", "--yes"]);
    assert_eq!((&exposed["outcome"], &exposed["units"][0]["active_state"]), (&"started".into(), &"active".into()));
    let why = "it has finished, and would run again";
    assert_eq!((&exposed["units"][1]["error"], done()), (&why.into(), invocation.clone()), "{exposed}");
    assert_eq!(exposed["notes"], Value::Array(Vec::new()), "nobody is told to have it done again");
    let directives = exposed["units"][0]["directives"].as_array().unwrap();
    assert!(
        directives.contains(&"SystemCallFilter".into()) && directives.contains(&"LockPersonality".into()),
        "{exposed}"
    );
    let recording = machine.recording();
    assert_eq!((&recording["by"], &recording["until"]), (&"harden-why".into(), &exposed["until"]), "{recording}");
    assert_eq!(machine.refusals(&mut audit), 1, "recorded while it is on");
    assert!(machine.has_timer());
    let place = if user { "/run/user/65534/harden-why" } else { "/run/systemd/system.conf.d" };
    let of_user = [place.to_owned(), format!("{place}/{FILE}")];
    let left = if user { &of_user[..] } else { &of_user[1..] };
    assert_eq!(machine.left(), left, "nothing is in the home");

    // Another reload changes nothing, nor does a second call, other than the end.
    machine.reload();
    let longer = machine.json(&["log-refusals", "quiet", "--yes", "--for", "2h", "--no-restart"]);
    assert_eq!((&longer["outcome"], &longer["since"]), (&"extended".into(), &exposed["since"]));
    assert!(longer["notes"].to_string().contains("restart quiet.service\""), "{longer}");
    let all = machine.json(&["log-refusals", "--all", "--yes", "--for", "2h"]);
    let names: Vec<&str> = all["units"].as_array().unwrap().iter().filter_map(|unit| unit["unit"].as_str()).collect();
    assert!(["done.service", "quiet.service"].iter().all(|unit| names.contains(unit)), "{all}");
    assert_eq!(done(), invocation, "{all}");
    assert!(longer["until"].as_str() > exposed["until"].as_str());
    assert_eq!(machine.refusals(&mut audit), 1, "still recorded");

    let ended = machine.json(&["log-refusals", "--off"]);
    assert_eq!(ended["outcome"], "ended");
    let notes = ended["notes"].to_string();
    assert!(notes.contains("keep logging until they restart") && notes.contains("restart quiet.service"), "{notes}");
    assert_eq!((machine.refusals(&mut audit), on(&machine)), (0, Some(false)), "silent again");
    assert_eq!((machine.left(), machine.has_timer()), (vec![], false));
    let nothing = machine.harden_why(&["log-refusals", "--off"]);
    assert_eq!(nothing.status.code(), Some(0), "{nothing:?}");

    // A time that ends without its client; a longer one where the machine is too slow for a short one.
    let over = |machine: &Machine| {
        wait_until(|| machine.left().is_empty() && !machine.has_timer(), || format!("{:?}", machine.left()));
    };
    let in_time = [3, 10, 40].into_iter().any(|seconds| {
        let (limit, begun) = (format!("{seconds}s"), Instant::now());
        assert_eq!(machine.json(&["log-refusals", "quiet", "--yes", "--for", &limit])["outcome"], "started");
        let (recorded, took) = (machine.refusals(&mut audit), begun.elapsed());
        assert!(recorded == 1 || took > Duration::from_secs(seconds), "{recorded} within {took:?} of {limit}");
        over(&machine);
        recorded == 1
    });
    assert!(in_time, "recorded while it is on");
    assert_eq!((machine.refusals(&mut audit), on(&machine)), (0, Some(false)), "it ended by itself");
}

#[test]
fn refusals_of_system_units_are_recorded_while_it_is_on() {
    recorded_while_it_is_on(false);
}

#[test]
fn refusals_of_user_units_are_recorded_while_it_is_on() {
    recorded_while_it_is_on(true);
}

/// A client killed at any point leaves a state that is complete, or that is found and undone.
fn killed_at_any_point(user: bool) {
    const TRIES: u32 = 20;
    let Some(mut audit) = listen() else { return };
    let Some(machine) = Machine::start(user) else { return };
    let (on, off) = (["log-refusals", "quiet", "--yes"], ["log-refusals", "--off"]);
    let timed = |arguments: &[&str]| {
        let begun = Instant::now();
        machine.json(arguments);
        begun.elapsed()
    };
    let (whole_on, whole_off) = (timed(&on), timed(&off));
    let (mut mended, mut whole) = (0, 0);
    for number in 0..TRIES {
        // Half of the tries each: killed while it switches logging on, or off.
        let (arguments, whole_time) = if number % 2 == 0 { (&on[..], whole_on) } else { (&off[..], whole_off) };
        if number % 2 == 1 {
            machine.json(&on);
        }
        let mut client = machine.client(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Wherever that is on this machine now, some clients are killed after they have begun.
        if number % 4 == 0 {
            let begun = |client: &mut Child| !machine.left().is_empty() || client.try_wait().unwrap().is_some();
            wait_until(|| begun(&mut client), || "it does not begin".to_owned());
        } else {
            sleep(whole_time * number / TRIES);
        }
        client.kill().unwrap();
        client.wait().unwrap();
        let said = machine.harden_why(&["status"]).stderr;
        let said = String::from_utf8(said).unwrap();
        if said.contains("was left by a harden-why that was killed; it is off now") {
            mended += 1;
        } else {
            assert_eq!(said, "", "after try {number}");
        }
        if machine.recording()["on"] == true {
            whole += 1;
            assert_eq!(machine.json(&off)["outcome"], "ended");
        }
        assert_eq!(machine.left(), Vec::<String>::new(), "after try {number}");
        // At the latest by its timer, which ends what is left.
        let begun = machine.systemctl(&["start", "harden-why-log-refusals.service"]);
        assert!(begun.status.success() || !machine.has_timer(), "{begun:?}");
        machine.systemctl(&["stop", "harden-why-log-refusals.timer", "harden-why-log-refusals-extended.timer"]);
    }
    println!("of {TRIES} killed, {mended} were mended, {whole} were whole");
    assert!(mended > 0, "none was hit");
    assert_eq!(machine.refusals(&mut audit), 0, "silent as before");
}

#[test]
fn client_of_the_system_killed_at_any_point_is_cleaned_up_after() {
    killed_at_any_point(false);
}

#[test]
fn client_of_a_user_killed_at_any_point_is_cleaned_up_after() {
    killed_at_any_point(true);
}

#[test]
fn logging_switched_on_by_another_is_left_alone() {
    let Some(mut audit) = listen() else { return };
    let Some(machine) = Machine::start(false) else { return };
    let dir = "/run/systemd/system.conf.d";
    let put = |name: &str, value: &str| {
        machine.shell(&format!(
            "mkdir -p {dir} && printf '[Manager]\\nManagerEnvironment=A=1 SYSTEMD_LOG_SECCOMP={value}\\n' >{dir}/{name}"
        ));
    };
    // Not loaded yet, so not in force.
    put("50-admin.conf", "yes");
    assert_eq!(machine.recording()["on"], false);
    machine.reload();
    let recording = machine.recording();
    assert_eq!((&recording["on"], &recording["by"]), (&true.into(), &format!("{dir}/50-admin.conf:2").into()));

    let exposed = machine.json(&["log-refusals", "quiet", "--yes"]);
    assert_eq!(exposed["outcome"], "others");
    assert!(exposed["notes"].to_string().contains("50-admin.conf:2 logs refusals already"), "{exposed}");
    assert_eq!((machine.left(), machine.has_timer()), (vec![], false));
    let off = machine.json(&["log-refusals", "--off"]);
    assert_eq!(off["outcome"], "nothing");
    assert!(off["notes"].to_string().contains("harden-why switches off only its own logging"), "{off}");
    assert_eq!(machine.refusals(&mut audit), 1, "still theirs, and on");

    // A later drop-in that switches logging off would undo ours: it is noticed before any change.
    put("50-admin.conf", "no");
    put("zzz-last.conf", "no");
    machine.reload();
    let error = machine.error(&["log-refusals", "quiet", "--yes"]);
    assert!(error.contains("zzz-last.conf:2 overrides the drop-in that log-refusals writes"), "{error}");
    machine.shell(&format!("rm {dir}/zzz-last.conf && mkdir -p /etc/systemd/system.conf.d"));
    assert_eq!((machine.left(), machine.refusals(&mut audit)), (vec![], 0));

    // An earlier one is overridden, and in force again afterwards.
    assert_eq!(machine.json(&["log-refusals", "quiet", "--yes"])["outcome"], "started");
    assert_eq!(machine.refusals(&mut audit), 1);
    put("50-admin.conf", "yes");
    assert_eq!(machine.json(&["log-refusals", "--off"])["outcome"], "ended");
    assert_eq!((machine.refusals(&mut audit), machine.left()), (1, vec![]), "as their file says");
}

#[test]
fn impossible_request_is_refused_before_any_change() {
    let Some(machine) = Machine::start(true) else { return };
    let none = machine.nothing_to_do(&["log-refusals", "loud", "--yes"]);
    assert!(none.contains("loud.service refuses no call silently, so there is nothing to log."), "{none}");
    let missing = machine.error(&["log-refusals", "missing", "--yes"]);
    assert!(missing.contains("Unit missing.service not found."), "{missing}");
    let nobody = machine.error(&["log-refusals", "quiet"]);
    assert!(nobody.contains("there is no terminal: add --yes"), "{nobody}");
    let long = machine.harden_why(&["log-refusals", "quiet", "--yes", "--for", "8d"]);
    assert!(String::from_utf8_lossy(&long.stderr).contains("between a second and a week"), "{long:?}");
    let nothing = machine.harden_why(&["log-refusals"]);
    assert_eq!(nothing.status.code(), Some(2), "{nothing:?}");
    assert_eq!(machine.recording()["on"], false);
    let rights =
        machine.command(&["/run/user/harden-why", "log-refusals", "quiet", "--yes", "--system"]).output().unwrap();
    let rights = String::from_utf8(rights.stderr).unwrap();
    assert!(rights.contains("only root can change the system manager") && rights.contains("--user"), "{rights}");
    // A home directory that cannot be written.
    machine.shell("chmod 0555 /run/user/home/.config/systemd");
    let rights = machine.error(&["log-refusals", "quiet", "--yes"]);
    assert!(rights.contains("cannot change /run/user/home/.config/systemd"), "{rights}");
    assert_eq!((machine.left(), machine.has_timer()), (vec![], false));
    machine.shell("chmod 0755 /run/user/home/.config/systemd");
    // The only unit that would be affected.
    machine.shell("rm /run/user/home/.config/systemd/user/quiet.service");
    machine.reload();
    let all = machine.nothing_to_do(&["log-refusals", "--all", "--yes"]);
    assert!(all.contains("so there is nothing to log"), "{all}");

    // Another client is at work: this process stands for it.
    machine.write("quiet.service", QUIET);
    machine.reload();
    let me = std::process::id();
    let begun = Procfs::live().start_time(me).unwrap();
    let record = format!("/run/user/65534/harden-why/{FILE}");
    assert_eq!(machine.left(), Vec::<String>::new());
    machine.json(&["log-refusals", "quiet", "--yes"]);
    machine.shell(&format!("sed -i '/^# Manager/a # Owner: {me} {begun}' {record}"));
    for arguments in [&["log-refusals", "quiet", "--yes"][..], &["log-refusals", "--off"]] {
        let error = machine.error(arguments);
        assert!(error.contains(&format!("another harden-why (pid {me}) is changing the user manager")), "{error}");
    }
    // The settings of another manager do not count.
    machine.shell(&format!("sed -i '/^# Owner/d; s/^# Manager: .*/# Manager: 3/' {record}"));
    assert_eq!(machine.recording()["on"], false);
    assert!(!machine.left().is_empty());
    machine.shell(&format!("sed -i 's/^# Until: .*/# Until: 3/' {record}"));
    let said = String::from_utf8(machine.harden_why(&["restore"]).stderr).unwrap();
    assert!(said.contains("was over; the manager restarted, so it was off already"), "{said}");
    assert_eq!(machine.left(), Vec::<String>::new());
}

/// A manager that is too old, on a bus of its own.
struct Old;

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Old {
    #[zbus(property)]
    #[expect(clippy::unused_self, reason = "the macro wants it")]
    fn version(&self) -> &'static str {
        "247.3-7+deb11u7"
    }
}

#[test]
fn systemd_that_is_too_old_is_reported() {
    if !nix::unistd::geteuid().is_root() {
        support::skip::skip("only root may have refusals logged for the system manager");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some((_bus, address)) = Bus::within(dir.path()) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let output = runtime.block_on(async {
        let builder = zbus::connection::Builder::address(address.as_str()).name("org.freedesktop.systemd1");
        let _old = builder.serve_at("/org/freedesktop/systemd1", Old).build().await.unwrap();
        let mut client = Command::new(env!("CARGO_BIN_EXE_harden-why"));
        client.args(["--bus", &address, "log-refusals", "--all", "--yes", "--system"]);
        tokio::task::spawn_blocking(move || client.output()).await.unwrap().unwrap()
    });
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("systemd 247.3-7+deb11u7 cannot log refused calls (this requires 248"), "{error}");
    assert!(error.contains("'harden-why rehearse UNIT'") && error.contains("'harden-why tap UNIT'"), "{error}");
}

#[test]
fn silent_units_are_marked_and_counted() {
    let Some(machine) = Machine::start(false) else { return };
    let of = |machine: &Machine| machine.json(&[]);
    let unloaded = of(&machine);
    assert_eq!(unloaded["overview"], Value::Array(Vec::new()));
    assert!(!unloaded["silent"].to_string().contains("quiet.service"), "it is not loaded: {unloaded}");

    // Loaded units are those that run, and those that were queried.
    let settings = "[Service]\nExecStart=/bin/sleep 1000\nProtectClock=yes\n";
    machine.write("clock.service", settings);
    machine.reload();
    for unit in ["quiet.service", "loud.service", "clock.service"] {
        assert!(machine.manager.start_unit(unit));
    }
    let silent = of(&machine)["silent"].as_array().unwrap().clone();
    let found = |unit: &str| silent.iter().position(|one| one["unit"] == unit);
    let (quiet, clock) = (found("quiet.service").unwrap(), found("clock.service").unwrap());
    assert!(quiet < clock && found("loud.service").is_none(), "{silent:?}");
    assert_eq!(silent[quiet]["directives"], serde_json::json!(["SystemCallFilter", "LockPersonality"]));
    assert_eq!(silent[clock]["directives"], serde_json::json!(["ProtectClock"]));
    assert_eq!((&silent[quiet]["state"], &silent[quiet]["recorded"]), (&"active".into(), &false.into()));

    let page = text(&machine.harden_why(&[]));
    let expected = "No denials.\n\n2 units can be refused calls without a record: 'harden-why --all' names them.\n";
    assert_eq!(page, expected);
    let page = text(&machine.harden_why(&["--all"]));
    let (_, part) = page.split_once("Units whose refusals leave no record: 2\n").unwrap();
    assert!(part.contains("  SystemCallFilter=  quiet.service\n"), "{page}");
    assert!(part.contains("  other settings     clock.service\n"), "{page}");
    let users = machine.json(&["--user"]);
    assert_eq!(users["silent"], Value::Array(Vec::new()), "{users}");

    // Queried, the client says so and gives advice, rather than nothing.
    let output = machine.harden_why(&["quiet"]);
    let page = text(&output);
    assert_eq!(output.status.code(), Some(0));
    let flowing = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flowing.contains("SystemCallFilter= can refuse calls with an error, which leaves no record"), "{page}");
    for verb in ["rehearse", "tap", "log-refusals"] {
        assert!(page.contains(&format!("  harden-why {verb} quiet.service ")), "{page}");
    }
    let answer = &machine.json(&["quiet"])["units"][0];
    assert_eq!(answer["silent"], serde_json::json!(["LockPersonality", "SystemCallFilter"]));
    assert!(machine.json(&["loud"])["units"][0].get("silent").is_none());

    machine.json(&["log-refusals", "quiet", "--yes"]);
    let silent = of(&machine)["silent"].as_array().unwrap().clone();
    assert!(silent.iter().all(|unit| unit["recorded"] == true), "{silent:?}");
    let flowing = text(&machine.harden_why(&[])).split_whitespace().collect::<Vec<_>>().join(" ");
    let now = "The system manager logs the refusals of 2 units now, of processes started since 2";
    assert!(flowing.contains(now) && !flowing.contains("without a record"), "{flowing}");
    let page = text(&machine.harden_why(&["--all"]));
    assert!(page.contains("Units whose refusals are logged now: 2") && !page.contains("no record"), "{page}");
    assert!(page.contains("  For the system manager, processes started since 2"), "{page}");
    let page = text(&machine.harden_why(&["quiet"]));
    let flowing = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains("No denials.") && !page.contains("no record"), "{page}");
    assert!(flowing.contains("are logged for processes started since 2"), "{page}");
}

#[test]
fn manager_that_hangs_delays_no_answer() {
    let Some(machine) = Machine::start(false) else { return };
    let systemd = machine.pid();
    let mut client = machine.client(&[]);
    kill(systemd, Signal::SIGSTOP).unwrap();
    let begun = Instant::now();
    let output = client.output();
    let took = begun.elapsed();
    kill(systemd, Signal::SIGCONT).unwrap();
    let output = output.unwrap();
    let page = text(&output);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(page.contains("No denials.") && page.contains("did not answer in time"), "{page}");
    assert!(took < Duration::from_mins(1), "{took:?}");
}
