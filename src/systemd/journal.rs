//! The journal of this machine, asked about processes of which nothing else is known.
//!
//! systemd-coredump tells the pid and the cgroup of what dumped core. PID 1 and the users' managers tell which unit's
//! process ended, and how, but not its pid: that is a guess, made only where one unit alone fits.

pub(crate) mod libsystemd;

pub use crate::intake::journal_entry::DeathEntry;

use crate::incidents::{IncidentEvent, Moment, Sighting};
use crate::intake::journal_entry;
use crate::kernel::clock::now_millis;
use crate::units::{Evidence, Manager, Rung, Unit};
use libsystemd::Library;
use std::io;
use std::ops::ControlFlow;
use std::ops::ControlFlow::{Break, Continue};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long before and after a denial, in milliseconds, a core is dumped whose time the kernel told.
const CORE_BEFORE_MS: i64 = 1_000;
const CORE_AFTER_MS: i64 = 10_000;
/// The same of a manager's entry, which follows the death.
const EXIT_BEFORE_MS: i64 = 20;
const EXIT_AFTER_MS: i64 = 2_000;
/// How many entries are looked at in one go, and for how long.
const MOST_ENTRIES: usize = 4096;
const LONGEST: Duration = Duration::from_millis(500);

/// Where journals are.
const DIRECTORIES: [&str; 2] = ["run/log/journal", "var/log/journal"];

/// The way to the journal. The library is loaded when something is asked for the first time.
#[derive(Debug, Default)]
pub struct Journal {
    library: OnceLock<Result<Library, String>>,
    directory: Option<PathBuf>,
}

/// Why it tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is none.
    #[error("there is no journal below /run/log or /var/log")]
    None,
    /// What reads it is missing.
    #[error("what reads the journal cannot be loaded: {0}")]
    Library(String),
    /// It cannot be read.
    #[error("the journal cannot be read: {0}")]
    Io(io::Error),
}

impl From<io::Error> for JournalError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Journal {
    /// One in a directory.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: Some(directory.into()), ..Self::default() }
    }

    /// What managers and systemd-coredump told in a boot since a moment, in milliseconds since the epoch, until now.
    ///
    /// Reads files, so it can take a moment.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn entries(&self, boot: &str, since: i64) -> Result<Entries, JournalError> {
        if self.directory.is_none() {
            is_there(Path::new("/"))?;
        }
        let library = self.library.get_or_init(Library::load);
        let library = library.as_ref().map_err(|why| JournalError::Library(why.clone()))?;
        let looked = now_millis();
        let mut reader = library.open(self.directory.as_deref())?;
        for id in [journal_entry::EXIT, journal_entry::COREDUMP] {
            reader.only(&format!("MESSAGE_ID={id}"))?;
        }
        reader.only(&format!("_BOOT_ID={boot}"))?;
        reader.seek(u64::try_from(since).unwrap_or_default().saturating_mul(1_000))?;
        let next = || {
            let received = reader.next()?;
            Ok(received.map_or(Break(()), |at| Continue(DeathEntry::parse(at, |name| reader.get(name)))))
        };
        Ok(gather(looked, next)?)
    }
}

/// All that comes next, unless it is too much, of a journal that was opened at a moment.
fn gather(
    looked: i64,
    mut next: impl FnMut() -> io::Result<ControlFlow<(), Option<DeathEntry>>>,
) -> io::Result<Entries> {
    let (mut entries, until) = (Entries { found: Vec::new(), whole_until: None }, Instant::now() + LONGEST);
    for _ in 0..MOST_ENTRIES {
        let Continue(found) = next()? else {
            entries.whole_until = Some(looked);
            break;
        };
        entries.found.extend(found);
        if Instant::now() > until {
            break;
        }
    }
    Ok(entries)
}

/// What was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// What was found of it.
    pub found: Vec<DeathEntry>,
    /// Until when that is all there is, in milliseconds since the epoch; `None` where it was too much to read.
    pub whole_until: Option<i64>,
}

