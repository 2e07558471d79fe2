//! A program's message about something that it could not do: the error, and the path, address or call that it names.
//!
//! A process chooses the text. It is a hint, and counts only if the unit's settings can give this error for this path,
//! address or call.

use super::call_arguments::{find_argument, parse_family};
use super::errno_text::find_errno;
use crate::audit::text::base_name;
use crate::incidents::{Access, AccessPath, AddressRole, FailedAttempt, KnownArgument};
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use memchr::memmem;

/// The longest part of a message that is read, and of its text that is kept, in bytes.
const LONGEST: usize = 1024;
const KEPT: usize = 160;

/// How far behind an error its path may be, in bytes, if the words between name nothing else.
const NEAR: usize = 25;
const FAR: usize = 80;

/// Words in messages, and the calls that they stand for.
const CALLS: [(&str, &str); 48] = [
    ("chown", "chown"),
    ("fchown", "fchown"),
    ("lchown", "lchown"),
    ("fchownat", "fchownat"),
    ("chmod", "chmod"),
    ("fchmod", "fchmod"),
    ("fchmodat", "fchmodat"),
    ("setuid", "setuid"),
    ("seteuid", "setresuid"),
    ("setreuid", "setreuid"),
    ("setresuid", "setresuid"),
    ("setgid", "setgid"),
    ("setegid", "setresgid"),
    ("setregid", "setregid"),
    ("setresgid", "setresgid"),
    ("setgroups", "setgroups"),
    ("initgroups", "setgroups"),
    ("mknod", "mknod"),
    ("mount", "mount"),
    ("umount", "umount2"),
    ("chroot", "chroot"),
    ("pivot_root", "pivot_root"),
    ("unshare", "unshare"),
    ("setns", "setns"),
    ("nice", "setpriority"),
    ("setpriority", "setpriority"),
    ("sched_setscheduler", "sched_setscheduler"),
    ("mlock", "mlock"),
    ("mlockall", "mlockall"),
    ("mmap", "mmap"),
    ("mprotect", "mprotect"),
    ("commit_memory", "mmap"),
    ("ptrace", "ptrace"),
    ("bpf", "bpf"),
    ("keyctl", "keyctl"),
    ("add_key", "add_key"),
    ("perf_event_open", "perf_event_open"),
    ("personality", "personality"),
    ("sethostname", "sethostname"),
    ("setdomainname", "setdomainname"),
    ("settimeofday", "settimeofday"),
    ("clock_settime", "clock_settime"),
    ("adjtimex", "adjtimex"),
    ("ioperm", "ioperm"),
    ("iopl", "iopl"),
    ("setrlimit", "setrlimit"),
    ("io_uring_setup", "io_uring_setup"),
    ("socket", "socket"),
];

/// Texts of the dynamic linker (`elf/dl-map-segments.h`, `elf/dl-reloc.c`) and of tar, and the calls that they stand for.
const PHRASES: [(&str, &str); 3] = [
    ("failed to map segment from shared object", "mmap"),
    ("cannot restore segment prot after reloc", "mprotect"),
    ("cannot change ownership", "fchownat"),
];

/// Words that do not belong to the path before them.
const NO_NAMES: [&str; 12] = ["at", "in", "on", "for", "by", "from", "to", "with", "line", "while", "because", "as"];

/// Words for socket address families, in lower case.
const FAMILIES: [(&str, u16); 5] =
    [("netlink", 16), ("packet socket", 17), ("bluetooth", 31), ("vsock", 40), ("unix", 1)];

/// Whether lines may hold an error of a sandbox.
pub(super) fn may_tell(lines: &[u8]) -> bool {
    // Without the letters that may be capitals.
    const WORDS: [&[u8]; 15] = [
        b"ead-only file system",
        b"ermission denied",
        b"peration not permitted",
        b"o such file or directory",
        b"amily not supported",
        b"etwork is unreachable",
        b"unction not implemented",
        b"AccessDeniedException",
        b"NoSuchFileException",
        b"ccess to the path",
        b"EROFS",
        b"EACCES",
        b"erofs",
        b"eacces",
        b"no new privileges",
    ];
    WORDS.iter().any(|words| memmem::find(lines, words).is_some())
}

/// What sudo says where the kernel gives it no rights of its file (`sudo.c`).
const NO_RIGHTS: &str = "\"no new privileges\" flag is set";

