//! A line that reports a process that SIGSYS killed, in words other than the kernel's: those of service managers,
//! shells, `coredumpctl` and supervisors.
//!
//! Any program that can write to a log can forge such a line, so it is only a hint.

use super::death_words::{find_phrase, is_exit_159};
use crate::units::UnitName;
use memchr::memmem;

/// The limit of a program's name or path, in bytes.
const LONGEST_PROGRAM: usize = 256;

/// What one line tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DeathLine {
    /// A process died of SIGSYS.
    Death(ToldDeath),
    /// The lines that follow are about this unit.
    About(UnitName),
    /// A process of the unit was killed by a signal or dumped core; the line does not tell the signal.
    Failed(UnitName),
    /// A process died of another signal than SIGSYS.
    OtherSignal {
        /// The unit; `None` for the one that the lines are about.
        unit: Option<UnitName>,
        /// The signal's name without `SIG`.
        signal: Box<str>,
        /// Whether it dumped core.
        dumped: bool,
    },
}

/// A death, as one line tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToldDeath {
    /// Who tells it.
    pub(super) teller: Teller,
    /// The unit, if the line names it.
    pub(super) unit: Option<UnitName>,
    /// The process.
    pub(super) pid: Option<u32>,
    /// The program: a path, or a name.
    pub(super) program: Option<String>,
    /// Whether the line names SIGSYS, not just the exit status of a shell whose command died so.
    pub(super) names_signal: bool,
}

/// The reporter of a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Teller {
    /// A service manager's log line about a unit's process; false for a user manager.
    Manager { system: bool },
    /// `systemctl status`: the unit's main process.
    MainProcess,
    /// `systemctl status`: one of the unit's commands.
    Command,
    /// `coredumpctl list`.
    CoreList,
    /// A shell, supervisor or other program.
    Other,
}

/// A line without its date, host and tag.
pub(super) struct TaggedLine<'a> {
    /// The program that wrote it, and its pid; `None` if the line has no tag.
    pub(super) tag: Option<(&'a str, Option<u32>)>,
    pub(super) body: &'a str,
}

/// Parses a line of a log, or of what a terminal showed.
pub(super) fn parse(line: &str) -> Option<DeathLine> {
    let TaggedLine { tag, body } = split_tag(line.trim_end());
    let body = body.trim_start();
    if let Some(found) = parse_manager_line(tag, body).or_else(|| parse_status_line(body)) {
        return Some(found);
    }
    if let Some(unit) = parse_heading(body) {
        return Some(DeathLine::About(unit));
    }
    let death = parse_core_list_row(line).or_else(|| parse_abend(line)).or_else(|| parse_phrase(line, body))?;
    Some(DeathLine::Death(death))
}

/// Splits `<PRIORITY>1 DATE HOST TAG PID ID DATA BODY`, as syslog has it since RFC 5424.
fn split_structured(line: &str) -> Option<TaggedLine<'_>> {
    let (priority, rest) = line.strip_prefix('<')?.split_once(">1 ")?;
    priority.parse::<u8>().ok()?;
    let mut parts = rest.splitn(6, ' ').skip(2);
    let (name, pid, _, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let body = if rest.starts_with('[') { rest.split_once("] ")?.1 } else { rest.strip_prefix("- ")? };
    Some(TaggedLine { tag: Some((name, pid.parse().ok())), body: body.trim_start_matches('\u{feff}') })
}

/// Splits `DATE HOST TAG[PID]: BODY`. Without a date, only a tag with a pid is one.
pub(super) fn split_tag(line: &str) -> TaggedLine<'_> {
    if let Some(split) = split_structured(line) {
        return split;
    }
    let has_date = line.len() > 16 && line.bytes().take(40).any(|byte| byte == b':' || byte == b'[');
    let digits = line.bytes().take(16).filter(u8::is_ascii_digit).count();
    let is_tag_alone = |before: &str| before.ends_with(']') && !before.contains(' ');
    let split = line.split_once(": ").filter(|(before, _)| (has_date && digits >= 4) || is_tag_alone(before));
    let Some((before, body)) = split else { return TaggedLine { tag: None, body: line } };
    let word = before.rsplit(' ').next().unwrap_or(before);
    let tag = match word.strip_suffix(']').and_then(|rest| rest.split_once('[')) {
        Some((name, pid)) => (name, pid.parse().ok()),
        None => (word, None),
    };
    // `journalctl -o cat` prints no tag: the first word is then a unit.
    if tag.0.parse::<UnitName>().is_ok() {
        let start = before.len() - word.len();
        return TaggedLine { tag: None, body: &line[start..] };
    }
    TaggedLine { tag: Some(tag), body }
}

