//! The directives that install seccomp filters, and what each does to which calls.
//!
//! Source of the table: `systemd.exec(5)`, and `seccomp-util.c` and `exec-invoke.c` of systemd 255,
//! seen to act so on running systems with 252, 257 and 262 (`tests/kernel_oracle.rs`).

use super::effect::Effect;

/// A setting that bears on which calls pass, in the order systemd installs the filters: of equally
/// strong actions the last one installed decides. Those that install none themselves come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Directive {
    /// Implies `RestrictSUIDSGID=`.
    DynamicUser,
    /// What happens to calls `SystemCallFilter=` denies.
    SystemCallErrorNumber,
    /// Host and domain name.
    ProtectHostname,
    /// Socket address families.
    RestrictAddressFamilies,
    /// Memory that is writable and executable.
    MemoryDenyWriteExecute,
    /// Realtime scheduling.
    RestrictRealtime,
    /// Set-uid and set-gid bits.
    RestrictSUIDSGID,
    /// Namespaces.
    RestrictNamespaces,
    /// `/proc/sys` and the obsolete call for it.
    ProtectKernelTunables,
    /// Kernel modules.
    ProtectKernelModules,
    /// The kernel log.
    ProtectKernelLogs,
    /// The clock.
    ProtectClock,
    /// Device nodes and raw I/O.
    PrivateDevices,
    /// Calls of other ABIs.
    SystemCallArchitectures,
    /// Execution domain.
    LockPersonality,
    /// Calls logged and allowed.
    SystemCallLog,
    /// Calls by name.
    SystemCallFilter,
}

impl Directive {
    /// Every directive, in order.
    pub const ALL: [Self; 17] = [
        Self::DynamicUser,
        Self::SystemCallErrorNumber,
        Self::ProtectHostname,
        Self::RestrictAddressFamilies,
        Self::MemoryDenyWriteExecute,
        Self::RestrictRealtime,
        Self::RestrictSUIDSGID,
        Self::RestrictNamespaces,
        Self::ProtectKernelTunables,
        Self::ProtectKernelModules,
        Self::ProtectKernelLogs,
        Self::ProtectClock,
        Self::PrivateDevices,
        Self::SystemCallArchitectures,
        Self::LockPersonality,
        Self::SystemCallLog,
        Self::SystemCallFilter,
    ];

    /// The key in unit files, without `=`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::DynamicUser => "DynamicUser",
            Self::SystemCallErrorNumber => "SystemCallErrorNumber",
            Self::ProtectHostname => "ProtectHostname",
            Self::RestrictAddressFamilies => "RestrictAddressFamilies",
            Self::MemoryDenyWriteExecute => "MemoryDenyWriteExecute",
            Self::RestrictRealtime => "RestrictRealtime",
            Self::RestrictSUIDSGID => "RestrictSUIDSGID",
            Self::RestrictNamespaces => "RestrictNamespaces",
            Self::ProtectKernelTunables => "ProtectKernelTunables",
            Self::ProtectKernelModules => "ProtectKernelModules",
            Self::ProtectKernelLogs => "ProtectKernelLogs",
            Self::ProtectClock => "ProtectClock",
            Self::PrivateDevices => "PrivateDevices",
            Self::SystemCallArchitectures => "SystemCallArchitectures",
            Self::LockPersonality => "LockPersonality",
            Self::SystemCallLog => "SystemCallLog",
            Self::SystemCallFilter => "SystemCallFilter",
        }
    }

    /// The directive of a key; keys are case-sensitive.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|directive| directive.key() == key)
    }

    /// Whether its value is yes or no.
    #[must_use]
    pub fn is_switch(self) -> bool {
        !matches!(
            self,
            Self::SystemCallErrorNumber
                | Self::RestrictAddressFamilies
                | Self::RestrictNamespaces
                | Self::SystemCallArchitectures
                | Self::SystemCallLog
                | Self::SystemCallFilter
        )
    }
}

/// The calls a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Targets {
    /// By name.
    Calls(&'static [&'static str]),
    /// A group of the systemd in question.
    Group(&'static str),
}

/// What a directive that is switched on does to some calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Which directive.
    pub directive: Directive,
    /// To which calls.
    pub targets: Targets,
    /// With what effect.
    pub effect: Effect,
    /// Which arguments are denied; `None` if the call is denied whatever its arguments.
    pub argument: Option<&'static str>,
    /// Why systemd does it.
    pub reason: &'static str,
    /// Which systemds do it.
    pub since: Since,
}

/// From which systemd on a rule holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// All that have the directive.
    Ever,
    /// Not seen with the first version, seen with the second; of those between it is not known.
    Between(u32, u32),
}

