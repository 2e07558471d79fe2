//! Searches whole blocks of lines for those that may be records.

use super::logged_facts;
use memchr::{memchr, memmem, memrchr};

/// Returns where the line around `hit` starts, `from` or later, and where it ends.
pub(super) fn line_around(lines: &[u8], from: usize, hit: usize) -> (usize, usize) {
    let start = memrchr(b'\n', &lines[from..hit]).map_or(from, |newline| from + newline + 1);
    let end = memchr(b'\n', &lines[hit..]).map_or(lines.len(), |newline| hit + newline);
    (start, end)
}

/// Search words: every record has one of the first three, in any dialect.
pub(super) struct Needles {
    record: [memmem::Finder<'static>; 3],
    pub(super) facts: [memmem::Finder<'static>; logged_facts::WORDS.len()],
}

impl Needles {
    pub(super) fn new() -> Self {
        let record: [&[u8]; 3] = [b"SECCOMP", b"1326", b" compat="];
        Self { record: record.map(memmem::Finder::new), facts: logged_facts::WORDS.map(memmem::Finder::new) }
    }

    /// Whether a text can hold a record.
    pub(super) fn may_be_record(&self, text: &[u8]) -> bool {
        self.record.iter().any(|word| word.find(text).is_some())
    }

    /// Begins a search in a block of lines.
    pub(super) fn candidates(&self) -> Candidates {
        Candidates { needles: self.record.clone(), hits: [Some(0); 3] }
    }
}

/// Places where a record may be, in order.
pub(super) struct Candidates {
    needles: [memmem::Finder<'static>; 3],
    /// The next hit of each word, or where to search for it from; `None` if there is none.
    hits: [Option<usize>; 3],
}

impl Candidates {
    /// Returns the first hit at `from` or later.
    pub(super) fn next_after(&mut self, block: &[u8], from: usize) -> Option<usize> {
        for (needle, hit) in self.needles.iter().zip(&mut self.hits) {
            if hit.is_some_and(|hit| hit <= from) {
                *hit = needle.find(&block[from..]).map(|at| from + at);
            }
        }
        self.hits.iter().flatten().min().copied()
    }
}
