//! The kernel's SECCOMP audit records, parsed from bytes of any dialect.
//!
//! A process chooses its `comm`, `exe` and call numbers. They are hostile until [`text`] escapes them.

#![forbid(unsafe_code)]

mod field_values;
mod kernel_order;
pub(crate) mod note;
mod parse;
pub(crate) mod record;
pub(crate) mod serials;
pub mod text;

pub use note::Note;
pub use parse::{Malformed, parse_record};
pub(crate) use parse::{parse_fields, parse_serial};
pub use record::{Action, ArchField, CallField, IdField, Record, Stamp};
pub use text::UntrustedText;
