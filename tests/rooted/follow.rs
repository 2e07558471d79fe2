//! `follow` against a daemon at its worst: storms, full pages, errors, a store that was replaced.

use crate::support::skip::skip;
use harden_why::audit::Action;
use harden_why::incidents::{
    Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource, StoreError, Stored,
};
use harden_why::outlet::wire::{BusError, IncidentDict, MAX_INCIDENTS, NAME, PATH, Status};
use harden_why::syscalls::{Arch, Call};
use harden_why::units::{Manager, Rung, Unit};
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;
use zbus::Connection;
use zbus::message::Header;
use zbus::names::BusName;
use zbus::object_server::SignalEmitter;

const PATIENCE: Duration = Duration::from_mins(1);

/// Many times as many signals as zbus queues for a client that does not read them.
const STORM: i64 = 500;

fn now() -> i64 {
    i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

fn stored(id: i64, number: u32, last: i64) -> Stored {
    let denial = Denial { call: Call::numbered(Arch::X86_64, number), action: Action::KillProcess };
    let unit = Unit { manager: Manager::System, name: "not-here.service".parse().unwrap() };
    let incident = Incident {
        key: IncidentKey {
            unit: Some(unit),
            event: IncidentEvent::Denial(denial),
            exe: b"/bin/x".to_vec(),
            source: SightingSource::Audit,
        },
        rung: Some(Rung::OwnCgroup),
        count: 1,
        first: Moment::At(last),
        last: Moment::At(last),
        sample: Sample::default(),
    };
    Stored { id, incident }
}

/// The daemon's incidents, its behaviour, and the calls that it received.
#[derive(Default)]
struct State {
    stored: Vec<Stored>,
    /// Incidents that each new subscriber receives before the answer to its call.
    storm: Vec<Stored>,
    /// The error that listing returns.
    refusal: Option<fn() -> BusError>,
    status: Status,
    /// The latest subscriber, and the number of subscriptions.
    subscriber: Option<String>,
    subscriptions: usize,
    asked: Vec<(i64, u32)>,
}

type Shared = Arc<Mutex<State>>;

struct Fake(Shared);

#[zbus::interface(name = "org.hardenwhy1.Manager")]
impl Fake {
    fn list_incidents(
        &self,
        unit: &str,
        manager: &str,
        since: i64,
        offset: u32,
        limit: u32,
    ) -> Result<Vec<IncidentDict>, BusError> {
        assert_eq!((unit, manager), ("", ""), "all that one may read");
        let mut state = self.0.lock().unwrap();
        state.asked.push((since, offset));
        if let Some(refusal) = state.refusal {
            return Err(refusal());
        }
        let late = |stored: &&Stored| matches!(stored.incident.last, Moment::At(last) if last >= since);
        let page = state.stored.iter().filter(late).skip(offset as usize).take(limit.min(MAX_INCIDENTS) as usize);
        Ok(page.map(IncidentDict::from).collect())
    }

    fn status(&self) -> Status {
        self.0.lock().unwrap().status.clone()
    }

    async fn subscribe(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), BusError> {
        let name = header.sender().unwrap().to_string();
        let storm = self.0.lock().unwrap().storm.clone();
        for stored in &storm {
            tell(connection, &name, stored).await;
        }
        let mut state = self.0.lock().unwrap();
        state.subscriptions += 1;
        state.subscriber = Some(name);
        Ok(())
    }

    #[zbus(signal)]
    async fn incident_seen(emitter: &SignalEmitter<'_>, incident: IncidentDict) -> zbus::Result<()>;
}

async fn tell(connection: &Connection, name: &str, stored: &Stored) {
    let emitter = SignalEmitter::new(connection, PATH).unwrap().set_destination(BusName::try_from(name).unwrap());
    Fake::incident_seen(&emitter, IncidentDict::from(stored)).await.unwrap();
}

/// A bus with such a daemon.
struct Machine {
    bus: Child,
    temp: tempfile::TempDir,
    state: Shared,
}

impl Drop for Machine {
    fn drop(&mut self) {
        _ = self.bus.kill();
        _ = self.bus.wait();
    }
}

impl Machine {
    fn start(state: State) -> Option<Self> {
        let temp = tempfile::tempdir().unwrap();
        // A session bus of the machine would start the installed daemon.
        let config = format!(
            r#"<busconfig>
              <listen>unix:path={}/bus</listen>
              <policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
            </busconfig>"#,
            temp.path().display()
        );
        let file = temp.path().join("bus.conf");
        std::fs::write(&file, config).unwrap();
        let config = format!("--config-file={}", file.display());
        let bus = Command::new("dbus-daemon").args(["--nofork", "--nopidfile", "--nosyslog", &config]).spawn();
        let Ok(bus) = bus else {
            skip("there is no dbus-daemon");
            return None;
        };
        let machine = Self { bus, temp, state: Arc::new(Mutex::new(state)) };
        let deadline = Instant::now() + PATIENCE;
        // The socket may exist before dbus-daemon listens on it.
        while UnixStream::connect(machine.socket()).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(machine)
    }

    fn socket(&self) -> PathBuf {
        self.temp.path().join("bus")
    }

    fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    /// Plays the daemon until the connection is closed.
    async fn serve(&self) -> Connection {
        let address = self.address();
        let builder = zbus::connection::Builder::address(address.as_str());
        let served = builder.serve_at(PATH, Fake(Arc::clone(&self.state))).name(NAME).build();
        timeout(PATIENCE, served).await.unwrap().unwrap()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until a condition holds.
    async fn until(&self, such: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !such(&self.state()) {
            assert!(Instant::now() < deadline, "{:?}", self.state().asked);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn tell(&self, daemon: &Connection, stored: &Stored) {
        let name = self.state().subscriber.clone().unwrap();
        tell(daemon, &name, stored).await;
    }
}

/// What `follow` says as soon as it listens.
const CONNECTED: &str = "connected to harden-whyd, waiting for denials";

/// Starts `harden-why follow --json`.
struct Following {
    child: Child,
    out: UnboundedReceiver<String>,
    err: UnboundedReceiver<String>,
}

impl Drop for Following {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> UnboundedReceiver<String> {
    let (sender, lines) = unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl Following {
    fn start(machine: &Machine) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
        command.args(["--json", "--bus", &machine.address(), "follow"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { child, out, err }
    }

    /// Starts `harden-why follow` for a person.
    fn start_page(machine: &Machine, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_harden-why"));
        command.args(["--bus", &machine.address(), "follow"]).args(arguments).env("TZ", "UTC");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { child, out, err }
    }

    async fn line(&mut self) -> String {
        timeout(PATIENCE, self.out.recv()).await.unwrap().unwrap()
    }

    /// The next object: its number, whether it is new, and the call.
    async fn object(&mut self) -> (i64, bool, String) {
        let Ok(Some(line)) = timeout(PATIENCE, self.out.recv()).await else {
            let said: Vec<String> = std::iter::from_fn(|| self.err.try_recv().ok()).collect();
            panic!("nothing more is shown: {said:?}");
        };
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        let call = if object["new"] == true { &object["denials"][0]["call"] } else { &object["call"] };
        (object["id"].as_i64().unwrap(), object["new"].as_bool().unwrap(), call.as_str().unwrap().to_owned())
    }

    /// The next message, other than that it is connected.
    async fn error(&mut self) -> String {
        loop {
            let message = timeout(PATIENCE, self.err.recv()).await.unwrap().unwrap();
            if !message.contains(CONNECTED) {
                return message;
            }
        }
    }
}

#[tokio::test]
async fn storm_at_the_start_delays_no_answer() {
    let storm = (1..=STORM).map(|id| stored(id, u32::try_from(id).unwrap(), now())).collect();
    let Some(machine) = Machine::start(State { storm, ..State::default() }) else { return };
    let _daemon = machine.serve().await;
    let mut following = Following::start(&machine);
    for id in 1..=STORM {
        let (shown, new, _) = following.object().await;
        assert_eq!((shown, new), (id, true));
    }
    assert_eq!(machine.state().asked.len(), 1);
}

#[tokio::test]
async fn missed_incidents_are_shown_once() {
    let Some(machine) = Machine::start(State::default()) else { return };
    let daemon = machine.serve().await;
    let mut following = Following::start(&machine);
    machine.until(|state| !state.asked.is_empty()).await;
    let latest = now() + 60_000;
    machine.tell(&daemon, &stored(1, 1, latest)).await;
    assert_eq!(following.object().await, (1, true, "write".to_owned()));

    daemon.close().await.unwrap();
    {
        // One that was seen before the last announced one and stored after it, and more than a page.
        let mut state = machine.state();
        let many = (0..i64::from(MAX_INCIDENTS) + 100)
            .map(|n| stored(1_000 + n, 10_000 + u32::try_from(n).unwrap(), latest + 10));
        state.stored =
            many.chain([stored(1, 1, latest), stored(2, 2, latest - 900), stored(3, 3, latest - 9_000)]).collect();
        state.asked.clear();
    }
    let daemon = machine.serve().await;
    assert_eq!(following.object().await, (2, true, "open".to_owned()), "the oldest first");
    for n in (0..i64::from(MAX_INCIDENTS) + 100).rev() {
        assert_eq!(following.object().await.0, 1_000 + n);
    }
    let offsets: Vec<u32> = machine.state().asked.iter().map(|(_, offset)| *offset).collect();
    assert_eq!(offsets, [0, MAX_INCIDENTS]);
    machine.tell(&daemon, &stored(4, 4, latest + 20)).await;
    assert_eq!(following.object().await, (4, true, "stat".to_owned()), "nothing comes twice");
}

#[tokio::test]
async fn failed_catching_up_is_reported_and_repeated() {
    let nothing_yet = || {
        let path = PathBuf::from("/var/lib/harden-why/incidents.sqlite3");
        BusError::NoStore(StoreError::Missing { path }.to_string())
    };
    let status = Status { listening: true, lost: 3, ..Status::default() };
    let Some(machine) = Machine::start(State { status, refusal: Some(nothing_yet), ..State::default() }) else {
        return;
    };
    let daemon = machine.serve().await;
    let mut following = Following::start(&machine);
    let error = following.error().await;
    assert!(error.contains("3 audit events were lost since harden-whyd started"), "{error}");
    machine.until(|state| !state.asked.is_empty()).await;
    machine.tell(&daemon, &stored(1, 1, now() + 60_000)).await;
    assert_eq!(following.object().await.0, 1);

    daemon.close().await.unwrap();
    let error = following.error().await;
    assert!(error.contains("harden-whyd has stopped"), "that nothing is stored yet is no error: {error}");
    let missed = now() + 60_000;
    machine.state().refusal = Some(|| BusError::Store("\u{1b}it is locked".to_owned()));
    let daemon = machine.serve().await;
    let error = following.error().await;
    assert!(error.contains("denials in the meantime cannot be shown (\\x1bit is locked)"), "{error}");
    // The signal arrives later than the missed incidents.
    machine.tell(&daemon, &stored(3, 3, missed + 60_000)).await;
    assert_eq!(following.object().await.0, 3);

    daemon.close().await.unwrap();
    assert!(following.error().await.contains("harden-whyd has stopped"));
    {
        let mut state = machine.state();
        (state.refusal, state.stored) = (None, vec![stored(3, 3, missed + 60_000), stored(2, 2, missed)]);
    }
    let _daemon = machine.serve().await;
    assert_eq!(following.object().await, (2, true, "open".to_owned()));
}

#[tokio::test]
async fn replaced_store_gives_old_numbers_to_new_incidents() {
    let Some(machine) = Machine::start(State::default()) else { return };
    let daemon = machine.serve().await;
    let mut following = Following::start(&machine);
    machine.until(|state| !state.asked.is_empty()).await;
    machine.tell(&daemon, &stored(1, 1, now())).await;
    assert_eq!(following.object().await, (1, true, "write".to_owned()));
    // The same number and count for another incident.
    machine.tell(&daemon, &stored(1, 2, now() + 1)).await;
    assert_eq!(following.object().await, (1, true, "open".to_owned()));
    // The same incident as before, but later.
    machine.tell(&daemon, &stored(2, 1, now() + 2)).await;
    assert_eq!(following.object().await, (2, false, "write".to_owned()));
}

#[tokio::test]
async fn person_reads_that_it_is_connected_and_then_a_line_per_denial() {
    let earlier = (1..=5).map(|id| stored(6 - id, u32::try_from(6 - id).unwrap(), now() - id * 100_000)).collect();
    let Some(machine) = Machine::start(State { stored: earlier, ..State::default() }) else { return };
    let daemon = machine.serve().await;
    let arguments = ["-f", "-n", "2", "-u", "not-here", "--unit=other"];
    let mut following = Following::start_page(&machine, &arguments);
    let connected = timeout(PATIENCE, following.err.recv()).await.unwrap().unwrap();
    assert!(connected.contains(CONNECTED), "{connected}");
    for call in ["stat", "fstat"] {
        let line = following.line().await;
        assert!(line.contains(&format!("not-here.service: {call} ")), "the latest two, the oldest first: {line}");
    }
    let at = now() + 1;
    let mut new = stored(10, 41, at);
    machine.tell(&daemon, &new).await;
    let line = following.line().await;
    let (time, rest) = line.split_once(" not-here.service: ").unwrap();
    assert!(time.len() == "00:00:00".len() && time.matches(':').count() == 2, "{line}");
    assert_eq!(rest, "socket denied, process killed (SIGSYS), by /bin/x");
    new.incident.count = 4;
    machine.tell(&daemon, &new).await;
    assert!(following.line().await.ends_with("socket denied, process killed (SIGSYS), 4 times, by /bin/x"));

    let mut whole = Following::start_page(&machine, &["-v", "-n", "1"]);
    let line = whole.line().await;
    assert!(line.contains("not-here.service: "), "{line}");
    assert!(whole.line().await.is_empty() && whole.line().await.contains("not-here.service"), "the answer follows");
}
