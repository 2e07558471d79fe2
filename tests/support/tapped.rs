//! Processes whose calls are refused and that go on: this test program itself, started by a unit or a test.
//!

//! The role is played before `main`. Files in the test's directory give the signals.

use harden_why::audit::Action;
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::syscalls::Arch;
use std::os::raw::c_long;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// Names the role and, after a colon, the directory.
pub(crate) const ROLE: &str = "HARDEN_WHY_TAPPED";

/// How many threads, in addition to a forked child, make each call how often: 1,000 calls, and 10,000 allowed ones.
pub(crate) const THREADS: u64 = 4;
pub(crate) const TIMES: u64 = 40;
const ALLOWED: u64 = 2_000;

/// The calls, without effect: where no filter refuses them, the kernel refuses their arguments.
pub(crate) const CALLS: [(&str, c_long, [c_long; 3]); 5] = [
    ("acct", libc::SYS_acct, [8, 0, 0]),
    ("swapon", libc::SYS_swapon, [8, 0, 0]),
    ("swapoff", libc::SYS_swapoff, [8, 0, 0]),
    ("sethostname", libc::SYS_sethostname, [8, -1, 0]),
    ("socket", libc::SYS_socket, [libc::AF_INET as c_long, libc::SOCK_DGRAM as c_long, 0]),
];

/// A call that the units' policies permit, and that a program's own filter refuses.
pub(crate) const OWN: c_long = libc::SYS_munlockall;

#[used]
// SAFETY: the section holds functions of this type, which the C library calls one after another.
#[unsafe(link_section = ".init_array")]
static PLAY: extern "C" fn() = play;

extern "C" fn play() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (role, dir) = role.split_once(':').unwrap_or((&role, "/nonexistent"));
    let dir = PathBuf::from(dir);
    match role {
        "refused" => refused(&dir),
        "own-sandbox" => own_sandbox(&dir),
        "children" => children(&dir),
        "loop" => busy(&dir),
        "renamed" => renamed(&dir),
        "i386" => {
            tell(&dir, "ready");
            wait_for(&dir, "go");
            (0..3).for_each(|_| acct_of_i386());
            tell(&dir, "done");
            wait_for(&dir, "stop");
        }
        _ => {}
    }
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(0) }
}

/// A thread that makes the same call under two names, as a process does before and after it executes its program.
fn renamed(dir: &Path) {
    tell(dir, "ready");
    wait_for(dir, "go");
    for name in [c"(before)", c"after"] {
        // SAFETY: the name outlives the call, and acct(2) gets no pointer that is valid.
        unsafe {
            libc::prctl(libc::PR_SET_NAME, name.as_ptr());
            libc::syscall(libc::SYS_acct, 8);
        }
    }
    tell(dir, "done");
    wait_for(dir, "stop");
}

/// Threads and a child whose calls are refused after the signal `go`, while others wait in calls all along.
fn refused(dir: &Path) {
    for wait in [wait_in_poll, wait_for_signal, wait_in_sleep] {
        std::thread::spawn(move || {
            loop {
                wait();
            }
        });
    }
    // SAFETY: the child makes calls alone.
    if unsafe { libc::fork() } == 0 {
        wait_for(dir, "go");
        deeds();
        tell(dir, "done-child");
        wait_for(dir, "stop");
        return;
    }
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let dir = dir.to_owned();
            let thread = std::thread::Builder::new().name(format!("worker\x1b{number}"));
            thread.spawn(move || {
                wait_for(&dir, "go");
                deeds();
                tell(&dir, &format!("done-{number}"));
                wait_for(&dir, "stop");
            })
        })
        .collect();
    sleep(Duration::from_millis(50));
    tell(dir, "ready");
    for thread in threads {
        _ = thread.map(std::thread::JoinHandle::join);
    }
}

fn deeds() {
    for (_, number, with) in CALLS {
        for _ in 0..TIMES {
            make(number, with);
        }
        // Calls of the same number, and of others, that the kernel refuses itself.
        for _ in 0..ALLOWED / 5 / 4 {
            make(libc::SYS_getppid, [0; 3]);
            make(libc::SYS_close, [-1, 0, 0]);
            make(libc::SYS_kill, [0x7fff_fff0, 0, 0]);
            // SAFETY: closes what was opened.
            unsafe { libc::close(libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0)) };
        }
    }
}

/// On the signal, installs a filter of its own that refuses its call. A handler of SIGSYS returns a wrong errno.
fn own_sandbox(dir: &Path) {
    tell(dir, "ready");
    wait_for(dir, "go");
    let number = u32::try_from(OWN).unwrap_or_default();
    let trapped = u32::try_from(libc::SYS_mlockall).unwrap_or_default();
    let rules = [(number, return_value(Action::Errno, 76)), (trapped, return_value(Action::Trap, 0))];
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGSYS, ignore as *const () as libc::sighandler_t) };
    if SeccompFilter::new(Arch::native(), &rules, ALLOW).load(false).is_ok() {
        for _ in 0..7 {
            make(OWN, [0; 3]);
            make(libc::SYS_mlockall, [0x100, 0, 0]);
        }
    }
    make(CALLS[0].1, CALLS[0].2);
    tell(dir, "done");
    wait_for(dir, "stop");
}

extern "C" fn ignore(_: libc::c_int) {}

/// Forks children whose one call is refused, again and again.
fn children(dir: &Path) {
    tell(dir, "ready");
    wait_for(dir, "go");
    for _ in 0..200 {
        // SAFETY: the child makes calls alone.
        unsafe {
            if libc::fork() == 0 {
                make(CALLS[0].1, CALLS[0].2);
                libc::_exit(0);
            }
            libc::wait(std::ptr::null_mut());
        }
    }
    tell(dir, "done");
    wait_for(dir, "stop");
}

/// Makes a refused call from its start on, again and again.
fn busy(dir: &Path) {
    tell(dir, "ready");
    while !dir.join("stop").exists() {
        make(CALLS[0].1, CALLS[0].2);
        sleep(Duration::from_millis(1));
    }
}

fn make(number: c_long, with: [c_long; 3]) {
    // SAFETY: no argument is an address of this program.
    unsafe { libc::syscall(number, with[0], with[1], with[2]) };
}

#[cfg(target_arch = "x86_64")]
fn acct_of_i386() {
    // SAFETY: 51 is acct(2), whose argument is no address; the changed registers are listed.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {none}", "int 0x80", "xchg rbx, {none}",
            none = inout(reg) 8_u64 => _,
            inlateout("rax") 51_u64 => _,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn acct_of_i386() {}

fn wait_in_poll() {
    // SAFETY: there is nothing to poll.
    unsafe { libc::poll(std::ptr::null_mut(), 0, 900) };
}

fn wait_in_sleep() {
    sleep(Duration::from_millis(1100));
}

/// Ends with EAGAIN.
fn wait_for_signal() {
    let time = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    // SAFETY: the set is filled before its use, and all of it lives on.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGUSR2);
        libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const time);
    }
}

fn tell(dir: &Path, what: &str) {
    _ = std::fs::write(dir.join(what), "");
}

fn wait_for(dir: &Path, what: &str) {
    while !dir.join(what).exists() {
        sleep(Duration::from_millis(5));
    }
}
