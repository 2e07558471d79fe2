//! What a tap, or the daemon, looks at in each call that fails: which argument is a path or an address, and which arguments
//! distinguish failures.

use crate::incidents::ArgumentPlace;
use crate::syscalls::Abi;

/// `struct call_rule` in `failed_call.h`.
pub(crate) type CallRule = [u8; 8];

/// Flags of a rule.
const ADDRESS: u8 = 1;
const IDENTITY: u8 = 2;
const ANY_ARGUMENT: u8 = 4;
const IF_CREATING: u8 = 8;
const MESSAGE: u8 = 16;

/// Calls with a path: the index of that argument, and the arguments that distinguish failures in addition to the path.
const PATHS: [(&str, u8, &[u8]); 57] = [
    ("access", 0, &[1]),
    ("acct", 0, &[]),
    ("chdir", 0, &[]),
    ("chmod", 0, &[]),
    ("chroot", 0, &[]),
    ("creat", 0, &[]),
    ("execve", 0, &[]),
    ("execveat", 1, &[0]),
    ("faccessat", 1, &[0, 2]),
    ("faccessat2", 1, &[0, 2]),
    ("fanotify_mark", 4, &[3]),
    ("fchmodat", 1, &[0]),
    ("fchmodat2", 1, &[0]),
    ("futimesat", 1, &[0]),
    ("getxattr", 0, &[]),
    ("inotify_add_watch", 1, &[]),
    ("lgetxattr", 0, &[]),
    ("link", 1, &[]),
    ("linkat", 3, &[2]),
    ("listxattr", 0, &[]),
    ("llistxattr", 0, &[]),
    ("lremovexattr", 0, &[]),
    ("lsetxattr", 0, &[]),
    ("lstat", 0, &[]),
    ("mkdir", 0, &[]),
    ("mkdirat", 1, &[0]),
    ("mknod", 0, &[1, 2]),
    ("mknodat", 1, &[0, 2, 3]),
    ("mount", 1, &[3]),
    ("name_to_handle_at", 1, &[0]),
    ("newfstatat", 1, &[0]),
    ("open", 0, &[1]),
    ("openat", 1, &[0, 2]),
    ("openat2", 1, &[0]),
    ("pivot_root", 0, &[]),
    ("quotactl", 1, &[]),
    ("readlink", 0, &[]),
    ("readlinkat", 1, &[0]),
    ("removexattr", 0, &[]),
    // A rename fails for the old path's mount, since both paths are on one mount.
    ("rename", 0, &[]),
    ("renameat", 1, &[0]),
    ("renameat2", 1, &[0]),
    ("rmdir", 0, &[]),
    ("setxattr", 0, &[]),
    ("stat", 0, &[]),
    ("statfs", 0, &[]),
    ("statx", 1, &[0]),
    ("swapon", 0, &[]),
    ("symlink", 1, &[]),
    ("symlinkat", 2, &[1]),
    ("truncate", 0, &[]),
    ("umount2", 0, &[]),
    ("unlink", 0, &[]),
    ("unlinkat", 1, &[0]),
    ("utime", 0, &[]),
    ("utimensat", 1, &[0]),
    ("utimes", 0, &[]),
];

/// Calls with a socket address, whose length is the next argument.
const ADDRESSES: [(&str, u8); 3] = [("bind", 1), ("connect", 1), ("sendto", 4)];

/// Calls with a message, which begins with a socket address and its length.
const MESSAGES: [(&str, u8); 2] = [("sendmmsg", 1), ("sendmsg", 1)];

/// Calls with user or group ids: the index of the path if they have one, and the arguments that are ids.
const IDENTITIES: [(&str, Option<u8>, &[u8]); 11] = [
    ("chown", Some(0), &[1, 2]),
    ("fchown", None, &[1, 2]),
    ("fchownat", Some(1), &[0, 2, 3]),
    ("lchown", Some(0), &[1, 2]),
    ("setgid", None, &[0]),
    ("setgroups", None, &[0]),
    ("setregid", None, &[0, 1]),
    ("setresgid", None, &[0, 1, 2]),
    ("setresuid", None, &[0, 1, 2]),
    ("setreuid", None, &[0, 1]),
    ("setuid", None, &[0]),
];

