//! Executables: the ELF reader and the first line of a script.

use crate::programs::interpreter::{find_interpreter, is_interpreter};
use crate::programs::library_calls::{DEEPEST, LibraryWalk, ReachedCalls};
use crate::programs::{ElfFile, FileParts, Program, ProgramImage};
use std::cell::Cell;

/// How many bytes the reader may ask for, as a multiple of the file's size: it reads a few tables, each once.
const MOST_READ: usize = 16;

/// Reads an executable.
pub(super) fn check(input: &[u8]) {
    let _ = is_interpreter(input);
    if let Some((path, arguments)) = find_interpreter(input) {
        assert!(path.starts_with('/') && arguments.iter().all(|argument| !argument.is_empty()));
    }
    let mut file = CountedFile { bytes: input, read: Cell::new(0) };
    let facts = ElfFile::read(&mut file);
    let segments = 1 + input.len() / 56;
    assert!(file.read.get() <= input.len() * (MOST_READ + segments), "{} bytes were read", file.read.get());
    let Some((facts, _)) = facts else { return };
    let ReachedCalls { libraries, unread } = walk(input);
    assert!(unread.len() <= 1, "one library: {unread:?}");
    let program = Program { libraries, unread_libraries: unread, ..Program::new(input, ProgramImage::Native(facts)) };
    for (abi, imported) in program.imported_calls() {
        assert!(abi.call_number(imported.call).is_some(), "{} is no call of {abi:?}", imported.call);
    }
}

/// Follows the functions of the input as those of a library, from each name that it could export.
fn walk(input: &[u8]) -> ReachedCalls {
    const MOST_NAMES: usize = 64;
    let names = input.split(|byte| *byte == 0).filter_map(|name| str::from_utf8(name).ok());
    let mut walk = LibraryWalk::new();
    walk.add("libx.so.1".into(), input);
    walk.walk(names.filter(|name| !name.is_empty()).take(MOST_NAMES), DEEPEST)
}

/// Counts what is read of a file.
struct CountedFile<'a> {
    bytes: &'a [u8],
    read: Cell<usize>,
}

impl FileParts for CountedFile<'_> {
    fn read_part(&mut self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let part = (&mut &*self.bytes).read_part(offset, length)?;
        self.read.set(self.read.get() + length);
        Some(part)
    }
}
