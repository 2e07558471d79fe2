//! The proc connector of the running kernel.

use crate::support::skip::skip;
use harden_why::kernel::proc_events::{DeathNotice, ExitListener, SigsysExit};
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, id};
use std::time::{Duration, Instant};

/// Opens a listener. Skips where the kernel has none, and fails where it is required.
fn listener() -> Option<ExitListener> {
    match ExitListener::open() {
        Ok(listener) => Some(listener),
        Err(err) => {
            skip(&format!("no exit events: {err}"));
            None
        }
    }
}

/// Runs a shell script and returns its pid and status.
fn shell(script: &str) -> (u32, std::process::ExitStatus) {
    let mut child = Command::new("sh").args(["-c", &format!("ulimit -c 0; {script}")]).spawn().unwrap();
    (child.id(), child.wait().unwrap())
}

/// Receives notices until the exit of a process.
fn until(listener: &mut ExitListener, pid: u32) -> Vec<DeathNotice> {
    let deadline = Instant::now() + Duration::from_mins(1);
    let mut heard = Vec::new();
    while exits(&heard).last().is_none_or(|exit| exit.pid != pid) {
        if let Some(notice) = listener.receive().unwrap() {
            heard.push(notice);
        } else {
            assert!(Instant::now() < deadline, "no exit event of {pid}");
            poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], 100_u16).unwrap();
        }
    }
    heard
}

fn exits(heard: &[DeathNotice]) -> Vec<SigsysExit> {
    let exit = |notice: &DeathNotice| if let DeathNotice::Exit(exit) = notice { Some(*exit) } else { None };
    heard.iter().filter_map(exit).collect()
}

/// The places at which the death of a process was announced, with its parent.
fn announced(heard: &[DeathNotice], pid: u32) -> Vec<(usize, Option<u32>)> {
    let parent = |notice: &DeathNotice| match notice {
        DeathNotice::CoreDump(dying) if dying.pid == pid => Some(dying.parent),
        _ => None,
    };
    heard.iter().enumerate().filter_map(|(at, notice)| Some((at, parent(notice)?))).collect()
}

#[test]
fn death_by_sigsys_is_announced_and_followed_by_its_exit() {
    let Some(mut listener) = listener() else { return };
    let (pid, status) = shell("kill -SYS $$");
    assert_eq!(status.signal(), Some(31));
    let heard = until(&mut listener, pid);
    let [(at, parent)] = announced(&heard, pid)[..] else { panic!("announced once: {heard:?}") };
    assert!(at + 1 < heard.len(), "before the exit");
    assert_eq!(parent, Some(id()));
    let exit = *exits(&heard).last().unwrap();
    assert_eq!(exit.core_dumped, status.core_dumped());
    assert!(exit.timestamp_ns > 0);
    // A waiting parent reaps it before or after the kernel makes the event.
    assert!(exit.parent.is_none_or(|parent| parent == id()), "{exit:?}");
}

#[test]
fn other_deaths_are_not_reported() {
    let Some(mut listener) = listener() else { return };
    let others =
        ["true", "exit 31", "exit 159", "kill -SEGV $$", "kill -KILL $$", "kill -TERM $$"].map(|end| shell(end).0);
    let (last, _) = shell("kill -SYS $$");
    let heard = until(&mut listener, last);
    assert!(exits(&heard).iter().all(|exit| !others.contains(&exit.pid)), "{heard:?} {others:?}");
    // Whether a signal dumps core is unknown before the exit.
    assert_eq!(others.map(|pid| announced(&heard, pid).len()), [0, 0, 0, 1, 0, 0]);
}

#[test]
fn process_of_many_threads_dies_once() {
    let Some(mut listener) = listener() else { return };
    let script = "import threading,time,os,signal\n\
                  for _ in range(20): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n\
                  os.kill(os.getpid(), signal.SIGSYS)";
    let Ok(mut child) = Command::new("python3").args(["-c", script]).spawn() else {
        return skip("no python3 to make threads with");
    };
    let pid = child.id();
    assert_eq!(child.wait().unwrap().signal(), Some(31));
    let mut heard = until(&mut listener, pid);
    let (last, _) = shell("kill -SYS $$");
    heard.extend(until(&mut listener, last));
    assert_eq!(exits(&heard).iter().filter(|exit| exit.pid == pid).count(), 1, "{heard:?}");
    assert_eq!(announced(&heard, pid).len(), 1, "{heard:?}");
}

#[test]
fn silent_listener_does_not_wait() {
    let Some(mut listener) = listener() else { return };
    // A listener that waits never returns `None`.
    assert!((0..1_000_000).any(|_| listener.receive().unwrap().is_none()), "deaths without end");
}
