//! What the lines of a filter mean on another machine: names that are unknown there, and calls that go by other names.

use super::relatives;
use crate::policy::{Directive, Policy, Verdict};
use crate::syscalls::introduced;
use crate::syscalls::{Abi, Groups};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

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

/// Returns the calls that the unit's lines name, or those of one file, and an architecture does not have. `policy` is the
/// policy there.
pub(crate) fn find_missing_calls(policy: &Policy, abi: Abi, file: Option<&Path>) -> Vec<MissingCall> {
    let mut found = BTreeMap::new();
    for (word, is_denying) in list_words(policy, file) {
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

/// Returns the names of the unit's lines, or of those of one file, that a version of systemd may not know: it ignores them.
pub(crate) fn find_unknown_names(policy: &Policy, version: u32, file: Option<&Path>) -> Vec<String> {
    let words = list_words(policy, file).into_keys();
    words.filter(|word| introduced::may_be_unknown(word, version)).collect()
}

/// Returns the line that permits calls on another machine in addition to the unit's lines; `None` if it would not permit
/// all of them. `policy` is the policy there.
pub(crate) fn find_permitting_line(
    policy: &Policy,
    abi: Abi,
    calls: &BTreeSet<&str>,
    groups: &Groups,
) -> Option<String> {
    let words: Vec<&str> = calls.iter().copied().collect();
    let line = format!("SystemCallFilter={}", words.join(" "));
    let file = Path::new("zzzz-permitting.conf");
    let policy = policy.with_dropin(file, format!("[Service]\n{line}\n").as_bytes(), &groups.clone().with_native(abi));
    let is_permitted = |call: &&str| !matches!(policy.verdict(abi, call), Verdict::Denied { .. });
    (!words.is_empty() && words.iter().all(is_permitted)).then_some(line)
}

/// Returns the policy as it would be on a machine with another native architecture.
pub(crate) fn move_to(policy: &Policy, abi: Abi, groups: &Groups) -> Policy {
    policy.with_dropin(std::path::Path::new("zzzz-elsewhere.conf"), b"", &groups.clone().with_native(abi))
}

/// Returns the words of the unit's filter lines that are in force, or of those of one file, and whether their line denies.
fn list_words(policy: &Policy, file: Option<&Path>) -> BTreeMap<String, bool> {
    let lines = policy.settings.lines_in_force(Directive::SystemCallFilter.key()).into_iter();
    let lines = lines.filter(|line| file.is_none_or(|file| *line.origin.path == *file));
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
        let missing = find_missing_calls(&move_to(&policy, abi, &groups), abi, None);
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
        assert_eq!(missing("SystemCallFilter=open\nSystemCallFilter=\nSystemCallFilter=read", Abi::Aarch64), [""; 0]);
        assert_eq!(missing("SystemCallFilter=~unlink", Abi::Aarch64), [r#"unlink ["unlinkat"] []"#]);
        let riscv32 = missing("SystemCallFilter=clock_nanosleep ppoll", Abi::Riscv32);
        assert_eq!(riscv32.len(), 2, "{riscv32:?}");
        assert!(riscv32[1].ends_with(r#"["ppoll_time64"]"#), "{riscv32:?}");
    }

    #[test]
    fn lines_of_one_file_are_judged_under_the_whole_policy() {
        let (policy, groups) = policy("SystemCallFilter=read poll ppoll");
        let remedy = Path::new("/etc/systemd/system/x.service.d/zz-harden-why.conf");
        let policy = policy.with_dropin(remedy, b"[Service]\nSystemCallFilter=rmdir arch_prctl mseal\n", &groups);
        let there = move_to(&policy, Abi::Aarch64, &groups);
        let missing = find_missing_calls(&there, Abi::Aarch64, Some(remedy));
        let describe = |one: &MissingCall| format!("{} {:?} {:?}", one.call, one.instead, one.denied);
        assert_eq!(
            missing.iter().map(describe).collect::<Vec<_>>(),
            ["arch_prctl [] []", r#"rmdir ["unlinkat"] ["unlinkat"]"#]
        );
        assert_eq!(find_unknown_names(&policy, 257, Some(remedy)), ["mseal"]);
        assert_eq!(find_unknown_names(&policy, 257, Some(Path::new("/etc/other.conf"))), [""; 0]);
    }

    #[test]
    fn permitting_line_is_tried_on_the_other_machine() {
        let line = |lines: &str, calls: [&'static str; 2]| {
            let (policy, groups) = policy(lines);
            let there = move_to(&policy, Abi::Aarch64, &groups);
            find_permitting_line(&there, Abi::Aarch64, &BTreeSet::from(calls), &groups)
        };
        let both = Some("SystemCallFilter=ppoll unlinkat".to_owned());
        assert_eq!(line("SystemCallFilter=read", ["ppoll", "unlinkat"]), both);
        assert_eq!(line("SystemCallFilter=~ppoll unlinkat", ["ppoll", "unlinkat"]), both);
        let modules = "SystemCallFilter=read\nProtectKernelModules=yes";
        assert_eq!(line(modules, ["ppoll", "init_module"]), None, "another line denies it as well");
    }

    #[test]
    fn names_of_newer_versions_may_be_unknown_to_older_ones() {
        let (policy, _) = policy("SystemCallFilter=@system-service @sandbox\nSystemCallFilter=~mseal:EPERM openat");
        assert_eq!(find_unknown_names(&policy, 257, None), ["@sandbox", "mseal"]);
        assert_eq!(find_unknown_names(&policy, 262, None), [""; 0]);
    }
}
