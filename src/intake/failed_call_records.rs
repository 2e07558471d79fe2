//! Records of failed system calls: `SYSCALL` with `success=no`, and the `CWD`, `PATH` and `SOCKADDR` records of the same
//! serial number (`audit_log_exit` in `kernel/auditsc.c`).
//!
//! An `AVC` record of the serial number shows that a security module denied the call. The kernel asks these modules only
//! for what it grants itself, capabilities included, so no setting of the unit denied it.

use super::line_prefix::find_other_program;
use crate::audit::text::escape;
use crate::incidents::{AccessPath, AddressRole, FailedAttempt, KnownArgument};
use crate::policy::errno;
use crate::syscalls::{Arch, Call};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use memchr::memmem;
use std::collections::VecDeque;

/// The most events whose records are kept at a time.
const MOST_OPEN: usize = 32;

/// The kinds of records that tell about a failed call, by name and number (`linux/audit.h`).
const KINDS: [(&[u8], &[u8], RecordKind); 5] = [
    (b"SYSCALL", b"1300", RecordKind::Syscall),
    (b"PATH", b"1302", RecordKind::Path),
    (b"SOCKADDR", b"1306", RecordKind::SocketAddress),
    (b"CWD", b"1307", RecordKind::Directory),
    (b"AVC", b"1400", RecordKind::SecurityModule),
];

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordKind {
    Syscall,
    Path,
    SocketAddress,
    Directory,
    SecurityModule,
}

/// A failed call, and the process that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordedFailure {
    /// The path of the executable.
    pub(super) exe: Box<[u8]>,
    pub(super) attempt: FailedAttempt,
}

/// The records of one event so far.
#[derive(Debug, Default)]
struct OpenEvent {
    serial: u64,
    call: Option<(Call, i32)>,
    exe: Box<[u8]>,
    directory: Box<[u8]>,
    /// The path of the last record that is not about a parent directory, or else of the last one.
    path: Option<(Box<[u8]>, bool)>,
    address: Option<(u16, Option<SocketAddr>)>,
    is_denied_by_module: bool,
}

/// Joins the records of each event.
#[derive(Debug, Default)]
pub(super) struct CallRecordReader {
    open: VecDeque<OpenEvent>,
}

/// Whether lines may hold the first record of a failed call.
pub(super) fn may_tell(lines: &[u8]) -> bool {
    [&b" success=no "[..], b"type=AVC ", b"type=1400 "].iter().any(|words| memmem::find(lines, words).is_some())
}

impl CallRecordReader {
    /// Whether records of the latest event may follow.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Reads a line. Returns whether it is a record of the audit system, and a failed call that is whole now.
    pub(super) fn read_line(&mut self, line: &[u8]) -> (bool, Option<RecordedFailure>) {
        let Some((kind, serial, body)) = split_record(line) else { return (false, None) };
        (true, self.read_record(kind, serial, body))
    }

    /// Reads a record of a journal: the number of its type, its serial number, and its fields.
    pub(super) fn read_entry(&mut self, kind: &[u8], serial: u64, body: &[u8]) -> Option<RecordedFailure> {
        self.read_record(kind, serial, body)
    }

    fn read_record(&mut self, kind: &[u8], serial: u64, body: &[u8]) -> Option<RecordedFailure> {
        let (.., kind) = KINDS.iter().find(|(name, number, _)| *name == kind || *number == kind)?;
        let at = self.open.iter().rposition(|event| event.serial == serial);
        let is_start = matches!(kind, RecordKind::SecurityModule)
            || (*kind == RecordKind::Syscall && find_field(body, b"success=").is_some_and(|value| value == b"no"));
        let mut closed = None;
        let at = match at {
            Some(at) => at,
            None if is_start => {
                if self.open.len() >= MOST_OPEN {
                    closed = self.open.pop_front().and_then(OpenEvent::close);
                }
                self.open.push_back(OpenEvent { serial, ..OpenEvent::default() });
                self.open.len() - 1
            }
            None => return None,
        };
        if let Some(event) = self.open.get_mut(at) {
            event.add(*kind, body);
        }
        closed
    }

    /// Returns the calls of the events that are still open.
    pub(super) fn finish(&mut self) -> Vec<RecordedFailure> {
        std::mem::take(&mut self.open).into_iter().filter_map(OpenEvent::close).collect()
    }
}

impl OpenEvent {
    fn add(&mut self, kind: RecordKind, body: &[u8]) {
        match kind {
            RecordKind::Syscall => {
                self.call = parse_call(body);
                self.exe = find_field(body, b"exe=").and_then(decode).unwrap_or_default();
            }
            RecordKind::Directory => self.directory = find_field(body, b"cwd=").and_then(decode).unwrap_or_default(),
            RecordKind::Path => {
                let is_parent = find_field(body, b"nametype=").is_some_and(|kind| kind == b"PARENT");
                let is_better = !is_parent || self.path.as_ref().is_none_or(|(_, is_parent)| *is_parent);
                if let Some(name) = find_field(body, b"name=").and_then(decode).filter(|_| is_better) {
                    self.path = Some((name, is_parent));
                }
            }
            RecordKind::SocketAddress => self.address = find_field(body, b"saddr=").and_then(parse_socket_address),
            RecordKind::SecurityModule => self.is_denied_by_module = true,
        }
    }