/// Parses a message without its date and tag, even if it names nothing but an error that filters give. A program gets other
/// errors for too many reasons.
pub(super) fn parse_message(message: &str) -> Option<FailedAttempt> {
    let text = cut(message, LONGEST);
    // The case of other letters does not change the length.
    let lowered = text.to_ascii_lowercase();
    if lowered.contains(NO_RIGHTS) && lowered.contains("sudo") {
        let argument = KnownArgument::Asks(Access::SetIdProgram(AccessPath::new(b"sudo")));
        let text = excerpt(text, text.len()).into();
        return Some(FailedAttempt { errno: libc::EPERM, argument, text, ..FailedAttempt::default() });
    }
    let (start, end, errno) = find_errno(&lowered)?;
    let paths = find_paths(text, start, end);
    let call = find_call(&lowered, end);
    let role = find_role(&lowered);
    let address = find_address(text, &lowered).map(|address| (address, role));
    let family = (errno == libc::EAFNOSUPPORT)
        .then(|| find_family(text, &lowered, address.map(|(address, _)| address)))
        .flatten();
    let attempt = FailedAttempt {
        errno,
        call,
        argument: call.map_or(KnownArgument::Unknown, |call| find_argument(text, call)),
        makes_directory: lowered.contains("mkdir") || lowered.contains("create directory"),
        paths,
        address,
        family,
        text: excerpt(text, end).into(),
    };
    let is_of_filter = matches!(errno, libc::EPERM | libc::ENOSYS | libc::EAFNOSUPPORT);
    (is_of_filter || !attempt.is_bare()).then_some(attempt)
}

/// Adds the call and the family that the lines of a program's source show, the innermost last: a traceback ends in the error.
pub(super) fn add_source_lines(attempt: &mut FailedAttempt, lines: &[String]) {
    let Some(innermost) = lines.last() else { return };
    // `os.nice(-5)`: a name behind a dot is a word here.
    let words = |line: &String| line.to_ascii_lowercase().replace('.', " ");
    if attempt.call.is_none() {
        let lowered = words(innermost);
        attempt.call = find_call(&lowered, lowered.len());
    }
    if attempt.errno == libc::EAFNOSUPPORT && attempt.family.is_none() {
        attempt.family = lines.iter().rev().find_map(|line| find_family(line, "", None));
    }
}

/// Returns the part of a text around the end of its error.
fn excerpt(text: &str, end: usize) -> &str {
    const BEFORE: usize = 130;
    if text.trim().len() <= KEPT {
        return text.trim();
    }
    let from = text.char_indices().map(|(at, _)| at).find(|at| at + BEFORE >= end).unwrap_or(0);
    cut(text[from..].trim(), KEPT)
}

fn cut(text: &str, most: usize) -> &str {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= most).last();
    &text[..end.unwrap_or(0)]
}

/// Returns the paths that an error is about: the one right behind its text, else the last one before it, else one
/// farther behind. Two paths belong together if `->` or `to` joins them.
fn find_paths(text: &str, start: usize, end: usize) -> Vec<AccessPath> {
    let all: Vec<(usize, usize)> =
        list_paths(text).into_iter().map(|span| with_spaces(text, span, start, end)).collect();
    let kept = |spans: &[(usize, usize)]| {
        spans.iter().map(|(from, to)| AccessPath::new(&text.as_bytes()[*from..*to])).collect()
    };
    let is_joined = |one: &(usize, usize), other: &(usize, usize)| {
        let between =
            text.get(one.1..other.0).unwrap_or_default().trim_matches(['\'', '"', '`', ' ', '\u{2018}', '\u{2019}']);
        matches!(between, "->" | "to" | "=>")
    };
    let first = all.iter().position(|(from, _)| *from >= end);
    let gap = |at: usize| &text[end..all[at].0];
    let names_place = |gap: &str| [" in ", " at ", "(", " line "].iter().any(|word| gap.contains(word));
    let behind = |most: usize| first.filter(|at| gap(*at).len() <= most && !names_place(gap(*at)));
    let before = all.iter().rposition(|(_, to)| *to <= start);
    if let Some(at) = behind(NEAR) {
        let pair = at + 1 < all.len() && is_joined(&all[at], &all[at + 1]);
        return kept(&all[at..=at + usize::from(pair)]);
    }
    if let Some(at) = before {
        let pair = at > 0 && is_joined(&all[at - 1], &all[at]);
        return kept(&all[at - usize::from(pair)..=at]);
    }
    behind(FAR).map_or_else(Vec::new, |at| kept(&all[at..=at]))
}

/// Extends a path over spaces in its names that nothing quotes: up to the error behind it, or to the end of the text.
fn with_spaces(text: &str, (from, to): (usize, usize), start: usize, end: usize) -> (usize, usize) {
    let is_before = to <= start;
    let rest = if is_before {
        text[to..start].strip_suffix(": ").or_else(|| text[to..start].strip_suffix(" ("))
    } else {
        Some(text[to..].trim_end()).filter(|_| from >= end)
    };
    let Some(rest) = rest.filter(|rest| rest.starts_with(' ')) else { return (from, to) };
    let mut words = rest[1..].split(' ');
    let is_name = |word: &str| {
        !word.is_empty()
            && !NO_NAMES.contains(&word)
            && !word.starts_with(['/', '-', '@'])
            && !word.contains(|c: char| "'\"()<>,;:[]|{}=".contains(c))
    };
    // The end of a path has a separator or an extension; words about it have none.
    let last = words.clone().next_back().unwrap_or_default();
    let ends_path = last.contains('/') || (is_before && last.trim_end_matches('.').contains('.'));
    if ends_path && words.all(is_name) { (from, to + rest.len()) } else { (from, to) }
}

