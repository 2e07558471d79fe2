//! Reads the facts of an ELF executable that show its calls: the functions that it imports, its libraries and its libc.
//!
//! Every file is hostile input. The reader asks for parts of the file by position, each of a bounded size, and believes
//! no size that the file states. The format is that of `elf(5)`.

use super::wrappers::{Libc, is_wrapper};
use crate::syscalls::{Abi, Arch};
use elf::abi::{
    DT_NEEDED, DT_NULL, NT_GNU_BUILD_ID, PT_INTERP, PT_NOTE, SHN_UNDEF, SHT_DYNAMIC, SHT_DYNSYM, SHT_PROGBITS,
    STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE,
};
use elf::dynamic::DynamicTable;
use elf::endian::{AnyEndian, EndianParse as _};
use elf::file::{Class, FileHeader, parse_ident};
use elf::note::{Note, NoteIterator};
use elf::section::{SectionHeader, SectionHeaderTable};
use elf::segment::{ProgramHeader, SegmentTable};
use elf::symbol::SymbolTable;
use std::collections::BTreeSet;

/// The limits on headers, of sections and of segments.
const MOST_HEADERS: u64 = 4096;

/// The limit on the size of a table of symbols or strings, in bytes.
const LARGEST_TABLE: u64 = 16 << 20;

/// The limit on the size of Go's table of functions, in bytes.
const LARGEST_GO_TABLE: u64 = 48 << 20;

/// The limit on the size of a note or of the interpreter's path, in bytes.
const LARGEST_NOTE: u64 = 64 << 10;

/// The limit on the entries of a table of symbols.
const MOST_SYMBOLS: usize = 1 << 18;

/// The limit on libraries.
const MOST_LIBRARIES: usize = 512;

/// The limit on the functions of one of Go's packages.
const MOST_GO_FUNCTIONS: usize = 20_000;

/// The limit on the length of a function's name. The functions of libc have shorter names.
const LONGEST_FUNCTION: usize = 64;

/// The limit on the length of a library's name (`NAME_MAX`).
const LONGEST_LIBRARY: usize = 255;

/// Gives parts of a file by position.
pub trait FileParts {
    /// Returns `length` bytes from `offset`; `None` if the file is shorter or cannot be read.
    fn read_part(&mut self, offset: u64, length: usize) -> Option<Vec<u8>>;

    /// Whether a limit of the caller was reached, of time or of size. The reader then gives up.
    fn is_exhausted(&self) -> bool {
        false
    }
}

impl FileParts for &[u8] {
    fn read_part(&mut self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        self.get(start..start.checked_add(length)?).map(<[u8]>::to_vec)
    }
}

/// The facts of an ELF executable or library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElfFile {
    /// The ABI of its calls; `None` for a machine without a table of calls.
    pub abi: Option<Abi>,
    /// Its C library.
    pub libc: Libc,
    /// The id of its build (`NT_GNU_BUILD_ID`), if it has one.
    pub build_id: Option<Box<[u8]>>,
    /// The functions of libc that it imports, or that Go linked into it, as far as [`wrappers`](super::wrappers) knows
    /// them.
    pub imports: BTreeSet<Box<str>>,
    /// Whether it brings all its code along: its imports show nothing.
    pub is_static: bool,
}

impl ElfFile {
    /// Reads the facts; `None` if the file is no ELF file, a broken one, or one that exceeds a limit: a part of its
    /// imports would look like all of them.
    pub fn read(file: &mut impl FileParts) -> Option<Self> {
        let header = read_header(file)?;
        let segments = read_segments(file, &header);
        let sections = Sections::read(file, &header);
        let interpreter = segments.iter().find(|segment| segment.p_type == PT_INTERP);
        let interpreter = interpreter.and_then(|segment| read(file, segment.p_offset, segment.p_filesz, LARGEST_NOTE));
        let libraries = sections.read_libraries(file, &header)?;
        let has_musl = |name: &[u8]| name.windows(4).any(|part| part == b"musl");
        let is_musl = interpreter.as_deref().is_some_and(has_musl) || libraries.has_musl;
        let mut imports = sections.read_imports(file, &header)?;
        imports.extend(sections.read_go_functions(file)?);
        let facts = Self {
            abi: find_abi(&header),
            libc: if is_musl { Libc::Musl } else { Libc::Glibc },
            build_id: segments.iter().find_map(|segment| read_build_id(file, &header, segment)),
            is_static: interpreter.is_none() && !libraries.has_any,
            imports,
        };
        (!file.is_exhausted()).then_some(facts)
    }
}

/// The libraries that a file needs (`DT_NEEDED`).
#[derive(Debug, Default)]
struct Libraries {
    has_any: bool,
    /// Whether one of them is musl's libc.
    has_musl: bool,
}

/// Reads a part whose size the file states, up to a limit.
fn read(file: &mut impl FileParts, offset: u64, size: u64, most: u64) -> Option<Vec<u8>> {
    let size = usize::try_from(size).ok().filter(|_| size <= most)?;
    file.read_part(offset, size)
}

/// Returns the string at a position of a table; `None` if it is longer than a limit.
fn string_at(strings: &[u8], at: u64, longest: usize) -> Option<&str> {
    let rest = strings.get(usize::try_from(at).ok()?..)?;
    let start = rest.get(..=longest).unwrap_or(rest);
    str::from_utf8(start.get(..memchr::memchr(0, start)?)?).ok()
}

fn read_header(file: &mut impl FileParts) -> Option<FileHeader<AnyEndian>> {
    const IDENT: usize = 16;
    let ident = parse_ident::<AnyEndian>(&file.read_part(0, IDENT)?).ok()?;
    let rest = match ident.1 {
        Class::ELF32 => 36,
        Class::ELF64 => 48,
    };
    FileHeader::parse_tail(ident, &file.read_part(IDENT as u64, rest)?).ok()
}

