//! The programs that a command line runs through a launcher (`nice`, `env`, …) or a shell's script.
//!
//! Only the first word of a command is a program; any other word may be data, as in `install -o man`. After an unknown
//! option, the search ignores all further words: the next word could be the option's value.

use super::shell_script::split_simple_commands;
use crate::audit::text::base_name;

/// The longest chain of launchers that the search follows.
const DEEPEST: usize = 4;

/// Shells that take a script with `-c`.
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "ash", "rbash", "ksh", "mksh", "zsh"];

/// Builtin commands of shells, and words that end a shell's blocks. Some builtins share a name with a program.
const BUILTINS: [&str; 27] = [
    ":", ".", "[", "[[", "alias", "cd", "declare", "echo", "eval", "exit", "export", "false", "kill", "local",
    "printf", "pwd", "read", "return", "set", "shift", "test", "true", "umask", "wait", "fi", "done", "}",
];

/// Words that precede a command in a shell's script.
const BEFORE_COMMANDS: [&str; 14] =
    ["if", "then", "elif", "else", "while", "until", "do", "!", "{", "time", "exec", "command", "builtin", "nohup"];

/// A program that executes another program, and the options of the launcher.
struct Launcher {
    names: &'static [&'static str],
    /// Options that take the next word as their value.
    valued: &'static [&'static str],
    flags: &'static [&'static str],
    /// The number of words between the launcher's options and the command.
    before: usize,
    /// The option whose value is a shell's script.
    script: Option<&'static str>,
    /// Whether `NAME=value` may precede the command.
    assigns: bool,
}

const PLAIN: Launcher = Launcher { names: &[], valued: &[], flags: &[], before: 0, script: None, assigns: false };

/// `env(1)` and similar programs of coreutils and util-linux, `sudo(8)`, `systemd-cat(1)`, `systemd-inhibit(1)` and
/// `dbus-run-session(1)`.
const LAUNCHERS: [Launcher; 13] = [
    Launcher {
        names: &["env"],
        valued: &["-u", "--unset", "-C", "--chdir"],
        flags: &["-", "-i", "--ignore-environment", "-v", "--debug"],
        assigns: true,
        ..PLAIN
    },
    Launcher { names: &["nice"], valued: &["-n", "--adjustment"], ..PLAIN },
    Launcher { names: &["nohup"], ..PLAIN },
    Launcher {
        names: &["ionice"],
        valued: &["-c", "--class", "-n", "--classdata"],
        flags: &["-t", "--ignore"],
        ..PLAIN
    },
    Launcher {
        names: &["chrt"],
        flags: &["-b", "--batch", "-f", "--fifo", "-i", "--idle", "-o", "--other", "-r", "--rr", "-R", "-v"],
        before: 1,
        ..PLAIN
    },
    Launcher { names: &["taskset"], flags: &["-c", "--cpu-list"], before: 1, ..PLAIN },
    Launcher { names: &["setsid"], flags: &["-c", "--ctty", "-f", "--fork", "-w", "--wait"], ..PLAIN },
    Launcher { names: &["stdbuf"], valued: &["-i", "--input", "-o", "--output", "-e", "--error"], ..PLAIN },
    Launcher {
        names: &["timeout"],
        valued: &["-k", "--kill-after", "-s", "--signal"],
        flags: &["--foreground", "--preserve-status", "-v", "--verbose"],
        before: 1,
        ..PLAIN
    },
    Launcher {
        names: &["setpriv"],
        valued: &[
            "--reuid",
            "--ruid",
            "--euid",
            "--regid",
            "--rgid",
            "--egid",
            "--groups",
            "--inh-caps",
            "--ambient-caps",
            "--bounding-set",
            "--securebits",
            "--pdeathsig",
            "--selinux-label",
            "--apparmor-profile",
        ],
        flags: &["--clear-groups", "--keep-groups", "--init-groups", "--no-new-privs", "--nnp", "--reset-env"],
        ..PLAIN
    },
    Launcher {
        names: &["flock"],
        valued: &["-w", "--wait", "--timeout", "-E", "--conflict-exit-code"],
        flags: &["-s", "--shared", "-x", "-e", "--exclusive", "-n", "--nonblock", "--nb", "-o", "--close", "-F"],
        before: 1,
        script: Some("-c"),
        ..PLAIN
    },
    Launcher {
        names: &["sudo"],
        valued: &["-u", "--user", "-g", "--group"],
        flags: &["-E", "--preserve-env", "-H", "--set-home", "-n", "--non-interactive"],
        assigns: true,
        ..PLAIN
    },
    Launcher {
        names: &["systemd-cat", "systemd-inhibit", "dbus-run-session"],
        valued: &["-t", "--identifier", "-p", "--priority", "--config-file", "--dbus-daemon"],
        ..PLAIN
    },
];

