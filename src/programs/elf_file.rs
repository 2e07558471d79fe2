//! Reads the facts of an ELF executable that show its calls: the functions that it imports, its libraries and its libc.
//!
//! Every file is hostile input. The reader asks for parts of the file by position, each of a bounded size, and believes
//! no size that the file states. The format is that of `elf(5)`.

use super::elf_tables::{
    LARGEST_NOTE, LONGEST_SYMBOL, Sections, find_abi, read, read_header, read_segments, string_at,
};
use super::file_parts::FileParts;
use super::machine_code;
use super::wrappers::{Libc, is_wrapper};
use crate::syscalls::Abi;
use elf::abi::{
    DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, NT_GNU_BUILD_ID, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE,
    SHN_UNDEF, SHT_DYNAMIC, SHT_DYNSYM, SHT_PROGBITS, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE,
};
use elf::dynamic::DynamicTable;
use elf::endian::AnyEndian;
use elf::file::{Class, FileHeader};
use elf::note::{Note, NoteIterator};
use elf::segment::ProgramHeader;
use elf::symbol::SymbolTable;
use std::collections::BTreeSet;

/// The limit on the size of Go's table of functions, in bytes.
const LARGEST_GO_TABLE: u64 = 48 << 20;

/// The limit on the entries of a table of symbols.
const MOST_SYMBOLS: usize = 1 << 18;

/// The limit on libraries.
const MOST_LIBRARIES: usize = 512;

/// The limit on the functions of one of Go's packages.
const MOST_GO_FUNCTIONS: usize = 20_000;

/// The limit on the length of a function's name. The functions of libc have shorter names.
const LONGEST_FUNCTION: usize = 64;

/// The limit on the length of a list of directories, and on their number.
const LONGEST_PATH: usize = 4096;
const MOST_PATHS: usize = 16;

/// The limit on the length of a library's name (`NAME_MAX`).
const LONGEST_LIBRARY: usize = 255;

/// The size of the parts in which code is read, and how much of the next part each has, so that no call lies between two.
const CODE_PART: u64 = 1 << 20;
const CODE_OVERLAP: u64 = 64;

/// The facts of an ELF executable or library.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    /// Whether it was written in Go: `imports` are the functions that Go linked into it.
    pub is_go: bool,
    /// The numbers of the calls that a static program makes itself.
    pub numbers: BTreeSet<u32>,
    /// Whether it is statically linked.
    pub is_static: bool,
}

/// The word size and the machine of a file. The dynamic linker skips libraries that differ in one of them from the
/// program (`open_verify` of glibc's `elf/dl-load.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Platform {
    class: Class,
    machine: u16,
}

impl Platform {
    /// Reads the platform of a file; `None` if it is no ELF file.
    pub(crate) fn read(file: &mut impl FileParts) -> Option<Self> {
        read_header(file).as_ref().map(Self::from)
    }
}

impl From<&FileHeader<AnyEndian>> for Platform {
    fn from(header: &FileHeader<AnyEndian>) -> Self {
        Self { class: header.class, machine: header.e_machine }
    }
}

/// A file's imports and libraries, which the dynamic linker resolves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linkage {
    /// The platform of the libraries that the file can use: its own.
    pub(crate) platform: Platform,
    /// The functions that it imports, except those of libc that make calls.
    pub functions: Vec<Box<str>>,
    /// The libraries that it needs (`DT_NEEDED`).
    pub libraries: Vec<Box<str>>,
    /// The directories in which its libraries are searched first (`DT_RUNPATH`).
    pub paths: Vec<Box<str>>,
}

impl ElfFile {
    /// Reads the id of a build alone.
    pub fn read_build_id(file: &mut impl FileParts) -> Option<Box<[u8]>> {
        let header = read_header(file)?;
        let segments = read_segments(file, &header);
        segments.iter().find_map(|segment| read_build_id(file, &header, segment))
    }

    /// Reads the libraries alone that a file needs.
    pub(crate) fn read_needed(file: &mut impl FileParts) -> Option<Linkage> {
        let header = read_header(file)?;
        let sections = Sections::read(file, &header);
        if !sections.has_linkage(&read_segments(file, &header)) {
            return None;
        }
        let (libraries, paths) = sections.read_libraries(file, &header)?;
        Some(Linkage { platform: Platform::from(&header), functions: Vec::new(), libraries, paths })
    }

