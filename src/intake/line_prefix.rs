//! Judges what stands before a record in a line: only the kernel's and auditd's own words and neutral decoration, or
//! another program's tag.
//!
//! Any program can log text that looks like a record. A log shows it under that program's tag. Dates of every locale,
//! host names, line numbers, file names of `grep`, and quotation marks of mails are neutral.

/// The tags of programs that write records: the kernel, auditd, its dispatcher and plugins, and common names for
/// `audit.log` in rsyslog's imfile.
const TAGS: [&str; 16] = [
    "kernel",
    "klogd",
    "audit",
    "auditd",
    "audispd",
    "audisp",
    "audisp-syslog",
    "audisp-remote",
    "audit.log",
    "audit_log",
    "audit-log",
    "auditlog",
    "tag_audit_log",
    "linux-audit",
    "linux_audit",
    "auditbeat",
];

/// Parts of dates and words of the syslog protocol.
const NEUTRAL: [&str; 23] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "mon", "tue", "wed", "thu",
    "fri", "sat", "sun", "utc", "gmt", "am", "pm",
];

/// The most words before a record: a date of any locale, host, facility and level.
const MOST_WORDS: usize = 24;

/// The most words that are no part of a date, before a kernel message without the tag `kernel`.
const MOST_UNTAGGED: usize = 3;

/// Whether a tag is of the kernel or of auditd: `kernel`, `audit[7]`, `/sbin/audispd`.
pub(super) fn is_audit_tag(tag: &[u8]) -> bool {
    let tag = strip_pid(tag);
    let name = memchr::memrchr(b'/', tag).map_or(tag, |slash| &tag[slash + 1..]);
    TAGS.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Strips the `[PID]` of a tag.
fn strip_pid(tag: &[u8]) -> &[u8] {
    let name = || {
        let open = memchr::memrchr(b'[', tag)?;
        let pid = tag[open + 1..].strip_suffix(b"]")?;
        pid.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-').then_some(&tag[..open])
    };
    name().unwrap_or(tag)
}

/// Returns the word by which another program wrote the line; `None` if nothing shows one.
pub(super) fn find_other_program(prefix: &[u8]) -> Option<&[u8]> {
    let is_attached = !prefix.ends_with(b" ");
    let prefix = strip_quotation(prefix);
    let words = split_words(prefix);
    if let Some(app) = find_rfc5424_app(&words) {
        return (!is_audit_tag(app)).then_some(app);
    }
    let (mut is_tagged, mut is_kernel, mut has_date) = (false, false, false);
    // Since the date or the last tag.
    let mut others = 0;
    let mut last = None;
    for (at, &word) in words.iter().enumerate() {
        let word = if at == 0 { strip_file_name(word) } else { word };
        let is_last = at + 1 == words.len();
        if is_neutral(word) || (at == 0 && is_file_name(word, is_last && is_attached)) {
            if !is_tagged && (is_clock(word) || is_date(word)) {
                (has_date, others) = (true, 0);
            }
        } else if let Some(tag) = word.strip_suffix(b":") {
            let is_level = tag.starts_with(b":") && at > 0 && words[at - 1] == b"kern";
            match (is_level, is_audit_tag(tag)) {
                (true, _) => others -= usize::from(others > 0),
                (false, true) if is_tagged && others > 0 => return last,
                (false, true) => {
                    let is_audit_alone = !is_kernel && others > MOST_UNTAGGED;
                    is_kernel |= strip_pid(tag).eq_ignore_ascii_case(b"kernel");
                    if is_audit_alone && !is_kernel && strip_pid(tag).len() == tag.len() {
                        return last;
                    }
                    (is_tagged, others) = (true, 0);
                }
                (false, false) => return Some(word),
            }
        } else if is_last && is_audit_tag(word) {
            (is_tagged, others) = (true, 0);
        } else {
            (others, last) = (others + 1, Some(word));
        }
    }
    let most = usize::from(has_date && !is_tagged);
    if others > most { last } else { None }
}

/// Returns the APP-NAME of a line in the syslog protocol (RFC 5424): `<5>1 DATE HOST APP PROCID MSGID DATA`.
fn find_rfc5424_app<'a>(words: &[&'a [u8]]) -> Option<&'a [u8]> {
    let is_version = |word: &&[u8]| {
        let version = || word.strip_prefix(b"<")?.split(|byte| *byte == b'>').nth(1);
        version().is_some_and(|version| !version.is_empty() && version.iter().all(u8::is_ascii_digit))
    };
    let date = if let Some(version) = words.iter().position(is_version) {
        version + 1
    } else {
        // Without priority and version, a nil value shows the protocol.
        let date = words.iter().position(|word| is_clock(word) && word.contains(&b'T'))?;
        words.iter().skip(date + 3).take(4).any(|word| *word == b"-").then_some(date)?
    };
    words.get(date + 2).copied()
}

