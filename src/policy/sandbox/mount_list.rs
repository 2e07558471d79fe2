//! The mounts that a unit's settings put over the host's files, simulated as systemd makes them (`namespace.c`), and what
//! they do to a path.

use super::implied_mounts::{find_implied, hostname_mounts};
use super::mount_entry::{MountCause, MountEntry, MountMode};
use super::sandbox_settings::{SandboxSettings, SandboxWord};
use crate::policy::directive::Directive;
use crate::policy::settings::Settings;
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// What the mounts do to a path, as words of the settings with the deciding one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MountCauses {
    /// Why it is read-only.
    pub(crate) read_only: Vec<MountCause>,
    /// Why the host's file is not seen there.
    pub(crate) hidden: Vec<MountCause>,
    /// Why it is not executed.
    pub(crate) no_exec: Vec<MountCause>,
}

/// All mounts of a unit.
#[derive(Debug, Clone)]
pub(crate) struct MountList {
    /// As the settings make them.
    all: Vec<MountEntry>,
    /// As systemd mounts them: sorted, without those that have no effect.
    mounted: Vec<MountEntry>,
    /// Whether a mount below one that forbids execution permits it.
    lowest_decides: bool,
}

/// The newest systemd on which any mount below one of `NoExecPaths=` permits execution, as far as tests show.
const LOWEST_DECIDES_UNTIL: u32 = 252;

impl MountList {
    /// Simulates the mounts of a unit on a machine that lacks some paths.
    pub(crate) fn new(
        settings: &Settings,
        sandbox: &SandboxSettings,
        systemd: Option<u32>,
        absent: &BTreeSet<Box<str>>,
    ) -> Self {
        let mut all = listed_mounts(sandbox);
        // systemd skips such a path of a list, while it makes the unit's own directories before it mounts.
        all.retain(|entry| {
            let is_by = |word: &SandboxWord| word.directive == Directive::ReadWritePaths;
            !(entry.word.as_ref().is_some_and(is_by) && absent.contains(&entry.path))
        });
        all.extend(find_implied(settings, sandbox, systemd));
        all.extend(hostname_mounts(settings, all.is_empty()));
        for (number, entry) in all.iter_mut().enumerate() {
            entry.number = number;
            let own = |is_set: bool| is_set.then_some(number);
            entry.read_only = own(entry.is_read_only());
            entry.no_exec = own(matches!(entry.mode, MountMode::NoExec | MountMode::Inaccessible));
        }
        let mut mounted = all.clone();
        mounted.sort_by(|one, other| compare_paths(&one.path, &other.path).then(one.mode.cmp(&other.mode)));
        drop_duplicates(&mut mounted);
        drop_below_inaccessible(&mut mounted);
        Self { all, mounted, lowest_decides: systemd.is_some_and(|systemd| systemd <= LOWEST_DECIDES_UNTIL) }
    }

    /// Returns the word that makes the first mount; `None` if the settings make none.
    pub(crate) fn first_word(&self) -> Option<SandboxWord> {
        self.all.iter().find_map(|entry| entry.word.clone())
    }

    /// Returns the words that make a mount at a path, hidden by another mount or not.
    pub(crate) fn mounts_at(&self, path: &[u8]) -> Vec<MountCause> {
        self.all.iter().filter(|entry| entry.path.as_bytes() == path).filter_map(MountEntry::cause).collect()
    }

    /// Returns the paths at which a directive makes mounts. Those that it names twice, as a link and as the link's target, come
    /// twice.
    pub(crate) fn paths_of(&self, directive: Directive) -> impl Iterator<Item = &str> {
        let is_by = move |entry: &&MountEntry| entry.word.as_ref().is_some_and(|word| word.directive == directive);
        self.all.iter().filter(is_by).map(|entry| &*entry.path)
    }

    /// Returns what the mounts do to an absolute path.
    pub(crate) fn causes(&self, path: &[u8]) -> MountCauses {
        let above = || self.mounted.iter().rev().filter(|entry| is_at_or_below(path, entry.path.as_bytes()));
        let word_of = |number: usize| self.all.get(number).and_then(MountEntry::cause);
        let read_only = above().map_while(|entry| entry.read_only).filter_map(word_of).collect();
        let exec = || above().filter(|entry| self.lowest_decides || entry.no_exec.is_some() || entry.is_exec);
        let no_exec = exec().map_while(|entry| entry.no_exec).filter_map(word_of).collect();
        // Without the lowest mount, those above it may still hide the path.
        let covering = above().filter(|entry| entry.covers());
        let hiding = covering.map(|entry| self.hiding(entry, path)).take_while(|causes| !causes.is_empty());
        MountCauses { read_only, hidden: hiding.flatten().collect(), no_exec }
    }

    /// Returns the words that hide a path by a covering mount. Several words make one `/proc`.
    fn hiding(&self, entry: &MountEntry, path: &[u8]) -> Vec<MountCause> {
        let is_part = |other: &&MountEntry| match entry.mode {
            MountMode::Procfs => other.mode == MountMode::Procfs,
            _ => other.number == entry.number,
        };
        self.all.iter().filter(is_part).filter(|part| hides(part, path)).filter_map(MountEntry::cause).collect()
    }
}

