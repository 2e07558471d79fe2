//! `apply` and `revert` against managers that refuse, hang, forget, or answer nonsense, and with a user who interrupts:
//! each time the change is made completely or not at all, and the client reports which.
//!
//! The manager is the test's own, on a bus of its own. The client's `/etc/systemd/system` is a directory of the test.

use crate::support;
use crate::support::daemon::{Daemon, PROGRAM};
use crate::support::denied::denied;
use crate::support::skip::skip;
use harden_why::incidents::Store;
use harden_why::units::Manager;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs;
use std::future::poll_fn;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use zbus::export::futures_core::Stream;
use zbus::message::Type;
use zbus::{Connection, Message, MessageStream, OwnedObjectPath, Variant, connection};

const DROP_IN: &str = "/etc/systemd/system/x.service.d/zz-harden-why.conf";
const UNIT: &str = "[Service]\nExecStart=/bin/true\nSystemCallFilter=~uname sysinfo\n";
const MINE: &str =
    "# Written by harden-why on 2026-11-23: for denials of sysinfo\n[Service]\nSystemCallFilter=sysinfo\n";

/// How a manager behaves.
#[derive(Default)]
struct Manners {
    /// Properties that it reports differently than systemd.
    odd: Vec<(&'static str, Variant<'static>)>,
    /// A property that it lacks.
    lacks: Option<&'static str>,
    /// After how many reloads the unit no longer exists.
    gone_after: Option<usize>,
    /// Decides how slow calls end; without it the manager answers at once.
    asked: Option<UnboundedSender<Message>>,
    /// The error with which it refuses to reload.
    refuses: Option<&'static str>,
    /// The units that require the unit.
    required_by: Vec<String>,
    /// Whether it does not answer which these are.
    hides_dependents: bool,
    reloads: usize,
}

/// A machine with this test as its manager.
struct Machine {
    dir: tempfile::TempDir,
    bus: Child,
    connection: Connection,
    manners: Arc<Mutex<Manners>>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        _ = self.bus.kill();
        _ = self.bus.wait();
    }
}

impl Machine {
    async fn start(manners: Manners) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip("only root can put a directory in the place of /etc/systemd/system");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}/bus", dir.path().display());
        let mut bus = Command::new("dbus-daemon");
        bus.args(["--session", "--nofork", "--nopidfile", "--nosyslog", &format!("--address={address}")]);
        bus.stderr(Stdio::null());
        let Ok(bus) = bus.spawn() else {
            skip("there is no dbus-daemon");
            return None;
        };
        for _ in 0..6_000 {
            // The socket may exist before dbus-daemon listens on it.
            if UnixStream::connect(dir.path().join("bus")).is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let connection = connection::Builder::address(address.as_str()).build().await.unwrap();
        let machine = Self { dir, bus, connection, manners: Arc::new(Mutex::new(manners)) };
        fs::create_dir(machine.etc()).unwrap();
        fs::write(machine.etc().join("x.service"), UNIT).unwrap();
        Store::open(&machine.store()).unwrap().record(&[denied(Manager::System, "uname")]).unwrap();
        let stream = MessageStream::from(&machine.connection);
        let (connection, manners, etc) = (machine.connection.clone(), Arc::clone(&machine.manners), machine.etc());
        tokio::spawn(serve(connection, stream, manners, etc));
        machine.connection.request_name("org.freedesktop.systemd1").await.unwrap();
        Some(machine)
    }

    /// Starts one on which the test decides how slow calls end.
    async fn patient() -> Option<(Self, UnboundedReceiver<Message>)> {
        let (sender, asked) = unbounded_channel();
        Some((Self::start(Manners { asked: Some(sender), ..Manners::default() }).await?, asked))
    }

    fn etc(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn drop_in(&self) -> PathBuf {
        self.etc().join("x.service.d/zz-harden-why.conf")
    }

    /// Writes the drop-in that an earlier apply left.
    fn has_mine(&self) {
        fs::create_dir(self.drop_in().parent().unwrap()).unwrap();
        fs::write(self.drop_in(), MINE).unwrap();
    }

    /// Starts the client with the given store. The child's PID is the client's.
    fn client(&self, before: &[&str], arguments: &[&str]) -> Child {
        let store = self.store().display().to_string();
        // Reverting removes a file, whatever the store contains.
        let source: &[&str] = if arguments.contains(&"revert") { &[] } else { &["--state-dir", &store] };
        self.client_of(before, source, arguments).spawn().unwrap()
    }

    fn client_of(&self, before: &[&str], source: &[&str], arguments: &[&str]) -> Command {
        const SCRIPT: &str = r#"mount --bind "$0" /etc/systemd/system && exec "$@""#;
        // The shell that runs the tests may ignore signals (nohup, a background job), and children inherit that.
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP,INT,TERM", "unshare", "--mount", "sh", "-c", SCRIPT]);
        command.arg(self.etc()).args(before);
        command.arg(env!("CARGO_BIN_EXE_harden-why"));
        command.arg("--bus").arg(format!("unix:path={}/bus", self.dir.path().display()));
        command.args(source).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The one paragraph of an error, without the program's name.
    async fn error(&self, arguments: &[&str]) -> String {
        error(ended(self.client(&[], arguments)).await)
    }

    /// Answers a slow call as systemd would.
    async fn answer(&self, call: &Message) {
        reply(&self.connection, call, &self.manners, &self.etc()).await;
    }

    fn reloads(&self) -> usize {
        self.manners.lock().unwrap().reloads
    }

    /// What the client's directory holds.
    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        for entry in
            fs::read_dir(self.etc()).unwrap().chain(fs::read_dir(self.etc().join("x.service.d")).into_iter().flatten())
        {
            files.push(entry.unwrap().file_name().into_string().unwrap());
        }
        files.sort();
        files
    }
}

