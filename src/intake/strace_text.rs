//! What `strace` prints: calls that failed as a filter makes them fail, and processes that SIGSYS killed.
//!
//! strace tells no more than the error. The kernel itself refuses calls with EPERM, too.

use super::call_arguments::parse_argument;
use crate::incidents::KnownArgument;
use crate::policy::errno;
use crate::syscalls::{Abi, Arch, Call};
use memchr::memmem;
use std::collections::{BTreeMap, HashMap};

/// The limits of different denials, and of processes that are followed.
const MAX_CALLS: usize = 4096;
const MAX_PROCESSES: usize = 4096;

/// The longest name of a call, in bytes.
const LONGEST_NAME: usize = 64;

/// The errors by which filters refuse calls: those of systemd's directives, and the usual `SystemCallErrorNumber=`.
const ERRORS: [&str; 3] = ["EPERM", "ENOSYS", "EAFNOSUPPORT"];

/// What happened to a traced process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TracedOutcome {
    /// The call failed with this error.
    Errno(i32),
    /// The process was sent a SIGSYS that it can catch.
    Trap,
    /// SIGSYS killed the process.
    Kill,
}

/// A call, as strace shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TracedCall {
    /// The program; empty if the text does not tell.
    pub(crate) program: String,
    /// The call.
    pub(crate) call: Call,
    /// The argument by which filters judge it.
    pub(crate) argument: KnownArgument,
    /// What happened.
    pub(crate) outcome: TracedOutcome,
}

/// How often a call was seen, and the process of the latest time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TracedTimes {
    pub(crate) pid: u32,
    pub(crate) count: u64,
}

/// The calls of a log's strace lines.
pub(crate) type TracedCalls = BTreeMap<TracedCall, TracedTimes>;

/// What a line is to the reader of strace lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TraceLine {
    /// A denial, or a part of one.
    Denial,
    /// A call that was not denied, or a signal that shows no call.
    Call,
    /// No line of strace: another reader may understand it.
    Other,
}

/// Reads strace lines.
#[derive(Debug, Default)]
pub(super) struct StraceReader {
    calls: TracedCalls,
    processes: HashMap<u32, Traced>,
}

/// A process that strace follows.
#[derive(Debug, Default)]
struct Traced {
    program: String,
    /// The call that it made last, or is making, and its argument.
    last: Option<(String, KnownArgument)>,
    /// The call for which it was sent SIGSYS. Whether it survived, a later line tells.
    trapped: Option<Call>,
}

impl StraceReader {
    /// Whether lines may have a denial of strace.
    pub(super) fn may_tell(lines: &[u8]) -> bool {
        const WORDS: [&[u8]; 5] =
            [b"+++ killed by SIGSYS", b"--- SIGSYS {", b" = -1 EPERM (", b" = -1 ENOSYS (", b" = -1 EAFNOSUPPORT ("];
        WORDS.iter().any(|words| memmem::find(lines, words).is_some())
    }

    /// Reads a line.
    pub(super) fn read_line(&mut self, line: &[u8]) -> TraceLine {
        let text = String::from_utf8_lossy(line);
        let (pid, event) = strip_prefix(text.trim_end());
        if event.starts_with("+++ killed by SIGSYS") {
            let process = self.process(pid);
            let last = process.last.take().map(|(name, _)| Call::named(Abi::native().arch(), &name));
            let call = process.trapped.take().or(last);
            let kind = if call.is_some() { TraceLine::Denial } else { TraceLine::Other };
            self.add(pid, call, KnownArgument::Unknown, TracedOutcome::Kill);
            return kind;
        }
        if let Some(info) = event.strip_prefix("--- SIGSYS {") {
            let call = parse_signal(info);
            let kind = if call.is_some() { TraceLine::Denial } else { TraceLine::Call };
            self.process(pid).trapped = call;
            return kind;
        }
        let Some((name, result)) = parse_call(event) else {
            return TraceLine::Other;
        };
        if let Some(trapped) = self.process(pid).trapped.take() {
            self.add(pid, Some(trapped), KnownArgument::Unknown, TracedOutcome::Trap);
        }
        let process = self.process(pid);
        let argument = match (event.strip_prefix(name).and_then(|rest| rest.strip_prefix('(')), process.last.take()) {
            (Some(arguments), _) => parse_argument(name, arguments),
            // The first part of the call had the arguments.
            (None, Some((last, argument))) if last == name => argument,
            (None, _) => KnownArgument::Unknown,
        };
        process.last = Some((name.to_owned(), argument.clone()));
        if name == "execve" && result.starts_with('0') {
            let path = event.split_once('"').and_then(|(_, rest)| rest.split_once('"'));
            process.program = path.map(|(path, _)| path.to_owned()).unwrap_or_default();
        }
        let error = result.strip_prefix("-1 ").and_then(|rest| rest.split(' ').next());
        if let Some(errno) = error.filter(|error| ERRORS.contains(error)).and_then(errno::parse) {
            self.add(pid, Some(Call::named(Abi::native().arch(), name)), argument, TracedOutcome::Errno(errno));
            return TraceLine::Denial;
        }
        TraceLine::Call
    }

