//! A log of mixed dialects, with other lines between: audit logs, `ausearch` output, kernel logs, `journalctl`
//! output and journal exports.

use super::envelope::strip_envelope;
use super::journal_export::{FIRST_FIELD, JournalExport};
use super::lines::{LONGEST_LINE, LineReader, LogLine};
use super::logged_facts;
use super::logged_facts::LoggedFacts;
use super::record_sink::{LineKind, OnRecord, RecordSink};
pub(crate) use super::repeats::Novelty;
use super::sigsys_exit_line;
use super::sigsys_exit_line::SigsysExits;
use memchr::{memchr, memchr_iter, memmem, memrchr};
use std::io;
use std::io::Read;

/// How many skipped lines are described; all are counted.
const MAX_COMPLAINTS: usize = 5;

/// What a log held.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct LogSummary {
    /// Lines, or journal entries of an export.
    pub(crate) lines: u64,
    /// SECCOMP records.
    pub(crate) records: u64,
    /// Further copies of these records.
    pub(crate) repeats: u64,
    /// Lines about something else.
    pub(crate) foreign: u64,
    /// Lines that begin like a record and cannot be parsed.
    pub(crate) malformed: u64,
    /// Lines over [`LONGEST_LINE`].
    pub(crate) overlong: u64,
    /// Deaths by SIGSYS that service managers logged.
    pub(crate) sigsys_exits: SigsysExits,
    /// What the log shows about its machine.
    pub(crate) facts: LoggedFacts,
    /// The first few malformed or overlong lines: the line number, and what is wrong.
    pub(crate) complaints: Vec<(u64, String)>,
}

impl LogSummary {
    fn complain(&mut self, why: String) {
        if self.complaints.len() < MAX_COMPLAINTS {
            self.complaints.push((self.lines, why));
        }
    }

    /// Counts one line or entry.
    fn count(&mut self, kind: LineKind) {
        match kind {
            LineKind::Record => self.records += 1,
            LineKind::Repeat => self.repeats += 1,
            LineKind::Foreign => self.foreign += 1,
            LineKind::Malformed(why) => {
                self.malformed += 1;
                self.complain(why.to_string());
            }
        }
    }
}

/// Reads all of `input` and hands each record on once.
///
/// A record comes with the unit that a journal export named for its process, if any.
///
/// # Errors
/// Those of reading. Malformed input is counted.
pub(crate) fn read_log(input: &mut dyn Read, on_record: &mut OnRecord<'_>) -> io::Result<LogSummary> {
    let (summary, needles, sink) = (LogSummary::default(), Needles::new(), RecordSink::new(on_record));
    let mut log = LogReader { summary, needles, sink };
    let mut export = JournalExport::default();
    let mut lines = LineReader::new(input);
    loop {
        if let Some(block) = lines.buffered_lines() {
            let plain = log.needles.length_before_export(block);
            if plain > 0 {
                log.read_block(&block[..plain]);
                lines.consume(plain);
                continue;
            }
        }
        let Some(line) = lines.next_line()? else { return Ok(log.finish()) };
        match line {
            LogLine::Whole(line) if line.starts_with(FIRST_FIELD) => {
                log.summary.lines += 1;
                export.read_entry(&mut lines)?;
                let kind = export.deliver(&mut log.sink);
                log.summary.count(kind);
                if let Some(unit) = export.sigsys_exit() {
                    log.summary.sigsys_exits.add(unit);
                }
                export.add_facts(&mut log.sink.facts);
            }
            LogLine::Whole(line) => log.read_line(line),
            LogLine::TooLong => {
                log.summary.lines += 1;
                log.summary.overlong += 1;
                log.summary.complain(format!("it is longer than {LONGEST_LINE} bytes"));
            }
        }
    }
}

/// Reads lines outside journal exports.
struct LogReader<'a, 'b> {
    summary: LogSummary,
    needles: Needles,
    sink: RecordSink<'a, 'b>,
}

impl LogReader<'_, '_> {
    fn finish(self) -> LogSummary {
        LogSummary { facts: self.sink.facts, ..self.summary }
    }

