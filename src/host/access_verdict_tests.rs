//! Tests of the weighing: one for each row of the table of denials, with its counterparts on the host.

use super::*;
use crate::host::file_rights::FileRights;
use crate::kernel::failed_call::ProcessCredentials;
use crate::kernel::mounts::MountTable;

const HOST: &[u8] = b"1 0 254:0 / / rw - ext4 x rw\n2 1 0:6 / /dev rw,nosuid - devtmpfs x rw\n\
    3 1 0:9 / /nosuid ro,nosuid,noexec - ext4 x rw\n";
const UNIT: &[u8] = b"11 10 254:0 / / ro - ext4 x rw\n12 11 0:60 / /dev rw,nosuid,noexec - tmpfs x rw\n\
    13 11 0:61 / /home ro - tmpfs x rw\n14 11 254:0 /var/lib /var/lib rw - ext4 x rw\n\
    15 11 0:25 /systemd/inaccessible/dir /secret ro,noexec - tmpfs x rw\n\
    16 11 254:0 /srv /srv rw,noexec - ext4 x rw\n17 11 0:9 / /nosuid ro,nosuid,noexec - ext4 x rw\n";

const ROOT: ProcessCredentials = ProcessCredentials {
    uid: 0,
    effective_uid: 0,
    effective_gid: 0,
    bounding: u64::MAX,
    effective: u64::MAX,
    user_namespace: 1,
    mount_namespace: 2,
    no_new_privileges: false,
};
/// Another user, whose capabilities `User=` took.
const USER: ProcessCredentials =
    ProcessCredentials { uid: 7, effective_uid: 7, effective_gid: 7, effective: 0, ..ROOT };

fn failure(errno: i32, arguments: [u64; 6]) -> FailedCall {
    FailedCall {
        target: 0,
        pid: 1,
        tid: 1,
        event: FailedEvent::Call { number: 0, errno, arguments },
        text: CallText::None,
        credentials: ROOT,
        missed: 0,
        missed_elsewhere: 0,
        count: 1,
        first: 0,
        last: 0,
        comm: Vec::new(),
        program: Vec::new(),
        ip: 0,
        site: None,
    }
}

/// Evidence on a path that the host has as a plain file.
fn evidence(call: &'static str, path: &str) -> AccessEvidence {
    let holding = |table: &[u8]| MountTable::parse(table).holding(path.as_bytes()).cloned();
    AccessEvidence {
        call: Some(call),
        path: Some(path.into()),
        place: Some(path.into()),
        own: OwnNamespaces { mounts: true, users: false },
        mount: holding(UNIT),
        host_mount: holding(HOST),
        host_file: Some(FileKind::Other),
        ..AccessEvidence::default()
    }
}

fn path(text: &str) -> AccessPath {
    AccessPath::new(text.as_bytes())
}

#[test]
fn removal_of_an_absent_file_fails_anywhere() {
    for (call, is_harmless) in [("unlinkat", true), ("rename", true), ("rmdir", true), ("mkdir", false)] {
        let absent = AccessEvidence { host_file: None, ..evidence(call, "/etc/x") };
        assert_eq!(weigh(&failure(libc::EROFS, [0; 6]), &absent) == Harmless, is_harmless, "{call}");
        assert_ne!(weigh(&failure(libc::EROFS, [0; 6]), &evidence(call, "/etc/x")), Harmless, "{call}");
    }
}

#[test]
fn nothing_is_harmless_for_a_mount_table_that_cannot_be_read() {
    let unread = |call, path| AccessEvidence { host_mount: None, ..evidence(call, path) };
    for (errno, call) in [(libc::EROFS, "openat"), (libc::ENOENT, "openat"), (libc::EACCES, "execve")] {
        let seen = weigh(&failure(errno, [0; 6]), &unread(call, "/etc/x"));
        assert_eq!(seen, Unknown, "{call} {errno}");
    }
}

