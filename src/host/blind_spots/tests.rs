use super::*;
use std::os::unix::fs::symlink;

/// A machine without blind spots except `errno-silent`.
fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join("proc").join(path);
    for directory in ["self/ns", "sys/net/core", "sys/kernel/seccomp"] {
        std::fs::create_dir_all(at(directory)).unwrap();
    }
    for (path, text) in [
        ("cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet\n"),
        ("self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n"),
        ("self/mountinfo", "22 1 0:5 / /proc rw,nosuid - proc proc rw\n"),
        ("sys/kernel/osrelease", "6.1.0-44-amd64\n"),
        ("sys/net/core/somaxconn", "4096\n"),
        ("sys/net/core/netdev_max_backlog", "1000\n"),
        ("sys/kernel/seccomp/actions_logged", "kill_process kill_thread trap errno user_notif trace log\n"),
    ] {
        std::fs::write(at(path), text).unwrap();
    }
    symlink(INIT_PID_NAMESPACE, at("self/ns/pid")).unwrap();
    symlink(INIT_USER_NAMESPACE, at("self/ns/user")).unwrap();
    root
}

fn ids(root: &tempfile::TempDir) -> Vec<&'static str> {
    find_blind_spots(root.path()).iter().map(|spot| spot.id).collect()
}

/// The blind spots of a machine on which `path` in /proc contains `text`.
fn with(path: &str, text: &str) -> Vec<&'static str> {
    let root = machine();
    std::fs::write(root.path().join("proc").join(path), text).unwrap();
    ids(&root)
}

#[test]
fn errno_silent_is_always_listed() {
    assert_eq!(ids(&machine()), ["errno-silent"]);
    assert_eq!(ids(&tempfile::tempdir().unwrap()), ["errno-silent"]);
}

#[test]
fn audit_off_on_kernel_command_line_is_blind_spot() {
    for line in ["audit=0\n", "quiet audit=off ro", "audit=1 audit=0"] {
        assert_eq!(with("cmdline", line), ["audit-off", "errno-silent"], "{line}");
    }
    for line in ["audit=1", "audit=0 audit=1", "xaudit=0", "audit_backlog_limit=0", "quiet -- audit=0"] {
        assert_eq!(with("cmdline", line), ["errno-silent"], "{line}");
    }
}

#[test]
fn missing_capabilities_are_blind_spots() {
    let none = "CapEff:\t0000000000000000\n";
    assert_eq!(with("self/status", none), ["no-audit-read", "no-exit-events", "errno-silent"]);
    assert_eq!(with("self/status", "CapEff:\t0000002000001000\n"), ["errno-silent"]);
    assert_eq!(with("self/status", "CapEff: nonsense\n"), ["errno-silent"]);
}

#[test]
fn exit_events_need_no_capability_since_linux_6_6() {
    let root = machine();
    std::fs::write(root.path().join("proc/self/status"), "CapEff:\t0000002000000000\n").unwrap();
    assert_eq!(ids(&root), ["no-exit-events", "errno-silent"]);
    std::fs::write(root.path().join("proc/sys/kernel/osrelease"), "6.12.43+deb13-amd64\n").unwrap();
    assert_eq!(ids(&root), ["errno-silent"]);
}

#[test]
fn hidepid_is_blind_spot_without_cap_sys_ptrace() {
    let hidden = "22 1 0:5 / /proc rw - proc proc rw,hidepid=invisible\n";
    assert_eq!(with("self/mountinfo", hidden), ["errno-silent"]);
    let root = machine();
    std::fs::write(root.path().join("proc/self/mountinfo"), hidden).unwrap();
    std::fs::write(root.path().join("proc/self/status"), "CapEff:\t0000002000001000\n").unwrap();
    assert_eq!(ids(&root), ["hidepid", "errno-silent"]);
    let hides = |mount: &str, groups: &str| {
        proc_is_hidden(&MountTable::parse(mount.as_bytes()), format!("Gid:\t7 7 7 7\nGroups:\t{groups}\n").as_bytes())
    };
    assert!(!hides("22 1 0:5 / /proc rw - proc proc rw,hidepid=off\n", ""));
    assert!(!hides("22 1 0:5 / /mnt rw - proc proc rw,hidepid=2\n", ""));
    assert!(hides(hidden, "4 24") && !hides(hidden, "4 0 24"), "root's group sees all");
    let of_group = "22 1 0:5 / /proc rw - proc proc rw,gid=24,hidepid=invisible\n";
    assert!(hides(of_group, "0") && !hides(of_group, "4 24"));
    assert!(hides("22 1 0:5 / /proc rw - proc proc rw,hidepid=ptraceable\n", "0"));
}