/// Strips the marks that mails, tickets and shells put before a quoted line, and an assignment right before the record.
fn strip_quotation(prefix: &[u8]) -> &[u8] {
    const MARKS: &[u8] = b" >|*-+#$'`\"=";
    let start = prefix.iter().position(|byte| !MARKS.contains(byte)).unwrap_or(prefix.len());
    let prefix = &prefix[start..];
    // A key of YAML has a colon, as a tag has, but then a quoted text.
    let value = [&b": \""[..], b": '"].iter().find_map(|colon| memchr::memmem::find(prefix, colon));
    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.@-".contains(byte);
    let prefix = value.filter(|colon| prefix[..*colon].iter().all(is_key)).map_or(prefix, |colon| &prefix[colon + 3..]);
    let is_assigned = prefix.ends_with(b"=") || prefix.ends_with(b"=\"") || prefix.ends_with(b"='");
    let end = prefix.iter().rposition(|byte| !b" '`\"=(".contains(byte)).map_or(0, |last| last + 1);
    let prefix = &prefix[..end];
    if is_assigned {
        let key = prefix.iter().rposition(|byte| !is_key(byte)).map_or(0, |last| last + 1);
        return &prefix[..key];
    }
    // A key of JSON.
    let key = prefix.strip_suffix(b":").map(<[u8]>::trim_ascii_end).and_then(|rest| rest.strip_suffix(b"\""));
    let start = |key: &[u8]| key.iter().rposition(|byte| !is_key(byte)).map_or(0, |last| last + 1);
    key.map_or(prefix, |key| &key[..start(key)])
}

/// Splits at blanks and at what separates columns, without what is in brackets.
fn split_words(prefix: &[u8]) -> Vec<&[u8]> {
    let is_separator = |byte: &u8| b" ,;|\"\t".contains(byte);
    let mut words: Vec<&[u8]> = Vec::new();
    let mut rest = prefix;
    while let Some(first) = rest.first() {
        if is_separator(first) {
            rest = &rest[1..];
            continue;
        }
        let close = match first {
            b'[' => memchr::memchr(b']', rest),
            b'{' => memchr::memchr(b'}', rest),
            b'(' => memchr::memchr(b')', rest),
            _ => None,
        };
        if let Some(close) = close {
            rest = &rest[close + 1..];
            continue;
        }
        let end = rest.iter().position(is_separator).unwrap_or(rest.len());
        if words.len() == MOST_WORDS {
            // So many words are prose, and the first of them says as much as any.
            words.truncate(1);
            words.push(&b"text:"[..]);
            return words;
        }
        words.push(&rest[..end]);
        rest = &rest[end..];
    }
    words
}

/// Whether a word is a number, a date, a time zone or a node name.
fn is_neutral(word: &[u8]) -> bool {
    let letters = word.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let digits = word.iter().filter(|byte| byte.is_ascii_digit()).count();
    let iso =
        letters <= 2 && digits >= 8 && word.iter().all(|byte| !byte.is_ascii_alphabetic() || b"TZtz".contains(byte));
    let is_known = NEUTRAL.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()));
    let is_zone = (3..=5).contains(&word.len()) && word.ends_with(b"T") && word.iter().all(u8::is_ascii_uppercase);
    let is_abbreviation = word.ends_with(b".") && digits == 0 && word.len() <= 12;
    let is_node = [&b"node="[..], b"host=", b"hostname="].iter().any(|key| word.starts_with(key));
    // Also the Chinese `2025年02月21日`.
    letters == 0 || iso || is_known || is_zone || is_abbreviation || is_node
}

/// Whether a word holds a time of day, or a number with a fraction.
pub(super) fn is_clock(word: &[u8]) -> bool {
    let is_digit = |at: usize| word.get(at).is_some_and(u8::is_ascii_digit);
    (1..word.len()).any(|at| {
        let is_time = word[at] == b':' && is_digit(at + 2);
        (is_time || word[at] == b'.') && is_digit(at - 1) && is_digit(at + 1)
    })
}

/// Whether a word is a date in numbers.
fn is_date(word: &[u8]) -> bool {
    word.iter().filter(|byte| byte.is_ascii_digit()).count() >= 6 && word.iter().any(|byte| b"-/".contains(byte))
}

/// Whether a line's first word is the file name that `grep` and `zgrep` print, with or without line number.
fn is_file_name(word: &[u8], is_attached: bool) -> bool {
    let rest = word.iter().rposition(|byte| b":-".contains(byte)).map_or(word, |at| &word[at + 1..]);
    let ends = matches!(word.last(), Some(b':' | b'-'));
    let is_path = word.contains(&b'/') || memchr::memmem::find(word, b".log").is_some();
    (ends && (is_attached || is_path)) || (!ends && rest.len() < word.len() && (is_path || is_neutral(rest)))
}

