//! Tests of what settings withhold. `tests/sandbox_oracle` compares them with a real systemd.

use super::*;
use crate::policy::{Settings, UnitFile};
use crate::syscalls::Groups;
use crate::syscalls::groups::GroupSource;
use std::path::Path;

/// Returns the deciding line of each word that withholds something, as `LINE KEY WORD`.
fn withholding(lines: &str, need: Need<'_>) -> Vec<String> {
    let file = UnitFile::parse(Path::new("x.service"), format!("[Service]\n{lines}\n").as_bytes());
    let settings = Settings::new(&"app@one.service".parse().unwrap(), Some(file), Vec::new());
    let causes = Policy::new(settings, &Groups::embedded()).withholding(need, 1);
    let describe = |cause: &DirectiveCause| {
        let line = cause.origin.as_ref().map_or(0, |origin| origin.line);
        format!("{line} {} {}", cause.directive.key(), cause.deciding_word().unwrap_or_default()).trim_end().to_owned()
    };
    causes.iter().map(describe).collect()
}

fn capability(name: &str) -> Capability {
    name.parse().unwrap()
}

#[test]
fn read_only_path_names_each_line_that_keeps_it_so() {
    let write = |lines: &str, path: &str| withholding(lines, Need::Write(path.as_bytes()));
    assert_eq!(write("ProtectSystem=strict", "/var/lib/app"), ["2 ProtectSystem"]);
    assert_eq!(write("ProtectSystem=strict\nStateDirectory=app", "/var/lib/app/db"), [""; 0]);
    assert_eq!(write("ProtectSystem=strict\nStateDirectory=app", "/var/lib/apple"), ["2 ProtectSystem"]);
    assert_eq!(write("ProtectSystem=strict\nRuntimeDirectory=%p/%i", "/run/app/one/x"), [""; 0]);
    assert_eq!(
        write("ReadOnlyPaths=-/srv /opt\nProtectSystem=strict", "/srv/x"),
        ["2 ReadOnlyPaths -/srv", "3 ProtectSystem"]
    );
    assert_eq!(
        write("ReadOnlyPaths=/srv\nReadWritePaths=/srv", "/srv/x"),
        ["2 ReadOnlyPaths /srv"],
        "the stricter counts"
    );
    assert_eq!(write("DynamicUser=yes", "/etc/x"), ["2 DynamicUser"]);
    assert_eq!(write("DynamicUser=yes\nProtectSystem=no", "/etc/x"), ["2 DynamicUser"]);
    assert_eq!(write("ProtectSystem=full\nProtectSystem=no", "/etc/x"), [""; 0]);
    assert_eq!(write("ProtectSystem=maybe", "/usr/x"), [""; 0]);
}

#[test]
fn hidden_path_names_the_covering_mount() {
    let see = |lines: &str, path: &str| withholding(lines, Need::See(path.as_bytes()));
    assert_eq!(see("ProtectHome=yes", "/home/a/b"), ["2 ProtectHome"]);
    assert_eq!(see("ProtectHome=tmpfs\nBindPaths=/home/a", "/home/a/b"), [""; 0]);
    assert_eq!(see("ProtectHome=yes\nBindPaths=/home/a", "/home/a/b"), ["2 ProtectHome"], "nothing is bound below it");
    assert_eq!(see("BindPaths=/x:/srv", "/srv/y"), ["2 BindPaths /x:/srv"]);
    assert_eq!(see("DynamicUser=yes", "/tmp/x"), ["2 DynamicUser"]);
    let write = |lines: &str, path: &str| withholding(lines, Need::Write(path.as_bytes()));
    assert_eq!(write("ProtectHome=tmpfs", "/home/a"), ["2 ProtectHome"], "the empty file system is read-only");
    assert_eq!(write("TemporaryFileSystem=/opt:ro\nNoExecPaths=/opt", "/opt/x"), ["2 TemporaryFileSystem /opt:ro"]);
    assert_eq!(see("ProcSubset=pid\nProtectProc=invisible", "/proc/cpuinfo"), ["2 ProcSubset"]);
    assert_eq!(see("ProcSubset=pid\nProtectProc=invisible", "/proc/1/stat"), ["3 ProtectProc"]);
}

