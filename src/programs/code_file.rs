//! The code of a library by function: where functions start, what they refer to, and which symbols these are.
//!
//! `read` loads the name tables. The first function of a walk loads the code tables.

use super::elf_tables::{LONGEST_SYMBOL, Sections, find_abi, read, read_header, read_segments, string_at};
use super::file_parts::FileParts;
use super::machine_code::{Reference, scan};
use crate::syscalls::Abi;
use elf::abi::{
    PF_X, PT_GNU_EH_FRAME, PT_LOAD, SHN_UNDEF, SHT_DYNSYM, SHT_GNU_HASH, SHT_INIT_ARRAY, SHT_RELA, STT_FUNC,
    STT_GNU_IFUNC,
};
use elf::endian::AnyEndian;
use elf::file::FileHeader;
use elf::hash::GnuHashTable;
use elf::section::SectionHeader;
use elf::segment::ProgramHeader;
use elf::string_table::StringTable;
use elf::symbol::{Symbol, SymbolTable};

/// The limit on the size of a table of functions or of relocations, in bytes.
const LARGEST_TABLE: u64 = 8 << 20;

/// The limit on the size of a function, in bytes.
const LARGEST_FUNCTION: u64 = 64 << 10;

/// The size of a stub of the linker (`.plt`), in bytes.
const STUB: usize = 16;

/// The limit on the functions that run when a library is loaded.
const MOST_INITIAL: usize = 64;

/// Kinds of relocations (`elf.h`): the address of a symbol that code loads, of one that it calls, and an address in the
/// file itself.
const R_X86_64_GLOB_DAT: u64 = 6;
const R_X86_64_JUMP_SLOT: u64 = 7;
const R_X86_64_RELATIVE: u64 = 8;

/// A library, and the tables of its functions.
pub(super) struct CodeFile<F> {
    file: F,
    header: FileHeader<AnyEndian>,
    segments: Vec<ProgramHeader>,
    sections: Sections,
    symbols: Vec<u8>,
    strings: Vec<u8>,
    hash: Vec<u8>,
    /// The tables of the code, once they are needed; empty ones if they are broken.
    code: Option<CodeTables>,
    /// Whether these tables could not be read.
    lacks_code: bool,
}

/// The tables of a file's code.
#[derive(Default)]
struct CodeTables {
    /// The addresses at which functions start, sorted.
    starts: Vec<u64>,
    /// The places that hold the addresses of symbols, sorted, and the symbols.
    symbols: Vec<(u64, u32)>,
    initial: Vec<u64>,
}

impl<F: FileParts> CodeFile<F> {
    /// Reads the tables of names; `None` if the file is broken, has no code that is known, or exceeds a limit.
    pub(super) fn read(mut file: F) -> Option<Self> {
        let header = read_header(&mut file)?;
        if find_abi(&header) != Some(Abi::X86_64) {
            return None;
        }
        let segments = read_segments(&mut file, &header);
        let sections = Sections::read(&mut file, &header);
        let (symbols, strings) = sections.read_table(&mut file, SHT_DYNSYM)?;
        let hash = sections.read_kind(&mut file, SHT_GNU_HASH)?;
        Some(Self { file, header, segments, sections, symbols, strings, hash, code: None, lacks_code: false })
    }

    /// Returns the size of the tables of names, in bytes.
    pub(super) fn size(&self) -> usize {
        self.symbols.len() + self.strings.len() + self.hash.len()
    }

    fn code(&mut self) -> &CodeTables {
        if self.code.is_none() {
            let code = self.read_code();
            self.lacks_code = code.is_none();
            self.code = Some(code.unwrap_or_default());
        }
        self.code.get_or_insert_default()
    }

    fn read_code(&mut self) -> Option<CodeTables> {
        let mut starts = read_function_starts(&mut self.file, &self.segments)?;
        let symbols = SymbolTable::new(self.header.endianness, self.header.class, &self.symbols);
        starts.extend(symbols.iter().filter(is_defined_function).map(|symbol| symbol.st_value));
        starts.sort_unstable();
        starts.dedup();
        self.read_contents(starts)
    }

    /// Reads the contents of places that code calls by: the addresses of symbols. Reads the initial functions as well.
    /// `starts` are the addresses at which functions start.
    fn read_contents(&mut self, starts: Vec<u64>) -> Option<CodeTables> {
        const ENTRY: usize = 24;
        let is_initial = |section: &&SectionHeader| section.sh_type == SHT_INIT_ARRAY;
        let initial = self.sections.headers.iter().find(is_initial);
        let initial = initial.map_or(0..0, |section| section.sh_addr..section.sh_addr.saturating_add(section.sh_size));
        let (mut symbols, mut functions) = (Vec::new(), Vec::new());
        for section in self.sections.headers.iter().filter(|section| section.sh_type == SHT_RELA) {
            let table = read(&mut self.file, section.sh_offset, section.sh_size, LARGEST_TABLE)?;
            for entry in table.chunks_exact(ENTRY) {
                let word = |at: usize| entry.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
                let (place, kind, addend) = (word(0)?, word(8)?, word(16)?);
                match kind & 0xffff_ffff {
                    R_X86_64_GLOB_DAT | R_X86_64_JUMP_SLOT => symbols.push((place, u32::try_from(kind >> 32).ok()?)),
                    R_X86_64_RELATIVE if initial.contains(&place) => functions.push(addend),
                    _ => {}
                }
            }
        }
        symbols.sort_unstable();
        functions.truncate(MOST_INITIAL);
        Some(CodeTables { starts, symbols, initial: functions })
    }

