//! A unit's hardening, line by line, and the settings that lift some of the lines.
//!
//! To lift a line means: systemd merges the other lines as if the unit had never had it. Lines that only grant something
//! are no hardening and stay, so lifting one more line never withholds more from the unit. `load-fragment.c` has the rules
//! of the merge.

use super::capabilities::{CapabilitySet, has_no_capability};
use super::directive::{Directive, ValueKind};
use super::hardening_keys::{FLAGS, LISTS, SWITCHES};
use super::lists::parse_boolean;
use super::sandbox::sandbox_settings::SandboxSettings;
use super::settings::Settings;
use super::unit_file::Assignment;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The directives that `DynamicUser=` implies. systemd ignores their lines then (`unit_patch_contexts` in `unit.c`).
const OF_DYNAMIC_USER: [Directive; 4] =
    [Directive::ProtectSystem, Directive::PrivateTmp, Directive::NoNewPrivileges, Directive::RestrictSUIDSGID];

/// The directives that only the system's manager puts into force, by BPF programs.
const OF_SYSTEM_MANAGER: [Directive; 3] =
    [Directive::DevicePolicy, Directive::IPAddressDeny, Directive::SocketBindDeny];

/// Lines that are lifted together. Most have one line; an allow-list consists of all lines that began it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardeningLine {
    /// The line that began it.
    pub first: Assignment,
    /// The lines that went on with it, in merge order.
    pub more: Vec<Assignment>,
}

/// A line that stays in force, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptHardening {
    /// The key.
    pub key: Box<str>,
    /// The last line of the key.
    pub line: Assignment,
    /// The reason.
    pub why: &'static str,
}

/// How systemd merges the lines of a key, and so how they are lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merge {
    /// The last line counts. This value turns it off.
    Value(&'static str),
    /// Each line withholds more. An empty line starts the list again.
    EachLine,
    /// The first line says whether the list names what passes, or, after `~`, what does not. This value starts the list
    /// again.
    List(&'static str),
    /// `DevicePolicy=` and `DeviceAllow=` together.
    Devices,
}

/// The merge of capability sets: a lone `~` stands for all.
const CAPABILITIES: Merge = Merge::List("~");

/// A line of a key, and the element that lifts it; `None` if it grants something.
type KeyLine = (Assignment, Option<usize>);

/// The lines of a key that are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LiftableKey {
    key: Box<str>,
    merge: Merge,
    lines: Vec<KeyLine>,
}

/// A unit's hardening.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hardening {
    keys: Vec<LiftableKey>,
    lines: Vec<HardeningLine>,
    kept: Vec<KeptHardening>,
}