    fn close(self) -> Option<RecordedFailure> {
        let (call, errno) = self.call.filter(|_| !self.is_denied_by_module)?;
        let name = call.abi()?.call_name(call.number()?)?;
        let path = self.path.map(|(path, _)| join(&self.directory, &path)).filter(|path| path.starts_with(b"/"));
        let address = self.address.and_then(|(_, address)| address);
        let role = if name == "bind" { AddressRole::Bound } else { AddressRole::Reached };
        let what = path.as_ref().map(|path| escape(path)).or_else(|| address.map(|address| address.to_string()));
        let what = what.map_or_else(String::new, |what| format!(" {what}"));
        let error = errno::name(errno).unwrap_or_else(|| errno.to_string());
        let attempt = FailedAttempt {
            errno,
            call: Some(name),
            argument: KnownArgument::Unknown,
            makes_directory: name.starts_with("mkdir"),
            paths: path.iter().map(|path| AccessPath::new(path)).collect(),
            address: address.map(|address| (address, role)),
            family: self.address.map(|(family, _)| family).filter(|_| errno == libc::EAFNOSUPPORT),
            text: format!("{name}{what}: {error}").into(),
        };
        Some(RecordedFailure { exe: self.exe, attempt })
    }
}

/// Splits `type=KIND msg=audit(TIME:SERIAL): FIELDS`.
fn split_record(line: &[u8]) -> Option<(&[u8], u64, &[u8])> {
    let at = memmem::find(line, b"type=")?;
    if find_other_program(&line[..at]).is_some() {
        return None;
    }
    let rest = &line[at + b"type=".len()..];
    let kind = rest.split(|byte| *byte == b' ').next()?;
    let rest = &rest[kind.len()..];
    let stamp = &rest[memmem::find(rest, b"audit(").filter(|at| *at < 8)? + b"audit(".len()..];
    let end = memchr::memchr(b')', stamp)?;
    let serial = stamp[..end].rsplit(|byte| *byte == b':').next()?;
    let serial = str::from_utf8(serial).ok()?.parse().ok()?;
    Some((kind, serial, stamp[end + 1..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start()))
}

/// Returns the value of a field, with its quotes.
pub(super) fn find_field<'a>(body: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut words = body.split(|byte| matches!(byte, b' ' | 0x1d | b'\''));
    words.find_map(|word| word.strip_prefix(key)).map(<[u8]>::trim_ascii_end)
}

/// Decodes the text of a field: in quotes, in hex, or as `ausearch -i` prints it.
fn decode(value: &[u8]) -> Option<Box<[u8]>> {
    if let Some(quoted) = value.strip_prefix(b"\"") {
        return Some(quoted.strip_suffix(b"\"").unwrap_or(quoted).into());
    }
    if value == b"(null)" || value.is_empty() {
        return None;
    }
    Some(parse_hex(value).unwrap_or_else(|| value.to_vec()).into())
}

fn parse_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    pairs.collect::<Option<Vec<u8>>>().filter(|_| digits.len().is_multiple_of(2))
}

/// Parses the call and its error: `syscall=257 … exit=-30`, or `syscall=openat … exit=EROFS(Read-only file system)`.
fn parse_call(body: &[u8]) -> Option<(Call, i32)> {
    let (arch, call) = (find_field(body, b"arch=")?, find_field(body, b"syscall=")?);
    let exit = str::from_utf8(find_field(body, b"exit=")?).ok()?;
    let errno = match exit.strip_prefix('-') {
        Some(number) => number.parse().ok()?,
        None => errno::parse(exit.split('(').next()?)?,
    };
    let token = str::from_utf8(arch).ok().and_then(|text| u32::from_str_radix(text, 16).ok());
    let number = str::from_utf8(call).ok().and_then(|text| text.parse().ok());
    let call = match (token, number) {
        (Some(token), Some(number)) => Call::numbered(Arch(token), number),
        _ => Call::interpreted(arch, call),
    };
    (errno > 0).then_some((call, errno))
}

/// Parses a `struct sockaddr` in hex: its family, and the address of an Internet family.
fn parse_socket_address(value: &[u8]) -> Option<(u16, Option<SocketAddr>)> {
    let bytes = parse_hex(value)?;
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = || Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    let ip: Option<IpAddr> = match i32::from(family) {
        libc::AF_INET => {
            bytes.get(4..8).and_then(|ip| <[u8; 4]>::try_from(ip).ok()).map(|ip| Ipv4Addr::from(ip).into())
        }
        libc::AF_INET6 => {
            bytes.get(8..24).and_then(|ip| <[u8; 16]>::try_from(ip).ok()).map(|ip| Ipv6Addr::from(ip).into())
        }
        _ => None,
    };
    Some((family, ip.zip(port()).map(|(ip, port)| SocketAddr::new(ip, port))))
}

