//! Compares each directive that installs a filter with the kernel. A real systemd starts units whose program makes each
//! affected call, with arguments that the filter refuses and with others. The outcome of each call and its record must
//! be what [`Policy::verdict`] says.
//!
//! Left out: ABIs other than those of the machine, and calls that its kernel does not have.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

mod support {
    #[expect(dead_code, reason = "other tests use the rest")]
    pub(crate) mod child;
    #[expect(dead_code, reason = "other tests use the rest")]
    pub(crate) mod manager;
    pub(crate) mod probe;
    #[expect(dead_code, reason = "other programs need more of it")]
    pub(crate) mod skip;
}

use harden_why::audit::{Action, ArchField, CallField, parse_record};
use harden_why::intake::netlink::{AuditMessage, AuditSocket, ReceiveError};
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::policy::{Directive, DirectiveCause, Effect, ManagerContext, Policy, Settings, UnitFile, Verdict};
use harden_why::syscalls::{Abi, Arch, Groups};
use harden_why::systemd::syscall_groups;
use harden_why::unit_files;
use harden_why::units::Manager;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;
use support::child::{PATIENCE, call, listen, violate, wait};
use support::manager::TestManager;
use support::probe;
use support::probe::{How, Outcome, Probe};
use support::skip::skip;

/// A unit's lines, and the probes whose arguments it refuses. Probes that it refuses whatever their arguments
/// need no mention.
struct Case {
    lines: &'static str,
    refused: &'static [&'static str],
}

