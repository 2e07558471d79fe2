use super::*;
use crate::incidents::{Access, AccessPath, AddressRole, FailedAttempt, KnownArgument};
use crate::policy::{Settings, UnitFile};
use crate::syscalls::{Abi, Groups};
use std::path::Path;

fn policy(lines: &str) -> Policy {
    policy_of("x.service", lines)
}

fn policy_of(unit: &str, lines: &str) -> Policy {
    let path = Path::new("/etc/systemd/system").join(unit);
    let file = UnitFile::parse(&path, format!("[Service]\n{lines}\n").as_bytes());
    let settings = Settings::new(&unit.parse().unwrap(), Some(file), Vec::new());
    Policy::new(settings, &Groups::embedded().with_native(Abi::X86_64))
}

fn attempt(errno: i32, path: &str) -> FailedAttempt {
    let paths = (!path.is_empty()).then(|| AccessPath::new(path.as_bytes())).into_iter().collect();
    FailedAttempt { errno, paths, text: path.into(), ..FailedAttempt::default() }
}

/// Returns the keys of the possible causes, each with its word.
fn keys(lines: &str, failure: &UnitFailure) -> Vec<String> {
    let causes = diagnose_failure(failure, &policy(lines)).map_or_else(Vec::new, |found| found.causes);
    let show = |cause: PossibleCause| match cause.word {
        Some(word) => format!("{}={word}", cause.key),
        None => cause.key.into(),
    };
    causes.into_iter().map(show).collect()
}

fn of_attempt(lines: &str, attempt: FailedAttempt) -> Vec<String> {
    keys(lines, &UnitFailure { status: Some(1), attempts: vec![attempt], ..UnitFailure::default() })
}

#[test]
fn error_of_a_path_names_only_lines_that_give_it() {
    for (lines, errno, path, expected) in [
        ("ProtectSystem=strict", libc::EROFS, "/srv/x", &["ProtectSystem"][..]),
        ("ProtectSystem=strict", libc::EACCES, "/srv/x", &[]),
        ("ProtectSystem=full", libc::EROFS, "/srv/x", &[]),
        ("ProtectSystem=strict\nReadWritePaths=/srv", libc::EROFS, "/srv/x", &[]),
        ("ReadOnlyPaths=/a /srv", libc::EROFS, "/srv/x", &["ReadOnlyPaths=/srv"]),
        ("PrivateTmp=yes", libc::ENOENT, "/tmp/x", &["PrivateTmp"]),
        ("PrivateTmp=yes", libc::EACCES, "/tmp/x", &[]),
        ("ProtectHome=yes", libc::ENOENT, "/home/a", &["ProtectHome"]),
        ("ProtectHome=yes\nUser=web", libc::ENOENT, "/home/a", &[]),
        ("ProtectHome=yes\nUser=web", libc::EACCES, "/home/a", &["ProtectHome"]),
        ("ProtectHome=tmpfs\nUser=web", libc::ENOENT, "/home/a", &["ProtectHome"]),
        ("ProtectHome=tmpfs\nUser=web", libc::EACCES, "/home/a", &[]),
        ("NoExecPaths=/srv", libc::EACCES, "/srv/run", &["NoExecPaths=/srv"]),
        (
            "CapabilityBoundingSet=~CAP_DAC_OVERRIDE",
            libc::EACCES,
            "/srv/x",
            &["CapabilityBoundingSet=CAP_DAC_OVERRIDE"],
        ),
        ("CapabilityBoundingSet=~CAP_DAC_OVERRIDE\nUser=web", libc::EACCES, "/srv/x", &[]),
        ("DevicePolicy=closed", libc::EPERM, "/dev/kvm", &["DevicePolicy"]),
        ("DevicePolicy=closed\nDeviceAllow=/dev/kvm rw", libc::EPERM, "/dev/kvm", &[]),
        ("DevicePolicy=closed\nDeviceAllow=char-x rw", libc::EPERM, "/dev/unknown", &[]),
        ("DevicePolicy=closed", libc::EPERM, "/srv/kvm", &[]),
        ("PrivateDevices=yes", libc::ENOENT, "/dev/kvm", &["PrivateDevices"]),
    ] {
        assert_eq!(of_attempt(lines, attempt(errno, path)), expected, "{lines} {errno} {path}");
    }
}