#[test]
fn bind_mount_keeps_colons_that_are_escaped_or_quoted() {
    let see = |lines: &str, path: &str| withholding(lines, Need::See(path.as_bytes()));
    for lines in
        [r"BindPaths=/a\:b:/srv", "BindPaths='/a:b':/srv", "BindPaths=\"/x y\":/srv", r"BindPaths=/x\ y:/srv:rbind"]
    {
        assert_eq!(see(lines, "/srv/x").len(), 1, "{lines}");
    }
    assert_eq!(see(r"BindPaths=/srv\:x", "/srv:x/y"), [""; 0], "it shows the path itself");
    let write = |lines: &str| withholding(lines, Need::Write(b"/srv/x"));
    assert_eq!(write("BindReadOnlyPaths=/srv").len(), 1);
    for ignored in ["BindReadOnlyPaths=/srv:", "BindReadOnlyPaths=/srv::norbind"] {
        assert_eq!(write(ignored), [""; 0], "systemd ignores a word with an empty target");
    }
}

#[test]
fn missing_capability_names_the_line_and_word_that_took_it() {
    let bounding = |lines: &str| withholding(lines, Need::Bounding(capability("CAP_SYS_TIME")));
    assert_eq!(
        bounding("CapabilityBoundingSet=CAP_CHOWN\nCapabilityBoundingSet=CAP_KILL"),
        ["2 CapabilityBoundingSet"]
    );
    assert_eq!(
        bounding("CapabilityBoundingSet=~CAP_KILL\nCapabilityBoundingSet=~CAP_CHOWN CAP_SYS_TIME\nProtectClock=yes"),
        ["3 CapabilityBoundingSet CAP_SYS_TIME", "4 ProtectClock"]
    );
    assert_eq!(bounding("CapabilityBoundingSet=\nCapabilityBoundingSet=CAP_SYS_TIME"), [""; 0]);
    let effective = |lines: &str| withholding(lines, Need::Effective(capability("CAP_CHOWN")));
    assert_eq!(effective("User=web"), ["2 User"]);
    assert_eq!(effective("DynamicUser=yes"), ["2 DynamicUser"]);
    assert_eq!(effective("User=web\nAmbientCapabilities=CAP_CHOWN"), [""; 0]);
    assert_eq!(effective("User=root"), [""; 0]);
}

