//! Text in any dialect, mixed, with foreign lines between: audit logs, `ausearch` output, kernel logs,
//! `journalctl` output and journal exports.

mod repeats;

use super::journal::Export;
pub use super::lines::LONGEST_LINE;
use super::lines::{Line, Lines};
use super::sigsys_exit_line::Deaths;
use super::{journal, sigsys_exit_line};
use crate::audit::{Malformed, Record, Stamp, parse_fields, parse_record};
use crate::units::Unit;
use memchr::{memchr, memchr_iter, memmem, memrchr};
use repeats::{Judged, Repeats};
use std::io;
use std::io::Read;

/// How many skipped lines are described; all are counted.
const COMPLAINTS: usize = 5;

/// What was read, and what was not.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Lines, or journal entries of an export.
    pub lines: u64,
    /// SECCOMP records among them.
    pub records: u64,
    /// Records that are among these already: the log holds them more than once.
    pub repeats: u64,
    /// Lines about something else.
    pub foreign: u64,
    /// Lines that begin as a record and are none.
    pub malformed: u64,
    /// Lines over [`LONGEST_LINE`].
    pub overlong: u64,
    /// What the lines about something else tell of deaths of SIGSYS.
    pub deaths: Deaths,
    /// The first few malformed or over-long lines, by number, with what is wrong.
    pub complaints: Vec<(u64, String)>,
}

impl Tally {
    fn complain(&mut self, why: String) {
        if self.complaints.len() < COMPLAINTS {
            self.complaints.push((self.lines, why));
        }
    }

    /// Counts the outcome of one line or entry.
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Record => self.records += 1,
            Outcome::Repeat => self.repeats += 1,
            Outcome::Foreign => self.foreign += 1,
            Outcome::Malformed(why) => {
                self.malformed += 1;
                self.complain(why.to_string());
            }
        }
    }
}

/// What a line or journal entry was.
#[derive(Clone, Copy)]
pub(super) enum Outcome {
    Record,
    Repeat,
    Foreign,
    Malformed(Malformed),
}

/// Takes a record, and the unit that its source names for the process, if it does.
pub type Each<'a> = dyn FnMut(&Record<'_>, Option<&Unit>, Seen) + 'a;

/// Whether a record was handed on before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It was not.
    First,
    /// It was, without the precise time that it has now: it is not to be counted again.
    Undated,
}

/// Hands records on, each once.
pub(super) struct Taker<'a, 'b> {
    each: &'a mut Each<'b>,
    repeats: Repeats,
}

impl Taker<'_, '_> {
    pub(super) fn take(&mut self, parsed: Result<Record<'_>, Malformed>, unit: Option<&Unit>) -> Outcome {
        let record = match parsed {
            Ok(record) => record,
            Err(why) => return Outcome::Malformed(why),
        };
        match self.repeats.judge(&record) {
            Judged::New => {
                (self.each)(&record, unit, Seen::First);
                Outcome::Record
            }
            Judged::Dates => {
                (self.each)(&record, unit, Seen::Undated);
                Outcome::Repeat
            }
            Judged::Repeat => Outcome::Repeat,
        }
    }
}

/// Reads all of `input` and hands each record on, with the unit that a journal export named for
/// its process before, if any.
///
/// # Errors
/// Only those of reading. Whatever the bytes are, they are counted, not fatal.
pub fn read(input: &mut dyn Read, each: &mut Each<'_>) -> io::Result<Tally> {
    let taker = Taker { each, repeats: Repeats::default() };
    let mut reader = Reader { tally: Tally::default(), needles: Needles::new(), taker };
    let mut export = Export::default();
    let mut lines = Lines::new(input);
    loop {
        if let Some(block) = lines.block() {
            let plain = reader.needles.before_export(block);
            if plain > 0 {
                reader.block(&block[..plain]);
                lines.consume(plain);
                continue;
            }
        }
        let Some(line) = lines.next()? else { return Ok(reader.tally) };
        match line {
            Line::Whole(line) if journal::begins_entry(line) => {
                reader.tally.lines += 1;
                export.read_entry(&mut lines)?;
                let outcome = export.finish(&mut reader.taker);
                reader.tally.count(outcome);
                if let Some(unit) = export.death() {
                    reader.tally.deaths.add(unit);
                }
            }
            Line::Whole(line) => reader.line(line),
            Line::TooLong => {
                reader.tally.lines += 1;
                reader.tally.overlong += 1;
                reader.tally.complain(format!("it is longer than {LONGEST_LINE} bytes"));
            }
        }
    }
}

