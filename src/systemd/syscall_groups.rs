//! Reads the system call groups of this machine's systemd from `systemd-analyze`, which needs neither root nor a
//! running manager.

use super::libseccomp;
use crate::audit::Note;
use crate::syscalls::groups::{GroupSource, Groups, NoGroups, parse_version};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The directories in which distributions install `systemd-analyze`.
const DIRECTORIES: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/run/current-system/sw/bin"];

/// The time limit of one run. A run normally takes ten milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The limit of one run's output, in bytes; systemd 262 prints 18 kB.
const MOST: usize = 1 << 20;

/// The groups, and the reason if they are not the host's.
#[derive(Debug, Clone)]
pub struct LoadedGroups {
    /// [`Groups::source`] names the systemd that they come from.
    pub groups: Groups,
    /// Why the host's groups are unavailable, as a text for users.
    pub note: Option<String>,
}

/// Why the host's groups are unavailable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("systemd-analyze is not installed")]
    Absent,
    #[error("systemd-analyze cannot be run: {0}")]
    Run(io::Error),
    #[error("systemd-analyze did not finish within {} s", .0.as_secs_f32())]
    Slow(Duration),
    #[error("systemd-analyze printed more than {MOST} bytes")]
    Endless,
    #[error("systemd-analyze failed: {0}")]
    Failed(ExitStatus),
    #[error("systemd-analyze does not state its version")]
    Version,
    #[error(transparent)]
    Listing(#[from] NoGroups),
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::Run(error)
    }
}

/// Loads the groups of this machine's systemd, or else the embedded groups.
#[must_use]
pub fn load() -> LoadedGroups {
    let LoadedGroups { groups, note } =
        or_embedded(program().ok_or(LoadError::Absent).and_then(|program| ask(&program, PATIENCE)));
    let unresolved = libseccomp::unresolved(Path::new("/"), &groups).unwrap_or_default();
    LoadedGroups { groups: groups.with_unresolved(unresolved), note }
}

/// The `systemd-analyze` of this machine.
pub(crate) fn program() -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| Path::new(directory).join("systemd-analyze")).find(|p| p.is_file())
}

/// Loads the groups that a `systemd-analyze` prints, or else the embedded groups. Each of its two runs may take
/// `patience`.
#[must_use]
pub fn load_from(program: &Path, patience: Duration) -> LoadedGroups {
    or_embedded(ask(program, patience))
}

/// Parses the groups in a file with the output of `systemd-analyze syscall-filter`. A first line like
/// `# systemd 252 (252.39-1)` names the version.
///
/// # Errors
/// The file cannot be read, is too large or holds no group.
pub fn from_listing(file: &Path) -> io::Result<Groups> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MOST as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MOST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than a listing can be"));
    }
    let listing = String::from_utf8_lossy(&bytes);
    let stated = listing.strip_prefix("# ").and_then(parse_version).unwrap_or("of unknown version");
    Groups::parse(&listing, GroupSource::Host(stated.into()))
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn or_embedded(asked: Result<Groups, LoadError>) -> LoadedGroups {
    match asked {
        Ok(groups) => LoadedGroups { groups, note: None },
        Err(error) => LoadedGroups { groups: Groups::embedded(), note: Some(error.to_string()) },
    }
}

fn ask(program: &Path, patience: Duration) -> Result<Groups, LoadError> {
    let stated = run(program, &["--version"], patience)?;
    let version = parse_version(&stated).ok_or(LoadError::Version)?;
    let listing = run(program, &["--no-pager", "syscall-filter"], patience)?;
    Ok(Groups::parse(&listing, GroupSource::Host(version.into()))?)
}

/// Returns a program's standard output if the program succeeds within the limits of time and size.
pub(crate) fn run(program: &Path, arguments: &[&str], patience: Duration) -> Result<String, LoadError> {
    let start = Instant::now();
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("SYSTEMD_COLORS", "0").env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut group = ProcessGroup(Some(command.spawn()?));

    let (sender, receiver) = mpsc::sync_channel(1);
    if let Some(stdout) = group.0.as_mut().and_then(|child| child.stdout.take()) {
        std::thread::spawn(move || {
            let mut printed = Vec::new();
            let read = stdout.take(MOST as u64 + 1).read_to_end(&mut printed).map(|_| printed);
            // The receiver is gone after the time limit.
            _ = sender.send(read);
        });
    }
    let printed =
        receiver.recv_timeout(patience.saturating_sub(start.elapsed())).map_err(|_| LoadError::Slow(patience))??;
    if printed.len() > MOST {
        return Err(LoadError::Endless);
    }
    match group.wait(start, patience)? {
        None => Err(LoadError::Slow(patience)),
        Some(status) if status.success() => Ok(String::from_utf8_lossy(&printed).into_owned()),
        Some(status) => Err(LoadError::Failed(status)),
    }
}

/// A child that leads a process group of its own. Dropping this kills the whole group unless the child ended.
struct ProcessGroup(Option<Child>);