/// Answers a call to the manager.
async fn serve(connection: Connection, mut stream: MessageStream, manners: Arc<Mutex<Manners>>, etc: PathBuf) {
    while let Some(Ok(call)) = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
        if call.message_type() != Type::MethodCall {
            continue;
        }
        let header = call.header();
        let slow = header.member().is_some_and(|member| ["Reload", "RestartUnit"].contains(&member.as_str()));
        let asked = manners.lock().unwrap().asked.clone().filter(|_| slow);
        match asked {
            Some(asked) => asked.send(call).unwrap(),
            None => reply(&connection, &call, &manners, &etc).await,
        }
    }
}

async fn reply(connection: &Connection, call: &Message, manners: &Arc<Mutex<Manners>>, etc: &std::path::Path) {
    let header = call.header();
    let member = header.member().unwrap().as_str().to_owned();
    let (refuses, gone) = {
        let mut manners = manners.lock().unwrap();
        manners.reloads += usize::from(member == "Reload");
        (manners.refuses, manners.gone_after.is_some_and(|after| manners.reloads >= after))
    };
    let path: OwnedObjectPath = "/org/freedesktop/systemd1/unit/x_2eservice".try_into().unwrap();
    match member.as_str() {
        "LoadUnit" => connection.reply(&header, &path).await.unwrap(),
        // No unit of it has a process.
        "GetUnit" => {
            let name = "org.freedesktop.systemd1.NoSuchUnit";
            connection.reply_error(&header, name, &"Unit not loaded.").await.unwrap();
        }
        "GetAll" if gone => {
            let name = "org.freedesktop.DBus.Error.UnknownObject";
            connection.reply_error(&header, name, &"Unknown object").await.unwrap();
        }
        "GetAll" => {
            let interface: String = call.body().deserialize().unwrap();
            let properties = properties(&interface, manners, etc);
            connection.reply(&header, &properties).await.unwrap();
        }
        "Get" => {
            let (_, property): (String, String) = call.body().deserialize().unwrap();
            let (required_by, is_hidden) = {
                let manners = manners.lock().unwrap();
                (manners.required_by.clone(), manners.hides_dependents)
            };
            match (property.as_str(), is_hidden) {
                ("ActiveState", _) => connection.reply(&header, &Variant::from("active")).await.unwrap(),
                ("RequiredBy", false) => connection.reply(&header, &Variant::from(required_by)).await.unwrap(),
                ("RequiredBy", true) => {
                    let name = "org.freedesktop.DBus.Error.NoReply";
                    connection.reply_error(&header, name, &"No reply").await.unwrap();
                }
                _ => {
                    let name = "org.freedesktop.DBus.Error.UnknownProperty";
                    connection.reply_error(&header, name, &"Unknown property").await.unwrap();
                }
            }
        }
        "Reload" => match refuses {
            Some(name) => connection.reply_error(&header, name, &"Interactive authentication required.").await.unwrap(),
            None => connection.reply(&header, &()).await.unwrap(),
        },
        other => connection.reply_error(&header, "org.freedesktop.DBus.Error.UnknownMethod", &other).await.unwrap(),
    }
}

