//! A file that is read within limits of size and time.

use crate::programs::FileParts;
use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How much may still be read.
#[derive(Debug)]
pub(in crate::host) struct ReadLimits {
    bytes: Cell<u64>,
    /// `None` if only the bytes are limited.
    until: Option<Instant>,
}

impl ReadLimits {
    pub(in crate::host) fn new(bytes: u64, time: Duration) -> Self {
        Self { until: Some(Instant::now() + time), ..Self::by_bytes(bytes) }
    }

    /// Limits the bytes alone: what is read is then the same on a busy machine.
    pub(in crate::host) fn by_bytes(bytes: u64) -> Self {
        Self { bytes: Cell::new(bytes), until: None }
    }

    /// Returns how many bytes may still be read.
    #[cfg(test)]
    pub(in crate::host) fn bytes_left(&self) -> u64 {
        self.bytes.get()
    }
}

/// A file that is read within limits.
#[derive(Debug)]
pub(in crate::host) struct LimitedFile {
    file: File,
    length: u64,
    limits: Rc<ReadLimits>,
    /// Whether a part was refused because too many bytes were read before.
    is_too_large: bool,
}

impl LimitedFile {
    pub(in crate::host) fn new(file: File, length: u64, limits: Rc<ReadLimits>) -> Self {
        Self { file, length, limits, is_too_large: false }
    }
}

impl FileParts for LimitedFile {
    fn read_part(&mut self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let size = u64::try_from(length).ok()?;
        let is_inside = offset.checked_add(size).is_some_and(|end| end <= self.length);
        if !is_inside || self.is_exhausted() {
            return None;
        }
        let Some(left) = self.limits.bytes.get().checked_sub(size) else {
            self.is_too_large = true;
            return None;
        };
        self.limits.bytes.set(left);
        let mut part = vec![0; length];
        self.file.read_exact_at(&mut part, offset).ok()?;
        Some(part)
    }

    fn is_exhausted(&self) -> bool {
        self.is_too_large || self.limits.until.is_some_and(|until| Instant::now() > until)
    }
}
