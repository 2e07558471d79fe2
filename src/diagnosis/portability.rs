//! What the lines of a filter mean on another machine: names that are unknown there, and calls that go by other names.

use super::relatives;
use crate::policy::{Directive, Policy, Verdict};
use crate::syscalls::introduced;
use crate::syscalls::{Abi, Groups};
use std::collections::{BTreeMap, BTreeSet};

/// A call that the lines of a filter name and an architecture does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MissingCall {
    /// The call that the lines name.
    pub call: String,
    /// The calls that programs make in its place there.
    pub instead: Vec<&'static str>,
    /// Those of them that the policy denies there, although it permits the named call where that exists.
    pub denied: Vec<&'static str>,
}

/// Returns the calls that the unit's lines name and an architecture does not have. `policy` is the policy there.
pub(crate) fn find_missing_calls(policy: &Policy, abi: Abi) -> Vec<MissingCall> {
    let mut found = BTreeMap::new();
    for (word, is_denying) in list_words(policy) {
        let is_elsewhere = || Abi::all().any(|other| other.call_number(&word).is_some());
        if word.starts_with('@') || abi.call_number(&word).is_some() || !is_elsewhere() {
            continue;
        }
        let others: BTreeSet<&'static str> =
            relatives::find_equivalents(&word).filter(|call| abi.call_number(call).is_some()).collect();
        let is_denied = |call: &&'static str| matches!(policy.verdict(abi, call), Verdict::Denied { .. });
        // An owner who denies a call means the other form as well.
        let denied = others.iter().copied().filter(|call| !is_denying && is_denied(call)).collect();
        found.insert(word.clone(), MissingCall { call: word, instead: others.into_iter().collect(), denied });
    }
    found.into_values().collect()
}

/// Returns the names of the unit's lines that a version of systemd may not know: it ignores them.
pub(crate) fn find_unknown_names(policy: &Policy, version: u32) -> Vec<String> {
    let words = list_words(policy).into_keys();
    words.filter(|word| introduced::may_be_unknown(word, version)).collect()
}

/// Returns the policy as it would be on a machine with another native architecture.
pub(crate) fn move_to(policy: &Policy, abi: Abi, groups: &Groups) -> Policy {
    policy.with_dropin(std::path::Path::new("zzzz-elsewhere.conf"), b"", &groups.clone().with_native(abi))
}

/// Returns the words of the unit's filter lines, and whether their line denies.
fn list_words(policy: &Policy) -> BTreeMap<String, bool> {
    let is_filter = |key: &str| Directive::from_key(key) == Some(Directive::SystemCallFilter);
    let lines = policy.settings.assignments().filter(|line| is_filter(&line.key));
    let words = lines.flat_map(|line| {
        let is_denying = line.value.trim_start().starts_with('~');
        let words = line.value.trim_start().trim_start_matches('~').split_whitespace();
        words.map(move |word| (word.split(':').next().unwrap_or_default().to_owned(), is_denying))
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Settings, UnitFile};
    use std::path::Path;

    fn policy(lines: &str) -> (Policy, Groups) {
        let file = UnitFile::parse(Path::new("x.service"), format!("[Service]\n{lines}\n").as_bytes());
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
        let groups = Groups::embedded().with_native(Abi::X86_64);
        (Policy::new(settings, &groups), groups)
    }

    fn missing(lines: &str, abi: Abi) -> Vec<String> {
        let (policy, groups) = policy(lines);
        let missing = find_missing_calls(&move_to(&policy, abi, &groups), abi);
        missing.iter().map(|one| format!("{} {:?} {:?}", one.call, one.instead, one.denied)).collect()
    }

    #[test]
    fn calls_of_older_abis_go_by_other_names_on_newer_ones() {
        let aarch64 = missing("SystemCallFilter=read open poll mmap\nSystemCallFilter=pipe2 pipe", Abi::Aarch64);
        assert_eq!(
            aarch64,
            [
                r#"open ["openat", "openat2"] ["openat", "openat2"]"#,
                r#"pipe ["pipe2"] []"#,
                r#"poll ["ppoll"] ["ppoll"]"#
            ]
        );
        assert_eq!(missing("SystemCallFilter=open", Abi::X86_64), [""; 0]);
        assert_eq!(missing("SystemCallFilter=~unlink", Abi::Aarch64), [r#"unlink ["unlinkat"] []"#]);
        let riscv32 = missing("SystemCallFilter=clock_nanosleep ppoll", Abi::Riscv32);
        assert_eq!(riscv32.len(), 2, "{riscv32:?}");
        assert!(riscv32[1].ends_with(r#"["ppoll_time64"]"#), "{riscv32:?}");
    }

    #[test]
    fn names_of_newer_versions_may_be_unknown_to_older_ones() {
        let (policy, _) = policy("SystemCallFilter=@system-service @sandbox\nSystemCallFilter=~mseal:EPERM openat");
        assert_eq!(find_unknown_names(&policy, 257), ["@sandbox", "mseal"]);
        assert_eq!(find_unknown_names(&policy, 262), [""; 0]);
    }
}
