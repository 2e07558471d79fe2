//! What one can ask this machine. Every reader takes its root, so a test is a directory.

pub mod exits;
pub mod hearing;
pub mod procfs;
pub mod seccomp;
pub mod systemd;
