//! How lines of `SystemCallFilter=` add to and remove from a list.

use super::*;
use crate::policy::unit_file::UnitFile;
use crate::syscalls::Abi;
use crate::syscalls::groups::GroupSource;
use proptest::prelude::*;
use std::path::Path;

const LISTING: &str = "\
@default
    @sandbox
    execve
    exit

@sandbox
    seccomp

@io
    read
    write

@privileged
    mount
    reboot

@known
    @default
    @io
    @privileged
    uname
";

fn groups(version: &str) -> Groups {
    Groups::parse(LISTING, GroupSource::Host(version.into())).unwrap()
}

fn lines(lines: &[&str]) -> Vec<Assignment> {
    let text: String = lines
        .iter()
        .map(|line| match line.strip_prefix("errno ") {
            Some(value) => format!("SystemCallErrorNumber={value}\n"),
            None => format!("SystemCallFilter={line}\n"),
        })
        .collect();
    UnitFile::parse(Path::new("x"), format!("[Service]\n{text}").as_bytes()).assignments
}

fn filter(text: &[&str]) -> Option<SyscallFilter> {
    SyscallFilter::simulate(&lines(text), &groups("252.38"))
}

/// Every known call that does not pass, as `call effect`.
fn denied(text: &[&str]) -> Vec<String> {
    let filter = filter(text).unwrap();
    let groups = groups("252.38");
    let calls = groups.calls("@known").unwrap();
    calls.iter().filter_map(|call| Some(format!("{call} {}", filter.ruling(call).denied?))).collect()
}

#[test]
fn allow_list_adds_default_and_kills_other_calls() {
    assert_eq!(denied(&["@io"]), ["mount kill", "reboot kill", "uname kill"]);
    assert_eq!(denied(&["@io", "errno EPERM"]), ["mount EPERM", "reboot EPERM", "uname EPERM"]);
}

#[test]
fn deny_list_denies_only_listed_calls() {
    assert_eq!(denied(&["~@privileged"]), ["mount kill", "reboot kill"]);
    assert_eq!(
        denied(&["~mount:EACCES reboot:kill read:0", "errno ENOSYS"]),
        ["mount EACCES", "read error 0", "reboot kill"]
    );
}

#[test]
fn line_of_same_polarity_adds_and_of_other_polarity_removes() {
    assert_eq!(denied(&["@io", "mount uname", "~write"]), ["reboot kill", "write kill"]);
    assert_eq!(denied(&["~@privileged", "~uname", "mount"]), ["reboot kill", "uname kill"]);
}

#[test]
fn removed_call_can_be_added_again() {
    assert_eq!(denied(&["@io mount reboot uname", "~write", "write"]), Vec::<String>::new());
    assert_eq!(denied(&["~@privileged", "mount", "~mount"]), ["mount kill", "reboot kill"]);
}

#[test]
fn default_group_can_be_removed() {
    assert_eq!(denied(&["@known", "~@default"]), ["execve kill", "exit kill", "seccomp kill"]);
}

#[test]
fn default_group_is_added_only_by_the_first_line() {
    assert_eq!(denied(&["@known", "~exit", "uname"]), ["exit kill"]);
}

#[test]
fn negated_errno_word_keeps_call_in_allow_list_with_errno() {
    assert_eq!(denied(&["@known", "~mount:EPERM @io:kill"]), ["mount EPERM", "read kill", "write kill"]);
    assert_eq!(denied(&["@known", "~mount:EPERM", "mount"]), Vec::<String>::new());
    assert_eq!(denied(&["@known", "~mount:EPERM", "~mount"]), ["mount kill"]);
}

#[test]
fn empty_line_clears_list_and_mode() {
    assert_eq!(filter(&["@io", ""]), None);
    assert_eq!(denied(&["@io", "", "~uname"]), ["uname kill"]);
    assert_eq!(
        denied(&["errno EPERM", "@io", "", "~uname"]),
        ["uname EPERM"],
        "an empty SystemCallFilter= keeps the error number"
    );
}

#[test]
fn first_line_sets_mode_even_without_a_known_call() {
    assert_eq!(denied(&["~bogus", "uname"]), Vec::<String>::new());
    assert_eq!(filter(&["~", "uname"]).unwrap().mode(), Mode::Deny);
    assert_eq!(filter(&["bogus", "~uname"]).unwrap().mode(), Mode::Allow);
}

#[test]
fn lone_positive_line_denies_every_other_call() {
    assert_eq!(denied(&["uname"]), ["mount kill", "read kill", "reboot kill", "write kill"]);
}

#[test]
fn every_ignored_word_leaves_a_note() {
    let filter = filter(&["@io bogus @bogus mount:EPERM reboot:EFOO :1 ~uname"]).unwrap();
    let notes: Vec<String> = filter.notes().iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "x:2: bogus is no call this systemd knows, ignored",
            "x:2: @bogus is no group this systemd knows, ignored",
            "x:2: mount:EPERM is ignored: only lines that begin with ~ take an error number",
            "x:2: reboot:EFOO is not call:errno, ignored",
            "x:2: :1 is not call:errno, ignored",
            "x:2: ~uname is no call this systemd knows, ignored",
        ]
    );
    assert!(!filter.permits("mount"));
}

