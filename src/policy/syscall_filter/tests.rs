//! The algebra of `SystemCallFilter=`, line by line.

use super::*;
use crate::policy::unit_file::UnitFile;
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

/// `call effect` of every known call that does not pass.
fn denied(text: &[&str]) -> Vec<String> {
    let filter = filter(text).unwrap();
    let groups = groups("252.38");
    let calls = groups.calls("@known").unwrap();
    calls.iter().filter_map(|call| Some(format!("{call} {}", filter.ruling(call).denied?))).collect()
}

#[test]
fn an_allow_list_gains_default_and_kills_the_rest() {
    assert_eq!(denied(&["@io"]), ["mount kill", "reboot kill", "uname kill"]);
    assert_eq!(denied(&["@io", "errno EPERM"]), ["mount EPERM", "reboot EPERM", "uname EPERM"]);
}

#[test]
fn a_deny_list_denies_what_it_lists() {
    assert_eq!(denied(&["~@privileged"]), ["mount kill", "reboot kill"]);
    assert_eq!(
        denied(&["~mount:EACCES reboot:kill read:0", "errno ENOSYS"]),
        ["mount EACCES", "read error 0", "reboot kill"]
    );
}

#[test]
fn lines_of_the_same_polarity_add_and_of_the_other_take_away() {
    assert_eq!(denied(&["@io", "mount uname", "~write"]), ["reboot kill", "write kill"]);
    assert_eq!(denied(&["~@privileged", "~uname", "mount"]), ["reboot kill", "uname kill"]);
}

#[test]
fn what_was_taken_away_can_come_back() {
    assert_eq!(denied(&["@io mount reboot uname", "~write", "write"]), Vec::<String>::new());
    assert_eq!(denied(&["~@privileged", "mount", "~mount"]), ["mount kill", "reboot kill"]);
}

#[test]
fn default_can_really_be_removed() {
    assert_eq!(denied(&["@known", "~@default"]), ["execve kill", "exit kill", "seccomp kill"]);
}

#[test]
fn default_is_added_once_only() {
    assert_eq!(denied(&["@known", "~exit", "uname"]), ["exit kill"]);
}

#[test]
fn an_allow_list_can_keep_a_call_with_an_errno() {
    assert_eq!(denied(&["@known", "~mount:EPERM @io:kill"]), ["mount EPERM", "read kill", "write kill"]);
    assert_eq!(denied(&["@known", "~mount:EPERM", "mount"]), Vec::<String>::new());
    assert_eq!(denied(&["@known", "~mount:EPERM", "~mount"]), ["mount kill"]);
}

#[test]
fn an_empty_line_forgets_list_and_mode() {
    assert_eq!(filter(&["@io", ""]), None);
    assert_eq!(denied(&["@io", "", "~uname"]), ["uname kill"]);
    assert_eq!(denied(&["errno EPERM", "@io", "", "~uname"]), ["uname EPERM"], "the error number stays");
}

#[test]
fn the_first_line_sets_the_mode_even_if_it_lists_nothing_known() {
    assert_eq!(denied(&["~bogus", "uname"]), Vec::<String>::new());
    assert_eq!(filter(&["~", "uname"]).unwrap().mode(), Mode::Deny);
    assert_eq!(filter(&["bogus", "~uname"]).unwrap().mode(), Mode::Allow);
}

#[test]
fn the_trap_of_a_lone_positive_line() {
    assert_eq!(denied(&["uname"]), ["mount kill", "read kill", "reboot kill", "write kill"]);
}

