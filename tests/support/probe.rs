//! The calls that the directives' filters check, made so that nothing changes where they pass.
//!
//! A unit runs the test's own program with [`VARIABLE`] set. Before `main` the program makes each call in a child of

//! its own, and writes `label pid outcome` lines.

use std::fmt;
use std::os::raw::c_long;

/// Set where a unit, and not a test, runs the program.
pub(crate) const VARIABLE: &str = "HARDEN_WHY_PROBE";

const SUID: c_long = 0o4755;
const PLAIN: c_long = 0o755;
/// No file, process or ID.
const BAD: c_long = -1;
/// An address outside of this program.
const FAULT: c_long = 8;
/// `CLONE_THREAD` and the new namespace: never valid without `CLONE_SIGHAND`.
const NO_CLONE: c_long = 0x0001_0000;
/// Not a flag of `unshare(2)`.
const NO_FLAG: c_long = 0x1;
const NEW_NET: c_long = 0x4000_0000;
const NEW_UTS: c_long = 0x0400_0000;
/// `SHM_EXEC`.
const SHM_EXEC: c_long = 0o100_000;
const FIFO: c_long = 1;
const OTHER: c_long = 0;
const QUERY: c_long = 0xffff_ffff;
const NO_RANDOM: c_long = 0x0004_0000;

/// How a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// As a call of the program's own ABI.
    Native,
    /// As a call of i386, by `int 0x80`.
    I386,
    /// As a call of x32, with its bit.
    X32,
}

/// A call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    /// Its name, and the case that its arguments are.
    pub(crate) label: &'static str,
    /// Its ABI.
    pub(crate) how: How,
    number: c_long,
    arguments: [c_long; 6],
}

impl Probe {
    /// The call's name.
    pub(crate) fn call(&self) -> &'static str {
        let label = self.label.split_once(' ').map_or(self.label, |(call, _)| call);
        label.strip_prefix("i386:").or_else(|| label.strip_prefix("x32:")).unwrap_or(label)
    }

    /// Makes it; 0 or an errno.
    fn make(&self) -> i32 {
        let with = self.arguments;
        if self.how == How::I386 {
            return -int_0x80(i32::try_from(self.number).unwrap_or(-1), with).min(0);
        }
        let number = if self.how == How::X32 { self.number | 0x4000_0000 } else { self.number };
        // SAFETY: no argument is an address of this program; the calls affect this child only.
        if unsafe { libc::syscall(number, with[0], with[1], with[2], with[3], with[4], with[5]) } == -1 {
            std::io::Error::last_os_error().raw_os_error().unwrap_or(-1)
        } else {
            0
        }
    }
}

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It returned; 0 or an errno.
    Returned(i32),
    /// The child died of this signal.
    Died(i32),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned(errno) => write!(f, "returned {errno}"),
            Self::Died(signal) => write!(f, "died {signal}"),
        }
    }
}

/// Reads `label pid outcome`, as [`run`] writes it.
pub(crate) fn read(line: &str) -> Option<(&str, u32, Outcome)> {
    let (rest, number) = line.rsplit_once(' ')?;
    let (rest, what) = rest.rsplit_once(' ')?;
    let (label, pid) = rest.rsplit_once(' ')?;
    let number = number.parse().ok()?;
    let outcome = if what == "died" { Outcome::Died(number) } else { Outcome::Returned(number) };
    Some((label, pid.parse().ok()?, outcome))
}

const fn native(label: &'static str, number: c_long, arguments: [c_long; 6]) -> Probe {
    Probe { label, how: How::Native, number, arguments }
}