/// Returns the ABI. The tokens of audit records are made of the same facts (`linux/audit.h`).
fn find_abi(header: &FileHeader<AnyEndian>) -> Option<Abi> {
    let is_64 = u32::from(header.class == Class::ELF64) << 31;
    let is_little = u32::from(header.endianness.is_little()) << 30;
    Arch(u32::from(header.e_machine) | is_64 | is_little).abi(None)
}

fn read_segments(file: &mut impl FileParts, header: &FileHeader<AnyEndian>) -> Vec<ProgramHeader> {
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

fn read_build_id(
    file: &mut impl FileParts,
    header: &FileHeader<AnyEndian>,
    segment: &ProgramHeader,
) -> Option<Box<[u8]>> {
    if segment.p_type != PT_NOTE {
        return None;
    }
    let notes = read(file, segment.p_offset, segment.p_filesz, LARGEST_NOTE)?;
    let align = usize::try_from(segment.p_align).ok().filter(|align| matches!(align, 4 | 8)).unwrap_or(4);
    NoteIterator::new(header.endianness, header.class, align, &notes).find_map(|note| match note {
        Note::GnuBuildId(id) => Some(id.0.into()),
        Note::Unknown(note) if note.n_type == NT_GNU_BUILD_ID && note.name == b"GNU\0" => Some(note.desc.into()),
        _ => None,
    })
}

/// The section headers of a file.
struct Sections {
    headers: Vec<SectionHeader>,
    names: Vec<u8>,
}

impl Sections {
    fn read(file: &mut impl FileParts, header: &FileHeader<AnyEndian>) -> Self {
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

    /// Reads the first table of a kind, and the strings that it refers to: both are empty if the file has no such table.
    fn read_table(&self, file: &mut impl FileParts, kind: u32) -> Option<(Vec<u8>, Vec<u8>)> {
        let Some(table) = self.headers.iter().find(|section| section.sh_type == kind) else {
            return Some((Vec::new(), Vec::new()));
        };
        let strings = self.headers.get(usize::try_from(table.sh_link).ok()?)?;
        let table = read(file, table.sh_offset, table.sh_size, LARGEST_TABLE)?;
        Some((table, read(file, strings.sh_offset, strings.sh_size, LARGEST_TABLE)?))
    }

    fn read_libraries(&self, file: &mut impl FileParts, header: &FileHeader<AnyEndian>) -> Option<Libraries> {
        let (table, strings) = self.read_table(file, SHT_DYNAMIC)?;
        let entries = DynamicTable::new(header.endianness, header.class, &table);
        let entries = entries.iter().take(MOST_SYMBOLS).take_while(|entry| entry.d_tag != DT_NULL);
        let needed = entries.filter(|entry| entry.d_tag == DT_NEEDED).take(MOST_LIBRARIES);
        let mut libraries = Libraries::default();
        // A name with a slash is a path, which the linker takes as it is; no distribution has such libraries.
        for name in needed.filter_map(|entry| string_at(&strings, entry.d_val(), LONGEST_LIBRARY)) {
            libraries.has_any |= !name.is_empty() && !name.contains('/');
            libraries.has_musl |= name.starts_with("libc.musl-") && !name.contains('/');
        }
        Some(libraries)
    }

    /// Returns the undefined functions that are wrappers of calls.
    fn read_imports(&self, file: &mut impl FileParts, header: &FileHeader<AnyEndian>) -> Option<BTreeSet<Box<str>>> {
        let (table, strings) = self.read_table(file, SHT_DYNSYM)?;
        let symbols = SymbolTable::new(header.endianness, header.class, &table);
        let mut found = BTreeSet::new();
        for (index, symbol) in symbols.iter().enumerate() {
            if index >= MOST_SYMBOLS || file.is_exhausted() {
                return None;
            }
            let is_function = matches!(symbol.st_symtype(), STT_FUNC | STT_NOTYPE | STT_GNU_IFUNC);
            if symbol.st_shndx == SHN_UNDEF && is_function {
                let name = string_at(&strings, symbol.st_name.into(), LONGEST_FUNCTION);
                found.extend(name.filter(|name| is_wrapper(name)).map(Into::into));
            }
        }
        Some(found)
    }

    /// Returns the functions of Go's packages `syscall` and `x/sys/unix` that are wrappers of calls. Go's linker keeps
    /// only functions that the program can reach, and `.gopclntab` names these in every program, also a stripped one.
    fn read_go_functions(&self, file: &mut impl FileParts) -> Option<BTreeSet<Box<str>>> {
        const PACKAGES: [&str; 2] = ["\0syscall.", "\0golang.org/x/sys/unix."];
        let is_table = |section: &&SectionHeader| {
            let name = string_at(&self.names, section.sh_name.into(), LONGEST_FUNCTION);
            section.sh_type == SHT_PROGBITS && matches!(name, Some(".gopclntab" | ".data.rel.ro.gopclntab"))
        };
        let mut found = BTreeSet::new();
        let Some(table) = self.headers.iter().find(is_table) else { return Some(found) };
        let table = read(file, table.sh_offset, table.sh_size, LARGEST_GO_TABLE)?;
        for package in PACKAGES {
            for (index, at) in memchr::memmem::find_iter(&table, package.as_bytes()).enumerate() {
                if index >= MOST_GO_FUNCTIONS || file.is_exhausted() {
                    return None;
                }
                let name = string_at(&table, (at + package.len()) as u64, LONGEST_FUNCTION);
                let name = name.map(str::to_ascii_lowercase);
                found.extend(name.filter(|name| is_wrapper(name)).map(String::into_boxed_str));
            }
        }
        Some(found)
    }
}