#[test]
fn last_of_repeated_words_counts() {
    assert_eq!(denied(&["~@io:1 read:2 @io:1"]), ["read EPERM", "write EPERM"]);
}

#[test]
fn huge_file_leaves_bounded_notes() {
    let text = vec!["~read:EPERM @io:1 @io:2"; 50_000];
    let filter = filter(&text).unwrap();
    assert_eq!(filter.notes().len(), 1);
    let text = vec!["bogus"; 50_000];
    assert!(self::filter(&text).unwrap().notes().len() <= 200);
}

#[test]
fn ruling_names_the_deciding_word() {
    let filter = filter(&["@io @privileged", "~@privileged mount:EPERM"]).unwrap();
    let why = |call: &str| {
        let ruling = filter.ruling(call);
        (ruling.reason, format!("{} {}", ruling.word.origin.as_ref().unwrap(), ruling.word.text))
    };
    assert_eq!(why("read"), (Reason::Listed, "x:2 @io".into()));
    assert_eq!(why("exit"), (Reason::Listed, "x:2 @default".into()));
    assert_eq!(why("reboot"), (Reason::Removed, "x:3 ~@privileged".into()));
    assert_eq!(why("mount"), (Reason::Listed, "x:3 ~mount".into()));
    assert_eq!(why("uname"), (Reason::NotListed, "x:2 @io @privileged".into()));
    assert!(filter.ruling("exit").word.implied);
}

#[test]
fn allow_list_answers_unknown_call_with_enosys_since_255() {
    let ruling = |version: &str, line: &str| {
        SyscallFilter::simulate(&lines(&[line]), &groups(version)).unwrap().ruling("mseal").denied
    };
    assert_eq!(ruling("254.1", "@io"), Some(Effect::Kill));
    assert_eq!(ruling("255", "@io"), Some(Effect::Errno(libc::ENOSYS)));
    assert_eq!(ruling("257.13-1~deb13u1", "@io"), Some(Effect::Errno(libc::ENOSYS)));
    assert_eq!(ruling("257", "~@io"), None);
}

#[test]
fn write_passes_every_filter_since_systemd_256_2() {
    let ruling = |version: &str, text: &[&str]| {
        SyscallFilter::simulate(&lines(text), &groups(version)).unwrap().ruling("write").denied
    };
    for text in [&["read"][..], &["@io", "~write"], &["~@io"], &["~write"], &["errno EPERM", "~write"]] {
        for version in ["255.13", "256~rc3-1", "256-1.fc41", "256.1-1"] {
            assert!(ruling(version, text).is_some(), "{version} {text:?}");
        }
        for version in ["256", "256.2", "256.12-1", "257~rc1", "257.13-1~deb13u1", "262"] {
            assert_eq!(ruling(version, text), None, "{version} {text:?}");
        }
    }
    let filter = SyscallFilter::simulate(&lines(&["~@io"]), &groups("257")).unwrap();
    assert_eq!(filter.ruling("read").denied, Some(Effect::Kill), "only write");
    assert!(filter.with_lines(&lines(&["~write"]), &groups("257")).unwrap().permits("write"));
    // systemd finds the entry in its list, and does not start the unit.
    assert_eq!(ruling("257", &["@io", "~write:EPERM"]), Some(Effect::Errno(libc::EPERM)));
    let held = SyscallFilter::from_manager(true, &["read".to_owned()], Effect::KILL_ON_BUS, &groups("257")).unwrap();
    assert!(held.permits("write") && !held.permits("mount"));
    let files = SyscallFilter::simulate(&lines(&["@default read"]), &groups("257")).unwrap();
    let held = ["execve", "exit", "read", "seccomp"].map(ToOwned::to_owned);
    let held = SyscallFilter::from_manager(true, &held, Effect::KILL_ON_BUS, &groups("257")).unwrap();
    assert!(files.reconciled(&held).unwrap().permits("write"), "the manager does not report it");
}

#[test]
fn call_outside_known_gets_enosys_unless_listed() {
    let listing = "@default\n    exit\n@obsolete\n    _sysctl\n@known\n    @obsolete\n    read\n    stime\n    exit\n";
    let groups = Groups::parse(listing, GroupSource::Host("257.13".into())).unwrap();
    let ruling = |line: &str, call: &str| {
        let ruling = SyscallFilter::simulate(&lines(&[line]), &groups).unwrap().ruling(call);
        (ruling.denied, ruling.reason)
    };
    let enosys = Some(Effect::Errno(libc::ENOSYS));
    assert_eq!(ruling("exit", "read"), (Some(Effect::Kill), Reason::NotListed));
    assert_eq!(ruling("exit", "_sysctl"), (enosys, Reason::NotListed));
    assert_eq!(ruling("exit _sysctl", "_sysctl"), (None, Reason::Listed));
    assert_eq!(ruling("exit", "brandnew"), (enosys, Reason::Unknown));
    if Abi::native().call_number("stime").is_none() {
        assert_eq!(ruling("exit", "stime"), (enosys, Reason::NotListed), "a call of other ABIs");
    }
}

