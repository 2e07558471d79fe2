//! A line of a service manager, or of `systemctl status`, about a unit that failed: how its process ended, and which step
//! of systemd's own failed before the program was executed.
//!
//! The wordings are those of systemd 239 to 259 (`unit.c`, `execute.c`, `exec-invoke.c`). Any program that can write to a
//! log can forge such a line, so it is only a hint.

use super::death_line::{TaggedLine, parse_heading, split_tag};
use super::errno_text::parse_errno;
use crate::incidents::{AccessPath, FailedStep};
use crate::units::{Manager, UnitName};

/// Where systemd assembles the files of a unit: its messages name paths below it.
const UNIT_ROOTS: [&str; 2] = ["/run/systemd/unit-root", "/run/systemd/mount-rootfs"];

/// The longest text of a step that is kept, in bytes.
const LONGEST: usize = 128;

/// What one line tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FailureLine {
    /// A process of the unit exited with a status other than 0.
    Exited {
        /// The unit; `None` for the one that the lines are about.
        unit: Option<UnitName>,
        status: u8,
    },
    /// The unit failed.
    Failed {
        /// The unit; `None` for the one that the lines are about.
        unit: Option<UnitName>,
        /// The manager's word, such as `exit-code`.
        result: Option<Box<str>>,
    },
    /// A step of systemd's own failed for the unit.
    Step { unit: UnitName, step: FailedStep },
    /// The lines that follow are about this unit.
    About(UnitName),
    /// A manager starts the unit.
    Start { unit: UnitName, phase: StartPhase },
    /// A manager starts the unit no more: it failed too often.
    NoRestart(UnitName),
}

/// How far a start is. A manager reports some of these for one start, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StartPhase {
    Scheduled,
    Starting,
    Started,
}

/// Parses a line of a log, or of what a terminal showed.
pub(super) fn parse(line: &str) -> Option<FailureLine> {
    let TaggedLine { tag, body } = split_tag(line.trim_end());
    let body = body.trim_start();
    let is_of_manager = match tag {
        None => true,
        Some((name, pid)) => pid.is_some() && is_manager(name),
    };
    if !is_of_manager {
        return None;
    }
    parse_message(body).or_else(|| parse_status_line(body)).or_else(|| parse_heading(body).map(FailureLine::About))
}

/// Returns the manager that wrote a line, by its tag; `None` if the line has none, or a process before its program wrote it.
pub(super) fn find_manager(line: &str) -> Option<Manager> {
    let (name, pid) = split_tag(line.trim_end()).tag?;
    let pid = pid.filter(|_| name == "systemd")?;
    Some(if pid == 1 { Manager::System } else { Manager::User(Manager::SOME_USER) })
}

/// Whether a tag is systemd's: its own, or that of a process which it started and which has not executed its program yet
/// (`rename_process_from_path` in `execute.c`).
pub(super) fn is_manager(tag: &str) -> bool {
    tag == "systemd" || (tag.starts_with('(') && tag.ends_with(')'))
}

/// Parses a message of a manager or of its child.
pub(super) fn parse_message(body: &str) -> Option<FailureLine> {
    if let Some(unit) = body.strip_prefix("Unit ").and_then(|rest| rest.strip_suffix(" entered failed state.")) {
        return Some(FailureLine::Failed { unit: Some(unit.parse().ok()?), result: None });
    }
    let started = [("Starting ", StartPhase::Starting), ("Started ", StartPhase::Started)];
    if let Some((unit, phase)) = started.iter().find_map(|(word, phase)| Some((body.strip_prefix(word)?, *phase))) {
        // Before version 249, a description stood in place of the name (`unit_status_string` in `unit.c`).
        let word = unit.split(' ').next()?;
        return word.trim_end_matches('.').parse().ok().map(|unit| FailureLine::Start { unit, phase });
    }
    let (name, event) = body.split_once(": ")?;
    let unit: UnitName = name.parse().ok()?;
    if event.starts_with("Scheduled restart job") {
        return Some(FailureLine::Start { unit, phase: StartPhase::Scheduled });
    }
    if event.contains("tart request repeated too quickly") {
        return Some(FailureLine::NoRestart(unit));
    }
    if let Some((_, rest)) = event.split_once("rocess exited, code=exited") {
        let status = parse_status(rest)?;
        return (status > 0).then_some(FailureLine::Exited { unit: Some(unit), status });
    }
    if let Some(result) = event.strip_prefix("Failed with result '") {
        let result = result.split('\'').next().filter(|word| is_word(word)).map(Into::into);
        return Some(FailureLine::Failed { unit: Some(unit), result });
    }
    parse_step(event).map(|step| FailureLine::Step { unit, step })
}

