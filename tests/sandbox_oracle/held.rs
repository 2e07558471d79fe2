//! What a manager holds of random unit files, on D-Bus: a policy of it must withhold what the policy of the files withholds.

use crate::manager::TestManager;
use crate::paths;
use crate::random::Random;
use crate::units::{policy, random_units};
use harden_why::policy::{Capability, DeviceUse, ManagerContext, Need, Policy};
use harden_why::systemd::manager::Managers;
use harden_why::systemd::syscall_groups;
use harden_why::units::Manager;
use std::fmt::Write as _;

/// Lines about all but paths; those of `paths` are added.
const LINES: &[&str] = &[
    "CapabilityBoundingSet=~CAP_CHOWN CAP_KILL",
    "CapabilityBoundingSet=CAP_NET_RAW cap_chown",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=CAP_CHOWN CAP_NET_RAW",
    "AmbientCapabilities=~CAP_CHOWN",
    "User=nobody",
    "User=",
    "DynamicUser=yes",
    "NoNewPrivileges=yes",
    "NoNewPrivileges=maybe",
    "PrivateUsers=yes",
    "ProtectClock=yes",
    "MemoryDenyWriteExecute=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "RestrictNamespaces=mnt user",
    "RestrictNamespaces=~user",
    "RestrictAddressFamilies=AF_UNIX AF_INET",
    "RestrictAddressFamilies=~AF_NETLINK",
    "RestrictAddressFamilies=none",
    "DevicePolicy=closed",
    "DevicePolicy=strict",
    "DevicePolicy=auto",
    "DevicePolicy=bogus",
    "DeviceAllow=/dev/fuse r",
    "DeviceAllow=/dev/fuse rw",
    "DeviceAllow=char-rtc",
    "DeviceAllow=char-misc rw",
    "DeviceAllow=fuse rw",
    "DeviceAllow=",
    "SocketBindDeny=any",
    "SocketBindDeny=ipv4:tcp:80-90",
    "SocketBindDeny=ipv6",
    "SocketBindDeny=",
    "SocketBindAllow=80",
    "SocketBindAllow=ipv4:udp",
    "IPAddressDeny=any",
    "IPAddressDeny=10.0.0.0/8 ::1",
    "IPAddressDeny=",
    "IPAddressAllow=localhost 10.1.0.0/16",
    "IPAddressAllow=link-local bogus multicast",
    "ReadWritePaths=/srv/%n /opt/%%x",
    "ReadOnlyPaths=/srv/%p",
    "ReadOnlyPaths=relative /srv/d",
    "InaccessiblePaths=\"/srv/a b\" '/opt/x'",
    "NoExecPaths=/opt/x/",
    "ProtectSystem=maybe",
    "ProtectHome=",
    "ProtectProc=bogus",
    "PrivateTmp=",
    "BindPaths=/srv/a:/opt/x:norbind",
    "BindReadOnlyPaths=-/srv/a\\:b:/srv/d",
    "TemporaryFileSystem=/home:size=10%",
];

const ADDRESSES: [&str; 5] = ["0.0.0.0:80", "127.0.0.1:443", "[::1]:80", "10.1.2.3:53", "[fe80::1]:8080"];
const DEVICES: [(&str, u32); 4] = [("/dev/null", 1), ("/dev/fuse", 10), ("/dev/rtc0", 252), ("/dev/kmsg", 1)];

/// Returns what a policy withholds of all that is compared, in words.
fn withheld(policy: &Policy) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |name: String, need: Need<'_>| {
        if !policy.withholding(need, libc::EPERM).is_empty() {
            found.push(name);
        }
    };
    for path in paths::PATHS {
        look(format!("see {path}"), Need::See(path.as_bytes()));
        look(format!("write {path}"), Need::Write(path.as_bytes()));
        look(format!("execute {path}"), Need::Execute(path.as_bytes()));
    }
    for (device, major) in DEVICES {
        for wanted in ["r", "rw"] {
            let path = device.as_bytes();
            look(format!("{device} {wanted}"), Need::Device(DeviceUse { path, is_block: false, major, wanted }));
        }
    }
    for number in 0..=40 {
        let capability = Capability::new(number);
        look(format!("bounding {capability}"), Need::Bounding(capability));
        look(format!("effective {capability}"), Need::Effective(capability));
    }
    for address in ADDRESSES.map(|address| address.parse::<std::net::SocketAddr>().unwrap()) {
        look(format!("bind {address}"), Need::Bind(address));
        look(format!("reach {address}"), Need::Reach(address.ip()));
    }
    for family in [1, 2, 16] {
        look(format!("family {family}"), Need::Family(family));
    }
    for flags in [0, 0x0002_0000, 0x1000_0000] {
        look(format!("namespaces {flags:#x}"), Need::Namespaces(flags));
    }
    look("set-id program".into(), Need::SetId);
    look("host users".into(), Need::HostUsers);
    look("executable memory".into(), Need::ExecutableMemory);
    look("set-id mode".into(), Need::SetIdMode);
    look("scheduling".into(), Need::Scheduling(1));
    look("personality".into(), Need::Personality(8));
    found
}

#[test]
fn manager_holds_what_the_policy_of_the_files_withholds() {
    let Some(manager) = TestManager::start() else { return };
    let groups = syscall_groups::load().groups;
    let units = random_units(&mut Random(0x5eed_beef), &[paths::LINES, LINES].concat(), 9);
    let name = |number: usize| format!("held{number}.service");
    for (number, lines) in units.iter().enumerate() {
        manager.write(&name(number), &format!("[Service]\nExecStart=/bin/true\n{lines}"));
    }
    manager.reload();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut wrong, mut compared) = (String::new(), 0);
    runtime.block_on(async {
        let systemd = Managers::with_paths(manager.bus(), "/nonexistent").connect(Manager::System).await.unwrap();
        for (number, lines) in units.iter().enumerate() {
            let properties = systemd.unit_properties(&name(number).parse().unwrap()).await.unwrap();
            assert_eq!((properties.load_state.as_str(), properties.unparsed.len()), ("loaded", 0), "{lines}");
            let file_lines =
                lines.replace("%n", &name(number)).replace("%p", name(number).trim_end_matches(".service"));
            let ours = withheld(&policy(&file_lines, &groups));
            let held = withheld(&properties.policy(ManagerContext::default(), &groups));
            compared += ours.len().max(held.len());
            let only = |one: &[String], other: &[String]| {
                one.iter().filter(|name| !other.contains(name)).cloned().collect::<Vec<_>>().join(", ")
            };
            if ours != held {
                let (files, systemd) = (only(&ours, &held), only(&held, &ours));
                let _ =
                    write!(wrong, "\n{:?}: files alone: {files}; systemd alone: {systemd}", lines.replace('\n', "; "));
            }
        }
    });
    assert!(wrong.is_empty(), "{wrong}");
    assert!(compared > units.len(), "{compared}");
    println!("{compared} withheld needs of {} units agree", units.len());
}