#[test]
fn error_of_an_address_or_a_call_names_only_lines_that_give_it() {
    let bind = |errno, address: &str, role| FailedAttempt {
        address: Some((address.parse().unwrap(), role)),
        ..attempt(errno, "")
    };
    let call = |errno, call| FailedAttempt { call: Some(call), ..attempt(errno, "") };
    let (bound, reached) = (AddressRole::Bound, AddressRole::Reached);
    for (lines, attempt, expected) in [
        ("User=web", bind(libc::EACCES, "0.0.0.0:80", bound), &["User"][..]),
        ("User=web", bind(libc::EACCES, "0.0.0.0:8080", bound), &[]),
        ("User=web", bind(libc::EACCES, "1.2.3.4:80", reached), &[]),
        ("User=web\nAmbientCapabilities=CAP_NET_BIND_SERVICE", bind(libc::EACCES, "0.0.0.0:80", bound), &[]),
        ("CapabilityBoundingSet=CAP_CHOWN", bind(libc::EACCES, "[::]:80", bound), &["CapabilityBoundingSet"]),
        ("SocketBindDeny=any", bind(libc::EPERM, "[::]:80", bound), &["SocketBindDeny=any"]),
        (
            "IPAddressDeny=any\nIPAddressAllow=localhost",
            bind(libc::EPERM, "1.1.1.1:53", reached),
            &["IPAddressDeny=any"],
        ),
        ("IPAddressDeny=any\nIPAddressAllow=localhost", bind(libc::EPERM, "127.0.0.1:53", reached), &[]),
        ("PrivateNetwork=yes", bind(libc::ENETUNREACH, "1.1.1.1:53", reached), &["PrivateNetwork"]),
        ("PrivateNetwork=no", bind(libc::ENETUNREACH, "1.1.1.1:53", reached), &[]),
        ("CapabilityBoundingSet=~CAP_CHOWN", call(libc::EPERM, "chown"), &["CapabilityBoundingSet=CAP_CHOWN"]),
        ("CapabilityBoundingSet=~CAP_CHOWN", call(libc::EPERM, "setuid"), &[]),
        ("SystemCallFilter=~chown:EPERM", call(libc::EPERM, "chown"), &["SystemCallFilter=chown"]),
        ("SystemCallFilter=~chown:EACCES", call(libc::EPERM, "chown"), &[]),
        ("SystemCallFilter=~chown", call(libc::EPERM, "chown"), &[]),
        ("MemoryDenyWriteExecute=yes", call(libc::EPERM, "mprotect"), &["MemoryDenyWriteExecute"]),
        ("", call(libc::EPERM, "chown"), &[]),
    ] {
        assert_eq!(of_attempt(lines, attempt.clone()), expected, "{lines} {attempt:?}");
    }
    let family = FailedAttempt { family: Some(16), ..attempt(libc::EAFNOSUPPORT, "") };
    assert_eq!(of_attempt("RestrictAddressFamilies=AF_UNIX", family.clone()), ["RestrictAddressFamilies"]);
    assert_eq!(of_attempt("RestrictAddressFamilies=AF_NETLINK", family), [""; 0]);
}

fn step(tried: &str, path: Option<&str>, errno: i32) -> FailedStep {
    FailedStep { tried: tried.into(), path: path.map(|path| AccessPath::new(path.as_bytes())), errno: Some(errno) }
}

fn of_steps(status: u8, lines: &str, steps: Vec<FailedStep>) -> Vec<String> {
    keys(lines, &UnitFailure { status: Some(status), steps, ..UnitFailure::default() })
}

