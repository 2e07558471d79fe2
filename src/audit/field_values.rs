//! Parses the values of a record's fields.

use super::record::{Action, CallField, IdField};
use super::text::hex_digit;

pub(super) fn parse_id(value: &[u8]) -> IdField<'_> {
    let value = value.strip_suffix(b",").unwrap_or(value);
    match parse_decimal(value) {
        Some(u32::MAX) => IdField::Unset,
        Some(number) => IdField::Number(number),
        None if value == b"unset" || value == b"-1" || value.is_empty() => IdField::Unset,
        None => IdField::Name(value),
    }
}

pub(super) fn parse_signal(value: &[u8]) -> Option<i32> {
    if value == b"SIGSYS" { Some(super::record::SIGSYS) } else { parse_decimal(value) }
}

/// Parses a number, which is negative if the process passed one, a name, or `unknown-syscall(NUMBER)`.
pub(super) fn parse_call(value: &[u8]) -> Option<CallField<'_>> {
    let digits = value.strip_prefix(b"unknown-syscall(").and_then(|rest| rest.strip_suffix(b")")).unwrap_or(value);
    match digits.first()? {
        // The kernel prints the sign-extended int that the filter saw as 32 bits.
        b'-' => parse_decimal(&digits[1..]).map(|magnitude: u32| CallField::Number(magnitude.wrapping_neg())),
        b'0'..=b'9' => parse_decimal(digits).map(CallField::Number),
        _ => Some(CallField::Name(value)),
    }
}

/// Parses `0x80000000`, a word, or `unknown-seccomp-code(0x80000000)`.
///
/// The value ends where the kernel's small letters and digits end. What follows are the fields of `log_format =
/// ENRICHED`, whose separator can be lost: `code=0x80000000AUID="unset"`.
pub(super) fn parse_action(value: &[u8]) -> Option<Action> {
    let value = value.strip_prefix(b"unknown-seccomp-code(").unwrap_or(value);
    let is_part = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(byte);
    let start = value.iter().position(is_part)?;
    let value = &value[start..];
    let value = &value[..value.iter().position(|byte| !is_part(byte)).unwrap_or(value.len())];
    Action::from_word(value).or_else(|| u32::try_from(parse_hex(value)?).ok().map(Action::from_code))
}

/// Parses decimal digits, without a sign.
pub(super) fn parse_decimal<T: TryFrom<u64>>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    T::try_from(value).ok()
}

/// Parses `0x` and hex digits.
pub(super) fn parse_hex(value: &[u8]) -> Option<u64> {
    let digits = value.strip_prefix(b"0x")?;
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0, |sum: u64, &digit| Some(sum << 4 | u64::from(hex_digit(digit)?)))
}

/// Up to eight bare hex digits, as `arch=` has them.
pub(super) fn parse_u32_hex(digits: &[u8]) -> Option<u32> {
    if digits.len() > 8 {
        return None;
    }
    digits.iter().try_fold(0, |sum: u32, &digit| Some(sum << 4 | u32::from(hex_digit(digit)?)))
}
