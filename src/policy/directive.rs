//! The table of directives that bear on seccomp. A row gives a directive's key, the form of its value, its treatment in
//! a rehearsal, and its effects on calls. Every other list of directives derives from this table.
//!
//! Sources of the table: `systemd.exec(5)`, `org.freedesktop.systemd1(5)`, and `seccomp-util.c` and `exec-invoke.c` of
//! systemd 255. Systems with 252, 257 and 262 behave as the table says (`tests/kernel_oracle.rs`). systemd has had all
//! of these directives since version 247.

use super::effect::Effect;

const EPERM: Effect = Effect::Errno(libc::EPERM);
const ENOSYS: Effect = Effect::Errno(libc::ENOSYS);

/// Defines [`Directive`], [`Directive::ALL`] and [`Directive::spec`] from the rows of the table. A row that lacks a
/// field does not compile.
macro_rules! directives {
    ($($(#[$doc:meta])+ $name:ident { value: $value:ident, rehearsal: $rehearsal:ident, rules: $rules:expr })+) => {
        /// A setting that decides which calls pass. Variants are in the order in which systemd installs their filters:
        /// the last of several equally strong actions decides. Directives that install no filter come first.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Directive {
            $($(#[$doc])+ $name,)+
        }

        impl Directive {
            /// Every directive, in order.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The directive's row in the table.
            #[must_use]
            pub const fn spec(self) -> DirectiveSpec {
                match self {
                    $(Self::$name => DirectiveSpec {
                        key: stringify!($name),
                        value: ValueKind::$value,
                        rehearsal: InRehearsal::$rehearsal,
                        rules: const { $rules },
                    },)+
                }
            }
        }
    };
}

directives! {
    /// Allocates a user while the unit runs. Implies `RestrictSUIDSGID=`.
    // The unit's files belong to that user, so the unit could not run without the directive.
    DynamicUser { value: Switch, rehearsal: KeepsOn, rules: &[] }

    /// Sets the effect on calls that `SystemCallFilter=` denies.
    // The directive filters nothing by itself.
    SystemCallErrorNumber { value: ErrorNumber, rehearsal: KeepsOn, rules: &[] }

    /// Protects the host and domain name.
    ProtectHostname { value: Switch, rehearsal: LiftsMoreThanCalls, rules: &[
        Rule::calls(&["sethostname", "setdomainname"], EPERM, "the host name stays as it is"),
    ] }

    /// Lists socket address families.
    RestrictAddressFamilies { value: AddressFamilies, rehearsal: Lifts, rules: &[] }

    /// Forbids memory that is writable and executable.
    MemoryDenyWriteExecute { value: Switch, rehearsal: Lifts, rules: &[
        Rule::calls(&["mmap", "mmap2"], EPERM, "no code is made at run time")
            .with("memory both writable and executable"),
        Rule::calls(&["mprotect", "pkey_mprotect"], EPERM, "no code is made at run time")
            .with("memory made executable"),
        Rule::calls(&["shmat"], EPERM, "no code is made at run time").with("SHM_EXEC"),
    ] }

    /// Forbids realtime scheduling.
    RestrictRealtime { value: Switch, rehearsal: Lifts, rules: &[
        Rule::calls(&["sched_setscheduler"], EPERM, "realtime tasks can starve the system")
            .with("a policy other than SCHED_OTHER, SCHED_BATCH and SCHED_IDLE"),
        Rule::calls(&["sched_setattr"], EPERM, "its policy is in memory, where seccomp cannot look")
            .since(Introduced::Between { absent: 257, present: 262 }),
    ] }

    /// Forbids set-uid and set-gid bits.
    RestrictSUIDSGID { value: Switch, rehearsal: Lifts, rules: &[
        Rule::calls(
            &["chmod", "fchmod", "fchmodat", "mkdir", "mkdirat", "mknod", "mknodat", "creat"],
            EPERM,
            "no set-uid or set-gid files are made",
        )
        .with("a mode with the set-uid or set-gid bit"),
        Rule::calls(&["fchmodat2"], EPERM, "no set-uid or set-gid files are made").with(
            "a mode with the set-uid or set-gid bit; any mode, with ENOSYS, where libseccomp does not know the call",
        ),
        Rule::calls(&["open", "openat"], EPERM, "no set-uid or set-gid files are made")
            .with("O_CREAT and a mode with the set-uid or set-gid bit"),
        Rule::calls(&["openat2"], ENOSYS, "its mode is in memory, where seccomp cannot look"),
    ] }

    /// Lists namespaces.
    // `Policy::verdict` appends the namespaces that the unit's lines allow to the text in `with`.
    RestrictNamespaces { value: Namespaces, rehearsal: Lifts, rules: &[
        Rule::calls(&["unshare", "clone"], EPERM, "no namespaces but those listed")
            .with("flags of a namespace that is not allowed"),
        Rule::calls(&["setns"], EPERM, "no namespaces but those listed")
            .with("no type, or one of a namespace that is not allowed"),
        Rule::calls(&["clone3"], ENOSYS, "its flags are in memory, where seccomp cannot look"),
    ] }

    /// Protects `/proc/sys`, and filters the obsolete call `_sysctl`.
    // A rehearsal would gain nothing by lifting it: Linux has not had the call since 5.5.
    ProtectKernelTunables { value: Switch, rehearsal: KeepsOn, rules: &[
        Rule::calls(&["_sysctl"], EPERM, "kernel variables are not changed"),
    ] }

    /// Forbids kernel modules.
    ProtectKernelModules { value: Switch, rehearsal: LiftsMoreThanCalls, rules: &[
        Rule::group("@module", "no kernel modules are loaded or unloaded"),
    ] }

    /// Hides the kernel log.
    ProtectKernelLogs { value: Switch, rehearsal: LiftsMoreThanCalls, rules: &[
        Rule::calls(&["syslog"], EPERM, "the kernel log is not read or cleared"),
    ] }

    /// Protects the clock.
    ProtectClock { value: Switch, rehearsal: LiftsMoreThanCalls, rules: &[
        Rule::group("@clock", "the clock is not set"),
    ] }

    /// Hides device nodes, and forbids raw I/O.
    PrivateDevices { value: Switch, rehearsal: LiftsMoreThanCalls, rules: &[
        Rule::group("@raw-io", "no I/O ports or PCI configuration space"),
    ] }

    /// Lists the ABIs whose calls pass.
    // The directive kills, so each of its denials leaves a record even without a rehearsal.
    SystemCallArchitectures { value: Architectures, rehearsal: KeepsOn, rules: &[] }

    /// Locks the execution domain.
    LockPersonality { value: Switch, rehearsal: Lifts, rules: &[
        Rule::calls(&["personality"], EPERM, "the execution domain stays as it is")
            .with("an execution domain other than the unit's"),
    ] }

    /// Lists calls that are logged and pass.
    SystemCallLog { value: Calls, rehearsal: Replaces, rules: &[] }

    /// Lists calls that pass, or that do not.
    SystemCallFilter { value: Calls, rehearsal: Lifts, rules: &[] }
}

/// A directive's row in the table: the facts that hold in every unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectiveSpec {
    /// The key in unit files, without `=`, which is also the name of the D-Bus property.
    pub key: &'static str,
    /// The form of its value.
    pub value: ValueKind,
    /// What a rehearsal does with it.
    pub rehearsal: InRehearsal,
    /// The directive's effects on calls when it is set. A directive whose value lists calls, families or ABIs has no
    /// rules.
    pub(crate) rules: &'static [Rule],
}

/// The form of a directive's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Yes or no.
    Switch,
    /// An error's name or number, or `kill`.
    ErrorNumber,
    /// Yes, no, or the allowed namespaces; after `~` the namespaces that are not allowed.
    Namespaces,
    /// The address families that pass; after `~` the families that do not pass.
    AddressFamilies,
    /// ABIs.
    Architectures,
    /// Calls and groups of calls.
    Calls,
}

impl ValueKind {
    /// The type of the D-Bus property (`org.freedesktop.systemd1(5)`).
    #[must_use]
    pub fn bus_signature(self) -> &'static str {
        match self {
            Self::Switch => "b",
            Self::ErrorNumber => "i",
            Self::Namespaces => "t",
            Self::AddressFamilies | Self::Calls => "(bas)",
            Self::Architectures => "as",
        }
    }

    /// The value in a unit file that undoes earlier lines.
    #[must_use]
    pub fn lifting_value(self) -> &'static str {
        match self {
            Self::Switch | Self::Namespaces => "no",
            Self::ErrorNumber | Self::AddressFamilies | Self::Architectures | Self::Calls => "",
        }
    }
}

