//! A real systemd that poses as the system manager, on a machine that need not run systemd.
//!
//! It is a user manager with a bus of its own, in a mount and a cgroup namespace in which its
//! units look like the system's: `0::/system.slice/x.service`. Its filters and the kernel's
//! records are real, and PIDs are the machine's.
//!
//! On a machine that may be thrown away `HARDEN_WHY_MANAGER=pid1` takes the system manager itself.

use super::skip::skip;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{fs, io};

/// The start of the cgroups' names; the test's PID and a number follow.
const CGROUP: &str = "harden-why-test-";
/// The number of the next manager of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);
/// How long anything may take here.
const PATIENCE: Duration = Duration::from_mins(1);

/// What happens in the new namespaces, with `$B` as base directory and `$S` as systemd.
const SCRIPT: &str = r#"
set -e
mount --make-rprivate /
mkdir -p /run/systemd
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /run/systemd
mkdir /run/systemd/systemd  # a directory of a file system, as below a real /run
mount --bind /run/systemd/systemd /run/systemd
mkdir -p /run/systemd/system /run/systemd/inaccessible
cd /run/systemd/inaccessible  # what PID 1 makes at its start, to put it over inaccessible paths
mkdir -m 0 dir
mkfifo -m 0 fifo
mknod -m 0 chr c 0 0 || : >chr  # a container may make no devices
mknod -m 0 blk b 0 0 || : >blk
for node in reg sock; do : >$node; chmod 0 $node; done
cd /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /etc/systemd/system
mount --bind "$B/etc" /etc/systemd/system
dbus-daemon --session --address="unix:path=$B/run/bus" --nofork --nopidfile --nosyslog &
while [ ! -S "$B/run/bus" ]; do kill -0 $! && sleep 0.01; done
exec "$S" --user --unit=basic.target
"#;

/// A running manager. Dropping it ends it and all that it started.
pub(crate) struct TestManager {
    base: tempfile::TempDir,
    cgroup: PathBuf,
    /// `None` is PID 1.
    systemd: Option<Child>,
}

impl TestManager {
    /// Starts one, or [`skip`]s where the machine lacks something.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts one with additional variables in its own environment. Its units do not inherit them.
    pub(crate) fn start_with(environment: &[(&str, &str)]) -> Option<Self> {
        match Self::try_start(environment) {
            Ok(manager) => Some(manager),
            Err(why) => {
                skip(&why);
                None
            }
        }
    }

