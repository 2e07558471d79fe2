//! The envelope of one text line: what each log dialect puts around a SECCOMP record.

use crate::audit::{Malformed, Record, Stamp, parse_fields, parse_record};
use memchr::{memchr, memmem};

/// A line without its envelope.
#[derive(Debug, Clone, Copy)]
pub(super) enum Payload<'a> {
    /// `audit(TIME:SERIAL): FIELDS`.
    Event(&'a [u8]),
    /// The fields alone, from `auid=` on, in the dialect that prints the time elsewhere.
    Fields { fields: &'a [u8], stamp: Stamp<'a> },
}

impl<'a> Payload<'a> {
    /// Parses the record.
    ///
    /// # Errors
    /// As [`parse_record`].
    pub(super) fn parse(self) -> Result<Record<'a>, Malformed> {
        match self {
            Self::Event(event) => parse_record(event),
            Self::Fields { fields, stamp } => parse_fields(fields, stamp, 0),
        }
    }
}

/// Strips the envelope of a line that claims to be a SECCOMP record; `None` for every other line.
///
/// The claim must stand where the dialect puts it: any process may log a line that *contains* one.
pub(super) fn strip_envelope(line: &[u8]) -> Option<Payload<'_>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if let Some(event) = line.strip_prefix(b"type=SECCOMP msg=") {
        return Some(Payload::Event(event));
    }
    for name in [&b"type=SECCOMP msg="[..], b"type=UNKNOWN[1326] msg=", b"type=1326 msg="] {
        if let Some(at) = memmem::find(line, name) {
            return is_audit_prefix(&line[..at]).then_some(Payload::Event(&line[at + name.len()..]));
        }
    }
    find_kernel_event(line).map(Payload::Event).or_else(|| strip_journalctl_prefix(line))
}

/// Returns the record in a line of the kernel log, with or without level, printk time and syslog prefix.
pub(super) fn find_kernel_event(line: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"type=1326 audit(";
    let at = memmem::find(line, NAME)?;
    let prefix = line[..at].strip_suffix(b"audit: ").unwrap_or(&line[..at]);
    let event = &line[at + b"type=1326 ".len()..];
    let prefix = strip_dmesg_level(strip_printk_time(prefix));
    let is_bare = prefix.is_empty() || (prefix.starts_with(b"<") && prefix.ends_with(b">") && prefix.len() <= 5);
    (is_bare || has_only_tag(prefix, b"kernel: ")).then_some(event)
}

/// Strips printk's `[   12.345678] ` or `[   12.345678][   T12] `, and the forms of `dmesg -T`, `-e`, `-d` and
/// `--time-format iso`: `[Mon Nov 23 22:01:02 2026] `, `[  +0.000012] `, `2026-11-23T22:01:02,123456+00:00 `.
fn strip_printk_time(prefix: &[u8]) -> &[u8] {
    let Some(mut rest) = prefix.strip_suffix(b" ") else { return prefix };
    if !rest.ends_with(b"]") {
        let at = rest.iter().rposition(|&byte| byte == b' ').map_or(0, |space| space + 1);
        let date = &rest[at..];
        let is_date =
            date.len() > 18 && date[10] == b'T' && date.iter().all(|byte| b"0123456789T:.,+-Z".contains(byte));
        return if is_date { &rest[..at] } else { prefix };
    }
    while let Some(inner) = rest.strip_suffix(b"]") {
        let is_time = |byte: &u8| byte.is_ascii_alphanumeric() || b" .:+-<>".contains(byte);
        match inner.iter().rposition(|byte| !is_time(byte)) {
            Some(open) if inner[open] == b'[' => rest = &inner[..open],
            _ => return prefix,
        }
    }
    rest
}

/// Strips the facility and level that `dmesg -x` puts in front: `kern  :notice: `.
fn strip_dmesg_level(prefix: &[u8]) -> &[u8] {
    let level = || {
        let level = prefix.strip_prefix(b"kern")?.trim_ascii_start().strip_prefix(b":")?;
        let level = level.strip_suffix(b": ")?.trim_ascii_end();
        level.iter().all(u8::is_ascii_lowercase).then_some(level)
    };
    if level().is_some() { b"" } else { prefix }
}

