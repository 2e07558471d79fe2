//! Shows whether the code of a function leaves the stack as it was at the function's start. Only x86-64 is known.
//!
//! The code is read from its start, one instruction after the other. It may have only instructions that are known here, and
//! none that changes the stack pointer, also behind a jump. So an unknown instruction counts as one that does.

/// The number of the stack pointer among the registers.
const RSP: u8 = 4;

/// Whether code makes a system call in its last instruction, and no instruction before it changes the stack pointer.
#[must_use]
pub fn calls_with_unchanged_stack(code: &[u8]) -> bool {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let mut rest = code;
    while rest != SYSCALL {
        let Some(after) = skip_instruction(rest) else { return false };
        rest = after;
    }
    true
}

/// Returns the code after an instruction; `None` for an instruction that may change the stack pointer.
fn skip_instruction(code: &[u8]) -> Option<&[u8]> {
    const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
    if let Some(after) = code.strip_prefix(&ENDBR64) {
        return Some(after);
    }
    // The segment of thread-local data.
    let code = code.strip_prefix(&[0x64]).unwrap_or(code);
    let (rex, code) = match code {
        [rex @ 0x40..=0x4f, rest @ ..] => (*rex, rest),
        _ => (0, code),
    };
    let is_wide = rex & 8 != 0;
    match code {
        // nop; conditional jumps, cmp and test with a constant.
        [0x90, rest @ ..] | [0x66, 0x90, rest @ ..] | [0x70..=0x7f | 0x3c | 0xa8, _, rest @ ..] => Some(rest),
        // Conditional jumps; arithmetic of %eax with a constant.
        [0x0f, 0x80..=0x8f, rest @ ..] | [0x05 | 0x0d | 0x25 | 0x2d | 0x35 | 0x3d | 0xa9, rest @ ..] => rest.get(4..),
        // add, or, and, sub, xor, mov of a register to a register or memory.
        [0x01 | 0x09 | 0x21 | 0x29 | 0x31 | 0x89, rest @ ..] => Operands::read(rest, rex)?.keep_place(),
        // The same the other way, movslq, lea; movzx, movsx, conditional moves.
        [0x03 | 0x0b | 0x23 | 0x2b | 0x33 | 0x63 | 0x8b | 0x8d, rest @ ..]
        | [0x0f, 0x40..=0x4f | 0xb6 | 0xb7 | 0xbe | 0xbf, rest @ ..] => Operands::read(rest, rex)?.keep_register(),
        // cmp, test and long nops change no register.
        [0x38..=0x3b | 0x84 | 0x85, rest @ ..] | [0x0f, 0x1f, rest @ ..] | [0x66, 0x0f, 0x1f, rest @ ..] => {
            Some(Operands::read(rest, rex)?.rest)
        }
        // Arithmetic with a constant: cmp changes nothing.
        [0x80 | 0x83, rest @ ..] => Operands::read(rest, rex)?.keep_place_unless(7)?.get(1..),
        [0x81, rest @ ..] => Operands::read(rest, rex)?.keep_place_unless(7)?.get(4..),
        [0xc1, rest @ ..] => Operands::read(rest, rex)?.keep_place()?.get(1..),
        [0xc7, rest @ ..] => Operands::read(rest, rex)?.keep_place()?.get(4..),
        // test with a constant
        [0xf6, rest @ ..] => Operands::read(rest, rex).filter(|one| matches!(one.register, 0 | 8))?.rest.get(1..),
        [0xf7, rest @ ..] => Operands::read(rest, rex).filter(|one| matches!(one.register, 0 | 8))?.rest.get(4..),
        // mov of a constant to a register
        [register @ 0xb8..=0xbf, rest @ ..] if (register & 7) | (rex & 1) << 3 != RSP => {
            rest.get(if is_wide { 8 } else { 4 }..)
        }
        _ => None,
    }
}

/// The operands of an instruction: a register, and another one or a place in memory.
struct Operands<'a> {
    register: u8,
    /// The other register; `None` for a place in memory.
    other: Option<u8>,
    rest: &'a [u8],
}

