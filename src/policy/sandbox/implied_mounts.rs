//! The mounts of directives that name no paths (`namespace.c`).

use super::mount_entry::{MountEntry, MountMode};
use super::sandbox_settings::{SandboxSettings, SandboxWord};
use crate::policy::directive::Directive;
use crate::policy::settings::Settings;

/// What `ProtectKernelTunables=` makes read-only.
const TUNABLES: [&str; 17] = [
    "/proc/acpi",
    "/proc/apm",
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/latency_stats",
    "/proc/mtrr",
    "/proc/scsi",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/timer_stats",
    "/sys",
    "/sys/fs/bpf",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/proc/dynamic_debug",
];

/// What `ProtectSystem=yes` makes read-only; `full` adds `/etc`.
const SYSTEM: [&str; 7] = ["/usr", "/boot", "/efi", "/lib", "/lib64", "/bin", "/sbin"];

/// The entries that lead elsewhere where `/usr` is merged. systemd follows the links, and makes the mounts there as well.
const LINKS: [(&str, &str); 4] =
    [("/lib", "/usr/lib"), ("/lib64", "/usr/lib64"), ("/bin", "/usr/bin"), ("/sbin", "/usr/sbin")];

/// The newest systemd whose tables for `ProtectSystem=` have these entries (`HAVE_SPLIT_USR`).
const LISTS_LINKS_UNTIL: u32 = 254;

/// The first systemd with an empty `/home` that is read-only. Older ones drop that of their table (`append_static_mounts`).
const EMPTY_HOMES_READ_ONLY_SINCE: u32 = 257;

/// What `ProtectSystem=strict` leaves writable.
const NOT_STRICT: [&str; 6] = ["/proc", "/sys", "/dev", "/home", "/run/user", "/root"];

/// The file systems of the kernel.
const API: [&str; 3] = ["/proc", "/sys", "/dev"];

/// The directories of `ProtectHome=`.
const HOMES: [&str; 3] = ["/home", "/run/user", "/root"];

/// Returns the word of a switch that is on.
pub(super) fn is_on(settings: &Settings, directive: Directive) -> Option<SandboxWord> {
    let switch = settings.switch(directive).filter(|switch| switch.on)?;
    Some(SandboxWord { directive, text: "".into(), origin: switch.origin.clone() })
}

/// Returns the mounts that a unit's settings imply.
pub(super) fn find_implied(settings: &Settings, sandbox: &SandboxSettings, systemd: Option<u32>) -> Vec<MountEntry> {
    let dynamic = is_on(settings, Directive::DynamicUser);
    let mut entries = Vec::new();
    entries.extend(protect_system(sandbox, dynamic.as_ref(), systemd));
    entries.extend(protect_home(sandbox, dynamic.as_ref(), systemd));
    let own_tmp = sandbox.word(Directive::PrivateTmp).filter(|(value, _)| *value != "no").map(|(_, word)| word.clone());
    if let Some(word) = own_tmp.or_else(|| dynamic.clone()) {
        let implied = (word.directive == Directive::DynamicUser).then_some("it implies PrivateTmp=yes");
        for path in ["/tmp", "/var/tmp"] {
            let entry = MountEntry::new(path, MountMode::PrivateTmp, Some(word.clone()));
            entries.push(entry.because(implied));
        }
    }
    let of_switch = |directive: Directive, paths: &[&str], mode: MountMode| -> Vec<MountEntry> {
        let word = is_on(settings, directive);
        let entries =
            word.iter().flat_map(|word| paths.iter().map(|path| MountEntry::new(path, mode, Some(word.clone()))));
        entries.collect()
    };
    let private_devices = of_switch(Directive::PrivateDevices, &["/dev"], MountMode::PrivateDevices);
    entries.extend(private_devices.into_iter().map(MountEntry::read_only));
    entries.extend(of_switch(Directive::ProtectKernelTunables, &TUNABLES, MountMode::ReadOnly));
    entries.extend(of_switch(
        Directive::ProtectKernelTunables,
        &["/proc/kallsyms", "/proc/kcore"],
        MountMode::Inaccessible,
    ));
    if is_on(settings, Directive::ProtectKernelTunables).is_some() {
        entries.extend(
            ["/sys/fs/cgroup", "/sys/fs/selinux"].map(|path| MountEntry::new(path, MountMode::ImplicitReadWrite, None)),
        );
    }
    // Where /lib is a link, systemd resolves it first.
    entries.extend(of_switch(
        Directive::ProtectKernelModules,
        &["/lib/modules", "/usr/lib/modules"],
        MountMode::Inaccessible,
    ));
    entries.extend(of_switch(Directive::ProtectKernelLogs, &["/proc/kmsg", "/dev/kmsg"], MountMode::Inaccessible));
    if let Some((value, word)) = sandbox.word(Directive::ProtectControlGroups).filter(|(value, _)| *value != "no") {
        // `private` gives the unit a control group namespace, which stays writable.
        let is_read_only = matches!(value, "yes" | "strict");
        let mode = if is_read_only { MountMode::ReadOnly } else { MountMode::ImplicitReadWrite };
        entries.push(MountEntry::new("/sys/fs/cgroup", mode, Some(word.clone())));
    }
    for (directive, harmless) in [(Directive::ProcSubset, "all"), (Directive::ProtectProc, "default")] {
        if let Some((_, word)) = sandbox.word(directive).filter(|(value, _)| *value != harmless) {
            entries.push(MountEntry::new("/proc", MountMode::Procfs, Some(word.clone())));
        }
    }
    if mounts_api_file_systems(settings, sandbox) {
        entries.extend(API.map(|path| MountEntry::new(path, MountMode::ApiFileSystem, None)));
    }
    entries
}