/// Whether a path or name is that of a shell.
#[must_use]
pub(crate) fn is_shell(program: &str) -> bool {
    SHELLS.contains(&base_name(program))
}

/// Returns the further programs that `program` runs with these arguments, by path or bare name.
#[must_use]
pub(crate) fn find_launched(program: &str, arguments: &[Box<str>]) -> Vec<String> {
    let words: Vec<String> = arguments.iter().map(|word| String::from(&**word)).collect();
    let mut found = Vec::new();
    follow_program(program, &words, 0, &mut found);
    found
}

/// Adds the programs that `program` runs.
fn follow_program(program: &str, words: &[String], depth: usize, found: &mut Vec<String>) {
    if depth >= DEEPEST {
        return;
    }
    if is_shell(program) {
        if let Some(script) = find_script(words) {
            follow_script(script, depth, found);
        }
        return;
    }
    let name = base_name(program);
    if let Some(launcher) = LAUNCHERS.iter().find(|launcher| launcher.names.contains(&name)) {
        match launcher.find_command(words) {
            Some(Launches::Command(words)) => follow_command(words, depth, found),
            Some(Launches::Script(script)) => follow_script(script, depth, found),
            None => {}
        }
    }
}

/// Adds a command's program and the programs that it runs.
fn follow_command(words: &[String], depth: usize, found: &mut Vec<String>) {
    let Some((program, rest)) = words.split_first() else { return };
    let is_bare_or_absolute = !program.contains('/') || program.starts_with('/');
    // The shell or systemd would expand these characters to an unknown value.
    if program.is_empty() || !is_bare_or_absolute || program.contains(['$', '%', '*', '?', '[', '~', '=']) {
        return;
    }
    found.push(program.clone());
    follow_program(program, rest, depth + 1, found);
}

fn follow_script(script: &str, depth: usize, found: &mut Vec<String>) {
    for words in split_simple_commands(script) {
        let mut words = &words[..];
        while let [first, rest @ ..] = words
            && (BEFORE_COMMANDS.contains(&first.as_str()) || is_assignment(first))
        {
            words = rest;
        }
        if words.first().is_some_and(|first| !BUILTINS.contains(&first.as_str()) && !first.starts_with('-')) {
            follow_command(words, depth, found);
        }
    }
}

enum Launches<'a> {
    Command(&'a [String]),
    Script(&'a str),
}

impl Launcher {
    fn find_command<'a>(&self, words: &'a [String]) -> Option<Launches<'a>> {
        let mut rest = words;
        let mut before = self.before;
        loop {
            let (word, after) = rest.split_first()?;
            if Some(word.as_str()) == self.script {
                return after.first().map(|script| Launches::Script(script));
            }
            if word == "--" {
                return Some(Launches::Command(after.get(before..)?));
            }
            if self.valued.contains(&word.as_str()) {
                rest = after.get(1..)?;
            } else if self.flags.contains(&word.as_str()) || self.includes_value(word) {
                rest = after;
            } else if word.starts_with('-') {
                return None;
            } else if before > 0 {
                before -= 1;
                rest = after;
            } else if self.assigns && is_assignment(word) {
                rest = after;
            } else {
                return Some(Launches::Command(rest));
            }
        }
    }

    /// Whether a word includes both an option and its value, like `--option=value` or `-n10`.
    fn includes_value(&self, word: &str) -> bool {
        let long = word.starts_with("--") && word.contains('=');
        let short = |option: &&str| option.len() == 2 && word.len() > 2 && word.starts_with(*option);
        long || (!word.starts_with("--") && self.valued.iter().any(short))
    }
}

