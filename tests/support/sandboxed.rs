//! A unit in a sandbox, under a real manager: it runs a shell script on a signal, while `harden-why tap` watches.
//!

//! Files in the unit's directory give the signals.

use super::daemon::wait_for;
use super::manager::TestManager;
use super::programs;
use super::skip::skip;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A unit that runs a shell script on a signal, and then waits.
pub(crate) struct Service {
    pub(crate) manager: TestManager,
    directory: PathBuf,
}

impl Service {
    pub(crate) fn start(settings: &str, script: &str) -> Option<Self> {
        if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            skip("the kernel has no type information");
            return None;
        }
        let manager = TestManager::start()?;
        // Other users reach it, and no setting of a row hides it.
        let directory = Path::new("/run").join(manager.base().file_name().unwrap()).with_extension("play");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        let service = Self { manager, directory };
        let place = service.directory.display();
        let file = service.directory.join("script");
        fs::write(
            &file,
            format!(
                "exec 2>/dev/null\ncd {place}\n: > ready\nwhile ! [ -e go ]; do sleep 0.02; done\n{}\n\
                 sleep 0.3\ncd {place}\n: > done\nwhile :; do sleep 1; done\n",
                script.replace("PLACE", &place.to_string())
            ),
        )
        .unwrap();
        let settings = settings.replace("PLACE", &place.to_string());
        let text = format!(
            "[Service]\nSlice=system.slice\nTimeoutStopSec=1\nExecStart=/bin/sh {}\n\
             BindPaths={place}\nUnsetEnvironment=LD_LIBRARY_PATH\n{settings}\n",
            file.display()
        );
        service.manager.write("x.service", &text);
        service.manager.reload();
        assert!(service.manager.start_unit("x.service"), "{settings}");
        service.wait_for("ready");
        Some(service)
    }

    pub(crate) fn wait_for(&self, what: &str) {
        wait_for(|| self.directory.join(what).exists().then_some(()), || format!("not {what}"));
    }

    pub(crate) fn tap(&self) -> RunningTap {
        let bus = self.manager.bus();
        let client = [client(&self.manager), "--bus", &bus, "--json", "tap", "--for", "1min", "x.service"];
        let signals = ["env", "--default-signal=HUP,INT,TERM"];
        RunningTap::start(self.manager.command(&[&signals[..], &client].concat()))
    }

    /// Taps the unit while it runs its script, and returns the answer.
    pub(crate) fn watch(&self) -> Value {
        let tap = self.tap();
        self.play();
        tap.json()
    }

    /// Lets the unit run its script.
    pub(crate) fn play(&self) {
        fs::write(self.directory.join("go"), "").unwrap();
        self.wait_for("done");
    }

    /// Whether the script made a file `worked`.
    pub(crate) fn has_worked(&self) -> bool {
        self.directory.join("worked").exists()
    }

    /// Restarts the unit, and lets it run its script. Returns whether the script made a file `worked`.
    pub(crate) fn play_again(&self) -> bool {
        for file in ["ready", "go", "done", "worked"] {
            _ = fs::remove_file(self.directory.join(file));
        }
        let output = self.manager.systemctl(&["restart", "x.service"]);
        assert!(output.status.success(), "{output:?}");
        self.wait_for("ready");
        self.play();
        self.has_worked()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.manager.is_pid1() {
            // PID 1 stays, with the unit and its denials.
            _ = self.manager.systemctl(&["stop", "x.service"]);
            _ = Command::new(client(&self.manager)).args(["--bus", "system", "forget", "x.service"]).output();
            _ = fs::remove_dir_all("/etc/systemd/system/x.service.d");
            _ = fs::remove_file("/run/systemd/system/x.service");
            _ = self.manager.systemctl(&["daemon-reload"]);
        }
        _ = fs::remove_dir_all(&self.directory);
    }
}

/// Returns the path of harden-why: the installed one where PID 1 is the manager.
pub(crate) fn client(manager: &TestManager) -> &'static str {
    if manager.is_pid1() { "/usr/bin/harden-why" } else { env!("CARGO_BIN_EXE_harden-why") }
}

pub(crate) struct RunningTap(Child);

impl RunningTap {
    fn start(mut command: Command) -> Self {
        let mut tap = Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let pid = tap.0.id();
        let begun = || programs::first_of_array(pid) == Some(1);
        wait_for(|| (begun() || tap.0.try_wait().unwrap().is_some()).then_some(()), || "no tap".to_owned());
        tap
    }

    pub(crate) fn json(self) -> Value {
        let ended = kill(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGINT);
        let output = self.0.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(ended.is_ok() && errors.is_empty(), "{errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Returns the kinds, paths and details of the accesses that the answer for the unit has.
pub(crate) fn accesses(json: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let answers = json["units"].as_array().unwrap().iter().filter(|answer| answer["unit"] == "x.service");
    let denials = answers.flat_map(|answer| answer["denials"].as_array().unwrap());
    denials
        .filter(|denial| denial["event"] == "access-denial" || !denial["access"].is_null())
        .map(|denial| {
            let access = &denial["access"];
            (text(&access["kind"]), text(&access["path"]), text(&access["detail"]))
        })
        .collect()
}

/// Files in /opt for the scripts of one test at a time.
pub(crate) struct Prepared {
    _lock: MutexGuard<'static, ()>,
}

static OPT: Mutex<()> = Mutex::new(());

/// The programs there: each with the file that it is a copy of, and its mode.
const PROGRAMS: [(&str, &str, u32); 3] =
    [("program", "/usr/bin/id", 0o755), ("set-id", "/usr/bin/id", 0o4755), ("set-id-chown", "/bin/chown", 0o4755)];

impl Prepared {
    pub(crate) fn new() -> Self {
        let lock = OPT.lock().unwrap_or_else(PoisonError::into_inner);
        let opt = Path::new("/opt");
        _ = fs::create_dir(opt);
        _ = fs::create_dir(opt.join("y"));
        fs::write(opt.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", opt.join("link")).unwrap();
        for (name, from, mode) in PROGRAMS {
            fs::copy(from, opt.join(name)).unwrap();
            fs::set_permissions(opt.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        Self { _lock: lock }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        for name in PROGRAMS.into_iter().map(|(name, ..)| name).chain(["file", "link"]) {
            _ = fs::remove_file(Path::new("/opt").join(name));
        }
        _ = fs::remove_dir("/opt/y");
    }
}
