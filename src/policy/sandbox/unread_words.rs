//! Words whose specifiers have no known value here, such as the machine's id: what they say about a path is unknown.

use super::device_entry::parse_device_entry;
use super::mount_list::is_at_or_below;
use super::sandbox_settings::{SandboxSettings, SandboxWord, UnreadWord};
use super::specifiers::SpecifierNames;
use super::withheld::withheld;
use super::{Need, cause_of_word};
use crate::policy::directive::Directive;
use crate::policy::unit_policy::Policy;
use crate::policy::verdict::DirectiveCause;

/// Directives that hide a path, and that show one.
const HIDING: [Directive; 4] =
    [Directive::InaccessiblePaths, Directive::TemporaryFileSystem, Directive::BindPaths, Directive::BindReadOnlyPaths];
const SHOWING: [Directive; 2] = [Directive::BindPaths, Directive::BindReadOnlyPaths];
/// Directives that make a path read-only, and that keep one writable.
const PROTECTING: [Directive; 4] = [
    Directive::ReadOnlyPaths,
    Directive::InaccessiblePaths,
    Directive::TemporaryFileSystem,
    Directive::BindReadOnlyPaths,
];
const WRITABLE: [Directive; 6] = [
    Directive::ReadWritePaths,
    Directive::BindPaths,
    Directive::RuntimeDirectory,
    Directive::StateDirectory,
    Directive::CacheDirectory,
    Directive::LogsDirectory,
];
/// Directives that forbid to execute a path, and that permit it.
const FORBIDDING: [Directive; 2] = [Directive::NoExecPaths, Directive::InaccessiblePaths];
const EXECUTABLE: [Directive; 1] = [Directive::ExecPaths];

impl Policy {
    /// Returns the words that may turn what [`Policy::withholding`] says about a need into its opposite, since the value of a
    /// specifier in them is unknown.
    #[must_use]
    pub fn undecided(&self, need: Need<'_>) -> Vec<DirectiveCause> {
        let sandbox = &self.sandbox().settings;
        let is_withheld = !self.withholding(need, 0).is_empty();
        let words: Vec<SandboxWord> = match (need, is_withheld) {
            (Need::See(path), false) => find_words(sandbox, &HIDING, path),
            (Need::See(path), true) => find_words(sandbox, &SHOWING, path),
            (Need::Write(path), false) => find_words(sandbox, &PROTECTING, path),
            (Need::Write(path), true) => find_words(sandbox, &WRITABLE, path),
            (Need::Execute(path), false) => find_words(sandbox, &FORBIDDING, path),
            (Need::Execute(path), true) => find_words(sandbox, &EXECUTABLE, path),
            (Need::Device(_), true) => {
                let names = SpecifierNames::new(&self.settings);
                let entries = sandbox.entries(Directive::DeviceAllow).iter();
                let is_unknown = |entry: &&SandboxWord| {
                    parse_device_entry(&entry.text, &names).is_some_and(|parsed| parsed.device.is_none())
                };
                entries.filter(is_unknown).cloned().collect()
            }
            _ => Vec::new(),
        };
        let why = || withheld("may decide on ", ": the value of a specifier in it is unknown");
        words.into_iter().map(|word| cause_of_word(word, why(), None)).collect()
    }
}

