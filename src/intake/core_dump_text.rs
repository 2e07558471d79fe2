//! What `coredumpctl info` prints about a core dump, and what systemd-coredump logs.

use super::death_line::clean_program;
use crate::audit::text::base_name;
use crate::incidents::{CallSite, CodePlace};
use crate::units::cgroup;
use crate::units::{Manager, Placement, Unit};

/// The most frames of a stack, and modules with an id of their build, that are read.
const MOST_FRAMES: usize = 8;
const MOST_MODULES: usize = 128;

/// A core dump.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ToldCoreDump {
    pub(super) pid: Option<u32>,
    pub(super) program: Option<String>,
    /// The unit of the process's cgroup.
    pub(super) unit: Option<Unit>,
    /// Whether the signal was SIGSYS; `None` if nothing tells.
    pub(super) is_sigsys: Option<bool>,
    /// The function in which the process died.
    pub(super) function: Option<String>,
    /// The stack of the thread that died, from its top on, up to the first frame that names no file.
    frames: Vec<CodePlace>,
    /// Whether the stack is over.
    has_stack: bool,
    /// The modules with the ids of their builds.
    builds: Vec<(String, Vec<u8>)>,
}

impl ToldCoreDump {
    /// Returns where the process made its last call, by its stack.
    pub(super) fn call_site(&self) -> Option<CallSite> {
        let mut frames = self.frames.iter().cloned().map(|mut frame| {
            let build = self.builds.iter().find(|(module, _)| module.as_bytes() == frame.file_name());
            frame.build_id = build.map_or_else(Vec::new, |(_, id)| id.clone());
            frame
        });
        let code = frames.next()?;
        Some(CallSite { code, caller: frames.next(), further: frames.collect() })
    }

    fn add_frame(&mut self, number: &str, frame: &str) {
        let is_next = number.parse() == Ok(self.frames.len());
        match parse_place(frame).filter(|_| is_next && self.frames.len() < MOST_FRAMES) {
            Some(place) if !self.has_stack => self.frames.push(place),
            _ => self.has_stack = true,
        }
    }
}

/// Reads lines, and remembers the core dump that they are about.
#[derive(Debug, Default)]
pub(super) struct CoreDumpReader {
    current: Option<ToldCoreDump>,
}

impl CoreDumpReader {
    /// Reads a line. Returns the core dump before it, if the line begins another.
    pub(super) fn read(&mut self, line: &str) -> Option<ToldCoreDump> {
        let text = line.trim();
        if let Some(rest) = text.strip_prefix("PID: ") {
            let (pid, name) = rest.split_once(' ').unwrap_or((rest, ""));
            let program = clean_program(name);
            return self.current.replace(ToldCoreDump { pid: pid.parse().ok(), program, ..ToldCoreDump::default() });
        }
        if let Some((_, rest)) = text.split_once("Process ")
            && let Some((pid, rest)) = rest.split_once(" (")
            && (rest.contains(") of user ") && (rest.contains("dumped core") || rest.contains("terminated abnormally")))
            && let Ok(pid) = pid.parse()
        {
            let program = rest.split(')').next().and_then(clean_program);
            let is_sigsys = rest.split_once("with signal ").map(|(_, signal)| signal.starts_with("31/"));
            if let Some(current) = self.current.as_mut().filter(|current| current.pid == Some(pid)) {
                current.is_sigsys = current.is_sigsys.or(is_sigsys);
                return None;
            }
            return self.current.replace(ToldCoreDump {
                pid: Some(pid),
                program,
                is_sigsys,
                ..ToldCoreDump::default()
            });
        }
        let current = self.current.as_mut()?;
        if let Some(signal) = text.strip_prefix("Signal: ") {
            current.is_sigsys = Some(signal.contains("SYS") || signal.starts_with("31 "));
        } else if let Some(exe) = text.strip_prefix("Executable: ") {
            current.program = clean_program(exe).or(current.program.take());
        } else if let Some(path) = text.strip_prefix("Control Group: ") {
            if let Placement::Unit(unit) = cgroup::place_path(path.as_bytes()) {
                current.unit = Some(unit);
            }
        } else if let Some(name) = text.strip_prefix("Unit: ") {
            let unit = name.parse().ok().map(|name| Unit { manager: Manager::System, name });
            current.unit = current.unit.take().or(unit);
        } else if let Some((number, frame)) = text.strip_prefix('#').and_then(|frame| frame.split_once(' ')) {
            if current.function.is_none() && number == "0" {
                current.function = parse_frame(frame);
            }
            current.add_frame(number, frame);
        } else if text.starts_with("Stack trace of thread ") {
            current.has_stack |= !current.frames.is_empty();
        } else if let Some((module, id)) =
            text.strip_prefix("Module ").and_then(|rest| rest.split_once(" with build-id "))
            && current.builds.len() < MOST_MODULES
            && let Some(id) = CodePlace::parse_build_id(id)
        {
            current.builds.push((base_name(module).to_owned(), id));
        }
        None
    }

