//! What a failed check of the kernel means for the call in which it failed.
//!
//! Most calls fail as soon as the check failed: the kernel's code has no other way. The comments name that code, as it is in Linux
//! 6.1 and 6.12; the tests of the module above make most of these calls, and compare the kernel's own answers. For other calls the
//! check decides nothing yet, and a program looks at their result. A capability that is in no row is one that a call can do
//! without, as `CAP_FSETID` in chown(2).

use crate::kernel::call_rules::path_argument;

/// What a failed check means (`struct check_rule`): the capabilities without which the call fails with EPERM, those without which
/// it fails with EACCES (`CAP_DAC_OVERRIDE`, by `generic_permission`), and those whose lack decides nothing yet; then what a
/// read-only mount means, with the condition in the upper half.
pub(super) type CheckRule = [u64; 4];

/// What a read-only mount means for a call: it fails with EROFS, or nothing is decided yet.
const FINAL: u64 = 1;
const NOTED: u64 = 2;

/// When the lack of a capability is final: if the call asks for a user or group id that the process has not; or if its signal is
/// for one process, and not SIGCONT.
const USER_IDS: u64 = 1 << 32;
const GROUP_IDS: u64 = 2 << 32;
const SIGNAL: u64 = 3 << 32;

/// Capabilities (`linux/capability.h`).
const CHOWN: u64 = 1;
const DAC_OVERRIDE: u64 = 1 << 1;
const FOWNER: u64 = 1 << 3;
const KILL: u64 = 1 << 5;
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const NET_RAW: u64 = 1 << 13;
const SYS_MODULE: u64 = 1 << 16;
const SYS_RAWIO: u64 = 1 << 17;
const SYS_CHROOT: u64 = 1 << 18;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_PACCT: u64 = 1 << 20;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_BOOT: u64 = 1 << 22;
const SYS_NICE: u64 = 1 << 23;
const SYS_RESOURCE: u64 = 1 << 24;
const SYS_TIME: u64 = 1 << 25;
const MKNOD: u64 = 1 << 27;

/// The capabilities without which calls fail with EPERM.
const REFUSED: [(&[&str], u64); 22] = [
    (&["acct"], SYS_PACCT),
    // `timekeeping_validate_timex`, `cap_settime`
    (&["adjtimex", "clock_adjtime", "clock_settime", "settimeofday"], SYS_TIME),
    // `setattr_prepare`
    (&["chmod", "fchmod", "fchmodat", "fchmodat2"], FOWNER),
    (&["chown", "fchown", "fchownat", "lchown"], CHOWN),
    (&["chroot"], SYS_CHROOT),
    // `may_init_module`
    (&["delete_module", "finit_module", "init_module"], SYS_MODULE),
    (&["ioperm", "iopl"], SYS_RAWIO),
    // `check_kill_permission`
    (&["kill", "tgkill"], KILL),
    // `may_linkat`, `may_delete`
    (&["link", "linkat", "rename", "renameat", "renameat2", "rmdir", "unlink", "unlinkat"], FOWNER),
    // `xattr_permission`. For CAP_SETFCAP it looks twice (`cap_convert_nscap`).
    (&["lremovexattr", "lsetxattr", "removexattr", "setxattr"], SYS_ADMIN | FOWNER),
    // `vfs_mknod`
    (&["mknod", "mknodat"], MKNOD),
    // `may_mount`, `check_quotactl_permission`
    (&["move_mount", "pivot_root", "quotactl", "swapoff", "swapon", "umount2"], SYS_ADMIN),
    // `check_prlimit_permission`, `do_prlimit`
    (&["prlimit64", "setrlimit"], SYS_RESOURCE),
    // `__ptrace_may_access`
    (&["process_vm_readv", "ptrace"], SYS_PTRACE),
    (&["reboot"], SYS_BOOT),
    (&["sched_setaffinity"], SYS_NICE),
    (&["setdomainname", "sethostname"], SYS_ADMIN),
    // `__sys_setgid` and the like
    (&["setgid", "setregid", "setresgid"], SETGID),
    // `may_setgroups`
    (&["setgroups"], SETGID),
    // `mntns_install` and the like, `unshare_nsproxy_namespaces`
    (&["setns", "unshare"], SYS_ADMIN | SYS_CHROOT),
    (&["setresuid", "setreuid", "setuid"], SETUID),
    // `inet_create`, `packet_create`
    (&["socket"], NET_RAW),
];

/// The calls that fail where the mount is read-only: their first look at the mount is `mnt_want_write`, whose error they return.
const CHANGING: [&str; 21] = [
    "chmod",
    "chown",
    "fchmodat",
    "fchmodat2",
    "fchownat",
    "futimesat",
    "lchown",
    "lremovexattr",
    "lsetxattr",
    "removexattr",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "setxattr",
    "truncate",
    "unlink",
    "unlinkat",
    "utime",
    "utimensat",
    "utimes",
];

