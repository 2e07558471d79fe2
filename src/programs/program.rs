//! A program of a unit, and the calls that it can make.

use super::elf_file::ElfFile;
use super::wrappers::{find_calls, is_rarely_used};
use crate::syscalls::Abi;

/// A program that a unit's command lines or its records name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The path of its executable, as the unit or the record names it. Hostile until it is escaped.
    pub path: Box<[u8]>,
    /// What its executable shows.
    pub image: ProgramImage,
}

/// What the executable of a program shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramImage {
    /// Its imports.
    Native(ElfFile),
    /// It is an interpreter: its imports show what the language offers, and a script may use any of it.
    Interpreter(ElfFile),
    /// Nothing: it has no imports, since it brings all its code along.
    Static,
    /// Nothing: it is missing or unreadable, no ELF file, or a file that the unit's processes could have written.
    Unread,
}

/// A call that a program's imports lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImportedCall<'a> {
    /// The call.
    pub call: &'static str,
    /// The imported function.
    pub function: &'a str,
    /// Whether most programs use the function only in rare cases.
    pub is_rare: bool,
}

impl Program {
    /// Returns the name of the executable, without its directory.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }

    /// Returns the facts of its executable, if they are known.
    #[must_use]
    pub fn file(&self) -> Option<&ElfFile> {
        match &self.image {
            ProgramImage::Native(file) | ProgramImage::Interpreter(file) => Some(file),
            ProgramImage::Static | ProgramImage::Unread => None,
        }
    }

    /// Returns the calls that its imports lead to, those of the program's own ABI.
    pub fn imported_calls(&self) -> impl Iterator<Item = (Abi, ImportedCall<'_>)> {
        let file = self.file().and_then(|file| Some((file, file.abi?)));
        file.into_iter().flat_map(|(file, abi)| {
            file.imports.iter().flat_map(move |function| {
                let is_rare = is_rarely_used(function);
                find_calls(function, file.libc, abi).map(move |call| (abi, ImportedCall { call, function, is_rare }))
            })
        })
    }
}
