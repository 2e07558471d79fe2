//! Tracebacks of Python: the lines of source that they quote, down to the call that failed.

/// How a traceback begins.
pub(super) const TRACEBACK: &str = "Traceback (most recent call last):";

/// The most lines of a traceback that are read, and the most lines of source that are kept.
const MOST_LINES: u32 = 200;
const MOST_KEPT: usize = 8;

/// The longest line of source that is kept, in bytes.
const LONGEST: usize = 256;

/// The traceback that a program is printing.
#[derive(Debug, Default)]
pub(super) struct Traceback {
    /// The tag of the program's lines; `None` outside of a traceback.
    tag: Option<Box<str>>,
    lines: u32,
    /// The latest lines of source, the innermost last.
    source: Vec<String>,
}

impl Traceback {
    /// Whether a traceback has begun and not ended.
    pub(super) fn is_open(&self) -> bool {
        self.tag.is_some()
    }

    /// Reads a line of a program. Returns whether it belongs to a traceback before its error.
    pub(super) fn read(&mut self, tag: &str, body: &str) -> bool {
        if body.trim() == TRACEBACK {
            *self = Self { tag: Some(tag.into()), ..Self::default() };
            return true;
        }
        if self.tag.as_deref() != Some(tag) {
            return false;
        }
        self.lines += 1;
        if !body.starts_with("  ") || self.lines > MOST_LINES {
            // Its error follows, and ends it.
            self.tag = None;
            return false;
        }
        let line = body.trim();
        let is_mark = line.bytes().all(|byte| b"^~ ".contains(&byte));
        if body.starts_with("    ") && !is_mark && line.len() <= LONGEST {
            if self.source.len() >= MOST_KEPT {
                self.source.remove(0);
            }
            self.source.push(line.to_owned());
        }
        true
    }

    /// Returns the lines of source, if a traceback has just ended.
    pub(super) fn take(&mut self) -> Vec<String> {
        if self.is_open() { Vec::new() } else { std::mem::take(&mut self.source) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_down_to_the_error_is_kept() {
        let mut traceback = Traceback::default();
        for line in [
            TRACEBACK,
            "  File \"/opt/a.py\", line 2, in <module>",
            "    s = socket.socket(socket.AF_UNIX)",
            "        ^^^^^^^^^^^^^",
            "  File \"/usr/lib/python3.11/socket.py\", line 233, in __init__",
            "    _socket.socket.__init__(self, family)",
        ] {
            assert!(traceback.read("a", line), "{line}");
        }
        assert!(!traceback.read("b", "another program"), "a line between");
        assert!(!traceback.read("a", "OSError: [Errno 97] Address family not supported by protocol"));
        assert_eq!(traceback.take(), ["s = socket.socket(socket.AF_UNIX)", "_socket.socket.__init__(self, family)"]);
        assert!(traceback.take().is_empty() && !traceback.read("a", "  other text"));
    }

    #[test]
    fn endless_traceback_is_bounded() {
        let mut traceback = Traceback::default();
        assert!(traceback.read("a", TRACEBACK));
        assert!((0..MOST_LINES).all(|_| traceback.read("a", "    f()")));
        assert!(!traceback.read("a", "    f()"));
        assert_eq!(traceback.take().len(), MOST_KEPT);
    }
}
