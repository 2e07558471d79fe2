//! The D-Bus service on a bus of its own, called by root and by other users.

use crate::own_bus::OwnBus;
use crate::support;
use harden_why::audit::Action;
use harden_why::incidents::{
    CallSite, CodePlace, Denial, Incident, IncidentEvent, IncidentKey, Moment, Parent, Query, Sample, SightingSource,
    Store, Stored, UnitSummary,
};
use harden_why::outlet::bus::serve;
use harden_why::outlet::client::HardenWhyProxy;
use harden_why::outlet::client_requests;
use harden_why::outlet::client_requests::{ClientRequest, PendingRequest};
use harden_why::outlet::wire::{BusError, IncidentDict, MAX_INCIDENTS, Status};
use harden_why::syscalls::{Arch, Call, CallId};
use harden_why::systemd::bus_address::BusAddress;
use harden_why::units::{Manager, Rung, Unit};
use proptest::prelude::*;
use std::future::poll_fn;
use std::pin::Pin;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use zbus::export::futures_core::Stream;

/// `nobody` and `daemon`: dbus-daemon rejects UIDs without an account.
const OTHER: u32 = 65_534;
const THIRD: u32 = 1;

fn denied(manager: Option<Manager>, number: u32) -> Incident {
    let call = Call { arch: Arch(0xc000_003e), id: CallId::Number(number) };
    Incident {
        key: IncidentKey {
            unit: manager.map(|manager| Unit { manager, name: "a.service".parse().unwrap() }),
            event: IncidentEvent::Denial(Denial { call, action: Action::Errno }),
            exe: b"/tmp/\0\xff\"\x1b".to_vec(),
            source: SightingSource::Audit,
        },
        rung: manager.map(|_| Rung::OwnCgroup),
        count: 2,
        first: Moment::At(10),
        last: Moment::At(20 + i64::from(number)),
        sample: Sample {
            pid: 9,
            comm: b"\n\xfe".to_vec(),
            uid: "0".into(),
            ip: u64::MAX,
            call_site: Some(Box::new(CallSite {
                code: CodePlace {
                    offset: u64::MAX,
                    build_id: vec![0xff; 20],
                    file: (1, 2),
                    path: b"/\xff \n".to_vec(),
                    function: Vec::new(),
                },
                caller: Some(CodePlace::default()),
                further: Vec::new(),
            })),
            subject: vec![0],
            login: None,
            parent: Some(Parent { pid: 3, comm: b"\xff\n".to_vec() }),
        },
    }
}

/// How long an expected message may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// The next item of a stream, if it comes in time.
async fn within<S: Stream + Unpin>(time: Duration, stream: &mut S) -> Option<S::Item> {
    let next = poll_fn(|context| Pin::new(&mut *stream).poll_next(context));
    tokio::time::timeout(time, next).await.ok().flatten()
}

/// The next item of a stream, if there is one soon.
async fn soon<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    within(Duration::from_secs(2), stream).await
}

fn everything() -> [Incident; 4] {
    [
        denied(Some(Manager::System), 1),
        denied(Some(Manager::User(OTHER)), 2),
        denied(Some(Manager::User(0)), 3),
        denied(None, 4),
    ]
}

