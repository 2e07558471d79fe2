//! Verdicts of every directive, alone and with others.

use super::*;
use crate::policy::manager_context::{ManagerContext, manager_architectures};
use crate::policy::settings::Settings;
use crate::policy::unit_file::UnitFile;
use crate::syscalls::Groups;
use crate::syscalls::groups::GroupSource;
use std::path::Path;

const LISTING: &str = "\
@default
    exit

@clock
    settimeofday

@module
    init_module

@raw-io
    iopl

@known
    @default
    @clock
    @module
    @raw-io
    clone3
    socket
    personality
    setns
    chmod
    openat2
    read
";

fn policy(text: &str) -> Policy {
    let groups = Groups::parse(LISTING, GroupSource::Host("252".into())).unwrap().with_native(Abi::X86_64);
    let file = UnitFile::parse(Path::new("x"), format!("[Service]\n{text}").as_bytes());
    Policy::new(Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new()), &groups)
}

/// The verdict in one line, for example `EPERM ProtectClock@2`.
fn describe(text: &str, call: &str) -> String {
    let causes = |causes: &[DirectiveCause]| -> String {
        let words = causes.iter().map(|cause| match &cause.origin {
            Some(origin) => format!(" {}@{}", cause.directive.key(), origin.line),
            None => format!(" {}", cause.directive.key()),
        });
        words.collect()
    };
    match policy(text).verdict(Abi::X86_64, call) {
        Verdict::Permitted => "permitted".into(),
        Verdict::LogOnly { by } => format!("logged{}", causes(&[by])),
        Verdict::Possible { by } => format!("possible{}", causes(&by)),
        Verdict::Denied { effect, by, possible } if possible.is_empty() => format!("{effect}{}", causes(&by)),
        Verdict::Denied { effect, by, possible } => {
            format!("{effect}{} and perhaps{}", causes(&by), causes(&possible))
        }
    }
}

#[test]
fn every_directive_denies_its_calls() {
    for (line, call, verdict) in [
        ("", "read", "permitted"),
        ("ProtectHostname=yes", "sethostname", "EPERM ProtectHostname@2"),
        ("RestrictAddressFamilies=AF_UNIX", "socket", "possible RestrictAddressFamilies@2"),
        ("RestrictAddressFamilies=none", "socket", "EAFNOSUPPORT RestrictAddressFamilies@2"),
        ("RestrictAddressFamilies=~AF_UNIX", "socket", "possible RestrictAddressFamilies@2"),
        ("RestrictAddressFamilies=AF_UNIX", "read", "permitted"),
        ("MemoryDenyWriteExecute=yes", "mprotect", "possible MemoryDenyWriteExecute@2"),
        ("RestrictRealtime=yes", "sched_setscheduler", "possible RestrictRealtime@2"),
        ("RestrictSUIDSGID=yes", "chmod", "possible RestrictSUIDSGID@2"),
        ("RestrictSUIDSGID=yes", "openat2", "ENOSYS RestrictSUIDSGID@2"),
        ("DynamicUser=yes\nRestrictSUIDSGID=no", "openat2", "ENOSYS DynamicUser@2"),
        ("RestrictNamespaces=yes", "clone3", "ENOSYS RestrictNamespaces@2"),
        ("RestrictNamespaces=net", "clone3", "ENOSYS RestrictNamespaces@2"),
        ("RestrictNamespaces=no", "clone3", "permitted"),
        ("RestrictNamespaces=yes", "setns", "EPERM RestrictNamespaces@2"),
        ("RestrictNamespaces=net", "setns", "possible RestrictNamespaces@2"),
        ("RestrictNamespaces=yes", "clone", "possible RestrictNamespaces@2"),
        ("ProtectKernelTunables=yes", "_sysctl", "EPERM ProtectKernelTunables@2"),
        ("ProtectKernelModules=yes", "init_module", "EPERM ProtectKernelModules@2"),
        ("ProtectKernelLogs=yes", "syslog", "EPERM ProtectKernelLogs@2"),
        ("ProtectClock=yes", "settimeofday", "EPERM ProtectClock@2"),
        ("ProtectClock=no", "settimeofday", "permitted"),
        ("PrivateDevices=yes", "iopl", "EPERM PrivateDevices@2"),
        ("LockPersonality=yes", "personality", "possible LockPersonality@2"),
        ("SystemCallLog=read", "read", "logged SystemCallLog@2"),
        ("SystemCallLog=~read", "socket", "logged SystemCallLog@2"),
        ("SystemCallLog=~read", "read", "permitted"),
        ("SystemCallFilter=read", "socket", "kill SystemCallFilter@2"),
        ("SystemCallFilter=~read", "read", "kill SystemCallFilter@2"),
    ] {
        assert_eq!(describe(line, call), verdict, "{line}: {call}");
    }
}