/// Returns the unread words of some directives that may name a path, or a directory above it.
fn find_words(sandbox: &SandboxSettings, directives: &[Directive], path: &[u8]) -> Vec<SandboxWord> {
    let may_name = |unread: &&UnreadWord| {
        let start = unread.start.as_bytes();
        let is_above = if unread.is_complete { is_at_or_below(path, start) } else { path.starts_with(start) };
        directives.contains(&unread.word.directive) && is_above
    };
    sandbox.unread.iter().filter(may_name).map(|unread| unread.word.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::sandbox::device_rules::DeviceUse;
    use crate::policy::{Settings, UnitFile};
    use crate::syscalls::Groups;
    use std::path::Path;

    fn undecided(lines: &str, need: Need<'_>) -> Vec<String> {
        let file = UnitFile::parse(Path::new("x.service"), format!("[Service]\n{lines}\n").as_bytes());
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
        let causes = Policy::new(settings, &Groups::embedded()).undecided(need);
        causes.iter().map(|cause| cause.directive.key().to_owned()).collect()
    }

    #[test]
    fn word_with_an_unknown_specifier_leaves_paths_below_its_known_start_undecided() {
        let see = |lines: &str| undecided(lines, Need::See(b"/srv/x/f"));
        for line in ["InaccessiblePaths=-/srv/%m", "TemporaryFileSystem=/%b:ro", "BindPaths=/%m:/srv/x"] {
            assert_eq!(see(line), [line.split('=').next().unwrap()]);
        }
        for line in
            ["InaccessiblePaths=/opt/%m", "InaccessiblePaths=/srv/y%m", "ReadOnlyPaths=/srv/%m", "BindPaths=/%m:/y"]
        {
            assert_eq!(see(line), [""; 0], "{line}");
        }
        for line in ["InaccessiblePaths=/srv//./%m", "InaccessiblePaths=/srv/%m/x", "BindPaths=/%m:/srv"] {
            assert_eq!(see(line).len(), 1, "{line}");
        }
        for line in ["InaccessiblePaths=/srv/%k", "BindPaths=/%m:/sr", "BindPaths=/%m:", "BindPaths=%m:/srv"] {
            assert_eq!(see(line), [""; 0], "{line}: systemd ignores it, or it names another path");
        }
        assert_eq!(see("InaccessiblePaths=/srv/%m\nInaccessiblePaths="), [""; 0], "the list starts again");
        assert_eq!(see("InaccessiblePaths=/srv/%n /x/../%m"), [""; 0], "systemd ignores the second word");
    }

    #[test]
    fn word_that_begins_with_an_unknown_directory_may_name_any_path() {
        let of_user = |lines: &str, need: Need<'_>| {
            let path = Path::new("/etc/systemd/user/x.service");
            let file = UnitFile::parse(path, format!("[Service]\n{lines}\n").as_bytes());
            let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
            Policy::new(settings, &Groups::embedded()).undecided(need).len()
        };
        let see = |lines: &str| of_user(lines, Need::See(b"/home/a/.ssh/id"));
        assert_eq!(see("InaccessiblePaths=%h/.ssh"), 1);
        assert_eq!(see("InaccessiblePaths=-%h/.ssh"), 1);
        assert_eq!(see("InaccessiblePaths=%u/.ssh"), 0, "a name is no path");
        let write = |lines: &str| of_user(lines, Need::Write(b"/home/a/data/f"));
        assert_eq!(write("ProtectHome=read-only\nReadWritePaths=%h/data"), 1);
        assert_eq!(write("ReadWritePaths=%h/data"), 0);
    }

    #[test]
    fn word_that_would_grant_leaves_only_what_is_withheld_undecided() {
        let write = |lines: &str| undecided(lines, Need::Write(b"/var/lib/x/f"));
        assert_eq!(write("ProtectSystem=strict\nReadWritePaths=/var/lib/%m"), ["ReadWritePaths"]);
        assert_eq!(write("ProtectSystem=strict\nStateDirectory=%m"), ["StateDirectory"]);
        assert_eq!(write("ReadWritePaths=/var/lib/%m"), [""; 0]);
        assert_eq!(write("ReadOnlyPaths=/var/lib/%m"), ["ReadOnlyPaths"]);
        let execute = |lines: &str| undecided(lines, Need::Execute(b"/opt/x"));
        assert_eq!(execute("NoExecPaths=/\nExecPaths=/opt/%m"), ["ExecPaths"]);
        assert_eq!(execute("NoExecPaths=/opt/%m"), ["NoExecPaths"]);
        let open = |lines: &str| {
            undecided(lines, Need::Device(DeviceUse { path: b"/dev/x", is_block: false, major: 240, wanted: "r" }))
        };
        assert_eq!(open("DevicePolicy=closed\nDeviceAllow=/dev/%m r"), ["DeviceAllow"]);
        assert_eq!(open("DeviceAllow=/dev/%m r\nDeviceAllow=/dev/x r"), [""; 0], "another entry allows it");
        assert_eq!(undecided("NoExecPaths=/opt/%m", Need::SetId), [""; 0]);
    }
}