    /// Returns the last core dump.
    pub(super) fn finish(self) -> Option<ToldCoreDump> {
        self.current
    }
}

/// Returns where a process made its last call, by the stack in the message of systemd-coredump's entry.
pub(crate) fn call_site_of_message(message: &[u8]) -> Option<CallSite> {
    let mut reader = CoreDumpReader::default();
    for line in String::from_utf8_lossy(message).lines() {
        reader.read(line);
    }
    reader.finish()?.call_site()
}

/// Parses the function of `0x00007f50c3a1 __socket (libc.so.6 + 0x1234)`, and of gdb's `0x00007f50c3a1 in socket () from`.
fn parse_frame(frame: &str) -> Option<String> {
    let mut words = frame.split_whitespace().skip_while(|word| word.starts_with("0x") || *word == "in");
    words.next().map(|word| word.split('(').next().unwrap_or(word)).and_then(clean_program)
}

/// Parses the place of `0x00007f50c3a1 __socket (libc.so.6 + 0x1234)`, and of gdb's `0x00007f50c3a1 in socket () from /lib/x`;
/// `None` if it names no file.
fn parse_place(frame: &str) -> Option<CodePlace> {
    let (before, module) = match frame.rsplit_once(" (") {
        // What gdb has in parentheses are arguments.
        Some((before, module)) if module.ends_with(')') && module.len() > 1 && !before.contains(" in ") => {
            (before, module.strip_suffix(')')?)
        }
        _ => frame.rsplit_once(" from ")?,
    };
    let (module, offset) = module.split_once(" + ").unwrap_or((module, ""));
    let module = clean_program(module)?;
    let offset = offset.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
    let function = parse_frame(before).unwrap_or_default().into_bytes();
    Some(CodePlace { offset, path: module.into_bytes(), function, ..CodePlace::default() })
}

