//! Access to a file by parts, each of a size that the reader bounds.

/// Gives parts of a file by position.
pub trait FileParts {
    /// Returns `length` bytes from `offset`; `None` if the file is shorter or cannot be read.
    fn read_part(&mut self, offset: u64, length: usize) -> Option<Vec<u8>>;

    /// Whether a limit of the caller was reached, of time or of size. The reader then gives up.
    fn is_exhausted(&self) -> bool {
        false
    }
}

impl FileParts for &[u8] {
    fn read_part(&mut self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        self.get(start..start.checked_add(length)?).map(<[u8]>::to_vec)
    }
}