#[test]
fn filter_from_manager_rules_like_filter_from_files() {
    let from_manager = |allow: bool, entries: &[&str], errno: i32| {
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        SyscallFilter::from_manager(allow, &entries, errno, &groups("252"))
    };
    assert_eq!(from_manager(false, &[], Effect::KILL_ON_BUS), None);
    let filter = from_manager(false, &["mount", "reboot:EPERM", "uname:kill"], libc::ENOSYS).unwrap();
    assert_eq!(filter.ruling("mount").denied, Some(Effect::Errno(libc::ENOSYS)));
    assert_eq!(filter.ruling("reboot").denied, Some(Effect::Errno(libc::EPERM)));
    assert_eq!(filter.ruling("uname").denied, Some(Effect::Kill));
    assert!(filter.permits("read"));
    let filter = from_manager(true, &["read", "brandnew"], Effect::KILL_ON_BUS).unwrap();
    assert_eq!(filter.ruling("mount").denied, Some(Effect::Kill));
    assert!(filter.permits("brandnew"));
    assert_eq!(filter.notes().len(), 1);
    assert!(filter.with_lines(&lines(&["mount"]), &groups("252")).unwrap().permits("mount"));
}

#[test]
fn reconciled_filter_lacks_calls_unknown_to_libseccomp() {
    let from_manager = |entries: &[&str]| {
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        SyscallFilter::from_manager(true, &entries, Effect::KILL_ON_BUS, &groups("252")).unwrap()
    };
    let files = filter(&["@io", "~exit:EPERM"]).unwrap();
    let ruling = files.reconciled(&from_manager(&["execve", "read", "seccomp"])).unwrap().ruling("write");
    assert_eq!((ruling.denied, ruling.reason), (Some(Effect::Kill), Reason::Unresolved));
    assert_eq!(&*ruling.word.text, "@io");
    let remedied = files
        .reconciled(&from_manager(&["execve", "read", "seccomp"]))
        .unwrap()
        .with_lines(&lines(&["write"]), &groups("252"));
    assert!(!remedied.unwrap().permits("write"), "no line can allow it");
    assert_eq!(files.reconciled(&from_manager(&["execve", "read", "mount"])), None, "not the same files");
}

const WORDS: [&str; 14] = [
    "read",
    "write",
    "mount",
    "reboot",
    "uname",
    "exit",
    "@io",
    "@privileged",
    "@default",
    "@known",
    "bogus",
    "mount:EPERM",
    "@io:kill",
    "uname:0",
];

fn any_line() -> impl Strategy<Value = String> {
    let words = prop::collection::vec(prop::sample::select(&WORDS[..]), 0..4);
    (any::<bool>(), words).prop_map(|(negated, words)| format!("{}{}", if negated { "~" } else { "" }, words.join(" ")))
}

proptest! {
    #[test]
    fn any_value_is_simulated(values in prop::collection::vec(any::<String>(), 0..4)) {
        let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
        let _ = filter(&values);
    }

    #[test]
    fn last_line_that_allows_a_call_permits_the_call(
        values in prop::collection::vec(any_line(), 1..8),
        call in prop::sample::select(&["read", "mount", "uname", "exit"][..]),
    ) {
        let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
        let groups = groups("257");
        if let Some(before) = SyscallFilter::simulate(&lines(&values), &groups) {
            let after = before.with_lines(&lines(&[call]), &groups).unwrap();
            prop_assert!(after.permits(call));
            prop_assert_eq!(after.mode(), before.mode());
            for other in groups.calls("@known").unwrap().iter().filter(|other| other.as_ref() != call) {
                prop_assert_eq!(after.permits(other), before.permits(other), "{}", other);
            }
            let removed = format!("~{call}");
            prop_assert!(!after.with_lines(&lines(&[&removed]), &groups).unwrap().permits(call));
        }
    }

    #[test]
    fn simulation_in_steps_equals_simulation_at_once(values in prop::collection::vec(any_line(), 2..8)) {
        let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
        let (first, second) = values.split_at(values.len() / 2);
        if let Some(before) = filter(first) {
            let after = before.with_lines(&lines(second), &groups("252.38"));
            let at_once = filter(&values);
            prop_assert_eq!(after.as_ref().map(SyscallFilter::mode), at_once.as_ref().map(SyscallFilter::mode));
            for call in groups("252").calls("@known").unwrap() {
                let ruling = |filter: &Option<SyscallFilter>| filter.as_ref().and_then(|f| f.ruling(call).denied);
                prop_assert_eq!(ruling(&after), ruling(&at_once));
            }
        }
    }
}
