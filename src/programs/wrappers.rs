//! Looks up the calls that a function of libc makes.

use super::libc_functions::{DIRECT, RARELY_USED, RARELY_USED_IN_GO, WRAPPERS, Wrapper};
use crate::syscalls::Abi;
use std::collections::HashMap;
use std::sync::LazyLock;

/// The C library of a program: each makes its own calls for the same function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Libc {
    /// The GNU C library.
    #[default]
    Glibc,
    /// musl, on Alpine Linux and others.
    Musl,
}

/// The calls of a function, by libc.
#[derive(Debug, Clone, Copy)]
enum Calls {
    Direct(&'static str),
    Other(&'static Wrapper),
}

static BY_FUNCTION: LazyLock<HashMap<&'static str, Calls>> = LazyLock::new(|| {
    let direct = DIRECT.split_whitespace().map(|name| (name, Calls::Direct(name)));
    let other =
        WRAPPERS.iter().flat_map(|row| row.functions.split_whitespace().map(move |name| (name, Calls::Other(row))));
    direct.chain(other).collect()
});

/// Returns the plain name of a function. The variants do the same: `__read_chk` checks a buffer's size (`FORTIFY_SOURCE`),
/// `open64` takes a 64-bit offset, `__open_2` refuses a third argument, `__nanosleep64` takes a 64-bit time.
fn find_function(name: &str) -> Option<(&'static str, Calls)> {
    let plain = name.strip_prefix("__").unwrap_or(name);
    let short = plain.strip_suffix("_chk").or_else(|| plain.strip_suffix("_2")).unwrap_or(plain);
    let narrow = short.strip_suffix("64").unwrap_or(short);
    [name, plain, short, narrow]
        .into_iter()
        .find_map(|name| BY_FUNCTION.get_key_value(name).map(|(name, calls)| (*name, *calls)))
}

/// Whether a function makes calls that the table knows.
#[must_use]
pub(crate) fn is_wrapper(function: &str) -> bool {
    find_function(function).is_some()
}

/// Whether most programs that import a function use it only in rare cases.
#[must_use]
pub(crate) fn is_rarely_used(function: &str) -> bool {
    find_function(function).is_some_and(|(name, _)| RARELY_USED.split_whitespace().any(|rare| rare == name))
}

/// Whether Go links a function into programs although few of them use it.
pub(super) fn is_rarely_used_in_go(function: &str) -> bool {
    find_function(function).is_some_and(|(name, _)| RARELY_USED_IN_GO.split_whitespace().any(|rare| rare == name))
}

