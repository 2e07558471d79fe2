//! Specifiers in values, as the manager of a unit expands them (`systemd.unit(5)`).

use crate::policy::settings::Settings;
use crate::units::UnitName;

/// The names that specifiers stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpecifierNames<'a> {
    unit: &'a UnitName,
    /// Whether a user's manager runs the unit.
    pub(super) is_of_user: bool,
    /// That user's home, if a file of the unit is there.
    home: Option<&'a str>,
    /// That user's directory below `/run/user`, if a file of the unit is there.
    runtime: Option<&'a str>,
}

/// Where a user's unit files are, below the user's home.
const BELOW_HOME: &str = "/.config/systemd/user/";
/// The parent of the users' directories for a session.
const RUNTIME: &str = "/run/user/";

impl<'a> SpecifierNames<'a> {
    /// Returns the names for a unit. The directories of its files show its manager.
    pub(super) fn new(settings: &'a Settings) -> Self {
        let files: Vec<&str> = settings.assignments().filter_map(|line| line.origin.path.to_str()).collect();
        let home = |path: &'a str| path.split_once(BELOW_HOME).map(|(home, _)| home);
        let runtime = |path: &'a str| {
            let user = path.strip_prefix(RUNTIME)?.split('/').next()?;
            path.get(..RUNTIME.len() + user.len())
        };
        Self {
            unit: settings.name(),
            is_of_user: files.iter().any(|path| path.contains("/systemd/user/") || path.starts_with(RUNTIME)),
            home: files.iter().copied().find_map(home),
            runtime: files.iter().copied().find_map(runtime),
        }
    }
}

/// The letters of `unit_full_printf_full` (`unit-printf.c`) and `COMMON_*_SPECIFIERS` (`specifier.h`) up to systemd 256.
const LETTERS: &str = "aAbBcCdDEfgGhHiIjJlLmMnNopPqrRsStTuUvVwWyY";
/// Those that can stand for an absolute path.
const PATHS: &str = "cCdDEfhLrRsStTVyY";

/// A value after its specifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expansion {
    /// The whole value.
    Known(String),
    /// A specifier, such as the machine's id, has no known value here. This is the value before it; `/` if the value begins
    /// with it, and it stands for a path.
    Unknown(String),
    /// A specifier has no meaning, so systemd ignores the word.
    Invalid,
}

/// Expands the specifiers of a value; `None` if systemd ignores it, or if a specifier is not known here.
pub(super) fn expand(value: &str, names: &SpecifierNames<'_>) -> Option<String> {
    match expand_known(value, names) {
        Expansion::Known(expanded) => Some(expanded),
        Expansion::Unknown(_) | Expansion::Invalid => None,
    }
}

/// Expands the specifiers of a value as `specifier_printf` does (`specifier.c`).
pub(super) fn expand_known(value: &str, names: &SpecifierNames<'_>) -> Expansion {
    let mut expanded = String::new();
    let mut start: Option<String> = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            expanded.push(c);
            continue;
        }
        match chars.next() {
            Some(letter) if letter == '%' || LETTERS.contains(letter) => match find(letter, names) {
                Some(known) => expanded.push_str(&known),
                // A later specifier can still be invalid.
                None => _ = start.get_or_insert_with(|| start_before(&expanded, letter)),
            },
            Some(letter) if letter.is_ascii_alphanumeric() => return Expansion::Invalid,
            other => expanded.extend(['%'].into_iter().chain(other)),
        }
    }
    start.map_or(Expansion::Known(expanded), Expansion::Unknown)
}

/// Returns the start of a value before an unknown specifier.
fn start_before(expanded: &str, letter: char) -> String {
    if expanded.is_empty() && PATHS.contains(letter) { "/".to_owned() } else { expanded.to_owned() }
}