#[tokio::test]
async fn answers_equal_the_content_of_the_store() {
    let Some(bus) = OwnBus::start() else { return };
    Store::open(&bus.state()).unwrap().record(&everything()).unwrap();
    let _service = bus.serve().await;
    let client = bus.client().await;

    let stored = Store::open_read_only(&bus.state()).unwrap();
    let answer = client.list_incidents("", "", 0, 0, u32::MAX).await.unwrap();
    let answer: Vec<Stored> = answer.into_iter().map(|dict| dict.try_into().unwrap()).collect();
    assert_eq!(answer, stored.incidents(&Query::default()).unwrap());
    let units = client.list_units(0).await.unwrap();
    let units: Vec<UnitSummary> = units.into_iter().map(|dict| dict.try_into().unwrap()).collect();
    assert_eq!(units, stored.units(&Query::default()).unwrap());
    assert_eq!(client.list_units(24).await.unwrap().len(), 1);

    let status = client.status().await.unwrap();
    assert_eq!((status.listening, status.lost, status.limitations), (true, 3, vec!["deaf".to_owned()]));
    assert_eq!(client.version().await.unwrap(), env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn long_answer_is_limited_and_continues_on_the_next_page() {
    let Some(bus) = OwnBus::start() else { return };
    let many: Vec<_> = (0..1_200).map(|number| denied(Some(Manager::System), number)).collect();
    Store::open(&bus.state()).unwrap().record(&many).unwrap();
    let _service = bus.serve().await;
    let client = bus.client().await;
    let mut seen = vec![];
    loop {
        let offset = u32::try_from(seen.len()).unwrap();
        let page = client.list_incidents("a.service", "system", 0, offset, u32::MAX).await.unwrap();
        assert!(page.len() <= MAX_INCIDENTS as usize);
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().filter_map(|incident| incident.call_number));
    }
    assert_eq!(seen, (0..1_200).rev().collect::<Vec<_>>());
    assert_eq!(client.list_incidents("", "", 0, 0, 0).await.unwrap(), []);
}

#[tokio::test]
async fn other_user_gets_answers_about_own_units_only() {
    let Some(bus) = OwnBus::start() else { return };
    Store::open(&bus.state()).unwrap().record(&everything()).unwrap();
    let _service = bus.serve().await;
    let own = vec![format!("user:{OTHER}")];
    assert_eq!(bus.list_as(OTHER, "", "", "").await, Ok(own.clone()));
    assert_eq!(bus.list_as(OTHER, "", "a.service", "").await, Ok(own.clone()));
    assert_eq!(bus.list_as(OTHER, "", "", &own[0]).await, Ok(own));
    assert_eq!(bus.list_as(THIRD, "", "", "").await, Ok(vec![]));
    for manager in ["system", "user:0", "none"] {
        let error = bus.list_as(OTHER, "", "", manager).await.unwrap_err();
        assert!(error.contains("only root and members of"), "{error}");
    }
    assert_eq!(bus.list_as(0, "", "", "").await.unwrap().len(), 4);
    assert_eq!(bus.list_as(0, "", "", "none").await.unwrap().len(), 1);
    let adm = nix::unistd::Group::from_name("adm").unwrap().map(|group| group.gid.to_string());
    if let Some(adm) = adm {
        assert_eq!(bus.list_as(OTHER, &adm, "", "").await.unwrap().len(), 4);
    }
    let units = bus.call_as(OTHER, "", "ListUnits", &["x", "0"]).await;
    let units: serde_json::Value = serde_json::from_slice(&units.stdout).unwrap();
    assert_eq!(units["data"][0].as_array().unwrap().len(), 1, "{units}");
    assert_eq!(units["data"][0][0]["Manager"]["data"], format!("user:{OTHER}"));
}

/// What harden-why answers on a bus to another user, or to root (`nobody` false): exit status, stdout and stderr.
async fn answer_of_client(bus: &OwnBus, nobody: bool, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = if nobody {
        support::nobody::harden_why(bus.temp.path())
    } else {
        Command::new(env!("CARGO_BIN_EXE_harden-why"))
    };
    command.args(["--bus", &bus.address().to_string()]).args(arguments);
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The beginning of what a user reads who may not see everything.
const OWN_UNITS_ONLY: &str = "you may see only the denials of your own units";

#[tokio::test]
async fn user_without_rights_reads_that_denials_are_hidden_and_not_that_none_are_known() {
    let Some(bus) = OwnBus::start() else { return };
    Store::open(&bus.state()).unwrap().record(&[denied(Some(Manager::System), 1)]).unwrap();
    let _service = bus.serve().await;
    for arguments in [&["a.service"][..], &["a@.service"], &[], &["--system"], &["a", "--json"], &["--json"]] {
        let (status, out, error) = answer_of_client(&bus, true, arguments).await;
        // No manager on this bus knows the unit, and the user may not see its denials.
        let names_a_unit = arguments.iter().any(|word| word.starts_with('a'));
        assert_eq!(status, Some(if names_a_unit { 4 } else { 3 }), "{arguments:?}: {out}{error}");
        let words = out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(OWN_UNITS_ONLY), "{arguments:?}: {out}{error}");
        assert!(!words.contains("No denials of it are") && !words.contains("known denials"), "{out}");
    }
    for arguments in [&["check", "a"][..], &["apply", "a", "--yes"], &["follow"], &["follow", "a.service"]] {
        let (status, _, error) = answer_of_client(&bus, true, arguments).await;
        assert_eq!(status, Some(3), "{arguments:?}: {error}");
        assert!(error.contains(OWN_UNITS_ONLY), "{arguments:?}: {error}");
    }
    let (_, status, _) = answer_of_client(&bus, true, &["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["only_manager"], format!("user:{OTHER}"));
    // `--user` selects what the user may see.
    let (status, out, _) = answer_of_client(&bus, true, &["--user"]).await;
    assert!(status == Some(0) && out.contains("No denials"), "{out}");
    // Root may see everything.
    let (status, out, _) = answer_of_client(&bus, false, &["b.service"]).await;
    assert!(status == Some(4) && out.contains("Unit b.service not found."), "{out}");
    let (_, status, _) = answer_of_client(&bus, false, &["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["only_manager"], serde_json::Value::Null);
}

#[tokio::test]
async fn invalid_arguments_and_missing_store_are_named_errors() {
    let Some(bus) = OwnBus::start() else { return };
    let _service = bus.serve().await;
    let client = bus.client().await;
    for (unit, manager) in [("../etc", ""), ("a.conf", ""), ("", "user"), ("", "user:-1")] {
        let error = client.list_incidents(unit, manager, 0, 0, 1).await.unwrap_err();
        assert!(matches!(error, BusError::InvalidArgument(_)), "{error:?}");
    }
    let error = client.list_units(0).await.unwrap_err();
    assert!(matches!(&error, BusError::NoStore(text) if text.contains("nothing has been recorded")), "{error:?}");
    assert!(!bus.state().exists());
}

#[tokio::test]
async fn bus_name_is_owned_by_the_daemon_alone() {
    let Some(bus) = OwnBus::start() else { return };
    let _service = bus.serve().await;
    let error =
        serve(&bus.address(), &bus.state(), Arc::new(Status::default), client_requests::channel().0).await.unwrap_err();
    assert!(error.to_string().contains("cannot offer org.hardenwhy1"), "{error}");
}

#[tokio::test]
async fn subscribers_receive_signals_and_others_do_not() {
    let Some(bus) = OwnBus::start() else { return };
    let service = bus.serve().await;
    let (subscribed, silent) = (bus.client().await, bus.client().await);
    let mut told = subscribed.receive_incident_seen().await.unwrap();
    let mut overheard = silent.receive_incident_seen().await.unwrap();
    subscribed.subscribe().await.unwrap();
    subscribed.subscribe().await.unwrap();
    let stored = Stored { id: 5, incident: denied(Some(Manager::System), 1) };
    service.announce(&stored).await.unwrap();
    let signal = within(PATIENCE, &mut told).await.unwrap();
    let received: Stored = signal.args().unwrap().incident().clone().try_into().unwrap();
    assert_eq!(received, stored);
    assert!(soon(&mut overheard).await.is_none());
    assert!(soon(&mut told).await.is_none(), "subscribed twice, told once");

    subscribed.unsubscribe().await.unwrap();
    service.announce(&stored).await.unwrap();
    assert!(soon(&mut told).await.is_none());
}

#[tokio::test]
async fn subscriber_that_left_makes_room() {
    let Some(bus) = OwnBus::start() else { return };
    let service = bus.serve().await;
    for _ in 0..80 {
        let client = bus.client().await;
        client.subscribe().await.unwrap();
        client.inner().connection().clone().close().await.unwrap();
    }
    let mut staying = vec![];
    let error = loop {
        let client = bus.client().await;
        match client.subscribe().await {
            Ok(()) => staying.push(client),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BusError::Busy(_)), "{error:?}");
    assert_eq!(staying.len(), if nix::unistd::geteuid().is_root() { 64 } else { 16 });
    service.announce(&Stored { id: 1, incident: denied(None, 1) }).await.unwrap();
}

/// A client of another UID, in a process of its own: subscribes, then prints what it receives.
#[tokio::test]
async fn subscriber_receives_its_own_units_only() {
    let name = "bus::subscriber_receives_its_own_units_only";
    if let Ok(address) = std::env::var("HW_BUS") {
        let address: BusAddress = address.parse().unwrap();
        let client = HardenWhyProxy::new(&address.builder().build().await.unwrap()).await.unwrap();
        let mut told = client.receive_incident_seen().await.unwrap();
        client.subscribe().await.unwrap();
        let mut next = within(PATIENCE, &mut told).await;
        while let Some(signal) = next {
            let incident: IncidentDict = signal.args().unwrap().incident().clone();
            println!("\ntold of {:?}", incident.manager);
            next = soon(&mut told).await;
        }
        return;
    }
    let Some(bus) = OwnBus::start() else { return };
    let service = bus.serve().await;
    // Another UID may not be able to reach the test binary.
    let copy = bus.temp.path().join("client");
    support::program::copy(std::env::current_exe().unwrap(), &copy);
    let mut child = Command::new("setpriv");
    child.args([format!("--reuid={OTHER}"), format!("--regid={OTHER}"), "--clear-groups".to_owned()]);
    child.arg(copy).args(["--exact", name, "--nocapture"]).current_dir("/");
    child.env("HW_BUS", bus.address().to_string());
    let mut child = child.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let (says, heard) = tokio::sync::watch::channel(false);
    let lines = tokio::task::spawn_blocking(move || {
        let lines = std::io::BufRead::lines(out).map(Result::unwrap);
        lines.inspect(|line| _ = line.starts_with("told of") && says.send(true).is_ok()).collect::<Vec<_>>()
    });
    // Until it has subscribed, and some more.
    let (mut id, mut more) = (0, 20);
    while more > 0 && !lines.is_finished() {
        tokio::time::sleep(Duration::from_millis(25)).await;
        for incident in everything() {
            service.announce(&Stored { id, incident }).await.unwrap();
        }
        id += 1;
        more -= i32::from(*heard.borrow());
    }
    let said = lines.await.unwrap();
    let told: Vec<_> = said.iter().filter(|line| line.starts_with("told of")).collect();
    assert!(child.wait().unwrap().success() && !told.is_empty(), "{said:?}");
    assert!(told.iter().all(|line| **line == format!("told of Some(\"user:{OTHER}\")")), "{told:?}");
}

/// What `harden-why follow` prints, line by line.
struct Following {
    child: Child,
    lines: Arc<std::sync::Mutex<std::sync::mpsc::Receiver<String>>>,
}

impl Following {
    fn start(bus: &OwnBus, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
        command.args(["follow", "--bus", &bus.address().to_string()]).args(arguments);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let out = std::io::BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(out) {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines: Arc::new(std::sync::Mutex::new(lines)) }
    }

    /// The next line, if it comes soon.
    async fn next(&self, patience: Duration) -> Option<String> {
        let lines = Arc::clone(&self.lines);
        let next = tokio::task::spawn_blocking(move || lines.lock().unwrap().recv_timeout(patience).ok());
        next.await.unwrap()
    }

    /// The next line, which is JSON.
    async fn object(&self) -> serde_json::Value {
        let line = self.next(Duration::from_secs(20)).await.unwrap();
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["schema"], 1);
        object
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[tokio::test]
async fn events_are_followed_across_a_restart_of_the_daemon() {
    let Some(bus) = OwnBus::start() else { return };
    let mut store = Store::open(&bus.state()).unwrap();
    let service = bus.serve().await;
    let (following, read) = (Following::start(&bus, &["--json", "a"]), Following::start(&bus, &["--color=never"]));
    let mut stored = Stored { id: 1_000, incident: denied(Some(Manager::System), 41) };
    let mut other = stored.clone();
    other.id = 1_001;
    other.incident.key.unit = Some(Unit { manager: Manager::System, name: "b.service".parse().unwrap() });
    // Each until it has subscribed.
    let short = Duration::from_millis(100);
    let page = loop {
        service.announce(&other).await.unwrap();
        if let Some(page) = read.next(short).await {
            break page;
        }
    };
    let first = loop {
        service.announce(&stored).await.unwrap();
        if let Some(first) = following.next(short).await {
            break first;
        }
    };
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!((&first["id"], &first["new"], &first["unit"]), (&1_000.into(), &true.into(), &"a.service".into()));
    assert_eq!(first["denials"][0]["call"], "socket");
    assert!(first["denials"][0]["cause"]["kind"].is_string());
    assert!(page.contains(" b.service: socket denied, failed with an error, 2 times"), "{page}");

    stored.incident.count += 7;
    service.announce(&stored).await.unwrap();
    service.announce(&stored).await.unwrap();
    let again = following.object().await;
    assert_eq!((&again["id"], &again["new"], &again["count"]), (&1_000.into(), &false.into(), &9.into()));
    assert_eq!((&again["unit"], &again["call"]), (&"a.service".into(), &"socket".into()));

    drop(service);
    let mut missed = denied(Some(Manager::User(7)), 42);
    missed.last = Moment::At(i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap());
    let id = store.record([&missed]).unwrap()[0].id;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let service = bus.serve().await;
    let caught_up = following.object().await;
    assert_eq!((&caught_up["id"], &caught_up["new"]), (&id.into(), &true.into()), "what was missed is shown");
    assert_eq!(caught_up["manager"], "user:7");
    stored.incident.count += 1;
    service.announce(&stored).await.unwrap();
    assert_eq!(following.object().await["count"], 10);
}

#[test]
fn follow_without_a_daemon_is_an_error() {
    for (arguments, why) in [
        (["--bus", "unix:path=/nonexistent"], "harden-whyd does not answer"),
        (["--state-dir", "/nonexistent"], "'--state-dir' does not go with the command 'follow'"),
        (["--bus=system", "not a unit"], "is not a unit name"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_harden-why")).arg("follow").args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(support::exit_status::of_error(&said)) && said.contains(why), "{said}");
    }
}

/// The elements of an interface, without comments and layout.
fn bare(xml: &str) -> Vec<String> {
    let mut text = xml.to_owned();
    while let (Some(start), Some(end)) = (text.find("<!--"), text.find("-->")) {
        text.replace_range(start..end + 3, "");
    }
    let interface = text.split("<interface name=\"org.hardenwhy1.Manager\">").nth(1).unwrap();
    let interface = interface.split("</interface>").next().unwrap();
    interface
        .split(['<', '>'])
        .map(|part| part.trim().trim_end_matches('/'))
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn interface_equals_the_shipped_file_and_the_page() {
    let Some(bus) = OwnBus::start() else { return };
    let _service = bus.serve().await;
    let connection = bus.address().builder().build().await.unwrap();
    let call = ("org.freedesktop.DBus.Introspectable", "Introspect");
    let answer = connection.call_method(Some("org.hardenwhy1"), "/org/hardenwhy1", Some(call.0), call.1, &()).await;
    let offered = bare(&answer.unwrap().body().deserialize::<String>().unwrap());
    assert_eq!(offered, bare(include_str!("../../systemd/org.hardenwhy1.xml")));

    let page = include_str!("../../packaging/manuals/org.hardenwhy1.5").replace("\\-", "-");
    let named = offered.iter().filter_map(|element| element.split("name=\"").nth(1)?.split('"').next());
    for name in named.filter(|name| !name.contains('.')) {
        assert!(page.contains(name), "{name} is not in the page");
    }
    // Every key of the dictionaries, as they are declared.
    let wire = include_str!("../../src/outlet/wire.rs");
    let fields = wire
        .lines()
        .filter_map(|line| line.strip_prefix("    pub ")?.split_once(&[':', '('][..]))
        .filter(|(field, _)| !field.contains(' '));
    for (field, _) in fields {
        let key: String = field.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        assert!(page.contains(&format!("{key} (")), "{key} is not in the page");
    }
}

fn any_stored() -> impl Strategy<Value = Stored> {
    let id = prop_oneof![any::<u32>().prop_map(CallId::Number), any::<String>().prop_map(|s| CallId::Name(s.into()))];
    let event = prop_oneof![
        Just(IncidentEvent::UnrecordedDeath),
        (any::<u32>(), id, any::<u32>()).prop_map(|(arch, id, code)| IncidentEvent::Denial(Denial {
            call: Call { arch: Arch(arch), id },
            action: Action::from_code(code & 0x8fff_0000),
        }))
    ];
    let moment = || {
        prop_oneof![
            any::<i64>().prop_map(Moment::At),
            any::<String>().prop_map(|text| Moment::Text(text.into())),
            Just(Moment::Unknown)
        ]
    };
    let sample = (any::<u32>(), any::<Vec<u8>>(), any::<String>(), any::<u64>(), any::<Vec<u8>>()).prop_map(
        |(pid, comm, uid, ip, subject)| Sample { pid, comm, uid: uid.into(), ip, subject, ..Sample::default() },
    );
    let manager =
        prop_oneof![Just(None), Just(Some(Manager::System)), any::<u32>().prop_map(|u| Some(Manager::User(u)))];
    (any::<i64>(), manager, event, any::<Vec<u8>>(), any::<u64>(), moment(), moment(), sample, any_source()).prop_map(
        |(id, manager, event, exe, count, first, last, sample, source)| {
            let unit = manager.map(|manager| Unit { manager, name: "a@\\x2d.service".parse().unwrap() });
            let rung = unit.as_ref().map(|_| Rung::Executable);
            Stored {
                id,
                incident: Incident { key: IncidentKey { unit, event, exe, source }, rung, count, first, last, sample },
            }
        },
    )
}

proptest! {
    #[test]
    fn any_incident_survives_the_wire_format(stored in any_stored()) {
        let context = zbus::wire::serialized::Context::new(zbus::wire::LE, 0);
        let encoded = zbus::wire::to_bytes(context, &IncidentDict::from(&stored)).unwrap();
        let (decoded, _): (IncidentDict, _) = encoded.deserialize().unwrap();
        prop_assert_eq!(Stored::try_from(decoded).unwrap(), stored);
    }
}

fn any_source() -> impl Strategy<Value = SightingSource> {
    prop_oneof![
        Just(SightingSource::Audit),
        Just(SightingSource::Rehearsal),
        any::<i32>().prop_map(|errno| SightingSource::Tap { errno })
    ]
}

/// Receives the next request and confirms it.
async fn obeyed(ordered: &mut Receiver<PendingRequest>) -> String {
    let ordered = tokio::time::timeout(PATIENCE, ordered.recv()).await.unwrap().unwrap();
    let words = match &ordered.request {
        ClientRequest::BeginRehearsal(unit) => format!("rehearse {} of {}", unit.name, unit.manager),
        ClientRequest::EndRehearsal(unit) => format!("end {} of {}", unit.name, unit.manager),
        ClientRequest::AddIncidents(incidents) => format!("count {}", incidents.len()),
        ClientRequest::AnnounceDemonstration(pid) => format!("overlook {pid}"),
        ClientRequest::Forget(forget) => {
            let unit = forget.unit.as_ref().map(|unit| format!("{} of {}", unit.name, unit.manager));
            format!("forget {} for uid {}", unit.as_deref().unwrap_or("all unknown"), forget.uid)
        }
    };
    let (request, confirmation) = ordered.split();
    if let ClientRequest::Forget(forget) = request {
        forget.finish(Ok(7));
    }
    confirmation.send();
    words
}

#[tokio::test]
async fn unit_is_rehearsed_by_one_caller_until_it_ends_or_leaves() {
    let Some(bus) = OwnBus::start() else { return };
    let (_service, mut ordered) = bus.serve_with_orders().await;
    let (first, second) = (bus.client().await, bus.client().await);
    let (begun, order) = tokio::join!(first.begin_rehearsal("a.service", "system"), obeyed(&mut ordered));
    begun.unwrap();
    assert_eq!(order, "rehearse a.service of system");
    let error = second.begin_rehearsal("a.service", "system").await.unwrap_err();
    assert!(matches!(&error, BusError::Busy(why) if why.contains("a.service")), "{error:?}");
    let error = second.end_rehearsal("a.service", "system").await.unwrap_err();
    assert!(matches!(error, BusError::InvalidArgument(_)), "{error:?}");
    let (ended, order) = tokio::join!(first.end_rehearsal("a.service", "system"), obeyed(&mut ordered));
    ended.unwrap();
    assert_eq!(order, "end a.service of system");

    let (begun, _) = tokio::join!(second.begin_rehearsal("a.service", "user:7"), obeyed(&mut ordered));
    begun.unwrap();
    second.inner().connection().clone().close().await.unwrap();
    assert_eq!(obeyed(&mut ordered).await, "end a.service of user:7", "it left the bus");
    let (begun, _) = tokio::join!(first.begin_rehearsal("a.service", "user:7"), obeyed(&mut ordered));
    begun.unwrap();
}

#[tokio::test]
async fn rehearsal_and_report_require_rights() {
    let Some(bus) = OwnBus::start() else { return };
    let (_service, mut ordered) = bus.serve_with_orders().await;
    let own = format!("user:{OTHER}");
    for manager in ["system", "user:0"] {
        let refused = bus.call_as(OTHER, "", "BeginRehearsal", &["ss", "a.service", manager]).await;
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(error.contains("only root and its own user"), "{error}");
    }
    let arguments = ["ss", "a.service", &own];
    let (allowed, order) = tokio::join!(bus.call_as(OTHER, "", "BeginRehearsal", &arguments), obeyed(&mut ordered));
    assert!(allowed.status.success(), "{allowed:?}");
    assert_eq!(order, format!("rehearse a.service of {own}"));
    assert_eq!(obeyed(&mut ordered).await, format!("end a.service of {own}"), "busctl has left");
}

#[tokio::test]
async fn denials_are_forgotten_for_root_and_for_the_own_user_of_a_unit() {
    let Some(bus) = OwnBus::start() else { return };
    let (_service, mut ordered) = bus.serve_with_orders().await;
    for (unit, manager) in [("a.service", "system"), ("a.service", "user:0"), ("a.service", "user:1"), ("", "none")] {
        let refused = bus.call_as(OTHER, "", "Forget", &["ss", unit, manager]).await;
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && error.contains("only root and its own user"), "{manager}: {error}");
    }
    // A member of adm may read everything, and change nothing.
    if let Some(adm) = nix::unistd::Group::from_name("adm").unwrap().map(|group| group.gid.to_string()) {
        let refused = bus.call_as(OTHER, &adm, "Forget", &["ss", "a.service", "system"]).await;
        assert!(!refused.status.success(), "{refused:?}");
    }
    let own = format!("user:{OTHER}");
    let arguments = ["ss", "a.service", &own];
    let (allowed, order) = tokio::join!(bus.call_as(OTHER, "", "Forget", &arguments), obeyed(&mut ordered));
    assert!(allowed.status.success(), "{allowed:?}");
    assert_eq!(order, format!("forget a.service of {own} for uid {OTHER}"));
    let client = bus.client().await;
    for (unit, manager, expected) in
        [("a.service", "system", "a.service of system"), ("a.service", &own, &own), ("", "none", "all unknown")]
    {
        let (forgotten, order) = tokio::join!(client.forget(unit, manager), obeyed(&mut ordered));
        assert_eq!(forgotten.unwrap(), 7);
        assert!(order.starts_with("forget ") && order.contains(expected) && order.ends_with(" 0"), "{order}");
    }
    Store::open(&bus.state()).unwrap().record(&everything()).unwrap();
    let (status, out, error) = answer_of_client(&bus, true, &["forget", "--system", "a"]).await;
    assert!(status == Some(3) && (out + &error).contains(OWN_UNITS_ONLY), "{error}");
    let (root, order) = tokio::join!(answer_of_client(&bus, false, &["forget", "--unknown"]), obeyed(&mut ordered));
    assert_eq!((root.0, root.1), (Some(0), "Unit unknown: forgot 7 denials; the next one is new again.\n".to_owned()));
    assert_eq!(order, "forget all unknown for uid 0");
    let (user, order) = tokio::join!(answer_of_client(&bus, true, &["forget", "a"]), obeyed(&mut ordered));
    assert!(user.0 == Some(0) && order == format!("forget a.service of {own} for uid {OTHER}"), "{user:?}");
    for (unit, manager) in [("", "system"), ("a.service", "none"), ("a.service", ""), ("../a", "system")] {
        let error = client.forget(unit, manager).await.unwrap_err();
        assert!(matches!(error, BusError::InvalidArgument(_)), "{error:?}");
    }
    assert!(ordered.try_recv().is_err(), "no refused call reaches the daemon");
}

#[tokio::test]
async fn privileged_call_of_another_user_is_stopped_by_the_bus() {
    let Some(bus) = OwnBus::start() else { return };
    let (_service, mut ordered) = bus.serve_with_orders().await;
    let refused = bus.call_as(OTHER, "", "Report", &["aa{sv}", "0"]).await;
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && !error.contains("only root may report"), "{error}");
    let (taken, order) = tokio::join!(bus.call_as(0, "", "Report", &["aa{sv}", "0"]), obeyed(&mut ordered));
    assert!(taken.status.success() && order == "count 0", "{taken:?}");

    let set = async |uid: u32| {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), "--clear-groups".to_owned(), "busctl".to_owned()]);
        command.arg(format!("--address={}", bus.address()));
        command.args(["set-property", "org.hardenwhy1", "/org/hardenwhy1", "org.hardenwhy1.Manager"]);
        command.args(["Version", "s", "x"]);
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    for uid in [OTHER, 0] {
        let error = set(uid).await;
        assert!(error.contains("Access denied") || error.contains("not authorized"), "{error}");
    }
    let version = bus.client().await.version().await.unwrap();
    assert_eq!(version, env!("CARGO_PKG_VERSION"), "which all may get");
}

#[tokio::test]
async fn privileged_call_is_refused_where_the_bus_admits_it() {
    let Some(bus) = OwnBus::with_policy(r#"<allow send_destination="org.hardenwhy1"/>"#) else { return };
    let _service = bus.serve().await;
    // If the service read its arguments first, it would complain about them.
    let refused = bus.call_as(OTHER, "", "Report", &["s", "no incidents"]).await;
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("only root may report"), "{error}");
}

#[tokio::test]
async fn too_long_arguments_are_refused() {
    let Some(bus) = OwnBus::start() else { return };
    let _service = bus.serve().await;
    let client = bus.client().await;
    let long = "x".repeat(1 << 20);
    let large = IncidentDict { exe: vec![0; 5 << 20], ..IncidentDict::default() };
    for error in [
        client.list_incidents(&long, "", 0, 0, 1).await.unwrap_err(),
        client.list_incidents("", &long, 0, 0, 1).await.unwrap_err(),
        client.begin_rehearsal("a.service", &long).await.unwrap_err(),
        client.report(&[large]).await.unwrap_err(),
    ] {
        assert!(matches!(&error, BusError::InvalidArgument(why) if why.contains("bytes of arguments")), "{error:?}");
    }
    // Also where the method expects none.
    let call = |method| {
        let connection = client.inner().connection().clone();
        let long = long.clone();
        async move {
            let interface = Some("org.hardenwhy1.Manager");
            connection.call_method(Some("org.hardenwhy1"), "/org/hardenwhy1", interface, method, &long).await
        }
    };
    for method in ["Status", "Subscribe", "Nothing"] {
        let error = call(method).await.unwrap_err().to_string();
        assert!(error.contains("bytes of arguments"), "{error}");
    }
    let error = client.list_incidents(&long[..4_000], "", 0, 0, 1).await.unwrap_err();
    assert!(matches!(&error, BusError::InvalidArgument(why) if !why.contains("bytes of arguments")), "{error:?}");
}

/// A user who sends calls all the time, in a process of its own: several connections, many pending calls on each.
#[tokio::test]
async fn busy_user_delays_no_other_user() {
    let name = "bus::busy_user_delays_no_other_user";
    if let Ok(address) = std::env::var("HW_BUS") {
        let address: BusAddress = address.parse().unwrap();
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let client = HardenWhyProxy::new(&address.builder().build().await.unwrap()).await.unwrap();
            for _ in 0..32 {
                let client = client.clone();
                asking.spawn(async move {
                    while !matches!(client.list_incidents("", "", 0, 0, 500).await, Err(BusError::ZBus(_))) {}
                });
            }
        }
        println!("\nasking");
        while asking.join_next().await.is_some() {}
        return;
    }
    let Some(bus) = OwnBus::start() else { return };
    let many: Vec<_> = (0..400).map(|number| denied(Some(Manager::User(OTHER)), number)).collect();
    Store::open(&bus.state()).unwrap().record(&many).unwrap();
    // Its answers must not wait for those of the test.
    let (address, state) = (bus.address(), bus.state());
    let service = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let status = || Status { listening: true, ..Status::default() };
            let service = serve(&address, &state, Arc::new(status), client_requests::channel().0).await.unwrap();
            service.closed().await;
        });
    });
    while bus.client().await.status().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let copy = bus.temp.path().join("client");
    support::program::copy(std::env::current_exe().unwrap(), &copy);
    let mut child = Command::new("setpriv");
    child.args([format!("--reuid={OTHER}"), format!("--regid={OTHER}"), "--clear-groups".to_owned()]);
    child.arg(copy).args(["--exact", name, "--nocapture"]).current_dir("/");
    child.env("HW_BUS", bus.address().to_string()).stdout(std::process::Stdio::piped());
    let mut child = child.spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.map_while(Result::ok).any(|line| line == "asking"));

    let client = bus.client().await;
    for _ in 0..50 {
        client.list_units(0).await.unwrap();
        client.status().await.unwrap();
    }
    let third = bus.list_as(THIRD, "", "", "").await;
    assert_eq!(third, Ok(vec![]), "another user");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(bus);
    service.join().unwrap();
}