/// Returns the calls that a function makes on an ABI.
pub(crate) fn find_calls(function: &str, libc: Libc, abi: Abi) -> impl Iterator<Item = &'static str> {
    let (one, other) = match find_function(function) {
        Some((_, Calls::Direct(name))) => (Some(name), ""),
        Some((_, Calls::Other(row))) if libc == Libc::Musl => (None, row.musl),
        Some((_, Calls::Other(row))) => (None, row.glibc),
        None => (None, ""),
    };
    let has_call = move |call: &&str| abi.call_number(call).is_some();
    one.into_iter()
        .filter(has_call)
        .chain(other.split_whitespace().filter_map(move |calls| calls.split('/').find(has_call)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn calls(function: &str, libc: Libc, abi: Abi) -> Vec<&'static str> {
        find_calls(function, libc, abi).collect()
    }

    #[test]
    fn row_names_only_real_calls_and_each_function_once() {
        let mut seen = BTreeSet::new();
        for name in DIRECT.split_whitespace() {
            assert!(seen.insert(name), "{name} twice");
        }
        for row in WRAPPERS {
            assert!(row.functions.split_whitespace().all(|name| seen.insert(name)), "{} twice", row.functions);
            for call in
                row.glibc.split_whitespace().chain(row.musl.split_whitespace()).flat_map(|calls| calls.split('/'))
            {
                assert!(Abi::all().any(|abi| abi.call_number(call).is_some()), "{call}");
            }
        }
        for name in RARELY_USED.split_whitespace() {
            assert!(seen.contains(name), "{name}");
        }
    }

    #[test]
    fn function_makes_the_call_that_its_libc_and_abi_have() {
        use Libc::{Glibc, Musl};
        for (function, libc, abi, expected) in [
            ("open", Glibc, Abi::X86_64, &["openat"][..]),
            ("open", Musl, Abi::X86_64, &["open"]),
            ("open", Musl, Abi::Aarch64, &["openat"]),
            ("fork", Glibc, Abi::X86_64, &["clone"]),
            ("fork", Musl, Abi::X86_64, &["fork"]),
            ("popen", Musl, Abi::Aarch64, &["clone", "wait4", "pipe2", "rt_sigprocmask", "rt_sigaction", "fcntl"]),
            ("stat", Glibc, Abi::X86_64, &["newfstatat"]),
            ("stat", Glibc, Abi::I386, &["fstatat64"]),
            ("nanosleep", Glibc, Abi::Arm, &["clock_nanosleep_time64"]),
            ("accept", Glibc, Abi::X86_64, &["accept"]),
            ("send", Glibc, Abi::X86_64, &["sendto"]),
            ("signal", Musl, Abi::X86_64, &["rt_sigaction", "rt_sigreturn"]),
            ("pthread_create", Glibc, Abi::X86_64, &["clone3", "clone", "rt_sigprocmask", "rt_sigaction", "madvise"]),
            ("rename", Glibc, Abi::Aarch64, &["renameat"]),
            ("rename", Glibc, Abi::Riscv64, &["renameat2"]),
            ("posix_fadvise", Glibc, Abi::Arm, &["arm_fadvise64_64"]),
            ("getpgrp", Glibc, Abi::Aarch64, &["getpgid"]),
            ("setuid", Glibc, Abi::I386, &["setuid32"]),
            ("setuid", Glibc, Abi::Aarch64, &["setuid"]),
            ("listen", Musl, Abi::Riscv64, &["listen"]),
            ("qsort", Musl, Abi::X86_64, &[]),
            ("nginx_own_function", Glibc, Abi::X86_64, &[]),
        ] {
            assert_eq!(calls(function, libc, abi), expected, "{function} {libc:?} {abi:?}");
        }
        assert!(calls("__libc_start_main", Glibc, Abi::X86_64).contains(&"rseq"));
    }

    /// `tests/data/wrappers/measure` recorded the calls with strace(1), which the machines of the tests need not have.
    #[test]
    fn function_makes_the_recorded_calls() {
        let recorded = include_str!("../../tests/data/wrappers/glibc-2.36.txt");
        let start: BTreeSet<&str> = calls("libc_start_main", Libc::Glibc, Abi::X86_64).into_iter().collect();
        let mut read = 0;
        for (function, made) in recorded.lines().filter_map(|line| line.split_once(": ")) {
            let known = calls(function, Libc::Glibc, Abi::X86_64);
            for call in made.split_whitespace().filter(|call| !start.contains(call)) {
                assert!(known.contains(&call), "{function} makes {call}, not only {known:?}");
                read += 1;
            }
        }
        assert!(read > 270, "{read}");
    }

    #[test]
    fn variant_of_a_function_makes_the_calls_of_the_function() {
        for (variant, call) in [
            ("__read_chk", "read"),
            ("open64", "openat"),
            ("__open64_2", "openat"),
            ("pread64", "pread64"),
            ("__pread64_chk", "pread64"),
            ("__fxstat64", "fstat"),
            ("__nanosleep64", "clock_nanosleep"),
            ("__syslog_chk", "socket"),
            ("sendfile64", "sendfile"),
        ] {
            assert!(calls(variant, Libc::Glibc, Abi::X86_64).contains(&call), "{variant}");
        }
    }
}