#[test]
fn refused_device_names_the_policy_or_the_entry_with_fewer_letters() {
    let open = |lines: &str, path: &str, major: u32, wanted: &str| {
        withholding(lines, Need::Device(DeviceUse { path: path.as_bytes(), is_block: false, major, wanted }))
    };
    assert_eq!(open("", "/dev/fuse", 10, "rw"), [""; 0]);
    assert_eq!(open("DevicePolicy=closed", "/dev/fuse", 10, "rw"), ["2 DevicePolicy"]);
    assert_eq!(open("DevicePolicy=closed", "/dev/null", 1, "rw"), [""; 0]);
    assert_eq!(open("DevicePolicy=strict", "/dev/null", 1, "rw"), ["2 DevicePolicy"]);
    assert_eq!(open("PrivateDevices=yes", "/dev/fuse", 10, "rw"), ["2 PrivateDevices"]);
    assert_eq!(open("DeviceAllow=/dev/kvm rw", "/dev/fuse", 10, "rw"), ["2 DeviceAllow"]);
    assert_eq!(open("DeviceAllow=/dev/fuse r", "/dev/fuse", 10, "rw"), ["2 DeviceAllow"]);
    assert_eq!(open("DeviceAllow=char-mi* rw", "/dev/fuse", 10, "rw"), [""; 0]);
    assert_eq!(open("DeviceAllow=/dev/fuse r\nDeviceAllow=char-misc w", "/dev/fuse", 10, "rw"), ["3 DeviceAllow"]);
    assert_eq!(open("DeviceAllow=char-ttyS rw", "/dev/ttyS0", 4, "rw"), [""; 0]);
    assert_eq!(open("DeviceAllow=char-input rw", "/dev/ttyS0", 4, "rw"), ["2 DeviceAllow"]);
    assert_eq!(open("DeviceAllow=char-hidraw rw", "/dev/hidraw0", 240, "rw"), [""; 0], "its number tells no name");
    assert_eq!(open("DeviceAllow=char-hidraw r", "/dev/hidraw0", 240, "rw"), ["2 DeviceAllow"]);
    assert_eq!(open("ProtectClock=yes", "/dev/rtc0", 254, "r"), [""; 0]);
    assert_eq!(open("DeviceAllow=\"/dev/my disk\" r", "/dev/my disk", 240, "r"), [""; 0]);
    assert_eq!(open("DeviceAllow=\"/dev/my disk\" r", "/dev/my disk", 240, "w").len(), 1);
    assert_eq!(open("DeviceAllow=/dev/%k rw", "/dev/fuse", 10, "rw"), [""; 0], "systemd ignores it");
    assert_eq!(open("ProtectClock=yes", "/dev/rtc0", 254, "w"), [""; 0], "it closes no list");
    assert_eq!(open("ProtectClock=yes\nDevicePolicy=closed", "/dev/rtc0", 254, "w"), ["2 ProtectClock"]);
    assert_eq!(open("ProtectClock=yes\nDevicePolicy=closed", "/dev/rtc0", 254, "r"), [""; 0]);
    assert_eq!(open("DeviceAllow=block-*\nDeviceAllow=", "/dev/fuse", 10, "rw"), [""; 0]);
    for ignored in ["fuse rw", "/srv/fuse rw", "/dev/../fuse rw", "/dev/null rx", "/dev/null r w"] {
        assert_eq!(open(&format!("DeviceAllow={ignored}"), "/dev/fuse", 10, "r"), [""; 0], "{ignored}");
    }
}

/// Returns what withholds something from a unit's processes under a version of systemd, as text.
fn under(version: &str, lines: &str, path: &str, need: Need<'_>) -> Vec<String> {
    let causes = causes_under(version, lines, path, need);
    causes.iter().map(|cause| format!("{}= {:?}", cause.directive.key(), cause.why)).collect()
}

fn causes_under(version: &str, lines: &str, path: &str, need: Need<'_>) -> Vec<DirectiveCause> {
    let file = UnitFile::parse(Path::new(path), format!("[Service]\n{lines}\n").as_bytes());
    let settings = Settings::new(&"app.service".parse().unwrap(), Some(file), Vec::new());
    let groups = "@known\n    read\n    capset\n@privileged\n    capset\n@system-service\n    read\n    capset\n    capget\n    prctl\n";
    let groups = Groups::parse(groups, GroupSource::Host(version.into())).unwrap();
    Policy::new(settings, &groups).withholding(need, 0)
}

#[test]
fn clock_protection_refuses_other_devices_before_systemd_251() {
    let open = |version: &str, path: &'static str, wanted| {
        let major = if path == "/dev/rtc0" { 254 } else { 10 };
        let device = DeviceUse { path: path.as_bytes(), is_block: false, major, wanted };
        under(version, "ProtectClock=yes", SYSTEM, Need::Device(device)).len()
    };
    for (version, count) in [("249", 1), ("250.4", 1), ("251.8", 0), ("252", 0), ("257", 0), ("?", 0)] {
        assert_eq!(open(version, "/dev/fuse", "rw"), count, "{version}");
        assert_eq!(open(version, "/dev/rtc0", "w"), count, "{version}");
        assert_eq!(open(version, "/dev/rtc0", "r"), 0, "{version}");
    }
}

#[test]
fn programs_stay_read_only_where_systemd_lists_the_links_of_a_merged_usr() {
    let lines = "ProtectSystem=yes\nReadWritePaths=/usr/bin /usr/share";
    let write = |version: &str, path: &'static str| under(version, lines, SYSTEM, Need::Write(path.as_bytes())).len();
    let counts = |path: &'static str| ["249", "252", "254.20", "255", "257"].map(|version| write(version, path) > 0);
    assert_eq!(counts("/usr/bin/x"), [true, true, true, false, false]);
    assert_eq!(counts("/usr/share/x"), [false; 5]);
    assert_eq!(counts("/usr/lib/x"), [true; 5]);
}

