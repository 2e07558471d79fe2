//! Other machines, to which an answer can apply: an architecture, or a version of systemd.

use crate::syscalls::Abi;
use crate::syscalls::introduced::{NEWEST, OLDEST};
use clap::Args;
use std::fmt;
use std::str::FromStr;

/// Which other machines an answer is also for.
#[derive(Debug, Default, Args)]
pub struct OtherMachines {
    /// Judge for other machines too: aarch64, systemd=257
    #[arg(long = "for", value_name = "MACHINE", value_delimiter = ',')]
    pub machines: Vec<Machine>,
}

/// Another machine than this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// A machine of an architecture.
    Arch(Abi),
    /// A machine with a version of systemd.
    Systemd(u32),
}

impl FromStr for Machine {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if let Some(version) = word.strip_prefix("systemd=") {
            let version: Option<u32> = version.parse().ok().filter(|version| (OLDEST..=NEWEST).contains(version));
            let needed =
                || format!("systemd=N needs a version from {OLDEST} to {NEWEST}, as in systemd={}", NEWEST - 5);
            return version.map(Self::Systemd).ok_or_else(needed);
        }
        let unknown = || {
            "neither an architecture (such as aarch64, arm, riscv64), nor a version (such as systemd=257)".to_owned()
        };
        Abi::from_name(word).map(Self::Arch).ok_or_else(unknown)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arch(abi) => f.write_str(abi.name()),
            Self::Systemd(version) => write!(f, "systemd {version}"),
        }
    }
}