/// Every call. One that passes fails for another reason than a filter's, or affects only the child.
pub(crate) fn all() -> Vec<Probe> {
    let (nowhere, create) = (nowhere(), c_long::from(libc::O_CREAT | libc::O_WRONLY));
    let (map, page) = (c_long::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS), 4096);
    let (read, write, exec) = (1, 2, 4);
    let at = c_long::from(libc::AT_FDCWD);
    let mut probes = vec![
        native("getppid", libc::SYS_getppid, [0; 6]),
        native("uname", libc::SYS_uname, [FAULT, 0, 0, 0, 0, 0]),
        native("sched_yield", libc::SYS_sched_yield, [0; 6]),
        native("mount", libc::SYS_mount, [FAULT, FAULT, FAULT, 0, 0, 0]),
        native("reboot", libc::SYS_reboot, [0; 6]),
        native("ptrace", libc::SYS_ptrace, [BAD, BAD, 0, 0, 0, 0]),
        native("sethostname", libc::SYS_sethostname, [nowhere, BAD, 0, 0, 0, 0]),
        native("setdomainname", libc::SYS_setdomainname, [nowhere, BAD, 0, 0, 0, 0]),
        native("socket unix", libc::SYS_socket, [1, 1, 0, 0, 0, 0]),
        native("socket inet", libc::SYS_socket, [2, 1, 0, 0, 0, 0]),
        native("socket netlink", libc::SYS_socket, [16, 3, 0, 0, 0, 0]),
        native("socket none", libc::SYS_socket, [99, 1, 0, 0, 0, 0]),
        native("socketpair inet", libc::SYS_socketpair, [2, 1, 0, FAULT, 0, 0]),
        native("mmap wx", libc::SYS_mmap, [0, page, read | write | exec, map, BAD, 0]),
        native("mmap x", libc::SYS_mmap, [0, page, read | exec, map, BAD, 0]),
        native("mmap w", libc::SYS_mmap, [0, page, read | write, map, BAD, 0]),
        native("mprotect x", libc::SYS_mprotect, [1, page, read | exec, 0, 0, 0]),
        native("mprotect w", libc::SYS_mprotect, [1, page, read | write, 0, 0, 0]),
        native("pkey_mprotect x", libc::SYS_pkey_mprotect, [1, page, read | exec, BAD, 0, 0]),
        native("pkey_mprotect w", libc::SYS_pkey_mprotect, [1, page, read | write, BAD, 0, 0]),
        native("shmat x", libc::SYS_shmat, [BAD, 0, SHM_EXEC, 0, 0, 0]),
        native("shmat", libc::SYS_shmat, [BAD, 0, 0, 0, 0, 0]),
        native("sched_setscheduler fifo", libc::SYS_sched_setscheduler, [BAD, FIFO, FAULT, 0, 0, 0]),
        native("sched_setscheduler other", libc::SYS_sched_setscheduler, [BAD, OTHER, FAULT, 0, 0, 0]),
        native("sched_setscheduler none", libc::SYS_sched_setscheduler, [BAD, 99, FAULT, 0, 0, 0]),
        native("sched_setattr", libc::SYS_sched_setattr, [BAD, FAULT, 0, 0, 0, 0]),
        native("fchmod suid", libc::SYS_fchmod, [BAD, SUID, 0, 0, 0, 0]),
        native("fchmod", libc::SYS_fchmod, [BAD, PLAIN, 0, 0, 0, 0]),
        native("fchmodat suid", libc::SYS_fchmodat, [at, nowhere, SUID, 0, 0, 0]),
        native("fchmodat", libc::SYS_fchmodat, [at, nowhere, PLAIN, 0, 0, 0]),
        native("fchmodat2 suid", 452, [at, nowhere, SUID, 0, 0, 0]),
        native("fchmodat2", 452, [at, nowhere, PLAIN, 0, 0, 0]),
        native("mkdirat suid", libc::SYS_mkdirat, [at, nowhere, SUID, 0, 0, 0]),
        native("mkdirat", libc::SYS_mkdirat, [at, nowhere, PLAIN, 0, 0, 0]),
        native("mknodat suid", libc::SYS_mknodat, [at, nowhere, SUID | c_long::from(libc::S_IFREG), 0, 0, 0]),
        native("mknodat", libc::SYS_mknodat, [at, nowhere, PLAIN | c_long::from(libc::S_IFREG), 0, 0, 0]),
        native("openat suid", libc::SYS_openat, [at, nowhere, create, SUID, 0, 0]),
        native("openat suid uncreated", libc::SYS_openat, [at, nowhere, 0, SUID, 0, 0]),
        native("openat", libc::SYS_openat, [at, nowhere, create, PLAIN, 0, 0]),
        native("openat2", libc::SYS_openat2, [at, nowhere, FAULT, BAD, 0, 0]),
        native("unshare net", libc::SYS_unshare, [NEW_NET | NO_FLAG, 0, 0, 0, 0, 0]),
        native("unshare uts", libc::SYS_unshare, [NEW_UTS | NO_FLAG, 0, 0, 0, 0, 0]),
        native("unshare", libc::SYS_unshare, [NO_FLAG, 0, 0, 0, 0, 0]),
        native("clone net", libc::SYS_clone, [NEW_NET | NO_CLONE, 0, 0, 0, 0, 0]),
        native("clone uts", libc::SYS_clone, [NEW_UTS | NO_CLONE, 0, 0, 0, 0, 0]),
        native("clone", libc::SYS_clone, [NO_CLONE, 0, 0, 0, 0, 0]),
        native("clone3", libc::SYS_clone3, [FAULT, 0, 0, 0, 0, 0]),
        native("setns any", libc::SYS_setns, [BAD, 0, 0, 0, 0, 0]),
        native("setns net", libc::SYS_setns, [BAD, NEW_NET, 0, 0, 0, 0]),
        native("setns uts", libc::SYS_setns, [BAD, NEW_UTS, 0, 0, 0, 0]),
        native("init_module", libc::SYS_init_module, [FAULT, 0, FAULT, 0, 0, 0]),
        native("finit_module", libc::SYS_finit_module, [BAD, FAULT, 0, 0, 0, 0]),
        native("delete_module", libc::SYS_delete_module, [FAULT, 0, 0, 0, 0, 0]),
        native("syslog", libc::SYS_syslog, [99, 0, 0, 0, 0, 0]),
        native("adjtimex", libc::SYS_adjtimex, [FAULT, 0, 0, 0, 0, 0]),
        native("clock_adjtime", libc::SYS_clock_adjtime, [99, FAULT, 0, 0, 0, 0]),
        native("clock_settime", libc::SYS_clock_settime, [99, FAULT, 0, 0, 0, 0]),
        native("settimeofday", libc::SYS_settimeofday, [FAULT, 0, 0, 0, 0, 0]),
        native("personality query", libc::SYS_personality, [QUERY, 0, 0, 0, 0, 0]),
        native("personality other", libc::SYS_personality, [NO_RANDOM, 0, 0, 0, 0, 0]),
        native("personality same", libc::SYS_personality, [0; 6]),
        // Linux 6.18 has it; the libseccomp of older systems does not know it.
        native("mseal", 462, [1, page, 0, 0, 0, 0]),
    ];
    probes.extend(of_x86());
    probes
}

