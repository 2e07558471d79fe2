//! Bytes → record, every dialect.
//!
//! The kernel writes one line in one fixed order (`audit_seccomp` and `audit_log_task`,
//! `kernel/auditsc.c`); everybody else copies or interprets it:
//!
//! | dialect | numbers | `comm=` |
//! |---|---|---|
//! | kernel, `audit.log`, journal | as numbers | quoted, or hex |
//! | `log_format = ENRICHED` | the same, then a 0x1d byte and interpreted fields | quoted, or hex |
//! | `ausearch -i` | as names | bare, spaces and all |
//!
//! Only `comm=` and `exe=` are a process's choice, and both stand between `pid=` and `sig=`.
//! So the fields before are read from the left and those after from the right, and no name
//! can pose as another field.

use super::record::{Action, ArchField, CallField, IdField, Record, Stamp};
use super::text::{HEX_DIGITS, UntrustedText, hex_digit};
use memchr::{memchr, memmem};

/// Why bytes are no SECCOMP record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No `audit(TIME:SERIAL):` in front.
    #[error("it has no audit(TIME:SERIAL): in front")]
    Stamp,
    /// A field that every record has is not there: cut off, or no SECCOMP record.
    #[error("it has no {0}= field")]
    Missing(&'static str),
    /// A field's value is not of its kind.
    #[error("its {0}= is no value of that field")]
    Value(&'static str),
}

/// `audit(TIME:SERIAL): FIELDS`, the payload of a netlink message and the end of every text dialect.
///
/// # Errors
/// Says what is missing or wrong.
pub fn parse_record(bytes: &[u8]) -> Result<Record<'_>, Malformed> {
    let (stamp, serial, body) = split_stamp(bytes).ok_or(Malformed::Stamp)?;
    parse_fields(body, stamp, serial)
}

/// The serial number of any audit message, whatever its type.
#[must_use]
pub fn parse_serial(bytes: &[u8]) -> Option<u64> {
    split_stamp(bytes).map(|(_, serial, _)| serial)
}

/// `FIELDS` alone, for envelopes that carry time and serial elsewhere.
///
/// # Errors
/// Says what is missing or wrong.
pub fn parse_fields<'a>(body: &'a [u8], stamp: Stamp<'a>, serial: u64) -> Result<Record<'a>, Malformed> {
    if let Some(record) = Strict(body).record(stamp, serial) {
        return Ok(record);
    }
    // ENRICHED: what follows the separator repeats what stands before it.
    let body = memchr(0x1d, body).map_or(body, |end| &body[..end]);
    let comm_at = memmem::find(body, b" comm=").ok_or(Malformed::Missing("comm"))?;
    let sig_at = memmem::rfind(body, b" sig=").ok_or(Malformed::Missing("sig"))?;
    let (head, names) = body.split_at(comm_at);
    let names = names.get(b" comm=".len()..sig_at.saturating_sub(comm_at)).ok_or(Malformed::Missing("sig"))?;
    let tail = Tail::parse(&body[sig_at..])?;

    let interpreted = matches!(tail.arch, ArchField::Name(_));
    let (comm, exe) = split_names(names, interpreted)?;
    // A label can hold spaces ("(enforce)"), so it reaches to the last pid=.
    let pid_at = memmem::rfind(head, b" pid=").ok_or(Malformed::Missing("pid"))?;
    let pid = decimal(&head[pid_at + b" pid=".len()..]).ok_or(Malformed::Value("pid"))?;
    let head = &head[..pid_at];
    let (ids, subject) = match memmem::find(head, b" subj=") {
        Some(at) => (&head[..at], Some(&head[at + b" subj=".len()..])),
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
            b"auid" => record.auid = id(value),
            b"uid" => record.uid = id(value),
            b"gid" => record.gid = id(value),
            b"ses" => record.session = id(value),
            _ => {}
        }
    }
    Ok(record)
}

/// The kernel's own order and spelling, read once from left to right. Whatever differs is left to the patient way.
struct Strict<'a>(&'a [u8]);

impl<'a> Strict<'a> {
    /// Milliseconds, serial number, and what follows.
    fn stamp(mut self) -> Option<(i64, u64, &'a [u8])> {
        let seconds = i64::try_from(self.decimal(b"audit(")?).ok()?;
        let fraction = self.digits(b".", 3, |digit| digit.is_ascii_digit()).filter(|digits| digits.len() == 3)?;
        let fraction = fraction.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
        let serial = self.decimal(b":")?;
        Some((seconds.checked_mul(1000)?.checked_add(fraction)?, serial, self.after(b"):")?))
    }

