//! The devices that paths below `/dev` usually name, for messages that name no more than a path
//! (`Documentation/admin-guide/devices.txt`).

/// The start of a node's path, whether it is a block device, and its driver's number; 0 if the driver has no number of its
/// own.
const NODES: [(&str, bool, u32); 25] = [
    ("/dev/autofs", false, 10),
    ("/dev/bus/usb/", false, 189),
    ("/dev/dri/", false, 226),
    ("/dev/fb", false, 29),
    ("/dev/fuse", false, 10),
    ("/dev/hpet", false, 10),
    ("/dev/i2c-", false, 89),
    ("/dev/input/", false, 13),
    ("/dev/kvm", false, 10),
    ("/dev/loop-control", false, 10),
    ("/dev/loop", true, 7),
    ("/dev/md", true, 9),
    ("/dev/mem", false, 1),
    ("/dev/net/tun", false, 10),
    ("/dev/nvidia", false, 195),
    ("/dev/ppp", false, 108),
    ("/dev/sd", true, 8),
    ("/dev/snd/", false, 116),
    ("/dev/spidev", false, 153),
    ("/dev/sr", true, 11),
    ("/dev/ttyACM", false, 166),
    ("/dev/ttyS", false, 4),
    ("/dev/ttyUSB", false, 188),
    ("/dev/uinput", false, 10),
    ("/dev/watchdog", false, 10),
];

/// Returns whether a path below `/dev` names a block device, and the number of its driver; `None` if that is unknown.
pub(super) fn guess_device(path: &[u8]) -> Option<(bool, u32)> {
    let known = NODES.iter().find(|(start, ..)| path.starts_with(start.as_bytes()));
    known.map(|(_, is_block, major)| (*is_block, *major))
}