const EPERM: Effect = Effect::Errno(libc::EPERM);
const ENOSYS: Effect = Effect::Errno(libc::ENOSYS);

/// The switches' rules. Directives with a list of values are worked out from the list.
pub const RULES: [Rule; 19] = [
    rule(Directive::ProtectHostname, &["sethostname", "setdomainname"], EPERM, None, "the host name stays as it is"),
    rule(
        Directive::MemoryDenyWriteExecute,
        &["mmap", "mmap2"],
        EPERM,
        Some("memory both writable and executable"),
        "no code is made at run time",
    ),
    rule(
        Directive::MemoryDenyWriteExecute,
        &["mprotect", "pkey_mprotect"],
        EPERM,
        Some("memory made executable"),
        "no code is made at run time",
    ),
    rule(Directive::MemoryDenyWriteExecute, &["shmat"], EPERM, Some("SHM_EXEC"), "no code is made at run time"),
    rule(
        Directive::RestrictRealtime,
        &["sched_setscheduler"],
        EPERM,
        Some("a policy other than SCHED_OTHER, SCHED_BATCH and SCHED_IDLE"),
        "realtime tasks can starve the system",
    ),
    Rule {
        since: Since::Between(257, 262),
        ..rule(
            Directive::RestrictRealtime,
            &["sched_setattr"],
            EPERM,
            None,
            "its policy is in memory, where seccomp cannot look",
        )
    },
    rule(
        Directive::RestrictSUIDSGID,
        &["chmod", "fchmod", "fchmodat", "mkdir", "mkdirat", "mknod", "mknodat", "creat"],
        EPERM,
        Some("a mode with the set-uid or set-gid bit"),
        "no set-uid or set-gid files are made",
    ),
    rule(
        Directive::RestrictSUIDSGID,
        &["fchmodat2"],
        EPERM,
        Some("a mode with the set-uid or set-gid bit; any mode, with ENOSYS, where libseccomp does not know the call"),
        "no set-uid or set-gid files are made",
    ),
    rule(
        Directive::RestrictSUIDSGID,
        &["open", "openat"],
        EPERM,
        Some("O_CREAT and a mode with the set-uid or set-gid bit"),
        "no set-uid or set-gid files are made",
    ),
    rule(Directive::RestrictSUIDSGID, &["openat2"], ENOSYS, None, "its mode is in memory, where seccomp cannot look"),
    rule(Directive::ProtectKernelTunables, &["_sysctl"], EPERM, None, "kernel variables stay as they are"),
    group(Directive::ProtectKernelModules, "@module", "no kernel modules are loaded or unloaded"),
    rule(Directive::ProtectKernelLogs, &["syslog"], EPERM, None, "the kernel log is not read or cleared"),
    group(Directive::ProtectClock, "@clock", "the clock is not set"),
    group(Directive::PrivateDevices, "@raw-io", "no I/O ports or PCI configuration space"),
    rule(
        Directive::LockPersonality,
        &["personality"],
        EPERM,
        Some("an execution domain other than the unit's"),
        "the execution domain stays as it is",
    ),
    rule(
        Directive::RestrictNamespaces,
        &["unshare", "clone"],
        EPERM,
        Some("flags of a namespace that is not allowed"),
        "no namespaces but those listed",
    ),
    rule(
        Directive::RestrictNamespaces,
        &["setns"],
        EPERM,
        Some("no type, or one of a namespace that is not allowed"),
        "no namespaces but those listed",
    ),
    rule(
        Directive::RestrictNamespaces,
        &["clone3"],
        ENOSYS,
        None,
        "its flags are in memory, where seccomp cannot look",
    ),
];

const fn rule(
    directive: Directive,
    calls: &'static [&'static str],
    effect: Effect,
    argument: Option<&'static str>,
    reason: &'static str,
) -> Rule {
    Rule { directive, targets: Targets::Calls(calls), effect, argument, reason, since: Since::Ever }
}

const fn group(directive: Directive, group: &'static str, reason: &'static str) -> Rule {
    Rule { directive, targets: Targets::Group(group), effect: EPERM, argument: None, reason, since: Since::Ever }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_directives_agree() {
        for directive in Directive::ALL {
            assert_eq!(Directive::from_key(directive.key()), Some(directive));
        }
        assert_eq!(Directive::from_key("systemcallfilter"), None);
        assert!(Directive::ALL.is_sorted());
    }

    #[test]
    fn every_switch_has_a_rule_or_implies_one() {
        for directive in Directive::ALL.into_iter().filter(|d| d.is_switch() && *d != Directive::DynamicUser) {
            assert!(RULES.iter().any(|rule| rule.directive == directive), "{directive:?}");
        }
    }
}
