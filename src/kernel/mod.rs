//! What the running kernel shows of processes: BPF programs, the proc connector, `/proc`, clocks, and
//! which file systems a lookup may enter.

pub(crate) mod bpf;
pub(crate) mod call_failures;
mod call_notes;
pub(crate) mod call_rules;
pub mod call_sites;
pub(crate) mod clock;
pub mod exit_cgroups;
pub mod failed_call;
pub(crate) mod fuse_guard;
pub(crate) mod heap;
pub(crate) mod mounts;
pub(crate) mod pid_cache;
pub mod proc_events;
pub mod procfs;
pub mod seccomp;
pub mod tap;
