//! Specifiers in values, as the system manager expands them (`systemd.unit(5)`).

use crate::units::UnitName;

/// Expands the specifiers of a value; `None` if one of them is not known here, such as the machine's id.
pub(super) fn expand(value: &str, unit: &UnitName) -> Option<String> {
    let mut expanded = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c == '%' {
            expanded.push_str(&find(chars.next()?, unit)?);
        } else {
            expanded.push(c);
        }
    }
    Some(expanded)
}

fn find(letter: char, unit: &UnitName) -> Option<String> {
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

    #[test]
    fn specifiers_expand_as_in_the_manual() {
        let expand = |value: &str| expand(value, &r"app-db@a-b\x2dc.service".parse().unwrap());
        assert_eq!(expand("%S/%p/%i").as_deref(), Some(r"/var/lib/app-db/a-b\x2dc"));
        assert_eq!(expand("%I %j %%").as_deref(), Some("a/b-c db %"));
        assert_eq!(expand("%f").as_deref(), Some("/a/b-c"));
        assert_eq!((expand("%m"), expand("a%")), (None, None));
    }
}
