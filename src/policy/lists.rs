//! `RestrictNamespaces=` and `SystemCallArchitectures=`: lists of namespaces and of ABIs.

use super::unit_file::{Assignment, FileNote, Origin};
use super::words::{MOST_WORDS, Split, Words, split};
use crate::audit::text::escape_excerpt;
use crate::syscalls::Abi;
use std::collections::BTreeMap;

/// The effective `RestrictNamespaces=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespaces {
    /// The namespaces that processes may create and enter, each one of [`KNOWN`](Self::KNOWN).
    pub retained: Vec<&'static str>,
    /// The last valid line.
    pub origin: Origin,
}

impl Namespaces {
    /// Every name that the directive accepts (`namespaces(7)`); systemd 252 accepts `time` too.
    pub const KNOWN: [&'static str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

    /// The names with their `CLONE_NEW*` flags. A manager reports the allowed namespaces as such flags. `time` is newer
    /// than some versions of systemd, so no comparison uses it.
    pub const FLAGS: [(&'static str, u64); 7] = [
        ("cgroup", 0x0200_0000),
        ("ipc", 0x0800_0000),
        ("mnt", 0x0002_0000),
        ("net", 0x4000_0000),
        ("pid", 0x2000_0000),
        ("user", 0x1000_0000),
        ("uts", 0x0400_0000),
    ];

    /// Returns all [`FLAGS`](Self::FLAGS) together.
    #[must_use]
    pub(crate) fn all_flags() -> u32 {
        Self::FLAGS.iter().fold(0, |all, (_, flag)| all | u32::try_from(*flag).unwrap_or_default())
    }

    /// Returns the names for flags.
    pub(crate) fn names(flags: u32) -> impl Iterator<Item = &'static str> {
        Self::FLAGS.into_iter().filter(move |(_, flag)| u64::from(flags) & flag != 0).map(|(name, _)| name)
    }

    /// Whether any namespace is refused.
    #[must_use]
    pub fn restricts(&self) -> bool {
        self.retained.len() < Self::KNOWN.len()
    }

    pub(crate) fn apply(namespaces: &mut Option<Self>, line: &Assignment, notes: &mut Vec<FileNote>) {
        let origin = line.origin.clone();
        if line.value.is_empty() {
            *namespaces = None;
            return;
        }
        if let Some(restricted) = parse_boolean(&line.value) {
            let retained = if restricted { Vec::new() } else { Self::KNOWN.to_vec() };
            *namespaces = Some(Self { retained, origin });
            return;
        }
        let (negated, value) = split_polarity(&line.value);
        let Words { words, complete } = split(value, Split::Plain, MOST_WORDS);
        if !complete || words.iter().any(|word| !Self::KNOWN.contains(&word.as_str())) {
            let text = format!("{} is no list of namespaces, ignored", escape_excerpt(&line.value));
            notes.push(FileNote::at(&origin, text));
            return;
        }
        let before = namespaces.as_ref().map(|namespaces| namespaces.retained.as_slice());
        let retained = Self::KNOWN
            .into_iter()
            .filter(|name| {
                let named = words.iter().any(|word| word == name);
                if named { !negated } else { before.map_or(negated, |before| before.contains(name)) }
            })
            .collect();
        *namespaces = Some(Self { retained, origin });
    }
}

/// The effective `SystemCallArchitectures=`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Architectures {
    /// The listed ABIs by systemd's names, each with its line. If the list is empty, all ABIs pass.
    pub listed: BTreeMap<Box<str>, Origin>,
    /// The line that began the list in systemd's merge order.
    first: Option<Origin>,
}

impl Architectures {
    pub(crate) fn apply(&mut self, line: &Assignment, notes: &mut Vec<FileNote>) {
        if line.value.is_empty() {
            *self = Self::default();
            return;
        }
        for word in split_words(&line.value, Split::Unquoted, line, notes) {
            // The names of `seccomp_arch_from_string`.
            if word == "native" || Abi::all().any(|abi| abi.systemd_name() == Some(&word)) {
                self.listed.insert(word.into(), line.origin.clone());
                self.first.get_or_insert_with(|| line.origin.clone());
            } else {
                notes
                    .push(FileNote::at(&line.origin, format!("{} is no architecture, ignored", escape_excerpt(&word))));
            }
        }
    }