    fn process(&mut self, pid: u32) -> &mut Traced {
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&pid) {
            self.processes.clear();
        }
        self.processes.entry(pid).or_default()
    }

    fn add(&mut self, pid: u32, call: Option<Call>, argument: KnownArgument, outcome: TracedOutcome) {
        let Some(call) = call else { return };
        let program = self.process(pid).program.clone();
        let key = TracedCall { program, call, argument, outcome };
        if self.calls.len() < MAX_CALLS || self.calls.contains_key(&key) {
            let times = self.calls.entry(key).or_insert(TracedTimes { pid, count: 0 });
            (times.pid, times.count) = (pid, times.count + 1);
        }
    }

    /// Returns the calls.
    pub(super) fn finish(mut self) -> TracedCalls {
        let trapped: Vec<(u32, Call)> =
            self.processes.iter_mut().filter_map(|(pid, process)| Some((*pid, process.trapped.take()?))).collect();
        for (pid, call) in trapped {
            self.add(pid, Some(call), KnownArgument::Unknown, TracedOutcome::Trap);
        }
        self.calls
    }
}

/// Strips `[pid 12] ` or `12 `, and a time. Returns the pid, 0 if there is none.
fn strip_prefix(line: &str) -> (u32, &str) {
    let line = line.trim_start();
    let (pid, mut rest) = if let Some(rest) = line.strip_prefix("[pid ") {
        let (pid, rest) = rest.split_once(']').unwrap_or(("", rest));
        (pid.trim().parse().unwrap_or_default(), rest.trim_start())
    } else {
        match line.split_once(' ').map(|(word, rest)| (word.parse(), rest)) {
            Some((Ok(pid), rest)) => (pid, rest.trim_start()),
            _ => (0, line),
        }
    };
    if let Some((time, after)) = rest.split_once(' ')
        && time.starts_with(|c: char| c.is_ascii_digit())
        && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b':' || byte == b'.')
    {
        rest = after.trim_start();
    }
    (pid, rest)
}

