//! The real harden-whyd, as a child that reports its state as it would to systemd.

use harden_why::audit::text::escape;
use harden_why::incidents::{Incident, Query, Store};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_mins(3);

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_harden-whyd");

/// Waits until a function returns something.
#[track_caller]
pub(crate) fn wait_for<T>(mut look: impl FnMut() -> Option<T>, otherwise: impl FnOnce() -> String) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{}", otherwise());
        sleep(Duration::from_millis(10));
    }
}

/// A running daemon. Dropping it ends it.
pub(crate) struct Daemon {
    child: Child,
    notify: UnixDatagram,
    dir: PathBuf,
}

impl Daemon {
    /// Starts one with its state, log and notify socket in a directory of its own. `command` becomes the daemon
    /// with these arguments.
    pub(crate) fn spawn(mut command: Command, bus: &str, dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let socket = dir.join("notify");
        let notify = UnixDatagram::bind(&socket).unwrap();
        notify.set_nonblocking(true).unwrap();
        let log = File::create(dir.join("log")).unwrap();
        if !command.get_args().any(|argument| argument == "--config") {
            // Failed calls of this machine's own units are no part of a test.
            let config = dir.join("harden-why.conf");
            std::fs::write(&config, "[failed-calls]\nwatch = false\n").unwrap();
            command.arg("--config").arg(config);
        }
        command.args(["--bus", bus, "--state-dir"]).arg(dir.join("state"));
        command.env("NOTIFY_SOCKET", socket).env("RUST_LOG", "harden_why=debug,info");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self { child: command.spawn().unwrap(), notify, dir: dir.to_owned() }
    }

    /// Starts one that receives the kernel's records, and waits until it is ready.
    pub(crate) fn start(command: Command, bus: &str, dir: &Path) -> Self {
        let daemon = Self::spawn(command, bus, dir);
        daemon.wait_for_state("READY=1");
        daemon
    }

    /// Waits until it has reported that to systemd.
    pub(crate) fn wait_for_state(&self, state: &str) {
        let mut buffer = [0; 512];
        let told = || {
            let length = self.notify.recv(&mut buffer).ok()?;
            str::from_utf8(&buffer[..length]).unwrap().lines().any(|line| line == state).then_some(())
        };
        wait_for(told, || format!("no {state}: {}", self.log()));
    }

    /// The number of the next descriptor that it opens.
    pub(crate) fn lowest_free_descriptor(&self) -> u64 {
        let directory = PathBuf::from(format!("/proc/{}/fd", self.pid()));
        (0..=u64::from(u32::MAX)).find(|number| directory.join(number.to_string()).symlink_metadata().is_err()).unwrap()
    }

    /// Its PID.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its root directory, whatever namespace it is in.
    pub(crate) fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.child.id()).into()
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap()
    }

    /// Waits until its log contains a text.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_for(|| self.log().contains(text).then_some(()), || format!("no {text:?} in: {}", self.log()));
    }

    /// The incidents that it has stored so far.
    pub(crate) fn stored(&self) -> Vec<Incident> {
        incidents(&self.dir.join("state"))
    }

    /// Waits until it has stored such an incident.
    #[track_caller]
    pub(crate) fn wait_for_incident(&self, such: impl Fn(&Incident) -> bool) -> Incident {
        wait_for(
            || self.stored().into_iter().find(|incident| such(incident)),
            || format!("not among:\n{}{}", listing(&self.stored()), self.log()),
        )
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let log = self.dir.join("log");
        wait_for(|| child.try_wait().unwrap(), || format!("does not end: {}", fs::read_to_string(log).unwrap()))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it as systemd would.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.log());
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The incidents in a state directory.
pub(crate) fn incidents(state: &Path) -> Vec<Incident> {
    let stored = Store::open_read_only(state).unwrap().incidents(&Query::default()).unwrap();
    stored.into_iter().map(|stored| stored.incident).collect()
}

/// Incidents, a line each.
pub(crate) fn listing(incidents: &[Incident]) -> String {
    let line = |Incident { key, rung, count, sample, .. }: &Incident| {
        let unit = key.unit.as_ref().map(|unit| format!("{} of {}", unit.name, unit.manager));
        let exe = escape(&key.exe);
        format!("{unit:?} {rung:?} {count}× {exe} (pid {}): {:?}\n", sample.pid, key.event)
    };
    incidents.iter().map(line).collect()
}

/// An alert, and the incidents that were stored when it came.
pub(crate) struct Alert {
    pub(crate) fields: Vec<String>,
    pub(crate) stored: Vec<Incident>,
}

impl Alert {
    /// Returns whether it has this field.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.fields.iter().any(|line| line == field)
    }
}

/// The machine's journal as a daemon sees it. It is always read, since writers to a full socket wait.
pub(crate) struct Journal<'a> {
    daemon: &'a Daemon,
    alerts: Receiver<Alert>,
}

impl<'a> Journal<'a> {
    /// Binds journald's socket.
    pub(crate) fn of(daemon: &'a Daemon) -> Self {
        let directory = daemon.root().join("run/systemd/journal");
        fs::create_dir_all(&directory).unwrap();
        let socket = UnixDatagram::bind(directory.join("socket")).unwrap();
        let state = daemon.dir.join("state");
        let (sender, alerts) = channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(length) = socket.recv(&mut buffer) {
                let fields = String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect();
                let mut alert = Alert { fields, stored: Vec::new() };
                if alert.has("SYSLOG_IDENTIFIER=harden-whyd") {
                    alert.stored = incidents(&state);
                    if sender.send(alert).is_err() {
                        return;
                    }
                }
            }
        });
        Self { daemon, alerts }
    }

    /// The next alert with this field, if it comes in time.
    pub(crate) fn within(&self, time: Duration, field: &str) -> Result<Alert, RecvTimeoutError> {
        let deadline = Instant::now() + time;
        loop {
            let alert = self.alerts.recv_timeout(deadline.saturating_duration_since(Instant::now()))?;
            if alert.has(field) {
                return Ok(alert);
            }
        }
    }

    /// The next alert with this field.
    #[track_caller]
    pub(crate) fn next(&self, field: &str) -> Alert {
        loop {
            match self.alerts.recv_timeout(PATIENCE) {
                Ok(alert) if alert.has(field) => return alert,
                Ok(_) => {}
                Err(error) => {
                    panic!("no alert with {field}: {error}\n{}{}", listing(&self.daemon.stored()), self.daemon.log())
                }
            }
        }
    }
}