    fn record(mut self, stamp: Stamp<'a>, serial: u64) -> Option<Record<'a>> {
        self.0 = self.0.strip_prefix(b" ").unwrap_or(self.0);
        let auid = self.id(b"auid=")?;
        let uid = self.id(b" uid=")?;
        let gid = self.id(b" gid=")?;
        let session = self.id(b" ses=")?;
        let subject = match self.after(b" subj=") {
            None => None,
            // A label with spaces is one of the things that take patience.
            Some(rest) => {
                let (label, rest) = rest.split_at(memchr(b' ', rest)?);
                self.0 = rest;
                Some(label)
            }
        };
        let pid = u32::try_from(self.decimal(b" pid=")?).ok()?;
        let comm = self.quoted(b" comm=\"")?;
        let exe = self.quoted(b" exe=\"")?;
        let signal = i32::try_from(self.decimal(b" sig=")?).ok()?;
        let arch = u32::try_from(self.hex(b" arch=")?).ok()?;
        let call = u32::try_from(self.decimal(b" syscall=")?).ok()?;
        let compat = self.decimal(b" compat=")? == 1;
        let ip = self.hex(b" ip=0x")?;
        let code = u32::try_from(self.hex(b" code=0x")?).ok()?;
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

    fn id<const N: usize>(&mut self, key: &[u8; N]) -> Option<IdField<'a>> {
        match self.decimal(key)? {
            0xffff_ffff => Some(IdField::Unset),
            number => u32::try_from(number).ok().map(IdField::Number),
        }
    }

    /// A key and up to 19 decimal digits.
    fn decimal<const N: usize>(&mut self, key: &[u8; N]) -> Option<u64> {
        let digits = self.digits(key, 19, |digit| digit.is_ascii_digit())?;
        Some(digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
    }

    /// A key and up to 16 hex digits.
    fn hex<const N: usize>(&mut self, key: &[u8; N]) -> Option<u64> {
        let digits = self.digits(key, 16, |digit| HEX_DIGITS[usize::from(digit)] < 16)?;
        Some(digits.iter().fold(0, |value, digit| value << 4 | u64::from(HEX_DIGITS[usize::from(*digit)])))
    }

    fn digits<const N: usize>(
        &mut self,
        key: &[u8; N],
        most: usize,
        is_digit: impl Fn(u8) -> bool,
    ) -> Option<&'a [u8]> {
        let rest = self.after(key)?;
        let length = rest.iter().position(|byte| !is_digit(*byte)).unwrap_or(rest.len());
        let (digits, rest) = rest.split_at(length);
        self.0 = rest;
        (1..=most).contains(&length).then_some(digits)
    }

    /// A key with its opening quote, and what stands before the closing one.
    fn quoted<const N: usize>(&mut self, key: &[u8; N]) -> Option<&'a [u8]> {
        let rest = self.after(key)?;
        let (text, rest) = rest.split_at(memchr(b'"', rest)?);
        self.0 = &rest[1..];
        Some(text)
    }

    /// What stands behind a key. Its length is a constant, so that it is compared in place.
    fn after<const N: usize>(&self, key: &[u8; N]) -> Option<&'a [u8]> {
        self.0.split_first_chunk::<N>().filter(|(first, _)| *first == key).map(|(_, rest)| rest)
    }
}

/// What stands behind the names: all of it the kernel's or the interpreter's.
struct Tail<'a> {
    signal: i32,
    arch: ArchField<'a>,
    call: CallField<'a>,
    compat: bool,
    ip: u64,
    action: Action,
}

impl<'a> Tail<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (mut signal, mut arch, mut call, mut action) = (None, None, None, None);
        let (mut compat, mut ip) = (false, 0);
        for (key, value) in pairs(bytes) {
            match key {
                b"sig" => signal = Some(signal_number(value).ok_or(Malformed::Value("sig"))?),
                b"arch" if !value.is_empty() => {
                    arch = Some(u32_hex(value).map_or(ArchField::Name(value), ArchField::Token));
                }
                b"syscall" if !value.is_empty() => call = Some(call_field(value)),
                b"compat" => compat = value == b"1",
                b"ip" => ip = hex(value).unwrap_or_default(),
                b"code" => action = Some(action_field(value).ok_or(Malformed::Value("code"))?),
                _ => {}
            }
        }
        Ok(Self {
            signal: signal.ok_or(Malformed::Missing("sig"))?,
            arch: arch.ok_or(Malformed::Missing("arch"))?,
            call: call.ok_or(Malformed::Missing("syscall"))?.ok_or(Malformed::Value("syscall"))?,
            compat,
            ip,
            action: action.ok_or(Malformed::Missing("code"))?,
        })
    }
}