    /// Returns the functions that run when the library is loaded.
    pub(super) fn initial_functions(&mut self) -> Vec<u64> {
        self.code().initial.clone()
    }

    /// Finds the function with a name.
    pub(super) fn find_function(&self, name: &str) -> Option<u64> {
        let (endian, class) = (self.header.endianness, self.header.class);
        let symbols = SymbolTable::new(endian, class, &self.symbols);
        let table = GnuHashTable::new(endian, class, &self.hash).ok()?;
        let (_, symbol) = table.find(name.as_bytes(), &symbols, &StringTable::new(&self.strings)).ok()??;
        is_defined_function(&symbol).then_some(symbol.st_value)
    }

    /// Returns the name of a symbol, and the address of its function if it is defined here.
    pub(super) fn symbol(&self, index: u32) -> Option<(&str, Option<u64>)> {
        let symbols = SymbolTable::new(self.header.endianness, self.header.class, &self.symbols);
        let symbol = symbols.get(usize::try_from(index).ok()?).ok()?;
        let name = string_at(&self.strings, symbol.st_name.into(), LONGEST_SYMBOL)?;
        Some((name, (symbol.st_shndx != SHN_UNDEF).then_some(symbol.st_value)))
    }

    /// Whether a function starts at an address.
    pub(super) fn is_start(&mut self, address: u64) -> bool {
        self.code().starts.binary_search(&address).is_ok()
    }

    /// Returns the symbol whose address the linker puts into a place.
    pub(super) fn symbol_in(&mut self, place: u64) -> Option<u32> {
        let symbols = &self.code().symbols;
        let index = symbols.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        symbols.get(index).map(|(_, symbol)| *symbol)
    }

    /// Returns the symbol that a stub of the linker jumps to.
    pub(super) fn symbol_of_stub(&mut self, address: u64) -> Option<u32> {
        let code = self.read_memory(address, STUB)?;
        let mut found = None;
        scan(&code, address, |reference| {
            if let Reference::Contents(place, _) = reference {
                found = found.or(Some(place));
            }
        });
        self.symbol_in(found?)
    }

    /// Returns the references of the function that starts at an address.
    pub(super) fn references(&mut self, start: u64) -> Vec<Reference> {
        let starts = &self.code().starts;
        let next = starts.get(starts.partition_point(|other| *other <= start)).copied().unwrap_or(u64::MAX);
        let limit = self.find_code(start).map_or(start, |load| load.p_vaddr.wrapping_add(load.p_filesz));
        let length = next.min(limit).saturating_sub(start).min(LARGEST_FUNCTION);
        let mut found = Vec::new();
        if let Some(code) = usize::try_from(length).ok().and_then(|length| self.read_memory(start, length)) {
            scan(&code, start, |reference| found.push(reference));
        }
        found
    }

    /// Returns the segment of code that holds an address.
    fn find_code(&self, address: u64) -> Option<&ProgramHeader> {
        let is_in = |load: &ProgramHeader| address.checked_sub(load.p_vaddr).is_some_and(|at| at < load.p_filesz);
        self.segments.iter().find(|load| load.p_type == PT_LOAD && load.p_flags & PF_X != 0 && is_in(load))
    }

    fn read_memory(&mut self, address: u64, length: usize) -> Option<Vec<u8>> {
        let load = self.find_code(address)?;
        let offset = load.p_offset.checked_add(address - load.p_vaddr)?;
        self.file.read_part(offset, length)
    }

    /// Whether a part was not read that a walk needed.
    pub(super) fn is_incomplete(&self) -> bool {
        self.lacks_code || self.is_exhausted()
    }

    /// Whether a limit of the caller was reached.
    pub(super) fn is_exhausted(&self) -> bool {
        self.file.is_exhausted()
    }
}

fn is_defined_function(symbol: &Symbol) -> bool {
    symbol.st_shndx != SHN_UNDEF && matches!(symbol.st_symtype(), STT_FUNC | STT_GNU_IFUNC)
}

/// Reads the addresses of all functions from the table for stack unwinding (`.eh_frame_hdr` of the Linux Standard Base).
fn read_function_starts(file: &mut impl FileParts, segments: &[ProgramHeader]) -> Option<Vec<u64>> {
    /// Version 1; the offset of `.eh_frame` relative, the count absolute, the table relative to itself, in 32 bits.
    const USUAL: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
    let Some(table) = segments.iter().find(|segment| segment.p_type == PT_GNU_EH_FRAME) else {
        return Some(Vec::new());
    };
    let bytes = read(file, table.p_offset, table.p_filesz, LARGEST_TABLE)?;
    if bytes.get(..4) != Some(&USUAL) {
        return Some(Vec::new());
    }
    let count = usize::try_from(u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?)).ok()?;
    let entries = bytes.get(12..)?.chunks_exact(8).take(count);
    let start = |entry: &[u8]| {
        let distance = i32::from_le_bytes(entry.get(..4)?.try_into().ok()?);
        Some(table.p_vaddr.wrapping_add_signed(distance.into()))
    };
    Some(entries.filter_map(start).collect())
}