/// Parses `NAME(…) = RESULT`, `NAME(… <unfinished ...>` and `<... NAME resumed>…) = RESULT`.
fn parse_call(event: &str) -> Option<(&str, &str)> {
    let (name, rest) = match event.strip_prefix("<... ") {
        Some(rest) => rest.split_once(" resumed>")?,
        None => event.split_once('(')?,
    };
    let is_name = (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let result = rest.rsplit_once(" = ").map(|(_, result)| result);
    let is_whole = result.is_some() || rest.contains("<unfinished ...");
    (is_name && is_whole).then(|| (name, result.unwrap_or_default()))
}

/// Parses `si_signo=SIGSYS, si_code=SYS_SECCOMP, …, si_syscall=__NR_NAME, si_arch=AUDIT_ARCH_X86_64}`.
fn parse_signal(info: &str) -> Option<Call> {
    let field = |key: &str| {
        let (_, rest) = info.split_once(key)?;
        rest.split([',', '}', ' ']).next()
    };
    if field("si_code=")? != "SYS_SECCOMP" {
        return None;
    }
    let name = field("si_syscall=__NR_")?;
    let arch = field("si_arch=AUDIT_ARCH_").map(str::to_ascii_lowercase);
    let arch = arch.and_then(|arch| Arch::from_name(arch.as_bytes())).unwrap_or(Abi::native().arch());
    Some(Call::named(arch, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::Access;

    fn read(text: &str) -> Vec<(String, String, TracedOutcome, u64)> {
        let mut reader = StraceReader::default();
        for line in text.lines() {
            reader.read_line(line.as_bytes());
        }
        let calls = reader.finish().into_iter();
        calls.map(|(seen, times)| (seen.program, seen.call.to_string(), seen.outcome, times.count)).collect()
    }

    #[test]
    fn failed_calls_and_kills_are_read() {
        let text = "execve(\"/usr/bin/a\", [\"a\"], 0x7ffd /* 9 vars */) = 0\n\
                    pread64(3, 0x7f, 4, 0) = -1 EPERM (Operation not permitted)\n\
                    pread64(3, 0x7f, 4, 0) = -1 EPERM (Operation not permitted)\n\
                    openat(AT_FDCWD, \"/x\", O_RDONLY) = -1 ENOENT (No such file or directory)\n\
                    socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = ?\n+++ killed by SIGSYS (core dumped) +++\n";
        assert_eq!(
            read(text),
            [
                ("/usr/bin/a".to_owned(), "pread64".to_owned(), TracedOutcome::Errno(libc::EPERM), 2),
                ("/usr/bin/a".to_owned(), "socket".to_owned(), TracedOutcome::Kill, 1),
            ]
        );
    }

    #[test]
    fn signal_names_the_call() {
        let signal = "--- SIGSYS {si_signo=SIGSYS, si_code=SYS_SECCOMP, si_call_addr=0x7f, si_syscall=__NR_socket, \
                      si_arch=AUDIT_ARCH_X86_64} ---";
        let of = |text: &str| read(text).into_iter().map(|(_, call, outcome, _)| (call, outcome)).collect::<Vec<_>>();
        let socket = |outcome| vec![("socket".to_owned(), outcome)];
        assert_eq!(
            of(&format!("[pid 12] 10:00:00.123 {signal}\n[pid 12] +++ killed by SIGSYS +++")),
            socket(TracedOutcome::Kill)
        );
        assert_eq!(of(&format!("12 {signal}\n12 read(0, \"\", 1) = 0\n")), socket(TracedOutcome::Trap));
        assert_eq!(of("--- SIGSYS {si_signo=SIGSYS, si_code=SI_USER, si_pid=7, si_uid=0} ---"), []);
    }

    #[test]
    fn argument_of_a_call_in_two_parts_is_that_of_the_first() {
        let mut reader = StraceReader::default();
        for line in [
            "12 socket(AF_UNIX, SOCK_STREAM, 0 <unfinished ...>",
            "13 socket(AF_INET, SOCK_STREAM, 0) = 3",
            "12 <... socket resumed>) = -1 EAFNOSUPPORT (Address family not supported by protocol)",
        ] {
            reader.read_line(line.as_bytes());
        }
        let arguments: Vec<KnownArgument> = reader.finish().into_keys().map(|seen| seen.argument).collect();
        assert_eq!(arguments, [KnownArgument::Asks(Access::AddressFamily(1))]);
    }

    #[test]
    fn handler_of_the_signal_is_no_death() {
        let mut reader = StraceReader::default();
        let line = "rt_sigaction(SIGSYS, NULL, {sa_handler=SIG_DFL, sa_mask=[], sa_flags=0}, 8) = 0";
        assert_eq!(reader.read_line(line.as_bytes()), TraceLine::Call);
        assert!(reader.finish().is_empty());
    }

    #[test]
    fn other_text_is_no_call() {
        for line in ["Nov 23 22:01:02 web a: f(x) failed", "call(me", "x = -1 EPERM (Operation not permitted)", ""] {
            assert_eq!(StraceReader::default().read_line(line.as_bytes()), TraceLine::Other, "{line}");
        }
    }
}
