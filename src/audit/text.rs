//! Text that an untrusted process chose. It stays bytes until it is escaped.

use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;
use std::path::Path;

/// The value of `comm=` or `exe=` as the record has it, not yet decoded.
///
/// The kernel (`audit_log_untrustedstring`, `kernel/audit.c`) quotes the bytes. It writes upper-case hex without quotes
/// if they contain a quote, a space or a byte outside printable ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UntrustedText<'a> {
    /// The bytes themselves, in double quotes or, in interpreted output, without.
    Plain(&'a [u8]),
    /// Pairs of hex digits, which the parser checked.
    Hex(&'a [u8]),
}

impl<'a> UntrustedText<'a> {
    /// Returns the bytes that the process chose.
    #[must_use]
    pub fn decode(self) -> Cow<'a, [u8]> {
        match self {
            Self::Plain(bytes) => Cow::Borrowed(bytes),
            Self::Hex(digits) => Cow::Owned(
                digits
                    .chunks_exact(2)
                    .filter_map(|pair| Some(hex_digit(pair[0])? << 4 | hex_digit(pair[1])?))
                    .collect(),
            ),
        }
    }
}

/// The values of hex digits, in either case; 255 for every other byte.
pub(super) const HEX_DIGITS: [u8; 256] = {
    let mut values = [255; 256];
    let mut value: u8 = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        values[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// Returns the value of one hex digit, in either case.
pub(super) fn hex_digit(digit: u8) -> Option<u8> {
    Some(HEX_DIGITS[usize::from(digit)]).filter(|value| *value < 16)
}

/// Prints bytes so that they cannot affect a terminal, a journal field or a line-based file.
///
/// Printable text stays; all else becomes `\xNN` or `\u{N}`. A backslash is doubled, so the output is unambiguous.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Escaped<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    c if c.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                    c if is_deceptive(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Whether a character is invisible or changes how others appear: C1 controls, line and paragraph separators,
/// zero-width and bidirectional controls, tags.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns [`Escaped`] as a string.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    Escaped(bytes).to_string()
}

/// Escapes text to quote it within a line, and cuts it after 80 characters.
pub(crate) fn escape_excerpt(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", escape(text.get(..cut).unwrap_or_default().as_bytes())),
        None => escape(text.as_bytes()),
    }
}

/// Returns the lines of a file, each [`Escaped`].
#[must_use]
pub(crate) fn escape_lines(bytes: &[u8]) -> Vec<String> {
    let whole = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if whole.is_empty() { Vec::new() } else { whole.split(|&byte| byte == b'\n').map(escape).collect() }
}

/// Joins words as `a`, `a and b` or `a, b and c`.
#[must_use]
pub(crate) fn join(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// Joins words as [`join`] does, but names at most `most` of them and counts the others: `a, b and 3 more`. A single
/// further word takes no more room than its count, so it is named.
pub(crate) fn join_first(words: &[impl AsRef<str>], most: usize) -> String {
    let named = if words.len() == most + 1 { words.len() } else { words.len().min(most) };
    let (named, others) = words.split_at(named);
    let others = (!others.is_empty()).then(|| format!("{} more", others.len()));
    join(named.iter().map(|word| word.as_ref().to_owned()).chain(others))
}

/// Joins words to `a, b or c`.
pub(crate) fn join_or(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// Returns what follows the last slash of a path.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Returns what follows the last slash of a path, which a process chose.
pub(crate) fn untrusted_base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// Returns the last arguments of a command, as a shell takes them: quoted, and after `--` if one begins with a dash.
pub(crate) fn quote_arguments<'a>(arguments: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let is_option_like = arguments.clone().into_iter().any(|argument| argument.starts_with('-'));
    let start = is_option_like.then(|| "--".to_owned());
    start.into_iter().chain(arguments.into_iter().map(quote_word)).collect::<Vec<_>>().join(" ")
}

/// Quotes a word for a shell.
pub(crate) fn quote_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:=,@%+-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

pub(crate) fn shown_path(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    escape(path.as_os_str().as_bytes())
}

/// `1 call`, `2 calls`.
pub(crate) fn plural(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hex_text_is_decoded_to_bytes() {
        assert_eq!(&*UntrustedText::Hex(b"612062").decode(), b"a b");
        assert_eq!(&*UntrustedText::Plain(b"ncat").decode(), b"ncat");
    }

    #[test]
    fn joined_words_beyond_the_most_are_counted() {
        for (words, joined) in [
            (&[][..], ""),
            (&["a"], "a"),
            (&["a", "b"], "a and b"),
            (&["a", "b", "c"], "a, b and c"),
            (&["a", "b", "c", "d"], "a, b and 2 more"),
        ] {
            assert_eq!(join_first(words, 2), joined);
        }
    }

    #[test]
    fn control_and_deceptive_characters_are_escaped() {
        assert_eq!(escape(b"a\x1b[2Jb\n"), "a\\x1b[2Jb\\x0a");
        assert_eq!(escape("caf\u{e9}".as_bytes()), "caf\u{e9}");
        assert_eq!(escape("\u{202e}gpj.exe".as_bytes()), "\\u{202e}gpj.exe");
        assert_eq!(escape(b"\xff\\"), "\\xff\\\\");
    }

    proptest! {
        #[test]
        fn escaped_bytes_have_no_control_character(bytes: Vec<u8>) {
            prop_assert!(escape(&bytes).chars().all(|c| !c.is_control()));
        }
    }
}
