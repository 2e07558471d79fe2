//! Finds the reasons why denials, or their units, stay invisible on this machine. Silence never means "no denials".

use crate::intake::netlink::OpenError;
use crate::kernel::exit_cgroups::ExitCgroupsError;
use crate::kernel::mounts::MountTable;
use crate::kernel::procfs::status_value;
use crate::systemd::journal::JournalReadError;
use crate::unit_files::kernel_version::read_kernel_version;
use crate::unit_files::rooted::RootedTree;
use std::fmt;
use std::path::Path;

/// A reason why denials, or their units, stay invisible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlindSpot {
    /// A stable name for JSON and D-Bus.
    pub id: &'static str,
    /// The reason.
    pub what: String,
    /// The consequence.
    pub cost: String,
    /// The remedy.
    pub remedy: String,
}

impl fmt::Display for BlindSpot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.what, self.cost, self.remedy)
    }
}

/// The [ids](BlindSpot::id) of blind spots that leave a process without records, the most general first.
const AUDIT_OFF: &str = "audit-off";
const NETWORK_NAMESPACE: &str = "network-namespace";
const USER_NAMESPACE: &str = "user-namespace";
/// This one does not apply to a process that inherited the audit socket.
const NO_AUDIT_READ: &str = "no-audit-read";
const DEAFENING: [&str; 4] = [AUDIT_OFF, NETWORK_NAMESPACE, USER_NAMESPACE, NO_AUDIT_READ];

/// The ids of blind spots that concern the process, and not the machine or the container.
const OF_PROCESS: [&str; 3] = [NO_AUDIT_READ, "no-exit-events", "hidepid"];

/// Capabilities as bits of `CapEff:` (`linux/capability.h`).
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_AUDIT_READ: u32 = 37;

/// The initial namespaces (`linux/proc_ns.h`).
const INIT_PID_NAMESPACE: &str = "pid:[4026531836]";
const INIT_USER_NAMESPACE: &str = "user:[4026531837]";

/// The actions that the kernel can log (`seccomp(2)`), and the calls that stay invisible without logging.
const ACTIONS: [(&str, &str); 7] = [
    ("kill_process", "processes killed by SystemCallFilter="),
    ("kill_thread", "processes killed by SystemCallArchitectures="),
    ("errno", "calls that a filter refused with an error"),
    ("log", "calls that SystemCallLog= lists"),
    ("trap", "calls that a program's own sandbox traps"),
    ("user_notif", "calls that a container runtime decides on"),
    ("trace", "calls that a tracer decides on"),
];