/// `audit(TIME:SERIAL): REST`, with `ausearch -i`'s space before the last colon.
fn split_stamp(bytes: &[u8]) -> Option<(Stamp<'_>, u64, &[u8])> {
    if let Some((millis, serial, rest)) = Strict(bytes).stamp() {
        return Some((Stamp::Millis(millis), serial, rest));
    }
    let inner = bytes.strip_prefix(b"audit(")?;
    let close = memchr(b')', inner)?;
    let (stamp, rest) = (&inner[..close], &inner[close + 1..]);
    let rest = rest.strip_prefix(b" ").unwrap_or(rest).strip_prefix(b":")?;
    let colon = stamp.iter().rposition(|&byte| byte == b':')?;
    let serial = decimal(&stamp[colon + 1..])?;
    let time = &stamp[..colon];
    Some((millis(time).map_or(Stamp::Printed(time), Stamp::Millis), serial, rest))
}

/// `SECONDS.MILLISECONDS`.
fn millis(time: &[u8]) -> Option<i64> {
    let dot = memchr(b'.', time)?;
    let (seconds, fraction) = (&time[..dot], &time[dot + 1..]);
    if fraction.len() != 3 {
        return None;
    }
    let seconds: i64 = decimal(seconds)?;
    let fraction: i64 = decimal(fraction)?;
    seconds.checked_mul(1000)?.checked_add(fraction)
}

/// The values of `comm=` and `exe=`.
fn split_names(names: &[u8], interpreted: bool) -> Result<(UntrustedText<'_>, Option<UntrustedText<'_>>), Malformed> {
    const EXE: &[u8] = b" exe=";
    if let Some(quoted) = names.strip_prefix(b"\"") {
        let end = memchr(b'"', quoted).ok_or(Malformed::Value("comm"))?;
        let exe = quoted[end + 1..].strip_prefix(EXE).ok_or(Malformed::Missing("exe"))?;
        return Ok((UntrustedText::Plain(&quoted[..end]), exe_text(exe, interpreted)?));
    }
    let at = memmem::find(names, EXE).ok_or(Malformed::Missing("exe"))?;
    let (comm, exe) = (&names[..at], &names[at + EXE.len()..]);
    if interpreted {
        // Two candidates: nobody can tell where comm ends, so no executable is claimed.
        if memmem::find(exe, EXE).is_some() {
            return Ok((UntrustedText::Plain(names), None));
        }
        return Ok((UntrustedText::Plain(comm), exe_text(exe, interpreted)?));
    }
    Ok((hex_text(comm).ok_or(Malformed::Value("comm"))?, exe_text(exe, interpreted)?))
}

fn exe_text(value: &[u8], interpreted: bool) -> Result<Option<UntrustedText<'_>>, Malformed> {
    if value == b"(null)" {
        return Ok(None);
    }
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    match quoted {
        Some(plain) => Ok(Some(UntrustedText::Plain(plain))),
        None if interpreted => Ok(Some(UntrustedText::Plain(value))),
        None => hex_text(value).map(Some).ok_or(Malformed::Value("exe")),
    }
}

fn hex_text(value: &[u8]) -> Option<UntrustedText<'_>> {
    let whole = value.len().is_multiple_of(2) && value.iter().all(|&digit| hex_digit(digit).is_some());
    whole.then_some(UntrustedText::Hex(value))
}

/// `key=value` words; a word without `=` is passed over.
fn pairs(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    bytes.split(|&byte| byte == b' ').filter_map(|word| {
        let at = memchr(b'=', word)?;
        Some((&word[..at], &word[at + 1..]))
    })
}

fn id(value: &[u8]) -> IdField<'_> {
    match decimal(value) {
        Some(u32::MAX) => IdField::Unset,
        Some(number) => IdField::Number(number),
        None if value == b"unset" || value == b"-1" || value.is_empty() => IdField::Unset,
        None => IdField::Name(value),
    }
}

