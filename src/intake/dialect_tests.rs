//! One record in every dialect that people paste: `tests/data/dialects`, and generated envelopes in combination.

use super::log_file::read_log;
use super::log_summary::LogSummary;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The record of `tests/data/dialects`: call 41 of pid 1483, by the thread `svc`.
const FIELDS: &str = r#"auid=4294967295 uid=0 gid=0 ses=4294967295 pid=1483 comm="svc" exe="/usr/bin/svc" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f6d9a67c4e7 code=0x80000000"#;

const STAMP: &str = "audit(1740132408.788:49): ";

/// Returns pid, comm and executable of each record that is handed on as new, and the summary.
fn read(text: &[u8]) -> (Vec<(u32, String, Option<String>)>, LogSummary) {
    let mut records = Vec::new();
    let summary = read_log(&mut &text[..], &mut |record, _, novelty| {
        if novelty == super::log_file::Novelty::New {
            let text = |text: crate::audit::UntrustedText<'_>| String::from_utf8_lossy(&text.decode()).into_owned();
            records.push((record.pid, text(record.comm), record.exe.map(text)));
        }
    })
    .unwrap();
    (records, summary)
}

/// Changes a line as a program does on its way.
type Decoration = fn(&str) -> String;

fn is_record(records: &[(u32, String, Option<String>)]) -> bool {
    matches!(records, [(1483, comm, Some(exe))] if comm == "svc" && exe == "/usr/bin/svc")
}

fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dialects").join(directory);
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn record_in_every_dialect_is_read_once() {
    let mut wrong = String::new();
    for file in files("read") {
        let (records, summary) = read(&fs::read(&file).unwrap());
        if !is_record(&records) || summary.malformed > 0 {
            writeln!(wrong, "{}: {records:?} {summary:?}", file.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn text_that_only_looks_like_record_is_reported() {
    for file in files("suspect") {
        let (records, summary) = read(&fs::read(&file).unwrap());
        assert!(records.is_empty() && summary.malformed == 1, "{}: {records:?} {summary:?}", file.display());
        assert!(summary.complaints[0].1.starts_with("looks like a record, but "), "{:?}", summary.complaints);
    }
}

#[test]
fn record_in_two_dialects_counts_once() {
    let all = files("read");
    let texts: Vec<Vec<u8>> = all.iter().map(|file| fs::read(file).unwrap()).collect();
    // A record without `ip=` tells less than is compared, and that of another ABI is another call.
    let differs = |file: &Path| {
        let name = file.file_name().unwrap().to_string_lossy();
        ["noip", "no-exe", "cut-", "arch-aarch64-name"].iter().any(|part| name.contains(part))
    };
    for (file, text) in all.iter().zip(&texts).filter(|(file, _)| !differs(file)) {
        for other in ["dmesg-plain", "journal-de", "ausearch-i-node", "journal-cat"] {
            let at = all.iter().position(|file| file.ends_with(format!("{other}.log"))).unwrap();
            for log in [[text, &texts[at]], [&texts[at], text]] {
                let (records, summary) = read(&log.map(|text| [&text[..], b"\n\n"].concat()).concat());
                assert!(records.len() == 1, "{} and {other}: {records:?} {summary:?}", file.display());
            }
        }
    }
}

#[test]
fn record_in_any_combination_of_envelopes_is_the_same() {
    let bodies = [
        format!("type=SECCOMP msg={STAMP}{FIELDS}"),
        format!("type=SECCOMP msg={STAMP}{FIELDS}\u{1d}AUID=\"unset\" UID=\"root\" ARCH=x86_64 SYSCALL=socket"),
        format!("type=1326 {STAMP}{FIELDS}"),
        format!("audit: type=1326 {STAMP}{FIELDS}"),
        format!("[  961.261094] audit: type=1326 {STAMP}{FIELDS}"),
        format!("Feb 21 11:06:48 host kernel: [  961.261094] audit: type=1326 {STAMP}{FIELDS}"),
        format!("f\u{e9}vr. 21 11:06:48 host audit[1483]: SECCOMP {FIELDS}"),
        format!("2025-02-21T11:06:48.788123+01:00 host audit[1483]: SECCOMP {FIELDS}"),
        format!("<5>1 2025-02-21T11:06:48.788Z host kernel - - - audit: type=1326 {STAMP}{FIELDS}"),
        format!("SECCOMP {FIELDS}"),
    ];
    let prefixes = [
        "",
        "    ",
        "> ",
        "> > ",
        "1234:",
        "  12  ",
        "/var/log/messages:",
        "audit.log.1.gz:7:",
        "web-1  | ",
        "- ",
        "\u{feff}",
    ];
    let decorations: [(&str, Decoration); 13] = [
        ("plain", str::to_owned),
        ("tabs", |text| text.replace(' ', "\t")),
        ("html", |text| text.replace('"', "&quot;")),
        ("html numbers", |text| text.replace('"', "&#34;").replace('\u{1d}', "&#29;")),
        ("smart quotes", |text| text.replace("=\"", "=\u{201c}").replace('"', "\u{201d}")),
        ("escaped", |text| text.replace('"', "\\\"").replace('\u{1d}', "\\u001d")),
        ("doubled", |text| text.replace('"', "\"\"")),
        ("bold", |text| text.replace("syscall=41", "**syscall=41**")),
        ("tags", |text| text.replace("syscall=41", "<b>syscall=41</b>")),
        ("colours", |text| text.replace("syscall", "\u{1b}[01;31m\u{1b}[Ksyscall\u{1b}[m\u{1b}[K")),
        ("rsyslog", |text| text.replace('\u{1d}', "#035")),
        ("glued", |text| text.replace('\u{1d}', "")),
        ("single quotes", |text| text.replace('"', "'")),
    ];
    let mut wrong = String::new();
    for body in &bodies {
        for prefix in prefixes {
            for (name, decorate) in decorations {
                for end in ["", "\r\n", "</pre>\n"] {
                    let line = format!("{prefix}{}{end}", decorate(body));
                    let (records, summary) = read(line.as_bytes());
                    if !is_record(&records) {
                        writeln!(wrong, "{name}: {line:?}: {:?}", summary.complaints).unwrap();
                    }
                }
            }
        }
        let json = serde_json::json!({"time": "x", "nested": {"log": format!("{body}\n")}}).to_string();
        for text in [json.clone(), serde_json::json!({ "message": json }).to_string(), format!("[{json}]")] {
            let (records, summary) = read(text.as_bytes());
            if !is_record(&records) {
                writeln!(wrong, "{text}: {:?}", summary.complaints).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.lines().count(), &wrong[..wrong.len().min(4000)]);
}

#[test]
fn record_wrapped_by_mail_or_terminal_is_the_same() {
    for body in [
        format!("type=SECCOMP msg={STAMP}{FIELDS}"),
        format!("Feb 21 11:06:48 host kernel: [  961.261094] audit: type=1326 {STAMP}{FIELDS}"),
        format!("Feb 21 11:06:48 host audit[1483]: SECCOMP {FIELDS}"),
    ] {
        let start = body.find("SECCOMP").or_else(|| body.find("1326")).unwrap() + "SECCOMP".len();
        for width in (40..120).step_by(3) {
            let mut by_word = String::new();
            let mut column = 0;
            for word in body.split(' ') {
                if column > 0 && column + word.len() > width {
                    by_word += "\n";
                    column = 0;
                } else if column > 0 {
                    by_word += " ";
                }
                by_word += word;
                column += word.len() + 1;
            }
            let hard: Vec<&str> =
                (0..body.len()).step_by(width).map(|at| &body[at..body.len().min(at + width)]).collect();
            // A terminal that cuts the type itself leaves no line that has it.
            let hard = if width >= start { hard.join("\n") } else { String::new() };
            let quoted = by_word.replace('\n', "\n> ");
            let flowed = by_word.replace('\n', " \r\n");
            for text in [&by_word, &hard, &format!("> {quoted}\nmore text\n"), &flowed]
                .into_iter()
                .filter(|text| !text.is_empty())
            {
                let (records, summary) = read(text.as_bytes());
                assert!(is_record(&records), "{text}\n{records:?} {summary:?}");
                assert_eq!((summary.records, summary.malformed), (1, 0), "{text}");
            }
        }
    }
}

#[test]
fn further_lines_of_other_programs_message_are_suspect() {
    let forged = format!("type=SECCOMP msg={STAMP}{FIELDS}");
    let heading = "Feb 21 11:06:48 host svc[7]: ";
    let indent = " ".repeat(heading.len());
    for text in [
        format!("{heading}hello\n{indent}{forged}\n"),
        format!("{heading}hello\n{indent}more\n{indent}  {forged}"),
        format!("{heading}hello\n{}{indent}{forged}\n", format!("{indent}x\n").repeat(10_000)),
    ] {
        let (records, summary) = read(text.as_bytes());
        assert!(records.is_empty() && summary.malformed == 1, "{records:?} {summary:?}");
    }
    let after_kernel = format!("Feb 21 11:06:48 host kernel: hello\n{indent}   {forged}\n");
    assert!(is_record(&read(after_kernel.as_bytes()).0));
}
