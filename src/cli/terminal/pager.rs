//! The pager of answers on a terminal, chosen as systemctl(1) chooses its own (`pager_open` in systemd's
//! `src/shared/pager.c`).

use crate::kernel::procfs::Procfs;
use nix::sys::signal::{SigSet, Signal};
use std::env;
use std::ffi::OsStr;
use std::io;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use terminal_size::terminal_size_of;
use textwrap::core::display_width;

/// The options for less that systemd's programs use, without `S`: quit on Ctrl-C and after one screen, pass colours on, and
/// leave the text on the screen. `S` would cut commands and paths to copy, and make less stay for a short answer that has
/// some.
const LESS_OPTIONS: &str = "FRXMK";

/// The pagers to try, in this order, if the environment names none.
const PAGERS: [&str; 3] = ["pager", "less", "more"];

/// The one pager that can do without its commands that start programs and write files.
const SECURE_PAGERS: [&str; 1] = ["less"];

/// The variables by which less runs programs of the environment's choice, or turns its restrictions off (less(1)).
const UNSAFE_VARIABLES: [&str; 6] =
    ["LESSSECURE_ALLOW", "LESSOPEN", "LESSCLOSE", "LESSKEYIN", "LESSKEY_CONTENT", "LESSEDIT"];

/// A running pager.
#[derive(Debug)]
pub(crate) struct Pager {
    child: Child,
    input: Option<ChildStdin>,
}

/// What the environment asks for.
#[derive(Debug, PartialEq, Eq)]
enum PagerChoice {
    /// No pager.
    Off,
    /// The first of these command lines that can be run. `secure` turns off what could start other programs.
    Run { candidates: Vec<Vec<String>>, secure: bool },
}

impl Pager {
    /// Starts a pager for a text; `None` if stdout is no terminal or has room for the text, the environment turns pagers
    /// off, or none is installed.
    pub(crate) fn start(text: &str) -> Option<Self> {
        let is_dumb = env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        // less would stay for a text that leaves no line free.
        if !io::stdout().is_terminal() || is_dumb || fits_terminal(text) {
            return None;
        }
        let variable = |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let PagerChoice::Run { candidates, secure } = choose(variable, is_own_session()) else { return None };
        let environment = pager_environment(variable, secure);
        let child = candidates.iter().find_map(|words| pager_command(words, &environment, secure)?.spawn().ok());
        let mut child = child?;
        let input = child.stdin.take();
        // Ctrl-C is for the pager, which resets the terminal: this process waits for it, and keeps its exit status.
        // Without the block, it would end first.
        let _ = SigSet::from_iter([Signal::SIGINT]).thread_block();
        Some(Self { child, input })
    }

    /// Passes a text to the pager, and waits until the user leaves it.
    ///
    /// # Errors
    /// The pager cannot be written to or waited for. A pager that the user left earlier is no error.
    pub(crate) fn show(mut self, text: &[u8]) -> io::Result<()> {
        let written = match self.input.take() {
            Some(mut input) => input.write_all(text),
            None => Ok(()),
        };
        self.child.wait()?;
        written.or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
    }
}

/// Returns whether the terminal has room for a text and the prompt below it.
fn fits_terminal(text: &str) -> bool {
    let Some((columns, lines)) = terminal_size_of(io::stdout()) else { return false };
    let columns = usize::from(columns.0).max(1);
    let height: usize = text.lines().map(|line| display_width(line).div_ceil(columns).max(1)).sum();
    height < usize::from(lines.0)
}

/// Chooses the pager. `is_own_session` tells whether the effective user owns the login session of this process.
fn choose(variable: impl Fn(&str) -> Option<String>, is_own_session: bool) -> PagerChoice {
    let named = variable("SYSTEMD_PAGER").or_else(|| variable("PAGER"));
    let named: Option<Vec<String>> = named.map(|words| words.split_whitespace().map(str::to_owned).collect());
    if named.as_ref().is_some_and(|words| words.is_empty() || *words == ["cat"]) {
        return PagerChoice::Off;
    }
    let (secure, is_trusted) = match variable("SYSTEMD_PAGERSECURE").map(|value| parse_boolean(&value)) {
        Some(Some(secure)) => (secure, true),
        Some(None) => (true, false),
        // As under sudo: the variables may be those of another user.
        None => (!is_own_session, is_own_session),
    };
    let known: &[&str] = if secure { &SECURE_PAGERS } else { &PAGERS };
    let known = known.iter().map(|program| vec![(*program).to_owned()]);
    PagerChoice::Run { candidates: named.filter(|_| is_trusted).into_iter().chain(known).collect(), secure }
}

/// Returns the command of a pager that reads a pipe; `None` without words.
fn pager_command(words: &[String], environment: &[(&str, String)], secure: bool) -> Option<Command> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).env_remove("LESSSECURE").envs(environment.iter().cloned());
    for name in UNSAFE_VARIABLES.iter().filter(|_| secure) {
        command.env_remove(name);
    }
    Some(command)
}

/// Returns the variables of less, which other pagers may read as well.
fn pager_environment(variable: impl Fn(&str) -> Option<String>, secure: bool) -> Vec<(&'static str, String)> {
    let options = variable("SYSTEMD_LESS").unwrap_or_else(|| LESS_OPTIONS.to_owned());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| variable(name).filter(|it| !it.is_empty()));
    let is_utf8 = locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    });
    let charset = variable("SYSTEMD_LESSCHARSET").or_else(|| is_utf8.then(|| "utf-8".to_owned()));
    let mut environment = vec![("LESS", options)];
    environment.extend(charset.map(|charset| ("LESSCHARSET", charset)));
    environment.extend(secure.then(|| ("LESSSECURE", "1".to_owned())));
    environment
}