/// What a rehearsal does with a directive that is set. A rehearsal lets denied calls pass and logs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InRehearsal {
    /// It lifts the directive, which only filters calls.
    Lifts,
    /// It lifts the directive, including the effects on files, devices or capabilities: systemd cannot lift the filter
    /// alone.
    LiftsMoreThanCalls,
    /// It replaces the unit's own lines with others.
    Replaces,
    /// It keeps the directive on, for the reason in the table's comment.
    KeepsOn,
}

/// A directive's effect on some calls when it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The calls that the rule is about.
    pub(crate) targets: Targets,
    /// What happens to them.
    pub(crate) effect: Effect,
    /// The arguments that the rule denies; `None` if it denies the call whatever the arguments.
    pub(crate) argument: Option<&'static str>,
    /// Why systemd denies them.
    pub(crate) reason: &'static str,
    /// The versions of systemd that have the rule.
    pub(crate) since: Introduced,
}

/// The calls that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Targets {
    /// Calls by name.
    Calls(&'static [&'static str]),
    /// A group, as the unit's systemd defines it.
    Group(&'static str),
}

/// The version of systemd that introduced a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Introduced {
    /// The version that introduced the directive.
    WithDirective,
    /// An unknown version after `absent`, at the latest `present`.
    Between {
        /// The newest tested version that lacks the rule.
        absent: u32,
        /// The oldest tested version that has the rule.
        present: u32,
    },
}

