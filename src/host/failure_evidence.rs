//! Weighs a call whose failure the kernel reported as it happened: whether the unit's own settings made it fail.
//!
//! The process may be gone, and the daemon may not look into living ones. So all evidence on the process is the kernel's, of the
//! moment of the failure: its capabilities, its executable, where its path starts, and that its mount is read-only while the
//! file system is not. The mounts of PID 1 stand for the host's.

use super::access_verdict::{
    AccessEvidence, AccessVerdict, FileKind, OwnNamespaces, UnitPrivileges, call_name, keeps_link, weigh,
};
use super::host_files::{forbidden_by_modes, symlink_metadata};
use super::path_walk::{LocatedPath, PathWalk};
use crate::diagnosis::before_exec::is_systemd_before_exec;
use crate::diagnosis::find_withholding;
use crate::incidents::{Access, AccessDenial, CapabilityLack};
use crate::kernel::call_failures::FailureReport;
use crate::kernel::failed_call::{CallText, FailedCall, FailedEvent};
use crate::kernel::mounts::MountTable;
use crate::policy::{Directive, Policy};
use crate::syscalls::{Arch, Call};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The inode of the initial user namespace (`PROC_USER_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_USER_NAMESPACE: u32 = 0xefff_fffd;

/// Returns what a unit's settings denied a failed call; `None` if they did not make it fail, or if that is not certain.
/// `is_certain` tells whether the manager holds the policy's value of a directive. Without the host's mounts, nothing is certain
/// of paths.
pub(crate) fn find_denial(
    report: &FailureReport,
    policy: &Policy,
    is_certain: impl Fn(Directive) -> bool,
    host_mounts: Option<&MountTable>,
) -> Option<AccessDenial> {
    let failed = &report.failed;
    let FailedEvent::Call { number, errno, arguments } = failed.event else { return None };
    // The machine's files and mounts tell nothing of those below another root.
    if errno == libc::EROFS && policy.settings.has_own_root() {
        return None;
    }
    // systemd's own steps before the program have words of their own in the journal.
    if is_systemd_before_exec(&failed.comm, report.exe.as_deref().unwrap_or(&failed.program)) {
        return None;
    }
    let evidence = AccessEvidence {
        call: call_name(failed),
        own: OwnNamespaces {
            mounts: errno == libc::EROFS,
            users: failed.credentials.user_namespace != INITIAL_USER_NAMESPACE,
        },
        privileges: UnitPrivileges::from_settings(&policy.settings),
        ..AccessEvidence::default()
    };
    let evidence = match errno {
        libc::EROFS => with_path(evidence, report, host_mounts?)?,
        libc::EACCES if is_on_fuse(report, host_mounts?) => return None,
        _ => evidence,
    };
    let AccessVerdict::Denied(access) = weigh(failed, &evidence) else { return None };
    if is_probe(&access, evidence.call, arguments) {
        return None;
    }
    let denial = AccessDenial { call: Call::numbered(Arch::native(), number), errno, access };
    // A container's runtime withholds as much, and no line of the unit does.
    find_withholding(&denial, policy).first().is_some_and(|cause| is_certain(cause.directive)).then_some(denial)
}

/// Whether programs that work make such a call in vain.
///
/// - Signal 0 asks whether a process exists (kill(2)).
/// - Programs look at the files of other processes, as systemd-logind at those of a new session's leader.
/// - A program that runs as another user than root, with no other setting against it, tries much that only root may do; but no
///   program binds a socket in vain.
fn is_probe(access: &Access, call: Option<&str>, arguments: [u64; 6]) -> bool {
    let [_, second, third, ..] = arguments;
    match (call, access) {
        (Some("kill"), _) if second == 0 => true,
        (Some("tgkill"), _) if third == 0 => true,
        (Some("open" | "openat" | "openat2"), Access::Capability { capability, .. })
            if capability.name() == Some("CAP_SYS_PTRACE") =>
        {
            true
        }
        (_, Access::Capability { lack: CapabilityLack::NotEffective, .. }) => call != Some("bind"),
        _ => false,
    }
}

/// Whether the path of a call leads to FUSE. There the kernel reads the file's modes again after a failed check, and repeats the
/// check (`fuse_permission`), so that the call can succeed.
fn is_on_fuse(report: &FailureReport, host_mounts: &MountTable) -> bool {
    let mount = locate(report, host_mounts).and_then(|at| host_mounts.holding(at.place.as_os_str().as_bytes()));
    mount.is_some_and(|mount| mount.fs_type.starts_with(b"fuse") || mount.fs_type == b"virtiofs")
}

fn locate(report: &FailureReport, host_mounts: &MountTable) -> Option<LocatedPath> {
    let failed = &report.failed;
    let walk = PathWalk { host_mounts, pid: failed.pid, tid: failed.tid };
    walk.locate(&given_path(report)?, keeps_link(failed))
}

/// Adds where the path of a call leads; `None` if that is not known well enough.
fn with_path(evidence: AccessEvidence, report: &FailureReport, host_mounts: &MountTable) -> Option<AccessEvidence> {
    let failed = &report.failed;
    let located = locate(report, host_mounts)?;
    if located.is_unread || located.is_own_entry || !is_judgeable(&located.place, failed) {
        return None;
    }
    let place = located.place.as_os_str().as_bytes();
    Some(AccessEvidence {
        host_mount: host_mounts.holding(place).cloned(),
        host_file: match symlink_metadata(&located.place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            _ => Some(FileKind::Unread),
        },
        forbidden: forbidden_by_modes(&located.place, &failed.credentials),
        path: Some(place.to_vec()),
        place: Some(place.to_vec()),
        ..evidence
    })
}

/// Returns the path of a call from the root of the host.
fn given_path(report: &FailureReport) -> Option<PathBuf> {
    let CallText::Path(bytes) = &report.failed.text else { return None };
    if !report.is_at_root {
        return None;
    }
    let path = Path::new(OsStr::from_bytes(bytes));
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let directory = Path::new(OsStr::from_bytes(report.directory.as_ref()?));
    Some(if bytes.is_empty() { directory.to_owned() } else { directory.join(path) })
}

/// Whether it can be known that the modes of the host's files permit the call. Root needs no permission.
fn is_judgeable(path: &Path, failed: &FailedCall) -> bool {
    failed.credentials.effective_uid == 0 || path.ancestors().take(2).any(|existing| symlink_metadata(existing).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::AccessPath;
    use crate::kernel::failed_call::ProcessCredentials;
    use crate::policy::{Settings, UnitFile};
    use crate::syscalls::{Abi, Groups};

    const HOST: &[u8] = b"22 1 254:0 / / rw - ext4 /dev/vda rw\n30 22 254:1 / /cdrom rw - iso9660 /dev/sr0 ro\n\
                         31 22 0:40 / /mnt rw - fuse.sshfs far:/ rw\n";

    fn policy(lines: &str) -> Policy {
        let file = UnitFile::parse(Path::new("a.service"), format!("[Service]\n{lines}").as_bytes());
        let settings = Settings::new(&"a.service".parse().unwrap(), Some(file), Vec::new());
        Policy::new(settings, &Groups::embedded())
    }

    fn report(call: &str, errno: i32, text: &str) -> FailureReport {
        FailureReport {
            key: [0; 4],
            failed: FailedCall {
                target: 0,
                pid: 7,
                tid: 7,
                event: FailedEvent::Call {
                    number: Abi::native().call_number(call).unwrap(),
                    errno,
                    arguments: [u64::MAX - 99, 0, 0, 0, 0, 0],
                },
                text: CallText::Path(text.into()),
                credentials: ProcessCredentials {
                    uid: 0,
                    effective_uid: 0,
                    effective_gid: 0,
                    bounding: !1,
                    effective: !1,
                    user_namespace: INITIAL_USER_NAMESPACE,
                    mount_namespace: 0,
                    no_new_privileges: false,
                },
                missed: 0,
                missed_elsewhere: 0,
                count: 1,
                first: 0,
                last: 0,
                comm: b"x".to_vec(),
                program: b"x".to_vec(),
                ip: 0,
                site: None,
            },
            cgroups: [0; 12],
            exe: None,
            directory: Some(b"/opt".to_vec()),
            is_at_root: true,
        }
    }

    fn find(report: &FailureReport, lines: &str) -> Option<Access> {
        Some(find_denial(report, &policy(lines), |_| true, Some(&MountTable::parse(HOST)))?.access)
    }

    #[test]
    fn read_only_path_is_denied_by_the_settings_that_make_it_so() {
        let strict = "ProtectSystem=strict\n";
        let path = |path: &str| Some(Access::ReadOnlyPath(AccessPath::new(path.as_bytes())));
        assert_eq!(find(&report("mkdirat", libc::EROFS, "/etc/x"), strict), path("/etc/x"));
        let uncertain = find_denial(
            &report("mkdirat", libc::EROFS, "/etc/x"),
            &policy(strict),
            |directive| directive != Directive::ProtectSystem,
            Some(&MountTable::parse(HOST)),
        );
        assert_eq!(uncertain, None, "the manager has another value");
        assert_eq!(find(&report("mkdirat", libc::EROFS, "x/y"), strict), path("/opt/x/y"), "from its directory");
        assert_eq!(
            find(&report("mkdirat", libc::EROFS, "/etc/x"), "NoNewPrivileges=yes\n"),
            None,
            "a container's mount"
        );
        assert_eq!(find(&report("mkdirat", libc::EROFS, "/cdrom/x"), strict), None, "read-only for all");
        let image = "ProtectSystem=strict\nRootImage=/var/lib/a.raw\n";
        assert_eq!(find(&report("mkdirat", libc::EROFS, "/etc/x"), image), None, "other files");
        assert_eq!(find(&report("unlinkat", libc::EROFS, "/etc/passwd"), strict), path("/etc/passwd"));
        assert_eq!(find(&report("unlinkat", libc::EROFS, "/etc/harden-why-absent"), strict), None, "absent anywhere");
        let mut other_root = report("mkdirat", libc::EROFS, "/etc/x");
        other_root.is_at_root = false;
        let mut cut = report("mkdirat", libc::EROFS, "x");
        cut.directory = None;
        let mut of_systemd = report("mkdirat", libc::EROFS, "/etc/x");
        (of_systemd.failed.comm, of_systemd.failed.program) = (b"(x)".to_vec(), b"systemd".to_vec());
        for unknown in [other_root, cut, of_systemd] {
            assert_eq!(find(&unknown, strict), None, "{unknown:?}");
        }
        let mut user = report("mkdirat", libc::EROFS, "/etc/x");
        user.failed.credentials.effective_uid = 65_534;
        assert_eq!(find(&user, strict), None, "its modes forbid that as well");
        user.failed.text = CallText::Path(b"/nonexistent/a/b".to_vec());
        assert_eq!(find(&user, strict), None, "nothing tells what the modes forbid");
    }

    #[test]
    fn capability_is_denied_by_the_settings_that_withhold_it() {
        let mut chown = report("fchownat", libc::EPERM, "x");
        chown.failed.missed = 1;
        let found = find(&chown, "CapabilityBoundingSet=~CAP_CHOWN\n");
        assert_eq!(found.map(|access| access.detail()), Some("CAP_CHOWN bounding".to_owned()));
        assert_eq!(find(&chown, "NoNewPrivileges=yes\n"), None, "a container's runtime withholds it");
        let without_mounts = |report: &FailureReport, lines: &str| find_denial(report, &policy(lines), |_| true, None);
        assert!(without_mounts(&chown, "CapabilityBoundingSet=~CAP_CHOWN\n").is_some(), "no path decides");
        assert_eq!(without_mounts(&report("mkdirat", libc::EROFS, "/etc/x"), "ProtectSystem=strict\n"), None);
        let user = |call: &str, capability: u8| {
            let mut failed = report(call, libc::EACCES, "x");
            failed.failed.missed = 1 << capability;
            let credentials = &mut failed.failed.credentials;
            (credentials.effective_uid, credentials.effective, credentials.bounding) = (65_534, 0, !0);
            find(&failed, "User=nobody\n").map(|access| access.detail())
        };
        assert_eq!(user("bind", 10), Some("CAP_NET_BIND_SERVICE effective".to_owned()));
        assert_eq!(user("setpriority", 23), None, "another user tries much");
        let kill = |signal: u64| {
            let mut failed = report("kill", libc::EPERM, "");
            let FailedEvent::Call { arguments, .. } = &mut failed.failed.event else { panic!("a call") };
            *arguments = [1, signal, 0, 0, 0, 0];
            (failed.failed.missed, failed.failed.credentials.bounding) = (1 << 5, !(1 << 5));
            failed.failed.credentials.effective = !(1 << 5);
            find(&failed, "CapabilityBoundingSet=~CAP_KILL\n").is_some()
        };
        assert_eq!([kill(0), kill(9)], [false, true], "signal 0 only asks");
        let mut open = report("openat", libc::EACCES, "/proc/1/environ");
        (open.failed.missed, open.failed.credentials.bounding) = (1 << 19, !(1 << 19));
        open.failed.credentials.effective = !(1 << 19);
        assert_eq!(find(&open, "CapabilityBoundingSet=~CAP_SYS_PTRACE\n"), None, "programs look at others in vain");
        let mut trace = report("ptrace", libc::EPERM, "");
        (trace.failed.missed, trace.failed.credentials.bounding) = (1 << 19, !(1 << 19));
        trace.failed.credentials.effective = !(1 << 19);
        assert!(find(&trace, "CapabilityBoundingSet=~CAP_SYS_PTRACE\n").is_some());
        let search = |path: &str| {
            let mut failed = report("unlinkat", libc::EACCES, path);
            (failed.failed.missed, failed.failed.credentials.bounding) = (1 << 1, !(1 << 1));
            failed.failed.credentials.effective = !(1 << 1);
            find(&failed, "CapabilityBoundingSet=~CAP_DAC_OVERRIDE\n").is_some()
        };
        assert_eq!([search("/srv/x"), search("/mnt/x")], [true, false], "a user's program gives the modes of files");
        chown.failed.missed = 0;
        assert_eq!(find(&chown, "CapabilityBoundingSet=~CAP_CHOWN\n"), None, "the kernel missed nothing");
    }
}