/// A path that does not exist.
fn nowhere() -> c_long {
    c_long::try_from(c"/nonexistent/harden-why".as_ptr().addr()).unwrap()
}

#[cfg(not(target_arch = "x86_64"))]
fn of_x86() -> Vec<Probe> {
    Vec::new()
}

/// Calls that not every architecture has, and those of the other ABIs of a 64-bit kernel.
#[cfg(target_arch = "x86_64")]
fn of_x86() -> Vec<Probe> {
    let (nowhere, create) = (nowhere(), c_long::from(libc::O_CREAT | libc::O_WRONLY));
    vec![
        native("chmod suid", libc::SYS_chmod, [nowhere, SUID, 0, 0, 0, 0]),
        native("chmod", libc::SYS_chmod, [nowhere, PLAIN, 0, 0, 0, 0]),
        native("mkdir suid", libc::SYS_mkdir, [nowhere, SUID, 0, 0, 0, 0]),
        native("mkdir", libc::SYS_mkdir, [nowhere, PLAIN, 0, 0, 0, 0]),
        native("mknod suid", libc::SYS_mknod, [nowhere, SUID | c_long::from(libc::S_IFREG), 0, 0, 0, 0]),
        native("mknod", libc::SYS_mknod, [nowhere, PLAIN | c_long::from(libc::S_IFREG), 0, 0, 0, 0]),
        native("creat suid", libc::SYS_creat, [nowhere, SUID, 0, 0, 0, 0]),
        native("creat", libc::SYS_creat, [nowhere, PLAIN, 0, 0, 0, 0]),
        native("open suid", libc::SYS_open, [nowhere, create, SUID, 0, 0, 0]),
        native("open suid uncreated", libc::SYS_open, [nowhere, 0, SUID, 0, 0, 0]),
        native("open", libc::SYS_open, [nowhere, create, PLAIN, 0, 0, 0]),
        native("_sysctl", libc::SYS__sysctl, [FAULT, 0, 0, 0, 0, 0]),
        native("iopl", libc::SYS_iopl, [99, 0, 0, 0, 0, 0]),
        native("ioperm", libc::SYS_ioperm, [BAD, 1, 0, 0, 0, 0]),
        old("i386:getppid", 64, [0; 6]),
        old("i386:socket inet", 359, [2, 1, 0, 0, 0, 0]),
        old("i386:sethostname", 74, [FAULT, BAD, 0, 0, 0, 0]),
        old("i386:unshare net", 310, [NEW_NET | NO_FLAG, 0, 0, 0, 0, 0]),
        old("i386:personality query", 136, [QUERY, 0, 0, 0, 0, 0]),
        old("i386:fchmod suid", 94, [BAD, SUID, 0, 0, 0, 0]),
        old("i386:stime", 25, [FAULT, 0, 0, 0, 0, 0]),
        old("i386:mount", 21, [FAULT, FAULT, FAULT, 0, 0, 0]),
        Probe { label: "x32:getppid", how: How::X32, number: libc::SYS_getppid, arguments: [0; 6] },
        Probe {
            label: "x32:sethostname",
            how: How::X32,
            number: libc::SYS_sethostname,
            arguments: [nowhere, BAD, 0, 0, 0, 0],
        },
    ]
}