impl<'a> Operands<'a> {
    fn read(code: &'a [u8], rex: u8) -> Option<Self> {
        let (modes, rest) = code.split_first()?;
        let (mode, register, place) = (modes >> 6, modes >> 3 & 7 | (rex & 4) << 1, modes & 7);
        if mode == 3 {
            return Some(Self { register, other: Some(place | (rex & 1) << 3), rest });
        }
        let (base, rest) = match (place, rest) {
            (4, [scaled, rest @ ..]) => (scaled & 7, rest),
            (4, []) => return None,
            _ => (place, rest),
        };
        let distance = match (mode, base) {
            (0, 5) | (2, _) => 4,
            (1, _) => 1,
            _ => 0,
        };
        Some(Self { register, other: None, rest: rest.get(distance..)? })
    }

    /// Returns the code after an instruction that changes the register, unless that is the stack pointer.
    fn keep_register(self) -> Option<&'a [u8]> {
        (self.register != RSP).then_some(self.rest)
    }

    /// Returns the code after an instruction that changes the other register or the memory.
    fn keep_place(self) -> Option<&'a [u8]> {
        (self.other != Some(RSP)).then_some(self.rest)
    }

    /// Returns the same for an instruction that changes nothing if it is of a kind.
    fn keep_place_unless(self, kind: u8) -> Option<&'a [u8]> {
        if self.register & 7 == kind { Some(self.rest) } else { self.keep_place() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_of_libc_leave_the_stack_alone() {
        for code in [
            // fchown of glibc 2.36
            &[0xb8, 0x5d, 0, 0, 0, 0x0f, 0x05][..],
            // the same with endbr64
            &[0xf3, 0x0f, 0x1e, 0xfa, 0xb8, 0x5d, 0, 0, 0, 0x0f, 0x05],
            // connect: cmpb $0, place(%rip); je; mov $42, %eax
            &[0x80, 0x3d, 0x61, 0x2d, 0x0e, 0, 0, 0x74, 0x17, 0xb8, 0x2a, 0, 0, 0, 0x0f, 0x05],
            // sendto: mov %ecx, %r10d first
            &[
                0x41, 0x89, 0xca, 0x64, 0x8b, 0x04, 0x25, 0x18, 0, 0, 0, 0x85, 0xc0, 0x75, 0x1a, 0x45, 0x31, 0xc9,
                0x0f, 5,
            ],
            // syscall
            &[
                0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0x48, 0x89, 0xd6, 0x48, 0x89, 0xca, 0x4d, 0x89, 0xc2, 0x4d, 0x89,
                0xc8, 0x4c, 0x8b, 0x4c, 0x24, 8, 0x0f, 0x05,
            ],
            // mov to %r12, which has the stack pointer's number but for a prefix
            &[0x49, 0x89, 0xc4, 0x41, 0xbc, 1, 0, 0, 0, 0x0f, 0x05],
        ] {
            assert!(calls_with_unchanged_stack(code), "{code:02x?}");
        }
    }

    #[test]
    fn code_that_may_change_the_stack_is_refused() {
        for code in [
            // push %rbx; sub $24, %rsp; sub $4096, %rsp; lea; mov to %rsp; and; pop; call; ret
            &[0x53, 0x0f, 0x05][..],
            &[0x48, 0x83, 0xec, 0x18, 0x0f, 0x05],
            &[0x48, 0x81, 0xec, 0, 0x10, 0, 0, 0x0f, 0x05],
            &[0x48, 0x8d, 0x64, 0x24, 0xe8, 0x0f, 0x05],
            &[0x48, 0x89, 0xc4, 0x0f, 0x05],
            &[0x48, 0x8b, 0xe0, 0x0f, 0x05],
            &[0x48, 0x83, 0xe4, 0xf0, 0x0f, 0x05],
            &[0x5b, 0x0f, 0x05],
            &[0xe8, 0, 0, 0, 0, 0x0f, 0x05],
            &[0xc3, 0x0f, 0x05],
            &[0x48, 0x0f, 0x44, 0xe0, 0x0f, 0x05],
            &[0xbc, 0, 0, 0, 0, 0x0f, 0x05],
            // no call at the end, a cut instruction, nothing
            &[0xb8, 0x0f, 0x05],
            &[0x90],
            &[0x0f],
            &[],
        ] {
            assert!(!calls_with_unchanged_stack(code), "{code:02x?}");
        }
    }

    #[test]
    fn comparison_with_the_stack_pointer_is_no_change() {
        assert!(calls_with_unchanged_stack(&[0x48, 0x83, 0xfc, 0, 0x48, 0x39, 0xe0, 0x0f, 0x05]));
    }
}
