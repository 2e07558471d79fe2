//! Puts a program together, with jumps to labels.

use super::instruction::{Condition, Instruction, jump, jump_if};

/// A label, which jumps can name before its position is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label(usize);

/// A program under construction.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    code: Vec<Instruction>,
    jumps: Vec<(usize, Label)>,
    labels: Vec<Option<usize>>,
}

impl Assembly {
    /// Makes a label. [`set_label`](Self::set_label) gives it a position.
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label before the next instruction.
    pub(crate) fn set_label(&mut self, label: Label) {
        if let Some(at) = self.labels.get_mut(label.0) {
            *at = Some(self.code.len());
        }
    }

    /// Appends instructions.
    pub(crate) fn append(&mut self, code: impl IntoIterator<Item = Instruction>) {
        self.code.extend(code);
    }

    /// Appends a jump that is taken if the condition holds for the register.
    pub(crate) fn jump_if(&mut self, condition: Condition, register: u8, number: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.code.push(jump_if(condition, register, number));
    }

    /// Appends a jump.
    pub(crate) fn jump(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.code.push(jump());
    }

    /// Returns the program; `None` where a label has no position, or a jump is too long.
    pub(crate) fn finish(mut self) -> Option<Vec<Instruction>> {
        for (at, to) in self.jumps {
            let target = (*self.labels.get(to.0)?)?;
            let distance = i16::try_from(target).ok()?.checked_sub(i16::try_from(at).ok()?)?.checked_sub(1)?;
            self.code.get_mut(at)?.set_distance(distance);
        }
        Some(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::instruction::{exit, set};

    #[test]
    fn jumps_get_the_distances_of_their_labels() {
        let mut code = Assembly::default();
        let (start, end) = (code.label(), code.label());
        code.set_label(start);
        code.jump_if(Condition::Is, 1, 7, end);
        code.append([set(0, 1)]);
        code.jump(start);
        code.set_label(end);
        code.append([exit()]);
        let [mut skip, mut back] = [jump_if(Condition::Is, 1, 7), jump()];
        skip.set_distance(2);
        back.set_distance(-3);
        assert_eq!(code.finish(), Some(vec![skip, set(0, 1), back, exit()]));
    }

    #[test]
    fn jump_to_label_without_position_is_no_program() {
        let mut code = Assembly::default();
        let nowhere = code.label();
        code.jump(nowhere);
        assert_eq!(code.finish(), None);
    }
}
