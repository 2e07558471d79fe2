//! Reads built and broken ELF files.

use super::elf_file::ElfFile;
use super::elf_tables::string_at;
use super::library_calls::{DEEPEST, LibraryWalk};
use super::{FileParts, Libc, Program, ProgramImage};
use crate::syscalls::Abi;
use proptest::prelude::*;
use std::cell::Cell;

/// Builds a small 64-bit executable for x86-64, with section headers, that imports functions and needs libraries.
fn build(imports: &[&str], libraries: &[&str], interpreter: &str) -> Vec<u8> {
    let mut strings = vec![0];
    let interpreter = if interpreter.is_empty() { Vec::new() } else { [interpreter.as_bytes(), b"\0"].concat() };
    let interpreter_kind = if interpreter.is_empty() { 0u32 } else { 3 };
    let mut add = |text: &str| {
        let at = strings.len();
        strings.extend(text.bytes().chain([0]));
        at as u64
    };
    let names: Vec<u64> = imports.iter().map(|name| add(name)).collect();
    let needed: Vec<u64> = libraries.iter().map(|name| add(name)).collect();
    let mut symbols = vec![0; 24];
    for name in names {
        symbols.extend(u32::try_from(name).unwrap().to_le_bytes());
        symbols.extend([0x12, 0, 0, 0]);
        symbols.extend([0; 16]);
    }
    let mut dynamic = Vec::new();
    for name in needed {
        dynamic.extend(1u64.to_le_bytes());
        dynamic.extend(name.to_le_bytes());
    }
    let note = [&4u32.to_le_bytes()[..], &3u32.to_le_bytes(), &3u32.to_le_bytes(), b"GNU\0", &[1, 2, 3, 0]].concat();
    let mut file = vec![0; 64 + 2 * 56];
    let mut place = |part: &[u8]| {
        let at = file.len() as u64;
        file.extend(part);
        (at, part.len() as u64)
    };
    let (strings, symbols, dynamic) = (place(&strings), place(&symbols), place(&dynamic));
    let (note, interpreter) = (place(&note), place(&interpreter));
    let sections = file.len() as u64;
    for (kind, (offset, size), link) in [(0u32, (0, 0), 0u32), (3, strings, 0), (11, symbols, 1), (6, dynamic, 1)] {
        let mut header = [0; 64];
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[24..32].copy_from_slice(&offset.to_le_bytes());
        header[32..40].copy_from_slice(&size.to_le_bytes());
        header[40..44].copy_from_slice(&link.to_le_bytes());
        file.extend(header);
    }
    for (index, (kind, (offset, size))) in [(4u32, note), (interpreter_kind, interpreter)].into_iter().enumerate() {
        let at = 64 + index * 56;
        file[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        file[at + 8..at + 16].copy_from_slice(&offset.to_le_bytes());
        file[at + 32..at + 40].copy_from_slice(&size.to_le_bytes());
        file[at + 48..at + 56].copy_from_slice(&4u64.to_le_bytes());
    }
    file[..20].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0x3e, 0]);
    file[20] = 1;
    file[32..40].copy_from_slice(&64u64.to_le_bytes());
    file[40..48].copy_from_slice(&sections.to_le_bytes());
    for (at, value) in [(52, 64u16), (54, 56), (56, 2), (58, 64), (60, 4), (62, 1)] {
        file[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    file
}

fn read(file: &[u8]) -> Option<ElfFile> {
    ElfFile::read(&mut &*file).map(|(file, _)| file)
}

#[test]
fn imports_libraries_and_build_id_are_read() {
    let file =
        build(&["accept4", "own_function", "__send_chk", "open64"], &["libc.so.6"], "/lib64/ld-linux-x86-64.so.2");
    let file = read(&file).unwrap();
    let imports: Vec<&str> = file.imports.iter().map(AsRef::as_ref).collect();
    assert_eq!(imports, ["__send_chk", "accept4", "open64"], "only functions that make calls");
    assert_eq!((file.abi, file.libc, file.is_static), (Some(Abi::X86_64), Libc::Glibc, false));
    assert_eq!(file.build_id.as_deref(), Some(&[1, 2, 3][..]));
    let program = Program::new(b"/usr/bin/x".as_slice(), ProgramImage::Native(file));
    let calls: Vec<&str> = program.imported_calls().map(|(_, imported)| imported.call).collect();
    assert_eq!((program.name(), &*calls), (&b"x"[..], &["sendto", "accept4", "openat"][..]));
}

#[test]
fn libc_is_that_of_the_interpreter() {
    let musl = read(&build(&["open"], &["libc.musl-x86_64.so.1"], "/lib/ld-musl-x86_64.so.1")).unwrap();
    assert_eq!(musl.libc, Libc::Musl);
    assert!(read(&build(&[], &["libc.so"], "/lib/ld-musl-x86_64.so.1")).unwrap().libc == Libc::Musl);
}

/// A file whose reader reaches the time limit after some questions about it.
struct Late<'a> {
    bytes: &'a [u8],
    questions_left: Cell<usize>,
}

impl FileParts for Late<'_> {
    fn read_part(&mut self, offset: u64, length: usize) -> Option<Vec<u8>> {
        (&mut &*self.bytes).read_part(offset, length)
    }

    fn is_exhausted(&self) -> bool {
        let left = self.questions_left.get();
        self.questions_left.set(left.saturating_sub(1));
        left == 0
    }
}

