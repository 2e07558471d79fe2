//! harden-why: why did systemd's hardening deny my service a system call, and what to change?
//!
//! ```text
//! kernel audit ──► record ──► whose unit? ──► incident ──► which directive? ──► remedy
//!  (netlink,        parsed     evidence        folded,      the unit's policy,    smallest drop-in,
//!   log, journal)              weighed         stored       simulated             proven on the policy
//!                                                 │                                 │
//!                                                 └── journal alert · D-Bus · `harden-why UNIT` ──┘
//! ```
//!
//! # The rooms
//!
//! Each room is named for what it knows and imports only from rooms above it; no two files import each other, directly
//! or through others. `tests/house.rs` checks both. The pure rooms do no IO, know no clock and wait for nothing.
//!
//! | room | knows | pure |
//! |---|---|---|
//! | [`audit`] | what the kernel said: one record, from bytes of any dialect; untrusted text | yes |
//! | [`syscalls`] | what the number means: architecture, (ABI, number) ↔ name, `@groups` | yes |
//! | [`units`] | whose process it was: unit names, cgroup paths, evidence weighed into an attribution | yes |
//! | [`policy`] | what the unit forbids: settings with file and line, systemd's merge order, a verdict for a call | yes |
//! | [`incidents`] | what happened so far: denials folded into bounded incidents, and their store | all but `store` |
//! | [`intake`] | where records come from: netlink, logs, journal exports; each strips its own envelope | no |
//! | [`diagnosis`] | why, and what to change | yes |
//! | [`kernel`] | watching this kernel: BPF, exit notes, the proc connector, tap, procfs, the clock | no |
//! | [`unit_files`] | unit files, drop-ins and the manager's configuration below a root | no |
//! | [`systemd`] | asking managers, their journal, their groups, the exposure score | no |
//! | [`host`] | this machine as a whole: the `Host` trait, late evidence, a unit's settings, blind spots | no |
//! | [`outlet`] | what others get: journal alerts, `org.hardenwhy1` on D-Bus | no |
//! | [`pipeline`] | record → attribution → fold, the same live and offline | drives |
//! | [`operations`] | what changes a unit, below the terminal: drop-ins, rehearsals, logging of refusals, recovery | no |
//! | [`daemon`] | `harden-whyd`: one loop that owns everything but the disk | no |
//! | [`cli`] | `harden-why`: arguments, lookup, views, terminal, verbs | no |
//!
//! # Invariants
//!
//! 1. Incidents are facts, diagnoses are computed: the store keeps what was seen; why and what to do is worked out
//!    when asked, from the policy then in force.
//! 2. Evidence is grabbed in the receive path and weighed later, purely. An attribution says what it stands on; a
//!    guess is shown as one, and a wrong unit is worse than none.
//! 3. Silence is never "no denials": what was lost, what the kernel does not log and what makes us deaf is said.
//! 4. Policy before proposal: a remedy is put into the policy in memory and offered only if the call then passes.
//!    What the policy permits was somebody else's doing, and nothing is proposed.
//! 5. All that comes from a process is hostile: bytes until escaped, on every way out.
//! 6. Bounded: a storm costs counters. A first sighting is on the disk before its alert is sent.
//! 7. Least privilege: the daemon reads; changing a unit is the client's work, with the rights of its user.
//! 8. The host's truth: groups, known calls and settings are those of the systemd that runs here; what is embedded
//!    is a labelled fallback.

pub mod audit;
pub mod cli;
pub mod daemon;
pub mod diagnosis;
pub mod host;
pub mod incidents;
pub mod intake;
pub mod kernel;
pub mod operations;
pub mod outlet;
pub mod pipeline;
pub mod policy;
pub mod syscalls;
pub mod systemd;
pub mod unit_files;
pub mod units;