#[test]
fn path_is_read_only_by_the_sandbox_unless_the_host_has_it_so() {
    let erofs = failure(libc::EROFS, [0; 6]);
    let at = |path: &str| weigh(&erofs, &evidence("openat", path));
    assert_eq!(at("/etc/x"), Denied(Access::ReadOnlyPath(path("/etc/x"))));
    assert_eq!(at("/nosuid/x"), Harmless, "the host's own mount is read-only");
    assert_eq!(at("/home/x"), Denied(Access::ReadOnlyPath(path("/home/x"))), "an empty file system of the unit's own");
    let disk = AccessEvidence {
        mount: MountTable::parse(b"1 0 254:9 / / ro - iso9660 x ro\n").holding(b"/").cloned(),
        ..evidence("openat", "/etc/x")
    };
    assert_eq!(weigh(&erofs, &disk), Harmless, "a file system that nobody can write");
    assert_eq!(at("/var/lib/x"), Harmless, "its mount is writable now");
    let gone = AccessEvidence { mount: None, ..evidence("openat", "/etc/x") };
    assert_eq!(weigh(&erofs, &gone), Denied(Access::ReadOnlyPath(path("/etc/x"))), "the host can write it");
    let on_host = AccessEvidence { own: OwnNamespaces::default(), ..evidence("openat", "/etc/x") };
    assert_eq!(weigh(&erofs, &on_host), Harmless);
    let of_user = FailedCall { credentials: USER, ..failure(libc::EROFS, [0; 6]) };
    let protected = AccessEvidence {
        forbidden: ForbiddenByModes { write: true, ..ForbiddenByModes::default() },
        ..evidence("openat", "/etc/x")
    };
    assert_eq!([weigh(&of_user, &protected), weigh(&of_user, &evidence("chown", "/etc/x"))], [Harmless, Harmless]);
    assert_eq!(weigh(&erofs, &protected), Denied(Access::ReadOnlyPath(path("/etc/x"))), "root may write it");
    let relative = AccessEvidence { path: None, ..evidence("openat", "/etc/x") };
    assert_eq!(weigh(&erofs, &relative), Unknown);
}

#[test]
fn path_is_hidden_only_if_the_host_has_it_and_another_mount_covers_it() {
    let absent = failure(libc::ENOENT, [0; 6]);
    let at = |path: &str| weigh(&absent, &evidence("openat", path));
    assert_eq!(at("/home/a"), Denied(Access::HiddenPath(path("/home/a"))));
    assert_eq!(at("/etc/x"), Harmless, "the same file system at the same place");
    let missing = AccessEvidence { host_file: None, ..evidence("openat", "/home/a") };
    assert_eq!(weigh(&absent, &missing), Harmless, "the host lacks it, too");
    let gone = AccessEvidence { mount: None, ..evidence("openat", "/home/a") };
    assert_eq!(weigh(&absent, &gone), Unknown);
    let denied = failure(libc::EACCES, [0; 6]);
    assert_eq!(weigh(&denied, &evidence("openat", "/secret/x")), Denied(Access::HiddenPath(path("/secret/x"))));
    assert_eq!(weigh(&denied, &evidence("openat", "/etc/shadow")), Harmless, "a file mode");
}

#[test]
fn device_is_denied_without_a_missed_capability() {
    let node: DeviceNode = "char 10:229".parse().unwrap();
    let device = |call| AccessEvidence {
        mount: MountTable::parse(HOST).holding(b"/dev/fuse").cloned(),
        host_file: Some(FileKind::Device(node)),
        ..evidence(call, "/dev/fuse")
    };
    let read = DeviceAccess { read: true, ..DeviceAccess::default() };
    let expected = |wanted| Denied(Access::Device { path: path("/dev/fuse"), node, wanted });
    let opened = failure(libc::EPERM, [0; 6]);
    assert_eq!(weigh(&opened, &device("open")), expected(read));
    let opened = failure(libc::EPERM, [0, 0, 2, 0, 0, 0]);
    let both = DeviceAccess { write: true, ..read };
    assert_eq!(weigh(&opened, &device("openat")), expected(both));
    let hidden = |call| AccessEvidence { mount: evidence("open", "/dev/fuse").mount, ..device(call) };
    let write = DeviceAccess { write: true, ..DeviceAccess::default() };
    for (call, arguments, wanted) in [
        ("open", [0, 2, 0, 0, 0, 0], both),
        ("open", [0; 6], read),
        ("openat", [0, 0, 1, 0, 0, 0], write),
        ("stat", [0; 6], read),
        ("access", [0; 6], read),
        ("access", [0, 6, 0, 0, 0, 0], both),
        ("faccessat2", [0, 0, 2, 0, 0, 0], write),
        ("openat2", [0; 6], both),
    ] {
        let absent = failure(libc::ENOENT, arguments);
        assert_eq!(weigh(&absent, &hidden(call)), expected(wanted), "PrivateDevices=, {call} {arguments:?}");
    }
    assert_eq!(weigh(&failure(libc::EACCES, [0; 6]), &device("open")), Harmless, "a file mode");
    assert_eq!(weigh(&opened, &evidence("openat", "/etc/x")), Harmless, "no device: an immutable file");
    let made = failure(libc::EPERM, [0, u64::from(libc::S_IFCHR), libc::makedev(10, 229), 0, 0, 0]);
    let verdict = weigh(&made, &AccessEvidence { host_file: None, ..evidence("mknod", "/var/lib/x") });
    let creation = DeviceAccess { make: true, ..DeviceAccess::default() };
    assert_eq!(verdict, Denied(Access::Device { path: path("/var/lib/x"), node, wanted: creation }));
}