/// What lines become.
struct Reader<'a, 'b> {
    tally: Tally,
    needles: Needles,
    taker: Taker<'a, 'b>,
}

impl Reader<'_, '_> {
    fn line(&mut self, line: &[u8]) {
        self.tally.lines += 1;
        let outcome = outcome(line, &mut self.taker);
        if matches!(outcome, Outcome::Foreign)
            && let Some(unit) = sigsys_exit_line::unit_of(line)
        {
            self.tally.deaths.add(unit);
        }
        self.tally.count(outcome);
    }

    /// Whole lines, of which those that cannot be records are not even looked at.
    fn block(&mut self, block: &[u8]) {
        let mut candidates = self.needles.candidates();
        let mut at = 0;
        while let Some(hit) = candidates.next(block, at) {
            let start = memrchr(b'\n', &block[at..hit]).map_or(at, |newline| at + newline + 1);
            let end = memchr(b'\n', &block[hit..]).map_or(block.len(), |newline| hit + newline);
            self.foreign(&block[at..start]);
            self.line(&block[start..end]);
            at = block.len().min(end + 1);
        }
        self.foreign(&block[at..]);
    }

    /// Whole lines that are no records.
    fn foreign(&mut self, lines: &[u8]) {
        let count = count_lines(lines);
        self.tally.lines += count;
        self.tally.foreign += count;
        let mut at = 0;
        while let Some(hit) = self.needles.death.find(&lines[at..]).map(|hit| at + hit) {
            let start = memrchr(b'\n', &lines[at..hit]).map_or(at, |newline| at + newline + 1);
            let end = memchr(b'\n', &lines[hit..]).map_or(lines.len(), |newline| hit + newline);
            if let Some(unit) = sigsys_exit_line::unit_of(&lines[start..end]) {
                self.tally.deaths.add(unit);
            }
            at = lines.len().min(end + 1);
        }
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    memchr_iter(b'\n', lines).count() as u64
}

fn outcome(line: &[u8], taker: &mut Taker<'_, '_>) -> Outcome {
    match strip(line) {
        Some(Stripped { event: Some(event), .. }) => taker.take(parse_record(event), None),
        Some(Stripped { fields, stamp, .. }) => taker.take(parse_fields(fields, stamp, 0), None),
        None => Outcome::Foreign,
    }
}

/// The words of which every record has one, in whatever dialect; and those of every line about a death of SIGSYS, and of
/// an export.
struct Needles {
    name: memmem::Finder<'static>,
    number: memmem::Finder<'static>,
    death: memmem::Finder<'static>,
    export: memmem::Finder<'static>,
}

impl Needles {
    fn new() -> Self {
        Self {
            name: memmem::Finder::new(b"SECCOMP"),
            number: memmem::Finder::new(b"1326"),
            death: memmem::Finder::new(sigsys_exit_line::WORDS),
            export: memmem::Finder::new(journal::FIRST_FIELD),
        }
    }

    /// How much of whole lines stands before the first entry of a journal export.
    fn before_export(&self, block: &[u8]) -> usize {
        let mut hits = self.export.find_iter(block);
        hits.find(|&at| at == 0 || block[at - 1] == b'\n').unwrap_or(block.len())
    }

