//! What a remedy must never do, and what it must report.

use harden_why::audit::Action;
use harden_why::diagnosis::{
    DefaultScope, Diagnosis, Remedy, RemedyKind, Reservation, Situation, diagnose, privileged_calls, relatives,
};
use harden_why::incidents;
use harden_why::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample};
use harden_why::policy::{Effect, Mode, Policy, Settings, SyscallFilter, UnitFile, Verdict};
use harden_why::programs::{ElfFile, Libc, Program, ProgramImage};
use harden_why::syscalls::groups::GroupSource;
use harden_why::syscalls::{Abi, Call, Groups};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

static GROUPS: LazyLock<Groups> = LazyLock::new(|| {
    let listing = include_str!("../data/groups-252.txt");
    Groups::parse(listing, GroupSource::Host("252.38-1~deb12u1".into())).unwrap().with_native(Abi::X86_64)
});

fn drop_in() -> PathBuf {
    PathBuf::from("/etc/systemd/system/x.service.d/zz-harden-why.conf")
}

fn policy(fragment: &str, dropins: &[(&str, &str)]) -> Policy {
    let file = |path: &str, text: &str| UnitFile::parse(Path::new(path), format!("[Service]\n{text}\n").as_bytes());
    let dropins = dropins.iter().map(|(path, text)| file(path, text)).collect();
    let settings = Settings::new(&"x.service".parse().unwrap(), Some(file("/lib/x.service", fragment)), dropins);
    Policy::new(settings, &GROUPS)
}

fn incident(abi: Abi, call: &str, action: Action) -> Incident {
    let number = abi.call_number(call).unwrap_or_else(|| panic!("{call}"));
    let event = IncidentEvent::Denial(Denial { call: Call::numbered(abi.arch(), number), action });
    Incident {
        key: IncidentKey { unit: None, event, exe: b"/usr/bin/x".to_vec(), source: incidents::SightingSource::Audit },
        rung: None,
        count: 1,
        first: Moment::Unknown,
        last: Moment::Unknown,
        sample: Sample { uid: "0".into(), ..Sample::default() },
    }
}

fn of(policy: Policy, incidents: Vec<Incident>) -> Diagnosis {
    diagnose(incidents, Some(&Situation { policy, drop_in: drop_in(), history: None, programs: Vec::new() }), &GROUPS)
}

fn killed(fragment: &str, calls: &[&str]) -> Diagnosis {
    let incidents = calls.iter().map(|call| incident(Abi::X86_64, call, Action::KillProcess)).collect();
    of(policy(fragment, &[]), incidents)
}

/// Diagnoses denials to a program of the unit that imports these functions.
fn of_program(policy: Policy, calls: &[&str], imports: &[&str]) -> Diagnosis {
    let incidents = calls.iter().map(|call| incident(Abi::X86_64, call, Action::KillProcess)).collect();
    let programs = vec![program("/usr/bin/x", imports)];
    diagnose(incidents, Some(&Situation { policy, drop_in: drop_in(), history: None, programs }), &GROUPS)
}

fn program(path: &str, imports: &[&str]) -> Program {
    let file = ElfFile {
        abi: Some(Abi::X86_64),
        libc: Libc::Glibc,
        imports: imports.iter().map(|name| (*name).into()).collect(),
        ..ElfFile::default()
    };
    Program::new(path.as_bytes(), ProgramImage::Native(file))
}

/// Returns what the default opens besides the denied calls, and why.
fn opened(diagnosis: &Diagnosis) -> Vec<(&str, &str)> {
    let default = &diagnosis.remedies[diagnosis.default_remedy().unwrap()];
    let reason = |call: &str| default.reasons.iter().find(|because| &*because.call == call).map(|one| &*one.reason);
    default.opens.iter().map(|call| (&**call, reason(call).unwrap_or_default())).collect()
}

fn refused(fragment: &str, calls: &[&str]) -> Diagnosis {
    let incidents = calls.iter().map(|call| incident(Abi::X86_64, call, Action::Errno)).collect();
    of(policy(fragment, &[]), incidents)
}

fn remedy<'a>(diagnosis: &'a Diagnosis, kind: &RemedyKind) -> &'a Remedy {
    diagnosis.remedies.iter().find(|remedy| remedy.kind == *kind).unwrap_or_else(|| panic!("{:?}", diagnosis.remedies))
}

fn contents(diagnosis: &Diagnosis) -> Vec<&str> {
    diagnosis.remedies.iter().map(|remedy| remedy.content.trim_start_matches("[Service]\n").trim_end()).collect()
}

fn words(names: &[Box<str>]) -> Vec<&str> {
    names.iter().map(AsRef::as_ref).collect()
}

#[test]
fn all_denied_calls_are_solved_by_one_drop_in() {
    let diagnosis = killed("SystemCallFilter=@basic-io @file-system", &["accept4", "clone3"]);
    let kinds: Vec<&RemedyKind> = diagnosis.remedies.iter().map(|remedy| &remedy.kind).collect();
    assert_eq!(kinds[..2], [&RemedyKind::Calls, &RemedyKind::Relatives]);
    assert!(matches!(kinds[2], RemedyKind::Groups(_)), "{kinds:?}");
    assert_eq!(contents(&diagnosis)[0], "SystemCallFilter=accept4 clone3");
    assert_eq!(words(&remedy(&diagnosis, &RemedyKind::Relatives).opens), ["accept", "clone", "fork", "vfork"]);
    let groups = diagnosis.remedies.iter().find(|remedy| matches!(remedy.kind, RemedyKind::Groups(_))).unwrap();
    assert_eq!(groups.lines, ["SystemCallFilter=@network-io @process"]);
    assert_eq!(diagnosis.default_remedy(), Some(1));
}

