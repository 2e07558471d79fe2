//! What a unit forbids: its sandboxing settings, with file and line, merged in systemd's order, and the directive that
//! decides each call, or withholds what the call asks for.
//!
//! Functions here return values and [`FileNote`]s and never fail: systemd itself ignores lines that it cannot parse.

#![forbid(unsafe_code)]

pub(crate) mod call_list;
pub(crate) mod capabilities;
mod denied_calls;
pub(crate) mod directive;
pub(crate) mod effect;
pub mod errno;
mod evaluate;
mod excluded_calls;
pub(crate) mod exec_command;
pub(crate) mod families;
pub(crate) mod hardening;
mod hardening_keys;
pub(crate) mod launched;
pub(crate) mod lists;
pub(crate) mod manager_context;
pub(crate) mod manager_variable;
mod possible_directives;
mod process_rights;
pub(crate) mod program_path;
pub(crate) mod program_settings;
pub(crate) mod relevant_lines;
pub(crate) mod sandbox;
mod set_up_keys;
mod set_up_lines;
pub(crate) mod settings;
mod shell_script;
pub(crate) mod source_line;
mod switch;
pub(crate) mod syscall_filter;
pub(crate) mod unit_file;
pub(crate) mod unit_policy;
pub(crate) mod verdict;
pub(crate) mod words;

pub use call_list::{Mode, Word};
pub use capabilities::Capability;
pub(crate) use capabilities::find_withheld;
pub(crate) use denied_calls::DeniedCalls;
pub use directive::{Directive, DirectiveSpec, InRehearsal, ValueKind};
pub use effect::{DefaultEffect, Effect};
pub use exec_command::ExecCommand;
pub use families::AddressFamilies;
pub(crate) use families::family_name;
pub use hardening::{Hardening, HardeningLine, KeptHardening};
pub(crate) use hardening_keys::current_key;
pub use lists::Namespaces;
pub use manager_context::ManagerContext;
pub(crate) use possible_directives::find_possible_directives;
pub use program_settings::ProgramSettings;
pub use sandbox::Need;
pub use sandbox::address_rules::reached_address;
pub use sandbox::device_rules::DeviceUse;
pub use sandbox::path_words::{BindWord, PathWord};
pub use sandbox::withheld::Withheld;
pub use settings::Settings;
pub use source_line::SourceLine;
pub use syscall_filter::{Reason, Ruling, SyscallFilter};
pub use unit_file::{Assignment, FileNote, LineFault, Origin, UnitFile};
pub use unit_policy::Policy;
pub use verdict::{CauseReason, DirectiveCause, Verdict};
