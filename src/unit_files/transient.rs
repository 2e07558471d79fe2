//! The command that starts a transient unit again with other settings (`systemd-run(1)`).
//!
//! systemd writes a transient unit's properties into a file below `/run/systemd/transient` (`unit_write_setting` in
//! `src/core/unit.c`). `systemd-run -p` takes the same assignments, and adds to a list in the order of its options
//! (`bus_exec_context_set_transient_property` in `src/core/dbus-execute.c`).

use super::rooted::RootedTree;
use crate::audit::text::quote_word;
use crate::policy::exec_command::{self, ExecCommand, PREFIXES};
use crate::policy::unit_file::UnitFile;
use crate::policy::words::Split;
use crate::units::{Unit, UnitName};
use std::path::Path;

/// The settings that options of `systemd-run` make by themselves, or that belong to one start.
const NOT_REPEATED: [&str; 9] = [
    "Description",
    "CollectMode",
    "StandardInput",
    "StandardOutput",
    "StandardError",
    "TTYPath",
    "TTYReset",
    "TTYVHangup",
    "SendSIGHUP",
];

/// Returns the command that starts a transient service again, with these lines after its own properties. `None` if its
/// file cannot be read, has bytes that a terminal would interpret, or has another command than one of `ExecStart=` without
/// a prefix: `systemd-run` takes only one.
#[must_use]
pub(crate) fn systemd_run_command(root: &Path, unit: &Unit, fragment: &Path, lines: &[String]) -> Option<String> {
    let bytes = RootedTree::new(root).read(fragment).ok().filter(|_| unit.name.suffix() == "service")?;
    let file = UnitFile::parse(fragment, &bytes);
    let is_command = |key: &str| exec_command::KEYS.contains(&key);
    let is_repeated = |key: &str| !NOT_REPEATED.contains(&key) && !is_command(key);
    let own = file.assignments.iter().filter(|line| &*line.section != "Install" && is_repeated(&line.key));
    let own = own.map(|line| format!("{}={}", line.key, unescape_specifiers(&line.value)));
    let properties = own.chain(lines.iter().cloned()).map(|line| format!("-p {}", quote_word(&line)));
    let name = (!has_generated_name(&unit.name)).then(|| format!("--unit={}", quote_word(unit.name.as_str())));
    let lines = file.assignments.iter().filter(|line| is_command(&line.key) && !line.value.is_empty());
    let [line] = lines.collect::<Vec<_>>()[..] else { return None };
    let [start] = &ExecCommand::parse_escaped(line, Split::Transient)[..] else { return None };
    if start.key.as_ref() != "ExecStart" || line.value.starts_with(PREFIXES) {
        return None;
    }
    let words =
        std::iter::once(&start.program).chain(&start.arguments).map(|word| quote_word(&unescape_specifiers(word)));
    let all: Vec<String> = name.into_iter().chain(properties).chain(words).collect();
    let command = format!("systemd-run {}{}", unit.manager.option(), all.join(" "));
    command.chars().all(|c| !c.is_control()).then_some(command)
}

/// Whether `systemd-run` made up the unit's name: `run-u12`, `run-r` and 32 hexadecimal digits, since systemd 256 also
/// `run-p12-i34`.
#[must_use]
pub(crate) fn has_generated_name(name: &UnitName) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let stem = name.as_str().rsplit_once('.').map_or("", |(stem, _)| stem);
    let Some(rest) = stem.strip_prefix("run-") else { return false };
    let is_random = |rest: &str| {
        rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_process = |rest: &str| rest.split_once("-i").is_some_and(|(pid, id)| is_number(pid) && is_number(id));
    rest.strip_prefix('u').is_some_and(is_number)
        || rest.strip_prefix('r').is_some_and(is_random)
        || rest.strip_prefix('p').is_some_and(is_process)
}

