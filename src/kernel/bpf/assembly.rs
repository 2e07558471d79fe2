//! A program with jumps to named places.

use super::instruction::{Instruction, jump, jump_if};

/// A place in a program, which jumps can name before it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place(usize);

/// When to jump.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Test {
    /// The register is the number.
    Is,
    /// It is not.
    IsNot,
    /// It is greater, both taken as signed.
    Above,
    /// It is less, both taken as signed.
    Below,
}

/// A program under construction.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    code: Vec<Instruction>,
    jumps: Vec<(usize, Place)>,
    places: Vec<Option<usize>>,
}

impl Assembly {
    /// A place that is put somewhere later.
    pub(crate) fn place(&mut self) -> Place {
        self.places.push(None);
        Place(self.places.len() - 1)
    }

    /// Puts a place here.
    pub(crate) fn here(&mut self, place: Place) {
        if let Some(at) = self.places.get_mut(place.0) {
            *at = Some(self.code.len());
        }
    }

    /// The next instructions.
    pub(crate) fn then(&mut self, code: impl IntoIterator<Item = Instruction>) {
        self.code.extend(code);
    }

    /// Jumps if a register passes a test.
    pub(crate) fn jump_if(&mut self, test: Test, register: u8, number: i32, to: Place) {
        self.jumps.push((self.code.len(), to));
        self.code.push(jump_if(test, register, number));
    }

    /// Jumps.
    pub(crate) fn jump(&mut self, to: Place) {
        self.jumps.push((self.code.len(), to));
        self.code.push(jump());
    }

    /// The program; `None` where a jump leads nowhere, or too far.
    pub(crate) fn finish(mut self) -> Option<Vec<Instruction>> {
        for (at, to) in self.jumps {
            let target = (*self.places.get(to.0)?)?;
            let distance = i16::try_from(target).ok()?.checked_sub(i16::try_from(at).ok()?)?.checked_sub(1)?;
            self.code.get_mut(at)?.leads(distance);
        }
        Some(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::instruction::{exit, set, skip_if};

    #[test]
    fn jumps_lead_to_their_places() {
        let mut code = Assembly::default();
        let (start, end) = (code.place(), code.place());
        code.here(start);
        code.jump_if(Test::Is, 1, 7, end);
        code.then([set(0, 1)]);
        code.jump(start);
        code.here(end);
        code.then([exit()]);
        let mut back = jump();
        back.leads(-3);
        assert_eq!(code.finish(), Some(vec![skip_if(1, 7, 2), set(0, 1), back, exit()]));
    }

    #[test]
    fn a_jump_to_nowhere_is_no_program() {
        let mut code = Assembly::default();
        let nowhere = code.place();
        code.jump(nowhere);
        assert_eq!(code.finish(), None);
    }
}