/// Joins a path with the directory that it starts from.
fn join(directory: &[u8], path: &[u8]) -> Box<[u8]> {
    if path.starts_with(b"/") || directory.is_empty() {
        return path.into();
    }
    [directory.strip_suffix(b"/").unwrap_or(directory), path.strip_prefix(b"./").unwrap_or(path)].join(&b'/').into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> Vec<String> {
        let mut reader = CallRecordReader::default();
        let mut calls: Vec<RecordedFailure> =
            lines.iter().filter_map(|line| reader.read_line(line.as_bytes()).1).collect();
        calls.extend(reader.finish());
        let show = |call: RecordedFailure| format!("{} {}", escape(&call.exe), call.attempt.text);
        calls.into_iter().map(show).collect()
    }

    const OPEN: &str = r#"type=SYSCALL msg=audit(1.002:77): arch=c000003e syscall=257 success=no exit=-30 a0=ffffff9c items=2 ppid=1 pid=7 uid=0 comm="x" exe="/usr/bin/x" subj=unconfined key="sandbox""#;

    #[test]
    fn records_of_one_serial_are_one_call() {
        let cwd = r#"type=CWD msg=audit(1.002:77): cwd="/srv/app""#;
        let parent = r#"type=PATH msg=audit(1.002:77): item=0 name="data/" inode=1 nametype=PARENT cap_fp=0"#;
        let name = r#"type=PATH msg=audit(1.002:77): item=1 name="data/x" nametype=CREATE cap_fp=0"#;
        let other = r#"type=PATH msg=audit(1.002:78): item=0 name="/other" nametype=NORMAL"#;
        assert_eq!(read(&[OPEN, cwd, parent, name, other]), ["/usr/bin/x openat /srv/app/data/x: EROFS"]);
        assert_eq!(read(&[OPEN, parent]), ["/usr/bin/x openat: EROFS"], "a relative path without its directory");
        let hex = "type=PATH msg=audit(1.002:77): item=0 name=2F612062 nametype=NORMAL";
        assert_eq!(read(&[OPEN, hex]), ["/usr/bin/x openat /a b: EROFS"]);
    }

    #[test]
    fn bound_address_is_decoded() {
        let bind = r#"audit: type=1300 audit(1.002:9): arch=c000003e syscall=49 success=no exit=-13 pid=7 comm="n" exe="/usr/sbin/n""#;
        let address = "audit: type=1306 audit(1.002:9): saddr=02000050000000000000000000000000";
        assert_eq!(read(&[bind, address]), ["/usr/sbin/n bind 0.0.0.0:80: EACCES"]);
        let interpreted = "type=SYSCALL msg=audit(23/11/26 22:01:02.002:9) : arch=x86_64 syscall=chown success=no exit=EPERM(Operation not permitted) pid=7 comm=n exe=/usr/sbin/n";
        assert_eq!(read(&[interpreted]), ["/usr/sbin/n chown: EPERM"]);
    }

    #[test]
    fn call_that_a_security_module_denied_or_that_succeeded_is_none() {
        let avc = r#"type=AVC msg=audit(1.002:77): apparmor="DENIED" operation="capable" profile="x" capability=10 capname="net_bind_service""#;
        assert_eq!(read(&[avc, OPEN]), [""; 0]);
        assert_eq!(read(&[OPEN, avc]), [""; 0]);
        assert_eq!(read(&[&OPEN.replace("success=no exit=-30", "success=yes exit=3")]), [""; 0]);
        assert_eq!(read(&[&format!("Nov 23 22:01:02 web evil[9]: {OPEN}")]), [""; 0]);
    }

    #[test]
    fn open_events_are_bounded() {
        let mut reader = CallRecordReader::default();
        let line = |serial: usize| OPEN.replace(":77)", &format!(":{serial})"));
        let closed = (0..1000).filter(|serial| reader.read_line(line(*serial).as_bytes()).1.is_some()).count();
        assert_eq!((closed, reader.finish().len()), (1000 - MOST_OPEN, MOST_OPEN));
    }

    proptest! {
        #[test]
        fn any_record_is_read(body: Vec<u8>, kind in "SYSCALL|PATH|SOCKADDR|CWD|AVC|1300", value in "[0-9a-fA-F\"-]{0,60}") {
            let mut line = format!("type={kind} msg=audit(1.2:3): arch={value} syscall={value} success=no exit={value} name={value} saddr={value} ").into_bytes();
            line.extend(body);
            let mut reader = CallRecordReader::default();
            reader.read_line(OPEN.as_bytes());
            reader.read_line(&line);
            reader.finish();
        }
    }
}