/// Returns the calls that a function of libc may be the wrapper of: the name itself, and names without libc's prefixes
/// and suffixes.
pub(crate) fn calls_of_function(function: &str) -> Vec<&str> {
    let mut name = function;
    for prefix in ["__GI_", "__libc_", "___", "__", "_"] {
        name = name.strip_prefix(prefix).unwrap_or(name);
    }
    for suffix in ["_nocancel", "_cancel", "_time64"] {
        name = name.strip_suffix(suffix).unwrap_or(name);
    }
    let name = name.strip_prefix("posix_").unwrap_or(name);
    let short = name.strip_suffix("64").unwrap_or(name);
    let other = match short {
        "open" => "openat",
        "clone_internal" => "clone3",
        "fork" => "clone",
        "waitpid" | "wait" => "wait4",
        "send" => "sendto",
        "recv" => "recvfrom",
        "pread" => "pread64",
        "pwrite" => "pwrite64",
        "fadvise" => "fadvise64",
        "epoll_wait" => "epoll_pwait",
        "poll" => "ppoll",
        "select" => "pselect6",
        _ => short,
    };
    let mut names = vec![function, name, short, other];
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coredumpctl_info_tells_process_unit_and_function() {
        let text = "           PID: 379 (mkswap)\n           UID: 0 (root)\n        Signal: 31 (SYS)\n     Timestamp: Sun 2020-07-12 01:41:00 MDT (10h ago)\n  Command Line: mkswap /dev/zram0\n    Executable: /usr/bin/mkswap\n Control Group: /system.slice/swap.service\n          Unit: swap.service\n       Message: Process 379 (mkswap) of user 0 dumped core.\n\n                Module libc.so.6 with build-id 0bff10aa\n                Module mkswap without build-id.\n                Stack trace of thread 379:\n                #0  0x00000000b6e4a1c8 __posix_fadvise64_l64 (libc.so.6 + 0xce1c8)\n                #1  0x00000000b6f0 main (mkswap + 0x1)\n                #2  0x00000000b6f1 n/a (n/a + 0x0)\n                #3  0x00000000b6f2 x (y + 0x1)\n                Stack trace of thread 380:\n                #0  0x00000000b6f0 other (libother.so + 0x1)\n           PID: 380 (b)\n        Signal: 11 (SEGV)\n";
        let mut reader = CoreDumpReader::default();
        let found: Vec<ToldCoreDump> = text.lines().filter_map(|line| reader.read(line)).collect();
        let [first] = &found[..] else { panic!("{found:?}") };
        assert_eq!((first.pid, first.program.as_deref()), (Some(379), Some("/usr/bin/mkswap")));
        assert_eq!(first.unit.as_ref().map(|unit| unit.name.as_str()), Some("swap.service"));
        assert_eq!((first.is_sigsys, first.function.as_deref()), (Some(true), Some("__posix_fadvise64_l64")));
        let site = first.call_site().unwrap();
        assert_eq!((site.code.file_name(), site.code.offset), (&b"libc.so.6"[..], 0xc_e1c8));
        assert_eq!(
            (&*site.code.function, &*site.code.build_id),
            (&b"__posix_fadvise64_l64"[..], &[0x0b, 0xff, 0x10, 0xaa][..])
        );
        let caller = site.caller.unwrap();
        assert_eq!((caller.file_name(), &*caller.function), (&b"mkswap"[..], &b"main"[..]));
        assert!(site.further.is_empty(), "the next frame names nothing: {:?}", site.further);
        assert_eq!(reader.finish().and_then(|last| last.is_sigsys), Some(false));
    }

    #[test]
    fn core_dump_of_the_journal_tells_process_and_function() {
        let mut reader = CoreDumpReader::default();
        for line in [
            "Process 812 (a) of user 0 dumped core.",
            "Stack trace of thread 812:",
            "#0  0x00007f50c3a1 __socket (libc.so.6 + 0x1234)",
        ] {
            assert_eq!(reader.read(line), None);
        }
        assert_eq!(reader.read("#1  0x00007f50c3a2 n/a (libuv.so.1)"), None);
        assert_eq!(reader.read("#2  0x00007f50c3a3 in node::Run () from /usr/lib/libnode.so"), None);
        assert_eq!(reader.read("#3  0x00007f50c3a4 in main (argc=1)"), None);
        assert_eq!(reader.read("#4  0x00007f50c3a5 start (libc.so.6)"), None, "the stack ended before");
        let dump = reader.finish().unwrap();
        let site = dump.call_site().unwrap();
        let caller = site.caller.unwrap();
        assert_eq!((&*caller.path, caller.offset, &*caller.function), (&b"libuv.so.1"[..], 0, &b""[..]));
        assert_eq!(site.further.len(), 1, "the next frame has arguments and no file: {:?}", site.further);
        assert_eq!(
            (&*site.further[0].path, &*site.further[0].function),
            (&b"/usr/lib/libnode.so"[..], &b"node::Run"[..])
        );
        assert_eq!((dump.pid, dump.is_sigsys, dump.function.as_deref()), (Some(812), None, Some("__socket")));
    }

    #[test]
    fn function_of_libc_leads_to_its_call() {
        for (function, call) in [
            ("__socket", "socket"),
            ("__GI___clone3", "clone3"),
            ("__libc_read", "read"),
            ("__pread64_nocancel", "pread64"),
            ("posix_fadvise64", "fadvise64"),
            ("__open64", "openat"),
            ("setresuid", "setresuid"),
        ] {
            assert!(calls_of_function(function).contains(&call), "{function}: {:?}", calls_of_function(function));
        }
    }
}
