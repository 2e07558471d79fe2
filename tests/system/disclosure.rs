//! A user tries to read the denials of others: on the bus, in the store, in the daemon's process, and in files that root's
//! commands make. Each try is counted, and one incident of the user's own shows that the bus answered.

use crate::own_bus::OwnBus;
use crate::support::daemon::{Daemon, PROGRAM};
use crate::support::random::Random;
use harden_why::audit::Action;
use harden_why::incidents::{
    Denial, Incident, IncidentEvent, IncidentKey, Moment, Query, Sample, SightingSource, Store, Stored,
};
use harden_why::outlet::client::HardenWhyProxy;
use harden_why::outlet::wire::IncidentDict;
use harden_why::syscalls::{Arch, Call};
use harden_why::systemd::bus_address::BusAddress;
use harden_why::units::{Manager, Rung, Unit};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zbus::export::futures_core::Stream as _;
use zbus::zvariant::DynamicType;

/// `nobody`.
const USER: u32 = 65_534;
/// In every incident of others: in its unit, its program, and the names of its process. No other file has it.
static SECRET: LazyLock<String> = LazyLock::new(|| format!("hw-hidden-{}", std::process::id()));
/// In the one incident of the user.
const OWN: &str = "hw-own";
/// How many calls the user makes on the bus.
const CALLS: usize = 3_000;
/// How often the user tries to open each file.
const ROUNDS: usize = 200;
/// The most of a file that the user reads.
const MOST_OF_FILE: u64 = 1 << 20;

fn denial(manager: Option<Manager>, word: &str, number: u32) -> Incident {
    let unit = manager.map(|manager| Unit { manager, name: format!("{word}-{number}.service").parse().unwrap() });
    let event = IncidentEvent::Denial(Denial { call: Call::numbered(Arch::X86_64, number), action: Action::Errno });
    let text = |prefix: &str| format!("{prefix}{word}").into_bytes();
    Incident {
        key: IncidentKey { unit, event, exe: text("/opt/"), source: SightingSource::Tap { errno: 1 } },
        rung: manager.map(|_| Rung::OwnCgroup),
        count: 1,
        first: Moment::At(10),
        last: Moment::At(20 + i64::from(number)),
        sample: Sample { pid: 9, comm: text(""), uid: "0".into(), subject: text(""), ..Sample::default() },
    }
}

/// Incidents of root's units, of another user's, of no known unit, and one of the user.
fn everybodys() -> Vec<Incident> {
    let others = [Some(Manager::System), Some(Manager::User(0)), Some(Manager::User(1_000)), None];
    let others = others.into_iter().flat_map(|manager| (0..20).map(move |number| denial(manager, &SECRET, number)));
    others.chain([denial(Some(Manager::User(USER)), OWN, 1)]).collect()
}

/// Makes this thread the user's. The threads that it starts are the user's as well.
fn become_user() {
    // SAFETY: without glibc's functions, these calls change the calling thread alone (nptl(7)), and they take no memory.
    let is_user = unsafe {
        libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) == 0
            && libc::syscall(libc::SYS_setresgid, USER, USER, USER) == 0
            && libc::syscall(libc::SYS_setresuid, USER, USER, USER) == 0
    };
    assert!(is_user, "{}", std::io::Error::last_os_error());
}

fn holds(bytes: &[u8], word: &str) -> bool {
    memchr::memmem::find(bytes, word.as_bytes()).is_some()
}

/// What the user got on the bus.
#[derive(Debug, Default)]
struct Gathered {
    calls: usize,
    answers: usize,
    signals: usize,
    /// How many messages have the user's own incident.
    own: usize,
    /// The messages and errors that have an incident of others.
    secrets: Vec<String>,
}

impl Gathered {
    fn look_at(&mut self, what: &str, bytes: &[u8]) {
        self.own += usize::from(holds(bytes, OWN));
        if holds(bytes, &SECRET) {
            self.secrets.push(format!("{what}: {}", String::from_utf8_lossy(bytes)));
        }
    }
}

/// A connection of the user.
struct Attacker {
    connection: zbus::Connection,
    gathered: Gathered,
}

impl Attacker {
    async fn call(&mut self, interface: &str, method: &str, body: &(impl serde::Serialize + DynamicType)) {
        let path =
            if interface == "org.freedesktop.DBus.Monitoring" { "/org/freedesktop/DBus" } else { "/org/hardenwhy1" };
        let name = if path == "/org/freedesktop/DBus" { "org.freedesktop.DBus" } else { "org.hardenwhy1" };
        self.gathered.calls += 1;
        match self.connection.call_method(Some(name), path, Some(interface), method, body).await {
            Ok(answer) => {
                self.gathered.answers += 1;
                self.gathered.look_at(method, answer.data());
            }
            Err(zbus::Error::InputOutput(error)) => panic!("{method}: {error}"),
            Err(error) => self.gathered.look_at(method, error.to_string().as_bytes()),
        }
    }

