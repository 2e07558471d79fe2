//! The simple commands of a shell script, as far as they are clear without running it.

/// Returns the words of each simple command in a script. Returns nothing if the script has a `case`, a function, a
/// here-document or an unclosed quote.
pub(super) fn split_simple_commands(script: &str) -> Vec<Vec<String>> {
    let mut parts = ScriptWords::default();
    let mut chars = script.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(next) => parts.push(next),
            },
            '\'' | '"' => {
                parts.begin();
                let mut closed = false;
                while let Some(inner) = chars.next() {
                    if inner == c {
                        closed = true;
                        break;
                    }
                    let escaped = inner == '\\' && c == '"';
                    match if escaped { chars.next() } else { Some(inner) } {
                        Some(inner) => parts.push(inner),
                        None => break,
                    }
                }
                if !closed {
                    return Vec::new();
                }
            }
            '#' if parts.word.is_none() => while chars.next_if(|&c| c != '\n').is_some() {},
            '>' | '<' => {
                if c == '<' && chars.peek() == Some(&'<') {
                    return Vec::new();
                }
                parts.redirect();
                while chars.next_if(|c| ">&|".contains(*c)).is_some() {}
            }
            '&' if chars.peek() == Some(&'>') => parts.end_word(),
            ';' | '&' | '|' | '\n' | '(' | ')' | '`' => parts.end_command(),
            c if c.is_whitespace() => parts.end_word(),
            c => parts.push(c),
        }
    }
    parts.end_command();
    let is_unclear =
        |words: &Vec<String>| words.iter().any(|word| matches!(word.as_str(), "case" | "esac" | "function"));
    if script.contains("()") || parts.commands.iter().any(is_unclear) {
        return Vec::new();
    }
    parts.commands.retain(|words| !matches!(words.first().map(String::as_str), Some("for" | "select")));
    parts.commands
}

/// The commands and words of a script, as far as it is read.
#[derive(Default)]
struct ScriptWords {
    commands: Vec<Vec<String>>,
    words: Vec<String>,
    word: Option<String>,
    /// Whether the next word is the target of a redirection.
    is_target: bool,
}

impl ScriptWords {
    fn begin(&mut self) {
        self.word.get_or_insert_default();
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn end_word(&mut self) {
        if let Some(word) = self.word.take()
            && !std::mem::take(&mut self.is_target)
        {
            self.words.push(word);
        }
    }

    /// Starts a redirection. A number directly before the operator is a file descriptor, not a word.
    fn redirect(&mut self) {
        if self.word.as_ref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        self.is_target = true;
    }

    fn end_command(&mut self) {
        self.end_word();
        self.is_target = false;
        if !self.words.is_empty() {
            self.commands.push(std::mem::take(&mut self.words));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(script: &str) -> Vec<String> {
        split_simple_commands(script).iter().map(|words| words.join(",")).collect()
    }

    #[test]
    fn commands_are_split_at_operators_outside_of_quotes() {
        assert_eq!(split("a b; c 'd; e' | f\\ g && h"), ["a,b", "c,d; e", "f g", "h"]);
        assert_eq!(split("a 2>&1 >out b # c; d\ne"), ["a,b", "e"]);
        assert_eq!(split("(a) `b`"), ["a", "b"]);
    }

    #[test]
    fn unclear_script_has_no_commands() {
        for script in ["case a in b) c;; esac", "f() { a; }", "a <<E\nb\nE", "a 'b", "a \"b\\"] {
            assert_eq!(split(script), [""; 0], "{script}");
        }
    }
}
