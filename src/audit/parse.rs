//! Parses records of every dialect.
//!
//! The kernel writes one line in one fixed order (`audit_seccomp` and `audit_log_task`, `kernel/auditsc.c`). Other
//! programs copy or interpret it:
//!
//! | dialect | numbers | `comm=` |
//! |---|---|---|
//! | kernel, `audit.log`, journal | as numbers | quoted, or hex |
//! | `log_format = ENRICHED` | the same, then a 0x1d byte and interpreted fields | quoted, or hex |
//! | `ausearch -i` | as names | bare, spaces and all |
//!
//! A process chooses only `comm=` and `exe=`, and both stand between `pid=` and `sig=`. The parser reads the fields
//! before them from the left and those after them from the right, so no name can imitate another field.
//!
//! People paste records that lost something on the way. A record needs `pid=`, `comm=`, `arch=` and `syscall=`, and
//! `sig=` or `code=`; whatever surrounds a value of the kernel's own is ignored.

use super::field_values::{parse_action, parse_call, parse_decimal, parse_hex, parse_id, parse_signal, parse_u32_hex};
use super::kernel_order::KernelOrder;
use super::record::{Action, ArchField, CallField, IdField, Record, Stamp};
use super::text::UntrustedText;
use memchr::{memchr, memmem};

/// The reason why bytes are no SECCOMP record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin with `audit(TIME:SERIAL):`.
    #[error("it has no audit(TIME:SERIAL): in front")]
    Stamp,
    /// A field of every record is missing: the record is cut off, or of another type.
    #[error("it has no {0}= field")]
    Missing(&'static str),
    /// A field has an invalid value.
    #[error("its {0}= has an invalid value")]
    Value(&'static str),
}

/// Parses `audit(TIME:SERIAL): FIELDS`, the payload of a netlink message and the end of most text dialects.
///
/// # Errors
/// The missing or invalid field.
pub fn parse_record(bytes: &[u8]) -> Result<Record<'_>, Malformed> {
    let (stamp, serial, body) = split_stamp(bytes).ok_or(Malformed::Stamp)?;
    parse_fields(body, stamp, serial)
}

/// Returns the serial number of an audit message of any type.
#[must_use]
pub(crate) fn parse_serial(bytes: &[u8]) -> Option<u64> {
    split_stamp(bytes).map(|(_, serial, _)| serial)
}

/// Parses `FIELDS` alone, for envelopes that have time and serial elsewhere.
///
/// # Errors
/// As [`parse_record`].
pub(crate) fn parse_fields<'a>(body: &'a [u8], stamp: Stamp<'a>, serial: u64) -> Result<Record<'a>, Malformed> {
    if let Some(record) = KernelOrder(body).parse(stamp, serial) {
        return Ok(record);
    }
    // ENRICHED: the fields behind the separator repeat those before it.
    let body = memchr(0x1d, body).map_or(body, |end| &body[..end]);
    let comm_at = memmem::find(body, b" comm=").ok_or(Malformed::Missing("comm"))?;
    let tail_at = [&b" sig="[..], b" arch=", b" syscall="].iter().find_map(|key| memmem::rfind(body, key));
    let tail_at = tail_at.ok_or(Malformed::Missing("sig"))?;
    let (head, names) = body.split_at(comm_at);
    let names = names.get(b" comm=".len()..tail_at.saturating_sub(comm_at)).ok_or(Malformed::Missing("sig"))?;
    let tail = Tail::parse(&body[tail_at..])?;

    let interpreted = matches!(tail.arch, ArchField::Name(_));
    let (comm, exe) = split_names(names, interpreted)?;
    // A label can hold spaces ("(enforce)"), so it reaches to the last pid=.
    let pid_at = memmem::rfind(head, b" pid=").map(|at| at + 1).or_else(|| head.starts_with(b"pid=").then_some(0));
    let pid_at = pid_at.ok_or(Malformed::Missing("pid"))?;
    let pid = head[pid_at + b"pid=".len()..].trim_ascii_end();
    let pid = parse_decimal(pid.strip_suffix(b",").unwrap_or(pid)).ok_or(Malformed::Value("pid"))?;
    let head = &head[..pid_at];
    let (ids, subject) = match memmem::find(head, b" subj=") {
        Some(at) => (&head[..at], Some(head[at + b" subj=".len()..].trim_ascii_end())),
        None => (head, None),
    };
    let mut record = Record {
        stamp,
        serial,
        auid: IdField::Unset,
        uid: IdField::Unset,
        gid: IdField::Unset,
        session: IdField::Unset,
        subject,
        pid,
        comm,
        exe,
        signal: tail.signal,
        arch: tail.arch,
        call: tail.call,
        compat: tail.compat,
        ip: tail.ip,
        action: tail.action,
    };
    for (key, value) in pairs(ids) {
        match key {
            b"auid" => record.auid = parse_id(value),
            b"uid" => record.uid = parse_id(value),
            b"gid" => record.gid = parse_id(value),
            b"ses" => record.session = parse_id(value),
            _ => {}
        }
    }
    Ok(record)
}