const fn case(lines: &'static str, refused: &'static [&'static str]) -> Case {
    Case { lines, refused }
}

const WX: &[&str] = &["mmap wx", "mprotect x", "pkey_mprotect x", "shmat x"];
const SUID: &[&str] = &[
    "fchmod suid",
    "fchmodat suid",
    "fchmodat2 suid",
    "mkdirat suid",
    "mknodat suid",
    "openat suid",
    "chmod suid",
    "mkdir suid",
    "mknod suid",
    "creat suid",
    "open suid",
    "i386:fchmod suid",
];
const NAMESPACES: &[&str] = &[
    "unshare net",
    "unshare uts",
    "clone net",
    "clone uts",
    "setns any",
    "setns net",
    "setns uts",
    "i386:unshare net",
];
const NOT_UTS: &[&str] = &["unshare net", "clone net", "setns any", "setns net", "i386:unshare net"];
const ONLY_UTS: &[&str] = &["unshare uts", "clone uts", "setns any", "setns uts"];
const PERSONALITY: &[&str] = &["personality query", "personality other", "i386:personality query"];

const CASES: &[Case] = &[
    case("", &[]),
    // The same as another user, to whom the kernel itself refuses more.
    case("User=nobody", &[]),
    case("DynamicUser=yes", SUID),
    case("DynamicUser=yes\nRestrictSUIDSGID=no", SUID),
    case("ProtectHostname=yes", &[]),
    case("RestrictAddressFamilies=AF_UNIX", &["socket inet", "socket netlink", "socket none"]),
    case("RestrictAddressFamilies=AF_UNIX AF_NETLINK", &["socket inet", "socket none"]),
    case("RestrictAddressFamilies=~AF_UNIX", &["socket unix"]),
    case("RestrictAddressFamilies=~AF_UNIX AF_INET", &["socket unix", "socket inet"]),
    case("RestrictAddressFamilies=none", &[]),
    case("MemoryDenyWriteExecute=yes", WX),
    case("RestrictRealtime=yes", &["sched_setscheduler fifo", "sched_setscheduler none"]),
    case("RestrictSUIDSGID=yes", SUID),
    case("RestrictNamespaces=yes", NAMESPACES),
    case("RestrictNamespaces=uts", NOT_UTS),
    case("RestrictNamespaces=~uts", ONLY_UTS),
    case("RestrictNamespaces=net uts\nRestrictNamespaces=~net", NOT_UTS),
    case("ProtectKernelTunables=yes", &[]),
    case("ProtectKernelModules=yes", &[]),
    case("ProtectKernelLogs=yes", &[]),
    case("ProtectClock=yes", &[]),
    case("PrivateDevices=yes", &[]),
    case("SystemCallArchitectures=native", &[]),
    case("SystemCallArchitectures=native x86", &[]),
    case("SystemCallArchitectures=native x32", &[]),
    case("SystemCallArchitectures=x86", &[]),
    case("LockPersonality=yes", PERSONALITY),
    case("SystemCallLog=getppid mount", &[]),
    case("SystemCallLog=~@system-service @mount", &[]),
    // Deny-lists.
    case("SystemCallFilter=~mount getppid", &[]),
    case("SystemCallFilter=~mount getppid\nSystemCallErrorNumber=ENOANO", &[]),
    case("SystemCallFilter=~mount:ENOANO getppid", &[]),
    case("SystemCallFilter=~mount:kill getppid\nSystemCallErrorNumber=ENOANO", &[]),
    case("SystemCallFilter=~@mount:ENOANO\nSystemCallFilter=~mount:ENOSYS", &[]),
    case("SystemCallFilter=~@privileged\nSystemCallFilter=mount", &[]),
    case("SystemCallFilter=~getppid:0", &[]),
    case("SystemCallFilter=~bogus mseal", &[]),
    case("SystemCallFilter=~", &[]),
    // Allow-lists.
    case("SystemCallFilter=@system-service", &[]),
    case("SystemCallFilter=@system-service\nSystemCallErrorNumber=ENOANO", &[]),
    case("SystemCallFilter=@system-service\nSystemCallFilter=~getppid", &[]),
    case("SystemCallFilter=@system-service\nSystemCallFilter=~getppid:ENOANO", &[]),
    case("SystemCallFilter=@system-service\nSystemCallErrorNumber=ENOANO\nSystemCallFilter=~getppid:kill", &[]),
    case("SystemCallFilter=@system-service @mount\nSystemCallFilter=~@mount:ENOANO\nSystemCallFilter=mount", &[]),
    case("SystemCallFilter=@system-service mseal @bogus\nSystemCallErrorNumber=ENOANO", &[]),
    // The two ways out for a call that libseccomp does not know (`unresolved_calls.rs`).
    case("SystemCallFilter=@system-service mseal\nSystemCallErrorNumber=ENOSYS", &[]),
    case(
        "SystemCallFilter=@system-service mseal\nSystemCallFilter=~getppid\nSystemCallFilter=\nSystemCallFilter=~@known\n\
         SystemCallFilter=@default @system-service mseal\nSystemCallFilter=~getppid",
        &[],
    ),
    case("SystemCallFilter=~@known\nSystemCallFilter=\nSystemCallFilter=~getppid", &[]),
    case("SystemCallFilter=@system-service\nSystemCallFilter=~@resources\nSystemCallErrorNumber=ENOANO", &[]),
    // Of two errors, the newest filter's wins.
    case(
        "SystemCallFilter=~sethostname settimeofday\nSystemCallErrorNumber=ENOANO\nProtectHostname=yes\nProtectClock=yes",
        &[],
    ),
    case(
        "SystemCallFilter=~socket:ENOANO\nRestrictAddressFamilies=AF_UNIX",
        &["socket inet", "socket netlink", "socket none"],
    ),
    case("LockPersonality=yes\nSystemCallFilter=~personality:ENOANO", PERSONALITY),
    case("RestrictNamespaces=yes\nSystemCallFilter=~clone3:ENOANO unshare:ENOANO", NAMESPACES),
    case("RestrictSUIDSGID=yes\nSystemCallFilter=~openat2:ENOANO mkdirat:ENOANO", SUID),
    case("ProtectKernelModules=yes\nProtectKernelLogs=yes\nSystemCallFilter=~@module:ENOANO", &[]),
    // Death wins over errors.
    case("ProtectHostname=yes\nProtectClock=yes\nSystemCallFilter=~sethostname settimeofday", &[]),
    case(
        "RestrictAddressFamilies=AF_UNIX\nSystemCallFilter=~socket",
        &["socket inet", "socket netlink", "socket none"],
    ),
    case("LockPersonality=yes\nSystemCallFilter=~personality", PERSONALITY),
    // systemd puts no filter on a blocked ABI; filters that were there before stay.
    case("SystemCallArchitectures=native\nProtectHostname=yes\nSystemCallFilter=~getppid sethostname", &[]),
    case("SystemCallArchitectures=native\nLockPersonality=yes", PERSONALITY),
    // Logged and refused.
    case("SystemCallLog=mount getppid\nSystemCallFilter=~mount:ENOANO", &[]),
    case("SystemCallLog=sethostname\nProtectHostname=yes", &[]),
    // The guide's own settings.
    case(
        "SystemCallFilter=@system-service\nSystemCallErrorNumber=EPERM\nSystemCallArchitectures=native\nProtectClock=yes\n\
         ProtectHostname=yes\nProtectKernelLogs=yes\nProtectKernelModules=yes\nProtectKernelTunables=yes\nLockPersonality=yes\n\
         MemoryDenyWriteExecute=yes\nRestrictRealtime=yes\nRestrictSUIDSGID=yes\nRestrictNamespaces=yes\n\
         RestrictAddressFamilies=AF_UNIX",
        &[
            "socket inet",
            "socket netlink",
            "socket none",
            "sched_setscheduler fifo",
            "sched_setscheduler none",
            "mmap wx",
            "mprotect x",
            "pkey_mprotect x",
            "shmat x",
            "fchmod suid",
            "fchmodat suid",
            "fchmodat2 suid",
            "mkdirat suid",
            "mknodat suid",
            "openat suid",
            "chmod suid",
            "mkdir suid",
            "mknod suid",
            "creat suid",
            "open suid",
            "unshare net",
            "unshare uts",
            "clone net",
            "clone uts",
            "setns any",
            "setns net",
            "setns uts",
            "personality query",
            "personality other",
            "i386:fchmod suid",
            "i386:unshare net",
            "i386:personality query",
        ],
    ),
];

/// The outcome of a call that the policy predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expected {
    effect: Option<Effect>,
    logged: bool,
}

