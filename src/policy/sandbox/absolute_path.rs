//! Absolute paths as systemd compares them (`path_simplify_and_warn`, `parse-helpers.c`).

/// Returns an absolute path without needless slashes and dots; `None` for another path.
pub(super) fn simplify(path: &str) -> Option<Box<str>> {
    if !path.starts_with('/') || path.contains('\0') || path.split('/').any(|part| part == "..") {
        return None;
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    Some(format!("/{}", parts.join("/")).into())
}

/// Returns the start of an absolute path without needless slashes and dots in its directories; its last part may go on.
/// systemd ignores paths that are not absolute, or that lead upwards.
pub(super) fn simplify_start(start: &str) -> Option<Box<str>> {
    let (directory, last) = start.rsplit_once('/')?;
    let directory = simplify(&format!("{directory}/"))?;
    Some(format!("{}/{last}", directory.trim_end_matches('/')).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_of_a_path_keeps_its_last_part() {
        for (start, simple) in [
            ("/", Some("/")),
            ("/srv", Some("/srv")),
            ("//srv/.//", Some("/srv/")),
            ("/srv//./x", Some("/srv/x")),
            ("/srv/..", Some("/srv/..")),
            ("/../x", None),
            ("srv/x", None),
            ("", None),
        ] {
            assert_eq!(simplify_start(start).as_deref(), simple, "{start}");
        }
    }
}
