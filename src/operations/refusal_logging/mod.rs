//! Logs calls that fail with an error, for a limited time.
//!
//! systemd asks the kernel to log them while its own environment holds `SYSTEMD_LOG_SECCOMP=1`. A timer of the manager
//! ends that, even if this program is killed.

pub(crate) mod end;
pub(crate) mod marker;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod switch;
pub(crate) mod targets;
