//! The calls that a unit's owner excludes: those that a `~` entry of `SystemCallFilter=` names, directly or by a group.
//!
//! An exclusion counts even if the allow-list never held the call. systemd ignores such a word, but it states what the
//! owner does not want.

use super::call_list::MOST_LISTED;
use super::directive::Directive;
use super::syscall_filter::Reason;
use super::unit_policy::Policy;
use super::words::{Split, split};
use crate::syscalls::{CallNames, Groups};

impl Policy {
    /// Returns the calls that the unit's lines exclude. A later word without `~` takes an exclusion back, and an empty
    /// line takes all of them back.
    #[must_use]
    pub fn excluded_calls(&self, groups: &Groups) -> CallNames {
        let mut excluded = CallNames::new();
        let mut left = MOST_LISTED;
        for line in self.settings.lines(Directive::SystemCallFilter) {
            if line.value.is_empty() {
                excluded.clear();
                continue;
            }
            let (negated, value) = line.value.strip_prefix('~').map_or((false, &*line.value), |value| (true, value));
            let words = split(value, Split::Plain, left).words;
            left = left.saturating_sub(words.len().max(1));
            for word in words {
                let name = word.split(':').next().unwrap_or_default();
                let calls = groups.calls(name).into_iter().flatten().map(AsRef::as_ref);
                let named = Some(name).filter(|name| groups.is_known(name)).into_iter().chain(calls);
                if negated {
                    excluded.extend(named.map(Into::into));
                } else {
                    named.for_each(|call| {
                        excluded.remove(call);
                    });
                }
            }
        }
        excluded
    }

    /// Whether a word of the filter in force names the call as denied. If the unit's files are not known, only this
    /// tells what its owner excludes.
    #[must_use]
    pub(crate) fn filter_names_as_denied(&self, call: &str) -> bool {
        self.filter.as_ref().is_some_and(|filter| {
            let ruling = filter.ruling(call);
            ruling.denied.is_some() && matches!(ruling.reason, Reason::Listed | Reason::Removed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Settings, UnitFile};
    use crate::syscalls::Abi;
    use std::path::Path;

    fn excluded(lines: &str) -> Vec<String> {
        let groups = Groups::embedded().with_native(Abi::X86_64);
        let file = UnitFile::parse(Path::new("x.service"), format!("[Service]\n{lines}\n").as_bytes());
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
        let policy = Policy::new(settings, &groups);
        let names = ["socket", "chown", "setns", "mount"];
        let calls = policy.excluded_calls(&groups);
        names.into_iter().filter(|name| calls.contains(*name)).map(Into::into).collect()
    }

    #[test]
    fn tilde_entry_excludes_call_that_was_never_in_allow_list() {
        assert_eq!(
            excluded("SystemCallFilter=@basic-io\nSystemCallFilter=~@network-io mount:EPERM"),
            ["socket", "mount"]
        );
        assert_eq!(excluded("SystemCallFilter=~@privileged"), ["chown"]);
        assert_eq!(excluded("SystemCallFilter=@basic-io"), [""; 0]);
    }

    #[test]
    fn later_line_takes_exclusion_back() {
        assert_eq!(
            excluded("SystemCallFilter=@basic-io\nSystemCallFilter=~socket setns\nSystemCallFilter=socket"),
            ["setns"]
        );
        assert_eq!(excluded("SystemCallFilter=~socket\nSystemCallFilter="), [""; 0]);
    }
}
