//! The table of directives that deny calls, or what calls ask for. A row gives a directive's key, the form of its value,
//! its treatment in a rehearsal, and its effects on calls. Every other list of directives derives from this table.
//!
//! Sources of the table: `systemd.exec(5)`, `org.freedesktop.systemd1(5)`, and `seccomp-util.c` and `exec-invoke.c` of
//! systemd 255. Systems with 252, 257 and 262 behave as the table says (`tests/kernel_oracle.rs`). systemd 249, the oldest
//! that is supported, has all of these directives.

mod rule;
mod value_kind;

pub(crate) use rule::{Introduced, Rule, Targets};
pub use value_kind::ValueKind;

use rule::{ENOSYS, EPERM};

/// Defines [`Directive`], [`Directive::ALL`] and [`Directive::spec`] from the rows of the table. A row that lacks a
/// field does not compile.
macro_rules! directives {
    ($($(#[$doc:meta])+ $name:ident { value: $value:ident, rehearsal: $rehearsal:ident, rules: $rules:expr })+) => {
        /// A setting that decides which calls pass, or what they can reach. Variants are in the order in which systemd
        /// installs their filters: the last of several equally strong actions decides. Directives that install no filter
        /// come first.
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
    // These withhold paths, capabilities, devices and addresses, and filter no calls.

    /// Makes the system's directories read-only.
    ProtectSystem { value: Word, rehearsal: KeepsOn, rules: &[] }

    /// Hides users' directories, or makes them read-only.
    ProtectHome { value: Word, rehearsal: KeepsOn, rules: &[] }

    /// Gives the unit a `/tmp` and a `/var/tmp` of its own.
    PrivateTmp { value: Toggle, rehearsal: KeepsOn, rules: &[] }

    /// Makes the control groups read-only.
    ProtectControlGroups { value: Toggle, rehearsal: KeepsOn, rules: &[] }

    /// Hides other users' processes.
    ProtectProc { value: Word, rehearsal: KeepsOn, rules: &[] }

    /// Hides what `/proc` has besides processes.
    ProcSubset { value: Word, rehearsal: KeepsOn, rules: &[] }

    /// Puts empty file systems over paths.
    TemporaryFileSystem { value: Mounts, rehearsal: KeepsOn, rules: &[] }

    /// Shows paths at other places.
    BindPaths { value: Binds, rehearsal: KeepsOn, rules: &[] }

    /// Shows paths at other places, read-only.
    BindReadOnlyPaths { value: Binds, rehearsal: KeepsOn, rules: &[] }

    /// Hides paths.
    InaccessiblePaths { value: Paths, rehearsal: KeepsOn, rules: &[] }

    /// Makes paths read-only.
    ReadOnlyPaths { value: Paths, rehearsal: KeepsOn, rules: &[] }

    /// Keeps paths writable.
    ReadWritePaths { value: Paths, rehearsal: KeepsOn, rules: &[] }

    /// Lists paths from which no program is executed.
    NoExecPaths { value: Paths, rehearsal: KeepsOn, rules: &[] }

    /// Lists paths from which programs are executed.
    ExecPaths { value: Paths, rehearsal: KeepsOn, rules: &[] }

    /// Makes directories below `/run`, and keeps them writable.
    RuntimeDirectory { value: Names, rehearsal: KeepsOn, rules: &[] }

    /// Makes directories below `/var/lib`, and keeps them writable.
    StateDirectory { value: Names, rehearsal: KeepsOn, rules: &[] }

    /// Makes directories below `/var/cache`, and keeps them writable.
    CacheDirectory { value: Names, rehearsal: KeepsOn, rules: &[] }

    /// Makes directories below `/var/log`, and keeps them writable.
    LogsDirectory { value: Names, rehearsal: KeepsOn, rules: &[] }

    /// Names the user of the unit's processes. Another user than root starts without capabilities.
    User { value: Word, rehearsal: KeepsOn, rules: &[] }

    /// Limits the capabilities of all processes.
    CapabilityBoundingSet { value: Capabilities, rehearsal: KeepsOn, rules: &[] }

    /// Lists the capabilities that a program of another user than root starts with.
    AmbientCapabilities { value: Capabilities, rehearsal: KeepsOn, rules: &[] }

    /// Sets which devices are usable besides those of `DeviceAllow=`.
    DevicePolicy { value: Word, rehearsal: KeepsOn, rules: &[] }

    /// Lists devices.
    DeviceAllow { value: Devices, rehearsal: KeepsOn, rules: &[] }

    /// Disables set-user-ID and set-group-ID bits and file capabilities.
    NoNewPrivileges { value: Toggle, rehearsal: KeepsOn, rules: &[] }

    /// Runs the unit in a user namespace of its own.
    PrivateUsers { value: Toggle, rehearsal: KeepsOn, rules: &[] }

    /// Lists ports to which sockets can be bound.
    SocketBindAllow { value: SocketBinds, rehearsal: KeepsOn, rules: &[] }

    /// Lists ports to which no socket can be bound.
    SocketBindDeny { value: SocketBinds, rehearsal: KeepsOn, rules: &[] }

    /// Lists addresses that can be reached.
    IPAddressAllow { value: Addresses, rehearsal: KeepsOn, rules: &[] }

    /// Lists addresses that cannot be reached.
    IPAddressDeny { value: Addresses, rehearsal: KeepsOn, rules: &[] }

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
    /// It keeps the directive on.
    KeepsOn,
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

    /// Whether it decides on calls by a filter. Others withhold paths, capabilities, devices or addresses.
    #[must_use]
    pub fn filters_calls(self) -> bool {
        use ValueKind as Kind;
        matches!(
            self.spec().value,
            Kind::Switch
                | Kind::ErrorNumber
                | Kind::Namespaces
                | Kind::AddressFamilies
                | Kind::Architectures
                | Kind::Calls
        )
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
    fn rehearsal_lifts_all_filters_but_five() {
        let filters = Directive::ALL.iter().filter(|directive| directive.filters_calls());
        let kept: Vec<&str> = filters.filter(|directive| !directive.is_liftable()).map(|kept| kept.key()).collect();
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