    fn candidates(&self) -> Candidates {
        Candidates { needles: [self.name.clone(), self.number.clone()], hits: [Some(0); 2] }
    }
}

/// Places that may be a record's, in order.
struct Candidates {
    needles: [memmem::Finder<'static>; 2],
    /// The next of each word, or where to look for it from.
    hits: [Option<usize>; 2],
}

impl Candidates {
    /// The first at `from` or later.
    fn next(&mut self, block: &[u8], from: usize) -> Option<usize> {
        for (needle, hit) in self.needles.iter().zip(&mut self.hits) {
            if hit.is_some_and(|hit| hit <= from) {
                *hit = needle.find(&block[from..]).map(|at| from + at);
            }
        }
        self.hits.iter().flatten().min().copied()
    }
}

/// A line without its envelope.
pub(super) struct Stripped<'a> {
    /// From `audit(` on, in the dialects that have it.
    event: Option<&'a [u8]>,
    /// From `auid=` on, in the one that has not.
    fields: &'a [u8],
    stamp: Stamp<'a>,
}

/// Strips the envelope of a line that claims to be a SECCOMP record.
///
/// The claim has to stand where the dialect puts it, since any process may log a line that *contains* one.
fn strip(line: &[u8]) -> Option<Stripped<'_>> {
    let event = |bytes| Some(Stripped { event: Some(bytes), fields: &[], stamp: Stamp::Unknown });
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if let Some(bytes) = line.strip_prefix(b"type=SECCOMP msg=") {
        return event(bytes);
    }
    for name in [&b"type=SECCOMP msg="[..], b"type=UNKNOWN[1326] msg=", b"type=1326 msg="] {
        if let Some(at) = memmem::find(line, name) {
            return is_audit_prefix(&line[..at]).then(|| event(&line[at + name.len()..]))?;
        }
    }
    if let Some(bytes) = kernel_line(line) {
        return event(bytes);
    }
    let (stamp, fields) = journal_line(line)?;
    Some(Stripped { event: None, fields, stamp })
}

/// The record in a line of the kernel log, with or without priority, timestamp and syslog's prefix.
pub(super) fn kernel_line(line: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"type=1326 audit(";
    let at = memmem::find(line, NAME)?;
    let prefix = line[..at].strip_suffix(b"audit: ").unwrap_or(&line[..at]);
    let event = &line[at + b"type=1326 ".len()..];
    let prefix = without_level(without_printk_time(prefix));
    let bare = prefix.is_empty() || (prefix.starts_with(b"<") && prefix.ends_with(b">") && prefix.len() <= 5);
    (bare || ends_in_tag(prefix, b"kernel: ")).then_some(event)
}

