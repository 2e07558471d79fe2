//! The argument by which systemd's filters judge a call, in the words of strace or of a program's message:
//! `socket(AF_UNIX, SOCK_STREAM, 0)`, `chmod(/srv/a, 02755)`.

use crate::incidents::{ArgumentPlace, KnownArgument};
use crate::policy::family_name;

/// The most arguments of a call that are read.
const MOST_ARGUMENTS: usize = 8;

/// Words for bits and numbers of arguments (`linux/sched.h`, `linux/stat.h`, `linux/personality.h`, `linux/shm.h`,
/// `asm-generic/mman-common.h`).
const WORDS: [(&str, u32); 36] = [
    ("PROT_NONE", 0),
    ("PROT_READ", 1),
    ("PROT_WRITE", 2),
    ("PROT_EXEC", 4),
    ("PROT_GROWSDOWN", 0x0100_0000),
    ("PROT_GROWSUP", 0x0200_0000),
    ("SHM_RDONLY", 0o10_000),
    ("SHM_RND", 0o20_000),
    ("SHM_REMAP", 0o40_000),
    ("SHM_EXEC", 0o100_000),
    ("S_ISUID", 0o4000),
    ("S_ISGID", 0o2000),
    ("S_ISVTX", 0o1000),
    ("S_IFREG", 0o100_000),
    ("S_IFCHR", 0o20_000),
    ("S_IFBLK", 0o60_000),
    ("S_IFIFO", 0o10_000),
    ("S_IFSOCK", 0o140_000),
    ("CLONE_NEWTIME", 0x80),
    ("CLONE_NEWNS", 0x0002_0000),
    ("CLONE_NEWCGROUP", 0x0200_0000),
    ("CLONE_NEWUTS", 0x0400_0000),
    ("CLONE_NEWIPC", 0x0800_0000),
    ("CLONE_NEWUSER", 0x1000_0000),
    ("CLONE_NEWPID", 0x2000_0000),
    ("CLONE_NEWNET", 0x4000_0000),
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
    ("PER_LINUX", 0),
    ("PER_LINUX32", 8),
    ("ADDR_NO_RANDOMIZE", 0x0004_0000),
    ("READ_IMPLIES_EXEC", 0x0040_0000),
];

/// Words that set no bit at which filters look, by their start.
const OTHERS: [&str; 2] = ["CLONE_", "SIG"];

/// Finds the call in a text and reads its arguments.
pub(super) fn find_argument(text: &str, call: &str) -> KnownArgument {
    let mut starts = text.match_indices(call).filter_map(|(at, _)| text[at + call.len()..].strip_prefix('('));
    starts.next().map_or(KnownArgument::Unknown, |arguments| parse_argument(call, arguments))
}

/// Parses the argument that filters judge, from the text behind the parenthesis of a call.
pub(super) fn parse_argument(call: &str, text: &str) -> KnownArgument {
    let Some(place) = ArgumentPlace::find(call) else { return KnownArgument::Unknown };
    let arguments = split_arguments(text);
    // strace prints the flags of clone(2) by name.
    let named = arguments.iter().find_map(|argument| argument.strip_prefix("flags="));
    let index = usize::from(place.index);
    let Some(argument) = named.or_else(|| arguments.get(index).copied()) else {
        // A message can show the deciding argument alone.
        let mut symbols = arguments.iter().filter(|argument| argument.starts_with(|c: char| c.is_ascii_uppercase()));
        let value = symbols.next().and_then(|argument| parse_value(argument));
        return value.map_or(KnownArgument::Unknown, |value| KnownArgument::new(call, value));
    };
    if place.if_creating {
        match index.checked_sub(1).and_then(|at| arguments.get(at)) {
            Some(flags) if flags.contains("O_CREAT") || flags.contains("O_TMPFILE") => {}
            Some(flags) if flags.starts_with("O_") => return KnownArgument::Harmless,
            _ => return KnownArgument::Unknown,
        }
    }
    parse_value(argument).map_or(KnownArgument::Unknown, |value| KnownArgument::new(call, value & place.mask))
}

/// Splits arguments at the commas outside of quotes and brackets, up to the end of the call.
fn split_arguments(text: &str) -> Vec<&str> {
    let mut arguments = Vec::new();
    let (mut start, mut depth, mut is_quoted, mut is_escaped) = (0, 0_u32, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => {
                arguments.push(text[start..at].trim());
                return arguments;
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                arguments.push(text[start..at].trim());
                start = at + 1;
                if arguments.len() >= MOST_ARGUMENTS {
                    return arguments;
                }
            }
            _ => {}
        }
    }
    // The text is cut: the last argument may be as well.
    arguments
}