/// The unit as its files define it.
fn properties(
    interface: &str,
    manners: &Arc<Mutex<Manners>>,
    etc: &std::path::Path,
) -> HashMap<&'static str, Variant<'static>> {
    let ours = fs::read_to_string(etc.join("x.service.d/zz-harden-why.conf")).unwrap_or_default();
    let denied: Vec<&str> = ["sysinfo", "uname"]
        .into_iter()
        .filter(|call| !ours.contains(&format!("={call}")) && !ours.contains(&format!(" {call}")))
        .collect();
    let dropins: Vec<&str> = if ours.is_empty() { vec![] } else { vec![DROP_IN] };
    let mut properties: HashMap<&'static str, Variant<'static>> = if interface.ends_with(".Unit") {
        HashMap::from([
            ("Id", "x.service".into()),
            ("LoadState", "loaded".into()),
            ("ActiveState", "inactive".into()),
            ("FragmentPath", "/etc/systemd/system/x.service".into()),
            ("DropInPaths", dropins.into()),
            ("NeedDaemonReload", false.into()),
            ("Transient", false.into()),
        ])
    } else {
        HashMap::from([
            ("SystemCallFilter", (false, denied).into()),
            ("SystemCallErrorNumber", 2_147_483_646_i32.into()),
            ("SystemCallLog", (false, Vec::<&str>::new()).into()),
            ("SystemCallArchitectures", Vec::<&str>::new().into()),
            ("RestrictAddressFamilies", (false, Vec::<&str>::new()).into()),
            ("RestrictNamespaces", u64::MAX.into()),
            ("LockPersonality", false.into()),
        ])
    };
    let manners = manners.lock().unwrap();
    if let Some(name) = manners.lacks {
        properties.remove(name);
    }
    for (name, value) in &manners.odd {
        if properties.contains_key(name) {
            properties.insert(name, value.try_clone().unwrap());
        }
    }
    properties
}

async fn ended(child: Child) -> Output {
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap()
}

#[track_caller]
fn error(output: Output) -> String {
    let text = String::from_utf8(output.stderr).unwrap();
    let status = support::exit_status::of_error(&text);
    assert_eq!((output.status.code(), text.lines().count()), (Some(status), 1), "{text}");
    text.trim_end().strip_prefix("harden-why: ").unwrap().to_owned()
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

/// The next slow call.
async fn next(asked: &mut UnboundedReceiver<Message>) -> Message {
    tokio::time::timeout(Duration::from_secs(20), asked.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn signal_during_a_reload_rolls_everything_back() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        for earlier in [false, true] {
            let Some((machine, mut asked)) = Machine::patient().await else { return };
            if earlier {
                machine.has_mine();
            }
            let before = machine.files();
            let client = machine.client(&[], &["apply", "x", "--yes"]);
            let _unanswered = next(&mut asked).await;
            assert!(fs::read_to_string(machine.drop_in()).unwrap().contains("uname"), "it is written by now");
            send(&client, signal);
            let again = next(&mut asked).await;
            assert_eq!(machine.files(), before, "put back before systemd reads its files again");
            machine.answer(&again).await;
            let said = error(ended(client).await);
            assert_eq!(said, format!("{DROP_IN} was put back as it was: interrupted by {signal}"));
            assert_eq!(fs::read_to_string(machine.drop_in()).ok().as_deref(), earlier.then_some(MINE));
        }
    }
}

#[tokio::test]
async fn second_signal_shortens_the_wait_for_the_manager() {
    let Some((machine, mut asked)) = Machine::patient().await else { return };
    let client = machine.client(&[], &["apply", "x", "--yes"]);
    let _unanswered = next(&mut asked).await;
    send(&client, Signal::SIGINT);
    let _unanswered = next(&mut asked).await;
    send(&client, Signal::SIGTERM);
    let said = error(ended(client).await);
    assert!(
        said.starts_with(&format!("interrupted by SIGINT; {DROP_IN} was put back as it was, but systemd may not have")),
        "{said}"
    );
    assert!(said.ends_with("run systemctl daemon-reload: interrupted by SIGTERM"), "{said}");
    assert_eq!(machine.files(), ["x.service"]);
}

#[tokio::test]
async fn ignored_signal_stays_ignored() {
    let Some((machine, mut asked)) = Machine::patient().await else { return };
    let client = machine.client(&["nohup"], &["--json", "apply", "x", "--yes"]);
    let reload = next(&mut asked).await;
    send(&client, Signal::SIGHUP);
    tokio::time::sleep(Duration::from_millis(200)).await;
    machine.answer(&reload).await;
    let output = ended(client).await;
    assert!(output.status.success(), "{output:?}");
    let applied: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&applied["outcome"], &applied["confirmed"]), (&"applied".into(), &true.into()), "{applied}");
    assert!(machine.drop_in().exists());
}