#[test]
fn other_namespaces_are_blind_spots() {
    for (kind, id) in [("pid", "pid-namespace"), ("user", "user-namespace")] {
        let root = machine();
        let link = root.path().join("proc/self/ns").join(kind);
        std::fs::remove_file(&link).unwrap();
        symlink(format!("{kind}:[4026539999]"), link).unwrap();
        assert_eq!(ids(&root), [id, "errno-silent"]);
    }
}

/// A machine whose process is in another network namespace.
fn in_other_network() -> tempfile::TempDir {
    let root = machine();
    std::fs::remove_file(root.path().join("proc/sys/net/core/netdev_max_backlog")).unwrap();
    root
}

#[test]
fn network_namespace_is_known_by_its_settings() {
    assert_eq!(ids(&in_other_network()), ["network-namespace", "errno-silent"]);
    assert!(!is_other_network(tempfile::tempdir().unwrap().path()), "without /proc/sys it is unknown");
}

#[test]
fn process_without_records_has_one_true_reason() {
    let deafness =
        |root: &tempfile::TempDir, failure| find_reason_for_no_records(root.path(), failure).map(|spot| spot.id);
    let off = machine();
    std::fs::write(off.path().join("proc/cmdline"), "audit=0\n").unwrap();
    assert_eq!(deafness(&off, Some(&OpenError::NoAudit)), Some("audit-off"));
    assert_eq!(deafness(&machine(), Some(&OpenError::NoAudit)), Some("no-audit"));
    assert_eq!(deafness(&machine(), None), None);
    assert_eq!(deafness(&in_other_network(), None), Some("network-namespace"));
    assert_eq!(deafness(&in_other_network(), Some(&OpenError::NotAllowed)), Some("network-namespace"));
    assert_eq!(deafness(&machine(), Some(&OpenError::NotAllowed)), Some("no-audit-stream"));
    let further: Vec<_> = find_further_blind_spots(off.path(), false).iter().map(|spot| spot.id).collect();
    assert_eq!(further, ["errno-silent"], "the answer gives the reason once");
}

#[test]
fn rights_of_this_process_are_no_common_blind_spot() {
    let root = machine();
    std::fs::write(root.path().join("proc/self/status"), "CapEff:\t0000000000000000\n").unwrap();
    assert_eq!(find_common_blind_spots(root.path()).iter().map(|spot| spot.id).collect::<Vec<_>>(), ["errno-silent"]);
}

#[test]
fn action_not_logged_is_listed_with_hidden_calls() {
    let root = machine();
    let file = root.path().join("proc/sys/kernel/seccomp/actions_logged");
    std::fs::write(file, "kill_process kill_thread trap user_notif trace\n").unwrap();
    let found = find_blind_spots(root.path());
    assert_eq!(found[0].id, "actions-not-logged");
    assert!(found[0].what.ends_with("lacks errno, log"), "{}", found[0].what);
    assert!(found[0].cost.contains("refused with an error"), "{}", found[0].cost);
    assert!(found[0].remedy.contains("kill_process kill_thread trap user_notif trace errno log"));
}

#[test]
fn no_exit_cgroups_names_reason_and_remedy() {
    let text = no_exit_cgroups(&ExitCgroupsError::NotAllowed).to_string();
    assert!(text.contains("it requires CAP_BPF and CAP_PERFMON): the unit of a short-lived process"), "{text}");
    let other = std::io::Error::from_raw_os_error(libc::ENOSYS);
    for why in [ExitCgroupsError::NoHierarchy, ExitCgroupsError::NoTypes, ExitCgroupsError::Kernel(other.into())] {
        let limitation = no_exit_cgroups(&why);
        assert_eq!(limitation.id, "no-exit-cgroups");
        assert!(!limitation.remedy.is_empty() && !limitation.remedy.contains("CAP_"), "{limitation}");
    }
}
