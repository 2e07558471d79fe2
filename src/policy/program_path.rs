//! Whether a unit's command line runs the program of a process, judged by path and by thread name.

use super::exec_command::ExecCommand;
use super::launched::find_launched;
use crate::audit::record::COMM_LENGTH;
use crate::audit::text::{base_name, untrusted_base_name};
use crate::programs::interpreter::is_interpreter;
use std::borrow::Cow;

/// Directories that are links into `/usr` on systems with a merged `/usr` (`file-hierarchy(7)`).
const MERGED: [&[u8]; 4] = [b"/bin/", b"/sbin/", b"/lib/", b"/lib64/"];

/// How many characters of a command's name systemd shows in the name of a task that it has not executed yet
/// (`rename_process_from_path` in systemd's `exec-invoke.c`).
const SHOWN_BEFORE_EXEC: usize = 8;

/// Returns a path as it is below a merged `/usr`: `/bin/a` and `/usr/bin/a` are the same file there.
#[must_use]
pub(crate) fn below_usr(path: &[u8]) -> Cow<'_, [u8]> {
    if MERGED.iter().any(|dir| path.starts_with(dir)) { [b"/usr", path].concat().into() } else { path.into() }
}

/// Whether a task's name and executable show that it runs this program as a script, or that systemd is about to execute
/// it. A process can choose its name, so this is a hint.
#[must_use]
pub(crate) fn is_task_of(program: &str, exe: &[u8], comm: &[u8]) -> bool {
    let name = base_name(program).as_bytes();
    if name.is_empty() {
        return false;
    }
    if let Some(shown) = comm.strip_prefix(b"(").and_then(|rest| rest.strip_suffix(b")")) {
        let is_end = shown.len() >= SHOWN_BEFORE_EXEC && name.ends_with(shown);
        return is_systemd(exe) && (is_end || shown == name);
    }
    // The kernel names a task after the script, not after its interpreter (`begin_new_exec`).
    let is_script = name != untrusted_base_name(exe) && comm == &name[..name.len().min(COMM_LENGTH)];
    is_script && is_interpreter(exe)
}

/// Whether the task with this executable and name runs a command of the unit, as far as the command lines show.
#[must_use]
pub(crate) fn runs_task<'a>(commands: impl IntoIterator<Item = &'a ExecCommand>, exe: &[u8], comm: &[u8]) -> bool {
    let is_same = |program: &str| {
        let is_bare = !program.contains('/');
        below_usr(program.as_bytes()) == below_usr(exe) || (is_bare && program.as_bytes() == untrusted_base_name(exe))
    };
    commands.into_iter().any(|command| {
        let launched = || find_launched(&command.program, &command.arguments);
        is_same(&command.program)
            || is_task_of(&command.program, exe, comm)
            || launched().iter().any(|program| is_same(program) || is_task_of(program, exe, comm))
    })
}

/// Returns the command that runs this executable without the unit's sandbox, by its prefix `+`. `None` if another command
/// runs it as well, or may: an interpreter can run any script.
#[must_use]
pub(crate) fn find_exempt_command<'a>(commands: &'a [ExecCommand], exe: &[u8], comm: &[u8]) -> Option<&'a ExecCommand> {
    let is_its = |command: &&ExecCommand| below_usr(command.program.as_bytes()) == below_usr(exe);
    let command = commands.iter().filter(|command| command.privileged).find(is_its)?;
    let others = commands.iter().filter(|command| !command.privileged);
    (!is_interpreter(exe) && !runs_task(others, exe, comm)).then_some(command)
}

/// Whether a path names systemd, or its executor, which runs before a command's program since systemd 255. Some sources have
/// no more than the file name. Only root puts a file into these directories; in a container the path names the container's
/// own file.
#[must_use]
pub(crate) fn is_systemd(exe: &[u8]) -> bool {
    is_systemd_file(b"systemd", exe) || is_systemd_executor(exe)
}

/// Whether a path names systemd's executor, as [`is_systemd`] does.
#[must_use]
pub(crate) fn is_systemd_executor(exe: &[u8]) -> bool {
    is_systemd_file(b"systemd-executor", exe)
}

fn is_systemd_file(name: &[u8], exe: &[u8]) -> bool {
    // An upgrade replaces the file of a running systemd (`d_path` in `fs/d_path.c`).
    let exe = exe.strip_suffix(b" (deleted)").unwrap_or(exe);
    let Some(start) = exe.strip_suffix(name) else { return false };
    let is_of_store = start.starts_with(b"/nix/store/") && start.ends_with(b"/lib/systemd/");
    matches!(start, b"" | b"/usr/lib/systemd/" | b"/lib/systemd/") || is_of_store
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_through_merged_usr_are_the_same() {
        assert_eq!(below_usr(b"/bin/a"), below_usr(b"/usr/bin/a"));
        assert_eq!(below_usr(b"/lib/systemd/systemd-x"), below_usr(b"/usr/lib/systemd/systemd-x"));
        assert_ne!(below_usr(b"/opt/bin/a"), below_usr(b"/usr/bin/a"));
        assert_ne!(below_usr(b"/libexec/a"), below_usr(b"/usr/libexec/a"));
    }

    #[test]
    fn task_name_shows_script_and_command_before_exec() {
        let is = |program: &str, exe: &str, comm: &str| is_task_of(program, exe.as_bytes(), comm.as_bytes());
        assert!(is("/usr/local/bin/rotate.sh", "/usr/bin/bash", "rotate.sh"));
        assert!(is("/opt/a-very-long-script-name", "/usr/bin/python3.11", "a-very-long-scr"));
        assert!(!is("/usr/local/bin/rotate.sh", "/usr/bin/rotate", "rotate.sh"), "no interpreter");
        assert!(!is("/usr/bin/bash", "/usr/bin/bash", "bash"), "anything starts a shell");
        assert!(is("/bin/date", "/usr/lib/systemd/systemd", "(date)"));
        assert!(is("/usr/lib/systemd/systemd-resolved", "/usr/lib/systemd/systemd-executor", "(resolved)"));
        assert!(!is("/bin/update", "/usr/lib/systemd/systemd", "(date)"));
        assert!(!is("/bin/date", "/usr/bin/date", "(date)"), "a process can choose its name");
        assert!(!is("/bin/date", "/home/x/systemd", "(date)"), "and the name of its file");
    }

    #[test]
    fn command_with_a_plus_is_exempt_unless_another_command_may_run_the_program() {
        use crate::policy::UnitFile;
        use std::path::Path;
        let find = |lines: &str, exe: &str| {
            let file = UnitFile::parse(Path::new("x"), format!("[Service]\n{lines}\n").as_bytes());
            let commands: Vec<ExecCommand> = file.assignments.iter().flat_map(ExecCommand::parse).collect();
            find_exempt_command(&commands, exe.as_bytes(), b"x").map(|command| command.key.to_string())
        };
        let two = "ExecStartPre=-+/sbin/pre a\nExecStart=/usr/sbin/main";
        assert_eq!(find(two, "/usr/sbin/pre").as_deref(), Some("ExecStartPre"));
        assert_eq!(find(two, "/usr/sbin/main"), None);
        assert_eq!(find("ExecStartPre=/sbin/pre\nExecStart=/usr/sbin/main", "/usr/sbin/pre"), None);
        assert_eq!(find(&format!("{two}\nExecStop=nice /sbin/pre"), "/usr/sbin/pre"), None, "it runs by both");
        assert_eq!(find("ExecStartPre=+/bin/bash -c x\nExecStart=/main", "/usr/bin/bash"), None, "anything runs it");
    }
}
