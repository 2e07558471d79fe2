//! A unit's command lines (`systemd.service(5)`, COMMAND LINES).

use super::unit_file::{Assignment, Origin};
use super::words::{MOST_WORDS, Split, split_commands};

/// The keys of command lines in services, sockets, mounts and swaps.
pub(crate) const KEYS: [&str; 9] = [
    "ExecCondition",
    "ExecStartPre",
    "ExecStart",
    "ExecStartPost",
    "ExecReload",
    "ExecStop",
    "ExecStopPre",
    "ExecStopPost",
    "ExecReloadPost",
];

/// The characters that can precede a program (`systemd.service(5)`).
pub(crate) const PREFIXES: [char; 6] = ['@', '-', ':', '+', '!', '|'];

/// One command of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecCommand {
    /// The key of the line, for example `ExecStart`.
    pub key: Box<str>,
    /// The program without the prefix characters. Specifiers (`%i`) are not expanded.
    pub program: Box<str>,
    /// The words after the program.
    pub arguments: Vec<Box<str>>,
    /// Prefixed with `+`, which exempts the command from all sandboxing: the unit's settings deny it nothing.
    pub privileged: bool,
    /// Prefixed with `+` or `!`: the command does not start as the unit's `User=`. `!!` means this only on kernels without
    /// ambient capabilities (before Linux 4.3).
    pub elevated: bool,
    /// The line of the command.
    pub origin: Origin,
}

impl ExecCommand {
    /// Parses the commands of one line.
    #[must_use]
    pub fn parse(line: &Assignment) -> Vec<Self> {
        Self::parse_escaped(line, Split::Command)
    }

    /// Parses the commands of one line with these escapes.
    pub(crate) fn parse_escaped(line: &Assignment, how: Split) -> Vec<Self> {
        let commands = split_commands(&line.value, how, MOST_WORDS);
        commands.iter().filter_map(|words| Self::parse_one(words, line)).collect()
    }

    fn parse_one(words: &[String], line: &Assignment) -> Option<Self> {
        let (first, arguments) = words.split_first()?;
        let program = first.trim_start_matches(PREFIXES);
        let prefix = first.strip_suffix(program).unwrap_or_default();
        (!program.is_empty()).then(|| Self {
            key: line.key.clone(),
            program: program.into(),
            arguments: arguments.iter().map(|word| word.as_str().into()).collect(),
            privileged: prefix.contains('+'),
            elevated: prefix.contains('+') || (prefix.contains('!') && !prefix.contains("!!")),
            origin: line.origin.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::unit_file::UnitFile;
    use std::path::Path;

    fn commands(value: &str) -> Vec<ExecCommand> {
        let text = format!("[Service]\nExecStart={value}\n");
        let file = UnitFile::parse(Path::new("x"), text.as_bytes());
        file.assignments.iter().flat_map(ExecCommand::parse).collect()
    }

    #[test]
    fn prefixes_are_stripped_from_the_program() {
        let [command] = &commands("-@/usr/bin/a b 'c d'")[..] else { panic!("one command") };
        assert_eq!(&*command.program, "/usr/bin/a");
        assert_eq!(command.arguments, ["b".into(), "c d".into()]);
        assert!(!command.privileged);
        assert!(commands("+!/bin/x")[0].privileged);
        assert!(!command.elevated && commands("-!/bin/x")[0].elevated && commands("+/bin/x")[0].elevated);
        let ambient = &commands("!!/bin/x")[0];
        assert!(&*ambient.program == "/bin/x" && !ambient.elevated && !ambient.privileged);
    }

    #[test]
    fn lone_semicolon_starts_another_command() {
        let programs: Vec<Box<str>> = commands("/bin/a 1 ; /bin/b;").into_iter().map(|c| c.program).collect();
        assert_eq!(programs, ["/bin/a".into(), "/bin/b;".into()]);
        let words = |value: &str| commands(value).iter().map(|one| one.arguments.join(",")).collect::<Vec<_>>();
        assert_eq!(words("/bin/find -exec x \\; -print"), ["-exec,x,;,-print"]);
        assert_eq!(words("/bin/find -exec x \";\" ; b"), ["-exec,x,;", ""]);
        assert!(commands("+").is_empty());
    }
}
