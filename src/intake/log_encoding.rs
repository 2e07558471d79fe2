//! Logs that are not text, recognized by their first bytes.

/// How a log file is encoded, where it is not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogEncoding {
    /// Compressed text.
    Compressed {
        /// The format, which is the name of the program that writes it.
        format: &'static str,
        /// The program that writes the text to standard output.
        unpack: &'static str,
    },
    /// journald's own file format.
    Journal,
}

impl LogEncoding {
    /// How many of a file's first bytes [`detect`](Self::detect) needs.
    pub(crate) const MAGIC_LENGTH: usize = 10;

    /// Recognizes an encoding by a file's first bytes; `None` for text.
    #[must_use]
    pub(crate) fn detect(first: &[u8]) -> Option<Self> {
        let compressed = |format, unpack| Some(Self::Compressed { format, unpack });
        match first {
            [0x1f, 0x8b, ..] => compressed("gzip", "zcat"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => compressed("xz", "xzcat"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => compressed("zstd", "zstdcat"),
            [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', b'&', b'S', b'Y', ..] => compressed("bzip2", "bzcat"),
            [b'L', b'P', b'K', b'S', b'H', b'H', b'R', b'H', ..] => Some(Self::Journal),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_no_encoding() {
        for text in ["", "B", "BZh9 is a name\n", "LPKS", "(\u{b5}/", "type=SECCOMP msg=audit("] {
            assert_eq!(LogEncoding::detect(text.as_bytes()), None, "{text}");
        }
    }
}