/// Finds the blind spots of the process `root/proc/self` on the machine below `root`. An unreadable file counts as no
/// blind spot.
///
/// An audit rule that drops SECCOMP records (`auditctl -a never,exclude -F msgtype=SECCOMP`) stays undetected: listing
/// rules requires `CAP_AUDIT_CONTROL`.
#[must_use]
pub fn find_blind_spots(root: &Path) -> Vec<BlindSpot> {
    let tree = RootedTree::new(root);
    let status = tree.read(Path::new("/proc/self/status")).unwrap_or_default();
    let capabilities = status_value(&status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let lacks = |capability: u32| capabilities.is_some_and(|set| set >> capability & 1 == 0);
    let namespace = |kind: &str| {
        let link = tree.read_link(&Path::new("/proc/self/ns").join(kind)).ok()??;
        link.to_str().map(str::to_owned)
    };
    let mut found = Vec::new();

    if text(root, "proc/cmdline").is_some_and(|line| audit_is_off(&line)) {
        found.push(blind_spot(
            AUDIT_OFF,
            "the kernel was started with audit=0",
            "the kernel makes no records of denials",
            "remove audit=0 from the kernel command line and restart the machine",
        ));
    }
    if lacks(CAP_AUDIT_READ) {
        found.push(blind_spot(
            NO_AUDIT_READ,
            "this process lacks CAP_AUDIT_READ",
            "it cannot receive the kernel's audit records: denials go unseen",
            "'systemctl restart harden-whyd' starts harden-whyd.socket, which joins the audit stream for it, unless this \
             is a container",
        ));
    }
    let release = read_kernel_version(RootedTree::new(root));
    if is_other_network(root) {
        found.push(blind_spot(
            NETWORK_NAMESPACE,
            "this process has a network namespace of its own",
            "audit records and exit events reach the initial network namespace only: denials go unseen",
            "remove PrivateNetwork= and NetworkNamespacePath= from its unit, or run it outside the container",
        ));
    }
    if namespace("pid").is_some_and(|own| own != INIT_PID_NAMESPACE) {
        found.push(blind_spot(
            "pid-namespace",
            "this process is not in the initial PID namespace",
            "the pids in records differ from the pids seen here: the unit of a process stays unknown",
            "run it outside the container",
        ));
    }
    if namespace("user").is_some_and(|own| own != INIT_USER_NAMESPACE) {
        found.push(blind_spot(
            USER_NAMESPACE,
            "this process is not in the initial user namespace",
            "the kernel sends it no records: denials go unseen",
            "remove PrivateUsers= from its unit, or run it outside the container",
        ));
    }
    if lacks(CAP_NET_ADMIN) && release.is_some_and(|release| release < (6, 6)) {
        found.push(blind_spot(
            "no-exit-events",
            "this process lacks CAP_NET_ADMIN, which exit events need before Linux 6.6",
            "the unit of a short-lived process that is killed stays unknown more often",
            "run it as root, with CAP_NET_ADMIN in the CapabilityBoundingSet= of its unit",
        ));
    }
    if lacks(CAP_SYS_PTRACE)
        && text(root, "proc/self/mountinfo")
            .is_some_and(|mounts| proc_is_hidden(&MountTable::parse(mounts.as_bytes()), &status))
    {
        found.push(blind_spot(
            "hidepid",
            "/proc is mounted with hidepid= and this process lacks CAP_SYS_PTRACE",
            "it cannot see other users' processes: the unit of a process stays unknown more often",
            "remove ProtectProc= from its unit, or add CAP_SYS_PTRACE to its CapabilityBoundingSet=",
        ));
    }
    if let Some(logged) = text(root, "proc/sys/kernel/seccomp/actions_logged") {
        let missing = ACTIONS.iter().filter(|(action, _)| !logged.split_ascii_whitespace().any(|word| word == *action));
        let (actions, hidden): (Vec<_>, Vec<_>) = missing.copied().unzip();
        if !actions.is_empty() {
            let remedy = format!("sysctl kernel.seccomp.actions_logged='{} {}'", logged.trim(), actions.join(" "));
            found.push(BlindSpot {
                id: "actions-not-logged",
                what: format!("kernel.seccomp.actions_logged lacks {}", actions.join(", ")),
                cost: format!("the kernel makes no record of {}", hidden.join("; of ")),
                remedy,
            });
        }
    }
    found.push(silent_errno());
    found
}

/// Finds the blind spots that any process has here: those of the machine, and of the container if this is one.
#[must_use]
pub fn find_common_blind_spots(root: &Path) -> Vec<BlindSpot> {
    find_blind_spots(root).into_iter().filter(|spot| !OF_PROCESS.contains(&spot.id)).collect()
}

/// Finds the reason why a process receives no records. `failure` tells why it could not open the audit stream; without
/// one it could, or inherited the stream.
#[must_use]
pub fn find_reason_for_no_records(root: &Path, failure: Option<&OpenError>) -> Option<BlindSpot> {
    let mut known = find_blind_spots(root);
    let mut known = |id: &str| Some(known.swap_remove(known.iter().position(|spot| spot.id == id)?));
    match failure {
        // The kernel lets a process join in any network namespace, and sends records to the initial one only.
        None => known(NETWORK_NAMESPACE),
        Some(failure @ OpenError::NoAudit) => Some(known(AUDIT_OFF).unwrap_or_else(|| {
            let remedy = "use a kernel with CONFIG_AUDIT, outside of a container that blocks audit";
            blind_spot("no-audit", &failure.to_string(), "no denial is recorded", remedy)
        })),
        Some(failure) => {
            [USER_NAMESPACE, NETWORK_NAMESPACE, NO_AUDIT_READ].into_iter().find_map(&mut known).or_else(|| {
                let remedy = "'systemctl restart harden-whyd' tries again";
                Some(blind_spot("no-audit-stream", &failure.to_string(), "denials go unseen", remedy))
            })
        }
    }
}

/// Finds the blind spots other than the [reason](find_reason_for_no_records) why a process receives no records.
pub(crate) fn find_further_blind_spots(root: &Path, is_listening: bool) -> Vec<BlindSpot> {
    let is_reported_elsewhere = |spot: &BlindSpot| {
        if is_listening { spot.id == NO_AUDIT_READ } else { DEAFENING.contains(&spot.id) }
    };
    find_blind_spots(root).into_iter().filter(|spot| !is_reported_elsewhere(spot)).collect()
}

/// The blind spot of every machine: systemd does not log refusals with an error by default.
#[must_use]
pub fn silent_errno() -> BlindSpot {
    blind_spot(
        "errno-silent",
        "by default, systemd does not ask the kernel to log calls that a filter refuses with an error",
        "denials of a unit with SystemCallErrorNumber=, Restrict*=, Protect*= and their like leave no record; \
         only kills do",
        "'harden-why rehearse UNIT', 'harden-why tap UNIT' and 'harden-why log-refusals UNIT' show them",
    )
}

/// The blind spot of a kernel that does not note the cgroups of dying processes.
#[must_use]
pub fn no_exit_cgroups(why: &ExitCgroupsError) -> BlindSpot {
    BlindSpot {
        id: "no-exit-cgroups",
        what: format!("the kernel does not note the cgroups of dying processes ({why})"),
        cost: "the unit of a short-lived process stays unknown more often, or comes from its parent".to_owned(),
        remedy: match why {
            ExitCgroupsError::NotAllowed => {
                "run it as root, with CAP_BPF and CAP_PERFMON in the CapabilityBoundingSet= of its unit"
            }
            ExitCgroupsError::NoHierarchy => "start the machine with systemd.unified_cgroup_hierarchy=1",
            ExitCgroupsError::NoTypes => "use a kernel built with CONFIG_DEBUG_INFO_BTF",
            ExitCgroupsError::Kernel(_) => {
                "use a 64-bit Linux 5.14 or later, with CONFIG_BPF_SYSCALL and CONFIG_BPF_EVENTS"
            }
        }
        .to_owned(),
    }
}

/// The blind spot of an unreadable journal.
#[must_use]
pub fn no_journal(why: &JournalReadError) -> BlindSpot {
    BlindSpot {
        id: "no-journal",
        what: why.to_string(),
        cost: "the unit of a process stays unknown if only the journal names it".to_owned(),
        remedy: match why {
            JournalReadError::None => "enable systemd-journald",
            JournalReadError::Library(_) => "install libsystemd.so.0 and its dependencies",
            JournalReadError::Io(_) => "check that root may read /run/log/journal and /var/log/journal",
        }
        .to_owned(),
    }
}

fn blind_spot(id: &'static str, what: &str, cost: &str, remedy: &str) -> BlindSpot {
    BlindSpot { id, what: what.to_owned(), cost: cost.to_owned(), remedy: remedy.to_owned() }
}

fn text(root: &Path, path: &str) -> Option<String> {
    RootedTree::new(root).read(Path::new(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether the last `audit=` of a kernel command line turns audit off (`audit_enable`, `kernel/audit.c`).
fn audit_is_off(line: &str) -> bool {
    let own = line.split_ascii_whitespace().take_while(|word| *word != "--");
    own.filter_map(|word| word.strip_prefix("audit=")).last().is_some_and(|value| matches!(value, "0" | "off"))
}

/// Whether this process is certainly not in the initial network namespace, by the settings in `/proc/sys/net/core`: only
/// the initial namespace has `netdev_max_backlog`, and each has `somaxconn` (`net_core_table` and `netns_core_table`,
/// `net/core/sysctl_net_core.c`).
fn is_other_network(root: &Path) -> bool {
    let has =
        |setting: &str| RootedTree::new(root).symlink_metadata(&Path::new("/proc/sys/net/core").join(setting)).is_ok();
    has("somaxconn") && !has("netdev_max_backlog")
}

/// Whether the last mount on `/proc` hides other users' processes (`hidepid=`, `proc(5)`). Members of the
/// group in `gid=` (default 0) still see them, except with `hidepid=ptraceable` (`has_pid_permissions`,
/// `fs/proc/base.c`).
fn proc_is_hidden(mounts: &MountTable, status: &[u8]) -> bool {
    let on_proc = mounts.mounts().iter().rfind(|mount| mount.point == b"/proc");
    let option = |name: &str| on_proc?.super_value(name);
    let group = option("gid").unwrap_or("0");
    let is_member = ["Gid", "Groups"]
        .into_iter()
        .filter_map(|key| status_value(status, key))
        .any(|groups| groups.split_ascii_whitespace().any(|own| own == group));
    match option("hidepid") {
        None | Some("0" | "off") => false,
        Some("4" | "ptraceable") => true,
        Some(_) => !is_member,
    }
}

#[cfg(test)]
mod tests;