impl ProcessGroup {
    /// Waits for the end of a child that has closed its output; `None` after the time limit.
    fn wait(&mut self, start: Instant, patience: Duration) -> io::Result<Option<ExitStatus>> {
        while let Some(child) = self.0.as_mut() {
            if let Some(status) = child.try_wait()? {
                self.0 = None;
                return Ok(Some(status));
            }
            if start.elapsed() >= patience {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(None)
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        let Some(child) = self.0.as_mut() else { return };
        // The child is not reaped yet, so its pid was not reused.
        if let Ok(leader) = i32::try_from(child.id()) {
            _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
        _ = child.wait();
    }
}

/// Returns a note that names the groups' systemd, if the groups are not the host's.
pub(crate) fn groups_note(loaded: &LoadedGroups) -> Option<Note> {
    let why = loaded.note.as_ref()?;
    let crate::syscalls::groups::GroupSource::Embedded(version) = loaded.groups.source() else { return None };
    Some(Note::new(
        "groups-not-of-this-machine",
        format!("the groups of system calls are those of systemd {version}, not of this machine: {why}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    const SHORT: Duration = Duration::from_millis(300);

    /// For scripts that end by themselves.
    const LONG: Duration = Duration::from_mins(1);

    /// Loads from a shell script in place of systemd-analyze.
    fn load_from_script(script: &str, patience: Duration) -> LoadedGroups {
        let directory = tempfile::tempdir().unwrap();
        let (text, program) = (directory.path().join("text"), directory.path().join("systemd-analyze"));
        std::fs::write(&text, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")).unwrap();
        // Another process writes the program: no child of another thread inherits a descriptor that is open for writing,
        // during which the kernel does not run the program (ETXTBSY).
        let mut install = Command::new("install");
        let status = install.arg("-m755").args([&text, &program]).stdin(Stdio::null()).status();
        assert!(status.unwrap().success());
        load_from(&program, patience)
    }

    /// Asserts that the embedded groups were loaded, with a note that contains `why`.
    #[track_caller]
    fn assert_embedded(loaded: &LoadedGroups, why: &str) {
        assert_eq!(loaded.groups, Groups::embedded());
        assert!(loaded.note.as_deref().is_some_and(|note| note.contains(why)), "{:?}", loaded.note);
    }

    const VERSION: &str = "[ \"$1\" = --version ] && echo 'systemd 252 (252.38-1)' && exit";

    #[test]
    fn groups_of_host_carry_its_version() {
        let script = format!(
            "{VERSION}\n[ \"$*\" = '--no-pager syscall-filter' ] && [ $SYSTEMD_COLORS = 0 ] || exit 1\n\
             echo @stray >&2; printf '@clock\\n    # help\\n    stime\\n'"
        );
        let loaded = load_from_script(&script, LONG);
        assert_eq!(loaded.note, None);
        assert_eq!(loaded.groups.source(), &GroupSource::Host("252.38-1".into()));
        assert_eq!(loaded.groups.names().collect::<Vec<_>>(), ["@clock"]);
    }

    #[test]
    fn hanging_program_is_killed_with_its_children() {
        let marker = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 6000 & echo $! >{}\nwait", marker.path().display());
        let started = |patience: u64| {
            let why = format!("did not finish within {patience} s");
            assert_embedded(&load_from_script(&script, Duration::from_secs(patience)), &why);
            std::fs::read_to_string(marker.path()).unwrap().trim().parse::<u32>().ok()
        };
        // A busy machine may need a longer time to start the shell.
        let sleeper = [1, 10, 100].into_iter().find_map(started).expect("the shell starts within 100 s");
        let proc_stat = format!("/proc/{sleeper}/stat");
        // Its new parent may take a moment to reap it.
        let dead = || std::fs::read_to_string(&proc_stat).map_or(true, |stat| stat.contains(") Z "));
        let is_dead = (0..20_000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            dead()
        });
        assert!(is_dead, "the child lives on");
    }

    #[test]
    fn program_that_closes_output_and_stays_is_killed() {
        assert_embedded(&load_from_script("exec >&-; sleep 600", SHORT), "did not finish");
    }

    #[test]
    fn endless_output_is_cut_off() {
        assert_embedded(&load_from_script("yes @x", LONG), "more than 1048576 bytes");
    }

    #[test]
    fn unparsable_output_falls_back_to_embedded_groups() {
        assert_embedded(&load_from_script("head -c 9999 /dev/urandom", LONG), "version");
        assert_embedded(&load_from_script(&format!("{VERSION}; head -c 99999 /dev/zero"), LONG), "no group");
        assert_embedded(&load_from_script(&format!("{VERSION}; echo @clock; exit 3"), LONG), "exit status: 3");
    }

    #[test]
    fn groups_are_parsed_from_listing_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# systemd 252 (252.39-1)\n@clock\n    stime\n").unwrap();
        assert_eq!(from_listing(file.path()).unwrap().source(), &GroupSource::Host("252.39-1".into()));
        std::fs::write(file.path(), "nonsense\n").unwrap();
        assert!(from_listing(file.path()).unwrap_err().to_string().contains("no group"));
        assert!(from_listing(Path::new("/dev/zero")).is_err());
    }

    #[test]
    fn missing_program_is_reported() {
        assert_embedded(&load_from(Path::new("/nonexistent/systemd-analyze"), SHORT), "cannot be run");
    }

    #[test]
    fn systemd_of_this_machine_prints_groups() {
        let loaded = load();
        if let Some(why) = loaded.note {
            assert!(std::env::var_os("HARDEN_WHY_REQUIRE_KERNEL").is_none_or(|value| value != "1"), "{why}");
            println!("skipped: {why}");
            return;
        }
        assert!(matches!(loaded.groups.source(), GroupSource::Host(_)));
        assert!(loaded.groups.calls("@system-service").is_some_and(|calls| calls.len() > 300));
        assert!(loaded.groups.is_known("read") && !loaded.groups.containing("reboot").is_empty());
    }
}
