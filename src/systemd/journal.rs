//! Reads the journal of this machine for processes whose unit no other source names.
//!
//! An entry of systemd-coredump has the pid and the cgroup of a process that dumped core. An entry of a manager names
//! the unit and how its process ended, but not the pid: it counts only if no other unit fits.

pub(crate) mod gathered;
pub(crate) mod libsystemd;
pub(crate) mod machine_journals;
mod unit_failure;

pub(crate) use crate::intake::journal_entry::DeathEntry;

use crate::incidents::{IncidentEvent, Moment, Sighting};
use crate::intake::journal_entry;
use crate::kernel::clock::now_millis;
use crate::unit_files::rooted::RootedTree;
use crate::units::{Evidence, Manager, Rung, Unit};
use libsystemd::{JournalCursor, Library};
use std::io;
use std::ops::ControlFlow;
use std::ops::ControlFlow::{Break, Continue};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long before and after a denial its core dump can be, in milliseconds. The kernel gives the time of the dump.
const CORE_BEFORE_MS: i64 = 1_000;
const CORE_AFTER_MS: i64 = 10_000;
/// The same for a manager's entry. The manager writes it after the death.
const EXIT_BEFORE_MS: i64 = 20;
const EXIT_AFTER_MS: i64 = 2_000;
/// The limits of one read: entries, core dumps and time.
const MOST_ENTRIES: usize = 4096;
const MOST_CORES: usize = 64;
const LONGEST: Duration = Duration::from_millis(500);

/// The directories of journals, relative to the root.
const DIRECTORIES: [&str; 2] = ["run/log/journal", "var/log/journal"];

/// Reads the journal. Each read loads the library, until that succeeds once.
#[derive(Debug, Default)]
pub(crate) struct JournalReader {
    library: Option<Library>,
    directory: Option<PathBuf>,
}

/// Why the journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalReadError {
    /// The machine has no journal.
    #[error("there is no journal below /run/log or /var/log")]
    None,
    /// `libsystemd.so.0` cannot be loaded.
    #[error("cannot load the journal's library: {0}")]
    Library(String),
    /// Reading failed.
    #[error("cannot read the journal: {0}")]
    Io(io::Error),
}

impl From<io::Error> for JournalReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A process that dumped core.
#[derive(Debug)]
pub(crate) struct DumpedCore {
    /// The process, and its unit.
    pub(crate) death: DeathEntry,
    /// What systemd-coredump logged, with the stack if it could read one. The process controls parts of it.
    pub(crate) message: Vec<u8>,
}

impl JournalReader {
    /// Creates a reader of the journal in a directory.
    #[cfg(test)]
    fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: Some(directory.into()), ..Self::default() }
    }

    /// Returns the entries of managers and systemd-coredump from one boot. `since` is in milliseconds since the epoch.
    ///
    /// Blocks on file reads.
    ///
    /// # Errors
    /// The journal or the library is missing, or reading fails.
    pub(crate) fn entries(&mut self, boot: &str, since: i64) -> Result<DeathEntries, JournalReadError> {
        let looked = now_millis();
        let mut reader = self.open()?;
        for id in [journal_entry::EXIT, journal_entry::COREDUMP] {
            reader.add_match(&format!("MESSAGE_ID={id}"))?;
        }
        reader.add_match(&format!("_BOOT_ID={boot}"))?;
        reader.seek(u64::try_from(since).unwrap_or_default().saturating_mul(1_000))?;
        let next = || {
            let received = reader.next()?;
            Ok(received.map_or(Break(()), |at| Continue(DeathEntry::parse(at, |name| reader.get(name)))))
        };
        Ok(gather(looked, next)?)
    }

    /// Returns the core dumps of processes that died between two times, in milliseconds since the epoch.
    ///
    /// Blocks on file reads.
    ///
    /// # Errors
    /// The journal or the library is missing, or reading fails.
    pub(crate) fn core_dumps(
        &mut self,
        pids: &[u32],
        first: i64,
        last: i64,
    ) -> Result<Vec<DumpedCore>, JournalReadError> {
        let mut reader = self.open()?;
        reader.add_match(&format!("MESSAGE_ID={}", journal_entry::COREDUMP))?;
        for pid in pids {
            reader.add_match(&format!("COREDUMP_PID={pid}"))?;
        }
        let times = first.saturating_sub(CORE_BEFORE_MS)..=last.saturating_add(CORE_AFTER_MS);
        reader.seek(u64::try_from(*times.start()).unwrap_or_default().saturating_mul(1_000))?;
        let (mut found, until) = (Vec::new(), Instant::now() + LONGEST);
        while found.len() < MOST_CORES
            && Instant::now() < until
            && let Some(received) = reader.next()?
        {
            let death = DeathEntry::parse(received, |name| reader.get(name));
            let Some(death) = death.filter(|death| times.contains(&death.at)) else { continue };
            found.push(DumpedCore { death, message: reader.get(c"MESSAGE").unwrap_or_default() });
        }
        Ok(found)
    }

    /// Opens the journal.
    fn open(&mut self) -> Result<JournalCursor<'_>, JournalReadError> {
        if self.directory.is_none() {
            check_exists(Path::new("/"))?;
        }
        let library = match self.library.take() {
            Some(library) => library,
            None => Library::load().map_err(JournalReadError::Library)?,
        };
        Ok(self.library.insert(library).open(self.directory.as_deref())?)
    }
}