    /// Makes a call of a random method with random arguments.
    async fn call_anything(&mut self, random: &mut Random) {
        const MANAGER: &str = "org.hardenwhy1.Manager";
        const UNITS: [&str; 7] = ["", "*", "a.service", "hw-h*.service", "hw@.service", "../x", "-.slice"];
        const MANAGERS: [&str; 8] =
            ["", "system", "user:0", "user:1000", "user:65534", "user:-1", "user:18446744073709551615", "System"];
        const NUMBERS: [u32; 5] = [0, 1, 10, 1_000, u32::MAX];
        let unit = UNITS[random.below(UNITS.len())];
        let manager = MANAGERS[random.below(MANAGERS.len())];
        let [offset, limit] = [(); 2].map(|()| NUMBERS[random.below(NUMBERS.len())]);
        let since = [0, i64::MIN, i64::MAX, 25][random.below(4_usize)];
        match random.below(12) {
            0..4 => self.call(MANAGER, "ListIncidents", &(unit, manager, since, offset, limit)).await,
            4 => self.call(MANAGER, "ListUnits", &(since,)).await,
            5 => self.call(MANAGER, "Status", &()).await,
            6 => self.call(MANAGER, "Subscribe", &()).await,
            7 => self.call(MANAGER, ["BeginRehearsal", "EndRehearsal"][random.below(2_usize)], &(unit, manager)).await,
            8 if manager != "user:65534" => self.call(MANAGER, "Forget", &(unit, manager)).await,
            9 => self.call(MANAGER, "Report", &(Vec::<IncidentDict>::new(),)).await,
            10 => self.call("org.freedesktop.DBus.Properties", "GetAll", &(MANAGER,)).await,
            11 => self.call("org.freedesktop.DBus.Introspectable", "Introspect", &()).await,
            _ => self.call(MANAGER, "AnnounceDemonstration", &(offset,)).await,
        }
    }
}

/// Attacks the daemon on the bus while new incidents are reported.
async fn attack_bus(address: BusAddress) -> Gathered {
    let connection = address.builder().build().await.unwrap();
    let mut messages = Box::pin(zbus::MessageStream::from(&connection));
    let mut attacker = Attacker { connection, gathered: Gathered::default() };
    let mut random = Random(0x5eed_0d15);
    let next = |messages: &mut std::pin::Pin<Box<zbus::MessageStream>>| {
        let waker = std::task::Waker::noop();
        messages.as_mut().poll_next(&mut std::task::Context::from_waker(waker))
    };
    while attacker.gathered.calls < CALLS {
        attacker.call_anything(&mut random).await;
        // Signals: those of the user's own incidents are meant for the user.
        while let std::task::Poll::Ready(Some(message)) = next(&mut messages) {
            let message = message.unwrap();
            attacker.gathered.signals += usize::from(message.message_type() == zbus::message::Type::Signal);
            attacker.gathered.look_at("a message", message.data());
        }
    }
    drop(messages);
    // A monitor would receive all messages of the bus. dbus-daemon ends a refused one's call with an error.
    attacker.call("org.freedesktop.DBus.Monitoring", "BecomeMonitor", &(Vec::<String>::new(), 0_u32)).await;
    attacker.gathered
}

/// Tries to open a file, and returns what it holds.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    // A pipe must not keep it waiting.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    _ = file.take(MOST_OF_FILE).read_to_end(&mut bytes);
    Some(bytes)
}

/// Tries to open the store and what the daemon's process shows. Returns the number of tries and the files that held a secret
/// or that only the daemon should open.
fn attack_files(state: &Path, daemon: u32) -> (usize, Vec<PathBuf>) {
    let process = PathBuf::from(format!("/proc/{daemon}"));
    let root = process.join("root").join(state.strip_prefix("/").unwrap());
    let stores = [state, &root].into_iter().flat_map(|dir| {
        let files = ["", "-wal", "-shm", "-journal", ".damaged-1"].map(|end| format!("incidents.sqlite3{end}"));
        files.map(|file| dir.join(file)).into_iter().chain([dir.to_owned()])
    });
    let descriptors = (0..32).map(|number| process.join(format!("fd/{number}")));
    let shown = ["mem", "environ", "maps", "auxv", "stack", "syscall", "io", "cwd", "root", "map_files", "pagemap"];
    let shown = shown.map(|name| process.join(name));
    let hidden: Vec<PathBuf> = stores.chain(descriptors).chain(shown).collect();
    let plain = ["cmdline", "comm", "stat", "status", "mountinfo", "cgroup", "limits", "task"];
    let plain: Vec<PathBuf> = plain.iter().map(|name| process.join(name)).collect();
    let (mut tries, mut found) = (0, Vec::new());
    for _ in 0..ROUNDS {
        for path in &hidden {
            tries += 1;
            if File::open(path).is_ok() {
                found.push(path.clone());
            }
        }
        for path in &plain {
            tries += 1;
            if read(path).is_some_and(|bytes| holds(&bytes, &SECRET)) {
                found.push(path.clone());
            }
        }
        found.dedup();
    }
    (tries, found)
}

