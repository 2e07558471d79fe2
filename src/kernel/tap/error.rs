//! Why a tap cannot begin.

use crate::kernel::bpf::BpfError;

/// How many targets a tap can have: each makes every call of the machine a little slower.
pub(crate) const MOST_TARGETS: usize = 16;

/// Names the verb that works without BPF.
const INSTEAD: &str = "'harden-why rehearse UNIT' shows refused calls without it";

/// Why a tap cannot begin. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// A right is missing.
    #[error("not allowed: a tap requires root, with CAP_BPF and CAP_PERFMON")]
    NotAllowed,
    /// The kernel is locked down (`kernel_lockdown(7)`).
    #[error("the kernel is locked down ({0}): boot without lockdown=confidentiality")]
    LockedDown(String),
    /// The PIDs of this namespace are not those that the kernel shows to BPF programs.
    #[error("a tap needs the machine's own PIDs, but this is a PID namespace: run it outside the container")]
    PidNamespace,
    /// No unified hierarchy is mounted.
    #[error("no cgroup version 2 hierarchy is mounted, so a unit's processes are unknown: give their PIDs")]
    NoHierarchy,
    /// The target has no process.
    #[error("{0} has no processes")]
    Empty(String),
    /// There are more targets than [`MOST_TARGETS`].
    #[error("at most {MOST_TARGETS} units and processes can be watched at once")]
    TooMany,
    /// The kernel has no type information.
    #[error(
        "the kernel has no type information (/sys/kernel/btf/vmlinux, CONFIG_DEBUG_INFO_BTF), which a tap needs; {INSTEAD}"
    )]
    NoTypes,
    /// The kernel refuses a BPF program or map.
    #[error("the kernel rejects the BPF program: {0}; {INSTEAD}")]
    Kernel(BpfError),
}

impl From<BpfError> for TapError {
    fn from(error: BpfError) -> Self {
        if error.is_missing_right() { Self::NotAllowed } else { Self::Kernel(error) }
    }
}