/// Other calls whose failures differ by arguments.
const OTHERS: [(&str, &[u8]); 23] = [
    ("adjtimex", &[]),
    ("bpf", &[0]),
    ("clock_adjtime", &[0]),
    ("clock_settime", &[0]),
    ("ioctl", &[1]),
    ("iopl", &[0]),
    ("keyctl", &[0]),
    ("kill", &[1]),
    ("mmap", &[2, 3]),
    ("mprotect", &[2]),
    ("pkey_mprotect", &[2]),
    ("prctl", &[0]),
    ("prlimit64", &[1]),
    ("sched_setscheduler", &[1]),
    ("setns", &[1]),
    ("setpriority", &[0]),
    ("setrlimit", &[0]),
    ("setsockopt", &[1, 2]),
    ("shmat", &[2]),
    ("socket", &[0, 1, 2]),
    ("syslog", &[0]),
    ("tgkill", &[2]),
    ("unshare", &[0]),
];

/// Calls that never follow a link at the end of their path.
const KEEPING_LINKS: [&str; 22] = [
    "lchown",
    "lgetxattr",
    "link",
    "linkat",
    "llistxattr",
    "lremovexattr",
    "lsetxattr",
    "lstat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "readlink",
    "readlinkat",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
];

/// Returns the rules for the calls of an ABI, by number.
pub(crate) fn call_rules(abi: Abi) -> impl Iterator<Item = (u32, CallRule)> {
    abi.calls().map(|(number, name)| (number, rule(name))).filter(|(_, rule)| *rule != CallRule::default())
}

/// Returns the index of a call's path, and of the directory that a relative path starts from, if the call names one.
pub(crate) fn path_argument(name: &str) -> Option<(u8, Option<u8>)> {
    let with_path = PATHS.iter().map(|(name, index, distinct)| (*name, *index, *distinct));
    let of_owners = IDENTITIES.iter().filter_map(|(name, index, distinct)| Some((*name, (*index)?, *distinct)));
    let (_, index, distinct) = with_path.chain(of_owners).find(|(known, ..)| *known == name)?;
    // The directory is the argument before the path, and it distinguishes failures.
    Some((index, index.checked_sub(1).filter(|directory| distinct.contains(directory))))
}

/// Whether a call looks at the link itself where its path leads to one. Flags in memory, as of openat2(2), are unknown.
pub(crate) fn keeps_last_link(name: &str, arguments: [u64; 6]) -> bool {
    let has = |index: usize, flag: i32| {
        let flag = u64::try_from(flag).unwrap_or_default();
        arguments.get(index).is_some_and(|argument| argument & flag == flag)
    };
    let of_open = |index| has(index, libc::O_NOFOLLOW) || has(index, libc::O_CREAT | libc::O_EXCL);
    match name {
        "open" => of_open(1),
        "openat" => of_open(2),
        "statx" => has(2, libc::AT_SYMLINK_NOFOLLOW),
        "faccessat2" | "fchmodat2" | "newfstatat" | "utimensat" => has(3, libc::AT_SYMLINK_NOFOLLOW),
        "execveat" | "fchownat" => has(4, libc::AT_SYMLINK_NOFOLLOW),
        "name_to_handle_at" => !has(4, libc::AT_SYMLINK_FOLLOW),
        _ => KEEPING_LINKS.contains(&name),
    }
}

fn rule(name: &str) -> CallRule {
    let [path, flags, distinct] = failure_rule(name);
    let Some(ArgumentPlace { index, mask, includes_zero, if_creating }) = ArgumentPlace::find(name) else {
        return [path, flags, distinct, 0, 0, 0, 0, 0];
    };
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let flags = flags | flag(includes_zero, ANY_ARGUMENT) | flag(if_creating, IF_CREATING);
    let [a, b, c, d] = mask.to_ne_bytes();
    [path, flags, distinct, index + 1, a, b, c, d]
}

