//! The command line of this process, as a person types it again.

use crate::audit::text::{escape, quote_word};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

/// The limit on the length of a command that is worth printing.
const LONGEST: usize = 400;

/// Returns the command that repeats this invocation as root; `None` if this process is root's, or if the command is too
/// long.
pub(crate) fn repeat_as_root() -> Option<String> {
    let command = || describe(std::env::args_os().skip(1));
    (!nix::unistd::geteuid().is_root()).then(command).flatten()
}

/// Writes a command with these arguments.
fn describe(arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let mut command = "sudo harden-why".to_owned();
    for argument in arguments {
        command.push(' ');
        command.push_str(&quote_word(&escape(argument.as_bytes())));
        if command.len() > LONGEST {
            return None;
        }
    }
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt as _;

    fn repeat(arguments: &[&str]) -> Option<String> {
        describe(arguments.iter().map(Into::into))
    }

    #[test]
    fn repeated_command_can_be_pasted_into_a_shell() {
        assert_eq!(repeat(&[]).unwrap(), "sudo harden-why");
        assert_eq!(repeat(&["tap", "web", "--for", "5min"]).unwrap(), "sudo harden-why tap web --for 5min");
        assert_eq!(repeat(&["apply", "we*", "a'b"]).unwrap(), "sudo harden-why apply 'we*' 'a'\\''b'");
        assert_eq!(
            describe([OsString::from_vec(b"\x1b[2J".to_vec())].into_iter()).unwrap(),
            "sudo harden-why '\\x1b[2J'"
        );
    }

    #[test]
    fn command_without_end_is_not_repeated() {
        assert_eq!(repeat(&["tap", &"x".repeat(LONGEST)]), None);
    }
}
