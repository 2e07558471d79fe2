//! JSON in a log: journal entries (`journalctl -o json`), and the lines that log shippers and container runtimes wrap.

use serde_json::{Map, Value};

/// The names under which log shippers keep the program that logged a line.
const PROGRAM_KEYS: [&str; 7] =
    ["SYSLOG_IDENTIFIER", "syslog_identifier", "ident", "program", "programname", "appname", "app_name"];

/// Finds the JSON object or array in a line, and returns what stands before it.
///
/// `serde_json` limits the depth to 128.
pub(super) fn parse_json(line: &[u8]) -> Option<(&[u8], Value)> {
    // A line of printk begins with a bracket, too.
    let at = (0..line.len()).take(MOST_BEFORE).find(|&at| {
        let next = line[at + 1..].iter().take(MOST_BLANKS).find(|byte| !byte.is_ascii_whitespace());
        match line[at] {
            b'{' => matches!(next, Some(b'"')),
            b'[' => matches!(next, Some(b'"' | b'{' | b'[')),
            _ => false,
        }
    })?;
    let mut values = serde_json::Deserializer::from_slice(&line[at..]).into_iter::<Value>();
    Some((&line[..at], values.next()?.ok()?))
}

/// How many bytes before the JSON are searched.
const MOST_BEFORE: usize = 512;

/// How many blanks may follow a bracket.
const MOST_BLANKS: usize = 64;

/// Whether a line begins JSON that may span several lines: `journalctl -o json-pretty`, `json-seq` and `json-sse`,
/// `dmesg --json`.
pub(super) fn starts_json(line: &[u8]) -> bool {
    match line {
        [b'{', ..] | [0x1e, b'{', ..] => true,
        [b'[', rest @ ..] => matches!(rest.trim_ascii_start().first(), None | Some(b'{' | b'"')),
        _ => line.starts_with(b"data: {"),
    }
}

/// Follows the nesting of JSON, line by line.
#[derive(Default)]
pub(super) struct JsonNesting {
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
}

impl JsonNesting {
    /// Reads the next line; true once every bracket is closed.
    pub(super) fn read(&mut self, line: &[u8]) -> bool {
        for byte in line {
            match (self.is_in_string, byte) {
                (true, _) if self.is_escaped => self.is_escaped = false,
                (true, b'\\') => self.is_escaped = true,
                (_, b'"') => self.is_in_string = !self.is_in_string,
                (false, b'{' | b'[') => self.depth += 1,
                (false, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        // No text of JSON goes on in the next line.
        self.is_escaped = false;
        self.depth == 0 || std::mem::take(&mut self.is_in_string)
    }
}

/// Returns the program that an object names for its text, under one of the usual keys.
pub(super) fn find_program(object: &Map<String, Value>) -> Option<&str> {
    PROGRAM_KEYS.iter().find_map(|key| object.get(*key)?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_a_line_is_found_with_what_stands_before() {
        let (prefix, value) = parse_json(br#"Feb 21 web svc[7]: {"a":1} more"#).unwrap();
        assert_eq!((prefix, value), (&b"Feb 21 web svc[7]: "[..], serde_json::json!({"a": 1})));
        assert_eq!(parse_json(b"\x1e{ \"a\": [1] }").unwrap().1, serde_json::json!({"a": [1]}));
        for other in ["[   12.3] audit: {", "{a}", "{\"a\":", "", "["] {
            assert!(parse_json(other.as_bytes()).is_none(), "{other}");
        }
        assert!(parse_json(format!("{}1", "[[".repeat(20_000)).as_bytes()).is_none(), "too deep");
    }

    #[test]
    fn nesting_ends_with_the_last_bracket() {
        let mut nesting = JsonNesting::default();
        assert!(!nesting.read(b"{"));
        assert!(!nesting.read(br#"  "a": "}\"}", "#));
        assert!(nesting.read(b"}"));
        assert!(JsonNesting::default().read(b"{\"a"), "a text that is not closed is no JSON");
    }
}
