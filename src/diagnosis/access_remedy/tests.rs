//! Tests of the remedies for accesses.

use crate::diagnosis::{DenialCause, Diagnosis, Reservation, Situation, diagnose};
use crate::incidents::{
    Access, AccessDenial, AccessPath, CapabilityLack, DeviceAccess, DeviceNode, Incident, IncidentEvent, IncidentKey,
    Moment, Sample, SightingSource,
};
use crate::policy::{Policy, Settings, UnitFile};
use crate::syscalls::{Abi, Arch, Call, Groups};
use std::path::Path;

fn path(text: &str) -> AccessPath {
    AccessPath::new(text.as_bytes())
}

fn denied(call: &str, errno: i32, access: Access) -> Incident {
    let event = IncidentEvent::Access(AccessDenial { call: Call::named(Arch::X86_64, call), errno, access });
    Incident {
        key: IncidentKey { unit: None, event, exe: b"/usr/bin/app".to_vec(), source: SightingSource::Tap { errno } },
        rung: None,
        count: 1,
        first: Moment::At(1),
        last: Moment::At(1),
        sample: Sample::default(),
    }
}

/// Diagnoses denials in `app.service` with these lines.
fn diagnose_all(lines: &str, incidents: Vec<Incident>) -> Diagnosis {
    let file =
        UnitFile::parse(Path::new("app.service"), format!("[Service]\nExecStart=/usr/bin/app\n{lines}\n").as_bytes());
    let groups = Groups::embedded().with_native(Abi::X86_64);
    let policy = Policy::new(Settings::new(&"app.service".parse().unwrap(), Some(file), Vec::new()), &groups);
    let drop_in = "/etc/systemd/system/app.service.d/zz-harden-why.conf".into();
    let situation = Situation { policy, drop_in, history: None, programs: Vec::new() };
    diagnose(incidents, Some(&situation), &groups)
}

/// Returns the lines of the default remedy for one denial; empty if there is none.
fn default_lines(lines: &str, incident: Incident) -> Vec<String> {
    let found = diagnose_all(lines, vec![incident]);
    found.default_remedy().map_or_else(Vec::new, |at| found.remedies[at].lines.clone())
}

fn read_only(lines: &str, call: &str, at: &str) -> Vec<String> {
    default_lines(lines, denied(call, libc::EROFS, Access::ReadOnlyPath(path(at))))
}

fn hidden(lines: &str, call: &str, at: &str) -> Vec<String> {
    default_lines(lines, denied(call, libc::ENOENT, Access::HiddenPath(path(at))))
}

fn lacking(lines: &str, name: &str, lack: CapabilityLack) -> Vec<String> {
    default_lines(lines, denied("chown", libc::EPERM, Access::Capability { capability: name.parse().unwrap(), lack }))
}

#[test]
fn read_only_path_is_made_a_directory_of_the_unit_or_the_narrowest_writable_path() {
    let strict = "ProtectSystem=strict";
    assert_eq!(read_only(strict, "openat", "/var/lib/app/db"), ["StateDirectory=app"]);
    assert_eq!(read_only(strict, "mkdir", "/var/cache/new"), ["CacheDirectory=new"], "it does not exist yet");
    assert_eq!(read_only(strict, "openat", "/var/lib/other/db"), ["ReadWritePaths=/var/lib/other"]);
    assert_eq!(read_only(strict, "openat", "/etc/app.conf"), ["ReadWritePaths=-/etc/app.conf"], "not all of /etc");
    assert_eq!(read_only(strict, "openat", "/srv/a b/50%"), ["ReadWritePaths=\"/srv/a b\""]);
    assert_eq!(
        read_only("ReadOnlyPaths=/srv/x /opt", "openat", "/srv/x/f"),
        ["ReadOnlyPaths=", "ReadOnlyPaths=/opt", "ReadWritePaths=/srv/x"],
        "of one path the stricter line counts"
    );
    let own = "ProtectSystem=strict\nStateDirectory=more";
    assert_eq!(read_only(own, "openat", "/var/lib/app/db"), ["ReadWritePaths=/var/lib/app"], "the owner names them");
    assert_eq!(
        read_only("ProtectKernelTunables=yes", "openat", "/proc/sys/net/ipv4/ip_forward"),
        ["ReadWritePaths=-/proc/sys/net/ipv4/ip_forward"]
    );
    assert_eq!(read_only(strict, "openat", "/srv/x\u{202e}/f"), [""; 0], "no line holds such a path");
}