/// The fields behind the names. The kernel or `ausearch` wrote them, not the process.
struct Tail<'a> {
    signal: i32,
    arch: ArchField<'a>,
    call: CallField<'a>,
    compat: Option<bool>,
    ip: u64,
    action: Action,
}

impl<'a> Tail<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (mut signal, mut arch, mut call, mut action) = (None, None, None, None);
        let (mut compat, mut ip) = (None, 0);
        for (key, value) in pairs(bytes) {
            match key {
                b"sig" => signal = Some(parse_signal(trim_value(value)).ok_or(Malformed::Value("sig"))?),
                b"arch" if !value.is_empty() => arch = Some(parse_arch(trim_value(value))),
                b"syscall" if is_chopped(value) => return Err(Malformed::Value("syscall")),
                b"syscall" if !value.is_empty() => call = Some(parse_call(trim_value(value))),
                b"compat" => compat = Some(trim_value(value) == b"1"),
                b"ip" => ip = parse_hex(trim_value(value)).unwrap_or_default(),
                b"code" => action = Some(parse_action(value).ok_or(Malformed::Value("code"))?),
                _ => {}
            }
        }
        let (signal, action) = match (signal, action) {
            (Some(signal), Some(action)) => (signal, action),
            (None, Some(action)) if action.is_kill() || action == Action::Trap => (super::record::SIGSYS, action),
            (None, Some(action)) => (0, action),
            // A caught SIGSYS has the same signal. To be killed is the usual case.
            (Some(super::record::SIGSYS), None) => (super::record::SIGSYS, Action::Kill),
            (Some(_), None) => return Err(Malformed::Missing("code")),
            (None, None) => return Err(Malformed::Missing("sig")),
        };
        Ok(Self {
            signal,
            arch: arch.ok_or(Malformed::Missing("arch"))?,
            call: call.ok_or(Malformed::Missing("syscall"))?.ok_or(Malformed::Value("syscall"))?,
            compat,
            ip,
            action,
        })
    }
}

/// Whether a pager or `journalctl` cut the line within this value, so that it may be a part of another number.
fn is_chopped(value: &[u8]) -> bool {
    [&b">"[..], b"...", "\u{2026}".as_bytes()].iter().any(|mark| value.ends_with(mark))
}

/// Returns a value of the kernel's or of `ausearch` without what a program put around it, such as a comma.
fn trim_value(value: &[u8]) -> &[u8] {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-()".contains(byte);
    let start = value.iter().position(is_part).unwrap_or(value.len());
    let end = value.iter().rposition(is_part).map_or(start, |last| last + 1);
    &value[start..end]
}

fn parse_arch(value: &[u8]) -> ArchField<'_> {
    let digits = value.strip_prefix(b"0x").unwrap_or(value);
    parse_u32_hex(digits).map_or(ArchField::Name(value), ArchField::Token)
}