#[test]
fn call_opened_by_default_has_a_reason() {
    let files = policy("SystemCallFilter=@basic-io @file-system", &[]);
    let diagnosis = of_program(files, &["accept4", "socket"], &["bind", "listen", "socket"]);
    for kind in [RemedyKind::Relatives, RemedyKind::Evidence] {
        let remedy = remedy(&diagnosis, &kind);
        let explained: BTreeSet<&str> = remedy.reasons.iter().map(|because| &*because.call).collect();
        assert!(remedy.reasons.iter().all(|because| !because.reason.is_empty()));
        assert_eq!(explained, remedy.opens.iter().map(AsRef::as_ref).collect());
    }
}

#[test]
fn sensitive_call_is_opened_by_name_only_if_it_was_denied() {
    let diagnosis = killed("SystemCallFilter=@basic-io @file-system", &["setgroups"]);
    let calls = remedy(&diagnosis, &RemedyKind::Calls);
    assert_eq!(calls.sensitive, [("@privileged".into(), "setgroups".into())]);
    let family = remedy(&diagnosis, &RemedyKind::Relatives);
    assert!(words(&family.opens).contains(&"setgid"));
    assert!(!words(&family.opens).contains(&"setuid"), "it waits for its own denial");
    let files = policy("SystemCallFilter=@basic-io @file-system", &[]);
    let imports = ["setgroups", "setgid", "setuid", "mount", "chroot", "ptrace", "reboot", "chown", "umask"];
    let evident = of_program(files, &["setgroups"], &imports);
    let opens = words(&remedy(&evident, &RemedyKind::Evidence).opens);
    assert_eq!(opens, ["setgid", "setuid", "umask"], "of the privileged calls, only those of the denied kind");
    let wide = killed("SystemCallFilter=@basic-io", &["chown"]);
    let groups = wide.remedies.iter().find(|remedy| matches!(remedy.kind, RemedyKind::Groups(_))).unwrap();
    assert!(groups.sensitive.iter().any(|(_, call)| &**call == "lchown"), "{groups:?}");
}

#[test]
fn call_is_sensitive_only_with_the_capability_that_it_needs() {
    let sensitive = |lines: &str, call: &str| {
        let found = killed(&format!("SystemCallFilter=@basic-io @file-system\n{lines}"), &[call]);
        !remedy(&found, &RemedyKind::Calls).sensitive.is_empty()
    };
    for (call, capability) in [
        ("fchownat", "CAP_CHOWN"),
        ("setgroups", "CAP_SETGID"),
        ("setuid", "CAP_SETUID"),
        ("swapon", "CAP_SYS_ADMIN"),
        ("reboot", "CAP_SYS_BOOT"),
        ("init_module", "CAP_SYS_MODULE"),
        ("clock_settime", "CAP_SYS_TIME"),
        ("iopl", "CAP_SYS_RAWIO"),
    ] {
        assert_eq!(privileged_calls::find_needed_capability(call), Some(capability));
        assert!(sensitive("", call), "{call}");
        assert!(!sensitive("CapabilityBoundingSet=", call), "{call}");
        assert!(sensitive(&format!("CapabilityBoundingSet={capability}"), call), "{call}");
        assert!(!sensitive(&format!("CapabilityBoundingSet=~{capability}"), call), "{call}");
        assert!(!sensitive("User=web\nNoNewPrivileges=yes", call), "{call}");
        let ambient = format!("User=web\nNoNewPrivileges=yes\nAmbientCapabilities={capability}");
        assert!(sensitive(&ambient, call), "{call}");
    }
    assert!(sensitive("CapabilityBoundingSet=", "ptrace"), "a user's own processes need no capability");
    for call in ["mount", "chroot", "pivot_root", "bpf"] {
        assert!(sensitive("CapabilityBoundingSet=", call), "{call}: a user namespace gives the capability");
    }
}

#[test]
fn relative_gives_no_further_power_than_the_call() {
    let of = |call: &str| -> Vec<&str> {
        relatives::find_relatives(Abi::X86_64, call, &GROUPS).map(|relative| relative.call).collect()
    };
    assert_eq!(of("setresuid"), ["setfsuid", "setreuid", "setuid"]);
    assert_eq!(of("setgid"), ["setfsgid", "setgroups", "setregid", "setresgid"]);
    assert_eq!(of("fchown"), ["chown", "fchownat", "lchown"]);
    assert_eq!(of("nanosleep"), ["clock_nanosleep"]);
    assert_eq!(of("openat"), ["open", "openat2", "creat"]);
    assert_eq!(of("creat"), [""; 0], "it cannot read");
    assert_eq!(of("vfork"), ["fork"], "clone also makes namespaces");
    assert_eq!(of("sched_setscheduler"), ["sched_setparam"], "RestrictRealtime= does not see sched_setattr everywhere");
    assert_eq!(of("mount"), [""; 0]);
    let parts = relatives::PARTS.iter().flat_map(|parts| parts.of.iter().chain(parts.calls));
    for call in relatives::FAMILIES.iter().flat_map(|family| family.calls).chain(parts) {
        let known = Abi::all().any(|abi| abi.call_number(call).is_some()) || GROUPS.is_known(call);
        assert!(known, "{call} is no call of any ABI");
    }
}

