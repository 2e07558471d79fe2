//! What `coredumpctl info` prints about a core dump, and what systemd-coredump logs.

use super::death_line::clean_program;
use crate::units::cgroup;
use crate::units::{Manager, Placement, Unit};

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
        } else if current.function.is_none()
            && let Some(frame) = text.strip_prefix("#0 ")
        {
            current.function = parse_frame(frame);
        }
        None
    }

    /// Returns the last core dump.
    pub(super) fn finish(self) -> Option<ToldCoreDump> {
        self.current
    }
}

/// Parses the function of `0x00007f50c3a1 __socket (libc.so.6 + 0x1234)`, and of gdb's `0x00007f50c3a1 in socket () from`.
fn parse_frame(frame: &str) -> Option<String> {
    let mut words = frame.split_whitespace().skip_while(|word| word.starts_with("0x") || *word == "in");
    words.next().map(|word| word.split('(').next().unwrap_or(word)).and_then(clean_program)
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
        let text = "           PID: 379 (mkswap)\n           UID: 0 (root)\n        Signal: 31 (SYS)\n     Timestamp: Sun 2020-07-12 01:41:00 MDT (10h ago)\n  Command Line: mkswap /dev/zram0\n    Executable: /usr/bin/mkswap\n Control Group: /system.slice/swap.service\n          Unit: swap.service\n       Message: Process 379 (mkswap) of user 0 dumped core.\n\n                Stack trace of thread 379:\n                #0  0x00000000b6e4a1c8 __posix_fadvise64_l64 (libc.so.6 + 0xce1c8)\n                #1  0x00000000b6f0 main (mkswap + 0x1)\n           PID: 380 (b)\n        Signal: 11 (SEGV)\n";
        let mut reader = CoreDumpReader::default();
        let found: Vec<ToldCoreDump> = text.lines().filter_map(|line| reader.read(line)).collect();
        let [first] = &found[..] else { panic!("{found:?}") };
        assert_eq!((first.pid, first.program.as_deref()), (Some(379), Some("/usr/bin/mkswap")));
        assert_eq!(first.unit.as_ref().map(|unit| unit.name.as_str()), Some("swap.service"));
        assert_eq!((first.is_sigsys, first.function.as_deref()), (Some(true), Some("__posix_fadvise64_l64")));
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
        let dump = reader.finish().unwrap();
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
