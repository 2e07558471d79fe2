//! The envelope of one text line: what a log and the programs that print it put around a SECCOMP record.
//!
//! The record is found by its own words, wherever they stand. [`find_other_program`] judges the words before it.

use super::line_prefix::{find_date, find_other_program, is_logcat_of};
use crate::audit::{Action, Malformed, Record, Stamp, parse_fields, parse_record};
use jiff::Timestamp;
use memchr::memmem;

/// A record in a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Envelope<'a> {
    /// What stands before the record.
    prefix: &'a [u8],
    payload: Payload<'a>,
}

/// A record without its envelope.
#[derive(Debug, Clone, Copy)]
enum Payload<'a> {
    /// `audit(TIME:SERIAL): FIELDS`.
    Event(&'a [u8]),
    /// The fields alone, from `auid=` on, in the dialects that print the time elsewhere.
    Fields(&'a [u8]),
}

/// Why a line that looks like a record is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// A field is missing or invalid.
    Malformed(Malformed),
    /// Another program logged it under this word.
    OtherProgram(Vec<u8>),
}

/// The first fields of a record (`audit_log_task`, `kernel/auditsc.c`). Any of them may be missing.
const FIRST_KEYS: [&[u8]; 7] = [b"auid=", b"uid=", b"gid=", b"ses=", b"subj=", b"ppid=", b"pid="];

/// Every key of a record, and what may begin a line of a wrapped one.
const KEYS: [&[u8]; 19] = [
    b"auid=",
    b"uid=",
    b"gid=",
    b"ses=",
    b"subj=",
    b"ppid=",
    b"pid=",
    b"comm=",
    b"exe=",
    b"sig=",
    b"arch=",
    b"syscall=",
    b"compat=",
    b"ip=",
    b"code=",
    b"msg=",
    b"type=1326",
    b"type=SECCOMP",
    b"audit(",
];

impl<'a> Envelope<'a> {
    /// Finds the record in a line.
    pub(super) fn find(line: &'a [u8]) -> Option<Self> {
        let typed = find_typed(line);
        typed.or_else(|| {
            // The type was cut off. No other record has this field.
            memmem::find(line, b" compat=")?;
            let at = memmem::find(line, b"audit(");
            let event = at.map(|at| (at, Payload::Event(&line[at..])));
            let (at, payload) = event.or_else(|| {
                let at = FIRST_KEYS.iter().filter_map(|key| find_word(line, key)).min()?;
                Some((at, Payload::Fields(&line[at..])))
            })?;
            let prefix = line[..at].strip_suffix(b"msg=").unwrap_or(&line[..at]);
            Some(Self { prefix, payload })
        })
    }

    /// Parses the record, if the kernel or auditd wrote it as far as the line shows.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn parse(self) -> Result<Record<'a>, Suspicion> {
        let parsed = match self.payload {
            Payload::Event(event) => parse_record(event),
            Payload::Fields(fields) => parse_fields(fields, self.printed_stamp(), 0),
        };
        let is_logcat = || parsed.is_ok_and(|record| is_logcat_of(self.prefix, record.pid));
        if let Some(word) = find_other_program(self.prefix).filter(|_| !is_logcat()) {
            return Err(Suspicion::OtherProgram(word.to_vec()));
        }
        let mut record = parsed.map_err(Suspicion::Malformed)?;
        if record.stamp == Stamp::Unknown {
            record.stamp = self.printed_stamp();
        }
        Ok(record)
    }

    /// Returns the time in front of the record: exact if it tells its zone.
    fn printed_stamp(&self) -> Stamp<'a> {
        let date = find_date(self.prefix);
        if date.is_empty() {
            return Stamp::Unknown;
        }
        let text = str::from_utf8(date).unwrap_or_default();
        let exact = parse_unix(text).or_else(|| Some(text.parse::<Timestamp>().ok()?.as_millisecond()));
        exact.map_or(Stamp::Printed(date), Stamp::Millis)
    }
}

/// Parses `1740132408.788123`, as `journalctl -o short-unix` prints it.
fn parse_unix(text: &str) -> Option<i64> {
    let (seconds, micros) = text.split_once('.')?;
    let is_number = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    if seconds.len() < 9 || micros.len() != 6 || !is_number(seconds) || !is_number(micros) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    seconds.checked_mul(1000)?.checked_add(micros.parse::<i64>().ok()? / 1000)
}