#[test]
fn failed_step_names_the_lines_that_it_applies() {
    const MOUNT: &str = "set up mount namespacing";
    let enoent = libc::ENOENT;
    for (status, lines, steps, expected) in [
        (
            226,
            "ReadWritePaths=/srv/a -/srv/b /srv/c",
            vec![step(MOUNT, Some("/srv/c"), enoent)],
            &["ReadWritePaths=/srv/c"][..],
        ),
        (
            226,
            "ReadWritePaths=/srv/a\nProtectSystem=strict",
            vec![step(MOUNT, None, enoent)],
            &["ReadWritePaths=/srv/a"],
        ),
        (226, "ReadWritePaths=/srv/a /srv/b", vec![step(MOUNT, None, enoent)], &[]),
        (226, "BindPaths=/srv/a:/srv/b", vec![step(MOUNT, Some("/srv/b"), enoent)], &["BindPaths=/srv/a:/srv/b"]),
        (
            226,
            "ProtectHostname=yes\nPrivateTmp=yes",
            vec![step("set up UTS namespacing", None, libc::EPERM)],
            &["ProtectHostname"],
        ),
        (
            218,
            "AmbientCapabilities=CAP_CHOWN\nCapabilityBoundingSet=CAP_CHOWN",
            vec![step("apply ambient capabilities (before UID change)", None, libc::EPERM)],
            &["AmbientCapabilities"],
        ),
        (
            218,
            "PrivateDevices=yes\nAmbientCapabilities=CAP_CHOWN",
            vec![step("drop capabilities", None, libc::EPERM)],
            &["PrivateDevices"],
        ),
        (217, "User=gone\nGroup=gone", vec![step("USER", None, libc::ESRCH)], &["User"]),
        (216, "User=a\nGroup=gone", vec![step("GROUP", None, libc::ESRCH)], &["Group"]),
        (
            203,
            "ExecStart=/home/a/run\nProtectHome=yes",
            vec![step("EXEC", Some("/home/a/run"), enoent)],
            &["ProtectHome"],
        ),
        (
            203,
            "ExecStart=/srv/run\nNoExecPaths=/srv",
            vec![step("EXEC", Some("/srv/run"), libc::EACCES)],
            &["NoExecPaths=/srv"],
        ),
        (203, "ExecStart=/srv/run\nNoExecPaths=/srv", vec![step("EXEC", Some("/srv/run"), libc::ENOEXEC)], &[]),
        (
            203,
            "ExecStart=/srv/run\nSystemCallFilter=~execve:EPERM",
            vec![step("EXEC", Some("/srv/run"), libc::EPERM)],
            &["SystemCallFilter=execve"],
        ),
        (200, "WorkingDirectory=/home/a\nProtectHome=yes", vec![step("CHDIR", Some("/x"), enoent)], &["ProtectHome"]),
        (
            200,
            "WorkingDirectory=/srv/gone\nProtectHome=yes",
            vec![step("CHDIR", Some("/x"), enoent)],
            &["WorkingDirectory"],
        ),
        (
            228,
            "SystemCallFilter=~mount\nLockPersonality=yes",
            vec![step("lock personalities", None, libc::EPERM)],
            &["LockPersonality"],
        ),
        (243, "LoadCredential=a:/etc/a", vec![step("CREDENTIALS", Some("/x"), enoent)], &["LoadCredential"]),
        (1, "User=gone", Vec::new(), &[]),
        (219, "User=gone", Vec::new(), &[]),
    ] {
        assert_eq!(of_steps(status, lines, steps.clone()), expected, "{status} {lines} {steps:?}");
    }
}

#[test]
fn lines_that_need_a_namespace_are_causes_unless_they_are_off() {
    let of = |lines: &str| of_steps(226, lines, vec![step("set up mount namespacing", None, libc::EPERM)]);
    for key in ["DynamicUser", "PrivateMounts", "PrivateIPC", "PrivatePIDs"] {
        assert_eq!(of(&format!("{key}=yes")), [key]);
        assert_eq!(of(&format!("{key}=yes\n{key}=no")), [""; 0], "{key}");
        assert_eq!(of(&format!("{key}=yes\n{key}=")), [""; 0], "{key}");
    }
    assert_eq!(of("ProtectProc=default\nProcSubset=all\nProtectSystem=no"), [""; 0]);
}

#[test]
fn missing_path_is_fixed_by_a_prefix_or_a_directory_of_the_unit() {
    let fix = |lines: &str, path: &str| {
        let steps = vec![step("set up mount namespacing", Some(path), libc::ENOENT)];
        let failure = UnitFailure { status: Some(226), steps, ..UnitFailure::default() };
        diagnose_failure(&failure, &policy(lines)).unwrap().causes.remove(0).fix
    };
    let dash = "write -/srv/a in place of /srv/a: systemd skips it while /srv/a is missing";
    assert_eq!(fix("ReadWritePaths=/srv/a", "/srv/a").as_deref(), Some(dash));
    let own = fix("ReadWritePaths=/var/lib/a", "/var/lib/a").unwrap();
    assert!(own.ends_with("; or write StateDirectory=a, which makes it"), "{own}");
    assert_eq!(fix("PrivateTmp=yes", "/tmp"), None, "no line names the path");
}