/// Strips printk's `[   12.345678] ` or `[   12.345678][   T12] `, and what `dmesg -T`, `-e` and `-d` make of it:
/// `[Mon Nov 23 22:01:02 2026] `, `[  +0.000012] `, `2026-11-23T22:01:02,123456+00:00 `.
fn without_printk_time(prefix: &[u8]) -> &[u8] {
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
fn without_level(prefix: &[u8]) -> &[u8] {
    let level = || {
        let level = prefix.strip_prefix(b"kern")?.trim_ascii_start().strip_prefix(b":")?;
        let level = level.strip_suffix(b": ")?.trim_ascii_end();
        level.iter().all(u8::is_ascii_lowercase).then_some(level)
    };
    if level().is_some() { b"" } else { prefix }
}

/// `DATE HOST audit[PID]: SECCOMP FIELDS`, as `journalctl` prints an audit entry.
fn journal_line(line: &[u8]) -> Option<(Stamp<'_>, &[u8])> {
    const NAME: &[u8] = b": SECCOMP ";
    let at = memmem::find(line, NAME)?;
    let tag_at = line[..at].iter().rposition(|&byte| byte == b' ')?;
    let tag = &line[tag_at + 1..at];
    let pid = tag.strip_prefix(b"audit[").and_then(|tag| tag.strip_suffix(b"]"));
    if tag != b"audit" && !pid.is_some_and(|pid| pid.iter().all(u8::is_ascii_digit)) {
        return None;
    }
    let host_at = line[..tag_at].iter().rposition(|&byte| byte == b' ').unwrap_or(0);
    // A message that merely contains the words has a tag of its own in front.
    if memmem::find(&line[..tag_at], b": ").is_some() {
        return None;
    }
    Some((Stamp::Printed(&line[..host_at]), &line[at + NAME.len()..]))
}

/// What may stand before `type=SECCOMP`: nothing, `node=HOST `, or syslog's prefix with audisp's tag.
fn is_audit_prefix(prefix: &[u8]) -> bool {
    let node = |prefix: &[u8]| {
        prefix.is_empty()
            || prefix
                .strip_prefix(b"node=")
                .and_then(|rest| rest.strip_suffix(b" "))
                .is_some_and(|host| !host.contains(&b' '))
    };
    if node(prefix) {
        return true;
    }
    [&b"audispd"[..], b"audisp-syslog", b"audisp"].iter().any(|tag| {
        let Some(at) = memmem::find(prefix, tag) else { return false };
        let rest = &prefix[at + tag.len()..];
        let rest = rest.strip_prefix(b"[").map_or(rest, |rest| memchr(b']', rest).map_or(rest, |end| &rest[end + 1..]));
        at > 0
            && prefix[at - 1] == b' '
            && memmem::find(&prefix[..at], b": ").is_none()
            && rest.strip_prefix(b": ").is_some_and(node)
    })
}

/// Whether a syslog prefix ends in this tag and holds no other before it.
fn ends_in_tag(prefix: &[u8], tag: &[u8]) -> bool {
    prefix.strip_suffix(tag).is_some_and(|rest| rest.ends_with(b" ") && memmem::find(rest, b": ").is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{CallField, Stamp};
    use proptest::prelude::*;

    const FIELDS: &str = r#"auid=4294967295 uid=0 gid=0 ses=4294967295 pid=7 comm="a" exe="/a" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f code=0x80000000"#;

    /// (records, foreign, malformed, overlong) and the stamp of each record.
    fn read_all(text: impl AsRef<[u8]>) -> ((u64, u64, u64, u64), Vec<String>) {
        let mut stamps = Vec::new();
        let tally = read(&mut text.as_ref(), &mut |record, _, _| {
            assert_eq!(record.call, CallField::Number(41));
            stamps.push(match record.stamp {
                Stamp::Millis(millis) => millis.to_string(),
                Stamp::Printed(text) => String::from_utf8_lossy(text).into_owned(),
                Stamp::Unknown => "unknown".into(),
            });
        })
        .unwrap();
        assert_eq!(tally.lines, tally.records + tally.repeats + tally.foreign + tally.malformed + tally.overlong);
        ((tally.records, tally.foreign, tally.malformed, tally.overlong), stamps)
    }

    #[test]
    fn every_envelope_is_stripped() {
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
            assert_eq!(read_all(&text), ((1, 0, 0, 0), vec!["1002".into()]), "{line}");
        }
    }

    #[test]
    fn what_journalctl_prints_keeps_its_date_as_said() {
        let text = format!("Nov 23 22:01:02 web audit[7]: SECCOMP {FIELDS}\n");
        assert_eq!(read_all(text), ((1, 0, 0, 0), vec!["Nov 23 22:01:02".into()]));
    }

    #[test]
    fn what_journalctl_prints_twice_is_one_record() {
        let forms = [
            format!("Nov 23 22:01:02 web kernel: audit: type=1326 audit(1795456862.002:3): {FIELDS}"),
            format!("Nov 23 22:01:02 web audit[7]: SECCOMP {FIELDS}"),
        ];
        let log = |order: [usize; 2]| order.map(|form| forms[form].as_str()).join("\n");
        let read = |log: &str| {
            let mut seen = Vec::new();
            let tally = read(&mut log.as_bytes(), &mut |_, _, again| seen.push(again)).unwrap();
            (tally.lines, tally.records, tally.repeats, seen)
        };
        assert_eq!(read(&log([0, 1])), (2, 1, 1, vec![Seen::First]));
        assert_eq!(read(&log([1, 0])), (2, 1, 1, vec![Seen::First, Seen::Undated]));
        let audit = format!("type=SECCOMP msg=audit(1795456862.002:3): {FIELDS}");
        let export = format!(
            "__CURSOR=s=1\n_TRANSPORT=audit\n_AUDIT_TYPE=1326\n_AUDIT_ID=3\n\
             _SOURCE_REALTIME_TIMESTAMP=1795456862002000\nMESSAGE=SECCOMP {FIELDS}\n"
        );
        let all = [&audit, &log([1, 0]), &export, &audit, &forms[1]].map(String::as_str).join("\n");
        assert_eq!(read(&all), (6, 1, 5, vec![Seen::First]));
    }

    #[test]
    fn a_line_that_only_contains_a_record_is_foreign() {
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
            assert_eq!(read_all(line.replace("{}", FIELDS)).0, (0, 1, 0, 0), "{line}");
        }
    }

    #[test]
    fn foreign_and_malformed_lines_are_counted() {
        let text = format!(
            "----\ntime->Mon\ntype=SYSCALL msg=audit(1.002:3): arch=c000003e\ntype=SECCOMP msg=audit(1.002:3): {FIELDS}\n\
             type=SECCOMP msg=audit(1.002:3): auid=0\n\n"
        );
        assert_eq!(read_all(text).0, (1, 4, 1, 0));
    }

    #[test]
    fn a_binary_file_is_many_foreign_bytes() {
        let mut bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        bytes.extend(std::iter::repeat_n(0, 3 * LONGEST_LINE));
        bytes.extend_from_slice(format!("\ntype=SECCOMP msg=audit(1.002:3): {FIELDS}").as_bytes());
        let ((records, _, malformed, overlong), _) = read_all(bytes);
        assert_eq!((records, malformed, overlong), (1, 0, 1));
    }

    /// Hands out so many bytes at a time.
    struct Trickle<'a>(&'a [u8], usize);
    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let take = self.0.len().min(self.1).min(into.len());
            into[..take].copy_from_slice(&self.0[..take]);
            self.0 = &self.0[take..];
            Ok(take)
        }
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_arrive(text in "[ab\n]{0,300}") {
            let collect = |input: &mut dyn Read| {
                let mut lines = Lines::new(input);
                let mut all = Vec::new();
                while let Some(Line::Whole(line)) = lines.next().unwrap() {
                    all.push(String::from_utf8(line.to_vec()).unwrap());
                }
                all
            };
            let expected: Vec<String> = text.lines().map(Into::into).collect();
            prop_assert_eq!(&collect(&mut text.as_bytes()), &expected);
            prop_assert_eq!(&collect(&mut Trickle(text.as_bytes(), 1)), &expected);
        }

        #[test]
        fn a_log_reads_the_same_however_it_arrives(picks in prop::collection::vec(0_usize..9, 0..30), step in 100_usize..90_000) {
            let line = |pick: usize| match pick {
                0 => format!("type=SECCOMP msg=audit(1.002:3): {FIELDS}"),
                1 => format!("audit: type=1326 audit(1.002:1326): {FIELDS}"),
                2 => format!("Nov 23 22:01:02 web audit[7]: SECCOMP {FIELDS}"),
                3 => "type=SYSCALL msg=audit(1.002:1326): SECCOMP".into(),
                4 => "type=SECCOMP msg=audit(1.002:3): auid=0".into(),
                5 => String::new(),
                6 => "x".repeat(LONGEST_LINE / 2 + 9),
                7 => "y".repeat(LONGEST_LINE + 1),
                _ => format!("__CURSOR=s=1\n_TRANSPORT=kernel\nMESSAGE=audit: type=1326 audit(1.002:3): {FIELDS}\n"),
            };
            let text: Vec<String> = picks.into_iter().map(line).collect();
            let text = text.join("\n");
            let whole = read_all(&text);
            let mut stamps = 0;
            let trickled = read(&mut Trickle(text.as_bytes(), step), &mut |_, _, _| stamps += 1).unwrap();
            prop_assert_eq!(whole.0, (trickled.records, trickled.foreign, trickled.malformed, trickled.overlong));
            prop_assert_eq!(whole.1.len(), stamps);
        }

        #[test]
        fn no_file_is_too_strange(bytes: Vec<u8>) {
            read(&mut &bytes[..], &mut |_, _, _| ()).unwrap();
        }
    }
}
