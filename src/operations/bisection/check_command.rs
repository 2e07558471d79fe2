//! The user's check: a shell command that succeeds if the unit works.

use crate::audit::text::escape_excerpt;
use crate::units::UnitName;
use anyhow::{Context as _, bail, ensure};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The time between two looks at the process.
const STEP: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });

/// The longest run of the command.
const PATIENCE: Duration = Duration::from_mins(1);

/// The statuses by which a shell says that it cannot execute a command, or finds none (`sh(1)`).
const NO_COMMAND: [i32; 2] = [126, 127];

/// The variable with the unit's name in the command's environment.
const UNIT_VARIABLE: &str = "UNIT";

/// The bytes of the end of stderr that are kept.
const KEPT: usize = 1024;

/// The most reads of stderr at a time: a command that writes without end does not delay its own end.
const MOST_READS: usize = 64;

/// How a run of the command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandEnd {
    pub(super) is_success: bool,
    /// The status, if the shell could execute no command.
    pub(super) no_command: Option<i32>,
    /// The last line that it wrote to stderr, escaped.
    pub(super) last_words: Option<String>,
}

/// Checks that a shell can parse the command. Runs none of it.
///
/// # Errors
/// The command is empty, or its syntax is wrong.
pub(super) fn ensure_parses(command: &str) -> anyhow::Result<()> {
    ensure!(!command.trim().is_empty(), "the check is empty, and would always succeed: give --check a command");
    let shown = escape_excerpt(command);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-n", "-c", "--"]).arg(command).stdin(Stdio::null());
    let output = shell.output().with_context(|| format!("cannot check the command {shown}"))?;
    if !output.status.success() {
        let why = last_line(&output.stderr).unwrap_or_else(|| output.status.to_string());
        bail!("the check is no command that a shell can run: {shown}: {why}");
    }
    Ok(())
}

/// Runs the command once.
///
/// # Errors
/// No process can be started or waited for.
pub(super) async fn run(command: &str, name: &UnitName) -> anyhow::Result<CommandEnd> {
    let end = async { CheckProcess::start(command, name)?.wait().await };
    let (status, stderr) = end.await.with_context(|| format!("cannot run {}", escape_excerpt(command)))?;
    Ok(CommandEnd {
        is_success: status.is_some_and(|status| status.success()),
        no_command: status.and_then(|status| status.code()).filter(|code| NO_COMMAND.contains(code)),
        last_words: match status {
            Some(_) => last_line(&stderr),
            None => Some(format!("killed after {} seconds", PATIENCE.as_secs())),
        },
    })
}

/// Returns the last line with text, escaped.
fn last_line(text: &[u8]) -> Option<String> {
    let line = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).rfind(|line| !line.is_empty())?;
    Some(escape_excerpt(&String::from_utf8_lossy(line)))
}

/// A running check. It leads a process group, which is killed once this is dropped.
struct CheckProcess {
    shell: Child,
    stderr: Option<ChildStderr>,
    /// The end of what it wrote to stderr.
    said: Vec<u8>,
}

impl CheckProcess {
    fn start(command: &str, name: &UnitName) -> std::io::Result<Self> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "--"]).arg(command).env(UNIT_VARIABLE, name.as_str());
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        // SAFETY: prctl(2) is async-signal-safe, and takes no pointer here.
        unsafe {
            // The check ends with this process, even if that is killed.
            shell.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let mut shell = shell.spawn()?;
        let stderr = shell.stderr.take();
        let check = Self { shell, stderr, said: Vec::new() };
        if let Some(stderr) = &check.stderr {
            // A child that outlives the shell keeps the pipe open.
            fcntl(stderr, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(check)
    }

    /// Waits for the end. Returns the status, `None` if the command takes too long, and the end of its stderr.
    async fn wait(mut self) -> std::io::Result<(Option<ExitStatus>, Vec<u8>)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.shell.try_wait()?;
            self.read_stderr();
            if status.is_some() || Instant::now() >= deadline {
                return Ok((status, std::mem::take(&mut self.said)));
            }
            sleep(STEP).await;
        }
    }

    /// Reads what the command wrote to stderr since the last call.
    fn read_stderr(&mut self) {
        let Some(stderr) = &mut self.stderr else { return };
        let mut bytes = [0; 4096];
        for _ in 0..MOST_READS {
            let Some(read) = stderr.read(&mut bytes).ok().filter(|read| *read > 0) else { return };
            self.said.extend(bytes.iter().take(read));
            self.said.drain(..self.said.len().saturating_sub(KEPT));
        }
    }
}

impl Drop for CheckProcess {
    fn drop(&mut self) {
        // Processes of the group may outlive the shell. The group's number stays in use as long as one of them runs.
        let _ = killpg(Pid::from_raw(self.shell.id().cast_signed()), Signal::SIGKILL);
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_once(command: &str) -> CommandEnd {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(command, &"x.service".parse().unwrap())).unwrap()
    }

    #[test]
    fn command_knows_the_unit_and_its_last_words_are_kept() {
        assert!(run_once("test \"$UNIT\" = x.service").is_success);
        let end = run_once("echo first >&2; printf 'cannot \\033connect\\n\\n' >&2; exit 3");
        assert!(!end.is_success && end.no_command.is_none());
        let words = end.last_words.unwrap();
        assert!(words.starts_with("cannot ") && !words.contains('\u{1b}'), "{words}");
        // More than a pipe holds does not block the command.
        let end = run_once("head -c 300000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; false");
        assert_eq!(end.last_words.as_deref(), Some("end"));
        assert_eq!(run_once("no-such-command-here").no_command, Some(127));
        assert!(!run_once("-no-option").is_success);
    }

    #[test]
    fn command_that_no_shell_parses_is_refused_and_not_run() {
        let error = |command| ensure_parses(command).unwrap_err().to_string();
        assert!(error("  ").contains("the check is empty"));
        assert!(error("if true").contains("no command that a shell can run: if true: "));
        ensure_parses("false").unwrap();
        ensure_parses("-dash").unwrap();
    }

    #[test]
    fn dropped_check_is_killed_with_its_children() {
        let name = "x.service".parse().unwrap();
        let check = CheckProcess::start("sleep 600 & sleep 600", &name).unwrap();
        let group = Pid::from_raw(check.shell.id().cast_signed());
        drop(check);
        let gone = (0..2_000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            killpg(group, None).is_err()
        });
        assert!(gone, "a process of the group runs on");
    }
}
