//! What decides a unit's calls in addition to its own settings: its managers' settings, systemd's version and the
//! kernel's, and which paths the machine lacks.

use super::lists::Architectures;
use super::unit_file::{Assignment, FileNote, UnitFile};
use crate::syscalls::groups::GroupSource;
use crate::syscalls::{Abi, Groups};
use std::collections::BTreeSet;

/// The first systemd that lets the kernel enforce `MemoryDenyWriteExecute=` if the kernel can
/// (`apply_memory_deny_write_execute`).
const MDWE_BY_KERNEL_SINCE: u32 = 254;

/// The first Linux with `PR_SET_MDWE` (`prctl(2)`).
const PR_SET_MDWE_SINCE: (u32, u32) = (6, 3);

/// The first systemd whose `SystemCallFilter=` kills the process instead of the thread, with [`KILLS_PROCESS_KERNEL`]
/// and libseccomp 2.4 (systemd's NEWS of 243, `scmp_act_kill_process`).
const KILLS_PROCESS_SINCE: u32 = 243;

/// The first Linux with `SECCOMP_RET_KILL_PROCESS` (`seccomp(2)`).
const KILLS_PROCESS_KERNEL: (u32, u32) = (4, 14);

/// The known facts about a unit's managers and machine. The default has none.
#[derive(Debug, Clone, Default)]
pub struct ManagerContext {
    /// `SystemCallArchitectures=` of the unit's manager. The manager applies it to itself, so every process that it
    /// starts has it (`systemd-system.conf(5)`).
    pub manager: Architectures,
    /// `SystemCallArchitectures=` of the system manager, for a unit of a user manager.
    pub system_manager: Architectures,
    /// The running kernel's version.
    pub kernel: Option<(u32, u32)>,
    /// Paths that the machine is known to lack: systemd makes no mount at them.
    pub absent_paths: BTreeSet<Box<str>>,
    /// Paths that the machine is known to have.
    pub present_paths: BTreeSet<Box<str>>,
}

impl ManagerContext {
    /// Returns the settings of managers that block an ABI, the unit's own manager first.
    pub(crate) fn blocking(&self, abi: Abi, native: Abi) -> impl Iterator<Item = &Architectures> {
        [&self.manager, &self.system_manager].into_iter().filter(move |architectures| architectures.blocks(abi, native))
    }

    /// Whether it is certain that `SystemCallFilter=` kills processes and not threads.
    pub(crate) fn kills_processes(&self, groups: &Groups) -> bool {
        kills_processes_since(groups) && self.kernel.is_some_and(|kernel| kernel >= KILLS_PROCESS_KERNEL)
    }

    /// Returns the enforcer of `MemoryDenyWriteExecute=`.
    pub(crate) fn mdwe(&self, groups: &Groups) -> Mdwe {
        let systemd = groups.running_version().and_then(parse_major);
        match (systemd.map(|systemd| systemd >= MDWE_BY_KERNEL_SINCE), self.kernel.map(|k| k >= PR_SET_MDWE_SINCE)) {
            (Some(false), _) | (_, Some(false)) => Mdwe::Filter,
            (Some(true), Some(true)) => Mdwe::Kernel,
            _ => Mdwe::Either,
        }
    }
}

/// Whether the running systemd is known to be new enough for a `SystemCallFilter=` that kills processes and not threads.
pub(super) fn kills_processes_since(groups: &Groups) -> bool {
    groups.running_version().and_then(parse_major).is_some_and(|systemd| systemd >= KILLS_PROCESS_SINCE)
}

/// The enforcer of `MemoryDenyWriteExecute=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mdwe {
    /// A seccomp filter.
    Filter,
    /// The kernel itself (`PR_SET_MDWE`), which answers EACCES and never writes a record.
    Kernel,
    /// One of the two: the version of systemd or of the kernel is unknown.
    Either,
}

/// Whether units get filters for an ABI that their manager already blocks. Before systemd 255 a child of the manager
/// loaded a unit's filters and knew of the block (seen with 252). Since 255 systemd-executor loads the filters, and
/// does not know of the block.
pub(crate) fn filters_blocked_abis(groups: &Groups) -> bool {
    const SINCE: u32 = 255;
    systemd_version(groups).is_some_and(|systemd| systemd >= SINCE)
}

/// Returns the version of the running systemd; if that is unknown, of the systemd from which the groups come.
pub(crate) fn systemd_version(groups: &Groups) -> Option<u32> {
    parse_major(full_version(groups))
}