/// Whether systemd mounts the kernel's file systems once more for a unit (`namespace_parameters_mount_apivfs`).
fn mounts_api_file_systems(settings: &Settings, sandbox: &SandboxSettings) -> bool {
    let is_set = |directive, harmless| sandbox.word(directive).is_some_and(|(value, _)| value != harmless);
    is_set(Directive::ProtectControlGroups, "no")
        || is_set(Directive::ProtectProc, "default")
        || is_set(Directive::ProcSubset, "all")
        || is_on(settings, Directive::ProtectKernelTunables).is_some()
}

/// Returns the mounts of `ProtectHostname=`, which alone gives no view of files of its own.
pub(super) fn hostname_mounts(settings: &Settings, is_alone: bool) -> Vec<MountEntry> {
    let word = is_on(settings, Directive::ProtectHostname).filter(|_| !is_alone);
    let entry = |path| word.clone().map(|word| MountEntry::new(path, MountMode::ReadOnly, Some(word)));
    ["/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname"].into_iter().filter_map(entry).collect()
}

/// Returns the path that an entry of `ProtectSystem=` leads to where `/usr` is merged.
pub(super) fn follow_link(path: &str) -> Option<&'static str> {
    LINKS.into_iter().find(|(link, _)| *link == path).map(|(_, target)| target)
}

fn protect_system(sandbox: &SandboxSettings, dynamic: Option<&SandboxWord>, systemd: Option<u32>) -> Vec<MountEntry> {
    let own = sandbox.word(Directive::ProtectSystem).filter(|(value, _)| *value != "no");
    let (value, word, implied) = match (dynamic, own) {
        (_, Some(("strict", word))) => ("strict", word, None),
        (Some(word), _) => ("strict", word, Some("it implies ProtectSystem=strict")),
        (None, Some((value, word))) => (value, word, None),
        (None, None) => return Vec::new(),
    };
    let read_only = |path: &str| {
        let entry = MountEntry::new(path, MountMode::ReadOnly, Some(word.clone()));
        entry.because(implied)
    };
    if value == "strict" {
        let writable = NOT_STRICT.iter().map(|path| MountEntry::new(path, MountMode::ImplicitReadWrite, None));
        return std::iter::once(read_only("/")).chain(writable).collect();
    }
    let etc = (value == "full").then_some("/etc");
    let lists_links = systemd.is_some_and(|systemd| systemd <= LISTS_LINKS_UNTIL);
    let linked = LINKS.into_iter().filter(|_| lists_links).map(|(_, target)| target);
    SYSTEM.into_iter().chain(etc).chain(linked).map(read_only).collect()
}

fn protect_home(sandbox: &SandboxSettings, dynamic: Option<&SandboxWord>, systemd: Option<u32>) -> Vec<MountEntry> {
    let own = sandbox.word(Directive::ProtectHome).filter(|(value, _)| *value != "no");
    let (value, word, implied) = match (own, dynamic) {
        (Some((value, word)), _) => (value, word, None),
        (None, Some(word)) => ("read-only", word, Some("it implies ProtectHome=read-only")),
        (None, None) => return Vec::new(),
    };
    let entry = |path: &str, mode| {
        let entry = MountEntry::new(path, mode, Some(word.clone()));
        entry.because(implied)
    };
    HOMES
        .into_iter()
        .map(|path| match value {
            "read-only" => entry(path, MountMode::ReadOnly),
            "tmpfs" if systemd.is_some_and(|systemd| systemd >= EMPTY_HOMES_READ_ONLY_SINCE) => {
                entry(path, MountMode::TemporaryFileSystem).read_only()
            }
            "tmpfs" => entry(path, MountMode::TemporaryFileSystem),
            _ => entry(path, MountMode::Inaccessible),
        })
        .collect()
}
