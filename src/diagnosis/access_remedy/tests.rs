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

/// Returns the situation of `app.service` with these lines.
fn situation(lines: &str) -> Situation {
    let file =
        UnitFile::parse(Path::new("app.service"), format!("[Service]\nExecStart=/usr/bin/app\n{lines}\n").as_bytes());
    let groups = Groups::embedded().with_native(Abi::X86_64);
    let policy = Policy::new(Settings::new(&"app.service".parse().unwrap(), Some(file), Vec::new()), &groups);
    let drop_in = "/etc/systemd/system/app.service.d/zz-harden-why.conf".into();
    Situation { policy, drop_in, history: None, programs: Vec::new() }
}

/// Diagnoses denials in `app.service` with these lines.
fn diagnose_all(lines: &str, incidents: Vec<Incident>) -> Diagnosis {
    diagnose(incidents, Some(&situation(lines)), &Groups::embedded().with_native(Abi::X86_64))
}

#[test]
fn file_that_a_library_does_without_needs_no_remedy() {
    let hidden = |file: &str| denied("openat", libc::ENOENT, Access::HiddenPath(path(file)));
    let reserved = |file: &str| {
        let found = diagnose_all("ProcSubset=pid", vec![hidden(file)]);
        (found.findings[0].reservation, found.findings[0].is_harmless())
    };
    assert_eq!(reserved("/proc/sys/kernel/ngroups_max"), (Some(Reservation::LibraryProbe), true));
    assert_eq!(reserved("/proc/cpuinfo"), (Some(Reservation::WiderThanDenied), false));
    for other in ["/home/app", "/srv/app/data"] {
        let lines = "ProcSubset=pid\nTemporaryFileSystem=/home /srv";
        let both = diagnose_all(lines, vec![hidden("/proc/filesystems"), hidden(other)]);
        let (first, last) = (&both.remedies[0], both.remedies.last().unwrap());
        assert_eq!(first.lines, [format!("BindReadOnlyPaths=-{other}")], "the library's file is left out");
        assert_eq!(last.reservation, Some(Reservation::LibraryProbe), "{:?}", last.lines);
        assert!(last.lines.iter().any(|line| line == "ProcSubset=all"), "{:?}", last.lines);
    }
}

#[test]
fn directory_that_the_machine_has_is_given_to_no_unit() {
    let incident = denied("mkdir", libc::EROFS, Access::ReadOnlyPath(path("/var/lib/mysql")));
    let mut situation = situation("ProtectSystem=strict");
    situation.policy = situation.policy.with_present_paths(["/var/lib/mysql".into()]);
    let found = diagnose(vec![incident], Some(&situation), &Groups::embedded().with_native(Abi::X86_64));
    assert!(found.remedies.iter().all(|remedy| !remedy.content.contains("StateDirectory=")), "{:?}", found.remedies);
}

#[test]
fn path_that_holds_guarded_ones_is_opened_by_number_only() {
    for (call, at) in [
        ("utimensat", "/var/spool"),
        ("mkdir", "/run/modprobe.d"),
        ("openat", "/run/initramfs/shutdown"),
        ("openat", "/var/lib/dkms/x.c"),
        ("openat", "/opt/google/chrome/cron/x"),
    ] {
        let lines = read_only("ProtectSystem=strict", call, at);
        assert!(lines.is_empty() || lines[0] == "by number", "{at}: {lines:?}");
    }
}

#[test]
fn path_that_the_machine_lacks_is_made_in_its_directory() {
    let incident = || denied("openat", libc::EROFS, Access::ReadOnlyPath(path("/var/lib/state")));
    let lines = |paths: &[&str], lines: &str| {
        let absent = paths.iter().map(|path| Box::from(*path));
        let mut situation = situation(lines);
        situation.policy = situation.policy.with_absent_paths(absent);
        let found = diagnose(vec![incident()], Some(&situation), &Groups::embedded().with_native(Abi::X86_64));
        found.remedies.first().map_or_else(Vec::new, |remedy| remedy.lines.clone())
    };
    let strict = "ProtectSystem=strict";
    assert_eq!(lines(&[], strict), ["ReadWritePaths=-/var/lib/state"], "it may exist");
    assert_eq!(lines(&["/var/lib/state"], strict), ["ReadWritePaths=/var/lib"]);
    let asked_twice = "ProtectSystem=strict\nReadWritePaths=-/var/lib/state";
    assert_eq!(lines(&["/var/lib/state"], asked_twice), ["ReadWritePaths=/var/lib"], "that line opened nothing");
}