/// Splits `audit(TIME:SERIAL): REST`; `ausearch -i` has a space before the last colon.
fn split_stamp(bytes: &[u8]) -> Option<(Stamp<'_>, u64, &[u8])> {
    if let Some((millis, serial, rest)) = KernelOrder(bytes).parse_stamp() {
        return Some((Stamp::Millis(millis), serial, rest));
    }
    let inner = bytes.strip_prefix(b"audit(")?;
    let close = memchr(b')', inner)?;
    let (stamp, rest) = (&inner[..close], &inner[close + 1..]);
    let rest = rest.strip_prefix(b" ").unwrap_or(rest).strip_prefix(b":")?;
    let colon = stamp.iter().rposition(|&byte| byte == b':')?;
    let serial = parse_decimal(&stamp[colon + 1..])?;
    let time = &stamp[..colon];
    // Android's logd writes 0.0, and prints the time in front of the line (`LogAudit::logPrint`).
    let stamp = match parse_millis(time) {
        Some(millis) => Stamp::Millis(millis),
        None if time == b"0.0" => Stamp::Unknown,
        None => Stamp::Printed(time),
    };
    Some((stamp, serial, rest))
}

/// Parses `SECONDS.MILLISECONDS`.
fn parse_millis(time: &[u8]) -> Option<i64> {
    let dot = memchr(b'.', time)?;
    let (seconds, fraction) = (&time[..dot], &time[dot + 1..]);
    if fraction.len() != 3 {
        return None;
    }
    let seconds: i64 = parse_decimal(seconds)?;
    let fraction: i64 = parse_decimal(fraction)?;
    seconds.checked_mul(1000)?.checked_add(fraction)
}

/// Splits the values of `comm=` and `exe=`. Old kernels and some programs leave out `exe=`.
fn split_names(names: &[u8], interpreted: bool) -> Result<(UntrustedText<'_>, Option<UntrustedText<'_>>), Malformed> {
    const EXE: &[u8] = b" exe=";
    let names = names.trim_ascii_end();
    if let [quote @ (b'"' | b'\''), quoted @ ..] = names {
        let end = memchr(*quote, quoted).ok_or(Malformed::Value("comm"))?;
        let (comm, rest) = (UntrustedText::Plain(&quoted[..end]), &quoted[end + 1..]);
        if !matches!(rest.first(), None | Some(b' ' | b',')) {
            return Err(Malformed::Value("comm"));
        }
        let exe = memmem::find(rest, EXE).map(|at| parse_exe(&rest[at + EXE.len()..], interpreted)).transpose()?;
        return Ok((comm, exe.flatten()));
    }
    let Some(at) = memmem::find(names, EXE) else { return Ok((parse_bare_name(names, interpreted, "comm")?, None)) };
    let (comm, exe) = (&names[..at], &names[at + EXE.len()..]);
    // With two candidates the end of comm is unknown, and so is the executable.
    if interpreted && memmem::find(exe, EXE).is_some() {
        return Ok((UntrustedText::Plain(names), None));
    }
    Ok((parse_bare_name(comm, interpreted, "comm")?, parse_exe(exe, interpreted)?))
}

fn parse_exe(value: &[u8], interpreted: bool) -> Result<Option<UntrustedText<'_>>, Malformed> {
    match value.strip_suffix(b",").unwrap_or(value) {
        b"(null)" | b"" => Ok(None),
        [quote @ (b'"' | b'\''), quoted @ .., end] if quote == end && memchr(*quote, quoted).is_none() => {
            Ok(Some(UntrustedText::Plain(quoted)))
        }
        _ => parse_bare_name(value, interpreted, "exe").map(Some),
    }
}