#[tokio::test]
async fn signal_during_the_restart_keeps_the_confirmed_change() {
    let Some((machine, mut asked)) = Machine::patient().await else { return };
    let client = machine.client(&[], &["apply", "x", "--yes", "--restart"]);
    let reload = next(&mut asked).await;
    machine.answer(&reload).await;
    let restart = next(&mut asked).await;
    assert_eq!(restart.header().member().unwrap().as_str(), "RestartUnit");
    send(&client, Signal::SIGINT);
    let said = error(ended(client).await);
    let starts = format!(
        "systemd has read {DROP_IN}: x.service restarts, and it is unknown whether it comes up (see systemctl status x.service)"
    );
    assert_eq!(said, format!("{starts}: interrupted by SIGINT"));
    assert!(machine.drop_in().exists());
}

#[tokio::test]
async fn interrupted_revert_keeps_the_drop_in() {
    let Some((machine, mut asked)) = Machine::patient().await else { return };
    machine.has_mine();
    let client = machine.client(&[], &["revert", "x", "--system"]);
    let _unanswered = next(&mut asked).await;
    assert_eq!(machine.files(), ["x.service"]);
    send(&client, Signal::SIGINT);
    let again = next(&mut asked).await;
    machine.answer(&again).await;
    assert_eq!(error(ended(client).await), format!("{DROP_IN} was put back as it was: interrupted by SIGINT"));
    assert_eq!(fs::read_to_string(machine.drop_in()).unwrap(), MINE);
}

#[tokio::test]
async fn manager_that_refuses_to_reload_is_reported() {
    let name = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";
    let Some(machine) = Machine::start(Manners { refuses: Some(name), ..Manners::default() }).await else { return };
    let said = machine.error(&["apply", "x", "--yes"]).await;
    let why = "systemd does not reload its files: the service manager refuses";
    assert!(said.starts_with(&format!("{DROP_IN} was put back as it was: {why}: {name}")), "{said}");
    assert_eq!(machine.files(), ["x.service"]);
    assert_eq!(machine.reloads(), 1, "it is not asked again for what it refused");
    machine.has_mine();
    assert!(machine.error(&["revert", "x", "--system"]).await.contains("was put back as it was"));
    assert_eq!(fs::read_to_string(machine.drop_in()).unwrap(), MINE);
}

#[tokio::test]
async fn unit_that_vanishes_between_two_calls_is_reported() {
    let Some(machine) = Machine::start(Manners { gone_after: Some(0), ..Manners::default() }).await else { return };
    let said = machine.error(&["apply", "x", "--yes"]).await;
    assert!(said.contains("a change cannot be confirmed: x.service no longer exists"), "{said}");
    machine.manners.lock().unwrap().gone_after = Some(1);
    let said = machine.error(&["apply", "x", "--yes"]).await;
    let why = "systemd no longer returns the unit's settings: Unit x.service not found.";
    assert!(said.starts_with(&format!("{DROP_IN} was put back as it was: {why}")), "{said}");
    assert_eq!((machine.files(), machine.reloads()), (vec!["x.service".to_owned()], 2));
}

