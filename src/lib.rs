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
//! 1. Incidents are facts, diagnoses are computed. The store keeps what was seen. Cause and remedy are worked out when
//!    someone asks, from the policy then in force.
//! 2. Evidence is collected as the record arrives and weighed later, purely. An attribution carries its evidence and
//!    its confidence. A wrong unit is worse than none.
//! 3. Silence is never "no denials". Lost records, refusals that are not logged, incidents that the caller may not see
//!    and lines that were not understood are counted and reported.
//! 4. Policy before proposal. If the unit's policy permits the call, another filter denied it, and there is no remedy.
//!    A remedy is applied to the policy in memory first, and offered only if the denied call then passes.
//! 5. Least privilege, and the owner's word. The default remedy opens the denied calls, their equivalents, and calls
//!    with evidence about this program; nothing that the owner's own lines exclude.
//! 6. All input from a process is hostile: names, numbers, units and cgroups stay bytes until they are escaped. One
//!    user's noise does not cost another user's history.
//! 7. Bounded. A storm costs counters; memory and disk have limits. A first sighting is on the disk before its alert.
//! 8. The daemon reads. It has only the capabilities that it uses, and changes nothing. The client changes units, with
//!    the rights of its user.
//! 9. The right machine's truth. Groups, ABI, libseccomp and systemd version are those of the machine that wrote the
//!    record. Assumptions are reported.
//!
//! # Where do I change …
//!
//! | what | where |
//! |---|---|
//! | a directive | its row in [`policy::directive`]; [`policy::settings`] parses and `src/policy/evaluate.rs` judges lists |
//! | the effect of a policy on a call | [`policy::Policy::verdict`] |
//! | the refusal of a drop-in that would start an allow-list | `would_start_allow_list` in `src/diagnosis/proof.rs` |
//! | which calls a remedy opens, and the default | [`diagnosis::remedy`]; [`diagnosis::privileged_calls`] lists the calls that are never opened undenied |
//! | the order of evidence | the variants of [`units::attribution::Rung`]; [`units::attribution::weigh`] decides |
//! | how long a record waits for evidence | [`pipeline::attribution_queue`] |
//! | a source of records | [`intake::record_source::RecordSource`]; [`daemon`] lists the sources |
//! | a log format | [`intake::log_file`] |
//! | an alert's text | [`outlet::alert::message`]; `systemd/harden-why.catalog` for `journalctl -x` |
//! | the words for what happened to a process | `src/incidents/outcome_words.rs` |
//! | a D-Bus method | `src/outlet/service.rs` and `systemd/org.hardenwhy1.xml` |
//! | a key of the configuration | [`daemon::config`] and `packaging/harden-why.conf` |
//! | a verb | [`cli::args::Command`], a file in [`cli::verbs`], its answer in [`cli::views`] |
//! | the change of a unit | [`operations::drop_in`], [`operations::rehearsal`], [`operations::refusal_logging`] |
//! | an architecture | [`syscalls::Arch`], [`syscalls::Abi`] and `packaging/syscall-table/generate` |
//!
//! `CONTRIBUTING.md` has a recipe for each of the frequent changes, and lists the tests.

pub mod audit;
pub mod cli;
pub mod daemon;
pub mod diagnosis;
pub mod host;
pub mod incidents;
pub mod intake;
pub mod kernel;
pub(crate) mod operations;
pub mod outlet;
pub mod pipeline;
pub mod policy;
pub mod syscalls;
pub mod systemd;
pub mod unit_files;
pub mod units;
