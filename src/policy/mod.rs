//! What the unit forbids: its seccomp-bearing settings with file and line, systemd's merge order,
//! and which directive decides a call.
//!
//! Analyses return values plus [`FileNote`]s and never fail: systemd itself ignores what it cannot read.

#![forbid(unsafe_code)]

pub mod call_list;
mod default_effect;
pub mod directive;
pub mod effect;
pub mod errno;
mod evaluate;
pub mod exec_command;
pub mod families;
pub mod launched;
pub mod lists;
pub mod manager_context;
pub mod seccomp_logging;
pub mod settings;
pub mod syscall_filter;
pub mod unit_file;
pub mod unit_policy;
pub mod verdict;
mod words;

pub use call_list::{Mode, Word};
pub use default_effect::DefaultEffect;
pub use directive::{Directive, DirectiveSpec, InRehearsal, ValueKind};
pub use effect::Effect;
pub use families::AddressFamilies;
pub use manager_context::ManagerContext;
pub use settings::Settings;
pub use syscall_filter::{Reason, Ruling, SyscallFilter};
pub use unit_file::{Assignment, FileNote, Origin, UnitFile};
pub use unit_policy::Policy;
pub use verdict::{CauseReason, DirectiveCause, Verdict};