/// Reads entries up to the limits. `looked` is the time at which the journal was opened.
fn gather(
    looked: i64,
    mut next: impl FnMut() -> io::Result<ControlFlow<(), Option<DeathEntry>>>,
) -> io::Result<DeathEntries> {
    let (mut entries, until) = (DeathEntries { found: Vec::new(), whole_until: None }, Instant::now() + LONGEST);
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

/// The result of one read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeathEntries {
    /// The entries.
    pub found: Vec<DeathEntry>,
    /// The time up to which the entries are complete, in milliseconds since the epoch; `None` if a limit ended the
    /// read.
    pub whole_until: Option<i64>,
}

/// Checks that the machine below a root has a journal.
///
/// # Errors
/// [`JournalReadError::None`] if it has none.
pub(crate) fn check_exists(root: &Path) -> Result<(), JournalReadError> {
    let found = DIRECTORIES.iter().any(|directory| RootedTree::new(root).is_dir(Path::new(directory)));
    found.then_some(()).ok_or(JournalReadError::None)
}

/// The id of this boot, as journald writes it.
#[must_use]
pub(crate) fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim_end().replace('-', ""))
}

/// The earliest possible time of an entry about these sightings, in milliseconds since the epoch.
#[must_use]
pub(crate) fn earliest_entry_time(sightings: &[Sighting]) -> Option<i64> {
    let times = sightings.iter().filter_map(|sighting| match sighting.at {
        Moment::At(at) => Some(at),
        _ => None,
    });
    Some(times.min()?.saturating_sub(CORE_BEFORE_MS))
}