impl Hardening {
    /// Finds the hardening of a unit. The user of its processes and the lines that grant something are no hardening.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let sandbox = SandboxSettings::new(settings);
        let mut found = Self::default();
        if let Some(switch) = settings.switch(Directive::DynamicUser).filter(|switch| switch.on) {
            let lines: Vec<Assignment> =
                settings.lines(Directive::DynamicUser).filter(|line| line.origin == switch.origin).cloned().collect();
            let why =
                "the unit's files belong to its user; it implies ProtectSystem=strict, ProtectHome=read-only and more";
            found.keep(Directive::DynamicUser.key(), &lines, why);
        }
        for directive in Directive::ALL.iter().copied() {
            let Some(merge) = merge_of_directive(directive) else { continue };
            if sandbox.is_of_user_manager && OF_SYSTEM_MANAGER.contains(&directive) {
                continue;
            }
            let lines = match merge {
                Merge::Value(off) => value_line(settings, &sandbox, directive, off).into_iter().collect(),
                Merge::EachLine | Merge::List(_) => lines_in_force(settings, directive.key(), merge),
                Merge::Devices => device_lines(settings, &sandbox),
            };
            match reason_to_keep(settings, &sandbox, directive) {
                Some(why) if !lines.is_empty() => found.keep(directive.key(), &lines, why),
                _ => found.add(directive.key(), merge, lines),
            }
        }
        for key in SWITCHES {
            let valid = settings.assignments().filter(|line| *line.key == *key);
            let last = valid.filter_map(|line| Some((line, parse_boolean(&line.value)?))).last();
            let line = last.filter(|(_, on)| *on).map(|(line, _)| line.clone());
            found.add(key, Merge::Value("no"), line.into_iter().collect());
        }
        for key in LISTS {
            found.add(key, Merge::List(""), lines_in_force(settings, key, Merge::List("")));
        }
        found.add(FLAGS, Merge::EachLine, lines_in_force(settings, FLAGS, Merge::EachLine));
        found
    }

    fn keep(&mut self, key: &str, lines: &[Assignment], why: &'static str) {
        let line = lines.last().cloned();
        self.kept.extend(line.map(|line| KeptHardening { key: key.into(), line, why }));
    }

    /// Adds the lines of a key, and the elements that lift them.
    fn add(&mut self, key: &str, merge: Merge, lines: Vec<Assignment>) {
        if lines.is_empty() {
            return;
        }
        // Written again without the white space behind it, the line would go on in the next one.
        if lines.iter().any(|line| line.value.ends_with('\\')) {
            return self.keep(key, &lines, "its line ends in a backslash");
        }
        let mut key_lines: Vec<KeyLine> = Vec::new();
        let is_one = matches!(merge, Merge::Value(_) | Merge::Devices);
        let begins_allow_list = matches!(merge, Merge::List(_)) && !is_negated(&lines);
        let first_denied = lines.iter().position(|line| line.value.starts_with('~')).unwrap_or(lines.len());
        for (index, line) in lines.into_iter().enumerate() {
            let joins_first = is_one || (begins_allow_list && index < first_denied);
            let is_grant = matches!(merge, Merge::List(_)) && !joins_first && !line.value.starts_with('~');
            let element = match self.lines.last_mut() {
                _ if is_grant => None,
                Some(begun) if joins_first && index > 0 => {
                    begun.more.push(line.clone());
                    Some(self.lines.len() - 1)
                }
                _ => {
                    self.lines.push(HardeningLine { first: line.clone(), more: Vec::new() });
                    Some(self.lines.len() - 1)
                }
            };
            key_lines.push((line, element));
        }
        self.keys.push(LiftableKey { key: key.into(), merge, lines: key_lines });
    }

    /// The lines, each a candidate. Their numbers are those of [`lift`](Self::lift).
    #[must_use]
    pub fn lines(&self) -> &[HardeningLine] {
        &self.lines
    }

    /// The hardening that stays in force whatever is lifted.
    #[must_use]
    pub fn kept(&self) -> &[KeptHardening] {
        &self.kept
    }

    /// Returns the assignments of a drop-in that lifts some of the lines, a line each.
    #[must_use]
    pub fn lift(&self, lifted: &BTreeSet<usize>) -> String {
        let mut text = String::new();
        let is_lifted = |element: &Option<usize>| element.is_some_and(|element| lifted.contains(&element));
        for LiftableKey { key, merge, lines } in &self.keys {
            if !lines.iter().any(|(_, element)| is_lifted(element)) {
                continue;
            }
            // Writing to a String cannot fail.
            let mut assign = |value: &str| _ = writeln!(text, "{key}={value}");
            match merge {
                Merge::Value(off) => assign(off),
                // A pattern allows all devices of a type (`bpf_devices_allow_list_major` in `bpf-devices.c`). The unit
                // keeps its own entries.
                Merge::Devices => {
                    text.push_str("DeviceAllow=char-* rwm\nDeviceAllow=block-* rwm\n");
                }
                Merge::EachLine | Merge::List(_) => {
                    assign(if let Merge::List(reset) = merge { reset } else { "" });
                    let (mut has_begun, mut capabilities) = (false, CapabilitySet::ALL);
                    for (line, element) in lines.iter().filter(|(_, element)| !is_lifted(element)) {
                        // As the first line of a list, a grant would allow nothing else. A set of all capabilities is as
                        // good as none.
                        let begins =
                            if *merge == CAPABILITIES { capabilities == CapabilitySet::ALL } else { !has_begun };
                        if element.is_some() || !begins {
                            assign(&line.value);
                            capabilities.merge(CapabilitySet::ALL, &line.value);
                            has_begun = true;
                        }
                    }
                }
            }
        }
        text
    }

    /// Returns the bytes of all lines: no drop-in that lifts some of them is much longer.
    #[must_use]
    pub fn size(&self) -> usize {
        let lines = self.keys.iter().flat_map(|key| &key.lines);
        lines.map(|(line, _)| line.key.len() + line.value.len() + 2).sum()
    }
}

/// Returns how systemd merges the lines of a directive; `None` if they are no hardening, or only refine other lines.
fn merge_of_directive(directive: Directive) -> Option<Merge> {
    use Directive as D;
    match directive {
        D::ProtectSystem
        | D::ProtectHome
        | D::PrivateTmp
        | D::ProtectControlGroups
        | D::NoNewPrivileges
        | D::PrivateUsers
        | D::ProtectHostname
        | D::MemoryDenyWriteExecute
        | D::RestrictRealtime
        | D::RestrictSUIDSGID
        | D::ProtectKernelTunables
        | D::ProtectKernelModules
        | D::ProtectKernelLogs
        | D::ProtectClock
        | D::PrivateDevices
        | D::LockPersonality => Some(Merge::Value("no")),
        D::ProtectProc => Some(Merge::Value("default")),
        D::ProcSubset => Some(Merge::Value("all")),
        D::TemporaryFileSystem
        | D::InaccessiblePaths
        | D::ReadOnlyPaths
        | D::NoExecPaths
        | D::SocketBindDeny
        | D::IPAddressDeny => Some(Merge::EachLine),
        // An empty line drops all capabilities, and a lone `~` none.
        D::CapabilityBoundingSet => Some(CAPABILITIES),
        D::RestrictAddressFamilies | D::RestrictNamespaces | D::SystemCallArchitectures | D::SystemCallFilter => {
            Some(Merge::List(""))
        }
        D::DevicePolicy => Some(Merge::Devices),
        // These grant something or place files. The unit's files belong to its user. The last two withhold nothing by
        // themselves.
        D::DeviceAllow
        | D::BindPaths
        | D::BindReadOnlyPaths
        | D::ReadWritePaths
        | D::ExecPaths
        | D::RuntimeDirectory
        | D::StateDirectory
        | D::CacheDirectory
        | D::LogsDirectory
        | D::AmbientCapabilities
        | D::SocketBindAllow
        | D::IPAddressAllow
        | D::User
        | D::DynamicUser
        | D::SystemCallErrorNumber
        | D::SystemCallLog => None,
    }
}