fn unescape_specifiers(text: &str) -> String {
    text.replace("%%", "%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Manager;

    /// As systemd 252 wrote it.
    const FILE: &str = "# This is a transient unit file, created programmatically via the systemd API. Do not edit.\n\
        [Unit]\nDescription=/usr/bin/sh -c x\n\n[Service]\nSystemCallFilter=~uname\nEnvironment=\"A=x%%h\" \"B=c d\"\n\
        User=root\nExecStart=\nExecStart=\"/usr/bin/sh\" \"-c\" \"echo \\$HOME %%h \\\"q\\\" \\'s\\'\\; true\"\n";

    fn command(name: &str, manager: Manager, text: &str) -> Option<String> {
        let root = tempfile::tempdir().unwrap();
        let path = Path::new("/run/x.service");
        std::fs::create_dir(root.path().join("run")).unwrap();
        std::fs::write(root.path().join("run/x.service"), text).unwrap();
        let unit = Unit { manager, name: name.parse().unwrap() };
        systemd_run_command(root.path(), &unit, path, &["SystemCallFilter=uname".to_owned()])
    }

    fn command_of(text: &str) -> Option<String> {
        command("run-u1.service", Manager::System, text)
    }

    #[test]
    fn command_repeats_properties_and_adds_lines_after_them() {
        let expected = "systemd-run -p 'SystemCallFilter=~uname' -p 'Environment=\"A=x%h\" \"B=c d\"' -p User=root -p \
            SystemCallFilter=uname /usr/bin/sh -c 'echo $HOME %h \"q\" '\\''s'\\''; true'";
        assert_eq!(command("run-u12.service", Manager::System, FILE).unwrap(), expected);
        let named = command("backup.service", Manager::User(1000), FILE).unwrap();
        assert!(named.starts_with("systemd-run --user --unit=backup.service -p "), "{named}");
    }

    #[test]
    fn escapes_of_a_transient_file_are_undone() {
        let text = "[Service]\nExecStart=\nExecStart=\"/usr/bin/sh\" \"-c\" \"uname\\; test \\$? = 0\"\n";
        let command = command("run-u1.service", Manager::System, text).unwrap();
        assert!(command.ends_with(" /usr/bin/sh -c 'uname; test $? = 0'"), "{command}");
        let find = |semicolon: &str, dollar: &str| {
            let words = format!("\"/bin/find\" \"-exec\" \"echo\" \"{dollar}HOME\" \"{semicolon}\" \"-print\"");
            command_of(&format!("[Service]\nExecStart=\nExecStart={words}\n"))
        };
        for (semicolon, dollar) in [("\\;", "\\$"), (";", "$$")] {
            let command = find(semicolon, dollar).unwrap();
            assert!(command.ends_with(" /bin/find -exec echo '$HOME' ';' -print"), "{command}");
        }
    }

    #[test]
    fn settings_that_begin_like_commands_are_repeated() {
        let text = "[Service]\nExecPaths=/usr\nExecSearchPath=/opt\nExecStart=/bin/a\n";
        let expected = "systemd-run -p ExecPaths=/usr -p ExecSearchPath=/opt -p SystemCallFilter=uname /bin/a";
        assert_eq!(command_of(text).unwrap(), expected);
    }

    #[test]
    fn unit_with_other_commands_has_no_command() {
        for lines in
            ["ExecStart=/bin/a\nExecStartPre=/bin/b", "ExecStart=-/bin/a", "ExecStart=/bin/a\nExecStart=/bin/b"]
        {
            assert_eq!(command_of(&format!("[Service]\n{lines}\n")), None, "{lines}");
        }
    }

    #[test]
    fn unit_without_command_or_with_control_characters_has_no_command() {
        assert_eq!(command("run-u1.service", Manager::System, "[Service]\nSystemCallFilter=~uname\n"), None);
        assert_eq!(command("run-u1.service", Manager::System, "[Service]\nExecStart=/bin/a \x1b[2J\n"), None);
        assert_eq!(command("run-u1.scope", Manager::System, FILE), None);
    }

    #[test]
    fn generated_names_differ_from_given_ones() {
        let is = |name: &str| has_generated_name(&name.parse().unwrap());
        for name in ["run-u12.service", "run-rbff211c1b25746f196539e3bbcd7509b.service", "run-p12-i34.service"] {
            assert!(is(name), "{name}");
        }
        for name in ["backup.service", "run-uptime.service", "run-x.service", "run-r1.service"] {
            assert!(!is(name), "{name}");
        }
    }
}
