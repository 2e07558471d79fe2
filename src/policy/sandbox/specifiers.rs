//! Specifiers in values, as the manager of a unit expands them (`systemd.unit(5)`).

use crate::policy::settings::Settings;
use crate::units::UnitName;

/// The names that specifiers stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpecifierNames<'a> {
    unit: &'a UnitName,
    /// Whether a user's manager runs the unit: its directories and its user are unknown.
    pub(super) is_of_user: bool,
}

impl<'a> SpecifierNames<'a> {
    /// Returns the names for a unit. The directories of its files show its manager.
    pub(super) fn new(settings: &'a Settings) -> Self {
        let is_of_user = |path: &str| path.contains("/systemd/user/") || path.contains("/run/user/");
        let mut files = settings.assignments().filter_map(|line| line.origin.path.to_str());
        Self { unit: settings.name(), is_of_user: files.any(is_of_user) }
    }
}

/// Expands the specifiers of a value; `None` if one of them is not known here, such as the machine's id.
pub(super) fn expand(value: &str, names: &SpecifierNames<'_>) -> Option<String> {
    let mut expanded = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c == '%' {
            expanded.push_str(&find(chars.next()?, names)?);
        } else {
            expanded.push(c);
        }
    }
    Some(expanded)
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
        't' | 'S' | 'C' | 'L' | 'E' | 'h' | 'u' | 'U' if names.is_of_user => return None,
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
        let expand = |value: &str| expand(value, &SpecifierNames { unit: &unit, is_of_user: false });
        assert_eq!(expand("%S/%p/%i").as_deref(), Some(r"/var/lib/app-db/a-b\x2dc"));
        assert_eq!(expand("%I %j %%").as_deref(), Some("a/b-c db %"));
        assert_eq!(expand("%f").as_deref(), Some("/a/b-c"));
        assert_eq!((expand("%m"), expand("a%")), (None, None));
    }

    #[test]
    fn directories_and_user_of_a_user_s_unit_are_unknown() {
        let file = |path: &str| UnitFile::parse(Path::new(path), b"[Service]\nType=simple\nPrivateTmp=no\n");
        let settings = |path: &str| Settings::new(&"x.service".parse().unwrap(), Some(file(path)), Vec::new());
        for path in ["/etc/systemd/user/x.service", "/home/a/.config/systemd/user/x.service"] {
            let settings = settings(path);
            for word in ["%h", "%t", "%S", "%C", "%L", "%u", "%U"] {
                assert_eq!(expand(word, &SpecifierNames::new(&settings)), None, "{word}");
            }
            assert_eq!(expand("%n", &SpecifierNames::new(&settings)).as_deref(), Some("x.service"));
        }
        let system = settings("/etc/systemd/system/x.service");
        assert_eq!(expand("%S", &SpecifierNames::new(&system)).as_deref(), Some("/var/lib"));
    }
}
