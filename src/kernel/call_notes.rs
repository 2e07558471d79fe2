//! A note of where in its code a process made a call: the file of the code, with the id of its build and the offset, and the
//! code that called this function.
//!
//! The caller is noted if the word at the top of the process's stack leads there: it must be the address behind a call of just
//! the function that made the call, and the code of this function up to the call must leave the stack alone. That holds for
//! most of libc's functions.
//!
//! Stack and code are the process's own, so a process can make up where it was called from. It cannot make up the place of
//! the call. Its file's build id is read from its memory: `host::call_site_names` compares it with the file's.

use crate::incidents::{CallSite, CodePlace};
use crate::programs::calls_with_unchanged_stack;
use std::io;

/// The words of a note (`struct call_note`): its time, the instruction pointer, the return address, the thread, the code of the
/// function that made the call with its length, and two places.
const WORDS: usize = 5 + WRAPPER_WORDS + 2 * PLACE_WORDS;
const WRAPPER_WORDS: usize = 8;
/// The words of a place (`struct code_place`), and of its path.
const PLACE_WORDS: usize = 8 + PATH_WORDS;
const PATH_WORDS: usize = 48;

/// A note as the BPF programs write it (`src/kernel/bpf/call_notes.h`).
pub(crate) type NoteWords = [u64; WORDS];

/// Returns the shift of a page's size.
pub(crate) fn page_shift() -> io::Result<u64> {
    // SAFETY: this call only returns a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let size = u64::try_from(size).ok().filter(|size| size.is_power_of_two());
    size.map(|size| size.ilog2().into()).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// A call site as far as the kernel noted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedCallSite {
    /// The call site.
    pub site: CallSite,
    /// Whether nothing is missing. The kernel looks up the caller a moment after the place of the call.
    pub is_complete: bool,
}

/// A note of the kernel's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CallNote {
    /// In nanoseconds since boot.
    pub(crate) time: u64,
    /// The address of the instruction after the call.
    pub(crate) ip: u64,
    pub(crate) noted: NotedCallSite,
}

impl CallNote {
    /// Reads a note; `None` if the place of the call is not in it.
    pub(crate) fn read(words: &NoteWords) -> Option<Self> {
        let [time, ip, return_address, _thread, wrapper_length, rest @ ..] = words;
        let (wrapper, places) = rest.split_at_checked(WRAPPER_WORDS)?;
        let (code, caller) = places.split_at_checked(PLACE_WORDS)?;
        let wrapper = bytes_of_words(wrapper);
        let wrapper = wrapper.get(..usize::try_from(*wrapper_length).ok()?)?;
        let is_caller = *return_address != 0 && calls_with_unchanged_stack(wrapper);
        let caller = is_caller.then(|| read_place(caller)).flatten();
        let is_complete = !is_caller || caller.is_some();
        let site = CallSite { code: read_place(code)?, caller, ..CallSite::default() };
        Some(Self { time: *time, ip: *ip, noted: NotedCallSite { site, is_complete } })
    }
}

/// Reads a place; `None` if the kernel has not filled it in.
fn read_place(words: &[u64]) -> Option<CodePlace> {
    let [state, inode, device, offset, first, second, third, lengths, path @ ..] = words else { return None };
    let [ready, build_id_length] = halves(*state);
    let [path_length, is_whole] = halves(*lengths);
    if ready != 1 {
        return None;
    }
    let mut build_id = bytes_of_words(&[*first, *second, *third]);
    build_id.truncate(usize::try_from(build_id_length).ok()?);
    let names = bytes_of_words(path);
    let names = names.get(..usize::try_from(path_length).ok()?)?;
    Some(CodePlace {
        offset: *offset,
        build_id,
        file: (user_device(*device), *inode),
        path: join_path(names, is_whole != 0),
        function: Vec::new(),
    })
}

fn bytes_of_words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Returns the two numbers of 32 bits that follow each other in memory.
pub(super) fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, rest @ ..] = word.to_ne_bytes();
    [[a, b, c, d], rest].map(u32::from_ne_bytes)
}