/// The verdict on a probe, once its arguments are known.
fn expected(policy: &Policy, abi: Abi, call: &str, refused: bool) -> Expected {
    let strongest = |causes: &[DirectiveCause]| {
        let decisive = causes.iter().max_by_key(|cause| (cause.effect.map(Effect::severity), cause.directive));
        decisive.and_then(|cause| cause.effect)
    };
    match policy.verdict(abi, call) {
        Verdict::LogOnly { .. } => Expected { effect: None, logged: true },
        Verdict::Possible { by } if refused => Expected { effect: strongest(&by), logged: false },
        Verdict::Permitted | Verdict::Possible { .. } => Expected { effect: None, logged: false },
        Verdict::Denied { by, possible, .. } if refused => {
            Expected { effect: strongest(&[by, possible].concat()), logged: false }
        }
        Verdict::Denied { effect, .. } => Expected { effect: Some(effect), logged: false },
    }
}

fn policy(lines: &str, groups: &Groups) -> Policy {
    let file = UnitFile::parse(Path::new("x.service"), format!("[Service]\n{lines}\n").as_bytes());
    Policy::new(Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new()), groups)
}

fn abi(probe: &Probe) -> Abi {
    match probe.how {
        How::Native => Abi::native(),
        How::I386 => Abi::I386,
        How::X32 => Abi::X32,
    }
}

/// The records of some processes: action, token of the architecture, number.
type Records = BTreeMap<u32, BTreeSet<(u32, u32, u32)>>;