#[test]
fn capability_is_denied_if_the_settings_withhold_it() {
    const CHOWN: u64 = 1;
    let without = ProcessCredentials { bounding: !CHOWN, effective: !CHOWN, ..ROOT };
    let of_root = FailedCall { missed: CHOWN, credentials: without, ..failure(libc::EPERM, [0; 6]) };
    let chown = Access::Capability { capability: Capability::new(0), lack: CapabilityLack::NotInBoundingSet };
    assert_eq!(weigh(&of_root, &evidence("chown", "/etc/x")), Denied(chown));
    let by_user = FailedCall { missed: CHOWN, credentials: USER, ..failure(libc::EPERM, [0; 6]) };
    assert_eq!(weigh(&by_user, &evidence("chown", "/etc/x")), Harmless, "the program became another user itself");
    let privileges = UnitPrivileges { is_user: true, withheld: CHOWN };
    let by_settings = AccessEvidence { privileges, ..evidence("chown", "/etc/x") };
    let chown = Access::Capability { capability: Capability::new(0), lack: CapabilityLack::NotEffective };
    assert_eq!(weigh(&by_user, &by_settings), Denied(chown));
    let without_bound = FailedCall { credentials: ProcessCredentials { bounding: !CHOWN, ..USER }, ..by_user.clone() };
    assert_eq!(weigh(&without_bound, &evidence("chown", "/etc/x")), Harmless, "it became another user itself");
    let kept = ProcessCredentials { effective: 2, ..without_bound.credentials };
    let kept = FailedCall { credentials: kept, ..without_bound };
    let bounded = Access::Capability { capability: Capability::new(0), lack: CapabilityLack::NotInBoundingSet };
    assert_eq!(weigh(&kept, &evidence("chown", "/etc/x")), Denied(bounded), "it kept other capabilities");
    let gave_up = FailedCall { credentials: ProcessCredentials { effective: 0, ..ROOT }, ..of_root };
    assert_eq!(weigh(&gave_up, &by_settings), Harmless, "root dropped it itself");
}

#[test]
fn missed_capability_that_did_not_make_the_call_fail_is_harmless() {
    let modes = (1 << DAC_OVERRIDE) | (1 << DAC_READ_SEARCH);
    let of_user = FailedCall { missed: modes, credentials: USER, ..failure(libc::EACCES, [0; 6]) };
    let privileges = UnitPrivileges { is_user: true, withheld: u64::MAX };
    let all = AccessEvidence { privileges, ..evidence("openat", "/etc/shadow") };
    assert_eq!(weigh(&of_user, &all), Harmless, "file modes hold for every user");
    let without = ProcessCredentials { bounding: !modes, effective: !modes, ..ROOT };
    let of_root = FailedCall { credentials: without, ..of_user };
    let capability = Capability::new(DAC_READ_SEARCH);
    let search = Access::Capability { capability, lack: CapabilityLack::NotInBoundingSet };
    assert_eq!(weigh(&of_root, &all), Denied(search), "root reads every file elsewhere");
    let admin = FailedCall { missed: 1 << SYS_ADMIN, credentials: USER, ..failure(libc::EACCES, [0; 6]) };
    let executed = AccessEvidence { call: Some("execve"), ..all };
    assert_eq!(weigh(&admin, &executed), Harmless, "the kernel only looked for its memory reserve");
}

