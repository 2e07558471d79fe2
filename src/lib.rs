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
//! | [`audit`] | one kernel audit record, parsed from bytes of any dialect; untrusted text | yes |
//! | [`syscalls`] | the meaning of a call's number: architecture, (ABI, number) ↔ name, `@groups` | yes |
//! | [`programs`] | the calls that an executable can make: its imports, those of its libraries, and libc's calls for each | yes |
//! | [`units`] | the unit of a process: unit names, cgroup paths, evidence weighed into an attribution | yes |
//! | [`policy`] | what the unit forbids: settings with file and line, systemd's merge order, a verdict for a call | yes |
//! | [`incidents`] | the denials so far: folded into bounded incidents, and their store | all but `store` |
//! | [`intake`] | the sources of records: netlink, logs, journal exports; each strips its own envelope | no |
//! | [`diagnosis`] | the cause of a denial, and the remedy | yes |
//! | [`kernel`] | watching this kernel: BPF, exit notes, failed calls, the proc connector, tap, procfs, the clock, guarded lookups | no |
//! | [`unit_files`] | unit files, drop-ins and the manager's configuration below a root | no |
//! | [`systemd`] | queries to managers, their journal, their groups, the exposure score | no |
//! | [`host`] | this machine as a whole: the `Host` trait, late evidence, a unit's settings, blind spots | no |
//! | [`outlet`] | the interfaces for others: journal alerts, `org.hardenwhy1` on D-Bus, metrics | no |
//! | [`pipeline`] | record → attribution → fold, the same live and offline | drives |
//! | [`operations`] | operations on units, without the terminal: drop-ins, rehearsals, bisections, taps, logging of refusals, recovery | no |
//! | [`daemon`] | `harden-whyd`: one loop that owns everything but the disk | no |
//! | [`cli`] | `harden-why`: arguments, lookup, views, terminal, verbs | no |
//!
//! # Invariants
//!
//! 1. Incidents are facts, diagnoses are computed. The store keeps only facts. harden-why computes cause and remedy for
//!    each answer, from the policy then in force.
//! 2. Evidence first, judgement later. The pipeline collects evidence as the record arrives; [`units`] weighs it later,
//!    without IO. An attribution carries its evidence and its confidence. A wrong unit is worse than none.
//! 3. Silence is never "no denials". harden-why counts and reports lost records, unlogged refusals, lines that it
//!    cannot parse, and incidents that the caller may not see.
//! 4. Policy before proposal. If the unit's policy permits the call, another filter denied it, and there is no remedy.
//!    harden-why tries each remedy on the policy in memory. It offers only remedies that let the denied calls pass, or
//!    fail in place of a kill.
//! 5. Least privilege, within the owner's lines. The default remedy opens the denied calls, their relatives, which give
//!    no further power, and calls with evidence about this program: its imports, and the unit's settings. It opens
//!    nothing else, and no privileged call that was not denied.
//! 6. All input from a process is hostile: names, numbers, units and cgroups stay bytes until they are escaped. One
//!    user's flood of denials does not remove another user's history.
//! 7. Bounded. A storm only raises counters; memory and disk have limits. A first sighting is on disk before its alert.
//! 8. The daemon reads. It has only the capabilities that it uses, and changes no unit. The client changes units, with
//!    the rights of its user.
//! 9. The right machine's facts. Groups, ABI, libseccomp and systemd version are those of the machine that wrote the
//!    record. Assumptions are reported.
//!
//! # Where do I change …
//!
//! | what | where |
//! |---|---|
//! | a directive | its row in [`policy::directive`]; a list also has a parser that [`policy::settings`] or [`policy::Policy::new`] calls, and a cause in `src/policy/evaluate.rs` |
//! | the effect of a policy on a call | [`policy::Policy::verdict`] |
//! | what a policy withholds from a call that the kernel executes | [`policy::Policy::withholding`], in `src/policy/sandbox.rs` and below |
//! | which lines can be the cause of a failure without a record | `src/diagnosis/attempt_causes.rs` for what programs could not do, `src/diagnosis/step_causes.rs` and `src/diagnosis/exit_steps.rs` for systemd's own steps |
//! | a line that may help against such a cause | `src/diagnosis/line_to_try.rs` |
//! | which lines of a log tell a failure | `src/intake/failure_line.rs` for those of managers, `src/intake/failure_message.rs` for those of programs |
//! | the refusal of a drop-in that would start an allow-list | `would_start_allow_list` in `src/diagnosis/proof.rs` |
//! | what a default remedy may open | [`diagnosis::DefaultScope`]; [`diagnosis::relatives`] lists the calls that give no further power |
//! | which calls count as needed by the program | `src/diagnosis/program_calls.rs`; `src/programs/libc_functions.rs` lists the calls of libc's functions |
//! | when a noted caller is believed | `find_called` in `src/kernel/bpf/call_notes.h`, and `src/programs/stack_use.rs` |
//! | what the stack of a core dump in a log tells | `src/intake/core_dump_text.rs` |
//! | the names of functions and packages in call sites | [`host::call_site_names`]; `src/host/packages.rs` |
//! | which mounts no path leads into | `src/kernel/fuse_guard.rs`, for the files below a root and those that a process names |
//! | which executables are read | `src/host/program_files.rs`; its libraries in `program_files/libraries.rs` |
//! | how deep libraries are followed | [`programs::library_calls::DEEPEST`] |
//! | what `check` foresees, and what differs on other machines | `src/diagnosis/foreseen_calls.rs`, `src/diagnosis/portability.rs` |
//! | which calls a remedy opens | `src/diagnosis/search.rs`; [`diagnosis::privileged_calls`] lists the groups that evidence alone never opens |
//! | the lines that grant an access | `src/diagnosis/access_remedy.rs`; `src/diagnosis/access_needs.rs` says what an access needs |
//! | which lines may grant an access by default | `src/diagnosis/access_default.rs` |
//! | the arguments that a tap reads of calls which filters judge by them | `src/incidents/refused_argument.rs` |
//! | which failed calls the daemon reports without a tap | `src/kernel/call_failures/final_checks.rs`; `src/host/failure_evidence.rs` says which count as denials |
//! | which failed calls a tap counts as denials | `src/host/access_verdict.rs`, with the mounts of `src/kernel/mounts.rs`; `src/kernel/call_rules.rs` has what it looks at in each call |
//! | which drop-in takes a remedy | `src/diagnosis/drop_in_place.rs`; [`unit_files`] knows templates, transient units and read-only places |
//! | which remedy is the default | [`diagnosis::Diagnosis::default_remedy`]; [`diagnosis::Reservation`] lists what rules one out |
//! | the order of evidence | the variants of [`units::Rung`] and [`units::Rung::confidence`]; [`units::weigh`] decides by confidence |
//! | which rows leave if room is short | `src/incidents/fair_share.rs`, for every table that several owners fill |
//! | how long a record waits for evidence | [`pipeline::attribution_queue`] |
//! | a source of records | [`intake::record_source::RecordSource`]; [`daemon`] lists the sources |
//! | a log format | its reader in `src/intake/`; [`intake::log_file`] recognises the formats |
//! | an alert's text | [`outlet::alert_message::message`]; `systemd/harden-why.catalog` has the text of `journalctl -x` |
//! | the words for what happened to a process | `src/incidents/outcome_words.rs` |
//! | a metric | `src/cli/verbs/metrics.rs`; `src/outlet/metrics.rs` lays them out; `packaging/prometheus` has rules and a dashboard |
//! | the page for Cockpit | `packaging/cockpit`; `tests/cockpit/run` tests it in a browser |
//! | a D-Bus method | `src/outlet/service.rs`, its caller's side in [`outlet::client`], and `systemd/org.hardenwhy1.xml` |
//! | a key of the configuration | [`daemon::config`] and `packaging/harden-why.conf` |
//! | a BPF program | its C source in `src/kernel/bpf/`, and its reader in [`kernel::exit_cgroups`], [`kernel::call_sites`], `src/kernel/call_failures.rs` or [`kernel::tap`] |
//! | a verb | [`cli::args::Command`], a file in [`cli::verbs`], its call in `src/cli/mod.rs`, its answer in [`cli::views`] |
//! | how a unit is changed | [`operations::drop_in`], [`operations::rehearsal`], [`operations::bisection`], [`operations::refusal_logging`] |
//! | which lines a bisection lifts, and how | [`policy::Hardening`]; keys outside the table of directives in `src/policy/hardening_keys.rs` |
//! | which restarts a bisection takes | `src/diagnosis/bisection.rs` |
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
pub mod programs;
pub mod syscalls;
pub mod systemd;
pub mod unit_files;
pub mod units;

/// The bodies of the fuzz targets: `tests/fuzz/run` builds this crate with `--cfg fuzzing`.
#[cfg(any(test, fuzzing))]
#[path = "../tests/fuzz/targets/mod.rs"]
pub mod fuzz_targets;
