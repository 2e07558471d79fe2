//! Where a denied call came from: the code that made the call, and the code that called this function.

use std::fmt::Write as _;

/// The longest path of a place, and the longest id of a build, in bytes. The kernel's notes have shorter ones.
const MAX_PATH: usize = 512;
const MAX_BUILD_ID: usize = 64;

/// Where a process made a denied call, as the kernel noted it when it killed the process or returned an error, or as the stack
/// of its core dump shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallSite {
    /// The place of the call itself, mostly in libc.
    pub code: CodePlace,
    /// The place that called the function with the call. `None` if nothing shows for certain which place that is.
    pub caller: Option<CodePlace>,
    /// The places from which the caller was called, the nearest first. Only the stack of a core dump shows them.
    pub further: Vec<CodePlace>,
}

/// A place in the code of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct CodePlace {
    /// The offset in the file of the instruction after the call.
    pub offset: u64,
    /// The id of the file's build; empty if it has none.
    pub build_id: Vec<u8>,
    /// The device and the inode of the file.
    pub file: (u64, u64),
    /// The file's path in the mount namespace of the process. If it is too long to be noted, its last names without a
    /// slash before them.
    pub path: Vec<u8>,
    /// The function as the stack of a core dump names it; empty for what the kernel noted.
    pub function: Vec<u8>,
}

impl CodePlace {
    /// Returns the place in words, as the store and D-Bus have it: `offset=0x… build-id=… device=… inode=… path=…`.
    #[must_use]
    pub fn to_words(&self) -> Vec<u8> {
        let mut words = format!("offset={:#x}", self.offset);
        if !self.build_id.is_empty() {
            words += " build-id=";
            words += &self.build_id_words();
        }
        if let Some(function) = str::from_utf8(&self.function).ok().filter(|name| is_word(name)) {
            words += " function=";
            words += function;
        }
        let (device, inode) = self.file;
        // Writing to a string cannot fail.
        _ = write!(words, " device={device} inode={inode} path=");
        let path = self.path.get(..MAX_PATH).unwrap_or(&self.path);
        [words.as_bytes(), path].concat()
    }

    /// Reads a place from its words; `None` if harden-why never writes them.
    #[must_use]
    pub fn parse(words: &[u8]) -> Option<Self> {
        const PATH: &[u8] = b" path=";
        let at = memchr::memmem::find(words, PATH)?;
        let mut place = Self { path: words.get(at + PATH.len()..)?.to_vec(), ..Self::default() };
        if place.path.len() > MAX_PATH {
            return None;
        }
        for word in str::from_utf8(words.get(..at)?).ok()?.split(' ') {
            match word.split_once('=')? {
                ("offset", value) => place.offset = u64::from_str_radix(value.strip_prefix("0x")?, 16).ok()?,
                ("function", value) if is_word(value) => place.function = value.into(),
                ("build-id", value) => place.build_id = Self::parse_build_id(value)?,
                ("device", value) => place.file.0 = value.parse().ok()?,
                ("inode", value) => place.file.1 = value.parse().ok()?,
                _ => return None,
            }
        }
        Some(place)
    }

    /// Returns the id of the build in hexadecimal digits.
    #[must_use]
    pub fn build_id_words(&self) -> String {
        self.build_id.iter().fold(String::new(), |mut words, byte| {
            // Writing to a string cannot fail.
            _ = write!(words, "{byte:02x}");
            words
        })
    }

    /// Reads the id of a build from hexadecimal digits.
    #[must_use]
    pub(crate) fn parse_build_id(digits: &str) -> Option<Vec<u8>> {
        if digits.is_empty() || digits.len() > 2 * MAX_BUILD_ID || !digits.len().is_multiple_of(2) {
            return None;
        }
        let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
        digits
            .as_bytes()
            .chunks_exact(2)
            .map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.last()?)?))
            .collect()
    }

    /// Returns the name of the file.
    #[must_use]
    pub fn file_name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// Whether a name of a function can be a word.
fn is_word(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_PATH && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> CodePlace {
        CodePlace {
            offset: 0xf_8a3c,
            build_id: vec![0x0b, 0xff, 0x10],
            file: (65_024, 1_234),
            path: b"/usr/lib/lib\xff path=c.so.6".to_vec(),
            function: Vec::new(),
        }
    }

    #[test]
    fn place_is_read_back_from_its_words() {
        let words = place().to_words();
        assert_eq!(
            words.escape_ascii().to_string(),
            r"offset=0xf8a3c build-id=0bff10 device=65024 inode=1234 path=/usr/lib/lib\xff path=c.so.6"
        );
        let bare = CodePlace { offset: u64::MAX, ..CodePlace::default() };
        let told = CodePlace { function: b"std::call(int)@@V=1".to_vec(), ..place() };
        for place in [place(), bare, told] {
            assert_eq!(CodePlace::parse(&place.to_words()).as_ref(), Some(&place));
        }
        assert_eq!(place().file_name(), b"lib\xff path=c.so.6");
    }

    #[test]
    fn words_that_are_never_written_are_no_place() {
        let long = [&b"offset=0x1 path="[..], &[b'x'; MAX_PATH + 1]].concat();
        let digits = format!("build-id={} path=/x", "00".repeat(MAX_BUILD_ID + 1));
        for words in [
            &b""[..],
            b"path=/x",
            b" path=/x",
            b"offset=1 path=/x",
            b"offset=0x1 build-id=abc path=/x",
            b"offset=0x1 build-id= path=/x",
            b"offset=0x1 device=-1 path=/x",
            b"offset=0x1 color=1 path=/x",
            b"offset=0x1 function= path=/x",
            b"offset=0x1\xff path=/x",
            digits.as_bytes(),
            &long,
        ] {
            assert_eq!(CodePlace::parse(words), None, "{}", words.escape_ascii());
        }
    }

    #[test]
    fn words_have_a_limit() {
        let long = CodePlace { path: vec![b'x'; 9_000], ..place() };
        let read = CodePlace::parse(&long.to_words()).unwrap();
        assert_eq!(read.path.len(), MAX_PATH);
    }
}