#[test]
fn capability_of_several_is_the_narrowest_that_is_enough() {
    let named = |call, missed: &[u8], arguments| {
        let missed = missed.iter().fold(0, |bits, number| bits | 1_u64 << number);
        let without = ProcessCredentials { bounding: !missed, effective: !missed, ..ROOT };
        let failure = FailedCall { missed, credentials: without, ..failure(libc::EPERM, arguments) };
        match weigh(&failure, &AccessEvidence { call: Some(call), ..AccessEvidence::default() }) {
            Denied(Access::Capability { capability, .. }) => Some(capability),
            _ => None,
        }
    };
    let is = |number| Some(Capability::new(number));
    assert_eq!(named("setsockopt", &[NET_ADMIN, NET_RAW], [0; 6]), is(NET_RAW), "SO_MARK");
    assert_eq!(named("setsockopt", &[NET_ADMIN], [0; 6]), is(NET_ADMIN));
    assert_eq!(named("setsockopt", &[NET_ADMIN], [3, 1, 32, 0, 0, 4]), None, "SO_SNDBUFFORCE, as of sd_notify(3)");
    assert_eq!(named("setsockopt", &[NET_ADMIN], [3, 1, 33, 0, 0, 4]), None, "SO_RCVBUFFORCE, as of systemd-logind");
    assert_eq!(named("setsockopt", &[NET_ADMIN], [3, 0, 32, 0, 0, 4]), is(NET_ADMIN), "an option of IP");
    assert_eq!(named("perf_event_open", &[SYS_PTRACE, PERFMON, SYS_ADMIN], [0; 6]), is(PERFMON));
    assert_eq!(named("bpf", &[SYS_ADMIN, 39], [0; 6]), is(39));
    assert_eq!(named("clone", &[SYS_ADMIN], [0x2000_0011, 0, 0, 0, 0, 0]), is(SYS_ADMIN), "CLONE_NEWPID");
    assert_eq!(named("clone", &[SYS_ADMIN], [0x11, 0, 0, 0, 0, 0]), None, "the kernel's memory reserve");
    assert_eq!(named("clone3", &[SYS_ADMIN], [0; 6]), is(SYS_ADMIN));
}

#[test]
fn call_whose_path_is_lost_is_unknown_and_one_without_a_path_is_harmless() {
    let lost = AccessEvidence { path: None, place: None, host_file: None, ..evidence("openat", "/home/a") };
    for errno in [libc::ENOENT, libc::EACCES, libc::EPERM, libc::EROFS] {
        for text in [CallText::Path(b"a".to_vec()), CallText::CutPath(b"/a".to_vec())] {
            assert_eq!(weigh(&FailedCall { text, ..failure(errno, [0; 6]) }, &lost), Unknown, "{errno}");
        }
    }
    for errno in [libc::ENOENT, libc::EACCES, libc::EPERM] {
        assert_eq!(weigh(&failure(errno, [0; 6]), &lost), Harmless, "{errno}: it has no path");
    }
    let absent = failure(libc::ENOENT, [0; 6]);
    let own_entry = AccessEvidence { is_own_entry: true, ..evidence("openat", "/home/a") };
    assert_eq!(weigh(&absent, &own_entry), Harmless);
    let unread = AccessEvidence { host_file: Some(FileKind::Unread), ..evidence("openat", "/home/a") };
    assert_eq!(weigh(&absent, &unread), Unknown);
}

#[test]
fn user_namespace_denies_what_the_process_holds_only_in_its_own() {
    let bit = 1 << 25;
    let elsewhere = FailedCall { missed: bit, missed_elsewhere: bit, ..failure(libc::EPERM, [0; 6]) };
    let own = AccessEvidence { own: OwnNamespaces { mounts: true, users: true }, ..evidence("clock_settime", "/") };
    assert_eq!(weigh(&elsewhere, &own), Denied(Access::UserNamespace));
    let of_user = FailedCall { credentials: USER, ..elsewhere.clone() };
    let privileges = UnitPrivileges { is_user: true, withheld: u64::MAX };
    let by_settings = AccessEvidence { privileges, ..own.clone() };
    assert_eq!(weigh(&of_user, &by_settings), Denied(Access::UserNamespace), "PrivateUsers= with User=");
    assert_eq!(weigh(&of_user, &own), Harmless, "it became another user itself");
    let here = FailedCall { missed_elsewhere: 0, ..of_user };
    let lack = CapabilityLack::NotEffective;
    assert_eq!(weigh(&here, &by_settings), Denied(Access::Capability { capability: Capability::new(25), lack }));
    let unmapped = failure(libc::EINVAL, [5, 0, 0, 0, 0, 0]);
    assert_eq!(weigh(&unmapped, &own), Denied(Access::UserNamespace));
    assert_eq!(weigh(&unmapped, &evidence("setuid", "/")), Harmless, "the host has every id");
}

