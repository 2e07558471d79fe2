//! The exit status that an error of harden-why must have, by its words.

/// Returns the exit status of an error with this text.
pub(crate) fn of_error(text: &str) -> i32 {
    let has_any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let words = text.trim_start().trim_start_matches("harden-why: ");
    let is_not_found =
        ["Unit", "Process", "File"].iter().any(|start| words.starts_with(start)) && words.contains(" not found.");
    if is_not_found || words.contains(" has no files below ") {
        4
    } else if has_any(&[
        "not allowed",
        "only root",
        "belongs to the user manager of uid",
        "denies access",
        "you may see only the denials of your own units",
        "Permission denied",
    ]) {
        3
    } else if has_any(&[
        "there is no terminal",
        "is not a unit name",
        "is not a time",
        "is not a setting",
        "invalid --with",
        "is a pattern",
        "is a template",
        ", not of ",
        "is not a known architecture",
        "unexpected argument",
        " does not go with the command ",
    ]) {
        2
    } else {
        1
    }
}