#[test]
fn logged_call_is_explained_by_list_or_by_missing_exception() {
    let why = |text: &str, call: &str| match policy(text).verdict(Abi::X86_64, call) {
        Verdict::LogOnly { by } => by.why.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(why("SystemCallLog=read", "read"), "read lists it");
    assert_eq!(why("SystemCallLog=~read", "socket"), "it is not among the calls that are not logged");
    assert_eq!(why("SystemCallLog=~socket\nSystemCallLog=socket", "socket"), "socket lists it");
}

#[test]
fn verdict_names_every_cause_and_the_strongest_decides() {
    let text = "ProtectClock=yes\nSystemCallFilter=~settimeofday";
    assert_eq!(describe(text, "settimeofday"), "kill SystemCallFilter@3 ProtectClock@2");
    let text = "SystemCallErrorNumber=ENOSYS\nProtectClock=yes\nSystemCallFilter=read";
    assert_eq!(describe(text, "settimeofday"), "ENOSYS SystemCallFilter@4 ProtectClock@3");
    let text = "SystemCallFilter=read\nLockPersonality=yes";
    assert_eq!(describe(text, "personality"), "kill SystemCallFilter@2 and perhaps LockPersonality@3");
}

#[test]
fn call_is_permitted_unless_its_verdict_is_a_denial() {
    let conf = UnitFile::parse(Path::new("system.conf"), b"[Manager]\nSystemCallArchitectures=native\n");
    let (manager, _) = manager_architectures([&conf]);
    let context = ManagerContext { manager, ..ManagerContext::default() };
    let groups = Groups::parse(LISTING, GroupSource::Host("252".into())).unwrap().with_native(Abi::X86_64);
    for lines in [
        "",
        "SystemCallFilter=@default socket",
        "SystemCallFilter=@default socket:EPERM clone3\nSystemCallFilter=~clone3 unheard_of",
        "SystemCallFilter=~socket read:EPERM\nSystemCallErrorNumber=EACCES",
        "SystemCallArchitectures=native\nProtectClock=yes\nRestrictSUIDSGID=yes\nLockPersonality=yes",
        "RestrictNamespaces=yes\nRestrictAddressFamilies=none\nProtectKernelModules=yes\nDynamicUser=yes",
        "RestrictAddressFamilies=AF_UNIX\nMemoryDenyWriteExecute=yes\nSystemCallLog=read",
    ] {
        let plain = policy(lines);
        let below = plain.clone().with_context(context.clone(), &groups);
        for policy in [plain, below] {
            for abi in Abi::all() {
                for call in ["read", "socket", "clone3", "chmod", "setns", "settimeofday", "iopl", "unheard_of", "exit"]
                {
                    let is_denied = matches!(policy.verdict(abi, call), Verdict::Denied { .. });
                    assert_eq!(policy.permits(abi, call), !is_denied, "{call} of {abi:?} under {lines}");
                }
            }
        }
    }
}

#[test]
fn denied_call_is_not_merely_logged() {
    assert_eq!(describe("SystemCallLog=read\nSystemCallFilter=~read", "read"), "kill SystemCallFilter@3");
}

#[test]
fn native_abi_is_never_blocked() {
    assert_eq!(describe("SystemCallArchitectures=x86", "read"), "permitted");
}

#[test]
fn architectures_of_manager_block_abis_for_its_units() {
    let groups = Groups::parse(LISTING, GroupSource::Host("252".into())).unwrap().with_native(Abi::X86_64);
    let conf = UnitFile::parse(Path::new("system.conf"), b"[Manager]\nSystemCallArchitectures=native\n");
    let (architectures, _) = manager_architectures([&conf]);
    let above = ManagerContext { system_manager: architectures.clone(), ..ManagerContext::default() };
    let own = ManagerContext { manager: architectures, ..ManagerContext::default() };
    let under = |context: &ManagerContext, groups: &Groups| {
        let policy = policy("SystemCallFilter=~read");
        Policy::new(policy.settings, groups).with_context(context.clone(), groups)
    };
    assert_eq!(under(&own, &groups).verdict(Abi::X86_64, "socket"), Verdict::Permitted);
    let denied = |policy: &Policy, call: &str| match policy.verdict(Abi::I386, call) {
        Verdict::Denied { effect, by, .. } => {
            format!("{effect} {} {:?}", by.len(), by[0].origin.as_ref().unwrap().line)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(denied(&under(&own, &groups), "socket"), "kill thread 1 2");
    // systemd 252 installs no filter of the unit for an ABI that the unit's own manager blocks.
    assert_eq!(denied(&under(&own, &groups), "read"), "kill thread 1 2");
    assert_eq!(denied(&under(&above, &groups), "read"), "kill 2 2");
    let newer = Groups::parse(LISTING, GroupSource::Host("257.13".into())).unwrap().with_native(Abi::X86_64);
    assert_eq!(denied(&under(&own, &newer), "read"), "kill 2 2");
    // No line of the unit can allow the call.
    let lines = b"[Service]\nSystemCallFilter=\nSystemCallArchitectures=x86\n";
    let lifted = under(&above, &groups).with_dropin(Path::new("z.conf"), lines, &groups);
    assert_eq!(denied(&lifted, "read"), "kill thread 1 2");
}

#[test]
fn memory_deny_write_execute_filters_nothing_where_kernel_enforces_it() {
    let on = |version: &str, kernel| {
        let groups = Groups::parse(LISTING, GroupSource::Host(version.into())).unwrap().with_native(Abi::X86_64);
        let policy = policy("MemoryDenyWriteExecute=yes")
            .with_context(ManagerContext { kernel, ..ManagerContext::default() }, &groups);
        assert_eq!(
            policy.refusing_directives(),
            [Directive::MemoryDenyWriteExecute],
            "the kernel refuses without a record as well"
        );
        policy.verdict(Abi::X86_64, "mprotect")
    };
    assert_eq!(on("257.13", Some((6, 12))), Verdict::Permitted);
    let which = |verdict: Verdict| match verdict {
        Verdict::Possible { by } => by[0].why.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(which(on("252", Some((6, 12)))), "depends on the arguments: memory made executable");
    assert!(which(on("257", None)).contains("EACCES"), "either the filter or the kernel");
}

#[test]
fn sched_setattr_is_denied_depending_on_systemd_version() {
    let on = |version: &str| {
        let groups = Groups::parse(LISTING, GroupSource::Host(version.into())).unwrap().with_native(Abi::X86_64);
        Policy::new(policy("RestrictRealtime=yes").settings, &groups).verdict(Abi::X86_64, "sched_setattr")
    };
    assert_eq!(on("257.13"), Verdict::Permitted);
    assert!(matches!(on("260"), Verdict::Possible { .. }));
    assert!(matches!(on("262.1-1"), Verdict::Denied { effect: Effect::Errno(libc::EPERM), .. }));
}

#[test]
fn policy_without_a_dropin_ignores_its_lines() {
    let groups = Groups::parse(LISTING, GroupSource::Host("252".into())).unwrap().with_native(Abi::X86_64);
    let with = policy("SystemCallFilter=@clock").with_dropin(
        Path::new("x.d/50.conf"),
        b"[Service]\nSystemCallFilter=read\n",
        &groups,
    );
    assert_eq!(with.verdict(Abi::X86_64, "read"), Verdict::Permitted);
    let without = with.without_dropins(|path| path.ends_with("50.conf"), &groups);
    assert!(matches!(without.verdict(Abi::X86_64, "read"), Verdict::Denied { .. }));
}

#[test]
fn filter_from_manager_replaces_filter_from_files() {
    let policy = policy("SystemCallFilter=read").with_filter(None);
    assert_eq!(policy.verdict(Abi::X86_64, "socket"), Verdict::Permitted);
}

#[test]
fn policy_with_a_dropin_applies_its_lines() {
    let groups = Groups::parse(LISTING, GroupSource::Host("252".into())).unwrap().with_native(Abi::X86_64);
    let before = policy("SystemCallFilter=@clock\nProtectClock=yes");
    let permits_with = |text: &str, call: &str| {
        let content = format!("[Service]\n{text}\n");
        before.with_dropin(Path::new("x.d/50.conf"), content.as_bytes(), &groups).verdict(Abi::X86_64, call)
            == Verdict::Permitted
    };
    assert!(permits_with("SystemCallFilter=read", "read"));
    assert!(!permits_with("SystemCallFilter=socket", "read"));
    assert!(permits_with("ProtectClock=no", "settimeofday"));
}

#[test]
fn refusing_directives_are_those_that_answer_with_an_error() {
    let refusing =
        |text: &str| -> Vec<&str> { policy(text).refusing_directives().into_iter().map(Directive::key).collect() };
    assert!(refusing("SystemCallFilter=read\nSystemCallArchitectures=native\nSystemCallLog=read").is_empty());
    assert_eq!(refusing("SystemCallFilter=read\nSystemCallErrorNumber=EPERM"), ["SystemCallFilter"]);
    assert_eq!(refusing("SystemCallFilter=~read:EPERM socket"), ["SystemCallFilter"]);
    assert_eq!(refusing("SystemCallErrorNumber=EPERM\nSystemCallFilter=~read:kill"), Vec::<&str>::new());
    assert_eq!(refusing("DynamicUser=yes\nRestrictNamespaces=no"), ["DynamicUser"]);
    assert_eq!(refusing("ProtectClock=yes\nRestrictAddressFamilies=AF_UNIX").len(), 2);
}

#[test]
fn cause_reason_is_displayed_as_a_clause() {
    let why = |text: &str, call: &str| match policy(text).verdict(Abi::X86_64, call) {
        Verdict::Denied { by, .. } | Verdict::Possible { by } => by[0].why.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(why("SystemCallFilter=@clock", "read"), "the allow-list does not contain it");
    assert_eq!(
        why("SystemCallFilter=@clock\nSystemCallFilter=~@clock", "settimeofday"),
        "~@clock takes it off the allow-list"
    );
    assert_eq!(why("SystemCallFilter=~@clock", "settimeofday"), "~@clock lists it");
    assert_eq!(
        why("RestrictNamespaces=net", "setns"),
        "depends on the arguments: no type, or one of a namespace that is not allowed; allowed are net"
    );
}

#[test]
fn deciding_word_is_that_of_the_file() {
    let word = |text: &str, call: &str| match policy(text).verdict(Abi::X86_64, call) {
        Verdict::Denied { by, .. } => by[0].deciding_word().map(str::to_owned),
        verdict => panic!("{verdict:?}"),
    };
    let taken = "SystemCallFilter=@known\nSystemCallFilter=~@clock read:EPERM";
    assert_eq!(word(taken, "settimeofday").as_deref(), Some("@clock"));
    assert_eq!(word(taken, "read").as_deref(), Some("read"));
    assert_eq!(word("SystemCallFilter=~read", "read").as_deref(), Some("read"));
    assert_eq!(word("SystemCallFilter=read", "socket"), None, "the list as a whole lacks it");
    assert_eq!(word("ProtectClock=yes", "settimeofday"), None, "the value as a whole denies it");
}

#[test]
fn call_taken_off_names_the_first_line_of_the_list() {
    let by = match policy("SystemCallFilter=@known\nSystemCallFilter=~@clock").verdict(Abi::X86_64, "settimeofday") {
        Verdict::Denied { by, .. } => by,
        verdict => panic!("{verdict:?}"),
    };
    let CauseReason::TakenOff { list, .. } = &by[0].why else { panic!("{by:?}") };
    assert_eq!(list.origin.as_ref().map(|origin| origin.line), Some(2));
}