    fn read_line(&mut self, line: &[u8]) {
        self.summary.lines += 1;
        let kind = match strip_envelope(line) {
            Some(payload) => self.sink.push(payload.parse(), None),
            None => LineKind::Foreign,
        };
        if matches!(kind, LineKind::Foreign) {
            if let Some(unit) = sigsys_exit_line::parse_unit(line) {
                self.summary.sigsys_exits.add(unit);
            }
            self.sink.facts.add_line(line);
        }
        self.summary.count(kind);
    }

    /// Reads whole lines, and searches for those that may be records instead of looking at each.
    fn read_block(&mut self, block: &[u8]) {
        let mut candidates = self.needles.candidates();
        let mut at = 0;
        while let Some(hit) = candidates.next_after(block, at) {
            let (start, end) = line_around(block, at, hit);
            self.skip_foreign(&block[at..start]);
            self.read_line(&block[start..end]);
            at = block.len().min(end + 1);
        }
        self.skip_foreign(&block[at..]);
    }

    /// Counts whole lines that are no records, and the deaths by SIGSYS in them.
    fn skip_foreign(&mut self, lines: &[u8]) {
        let count = memchr_iter(b'\n', lines).count() as u64;
        self.summary.lines += count;
        self.summary.foreign += count;
        let mut at = 0;
        while let Some(hit) = self.needles.sigsys_exit.find(&lines[at..]).map(|hit| at + hit) {
            let (start, end) = line_around(lines, at, hit);
            if let Some(unit) = sigsys_exit_line::parse_unit(&lines[start..end]) {
                self.summary.sigsys_exits.add(unit);
            }
            at = lines.len().min(end + 1);
        }
        for words in &self.needles.facts {
            for hit in words.find_iter(lines) {
                let (start, end) = line_around(lines, 0, hit);
                self.sink.facts.add_line(&lines[start..end]);
            }
        }
    }
}

/// Returns where the line around `hit` starts, `from` or later, and where it ends.
fn line_around(lines: &[u8], from: usize, hit: usize) -> (usize, usize) {
    let start = memrchr(b'\n', &lines[from..hit]).map_or(from, |newline| from + newline + 1);
    let end = memchr(b'\n', &lines[hit..]).map_or(lines.len(), |newline| hit + newline);
    (start, end)
}

/// Search words: every record has `name` or `number`, in any dialect.
struct Needles {
    name: memmem::Finder<'static>,
    number: memmem::Finder<'static>,
    sigsys_exit: memmem::Finder<'static>,
    facts: [memmem::Finder<'static>; logged_facts::WORDS.len()],
    export: memmem::Finder<'static>,
}

impl Needles {
    fn new() -> Self {
        Self {
            name: memmem::Finder::new(b"SECCOMP"),
            number: memmem::Finder::new(b"1326"),
            sigsys_exit: memmem::Finder::new(sigsys_exit_line::WORDS),
            facts: logged_facts::WORDS.map(memmem::Finder::new),
            export: memmem::Finder::new(FIRST_FIELD),
        }
    }

    /// Returns how many bytes of whole lines come before the first entry of a journal export.
    fn length_before_export(&self, block: &[u8]) -> usize {
        let mut hits = self.export.find_iter(block);
        hits.find(|&at| at == 0 || block[at - 1] == b'\n').unwrap_or(block.len())
    }