fn signal_number(value: &[u8]) -> Option<i32> {
    if value == b"SIGSYS" { Some(super::record::SIGSYS) } else { decimal(value) }
}

/// A number, negative where the process passed one, a name, or `unknown-syscall(NUMBER)`.
fn call_field(value: &[u8]) -> Option<CallField<'_>> {
    let digits = value.strip_prefix(b"unknown-syscall(").and_then(|rest| rest.strip_suffix(b")")).unwrap_or(value);
    match digits.first()? {
        // The kernel prints the sign-extended int that the filter saw as 32 bits.
        b'-' => decimal(&digits[1..]).map(|below: u32| CallField::Number(below.wrapping_neg())),
        b'0'..=b'9' => decimal(digits).map(CallField::Number),
        _ => Some(CallField::Name(value)),
    }
}

/// `0x80000000`, a word, or `unknown-seccomp-code(0x80000000)`.
fn action_field(value: &[u8]) -> Option<Action> {
    let digits = value.strip_prefix(b"unknown-seccomp-code(").and_then(|rest| rest.strip_suffix(b")")).unwrap_or(value);
    Action::from_word(value).or_else(|| u32::try_from(hex(digits)?).ok().map(Action::from_code))
}

/// Decimal digits, all of them, without a sign.
fn decimal<T: TryFrom<u64>>(digits: &[u8]) -> Option<T> {
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

/// `0x` and hex digits.
fn hex(value: &[u8]) -> Option<u64> {
    let digits = value.strip_prefix(b"0x")?;
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0, |sum: u64, &digit| Some(sum << 4 | u64::from(hex_digit(digit)?)))
}