/// Returns the script after `-c`; `None` if there is none, or a long option is unknown.
fn find_script(words: &[String]) -> Option<&str> {
    let mut is_script = false;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if matches!(word.as_str(), "--login" | "--noprofile" | "--norc" | "--posix" | "--restricted") {
            continue;
        }
        let Some(letters) = word.strip_prefix(['-', '+']).filter(|letters| !letters.is_empty() && *letters != "-")
        else {
            let script = if word == "--" { words.next()? } else { word };
            return is_script.then_some(script);
        };
        if letters.starts_with('-') {
            return None;
        }
        is_script |= word.starts_with('-') && letters.contains('c');
        if letters.contains(['o', 'O']) {
            words.next()?;
        }
    }
    None
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::exec_command::ExecCommand;
    use crate::policy::unit_file::UnitFile;
    use proptest::prelude::*;
    use std::path::Path;

    fn find(line: &str) -> Vec<String> {
        let text = format!("[Service]\nExecStart={line}\n");
        let file = UnitFile::parse(Path::new("x"), text.as_bytes());
        let commands: Vec<ExecCommand> = file.assignments.iter().flat_map(ExecCommand::parse).collect();
        commands.iter().flat_map(|command| find_launched(&command.program, &command.arguments)).collect()
    }

    #[test]
    fn words_that_may_be_data_are_not_programs() {
        for line in [
            "install -d -o man -g man -m 0755 /var/cache/man",
            "/usr/bin/find /var/cache/man -type f -name *.gz",
            "/usr/lib/apt/apt.systemd.daily update",
            "/bin/sh /usr/lib/x/script foo",
            "/bin/sh -x script",
            "/bin/sh -c 'echo foo; cd /usr/bin/bar; [ -x baz ]'",
            "/bin/sh -c '# foo'",
            "/bin/sh -c '$FOO bar'",
            "/bin/sh -c 'case $1 in foo) ;; bar) ;; esac'",
            "/bin/sh -c 'foo() { :; }'",
            "/bin/sh -c 'for x in foo bar'",
            "/usr/bin/env --unknown foo bar",
            "/usr/bin/env FOO=bar",
            "/usr/bin/nice -n 5",
            "/usr/bin/timeout 5",
            "/usr/bin/setpriv --odd foo",
            "/usr/bin/nice ./foo",
        ] {
            assert_eq!(find(line), [""; 0], "{line}");
        }
    }

    #[test]
    fn first_word_of_each_shell_command_is_a_program() {
        for (line, expected) in [
            ("/bin/sh -c 'exec foo'", &["foo"][..]),
            ("/bin/bash -euo pipefail -c 'foo bar'", &["foo"]),
            (
                "/bin/sh -ec \"A=1 foo a && ! /bin/bar | baz >out 2>&1; if qux; then quux; fi\"",
                &["foo", "/bin/bar", "baz", "qux", "quux"],
            ),
            ("/bin/sh -c 'foo >/dev/null & bar'", &["foo", "bar"]),
            ("/bin/sh -c 'foo \"a; b\" # c'", &["foo"]),
            ("/bin/sh -c '/usr/bin/nice -n 5 foo bar' arg", &["/usr/bin/nice", "foo"]),
            ("/bin/sh -c 'foo' bar", &["foo"]),
        ] {
            assert_eq!(find(line), expected, "{line}");
        }
    }

    #[test]
    fn first_word_after_launcher_options_is_a_program() {
        for (line, expected) in [
            ("/usr/bin/env -u X FOO=1 foo bar", &["foo"][..]),
            ("/usr/bin/nice -n10 -- foo man", &["foo"]),
            ("/usr/bin/ionice -c 3 nice --adjustment=5 foo", &["nice", "foo"]),
            ("/usr/bin/timeout -k 5 30 foo bar", &["foo"]),
            ("/usr/bin/setpriv --reuid man --regid=man --clear-groups foo bar", &["foo"]),
            ("/usr/bin/flock -n /run/man foo bar", &["foo"]),
            ("/usr/bin/flock -n /run/man -c 'foo | bar'", &["foo", "bar"]),
            ("/usr/bin/env sh -c 'exec foo'", &["sh", "foo"]),
        ] {
            assert_eq!(find(line), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_script_is_read(script in ".{0,80}", letters in "-[a-z]{0,3}") {
            let _ = find_launched("/bin/sh", &[letters.into(), "-c".into(), script.into()]);
        }
    }
}
