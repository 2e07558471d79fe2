//! Parses records as the kernel writes them, in one pass. Almost all records are such.

use super::record::{Action, ArchField, CallField, IdField, Record, Stamp};
use super::text::{HEX_DIGITS, UntrustedText};
use memchr::memchr;

/// A record in the kernel's own order and spelling, or what is left of it. Parsing fails on any other, which `parse_fields`
/// parses slower.
pub(super) struct KernelOrder<'a>(pub(super) &'a [u8]);

impl<'a> KernelOrder<'a> {
    /// Returns milliseconds, serial number, and the rest.
    pub(super) fn parse_stamp(mut self) -> Option<(i64, u64, &'a [u8])> {
        let seconds = i64::try_from(self.parse_decimal(b"audit(")?).ok()?;
        let fraction = self.take_digits(b".", 3, |digit| digit.is_ascii_digit()).filter(|digits| digits.len() == 3)?;
        let fraction = fraction.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
        let serial = self.parse_decimal(b":")?;
        Some((seconds.checked_mul(1000)?.checked_add(fraction)?, serial, self.strip_key(b"):")?))
    }

    /// Returns the record; `None` if its fields are in another order or spelling.
    pub(super) fn parse(mut self, stamp: Stamp<'a>, serial: u64) -> Option<Record<'a>> {
        self.0 = self.0.strip_prefix(b" ").unwrap_or(self.0);
        let auid = self.parse_id(b"auid=")?;
        let uid = self.parse_id(b" uid=")?;
        let gid = self.parse_id(b" gid=")?;
        let session = self.parse_id(b" ses=")?;
        let subject = match self.strip_key(b" subj=") {
            None => None,
            // A label with spaces fails below, at pid=.
            Some(rest) => {
                let (label, rest) = rest.split_at(memchr(b' ', rest)?);
                self.0 = rest;
                Some(label)
            }
        };
        let pid = u32::try_from(self.parse_decimal(b" pid=")?).ok()?;
        let comm = self.parse_quoted(b" comm=\"")?;
        let exe = self.parse_quoted(b" exe=\"")?;
        let signal = i32::try_from(self.parse_decimal(b" sig=")?).ok()?;
        let arch = u32::try_from(self.parse_hex(b" arch=")?).ok()?;
        let call = u32::try_from(self.parse_decimal(b" syscall=")?).ok()?;
        let compat = Some(self.parse_decimal(b" compat=")? == 1);
        let ip = self.parse_hex(b" ip=0x")?;
        let code = u32::try_from(self.parse_hex(b" code=0x")?).ok()?;
        matches!(self.0.first(), None | Some(0x1d)).then_some(Record {
            stamp,
            serial,
            auid,
            uid,
            gid,
            session,
            subject,
            pid,
            comm: UntrustedText::Plain(comm),
            exe: Some(UntrustedText::Plain(exe)),
            signal,
            arch: ArchField::Token(arch),
            call: CallField::Number(call),
            compat,
            ip,
            action: Action::from_code(code),
        })
    }

    fn parse_id<const N: usize>(&mut self, key: &[u8; N]) -> Option<IdField<'a>> {
        match self.parse_decimal(key)? {
            0xffff_ffff => Some(IdField::Unset),
            number => u32::try_from(number).ok().map(IdField::Number),
        }
    }

    /// Parses a key and up to 19 decimal digits.
    fn parse_decimal<const N: usize>(&mut self, key: &[u8; N]) -> Option<u64> {
        let digits = self.take_digits(key, 19, |digit| digit.is_ascii_digit())?;
        Some(digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
    }

    /// Parses a key and up to 16 hex digits.
    fn parse_hex<const N: usize>(&mut self, key: &[u8; N]) -> Option<u64> {
        let digits = self.take_digits(key, 16, |digit| HEX_DIGITS[usize::from(digit)] < 16)?;
        Some(digits.iter().fold(0, |value, digit| value << 4 | u64::from(HEX_DIGITS[usize::from(*digit)])))
    }

    fn take_digits<const N: usize>(
        &mut self,
        key: &[u8; N],
        max: usize,
        is_digit: impl Fn(u8) -> bool,
    ) -> Option<&'a [u8]> {
        let rest = self.strip_key(key)?;
        let length = rest.iter().position(|byte| !is_digit(*byte)).unwrap_or(rest.len());
        let (digits, rest) = rest.split_at(length);
        self.0 = rest;
        (1..=max).contains(&length).then_some(digits)
    }

    /// Parses a key with its opening quote, and returns the text before the closing quote.
    fn parse_quoted<const N: usize>(&mut self, key: &[u8; N]) -> Option<&'a [u8]> {
        let rest = self.strip_key(key)?;
        let (text, rest) = rest.split_at(memchr(b'"', rest)?);
        self.0 = &rest[1..];
        Some(text)
    }

    /// Returns the rest behind a key. The key's length is a constant, so the compiler compares it in place.
    fn strip_key<const N: usize>(&self, key: &[u8; N]) -> Option<&'a [u8]> {
        self.0.split_first_chunk::<N>().filter(|(first, _)| *first == key).map(|(_, rest)| rest)
    }
}
