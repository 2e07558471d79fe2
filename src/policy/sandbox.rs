//! What a unit's settings withhold from calls that the kernel executes: paths, capabilities, devices, memory, addresses.
//! Each answer names the words that withhold it, the deciding one first.

mod absolute_path;
pub(crate) mod address_rules;
pub(crate) mod capability_lines;
mod device_entry;
pub(crate) mod device_rules;
mod filter_rights;
mod implied_mounts;
mod mount_entry;
mod mount_list;
pub(crate) mod path_words;
pub(crate) mod sandbox_settings;
mod specifiers;
pub(crate) mod unit_sandbox;
mod unread_words;
pub(crate) mod withheld;
pub(super) mod word_value;

use super::capabilities::Capability;
use super::directive::Directive;
use super::effect::Effect;
use super::families::family_name;
use super::lists::Namespaces;
use super::unit_policy::Policy;
use super::verdict::{CauseReason, DirectiveCause};
use core::net::{IpAddr, SocketAddr};
use device_rules::DeviceUse;
use implied_mounts::{follow_link, is_on};
use mount_entry::MountCause;
use path_words::{BindWord, PathWord};
use sandbox_settings::SandboxWord;
use unit_sandbox::UnitSandbox;
use withheld::{Withheld, withheld};

/// The scheduling policies that `RestrictRealtime=` permits: `SCHED_OTHER`, `SCHED_BATCH` and `SCHED_IDLE`
/// (`seccomp_restrict_realtime_full`).
const ORDINARY_POLICIES: [u32; 3] = [0, 3, 5];

