//! Splits Rust source into tokens, without comments and without the contents of literals.

/// One token: an identifier, a number, `::` or a single character. A literal is `"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

impl Token<'_> {
    /// Is it an identifier or a keyword?
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// Returns the tokens of `text`, which is taken to be valid Rust. Lines count from 1.
pub(crate) fn tokenize(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (length, kept) = match first {
            _ if first.is_whitespace() => (first.len_utf8(), None),
            _ if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), None),
            _ if rest.starts_with("/*") => (block_comment(rest), None),
            _ if rest.starts_with("::") => (2, Some("::")),
            '"' => (string(rest), Some("\"")),
            '\'' => quote(rest),
            _ if first.is_alphanumeric() || first == '_' => word_or_literal(rest),
            _ => (first.len_utf8(), Some(&rest[..first.len_utf8()])),
        };
        tokens.extend(kept.map(|text| Token { text, line }));
        line += rest[..length].matches('\n').count();
        at += length;
    }
    tokens
}

/// Returns the length of a block comment; they nest.
fn block_comment(rest: &str) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 && at < rest.len() {
        let two = rest.as_bytes().get(at..at + 2);
        (at, depth) = match two {
            Some(b"/*") => (at + 2, depth + 1),
            Some(b"*/") => (at + 2, depth - 1),
            _ => (at + 1, depth),
        };
    }
    at
}

/// Returns the length of a literal that ends with the quote that it begins with, at `rest`'s start.
fn string(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != bytes[0] {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Returns the length of a character literal, or of a lifetime, which is no token.
fn quote(rest: &str) -> (usize, Option<&str>) {
    let mut chars = rest[1..].chars();
    let (second, third) = (chars.next(), chars.next());
    if second == Some('\\') || third == Some('\'') {
        return (string(rest), Some("\""));
    }
    (1 + word(&rest[1..]), None)
}

/// Returns the length of the identifier or number at the start of `rest`.
fn word(rest: &str) -> usize {
    rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len())
}

/// Returns a word, a raw identifier, or a literal with a prefix (`b"…"`, `r#"…"#`, `b'…'`).
fn word_or_literal(rest: &str) -> (usize, Option<&str>) {
    let length = word(rest);
    let (prefix, after) = rest.split_at(length);
    match prefix {
        "b" | "c" if after.starts_with('"') => (length + string(after), Some("\"")),
        "b" if after.starts_with('\'') => (length + string(after), Some("\"")),
        "r" | "br" | "cr" => {
            let hashes = after.len() - after.trim_start_matches('#').len();
            if after[hashes..].starts_with('"') {
                let end = format!("\"{}", "#".repeat(hashes));
                let body = &after[hashes + 1..];
                let closed = body.find(&end).map_or(body.len(), |at| at + end.len());
                (length + hashes + 1 + closed, Some("\""))
            } else if prefix == "r" && hashes == 1 {
                let name = word(&after[1..]);
                (length + 1 + name, Some(&after[1..=name]))
            } else {
                (length, Some(prefix))
            }
        }
        _ => (length, Some(prefix)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        tokenize(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_literals_hide_their_contents() {
        assert_eq!(texts("a /* b /* c */ d */ e // f\ng"), ["a", "e", "g"]);
        assert_eq!(
            texts(r##"x("use a::b;", r#"use "c"::d;"#, b'\'', '"')"##),
            ["x", "(", "\"", ",", "\"", ",", "\"", ",", "\"", ")"]
        );
    }

    #[test]
    fn lifetime_is_no_literal() {
        assert_eq!(
            texts("fn f<'a>(x: &'a str) -> 'b'"),
            ["fn", "f", "<", ">", "(", "x", ":", "&", "str", ")", "-", ">", "\""]
        );
    }

    #[test]
    fn raw_identifier_is_its_word() {
        assert_eq!(texts("crate::r#type::x"), ["crate", "::", "type", "::", "x"]);
    }

    #[test]
    fn lines_count_through_literals() {
        let tokens = tokenize("a\n\"b\nc\"\nd");
        assert_eq!(tokens.iter().map(|token| token.line).collect::<Vec<_>>(), [1, 2, 4]);
    }
}
