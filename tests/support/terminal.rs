//! A real terminal: a program in a pane of tmux, with the keys that a person presses and the screen that a person sees.

use super::skip::skip;
use std::cell::Cell;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_mins(1);

/// Variables of the machine that would change what the program does.
const VARIABLES: [&str; 9] = [
    "PAGER",
    "SYSTEMD_PAGER",
    "SYSTEMD_PAGERSECURE",
    "SYSTEMD_LESS",
    "LESS",
    "TMUX",
    "NO_COLOR",
    "CLICOLOR_FORCE",
    "COLUMNS",
];

/// A terminal with a shell. Dropping it ends all that runs in it.
pub(crate) struct Terminal {
    /// Holds tmux's socket.
    directory: tempfile::TempDir,
    /// The number of commands so far.
    commands: Cell<u32>,
}

impl Terminal {
    /// Opens one of this size with a shell, a command with its variables. Skips where there is no tmux.
    pub(crate) fn open(columns: u32, lines: u32, shell: &Command) -> Option<Self> {
        if let Err(why) = Command::new("tmux").arg("-V").output() {
            skip(&format!("tmux: {why}"));
            return None;
        }
        let terminal =
            Self { directory: tempfile::Builder::new().prefix("tmux-").tempdir().unwrap(), commands: Cell::new(0) };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let mut command = terminal.tmux(&["new-session", "-d", "-x", &columns, "-y", &lines, "--"]);
        command.arg(shell.get_program()).args(shell.get_args());
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        for (key, value) in shell.get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        command.env("PS1", "$ ").env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Some(terminal)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn tmux(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-f", "/dev/null", "-S"]).arg(self.socket()).args(arguments);
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.tmux(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output
    }

    /// Types a line and presses Enter.
    pub(crate) fn type_line(&self, line: &str) {
        self.run(&["send-keys", "-l", line]);
        self.press("Enter");
    }

    /// Presses a key, by tmux's name: `q`, `C-c`, `Enter`.
    pub(crate) fn press(&self, key: &str) {
        self.run(&["send-keys", key]);
    }

    /// Resizes the terminal.
    pub(crate) fn resize(&self, columns: u32, lines: u32) {
        self.run(&["resize-window", "-x", &columns.to_string(), "-y", &lines.to_string()]);
    }

    /// Returns what is on the screen, without empty lines at its end.
    pub(crate) fn screen(&self) -> String {
        self.capture(&["capture-pane", "-p"])
    }

    /// Returns what is on the screen, with its colours.
    pub(crate) fn coloured_screen(&self) -> String {
        self.capture(&["capture-pane", "-p", "-e"])
    }

    /// Returns all that was on the screen, what scrolled away first.
    pub(crate) fn history(&self) -> String {
        self.capture(&["capture-pane", "-p", "-S", "-"])
    }

    fn capture(&self, arguments: &[&str]) -> String {
        let text = String::from_utf8(self.run(arguments).stdout).unwrap();
        format!("{}\n", text.trim_end())
    }

    /// Returns a value of tmux's, such as `cursor_flag` or `alternate_on`.
    pub(crate) fn value(&self, name: &str) -> String {
        let output = self.run(&["display-message", "-p", &format!("#{{{name}}}")]);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Waits until the screen is as wanted, and returns it.
    #[track_caller]
    pub(crate) fn wait_until(&self, is_wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if is_wanted(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "this is not what the screen should show:\n{screen}");
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the screen shows a text, and returns the screen.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait_until(|screen| screen.contains(text))
    }

    /// Runs a command in the shell, waits for its end, and returns the screen: its last line is `status` and the exit
    /// status.
    #[track_caller]
    pub(crate) fn finish(&self, line: &str) -> String {
        self.begin(line);
        self.wait_for_end()
    }

    /// Clears the screen, and runs a command in the shell.
    pub(crate) fn begin(&self, line: &str) {
        // A mark tells the end of this command from that of an earlier one.
        self.commands.set(self.commands.get() + 1);
        self.type_line(&format!("clear; {line}; echo \"status $? of {}\"", self.commands.get()));
    }

    /// Waits for the end of the command that began last, and returns the screen.
    #[track_caller]
    pub(crate) fn wait_for_end(&self) -> String {
        let mark = format!(" of {}", self.commands.get());
        let is_end =
            |line: &str| line.strip_prefix("status ").is_some_and(|rest| rest.ends_with(&mark) && !rest.contains('$'));
        let screen = self.wait_until(|screen| screen.lines().any(is_end));
        screen
            .lines()
            .map(|line| if is_end(line) { line.trim_end_matches(&mark) } else { line })
            .fold(String::new(), |text, line| text + line + "\n")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]).output();
    }
}
