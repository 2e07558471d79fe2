//! What a word of a setting withholds, in words.

use std::fmt;

/// What a word withholds: the words before and after the name of the path, capability, device or address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// The word of the line; empty if the whole value counts.
    pub word: Box<str>,
    /// The words before the name.
    pub before: &'static str,
    /// The words after the name.
    pub after: String,
}

/// Makes the words around a name.
pub(super) fn withheld(before: &'static str, after: &str) -> Withheld {
    Withheld { word: "".into(), before, after: after.to_owned() }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}it{}", self.before, self.after)
    }
}
