//! What one can ask this machine. Every reader takes its root, so that a test is a directory.

pub mod seccomp;
