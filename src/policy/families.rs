//! `RestrictAddressFamilies=`, whose parsing depends on the version of systemd.

use super::directive::Directive;
use super::lists::{split_polarity, split_words};
use super::manager_context::systemd_version;
use super::settings::Settings;
use super::unit_file::{Assignment, FileNote, Origin};
use super::words::Split;
use crate::audit::text::escape_excerpt;
use crate::syscalls::Groups;
use std::collections::BTreeMap;

/// The first systemd that ignores the rest of a line after an unknown family. Earlier versions ignore only that word
/// (`parse_address_families`, added with systemd-nspawn's option for the same setting; seen with 252 and 262).
const LINE_ENDS_AT_UNKNOWN_SINCE: u32 = 261;

/// The families that systemd can name: those of libc's headers except `AF_UNSPEC` (`af-list.c`). The numbers are the same
/// on every architecture (`linux/socket.h`). Of several names of one number, systemd's own is the first.
const FAMILIES: [(u16, &str); 48] = [
    (1, "AF_UNIX"),
    (1, "AF_LOCAL"),
    (1, "AF_FILE"),
    (2, "AF_INET"),
    (3, "AF_AX25"),
    (4, "AF_IPX"),
    (5, "AF_APPLETALK"),
    (6, "AF_NETROM"),
    (7, "AF_BRIDGE"),
    (8, "AF_ATMPVC"),
    (9, "AF_X25"),
    (10, "AF_INET6"),
    (11, "AF_ROSE"),
    (12, "AF_DECnet"),
    (13, "AF_NETBEUI"),
    (14, "AF_SECURITY"),
    (15, "AF_KEY"),
    (16, "AF_NETLINK"),
    (16, "AF_ROUTE"),
    (17, "AF_PACKET"),
    (18, "AF_ASH"),
    (19, "AF_ECONET"),
    (20, "AF_ATMSVC"),
    (21, "AF_RDS"),
    (22, "AF_SNA"),
    (23, "AF_IRDA"),
    (24, "AF_PPPOX"),
    (25, "AF_WANPIPE"),
    (26, "AF_LLC"),
    (27, "AF_IB"),
    (28, "AF_MPLS"),
    (29, "AF_CAN"),
    (30, "AF_TIPC"),
    (31, "AF_BLUETOOTH"),
    (32, "AF_IUCV"),
    (33, "AF_RXRPC"),
    (34, "AF_ISDN"),
    (35, "AF_PHONET"),
    (36, "AF_IEEE802154"),
    (37, "AF_CAIF"),
    (38, "AF_ALG"),
    (39, "AF_NFC"),
    (40, "AF_VSOCK"),
    (41, "AF_KCM"),
    (42, "AF_QIPCRTR"),
    (43, "AF_SMC"),
    (44, "AF_XDP"),
    (45, "AF_MCTP"),
];

/// Returns systemd's name for a family's number; `None` if it has none.
#[must_use]
pub(crate) fn family_name(number: u16) -> Option<&'static str> {
    FAMILIES.into_iter().find(|(other, _)| *other == number).map(|(_, name)| name)
}

/// The effective `RestrictAddressFamilies=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressFamilies {
    /// Whether the listed families pass, rather than all others.
    pub allow_list: bool,
    /// The listed families by systemd's own names (`AF_UNIX` for `AF_LOCAL`), each with its line.
    pub listed: BTreeMap<&'static str, Origin>,
    /// The first line of the list.
    pub first_line: Origin,
    /// Whether the list is `none`. The next line then sets the mode again.
    none: bool,
}

