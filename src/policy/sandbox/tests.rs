//! Tests of what settings withhold. `tests/sandbox_oracle.rs` compares paths with a real systemd.

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
    assert_eq!(see("ProcSubset=pid\nProtectProc=invisible", "/proc/cpuinfo"), ["2 ProcSubset"]);
    assert_eq!(see("ProcSubset=pid\nProtectProc=invisible", "/proc/1/stat"), ["3 ProtectProc"]);
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
    assert_eq!(open("ProtectClock=yes", "/dev/rtc0", 254, "r"), [""; 0]);
    assert_eq!(open("ProtectClock=yes", "/dev/rtc0", 254, "w"), ["2 ProtectClock"]);
    assert_eq!(open("ProtectClock=yes", "/dev/fuse", 10, "r"), ["2 ProtectClock"]);
    assert_eq!(open("DeviceAllow=block-*\nDeviceAllow=", "/dev/fuse", 10, "rw"), [""; 0]);
}

#[test]
fn other_needs_name_their_lines() {
    assert_eq!(
        withholding("NoNewPrivileges=yes\nDynamicUser=yes", Need::SetId),
        ["2 NoNewPrivileges", "3 DynamicUser"]
    );
    assert_eq!(withholding("RestrictRealtime=yes", Need::SetId), [""; 0]);
    let of = |version: &str| {
        let file = UnitFile::parse(Path::new("x.service"), b"[Service]\nUser=web\nRestrictRealtime=yes\n");
        let settings = Settings::new(&"app@one.service".parse().unwrap(), Some(file), Vec::new());
        let groups = Groups::parse("@known\n    read\n", GroupSource::Host(version.into())).unwrap();
        let causes = Policy::new(settings, &groups).withholding(Need::SetId, 0);
        causes.iter().map(|cause| format!("{:?}", cause.why)).collect::<Vec<_>>()
    };
    assert_eq!((of("254").len(), of("255").len()), (1, 0), "since 255 systemd filters before it drops its rights");
    assert!(!of("254")[0].contains("assumed") && of("?")[0].contains("which is assumed"), "{:?}", of("?"));
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
