//! Names the function at a place of a file's code.

use super::elf_tables::{LONGEST_SYMBOL, Sections, read_header, read_segments, string_at};
use super::file_parts::FileParts;
use elf::abi::{PF_X, PT_LOAD, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STT_FUNC};
use elf::segment::ProgramHeader;
use elf::symbol::{Symbol, SymbolTable};

/// How many names of one function are compared. A file can give it as many as its table has room for.
const MOST_NAMES: usize = 64;

/// Returns the name of the function that holds the byte before an offset in a file. A symbol without a size names nothing.
pub fn find_function(file: &mut impl FileParts, offset: u64) -> Option<Box<str>> {
    let header = read_header(file)?;
    let address = find_address(&read_segments(file, &header), offset.checked_sub(1)?)?;
    let sections = Sections::read(file, &header);
    [SHT_DYNSYM, SHT_SYMTAB].into_iter().find_map(|kind| {
        let (table, strings) = sections.read_table(file, kind)?;
        let symbols = SymbolTable::new(header.endianness, header.class, &table);
        let names = symbols.iter().filter(|symbol| holds(symbol, address)).take(MOST_NAMES);
        let names = names.filter_map(|symbol| string_at(&strings, symbol.st_name.into(), LONGEST_SYMBOL));
        // Of several names of a function, the one that programs call has no underscores before it.
        names
            .filter(|name| !name.is_empty())
            .min_by_key(|name| (name.starts_with('_'), name.len(), *name))
            .map(Into::into)
    })
}

/// Returns the address that a byte of the code has when the file is loaded.
fn find_address(segments: &[ProgramHeader], offset: u64) -> Option<u64> {
    let is_code = |load: &&ProgramHeader| load.p_type == PT_LOAD && load.p_flags & PF_X != 0;
    let distance = |load: &ProgramHeader| offset.checked_sub(load.p_offset).filter(|at| *at < load.p_filesz);
    segments.iter().filter(is_code).find_map(|load| load.p_vaddr.checked_add(distance(load)?))
}

fn holds(symbol: &Symbol, address: u64) -> bool {
    let at = address.checked_sub(symbol.st_value);
    symbol.st_shndx != SHN_UNDEF && symbol.st_symtype() == STT_FUNC && at.is_some_and(|at| at < symbol.st_size)
}