/// Reads the files in the directories for temporary files until it is stopped. Returns how many it read, and those with a
/// secret.
fn watch_temporary_files(stop: &AtomicBool) -> (usize, Vec<PathBuf>) {
    let (mut tries, mut found) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let mut directories: Vec<(PathBuf, u32)> =
            ["/tmp", "/var/tmp", "/dev/shm", "/run/user"].map(|directory| (directory.into(), 3)).into();
        while let Some((directory, deeper)) = directories.pop() {
            for entry in directory.read_dir().into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && deeper > 0 => directories.push((entry.path(), deeper - 1)),
                    Ok(kind) if kind.is_file() => {
                        tries += 1;
                        if read(&entry.path()).is_some_and(|bytes| holds(&bytes, &SECRET)) {
                            found.push(entry.path());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    (tries, found)
}

/// Runs commands of root that read and print the incidents, and reports new ones, until it is stopped. Returns how many
/// commands it ran.
fn use_as_root(address: &str, log: &Path, stop: &AtomicBool) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut commands = 0;
    let unit = format!("{}-1.service", *SECRET);
    let log = log.to_str().unwrap();
    let all: [&[&str]; 5] = [&["--all"], &["-v", &unit], &["--json", &unit], &["explain", log], &["metrics"]];
    while !stop.load(Ordering::Relaxed) {
        let output = Command::new(env!("CARGO_BIN_EXE_harden-why"))
            .args(["--bus", address])
            .args(all[commands % all.len()])
            .output()
            .unwrap();
        assert!(output.status.code().is_some(), "{output:?}");
        commands += 1;
        runtime.block_on(async {
            let connection = zbus::connection::Builder::address(address).build().await.unwrap();
            let daemon = HardenWhyProxy::new(&connection).await.unwrap();
            let number = u32::try_from(100 + commands).unwrap();
            let dict = |manager, word: &str| {
                IncidentDict::from(&Stored { id: 0, incident: denial(Some(manager), word, number) })
            };
            // A busy daemon refuses some.
            _ = daemon.report(&[dict(Manager::System, &SECRET), dict(Manager::User(USER), OWN)]).await;
        });
    }
    commands
}

#[test]
fn user_learns_nothing_of_the_denials_of_others() {
    let Some(bus) = OwnBus::start() else { return };
    let state = bus.state();
    Store::open(&state).unwrap().record(&everybodys()).unwrap();
    // Only the daemon's state is where the user can look for it. Its log and the log of a program are root's.
    let private = tempfile::tempdir().unwrap();
    std::fs::set_permissions(private.path(), PermissionsExt::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(&state, private.path().join("state")).unwrap();
    let log = private.path().join("program.log");
    let record = format!(
        "type=SECCOMP msg=audit(1795456064.827:201): auid=4294967295 uid=0 gid=0 ses=4294967295 pid=2294 comm=\"{0}\" \
         exe=\"/opt/{0}\" sig=31 arch=c000003e syscall=99 compat=0 ip=0x7f613e11f829 code=0x80000000\n",
        *SECRET
    );
    std::fs::write(&log, record).unwrap();
    let address = bus.address().to_string();
    let daemon = Daemon::start(Command::new(PROGRAM), &address, private.path());
    let (pid, stop) = (daemon.pid(), AtomicBool::new(false));
    let (gathered, (opens, opened), (temporary, leaked), commands) = std::thread::scope(|scope| {
        let root = scope.spawn(|| use_as_root(&address, &log, &stop));
        let watcher = scope.spawn(|| {
            become_user();
            watch_temporary_files(&stop)
        });
        let files = scope.spawn(|| {
            become_user();
            attack_files(&state, pid)
        });
        let bus_attack = scope.spawn(|| {
            become_user();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(attack_bus(bus.address()))
        });
        let (gathered, files) = (bus_attack.join(), files.join());
        // The others end only then.
        std::thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        (gathered.unwrap(), files.unwrap(), watcher.join().unwrap(), root.join().unwrap())
    });
    println!(
        "{} calls ({} answered, {} signals), {opens} opens of the store and the process, {temporary} of temporary files, \
         during {commands} commands of root",
        gathered.calls, gathered.answers, gathered.signals
    );
    assert_eq!(gathered.secrets, [] as [String; 0]);
    assert!(gathered.own > 10 && gathered.signals > 0, "the user gets its own incidents: {gathered:?}");
    assert_eq!((opened, leaked), (vec![], vec![]));
    assert!(commands > 4 && temporary > 0);
    // What the user asked for changed nothing of others.
    let stored = Store::open_read_only(&state).unwrap().incidents(&Query::default()).unwrap();
    let others = stored.iter().filter(|one| holds(&one.incident.key.exe, &SECRET)).count();
    assert!(others >= 80, "{others}");
    daemon.stop();
}