#[test]
fn name_is_read_up_to_its_longest_length_only() {
    let long = format!("{}read", "_".repeat(300));
    let file = read(&build(&[&long, "accept4"], &[&format!("libc.musl-{long}")], "")).unwrap();
    assert_eq!((file.imports.len(), file.libc, file.is_static), (1, Libc::Glibc, true));
    assert!(!read(&build(&[], &["libc.so.6"], "")).unwrap().is_static);
}

#[test]
fn string_longer_than_the_limit_is_not_searched_for_its_end() {
    let strings = b"a\0bcd\0";
    assert_eq!(string_at(strings, 2, 3), Some("bcd"));
    assert_eq!(string_at(strings, 2, 2), None, "its end is beyond the limit");
    assert_eq!((string_at(strings, 9, 3), string_at(b"no end", 0, 9)), (None, None));
}

#[test]
fn symbols_with_one_endless_name_are_no_imports() {
    let endless = "a".repeat(1 << 20);
    let mut file = build(&[&endless], &[], "/lib/ld.so");
    let sections = file.len() - 4 * 64;
    let symbols = file.len() as u64;
    for _ in 0..100_000 {
        file.extend([1, 0, 0, 0, 0x12, 0, 0, 0]);
        file.extend([0; 16]);
    }
    file[sections + 2 * 64 + 24..][..8].copy_from_slice(&symbols.to_le_bytes());
    file[sections + 2 * 64 + 32..][..8].copy_from_slice(&2_400_000u64.to_le_bytes());
    assert!(read(&file).unwrap().imports.is_empty());
}

#[test]
fn file_that_exceeds_the_time_limit_shows_nothing() {
    let file = build(&["accept4", "bind"], &["libc.so.6"], "/lib/ld.so");
    let read_late = |questions| {
        ElfFile::read(&mut Late { bytes: &file, questions_left: Cell::new(questions) })
            .map(|(file, _)| file.imports.len())
    };
    assert_eq!([0, 1, 3, 4].map(read_late), [None, None, None, Some(2)]);
}

#[test]
fn library_that_is_not_read_to_its_end_is_named() {
    let file = build(&["accept4"], &["libc.so.6"], "");
    let unread = |bytes: &[u8], questions| {
        let mut walk = LibraryWalk::new();
        walk.add("libx.so.1".into(), Late { bytes, questions_left: Cell::new(questions) });
        walk.walk(["serve"], DEEPEST).unread
    };
    assert!(unread(&file, usize::MAX).is_empty());
    assert_eq!(unread(&file, 0), ["libx.so.1".into()], "the time is up");
    assert_eq!(unread(b"no ELF file", usize::MAX), ["libx.so.1".into()]);
}

#[test]
fn go_table_is_read_up_to_its_limits() {
    let with_go = |table: &[u8]| {
        let mut file = build(&[], &[], "");
        let sections = file.len() - 4 * 64;
        let (names, at) = (file.len() as u64, file.len() as u64 + 12);
        file.extend(b"\0.gopclntab\0");
        file.truncate(usize::try_from(names).unwrap() + 12);
        file.extend(table);
        let mut set = |index: usize, name: u32, kind: u32, offset: u64, size: u64| {
            let header = &mut file[sections + index * 64..][..64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[24..32].copy_from_slice(&offset.to_le_bytes());
            header[32..40].copy_from_slice(&size.to_le_bytes());
        };
        set(1, 0, 3, names, 12);
        set(2, 1, 1, at, table.len() as u64);
        set(3, 0, 0, 0, 0);
        file
    };
    let read_imports = |table: &[u8]| read(&with_go(table)).map(|file| file.imports.into_iter().collect::<Vec<_>>());
    let named = b"\0syscall.Accept4\0xsyscall.bind\0golang.org/x/sys/unix.Socket\0";
    assert_eq!(read_imports(named).unwrap(), [Box::from("accept4"), "socket".into()]);
    assert_eq!(read_imports(&b"\0syscall.".repeat(20_001)), None);
}

#[test]
fn broken_file_is_refused_or_shows_nothing() {
    for file in [&b""[..], b"\x7fELF", b"#!/bin/sh", &[0; 4096]] {
        assert_eq!(read(file), None);
    }
    let whole = build(&["read"], &[], "/lib/ld.so");
    assert_eq!(read(&whole[..64 + 112]), None, "a linked program without section headers has imports out of sight");
    let alone = build(&["read"], &[], "");
    let headers_only = read(&alone[..64 + 112]).unwrap();
    assert!(headers_only.imports.is_empty() && headers_only.build_id.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_file_never_makes_the_reader_panic(
        damage in prop::collection::vec((0usize..700, any::<u8>()), 0..12),
        cut in 0usize..900,
    ) {
        let mut file = build(&["accept4", "bind", "socket"], &["libc.so.6", "libm.so.6"], "/lib64/ld-linux-x86-64.so.2");
        for (at, byte) in damage {
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        file.truncate(cut.max(1));
        if let Some(read) = read(&file) {
            prop_assert!(read.imports.len() <= 3);
        }
        let mut walk = LibraryWalk::new();
        walk.add("libx.so.1".into(), file.as_slice());
        let reached = walk.walk(["serve"], DEEPEST);
        prop_assert!(reached.libraries.len() <= 1 && reached.unread.len() <= 1);
    }
}
