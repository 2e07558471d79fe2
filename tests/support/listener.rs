//! The real daemon under a [`TestManager`], and its attributions of the test's processes.

use super::manager::TestManager;
use super::skip::skip;
use harden_why::incidents::{Incident, Query, Store};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the daemon may take for pending work: an exit event, a query, a flush.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Runs it without the right to load BPF programs, as on a kernel without them.
pub(crate) const WITHOUT_NOTES: [&str; 5] =
    ["setpriv", "--bounding-set", "-all,+audit_read,+net_admin", "--inh-caps", "-all"];

/// The program of a unit; its name is in the records.
pub(crate) fn program(manager: &TestManager, prefix: &str, number: u32) -> PathBuf {
    manager.base().join(format!("{prefix}-{number}"))
}

/// The service that the package installs, for PID 1.
const SERVICE: &str = "harden-whyd.service";

/// The real daemon.
pub(crate) struct Daemon {
    /// `None` is the service.
    process: Option<Child>,
    state: PathBuf,
    base: PathBuf,
}

impl Daemon {
    pub(crate) fn start(manager: &TestManager) -> Option<Self> {
        Self::start_under(manager, &[])
    }

    /// Starts it through a command that limits it.
    pub(crate) fn start_under(manager: &TestManager, limits: &[&str]) -> Option<Self> {
        if manager.is_pid1() {
            if !limits.is_empty() {
                skip("the limits of the installed daemon are its unit's");
                return None;
            }
            let output = manager.systemctl(&["restart", SERVICE]);
            assert!(output.status.success(), "{output:?}");
            let state = PathBuf::from(harden_why::cli::args::STATE_DIR);
            return Some(Self { process: None, state, base: manager.base().to_owned() });
        }
        let state = manager.base().join("state");
        let log = manager.base().join("daemon-log");
        let program = env!("CARGO_BIN_EXE_harden-whyd");
        let bus = manager.bus();
        let mut words = limits.to_vec();
        words.extend([program, "--state-dir", state.to_str().unwrap(), "--bus", &bus]);
        let mut command: Command = manager.command(&words);
        let file = fs::File::create(&log).unwrap();
        let process = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        let mut daemon = Self { process: Some(process), state, base: manager.base().to_owned() };
        let deadline = Instant::now() + PATIENCE;
        // It sets its name once all its sources are open.
        let named = ["busctl", "--address", &bus, "status", "org.hardenwhy1"];
        while !manager.command(&named).output().unwrap().status.success() {
            if daemon.process.as_mut().unwrap().try_wait().unwrap().is_some() || Instant::now() > deadline {
                skip(&format!("the daemon does not start here: {}", fs::read_to_string(&log).unwrap()));
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(daemon)
    }

    /// Sends a signal to the daemon itself, which replaced the programs that entered the namespaces.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            kill(Pid::from_raw(process.id().try_into().unwrap()), signal).unwrap();
            return;
        }
        let signal = format!("--signal={}", signal.as_str());
        assert!(Command::new("systemctl").args(["kill", &signal, SERVICE]).status().unwrap().success());
    }

    pub(crate) fn log(&self) -> String {
        if self.process.is_none() {
            let journal =
                Command::new("journalctl").args(["--no-pager", "--boot", "--unit", SERVICE]).output().unwrap();
            return String::from_utf8_lossy(&journal.stdout).into_owned();
        }
        fs::read_to_string(self.base.join("daemon-log")).unwrap()
    }

    pub(crate) fn incidents(&self) -> Vec<Incident> {
        let Ok(store) = Store::open_read_only(&self.state) else { return Vec::new() };
        let found = store.incidents(&Query::default()).unwrap();
        found
            .into_iter()
            .map(|stored| stored.incident)
            .filter(|incident| self.number(&incident.key.exe).is_some())
            .collect()
    }

    /// Splits the name of a test's executable into its prefix and its unit's number.
    pub(crate) fn number<'a>(&self, exe: &'a [u8]) -> Option<(&'a str, u32)> {
        let name = Path::new(std::ffi::OsStr::from_bytes(exe)).strip_prefix(&self.base).ok()?.to_str()?;
        let (prefix, number) = name.rsplit_once('-')?;
        Some((prefix, number.parse().ok()?))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let Some(process) = &mut self.process else { return };
        let _ = process.kill();
        let _ = process.wait();
    }
}