#[test]
fn directory_is_no_fix_for_a_file() {
    let fix = |path: &str| {
        let steps = vec![step("set up mount namespacing", Some(path), libc::ENOENT)];
        let failure = UnitFailure { status: Some(226), steps, ..UnitFailure::default() };
        diagnose_failure(&failure, &policy(&format!("ReadWritePaths={path}"))).unwrap().causes.remove(0).fix.unwrap()
    };
    assert!(!fix("/run/x.pid").contains("RuntimeDirectory="), "a directory in place of a PID file");
    assert!(fix("/run/x").contains("RuntimeDirectory=x"));
}

#[test]
fn missing_working_directory_is_named_with_what_helps() {
    let cause = |line: &str, errno| {
        let steps = vec![step("CHDIR", None, errno)];
        let failure = UnitFailure { status: Some(200), steps, ..UnitFailure::default() };
        let cause = diagnose_failure(&failure, &policy(line)).unwrap().causes.remove(0);
        (cause.does, cause.fix)
    };
    let (does, fix) = cause("WorkingDirectory=/srv/app", libc::ENOENT);
    assert_eq!(does, "/srv/app does not exist");
    assert!(fix.unwrap().starts_with("create /srv/app, or write WorkingDirectory=-/srv/app"));
    assert_eq!(cause("WorkingDirectory=/srv/app", libc::EACCES).1, None, "another error");
    assert_eq!(cause("WorkingDirectory=/srv/%i", libc::ENOENT).1, None, "the path is unknown");
    assert_eq!(cause("WorkingDirectory=~", libc::ENOENT).1, None);
}

#[test]
fn ambient_capability_fails_for_the_line_that_takes_it_out_of_the_bounding_set() {
    let of = |lines: &str, errno| of_steps(218, lines, vec![step("apply ambient capabilities", None, errno)]);
    let ambient = "AmbientCapabilities=CAP_NET_RAW";
    assert_eq!(of(&format!("CapabilityBoundingSet=\n{ambient}"), libc::EPERM), ["CapabilityBoundingSet"]);
    assert_eq!(
        of("PrivateDevices=yes\nAmbientCapabilities=CAP_MKNOD", libc::EPERM),
        ["PrivateDevices"],
        "a switch drops it"
    );
    assert_eq!(of(&format!("CapabilityBoundingSet=CAP_NET_RAW\n{ambient}"), libc::EPERM), ["AmbientCapabilities"]);
    assert_eq!(of(&format!("CapabilityBoundingSet=\n{ambient}"), libc::EINVAL), ["AmbientCapabilities"]);
}

#[test]
fn argument_that_a_message_tells_decides() {
    let of = |lines: &str, errno, call, argument| {
        of_attempt(lines, FailedAttempt { call: Some(call), argument, ..attempt(errno, "") })
    };
    let asks = KnownArgument::Asks;
    let mdwe = "MemoryDenyWriteExecute=yes";
    for (lines, errno, call, argument, expected) in [
        (mdwe, libc::EPERM, "mmap", KnownArgument::Harmless, &[][..]),
        (mdwe, libc::EPERM, "mmap", KnownArgument::Unknown, &["MemoryDenyWriteExecute"]),
        (mdwe, libc::EPERM, "mmap", asks(Access::ExecutableMemory), &["MemoryDenyWriteExecute"]),
        ("RestrictSUIDSGID=yes", libc::EPERM, "chmod", KnownArgument::Harmless, &[]),
        ("RestrictSUIDSGID=yes", libc::EPERM, "chmod", asks(Access::SetIdMode), &["RestrictSUIDSGID"]),
        ("RestrictRealtime=yes", libc::EPERM, "sched_setscheduler", asks(Access::Scheduling(0)), &[]),
        ("RestrictRealtime=yes", libc::EPERM, "sched_setscheduler", asks(Access::Scheduling(1)), &["RestrictRealtime"]),
        ("RestrictAddressFamilies=AF_INET", libc::EAFNOSUPPORT, "socket", asks(Access::AddressFamily(2)), &[]),
        (
            "RestrictAddressFamilies=AF_INET",
            libc::EAFNOSUPPORT,
            "socket",
            asks(Access::AddressFamily(1)),
            &["RestrictAddressFamilies"],
        ),
        ("RestrictAddressFamilies=AF_INET", libc::EPERM, "socket", asks(Access::AddressFamily(1)), &[]),
        ("SystemCallFilter=~mmap:EPERM", libc::EPERM, "mmap", KnownArgument::Harmless, &["SystemCallFilter=mmap"]),
    ] {
        assert_eq!(of(lines, errno, call, argument.clone()), expected, "{lines} {call} {argument:?}");
    }
}