/// Returns the lines of the first remedy for one denial, behind `by number` if it is no default; empty if there is none.
fn first_lines(lines: &str, incident: Incident) -> Vec<String> {
    let found = diagnose_all(lines, vec![incident]);
    let number = found.default_remedy().is_none().then(|| "by number".to_owned());
    let first = found.default_remedy().unwrap_or(0);
    found.remedies.get(first).map_or_else(Vec::new, |remedy| {
        assert_eq!(remedy.reservation, number.as_ref().map(|_| Reservation::WiderThanDenied));
        number.into_iter().chain(remedy.lines.iter().cloned()).collect()
    })
}

fn read_only(lines: &str, call: &str, at: &str) -> Vec<String> {
    first_lines(lines, denied(call, libc::EROFS, Access::ReadOnlyPath(path(at))))
}

fn hidden(lines: &str, call: &str, at: &str) -> Vec<String> {
    first_lines(lines, denied(call, libc::ENOENT, Access::HiddenPath(path(at))))
}

fn lacking(lines: &str, name: &str, lack: CapabilityLack) -> Vec<String> {
    first_lines(lines, denied("chown", libc::EPERM, Access::Capability { capability: name.parse().unwrap(), lack }))
}

#[test]
fn read_only_path_is_made_a_new_directory_of_the_unit_or_the_narrowest_writable_path() {
    let strict = "ProtectSystem=strict";
    assert_eq!(read_only(strict, "openat", "/var/lib/app/db"), ["ReadWritePaths=/var/lib/app"], "it exists");
    assert_eq!(read_only(strict, "mkdir", "/var/lib/new"), ["StateDirectory=new"], "it does not exist yet");
    assert_eq!(read_only(strict, "mkdir", "/run/new"), ["RuntimeDirectory=new"]);
    assert_eq!(read_only(strict, "openat", "/run/app/pid"), ["ReadWritePaths=-/run/app"], "gone after a boot");
    assert_eq!(read_only(strict, "truncate", "/srv/data"), ["ReadWritePaths=/srv/data"], "the file exists");
    assert_eq!(read_only(strict, "openat", "/srv/a b/50%"), ["ReadWritePaths=\"/srv/a b\""]);
    assert_eq!(
        read_only("ReadOnlyPaths=/srv/x /opt", "openat", "/srv/x/f"),
        ["by number", "ReadOnlyPaths=", "ReadOnlyPaths=/opt", "ReadWritePaths=/srv/x"],
        "of one path the stricter line counts"
    );
    let own = "ProtectSystem=strict\nStateDirectory=more";
    assert_eq!(
        read_only(own, "mkdir", "/var/lib/new"),
        ["by number", "ReadWritePaths=/var/lib"],
        "the owner names them"
    );
    assert_eq!(read_only(strict, "openat", "/srv/x\u{202e}/f"), [""; 0], "no line holds such a path");
}

#[test]
fn path_below_a_read_only_bind_mount_is_made_writable_and_other_bind_mounts_stay() {
    assert_eq!(read_only("BindReadOnlyPaths=/srv", "openat", "/srv/app/f"), ["ReadWritePaths=/srv/app"]);
    assert_eq!(
        read_only("BindReadOnlyPaths=/srv/app /x:/y\nBindPaths=/z", "openat", "/srv/app/f"),
        ["by number", "BindPaths=", "BindPaths=/srv/app", "BindPaths=/z", "BindReadOnlyPaths=/x:/y"]
    );
    assert_eq!(read_only("BindReadOnlyPaths=/srv/app /x/%m", "openat", "/srv/app/f"), [""; 0], "it would be lost");
    let of_data = "BindReadOnlyPaths=/data:/srv/app";
    assert_eq!(
        read_only(of_data, "openat", "/srv/app/sub/f"),
        ["by number", "ReadWritePaths=/srv/app/sub"],
        "it is a path below another one"
    );
    assert_eq!(read_only(of_data, "openat", "/srv/app/f"), ["by number", "BindPaths=", "BindPaths=/data:/srv/app"]);
    let empty = format!("{of_data}\nTemporaryFileSystem=/srv/app/sub:ro");
    assert_eq!(read_only(&empty, "openat", "/srv/app/sub/x/f"), [""; 0]);
}

