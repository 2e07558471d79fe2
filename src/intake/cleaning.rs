//! Removes what programs put into a line on its way from the log to a paste: colours, markup, escapes, typographic
//! quotes.
//!
//! A line is cleaned only if it holds a record that cannot be parsed as it is. So a process cannot use its own name to
//! have a plain line rewritten.

/// The separator of `log_format = ENRICHED` (`AUDIT_INTERP_SEPARATOR`, audit's `libaudit.h`).
const SEPARATOR: u8 = 0x1d;

/// How other programs write the separator: rsyslog, `cat -v` and pagers, octal and hex escapes, a replacement, a
/// control picture. [`decode_number`] reads its numeric references.
const SEPARATORS: [&[u8]; 9] =
    [b"#035", b"^]", b"\\035", b"\\x1d", b"\\x1D", b"%1D", b"<GS>", "\u{fffd}".as_bytes(), "\u{241d}".as_bytes()];

/// Named references of HTML, and quotes that lost a part of theirs.
const NAMED: [(&[u8], &[u8]); 14] = [
    (b"&amp;quot;", b"\""),
    (b"&quot;", b"\""),
    (b"\"quot;", b"\""),
    (b"quot;", b"\""),
    (b"&ldquo;", b"\""),
    (b"&rdquo;", b"\""),
    (b"&amp;lt;", b"<"),
    (b"&amp;gt;", b">"),
    (b"&lt;", b"<"),
    (b"&gt;", b">"),
    (b"&apos;", b"'"),
    (b"&nbsp;", b" "),
    (b"&equals;", b"="),
    (b"&amp;", b"&"),
];

/// Blanks, quotes and invisible characters beyond ASCII.
const CHARACTERS: [(&str, &[u8]); 26] = [
    ("\u{201c}", b"\""),
    ("\u{201d}", b"\""),
    ("\u{201e}", b"\""),
    ("\u{201f}", b"\""),
    ("\u{2033}", b"\""),
    ("\u{ff02}", b"\""),
    ("\u{ab}", b"\""),
    ("\u{bb}", b"\""),
    ("\u{2018}", b"'"),
    ("\u{2019}", b"'"),
    ("\u{201a}", b"'"),
    ("\u{2032}", b"'"),
    ("\u{a0}", b" "),
    ("\u{2002}", b" "),
    ("\u{2003}", b" "),
    ("\u{2009}", b" "),
    ("\u{202f}", b" "),
    ("\u{3000}", b" "),
    ("\u{2502}", b" "),
    ("\u{2503}", b" "),
    ("\u{feff}", b""),
    ("\u{200b}", b""),
    ("\u{200e}", b""),
    ("\u{2060}", b""),
    ("\u{ad}", b""),
    ("\u{21b5}", b""),
];

/// The longest tag of HTML that is removed, in bytes.
const LONGEST_TAG: usize = 128;

/// Returns a line without decoration. Its length is at most that of the line.
pub(super) fn clean_line(line: &[u8]) -> Vec<u8> {
    let is_csv = memchr::memmem::find(line, b"=\"\"").is_some();
    let decoded = decode_quoted_printable(line);
    let line = decoded.as_deref().unwrap_or(line);
    let mut cleaned = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(&first) = rest.first() {
        let (taken, text) = replace_start(rest, is_csv);
        match text {
            Some(text) => cleaned.extend_from_slice(text),
            None if matches!(first, b'\t' | b'\r' | 0x0b | 0x0c) => cleaned.push(b' '),
            None => cleaned.push(first),
        }
        rest = &rest[taken..];
    }
    remove_emphasis(&cleaned)
}

/// Decodes the equals signs, quotes and blanks of a mail (`quoted-printable`, RFC 2045), and removes a soft line break.
fn decode_quoted_printable(line: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(line, b"=3D")?;
    let line = line.trim_ascii_end();
    let mut rest = line.strip_suffix(b"=").unwrap_or(line);
    let mut decoded = Vec::with_capacity(line.len());
    while let Some((&first, behind)) = rest.split_first() {
        let known = [(&b"=3D"[..], b'='), (b"=20", b' '), (b"=22", b'"'), (b"=1D", SEPARATOR)];
        let code = known.iter().find(|(code, _)| rest.starts_with(code));
        decoded.push(code.map_or(first, |(_, byte)| *byte));
        rest = code.map_or(behind, |(code, _)| &rest[code.len()..]);
    }
    Some(decoded)
}