#[cfg(target_arch = "x86_64")]
const fn old(label: &'static str, number: c_long, arguments: [c_long; 6]) -> Probe {
    Probe { label, how: How::I386, number, arguments }
}

/// A 32-bit call of a 64-bit process; what it returns.
#[cfg(target_arch = "x86_64")]
fn int_0x80(number: i32, with: [c_long; 6]) -> i32 {
    let result: i32;
    // SAFETY: the calls read and write no memory of this program; the changed registers are listed.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}", "int 0x80", "xchg rbx, {first}",
            first = inout(reg) with[0] => _,
            inlateout("eax") number => result,
            in("rcx") with[1], in("rdx") with[2],
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}

#[cfg(not(target_arch = "x86_64"))]
fn int_0x80(_: i32, _: [c_long; 6]) -> i32 {
    -libc::ENOSYS
}

/// Runs before `main`. Where [`VARIABLE`] is set, the program is a probe and never reaches `main`.
#[used]
// SAFETY: the section holds functions of this type, which the C library calls one after another.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn before_main() {
        if std::env::var_os(VARIABLE).is_some() {
            run();
        }
    }
    before_main
};

/// Makes each call in a child of its own and prints the outcome.
fn run() -> ! {
    for probe in all() {
        // SAFETY: there is one thread, so the child may run any code.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let errno = probe.make();
            // SAFETY: ends the child.
            unsafe { libc::_exit(errno) };
        }
        let mut status = 0;
        // SAFETY: the status is ours.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        let outcome = if libc::WIFSIGNALED(status) {
            Outcome::Died(libc::WTERMSIG(status))
        } else {
            Outcome::Returned(libc::WEXITSTATUS(status))
        };
        let line = format!("{} {pid} {outcome}\n", probe.label);
        // SAFETY: the bytes exist.
        unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
    }
    // SAFETY: ends the process before anything needs cleaning up.
    unsafe { libc::_exit(0) }
}
