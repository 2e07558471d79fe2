//! Reads built and broken ELF files.

use super::elf_file::ElfFile;
use super::{Libc, Program, ProgramImage};
use crate::syscalls::Abi;
use proptest::prelude::*;

/// Builds a small 64-bit executable for x86-64, with section headers, that imports functions and needs libraries.
fn build(imports: &[&str], libraries: &[&str], interpreter: &str) -> Vec<u8> {
    let mut strings = vec![0];
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
    let interpreter = [interpreter.as_bytes(), b"\0"].concat();
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
    for (index, (kind, (offset, size))) in [(4u32, note), (3, interpreter)].into_iter().enumerate() {
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
    ElfFile::read(&mut &*file)
}

#[test]
fn imports_libraries_and_build_id_are_read() {
    let file =
        build(&["accept4", "own_function", "__send_chk", "open64"], &["libc.so.6"], "/lib64/ld-linux-x86-64.so.2");
    let file = read(&file).unwrap();
    let imports: Vec<&str> = file.imports.iter().map(AsRef::as_ref).collect();
    assert_eq!(imports, ["__send_chk", "accept4", "open64"], "only functions that make calls");
    assert_eq!((file.abi, file.libc, file.is_static), (Some(Abi::X86_64), Libc::Glibc, false));
    assert_eq!((file.build_id.as_deref(), &*file.libraries), (Some(&[1, 2, 3][..]), &["libc.so.6".into()][..]));
    let program = Program { path: b"/usr/bin/x".as_slice().into(), image: ProgramImage::Native(file) };
    let calls: Vec<&str> = program.imported_calls().map(|(_, imported)| imported.call).collect();
    assert_eq!((program.name(), &*calls), (&b"x"[..], &["sendto", "accept4", "openat"][..]));
}

#[test]
fn libc_is_that_of_the_interpreter() {
    let musl = read(&build(&["open"], &["libc.musl-x86_64.so.1"], "/lib/ld-musl-x86_64.so.1")).unwrap();
    assert_eq!(musl.libc, Libc::Musl);
    assert!(read(&build(&[], &["libc.so"], "/lib/ld-musl-x86_64.so.1")).unwrap().libc == Libc::Musl);
}

#[test]
fn broken_file_is_refused_or_shows_nothing() {
    for file in [&b""[..], b"\x7fELF", b"#!/bin/sh", &[0; 4096]] {
        assert_eq!(read(file), None);
    }
    let whole = build(&["read"], &[], "/lib/ld.so");
    let headers_only = read(&whole[..64 + 112]).unwrap();
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
    }
}