/// Parses `UNIT: Main process exited, code=killed, status=31/SYS` (`unit_log_process_exit` in systemd's `unit.c`) and
/// `UNIT: Failed with result 'signal'.` (`unit_log_failure`).
fn parse_manager_line(tag: Option<(&str, Option<u32>)>, body: &str) -> Option<DeathLine> {
    let (name, event) = body.split_once(": ")?;
    let Ok(unit) = name.trim_start_matches("Unit ").parse::<UnitName>() else { return parse_start_failure(body) };
    let system = match tag {
        None => true,
        Some(("systemd", pid)) => pid? == 1,
        Some(_) => {
            // Another program repeats what it read: that names the unit, and proves nothing.
            return is_failure(event).then_some(DeathLine::Failed(unit));
        }
    };
    if is_failure(event) {
        return Some(DeathLine::Failed(unit));
    }
    let (_, status) = event.split_once("rocess exited, code=")?;
    if let Some((signal, dumped)) = parse_other_signal(status, "status=") {
        return Some(DeathLine::OtherSignal { unit: Some(unit), signal, dumped });
    }
    let names_signal =
        ["killed, status=", "dumped, status="].iter().any(|words| status.starts_with(words)) && status.contains("/SYS");
    (names_signal || status.starts_with("exited, status=159")).then(|| {
        let teller = Teller::Manager { system };
        DeathLine::Death(ToldDeath { teller, unit: Some(unit), pid: None, program: None, names_signal })
    })
}

/// Parses `killed, status=9/KILL` or `dumped, signal=SEGV`: another signal than SIGSYS, and whether it dumped core.
fn parse_other_signal(status: &str, key: &str) -> Option<(Box<str>, bool)> {
    const LONGEST: usize = 8;
    let (how, rest) = status.split_once(", ")?;
    let value = rest.strip_prefix(key).filter(|_| matches!(how, "killed" | "dumped"))?;
    let name = value.split([')', ' ']).next().map(|value| value.rsplit('/').next().unwrap_or(value))?;
    let is_name = !name.is_empty()
        && name.len() <= LONGEST
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"+-".contains(&byte))
        && name.starts_with(|c: char| c.is_ascii_uppercase());
    (is_name && name != "SYS").then(|| (name.into(), how == "dumped"))
}

fn is_failure(event: &str) -> bool {
    event.starts_with("Failed with result 'core-dump'") || event.starts_with("Failed with result 'signal'")
}

/// Parses `Failed to start UNIT - Description.`, as PID 1 and `systemctl` print it.
fn parse_start_failure(body: &str) -> Option<DeathLine> {
    let rest = body.strip_prefix("Failed to start ").or_else(|| body.strip_prefix("Job for "))?;
    parse_leading_unit(rest).map(DeathLine::About)
}

fn parse_leading_unit(text: &str) -> Option<UnitName> {
    let word = text.split([' ', '\t']).next()?;
    word.parse().ok().or_else(|| word.trim_end_matches(['.', ':']).parse().ok())
}