/// Finds the first record that states its type.
fn find_typed(line: &[u8]) -> Option<Envelope<'_>> {
    let named = memmem::find_iter(line, b"SECCOMP").take(8).find_map(|at| typed_at(line, at, b"SECCOMP".len()));
    let numbered = memmem::find_iter(line, b"1326").take(8).find_map(|at| typed_at(line, at, b"1326".len()));
    [named, numbered].into_iter().flatten().min_by_key(|envelope| envelope.prefix.len())
}

/// Returns the record whose type stands at a place: `type=SECCOMP msg=audit(`, `type=1326 audit(`, `SECCOMP auid=`.
fn typed_at(line: &[u8], at: usize, length: usize) -> Option<Envelope<'_>> {
    let (before, rest) = (&line[..at], &line[at + length..]);
    let typed = [&b"type=UNKNOWN["[..], b"type=\"", b"type="].iter().find_map(|key| before.strip_suffix(*key));
    let rest = rest.strip_prefix(b"]").or_else(|| rest.strip_prefix(b"\"")).unwrap_or(rest);
    let rest = rest.strip_prefix(b",").unwrap_or(rest);
    let fields = rest.strip_prefix(b" ")?.trim_ascii_start();
    let starts_fields = FIRST_KEYS.iter().any(|key| fields.starts_with(key));
    let Some(prefix) = typed else {
        let is_word = before.last().is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
        return (is_word && starts_fields).then_some(Envelope { prefix: before, payload: Payload::Fields(fields) });
    };
    let event = fields.strip_prefix(b"msg=").unwrap_or(fields).trim_ascii_start();
    let event = event.strip_prefix(b"'").or_else(|| event.strip_prefix(b"\"")).unwrap_or(event);
    let payload = if event.starts_with(b"audit(") {
        Payload::Event(event)
    } else if starts_fields {
        Payload::Fields(fields)
    } else {
        return None;
    };
    Some(Envelope { prefix, payload })
}

/// Finds a word's start: at the beginning, or after a blank or quote.
fn find_word(line: &[u8], word: &[u8]) -> Option<usize> {
    memmem::find_iter(line, word).take(8).find(|&at| at == 0 || b" \"'".contains(&line[at - 1]))
}

/// Whether a line has words of a record, even if none can be found in it.
pub(super) fn looks_like_record(line: &[u8]) -> bool {
    let has = |word: &[u8]| memmem::find(line, word).is_some();
    let is_typed = [&b"type=1326"[..], b"type=SECCOMP", b"type=UNKNOWN[1326]", b"SECCOMP auid=", b"SECCOMP uid="]
        .iter()
        .any(|word| has(word));
    let details = [&b"syscall="[..], b"sig=", b"arch=", b"audit(", b"auid="];
    let is_summary = has(b"violated-seccomp-policy");
    (is_typed && details.iter().any(|word| has(word))) || (has(b"compat=") && has(b"syscall=")) || is_summary
}

/// Whether a record may go on in the next line: it has no `code=`, or only a part of its value.
pub(super) fn is_cut_off(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    // Cut before or within the word behind the type.
    let starts = [&b"type=SECCOMP"[..], b"type=1326", b"type=UNKNOWN[1326]", b"SECCOMP"].iter().any(|word| {
        let Some(at) = memmem::rfind(line, word) else { return false };
        let rest = line[at + word.len()..].trim_ascii_start();
        [&b"msg=audit("[..], b"audit("].iter().chain(&FIRST_KEYS).any(|next| next.starts_with(rest))
    });
    if starts {
        return true;
    }
    let Some(envelope) = Envelope::find(line) else { return false };
    let (Payload::Event(body) | Payload::Fields(body)) = envelope.payload;
    let Some(code) = memmem::rfind(body, b" code=") else { return true };
    let value = &body[code + b" code=".len()..];
    let Some(digits) = value.strip_prefix(b"0x") else { return value.is_empty() || value == b"0" };
    // A code that the kernel does not have may be the start of one.
    let code = str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 16).ok());
    digits.is_empty() || code.is_some_and(|code| matches!(Action::from_code(code), Action::Other(_)))
}