/// Strips the file name or line number of `grep` before a tag: `1234:audit:`, `dmesg.log:audit:`.
fn strip_file_name(word: &[u8]) -> &[u8] {
    let Some(tag) = word.strip_suffix(b":") else { return word };
    let start = tag.iter().rposition(|byte| b":-".contains(byte)).map_or(0, |at| at + 1);
    let is_grep = start > 0 && (tag[start - 1] == b':' || is_neutral(&tag[..start]));
    if is_grep && is_audit_tag(&tag[start..]) { &word[start..] } else { word }
}

/// Whether Android's logd wrote the line for this process: `DATE TIME PID TID LEVEL TAG: `, `DATE TIME LEVEL/TAG(PID): `
/// or `LEVEL/TAG(PID): `. The tag is the name of the process (`LogAudit::logPrint`).
pub(super) fn is_logcat_of(prefix: &[u8], pid: u32) -> bool {
    let pid = pid.to_string();
    let words: Vec<&[u8]> = prefix.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).take(8).collect();
    let is_level = |word: &[u8]| matches!(word, [b'V' | b'D' | b'I' | b'W' | b'E' | b'F']);
    let date = words.iter().position(|word| !is_neutral(word)).unwrap_or(words.len());
    let at = words.get(date).copied().unwrap_or_default();
    let has_pid = |word: &[u8]| word.trim_ascii() == pid.as_bytes();
    if date >= 3 && is_level(at) {
        let is_of_process = words.get(date - 2).copied().is_some_and(has_pid);
        let is_of_logd = words.get(date + 1).is_some_and(|tag| is_audit_tag(tag.strip_suffix(b":").unwrap_or(tag)));
        return (is_of_process || is_of_logd) && prefix.trim_ascii_end().ends_with(b":");
    }
    let in_brackets = || {
        let open = memchr::memrchr(b'(', prefix)?;
        prefix[open + 1..].trim_ascii_end().strip_suffix(b"):")
    };
    matches!(at, [level, b'/', ..] if is_level(&[*level])) && in_brackets().is_some_and(has_pid)
}