#[test]
fn remedies_with_the_same_effect_are_offered_once() {
    for (fragment, call) in [
        ("SystemCallFilter=~@timer", "setitimer"),
        ("SystemCallFilter=~uname", "uname"),
        ("RestrictAddressFamilies=~AF_PACKET", "socket"),
    ] {
        let diagnosis = if fragment.starts_with('R') { refused(fragment, &[call]) } else { killed(fragment, &[call]) };
        let allowing = diagnosis.remedies.iter().filter(|remedy| remedy.kind != RemedyKind::FailWithError);
        let opened: Vec<&[Box<str>]> = allowing.map(|remedy| &*remedy.opens).collect();
        let different: BTreeSet<&[Box<str>]> = opened.iter().copied().collect();
        assert_eq!(opened.len(), different.len(), "{fragment}: {:?}", diagnosis.remedies);
    }
}

#[test]
fn relatives_are_those_of_the_denied_abi() {
    let fragment = "SystemCallFilter=@basic-io @file-system\nSystemCallArchitectures=native x86";
    let denied = vec![
        incident(Abi::I386, "setgid32", Action::KillProcess),
        incident(Abi::I386, "clock_nanosleep", Action::KillProcess),
    ];
    let diagnosis = of(
        policy(&format!("{fragment}\nSystemCallFilter=~clock_nanosleep clock_nanosleep_time64 nanosleep"), &[]),
        denied,
    );
    assert_eq!(
        words(&remedy(&diagnosis, &RemedyKind::Relatives).opens),
        [
            "clock_nanosleep_time64",
            "nanosleep",
            "setfsgid",
            "setfsgid32",
            "setgid",
            "setgroups",
            "setgroups32",
            "setregid",
            "setregid32",
            "setresgid",
            "setresgid32"
        ]
    );
    let native = killed("SystemCallFilter=@basic-io", &["setgid"]);
    let opens = |remedy: &Remedy| remedy.opens.iter().any(|call| call.ends_with("32"));
    assert!(!native.remedies.iter().any(opens), "64-bit x86 has no setgid32: {:?}", native.remedies);
}

#[test]
fn remedy_undone_by_a_later_drop_in_is_not_offered() {
    let denied = || vec![incident(Abi::X86_64, "socket", Action::KillProcess)];
    let undone =
        policy("SystemCallFilter=@basic-io", &[("/etc/x.service.d/zzz-last.conf", "SystemCallFilter=~@network-io")]);
    assert_eq!(of(undone, denied()).remedies, []);
    let begun_anew = policy(
        "SystemCallFilter=@basic-io",
        &[("/etc/x.service.d/zzz-last.conf", "SystemCallFilter=\nSystemCallFilter=@io-event")],
    );
    assert_eq!(of(begun_anew, denied()).remedies, []);
    // Of the imported calls, only those that stay open are offered.
    let in_part =
        policy("SystemCallFilter=@basic-io", &[("/etc/x.service.d/zzz-last.conf", "SystemCallFilter=~bind listen")]);
    let diagnosis = of_program(in_part, &["socket"], &["bind", "connect", "listen"]);
    assert_eq!(opened(&diagnosis), [("connect", "imported by x")]);
    let because = &remedy(&diagnosis, &RemedyKind::Evidence).reasons;
    assert_eq!(because.len(), 1, "nor does it name others: {because:?}");
}

#[test]
fn call_unknown_to_libseccomp_has_two_ways_out_and_hides_no_other() {
    let fragment = "SystemCallFilter=@basic-io @network-io";
    let files = policy(fragment, &[]);
    let held: Vec<String> = files
        .filter
        .as_ref()
        .unwrap()
        .entries()
        .keys()
        .filter(|call| &***call != "accept4")
        .map(ToString::to_string)
        .collect();
    let held = SyscallFilter::from_manager(true, &held, Effect::KILL_ON_BUS, &GROUPS).unwrap();
    let reconciled = files.filter.as_ref().unwrap().reconciled(&held);
    let policy = files.with_filter(reconciled);
    let alone = of(policy.clone(), vec![incident(Abi::X86_64, "accept4", Action::KillProcess)]);
    let kinds = |diagnosis: &Diagnosis| diagnosis.remedies.iter().map(|remedy| remedy.kind.clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&alone), [RemedyKind::FailAllWithError, RemedyKind::DenyList]);
    assert_eq!((alone.default_remedy(), &*alone.unsolvable), (None, &[][..]), "a person has to choose");
    assert_eq!(contents(&alone)[0], "SystemCallErrorNumber=ENOSYS");
    assert_eq!(alone.remedies[0].opens, []);
    let both = ["accept4", "clone3"].map(|call| incident(Abi::X86_64, call, Action::KillProcess)).to_vec();
    let both = of(policy, both);
    assert_eq!(contents(&both)[0], "SystemCallFilter=clone3");
    let ways_out: Vec<_> = kinds(&both).into_iter().rev().take(2).collect();
    assert_eq!(ways_out, [RemedyKind::DenyList, RemedyKind::FailAllWithError]);
    assert_eq!(both.default_remedy().map(|at| both.remedies[at].kind.clone()), Some(RemedyKind::Relatives));
    assert!(both.remedies.iter().rev().skip(2).all(|remedy| !remedy.lines.concat().contains("accept4")));
    assert!(both.remedies.iter().rev().take(2).all(|remedy| remedy.lines.concat().contains("clone3")));
}

