//! Messages between the daemon and systemd, which supervises it (`sd_notify(3)`, `sd_listen_fds(3)`).

use crate::intake::netlink::AuditSocket;
use sd_notify::NotifyState;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// Sends states to systemd. Does nothing if the environment lacks `NOTIFY_SOCKET=`.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("cannot notify systemd of the state: {error}");
    }
}

/// Tells systemd that the daemon rereads its configuration. [`NotifyState::Ready`] then ends the reload.
pub(super) fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// Takes the audit socket that systemd opened (`harden-whyd.socket`). Call this function at most once.
pub(super) fn take_audit_socket() -> Option<AuditSocket> {
    let fds = match sd_notify::listen_fds() {
        Ok(fds) => fds,
        Err(error) => {
            tracing::warn!("cannot read the sockets from systemd: {error}");
            return None;
        }
    };
    let mut audit = None;
    for fd in fds {
        // SAFETY: systemd passed the descriptor to this process, and the caller calls this once, so nothing else owns
        // it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        match AuditSocket::inherit(fd) {
            Ok(Some(socket)) => audit = Some(socket),
            Ok(None) => tracing::warn!("a socket from systemd does not belong to the audit stream, and is closed"),
            Err(error) => tracing::warn!("cannot use a descriptor from systemd: {error}"),
        }
    }
    audit
}

/// systemd's watchdog (`WatchdogSec=`). The loop itself sends the keep-alives, so they prove that it runs.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// The interval and the time of the next keep-alive; `None` if systemd expects none.
    beat: Option<(Duration, Instant)>,
}

impl Watchdog {
    /// Reads systemd's timeout from the environment. Keep-alives are due twice per timeout.
    pub(super) fn from_environment() -> Self {
        Self { beat: sd_notify::watchdog_enabled().map(|timeout| (timeout / 2, Instant::now())) }
    }

    /// Returns when the next keep-alive is due.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.beat.map(|(_, at)| at)
    }

    /// Sends a keep-alive if one is due.
    pub(super) fn beat(&mut self, now: Instant) {
        if let Some((interval, at)) = &mut self.beat
            && *at <= now
        {
            notify(&[NotifyState::Watchdog]);
            *at = now + *interval;
        }
    }
}