#[test]
fn what_is_ignored_is_noted() {
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
fn of_repeated_words_the_last_counts() {
    assert_eq!(denied(&["~@io:1 read:2 @io:1"]), ["read EPERM", "write EPERM"]);
}

#[test]
fn a_hostile_file_costs_little() {
    let text = vec!["~read:EPERM @io:1 @io:2"; 50_000];
    let filter = filter(&text).unwrap();
    assert_eq!(filter.notes().len(), 1);
    let text = vec!["bogus"; 50_000];
    assert!(self::filter(&text).unwrap().notes().len() <= 200);
}

#[test]
fn a_ruling_names_the_word_that_decided() {
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
fn since_255_an_allow_list_answers_unknown_calls_with_enosys() {
    let ruling = |version: &str, line: &str| {
        SyscallFilter::simulate(&lines(&[line]), &groups(version)).unwrap().ruling("mseal").denied
    };
    assert_eq!(ruling("254.1", "@io"), Some(Effect::Kill));
    assert_eq!(ruling("255", "@io"), Some(Effect::Errno(libc::ENOSYS)));
    assert_eq!(ruling("257.13-1~deb13u1", "@io"), Some(Effect::Errno(libc::ENOSYS)));
    assert_eq!(ruling("257", "~@io"), None);
}

#[test]
fn what_known_does_not_list_itself_gets_enosys_but_can_be_listed() {
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
fn the_managers_own_word_counts_the_same() {
    let told = |allow: bool, entries: &[&str], errno: i32| {
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        SyscallFilter::from_manager(allow, &entries, errno, &groups("252"))
    };
    assert_eq!(told(false, &[], Effect::KILL_ON_BUS), None);
    let filter = told(false, &["mount", "reboot:EPERM", "uname:kill"], libc::ENOSYS).unwrap();
    assert_eq!(filter.ruling("mount").denied, Some(Effect::Errno(libc::ENOSYS)));
    assert_eq!(filter.ruling("reboot").denied, Some(Effect::Errno(libc::EPERM)));
    assert_eq!(filter.ruling("uname").denied, Some(Effect::Kill));
    assert!(filter.permits("read"));
    let filter = told(true, &["read", "brandnew"], Effect::KILL_ON_BUS).unwrap();
    assert_eq!(filter.ruling("mount").denied, Some(Effect::Kill));
    assert!(filter.permits("brandnew"));
    assert_eq!(filter.notes().len(), 1);
    assert!(filter.with(&lines(&["mount"]), &groups("252")).unwrap().permits("mount"));
}

#[test]
fn what_libseccomp_does_not_know_is_not_in_force_though_listed() {
    let told = |entries: &[&str]| {
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        SyscallFilter::from_manager(true, &entries, Effect::KILL_ON_BUS, &groups("252")).unwrap()
    };
    let files = filter(&["@io", "~exit:EPERM"]).unwrap();
    let ruling = files.reconciled(&told(&["execve", "read", "seccomp"])).unwrap().ruling("write");
    assert_eq!((ruling.denied, ruling.reason), (Some(Effect::Kill), Reason::Unresolved));
    assert_eq!(&*ruling.word.text, "@io");
    let remedied =
        files.reconciled(&told(&["execve", "read", "seccomp"])).unwrap().with(&lines(&["write"]), &groups("252"));
    assert!(!remedied.unwrap().permits("write"), "no line can allow it");
    assert_eq!(files.reconciled(&told(&["execve", "read", "mount"])), None, "not the same files");
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
    fn allowing_a_call_last_permits_it(
        values in prop::collection::vec(any_line(), 1..8),
        call in prop::sample::select(&["read", "mount", "uname", "exit"][..]),
    ) {
        let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
        if let Some(before) = filter(&values) {
            let groups = groups("257");
            let after = before.with(&lines(&[call]), &groups).unwrap();
            prop_assert!(after.permits(call));
            prop_assert_eq!(after.mode(), before.mode());
            for other in groups.calls("@known").unwrap().iter().filter(|other| other.as_ref() != call) {
                prop_assert_eq!(after.permits(other), before.permits(other), "{}", other);
            }
            let removed = format!("~{call}");
            prop_assert!(!after.with(&lines(&[&removed]), &groups).unwrap().permits(call));
        }
    }

    #[test]
    fn simulating_at_once_or_in_steps_is_the_same(values in prop::collection::vec(any_line(), 2..8)) {
        let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
        let (first, second) = values.split_at(values.len() / 2);
        if let Some(before) = filter(first) {
            let after = before.with(&lines(second), &groups("252.38"));
            let at_once = filter(&values);
            prop_assert_eq!(after.as_ref().map(SyscallFilter::mode), at_once.as_ref().map(SyscallFilter::mode));
            for call in groups("252").calls("@known").unwrap() {
                let ruling = |filter: &Option<SyscallFilter>| filter.as_ref().and_then(|f| f.ruling(call).denied);
                prop_assert_eq!(ruling(&after), ruling(&at_once));
            }
        }
    }
}