#[test]
fn name_unknown_to_libseccomp_is_in_no_remedy() {
    let groups = GROUPS.clone().with_unresolved(["accept4".into(), "accept".into()].into());
    let about = |call: &str| {
        let situation = Situation {
            policy: policy("SystemCallFilter=@basic-io", &[]),
            drop_in: drop_in(),
            history: None,
            programs: vec![program("/usr/bin/x", &["accept", "accept4", "bind"])],
        };
        diagnose(vec![incident(Abi::X86_64, call, Action::KillProcess)], Some(&situation), &groups)
    };
    let accept = about("accept4");
    let kinds: Vec<_> = accept.remedies.iter().map(|remedy| &remedy.kind).collect();
    assert_eq!(kinds, [&RemedyKind::FailAllWithError, &RemedyKind::DenyList], "neither by its name nor by a group");
    let deny_list = accept.remedies.last().unwrap();
    assert_eq!(
        deny_list.lines,
        ["SystemCallFilter=", "SystemCallFilter=~@known", "SystemCallFilter=@basic-io @default"]
    );
    // The other call that libseccomp does not know, and one that no kernel since 3.1 has and @known lacks.
    assert_eq!(words(&deny_list.opens), ["accept", "nfsservctl"]);
    let listen = about("listen");
    assert_eq!(words(&remedy(&listen, &RemedyKind::Evidence).opens), ["bind"]);
}

#[test]
fn call_unknown_to_systemd_is_offered_by_no_name() {
    let diagnosis = killed("SystemCallFilter=@basic-io", &["mseal"]);
    assert!(!GROUPS.is_known("mseal"));
    assert!(diagnosis.remedies.iter().all(|remedy| !remedy.content.contains("mseal")));
    assert_eq!((diagnosis.remedies.len(), diagnosis.default_remedy()), (2, None));
}

#[test]
fn unit_without_a_filter_never_gets_one() {
    let diagnosis = refused("ProtectClock=yes\nPrivateDevices=yes", &["settimeofday", "iopl"]);
    assert_eq!(contents(&diagnosis), ["PrivateDevices=no\nProtectClock=no"]);
    assert_eq!(diagnosis.remedies[0].kind, RemedyKind::RelaxDirectives);
    assert!(diagnosis.remedies[0].sensitive.iter().any(|(_, call)| &**call == "ioperm"));
    // The manager still has a filter that the files no longer have: a line of ours would start an allow-list.
    let held = SyscallFilter::from_manager(true, &["read".into()], Effect::KILL_ON_BUS, &GROUPS);
    let diagnosis = of(policy("", &[]).with_filter(held), vec![incident(Abi::X86_64, "socket", Action::KillProcess)]);
    assert_eq!(diagnosis.remedies, []);
}

#[test]
fn deny_list_stays_a_deny_list() {
    let files = policy("SystemCallFilter=~@network-io", &[]);
    let diagnosis = of_program(files, &["socket"], &["bind", "connect", "socket"]);
    assert_eq!(contents(&diagnosis)[0], "SystemCallFilter=socket");
    assert!(
        diagnosis.remedies.iter().all(|remedy| remedy.kind != RemedyKind::Evidence),
        "the owner excludes the others of the group: {:?}",
        diagnosis.remedies
    );
}

#[test]
fn call_taken_off_the_list_is_not_opened_although_imported() {
    let fragment = "SystemCallFilter=@system-service\nSystemCallFilter=~@network-io\nSystemCallFilter=~@sync";
    let diagnosis = of_program(policy(fragment, &[]), &["fsync"], &["fdatasync", "fsync", "socket", "syncfs"]);
    assert!(diagnosis.remedies.iter().all(|remedy| remedy.kind != RemedyKind::Evidence), "{:?}", diagnosis.remedies);
    assert_eq!(diagnosis.default_remedy(), Some(0));
}

#[test]
fn call_that_was_never_in_the_allow_list_is_excluded_by_a_tilde_entry() {
    let fragment = "SystemCallFilter=@basic-io @process\nSystemCallFilter=~@network-io";
    let diagnosis = of_program(policy(fragment, &[]), &["access"], &["access", "chdir", "connect", "socket"]);
    let opens: Vec<&str> = opened(&diagnosis).into_iter().map(|(call, _)| call).collect();
    assert_eq!(opens, ["chdir", "faccessat", "faccessat2"]);
}

#[test]
fn call_is_opened_where_the_program_imports_it_and_with_that_reason() {
    let files = || policy("SystemCallFilter=@basic-io @file-system", &[]);
    let imports = ["accept", "getaddrinfo", "listen", "pthread_create", "sd_notify", "setitimer", "send"];
    let diagnosis = of_program(files(), &["uname"], &imports);
    let opened = opened(&diagnosis);
    for expected in [
        ("accept", "imported by x"),
        ("clone3", "imported by x as pthread_create"),
        ("listen", "imported by x"),
        ("sendto", "imported by x as send"),
    ] {
        assert!(opened.contains(&expected), "{expected:?}: {opened:?}");
    }
    assert!(!opened.iter().any(|(call, _)| matches!(*call, "setitimer" | "sendmsg")), "rarely used: {opened:?}");
    assert_eq!(contents(&diagnosis)[0], "SystemCallFilter=uname", "the exact remedy stays the first");
    // What a program does not import is no evidence, and neither is anything without a program.
    assert_eq!(self::opened(&of_program(files(), &["uname"], &["uname"])), []);
    assert_eq!(self::opened(&of(files(), vec![incident(Abi::X86_64, "uname", Action::KillProcess)])), []);
}

