//! The BPF instructions that the programs need (`Documentation/bpf/standardization/instruction-set.rst`).

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    // Two fields of four bits, in the machine's bit order.
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    Instruction { code, registers, offset, immediate }
}

/// Reads memory: `to = *(from + offset)`.
pub(crate) fn load(bits: u8, to: u8, from: u8, offset: i16) -> Instruction {
    instruction(if bits == 64 { 0x79 } else { 0x61 }, to, from, offset, 0)
}

/// Writes memory: `*(to + offset) = from`.
pub(crate) fn store(bits: u8, to: u8, offset: i16, from: u8) -> Instruction {
    instruction(if bits == 64 { 0x7b } else { 0x63 }, to, from, offset, 0)
}

pub(crate) fn set(to: u8, value: i32) -> Instruction {
    instruction(0xb7, to, 0, 0, value)
}

pub(crate) fn copy(to: u8, from: u8) -> Instruction {
    instruction(0xbf, to, from, 0, 0)
}

pub(crate) fn add(to: u8, value: i32) -> Instruction {
    instruction(0x07, to, 0, 0, value)
}

pub(crate) fn shift_right(to: u8, bits: i32) -> Instruction {
    instruction(0x77, to, 0, 0, bits)
}

pub(crate) fn and(to: u8, value: i32) -> Instruction {
    instruction(0x57, to, 0, 0, value)
}

pub(crate) fn call(helper: i32) -> Instruction {
    instruction(0x85, 0, 0, 0, helper)
}

pub(crate) fn exit() -> Instruction {
    instruction(0x95, 0, 0, 0, 0)
}

/// Adds to memory atomically (`BPF_ATOMIC`, `BPF_ADD`): `*(to + offset) += from`.
pub(crate) fn add_to_memory(to: u8, offset: i16, from: u8) -> Instruction {
    instruction(0xdb, to, from, offset, 0)
}

pub(crate) fn or(to: u8, value: i32) -> Instruction {
    instruction(0x47, to, 0, 0, value)
}

/// A jump, without a distance yet.
pub(crate) fn jump() -> Instruction {
    instruction(0x05, 0, 0, 0, 0)
}

/// A jump that is taken if the condition holds, without a distance yet.
pub(crate) fn jump_if(condition: Condition, register: u8, number: i32) -> Instruction {
    let code = match condition {
        Condition::Is => 0x15,
        Condition::IsNot => 0x55,
        Condition::Above => 0x65,
        Condition::Below => 0xc5,
    };
    instruction(code, register, 0, 0, number)
}

/// A condition on a register and a number, both taken as signed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Condition {
    /// They are equal.
    Is,
    /// They differ.
    IsNot,
    /// The register is greater.
    Above,
    /// The register is less.
    Below,
}

impl Instruction {
    /// Sets how many instructions a jump skips.
    pub(crate) fn set_distance(&mut self, distance: i16) {
        self.offset = distance;
    }
}

/// Loads the address of a map, by its descriptor (`BPF_PSEUDO_MAP_FD`). This takes two instructions.
pub(crate) fn map_address(to: u8, map: i32) -> [Instruction; 2] {
    [instruction(0x18, to, 1, 0, map), instruction(0, 0, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_has_the_layout_of_bpf_insn() {
        assert_eq!(size_of::<Instruction>(), 8);
        let Instruction { code, registers, offset, immediate } = load(64, 6, 1, 0);
        let expected = if cfg!(target_endian = "little") { 0x16 } else { 0x61 };
        assert_eq!((code, registers, offset, immediate), (0x79, expected, 0, 0));
    }
}