    fn candidates(&self) -> Candidates {
        Candidates { needles: [self.name.clone(), self.number.clone()], hits: [Some(0); 2] }
    }
}

/// Places where a record may be, in order.
struct Candidates {
    needles: [memmem::Finder<'static>; 2],
    /// The next hit of each word, or where to search for it from; `None` if there is none.
    hits: [Option<usize>; 2],
}

impl Candidates {
    /// Returns the first hit at `from` or later.
    fn next_after(&mut self, block: &[u8], from: usize) -> Option<usize> {
        for (needle, hit) in self.needles.iter().zip(&mut self.hits) {
            if hit.is_some_and(|hit| hit <= from) {
                *hit = needle.find(&block[from..]).map(|at| from + at);
            }
        }
        self.hits.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::CallField;
    use crate::intake::repeats::Novelty;
    use proptest::prelude::*;

    const FIELDS: &str = r#"auid=4294967295 uid=0 gid=0 ses=4294967295 pid=7 comm="a" exe="/a" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f code=0x80000000"#;

    /// Returns how many records were handed on, and the counts of records, foreign, malformed and overlong lines.
    fn read_all(input: &mut dyn Read) -> (usize, [u64; 4]) {
        let mut handed_on = 0;
        let summary = read_log(input, &mut |record, _, _| {
            assert_eq!(record.call, CallField::Number(41));
            handed_on += 1;
        })
        .unwrap();
        let LogSummary { lines, records, repeats, foreign, malformed, overlong, .. } = summary;
        assert_eq!(lines, records + repeats + foreign + malformed + overlong);
        (handed_on, [records, foreign, malformed, overlong])
    }

    #[test]
    fn record_that_journalctl_prints_twice_is_counted_once() {
        let forms = [
            format!("Nov 23 22:01:02 web kernel: audit: type=1326 audit(1795456862.002:3): {FIELDS}"),
            format!("Nov 23 22:01:02 web audit[7]: SECCOMP {FIELDS}"),
        ];
        let log = |order: [usize; 2]| order.map(|form| forms[form].as_str()).join("\n");
        let read = |log: &str| {
            let mut handed_on = Vec::new();
            let summary = read_log(&mut log.as_bytes(), &mut |_, _, novelty| handed_on.push(novelty)).unwrap();
            (summary.lines, summary.records, summary.repeats, handed_on)
        };
        assert_eq!(read(&log([0, 1])), (2, 1, 1, vec![Novelty::New]));
        assert_eq!(read(&log([1, 0])), (2, 1, 1, vec![Novelty::New, Novelty::DatesEarlier]));
        let audit = format!("type=SECCOMP msg=audit(1795456862.002:3): {FIELDS}");
        let export = format!(
            "__CURSOR=s=1\n_TRANSPORT=audit\n_AUDIT_TYPE=1326\n_AUDIT_ID=3\n\
             _SOURCE_REALTIME_TIMESTAMP=1795456862002000\nMESSAGE=SECCOMP {FIELDS}\n"
        );
        let all = [&audit, &log([1, 0]), &export, &audit, &forms[1]].map(String::as_str).join("\n");
        assert_eq!(read(&all), (6, 1, 5, vec![Novelty::New]));
    }

    #[test]
    fn log_with_foreign_and_malformed_lines_counts_each() {
        let text = format!(
            "----\ntime->Mon\ntype=SYSCALL msg=audit(1.002:3): arch=c000003e\ntype=SECCOMP msg=audit(1.002:3): {FIELDS}\n\
             type=SECCOMP msg=audit(1.002:3): auid=0\n\n"
        );
        assert_eq!(read_all(&mut text.as_bytes()), (1, [1, 4, 1, 0]));
    }

    #[test]
    fn binary_file_before_record_does_not_hide_it() {
        let mut bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        bytes.extend(std::iter::repeat_n(0, 3 * LONGEST_LINE));
        bytes.extend_from_slice(format!("\ntype=SECCOMP msg=audit(1.002:3): {FIELDS}").as_bytes());
        let (_, [records, _, malformed, overlong]) = read_all(&mut &bytes[..]);
        assert_eq!((records, malformed, overlong), (1, 0, 1));
    }

    /// Hands out a few bytes at a time.
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
        fn lines_of_any_chunk_size_are_the_same(text in "[ab\n]{0,300}") {
            let collect = |input: &mut dyn Read| {
                let mut lines = LineReader::new(input);
                let mut all = Vec::new();
                while let Some(LogLine::Whole(line)) = lines.next_line().unwrap() {
                    all.push(String::from_utf8(line.to_vec()).unwrap());
                }
                all
            };
            let expected: Vec<String> = text.lines().map(Into::into).collect();
            prop_assert_eq!(&collect(&mut text.as_bytes()), &expected);
            prop_assert_eq!(&collect(&mut Trickle(text.as_bytes(), 1)), &expected);
        }

        #[test]
        fn log_of_any_chunk_size_gives_same_counts(picks in prop::collection::vec(0_usize..9, 0..30), step in 100_usize..90_000) {
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
            prop_assert_eq!(read_all(&mut text.as_bytes()), read_all(&mut Trickle(text.as_bytes(), step)));
        }

        #[test]
        fn any_bytes_are_read_without_error(bytes: Vec<u8>) {
            read_log(&mut &bytes[..], &mut |_, _, _| ()).unwrap();
        }
    }
}