impl AddressFamilies {
    /// Every name that the directive accepts. Some families have several names.
    pub fn known_names() -> impl Iterator<Item = &'static str> {
        FAMILIES.into_iter().map(|(_, name)| name)
    }

    /// Returns the setting, as the systemd that these groups belong to parses it, and notes about ignored words. The
    /// setting is `None` if no line sets it.
    #[must_use]
    pub fn from_settings(settings: &Settings, groups: &Groups) -> (Option<Self>, Vec<FileNote>) {
        let whole_line = systemd_version(groups).is_some_and(|systemd| systemd >= LINE_ENDS_AT_UNKNOWN_SINCE);
        let (mut families, mut notes) = (None, Vec::new());
        for line in settings.lines(Directive::RestrictAddressFamilies) {
            Self::apply(&mut families, line, whole_line, &mut notes);
        }
        (families, notes)
    }

    /// Whether any family is refused.
    #[must_use]
    pub fn restricts(&self) -> bool {
        self.allow_list || !self.listed.is_empty()
    }

    /// Whether `socket(2)` fails for every family.
    #[must_use]
    pub fn refuses_all(&self) -> bool {
        self.allow_list && self.listed.is_empty()
    }

    /// Applies one line. With `whole_line`, an unknown family ends the line.
    fn apply(families: &mut Option<Self>, line: &Assignment, whole_line: bool, notes: &mut Vec<FileNote>) {
        let origin = &line.origin;
        if line.value.is_empty() {
            *families = None;
            return;
        }
        if &*line.value == "none" {
            *families =
                Some(Self { allow_list: true, listed: BTreeMap::new(), first_line: origin.clone(), none: true });
            return;
        }
        let (negated, value) = split_polarity(&line.value);
        let list = families.take().filter(|families| !families.none).unwrap_or_else(|| Self {
            allow_list: !negated,
            listed: BTreeMap::new(),
            first_line: origin.clone(),
            none: false,
        });
        let list = families.insert(list);
        for word in split_words(value, Split::Unquoted, line, notes) {
            let Some(family) = canonical_family(&word) else {
                let ignored = if whole_line { "and systemd ignores the rest of the line too" } else { "ignored" };
                notes.push(FileNote::at(origin, format!("{} is no address family, {ignored}", escape_excerpt(&word))));
                if whole_line {
                    break;
                }
                continue;
            };
            if negated == list.allow_list {
                list.listed.remove(family);
            } else {
                list.listed.insert(family, origin.clone());
            }
        }
    }
}

/// Returns systemd's own name for a family.
fn canonical_family(word: &str) -> Option<&'static str> {
    let (number, _) = FAMILIES.into_iter().find(|(_, name)| *name == word)?;
    family_name(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::UnitFile;
    use crate::syscalls::groups::GroupSource;
    use std::path::Path;

    /// Whether the list is an allow-list, and the families on it.
    type List = (bool, Vec<&'static str>);

    /// The list that results from the lines, and the number of notes.
    fn read(version: &str, values: &[&str]) -> (Option<List>, usize) {
        let text = format!("[Service]\nRestrictAddressFamilies={}\n", values.join("\nRestrictAddressFamilies="));
        let file = UnitFile::parse(Path::new("x"), text.as_bytes());
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
        let groups = Groups::parse("@known\n    read\n", GroupSource::Host(version.into())).unwrap();
        let (families, notes) = AddressFamilies::from_settings(&settings, &groups);
        (families.map(|f| (f.allow_list, f.listed.into_keys().collect())), notes.len())
    }

    fn list(allow: bool, names: &[&'static str]) -> List {
        (allow, names.to_vec())
    }

    #[test]
    fn lines_add_and_remove_families_as_the_manual_says() {
        for version in ["252.38-1", "262.1-1"] {
            let families = |values: &[&str]| read(version, values).0;
            assert_eq!(families(&["AF_UNIX AF_INET", "~AF_INET"]), Some(list(true, &["AF_UNIX"])));
            assert_eq!(families(&["~AF_UNIX AF_INET", "AF_INET"]), Some(list(false, &["AF_UNIX"])));
            assert_eq!(families(&["AF_UNIX", ""]), None);
            assert_eq!(families(&["AF_UNIX", "none"]), Some(list(true, &[])));
            assert_eq!(families(&["none", "AF_UNIX"]), Some(list(true, &["AF_UNIX"])));
            assert_eq!(families(&["none", "~AF_UNIX"]), Some(list(false, &["AF_UNIX"])));
            assert_eq!(families(&["'AF_UNIX' unix"]), Some(list(true, &["AF_UNIX"])));
            assert_eq!(families(&["AF_LOCAL AF_ROUTE", "~AF_FILE"]), Some(list(true, &["AF_NETLINK"])));
            assert_eq!(families(&["AF_DECnet AF_UNSPEC"]), Some(list(true, &["AF_DECnet"])));
            assert_eq!(
                families(&["bogus", "~AF_INET"]),
                Some(list(true, &[])),
                "a line without a valid word sets the mode"
            );
        }
    }

    #[test]
    fn unknown_family_ends_the_line_since_261() {
        for (version, ends) in
            [("252.38-1", false), ("257.13-1", false), ("260.1", false), ("261", true), ("262.1-1", true)]
        {
            let (families, wrong) = read(version, &["AF_UNIX bogus AF_INET", "AF_INET6"]);
            let expected: &[&str] = if ends { &["AF_INET6", "AF_UNIX"] } else { &["AF_INET", "AF_INET6", "AF_UNIX"] };
            assert_eq!((families, wrong), (Some(list(true, expected)), 1), "{version}");
            let (families, _) = read(version, &["~AF_UNSPEC AF_INET"]);
            assert_eq!(families, Some(list(false, if ends { &[] } else { &["AF_INET"] })), "{version}");
        }
    }
}
