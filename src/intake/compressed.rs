//! Files that hold a log, but not as text: told by their first bytes.

/// How a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packed {
    /// Compressed by a program of this name.
    By {
        /// The program.
        name: &'static str,
        /// What writes the text out.
        unpack: &'static str,
    },
    /// A file of journald's own.
    Journal,
}

impl Packed {
    /// How many of a file's first bytes tell.
    pub const TELLING: usize = 10;

    /// From the first bytes of a file.
    #[must_use]
    pub fn of(first: &[u8]) -> Option<Self> {
        let by = |name, unpack| Some(Self::By { name, unpack });
        match first {
            [0x1f, 0x8b, ..] => by("gzip", "zcat"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => by("xz", "xzcat"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => by("zstd", "zstdcat"),
            [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', b'&', b'S', b'Y', ..] => by("bzip2", "bzcat"),
            [b'L', b'P', b'K', b'S', b'H', b'H', b'R', b'H', ..] => Some(Self::Journal),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_not_packed() {
        for text in ["", "B", "BZh9 is a name\n", "LPKS", "(\u{b5}/", "type=SECCOMP msg=audit("] {
            assert_eq!(Packed::of(text.as_bytes()), None, "{text}");
        }
    }
}
