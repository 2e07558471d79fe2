//! Logs calls that fail with an error, for a limited time.
//!
//! systemd asks the kernel to log them while its own environment holds `SYSTEMD_LOG_SECCOMP=1`. The kernel logs each
//! process that starts in that time for as long as the process lives.
//!
//! A timer of the manager ends the logging, even if this program is killed. An extension replaces the timer. After a
//! kill at that moment, the next harden-why ends the logging.

pub(crate) mod end;
pub(crate) mod log_switch;
pub(crate) mod marker;
pub(crate) mod recover;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod timer;
pub(crate) mod units;