#[test]
fn default_after_a_rehearsal_opens_what_it_saw_and_relatives_alone() {
    let files = || policy("SystemCallFilter=@basic-io @file-system", &[]);
    let imports = ["accept", "getaddrinfo", "listen", "pthread_create", "uname"];
    let diagnose_seen = |source| {
        let mut seen = incident(Abi::X86_64, "accept4", Action::Log);
        let is_rehearsal = source == incidents::SightingSource::Rehearsal;
        let IncidentEvent::Denial(denial) = &mut seen.key.event else { unreachable!() };
        denial.action = if is_rehearsal { Action::Log } else { Action::KillProcess };
        seen.key.source = source;
        let programs = vec![program("/usr/bin/x", &imports)];
        diagnose(vec![seen], Some(&Situation { policy: files(), drop_in: drop_in(), history: None, programs }), &GROUPS)
    };
    let names =
        |diagnosis: &Diagnosis| opened(diagnosis).iter().map(|(call, _)| (*call).to_owned()).collect::<Vec<_>>();
    let denied = names(&diagnose_seen(incidents::SightingSource::Audit));
    assert!(denied.len() > 3, "a denial alone: what the program imports is opened as well: {denied:?}");
    assert_eq!(names(&diagnose_seen(incidents::SightingSource::Rehearsal)), ["accept"]);
}

#[test]
fn identity_call_is_opened_if_imported_and_one_of_its_kind_was_denied() {
    let files = |more: &str| policy(&format!("SystemCallFilter=@basic-io @file-system\n{more}"), &[]);
    let imports = ["chown", "initgroups", "setgid", "setuid", "umask"];
    let calls =
        |diagnosis: &Diagnosis| opened(diagnosis).into_iter().map(|(call, _)| call.to_owned()).collect::<Vec<_>>();
    assert_eq!(calls(&of_program(files(""), &["socket"], &imports)), ["connect", "umask"]);
    assert_eq!(
        calls(&of_program(files(""), &["setgroups"], &imports)),
        ["connect", "setgid", "setuid", "socket", "umask"],
        "setresgid is a relative, but the program does not import it"
    );
    let without = "CapabilityBoundingSet=CAP_SETGID";
    assert!(!calls(&of_program(files(without), &["setgroups"], &imports)).contains(&"setuid".to_owned()));
    let excluded = "SystemCallFilter=~@setuid";
    let opens = calls(&of_program(files(excluded), &["setgroups"], &imports));
    assert!(!opens.contains(&"setuid".to_owned()) && opens.contains(&"setgid".to_owned()), "{opens:?}");
}

#[test]
fn setting_shows_or_rules_out_calls() {
    let opens = |lines: &str, imports: &[&str]| {
        let diagnosis = of_program(policy(&format!("SystemCallFilter=@basic-io\n{lines}"), &[]), &["uname"], imports);
        opened(&diagnosis).into_iter().map(|(call, reason)| format!("{call}: {reason}")).collect::<Vec<_>>()
    };
    assert_eq!(opens("Type=notify", &[]), ["sendmsg: Type=notify", "socket: Type=notify"]);
    let notifying = opens("Type=notify", &["sd_notify"]);
    assert!(notifying.contains(&"setsockopt: imported by x as sd_notify".to_owned()), "{notifying:?}");
    assert_eq!(opens("Type=forking", &["setsid"]), ["setsid: imported by x"]);
    assert_eq!(opens("", &["setsid"]), [""; 0]);
    assert_eq!(opens("", &["bind"]), ["bind: imported by x"]);
    assert_eq!(opens("RestrictAddressFamilies=none", &["bind"]), [""; 0]);
}