/// What a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need<'a> {
    /// To change a path.
    Write(&'a [u8]),
    /// To see a path as the host has it.
    See(&'a [u8]),
    /// To execute a program.
    Execute(&'a [u8]),
    /// To use a device whose node the unit sees.
    Device(DeviceUse<'a>),
    /// To hold a capability in the bounding set.
    Bounding(Capability),
    /// To start with a capability.
    Effective(Capability),
    /// To gain the rights of a set-user-ID or set-group-ID program.
    SetId,
    /// To hold a capability in the host's user namespace.
    HostUsers,
    /// To make memory executable.
    ExecutableMemory,
    /// To bind a socket.
    Bind(SocketAddr),
    /// To reach an address.
    Reach(IpAddr),
    /// To open a socket of a family, by number.
    Family(u16),
    /// To make or enter namespaces, by their flags; 0 for one of any type.
    Namespaces(u32),
    /// To make a file with a set-user-ID or set-group-ID bit.
    SetIdMode,
    /// To use a scheduling policy, by number.
    Scheduling(u32),
    /// To use an execution domain.
    Personality(u32),
}

impl Need<'_> {
    /// Returns what a call with a socket address asks for: bind(2) asks for the port, and others for the address.
    #[must_use]
    pub fn from_socket_address(call: &str, address: SocketAddr) -> Self {
        if call == "bind" { Self::Bind(address) } else { Self::Reach(address.ip()) }
    }
}

impl Policy {
    fn sandbox(&self) -> &UnitSandbox {
        self.sandbox.get_or_init(|| UnitSandbox::new(&self.settings, self.systemd, &self.context.absent_paths))
    }

    /// Returns the directives that withhold what a call asks for, the deciding one first; none if the unit's settings do
    /// not withhold it. `errno` is the error that the call gets.
    #[must_use]
    pub fn withholding(&self, need: Need<'_>, errno: i32) -> Vec<DirectiveCause> {
        let words = self.withholding_words(need).into_iter();
        words.map(|(word, withheld)| cause_of_word(word, withheld, Some(Effect::Errno(errno)))).collect()
    }

    /// Returns the directives by which systemd mounts something at a path, or binds it elsewhere.
    #[must_use]
    pub fn mounting(&self, path: &[u8]) -> Vec<DirectiveCause> {
        let UnitSandbox { settings: sandbox, mounts } = self.sandbox();
        let mounts = mounts.mounts_at(path).into_iter().map(|cause| word_of_mount(cause, "mounts ", ""));
        let sources =
            sandbox.binds.iter().filter(|bound| bound.source.as_bytes() == path && bound.source != bound.target.path);
        let sources = sources.map(|bound| (bound.target.word.clone(), withheld("binds ", "")));
        mounts.chain(sources).map(|(word, withheld)| cause_of_word(word, withheld, None)).collect()
    }

    /// Returns the paths at which a directive makes mounts.
    pub fn mounted_paths(&self, directive: Directive) -> impl Iterator<Item = &str> {
        self.sandbox().mounts.paths_of(directive)
    }

    /// Whether two paths of [`Self::mounted_paths`] are one where `/usr` is merged.
    #[must_use]
    pub fn are_linked(one: &str, other: &str) -> bool {
        one == other || follow_link(one) == Some(other) || follow_link(other) == Some(one)
    }

    /// Returns the value of a directive that takes one word; `yes` and `no` for booleans.
    #[must_use]
    pub fn word(&self, directive: Directive) -> Option<&str> {
        self.sandbox().settings.word(directive).map(|(value, _)| value)
    }

    /// Returns the entries of lists of paths that have to exist: systemd skips those behind `-`. Each comes with its path.
    #[must_use]
    pub fn required_paths(&self) -> Vec<(DirectiveCause, Box<str>)> {
        const LISTS: [Directive; 5] = [
            Directive::InaccessiblePaths,
            Directive::ReadOnlyPaths,
            Directive::ReadWritePaths,
            Directive::NoExecPaths,
            Directive::ExecPaths,
        ];
        let sandbox = &self.sandbox().settings;
        let listed =
            LISTS.iter().flat_map(|directive| sandbox.paths(*directive)).map(|listed| (&listed.word, &listed.path));
        let bound = sandbox.binds.iter().map(|bound| (&bound.target.word, &bound.source));
        let required = listed.chain(bound).filter(|(word, _)| !word.text.starts_with('-'));
        required
            .map(|(word, path)| (cause_of_word(word.clone(), withheld("mounts ", ""), None), path.clone()))
            .collect()
    }

    /// Returns the entries of a list of paths: each as written, and its path.
    #[must_use]
    pub fn listed_paths(&self, directive: Directive) -> Vec<(Box<str>, Box<str>)> {
        self.sandbox()
            .settings
            .paths(directive)
            .iter()
            .map(|listed| (listed.word.text.clone(), listed.path.clone()))
            .collect()
    }

    /// Returns every word of a list of paths; `None` if one is not understood here.
    #[must_use]
    pub fn path_words(&self, directive: Directive) -> Option<Vec<PathWord>> {
        path_words::find_words(&self.settings, directive)
    }

    /// Returns every word of the list of bind mounts; `None` if one is not understood here.
    #[must_use]
    pub fn bind_words(&self) -> Option<Vec<BindWord>> {
        path_words::find_bind_words(&self.settings)
    }

    /// Whether a user's manager runs the unit, as the directories of its files show.
    #[must_use]
    pub fn is_of_user_manager(&self) -> bool {
        self.sandbox().settings.is_of_user_manager
    }

    fn withholding_words(&self, need: Need<'_>) -> Vec<(SandboxWord, Withheld)> {
        let (settings, UnitSandbox { settings: sandbox, mounts }) = (&self.settings, self.sandbox());
        // Only root's manager can load the BPF programs for devices, ports and addresses.
        let is_of_user = sandbox.is_of_user_manager;
        let words = |causes: Vec<MountCause>, before, after: &str| -> Vec<(SandboxWord, Withheld)> {
            causes.into_iter().map(|cause| word_of_mount(cause, before, after)).collect()
        };
        match need {
            Need::Write(path) => words(mounts.causes(path).read_only, "makes ", " read-only"),
            Need::See(path) => words(mounts.causes(path).hidden, "hides ", ""),
            Need::Execute(path) => words(mounts.causes(path).no_exec, "forbids to execute ", ""),
            Need::Device(_) | Need::Bind(_) | Need::Reach(_) if is_of_user => Vec::new(),
            Need::Device(device) => device_rules::device_causes(settings, sandbox, self.systemd, device),
            Need::Bounding(capability) => capability_lines::bounding_causes(settings, capability),
            Need::Effective(capability) => {
                let causes = capability_lines::effective_causes(settings, sandbox, capability);
                let is_dropped = causes.is_empty() && capability.name() == Some("CAP_SETUID");
                let dropped = is_dropped.then(|| self.dropped_setuid(sandbox)).flatten();
                causes.into_iter().chain(dropped).collect()
            }
            Need::SetId => self.no_new_privileges(sandbox),
            Need::HostUsers => {
                let own = sandbox.word(Directive::PrivateUsers).filter(|(value, _)| *value != "no");
                let own = own.map(|(_, word)| (word.clone(), withheld("gives no rights in ", "")));
                let implied = own.is_none().then(|| mounts.first_word()).flatten().filter(|_| is_of_user);
                let why = ": for a user's unit it implies PrivateUsers=yes";
                own.into_iter().chain(implied.map(|word| (word, withheld("gives no rights in ", why)))).collect()
            }
            Need::ExecutableMemory => {
                let own = is_on(settings, Directive::MemoryDenyWriteExecute);
                own.into_iter().map(|word| (word, withheld("denies ", ": no code is made at run time"))).collect()
            }
            Need::Bind(address) => address_rules::bind_causes(sandbox, address),
            Need::Reach(address) => address_rules::traffic_causes(sandbox, address),
            Need::Family(number) => self.family_words(number),
            Need::Namespaces(flags) => self.namespace_words(flags),
            Need::SetIdMode => {
                let implied = is_on(settings, Directive::DynamicUser)
                    .map(|word| (word, withheld("forbids ", ": it implies RestrictSUIDSGID=yes")));
                let own = is_on(settings, Directive::RestrictSUIDSGID).map(|word| (word, withheld("forbids ", "")));
                own.into_iter().chain(implied).collect()
            }
            Need::Scheduling(policy) if !ORDINARY_POLICIES.contains(&policy) => {
                let own = is_on(settings, Directive::RestrictRealtime);
                own.into_iter().map(|word| (word, withheld("forbids ", ""))).collect()
            }
            // The unit's own domain, without `Personality=`.
            Need::Personality(domain) if domain != 0 => {
                let own = is_on(settings, Directive::LockPersonality);
                own.into_iter().map(|word| (word, withheld("forbids ", ""))).collect()
            }
            Need::Scheduling(_) | Need::Personality(_) => Vec::new(),
        }
    }

    fn namespace_words(&self, flags: u32) -> Vec<(SandboxWord, Withheld)> {
        let restricting = self.settings.namespaces().filter(|namespaces| {
            let is_denied = |name: &str| !namespaces.retained.contains(&name);
            // `setns(2)` without a type is denied with any type (`seccomp_restrict_namespaces`).
            namespaces.restricts() && (flags == 0 || Namespaces::names(flags).any(is_denied))
        });
        let word = restricting.map(|namespaces| SandboxWord {
            directive: Directive::RestrictNamespaces,
            text: "".into(),
            origin: namespaces.origin.clone(),
        });
        word.into_iter().map(|word| (word, withheld("forbids ", ""))).collect()
    }

    fn family_words(&self, number: u16) -> Vec<(SandboxWord, Withheld)> {
        let directive = Directive::RestrictAddressFamilies;
        let (Some(families), Some(name)) = (self.families(), family_name(number)) else { return Vec::new() };
        let listed = families.listed.get(name);
        match (families.allow_list, listed) {
            (true, None) => {
                let word = SandboxWord { directive, text: "".into(), origin: families.first_line.clone() };
                vec![(word, withheld("this list lacks ", ""))]
            }
            (false, Some(origin)) => {
                let word = SandboxWord { directive, text: name.into(), origin: origin.clone() };
                vec![(word, withheld("denies ", ""))]
            }
            _ => Vec::new(),
        }
    }
}

fn cause_of_word(word: SandboxWord, withheld: Withheld, effect: Option<Effect>) -> DirectiveCause {
    let why = CauseReason::Withheld(Withheld { word: word.text, ..withheld });
    DirectiveCause { directive: word.directive, origin: Some(word.origin), effect, why }
}

fn word_of_mount(cause: MountCause, before: &'static str, after: &str) -> (SandboxWord, Withheld) {
    let implied = cause.implied.map_or_else(String::new, |implied| format!(": {implied}"));
    (cause.word, withheld(before, &format!("{after}{implied}")))
}

#[cfg(test)]
mod tests;