#[test]
fn set_id_program_is_denied_if_it_would_change_something_on_the_host() {
    let program = |mode, uid, gid| FailedCall {
        event: FailedEvent::Exec { mode, uid, gid },
        credentials: ProcessCredentials { no_new_privileges: true, ..USER },
        ..failure(0, [0; 6])
    };
    let at = |failure: &FailedCall, path: &str| weigh(failure, &evidence("execve", path));
    let postdrop = Denied(Access::SetIdProgram(path("/usr/sbin/postdrop")));
    assert_eq!(at(&program(0o102_755, 0, 99), "/usr/sbin/postdrop"), postdrop);
    assert_eq!(at(&program(0o104_755, 0, 0), "/usr/sbin/postdrop"), postdrop);
    for (mode, uid, gid) in [(0o104_755, 7, 7), (0o102_755, 0, 7), (0o102_745, 0, 99), (0o100_755, 0, 0)] {
        assert_eq!(at(&program(mode, uid, gid), "/usr/sbin/postdrop"), Harmless, "{mode:o}");
    }
    assert_eq!(at(&program(0o104_755, 0, 0), "/nosuid/x"), Harmless, "the host's mount ignores the bits");
    let with_capabilities = AccessEvidence { has_capabilities: true, ..evidence("execve", "/bin/ping") };
    assert_eq!(weigh(&program(0o100_755, 0, 0), &with_capabilities), Denied(Access::SetIdProgram(path("/bin/ping"))));
}

#[test]
fn capability_that_the_file_of_the_program_would_give_is_missing_for_its_bits() {
    let rights = FileRights { capabilities: u64::MAX, ..FileRights::default() };
    let sudo = || SetIdProgram { path: b"/usr/bin/sudo".to_vec(), gives: rights };
    let chown = FailedCall { missed: 1 << CHOWN, credentials: USER, ..failure(libc::EPERM, [0; 6]) };
    let at = |failure: &FailedCall, set_id: SetIdProgram| {
        let privileges = UnitPrivileges { is_user: true, withheld: u64::MAX };
        let owners = vec![(0, 40), (0, 0)];
        weigh(failure, &AccessEvidence { set_id: Some(set_id), privileges, owners, ..evidence("fchownat", "/srv/x") })
    };
    let denied = Denied(Access::SetIdProgram(path("/usr/bin/sudo")));
    let lacking = |lack| Denied(Access::Capability { capability: Capability::new(CHOWN), lack });
    assert_eq!(at(&chown, sudo()), denied);
    let modes = FailedCall { missed: 1 << DAC_OVERRIDE, ..chown.clone() };
    let with = |gives| SetIdProgram { gives, ..sudo() };
    let group = || with(FileRights { group: Some(40), ..FileRights::default() });
    let of_user = lacking(CapabilityLack::NotEffective);
    assert_eq!([at(&modes, group()), at(&chown, group())], [denied, of_user], "a group has no capability");
    let other = with(FileRights { group: Some(41), user: Some(40), capabilities: 0 });
    assert_eq!(at(&modes, other), Harmless, "the file is not of this group or user");
    let outside = ProcessCredentials { bounding: !(1 << CHOWN), ..USER };
    let bounded = FailedCall { credentials: outside, ..chown };
    assert_eq!(at(&bounded, sudo()), lacking(CapabilityLack::NotInBoundingSet));
}