#[test]
fn interpreter_counts_for_network_only_once_a_socket_was_denied() {
    let opens = |call: &str| {
        let file = ProgramImage::Interpreter(program("", &["bind", "connect", "fsync"]).file().unwrap().clone());
        let programs = vec![Program::new(b"/usr/bin/python3".as_slice(), file)];
        let policy = policy("SystemCallFilter=@basic-io @file-system", &[]);
        let situation = Situation { policy, drop_in: drop_in(), history: None, programs };
        let denied = vec![incident(Abi::X86_64, call, Action::KillProcess)];
        let diagnosis = diagnose(denied, Some(&situation), &GROUPS);
        opened(&diagnosis).into_iter().map(|(call, _)| call.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(opens("uname"), [""; 0]);
    assert_eq!(opens("socket"), ["bind", "connect"]);
}

#[test]
fn relative_of_a_denied_call_is_opened_even_if_the_owner_excludes_it() {
    let diagnosis = killed("SystemCallFilter=@system-service\nSystemCallFilter=~@privileged", &["lchown"]);
    let default = &diagnosis.remedies[diagnosis.default_remedy().unwrap()];
    assert_eq!(words(&default.opens), ["chown", "fchown", "fchownat"]);
}

#[test]
fn other_directives_are_relaxed_as_narrowly_as_possible() {
    let family = refused("RestrictAddressFamilies=AF_UNIX AF_INET", &["socket"]);
    assert_eq!(contents(&family), ["RestrictAddressFamilies=AF_NETLINK", "RestrictAddressFamilies="]);
    assert_eq!(words(&family.remedies[0].conditional), ["socket"], "which family it was no record tells");
    assert_eq!(words(&family.remedies[1].conditional), [""; 0]);
    let none = refused("RestrictAddressFamilies=none", &["socket"]);
    assert_eq!(contents(&none)[0], "RestrictAddressFamilies=AF_NETLINK");
    let forbidden = refused("RestrictAddressFamilies=~AF_PACKET", &["socket"]);
    assert_eq!(contents(&forbidden), ["RestrictAddressFamilies=AF_PACKET"]);
    assert_eq!(words(&forbidden.remedies[0].conditional), [""; 0], "only one was forbidden");
    assert_eq!(forbidden.default_remedy(), Some(0));
    for line in
        ["RestrictAddressFamilies=AF_UNIX", "RestrictAddressFamilies=none", "RestrictAddressFamilies=~AF_INET AF_INET6"]
    {
        let diagnosis = refused(line, &["socket"]);
        let reservations: Vec<_> = diagnosis.remedies.iter().filter_map(|remedy| remedy.reservation).collect();
        assert_eq!(reservations, [Reservation::UnknownArgument, Reservation::WiderThanDenied], "{line}");
        assert_eq!(diagnosis.default_remedy(), None, "{line}");
    }
    // A denial that leaves no doubt keeps its default.
    let mixed = refused("RestrictAddressFamilies=AF_UNIX\nProtectHostname=yes", &["socket", "sethostname"]);
    assert_eq!(mixed.default_remedy(), Some(0));
    assert_eq!(
        contents(&mixed),
        [
            "ProtectHostname=no",
            "ProtectHostname=no\nRestrictAddressFamilies=AF_NETLINK",
            "ProtectHostname=no\nRestrictAddressFamilies="
        ]
    );
    for (line, call, remedy) in [
        ("RestrictNamespaces=yes", "unshare", "RestrictNamespaces=no"),
        ("RestrictNamespaces=net", "clone", "RestrictNamespaces=no"),
        ("RestrictSUIDSGID=yes", "chmod", "RestrictSUIDSGID=no"),
        ("LockPersonality=yes", "personality", "LockPersonality=no"),
        ("RestrictRealtime=yes", "sched_setscheduler", "RestrictRealtime=no"),
        ("MemoryDenyWriteExecute=yes", "mprotect", "MemoryDenyWriteExecute=no"),
        ("ProtectHostname=yes", "sethostname", "ProtectHostname=no"),
        ("ProtectKernelModules=yes", "init_module", "ProtectKernelModules=no"),
        ("ProtectKernelLogs=yes", "syslog", "ProtectKernelLogs=no"),
    ] {
        let diagnosis = refused(line, &[call]);
        assert_eq!(contents(&diagnosis), [remedy], "{line}");
        assert_eq!(words(&diagnosis.remedies[0].conditional), [""; 0]);
        assert!(!diagnosis.findings[0].has_fallback(), "{line}");
        // A list could be relaxed for one value, and without LockPersonality= every execution domain passes.
        let has_default = !line.starts_with("RestrictNamespaces") && !line.starts_with("LockPersonality");
        assert_eq!(diagnosis.default_remedy(), has_default.then_some(0), "{line}");
    }
    let foreign =
        of(policy("SystemCallArchitectures=native", &[]), vec![incident(Abi::I386, "read", Action::KillThread)]);
    assert_eq!(contents(&foreign), ["SystemCallArchitectures=x86"]);
    let implied = refused("DynamicUser=yes", &["chmod"]);
    assert_eq!((contents(&implied).len(), words(&implied.unsolvable)), (0, vec!["chmod"]));
}

#[test]
fn call_with_a_fallback_has_a_remedy_that_is_no_default() {
    for (line, call, remedies) in [
        ("RestrictNamespaces=yes", "clone3", &["RestrictNamespaces=no"][..]),
        ("RestrictSUIDSGID=yes", "openat2", &["RestrictSUIDSGID=no"]),
        ("DynamicUser=yes", "openat2", &[]),
        ("SystemCallFilter=@system-service\nSystemCallFilter=~clone3:ENOSYS", "clone3", &["SystemCallFilter=clone3"]),
        ("SystemCallFilter=~getrandom:ENOSYS", "getrandom", &["SystemCallFilter=getrandom"]),
    ] {
        let diagnosis = refused(line, &[call]);
        assert!(diagnosis.findings[0].has_fallback(), "{line}");
        assert_eq!(contents(&diagnosis), remedies, "{line}");
        assert!(diagnosis.remedies.iter().all(|remedy| remedy.reservation == Some(Reservation::HasFallback)), "{line}");
        assert_eq!((diagnosis.default_remedy(), &*diagnosis.unsolvable), (None, &[][..]), "{line}");
    }
    // Other denials keep their default.
    let mixed = killed("RestrictSUIDSGID=yes\nSystemCallFilter=~uname openat2:ENOSYS", &["uname"]);
    assert_eq!((mixed.default_remedy(), contents(&mixed)[0]), (Some(0), "SystemCallFilter=uname"));
    // The call made instead is a denial of its own.
    let both = refused("RestrictNamespaces=yes", &["clone3", "clone"]);
    assert_eq!(contents(&both), ["RestrictNamespaces=no"]);
    // A killed caller does not go on. If the older call does not pass either, no caller can fall back on it.
    for diagnosis in [
        killed("RestrictNamespaces=yes\nSystemCallFilter=@basic-io", &["clone3"]),
        refused("SystemCallErrorNumber=ENOSYS\nSystemCallFilter=@basic-io", &["clone3"]),
    ] {
        assert!(!diagnosis.findings[0].has_fallback());
        assert!(!diagnosis.remedies.is_empty());
    }
}

#[test]
fn filter_and_other_directive_are_relaxed_together() {
    let diagnosis = killed("SystemCallFilter=@basic-io\nProtectClock=yes", &["settimeofday"]);
    assert_eq!(contents(&diagnosis)[0], "ProtectClock=no\nSystemCallFilter=settimeofday");
}

#[test]
fn call_gets_an_errno_only_where_programs_fall_back() {
    let diagnosis = killed("SystemCallFilter=@basic-io @file-system", &["clone3", "setpriority"]);
    assert_eq!(
        remedy(&diagnosis, &RemedyKind::FailWithError).lines,
        ["SystemCallFilter=~clone3:ENOSYS setpriority:EPERM"]
    );
    assert!(remedy(&diagnosis, &RemedyKind::FailWithError).sensitive.is_empty());
    let vital = killed("SystemCallFilter=@basic-io @file-system", &["clone3", "socket"]);
    assert!(vital.remedies.iter().all(|remedy| remedy.kind != RemedyKind::FailWithError));
}

#[test]
fn io_uring_is_opened_next_to_the_remedy_that_lets_it_fail() {
    let diagnosis = killed("SystemCallFilter=@basic-io @file-system", &["io_uring_setup", "socket"]);
    assert_eq!(contents(&diagnosis)[0], "SystemCallFilter=io_uring_setup socket");
    assert_eq!(diagnosis.default_remedy(), Some(0));
    let failing = remedy(&diagnosis, &RemedyKind::FailWithError);
    assert_eq!(failing.lines, ["SystemCallFilter=socket", "SystemCallFilter=~io_uring_setup:ENOSYS"]);
    assert_eq!(failing.reservation, Some(Reservation::KeepsDenying));
}

#[test]
fn lines_of_the_own_drop_in_stay() {
    let own = drop_in();
    let before = policy(
        "SystemCallFilter=@basic-io",
        &[(own.to_str().unwrap(), "ProtectClock=no\nSystemCallFilter=socket setuid")],
    );
    let diagnosis = of(before, vec![incident(Abi::X86_64, "bind", Action::KillProcess)]);
    assert_eq!(contents(&diagnosis)[0], "ProtectClock=no\nSystemCallFilter=bind setuid socket");
    let softened =
        policy("SystemCallFilter=@basic-io", &[(own.to_str().unwrap(), "SystemCallFilter=~setpriority:EPERM")]);
    let diagnosis = of(softened, vec![incident(Abi::X86_64, "bind", Action::KillProcess)]);
    assert_eq!(contents(&diagnosis)[0], "SystemCallFilter=~setpriority:EPERM\nSystemCallFilter=bind");
    let lines = "SystemCallFilter=~setpriority:EPERM\nSystemCallFilter=~nice:EPERM\n\
        SystemCallFilter=socket\nSystemCallFilter=listen";
    let broken = policy("SystemCallFilter=@basic-io", &[(own.to_str().unwrap(), lines)]);
    let diagnosis = of(broken, vec![incident(Abi::X86_64, "bind", Action::KillProcess)]);
    let joined = "SystemCallFilter=~setpriority:EPERM nice:EPERM\nSystemCallFilter=bind listen socket";
    assert_eq!(contents(&diagnosis)[0], joined);
}

#[test]
fn drop_in_is_readable() {
    let calls =
        ["epoll_create1", "getsockopt", "recvmsg", "sched_setaffinity", "setsockopt", "socketpair", "timerfd_settime"];
    let diagnosis = killed("SystemCallFilter=@basic-io", &calls);
    let calls = "SystemCallFilter=epoll_create1 getsockopt recvmsg sched_setaffinity\n\
        SystemCallFilter=setsockopt socketpair timerfd_settime";
    assert_eq!(contents(&diagnosis)[0], calls);
    // Applied, it is one line as before.
    let own = drop_in();
    let applied = policy("SystemCallFilter=@basic-io", &[(own.to_str().unwrap(), calls)]);
    let more = of(applied, vec![incident(Abi::X86_64, "accept4", Action::KillProcess)]);
    assert_eq!(
        more.remedies[0].lines,
        [
            "SystemCallFilter=accept4 epoll_create1 getsockopt recvmsg sched_setaffinity setsockopt socketpair timerfd_settime"
        ]
    );
}

const LINES: [&str; 22] = [
    "SystemCallFilter=@basic-io",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "SystemCallFilter=~@network-io",
    "SystemCallFilter=@network-io",
    "SystemCallFilter=~clone3:ENOSYS setuid:EPERM",
    "SystemCallFilter=~@default",
    "SystemCallFilter=",
    "SystemCallFilter=bogus",
    "SystemCallErrorNumber=EPERM",
    "RestrictAddressFamilies=AF_UNIX",
    "RestrictAddressFamilies=~AF_INET",
    "RestrictAddressFamilies=none",
    "RestrictNamespaces=yes",
    "RestrictNamespaces=net",
    "RestrictSUIDSGID=yes",
    "DynamicUser=yes",
    "ProtectClock=yes",
    "PrivateDevices=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "SystemCallLog=@network-io",
];

const CALLS: [&str; 18] = [
    "read",
    "socket",
    "accept4",
    "clone3",
    "setuid",
    "setresuid",
    "settimeofday",
    "iopl",
    "personality",
    "unshare",
    "openat2",
    "mount",
    "setpriority",
    "fsync",
    "chmod",
    "bind",
    "mprotect",
    "rt_sigaction",
];

fn file() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&LINES[..]), 0..5).prop_map(|lines| lines.join("\n"))
}

