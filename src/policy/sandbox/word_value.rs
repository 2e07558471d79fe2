//! The values of directives that take one word (`systemd.exec(5)`).

use crate::policy::directive::Directive;
use crate::policy::lists::parse_boolean;

/// Parses the value of a directive that takes one word; `None` if systemd ignores the line.
pub(in crate::policy) fn parse_word(directive: Directive, value: &str) -> Option<Box<str>> {
    let more: &[&str] = match directive {
        Directive::ProtectSystem => &["full", "strict"],
        Directive::ProtectHome => &["read-only", "tmpfs"],
        Directive::User => return Some(value.into()),
        Directive::ProtectProc => return is_one_of(value, &["default", "noaccess", "invisible", "ptraceable"]),
        Directive::ProcSubset => return is_one_of(value, &["all", "pid"]),
        Directive::DevicePolicy => return is_one_of(value, &["auto", "closed", "strict"]),
        // These words since systemd 257.
        Directive::PrivateTmp => &["disconnected"],
        Directive::PrivateUsers => &["self", "identity", "full"],
        Directive::ProtectControlGroups => &["private", "strict"],
        _ => &[],
    };
    match parse_boolean(value) {
        Some(is_on) => Some(if is_on { "yes" } else { "no" }.into()),
        None => is_one_of(value, more),
    }
}

fn is_one_of(value: &str, words: &[&str]) -> Option<Box<str>> {
    words.contains(&value).then(|| value.into())
}