/// Returns a device as `stat(2)` has it, from the kernel's own number (`MKDEV`, `include/linux/kdev_t.h`).
fn user_device(device: u64) -> u64 {
    const MINOR_BITS: u32 = 20;
    let [major, minor] = [device >> MINOR_BITS, device & ((1 << MINOR_BITS) - 1)];
    libc::makedev(u32::try_from(major).unwrap_or_default(), u32::try_from(minor).unwrap_or_default())
}

/// Joins names that come from the file's own to the topmost, each with a zero byte.
pub(super) fn join_path(names: &[u8], is_whole: bool) -> Vec<u8> {
    let mut path = Vec::new();
    let names = names.strip_suffix(&[0]).unwrap_or(names);
    for name in names.rsplit(|byte| *byte == 0) {
        if is_whole || !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a place as the kernel writes them.
    fn place(ready: u32, path_length: u32) -> Vec<u64> {
        let pair = |low: u32, high: u32| {
            u64::from_ne_bytes([low.to_ne_bytes(), high.to_ne_bytes()].concat().try_into().unwrap())
        };
        let mut words = vec![pair(ready, 20), 7, 0x80_0001, 0x123, 0x11, 0x22, 0x33, pair(path_length, 1)];
        let mut names = b"libc.so.6\0lib\0usr\0".to_vec();
        names.resize(PATH_WORDS * 8, 0);
        words.extend(names.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())));
        words
    }

    /// The words of a function that makes a call at once: `mov eax, 1; syscall`, or another code of the same length.
    fn wrapper(code: [u8; 8]) -> Vec<u64> {
        [vec![7, u64::from_ne_bytes(code)], vec![0; WRAPPER_WORDS - 1]].concat()
    }

    const AT_ONCE: [u8; 8] = [0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0];

    fn note(return_address: u64, code: Vec<u64>, caller: Vec<u64>) -> Option<CallNote> {
        note_of(AT_ONCE, return_address, code, caller)
    }

    fn note_of(code: [u8; 8], return_address: u64, place: Vec<u64>, caller: Vec<u64>) -> Option<CallNote> {
        CallNote::read(&[vec![5, 6, return_address, 0], wrapper(code), place, caller].concat().try_into().unwrap())
    }

    #[test]
    fn note_has_the_places_that_the_kernel_filled_in() {
        let read = note(9, place(1, 18), place(1, 18)).unwrap();
        assert_eq!((read.time, read.ip), (5, 6));
        assert_eq!(read.noted.site.code.path, b"/usr/lib/libc.so.6");
        assert_eq!((read.noted.site.code.offset, read.noted.site.code.build_id.len()), (0x123, 20));
        assert_eq!(read.noted.site.code.file, (libc::makedev(8, 1), 7));
        assert_eq!(read.noted.site.caller.as_ref(), Some(&read.noted.site.code));
        let without_caller = note(9, place(1, 18), place(0, 18)).unwrap().noted;
        assert!(read.noted.is_complete && !without_caller.is_complete && without_caller.site.caller.is_none());
        assert_eq!(note(0, place(1, 18), place(1, 18)).unwrap().noted.site.caller, None, "no return address");
        let pushing = [0x50, 0x50, 0x90, 0x90, 0x90, 0x0f, 0x05, 0];
        assert_eq!(
            note_of(pushing, 9, place(1, 18), place(1, 18)).unwrap().noted.site.caller,
            None,
            "its stack is changed"
        );
        assert_eq!(note(9, place(0, 18), place(1, 18)), None);
        assert_eq!(note(9, place(1, 9_999), place(0, 0)), None, "longer than its place");
    }

    #[test]
    fn cut_path_has_no_slash_before_it() {
        assert_eq!(join_path(b"a\0b\0", true), b"/b/a");
        assert_eq!(join_path(b"a\0b\0", false), b"b/a");
        assert_eq!(join_path(b"a\0", false), b"a");
        assert_eq!((join_path(b"", false), join_path(b"", true)), (b"".to_vec(), b"/".to_vec()));
    }
}
