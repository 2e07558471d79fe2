//! Splits a value into words as systemd's `extract_first_word` does.

use super::unit_file::WHITESPACE;

/// The limit on words that are read from one line.
pub(crate) const MOST_WORDS: usize = 1024;

/// The rules for splitting a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// White space separates words, and a backslash keeps the next character: `SystemCallFilter=` and similar lists.
    Plain,
    /// Quotes also group characters, and are removed: `SystemCallArchitectures=`, `RestrictAddressFamilies=`.
    Unquoted,
    /// Quotes also group characters, and are removed. Escapes stay, and a colon in quotes gets one: `BindPaths=`, whose words
    /// are split at their other colons.
    Escaped,
    /// C escapes are resolved as well: command lines and `ManagerEnvironment=`.
    Command,
    /// A backslash also keeps `$`, `;` and `` ` ``, and `$$` is one `$`: command lines in transient unit files, as
    /// systemd 252 and later versions write them (`unit_escape_setting` in `src/core/unit.c`).
    Transient,
}

/// The words before a syntax error: an unclosed quote, a backslash at the end or a wrong escape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    /// The words in order, up to the limit.
    pub(crate) words: Vec<String>,
    /// Whether the whole value was split.
    pub(crate) complete: bool,
}

/// Splits a value into at most `limit` words.
pub(crate) fn split(value: &str, how: Split, limit: usize) -> Words {
    let mut words = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches(WHITESPACE);
        if rest.is_empty() {
            return Words { words, complete: true };
        }
        if words.len() >= limit {
            return Words { words, complete: false };
        }
        match split_first_word(rest, how) {
            Some((word, after)) => {
                words.push(word);
                rest = after;
            }
            None => return Words { words, complete: false },
        }
    }
}

/// Splits the first word off a value, and returns the rest; `None` if there is none, or at a syntax error.
pub(crate) fn split_first(value: &str, how: Split) -> Option<(String, &str)> {
    let value = value.trim_start_matches(WHITESPACE);
    let (word, rest) = split_first_word(value, how).filter(|_| !value.is_empty())?;
    Some((word, rest.trim_start_matches(WHITESPACE)))
}

/// Splits a command line into the words of each command, up to a limit of words. An unquoted `;` separates commands, and
/// `\;` is a word (`config_parse_exec` in `src/core/load-fragment.c`). A syntax error ends the last command.
pub(crate) fn split_commands(line: &str, how: Split, limit: usize) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    let mut words = Vec::new();
    let mut rest = line.trim_start_matches(WHITESPACE);
    for _ in 0..limit {
        let (raw, after) = rest.split_at(rest.find(WHITESPACE).unwrap_or(rest.len()));
        rest = match raw {
            "" => break,
            ";" => {
                commands.push(std::mem::take(&mut words));
                after
            }
            "\\;" => {
                words.push(";".to_owned());
                after
            }
            _ => {
                let Some((word, after)) = split_first_word(rest, how) else { break };
                words.push(word);
                after
            }
        };
        rest = rest.trim_start_matches(WHITESPACE);
    }
    commands.push(words);
    commands
}

fn split_first_word(text: &str, how: Split) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) if matches!(how, Split::Command | Split::Transient) => word.push(unescape(&mut chars, how)?),
            ('$', _) if how == Split::Transient && chars.as_str().starts_with('$') => word.extend(chars.next()),
            ('\\', _) if how == Split::Escaped => word.extend(['\\', chars.next()?]),
            ('\\', _) => word.push(chars.next()?),
            (':', Some(_)) if how == Split::Escaped => word.push_str("\\:"),
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) if how != Split::Plain => quote = Some(c),
            (c, None) if WHITESPACE.contains(&c) => return Some((word, chars.as_str())),
            (c, _) => word.push(c),
        }
    }
    quote.is_none().then_some((word, ""))
}

/// Resolves an escape. Bytes above 0x7f become U+FFFD, because callers only compare names of programs and variables.
fn unescape(chars: &mut std::str::Chars<'_>, how: Split) -> Option<char> {
    let c = chars.next()?;
    let mut number = |first: &str, digits: usize, radix: u32| {
        let mut text = first.to_owned();
        text.extend(chars.by_ref().take(digits));
        let complete = text.chars().count() == first.len() + digits && text.chars().all(|c| c.is_digit(radix));
        u32::from_str_radix(&text, radix).ok().filter(|value| complete && *value != 0)
    };
    Some(match c {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        's' => ' ',
        '\\' | '"' | '\'' => c,
        '$' | ';' | '`' if how == Split::Transient => c,
        'x' => byte(number("", 2, 16)?),
        'u' => char::from_u32(number("", 4, 16)?)?,
        'U' => char::from_u32(number("", 8, 16)?)?,
        '0'..='7' => byte(number(c.encode_utf8(&mut [0; 4]), 2, 8).filter(|value| *value <= 0xff)?),
        _ => return None,
    })
}

fn byte(value: u32) -> char {
    char::from_u32(value).filter(char::is_ascii).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(value: &str, how: Split) -> (Vec<String>, bool) {
        let Words { words, complete } = split(value, how, 100);
        (words, complete)
    }

    #[test]
    fn wrong_number_in_escape_ends_words() {
        for wrong in ["\\x+1", "\\777", "\\u+123", "\\08a", "\\x00"] {
            assert_eq!(words(&format!("a {wrong}b"), Split::Command), (vec!["a".into()], false), "{wrong}");
        }
        assert_eq!(words("\\x41\\101", Split::Command), (vec!["AA".into()], true));
    }

    #[test]
    fn plain_split_keeps_quotes_and_drops_backslashes() {
        assert_eq!(words(" a  'b c\\d ", Split::Plain), (vec!["a".into(), "'b".into(), "cd".into()], true));
        assert_eq!(words("a b\\", Split::Plain), (vec!["a".into()], false));
    }

    #[test]
    fn unquoted_split_groups_by_quotes() {
        assert_eq!(words("'a b'c \"\"", Split::Unquoted), (vec!["a bc".into(), String::new()], true));
        assert_eq!(words("a 'b", Split::Unquoted), (vec!["a".into()], false));
    }

    #[test]
    fn command_split_resolves_c_escapes() {
        assert_eq!(words(r"a\x20b \u00e9 \101 \s", Split::Command).0, ["a b", "é", "A", " "]);
        assert!(!words(r"a \q", Split::Command).1);
        assert!(!words(r"\x00", Split::Command).1);
    }

    proptest! {
        #[test]
        fn any_value_is_split(value: String) {
            for how in [Split::Plain, Split::Unquoted, Split::Command] {
                let _ = split(&value, how, 50);
            }
        }
    }
}
