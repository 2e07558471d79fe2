//! Interpreters: programs whose executable offers what any script can ask for, and the first line of scripts.

use crate::audit::text::untrusted_base_name;

/// Interpreters of scripts and of bytecode, by the letters before a version or a variant. What such a program imports
/// shows what its language offers.
const INTERPRETERS: [&str; 55] = [
    "R",
    "Rscript",
    "ash",
    "awk",
    "bash",
    "beam",
    "bun",
    "busybox",
    "clisp",
    "csh",
    "dash",
    "deno",
    "dotnet",
    "elixir",
    "emacs",
    "erl",
    "escript",
    "expect",
    "fish",
    "gawk",
    "gjs",
    "groovy",
    "guile",
    "ipython",
    "janet",
    "java",
    "jruby",
    "julia",
    "ksh",
    "lua",
    "luajit",
    "mawk",
    "micropython",
    "mksh",
    "mono",
    "node",
    "nodejs",
    "nu",
    "octave",
    "perl",
    "php",
    "pwsh",
    "pypy",
    "python",
    "qjs",
    "racket",
    "rbash",
    "ruby",
    "sbcl",
    "sh",
    "swipl",
    "tclsh",
    "tcsh",
    "wish",
    "zsh",
];

/// Native programs whose names begin as an interpreter's. Each has a fixed purpose.
const NATIVE: [&[u8]; 2] = [b"php-fpm", b"node_exporter"];

/// Whether a path is that of an interpreter, or of a version or a variant of one (`python3.11-dbg`).
#[must_use]
pub(crate) fn is_interpreter(path: &[u8]) -> bool {
    let name = untrusted_base_name(path);
    let end = name.iter().position(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'_')).unwrap_or(name.len());
    let letters = str::from_utf8(name.get(..end).unwrap_or_default()).unwrap_or_default();
    INTERPRETERS.contains(&letters) && !NATIVE.iter().any(|native| name.starts_with(native))
}

/// Returns the path of the interpreter that a script's first line names, and the words after it, without the `-S` by which
/// `env(1)` splits them: the kernel passes them as one argument (`execve(2)`).
#[must_use]
pub(crate) fn find_interpreter(start: &[u8]) -> Option<(&str, Vec<Box<str>>)> {
    let line = start.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let line = str::from_utf8(line).ok()?.trim_ascii();
    let (path, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let rest = rest.trim_ascii_start();
    let words = rest.strip_prefix("-S").unwrap_or(rest).split_ascii_whitespace();
    path.starts_with('/').then(|| (path, words.map(Into::into).collect()))
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
    fn variant_of_an_interpreter_is_one() {
        let variants = "perl5.36-x86_64-linux-gnu python3.11-dbg python3.13t php-cgi8.2 bash-static busybox.static pypy3-c \
                        tclsh8.6 gjs-console fish deno bun beam.smp guile-3.0 dotnet expect R";
        for name in variants.split_whitespace() {
            assert!(is_interpreter(format!("/usr/bin/{name}").as_bytes()), "{name}");
        }
        for name in ["php-fpm", "Rsync", "pythonic", "shfmt", "node_exporter", "-sh"] {
            assert!(!is_interpreter(format!("/usr/bin/{name}").as_bytes()), "{name}");
        }
    }

    #[test]
    fn first_line_names_the_interpreter() {
        assert_eq!(find_interpreter(b"#!/bin/sh\nexit"), Some(("/bin/sh", Vec::new())));
        let words = ["python3", "-u"].map(Box::from).to_vec();
        assert_eq!(find_interpreter(b"#! /usr/bin/env -S python3 -u"), Some(("/usr/bin/env", words)));
        for start in [&b"\x7fELF"[..], b"#!", b"#!perl", b"#!\n/bin/sh", b"#!\xff/x", b""] {
            assert_eq!(find_interpreter(start), None, "{start:?}");
        }
    }
}