#[test]
fn empty_homes_are_read_only_since_systemd_257() {
    let write = |version: &str| under(version, "ProtectHome=tmpfs", SYSTEM, Need::Write(b"/home/a")).len();
    assert_eq!(["249", "252", "256.9", "257", "257.13-1"].map(write), [0, 0, 0, 1, 1]);
}

const SYSTEM: &str = "/etc/systemd/system/app.service";
const USER: &str = "/etc/systemd/user/app.service";

#[test]
fn filter_for_another_user_takes_the_rights_of_set_id_files() {
    let set_id = |version: &str, lines: &str| under(version, lines, SYSTEM, Need::SetId);
    assert_eq!(set_id("254", "RestrictRealtime=yes"), [""; 0], "root keeps its rights");
    for filter in ["RestrictRealtime=yes", "RestrictAddressFamilies=AF_UNIX", "MemoryDenyWriteExecute=yes"] {
        let lines = format!("User=web\n{filter}");
        assert_eq!(set_id("254", &lines).len(), 1, "{filter}");
        assert_eq!(set_id("255", &lines), [""; 0], "{filter}: systemd filters before it drops its rights");
        assert!(set_id("?", &lines)[0].contains("which is assumed"), "{filter}");
        assert_eq!(set_id("254", &format!("AmbientCapabilities=CAP_SYS_ADMIN\n{lines}")), [""; 0], "{filter}");
    }
    let list = "User=web\nSystemCallFilter=@system-service\n";
    assert_eq!(set_id("257", list), [""; 0]);
    let denied = set_id("257", &format!("{list}SystemCallFilter=~@privileged"));
    assert!(denied[0].starts_with("SystemCallFilter=") && denied[0].contains("capset"), "{denied:?}");
    assert_eq!(set_id("257", "User=web\nSystemCallFilter=~prctl").len(), 1);
    let ignored = causes_under("254", "User=web\nProtectClock=yes\nProtectClock=maybe", SYSTEM, Need::SetId);
    assert_eq!(ignored[0].origin.as_ref().unwrap().line, 3, "systemd ignores the last line");
}

#[test]
fn user_of_a_filtered_unit_starts_without_cap_setuid() {
    let setuid =
        |version: &str, lines: &str| under(version, lines, SYSTEM, Need::Effective("CAP_SETUID".parse().unwrap()));
    let lines = "User=root\nNoNewPrivileges=yes\nRestrictAddressFamilies=AF_UNIX";
    assert!(setuid("257", lines)[0].starts_with("User="));
    assert_eq!(setuid("254", lines), [""; 0]);
    assert_eq!(setuid("257", &format!("{lines}\nAmbientCapabilities=CAP_SETUID")), [""; 0]);
    assert_eq!(setuid("257", "NoNewPrivileges=yes\nRestrictAddressFamilies=AF_UNIX"), [""; 0]);
    assert_eq!(setuid("257", "User=root\nRestrictAddressFamilies=AF_UNIX"), [""; 0], "execve(2) gives it back");
    assert_eq!(setuid("257", "User=root\nNoNewPrivileges=yes"), [""; 0]);
    assert_eq!(under("257", lines, SYSTEM, Need::Effective(capability("CAP_SETGID"))), [""; 0]);
}

#[test]
fn unit_of_a_user_manager_has_other_limits() {
    let user = |lines: &str, need: Need<'_>| under("257", lines, USER, need);
    assert_eq!(user("RestrictRealtime=yes", Need::SetId).len(), 1, "its manager cannot load a filter otherwise");
    let users = user("ProtectSystem=strict", Need::HostUsers);
    assert!(users[0].starts_with("ProtectSystem=") && users[0].contains("implies PrivateUsers=yes"), "{users:?}");
    assert_eq!(under("257", "ProtectSystem=strict", SYSTEM, Need::HostUsers), [""; 0]);
    let device = DeviceUse { path: b"/dev/fuse", is_block: false, major: 10, wanted: "rw" };
    let (bind, reach) = (Need::Bind("0.0.0.0:80".parse().unwrap()), Need::Reach("10.1.1.1".parse().unwrap()));
    let lines = "DeviceAllow=/dev/null r\nSocketBindDeny=any\nIPAddressDeny=any";
    for need in [Need::Device(device), bind, reach] {
        assert_eq!((user(lines, need).len(), under("257", lines, SYSTEM, need).len()), (0, 1), "{need:?}");
    }
}