/// Parses `A|B`, a number, or a socket address family.
fn parse_value(text: &str) -> Option<u32> {
    text.split('|').try_fold(0, |sum, word| Some(sum | parse_word(word.trim())?))
}

fn parse_word(word: &str) -> Option<u32> {
    if let Some((_, value)) = WORDS.iter().find(|(known, _)| *known == word) {
        return Some(*value);
    }
    if let Some(digits) = word.strip_prefix("0x") {
        return u32::from_str_radix(digits, 16).ok();
    }
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        let radix = if word.starts_with('0') { 8 } else { 10 };
        return u32::from_str_radix(word, radix).ok();
    }
    if let Some(name) = word.strip_prefix("AF_").or_else(|| word.strip_prefix("PF_")) {
        return parse_family(name).map(u32::from);
    }
    OTHERS.iter().any(|start| word.starts_with(start)).then_some(0)
}

/// Returns the number of a socket address family by its name without `AF_`.
pub(super) fn parse_family(name: &str) -> Option<u16> {
    let name = if name == "LOCAL" { "UNIX" } else { name };
    (1..64).find(|number| family_name(*number).and_then(|known| known.strip_prefix("AF_")) == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::Access;
    use proptest::prelude::*;

    #[test]
    fn argument_in_words_is_what_the_call_asks_for() {
        let asks = KnownArgument::Asks;
        for (call, text, expected) in [
            ("socket", "AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = -1", asks(Access::AddressFamily(1))),
            ("socket", "PF_LOCAL)", asks(Access::AddressFamily(1))),
            ("socket", "0x1f, SOCK_RAW, 1) = -1", asks(Access::AddressFamily(31))),
            ("mmap", "NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE, -1, 0)", KnownArgument::Harmless),
            ("mmap", "NULL, 4096, PROT_READ|PROT_WRITE|PROT_EXEC, MAP_PRIVATE, -1, 0)", asks(Access::ExecutableMemory)),
            ("mprotect", "0x7f, 4096, PROT_READ|PROT_EXEC)", asks(Access::ExecutableMemory)),
            ("chmod", "/srv/a, 0755): Operation", KnownArgument::Harmless),
            ("chmod", "\"/srv/a,\\\",04755\", 04755) = -1", asks(Access::SetIdMode)),
            ("openat", "AT_FDCWD, \"/x\", O_RDWR|O_CREAT, 02644)", asks(Access::SetIdMode)),
            ("openat", "AT_FDCWD, \"/x\", O_RDWR|O_CREAT, 0644)", KnownArgument::Harmless),
            ("mknod", "\"/x\", S_IFREG|S_ISUID|0755)", asks(Access::SetIdMode)),
            ("unshare", "CLONE_NEWNS|CLONE_FS) = -1", asks(Access::Namespaces(0x0002_0000))),
            (
                "clone",
                "child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f)",
                KnownArgument::Harmless,
            ),
            ("clone", "child_stack=NULL, flags=CLONE_NEWUSER|SIGCHLD)", asks(Access::Namespaces(0x1000_0000))),
            ("setns", "3, CLONE_NEWNET)", asks(Access::Namespaces(0x4000_0000))),
            ("sched_setscheduler", "0, SCHED_FIFO, [1])", asks(Access::Scheduling(1))),
            ("sched_setscheduler", "SCHED_OTHER): Operation", asks(Access::Scheduling(0))),
            ("personality", "PER_LINUX|ADDR_NO_RANDOMIZE)", asks(Access::Personality(0x0004_0000))),
            // Nothing is known of a word that is not, of a text that is cut and of another call.
            ("socket", "domain, type, 0)", KnownArgument::Unknown),
            ("socket", "AF_UN", KnownArgument::Unknown),
            ("chmod", "/srv/a)", KnownArgument::Unknown),
            ("openat", "AT_FDCWD, \"/x\")", KnownArgument::Unknown),
            ("read", "3, 0x7f, 4)", KnownArgument::Unknown),
        ] {
            assert_eq!(parse_argument(call, text), expected, "{call}({text}");
        }
        assert_eq!(find_argument("a: socket(AF_INET): no", "socket"), asks(Access::AddressFamily(2)));
    }

    proptest! {
        #[test]
        fn any_arguments_are_parsed(text in "([A-Z_|]{0,9}|[0-9x]{0,9}|[\"(){},\\\\]|.){0,30}") {
            for call in ["socket", "mmap", "openat", "clone"] {
                let _ = parse_argument(call, &text);
            }
        }
    }
}