/// Returns the version and the stable release of the systemd that runs, for example 256 and 2 of `256.2-1`. A number alone is
/// its newest release.
pub(crate) fn systemd_release(groups: &Groups) -> Option<(u32, u32)> {
    let version = full_version(groups);
    let major = parse_major(version)?;
    let rest = version.trim_start_matches(|c: char| c.is_ascii_digit());
    let newest = rest.is_empty().then_some(u32::MAX);
    Some((major, newest.or_else(|| parse_major(rest.strip_prefix('.')?)).unwrap_or(0)))
}

fn full_version(groups: &Groups) -> &str {
    let (GroupSource::Host(version) | GroupSource::Embedded(version)) = groups.source();
    groups.running_version().unwrap_or(version)
}

/// Parses the number at the start of a version, for example 257 in `257.13-1`.
pub(crate) fn parse_major(version: &str) -> Option<u32> {
    let digits = version.find(|c: char| !c.is_ascii_digit()).map_or(version, |end| version.get(..end).unwrap_or(""));
    digits.parse().ok()
}

/// Returns the effective `SystemCallArchitectures=` of a manager's configuration files. The files are in the order in
/// which systemd reads them.
#[must_use]
pub(crate) fn manager_architectures<'a>(
    files: impl IntoIterator<Item = &'a UnitFile>,
) -> (Architectures, Vec<FileNote>) {
    let (mut architectures, mut notes) = (Architectures::default(), Vec::new());
    let is_setting = |line: &&Assignment| &*line.section == "Manager" && &*line.key == "SystemCallArchitectures";
    for line in files.into_iter().flat_map(|file| &file.assignments).filter(is_setting) {
        architectures.apply(line, &mut notes);
    }
    (architectures, notes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn groups(source: GroupSource) -> Groups {
        Groups::parse("@known\n    read\n", source).unwrap()
    }

    #[test]
    fn enforcer_of_memory_deny_write_execute_depends_on_systemd_and_kernel() {
        let mdwe = |systemd: &str, kernel| {
            ManagerContext { kernel, ..ManagerContext::default() }.mdwe(&groups(GroupSource::Host(systemd.into())))
        };
        assert_eq!(mdwe("252.38-1~deb12u1", Some((6, 18))), Mdwe::Filter);
        assert_eq!(mdwe("252", None), Mdwe::Filter);
        assert_eq!(mdwe("254", Some((6, 2))), Mdwe::Filter);
        assert_eq!(mdwe("254", Some((6, 3))), Mdwe::Kernel);
        assert_eq!(mdwe("257.13-1~deb13u1", Some((7, 0))), Mdwe::Kernel);
        assert_eq!(mdwe("257.13-1~deb13u1", None), Mdwe::Either);
        let foreign = groups(GroupSource::Embedded("262.1-1".into()));
        assert_eq!(systemd_version(&foreign), Some(262));
        let known = foreign.clone().with_running_version("252.38-1~deb12u1");
        assert_eq!((systemd_version(&known), ManagerContext::default().mdwe(&known)), (Some(252), Mdwe::Filter));
        assert_eq!(ManagerContext { kernel: Some((6, 18)), ..ManagerContext::default() }.mdwe(&foreign), Mdwe::Either);
    }

    #[test]
    fn filter_surely_kills_processes_with_new_systemd_and_kernel_only() {
        let kills = |systemd: &str, kernel| {
            ManagerContext { kernel, ..ManagerContext::default() }
                .kills_processes(&groups(GroupSource::Host(systemd.into())))
        };
        assert!(kills("243", Some((4, 14))) && kills("257.13-1~deb13u1", Some((6, 12))));
        assert!(!kills("242", Some((5, 0))) && !kills("252", Some((4, 9))) && !kills("252", None));
    }

    #[test]
    fn architectures_outside_manager_section_are_ignored() {
        let file = |text: &str| UnitFile::parse(Path::new("system.conf"), text.as_bytes());
        let files = [
            file("[Manager]\nSystemCallArchitectures=native\n[Service]\nSystemCallArchitectures=x86\n"),
            file("[Manager]\nSystemCallArchitectures=x32 bogus\n"),
        ];
        let (architectures, notes) = manager_architectures(&files);
        assert_eq!(architectures.listed.keys().map(AsRef::as_ref).collect::<Vec<_>>(), ["native", "x32"]);
        assert_eq!(notes.len(), 1);
        assert!(architectures.blocks(Abi::I386, Abi::X86_64));
        assert!(!architectures.blocks(Abi::X32, Abi::X86_64) && !architectures.blocks(Abi::X86_64, Abi::X86_64));
    }
}