/// Returns how many bytes of decoration the text begins with, at least 1, and what stands for them; `None` for the
/// byte itself.
fn replace_start(text: &[u8], is_csv: bool) -> (usize, Option<&'static [u8]>) {
    let removed = |length| (length, Some(&b""[..]));
    let found = match text[0] {
        0x1b | b'[' => length_of_colour(text).map(removed),
        b'^' if text.starts_with(b"^I") => Some((2, Some(&b" "[..]))),
        b'^' => length_of_colour(text).map(removed).or_else(|| find_separator(text)),
        b'"' if is_csv && text.starts_with(b"\"\"") => Some((2, Some(&b"\""[..]))),
        b'"' | b'q' => find_named(text),
        b'&' => decode_number(text).or_else(|| find_named(text)),
        b'#' | b'%' => find_separator(text),
        b'\\' => find_separator(text).or_else(|| decode_number(text)).or_else(|| match text.get(1) {
            Some(b't' | b'n' | b'r') => Some((2, Some(&b" "[..]))),
            // Also the backslashes of a string within a string.
            Some(byte) if byte.is_ascii_punctuation() => Some(removed(1)),
            _ => None,
        }),
        b'<' => find_separator(text).or_else(|| length_of_tag(text).map(removed)),
        0x80.. => find_separator(text).or_else(|| {
            let (from, to) = CHARACTERS.iter().find(|(from, _)| text.starts_with(from.as_bytes()))?;
            Some((from.len(), Some(*to)))
        }),
        _ => None,
    };
    found.unwrap_or((1, None))
}

fn find_separator(text: &[u8]) -> Option<(usize, Option<&'static [u8]>)> {
    let spelling = SEPARATORS.iter().find(|spelling| text.starts_with(spelling))?;
    Some((spelling.len(), Some(&[SEPARATOR])))
}

fn find_named(text: &[u8]) -> Option<(usize, Option<&'static [u8]>)> {
    let (from, to) = NAMED.iter().find(|(from, _)| text.starts_with(from))?;
    Some((from.len(), Some(*to)))
}

/// Returns the length of a terminal's control sequence, also one that lost its escape character or has it as `^[`.
fn length_of_colour(text: &[u8]) -> Option<usize> {
    let (introducer, is_whole) = match text {
        [0x1b, b'[', ..] => (2, true),
        [b'^', b'[', b'[', ..] => (3, true),
        [b'[', ..] => (1, false),
        _ => return None,
    };
    let parameters = text[introducer..].iter().take(24).take_while(|byte| b"0123456789;:?".contains(byte)).count();
    let end = introducer + parameters;
    let ends = |byte: &u8| if is_whole { byte.is_ascii_alphabetic() } else { b"mK".contains(byte) };
    text.get(end).filter(|byte| ends(byte))?;
    Some(end + 1)
}

/// Returns the length of `<b>`, `</span>` or `<br class="x">`. A printk level, as `<5>`, is no tag.
fn length_of_tag(text: &[u8]) -> Option<usize> {
    let name = text.get(1..)?;
    let name = name.strip_prefix(b"/").unwrap_or(name);
    name.first().filter(|byte| byte.is_ascii_alphabetic())?;
    let end = text.iter().take(LONGEST_TAG).position(|byte| *byte == b'>')?;
    (!text[1..end].contains(&b'<')).then_some(end + 1)
}