#[test]
fn directive_that_protects_the_directory_itself_is_replaced_by_lines_for_its_other_paths() {
    assert_eq!(read_only("ProtectSystem=full", "mkdir", "/etc/app"), ["by number", "ProtectSystem=yes"]);
    let home = read_only("ProtectHome=read-only", "mkdir", "/home/app");
    assert_eq!(home, ["by number", "ProtectHome=no", "ReadOnlyPaths=-/root", "ReadOnlyPaths=-/run/user"]);
    let usr = read_only("ProtectSystem=yes", "mkdir", "/usr/app");
    assert!(
        usr.contains(&"ReadOnlyPaths=-/boot".to_owned()) && usr.contains(&"ProtectSystem=no".to_owned()),
        "{usr:?}"
    );
    assert!(!usr.contains(&"ReadOnlyPaths=-/usr".to_owned()), "{usr:?}");
    assert_eq!(
        read_only("ProtectControlGroups=yes", "mkdir", "/sys/fs/cgroup/app"),
        ["by number", "ProtectControlGroups=no"]
    );
    assert_eq!(
        read_only("ProtectControlGroups=strict", "mkdir", "/sys/fs/cgroup/app"),
        ["by number", "ProtectControlGroups=private"]
    );
}

#[test]
fn empty_file_system_that_is_read_only_stays_so() {
    assert_eq!(read_only("TemporaryFileSystem=/srv/app:ro", "mkdir", "/srv/app/x"), [""; 0]);
    assert_eq!(read_only("ProtectHome=tmpfs", "mkdir", "/home/x"), [""; 0]);
}

#[test]
fn path_of_the_whole_machine_is_made_writable_by_number_only() {
    let strict = "ProtectSystem=strict";
    for (call, at, line) in [
        ("openat", "/etc/app.conf", "ReadWritePaths=-/etc/app.conf"),
        ("truncate", "/etc/shadow", "ReadWritePaths=/etc/shadow"),
        ("mkdir", "/etc/app", "ReadWritePaths=/etc"),
        ("unlink", "/srv/file", "ReadWritePaths=/srv"),
        ("openat", "/srv/new", "ReadWritePaths=-/srv/new"),
        ("openat", "/usr/share/app/x", "ReadWritePaths=/usr/share/app"),
        ("openat", "/data/f", "ReadWritePaths=-/data/f"),
        ("openat", "/data/x/f", "ReadWritePaths=/data/x"),
        ("openat", "/var/lib/dpkg/status", "ReadWritePaths=/var/lib/dpkg"),
        ("openat", "/srv/.ssh/authorized_keys", "ReadWritePaths=/srv/.ssh"),
        ("openat", "/tmp/x/f", "ReadWritePaths=-/tmp/x"),
        ("openat", "/var/lib/private/x/f", "ReadWritePaths=/var/lib/private/x"),
        ("truncate", "/var/spool/cron/crontabs/root", "ReadWritePaths=/var/spool/cron/crontabs"),
        ("truncate", "/var/spool/cron/root", "ReadWritePaths=/var/spool/cron"),
        ("truncate", "/etc/crontab", "ReadWritePaths=/etc/crontab"),
        ("truncate", "/etc/cron.d/app", "ReadWritePaths=/etc/cron.d"),
        ("truncate", "/etc/sudoers.d/app", "ReadWritePaths=/etc/sudoers.d"),
        ("openat", "/run/sudo/ts/root", "ReadWritePaths=-/run/sudo/ts"),
        ("mkdir", "/var/lib/sudo", "StateDirectory=sudo"),
    ] {
        assert_eq!(read_only(strict, call, at), ["by number", line], "{call} {at}");
    }
    let tunables = read_only("ProtectKernelTunables=yes", "openat", "/proc/sys/kernel/core_pattern");
    assert_eq!(tunables, ["by number", "ReadWritePaths=-/proc/sys/kernel/core_pattern"]);
    assert_eq!(read_only(strict, "mkdir", "/new"), [""; 0], "no line opens all of /");
}