/// Returns whether a call passes, for some arguments or for all.
fn passes(verdict: &Verdict) -> bool {
    !matches!(verdict, Verdict::Denied { .. })
}

fn mode(policy: &Policy) -> Option<Mode> {
    policy.filter.as_ref().map(SyscallFilter::mode)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn remedy_keeps_its_promises(
        fragment in file(),
        early in file(),
        own in prop::option::of(file()),
        late in prop::option::of(file()),
        calls in prop::collection::btree_set((prop::sample::select(&CALLS[..]), any::<bool>()), 1..6),
    ) {
        let path = drop_in();
        let mut dropins = vec![("/etc/x.service.d/50.conf", &*early)];
        dropins.extend(own.as_deref().map(|own| (path.to_str().unwrap(), own)));
        dropins.extend(late.as_deref().map(|late| ("/etc/x.service.d/zzz.conf", late)));
        let before = policy(&fragment, &dropins);
        let denied = calls.iter().map(|(call, kill)| {
            incident(Abi::X86_64, call, if *kill { Action::KillProcess } else { Action::Errno })
        });
        let diagnosis = of(before.clone(), denied.collect());
        let findings = diagnosis.findings.iter().filter_map(|finding| {
            let IncidentEvent::Denial(denial) = &finding.incident.key.event else { return None };
            let plain = finding.reservation.is_none();
            Some((denial.call.name()?.to_owned(), finding.cause.clone())).filter(|_| plain)
        });
        let units: BTreeSet<String> = findings
            .filter(|(name, cause)| {
                let unit = matches!(cause, harden_why::diagnosis::DenialCause::Unit { .. } | harden_why::diagnosis::DenialCause::Possible { .. });
                unit && !diagnosis.unsolvable.iter().any(|beyond| **beyond == **name)
            })
            .map(|(name, _)| name)
            .collect();
        if let Some(default) = diagnosis.default_remedy() {
            prop_assert!(default < diagnosis.remedies.len());
            prop_assert_eq!(diagnosis.remedies[default].reservation, None);
        }
        for remedy in &diagnosis.remedies {
            let after = before.with_dropin(&path, remedy.content.as_bytes(), &GROUPS);
            prop_assert_eq!(mode(&after), mode(&before), "{:?}", remedy);
            prop_assert!(remedy.content.lines().all(|line| line.len() <= 72), "{}", remedy.content);
            for call in &units {
                let verdict = after.verdict(Abi::X86_64, call);
                let conditional = remedy.conditional.iter().any(|other| **other == **call);
                let softened = remedy.kind == RemedyKind::FailWithError && matches!(verdict, Verdict::Denied { effect: Effect::Errno(_), .. });
                prop_assert!(passes(&verdict) || softened, "{} after {:?}", call, remedy);
                prop_assert_eq!(conditional, matches!(verdict, Verdict::Possible { .. }), "{} after {:?}", call, remedy);
            }
            for call in GROUPS.calls("@known").unwrap().iter().filter(|call| Abi::X86_64.call_number(call).is_some()) {
                let (was, is) = (passes(&before.verdict(Abi::X86_64, call)), passes(&after.verdict(Abi::X86_64, call)));
                prop_assert!(is || !was, "{} is closed by {:?}", call, remedy);
                if is && !was {
                    let told = calls.iter().any(|(denied, _)| *denied == &**call) || remedy.opens.iter().any(|opened| opened == call);
                    prop_assert!(told, "{} is opened unsaid by {:?}", call, remedy);
                    let sensitive = privileged_calls::find_risk(call, &after.settings, &GROUPS).is_some();
                    prop_assert_eq!(sensitive, remedy.sensitive.iter().any(|(_, said)| said == call), "{} by {:?}", call, remedy);
                }
            }
        }
    }

    #[test]
    fn default_opens_denied_calls_and_relatives_only(
        fragment in file(),
        early in file(),
        late in prop::option::of(file()),
        abi in prop::sample::select(vec![Abi::X86_64, Abi::I386]),
        calls in prop::collection::btree_set((prop::sample::select(&CALLS[..]), any::<bool>()), 1..6),
    ) {
        let mut dropins = vec![("/etc/x.service.d/50.conf", &*early)];
        dropins.extend(late.as_deref().map(|late| ("/etc/x.service.d/zzz.conf", late)));
        let before = policy(&fragment, &dropins);
        let action = |kill| if kill { Action::KillProcess } else { Action::Errno };
        let calls = calls.into_iter().filter(|(call, _)| abi.call_number(call).is_some());
        let calls: Vec<(&str, bool)> = calls.collect();
        let diagnosis = of(before.clone(), calls.iter().map(|(call, kill)| incident(abi, call, action(*kill))).collect());
        let Some(default) = diagnosis.default_remedy() else { return Ok(()) };
        let after = before.with_dropin(&drop_in(), diagnosis.remedies[default].content.as_bytes(), &GROUPS);
        let named: BTreeSet<&str> = calls.iter().map(|(call, _)| *call).collect();
        let excluded = tilde_calls([&*fragment, &*early].into_iter().chain(late.as_deref()));
        let scope = DefaultScope::new(named.iter().map(|call| (abi, *call)), &before, &GROUPS);
        for call in GROUPS.calls("@known").unwrap().iter().map(|call| &**call) {
            for abi in [abi, Abi::X86_64].into_iter().filter(|abi| abi.call_number(call).is_some()) {
                if passes(&before.verdict(abi, call)) || !passes(&after.verdict(abi, call)) {
                    continue;
                }
                let related = || named.iter().any(|denied| relatives::find_relatives(abi, denied, &GROUPS).any(|one| one.call == call));
                prop_assert!(scope.permits(abi, call), "{} by {:?}", call, diagnosis.remedies[default]);
                let by_filter = before.filter.as_ref().is_some_and(|filter| !filter.permits(call));
                prop_assert!(!by_filter || named.contains(call) || related(), "{} by {:?}", call, diagnosis.remedies[default]);
                prop_assert!(!by_filter || !excluded.contains(call) || named.contains(call) || related(), "{}", call);
            }
        }
    }
}

/// The calls that any line that begins with `~` names.
fn tilde_calls<'a>(files: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let values = files.flat_map(str::lines).filter_map(|line| line.strip_prefix("SystemCallFilter=~"));
    let names = values.flat_map(str::split_whitespace).map(|word| word.split(':').next().unwrap());
    let calls = |name: &str| {
        GROUPS
            .calls(name)
            .map_or_else(|| vec![name.to_owned()], |calls| calls.iter().map(ToString::to_string).collect())
    };
    names.flat_map(calls).collect()
}