#[tokio::test]
async fn request_given_up_is_not_confused_with_others() {
    let Some(bus) = OwnBus::start() else { return };
    let (_service, mut ordered) = bus.serve_with_orders().await;
    let client = bus.client().await;
    let (begun, ordered) = tokio::join!(client.begin_rehearsal("a.service", "system"), async {
        let ordered = ordered.recv().await.unwrap();
        assert!(!ordered.is_abandoned());
        // Longer than any caller waits.
        tokio::time::sleep(Duration::from_secs(11)).await;
        ordered
    });
    assert!(matches!(begun.unwrap_err(), BusError::Busy(_)));
    assert!(ordered.is_abandoned());
}

#[tokio::test]
async fn report_contains_what_a_tap_saw_and_nothing_else() {
    let Some(bus) = OwnBus::start() else { return };
    let (_service, mut ordered) = bus.serve_with_orders().await;
    let client = bus.client().await;
    let of = |source, count| {
        let mut incident = denied(Some(Manager::System), 1);
        (incident.key.source, incident.count) = (source, count);
        IncidentDict::from(&Stored { id: 0, incident })
    };
    let tapped = of(SightingSource::Tap { errno: 1 }, 3);
    for bad in [of(SightingSource::Audit, 1), of(SightingSource::Rehearsal, 1), of(SightingSource::Tap { errno: 1 }, 0)]
    {
        let error = client.report(&[tapped.clone(), bad]).await.unwrap_err();
        assert!(matches!(error, BusError::InvalidArgument(_)), "{error:?}");
    }
    let many = vec![tapped.clone(); MAX_INCIDENTS as usize + 1];
    assert!(matches!(client.report(&many).await.unwrap_err(), BusError::InvalidArgument(_)));
    let two = [tapped.clone(), tapped];
    let (reported, order) = tokio::join!(client.report(&two), obeyed(&mut ordered));
    reported.unwrap();
    assert_eq!(order, "count 2");
}
