//! What the kernel said: one SECCOMP audit record, from bytes of any dialect.
//!
//! Everything in a record that a process can choose (`comm`, `exe`, the numbers of the
//! call) is hostile until it went through [`text`].

#![forbid(unsafe_code)]

pub mod note;
mod parse;
pub mod record;
pub mod serials;
pub mod text;

pub use note::Note;
pub use parse::{Malformed, parse_fields, parse_record, parse_serial};
pub use record::{Action, ArchField, CallField, IdField, Record, Stamp};
pub use text::UntrustedText;