/// Parses `Main PID: 12 (code=killed, signal=SYS)` and `Process: 12 ExecStart=/a (code=dumped, signal=SYS)`.
fn parse_status_line(body: &str) -> Option<DeathLine> {
    let (teller, rest) = if let Some(rest) = body.strip_prefix("Main PID: ") {
        (Teller::MainProcess, rest)
    } else if let Some(rest) = body.strip_prefix("Process: ").or_else(|| body.strip_prefix("Control PID: ")) {
        (Teller::Command, rest)
    } else {
        return None;
    };
    if let Some((signal, dumped)) =
        rest.rsplit_once("(code=").and_then(|(_, status)| parse_other_signal(status, "signal="))
    {
        return Some(DeathLine::OtherSignal { unit: None, signal, dumped });
    }
    let names_signal = rest.contains("signal=SYS");
    if !names_signal && !rest.contains("(code=exited, status=159") {
        return None;
    }
    let (pid, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    let command = rest.trim_start().split_once('=').filter(|(key, _)| key.starts_with("Exec")).map(|(_, rest)| rest);
    let program = command
        .and_then(|command| command.split(' ').next())
        .map(|word| word.trim_start_matches(['-', '+', '@', '!', ':']));
    let program = program.and_then(clean_program);
    Some(DeathLine::Death(ToldDeath { teller, unit: None, pid: pid.parse().ok(), program, names_signal }))
}

/// Parses the heading of `systemctl status`: `● UNIT - Description`, and its line `Loaded: loaded (/PATH/UNIT; …`.
pub(super) fn parse_heading(body: &str) -> Option<UnitName> {
    if let Some(loaded) = body.strip_prefix("Loaded: loaded (") {
        let path = loaded.split([';', ')']).next()?;
        return path.rsplit('/').next()?.parse().ok();
    }
    if body.starts_with("Failed to start ") || body.starts_with("Job for ") {
        return match parse_start_failure(body) {
            Some(DeathLine::About(unit)) => Some(unit),
            _ => None,
        };
    }
    let mark = body.chars().next().filter(|mark| "\u{25cf}\u{25cb}\u{d7}\u{21bb}*x".contains(*mark))?;
    let rest = body[mark.len_utf8()..].strip_prefix(' ')?;
    let unit = parse_leading_unit(rest)?;
    let after = rest.split_once(' ').map_or("", |(_, after)| after);
    (after.is_empty() || after.starts_with("- ")).then_some(unit)
}

/// Parses a row of `coredumpctl list`: `DATE PID UID GID 31 present /usr/bin/a`.
fn parse_core_list_row(line: &str) -> Option<ToldDeath> {
    const STATES: [&str; 8] = ["present", "missing", "none", "truncated", "inaccessible", "journal", "error", "*"];
    let words: Vec<&str> = line.split_whitespace().take(16).collect();
    let at = (3..words.len()).find(|&at| {
        let is_number = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
        matches!(words[at], "31" | "SIGSYS" | "SYS") && words[at - 3..at].iter().all(is_number)
    })?;
    let rest = &words[at + 1..];
    let program = match rest {
        [state, program, ..] if STATES.contains(state) => program,
        [program, ..] if program.starts_with('/') => program,
        _ => return None,
    };
    let pid = words[at - 3].parse().ok();
    let (teller, program) = (Teller::CoreList, clean_program(program));
    Some(ToldDeath { teller, unit: None, pid, program, names_signal: true })
}

/// Parses the kernel's record of a core dump, `type=ANOM_ABEND … pid=12 comm="a" exe="/a" sig=31` (`audit_core_dumps`).
fn parse_abend(line: &str) -> Option<ToldDeath> {
    let fields = line.split_once("ANOM_ABEND").or_else(|| line.split_once("type=1701"))?.1;
    let field = |key: &str| fields.split(' ').find_map(|field| field.strip_prefix(key));
    matches!(field("sig="), Some("31" | "SIGSYS")).then(|| ToldDeath {
        teller: Teller::Other,
        unit: None,
        pid: field("pid=").and_then(|pid| pid.parse().ok()),
        program: field("exe=").and_then(clean_program),
        names_signal: true,
    })
}

/// Parses what a shell, a supervisor or another program says about a process that it waited for.
fn parse_phrase(line: &str, body: &str) -> Option<ToldDeath> {
    let death =
        |pid, program, names_signal| Some(ToldDeath { teller: Teller::Other, unit: None, pid, program, names_signal });
    if body.contains("code=exited, status=31") {
        return None;
    }
    let Some((before, after)) = find_phrase(body) else {
        return is_exit_159(body).then(|| death(find_pid(body), find_supervised(line), false)).flatten();
    };
    // bash prints the pid right before the words, and the command behind them.
    let pid = before.trim_end().rsplit(' ').next().and_then(|word| word.parse().ok());
    let after = after.trim_start();
    let after = if after.starts_with(['(', '\u{ff08}']) {
        after.split_once([')', '\u{ff09}']).map_or("", |(_, rest)| rest)
    } else {
        after
    };
    let words = after.split_whitespace().map(|word| word.trim_start_matches(['"', '\'', '(', '`']));
    let is_command = pid.is_some() || after.starts_with("  ");
    let command =
        words.filter(|_| is_command).find(|word| !word.is_empty() && !word.contains('=') && !word.starts_with('$'));
    death(pid.or_else(|| find_pid(body)), command.and_then(clean_program).or_else(|| find_supervised(line)), true)
}

/// Returns the pid after `pid`, `process` or `child`.
fn find_pid(body: &str) -> Option<u32> {
    let words: Vec<&str> = body.split([' ', '\t']).collect();
    words.windows(2).find_map(|pair| {
        let key = pair[0].trim_matches(|c: char| !c.is_alphanumeric());
        let is_key = ["pid", "process", "child"].iter().any(|word| key.eq_ignore_ascii_case(word));
        is_key.then(|| pair[1].trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()).flatten()
    })
}

/// Returns the program in `Process 12 (NAME) of user`, and in supervisord's `exited: NAME (terminated by SIGSYS; …`.
fn find_supervised(body: &str) -> Option<String> {
    if let Some(rest) = body.split_once("exited: ").map(|(_, rest)| rest) {
        return clean_program(rest.split(' ').next()?);
    }
    let rest = body.split_once("rocess ").map(|(_, rest)| rest)?;
    let (pid, name) = rest.split_once(" (")?;
    pid.bytes().all(|byte| byte.is_ascii_digit()).then(|| clean_program(name.split(')').next()?)).flatten()
}

/// Returns the name of a program without quotation marks, if it is one.
pub(super) fn clean_program(word: &str) -> Option<String> {
    let word = word.trim_matches(['"', '\'', '`', ',', ';', ')', '(']);
    let is_program = !word.is_empty() && word.len() <= LONGEST_PROGRAM && word != "-" && word != "n/a";
    is_program.then(|| word.to_owned())
}

/// Whether lines may report a death: each line that [`parse`] takes for a death has one of these words.
pub(super) fn may_tell(lines: &[u8]) -> bool {
    const WORDS: [&[u8]; 13] = [
        b"ANOM_ABEND",
        b"type=1701 ",
        b"/SYS",
        b"=SYS",
        b"SIGSYS",
        b"(SYS)",
        b"COREFILE",
        b" 31 ",
        b"signal 31",
        b"159",
        b"Failed with result '",
        b"code=killed",
        b"code=dumped",
    ];
    WORDS.iter().any(|words| memmem::find(lines, words).is_some()) || super::death_words::may_have_phrase(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(line: &str) -> Option<ToldDeath> {
        match parse(line) {
            Some(DeathLine::Death(death)) => Some(death),
            _ => None,
        }
    }

    #[test]
    fn exit_line_of_manager_names_unit() {
        for line in [
            "Nov 23 22:01:02 web systemd[1]: a.service: Main process exited, code=killed, status=31/SYS",
            "Nov 23 22:01:02 systemd[1]: a.service: Main process exited, code=killed, status=31/SYS",
            "2026-11-23T22:01:02+0000 web systemd[1]: a.service: Control process exited, code=dumped, status=31/SYS\r",
            "[   12.345678] web systemd[1]: a.service: Main process exited, code=dumped, status=31/SYS",
            "a.service: Main process exited, code=dumped, status=31/SYS",
            "systemd[1]: a.service: main process exited, code=killed, status=31/SYS",
            "Nov 23 22:01:02 web systemd[1]: a.service: Main process exited, code=dumped, status=12/SYS",
        ] {
            let found = death(line).unwrap_or_else(|| panic!("{line}"));
            let unit = found.unit.map(|unit| unit.to_string());
            assert_eq!(unit.as_deref(), Some("a.service"), "{line}");
            assert_eq!((found.teller, found.names_signal), (Teller::Manager { system: true }, true), "{line}");
        }
        let user = "Nov 23 22:01:02 web systemd[812]: a.service: Main process exited, code=killed, status=31/SYS";
        assert_eq!(death(user).map(|death| death.teller), Some(Teller::Manager { system: false }));
        let shell = "Nov 23 22:01:02 web systemd[1]: a.service: Main process exited, code=exited, status=159/n/a";
        assert_eq!(death(shell).map(|death| death.names_signal), Some(false));
    }

    #[test]
    fn line_of_other_program_or_exit_names_no_unit() {
        for line in [
            "Nov 23 22:01:02 web evil[9]: systemd[1]: a.service: Main process exited, code=killed, status=31/SYS",
            "Nov 23 22:01:02 web evil: x systemd[1]: a.service: Main process exited, code=killed, status=31/SYS",
            "Nov 23 22:01:02 web systemd[1]: a.service: Main process exited, code=exited, status=31/SYS",
            "Nov 23 22:01:02 web systemd[1]: a.service: Main process exited, code=killed, status=9/KILL",
            "Nov 23 22:01:02 web systemd[1]: \u{1b}[31m.service: Main process exited, code=killed, status=31/SYS",
            "Nov 23 22:01:02 web systemd[x]: a.service: Main process exited, code=killed, status=31/SYS",
            "Nov 23 22:01:02 web evil[9]: a.service: Main process exited, code=killed, status=31/SYS",
        ] {
            assert_eq!(death(line).and_then(|death| death.unit), None, "{line}");
        }
    }

    #[test]
    fn other_signal_than_sigsys_is_named() {
        let of = |line: &str| match parse(line) {
            Some(DeathLine::OtherSignal { unit, signal, dumped }) => {
                Some((unit.map(|unit| unit.to_string()), signal.to_string(), dumped))
            }
            _ => None,
        };
        let unit = || Some("a.service".to_owned());
        let of_manager = |status: &str| of(&format!("systemd[1]: a.service: Main process exited, {status}"));
        assert_eq!(of_manager("code=dumped, status=11/SEGV"), Some((unit(), "SEGV".to_owned(), true)));
        assert_eq!(of_manager("code=killed, status=9/KILL"), Some((unit(), "KILL".to_owned(), false)));
        assert_eq!(of("   Main PID: 12 (code=dumped, signal=ABRT)"), Some((None, "ABRT".to_owned(), true)));
        assert_eq!(
            [of_manager("code=killed, status=31/SYS"), of_manager("code=exited, status=1/FAILURE")],
            [None, None]
        );
        assert_eq!(of("web evil[9]: a.service: Main process exited, code=dumped, status=11/SEGV"), None);
    }

    #[test]
    fn status_of_unit_tells_its_processes() {
        let of = |line: &str| death(line).map(|death| (death.teller, death.pid, death.program));
        assert_eq!(of("   Main PID: 123 (code=killed, signal=SYS)"), Some((Teller::MainProcess, Some(123), None)));
        assert_eq!(
            of("    Process: 263 ExecStart=/usr/bin/a start (code=dumped, signal=SYS)"),
            Some((Teller::Command, Some(263), Some("/usr/bin/a".to_owned())))
        );
        assert_eq!(of("   Main PID: 123 (code=exited, status=0/SUCCESS)"), None);
        assert!(of("   Main PID: 123 (code=exited, status=159)").is_some());
        for (line, unit) in [
            ("\u{25cf} a.service - A daemon", Some("a.service")),
            ("\u{d7} a.service", Some("a.service")),
            ("* a@b.service - A daemon", Some("a@b.service")),
            ("     Loaded: loaded (/usr/lib/systemd/system/a.service; enabled)", Some("a.service")),
            ("May 21 16:23:04 host bash: Failed to start a.service", Some("a.service")),
            ("* a list of things", None),
        ] {
            let about = match parse(line) {
                Some(DeathLine::About(unit)) => Some(unit.to_string()),
                _ => None,
            };
            assert_eq!(about.as_deref(), unit, "{line}");
        }
        let failed = "May 21 16:23:04 host bash: a.service: Failed with result 'core-dump'.";
        assert_eq!(parse(failed), Some(DeathLine::Failed("a.service".parse().unwrap())));
    }

    #[test]
    fn shells_and_supervisors_tell_pid_and_program() {
        for (line, pid, program) in [
            (
                "/usr/bin/swap: line 52:   379 Bad system call         (core dumped) mkswap \"${dev}\" &> /dev/null",
                Some(379),
                Some("mkswap"),
            ),
            (
                "Jul 12 01:41:00 host swap[263]: /usr/bin/swap: line 52:   379 Bad system call         (core dumped) mkswap x",
                Some(379),
                Some("mkswap"),
            ),
            ("hook.sh: line 6: 28438 Bad system call         $DRYRUN sudo -u www-data php", Some(28438), Some("sudo")),
            (
                "type=ANOM_ABEND msg=audit(1.002:3): auid=0 uid=0 gid=0 ses=1 pid=12 comm=\"a\" exe=\"/a\" sig=31 res=1",
                Some(12),
                Some("/a"),
            ),
            ("Bad system call", None, None),
            ("Bad system call (core dumped)", None, None),
            (
                "hook.sh: Zeile 6: 28438 Ungültiger Betriebssystemaufruf  (Speicherabzug geschrieben) sudo x",
                Some(28438),
                Some("sudo"),
            ),
            ("x.sh : ligne 3 : 812 Appel système erroné        (core dumped)/usr/bin/a", Some(812), Some("/usr/bin/a")),
            ("x.sh: línea 3: 812 Llamada al sistema errónea  a", Some(812), Some("a")),
            ("x.sh: строка 3: 812 Неверный системный вызов  a", Some(812), Some("a")),
            (
                " installed web package post-installation script subprocess was killed by signal (Bad system call)",
                None,
                None,
            ),
            ("installing web: its worker was killed by signal 31", None, None),
            ("make: *** [Makefile:3: all] Bad system call (core dumped)", None, None),
            ("[1]+  Bad system call         (core dumped) ./a", None, None),
            ("zsh: invalid system call (core dumped)  ./a", None, Some("./a")),
            ("fish: Job 1, './a' terminated by signal SIGSYS (Bad system call)", None, None),
            ("2026-01-01 10:00:00,123 WARN exited: web (terminated by SIGSYS; not expected)", None, Some("web")),
            ("2026-01-01 10:00:00,123 WARN exited: web (exit status 159; not expected)", None, Some("web")),
            ("2026/01/01 10:00:00 [alert] 1#1: worker process 33 exited on signal 31 (core dumped)", Some(33), None),
            ("[core:notice] AH00052: child pid 33 exit signal Bad system call (31)", Some(33), None),
            ("Process 812 (a) of user 0 terminated abnormally with signal 31/SYS, processing...", Some(812), Some("a")),
            ("5d2f  web  \"/a\"  3 minutes ago  Exited (159) 2 minutes ago", None, None),
            ("subprocess.CalledProcessError: Command 'a' died with <Signals.SIGSYS: 31>.", None, None),
            (
                "Tue 2020-06-27 12:40:15 MDT     269     0     0  31 present   /usr/bin/sort",
                Some(269),
                Some("/usr/bin/sort"),
            ),
            (
                "Tue 2024-06-27 12:40:15 UTC 269 0 0 SIGSYS present /usr/bin/sort 45.2K",
                Some(269),
                Some("/usr/bin/sort"),
            ),
            ("Tue 2020-06-27 12:40:15 MDT     269     0     0  31 *  /usr/bin/sort", Some(269), Some("/usr/bin/sort")),
        ] {
            let found = death(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((found.pid, found.program.as_deref()), (pid, program), "{line}");
        }
        for line in [
            "Tue 2020-06-27 12:40:15 MDT     269     0     0  11 present   /usr/bin/sort",
            "took 159 ms, exit",
            "sent 159 bytes, status 200",
            "x.sh: line 3: 812 Segmentation fault  (core dumped) a",
            "read 1590 files, exit status 1",
            "rt_sigaction(SIGSYS, NULL, {sa_handler=SIG_DFL, sa_mask=[], sa_flags=0}, 8) = 0",
            "ignoring signal SIGSYS",
            "exit handler for signal 31 installed",
            "job finished with status 159 rows",
            "the server returned 159 rows, status 159",
            "errno names: EINTR, \"Bad system call\"",
            "config: Bad system call handler is sd_bad",
            "the name of signal (Bad system call",
            "[info] Bad system call is the text of a signal",
            "died: handler of signal 31",
        ] {
            assert_eq!(death(line), None, "{line}");
        }
    }
}
