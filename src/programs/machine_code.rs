//! Finds the references of machine code: the functions that it calls or takes the address of, and its own system calls.
//!
//! The code is not disassembled. Each byte that can begin an instruction of interest is tried, and the reader believes
//! a target only if a function starts exactly there (`src/programs/code_file.rs`), which bytes in the middle of an
//! instruction hardly ever meet. Only x86-64 is known.

use std::collections::BTreeSet;

/// The bytes before a `syscall` instruction, or a call of `syscall(2)`, in which its number is searched.
const NUMBER_DISTANCE: usize = 40;

/// Numbers of calls are below this one, on every ABI without an offset.
const MOST_NUMBERS: u32 = 1024;

/// A reference of code to another place, or to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reference {
    /// A call of, a jump to, or the address of a place, and the number that is then the first argument, if it is constant.
    Place(u64, Option<u32>),
    /// The contents of a place: called, jumped to, or loaded. The number is as before.
    Contents(u64, Option<u32>),
    /// A system call with a constant number.
    Syscall(u32),
}

/// Reports the references of x86-64 code that is loaded at an address.
pub(super) fn scan(code: &[u8], address: u64, mut report: impl FnMut(Reference)) {
    let mut number = LastNumber::default();
    let mut argument = LastNumber::default();
    let place = |end: usize| {
        let bytes = code.get(end.checked_sub(4)?..end)?;
        let distance = i32::from_le_bytes(bytes.try_into().ok()?);
        Some(address.wrapping_add(end as u64).wrapping_add_signed(distance.into()))
    };
    let byte = |at: usize| code.get(at).copied().unwrap_or_default();
    let constant = |at: usize| Some(u32::from_le_bytes(code.get(at..at.checked_add(4)?)?.try_into().ok()?));
    for at in 0..code.len() {
        let (first, second) = (byte(at), byte(at + 1));
        // A prefix `REX.B` turns a register into another one.
        let is_extended = at > 0 && matches!(byte(at - 1), 0x41 | 0x43 | 0x45 | 0x47 | 0x49 | 0x4b | 0x4d | 0x4f);
        match (first, second) {
            // call, jmp, and conditional jumps
            (0xe8 | 0xe9, _) => place(at + 5).map_or((), |to| report(Reference::Place(to, argument.before(at)))),
            (0x0f, 0x80..=0x8f) => place(at + 6).map_or((), |to| report(Reference::Place(to, None))),
            // call and jmp by way of memory
            (0xff, 0x15 | 0x25) => place(at + 6).map_or((), |to| report(Reference::Contents(to, argument.before(at)))),
            // lea and mov of a place that is relative to the instruction
            (0x8d, _) if second & 0xc7 == 0x05 => place(at + 6).map_or((), |to| report(Reference::Place(to, None))),
            (0x8b, _) if second & 0xc7 == 0x05 => place(at + 6).map_or((), |to| report(Reference::Contents(to, None))),
            (0x0f, 0x05) => number.before(at).map_or((), |number| report(Reference::Syscall(number))),
            // mov eax, xor eax; mov rax
            (0xb8, _) if !is_extended => number.set(at, constant(at + 1)),
            (0x31 | 0x33, 0xc0) if !is_extended => number.set(at, Some(0)),
            (0xc7, 0xc0) if !is_extended => number.set(at, constant(at + 2)),
            // mov edi, xor edi; mov rdi
            (0xbf, _) if !is_extended => argument.set(at, constant(at + 1)),
            (0x31 | 0x33, 0xff) if !is_extended => argument.set(at, Some(0)),
            (0xc7, 0xc7) if !is_extended => argument.set(at, constant(at + 2)),
            _ => {}
        }
    }
}

/// Returns the numbers of the calls that x86-64 code makes itself.
pub(super) fn find_numbers(code: &[u8]) -> BTreeSet<u32> {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let mut found = BTreeSet::new();
    for at in memchr::memmem::find_iter(code, &SYSCALL) {
        let start = at.saturating_sub(NUMBER_DISTANCE);
        scan(code.get(start..at + SYSCALL.len()).unwrap_or_default(), 0, |reference| {
            if let Reference::Syscall(number) = reference {
                found.insert(number);
            }
        });
    }
    found
}

/// The last constant that a register got, and where.
#[derive(Debug, Default)]
struct LastNumber(Option<(usize, u32)>);

impl LastNumber {
    fn set(&mut self, at: usize, number: Option<u32>) {
        if let Some(number) = number.filter(|number| *number < MOST_NUMBERS) {
            self.0 = Some((at, number));
        }
    }

    fn before(&self, at: usize) -> Option<u32> {
        self.0.filter(|(set, _)| at - set <= NUMBER_DISTANCE).map(|(_, number)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(code: &[u8]) -> Vec<Reference> {
        let mut found = Vec::new();
        scan(code, 0x1000, |reference| found.push(reference));
        found
    }

    #[test]
    fn calls_and_addresses_are_relative_to_the_next_instruction() {
        use Reference::{Contents, Place};
        for (code, expected) in [
            (&[0xe8, 0x10, 0, 0, 0][..], Place(0x1015, None)),
            (&[0xe9, 0xfb, 0xff, 0xff, 0xff], Place(0x1000, None)),
            (&[0x0f, 0x84, 1, 0, 0, 0], Place(0x1007, None)),
            (&[0x48, 0x8d, 0x3d, 2, 0, 0, 0], Place(0x1009, None)),
            (&[0xff, 0x25, 4, 0, 0, 0], Contents(0x100a, None)),
            (&[0x48, 0x8b, 0x05, 3, 0, 0, 0], Contents(0x100a, None)),
            // mov edi, 157; call
            (&[0xbf, 0x9d, 0, 0, 0, 0xe8, 0, 0, 0, 0], Place(0x100a, Some(157))),
        ] {
            assert!(references(code).contains(&expected), "{code:02x?}: {:?}", references(code));
        }
        for cut in [&[0xe8][..], &[0xff, 0x15, 0], &[0x0f], &[]] {
            assert_eq!(references(cut), [], "{cut:02x?}");
        }
    }

    #[test]
    fn number_is_the_last_constant_before_the_call() {
        for (code, expected) in [
            // mov eax, 41; syscall
            (&[0xb8, 41, 0, 0, 0, 0x0f, 0x05][..], &[41][..]),
            // mov rax, 49; mov edi, 3; syscall
            (&[0x48, 0xc7, 0xc0, 49, 0, 0, 0, 0xbf, 3, 0, 0, 0, 0x0f, 0x05], &[49]),
            // xor eax, eax; syscall
            (&[0x31, 0xc0, 0x0f, 0x05], &[0]),
            // mov r8d, 41 is another register; a large constant is no number.
            (&[0x41, 0xb8, 41, 0, 0, 0, 0x0f, 0x05], &[]),
            (&[0xb8, 0, 0, 1, 0, 0x0f, 0x05], &[]),
            (&[0x0f, 0x05], &[]),
        ] {
            assert_eq!(find_numbers(code).into_iter().collect::<Vec<_>>(), expected, "{code:02x?}");
        }
        let far = [&[0xb8, 41, 0, 0, 0][..], &[0x90; NUMBER_DISTANCE], &[0x0f, 0x05]].concat();
        assert!(find_numbers(&far).is_empty());
    }
}