impl Rule {
    const fn calls(calls: &'static [&'static str], effect: Effect, reason: &'static str) -> Self {
        let since = Introduced::WithDirective;
        Self { targets: Targets::Calls(calls), effect, argument: None, reason, since }
    }

    const fn group(group: &'static str, reason: &'static str) -> Self {
        Self { targets: Targets::Group(group), ..Self::calls(&[], EPERM, reason) }
    }

    const fn with(self, argument: &'static str) -> Self {
        Self { argument: Some(argument), ..self }
    }

    const fn since(self, since: Introduced) -> Self {
        Self { since, ..self }
    }
}

impl Directive {
    /// The key in unit files, without `=`.
    #[must_use]
    pub fn key(self) -> &'static str {
        self.spec().key
    }

    /// Returns the directive that has a key. Keys are case-sensitive.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|directive| directive.key() == key)
    }

    /// Whether its value is yes or no.
    #[must_use]
    pub fn is_switch(self) -> bool {
        self.spec().value == ValueKind::Switch
    }

    /// Whether a rehearsal can lift it.
    #[must_use]
    pub fn is_liftable(self) -> bool {
        matches!(self.spec().rehearsal, InRehearsal::Lifts | InRehearsal::LiftsMoreThanCalls)
    }

    /// The directives that a rehearsal can lift, in order.
    pub fn liftable() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|directive| directive.is_liftable())
    }

    /// The directives whose value is yes or no, in order.
    pub fn switches() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|directive| directive.is_switch())
    }

    /// Every rule with its directive, in the directives' order.
    pub(crate) fn rules() -> impl Iterator<Item = (Self, &'static Rule)> {
        Self::ALL.iter().flat_map(|directive| directive.spec().rules.iter().map(move |rule| (*directive, rule)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directive_is_found_by_its_exact_key() {
        for directive in Directive::ALL {
            assert_eq!(Directive::from_key(directive.key()), Some(*directive));
        }
        assert_eq!(Directive::from_key("systemcallfilter"), None);
    }

    #[test]
    fn directives_are_listed_in_the_order_of_their_filters() {
        assert!(Directive::ALL.is_sorted());
        assert_eq!(Directive::ALL.last(), Some(&Directive::SystemCallFilter));
    }

    #[test]
    fn every_switch_has_rules_or_implies_a_directive_with_rules() {
        for directive in Directive::switches().filter(|directive| *directive != Directive::DynamicUser) {
            assert!(!directive.spec().rules.is_empty(), "{directive:?}");
        }
        assert!(!Directive::RestrictSUIDSGID.spec().rules.is_empty());
    }

    #[test]
    fn rehearsal_lifts_only_directives_that_filter_calls() {
        let filters = |directive: &Directive| {
            let lists = matches!(directive.spec().value, ValueKind::AddressFamilies | ValueKind::Calls);
            lists || !directive.spec().rules.is_empty()
        };
        assert!(Directive::liftable().all(|directive| filters(&directive)));
    }

    #[test]
    fn rehearsal_lifts_all_but_five_directives() {
        let kept: Vec<&str> =
            Directive::ALL.iter().filter(|directive| !directive.is_liftable()).map(|kept| kept.key()).collect();
        let expected = [
            "DynamicUser",
            "SystemCallErrorNumber",
            "ProtectKernelTunables",
            "SystemCallArchitectures",
            "SystemCallLog",
        ];
        assert_eq!(kept, expected);
    }
}
