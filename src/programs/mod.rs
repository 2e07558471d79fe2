//! The calls that a program can make, read from its executable: imported functions, and the calls that libc makes for
//! each.
//!
//! - `elf_file` reads an ELF file, by parts that the caller provides.
//! - `code_file` and `machine_code` find what a library's functions call, and `library_calls` walks from the imported ones
//!   to those of libc.
//! - `symbols` names the function at a place, and `stack_use` shows whether a function has changed the stack.
//! - `wrappers` maps a function of libc to its calls.
//! - `interpreter` recognises interpreters, and reads the first line of a script.
//! - `program` joins them: the calls of one program.

#![forbid(unsafe_code)]

mod code_file;
pub mod elf_file;
mod elf_tables;
mod file_parts;
pub(crate) mod interpreter;
mod libc_functions;
pub mod library_calls;
mod machine_code;
pub mod program;
mod stack_use;
mod symbols;
pub(crate) mod wrappers;

pub use elf_file::ElfFile;
pub use file_parts::FileParts;
pub use library_calls::LibraryCalls;
pub use program::{ImportedCall, Program, ProgramImage, UnreadReason};
pub use stack_use::calls_with_unchanged_stack;
pub use symbols::find_function;
pub use wrappers::Libc;

#[cfg(test)]
mod tests;