    fn try_start(more: &[(&str, &str)]) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root can make the namespaces for a systemd".to_owned());
        }
        if std::env::var_os("HARDEN_WHY_MANAGER").is_some_and(|value| value == "pid1") {
            return Self::pid1(more);
        }
        for program in ["dbus-daemon", "unshare", "nsenter", "systemctl"] {
            find(program)?;
        }
        let systemd =
            ["/lib/systemd/systemd", "/usr/lib/systemd/systemd"].into_iter().find(|path| Path::new(path).exists());
        let systemd = systemd.ok_or("there is no systemd")?;
        let unified = unified_mount().ok_or("no cgroup version 2 hierarchy is mounted")?;
        remove_leftovers(&unified);

        let cgroup = unified.join(format!("{CGROUP}{}-{}", id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&cgroup).map_err(|err| format!("cannot make a cgroup: {err}"))?;
        let base = tempfile::Builder::new().prefix("harden-why-").tempdir().map_err(|err| err.to_string())?;
        for directory in ["etc", "home", "run", "units"] {
            fs::create_dir(base.path().join(directory)).map_err(|err| err.to_string())?;
        }
        let log = fs::File::create(base.path().join("log")).map_err(|err| err.to_string())?;
        let systemd = enter(&cgroup, &["unshare", "--mount", "--cgroup", "sh", "-c", SCRIPT])
            .envs(environment(base.path()))
            .envs(more.iter().copied())
            .env("B", base.path())
            .env("S", systemd)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|err| err.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|err| err.to_string())?;
        let manager = Self { base, cgroup, systemd: Some(systemd) };
        manager.wait_until_up().map(|()| manager)
    }

    fn pid1(environment: &[(&str, &str)]) -> Result<Self, String> {
        if !environment.is_empty() {
            return Err("PID 1 has its environment already".to_owned());
        }
        let base = tempfile::Builder::new().prefix("harden-why-").tempdir().map_err(|err| err.to_string())?;
        let cgroup = unified_mount().ok_or("no cgroup version 2 hierarchy is mounted")?;
        Ok(Self { base, cgroup, systemd: None })
    }

    /// Returns whether it is the machine's own, with the installed daemon as its service.
    pub(crate) fn is_pid1(&self) -> bool {
        self.systemd.is_none()
    }

    fn wait_until_up(&self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !self.systemctl(&["is-active", "basic.target"]).status.success() || !self.is_on_bus() {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.base.path().join("log")).unwrap_or_default();
                return Err(format!("systemd does not come up here: {log}"));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn is_on_bus(&self) -> bool {
        let address = self.bus();
        let call = ["busctl", "--address", &address, "status", "org.freedesktop.systemd1"];
        self.command(&call).output().is_ok_and(|output| output.status.success())
    }

    /// The address of its bus, the "system bus" of its namespace.
    pub(crate) fn bus(&self) -> String {
        if self.is_pid1() {
            return "system".to_owned();
        }
        format!("unix:path={}", self.base.path().join("run/bus").display())
    }

    /// A directory that is removed together with the manager.
    pub(crate) fn base(&self) -> &Path {
        self.base.path()
    }

    /// Its cgroup, as the machine sees it.
    pub(crate) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Writes a unit file (`x.service`, `x.service.d/y.conf`) for the next [`reload`](Self::reload).
    pub(crate) fn write(&self, name: &str, text: &str) {
        let units = if self.is_pid1() { PathBuf::from("/run/systemd/system") } else { self.base.path().join("units") };
        let path = units.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reloads its unit files.
    pub(crate) fn reload(&self) {
        let output = self.systemctl(&["daemon-reload"]);
        assert!(output.status.success(), "{output:?}");
    }

    /// Starts a unit, waits for the outcome, and returns whether it started.
    pub(crate) fn start_unit(&self, name: &str) -> bool {
        self.systemctl(&["start", name]).status.success()
    }

    /// Runs systemctl against it.
    pub(crate) fn systemctl(&self, arguments: &[&str]) -> Output {
        let which = if self.is_pid1() { "--system" } else { "--user" };
        self.command(&[&["systemctl", which], arguments].concat()).output().unwrap()
    }

    /// Returns a command that will run in its namespaces, outside its units, with its bus as both the
    /// system and the session bus.
    pub(crate) fn command(&self, command: &[&str]) -> Command {
        let Some(systemd) = &self.systemd else {
            let mut plain = Command::new(command[0]);
            plain.args(&command[1..]);
            return plain;
        };
        let outside = self.cgroup.join("outside");
        fs::create_dir_all(&outside).unwrap();
        let target = systemd.id().to_string();
        let mut entered =
            enter(&outside, &[&["nsenter", "--target", &target, "--mount", "--cgroup", "--"], command].concat());
        entered.envs(environment(self.base.path()));
        entered
    }

    /// Runs a function on a thread that sees cgroups as the manager's processes do.
    pub(crate) fn inside<T: Send>(&self, look: impl FnOnce() -> T + Send) -> T {
        let Some(systemd) = &self.systemd else { return look() };
        let namespace = fs::File::open(format!("/proc/{}/ns/cgroup", systemd.id())).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWCGROUP).unwrap();
                look()
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for TestManager {
    fn drop(&mut self) {
        let Some(systemd) = &mut self.systemd else { return };
        // Also the shell before it becomes systemd. It is not reaped yet, so the PID is still its own.
        let _ = systemd.kill();
        let _ = systemd.wait();
        remove(&self.cgroup);
    }
}

fn environment(base: &Path) -> [(&'static str, String); 6] {
    let bus = format!("unix:path={}/run/bus", base.display());
    [
        ("HOME", base.join("home").display().to_string()),
        ("XDG_RUNTIME_DIR", base.join("run").display().to_string()),
        ("SYSTEMD_UNIT_PATH", format!("{}:/etc/systemd/system:/run/systemd/system:", base.join("units").display())),
        ("SYSTEMD_PAGER", String::new()),
        ("DBUS_SESSION_BUS_ADDRESS", bus.clone()),
        ("DBUS_SYSTEM_BUS_ADDRESS", bus),
    ]
}

/// Returns a command that moves into a cgroup before it runs the program.
fn enter(cgroup: &Path, command: &[&str]) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]).arg(cgroup).args(command);
    shell
}

fn find(program: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.exists());
    found.ok_or_else(|| format!("there is no {program}"))
}

/// The mount point of the unified hierarchy.
fn unified_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    fields.find_map(|mut mount| {
        let target = mount.nth(1)?;
        (mount.next()? == "cgroup2").then(|| PathBuf::from(target))
    })
}

/// Ends the leftovers of a test that was killed.
fn remove_leftovers(unified: &Path) {
    for entry in fs::read_dir(unified).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(CGROUP)) else { continue };
        let owner = rest.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            remove(&entry.path());
        }
    }
}

/// Ends all processes of a cgroup and removes it with all below it.
fn remove(cgroup: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while cgroup.exists() && Instant::now() < deadline {
        let _ = fs::OpenOptions::new()
            .write(true)
            .open(cgroup.join("cgroup.kill"))
            .and_then(|mut file| file.write_all(b"1"));
        if remove_tree(cgroup).is_ok() {
            return;
        }
        sleep(Duration::from_millis(10));
    }
}

fn remove_tree(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}