    /// Reads the facts, and what the linker is to find; `None` if the file is no ELF file, a broken one, one without
    /// section headers (`sstrip`), or one that exceeds a limit: a part of its imports would look like all of them.
    pub fn read(file: &mut impl FileParts) -> Option<(Self, Linkage)> {
        let header = read_header(file)?;
        let segments = read_segments(file, &header);
        let sections = Sections::read(file, &header);
        if !sections.has_linkage(&segments) {
            return None;
        }
        let interpreter = segments.iter().find(|segment| segment.p_type == PT_INTERP);
        let interpreter = interpreter.and_then(|segment| read(file, segment.p_offset, segment.p_filesz, LARGEST_NOTE));
        let (libraries, paths) = sections.read_libraries(file, &header)?;
        let has_musl = |name: &[u8]| name.windows(4).any(|part| part == b"musl");
        let is_musl = interpreter.as_deref().is_some_and(has_musl)
            || libraries.iter().any(|library| library.starts_with("libc.musl-"));
        let is_static = interpreter.is_none() && libraries.is_empty();
        let (mut imports, functions) = sections.read_imports(file, &header)?;
        let go_functions = sections.read_go_functions(file)?;
        let is_go = !go_functions.is_empty();
        imports.extend(go_functions);
        let facts = Self {
            abi: find_abi(&header),
            libc: if is_musl { Libc::Musl } else { Libc::Glibc },
            build_id: segments.iter().find_map(|segment| read_build_id(file, &header, segment)),
            imports,
            is_go,
            numbers: if is_static { read_numbers(file, &header, &segments)? } else { BTreeSet::new() },
            is_static,
        };
        let platform = Platform::from(&header);
        (!file.is_exhausted()).then_some((facts, Linkage { platform, functions, libraries, paths }))
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

/// Returns the numbers of the calls that the code makes itself.
fn read_numbers(
    file: &mut impl FileParts,
    header: &FileHeader<AnyEndian>,
    segments: &[ProgramHeader],
) -> Option<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    if find_abi(header) != Some(Abi::X86_64) {
        return Some(found);
    }
    let is_code = |segment: &&ProgramHeader| segment.p_type == PT_LOAD && segment.p_flags & PF_X != 0;
    for segment in segments.iter().filter(is_code) {
        let end = segment.p_offset.checked_add(segment.p_filesz)?;
        let mut at = segment.p_offset;
        while at < end {
            let code = read(file, at, (end - at).min(CODE_PART + CODE_OVERLAP), u64::MAX)?;
            found.extend(machine_code::find_numbers(&code));
            at += CODE_PART;
        }
    }
    Some(found)
}

/// Names of functions or files, in the order of the file.
type Names = Vec<Box<str>>;

impl Sections {
    /// Whether the sections have the tables of a file that the linker loads.
    fn has_linkage(&self, segments: &[ProgramHeader]) -> bool {
        let is_linked = segments.iter().any(|segment| matches!(segment.p_type, PT_INTERP | PT_DYNAMIC));
        let has = |kind: u32| self.headers.iter().any(|section| section.sh_type == kind);
        !is_linked || (has(SHT_DYNAMIC) && has(SHT_DYNSYM))
    }

    /// Returns the libraries that the file needs, and the directories in which they are searched first.
    fn read_libraries(&self, file: &mut impl FileParts, header: &FileHeader<AnyEndian>) -> Option<(Names, Names)> {
        let (table, strings) = self.read_table(file, SHT_DYNAMIC)?;
        let entries = DynamicTable::new(header.endianness, header.class, &table);
        let entries = entries.iter().take(MOST_SYMBOLS).take_while(|entry| entry.d_tag != DT_NULL);
        let (mut libraries, mut paths) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry.d_tag {
                DT_NEEDED if libraries.len() < MOST_LIBRARIES => {
                    libraries.extend(string_at(&strings, entry.d_val(), LONGEST_LIBRARY));
                }
                DT_RUNPATH | DT_RPATH => paths.extend(string_at(&strings, entry.d_val(), LONGEST_PATH)),
                _ => {}
            }
        }
        // A name with a slash is a path, which the linker takes as it is; no distribution has such libraries.
        libraries.retain(|name| !name.is_empty() && !name.contains('/'));
        let split = |path: &str| path.split(':').map(Into::into).take(MOST_PATHS).collect::<Names>();
        Some((libraries.into_iter().map(Into::into).collect(), paths.into_iter().flat_map(split).collect()))
    }

    /// Returns the undefined functions: those that are wrappers of calls, and the others.
    fn read_imports(
        &self,
        file: &mut impl FileParts,
        header: &FileHeader<AnyEndian>,
    ) -> Option<(BTreeSet<Box<str>>, Names)> {
        let (table, strings) = self.read_table(file, SHT_DYNSYM)?;
        let symbols = SymbolTable::new(header.endianness, header.class, &table);
        let (mut wrappers, mut others) = (BTreeSet::new(), Vec::new());
        for (index, symbol) in symbols.iter().enumerate() {
            if index >= MOST_SYMBOLS || file.is_exhausted() {
                return None;
            }
            let is_function = matches!(symbol.st_symtype(), STT_FUNC | STT_NOTYPE | STT_GNU_IFUNC);
            if symbol.st_shndx != SHN_UNDEF || !is_function {
                continue;
            }
            match string_at(&strings, symbol.st_name.into(), LONGEST_SYMBOL) {
                Some(name) if is_wrapper(name) => _ = wrappers.insert(name.into()),
                Some(name) if !name.is_empty() => others.push(name.into()),
                _ => {}
            }
        }
        Some((wrappers, others))
    }

    /// Returns the functions of Go's packages `syscall` and `x/sys/unix` that are wrappers of calls. Go's linker keeps
    /// only functions that the program can reach, and `.gopclntab` names these in every program, also a stripped one.
    fn read_go_functions(&self, file: &mut impl FileParts) -> Option<BTreeSet<Box<str>>> {
        const PACKAGES: [&str; 2] = ["\0syscall.", "\0golang.org/x/sys/unix."];
        let mut found = BTreeSet::new();
        let table = self.find(&[".gopclntab", ".data.rel.ro.gopclntab"]);
        let Some(table) = table.filter(|table| table.sh_type == SHT_PROGBITS) else { return Some(found) };
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