/// Parses the number behind `status=`.
fn parse_status(text: &str) -> Option<u8> {
    let (_, status) = text.split_once("status=")?;
    status.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// Parses the message of a failed step.
fn parse_step(event: &str) -> Option<FailedStep> {
    let (before, error) = event.trim_end_matches('.').rsplit_once(": ")?;
    let errno = parse_errno(error);
    if let Some(rest) = before.strip_prefix("Failed at step ") {
        let (name, program) = rest.split_once(" spawning ")?;
        return Some(FailedStep { tried: cut(name), path: find_path(program), errno });
    }
    let tried = before.strip_prefix("Failed to ").or_else(|| before.strip_prefix("Unable to "));
    let tried = tried.or_else(|| before.strip_suffix(" failed").filter(|text| text.starts_with("Changing ")))?;
    // Other messages of the manager end in other words than those of an error.
    errno?;
    let path = tried.find(" '/").map(|at| at + 2).or_else(|| tried.find(" /").map(|at| at + 1));
    let words = path.map_or(tried, |at| &tried[..at]);
    let path = path.and_then(|at| find_path(tried[at..].trim_end_matches('\'')));
    Some(FailedStep { tried: cut(words.trim_end_matches([' ', '\'', ':'])), path, errno })
}

/// Returns a path as the unit has it.
fn find_path(text: &str) -> Option<AccessPath> {
    if !text.starts_with('/') {
        return None;
    }
    let below = UNIT_ROOTS
        .iter()
        .find_map(|root| text.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/')));
    let path = below.unwrap_or(text);
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    Some(AccessPath::new(if path.is_empty() { b"/" } else { path.as_bytes() }))
}

fn cut(text: &str) -> Box<str> {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= LONGEST).last();
    text[..end.unwrap_or(0)].into()
}

/// Parses lines of `systemctl status` about the unit in its heading.
fn parse_status_line(body: &str) -> Option<FailureLine> {
    let is_process = ["Main PID: ", "Process: ", "Control PID: "].iter().any(|start| body.starts_with(start));
    if is_process {
        let (_, exit) = body.split_once("(code=exited, ")?;
        let status = parse_status(exit)?;
        return (status > 0).then_some(FailureLine::Exited { unit: None, status });
    }
    let state = body.strip_prefix("Active: ")?;
    let result = state.split_once("(Result: ").map(|(_, rest)| rest.split(')').next().unwrap_or_default());
    let result = result.filter(|word| is_word(word));
    (state.starts_with("failed") || result.is_some())
        .then(|| FailureLine::Failed { unit: None, result: result.map(Into::into) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step(line: &str) -> (String, String, Option<String>, Option<i32>) {
        match parse(line) {
            Some(FailureLine::Step { unit, step: FailedStep { tried, path, errno } }) => {
                let path = path.map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned());
                (unit.to_string(), tried.into(), path, errno)
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn failed_step_has_its_words_path_and_error() {
        let enoent = Some(libc::ENOENT);
        for (line, tried, path, errno) in [
            (
                "Dec 14 02:51:30 kerberos systemd[63]: a.service: Failed to set up mount namespacing: /run/systemd/unit-root/proc/sys/kernel/domainname: No such file or directory",
                "set up mount namespacing",
                Some("/proc/sys/kernel/domainname"),
                enoent,
            ),
            (
                "Nov 30 17:33:05 container (true)[10395]: a.service: Failed to set up mount namespacing: Invalid argument",
                "set up mount namespacing",
                None,
                Some(libc::EINVAL),
            ),
            (
                "[   11.099164] (cat)[625]: a.service: Failed to set up mount namespacing: /run/systemd/mount-rootfs/srv/data: No such file or directory",
                "set up mount namespacing",
                Some("/srv/data"),
                enoent,
            ),
            (
                "a.service: Failed to set up mount namespacing: /run/systemd/unit-root/: Invalid argument",
                "set up mount namespacing",
                Some("/"),
                Some(libc::EINVAL),
            ),
            (
                "Sep 22 15:49:36 test systemd[254]: a.service: Failed at step NAMESPACE spawning /bin/sh: Operation not permitted",
                "NAMESPACE",
                Some("/bin/sh"),
                Some(libc::EPERM),
            ),
            (
                "systemd[7]: a.service: Changing to the requested working directory failed: No such file or directory",
                "Changing to the requested working directory",
                None,
                enoent,
            ),
            (
                "Jun  1 10:00:00 web (app)[7]: a.service: Unable to locate executable '/opt/app/bin/app': No such file or directory",
                "locate executable",
                Some("/opt/app/bin/app"),
                enoent,
            ),
            (
                "Jun  1 10:00:00 web (app)[7]: a.service: Failed to execute /opt/app/run.sh: Exec format error",
                "execute",
                Some("/opt/app/run.sh"),
                Some(libc::ENOEXEC),
            ),
            (
                "Jun  1 10:00:00 web systemd[7]: a.service: Failed to set up special execution directory in /var/lib: File exists",
                "set up special execution directory in",
                Some("/var/lib"),
                Some(libc::EEXIST),
            ),
            (
                "Jun  1 10:00:00 web systemd[7]: a.service: Failed at step EXEC spawning /x: Erreur inconnue",
                "EXEC",
                Some("/x"),
                None,
            ),
        ] {
            let found = ("a.service".to_owned(), tried.to_owned(), path.map(ToOwned::to_owned), errno);
            assert_eq!(step(line), found, "{line}");
        }
    }

    #[test]
    fn end_of_process_names_unit_and_status() {
        let (system, user) = (Some(Manager::System), Some(Manager::User(Manager::SOME_USER)));
        for (line, of, status, manager) in [
            (
                "Nov 23 22:01:02 web systemd[1]: a.service: Main process exited, code=exited, status=226/NAMESPACE",
                true,
                226,
                system,
            ),
            (
                "Nov 23 22:01:02 web systemd[1]: a.service: Control process exited, code=exited, status=203/EXEC",
                true,
                203,
                system,
            ),
            (
                "Nov 23 22:01:02 web systemd[1]: a.service: control process exited, code=exited status=226",
                true,
                226,
                system,
            ),
            (
                "Nov 23 22:01:02 web systemd[1762]: a.service: Main process exited, code=exited, status=218/CAPABILITIES",
                true,
                218,
                user,
            ),
            ("   Main PID: 10395 (code=exited, status=226/NAMESPACE)", false, 226, None),
            ("    Process: 10395 ExecStart=/bin/true (code=exited, status=1/FAILURE)", false, 1, None),
        ] {
            let unit = of.then(|| "a.service".parse().unwrap());
            assert_eq!(parse(line), Some(FailureLine::Exited { unit, status }), "{line}");
            assert_eq!(find_manager(line), manager, "{line}");
        }
        let failed = |unit: Option<&str>| FailureLine::Failed {
            unit: unit.map(|unit| unit.parse().unwrap()),
            result: Some("exit-code".into()),
        };
        assert_eq!(parse("systemd[1]: a.service: Failed with result 'exit-code'."), Some(failed(Some("a.service"))));
        assert_eq!(
            parse("     Active: failed (Result: exit-code) since Sun 2025-11-30 17:33:06 UTC; 35s ago"),
            Some(failed(None))
        );
        let old = FailureLine::Failed { unit: Some("a.service".parse().unwrap()), result: None };
        assert_eq!(parse("Nov 23 22:01:02 web systemd[1]: Unit a.service entered failed state."), Some(old));
    }

    #[test]
    fn line_of_other_program_or_success_tells_no_failure() {
        for line in [
            "Nov 23 22:01:02 web evil[9]: a.service: Main process exited, code=exited, status=226/NAMESPACE",
            "Nov 23 22:01:02 web evil[9]: a.service: Failed to set up mount namespacing: /x: No such file or directory",
            "Nov 23 22:01:02 web evil: (x)[1]: a.service: Failed at step EXEC spawning /x: Permission denied",
            "Nov 23 22:01:02 web systemd[1]: a.service: Main process exited, code=exited, status=0/SUCCESS",
            "Nov 23 22:01:02 web systemd[1]: a.service: Main process exited, code=killed, status=9/KILL",
            "Nov 23 22:01:02 web systemd[1]: a.service: Failed to kill control group: a word that is no error",
            "Nov 23 22:01:02 web systemd[1]: Failed to start a.service.service: x",
            "     Active: active (running) since Sun 2025-11-30 17:33:06 UTC; 35s ago",
        ] {
            assert!(matches!(parse(line), None | Some(FailureLine::About(_))), "{line}: {:?}", parse(line));
        }
    }

    proptest! {
        #[test]
        fn any_line_is_parsed(line in ".{0,80}(a.service: Failed (to|at step) .{0,30}: (/.{0,20}: )?No such file or directory)?") {
            if let Some(FailureLine::Step { step, .. }) = parse(&line) {
                prop_assert!(step.tried.len() <= LONGEST);
            }
        }
    }
}