/// Finds the evidence for a sighting in entries. `runs` returns whether a unit's commands run an executable.
pub(crate) fn find_evidence(
    entries: &DeathEntries,
    sighting: &Sighting,
    runs: impl FnOnce(&Unit, &[u8]) -> bool,
) -> Vec<Evidence> {
    let Moment::At(at) = sighting.at else { return Vec::new() };
    let DeathEntries { found: entries, whole_until } = entries;
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
        IncidentEvent::Access(_) | IncidentEvent::UnrecordedDeath => false,
    };
    // Until this time, an entry about another unit's process may still be missing.
    let is_complete = whole_until.is_some_and(|until| until >= at.saturating_add(EXIT_AFTER_MS));
    if !kills || !is_complete {
        return Vec::new();
    }
    // A user manager can log any unit name, so its entries count for that user's processes only.
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

    fn evidence_for(entries: &[DeathEntry]) -> Vec<(Rung, String)> {
        evidence_until(entries, Some(102_000))
    }

    fn evidence_until(entries: &[DeathEntry], whole_until: Option<i64>) -> Vec<(Rung, String)> {
        let entries = DeathEntries { found: entries.to_vec(), whole_until };
        let starts = |unit: &Unit, exe: &[u8]| unit.name.as_str() == "a.service" && exe == b"/bin/a";
        let evidence = find_evidence(&entries, &killed(Action::KillProcess), starts);
        evidence
            .into_iter()
            .map(|one| match one {
                Evidence::Named(rung, unit) => (rung, unit.name.to_string()),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn core_dump_entry_of_same_pid_and_time_names_unit() {
        let found = [(Rung::JournalEntry, "b.service".to_owned())];
        assert_eq!(evidence_for(&[entry(100_500, "b.service", Some(7)), entry(100_000, "a.service", None)]), found);
        assert_eq!(evidence_for(&[entry(100_500, "b.service", Some(8))]), []);
        assert_eq!(evidence_for(&[entry(98_000, "b.service", Some(7)), entry(120_000, "b.service", Some(7))]), []);
    }

    #[test]
    fn exit_entry_of_only_matching_unit_names_unit() {
        let a = |at| entry(at, "a.service", None);
        let found = [(Rung::ExitEntry, "a.service".to_owned())];
        assert_eq!(evidence_for(&[a(100_100)]), found);
        assert_eq!(evidence_for(&[a(100_100), a(100_200)]), found, "started and killed again");
        assert_eq!(evidence_for(&[a(99_000)]), [], "before");
        assert_eq!(evidence_for(&[a(103_000)]), [], "long after");
        assert_eq!(evidence_for(&[entry(100_100, "b.service", None)]), [], "another program's");
        assert_eq!(evidence_for(&[a(100_100), entry(100_200, "b.service", None)]), [], "two are none");
        let lives = killed(Action::Errno);
        let entries = DeathEntries { found: vec![a(100_100)], whole_until: Some(102_000) };
        assert_eq!(find_evidence(&entries, &lives, |_, _| true), []);
    }

    #[test]
    fn exit_entry_counts_only_once_entries_are_complete() {
        let (a, core) = (entry(100_100, "a.service", None), entry(100_500, "b.service", Some(7)));
        assert_eq!(evidence_until(slice::from_ref(&a), Some(100_200)), [], "another may be told to have ended so");
        assert_eq!(evidence_until(slice::from_ref(&a), Some(101_999)), []);
        assert_eq!(evidence_until(slice::from_ref(&a), None), [], "there was more than was read");
        assert_eq!(evidence_until(slice::from_ref(&a), Some(102_000)).len(), 1);
        for whole_until in [Some(100_600), None] {
            assert_eq!(evidence_until(&[a.clone(), core.clone()], whole_until).len(), 1, "a pid is no guess");
        }
    }

    #[test]
    fn entries_beyond_limit_are_not_complete() {
        let some = |count: usize| {
            let mut left = count;
            gather(7, || {
                let more = left > 0;
                left = left.saturating_sub(1);
                Ok(if more { Continue(Some(entry(1, "a.service", None))) } else { Break(()) })
            })
            .unwrap()
        };
        assert_eq!(some(0), DeathEntries { found: Vec::new(), whole_until: Some(7) });
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
    fn user_manager_entry_counts_for_that_users_processes_only() {
        let of = |uid| DeathEntry {
            unit: Unit { manager: Manager::User(uid), ..entry(0, "a.service", None).unit },
            ..entry(100_100, "a.service", None)
        };
        assert_eq!(evidence_for(&[of(1000)]).len(), 1);
        assert_eq!(evidence_for(&[of(1001)]), []);
        assert_eq!(
            evidence_for(&[of(1001), entry(100_100, "a.service", None)]).len(),
            1,
            "and takes no word from another"
        );
    }

    #[test]
    fn machine_without_journal_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(check_exists(root.path()), Err(JournalReadError::None)));
        std::fs::create_dir_all(root.path().join("run/log/journal")).unwrap();
        assert!(check_exists(root.path()).is_ok());
    }

    #[test]
    fn missing_directory_is_an_error() {
        match JournalReader::at("/nonexistent").entries("x", 0) {
            Err(JournalReadError::Io(_) | JournalReadError::Library(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}