/// Parses a name without quotes: hex of the kernel, text of `ausearch -i`, or text whose quotes were lost.
fn parse_bare_name<'a>(value: &'a [u8], interpreted: bool, key: &'static str) -> Result<UntrustedText<'a>, Malformed> {
    let is_plain = || value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-/+:@(),~#[]".contains(byte));
    match parse_hex_text(value) {
        Some(hex) if !interpreted => Ok(hex),
        _ if interpreted || (!value.is_empty() && is_plain()) => Ok(UntrustedText::Plain(value)),
        _ => Err(Malformed::Value(key)),
    }
}

fn parse_hex_text(value: &[u8]) -> Option<UntrustedText<'_>> {
    let is_digit = |digit: &u8| digit.is_ascii_digit() || (b'A'..=b'F').contains(digit);
    (!value.is_empty() && value.len().is_multiple_of(2) && value.iter().all(is_digit))
        .then_some(UntrustedText::Hex(value))
}

/// Returns the `key=value` words; skips a word without `=`.
fn pairs(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    bytes.split(|&byte| byte == b' ').filter_map(|word| {
        let at = memchr(b'=', word)?;
        Some((&word[..at], &word[at + 1..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KERNEL: &[u8] = br#"audit(1795456064.827:2): auid=4294967295 uid=0 gid=0 ses=4294967295 pid=2294 comm="python3" exe="/usr/bin/python3.11" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f613e11f829 code=0x80000000"#;
    const AUSEARCH: &[u8] = b"audit(01/08/2022 17:12:17.214:96) : auid=user uid=user gid=user ses=1 subj==unconfined pid=41343 comm=ncat exe=/usr/bin/ncat sig=SIGSYS arch=x86_64 syscall=socket compat=0 ip=0x7b9e06e59477 code=kill";

    fn replace(from: &str, to: &str) -> Vec<u8> {
        let kernel = String::from_utf8(KERNEL.to_vec()).unwrap();
        assert!(kernel.contains(from), "{from}");
        kernel.replace(from, to).into_bytes()
    }

    #[test]
    fn record_of_kernel_has_every_field() {
        let record = parse_record(KERNEL).unwrap();
        assert_eq!((record.stamp, record.serial), (Stamp::Millis(1_795_456_064_827), 2));
        assert_eq!((record.auid, record.uid, record.session), (IdField::Unset, IdField::Number(0), IdField::Unset));
        assert_eq!((record.pid, record.signal, record.subject), (2294, 31, None));
        assert_eq!(
            (record.comm, record.exe),
            (UntrustedText::Plain(b"python3"), Some(UntrustedText::Plain(b"/usr/bin/python3.11")))
        );
        assert_eq!((record.arch, record.call), (ArchField::Token(0xc000_003e), CallField::Number(41)));
        assert_eq!((record.ip, record.compat, record.action), (0x7f61_3e11_f829, Some(false), Action::KillProcess));
    }

    #[test]
    fn record_interpreted_by_ausearch_has_names() {
        let record = parse_record(AUSEARCH).unwrap();
        assert_eq!((record.stamp, record.serial), (Stamp::Printed(b"01/08/2022 17:12:17.214"), 96));
        assert_eq!((record.uid, record.subject), (IdField::Name(b"user"), Some(&b"=unconfined"[..])));
        assert_eq!(
            (record.comm, record.exe),
            (UntrustedText::Plain(b"ncat"), Some(UntrustedText::Plain(b"/usr/bin/ncat")))
        );
        assert_eq!((record.arch, record.call), (ArchField::Name(b"x86_64"), CallField::Name(b"socket")));
        assert_eq!((record.signal, record.action), (31, Action::Kill));
    }

    #[test]
    fn enriched_fields_are_ignored() {
        let mut enriched = KERNEL.to_vec();
        enriched.extend_from_slice(b"\x1dAUID=\"unset\" UID=\"root\" ARCH=x86_64 SYSCALL=socket sig=0");
        assert_eq!(parse_record(&enriched), parse_record(KERNEL));
    }

    #[test]
    fn comm_without_quotes_is_hex_or_plain_text() {
        let comm =
            |text: &str| parse_record(&replace("\"python3\"", text)).map(|record| record.comm.decode().into_owned());
        assert_eq!(comm("61221B0A").unwrap(), b"a\"\x1b\n");
        for lost_quotes in ["python3", "612", "cafe", "kworker/0:1"] {
            assert_eq!(comm(lost_quotes).unwrap(), lost_quotes.as_bytes());
        }
        for other in ["&quot;a&quot;", "\\\"a\\\"", "\u{201c}a\u{201d}", "a b"] {
            assert_eq!(comm(other), Err(Malformed::Value("comm")), "{other}");
        }
    }

    #[test]
    fn enriched_fields_without_their_separator_are_ignored() {
        for separator in ["", " ", "#035", "^]", "\\u001d", "\u{fffd}", "\u{241d}", "\\x1d", "\\035", "&#29;", "?"] {
            for enriched in ["AUID=\"unset\" UID=\"root\" ARCH=x86_64 SYSCALL=socket", "ARCH=x86_64 SYSCALL=socket"] {
                let bytes = [KERNEL, separator.as_bytes(), enriched.as_bytes()].concat();
                assert_eq!(parse_record(&bytes), parse_record(KERNEL), "{separator}{enriched}");
            }
            let bytes = [AUSEARCH, separator.as_bytes(), b"UID=\"root\" ARCH=x86_64"].concat();
            assert_eq!(parse_record(&bytes), parse_record(AUSEARCH), "{separator}");
        }
    }

    #[test]
    fn record_without_optional_fields_is_parsed() {
        for field in ["auid=4294967295 ", "uid=0 ", "ses=4294967295 ", " compat=0", " ip=0x7f613e11f829", " sig=31"] {
            let bytes = replace(field, "");
            let record = parse_record(&bytes).unwrap_or_else(|why| panic!("{field}: {why}"));
            assert_eq!((record.pid, record.signal, record.action), (2294, 31, Action::KillProcess), "{field}");
        }
        assert_eq!(parse_record(&replace(" code=0x80000000", "")).unwrap().action, Action::Kill);
        assert_eq!(parse_record(&replace(" exe=\"/usr/bin/python3.11\"", "")).unwrap().exe, None);
        let logged = String::from_utf8(replace("sig=31", "sig=0")).unwrap().replace(" code=0x80000000", "");
        assert_eq!(
            parse_record(logged.as_bytes()),
            Err(Malformed::Missing("code")),
            "refused or logged, unknown which"
        );
    }

    #[test]
    fn interpreted_comm_of_hex_digits_is_plain_text() {
        let bytes = String::from_utf8(AUSEARCH.to_vec()).unwrap().replace("comm=ncat", "comm=cafe");
        assert_eq!(parse_record(bytes.as_bytes()).unwrap().comm, UntrustedText::Plain(b"cafe"));
    }

    #[test]
    fn comm_that_imitates_fields_changes_no_other_field() {
        let bytes = String::from_utf8(AUSEARCH.to_vec()).unwrap().replace("comm=ncat", "comm=a pid=1 sig=0");
        let record = parse_record(bytes.as_bytes()).unwrap();
        assert_eq!((record.pid, record.signal), (41343, 31));
        assert_eq!(record.comm, UntrustedText::Plain(b"a pid=1 sig=0"));

        let bytes = String::from_utf8(AUSEARCH.to_vec()).unwrap().replace("comm=ncat", "comm=a exe=/bin/x");
        let record = parse_record(bytes.as_bytes()).unwrap();
        assert_eq!(record.exe, None, "one of two, unknown which");
    }

    #[test]
    fn label_with_spaces_is_parsed_whole() {
        let bytes = replace(" pid=2294", " subj=snap.x.y (enforce) pid=2294");
        let record = parse_record(&bytes).unwrap();
        assert_eq!((record.subject, record.pid), (Some(&b"snap.x.y (enforce)"[..]), 2294));
    }

    #[test]
    fn call_number_of_32_bits_is_parsed_with_any_sign() {
        let number = |text: &str| {
            parse_record(&replace("syscall=41", &format!("syscall={text}"))).map(|record| match record.call {
                CallField::Number(number) => number,
                CallField::Name(_) => panic!("{text}"),
            })
        };
        assert_eq!(number("4294967295"), Ok(u32::MAX));
        assert_eq!(number("-1"), Ok(u32::MAX));
        assert_eq!(number("unknown-syscall(500)"), Ok(500));
        assert_eq!(number("4294967296"), Err(Malformed::Value("syscall")));
    }

    #[test]
    fn call_that_a_pager_cut_off_is_malformed() {
        for mark in [">", "...", "\u{2026}"] {
            let bytes = replace("=41 compat=0 ip=0x7f613e11f829 code=0x80000000", &format!("=4{mark}"));
            assert_eq!(parse_record(&bytes), Err(Malformed::Value("syscall")), "{mark}");
        }
    }

    #[test]
    fn null_exe_is_none() {
        assert_eq!(parse_record(&replace("\"/usr/bin/python3.11\"", "(null)")).unwrap().exe, None);
    }

    #[test]
    fn record_that_is_cut_off_names_missing_field() {
        let cut = |at: &str| parse_record(&KERNEL[..memmem::find(KERNEL, at.as_bytes()).unwrap()]);
        assert_eq!(cut(" syscall="), Err(Malformed::Missing("syscall")));
        assert_eq!(cut(" arch="), Err(Malformed::Missing("arch")));
        assert_eq!(cut(" sig="), Err(Malformed::Missing("sig")));
        assert_eq!(cut(" comm="), Err(Malformed::Missing("comm")));
        assert_eq!(cut(": auid"), Err(Malformed::Stamp));
        assert_eq!(parse_record(&replace(" pid=2294", "")), Err(Malformed::Missing("pid")));
        assert_eq!(parse_record(&replace("pid=2294", "pid=99999999999")), Err(Malformed::Value("pid")));
    }

    #[test]
    fn fast_and_slow_parser_give_same_record() {
        // An additional word fails the fast parser, and the slow one skips it.
        for body in [
            KERNEL.to_vec(),
            replace("uid=0 gid=0", "uid=33 gid=4294967295"),
            replace(" pid=", " subj=unconfined pid="),
        ] {
            let (stamp, serial, fields) = split_stamp(&body).unwrap();
            let fast = KernelOrder(fields).parse(stamp, serial).unwrap();
            let with_word = [&body[..], b" more=1"].concat();
            assert_eq!(parse_record(&with_word), Ok(fast));
            let (.., fields) = split_stamp(&with_word).unwrap();
            assert_eq!(KernelOrder(fields).parse(stamp, serial), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let _ = parse_record(&bytes);
        }

        #[test]
        fn any_mutation_is_parsed_without_panic(at in 0..KERNEL.len(), inserted: Vec<u8>, drop in 0usize..40) {
            for line in [KERNEL, AUSEARCH] {
                let at = at.min(line.len());
                let mut bytes = line[..at].to_vec();
                bytes.extend_from_slice(&inserted);
                bytes.extend_from_slice(&line[(at + drop).min(line.len())..]);
                let _ = parse_record(&bytes);
            }
        }

        #[test]
        fn any_comm_is_decoded_as_the_process_set_it(comm in proptest::collection::vec(1u8.., 0..16)) {
            let plain = comm.iter().all(|byte| (0x21..0x7f).contains(byte) && *byte != b'"');
            let text = if plain { format!("\"{}\"", String::from_utf8_lossy(&comm)) }
                else { comm.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02X}")) };
            let bytes = replace("\"python3\"", &text);
            prop_assert_eq!(&*parse_record(&bytes).unwrap().comm.decode(), &comm[..]);
        }
    }
}
