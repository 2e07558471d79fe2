//! The exit statuses by which systemd says that it could not execute a unit's program, and the lines that it applies in
//! each step (`systemd.exec(5)`, PROCESS EXIT CODES; `exit-status.c` and `exec-invoke.c`).

/// A step before a program is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExitStep {
    /// The exit status of a process that failed in it.
    pub(crate) status: u8,
    /// Its name in messages.
    pub(crate) name: &'static str,
    /// The keys of the lines that it applies; none if a step applies none, or if the lines need a closer look.
    pub(super) keys: &'static [&'static str],
}

/// Defines the table of steps.
macro_rules! steps {
    ($($status:literal $name:literal [$($key:literal)*])+) => {
        const STEPS: &[ExitStep] = &[$(ExitStep { status: $status, name: $name, keys: &[$($key),*] }),+];
    };
}

steps! {
    200 "CHDIR" ["WorkingDirectory"]
    201 "NICE" ["Nice"]
    202 "FDS" []
    203 "EXEC" []
    204 "MEMORY" []
    205 "LIMITS" ["Limit*"]
    206 "OOM_ADJUST" ["OOMScoreAdjust"]
    207 "SIGNAL_MASK" []
    208 "STDIN" ["StandardInput"]
    209 "STDOUT" ["StandardOutput"]
    210 "CHROOT" ["RootDirectory" "RootImage"]
    211 "IOPRIO" ["IOSchedulingClass" "IOSchedulingPriority"]
    212 "TIMERSLACK" ["TimerSlackNSec"]
    213 "SECUREBITS" ["SecureBits"]
    214 "SETSCHEDULER" ["CPUSchedulingPolicy" "CPUSchedulingPriority"]
    215 "CPUAFFINITY" ["CPUAffinity"]
    216 "GROUP" ["Group" "SupplementaryGroups"]
    217 "USER" ["User" "DynamicUser"]
    218 "CAPABILITIES" ["CapabilityBoundingSet" "AmbientCapabilities"]
    219 "CGROUP" []
    220 "SETSID" []
    221 "CONFIRM" []
    222 "STDERR" ["StandardError"]
    224 "PAM" ["PAMName"]
    225 "NETWORK" ["PrivateNetwork" "NetworkNamespacePath"]
    226 "NAMESPACE" []
    227 "NO_NEW_PRIVILEGES" ["NoNewPrivileges"]
    228 "SECCOMP" []
    229 "SELINUX_CONTEXT" ["SELinuxContext"]
    230 "PERSONALITY" ["Personality"]
    231 "APPARMOR" ["AppArmorProfile"]
    232 "ADDRESS_FAMILIES" ["RestrictAddressFamilies"]
    233 "RUNTIME_DIRECTORY" ["RuntimeDirectory"]
    235 "CHOWN" []
    236 "SMACK_PROCESS_LABEL" ["SmackProcessLabel"]
    237 "KEYRING" ["KeyringMode"]
    238 "STATE_DIRECTORY" ["StateDirectory"]
    239 "CACHE_DIRECTORY" ["CacheDirectory"]
    240 "LOGS_DIRECTORY" ["LogsDirectory"]
    241 "CONFIGURATION_DIRECTORY" ["ConfigurationDirectory"]
    242 "NUMA_POLICY" ["NUMAPolicy" "NUMAMask"]
    243 "CREDENTIALS" [
        "LoadCredential" "LoadCredentialEncrypted" "ImportCredential"
    ]
    245 "BPF" ["RestrictFileSystems"]
}

/// What systemd says that it tried, the step, and the keys of the lines that it then applied.
const TRIED: [(&str, u8, &[&str]); 25] = [
    ("set up IPC namespacing", 226, &["PrivateIPC", "IPCNamespacePath"]),
    ("set up UTS namespacing", 226, &["ProtectHostname"]),
    ("set up mount namespacing", 226, &[]),
    ("set up user namespacing", 217, &["PrivateUsers"]),
    ("determine user credentials", 217, &["User", "DynamicUser"]),
    ("determine group credentials", 216, &["Group"]),
    ("determine supplementary groups", 216, &["SupplementaryGroups", "Group", "User"]),
    ("drop capabilities", 218, &["CapabilityBoundingSet"]),
    ("apply ambient capabilities", 218, &["AmbientCapabilities"]),
    ("restrict address families", 232, &["RestrictAddressFamilies"]),
    ("disable writing to executable memory", 228, &["MemoryDenyWriteExecute"]),
    ("apply realtime restrictions", 228, &["RestrictRealtime"]),
    ("apply SUID/SGID restrictions", 228, &["RestrictSUIDSGID", "DynamicUser"]),
    ("apply namespace restrictions", 228, &["RestrictNamespaces"]),
    ("apply sysctl restrictions", 228, &["ProtectKernelTunables"]),
    ("apply module loading restrictions", 228, &["ProtectKernelModules"]),
    ("apply kernel log restrictions", 228, &["ProtectKernelLogs"]),
    ("apply clock restrictions", 228, &["ProtectClock"]),
    ("set up private devices", 228, &["PrivateDevices"]),
    ("apply hostname restrictions", 228, &["ProtectHostname"]),
    ("apply syscall architecture restrictions", 228, &["SystemCallArchitectures"]),
    ("lock personalities", 228, &["LockPersonality"]),
    ("apply system call log filters", 228, &["SystemCallLog"]),
    ("apply system call filters", 228, &["SystemCallFilter"]),
    ("Changing to the requested working directory", 200, &["WorkingDirectory"]),
];

/// What systemd says about a program that it could not execute.
const EXECUTED: [&str; 2] = ["locate executable", "execute"];

/// Returns the step with an exit status.
#[must_use]
pub(crate) fn find_step(status: u8) -> Option<ExitStep> {
    STEPS.iter().find(|step| step.status == status).copied()
}

/// Returns the step of a failed attempt of systemd's, and the keys that its words name; no keys if they name none.
pub(super) fn find_tried(tried: &str) -> Option<(ExitStep, &'static [&'static str])> {
    if let Some(step) = STEPS.iter().find(|step| step.name == tried) {
        return Some((*step, &[]));
    }
    if EXECUTED.contains(&tried) {
        return Some((find_step(203)?, &[]));
    }
    let (_, status, keys) = TRIED.iter().find(|(words, ..)| tried.starts_with(words))?;
    Some((find_step(*status)?, keys))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Directive, Settings, UnitFile};
    use std::path::Path;

    #[test]
    fn steps_are_in_order_and_every_attempt_has_one() {
        assert!(STEPS.is_sorted_by_key(|step| step.status));
        assert!(TRIED.iter().all(|(words, ..)| find_tried(words).is_some()));
        assert_eq!(find_tried("NAMESPACE").map(|(step, _)| step.status), Some(226));
        assert_eq!(
            find_tried("apply ambient capabilities (before UID change)").map(|(step, _)| step.status),
            Some(218)
        );
        assert_eq!((find_tried("kill control group"), find_step(223), find_step(1)), (None, None, None));
    }

    /// A key that the settings leave out would never be found.
    #[test]
    fn every_key_is_kept_in_settings() {
        let keys = STEPS.iter().flat_map(|step| step.keys).chain(TRIED.iter().flat_map(|(.., keys)| *keys));
        for key in keys {
            let line = key.replace('*', "NOFILE");
            let file = UnitFile::parse(Path::new("/x"), format!("[Service]\n{line}=1\n").as_bytes());
            let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
            assert_eq!(settings.lines_in_force(key).len(), 1, "{key}");
            assert!(Directive::from_key(key).is_none_or(|directive| directive.key() == *key));
        }
    }
}
