//! Tracebacks of Python: the lines of source that they quote, down to the call that failed.

use crate::units::Unit;

/// How a traceback begins.
pub(super) const TRACEBACK: &str = "Traceback (most recent call last):";

/// The most lines of a log in which a traceback ends, the most lines of source that are kept, and the most tracebacks that
/// are open at once.
const MOST_LINES: u32 = 200;
const MOST_KEPT: usize = 8;
const MOST_OPEN: usize = 16;

/// The longest line of source that is kept, in bytes.
const LONGEST: usize = 256;

/// The writer of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Writer {
    /// A program, by the tag of its lines and its pid.
    Program(Box<str>, Option<u32>),
    /// The processes of a unit, as the journal says.
    Unit(Unit),
    /// Unknown: the line has no tag.
    Unknown,
}

/// What a line is to the traceback of its writer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TracedLine {
    /// It belongs to the traceback, before its error.
    Inside,
    /// It is the error, after these lines of source, the innermost last.
    Error(Vec<String>),
    /// It belongs to none.
    Outside,
}

/// The tracebacks that programs are printing. The lines of several programs can alternate.
#[derive(Debug, Default)]
pub(super) struct Tracebacks {
    open: Vec<OpenTraceback>,
}

#[derive(Debug)]
struct OpenTraceback {
    writer: Writer,
    /// How many lines of the log followed its beginning.
    age: u32,
    /// The latest lines of source, the innermost last.
    source: Vec<String>,
}

impl Tracebacks {
    /// Whether a traceback has begun and not ended.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Reads a line.
    pub(super) fn read(&mut self, body: &str, find_writer: impl FnOnce() -> Writer) -> TracedLine {
        for traceback in &mut self.open {
            traceback.age += 1;
        }
        self.open.retain(|traceback| traceback.age <= MOST_LINES);
        let is_start = body.trim() == TRACEBACK;
        if !is_start && self.open.is_empty() {
            return TracedLine::Outside;
        }
        let writer = find_writer();
        let known = self.open.iter().position(|traceback| traceback.writer == writer);
        if is_start {
            let oldest = (self.open.len() >= MOST_OPEN).then_some(0);
            known.or(oldest).map(|at| self.open.remove(at));
            self.open.push(OpenTraceback { writer, age: 0, source: Vec::new() });
            return TracedLine::Inside;
        }
        let Some(at) = known else { return TracedLine::Outside };
        if !body.starts_with("  ") {
            return TracedLine::Error(self.open.remove(at).source);
        }
        self.open[at].add_line(body);
        TracedLine::Inside
    }
}

impl OpenTraceback {
    /// Keeps a line of source: it has more spaces in front than the place of a frame.
    fn add_line(&mut self, body: &str) {
        let line = body.trim();
        let is_mark = line.bytes().all(|byte| b"^~ ".contains(&byte));
        if body.starts_with("    ") && !is_mark && line.len() <= LONGEST {
            if self.source.len() >= MOST_KEPT {
                self.source.remove(0);
            }
            self.source.push(line.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(tag: &str) -> Writer {
        Writer::Program(tag.into(), Some(7))
    }

    #[test]
    fn source_down_to_the_error_is_kept() {
        let mut tracebacks = Tracebacks::default();
        for line in [
            TRACEBACK,
            "  File \"/opt/a.py\", line 2, in <module>",
            "    s = socket.socket(socket.AF_UNIX)",
            "        ^^^^^^^^^^^^^",
            "  File \"/usr/lib/python3.11/socket.py\", line 233, in __init__",
            "    _socket.socket.__init__(self, family)",
        ] {
            assert_eq!(tracebacks.read(line, || writer("a")), TracedLine::Inside, "{line}");
        }
        assert_eq!(tracebacks.read("another program", || writer("b")), TracedLine::Outside, "a line between");
        let error = tracebacks.read("OSError: [Errno 97] Address family not supported by protocol", || writer("a"));
        let source = ["s = socket.socket(socket.AF_UNIX)", "_socket.socket.__init__(self, family)"];
        assert_eq!(error, TracedLine::Error(source.map(ToOwned::to_owned).into()));
        assert_eq!(tracebacks.read("  other text", || writer("a")), TracedLine::Outside);
    }

    #[test]
    fn alternating_tracebacks_keep_their_own_source() {
        let mut tracebacks = Tracebacks::default();
        for tag in ["a", "b"] {
            tracebacks.read(TRACEBACK, || writer(tag));
        }
        for tag in ["a", "b"] {
            tracebacks.read(&format!("    {tag}()"), || writer(tag));
        }
        for tag in ["a", "b"] {
            let source = TracedLine::Error(vec![format!("{tag}()")]);
            assert_eq!(tracebacks.read("OSError: [Errno 1] Operation not permitted", || writer(tag)), source);
        }
    }

    #[test]
    fn endless_tracebacks_are_bounded() {
        let mut tracebacks = Tracebacks::default();
        assert_eq!(tracebacks.read(TRACEBACK, || writer("a")), TracedLine::Inside);
        assert!((0..MOST_LINES).all(|_| tracebacks.read("    f()", || writer("a")) == TracedLine::Inside));
        assert_eq!(tracebacks.open[0].source.len(), MOST_KEPT);
        assert_eq!(tracebacks.read("    f()", || writer("a")), TracedLine::Outside);
        for pid in 0..100 {
            tracebacks.read(TRACEBACK, || Writer::Program("a".into(), Some(pid)));
        }
        assert_eq!(tracebacks.open.len(), MOST_OPEN);
    }
}
