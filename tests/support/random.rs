//! Numbers that look random, and are the same in every run with the same seed.

/// A xorshift generator (Marsaglia, 2003). The seed must not be 0.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Returns a number below a limit, of the limit's type.
    pub(crate) fn below<N>(&mut self, limit: N) -> N
    where
        N: TryFrom<u64>,
        u64: TryFrom<N>,
    {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        N::try_from(self.0 % u64::try_from(limit).ok().unwrap()).ok().unwrap()
    }
}
