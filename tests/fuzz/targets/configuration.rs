//! The configuration of harden-whyd.
#![expect(clippy::unwrap_used, reason = "without a file in memory there is nothing to check")]

use crate::daemon::config::Config;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::time::Duration;

thread_local! {
    static FILE: File = File::from(memfd_create("configuration", MFdFlags::MFD_CLOEXEC).unwrap());
}

/// Reads a file of the configuration, twice.
pub(super) fn check(input: &[u8]) {
    let path = FILE.with(|mut file| {
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(input).unwrap();
        PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
    });
    let (config, complaints) = Config::load_file(&path, &Config::default());
    assert!((100..=10_000_000).contains(&config.max_stored));
    assert!((256..=1_000_000).contains(&config.max_in_memory));
    assert!((1..=10_000).contains(&config.alerts.burst));
    assert!(config.max_age >= Duration::from_hours(24) && config.alerts.quiet >= Duration::from_mins(1));
    for complaint in complaints {
        let line = complaint.to_string();
        assert!(!line.chars().any(char::is_control), "{line:?} has control characters");
    }
    let (again, _) = Config::load_file(&path, &config);
    assert_eq!(again, config, "a second reading of the same file changes nothing");
}
