//! Error numbers by name and number, as `SystemCallErrorNumber=` and `~call:ERRNO` accept them.

use nix::errno::Errno;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The kernel's largest error number (`MAX_ERRNO`, `include/linux/err.h`).
pub const MAX: i32 = 4095;

/// Second names of numbers (`errno(3)`).
const ALIASES: [(&str, Errno); 3] =
    [("EWOULDBLOCK", Errno::EAGAIN), ("EDEADLOCK", Errno::EDEADLK), ("ENOTSUP", Errno::EOPNOTSUPP)];

static BY_NAME: LazyLock<BTreeMap<String, i32>> = LazyLock::new(|| {
    let aliases = ALIASES.iter().map(|(alias, errno)| ((*alias).to_owned(), *errno as i32));
    (1..=MAX).filter_map(|number| Some((name(number)?, number))).chain(aliases).collect()
});

/// Returns the name of an error number on this machine's architecture, for example `EPERM` for 1.
#[must_use]
pub fn name(number: i32) -> Option<String> {
    match Errno::from_raw(number) {
        Errno::UnknownErrno => None,
        known => Some(format!("{known:?}")),
    }
}

/// Parses a name, or a number from 0 to [`MAX`], as systemd's `parse_errno` does.
#[must_use]
pub fn parse(text: &str) -> Option<i32> {
    BY_NAME.get(text).copied().or_else(|| parse_integer(text).filter(|number| (0..=MAX).contains(number)))
}

/// Parses an integer as C writes it: decimal, `0x`, `0o`, `0b` and octal with a leading zero.
fn parse_integer(text: &str) -> Option<i32> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (text.get(2..)?, 16),
        [b'0', b'o', ..] => (text.get(2..)?, 8),
        [b'0', b'b', ..] => (text.get(2..)?, 2),
        [b'0', _, ..] => (text.get(1..)?, 8),
        _ => (text, 10),
    };
    // from_str_radix would accept a sign here.
    digits.starts_with(|c: char| c.is_ascii_hexdigit()).then(|| i32::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_to_their_numbers() {
        assert_eq!(parse("EPERM"), Some(libc::EPERM));
        assert_eq!(parse("EWOULDBLOCK"), Some(libc::EWOULDBLOCK));
        assert_eq!(parse("EHWPOISON"), Some(libc::EHWPOISON));
        assert_eq!(name(libc::EAFNOSUPPORT).as_deref(), Some("EAFNOSUPPORT"));
        for number in 1..=MAX {
            if let Some(name) = name(number) {
                assert_eq!(parse(&name), Some(number), "{name}");
            }
        }
        assert!((1..=133).filter(|number| name(*number).is_some()).count() > 125);
    }

    #[test]
    fn numbers_parse_as_in_c() {
        for (text, number) in
            [("0", 0), ("255", 255), ("0x10", 16), ("010", 8), ("0o17", 15), ("0b11", 3), ("4095", 4095)]
        {
            assert_eq!(parse(text), Some(number), "{text}");
        }
    }

    #[test]
    fn other_text_is_rejected() {
        for text in ["", "kill", "eperm", "EFOO", "-1", "4096", "0x", "1x", "99999999999", "0x-1", "+-1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
