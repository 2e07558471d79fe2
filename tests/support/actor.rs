//! Processes that make calls which their seccomp filter denies: this test program itself, started by a unit.
//!

//! The role is played before `main`, so that a process is an actor within a millisecond.

use harden_why::audit::Action;
use harden_why::kernel::seccomp::{ALLOW, SeccompFilter, return_value};
use harden_why::syscalls::Arch;
use std::ffi::CStr;
use std::time::Duration;

/// Names the role.
pub(crate) const ROLE: &CStr = c"HARDEN_WHY_ROLE";
/// How often it violates the filter.
pub(crate) const TIMES: &CStr = c"HARDEN_WHY_TIMES";

/// How many processes live on at a time, and for how long after the violation.
const TOGETHER: u32 = 50;
const LIVES_ON: Duration = Duration::from_millis(100);
/// How long the ancestor of orphans lives on, for a daemon that shares the machine with them.
const OUTLIVES: Duration = Duration::from_secs(1);

#[used]
#[unsafe(link_section = ".init_array")]
static PLAY: extern "C" fn() = play;

extern "C" fn play() {
    let Some(role) = variable(ROLE) else { return };
    let times = variable(TIMES).and_then(|times| times.parse().ok()).unwrap_or(1);
    match role {
        // Itself, once: no filter lets it do it twice.
        "self" => deed(),
        "child" => children(times, || {}),
        "ignored-child" => {
            // SAFETY: installs no handler; the kernel reaps children at once.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
            children(times, || {});
        }
        "child-of-the-dying" => {
            repeat(times, || {
                if fork() == 0 {
                    deed();
                    exit();
                }
                wait();
            });
            std::thread::sleep(OUTLIVES);
        }
        "orphan" => {
            orphans(times);
            std::thread::sleep(OUTLIVES);
        }
        "lives-on" => lives_on(times),
        "lives-on-errno" => {
            let filter = SeccompFilter::new(
                Arch::native(),
                &[(u32::try_from(libc::SYS_acct).unwrap_or_default(), return_value(Action::Errno, 1))],
                ALLOW,
            );
            if filter.load(true).is_ok() {
                lives_on(times);
            }
        }
        // Leaves a process behind that has the PID of a dead one.
        "take-pid" => take_pid(times),
        // Nothing is denied, again and again: measures the cost of listening.
        "innocent" => repeat(times, || {}),
        _ => {}
    }
    exit();
}

/// The call that the units' filters deny. It does nothing, since its argument is no file.
fn deed() {
    // SAFETY: `acct(2)` reads a path and refuses the empty one.
    unsafe { libc::syscall(libc::SYS_acct, c"".as_ptr()) };
}

/// Forks a child for each violation and reaps it at once; the parent lives on.
fn children(times: u32, before: impl Fn()) {
    for _ in 0..times {
        if fork() == 0 {
            before();
            deed();
            exit();
        }
        wait();
    }
    std::thread::sleep(LIVES_ON);
}

/// Forks children that run a function and die, again and again.
fn repeat(times: u32, child: impl Fn()) {
    for _ in 0..times {
        if fork() == 0 {
            child();
            exit();
        }
        wait();
    }
}

/// Forks grandchildren that violate the filter after their parent has died. The end of a pipe shows when they have too.
fn orphans(times: u32) {
    for _ in 0..times {
        let mut ends = [0; 2];
        // SAFETY: the array has room for both.
        unsafe { libc::pipe(ends.as_mut_ptr()) };
        let [read, write] = ends;
        // SAFETY: asks for a number.
        let parent = unsafe { libc::getpid() };
        if fork() == 0 {
            // SAFETY: as above.
            let middle = unsafe { libc::getpid() };
            if fork() == 0 {
                // SAFETY: as above.
                while matches!(unsafe { libc::getppid() }, adopted if adopted == middle || adopted == parent) {
                    std::thread::yield_now();
                }
                deed();
            }
            exit();
        }
        wait();
        let mut byte = 0_u8;
        // SAFETY: the descriptors are ours, and the byte is there to be written to.
        unsafe {
            libc::close(write);
            libc::read(read, (&raw mut byte).cast(), 1);
            libc::close(read);
        }
    }
}

/// Forks children that violate the filter and live on for a while.
fn lives_on(times: u32) {
    let mut left = times;
    while left > 0 {
        let now = left.min(TOGETHER);
        for _ in 0..now {
            if fork() == 0 {
                deed();
                std::thread::sleep(LIVES_ON);
                exit();
            }
        }
        for _ in 0..now {
            wait();
        }
        left -= now;
    }
}

/// Starts a process with a given PID, or ends with the reason.
fn take_pid(pid: u32) {
    // SAFETY: a request of zeros is valid and requests nothing.
    let mut request: libc::clone_args = unsafe { std::mem::zeroed() };
    request.exit_signal = u64::try_from(libc::SIGCHLD).unwrap_or_default();
    request.set_tid = (&raw const pid).expose_provenance() as u64;
    request.set_tid_size = 1;
    // SAFETY: the request and the pid in it outlive the call; without a stack and flags it is a fork.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const request, size_of_val(&request)) };
    match child {
        0 => std::thread::sleep(Duration::from_hours(1)),
        // SAFETY: ends the process at once.
        -1 => unsafe { libc::_exit(std::io::Error::last_os_error().raw_os_error().unwrap_or(1)) },
        _ => {}
    }
}

fn fork() -> libc::pid_t {
    // SAFETY: nothing else runs before `main`, so the child finds everything unchanged.
    unsafe { libc::fork() }
}

fn wait() {
    // SAFETY: passes no place for the status. Where the kernel reaps children, this waits for all of them.
    unsafe { libc::wait(std::ptr::null_mut()) };
}

fn exit() -> ! {
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(0) }
}

fn variable(name: &CStr) -> Option<&'static str> {
    // SAFETY: nothing changes the environment before `main`, and it outlives us.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    // SAFETY: what is not null is a C string.
    if value.is_null() { None } else { unsafe { CStr::from_ptr(value) }.to_str().ok() }
}