/// Functions at whose end a program looks, with the calls for which they decide, and whether they do so for capabilities as well.
/// On a read-only mount, a file that exists can be opened, and to make it again fails with EEXIST.
const DECIDING: [(&str, &[&str], bool); 2] = [
    ("do_filp_open", &["creat", "open", "openat", "openat2"], true),
    ("filename_create", &["link", "linkat", "mkdir", "mkdirat", "mknod", "mknodat", "symlink", "symlinkat"], false),
];

/// Calls at whose end a program looks: after a failed check they can make another, or go on without the capability.
const AT_END: [&str; 10] = [
    "bind",
    "bpf",
    "ioctl",
    "mount",
    "perf_event_open",
    "sched_setattr",
    "sched_setscheduler",
    "setpriority",
    "setsockopt",
    "syslog",
];

/// When the lack of a capability is final for these calls.
const CONDITIONS: [(&[&str], u64); 3] = [
    (&["kill", "tgkill"], SIGNAL),
    (&["setgid", "setregid", "setresgid"], GROUP_IDS),
    (&["setresuid", "setreuid", "setuid"], USER_IDS),
];

/// Returns the functions and calls at whose end a program looks, each with the name of its function in the kernel. `prefix` is what
/// the kernel puts before the names of calls.
pub(super) fn deciding_functions(prefix: &str) -> impl Iterator<Item = (&'static str, String)> {
    let of_files = DECIDING.iter().map(|(function, ..)| (*function, (*function).to_owned()));
    of_files.chain(AT_END.iter().map(move |call| (*call, format!("{prefix}{call}"))))
}

/// Returns what failed checks mean for a call; `None` if nothing. `deciding` are the functions at whose end a program looks.
pub(super) fn check_rule(call: &str, deciding: &[&str]) -> Option<CheckRule> {
    let sum = |rows: &[(&[&str], u64)]| {
        rows.iter().filter(|(calls, _)| calls.contains(&call)).fold(0, |all, (_, capabilities)| all | capabilities)
    };
    if AT_END.contains(&call) {
        return deciding.contains(&call).then_some([0, 0, u64::MAX, NOTED]);
    }
    let decided = DECIDING.iter().find(|(function, calls, _)| deciding.contains(function) && calls.contains(&call));
    if let Some((_, _, true)) = decided {
        return Some([0, 0, u64::MAX, NOTED]);
    }
    let mounts = match decided {
        Some(_) => NOTED,
        None if CHANGING.contains(&call) => FINAL,
        None => 0,
    };
    let refused = sum(&REFUSED);
    if [refused, mounts] == [0; 2] {
        return None;
    }
    // A hard link needs no access to its file if the owner makes it (`may_linkat`).
    let is_of_path = path_argument(call).is_some() && !call.starts_with("link");
    let forbidden = if is_of_path { DAC_OVERRIDE } else { 0 };
    Some([refused, forbidden, 0, mounts | sum(&CONDITIONS)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::Abi;

    #[test]
    fn every_call_of_the_tables_exists_on_some_abi() {
        let rows = REFUSED.iter().chain(&CONDITIONS).flat_map(|(calls, _)| *calls);
        let decided = DECIDING.iter().flat_map(|(_, calls, _)| *calls);
        for name in rows.chain(decided).chain(&CHANGING).chain(&AT_END) {
            assert!(Abi::all().any(|abi| abi.call_number(name).is_some()), "{name}");
        }
    }

    #[test]
    fn check_of_a_file_is_final_unless_the_file_can_exist() {
        let all: Vec<&str> = deciding_functions("").map(|(name, _)| name).collect();
        assert_eq!(check_rule("unlink", &all), Some([FOWNER, DAC_OVERRIDE, 0, FINAL]));
        assert_eq!(check_rule("mknod", &all), Some([MKNOD, DAC_OVERRIDE, 0, NOTED]));
        assert_eq!(check_rule("link", &all), Some([FOWNER, 0, 0, NOTED]));
        assert_eq!(check_rule("openat", &all), Some([0, 0, u64::MAX, NOTED]));
        assert_eq!(check_rule("setuid", &all), Some([SETUID, 0, 0, USER_IDS]));
        assert_eq!(check_rule("bind", &all), Some([0, 0, u64::MAX, NOTED]));
        assert_eq!([check_rule("getpid", &all), check_rule("stat", &all)], [None; 2]);
    }

    #[test]
    fn call_is_not_watched_where_no_program_looks_at_its_result() {
        assert_eq!(["openat", "ioctl", "mkdir"].map(|call| check_rule(call, &[])), [None; 3]);
        assert_eq!(check_rule("mknod", &[]), Some([MKNOD, DAC_OVERRIDE, 0, 0]));
    }
}