#[test]
fn every_message_of_the_run_counts_and_an_earlier_run_only_alone() {
    let lines = "ReadOnlyPaths=/srv\nProtectSystem=yes";
    let (srv, usr) = (attempt(libc::EROFS, "/srv/a/b"), attempt(libc::EROFS, "/usr/b"));
    let mut failure = UnitFailure { attempts: vec![usr.clone(), srv], ..UnitFailure::default() };
    assert_eq!(keys(lines, &failure), ["ReadOnlyPaths=/srv", "ProtectSystem"]);
    failure.earlier = vec![usr];
    failure.attempts.remove(0);
    assert_eq!(keys(lines, &failure), ["ReadOnlyPaths=/srv"]);
    failure.attempts.clear();
    let found = diagnose_failure(&failure, &policy(lines)).unwrap();
    assert!(found.is_of_earlier_run && &*found.causes[0].key == "ProtectSystem");
    failure.status = Some(217);
    let found = diagnose_failure(&failure, &policy(&format!("{lines}\nUser=gone"))).unwrap();
    assert!(!found.is_of_earlier_run && &*found.causes[0].key == "User", "this run failed in a step");
}

#[test]
fn lines_for_several_paths_are_joined() {
    let attempts = vec![attempt(libc::EROFS, "/var/lib/a/x"), attempt(libc::EROFS, "/var/cache/b/y")];
    let failure = UnitFailure { attempts, ..UnitFailure::default() };
    let found = diagnose_failure(&failure, &policy("ProtectSystem=strict")).unwrap();
    assert_eq!(found.causes[0].lines_to_try, ["ReadWritePaths=/var/cache/b /var/lib/a"]);
    assert_eq!(found.others, ["/var/lib/a/x".into()]);
    let made = FailedAttempt { makes_directory: true, ..attempt(libc::EROFS, "/var/lib/c") };
    let attempts = vec![made, attempt(libc::EROFS, "/var/lib/a/x"), attempt(libc::EROFS, "/var/lib/a/y")];
    let failure = UnitFailure { attempts, ..UnitFailure::default() };
    let found = diagnose_failure(&failure, &policy("ProtectSystem=strict")).unwrap();
    assert_eq!(found.causes[0].lines_to_try, ["ReadWritePaths=/var/lib/a", "StateDirectory=c"]);
}

#[test]
fn failed_step_outweighs_messages() {
    let attempts = vec![attempt(libc::EROFS, "/srv/a"), attempt(libc::EROFS, "/usr/b"), attempt(libc::EACCES, "/x")];
    let lines = "ReadOnlyPaths=/srv\nProtectSystem=yes\nUser=gone";
    let mut failure = UnitFailure { status: Some(217), attempts, ..UnitFailure::default() };
    let of_program = ["ProtectSystem", "ReadOnlyPaths=/srv"];
    assert_eq!(keys(lines, &failure), of_program, "the program ended with 217 itself");
    failure.steps = vec![step("USER", None, libc::ESRCH)];
    assert_eq!(keys(lines, &failure), ["User"]);
}

