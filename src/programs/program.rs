//! A program of a unit, and the calls that it can make.

use super::elf_file::ElfFile;
use super::library_calls::{DEEPEST, LibraryCalls};
use super::wrappers::{find_calls, is_rarely_used, is_rarely_used_in_go};
use crate::audit::text::untrusted_base_name;
use crate::syscalls::Abi;

/// A program that a unit's command lines or its records name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The path of its executable, as the unit or the record names it. Hostile until it is escaped.
    pub path: Box<[u8]>,
    /// What its executable shows.
    pub image: ProgramImage,
    /// What it reaches through its libraries.
    pub libraries: Vec<LibraryCalls>,
    /// The libraries that were not read, or not to their end.
    pub unread_libraries: Vec<Box<str>>,
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
    /// Nothing: its file was not read.
    Unread(UnreadReason),
}

/// Why the executable of a program was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreadReason {
    /// There is no such file.
    Missing,
    /// The caller may not read it.
    NotPermitted,
    /// It is in an image, or in a root directory that is unknown.
    OutOfReach,
    /// It is on a file system that a program of another user serves.
    ServedByUser,
    /// The unit's processes or other users can write or replace it.
    Replaceable,
    /// Another file has its place now.
    Replaced,
    /// It is no ELF file, a broken one, or one that exceeds a limit.
    Unusable,
    /// The limit on time or size was reached before.
    Unreached,
}

impl UnreadReason {
    /// Describes the reason in words that follow the path.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Missing => "does not exist",
            Self::NotPermitted => "may not be read by you",
            Self::OutOfReach => "is in an image or a root directory that is not read",
            Self::ServedByUser => "is on a file system that a program of another user serves (FUSE)",
            Self::Replaceable => "can be replaced by other users than its owner",
            Self::Replaced => "was replaced since",
            Self::Unusable => "is no complete ELF file",
            Self::Unreached => "was not read within the limits of time and size",
        }
    }
}

/// A call that a program's imports lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImportedCall<'a> {
    /// The call.
    pub call: &'static str,
    /// The imported function; the call itself if the code makes it without libc.
    pub function: &'a str,
    /// The library that imports the function for the program; `None` if the program imports it.
    pub library: Option<&'a str>,
    /// Whether the code makes the call itself, without libc.
    pub is_direct: bool,
    /// Whether most programs use the function only in rare cases.
    pub is_rare: bool,
}

impl Program {
    /// Returns a program whose libraries show nothing, and hide nothing.
    #[must_use]
    pub fn new(path: impl Into<Box<[u8]>>, image: ProgramImage) -> Self {
        Self { path: path.into(), image, libraries: Vec::new(), unread_libraries: Vec::new() }
    }

    /// Returns the ABI of its executable; `None` if the file was not read, or does not show it.
    #[must_use]
    pub fn abi(&self) -> Option<Abi> {
        match &self.image {
            ProgramImage::Native(file) | ProgramImage::Interpreter(file) => file.abi,
            ProgramImage::Static | ProgramImage::Unread(_) => None,
        }
    }

    /// Returns the name of the executable, without its directory.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        untrusted_base_name(&self.path)
    }

    /// Whether its imports show every call that it can make. A static program also makes calls whose numbers its code
    /// computes.
    #[must_use]
    pub fn has_known_imports(&self) -> bool {
        let shows_all = |file: &ElfFile| file.is_go || !file.is_static;
        self.unread_libraries.is_empty() && matches!(&self.image, ProgramImage::Native(file) if shows_all(file))
    }

    /// Describes why nothing shows its calls, in words that follow its path; `None` if its imports do.
    #[must_use]
    pub fn describe_lack(&self) -> Option<&'static str> {
        match &self.image {
            ProgramImage::Native(_) | ProgramImage::Interpreter(_) => None,
            ProgramImage::Static => Some("is a static program"),
            ProgramImage::Unread(reason) => Some(reason.describe()),
        }
    }

    /// Returns the facts of its executable, if they are known.
    #[must_use]
    pub fn file(&self) -> Option<&ElfFile> {
        match &self.image {
            ProgramImage::Native(file) | ProgramImage::Interpreter(file) => Some(file),
            ProgramImage::Static | ProgramImage::Unread(_) => None,
        }
    }

    /// Returns the program as its build for another ABI would be: with the same functions.
    #[must_use]
    pub(crate) fn rebuild_for(&self, abi: Abi) -> Self {
        let mut rebuilt = self.clone();
        if let ProgramImage::Native(file) | ProgramImage::Interpreter(file) = &mut rebuilt.image {
            let own = file.abi.replace(abi);
            let renumber = |number: u32| abi.call_number(own?.call_name(number)?);
            file.numbers = file.numbers.iter().filter_map(|number| renumber(*number)).collect();
            for library in &mut rebuilt.libraries {
                let numbers = library.numbers.iter();
                library.numbers = numbers.filter_map(|(number, depth)| Some((renumber(*number)?, *depth))).collect();
            }
        }
        rebuilt
    }

    /// Returns the calls that its imports and its libraries lead to, those of the program's own ABI.
    pub fn imported_calls(&self) -> impl Iterator<Item = (Abi, ImportedCall<'_>)> {
        let file = self.file().and_then(|file| Some((file, file.abi?)));
        file.into_iter().flat_map(move |(file, abi)| {
            let own = file.imports.iter().flat_map(move |function| {
                let is_rare = is_rarely_used(function) || (file.is_go && is_rarely_used_in_go(function));
                find_calls(function, file.libc, abi).map(move |call| ImportedCall {
                    call,
                    function,
                    library: None,
                    is_direct: file.is_go,
                    is_rare,
                })
            });
            let direct = file.numbers.iter().filter_map(move |number| direct_call(abi, *number, None));
            let libraries = self.libraries.iter().flat_map(move |library| library_calls(library, file, abi));
            own.chain(direct).chain(libraries).map(move |call| (abi, call))
        })
    }
}

/// Returns the call with a number, which code makes itself.
fn direct_call(abi: Abi, number: u32, library: Option<&str>) -> Option<ImportedCall<'_>> {
    let call = abi.call_name(number)?;
    Some(ImportedCall { call, function: call, library, is_direct: true, is_rare: is_rarely_used(call) })
}

/// Returns the calls that a library leads to.
fn library_calls<'a>(
    library: &'a LibraryCalls,
    file: &'a ElfFile,
    abi: Abi,
) -> impl Iterator<Item = ImportedCall<'a>> + 'a {
    let name = Some(&*library.library);
    let functions = library.functions.iter().filter(|(_, depth)| **depth <= DEEPEST).flat_map(move |(function, _)| {
        let is_rare = is_rarely_used(function);
        find_calls(function, file.libc, abi).map(move |call| ImportedCall {
            call,
            function,
            library: name,
            is_direct: false,
            is_rare,
        })
    });
    let numbers = library.numbers.iter().filter(|(_, depth)| **depth <= DEEPEST);
    functions.chain(numbers.filter_map(move |(number, _)| direct_call(abi, *number, name)))
}