/// Decodes `&#34;`, `&#x22;`, `\u0022` and `\x22`. Returns the length and the byte, if it is ASCII.
fn decode_number(text: &[u8]) -> Option<(usize, Option<&'static [u8]>)> {
    /// Every ASCII byte, so that one of them can be borrowed.
    static ASCII: [u8; 128] = {
        let mut bytes = [0; 128];
        let mut byte: u8 = 0;
        while byte < 128 {
            bytes[byte as usize] = byte;
            byte += 1;
        }
        bytes
    };
    let (prefix, radix, most, suffix) = match text {
        [b'&', b'#', b'x' | b'X', ..] => (3, 16, 6, 1),
        [b'&', b'#', ..] => (2, 10, 6, 1),
        [b'\\', b'u', ..] => (2, 16, 4, 0),
        [b'\\', b'x', ..] => (2, 16, 2, 0),
        _ => return None,
    };
    let digits = text[prefix..].iter().take(most).take_while(|byte| char::from(**byte).is_digit(radix)).count();
    let end = prefix + digits;
    if suffix == 1 && text.get(end) != Some(&b';') {
        return None;
    }
    let value = usize::from_str_radix(str::from_utf8(&text[prefix..end]).ok()?, radix).ok()?;
    let text: &'static [u8] = match value {
        0xa0 => b" ",
        0x201c | 0x201d => b"\"",
        0xfffd => &[SEPARATOR],
        _ => ASCII.get(value..=value)?,
    };
    Some((end + suffix, Some(text)))
}

/// Removes `*`, `~` and backticks of Markdown around words, and repeated blanks.
fn remove_emphasis(line: &[u8]) -> Vec<u8> {
    let mut cleaned = Vec::with_capacity(line.len());
    for word in line.split(|byte| *byte == b' ') {
        let is_mark = |byte: &u8| matches!(byte, b'*' | b'`' | b'~');
        let word = match word.iter().position(|byte| !is_mark(byte)) {
            Some(start) => &word[start..=word.iter().rposition(|byte| !is_mark(byte)).unwrap_or(start)],
            None => b"",
        };
        let word = word.strip_prefix(b"__").and_then(|word| word.strip_suffix(b"__")).unwrap_or(word);
        if !word.is_empty() {
            if !cleaned.is_empty() {
                cleaned.push(b' ');
            }
            cleaned.extend_from_slice(word);
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decoration_is_removed() {
        for (from, to) in [
            ("\u{1b}[01;31m\u{1b}[Ktype=SECCOMP\u{1b}[m\u{1b}[K msg", "type=SECCOMP msg"),
            ("[01;31m[Ktype=SECCOMP[m[K ^[[1mmsg^[[0m", "type=SECCOMP msg"),
            ("[    1.2] [ T1483]\taudit:  type\r", "[ 1.2] [ T1483] audit: type"),
            (r#"comm=&quot;a&quot; &#34;b&#x22; &amp;quot;c "quot;d"quot;"#, r#"comm="a" "b" "c "d""#),
            (r#"comm=\"a\" \\\"b\\\" \u0022c\u0022 \/bin"#, r#"comm="a" "b" "c" /bin"#),
            ("comm=\u{201c}a\u{201d} \u{ab}b\u{bb} \u{2018}c\u{2019}", "comm=\"a\" \"b\" 'c'"),
            (r#""x","comm=""a"" exe=""/b"" sig""#, r#""x","comm="a" exe="/b" sig""#),
            ("**syscall=41** <b>sig=31</b> `arch=c` <5>[ 1.2]", "syscall=41 sig=31 arch=c <5>[ 1.2]"),
            (r"x86\_64 UNKNOWN\[1326\]", "x86_64 UNKNOWN[1326]"),
            ("a\u{a0}b\u{feff}\u{200b}", "a b"),
        ] {
            assert_eq!(String::from_utf8_lossy(&clean_line(from.as_bytes())), to, "{from}");
        }
    }

    #[test]
    fn separator_in_every_spelling_becomes_separator() {
        for spelling in ["\\u001d", "\\u001D", "&#29;", "#035", "^]", "\\x1d", "\\035", "%1D", "\u{fffd}", "\u{241d}"] {
            assert_eq!(clean_line(format!("0{spelling}AUID=").as_bytes()), b"0\x1dAUID=", "{spelling}");
        }
    }

    proptest! {
        #[test]
        fn cleaned_line_is_never_longer(line: Vec<u8>) {
            prop_assert!(clean_line(&line).len() <= line.len());
        }
    }
}