    /// Whether calls of an ABI are refused. Calls of the native ABI are never refused.
    #[must_use]
    pub fn blocks(&self, abi: Abi, native: Abi) -> bool {
        let named = abi.systemd_name().is_some_and(|name| self.listed.contains_key(name));
        !self.listed.is_empty() && abi != native && !named
    }

    /// The line that causes a refusal: the first in systemd's merge order, without which all ABIs would pass.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.first.as_ref()
    }
}

/// Parses a boolean as systemd's `parse_boolean` does; `None` for any other text.
#[must_use]
pub(crate) fn parse_boolean(value: &str) -> Option<bool> {
    let is = |words: [&str; 6]| words.into_iter().any(|word| word.eq_ignore_ascii_case(value));
    if is(["1", "yes", "y", "true", "t", "on"]) {
        Some(true)
    } else if is(["0", "no", "n", "false", "f", "off"]) {
        Some(false)
    } else {
        None
    }
}

/// Splits off the `~` that negates a list. Returns whether the value has it, and the rest.
pub(super) fn split_polarity(value: &str) -> (bool, &str) {
    value.strip_prefix('~').map_or((false, value), |value| (true, value))
}

/// Splits a value into words, and adds a note about a syntax error.
pub(super) fn split_words(value: &str, how: Split, line: &Assignment, notes: &mut Vec<FileNote>) -> Vec<String> {
    let Words { words, complete } = split(value, how, MOST_WORDS);
    if !complete {
        notes.push(FileNote::at(
            &line.origin,
            format!("syntax error, the rest of {} is ignored", escape_excerpt(value)),
        ));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::unit_file::UnitFile;
    use std::path::Path;

    fn lines(values: &[&str]) -> Vec<Assignment> {
        let text = format!("[S]\nK={}\n", values.join("\nK="));
        UnitFile::parse(Path::new("x"), text.as_bytes()).assignments
    }

    fn namespaces(values: &[&str]) -> Option<Vec<&'static str>> {
        let (mut namespaces, mut notes) = (None, Vec::new());
        for line in lines(values) {
            Namespaces::apply(&mut namespaces, &line, &mut notes);
        }
        namespaces.map(|n| n.retained)
    }

    #[test]
    fn namespaces_parse_as_switch_or_list() {
        assert_eq!(namespaces(&["yes"]), Some(vec![]));
        assert_eq!(namespaces(&["no"]).map(|n| n.len()), Some(8));
        assert_eq!(namespaces(&["net mnt"]), Some(vec!["mnt", "net"]));
        assert_eq!(namespaces(&["net", "mnt"]), Some(vec!["mnt", "net"]));
        assert_eq!(namespaces(&["net mnt", "~net"]), Some(vec!["mnt"]));
        assert_eq!(namespaces(&["~user"]).map(|n| n.contains(&"user")), Some(false));
        assert_eq!(namespaces(&["~user"]).map(|n| n.len()), Some(7));
        assert_eq!(namespaces(&["net", "mnt bogus"]), Some(vec!["net"]));
        assert_eq!(namespaces(&["yes", ""]), None);
    }

    #[test]
    fn first_architecture_line_in_merge_order_causes_refusal() {
        let mut architectures = Architectures::default();
        // A drop-in in /etc comes after the fragment in /usr, though its path is the smaller one.
        for (path, value) in [("/usr/x.service", "native"), ("/etc/x.service.d/a.conf", "x86 native")] {
            let file = UnitFile::parse(Path::new(path), format!("[S]\nK={value}\n").as_bytes());
            architectures.apply(&file.assignments[0], &mut Vec::new());
        }
        assert_eq!(architectures.origin().map(ToString::to_string).as_deref(), Some("/usr/x.service:2"));
        architectures.apply(&lines(&[""])[0], &mut Vec::new());
        assert_eq!(architectures, Architectures::default());
    }

    #[test]
    fn booleans_parse_as_in_systemd() {
        for (text, value) in [("yes", Some(true)), ("ON", Some(true)), ("f", Some(false)), ("", None), ("2", None)] {
            assert_eq!(parse_boolean(text), value, "{text}");
        }
    }
}
