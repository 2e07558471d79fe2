//! Golden pages of accesses: one for each kind, in `tests/data/accesses`. `UPDATE=1` rewrites them.

use super::tests::{answer, page, situation, unit};
use super::*;
use crate::incidents::{
    Access, AccessDenial, AccessPath, CapabilityLack, Incident, IncidentEvent, IncidentKey, Moment, Sample,
    SightingSource,
};
use crate::syscalls::{Arch, Call};
use crate::units::Rung;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A page: the lines of the unit, the call, its error, and what it could not reach.
struct Case {
    lines: &'static str,
    call: &'static str,
    errno: i32,
    access: Access,
}

fn case(lines: &'static str, call: &'static str, errno: i32, access: Access) -> Case {
    Case { lines, call, errno, access }
}

fn cases() -> Vec<Case> {
    let path = |text: &str| AccessPath::new(text.as_bytes());
    let lacking = |name: &str, lack| Access::Capability { capability: name.parse().unwrap(), lack };
    let device = |at: &str, node: &str, wanted: &str| Access::Device {
        path: path(at),
        node: node.parse().unwrap(),
        wanted: wanted.parse().unwrap(),
    };
    let (eperm, eacces, enoent) = (libc::EPERM, libc::EACCES, libc::ENOENT);
    vec![
        case("ProtectSystem=strict", "openat", libc::EROFS, Access::ReadOnlyPath(path("/var/lib/app/db"))),
        case("ProtectHome=yes", "openat", enoent, Access::HiddenPath(path("/home/git/.ssh/keys"))),
        case("NoExecPaths=/\nExecPaths=/usr", "execve", eacces, Access::NoExecPath(path("/opt/app/hook"))),
        case("NoNewPrivileges=yes", "execve", 0, Access::SetIdProgram(path("/usr/sbin/postdrop"))),
        case("DevicePolicy=closed", "openat", eperm, device("/dev/fuse", "char 10:229", "rw")),
        case(
            "User=app\nCapabilityBoundingSet=CAP_CHOWN",
            "bind",
            eacces,
            lacking("CAP_NET_BIND_SERVICE", CapabilityLack::NotInBoundingSet),
        ),
        case("PrivateUsers=yes", "sethostname", eperm, Access::UserNamespace),
        case("MemoryDenyWriteExecute=yes", "mprotect", eacces, Access::ExecutableMemory),
        case("SocketBindDeny=any", "bind", eperm, Access::Address("0.0.0.0:80".parse().unwrap())),
        case("RestrictAddressFamilies=AF_UNIX AF_INET", "socket", libc::EAFNOSUPPORT, Access::AddressFamily(16)),
        case("RestrictNamespaces=yes", "unshare", eperm, Access::Namespaces(0x1002_0000)),
        case("RestrictSUIDSGID=yes", "fchmodat", eperm, Access::SetIdMode),
        case("RestrictRealtime=yes", "sched_setscheduler", eperm, Access::Scheduling(1)),
        case("LockPersonality=yes", "personality", eperm, Access::Personality(0x0004_0000)),
    ]
}

fn incident(case: &Case) -> Incident {
    let Case { call, errno, access, .. } = case;
    let denial = AccessDenial { call: Call::named(Arch::X86_64, call), errno: *errno, access: access.clone() };
    Incident {
        key: IncidentKey {
            unit: Some(unit()),
            event: IncidentEvent::Access(denial),
            exe: b"/usr/bin/app".to_vec(),
            source: SightingSource::Tap { errno: *errno },
        },
        rung: Some(Rung::OwnCgroup),
        count: 3,
        first: Moment::At(80),
        last: Moment::At(90),
        sample: Sample::default(),
    }
}

#[test]
fn page_of_each_kind_of_access_is_as_expected() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/accesses");
    let is_update = std::env::var_os("UPDATE").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    for case in cases() {
        let answer = answer(vec![incident(&case)], &situation(case.lines, ""));
        assert!(!answer.remedies.is_empty(), "{}", case.lines);
        let text = [Detail::Short, Detail::Full].map(|detail| page(&answer, detail)).join("\n---\n\n");
        let file = directory.join(format!("{}.txt", case.access.kind()));
        if is_update {
            fs::write(&file, &text).unwrap();
        } else if fs::read_to_string(&file).unwrap_or_default() != text {
            wrong.push(format!("{} differs; it is now:\n{text}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_golden_page_is_of_a_kind_and_every_kind_has_one() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/accesses");
    let files: BTreeSet<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let kinds: BTreeSet<String> = cases().iter().map(|case| format!("{}.txt", case.access.kind())).collect();
    assert_eq!(files, kinds);
    // A new kind needs a page: this match does not compile without it.
    for case in cases() {
        match case.access {
            Access::ReadOnlyPath(_)
            | Access::HiddenPath(_)
            | Access::NoExecPath(_)
            | Access::SetIdProgram(_)
            | Access::Device { .. }
            | Access::Capability { .. }
            | Access::UserNamespace
            | Access::ExecutableMemory
            | Access::Address(_)
            | Access::AddressFamily(_)
            | Access::Namespaces(_)
            | Access::SetIdMode
            | Access::Scheduling(_)
            | Access::Personality(_) => {}
        }
    }
    assert_eq!(kinds.len(), 14);
}