/// Joins the next line of a wrapped record; false if the line is none.
pub(super) fn join_line(record: &mut Vec<u8>, line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let starts_key = |text: &[u8]| KEYS.iter().any(|key| text.starts_with(key));
    let has_key = KEYS.iter().any(|key| find_word(line, key).is_some());
    let last = record.rsplit(|byte| *byte == b' ').next().unwrap_or_default().to_vec();
    // The end of a key or of the last value, cut by a terminal.
    let glued = [&last, line].concat();
    let is_value = line.iter().all(u8::is_ascii_alphanumeric);
    let completes = !line.contains(&b' ')
        && starts_key(&glued)
        && (!last.contains(&b'=') || (is_value && last.starts_with(b"code=")));
    if line.is_empty() || !(has_key || completes) || find_typed(line).is_some() {
        return false;
    }
    // A mail program wraps at a blank, and a terminal within a word.
    let ends_word = last.contains(&b'=') || last.ends_with(b":");
    let is_type = [&b"SECCOMP"[..], b"1326"].iter().any(|end| last.ends_with(end));
    if is_type || (ends_word && starts_key(line)) {
        record.push(b' ');
    }
    record.extend_from_slice(line);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &str = r#"auid=4294967295 uid=0 gid=0 ses=4294967295 pid=7 comm="a" exe="/a" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f code=0x80000000"#;

    fn parse(line: &str) -> Result<Record<'_>, Suspicion> {
        Envelope::find(line.as_bytes()).unwrap_or_else(|| panic!("{line}")).parse()
    }

    #[test]
    fn record_in_every_dialect_is_parsed_with_its_stamp() {
        for line in [
            "type=SECCOMP msg=audit(1.002:3): {}",
            "node=web.example.org type=SECCOMP msg=audit(1.002:3): {}",
            "type=SECCOMP msg=audit(1.002:3): {}\u{1d}AUID=\"unset\" ARCH=x86_64 SYSCALL=socket",
            "type=UNKNOWN[1326] msg=audit(1.002:3): {}",
            "type=1326 audit(1.002:3): {}",
            "audit(1.002:3): {}",
            "msg=audit(1.002:3): {}",
            "audit: type=1326 audit(1.002:3): {}",
            "[   12.345678] audit: type=1326 audit(1.002:3): {}",
            "<5>[   12.345678] audit: type=1326 audit(1.002:3): {}",
            "[   12.345678][   T12] audit: type=1326 audit(1.002:3): {}",
            "[Mon Nov 23 22:01:02 2026] audit: type=1326 audit(1.002:3): {}",
            "[  +0.000012] audit: type=1326 audit(1.002:3): {}",
            "2026-11-23T22:01:02,123456+00:00 audit: type=1326 audit(1.002:3): {}",
            "kern  :notice: [   12.345678] audit: type=1326 audit(1.002:3): {}",
            "kern  :notice: [Mon Nov 23 22:01:02 2026] audit: type=1326 audit(1.002:3): {}",
            "Nov 23 22:01:02 web kernel: audit: type=1326 audit(1.002:3): {}",
            "2026-11-23T22:01:02+00:00 web kernel: [   12.345678] audit: type=1326 audit(1.002:3): {}",
            "Nov 23 22:01:02 web audispd: node=web type=SECCOMP msg=audit(1.002:3): {}",
            "Nov 23 22:01:02 web audisp-syslog[12]: type=SECCOMP msg=audit(1.002:3): {}\r",
        ] {
            let text = line.replace("{}", FIELDS);
            let record = parse(&text).unwrap_or_else(|why| panic!("{line}: {why:?}"));
            assert_eq!((record.stamp, record.pid), (Stamp::Millis(1002), 7), "{line}");
        }
    }

    #[test]
    fn date_of_journalctl_is_exact_if_it_tells_its_zone() {
        for (date, stamp) in [
            ("Nov 23 22:01:02 web ", Stamp::Printed(b"Nov 23 22:01:02")),
            ("Nov 23 22:01:02 ", Stamp::Printed(b"Nov 23 22:01:02")),
            ("[   12.345678] web ", Stamp::Printed(b"[   12.345678]")),
            ("2026-11-23T22:01:02+0000 web ", Stamp::Millis(1_795_471_262_000)),
            ("2026-11-23T23:01:02.123456+01:00 web ", Stamp::Millis(1_795_471_262_123)),
            ("1795471262.123456 web ", Stamp::Millis(1_795_471_262_123)),
            ("", Stamp::Unknown),
        ] {
            assert_eq!(parse(&format!("{date}audit[7]: SECCOMP {FIELDS}")).unwrap().stamp, stamp, "{date}");
        }
        assert_eq!(parse(&format!("SECCOMP {FIELDS}")).unwrap().stamp, Stamp::Unknown);
        let android = format!("11-23 22:01:02.123     7     7 W a       : type=1326 audit(0.0:3): {FIELDS}");
        assert!(
            matches!(parse(&android).unwrap().stamp, Stamp::Printed(date) if date.starts_with(b"11-23 22:01:02.123"))
        );
    }

    #[test]
    fn line_that_merely_contains_record_is_suspect() {
        for line in [
            "Nov 23 22:01:02 web evil[9]: audit: type=1326 audit(1.002:3): {}",
            "Nov 23 22:01:02 web evil[9]: kernel: audit: type=1326 audit(1.002:3): {}",
            "Nov 23 22:01:02 web evil: [Mon Nov 23 22:01:02 2026] audit: type=1326 audit(1.002:3): {}",
            "kern evil: audit: type=1326 audit(1.002:3): {}",
            "Nov 23 22:01:02 web evil[9]: type=SECCOMP msg=audit(1.002:3): {}",
            "Nov 23 22:01:02 web evil: x audispd: type=SECCOMP msg=audit(1.002:3): {}",
            "Nov 23 22:01:02 web evil: x audit[7]: SECCOMP {}",
            "Nov 23 22:01:02 web evil[7]: SECCOMP {}",
            "type=USER_CMD msg=audit(1.002:3): cmd=type=SECCOMP msg=audit(1.002:3): {}",
        ] {
            let line = line.replace("{}", FIELDS);
            assert!(matches!(parse(&line), Err(Suspicion::OtherProgram(_))), "{line}");
            assert!(looks_like_record(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn line_about_something_else_does_not_look_like_record() {
        for line in [
            "type=SYSCALL msg=audit(1.002:1326): SECCOMP",
            "type=SYSCALL msg=audit(1.002:3): arch=c000003e syscall=41 success=no exit=-1 key=\"SECCOMP\"",
            "Nov 23 22:01:02 web sudo[9]: root : COMMAND=/sbin/ausearch -m SECCOMP",
            "$ grep type=SECCOMP audit.log",
            "systemd[1]: systemd 252 running in system mode (+PAM +AUDIT +SELINUX +SECCOMP +GCRYPT)",
        ] {
            assert!(Envelope::find(line.as_bytes()).is_none() && !looks_like_record(line.as_bytes()), "{line}");
        }
        assert!(looks_like_record(
            b",SECCOMP,02/21/2025,11:06:48,49,anomaly,unset,system,violated-seccomp-policy,,7,,process,/a"
        ));
        assert!(looks_like_record(b"audit: type=1326 ... comm=\"a\" sig=31 arch=c00000b7 syscall=439"));
    }

    #[test]
    fn record_wrapped_at_any_place_is_joined() {
        let whole = format!("audit: type=1326 audit(1795456862.002:3): {FIELDS}");
        let start = whole.find("1326").unwrap() + 4;
        for cut in start..whole.len() {
            let (first, second) = whole.split_at(cut);
            assert!(is_cut_off(first.as_bytes()), "{first}|{second}");
            {
                let mut joined = first.as_bytes().to_vec();
                assert!(join_line(&mut joined, second.as_bytes()), "{first}|{second}");
                let joined = String::from_utf8(joined).unwrap();
                assert_eq!(
                    parse(&joined).unwrap_or_else(|why| panic!("{joined}: {why:?}")),
                    parse(&whole).unwrap(),
                    "{first}|{second}"
                );
            }
        }
    }
}
