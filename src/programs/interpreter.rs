//! Interpreters: programs whose executable offers what any script can ask for, and the first line of scripts.

/// Interpreters of scripts, without their versions. What such a program imports shows what its language offers.
const INTERPRETERS: [&str; 22] = [
    "ash", "awk", "bash", "busybox", "dash", "gawk", "guile", "java", "ksh", "lua", "luajit", "mawk", "mksh", "node",
    "nodejs", "perl", "php", "pypy", "python", "ruby", "sh", "zsh",
];

/// Whether a path is that of an interpreter, or of a version of one (`python3.11`).
#[must_use]
pub(crate) fn is_interpreter(path: &[u8]) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let end = name.iter().rposition(|byte| !matches!(byte, b'0'..=b'9' | b'.' | b'-')).map_or(0, |last| last + 1);
    str::from_utf8(name.get(..end).unwrap_or_default()).is_ok_and(|name| INTERPRETERS.contains(&name))
}

/// Returns the path of the interpreter that a script's first line names (`execve(2)`), and its first argument:
/// `#!/usr/bin/env python3` names `/usr/bin/env` and `python3`.
#[must_use]
pub(crate) fn find_interpreter(start: &[u8]) -> Option<(&str, Option<&str>)> {
    let line = start.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let mut words = str::from_utf8(line).ok()?.split_ascii_whitespace();
    let path = words.next().filter(|path| path.starts_with('/'))?;
    Some((path, words.next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_an_interpreter_is_one() {
        for path in ["/usr/bin/python3.11", "/bin/sh", "perl", "/usr/bin/php8.2", "/usr/bin/lua5.4", "/usr/bin/node"] {
            assert!(is_interpreter(path.as_bytes()), "{path}");
        }
        for path in ["/usr/sbin/nginx", "/usr/sbin/php-fpm8.2", "/usr/bin/shred", "", "/usr/bin/"] {
            assert!(!is_interpreter(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn first_line_names_the_interpreter() {
        assert_eq!(find_interpreter(b"#!/bin/sh\nexit"), Some(("/bin/sh", None)));
        assert_eq!(find_interpreter(b"#! /usr/bin/env python3 -u"), Some(("/usr/bin/env", Some("python3"))));
        for start in [&b"\x7fELF"[..], b"#!", b"#!perl", b"#!\n/bin/sh", b"#!\xff/x", b""] {
            assert_eq!(find_interpreter(start), None, "{start:?}");
        }
    }
}