#[test]
fn hidden_path_is_shown_alone() {
    assert_eq!(
        hidden("ProtectHome=yes", "openat", "/home/git/.ssh/keys"),
        ["BindReadOnlyPaths=/home/git/.ssh/keys", "ProtectHome=tmpfs"]
    );
    assert_eq!(hidden("PrivateTmp=yes", "connect", "/tmp/x/socket"), ["BindReadOnlyPaths=/tmp/x/socket"]);
    assert_eq!(
        hidden("InaccessiblePaths=/srv /opt", "openat", "/srv/data/f"),
        [
            "BindReadOnlyPaths=/srv/data/f",
            "InaccessiblePaths=",
            "InaccessiblePaths=/opt",
            "TemporaryFileSystem=/srv:ro"
        ]
    );
    assert_eq!(hidden("ProcSubset=pid", "openat", "/proc/cpuinfo"), ["ProcSubset=all"]);
    assert_eq!(hidden("ProtectHome=yes\nInaccessiblePaths=/x", "openat", "/y"), [""; 0], "no line hides it");
}

#[test]
fn capability_is_granted_alone() {
    let (bounding, effective) = (CapabilityLack::NotInBoundingSet, CapabilityLack::NotEffective);
    assert_eq!(lacking("CapabilityBoundingSet=CAP_KILL", "CAP_CHOWN", bounding), ["CapabilityBoundingSet=CAP_CHOWN"]);
    assert_eq!(lacking("CapabilityBoundingSet=~CAP_CHOWN", "CAP_CHOWN", bounding), ["CapabilityBoundingSet=CAP_CHOWN"]);
    assert_eq!(
        lacking("User=app\nCapabilityBoundingSet=", "CAP_CHOWN", bounding),
        ["AmbientCapabilities=CAP_CHOWN", "CapabilityBoundingSet=CAP_CHOWN"]
    );
    assert_eq!(lacking("User=app", "CAP_CHOWN", effective), ["AmbientCapabilities=CAP_CHOWN"]);
    assert_eq!(lacking("", "CAP_CHOWN", effective), [""; 0], "the program gave it up");
    let clock = diagnose_all(
        "ProtectClock=yes",
        vec![denied(
            "ioctl",
            libc::EPERM,
            Access::Capability { capability: "CAP_SYS_TIME".parse().unwrap(), lack: bounding },
        )],
    );
    assert_eq!(clock.default_remedy(), None, "the calls of @clock would pass, too");
    assert_eq!(clock.remedies[0].lines, ["CapabilityBoundingSet=~CAP_WAKE_ALARM", "ProtectClock=no"]);
    assert_eq!(clock.remedies[0].reservation, Some(Reservation::WiderThanDenied));
}

#[test]
fn device_is_allowed_with_the_access_asked() {
    let node = DeviceNode { is_block: false, major: 10, minor: 229 };
    let open = |lines: &str, errno| {
        let wanted = DeviceAccess { read: true, write: true, make: false };
        default_lines(lines, denied("openat", errno, Access::Device { path: path("/dev/fuse"), node, wanted }))
    };
    assert_eq!(open("DevicePolicy=closed", libc::EPERM), ["DeviceAllow=/dev/fuse rw"]);
    assert_eq!(open("DeviceAllow=/dev/fuse r", libc::EPERM), ["DeviceAllow=/dev/fuse rw"]);
    assert_eq!(open("PrivateDevices=yes", libc::ENOENT), ["BindPaths=/dev/fuse", "DeviceAllow=/dev/fuse rw"]);
    assert_eq!(open("", libc::EPERM), [""; 0]);
}