#[test]
fn hidden_path_is_shown_alone() {
    let own = "TemporaryFileSystem=/srv";
    assert_eq!(hidden(own, "openat", "/srv/data/f"), ["BindReadOnlyPaths=-/srv/data/f"]);
    assert_eq!(hidden(own, "unlink", "/srv/f"), ["by number", "BindPaths=-/srv"], "the directory of the mount itself");
    assert_eq!(hidden("PrivateTmp=yes", "unlink", "/tmp/app.sock"), ["by number", "BindPaths=-/tmp"]);
    assert_eq!(hidden("BindPaths=/x:/srv/app", "openat", "/srv/app/f"), ["by number", "BindReadOnlyPaths=-/srv/app/f"]);
    assert_eq!(
        hidden("ProtectHome=yes", "openat", "/home/git/.ssh/keys"),
        ["by number", "BindReadOnlyPaths=-/home/git/.ssh/keys", "ProtectHome=tmpfs"]
    );
    assert_eq!(
        hidden("PrivateTmp=yes", "connect", "/tmp/x/socket"),
        ["by number", "BindReadOnlyPaths=-/tmp/x/socket"],
        "any user can put a link there"
    );
    assert_eq!(
        hidden("InaccessiblePaths=/srv /opt", "openat", "/srv/data/f"),
        [
            "by number",
            "BindReadOnlyPaths=-/srv/data/f",
            "InaccessiblePaths=",
            "InaccessiblePaths=/opt",
            "TemporaryFileSystem=/srv:ro"
        ]
    );
    assert_eq!(hidden("ProcSubset=pid", "openat", "/proc/cpuinfo"), ["by number", "ProcSubset=all"]);
    assert_eq!(hidden("ProtectKernelLogs=yes", "openat", "/dev/kmsg"), ["by number", "ProtectKernelLogs=no"]);
    assert_eq!(hidden("ProtectHome=yes\nInaccessiblePaths=/x", "openat", "/y"), [""; 0], "no line hides it");
}

#[test]
fn crontabs_and_files_of_sudo_are_shown_by_number_only() {
    for at in ["/var/spool/cron/crontabs/root", "/etc/crontab", "/etc/sudoers", "/var/lib/sudo/lectured/root"] {
        let line = format!("BindReadOnlyPaths=-{at}");
        assert_eq!(hidden("TemporaryFileSystem=/var /etc", "openat", at), ["by number", &line]);
    }
}