/// Parses a boolean as systemd does (`parse_boolean` in `src/basic/parse-util.c`).
fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// Returns whether the effective user owns the login session of this process, as `sd_pid_get_owner_uid` tells it.
fn is_own_session() -> bool {
    let cgroup = Procfs::live().cgroup(std::process::id()).unwrap_or_default();
    session_owner(&cgroup) == Some(nix::unistd::geteuid().as_raw())
}

/// Returns the user of the slice `user-UID.slice` in the bytes of `/proc/PID/cgroup`. Below it, each user makes cgroups
/// of any name, so the first level with such a name counts.
fn session_owner(cgroup: &[u8]) -> Option<u32> {
    let mut lines = cgroup.split(|&byte| byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::").or_else(|| line.strip_prefix(b"1:name=systemd:")))?;
    let levels = OsStr::from_bytes(path.strip_prefix(b"/user.slice/")?).to_str()?;
    levels.split('/').next()?.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(variables: &[(&str, &str)], is_own_session: bool) -> PagerChoice {
        let variable =
            |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned());
        choose(variable, is_own_session)
    }

    /// The command lines to try, and whether securely.
    fn candidates(variables: &[(&str, &str)], is_own_session: bool) -> (Vec<String>, bool) {
        match choice(variables, is_own_session) {
            PagerChoice::Run { candidates, secure } => {
                (candidates.iter().map(|words| words.join(" ")).collect(), secure)
            }
            PagerChoice::Off => panic!("off"),
        }
    }

    #[test]
    fn named_pager_comes_before_the_known_ones() {
        let (known, secure) = candidates(&[], true);
        assert_eq!((known.join(", ").as_str(), secure), ("pager, less, more", false));
        assert_eq!(candidates(&[("PAGER", "most -w")], true).0[0], "most -w");
        assert_eq!(candidates(&[("PAGER", "most"), ("SYSTEMD_PAGER", "less -N")], true).0[0], "less -N");
    }

    #[test]
    fn empty_pager_and_cat_turn_the_pager_off() {
        for (name, value) in [("SYSTEMD_PAGER", ""), ("SYSTEMD_PAGER", "cat"), ("PAGER", " "), ("PAGER", "cat")] {
            for is_own_session in [true, false] {
                assert_eq!(
                    choice(&[(name, value), ("PAGER", "less")], is_own_session),
                    PagerChoice::Off,
                    "{name}={value}"
                );
            }
        }
        assert_ne!(choice(&[("SYSTEMD_PAGER", "less"), ("PAGER", "cat")], true), PagerChoice::Off);
    }

    #[test]
    fn pager_of_another_user_is_not_run_unless_pagersecure_is_set() {
        let named = ("PAGER", "sh -c evil");
        assert_eq!(candidates(&[named], false), (vec!["less".to_owned()], true));
        assert_eq!(candidates(&[named, ("SYSTEMD_PAGERSECURE", "maybe")], true), (vec!["less".to_owned()], true));
        let trusted = |value| candidates(&[named, ("SYSTEMD_PAGERSECURE", value)], false);
        assert_eq!(trusted("1"), (vec!["sh -c evil".to_owned(), "less".to_owned()], true));
        assert_eq!(trusted("no").0.len(), 4);
        assert!(!trusted("no").1);
    }

    #[test]
    fn variables_of_less_are_those_of_systemctl_but_for_long_lines() {
        let environment = |variables: &[(&str, &str)], secure| {
            let variable = |name: &str| {
                variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
            };
            pager_environment(variable, secure)
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(environment(&[], false), ["LESS=FRXMK", "LESSCHARSET=utf-8"]);
        assert_eq!(environment(&[("LANG", "de_DE@euro")], true), ["LESS=FRXMK", "LESSSECURE=1"]);
        let own = [("SYSTEMD_LESS", "R"), ("SYSTEMD_LESSCHARSET", "koi8-r"), ("LC_ALL", "C")];
        assert_eq!(environment(&own, false), ["LESS=R", "LESSCHARSET=koi8-r"]);
    }

    #[test]
    fn secure_pager_does_not_get_variables_that_run_programs() {
        let removed = |secure| {
            let environment = pager_environment(|_| None, secure);
            let command = pager_command(&["less".to_owned()], &environment, secure).unwrap();
            let unset = command.get_envs().filter(|(_, value)| value.is_none());
            unset.map(|(name, _)| name.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let unsafe_ones = ["LESSCLOSE", "LESSEDIT", "LESSKEYIN", "LESSKEY_CONTENT", "LESSOPEN", "LESSSECURE_ALLOW"];
        assert_eq!(removed(true), unsafe_ones);
        assert_eq!(removed(false), ["LESSSECURE"]);
    }

    #[test]
    fn session_owner_is_read_from_the_first_slice() {
        let owner = |path: &str| session_owner(format!("0::{path}\n").as_bytes());
        assert_eq!(owner("/user.slice/user-1000.slice/session-2.scope"), Some(1_000));
        assert_eq!(owner("/user.slice/user-1000.slice/user@1000.service/user-0.slice/x.scope"), Some(1_000));
        for other in ["/", "/system.slice/sshd.service", "/user.slice/x.scope", "/mine/user.slice/user-0.slice/x"] {
            assert_eq!(owner(other), None, "{other}");
        }
        let hybrid = b"4:memory:/x\n1:name=systemd:/user.slice/user-0.slice/session-1.scope\n";
        assert_eq!(session_owner(hybrid), Some(0));
    }
}
