//! Lines of a reader, whatever their length, one by one or many at a time.

use memchr::{memchr, memrchr};
use std::io;
use std::io::Read;

/// The longest line that is looked at, in bytes; no record comes near it.
pub const LONGEST_LINE: usize = 64 << 10;

/// A line, or the news that it was too long to keep.
pub(super) enum Line<'a> {
    Whole(&'a [u8]),
    TooLong,
}

/// Lines of a reader in one buffer, whatever their length.
pub(super) struct Lines<'r> {
    input: &'r mut dyn Read,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<'r> Lines<'r> {
    /// Room for many lines at a read.
    const BUFFER: usize = 4 * LONGEST_LINE;

    pub(super) fn new(input: &'r mut dyn Read) -> Self {
        Self { input, buffer: vec![0; Self::BUFFER], start: 0, end: 0 }
    }

    /// The next line without its newline; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut searched = self.start;
        let mut too_long = false;
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[searched..self.end]) {
                let (start, newline) = (self.start, searched + at);
                self.start = newline + 1;
                let whole = !too_long && newline - start <= LONGEST_LINE;
                return Ok(Some(if whole { Line::Whole(&self.buffer[start..newline]) } else { Line::TooLong }));
            }
            if self.end - self.start > LONGEST_LINE {
                too_long = true;
                self.start = self.end;
            }
            if !self.fill()? {
                let rest = self.start..self.end;
                self.start = self.end;
                return Ok(match (too_long, rest.is_empty()) {
                    (true, _) => Some(Line::TooLong),
                    (false, true) => None,
                    (false, false) => Some(Line::Whole(&self.buffer[rest])),
                });
            }
            // What was searched moved to the front with the rest.
            searched = self.start;
        }
    }

    /// The whole lines that are here, none of them too long to be looked at; `None` where there is no such line yet.
    pub(super) fn block(&mut self) -> Option<&[u8]> {
        let here = &self.buffer[self.start..self.end];
        let end = memrchr(b'\n', here)? + 1;
        // In a line that is too long there is a stretch of half the length without a newline.
        let stretch = LONGEST_LINE / 2;
        let mut at = 0;
        while end - at > stretch {
            at += memrchr(b'\n', &here[at..at + stretch])? + 1;
        }
        Some(&here[..end])
    }

    /// Passes over bytes that were taken as a [`block`](Self::block).
    pub(super) fn consume(&mut self, length: usize) {
        self.start += length;
    }

    /// Exactly `length` bytes; of more than [`LONGEST_LINE`] only the first are kept. `None` where the
    /// input ends before.
    pub(super) fn bytes(&mut self, length: u64) -> io::Result<Option<Vec<u8>>> {
        let mut kept = Vec::new();
        let mut left = length;
        while left > 0 {
            if self.start == self.end && !self.fill()? {
                return Ok(None);
            }
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.end - self.start);
            let room = LONGEST_LINE - kept.len();
            kept.extend_from_slice(&self.buffer[self.start..self.start + here.min(room)]);
            self.start += here;
            left -= here as u64;
        }
        Ok(Some(kept))
    }

    /// Moves what is left to the front and reads more behind it; false at the end of the input.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