/// Strips `DATE HOST audit[PID]: SECCOMP `, which `journalctl` prints before the fields of an audit entry.
fn strip_journalctl_prefix(line: &[u8]) -> Option<Payload<'_>> {
    const NAME: &[u8] = b": SECCOMP ";
    let at = memmem::find(line, NAME)?;
    let tag_at = line[..at].iter().rposition(|&byte| byte == b' ')?;
    let tag = &line[tag_at + 1..at];
    let pid = tag.strip_prefix(b"audit[").and_then(|tag| tag.strip_suffix(b"]"));
    if tag != b"audit" && !pid.is_some_and(|pid| pid.iter().all(u8::is_ascii_digit)) {
        return None;
    }
    let host_at = line[..tag_at].iter().rposition(|&byte| byte == b' ').unwrap_or(0);
    // Another program's message that contains these words has that program's tag in front.
    if memmem::find(&line[..tag_at], b": ").is_some() {
        return None;
    }
    Some(Payload::Fields { fields: &line[at + NAME.len()..], stamp: Stamp::Printed(&line[..host_at]) })
}

/// Whether this may stand before `type=SECCOMP`: nothing, `node=HOST `, or a syslog prefix with audisp's tag.
fn is_audit_prefix(prefix: &[u8]) -> bool {
    let is_node = |prefix: &[u8]| {
        prefix.is_empty()
            || prefix
                .strip_prefix(b"node=")
                .and_then(|rest| rest.strip_suffix(b" "))
                .is_some_and(|host| !host.contains(&b' '))
    };
    if is_node(prefix) {
        return true;
    }
    [&b"audispd"[..], b"audisp-syslog", b"audisp"].iter().any(|tag| {
        let Some(at) = memmem::find(prefix, tag) else { return false };
        let rest = &prefix[at + tag.len()..];
        let rest = rest.strip_prefix(b"[").map_or(rest, |rest| memchr(b']', rest).map_or(rest, |end| &rest[end + 1..]));
        at > 0
            && prefix[at - 1] == b' '
            && memmem::find(&prefix[..at], b": ").is_none()
            && rest.strip_prefix(b": ").is_some_and(is_node)
    })
}

/// Whether a syslog prefix ends in this tag and holds no other before it.
fn has_only_tag(prefix: &[u8], tag: &[u8]) -> bool {
    prefix.strip_suffix(tag).is_some_and(|rest| rest.ends_with(b" ") && memmem::find(rest, b": ").is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &str = r#"auid=4294967295 uid=0 gid=0 ses=4294967295 pid=7 comm="a" exe="/a" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f code=0x80000000"#;

    #[test]
    fn record_in_every_dialect_is_parsed_with_its_stamp() {
        for line in [
            "type=SECCOMP msg=audit(1.002:3): {}",
            "node=web.example.org type=SECCOMP msg=audit(1.002:3): {}",
            "type=SECCOMP msg=audit(1.002:3): {}\u{1d}AUID=\"unset\" ARCH=x86_64 SYSCALL=socket",
            "type=UNKNOWN[1326] msg=audit(1.002:3): {}",
            "type=1326 audit(1.002:3): {}",
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
            let record = strip_envelope(text.as_bytes()).unwrap().parse().unwrap();
            assert_eq!((record.stamp, record.pid), (Stamp::Millis(1002), 7), "{line}");
        }
    }

    #[test]
    fn date_printed_by_journalctl_is_kept_as_printed() {
        let text = format!("Nov 23 22:01:02 web audit[7]: SECCOMP {FIELDS}");
        let record = strip_envelope(text.as_bytes()).unwrap().parse().unwrap();
        assert_eq!((record.stamp, record.pid), (Stamp::Printed(b"Nov 23 22:01:02"), 7));
    }

    #[test]
    fn line_that_merely_contains_record_is_no_record() {
        for line in [
            "Nov 23 22:01:02 web evil[9]: audit: type=1326 audit(1.002:3): {}",
            "Nov 23 22:01:02 web evil[9]: kernel: audit: type=1326 audit(1.002:3): {}",
            "Nov 23 22:01:02 web evil: [Mon Nov 23 22:01:02 2026] audit: type=1326 audit(1.002:3): {}",
            "kern evil: audit: type=1326 audit(1.002:3): {}",
            "Nov 23 22:01:02 web evil[9]: type=SECCOMP msg=audit(1.002:3): {}",
            "Nov 23 22:01:02 web evil: x audispd: type=SECCOMP msg=audit(1.002:3): {}",
            "Nov 23 22:01:02 web evil: x audit[7]: SECCOMP {}",
            "type=USER_CMD msg=audit(1.002:3): cmd=type=SECCOMP msg=audit(1.002:3): {}",
        ] {
            assert!(strip_envelope(line.replace("{}", FIELDS).as_bytes()).is_none(), "{line}");
        }
    }
}
