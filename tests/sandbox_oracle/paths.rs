//! What a unit sees of paths: each must be read-only, hidden or not executable exactly if the policy names a line.

use crate::manager::TestManager;
use crate::random::Random;
use crate::units::{UNITS, policy, random_units, run_units};
use harden_why::policy::{Need, Policy};
use harden_why::systemd::syscall_groups;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The paths that each unit looks at.
pub(crate) const PATHS: &[&str] = &[
    "/srv/a",
    "/srv/a/b",
    "/srv/a/b/run",
    "/srv/d",
    "/srv/d/run",
    "/home/u",
    "/home/u/f",
    "/opt/x",
    "/opt/x/run",
    "/tmp/seen",
    "/var/tmp/seen",
    "/etc",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/share",
    "/var/lib",
    "/var/lib/made",
    "/root",
    "/proc/sys/kernel/hostname",
    "/proc/cpuinfo",
    "/proc/sys/kernel/ostype",
    "/sys/kernel",
    "/dev/null",
    "/dev/full",
    "/dev/kmsg",
    "/dev/loop-control",
    "/",
];

/// Makes file systems of the test's own in the manager's view of files.
const PREPARE: &str = "
for dir in /srv /home /opt /var/tmp /var/lib; do mount -t tmpfs -o mode=1777 tmpfs $dir; done
mkdir -p /srv/a/b /srv/d /home/u /opt/x /var/lib/made
for file in /srv/a/b/run /srv/d/run /opt/x/run /home/u/f /tmp/seen /var/tmp/seen; do cp /bin/true $file; done";

/// Prints a line for each path: its inode, and whether it can be written and executed.
const LOOK: &str = "for path; do \
    i=$(stat -Lc %d:%i $path 2>/dev/null || echo none); \
    if [ -w $path ]; then w=w; else w=-; fi; if [ -x $path ]; then x=x; else x=-; fi; \
    echo $path $i $w $x; done";

/// Lines from which units are made. `StateDirectory=` is below another directory for the user manager that runs here.
pub(crate) const LINES: &[&str] = &[
    "ProtectSystem=yes",
    "ProtectSystem=full",
    "ProtectSystem=strict",
    "ProtectSystem=strict",
    "ProtectSystem=no",
    "ProtectHome=yes",
    "ProtectHome=read-only",
    "ProtectHome=tmpfs",
    "PrivateTmp=yes",
    "PrivateTmp=no",
    "PrivateDevices=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProcSubset=pid",
    "ProtectProc=invisible",
    "ReadOnlyPaths=/srv",
    "ReadOnlyPaths=/srv/a /home/u",
    "ReadOnlyPaths=/srv/a/b",
    "ReadOnlyPaths=/",
    "ReadOnlyPaths=",
    "ReadOnlyPaths=-/nowhere +/opt",
    "ReadOnlyPaths=/opt/../srv",
    "ReadWritePaths=/srv/a",
    "ReadWritePaths=/srv/a/b /etc",
    "ReadWritePaths=/var/lib",
    "ReadWritePaths=",
    "ReadWritePaths=/home/u/f",
    "ReadWritePaths=\"/srv//d/\"",
    "ReadWritePaths=/proc/sys/kernel/hostname",
    "InaccessiblePaths=/srv/a",
    "InaccessiblePaths=/opt/x",
    "InaccessiblePaths=-/home/u",
    "InaccessiblePaths=/usr/lib/locale",
    "InaccessiblePaths=",
    "NoExecPaths=/srv",
    "NoExecPaths=/opt /home",
    "NoExecPaths=/srv/a",
    "ExecPaths=/srv/a/b",
    "ExecPaths=/srv/d/run",
    "ExecPaths=",
    "TemporaryFileSystem=/srv",
    "TemporaryFileSystem=/opt:ro",
    "TemporaryFileSystem=/srv/a:mode=755 /opt/x",
    "TemporaryFileSystem=",
    "BindPaths=/srv/a",
    "BindPaths=/srv/d:/srv/a",
    "BindReadOnlyPaths=/home/u",
    "BindPaths=/home/u",
    "BindReadOnlyPaths=/srv/d:/opt/x",
    "BindPaths=",
    "BindPaths=/tmp/seen",
];