/// Whether the first line of a list names what does not pass.
fn is_negated(lines: &[Assignment]) -> bool {
    lines.first().is_some_and(|line| line.value.starts_with('~'))
}

/// Returns the line that sets a directive of one value, unless it is off.
fn value_line(settings: &Settings, sandbox: &SandboxSettings, directive: Directive, off: &str) -> Option<Assignment> {
    let origin = if directive.spec().value == ValueKind::Switch {
        let switch = settings.switch(directive)?;
        let line = settings.lines(directive).find(|line| line.origin == switch.origin)?;
        // This value unshares the name and installs no filter, so the switch is off.
        let is_private = directive == Directive::ProtectHostname && line.value.starts_with("private");
        return (switch.on || is_private).then(|| line.clone());
    } else {
        &sandbox.word(directive).filter(|(value, _)| *value != off)?.1.origin
    };
    settings.lines(directive).find(|line| line.origin == *origin).cloned()
}

/// Returns the lines of a list since it was started again.
fn lines_in_force(settings: &Settings, key: &str, merge: Merge) -> Vec<Assignment> {
    let mut lines: Vec<Assignment> = Vec::new();
    for line in settings.assignments().filter(|line| *line.key == *key) {
        let switch = parse_boolean(&line.value).filter(|_| key == Directive::RestrictNamespaces.key());
        let is_none = key == Directive::RestrictAddressFamilies.key() && &*line.value == "none";
        let (is_reset, is_whole) = match merge {
            CAPABILITIES if has_no_capability(&line.value) => {
                let is_reset = line.value.starts_with('~');
                (is_reset, !is_reset)
            }
            CAPABILITIES => (false, false),
            _ => (line.value.is_empty() || switch == Some(false), is_none || switch == Some(true)),
        };
        if is_reset || is_whole {
            lines.clear();
        }
        if !is_reset {
            lines.push(line.clone());
        }
    }
    lines
}

/// Returns the lines that restrict devices.
fn device_lines(settings: &Settings, sandbox: &SandboxSettings) -> Vec<Assignment> {
    let policy = value_line(settings, sandbox, Directive::DevicePolicy, "auto");
    // Entries alone restrict as well (`DevicePolicy=auto` in `systemd.resource-control(5)`).
    let entries = lines_in_force(settings, Directive::DeviceAllow.key(), Merge::EachLine);
    policy.into_iter().chain(entries).collect()
}

/// Returns why the lines of a directive stay in force; `None` if they are lifted.
fn reason_to_keep(settings: &Settings, sandbox: &SandboxSettings, directive: Directive) -> Option<&'static str> {
    if settings.is_on(Directive::DynamicUser) && OF_DYNAMIC_USER.contains(&directive) {
        return Some("DynamicUser= implies it");
    }
    if directive == Directive::PrivateDevices && settings.has_own_root() {
        return Some("the unit's root directory may have no devices of its own");
    }
    let hidden: Vec<&str> = match directive {
        Directive::TemporaryFileSystem | Directive::InaccessiblePaths => {
            sandbox.paths(directive).iter().map(|listed| &*listed.path).collect()
        }
        Directive::ProtectHome => vec!["/home", "/root", "/run/user"],
        Directive::PrivateTmp => vec!["/tmp", "/var/tmp"],
        Directive::PrivateDevices => vec!["/dev"],
        _ => return None,
    };
    // systemd makes the place of a bind mount where there is none (`make_mount_point_node` in `mountpoint-util.c`).
    let would_make = sandbox
        .binds
        .iter()
        .filter(|bound| bound.source != bound.target.path)
        .any(|bound| hidden.iter().any(|dir| hides(directive, dir, &bound.target.path)));
    would_make.then_some("without it, BindPaths= would make a place in the host's directory")
}

/// Whether a directive that hides a directory hides a path as well. systemd makes no mount below an inaccessible path, nor at
/// it (`drop_inaccessible` and `drop_duplicates` in `namespace.c`).
fn hides(directive: Directive, dir: &str, path: &str) -> bool {
    is_below(path, dir) || (directive == Directive::InaccessiblePaths && path == dir)
}

/// Whether a path is below a directory.
fn is_below(path: &str, dir: &str) -> bool {
    dir == "/" || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
