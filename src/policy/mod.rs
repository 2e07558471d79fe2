//! What a unit forbids: its settings that bear on seccomp, with file and line, merged in systemd's order, and the
//! directive that decides each call.
//!
//! Functions here return values and [`FileNote`]s and never fail: systemd itself ignores lines that it cannot parse.

#![forbid(unsafe_code)]

pub mod call_list;
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
pub use directive::{Directive, DirectiveSpec, InRehearsal, ValueKind};
pub use effect::{DefaultEffect, Effect};
pub use families::AddressFamilies;
pub use manager_context::ManagerContext;
pub use settings::Settings;
pub use syscall_filter::{Reason, Ruling, SyscallFilter};
pub use unit_file::{Assignment, FileNote, Origin, UnitFile};
pub use unit_policy::Policy;
pub use verdict::{CauseReason, DirectiveCause, Verdict};