/// Lines that meet too rarely by chance.
const MEETING: [&str; 4] = [
    "ProtectSystem=yes\nReadWritePaths=/usr/bin /usr/share",
    "ProtectSystem=full\nReadWritePaths=/usr/bin /etc",
    "ProtectSystem=strict\nReadWritePaths=/usr/bin",
    "BindReadOnlyPaths=/srv/d: /opt/x\nReadOnlyPaths=/home/%k -/srv/a%",
];

/// What a unit saw of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    inode: String,
    is_writable: bool,
    is_executable: bool,
}

fn read(text: &str) -> BTreeMap<String, Seen> {
    text.lines()
        .filter_map(|line| {
            let [path, inode, writable, executable] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
            let seen = Seen { inode: inode.into(), is_writable: writable == "w", is_executable: executable == "x" };
            Some((path.to_owned(), seen))
        })
        .collect()
}

/// Describes how a unit's view of a path differs from the policy; empty if they agree.
fn difference(policy: &Policy, path: &str, plain: &Seen, seen: &Seen) -> String {
    let withheld = |need: Need<'_>| !policy.withholding(need, 1).is_empty();
    let mut text = String::new();
    let is_hidden = withheld(Need::See(path.as_bytes()));
    // A mount of its own over a whole directory shows another directory, and systemd's own files in it.
    let is_api = ["/dev", "/proc", "/sys"].iter().any(|dir| path.starts_with(dir));
    let is_gone = if is_api && path != "/dev/kmsg" { seen.inode == "none" } else { seen.inode != plain.inode };
    if is_hidden != is_gone && !is_mount_point(policy, path) {
        let _ = write!(text, " hidden: {is_hidden};");
    }
    // A device can be written whatever the mount of its node.
    if !is_gone && plain.is_writable && !path.starts_with("/dev") {
        let is_read_only = withheld(Need::Write(path.as_bytes()));
        if is_read_only == seen.is_writable {
            let _ = write!(text, " read-only: {is_read_only};");
        }
    }
    if seen.inode == plain.inode && plain.is_executable && path.ends_with("run") {
        let is_no_exec = withheld(Need::Execute(path.as_bytes()));
        if is_no_exec == seen.is_executable {
            let _ = write!(text, " no exec: {is_no_exec};");
        }
    }
    text
}

/// Whether a mount of the unit is exactly at a path, and shows another file there.
fn is_mount_point(policy: &Policy, path: &str) -> bool {
    let below = format!("{path}/below");
    policy.withholding(Need::See(below.as_bytes()), 1).len() > policy.withholding(Need::See(path.as_bytes()), 1).len()
}

#[test]
fn path_is_withheld_exactly_where_the_policy_names_a_line() {
    let Some(manager) = TestManager::start() else { return };
    let prepared = manager.command(&["sh", "-ec", PREPARE]).output().unwrap();
    assert!(prepared.status.success(), "{prepared:?}");
    let groups = syscall_groups::load().groups;
    let mut units = random_units(&mut Random(0x5eed_cafe), LINES, 5);
    units.extend(MEETING.map(str::to_owned));
    let outputs = run_units(&manager, "look", &units, LOOK, PATHS);
    let plain = read(&outputs[0]);
    assert_eq!(plain.len(), PATHS.len());
    for (lines, output) in MEETING.iter().rev().zip(outputs.iter().rev()) {
        assert_eq!(read(output).len(), PATHS.len(), "{lines}");
    }
    let (mut wrong, mut held, mut failed) = (String::new(), 0, 0);
    for (lines, output) in units.iter().zip(&outputs) {
        let seen = read(output);
        if seen.len() < PATHS.len() {
            failed += 1;
            continue;
        }
        let policy = policy(lines, &groups);
        for (path, plain) in &plain {
            let text = difference(&policy, path, plain, &seen[path]);
            held += 1;
            if !text.is_empty() {
                let _ = write!(wrong, "\n{:?}: {path}:{text} {:?}", lines.replace('\n', "; "), seen[path]);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(failed < UNITS / 4, "{failed} units did not start");
    println!("{held} paths of {} units agree, {failed} units do not start", units.len());
}
