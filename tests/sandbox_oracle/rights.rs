//! Which rights a unit's processes have, and which devices they can open: the policy must name a line exactly for what they lack.

use crate::manager::TestManager;
use crate::random::Random;
use crate::units::{UNITS, policy, random_units, run_units};
use harden_why::policy::{Capability, DeviceUse, Need, Policy};
use harden_why::systemd::syscall_groups;
use std::fmt::Write as _;

/// Prints the bounding set, the effective set and `no_new_privs`, and for each device and access whether it can be opened.
const LOOK: &str = "while read -r key value; do case $key in CapBnd:|CapEff:|NoNewPrivs:) echo $key $value;; esac; \
    done </proc/self/status; for device; do for way in r w; do \
    case $way in r) (: <$device) 2>&-;; w) (: >>$device) 2>&-;; esac && echo $device $way yes || echo $device $way no; done; done";

/// Devices that can be opened without an effect, and by root without capabilities: each with its driver's number.
const DEVICES: &[(&str, u32)] = &[
    ("/dev/null", 1),
    ("/dev/full", 1),
    ("/dev/urandom", 1),
    ("/dev/fuse", 10),
    ("/dev/loop-control", 10),
    ("/dev/kvm", 10),
];

/// Lines from which units are made.
const LINES: &[&str] = &[
    "CapabilityBoundingSet=~CAP_CHOWN CAP_KILL",
    "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_SYS_ADMIN CAP_SETPCAP",
    "CapabilityBoundingSet=CAP_NET_RAW cap_chown",
    "CapabilityBoundingSet=~CAP_SYS_ADMIN",
    "CapabilityBoundingSet=",
    "CapabilityBoundingSet=~",
    "AmbientCapabilities=CAP_NET_RAW",
    "AmbientCapabilities=CAP_CHOWN CAP_KILL",
    "AmbientCapabilities=",
    "User=nobody",
    "User=nobody",
    "User=",
    "User=root",
    "NoNewPrivileges=yes",
    "NoNewPrivileges=no",
    "ProtectClock=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "PrivateDevices=yes",
    "PrivateDevices=no",
    "RestrictRealtime=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "ProtectHostname=yes",
    "RestrictSUIDSGID=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET",
    "RestrictNamespaces=~user",
    "SystemCallFilter=~@reboot",
    "DevicePolicy=closed",
    "DevicePolicy=auto",
    "DeviceAllow=/dev/fuse r",
    "DeviceAllow=/dev/fuse w",
    "DeviceAllow=char-misc rw",
    "DeviceAllow=char-mem r",
    "DeviceAllow=/dev/kvm",
    "DeviceAllow=\"/dev/fuse\" r",
    "DeviceAllow=/dev/%k rw",
    "DeviceAllow=char-* rw",
    "DeviceAllow=",
];

/// What a unit's processes have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rights {
    bounding: u64,
    effective: u64,
    no_new_privileges: bool,
    /// The devices and ways by which they can be opened.
    opened: Vec<(String, String)>,
}

/// Reads what a unit printed; `None` if it did not start.
fn read(text: &str) -> Option<Rights> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let set = |key: &str| u64::from_str_radix(value(key)?, 16).ok();
    let fields: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let opened: Vec<(String, String)> = fields
        .iter()
        .filter_map(|fields| match fields[..] {
            [device, way, "yes"] => Some((device.to_owned(), way.to_owned())),
            _ => None,
        })
        .collect();
    let is_whole = fields.iter().filter(|fields| fields.len() == 3).count() == DEVICES.len() * 2;
    let rights = Rights {
        bounding: set("CapBnd:")?,
        effective: set("CapEff:")?,
        no_new_privileges: value("NoNewPrivs:")? == "1",
        opened,
    };
    is_whole.then_some(rights)
}

/// Describes how a unit's rights differ from the policy; empty if they agree.
fn difference(policy: &Policy, plain: &Rights, rights: &Rights) -> String {
    let has = |need: Need<'_>| policy.withholding(need, libc::EPERM).is_empty();
    let mut text = String::new();
    for number in (0..64).filter(|number| plain.bounding & 1 << number != 0) {
        let capability = Capability::new(number);
        let bounded = has(Need::Bounding(capability));
        let starts = bounded && has(Need::Effective(capability));
        for (set, seen, expected) in [("bounding", rights.bounding, bounded), ("effective", rights.effective, starts)] {
            if (seen & 1 << number != 0) != expected {
                let _ = write!(text, " {capability} {set}: {expected};");
            }
        }
    }
    if has(Need::SetId) == rights.no_new_privileges {
        let _ = write!(text, " no_new_privs: {};", !has(Need::SetId));
    }
    text
}

/// Describes how the devices that a unit's processes can open differ from the policy.
fn device_difference(policy: &Policy, plain: &Rights, rights: &Rights) -> String {
    let mut text = String::new();
    for (device, way) in &plain.opened {
        let (path, major) = DEVICES.iter().find(|(path, _)| path == device).unwrap();
        let path = path.as_bytes();
        let using = DeviceUse { path, is_block: false, major: *major, wanted: way };
        let has = |need: Need<'_>| policy.withholding(need, libc::EPERM).is_empty();
        let expected = has(Need::See(path)) && has(Need::Device(using));
        if rights.opened.contains(&(device.clone(), way.clone())) != expected {
            let _ = write!(text, " {device} {way}: {expected};");
        }
    }
    text
}

#[test]
fn right_or_device_is_missing_exactly_where_the_policy_names_a_line() {
    let Some(manager) = TestManager::start() else { return };
    let groups = syscall_groups::load().groups;
    let units = random_units(&mut Random(0x5eed_feed), LINES, 4);
    let devices: Vec<&str> = DEVICES.iter().map(|(path, _)| *path).collect();
    let outputs = run_units(&manager, "rights", &units, LOOK, &devices);
    let plain = read(&outputs[0]).unwrap();
    let (mut wrong, mut compared, mut failed) = (String::new(), 0, 0);
    for (lines, output) in units.iter().zip(&outputs) {
        let Some(rights) = read(output) else {
            failed += 1;
            continue;
        };
        let policy = policy(lines, &groups);
        compared += 2 * plain.bounding.count_ones() + 1;
        let mut text = difference(&policy, &plain, &rights);
        // The modes of the nodes tell a user other than root apart.
        if !lines.contains("User=nobody") {
            compared += u32::try_from(plain.opened.len()).unwrap();
            text += &device_difference(&policy, &plain, &rights);
        }
        if !text.is_empty() {
            let _ = write!(wrong, "\n{:?}:{text}", lines.replace('\n', "; "));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(failed < UNITS / 4, "{failed} units did not start");
    println!("{compared} rights and devices of {} units agree, {failed} units do not start", units.len());
}
