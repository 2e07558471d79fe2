//! What a manager holds of directives that withhold paths, devices and addresses, as lines of a unit file.

use super::property_map::{PropertyMap, take};
use crate::policy::{Directive, ValueKind};
use std::net::IpAddr;

/// Families and protocols of `SocketBindAllow=` (`bus_append_socket_bind` in systemd), by number; 0 stands for all.
const FAMILIES: [(i32, &str); 2] = [(libc::AF_INET, "ipv4:"), (libc::AF_INET6, "ipv6:")];
const PROTOCOLS: [(i32, &str); 2] = [(libc::IPPROTO_TCP, "tcp:"), (libc::IPPROTO_UDP, "udp:")];

/// Returns the lines. Those of other types than in `org.freedesktop.systemd1(5)` are left out.
pub(super) fn held_lines(properties: &PropertyMap) -> Vec<String> {
    let withholding = Directive::ALL.iter().filter(|directive| !directive.filters_calls());
    withholding.flat_map(|directive| lines_of(*directive, properties)).collect()
}

fn lines_of(directive: Directive, properties: &PropertyMap) -> Vec<String> {
    let key = directive.key();
    let values: Vec<String> = match directive.spec().value {
        ValueKind::Toggle => {
            let is_on = take::<bool>(properties, key).unwrap_or_default();
            is_on.then(|| "yes".to_owned()).into_iter().collect()
        }
        // The user is a property of its own.
        ValueKind::Word if directive != Directive::User => {
            take::<String>(properties, key).filter(|word| !word.is_empty()).into_iter().collect()
        }
        ValueKind::Paths | ValueKind::Names => quote_all(take::<Vec<String>>(properties, key).unwrap_or_default()),
        ValueKind::Mounts => {
            let mounts = take::<Vec<(String, String)>>(properties, key).unwrap_or_default();
            quote_all(mounts.into_iter().map(|(path, options)| format!("{path}:{options}")))
        }
        ValueKind::Binds => {
            let binds = take::<Vec<(String, String, bool, u64)>>(properties, key).unwrap_or_default();
            let word = |(source, target, may_miss, _): (String, String, bool, u64)| {
                format!("{}{}:{}", if may_miss { "-" } else { "" }, escape(&source), escape(&target))
            };
            binds.into_iter().map(word).collect()
        }
        ValueKind::Devices => {
            let devices = take::<Vec<(String, String)>>(properties, key).unwrap_or_default();
            devices.into_iter().map(|(device, letters)| format!("{device} {letters}")).collect()
        }
        ValueKind::Addresses => {
            let prefixes = take::<Vec<(i32, Vec<u8>, u32)>>(properties, key).unwrap_or_default();
            prefixes
                .into_iter()
                .filter_map(|(_, bytes, length)| Some(format!("{}/{length}", address(&bytes)?)))
                .collect()
        }
        ValueKind::SocketBinds => {
            let rules = take::<Vec<(i32, i32, u16, u16)>>(properties, key).unwrap_or_default();
            rules.into_iter().map(socket_bind).collect()
        }
        _ => Vec::new(),
    };
    let is_line = |value: &String| !value.contains(char::is_control);
    values.into_iter().filter(is_line).map(|value| format!("{key}={value}")).collect()
}

/// Writes words so that each is one word of a line again.
fn quote_all(words: impl IntoIterator<Item = String>) -> Vec<String> {
    let quote = |word: String| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"));
    words.into_iter().map(quote).collect()
}

/// Writes a path so that it is one part of a word between colons.
fn escape(path: &str) -> String {
    let escaped = |c: char| match c {
        ' ' | '\t' | ':' | '"' | '\'' | '\\' => vec!['\\', c],
        '%' => vec!['%', '%'],
        c => vec![c],
    };
    path.chars().flat_map(escaped).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn socket_bind((family, protocol, count, first): (i32, i32, u16, u16)) -> String {
    let name = |table: [(i32, &'static str); 2], number| {
        table.into_iter().find(|(known, _)| *known == number).map_or("", |(_, name)| name)
    };
    let (family, protocol) = (name(FAMILIES, family), name(PROTOCOLS, protocol));
    match count {
        0 if family.is_empty() && protocol.is_empty() => "any".to_owned(),
        0 => format!("{family}{protocol}").trim_end_matches(':').to_owned(),
        1 => format!("{family}{protocol}{first}"),
        _ => format!("{family}{protocol}{first}-{}", first.saturating_add(count - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::Variant;

    #[test]
    fn properties_become_lines_with_the_same_words() {
        let list = vec![
            ("ProtectSystem", Variant::from("strict")),
            ("PrivateTmp", true.into()),
            ("PrivateUsers", false.into()),
            ("ReadWritePaths", vec!["-/srv/a b", "/x%", "/a\nProtectSystem=no"].into()),
            ("TemporaryFileSystem", vec![("/srv", "ro")].into()),
            ("BindPaths", vec![("/a:b", "/c d", true, 0_u64)].into()),
            ("DeviceAllow", vec![("/dev/fuse", "rw")].into()),
            ("IPAddressDeny", vec![(2_i32, vec![10_u8, 0, 0, 0], 8_u32)].into()),
            ("SocketBindAllow", vec![(2_i32, 6_i32, 3_u16, 80_u16), (0, 0, 1, 53)].into()),
            ("SocketBindDeny", vec![(0_i32, 0_i32, 0_u16, 0_u16)].into()),
            ("ProtectHome", 7_u32.into()),
        ];
        let properties = list.into_iter().map(|(name, value)| (name.to_owned(), value.try_into().unwrap())).collect();
        let mut lines = held_lines(&properties);
        lines.sort();
        assert_eq!(
            lines,
            [
                r"BindPaths=-/a\:b:/c\ d",
                "DeviceAllow=/dev/fuse rw",
                "IPAddressDeny=10.0.0.0/8",
                "PrivateTmp=yes",
                "ProtectSystem=strict",
                r#"ReadWritePaths="-/srv/a b""#,
                r#"ReadWritePaths="/x%%""#,
                "SocketBindAllow=53",
                "SocketBindAllow=ipv4:tcp:80-82",
                "SocketBindDeny=any",
                r#"TemporaryFileSystem="/srv:ro""#,
            ]
        );
    }
}