fn find(letter: char, names: &SpecifierNames<'_>) -> Option<String> {
    let unit = names.unit;
    let (stem, _) = unit.as_str().rsplit_once('.')?;
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    Some(match letter {
        '%' => "%".to_owned(),
        'n' => unit.as_str().to_owned(),
        'N' => stem.to_owned(),
        'p' => prefix.to_owned(),
        'P' => unescape(prefix)?,
        'i' => instance.to_owned(),
        'I' => unescape(instance)?,
        'j' => prefix.rsplit('-').next()?.to_owned(),
        'J' => unescape(prefix.rsplit('-').next()?)?,
        'f' => format!("/{}", unescape(if instance.is_empty() { prefix } else { instance })?),
        't' if names.is_of_user => names.runtime?.to_owned(),
        'h' if names.is_of_user => names.home?.to_owned(),
        'E' if names.is_of_user => format!("{}/.config", names.home?),
        'C' if names.is_of_user => format!("{}/.cache", names.home?),
        // These depend on the version of systemd, or on the user's name.
        'S' | 'L' | 'u' | 'U' if names.is_of_user => return None,
        't' => "/run".to_owned(),
        'S' => "/var/lib".to_owned(),
        'C' => "/var/cache".to_owned(),
        'L' => "/var/log".to_owned(),
        'E' => "/etc".to_owned(),
        'T' => "/tmp".to_owned(),
        'V' => "/var/tmp".to_owned(),
        'h' => "/root".to_owned(),
        'u' => "root".to_owned(),
        'U' => "0".to_owned(),
        _ => return None,
    })
}

/// Undoes systemd's escaping of a name: `-` stands for `/`, and `\xNN` for a byte.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'-' => bytes.push(b'/'),
            b'\\' => {
                let (digits, after) = after.strip_prefix(b"x")?.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
                rest = after;
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::UnitFile;
    use std::path::Path;

    #[test]
    fn specifiers_expand_as_in_the_manual() {
        let unit = r"app-db@a-b\x2dc.service".parse().unwrap();
        let expand =
            |value: &str| expand(value, &SpecifierNames { unit: &unit, is_of_user: false, home: None, runtime: None });
        assert_eq!(expand("%S/%p/%i").as_deref(), Some(r"/var/lib/app-db/a-b\x2dc"));
        assert_eq!(expand("%I %j %%").as_deref(), Some("a/b-c db %"));
        assert_eq!(expand("%f").as_deref(), Some("/a/b-c"));
        assert_eq!((expand("%m"), expand("a%").as_deref(), expand("%-%").as_deref()), (None, Some("a%"), Some("%-%")));
    }

    #[test]
    fn specifier_is_known_or_unknown_here_or_invalid() {
        let unit = "x.service".parse().unwrap();
        let names = SpecifierNames { unit: &unit, is_of_user: true, home: None, runtime: None };
        let unknown = |start: &str| Expansion::Unknown(start.to_owned());
        for (value, expansion) in [
            ("/srv/%n", Expansion::Known("/srv/x.service".to_owned())),
            ("/srv/%m/%n", unknown("/srv/")),
            ("%h/data", unknown("/")),
            ("%m/data", unknown("")),
            ("/srv/%k", Expansion::Invalid),
            ("/srv/%0", Expansion::Invalid),
            ("/srv/%m/%k", Expansion::Invalid),
        ] {
            assert_eq!(expand_known(value, &names), expansion, "{value}");
        }
    }

    #[test]
    fn directories_of_a_user_s_unit_are_those_that_its_files_show() {
        let file = |path: &str| UnitFile::parse(Path::new(path), b"[Service]\nType=simple\nPrivateTmp=no\n");
        let settings = |path: &str| Settings::new(&"x.service".parse().unwrap(), Some(file(path)), Vec::new());
        let value = |path: &str, word: &str| expand(word, &SpecifierNames::new(&settings(path)));
        let (global, home, session) = (
            "/etc/systemd/user/x.service",
            "/home/a/.config/systemd/user/x.service",
            "/run/user/1000/systemd/transient/x.service",
        );
        for path in [global, home, session] {
            for word in ["%S", "%L", "%u", "%U"] {
                assert_eq!(value(path, word), None, "{path} {word}");
            }
            assert_eq!(value(path, "%n").as_deref(), Some("x.service"));
        }
        assert_eq!(
            [value(global, "%h"), value(global, "%t"), value(session, "%h"), value(home, "%t")],
            [const { None }; 4]
        );
        assert_eq!(value(home, "%h/x %E %C").as_deref(), Some("/home/a/x /home/a/.config /home/a/.cache"));
        assert_eq!(value(session, "%t/x").as_deref(), Some("/run/user/1000/x"));
        assert_eq!(value("/etc/systemd/system/x.service", "%S").as_deref(), Some("/var/lib"));
    }
}