/// Whether there is a journal on the machine whose file system is at a root.
///
/// # Errors
/// There is none.
pub fn is_there(root: &Path) -> Result<(), JournalError> {
    let found = DIRECTORIES.iter().any(|directory| root.join(directory).is_dir());
    found.then_some(()).ok_or(JournalError::None)
}

/// The boot that this is, as journald writes it.
#[must_use]
pub fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim_end().replace('-', ""))
}

/// From when on entries can tell of these sightings.
#[must_use]
pub fn earliest(sightings: &[Sighting]) -> Option<i64> {
    let times = sightings.iter().filter_map(|sighting| match sighting.at {
        Moment::At(at) => Some(at),
        _ => None,
    });
    Some(times.min()?.saturating_sub(CORE_BEFORE_MS))
}

/// What entries tell of a sighting. `runs` says whether a unit's commands run an executable.
pub fn evidence(entries: &Entries, sighting: &Sighting, runs: impl FnOnce(&Unit, &[u8]) -> bool) -> Vec<Evidence> {
    let Moment::At(at) = sighting.at else { return Vec::new() };
    let Entries { found: entries, whole_until } = entries;
    let within =
        |entry: &&DeathEntry, before, after| (at.saturating_sub(before)..=at.saturating_add(after)).contains(&entry.at);
    let of_pid = entries.iter().filter(|entry| entry.pid == Some(sighting.sample.pid));
    let dumped: Vec<Evidence> = of_pid
        .filter(|entry| within(entry, CORE_BEFORE_MS, CORE_AFTER_MS))
        .map(|entry| Evidence::Named(Rung::JournalEntry, entry.unit.clone()))
        .collect();
    if !dumped.is_empty() {
        return dumped;
    }
    let kills = match &sighting.key.event {
        IncidentEvent::Denial(denial) => denial.action.is_kill(),
        IncidentEvent::UnrecordedDeath => false,
    };
    // Of another unit's process it may not be told yet that it ended.
    let is_all_told = whole_until.is_some_and(|until| until >= at.saturating_add(EXIT_AFTER_MS));
    if !kills || !is_all_told {
        return Vec::new();
    }
    // A user's manager can say what it likes of its units, but not that others' processes were theirs.
    let may = |entry: &&DeathEntry| match entry.unit.manager {
        Manager::System => true,
        Manager::User(uid) => *sighting.sample.uid == *uid.to_string(),
    };
    let ended = entries.iter().filter(|entry| entry.pid.is_none() && within(entry, EXIT_BEFORE_MS, EXIT_AFTER_MS));
    let mut units = ended.filter(may).map(|entry| &entry.unit);
    match units.next() {
        Some(unit) if units.all(|other| other == unit) && runs(unit, &sighting.key.exe) => {
            vec![Evidence::Named(Rung::ExitEntry, unit.clone())]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;
    use crate::incidents::{Denial, IncidentKey, Sample, SightingSource};
    use crate::syscalls::{Arch, Call};
    use std::slice;

    fn entry(at: i64, name: &str, pid: Option<u32>) -> DeathEntry {
        DeathEntry { at, unit: Unit { manager: Manager::System, name: name.parse().unwrap() }, pid }
    }

    fn killed(action: Action) -> Sighting {
        let event = IncidentEvent::Denial(Denial { call: Call::numbered(Arch::native(), 41), action });
        Sighting {
            key: IncidentKey { unit: None, event, exe: b"/bin/a".to_vec(), source: SightingSource::default() },
            rung: None,
            at: Moment::At(100_000),
            sample: Sample { pid: 7, uid: "1000".into(), ..Sample::default() },
        }
    }

    fn told(entries: &[DeathEntry]) -> Vec<(Rung, String)> {
        told_until(entries, Some(102_000))
    }

    fn told_until(entries: &[DeathEntry], whole_until: Option<i64>) -> Vec<(Rung, String)> {
        let entries = Entries { found: entries.to_vec(), whole_until };
        let starts = |unit: &Unit, exe: &[u8]| unit.name.as_str() == "a.service" && exe == b"/bin/a";
        let evidence = evidence(&entries, &killed(Action::KillProcess), starts);
        evidence
            .into_iter()
            .map(|one| match one {
                Evidence::Named(rung, unit) => (rung, unit.name.to_string()),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_core_of_that_pid_and_time_tells_the_unit() {
        let found = [(Rung::JournalEntry, "b.service".to_owned())];
        assert_eq!(told(&[entry(100_500, "b.service", Some(7)), entry(100_000, "a.service", None)]), found);
        assert_eq!(told(&[entry(100_500, "b.service", Some(8))]), []);
        assert_eq!(told(&[entry(98_000, "b.service", Some(7)), entry(120_000, "b.service", Some(7))]), []);
    }

    #[test]
    fn the_only_unit_of_which_such_a_process_ended_is_a_guess() {
        let a = |at| entry(at, "a.service", None);
        let found = [(Rung::ExitEntry, "a.service".to_owned())];
        assert_eq!(told(&[a(100_100)]), found);
        assert_eq!(told(&[a(100_100), a(100_200)]), found, "started and killed again");
        assert_eq!(told(&[a(99_000)]), [], "before");
        assert_eq!(told(&[a(103_000)]), [], "long after");
        assert_eq!(told(&[entry(100_100, "b.service", None)]), [], "another program's");
        assert_eq!(told(&[a(100_100), entry(100_200, "b.service", None)]), [], "two are none");
        let lives = killed(Action::Errno);
        let entries = Entries { found: vec![a(100_100)], whole_until: Some(102_000) };
        assert_eq!(evidence(&entries, &lives, |_, _| true), []);
    }

    #[test]
    fn there_is_no_guess_before_all_can_be_told_and_read() {
        let (a, core) = (entry(100_100, "a.service", None), entry(100_500, "b.service", Some(7)));
        assert_eq!(told_until(slice::from_ref(&a), Some(100_200)), [], "another may be told to have ended so");
        assert_eq!(told_until(slice::from_ref(&a), Some(101_999)), []);
        assert_eq!(told_until(slice::from_ref(&a), None), [], "there was more than was read");
        assert_eq!(told_until(slice::from_ref(&a), Some(102_000)).len(), 1);
        for whole_until in [Some(100_600), None] {
            assert_eq!(told_until(&[a.clone(), core.clone()], whole_until).len(), 1, "a pid is no guess");
        }
    }

    #[test]
    fn what_is_too_much_to_read_is_not_all() {
        let some = |count: usize| {
            let mut left = count;
            gather(7, || {
                let more = left > 0;
                left = left.saturating_sub(1);
                Ok(if more { Continue(Some(entry(1, "a.service", None))) } else { Break(()) })
            })
            .unwrap()
        };
        assert_eq!(some(0), Entries { found: Vec::new(), whole_until: Some(7) });
        assert_eq!((some(2).found.len(), some(2).whole_until), (2, Some(7)));
        assert_eq!((some(MOST_ENTRIES).found.len(), some(MOST_ENTRIES).whole_until), (MOST_ENTRIES, None));
        let slow = || {
            std::thread::sleep(LONGEST + Duration::from_millis(10));
            Ok(Continue(None))
        };
        assert_eq!(gather(7, slow).unwrap().whole_until, None);
        assert!(gather(7, || Err(io::ErrorKind::Other.into())).is_err());
    }

    #[test]
    fn a_users_manager_speaks_of_that_users_processes() {
        let of = |uid| DeathEntry {
            unit: Unit { manager: Manager::User(uid), ..entry(0, "a.service", None).unit },
            ..entry(100_100, "a.service", None)
        };
        assert_eq!(told(&[of(1000)]).len(), 1);
        assert_eq!(told(&[of(1001)]), []);
        assert_eq!(told(&[of(1001), entry(100_100, "a.service", None)]).len(), 1, "and takes no word from another");
    }

    #[test]
    fn a_machine_without_a_journal_says_so() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(is_there(root.path()), Err(JournalError::None)));
        std::fs::create_dir_all(root.path().join("run/log/journal")).unwrap();
        assert!(is_there(root.path()).is_ok());
    }

    #[test]
    fn a_directory_that_is_none_is_an_error() {
        match Journal::at("/nonexistent").entries("x", 0) {
            Err(JournalError::Io(_) | JournalError::Library(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}
