//! The headers and tables of an ELF file, each read by position and within a limit. The format is that of `elf(5)`.

use super::file_parts::FileParts;
use crate::syscalls::{Abi, Arch};
use elf::endian::{AnyEndian, EndianParse as _};
use elf::file::{Class, FileHeader, parse_ident};
use elf::section::{SectionHeader, SectionHeaderTable};
use elf::segment::{ProgramHeader, SegmentTable};

/// The limit on headers, of sections and of segments.
const MOST_HEADERS: u64 = 4096;

/// The limit on the size of a table of symbols or strings, in bytes.
const LARGEST_TABLE: u64 = 16 << 20;

/// The limit on the size of a note or of the interpreter's path, in bytes.
pub(super) const LARGEST_NOTE: u64 = 64 << 10;

/// The limit on the length of a symbol's name: names of C++ are long.
pub(super) const LONGEST_SYMBOL: usize = 1024;

/// Reads a part whose size the file states, up to a limit.
pub(super) fn read(file: &mut impl FileParts, offset: u64, size: u64, most: u64) -> Option<Vec<u8>> {
    let size = usize::try_from(size).ok().filter(|_| size <= most)?;
    file.read_part(offset, size)
}

/// Returns the string at a position of a table; `None` if it is longer than a limit.
pub(super) fn string_at(strings: &[u8], at: u64, longest: usize) -> Option<&str> {
    let rest = strings.get(usize::try_from(at).ok()?..)?;
    let start = rest.get(..=longest).unwrap_or(rest);
    str::from_utf8(start.get(..memchr::memchr(0, start)?)?).ok()
}

/// Reads the header of a file.
pub(super) fn read_header(file: &mut impl FileParts) -> Option<FileHeader<AnyEndian>> {
    const IDENT: usize = 16;
    let ident = parse_ident::<AnyEndian>(&file.read_part(0, IDENT)?).ok()?;
    let rest = match ident.1 {
        Class::ELF32 => 36,
        Class::ELF64 => 48,
    };
    FileHeader::parse_tail(ident, &file.read_part(IDENT as u64, rest)?).ok()
}

/// Returns the ABI. The tokens of audit records are made of the same facts (`linux/audit.h`).
pub(super) fn find_abi(header: &FileHeader<AnyEndian>) -> Option<Abi> {
    let is_64 = u32::from(header.class == Class::ELF64) << 31;
    let is_little = u32::from(header.endianness.is_little()) << 30;
    Arch(u32::from(header.e_machine) | is_64 | is_little).abi(None)
}

/// Reads the headers of the segments; none if the table is broken.
pub(super) fn read_segments(file: &mut impl FileParts, header: &FileHeader<AnyEndian>) -> Vec<ProgramHeader> {
    let (count, size) = (u64::from(header.e_phnum), u64::from(header.e_phentsize));
    let is_sound = size == size_of_entry(header.class, 32, 56);
    let table = read(file, header.e_phoff, count * size, MOST_HEADERS * 64).filter(|_| is_sound);
    let table = table.unwrap_or_default();
    SegmentTable::new(header.endianness, header.class, &table).iter().collect()
}

const fn size_of_entry(class: Class, small: u64, large: u64) -> u64 {
    match class {
        Class::ELF32 => small,
        Class::ELF64 => large,
    }
}

/// The section headers of a file.
pub(super) struct Sections {
    pub headers: Vec<SectionHeader>,
    names: Vec<u8>,
}

impl Sections {
    /// Reads the headers of the sections; none if the table is broken.
    pub(super) fn read(file: &mut impl FileParts, header: &FileHeader<AnyEndian>) -> Self {
        let (count, size) = (u64::from(header.e_shnum), u64::from(header.e_shentsize));
        let is_sound = size == size_of_entry(header.class, 40, 64);
        let table = read(file, header.e_shoff, count * size, MOST_HEADERS * 64).filter(|_| is_sound);
        let table = table.unwrap_or_default();
        let headers: Vec<SectionHeader> =
            SectionHeaderTable::new(header.endianness, header.class, &table).iter().collect();
        let names = headers.get(usize::from(header.e_shstrndx));
        let names = names.and_then(|section| read(file, section.sh_offset, section.sh_size, LARGEST_NOTE));
        Self { names: names.unwrap_or_default(), headers }
    }

    /// Finds the first section with one of these names.
    pub(super) fn find(&self, names: &[&str]) -> Option<&SectionHeader> {
        const LONGEST: usize = 64;
        let name = |section: &SectionHeader| string_at(&self.names, section.sh_name.into(), LONGEST);
        self.headers.iter().find(|section| name(section).is_some_and(|name| names.contains(&name)))
    }

    /// Reads the first section of a kind: empty if the file has none.
    pub(super) fn read_kind(&self, file: &mut impl FileParts, kind: u32) -> Option<Vec<u8>> {
        let section = self.headers.iter().find(|section| section.sh_type == kind);
        section.map_or_else(|| Some(Vec::new()), |one| read(file, one.sh_offset, one.sh_size, LARGEST_TABLE))
    }

    /// Reads the first table of a kind, and the strings that it refers to: both are empty if the file has no such table.
    pub(super) fn read_table(&self, file: &mut impl FileParts, kind: u32) -> Option<(Vec<u8>, Vec<u8>)> {
        let Some(table) = self.headers.iter().find(|section| section.sh_type == kind) else {
            return Some((Vec::new(), Vec::new()));
        };
        let strings = self.headers.get(usize::try_from(table.sh_link).ok()?)?;
        let table = read(file, table.sh_offset, table.sh_size, LARGEST_TABLE)?;
        Some((table, read(file, strings.sh_offset, strings.sh_size, LARGEST_TABLE)?))
    }
}