/// Receives the records that are there.
fn take(audit: &mut AuditSocket, records: &mut Records) {
    loop {
        match audit.receive() {
            Ok(Some(AuditMessage::Seccomp(payload))) => {
                let record = parse_record(payload).unwrap();
                if let (ArchField::Token(arch), CallField::Number(number), Some(code)) =
                    (&record.arch, &record.call, record.action.code())
                {
                    records.entry(record.pid).or_default().insert((code, *arch, *number));
                }
            }
            Ok(Some(_)) | Err(ReceiveError::Overrun) => {}
            Ok(None) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Receives all records sent until now: up to the record of a child of this test.
fn take_all(audit: &mut AuditSocket, records: &mut Records) {
    let number = u32::try_from(libc::SYS_getppid).unwrap();
    let filter = SeccompFilter::new(Arch::native(), &[(number, return_value(Action::Errno, 1))], ALLOW);
    let (pid, _) = violate(filter, c"last", call(number));
    let deadline = Instant::now() + PATIENCE;
    loop {
        take(audit, records);
        if records.contains_key(&pid) {
            return;
        }
        assert!(Instant::now() < deadline, "no record of our own");
        wait(audit);
    }
}

/// Compares the kernel's outcome with the policy's; empty if they agree.
fn difference(
    probe: &Probe,
    expected: Expected,
    (pid, outcome): (u32, Outcome),
    plain: Outcome,
    records: &Records,
) -> String {
    let as_expected = match expected.effect {
        None => plain,
        Some(Effect::Errno(errno)) => Outcome::Returned(errno),
        Some(Effect::KillThread | Effect::Kill) => Outcome::Died(libc::SIGSYS),
    };
    let code = match expected.effect {
        Some(Effect::Errno(_)) => Action::Errno.code(),
        Some(Effect::KillThread) => Action::KillThread.code(),
        Some(Effect::Kill) => Action::KillProcess.code(),
        None if expected.logged => Action::Log.code(),
        None => None,
    };
    let number = Abi::call_number(abi(probe), probe.call());
    let recorded: BTreeSet<u32> = records
        .get(&pid)
        .into_iter()
        .flatten()
        .filter(|(_, arch, called)| Some(*called) == number && *arch == abi(probe).arch().0)
        .map(|(code, ..)| *code)
        .collect();
    let mut text = String::new();
    // Without a filter's record the kernel itself refused more: by capabilities that the directive removes,
    // or by its own MemoryDenyWriteExecute= (EACCES).
    let by_kernel = expected.effect.is_none() && [libc::EPERM, libc::EACCES].map(Outcome::Returned).contains(&outcome);
    if outcome != as_expected && !by_kernel {
        let _ = write!(text, " {outcome}, not {as_expected};");
    }
    if recorded != code.into_iter().collect() {
        let _ = write!(text, " recorded {recorded:x?}, not {code:x?};");
    }
    text
}

/// Starts a unit for each case and compares each outcome with the verdict. Returns the number of compared calls, and
/// every difference. The first two cases show how calls end that no filter denies.
fn hold(
    manager: &TestManager,
    audit: &mut AuditSocket,
    cases: &[Case],
    surroundings: &ManagerContext,
    groups: &Groups,
) -> (usize, String) {
    let program = std::env::current_exe().unwrap();
    let names: Vec<String> = (0..cases.len()).map(|number| format!("probe{number}.service")).collect();
    let output = |name: &str| manager.base().join(name).with_extension("out");
    for (case, name) in cases.iter().zip(&names) {
        let text = format!(
            "[Service]\nType=oneshot\nLimitCORE=0\nEnvironment={}=1\nExecStart={}\nStandardOutput=truncate:{}\n{}\n",
            probe::VARIABLE,
            program.display(),
            output(name).display(),
            case.lines,
        );
        manager.write(name, &text);
    }
    manager.reload();
    let (mut records, mut wrong, mut held) = (Records::new(), String::new(), 0);
    for (name, case) in names.iter().zip(cases) {
        // Not every machine can allocate the user.
        if !manager.start_unit(name) && !case.lines.contains("DynamicUser=") {
            let _ = write!(wrong, "\n{name} does not start");
        }
        take(audit, &mut records);
    }
    take_all(audit, &mut records);

    let outcomes = |name: &str| -> BTreeMap<String, (u32, Outcome)> {
        let text = fs::read_to_string(output(name)).unwrap_or_default();
        text.lines().filter_map(probe::read).map(|(label, pid, outcome)| (label.to_owned(), (pid, outcome))).collect()
    };
    let (root, nobody) = (outcomes(&names[0]), outcomes(&names[1]));
    let probes = probe::all();
    let dynamic = |case: &&Case| case.lines.contains("DynamicUser=");
    for (case, name) in cases.iter().zip(&names) {
        let policy = policy(case.lines, groups).with_context(surroundings.clone(), groups);
        let outcomes = outcomes(name);
        if outcomes.is_empty() && case.lines.contains("DynamicUser=") {
            println!("not held: {:?}, which does not start here", case.lines);
            continue;
        }
        let plain = if case.lines.contains("User=") { &nobody } else { &root };
        for probe in &probes {
            let Some(found) = outcomes.get(probe.label) else {
                let _ = write!(wrong, "\n{:?}: {} was not made", case.lines, probe.label);
                break;
            };
            let expected = expected(&policy, abi(probe), probe.call(), case.refused.contains(&probe.label));
            let text = difference(probe, expected, *found, plain[probe.label].1, &records);
            if !text.is_empty() {
                let _ = write!(wrong, "\n{:?}: {}:{text}", case.lines, probe.label);
            }
            held += 1;
        }
        for label in case.refused.iter().filter(|_| cfg!(target_arch = "x86_64")) {
            assert!(probes.iter().any(|probe| probe.label == *label), "{label}");
        }
    }
    assert!(held >= (cases.len() - cases.iter().filter(dynamic).count()) * probes.len() || !wrong.is_empty(), "{held}");
    (held, wrong)
}

/// A manager that logs denials, a listener for them, and the groups of this systemd.
fn start() -> Option<(TestManager, AuditSocket, Groups)> {
    let audit = listen()?;
    let manager = TestManager::start_with(&[("SYSTEMD_LOG_SECCOMP", "1")])?;
    let loaded = syscall_groups::load();
    if let Some(why) = loaded.note {
        skip(&why);
        return None;
    }
    Some((manager, audit, loaded.groups))
}

#[test]
fn call_outcome_in_the_kernel_equals_the_verdict() {
    let Some((manager, mut audit, groups)) = start() else { return };
    let (surroundings, _) = unit_files::load_manager_context(Path::new("/"), Manager::User(0), Some(manager.base()));
    let (held, wrong) = hold(&manager, &mut audit, CASES, &surroundings, &groups);
    assert!(wrong.is_empty(), "{wrong}");
    println!("{held} calls under {} policies: the kernel and the verdict agree", CASES.len());
}

#[test]
fn every_filter_directive_has_a_case() {
    for directive in Directive::ALL.iter().filter(|directive| directive.filters_calls()) {
        let line = format!("{}=", directive.key());
        assert!(CASES.iter().any(|case| case.lines.contains(&line)), "{line}");
    }
}

#[test]
fn architectures_of_a_manager_apply_to_all_its_units() {
    let Some((manager, mut audit, groups)) = start() else { return };
    let cases = [
        case("", &[]),
        case("User=nobody", &[]),
        case("SystemCallArchitectures=native x86", &[]),
        case("SystemCallFilter=~getppid", &[]),
        case("ProtectHostname=yes\nSystemCallFilter=~getppid:ENOANO", &[]),
    ];
    let home = manager.base().join("home");
    let dir = home.join(".config/systemd/user.conf.d");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("10.conf"), "[Manager]\nSystemCallArchitectures=native\n").unwrap();
    // A filter on the manager stays, and the manager installs it when it starts.
    let output = manager.systemctl(&["daemon-reexec"]);
    assert!(output.status.success(), "{output:?}");
    let (surroundings, notes) = unit_files::load_manager_context(Path::new("/"), Manager::User(0), Some(&home));
    assert_eq!((surroundings.manager.listed.len(), notes.len()), (1, 0));
    let (held, wrong) = hold(&manager, &mut audit, &cases, &surroundings, &groups);
    assert!(wrong.is_empty(), "{wrong}");
    println!("{held} calls under {} policies: the kernel and the verdict agree", cases.len());
}