/// Returns what matters when a call fails: the path, the flags and the arguments that distinguish failures.
fn failure_rule(name: &str) -> [u8; 3] {
    let bits = |arguments: &[u8]| arguments.iter().fold(0, |bits, argument| bits | 1 << argument);
    if let Some((_, index, distinct)) = PATHS.iter().find(|(known, ..)| *known == name) {
        [index + 1, 0, bits(distinct)]
    } else if let Some((_, index)) = ADDRESSES.iter().find(|(known, _)| *known == name) {
        [index + 1, ADDRESS, 0]
    } else if let Some((_, index)) = MESSAGES.iter().find(|(known, _)| *known == name) {
        [index + 1, ADDRESS | MESSAGE, 0]
    } else if let Some((_, index, distinct)) = IDENTITIES.iter().find(|(known, ..)| *known == name) {
        [index.map_or(0, |index| index + 1), IDENTITY, bits(distinct)]
    } else {
        let distinct = OTHERS.iter().find(|(known, _)| *known == name).map_or(0, |(_, distinct)| bits(distinct));
        [0, 0, distinct]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_tables_exists_on_some_abi() {
        let paths = PATHS.iter().map(|(name, ..)| *name);
        let addresses = ADDRESSES.iter().chain(&MESSAGES).map(|(name, _)| *name);
        let identities = IDENTITIES.iter().map(|(name, ..)| *name);
        let others = OTHERS.iter().map(|(name, _)| *name);
        for name in paths.chain(addresses).chain(identities).chain(others) {
            assert!(Abi::all().any(|abi| abi.call_number(name).is_some()), "{name}");
        }
    }

    #[test]
    fn last_link_is_kept_by_some_calls_and_by_flags() {
        let keeps = |name, index: usize, flags: i32| {
            let mut arguments = [0; 6];
            arguments[index] = u64::try_from(flags).unwrap();
            keeps_last_link(name, arguments)
        };
        assert!(keeps("unlinkat", 0, 0) && keeps("mkdir", 0, 0) && !keeps("stat", 0, 0) && !keeps("chown", 0, 0));
        assert!(keeps("newfstatat", 3, libc::AT_SYMLINK_NOFOLLOW) && !keeps("newfstatat", 3, 0));
        assert!(keeps("openat", 2, libc::O_CREAT | libc::O_EXCL) && !keeps("openat", 2, libc::O_CREAT));
        assert!(keeps("open", 1, libc::O_NOFOLLOW) && !keeps("open", 2, libc::O_NOFOLLOW));
        assert!(!keeps("name_to_handle_at", 4, libc::AT_SYMLINK_FOLLOW) && keeps("name_to_handle_at", 4, 0));
        let links = KEEPING_LINKS.iter().all(|name| path_argument(name).is_some());
        assert!(links && KEEPING_LINKS.is_sorted());
    }

    #[test]
    fn rules_name_the_arguments_of_x86_64() {
        let rules: Vec<_> = call_rules(Abi::X86_64).collect();
        let rule = |name: &str| {
            let number = Abi::X86_64.call_number(name).unwrap();
            rules.iter().find(|(known, _)| *known == number).map(|(_, rule)| *rule)
        };
        let [a, b, c, d] = 0o6000_u32.to_ne_bytes();
        assert_eq!(rule("openat"), Some([2, IF_CREATING, 0b101, 4, a, b, c, d]));
        assert_eq!(rule("bind"), Some([2, ADDRESS, 0, 0, 0, 0, 0, 0]));
        assert_eq!(rule("fchownat"), Some([2, IDENTITY, 0b1101, 0, 0, 0, 0, 0]));
        assert_eq!(rule("socket"), Some([0, 0, 0b111, 1, 255, 255, 255, 255]));
        assert_eq!(rule("setns"), Some([0, ANY_ARGUMENT, 0b10, 2, 255, 255, 255, 255]));
        assert_eq!(rule("getpid"), None);
        assert_eq!(path_argument("open"), Some((0, None)));
        assert_eq!([path_argument("linkat"), path_argument("fchownat")], [Some((3, Some(2))), Some((1, Some(0)))]);
        assert_eq!([path_argument("mount"), path_argument("symlink")], [Some((1, None)); 2]);
        assert_eq!(path_argument("fchown"), None);
        assert!(rules.iter().all(|(number, _)| *number < 1024), "the map has so many entries");
    }
}