#[test]
fn capability_is_granted_alone_and_by_default_if_harmless() {
    let (bounding, effective) = (CapabilityLack::NotInBoundingSet, CapabilityLack::NotEffective);
    assert_eq!(lacking("CapabilityBoundingSet=CAP_KILL", "CAP_CHOWN", bounding), ["CapabilityBoundingSet=CAP_CHOWN"]);
    assert_eq!(lacking("CapabilityBoundingSet=~CAP_CHOWN", "CAP_CHOWN", bounding), ["CapabilityBoundingSet=CAP_CHOWN"]);
    assert_eq!(
        lacking("User=app\nCapabilityBoundingSet=", "CAP_NET_BIND_SERVICE", bounding),
        ["AmbientCapabilities=CAP_NET_BIND_SERVICE", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"]
    );
    let elevated = "ExecStart=\nExecStart=!/usr/bin/app\nUser=app\nCapabilityBoundingSet=~CAP_SYS_TIME";
    assert_eq!(
        lacking(elevated, "CAP_SYS_TIME", bounding),
        ["CapabilityBoundingSet=CAP_SYS_TIME"],
        "it starts as root"
    );
    assert_eq!(
        lacking(&elevated.replace("ExecStart=\n", "ExecStartPre=/usr/bin/app\nExecStart=\n"), "CAP_SYS_TIME", bounding),
        ["by number", "AmbientCapabilities=CAP_SYS_TIME", "CapabilityBoundingSet=CAP_SYS_TIME"],
        "another command does not"
    );
    assert_eq!(lacking("User=app", "CAP_NET_RAW", effective), ["AmbientCapabilities=CAP_NET_RAW"]);
    assert_eq!(lacking("User=app", "CAP_CHOWN", effective), ["by number", "AmbientCapabilities=CAP_CHOWN"]);
    assert_eq!(lacking("", "CAP_CHOWN", effective), [""; 0], "the program gave it up");
    assert_eq!(
        lacking("ProtectClock=yes", "CAP_SYS_TIME", bounding),
        ["by number", "CapabilityBoundingSet=~CAP_WAKE_ALARM", "ProtectClock=no"],
        "the calls of @clock would pass, too"
    );
}

#[test]
fn capability_that_rules_the_machine_is_granted_by_number_only() {
    for name in [
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_CHROOT",
        "CAP_BPF",
        "CAP_PERFMON",
        "CAP_CHECKPOINT_RESTORE",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_SETFCAP",
        "CAP_MAC_ADMIN",
        "CAP_MAC_OVERRIDE",
        "CAP_MKNOD",
        "CAP_NET_ADMIN",
        "CAP_AUDIT_CONTROL",
        "CAP_LINUX_IMMUTABLE",
    ] {
        let line = format!("CapabilityBoundingSet={name}");
        let found = lacking("CapabilityBoundingSet=", name, CapabilityLack::NotInBoundingSet);
        assert_eq!(found, ["by number", &line]);
    }
}

#[test]
fn access_of_a_process_that_the_settings_do_not_explain_may_be_an_intrusion() {
    let lack = CapabilityLack::NotInBoundingSet;
    let access = Access::Capability { capability: "CAP_SYS_NICE".parse().unwrap(), lack };
    let mut incident = denied("ptrace", libc::EPERM, access);
    incident.key.exe = b"/srv/x".to_vec();
    incident.sample.uid = "0".into();
    let found = diagnose_all("User=app\nCapabilityBoundingSet=", vec![incident]);
    assert_eq!(found.default_remedy(), None);
    assert_eq!(found.findings[0].reservation, Some(Reservation::PossibleIntrusion));
}

#[test]
fn device_is_allowed_with_the_access_asked() {
    let open = |lines: &str, errno, at: &str, (is_block, major, minor): (bool, u32, u32)| {
        let node = DeviceNode { is_block, major, minor };
        let wanted = DeviceAccess { read: true, write: true, make: false };
        first_lines(lines, denied("openat", errno, Access::Device { path: path(at), node, wanted }))
    };
    let fuse = |lines: &str, errno| open(lines, errno, "/dev/fuse", (false, 10, 229));
    assert_eq!(fuse("DevicePolicy=closed", libc::EPERM), ["DeviceAllow=/dev/fuse rw"]);
    assert_eq!(fuse("DeviceAllow=/dev/fuse r", libc::EPERM), ["DeviceAllow=/dev/fuse rw"]);
    assert_eq!(fuse("PrivateDevices=yes", libc::ENOENT), ["BindPaths=-/dev/fuse", "DeviceAllow=/dev/fuse rw"]);
    assert_eq!(fuse("", libc::EPERM), [""; 0]);
    let closed = |at: &str, node| open("DevicePolicy=closed", libc::EPERM, at, node);
    assert_eq!(closed("/srv/fuse", (false, 10, 229)), [""; 0], "no node of the machine");
    assert_eq!(closed("/dev/kvm", (false, 10, 232)), ["DeviceAllow=/dev/kvm rw"]);
    for (at, node) in [
        ("/dev/sda", (true, 8, 0)),
        ("/dev/mem", (false, 1, 1)),
        ("/dev/harmless", (false, 1, 1)),
        ("/dev/port", (false, 1, 4)),
        ("/dev/sg0", (false, 21, 0)),
        ("/dev/i2c-1", (false, 89, 1)),
        ("/dev/vcs1", (false, 7, 1)),
        ("/dev/tty1", (false, 4, 1)),
        ("/dev/nvram", (false, 10, 144)),
        ("/dev/snapshot", (false, 10, 231)),
        ("/dev/tpm0", (false, 10, 224)),
        ("/dev/gpiochip0", (false, 254, 0)),
        ("/dev/fuse", (true, 10, 229)),
        ("/dev/shm/fuse", (false, 10, 229)),
        ("/dev/video0", (false, 81, 0)),
        ("/dev/snd/timer", (false, 116, 33)),
        ("/dev/dsp", (false, 14, 3)),
        ("/dev/ttyS0", (false, 4, 64)),
        ("/dev/ttyUSB0", (false, 188, 0)),
        ("/dev/dri/card0", (false, 226, 0)),
    ] {
        let line = format!("DeviceAllow={at} rw");
        assert_eq!(closed(at, node), ["by number", &line]);
    }
}

#[test]
fn other_accesses_are_granted_as_asked() {
    let exec = |at: &str| first_lines("NoExecPaths=/", denied("execve", libc::EACCES, Access::NoExecPath(path(at))));
    for at in ["/usr/lib/x/run", "/usr/local/bin/run", "/opt/x/run"] {
        assert_eq!(exec(at), [format!("ExecPaths={at}")]);
    }
    for at in ["/tmp/run", "/srv/run", "/var/lib/x/run", "/usrx/run", "/usr"] {
        assert_eq!(exec(at), ["by number".to_owned(), format!("ExecPaths={at}")]);
    }
    let of = |lines: &str, call: &str, access: Access| first_lines(lines, denied(call, libc::EPERM, access));
    assert_eq!(of("MemoryDenyWriteExecute=yes", "mprotect", Access::ExecutableMemory), ["MemoryDenyWriteExecute=no"]);
    let address = || Access::Address("0.0.0.0:80".parse().unwrap());
    assert_eq!(of("SocketBindDeny=any", "bind", address()), ["by number", "SocketBindAllow=ipv4:80"]);
    assert_eq!(of("IPAddressDeny=any", "connect", address()), ["by number", "IPAddressAllow=127.0.0.1"]);
    for (number, found) in
        [(16, &["RestrictAddressFamilies=AF_NETLINK"][..]), (17, &["by number", "RestrictAddressFamilies=AF_PACKET"])]
    {
        assert_eq!(of("RestrictAddressFamilies=AF_UNIX", "socket", Access::AddressFamily(number)), found);
    }
    let namespaces = |lines: &str, flags| of(lines, "unshare", Access::Namespaces(flags));
    assert_eq!(namespaces("RestrictNamespaces=yes", 0x1002_0000), ["by number", "RestrictNamespaces=mnt user"]);
    assert_eq!(namespaces("RestrictNamespaces=mnt", 0), ["by number", "RestrictNamespaces=no"]);
    let set_id = |lines: &str| of(lines, "chmod", Access::SetIdMode);
    assert_eq!(set_id("RestrictSUIDSGID=yes"), ["by number", "RestrictSUIDSGID=no"]);
    assert_eq!(set_id("DynamicUser=yes"), [""; 0]);
    assert_eq!(
        of("RestrictRealtime=yes", "sched_setscheduler", Access::Scheduling(1)),
        ["by number", "RestrictRealtime=no"],
        "sched_setattr would pass, too"
    );
    assert_eq!(
        of("LockPersonality=yes", "personality", Access::Personality(8)),
        ["by number", "LockPersonality=no"],
        "every other domain would pass, too"
    );
    assert_eq!(
        of("NoNewPrivileges=yes", "execve", Access::SetIdProgram(path("/usr/sbin/postdrop"))),
        ["by number", "NoNewPrivileges=no"]
    );
    assert_eq!(of("PrivateUsers=yes", "execve", Access::UserNamespace), ["by number", "PrivateUsers=no"]);
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
    let lacking = Access::Capability { capability: "CAP_KILL".parse().unwrap(), lack: CapabilityLack::NotEffective };
    let found = diagnose_all(lines, vec![call, write, denied("kill", libc::EPERM, lacking)]);
    let remedy = &found.remedies[found.default_remedy().unwrap()];
    assert_eq!(remedy.lines, ["AmbientCapabilities=CAP_KILL", "ReadWritePaths=/var/lib/app", "SystemCallFilter=uname"]);
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

fn inaccessible(at: &str) -> Incident {
    denied("openat", libc::EACCES, Access::HiddenPath(path(at)))
}

#[test]
fn list_that_starts_again_keeps_every_other_word() {
    assert_eq!(
        first_lines("InaccessiblePaths=\"/srv/a b\" -/opt/%n /x", inaccessible("/x/f")),
        [
            "by number",
            "BindReadOnlyPaths=-/x/f",
            "InaccessiblePaths=",
            "InaccessiblePaths=\"/srv/a b\"",
            "InaccessiblePaths=-/opt/%n",
            "TemporaryFileSystem=/x:ro"
        ]
    );
    for unknown in ["/srv/%m", "'/srv/\"x'", "\"/srv"] {
        let lines = format!("InaccessiblePaths=/x\nInaccessiblePaths={unknown}");
        assert_eq!(first_lines(&lines, inaccessible("/x/f")), [""; 0], "{unknown} would be lost");
    }
    let many: Vec<String> = (0..1100).map(|number| format!("/srv/{number}")).collect();
    let found = first_lines(&format!("InaccessiblePaths=/x {}", many.join(" ")), inaccessible("/x/f"));
    assert_eq!(found.len(), 1100 + 4, "none of many words is lost");
}

#[test]
fn access_that_a_word_with_an_unknown_specifier_may_hide_has_a_possible_cause_and_no_remedy() {
    let found = diagnose_all("InaccessiblePaths=/srv/%m", vec![inaccessible("/srv/x/f")]);
    let DenialCause::Possible { by } = &found.findings[0].cause else { panic!("{:?}", found.findings[0].cause) };
    assert_eq!(by[0].directive.key(), "InaccessiblePaths");
    assert!(found.remedies.is_empty(), "{:?}", found.remedies);
    let elsewhere = diagnose_all("InaccessiblePaths=/opt/%m", vec![inaccessible("/srv/x/f")]);
    assert!(matches!(elsewhere.findings[0].cause, DenialCause::Elsewhere(_)));
}

#[test]
fn accesses_below_two_paths_of_one_list_have_one_remedy() {
    let found = diagnose_all("InaccessiblePaths=/x /y /z", vec![inaccessible("/x/f"), inaccessible("/y/f")]);
    assert_eq!(
        found.remedies[0].lines,
        [
            "BindReadOnlyPaths=-/x/f",
            "BindReadOnlyPaths=-/y/f",
            "InaccessiblePaths=",
            "InaccessiblePaths=/z",
            "TemporaryFileSystem=/x:ro",
            "TemporaryFileSystem=/y:ro"
        ]
    );
}

#[test]
fn access_that_no_lines_grant_together_with_others_takes_no_remedy_from_them() {
    let lack = CapabilityLack::NotInBoundingSet;
    let of = |name: &str| denied("ioctl", libc::EPERM, Access::Capability { capability: name.parse().unwrap(), lack });
    let write = denied("openat", libc::EROFS, Access::ReadOnlyPath(path("/srv/app/f")));
    let clock = "ProtectClock=yes\nProtectSystem=strict";
    let found = diagnose_all(clock, vec![of("CAP_SYS_TIME"), of("CAP_WAKE_ALARM"), write]);
    assert_eq!(found.remedies[found.default_remedy().unwrap()].lines, ["ReadWritePaths=/srv/app"]);
}