#[test]
fn other_accesses_are_granted_as_asked() {
    let exec = |lines: &str| default_lines(lines, denied("execve", libc::EACCES, Access::NoExecPath(path("/srv/run"))));
    assert_eq!(exec("NoExecPaths=/"), ["ExecPaths=/srv/run"]);
    let of = |lines: &str, call: &str, access: Access| default_lines(lines, denied(call, libc::EPERM, access));
    assert_eq!(of("MemoryDenyWriteExecute=yes", "mprotect", Access::ExecutableMemory), ["MemoryDenyWriteExecute=no"]);
    let address = || Access::Address("0.0.0.0:80".parse().unwrap());
    assert_eq!(of("SocketBindDeny=any", "bind", address()), ["SocketBindAllow=ipv4:80"]);
    assert_eq!(of("IPAddressDeny=any", "connect", address()), ["IPAddressAllow=0.0.0.0"]);
    assert_eq!(
        of("RestrictAddressFamilies=AF_UNIX", "socket", Access::AddressFamily(16)),
        ["RestrictAddressFamilies=AF_NETLINK"]
    );
    for (lines, access) in [
        ("NoNewPrivileges=yes", Access::SetIdProgram(path("/usr/sbin/postdrop"))),
        ("PrivateUsers=yes", Access::UserNamespace),
    ] {
        let found = diagnose_all(lines, vec![denied("execve", 0, access)]);
        assert_eq!((found.default_remedy(), found.remedies.len()), (None, 1), "{lines}");
        assert_eq!(found.remedies[0].reservation, Some(Reservation::WiderThanDenied));
    }
}

#[test]
fn one_drop_in_allows_calls_and_accesses_of_a_unit() {
    let call = Incident {
        key: IncidentKey {
            event: IncidentEvent::Denial(crate::incidents::Denial {
                call: Call::named(Arch::X86_64, "uname"),
                action: crate::audit::Action::KillProcess,
            }),
            source: SightingSource::Audit,
            ..denied("openat", 1, Access::UserNamespace).key
        },
        ..denied("openat", 1, Access::UserNamespace)
    };
    let lines = "SystemCallFilter=~uname\nProtectSystem=strict\nUser=app";
    let write = denied("openat", libc::EROFS, Access::ReadOnlyPath(path("/var/lib/app/db")));
    let lacking = Access::Capability { capability: "CAP_CHOWN".parse().unwrap(), lack: CapabilityLack::NotEffective };
    let found = diagnose_all(lines, vec![call, write, denied("chown", libc::EPERM, lacking)]);
    let remedy = &found.remedies[found.default_remedy().unwrap()];
    assert_eq!(remedy.lines, ["AmbientCapabilities=CAP_CHOWN", "StateDirectory=app", "SystemCallFilter=uname"]);
}

#[test]
fn access_that_the_remedy_in_force_grants_is_fixed() {
    let incident = denied("openat", libc::EROFS, Access::ReadOnlyPath(path("/var/lib/app/db")));
    let file = |at: &str, lines: &str| UnitFile::parse(Path::new(at), format!("[Service]\n{lines}\n").as_bytes());
    let drop_in = "/etc/systemd/system/app.service.d/zz-harden-why.conf";
    let remedy = vec![file(drop_in, "ReadWritePaths=/var/lib/app")];
    let settings =
        Settings::new(&"app.service".parse().unwrap(), Some(file("app.service", "ProtectSystem=strict")), remedy);
    let groups = Groups::embedded().with_native(Abi::X86_64);
    let situation = Situation {
        policy: Policy::new(settings, &groups),
        drop_in: drop_in.into(),
        history: None,
        programs: Vec::new(),
    };
    let found = diagnose(vec![incident], Some(&situation), &groups);
    assert!(found.is_settled() && found.remedies.is_empty(), "{:?}", found.findings[0].cause);
    assert!(matches!(found.findings[0].cause, DenialCause::Elsewhere(_)));
}