/// Up to eight bare hex digits, as `arch=` has them.
fn u32_hex(digits: &[u8]) -> Option<u32> {
    if digits.len() > 8 {
        return None;
    }
    digits.iter().try_fold(0, |sum: u32, &digit| Some(sum << 4 | u32::from(hex_digit(digit)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KERNEL: &[u8] = br#"audit(1795456064.827:2): auid=4294967295 uid=0 gid=0 ses=4294967295 pid=2294 comm="python3" exe="/usr/bin/python3.11" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f613e11f829 code=0x80000000"#;
    const AUSEARCH: &[u8] = b"audit(01/08/2022 17:12:17.214:96) : auid=user uid=user gid=user ses=1 subj==unconfined pid=41343 comm=ncat exe=/usr/bin/ncat sig=SIGSYS arch=x86_64 syscall=socket compat=0 ip=0x7b9e06e59477 code=kill";

    fn with(from: &str, to: &str) -> Vec<u8> {
        let kernel = String::from_utf8(KERNEL.to_vec()).unwrap();
        assert!(kernel.contains(from), "{from}");
        kernel.replace(from, to).into_bytes()
    }

    #[test]
    fn the_kernels_own_words() {
        let record = parse_record(KERNEL).unwrap();
        assert_eq!((record.stamp, record.serial), (Stamp::Millis(1_795_456_064_827), 2));
        assert_eq!((record.auid, record.uid, record.session), (IdField::Unset, IdField::Number(0), IdField::Unset));
        assert_eq!((record.pid, record.signal, record.subject), (2294, 31, None));
        assert_eq!(
            (record.comm, record.exe),
            (UntrustedText::Plain(b"python3"), Some(UntrustedText::Plain(b"/usr/bin/python3.11")))
        );
        assert_eq!((record.arch, record.call), (ArchField::Token(0xc000_003e), CallField::Number(41)));
        assert_eq!((record.ip, record.compat, record.action), (0x7f61_3e11_f829, false, Action::KillProcess));
    }

    #[test]
    fn what_ausearch_made_of_it() {
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
    fn enriched_fields_repeat_and_are_cut() {
        let mut enriched = KERNEL.to_vec();
        enriched.extend_from_slice(b"\x1dAUID=\"unset\" UID=\"root\" ARCH=x86_64 SYSCALL=socket sig=0");
        assert_eq!(parse_record(&enriched), parse_record(KERNEL));
    }

    #[test]
    fn a_hostile_comm_is_hex_and_stays_bytes() {
        let bytes = with("\"python3\"", "61221B0A");
        assert_eq!(&*parse_record(&bytes).unwrap().comm.decode(), b"a\"\x1b\n");
        assert_eq!(parse_record(&with("\"python3\"", "612")), Err(Malformed::Value("comm")));
        assert_eq!(parse_record(&with("\"python3\"", "zz")), Err(Malformed::Value("comm")));
    }

    #[test]
    fn a_bare_name_of_hex_digits_is_a_name_where_all_is_interpreted() {
        let bytes = String::from_utf8(AUSEARCH.to_vec()).unwrap().replace("comm=ncat", "comm=cafe");
        assert_eq!(parse_record(bytes.as_bytes()).unwrap().comm, UntrustedText::Plain(b"cafe"));
    }

    #[test]
    fn no_name_can_pose_as_another_field() {
        let bytes = String::from_utf8(AUSEARCH.to_vec()).unwrap().replace("comm=ncat", "comm=a pid=1 sig=0");
        let record = parse_record(bytes.as_bytes()).unwrap();
        assert_eq!((record.pid, record.signal), (41343, 31));
        assert_eq!(record.comm, UntrustedText::Plain(b"a pid=1 sig=0"));

        let bytes = String::from_utf8(AUSEARCH.to_vec()).unwrap().replace("comm=ncat", "comm=a exe=/bin/x");
        let record = parse_record(bytes.as_bytes()).unwrap();
        assert_eq!(record.exe, None, "which of the two is not known");
    }

    #[test]
    fn a_label_may_hold_spaces() {
        let bytes = with(" pid=2294", " subj=snap.x.y (enforce) pid=2294");
        let record = parse_record(&bytes).unwrap();
        assert_eq!((record.subject, record.pid), (Some(&b"snap.x.y (enforce)"[..]), 2294));
    }

    #[test]
    fn any_number_is_a_call() {
        let number = |text: &str| {
            parse_record(&with("syscall=41", &format!("syscall={text}"))).map(|record| match record.call {
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
    fn a_task_without_executable() {
        assert_eq!(parse_record(&with("\"/usr/bin/python3.11\"", "(null)")).unwrap().exe, None);
    }

    #[test]
    fn what_is_cut_off_says_what_is_missing() {
        let cut = |at: &str| parse_record(&KERNEL[..memmem::find(KERNEL, at.as_bytes()).unwrap()]);
        assert_eq!(cut(" code="), Err(Malformed::Missing("code")));
        assert_eq!(cut(" sig="), Err(Malformed::Missing("sig")));
        assert_eq!(cut(" comm="), Err(Malformed::Missing("comm")));
        assert_eq!(cut(": auid"), Err(Malformed::Stamp));
        assert_eq!(parse_record(&with(" pid=2294", "")), Err(Malformed::Missing("pid")));
        assert_eq!(parse_record(&with("pid=2294", "pid=99999999999")), Err(Malformed::Value("pid")));
    }

    #[test]
    fn what_is_read_at_once_is_what_patience_reads() {
        // A word more is passed over, but not at once.
        for body in
            [KERNEL.to_vec(), with("uid=0 gid=0", "uid=33 gid=4294967295"), with(" pid=", " subj=unconfined pid=")]
        {
            let (stamp, serial, fields) = split_stamp(&body).unwrap();
            let at_once = Strict(fields).record(stamp, serial).unwrap();
            let patient = [&body[..], b" more=1"].concat();
            assert_eq!(parse_record(&patient), Ok(at_once));
            let (.., fields) = split_stamp(&patient).unwrap();
            assert_eq!(Strict(fields).record(stamp, serial), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>) {
            let _ = parse_record(&bytes);
        }

        #[test]
        fn no_mutation_is_too_strange(at in 0..KERNEL.len(), with: Vec<u8>, drop in 0usize..40) {
            for line in [KERNEL, AUSEARCH] {
                let at = at.min(line.len());
                let mut bytes = line[..at].to_vec();
                bytes.extend_from_slice(&with);
                bytes.extend_from_slice(&line[(at + drop).min(line.len())..]);
                let _ = parse_record(&bytes);
            }
        }

        #[test]
        fn every_comm_the_kernel_can_write_comes_back(comm in proptest::collection::vec(1u8.., 0..16)) {
            let plain = comm.iter().all(|byte| (0x21..0x7f).contains(byte) && *byte != b'"');
            let text = if plain { format!("\"{}\"", String::from_utf8_lossy(&comm)) }
                else { comm.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02X}")) };
            let bytes = with("\"python3\"", &text);
            prop_assert_eq!(&*parse_record(&bytes).unwrap().comm.decode(), &comm[..]);
        }
    }
}