#[test]
fn line_to_try_opens_data_of_the_unit_and_the_lacking_capability_alone() {
    let line = |lines: &str, attempt: FailedAttempt| {
        let failure = UnitFailure { status: Some(1), attempts: vec![attempt], ..UnitFailure::default() };
        diagnose_failure(&failure, &policy(lines)).unwrap().causes.remove(0).lines_to_try.pop()
    };
    for (path, expected) in [
        ("/var/log/nginx/access.log", Some("ReadWritePaths=/var/log/nginx")),
        ("/var/log/nginx.log", Some("LogsDirectory=x")),
        ("/run/x.pid", Some("RuntimeDirectory=x")),
        ("/run/x/x.pid", Some("ReadWritePaths=-/run/x")),
        ("/srv/a/b/c", Some("ReadWritePaths=/srv/a/b")),
        ("/srv/a", Some("ReadWritePaths=-/srv/a")),
        ("/etc/nginx/nginx.conf", None),
        ("/etc/sudoers.d/x", None),
        ("/run/lock/x", None),
        ("/run/systemd/system/x", None),
        ("/run/docker.sock", None),
        ("/var/lib/docker/a/b", None),
        ("/srv/a/.ssh/x", None),
        ("/usr/bin/x", None),
        ("/var/lib/a b/c", None),
        ("/var/lib/%h/c", None),
    ] {
        assert_eq!(line("ProtectSystem=strict", attempt(libc::EROFS, path)).as_deref(), expected, "{path}");
    }
    let made = |path| FailedAttempt { makes_directory: true, ..attempt(libc::EROFS, path) };
    assert_eq!(line("ProtectSystem=strict", made("/var/lib/a")).as_deref(), Some("StateDirectory=a"));
    assert_eq!(line("ProtectSystem=strict", made("/var/lib/docker")), None, "of another service");
    assert_eq!(line("ReadOnlyPaths=/srv", made("/srv/a/b")).as_deref(), Some("ReadWritePaths=/srv/a"));
    assert_eq!(line("ReadOnlyPaths=/srv/a", made("/srv/a/b")), None, "the list names the path");
    let own = attempt(libc::EROFS, "/run/x.pid");
    assert_eq!(line("ProtectSystem=strict\nRuntimeDirectory=y", own), None, "the program can use its directory");
    let unix = FailedAttempt { family: Some(1), ..attempt(libc::EAFNOSUPPORT, "") };
    assert_eq!(line("RestrictAddressFamilies=AF_INET", unix).as_deref(), Some("RestrictAddressFamilies=AF_UNIX"));
    let bound = Some(("0.0.0.0:443".parse().unwrap(), AddressRole::Bound));
    let port = || FailedAttempt { address: bound, ..attempt(libc::EACCES, "") };
    assert_eq!(line("User=web", port()).as_deref(), Some("AmbientCapabilities=CAP_NET_BIND_SERVICE"));
    assert_eq!(line("DynamicUser=yes", port()).as_deref(), Some("AmbientCapabilities=CAP_NET_BIND_SERVICE"));
    assert_eq!(
        line("CapabilityBoundingSet=CAP_CHOWN", port()).as_deref(),
        Some("CapabilityBoundingSet=CAP_NET_BIND_SERVICE")
    );
}

#[test]
fn own_directory_has_the_name_of_the_unit_and_no_instance_loses_it() {
    let line = |unit, path| {
        let attempts = vec![attempt(libc::EROFS, path)];
        let failure = UnitFailure { status: Some(1), attempts, ..UnitFailure::default() };
        diagnose_failure(&failure, &policy_of(unit, "ProtectSystem=strict"))
            .unwrap()
            .causes
            .remove(0)
            .lines_to_try
            .pop()
    };
    assert_eq!(line("org.a.b.service", "/var/log/b.log").as_deref(), Some("LogsDirectory=org.a.b"));
    assert_eq!(line("a@1.service", "/var/log/a.log").as_deref(), Some("LogsDirectory=a"));
    assert_eq!(line("a@1.service", "/run/a.pid"), None);
    let fix = |unit| {
        let steps = vec![step("set up mount namespacing", Some("/run/a"), libc::ENOENT)];
        let failure = UnitFailure { status: Some(226), steps, ..UnitFailure::default() };
        diagnose_failure(&failure, &policy_of(unit, "ReadWritePaths=/run/a")).unwrap().causes.remove(0).fix.unwrap()
    };
    assert!(fix("a.service").contains("RuntimeDirectory=a") && !fix("a@1.service").contains("RuntimeDirectory="));
}

#[test]
fn user_and_credential_that_do_not_exist_are_named_with_what_helps() {
    let cause = |status, lines: &str, tried: &str, errno| {
        let steps = vec![step(tried, None, errno)];
        let failure = UnitFailure { status: Some(status), steps, ..UnitFailure::default() };
        let cause = diagnose_failure(&failure, &policy(lines)).unwrap().causes.remove(0);
        (cause.does, cause.fix)
    };
    let (does, fix) = cause(217, "User=gone", "USER", libc::ESRCH);
    assert_eq!(does, "user gone does not exist");
    assert!(fix.unwrap().starts_with("create the user"));
    assert!(cause(217, "User=gone", "USER", libc::EPERM).1.is_none(), "another error");
    let (does, fix) = cause(243, "LoadCredential=token:/etc/vault/token", "CREDENTIALS", libc::ENOENT);
    assert_eq!((does.as_str(), fix.as_deref()), ("/etc/vault/token does not exist", Some("create /etc/vault/token")));
}