#[test]
fn other_needs_name_their_lines() {
    assert_eq!(
        withholding("NoNewPrivileges=yes\nDynamicUser=yes", Need::SetId),
        ["2 NoNewPrivileges", "3 DynamicUser"]
    );
    assert_eq!(withholding("PrivateUsers=self", Need::HostUsers), ["2 PrivateUsers"]);
    assert_eq!(withholding("MemoryDenyWriteExecute=yes", Need::ExecutableMemory), ["2 MemoryDenyWriteExecute"]);
    let bind = |lines: &str| withholding(lines, Need::Bind("0.0.0.0:80".parse().unwrap()));
    assert_eq!(bind("SocketBindDeny=any"), ["2 SocketBindDeny any"]);
    assert_eq!(bind("SocketBindDeny=any\nSocketBindAllow=80"), [""; 0]);
    let reach = |lines: &str| withholding(lines, Need::Reach("10.1.1.1".parse().unwrap()));
    assert_eq!(reach("IPAddressDeny=any\nIPAddressAllow=localhost"), ["2 IPAddressDeny any"]);
    assert_eq!(reach("IPAddressDeny=any\nIPAddressAllow=10.0.0.0/8 localhost"), [""; 0]);
    let mapped = |lines: &str, address: &str| withholding(lines, Need::Reach(address.parse().unwrap()));
    assert_eq!(mapped("IPAddressDeny=any\nIPAddressAllow=10.0.0.0/8", "::ffff:10.1.1.1"), [""; 0]);
    for address in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
        assert_eq!(mapped("IPAddressDeny=any\nIPAddressAllow=localhost", address), [""; 0], "{address}");
    }
    let family = |lines: &str| withholding(lines, Need::Family(16));
    assert_eq!(
        family("RestrictAddressFamilies=AF_UNIX\nRestrictAddressFamilies=AF_INET"),
        ["2 RestrictAddressFamilies"]
    );
    assert_eq!(family("RestrictAddressFamilies=~AF_INET AF_NETLINK"), ["2 RestrictAddressFamilies AF_NETLINK"]);
}

#[test]
fn denied_argument_names_the_line_of_its_filter() {
    let (user, mnt) = (0x1000_0000, 0x0002_0000);
    let enter = |lines: &str, flags| withholding(lines, Need::Namespaces(flags));
    assert_eq!(enter("RestrictNamespaces=yes", user), ["2 RestrictNamespaces"]);
    assert_eq!(enter("RestrictNamespaces=mnt\nRestrictNamespaces=~mnt", mnt), ["3 RestrictNamespaces"]);
    assert_eq!(enter("RestrictNamespaces=mnt", mnt), [""; 0]);
    assert_eq!(enter("RestrictNamespaces=mnt", mnt | user), ["2 RestrictNamespaces"]);
    assert_eq!(enter("RestrictNamespaces=~user", 0), ["2 RestrictNamespaces"], "any type");
    assert_eq!(enter("RestrictNamespaces=no", 0), [""; 0]);
    assert_eq!(withholding("RestrictSUIDSGID=yes", Need::SetIdMode), ["2 RestrictSUIDSGID"]);
    assert_eq!(withholding("DynamicUser=yes", Need::SetIdMode), ["2 DynamicUser"]);
    let schedule = |policy| withholding("RestrictRealtime=yes", Need::Scheduling(policy));
    assert_eq!([schedule(0), schedule(3), schedule(5)], [[""; 0]; 3]);
    assert_eq!([schedule(1), schedule(0x4000_0000)], [["2 RestrictRealtime"]; 2]);
    let change = |domain| withholding("LockPersonality=yes", Need::Personality(domain));
    assert_eq!((change(0), change(u32::MAX)), (vec![], vec!["2 LockPersonality".to_owned()]));
}