#[test]
fn inaccessible_path_is_hidden_from_another_user_whose_capability_its_mode_asks_for() {
    let open = FailedCall {
        missed: 1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH,
        credentials: USER,
        ..failure(libc::EACCES, [0; 6])
    };
    let at = |path: &str, reach| {
        let forbidden = ForbiddenByModes { reach, ..ForbiddenByModes::default() };
        weigh(&open, &AccessEvidence { forbidden, ..evidence("openat", path) })
    };
    assert_eq!(at("/secret/x", false), Denied(Access::HiddenPath(path("/secret/x"))));
    assert_eq!(at("/secret/x", true), Harmless, "the host's directories forbid it as well");
    assert_eq!(at("/etc/x", false), Harmless, "the mode of a file that is not hidden");
    let closed = |call, mode| {
        let forbidden = ForbiddenByModes { open: true, ..ForbiddenByModes::default() };
        let asks = FailedCall {
            event: FailedEvent::Call { number: 0, errno: libc::EACCES, arguments: [0, 0, mode, 0, 0, 0] },
            ..open.clone()
        };
        weigh(&asks, &AccessEvidence { forbidden, ..evidence(call, "/secret/x") })
    };
    assert_eq!([closed("openat", 0), closed("faccessat", 4)], [Harmless, Harmless], "the file's own mode forbids it");
    let hidden = Denied(Access::HiddenPath(path("/secret/x")));
    assert_eq!([closed("newfstatat", 0), closed("faccessat", 0)], [hidden.clone(), hidden], "they only reach it");
    let gone = |forbid_execution| {
        let settings = AccessSettings { hide: true, forbid_execution, ..AccessSettings::default() };
        weigh(&open, &AccessEvidence { mount: None, settings, ..evidence("openat", "/secret/x") })
    };
    assert_eq!(gone(true), Denied(Access::HiddenPath(path("/secret/x"))));
    assert_eq!(gone(false), Harmless, "an empty file system has no such mode, but its files have");
}

#[test]
fn executable_memory_and_programs_on_noexec_mounts_are_recognised() {
    let map = |call, protection, flags| {
        weigh(
            &failure(libc::EACCES, [0, 0, protection, flags, 0, 0]),
            &AccessEvidence { call: Some(call), ..AccessEvidence::default() },
        )
    };
    assert_eq!(map("mmap", 7, 0x22), Denied(Access::ExecutableMemory));
    assert_eq!(map("mprotect", 5, 0), Denied(Access::ExecutableMemory));
    assert_eq!([map("mmap", 3, 0x22), map("mmap", 5, 0x02)], [Harmless, Harmless]);
    let executed = failure(libc::EACCES, [0; 6]);
    let program = |path| AccessEvidence { host_file: Some(FileKind::Program), ..evidence("execve", path) };
    assert_eq!(weigh(&executed, &program("/srv/x")), Denied(Access::NoExecPath(path("/srv/x"))));
    assert_eq!(weigh(&executed, &program("/nosuid/x")), Harmless, "the host's mount has noexec, too");
    assert_eq!(weigh(&executed, &evidence("execve", "/srv/x")), Harmless, "a file without an execute bit");
}

#[test]
fn address_is_denied_only_if_the_settings_refuse_it() {
    let refused = |errno, refuse_address| {
        let text = CallText::Address(vec![2, 0, 0, 80, 127, 0, 0, 1]);
        let settings = AccessSettings { refuse_address, ..AccessSettings::default() };
        let evidence = AccessEvidence { call: Some("sendto"), settings, ..AccessEvidence::default() };
        weigh(&FailedCall { text, ..failure(errno, [0; 6]) }, &evidence)
    };
    assert_eq!(refused(libc::EPERM, true), Denied(Access::Address("127.0.0.1:80".parse().unwrap())));
    assert_eq!(refused(libc::EPERM, false), Harmless, "a firewall of the host");
    assert_eq!(refused(libc::EACCES, true), Harmless, "a broadcast without SO_BROADCAST");
}

#[test]
fn settings_stand_for_the_mounts_of_a_process_that_is_gone() {
    let host_file = Some(FileKind::Program);
    let gone = |settings| AccessEvidence { mount: None, settings, host_file, ..evidence("execve", "/home/x") };
    let (none, hide) = (AccessSettings::default(), AccessSettings { hide: true, ..AccessSettings::default() });
    let forbid = AccessSettings { forbid_execution: true, ..none };
    let hidden = Denied(Access::HiddenPath(path("/home/x")));
    for (errno, settings, expected) in [
        (libc::ENOENT, none, Unknown),
        (libc::ENOENT, hide, hidden.clone()),
        (libc::EACCES, none, Unknown),
        (libc::EACCES, hide, hidden),
        (libc::EACCES, forbid, Denied(Access::NoExecPath(path("/home/x")))),
    ] {
        assert_eq!(weigh(&failure(errno, [0; 6]), &gone(settings)), expected, "{errno} {settings:?}");
    }
    let of_host = AccessEvidence { own: OwnNamespaces::default(), ..gone(hide) };
    assert_eq!(weigh(&failure(libc::ENOENT, [0; 6]), &of_host), Harmless, "it has no mounts of its own");
}