/// Whether a covering mount hides the host's file at a path.
fn hides(entry: &MountEntry, path: &[u8]) -> bool {
    /// What a private `/dev` has in common with the host's.
    const DEVICES: [&str; 14] = [
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
        "/dev/pts",
        "/dev/ptmx",
        "/dev/shm",
        "/dev/mqueue",
        "/dev/hugepages",
        "/dev/log",
        "/dev/fd",
        "/dev/core",
    ];
    let is_listed = |paths: &[&str]| paths.iter().any(|other| is_at_or_below(path, other.as_bytes()));
    match entry.mode {
        MountMode::Bind => !entry.shows_host,
        MountMode::PrivateTmp | MountMode::TemporaryFileSystem => path != entry.path.as_bytes(),
        MountMode::PrivateDevices => {
            path != b"/dev" && !is_listed(&DEVICES) && !is_listed(&["/dev/stdin", "/dev/stdout", "/dev/stderr"])
        }
        MountMode::Procfs => path != b"/proc" && is_hidden_in_procfs(entry, path),
        _ => true,
    }
}

/// Whether an own `/proc` lacks a path: processes of others, or all besides processes.
fn is_hidden_in_procfs(entry: &MountEntry, path: &[u8]) -> bool {
    let name = path.strip_prefix(b"/proc/").unwrap_or_default();
    let first = name.split(|byte| *byte == b'/').next().unwrap_or_default();
    let is_process = first.iter().all(u8::is_ascii_digit);
    match entry.word.as_ref().map(|word| word.directive) {
        Some(Directive::ProcSubset) => !is_process && !matches!(first, b"self" | b"thread-self"),
        Some(Directive::ProtectProc) => is_process,
        _ => false,
    }
}

/// Returns the mounts that lines name.
fn listed_mounts(sandbox: &SandboxSettings) -> Vec<MountEntry> {
    let lists = [
        (Directive::InaccessiblePaths, MountMode::Inaccessible),
        (Directive::ReadOnlyPaths, MountMode::ReadOnly),
        (Directive::ReadWritePaths, MountMode::ReadWrite),
        (Directive::RuntimeDirectory, MountMode::ReadWrite),
        (Directive::StateDirectory, MountMode::ReadWrite),
        (Directive::CacheDirectory, MountMode::ReadWrite),
        (Directive::LogsDirectory, MountMode::ReadWrite),
        (Directive::NoExecPaths, MountMode::NoExec),
        (Directive::ExecPaths, MountMode::Exec),
        (Directive::TemporaryFileSystem, MountMode::TemporaryFileSystem),
    ];
    let mut entries: Vec<MountEntry> = lists
        .into_iter()
        .flat_map(|(directive, mode)| sandbox.paths(directive).iter().map(move |listed| (mode, listed)))
        .map(|(mode, listed)| {
            let entry = MountEntry::new(&listed.path, mode, Some(listed.word.clone()));
            let is_read_only = mode == MountMode::TemporaryFileSystem && has_option(&listed.word.text, "ro");
            if is_read_only { entry.read_only() } else { entry }
        })
        .collect();
    for bound in &sandbox.binds {
        let entry = MountEntry::new(&bound.target.path, MountMode::Bind, Some(bound.target.word.clone()));
        let entry = MountEntry { shows_host: bound.source == bound.target.path, ..entry };
        entries.push(if bound.read_only { entry.read_only() } else { entry });
    }
    entries
}

/// Whether the options behind a path's colon name one.
fn has_option(word: &str, option: &str) -> bool {
    word.split_once(':').is_some_and(|(_, options)| options.split(',').any(|other| other == option))
}

/// Orders paths so that a directory comes before what is below it.
fn compare_paths(one: &str, other: &str) -> Ordering {
    one.split('/').filter(|part| !part.is_empty()).cmp(other.split('/').filter(|part| !part.is_empty()))
}

/// Whether a path is another or below it.
pub(super) fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(above) else { return false };
    rest.is_empty() || rest.starts_with(b"/") || above == b"/"
}

/// Keeps the first of several mounts for one path, with the restrictions of all.
fn drop_duplicates(entries: &mut Vec<MountEntry>) {
    entries.dedup_by(|later, first| {
        let is_same = later.path == first.path;
        if is_same {
            first.read_only = first.read_only.or(later.read_only);
            first.no_exec = first.no_exec.or(later.no_exec);
            first.is_exec |= later.is_exec;
        }
        is_same
    });
}

/// Drops mounts below a path that is inaccessible: systemd does not make them.
fn drop_below_inaccessible(entries: &mut Vec<MountEntry>) {
    let mut hidden: Option<Box<str>> = None;
    entries.retain(|entry| {
        let is_below = hidden.as_ref().is_some_and(|above| is_at_or_below(entry.path.as_bytes(), above.as_bytes()));
        if entry.mode == MountMode::Inaccessible && !is_below {
            hidden = Some(entry.path.clone());
        }
        !is_below
    });
}