/// Returns the date in front of a record, as printed: `Nov 23 22:01:02` of `Nov 23 22:01:02 web audit[7]: `.
///
/// It ends with the time of day and what follows of zone and year.
pub(super) fn find_date(prefix: &[u8]) -> &[u8] {
    let start = prefix.iter().position(|byte| !b" >|*+#$\"'".contains(byte)).unwrap_or(prefix.len());
    let prefix = &prefix[start..];
    let (mut at, mut end) = (0, 0);
    for word in prefix.split(|byte| *byte == b' ') {
        let is_year = word.len() == 4 && word.iter().all(u8::is_ascii_digit);
        let is_zone = (2..=5).contains(&word.len()) && word.iter().all(u8::is_ascii_uppercase);
        if end == 0 && is_clock(word) || end > 0 && (is_year || is_zone) {
            end = at + word.len();
        } else if end > 0 {
            break;
        }
        at += word.len() + 1;
    }
    let date = &prefix[..end];
    // The file name that `grep` prints.
    let name = date.iter().position(|byte| *byte == b' ').map_or(date, |blank| &date[..blank]);
    let after = name.iter().rposition(|byte| *byte == b':').filter(|_| name.contains(&b'/') && !is_clock(name));
    after.map_or(date, |colon| &date[colon + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neutral_prefix_shows_no_program() {
        for prefix in [
            "",
            "    ",
            "> ",
            "> > ",
            "| ",
            "- ",
            "* ",
            "1234:",
            "1234-",
            "  12  ",
            "12: ",
            "audit.log:",
            "/var/log/audit/audit.log:1234:",
            "audit.log.1.gz:",
            "audit.log-12-",
            "(standard input):",
            "/var/log/syslog:Feb 21 11:06:48 host kernel: ",
            "messages-20250221:Feb 21 11:06:48 host kernel: ",
            "12:Feb 21 11:06:48 host audit[7]: ",
            "12:audit: ",
            "12-audit: ",
            "dmesg.log:audit: ",
            "a.txt:[  961.26] audit: ",
            "node=web ",
            "host=web ",
            "Feb 21 11:06:48 host audispd: node=host ",
            "Feb 21 11:06:48 host audisp-syslog[15587]: ",
            "2025-02-21T11:06:48+00:00 web auditd ",
            "2025-02-21T11:06:48+00:00 web tag_audit_log: ",
            "2025-02-21T11:06:48+00:00 web ",
            "Feb. 21 11:06:48 host audit[1483]: ",
            "f\u{e9}vr. 21 11:06:48 host audit[1483]: ",
            "2\u{6708} 21 11:06:48 host audit[7]: ",
            "Fri 2025-02-21 11:06:48 CET host audit[7]: ",
            "Feb 21 11:06:48 audit[7]: ",
            "[  961.261094] host audit[7]: ",
            "audit: ",
            "Audit: ",
            "[  961.261094] audit: ",
            "[  961.261094] [   T1483] audit: ",
            "[  +1,261094] audit: ",
            "[feb21 11:06] audit: ",
            "[ven. f\u{e9}vr. 21 11:06:48 2025] audit: ",
            "kern  :notice: [  961.261094] audit: ",
            "<5>[  961.261094] audit: ",
            "Feb 21 11:06:48 host kernel: [  961.261094] ",
            "Feb 21 11:06:48 host KERNEL: audit: ",
            "Feb 21 11:06:48 host kern.notice kernel: [  961.261094] audit: ",
            "<5>Feb 21 11:06:48 host kernel: audit: ",
            "<5>1 2025-02-21T11:06:48.788Z host kernel - - - audit: ",
            "2025-02-21T11:06:48.788Z host kernel - - - [ 1.2] audit: ",
            "<5>1 2025-02-21T11:06:48.788Z host kernel - - [meta x=\"y\"] audit: ",
            "2025-02-21T11:06:48.1234567Z ",
            "web-1  | ",
            "[pod/web-0/app] ",
            "MESSAGE=",
            "\"msg\": \"",
            "msg='",
            "2025-02-21,host,\"",
            "build\tstep one\t2025-02-21T11:06:48.1234567Z ",
        ] {
            assert_eq!(find_other_program(prefix.as_bytes()).map(String::from_utf8_lossy), None, "{prefix}");
        }
    }

    #[test]
    fn tag_of_other_program_is_found() {
        for prefix in [
            "Feb 21 11:06:48 host svc[1483]: ",
            "Feb 21 11:06:48 host svc: ",
            "svc[7]: ",
            "svc: ",
            "> svc[7]: ",
            "Feb 21 11:06:48 host svc[9]: audit: ",
            "Feb 21 11:06:48 host svc[9]: kernel: audit: ",
            "Feb 21 11:06:48 host svc: [Mon Nov 23 22:01:02 2026] audit: ",
            "kern evil: audit: ",
            "Feb 21 11:06:48 host evil: x audispd: ",
            "Feb 21 11:06:48 host evil: x audit[7]: ",
            "type=USER_CMD msg=audit(1.002:3): cmd=",
            "[  961.2] usb 1-1: Product: audit: ",
            "kernel: usb x audit: ",
            "<13>1 2025-02-21T11:06:48.788Z host svc 1483 - - ",
            "<13>1 2025-02-21T11:06:48.788Z host svc 1483 - - audit: ",
            "2025-02-21T11:06:48.788Z host svc 1483 - - audit: ",
            "2025-02-21T11:06:48+00:00 web svc ",
            "2020-06-21T23:17:27.098000+00:00 INFO test[4844]: ",
            "I read a line of text that says ",
            "user  :notice: [  961.261094] ",
            "/var/log/syslog:Feb 21 11:06:48 host svc[9]: ",
            "a b c d e f g h i j k l m n o p q r s t u v w x y z audit: ",
        ] {
            assert!(find_other_program(prefix.as_bytes()).is_some(), "{prefix}");
        }
    }

    #[test]
    fn logcat_line_is_of_its_process_alone() {
        for prefix in
            ["02-21 11:06:48.788  1483  1483 W svc     : ", "02-21 11:06:48.788 W/svc     ( 1483): ", "W/svc( 1483): "]
        {
            assert!(is_logcat_of(prefix.as_bytes(), 1483), "{prefix}");
            assert!(!is_logcat_of(prefix.as_bytes(), 1484), "{prefix}");
        }
        assert!(!is_logcat_of(b"Feb 21 11:06:48 host svc[1483]: ", 1483));
    }

    #[test]
    fn date_is_what_stands_before_host_and_tag() {
        for (prefix, date) in [
            ("Nov 23 22:01:02 web audit[7]: ", "Nov 23 22:01:02"),
            ("Nov 23 22:01:02 audit[7]: ", "Nov 23 22:01:02"),
            ("[  961.261094] host audit[7]: ", "[  961.261094]"),
            ("1740132408.788123 host audit[7]: ", "1740132408.788123"),
            ("> Fri 2025-02-21 11:06:48 CET host audit[7]: ", "Fri 2025-02-21 11:06:48 CET"),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8_lossy(find_date(prefix.as_bytes())), date);
        }
    }
}
