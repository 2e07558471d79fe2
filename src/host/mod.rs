//! What one can ask this machine. Every reader takes its root, so a test is a directory.

pub mod unit_files;
