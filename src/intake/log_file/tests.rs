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
    let LogSummary { lines, records, repeats, foreign, malformed, overlong, continued, .. } = summary;
    assert_eq!(lines, records + repeats + foreign + malformed + overlong + continued);
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

/// The heading of `systemctl status` is in one write of the pipe, and the death in the next.
#[test]
fn unit_of_a_heading_is_that_of_a_death_in_the_next_write() {
    let text = "\u{d7} a.service - A\n\n    Process: 263 ExecStart=/bin/a (code=dumped, signal=SYS)\n";
    for step in [4, text.len()] {
        let summary = read_log(&mut Trickle(text.as_bytes(), step), &mut |_, _, _| ()).unwrap();
        let death = &summary.deaths.unrecorded[0];
        assert_eq!(death.unit.as_ref().map(|(unit, _)| unit.name.as_str()), Some("a.service"), "{step}");
    }
}

#[test]
fn heading_far_above_a_death_is_not_about_it() {
    let far = format!(
        "\u{d7} a.service - A\n{}    Process: 263 ExecStart=/bin/a (code=dumped, signal=SYS)\n",
        "other\n".repeat(2 * LONGEST_LINE)
    );
    let summary = read_log(&mut far.as_bytes(), &mut |_, _, _| ()).unwrap();
    assert_eq!(summary.deaths.unrecorded[0].unit, None);
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
