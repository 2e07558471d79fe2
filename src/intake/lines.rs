//! Lines of any length, one at a time or a block of whole lines at once.

use memchr::{memchr, memrchr};
use std::io;
use std::io::Read;

/// The longest line that is kept, in bytes; no record comes near it.
pub(super) const LONGEST_LINE: usize = 64 << 10;

/// A line, without its newline.
pub(super) enum LogLine<'a> {
    Whole(&'a [u8]),
    TooLong,
}

/// Reads lines into one buffer, which grows with its input up to a fixed size.
pub(super) struct LineReader<'r> {
    input: &'r mut dyn Read,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where the latest line starts, until more is read.
    latest: usize,
}

impl<'r> LineReader<'r> {
    /// Holds many lines, so that one read gets many.
    const BUFFER: usize = 4 * LONGEST_LINE;

    /// Enough for a short input, such as a line that a person pipes.
    const FIRST_BUFFER: usize = 8 << 10;

    pub(super) fn new(input: &'r mut dyn Read) -> Self {
        Self { input, buffer: Vec::new(), start: 0, end: 0, latest: 0 }
    }

    /// Returns the next line; `None` at the end of the input.
    pub(super) fn next_line(&mut self) -> io::Result<Option<LogLine<'_>>> {
        let mut searched = self.start;
        let mut is_too_long = false;
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[searched..self.end]) {
                let (start, newline) = (self.start, searched + at);
                (self.latest, self.start) = (start, newline + 1);
                let is_whole = !is_too_long && newline - start <= LONGEST_LINE;
                let line = if is_whole { LogLine::Whole(&self.buffer[start..newline]) } else { LogLine::TooLong };
                return Ok(Some(line));
            }
            if self.end - self.start > LONGEST_LINE {
                is_too_long = true;
                self.start = self.end;
            }
            if !self.fill()? {
                let rest = self.start..self.end;
                (self.latest, self.start) = (self.start, self.end);
                return Ok(match (is_too_long, rest.is_empty()) {
                    (true, _) => Some(LogLine::TooLong),
                    (false, true) => None,
                    (false, false) => Some(LogLine::Whole(&self.buffer[rest])),
                });
            }
            // `fill` moved the searched bytes to the front.
            searched = self.start;
        }
    }

    /// Returns the bytes after the latest line without reading past them; `None` if the input ends before.
    /// [`unread_line`](Self::unread_line) still puts the line back.
    pub(super) fn peek_bytes<const LENGTH: usize>(&mut self) -> io::Result<Option<[u8; LENGTH]>> {
        let line = self.start - self.latest;
        while self.end - self.start < LENGTH {
            self.start = self.latest;
            let has_more = self.fill()?;
            (self.latest, self.start) = (0, line);
            if !has_more {
                return Ok(None);
            }
        }
        Ok(self.buffer[self.start..self.end].first_chunk().copied())
    }

    /// Puts the latest line back, which [`next_line`](Self::next_line) returned whole.
    pub(super) fn unread_line(&mut self) {
        self.start = self.latest;
    }

    /// Returns the whole lines in the buffer; `None` if there is none yet, or one of them may be too long.
    pub(super) fn buffered_lines(&mut self) -> Option<&[u8]> {
        let here = &self.buffer[self.start..self.end];
        let end = memrchr(b'\n', here)? + 1;
        // A line that is too long has a stretch of half that length without a newline.
        let stretch = LONGEST_LINE / 2;
        let mut at = 0;
        while end - at > stretch {
            at += memrchr(b'\n', &here[at..at + stretch])? + 1;
        }
        Some(&here[..end])
    }

    /// Skips bytes that [`buffered_lines`](Self::buffered_lines) returned.
    pub(super) fn consume(&mut self, length: usize) {
        self.start += length;
    }

    /// Reads exactly `length` bytes and keeps the first [`LONGEST_LINE`] of them; `None` if the input ends before.
    pub(super) fn read_bytes(&mut self, length: u64) -> io::Result<Option<Vec<u8>>> {
        let mut kept = Vec::new();
        let mut missing = length;
        while missing > 0 {
            if self.start == self.end && !self.fill()? {
                return Ok(None);
            }
            let here = usize::try_from(missing).unwrap_or(usize::MAX).min(self.end - self.start);
            let room = LONGEST_LINE - kept.len();
            kept.extend_from_slice(&self.buffer[self.start..self.start + here.min(room)]);
            self.start += here;
            missing -= here as u64;
        }
        Ok(Some(kept))
    }

    /// Moves the unread bytes to the front and fills the buffer behind them; false at the end of the input.
    ///
    /// A block of lines then depends on the input alone, not on the sizes in which a pipe delivers it: the readers of
    /// lines that are no records keep what earlier lines of a block were about.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let before = self.end;
        while self.end < Self::BUFFER {
            if self.end == self.buffer.len() {
                self.buffer.resize((4 * self.end).clamp(Self::FIRST_BUFFER, Self::BUFFER), 0);
            }
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The next call returns the error if it persists.
                Err(_) if self.end > before => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.end > before)
    }
}
