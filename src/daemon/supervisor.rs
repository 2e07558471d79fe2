//! What we and systemd, as the one that runs us, have to tell each other.

use crate::intake::netlink::AuditSocket;
use sd_notify::NotifyState;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// Tells systemd; without `NOTIFY_SOCKET=` there is nobody to tell.
pub(super) fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("systemd could not be told the state: {error}");
    }
}

/// Tells systemd that the configuration is read again; that it is done, readiness tells.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The audit stream that systemd opened for us (`harden-whyd.socket`). To be called once.
pub(super) fn inherited() -> Option<AuditSocket> {
    let handed = match sd_notify::listen_fds() {
        Ok(handed) => handed,
        Err(error) => {
            tracing::warn!("the sockets that systemd hands over cannot be told: {error}");
            return None;
        }
    };
    let mut audit = None;
    for fd in handed {
        // SAFETY: descriptors from systemd are ours, and this is called once.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        match AuditSocket::inherit(fd) {
            Ok(Some(socket)) => audit = Some(socket),
            Ok(None) => tracing::warn!("a socket from systemd is none of the audit stream, and is closed"),
            Err(error) => tracing::warn!("a descriptor from systemd is of no use: {error}"),
        }
    }
    audit
}

/// `WatchdogSec=`: systemd is told that the loop turns, by the loop itself.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// How often, and when next; `None` where systemd does not ask for it.
    beat: Option<(Duration, Instant)>,
}

impl Watchdog {
    /// As systemd asks for it: twice as often as it has to be.
    pub(super) fn of_environment() -> Self {
        Self { beat: sd_notify::watchdog_enabled().map(|most| (most / 2, Instant::now())) }
    }

    /// When the loop has to turn next, whatever arrives.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.beat.map(|(_, at)| at)
    }

    /// The loop turned.
    pub(super) fn turned(&mut self, now: Instant) {
        if let Some((every, at)) = &mut self.beat
            && *at <= now
        {
            tell(&[NotifyState::Watchdog]);
            *at = now + *every;
        }
    }
}