/// Lists where absolute paths begin and end. The program in front of its own message is none.
fn list_paths(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find('/').map(|next| at + next) {
        let before = text[..start].chars().next_back();
        let is_start = before.is_none_or(|c| c.is_whitespace() || "'\"`([=<,\u{2018}\u{201c}".contains(c))
            || (before == Some(':') && !text[start..].starts_with("//"));
        let close = match before {
            Some('\u{2018}') => Some('\u{2019}'),
            Some('\u{201c}') => Some('\u{201d}'),
            Some('`') => Some('\''),
            // C++ (`std::filesystem::filesystem_error`).
            Some('[') => Some(']'),
            Some(quote @ ('\'' | '"')) => Some(quote),
            _ => None,
        };
        let quoted = close.and_then(|close| text[start..].find(close));
        let bare = || text[start..].find(|c: char| c.is_whitespace() || "'\"()<>,;[]|{}".contains(c));
        let length = quoted.or_else(bare).unwrap_or(text.len() - start);
        let path = &text[start..start + length];
        let path = if quoted.is_some() { path } else { strip_line_number(path.trim_end_matches(['.', ':', '!', '?'])) };
        let is_program = start == 0 && text[path.len()..].starts_with(": ");
        if is_start && path.len() > 1 && !path.starts_with("//") && !is_program {
            found.push((start, start + path.len()));
        }
        at = start + length.max(1);
    }
    found
}

/// Strips `:12` of a place in a program.
fn strip_line_number(path: &str) -> &str {
    match path.rsplit_once(':') {
        Some((file, line)) if !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit()) => {
            strip_line_number(file)
        }
        _ => path,
    }
}

/// Returns the call that the message names: the last one before the end of the error, else the first one behind it.
fn find_call(lowered: &str, end: usize) -> Option<&'static str> {
    if let Some((_, call)) = PHRASES.iter().find(|(words, _)| lowered.contains(words)) {
        return Some(call);
    }
    let calls = |text: &str| -> Vec<&'static str> {
        // A part of a path or an option is no call.
        let words = text.split(|c: char| c.is_whitespace() || "()[]{}'\",;:=<>".contains(c));
        words.filter_map(|word| CALLS.iter().find(|(known, _)| *known == word).map(|(_, call)| *call)).collect()
    };
    // `/bin/chown: changing ownership of …`
    let program = lowered.split(':').next().filter(|program| !program.contains(' ')).map(base_name);
    let named = calls(&lowered[..end]).last().copied().or_else(|| calls(&lowered[end..]).first().copied());
    named.or_else(|| calls(program?).first().copied())
}

/// Returns what the message says is done with an address.
fn find_role(lowered: &str) -> AddressRole {
    let has = |words: &[&str]| words.iter().any(|word| lowered.contains(word));
    match (has(&["bind", "listen"]), has(&["connect", "dial ", "send"])) {
        (true, false) => AddressRole::Bound,
        (false, true) => AddressRole::Reached,
        _ => AddressRole::Unknown,
    }
}

/// Returns the address in a message: `0.0.0.0:80`, `[::]:80`, `:::80`, `*:80`, `:80`, or a port behind the word.
fn find_address(text: &str, lowered: &str) -> Option<SocketAddr> {
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let words = || {
        text.split(|c: char| c.is_whitespace() || "'\"(),;=<>".contains(c))
            .map(|word| word.trim_end_matches(['.', ':', '!', '/']))
            .map(|word| word.split_once("://").map_or(word, |(_, address)| address))
    };
    let parse = |word: &str| -> Option<SocketAddr> {
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let with_any = || ["*:", ":::", ":"].iter().find_map(|start| port(word.strip_prefix(start)?));
        word.parse().ok().or_else(|| Some(SocketAddr::new(any, with_any()?)))
    };
    if let Some(address) = words().find_map(parse) {
        return Some(address);
    }
    let ip = words().find_map(|word| word.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    let behind = |start: &str| {
        lowered.match_indices(start).find_map(|(at, _)| {
            let rest = lowered[at + start.len()..].trim_start_matches([' ', ':', '=', '#']);
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u16>().ok().filter(|port| *port > 0)
        })
    };
    // strace prints `htons(80)`.
    match (ip, behind("port ").or_else(|| behind("htons("))) {
        (Some(ip), port) => Some(SocketAddr::new(ip, port.unwrap_or(0))),
        (None, Some(port)) => Some(SocketAddr::new(any, port)),
        (None, None) => None,
    }
}

/// Returns the number of the family that a message names, or that an address has.
fn find_family(text: &str, lowered: &str, address: Option<SocketAddr>) -> Option<u16> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let named =
        words.filter_map(|word| word.strip_prefix("AF_").or_else(|| word.strip_prefix("PF_"))).find_map(parse_family);
    let of_address = || address.map(|address| if address.is_ipv4() { 2 } else { 10 });
    named
        .or_else(of_address)
        .or_else(|| FAMILIES.iter().find(|(word, _)| lowered.contains(word)).map(|(_, number)| *number))
}

#[cfg(test)]
mod tests;