#[tokio::test]
async fn systemd_that_cannot_log_calls_cannot_rehearse() {
    let manners = Manners { lacks: Some("SystemCallLog"), ..Manners::default() };
    let Some(machine) = Machine::start(manners).await else { return };
    let bus = format!("unix:path={}/bus", machine.dir.path().display());
    let dir = machine.dir.path().join("daemon");
    let started = tokio::task::spawn_blocking(move || Daemon::start(Command::new(PROGRAM), &bus, &dir));
    let daemon = started.await.unwrap();
    let mut client = machine.client_of(&[], &[], &["rehearse", "x", "--yes", "--system"]);
    let said = error(ended(client.spawn().unwrap()).await);
    assert_eq!(said, "the systemd that runs x.service has no SystemCallLog=, which requires systemd 247");
    assert_eq!((machine.files(), machine.reloads()), (vec!["x.service".to_owned()], 0));
    drop(daemon);
}

#[tokio::test]
async fn unit_whose_dependents_are_unknown_or_too_many_is_not_stopped() {
    let many: Vec<String> = (0..=64).map(|number| format!("app@{number}.service")).collect();
    let too_many = "more than 64 running units stop with x.service, so they could not all be started again";
    for (hides_dependents, required_by, expected) in
        [(true, Vec::new(), "did not answer in time"), (false, many, too_many)]
    {
        let odd = vec![("ActiveState", "active".into())];
        let manners = Manners { odd, required_by, hides_dependents, ..Manners::default() };
        let Some(machine) = Machine::start(manners).await else { return };
        let mut client = machine.client_of(&[], &[], &["bisect", "x", "--dry-run", "--system"]);
        let said = error(ended(client.spawn().unwrap()).await);
        assert!(said.starts_with("nothing was changed: ") && said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn property_of_another_type_is_not_guessed() {
    let odd = [
        ("LoadState", 7_u32.into()),
        ("Transient", "no".into()),
        ("NeedDaemonReload", 0_u8.into()),
        ("DropInPaths", vec![1_u8].into()),
        ("FragmentPath", true.into()),
        ("SystemCallFilter", vec!["uname"].into()),
        ("SystemCallErrorNumber", 1_u64.into()),
        ("LockPersonality", "\u{1b}[2J".into()),
    ];
    for (name, value) in odd {
        let Some(machine) = Machine::start(Manners { odd: vec![(name, value)], ..Manners::default() }).await else {
            return;
        };
        let said = machine.error(&["apply", "x", "--yes"]).await;
        let why = format!("systemd returns {name} of x.service in a form that this harden-why cannot read");
        assert_eq!(said, format!("{why}, so a change cannot be confirmed"));
        assert_eq!((machine.files(), machine.reloads()), (vec!["x.service".to_owned()], 0));
        // The answer uses the files, and says so.
        let answer = ended(machine.client(&[], &["--json", "x"])).await;
        let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
        let notes = answer["units"][0]["notes"].to_string();
        assert!(notes.contains(&format!("{why}; the answer follows the files")), "{notes}");
        assert_eq!(answer["units"][0]["denials"][0]["cause"]["kind"], "unit", "{answer}");
    }
}

#[tokio::test]
async fn settings_that_differ_in_the_manager_are_reported() {
    let held = [
        ("SystemCallFilter", (false, vec!["reboot"]).into()),
        ("SystemCallErrorNumber", 1_i32.into()),
        ("SystemCallLog", (false, vec!["reboot"]).into()),
        ("SystemCallArchitectures", vec!["native"].into()),
        ("RestrictAddressFamilies", (true, Vec::<&str>::new()).into()),
        ("RestrictNamespaces", 0_u64.into()),
        ("LockPersonality", true.into()),
    ];
    for (name, value) in held {
        let Some(machine) = Machine::start(Manners { odd: vec![(name, value)], ..Manners::default() }).await else {
            return;
        };
        let answer = ended(machine.client(&[], &["--json", "x"])).await;
        let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
        let notes = answer["units"][0]["notes"].to_string();
        let said = if name == "SystemCallErrorNumber" { "SystemCallFilter" } else { name };
        assert!(notes.contains(&format!("{said}= in systemd differs from the unit's files")), "{notes}");
        // No change is proposed for such a manager.
        let refused = ended(machine.client(&[], &["apply", "x", "--yes"])).await;
        let error = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{error}");
        let expected = [
            "there is no remedy to apply".to_owned(),
            format!("{DROP_IN} was put back as it was: the settings in systemd differ"),
        ];
        let error = error.strip_prefix("harden-why: ").unwrap();
        assert!(expected.iter().any(|expected| error.starts_with(expected)), "{error}");
        assert_eq!(machine.files(), ["x.service"]);
    }
}
