//! Tests of the lines that lift hardening.

use super::*;
use crate::policy::unit_file::UnitFile;
use crate::policy::{Capability, Need, Policy, Verdict};
use crate::syscalls::{Abi, Groups};
use proptest::prelude::*;
use std::path::Path;
use std::sync::LazyLock;

static GROUPS: LazyLock<Groups> = LazyLock::new(|| Groups::embedded().with_native(Abi::X86_64));

const DROP_IN: &str = "/run/systemd/system/x.service.d/zzzz-harden-why-rehearsal.conf";

fn policy(lines: &str) -> Policy {
    let file = UnitFile::parse(Path::new("/x.service"), format!("[Service]\n{lines}").as_bytes());
    Policy::new(Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new()), &GROUPS)
}

/// Returns the values of the candidates, and the lines that lift those with these numbers.
fn lift(lines: &str, lifted: &[usize]) -> (Vec<String>, String) {
    let hardening = Hardening::new(&policy(lines).settings);
    let values = |line: &HardeningLine| {
        [&line.first].into_iter().chain(&line.more).map(|line| &*line.value).collect::<Vec<_>>().join("|")
    };
    let named = hardening.lines().iter().map(values).collect();
    (named, hardening.lift(&lifted.iter().copied().collect()))
}

#[test]
fn last_line_of_a_value_is_the_candidate() {
    let (found, text) = lift("ProtectSystem=full\nProtectSystem=strict\nProtectClock=yes\nProtectHome=no\n", &[0, 1]);
    assert_eq!(found, ["strict", "yes"]);
    assert_eq!(text, "ProtectSystem=no\nProtectClock=no\n");
    assert_eq!(lift("ProtectProc=invisible\nProcSubset=pid\n", &[0, 1]).1, "ProtectProc=default\nProcSubset=all\n");
    assert_eq!(lift("PrivateNetwork=yes\nPrivateNetwork=no\n", &[]).0, Vec::<String>::new());
    assert_eq!(lift("PrivateNetwork=yes\nPrivateMounts=1\n", &[0, 1]).1, "PrivateMounts=no\nPrivateNetwork=no\n");
    assert_eq!(lift("PrivatePIDs=yes\n", &[0]).1, "PrivatePIDs=no\n");
    let (found, text) = lift("ProtectHostname=yes\nProtectHostname=private:x\n", &[0]);
    assert_eq!((found, text.as_str()), (vec!["private:x".to_owned()], "ProtectHostname=no\n"));
    assert_eq!(lift("ProtectHostname=private\nProtectHostname=no\n", &[]).0, Vec::<String>::new());
}

#[test]
fn each_line_of_a_list_is_a_candidate_and_the_others_are_written_again() {
    let lines = "InaccessiblePaths=/gone\nInaccessiblePaths=\nInaccessiblePaths=/a /b\nInaccessiblePaths=-/%i\n";
    let (found, text) = lift(lines, &[0]);
    assert_eq!(found, ["/a /b", "-/%i"]);
    assert_eq!(text, "InaccessiblePaths=\nInaccessiblePaths=-/%i\n");
    let (found, text) = lift("InaccessibleDirectories=/a\nReadOnlyDirectories=/b\n", &[0, 1]);
    assert_eq!((found.len(), text.as_str()), (2, "InaccessiblePaths=\nReadOnlyPaths=\n"), "under their earlier names");
}

#[test]
fn allow_list_is_one_candidate_and_its_denied_lines_are_others() {
    let lines = "SystemCallFilter=@system-service\nSystemCallFilter=mount\nSystemCallFilter=~@privileged\n\
        SystemCallFilter=chown\nSystemCallFilter=~uname:EPERM\n";
    let (found, text) = lift(lines, &[0]);
    assert_eq!(found, ["@system-service|mount", "~@privileged", "~uname:EPERM"]);
    let rest = "SystemCallFilter=~@privileged\nSystemCallFilter=chown\nSystemCallFilter=~uname:EPERM\n";
    assert_eq!(text, format!("SystemCallFilter=\n{rest}"));
    let kept = "SystemCallFilter=@system-service\nSystemCallFilter=mount\nSystemCallFilter=chown\n";
    assert_eq!(lift(lines, &[1, 2]).1, format!("SystemCallFilter=\n{kept}"));
    let last = "SystemCallFilter=\nSystemCallFilter=~uname:EPERM\n";
    assert_eq!(lift(lines, &[0, 1]).1, last, "a grant would begin an allow-list");
    assert_eq!(lift(lines, &[0, 1, 2]).1, "SystemCallFilter=\n");
}

#[test]
fn lists_that_start_again_have_the_lines_since() {
    let (found, text) = lift("CapabilityBoundingSet=CAP_KILL\nCapabilityBoundingSet=\n", &[0]);
    assert_eq!((found, text.as_str()), (vec![String::new()], "CapabilityBoundingSet=~\n"));
    let lines = "CapabilityBoundingSet=~\nCapabilityBoundingSet=~CAP_CHOWN\nCapabilityBoundingSet=~CAP_KILL\n";
    let expected = "CapabilityBoundingSet=~\nCapabilityBoundingSet=~CAP_KILL\n";
    assert_eq!(lift(lines, &[0]), (vec!["~CAP_CHOWN".to_owned(), "~CAP_KILL".to_owned()], expected.to_owned()));
    let lines = "CapabilityBoundingSet=~CAP_KILL\nCapabilityBoundingSet=CAP_KILL\nCapabilityBoundingSet=~CAP_CHOWN\n\
        CapabilityBoundingSet=CAP_CHOWN\n";
    let expected = "CapabilityBoundingSet=~\nCapabilityBoundingSet=~CAP_KILL\nCapabilityBoundingSet=CAP_KILL\n";
    assert_eq!(lift(lines, &[1]).1, expected, "the last line would allow nothing else");
    let lines = "RestrictNamespaces=~user\nRestrictNamespaces=yes\nRestrictAddressFamilies=AF_UNIX\n\
        RestrictAddressFamilies=none\n";
    let (found, text) = lift(lines, &[0, 1]);
    assert_eq!(
        (found, text.as_str()),
        (vec!["none".to_owned(), "yes".to_owned()], "RestrictAddressFamilies=\nRestrictNamespaces=\n")
    );
}

#[test]
fn devices_are_lifted_by_grants() {
    let lines = "DeviceAllow=/dev/fuse rw\nDevicePolicy=closed\n";
    let (found, text) = lift(lines, &[0]);
    assert_eq!(found, ["closed|/dev/fuse rw"]);
    assert_eq!(text, "DeviceAllow=char-* rwm\nDeviceAllow=block-* rwm\n");
    assert_eq!(lift("DeviceAllow=/dev/fuse rw\n", &[]).0, ["/dev/fuse rw"]);
    assert!(lift("DevicePolicy=auto\n", &[]).0.is_empty());
}

#[test]
fn user_and_what_it_implies_stay() {
    let hardening = |lines: &str| Hardening::new(&policy(lines).settings);
    let found = hardening("User=web\nDynamicUser=yes\nProtectSystem=full\nPrivateTmp=yes\nProtectHome=yes\n");
    assert_eq!(found.lines().len(), 1);
    let kept: Vec<&str> = found.kept().iter().map(|kept| &*kept.key).collect();
    assert_eq!(kept, ["DynamicUser", "ProtectSystem", "PrivateTmp"]);
    let lines: Vec<u32> = found.kept().iter().map(|kept| kept.line.origin.line).collect();
    assert_eq!(lines, [3, 4, 5]);
    assert_eq!(found.lift(&BTreeSet::from([0])), "ProtectHome=no\n");
}

#[test]
fn line_stays_if_a_bind_would_make_a_place_on_the_host() {
    let kept = |lines: &str| Hardening::new(&policy(lines).settings).kept().len();
    assert_eq!(kept("TemporaryFileSystem=/srv:ro\nBindPaths=/var/x:/srv/x\n"), 1);
    assert_eq!(kept("TemporaryFileSystem=/srv\nBindPaths=/srv/x\n"), 0, "the place is the host's own");
    assert_eq!(kept("ProtectHome=tmpfs\nBindReadOnlyPaths=/var/x:/home/x\n"), 1);
    assert_eq!(kept("PrivateTmp=yes\nBindPaths=/var/x:/tmpx\n"), 0);
    for hidden in ["/srv", "-/srv/x"] {
        assert_eq!(kept(&format!("InaccessiblePaths={hidden}\nBindPaths=/var/x:/srv/x\n")), 1, "{hidden}");
    }
    assert_eq!(kept("InaccessiblePaths=/srv/y\nBindPaths=/var/x:/srv/x\n"), 0, "next to it");
    assert_eq!(kept("PrivateDevices=yes\nRootDirectory=/srv/root\n"), 1);
    assert_eq!(kept("InaccessiblePaths=/a\\ \n"), 1, "without its space the line would go on");
}

/// Generates a line of a directive that restricts calls, families, namespaces, capabilities or paths.
fn line() -> impl Strategy<Value = String> {
    let words =
        prop::sample::select(vec!["@system-service", "@clock", "@privileged", "uname", "mount", "read", "mmap"]);
    let filter = (any::<bool>(), prop::collection::vec(words, 0..3))
        .prop_map(|(denies, words)| format!("SystemCallFilter={}{}", if denies { "~" } else { "" }, words.join(" ")));
    let capabilities =
        prop::sample::select(vec!["", "~", "CAP_CHOWN", "~CAP_CHOWN", "CAP_KILL CAP_CHOWN", "~CAP_KILL"])
            .prop_map(|value| format!("CapabilityBoundingSet={value}"));
    let lists = prop::sample::select(vec![
        "RestrictAddressFamilies=AF_UNIX",
        "RestrictAddressFamilies=~AF_INET",
        "RestrictAddressFamilies=AF_INET AF_UNIX",
        "RestrictAddressFamilies=none",
        "RestrictAddressFamilies=",
        "RestrictNamespaces=yes",
        "RestrictNamespaces=no",
        "RestrictNamespaces=~user",
        "RestrictNamespaces=net",
        "SystemCallArchitectures=native",
        "ProtectSystem=strict",
        "ProtectSystem=no",
        "ReadOnlyPaths=/etc",
        "ReadOnlyPaths=/srv",
        "ReadWritePaths=/etc",
        "InaccessiblePaths=/srv",
        "InaccessiblePaths=",
        "ProtectKernelLogs=yes",
        "ProtectClock=yes",
        "PrivateDevices=yes",
        "DevicePolicy=closed",
        "DeviceAllow=/dev/fuse rw",
        "NoNewPrivileges=yes",
    ]);
    prop_oneof![3 => filter, 2 => capabilities, 4 => lists.prop_map(str::to_owned)]
}

/// Returns what a policy withholds, out of a sample.
fn withheld(policy: &Policy) -> Vec<bool> {
    const CALLS: [&str; 9] = ["uname", "mount", "read", "mmap", "clock_settime", "syslog", "chown", "socket", "ioperm"];
    let calls = CALLS.iter().map(|call| matches!(policy.verdict(policy.native(), call), Verdict::Denied { .. }));
    let capability = |name: &str| Capability::all().find(|one| one.name() == Some(name)).unwrap();
    let needs = [
        Need::Bounding(capability("CAP_CHOWN")),
        Need::Bounding(capability("CAP_KILL")),
        Need::Bounding(capability("CAP_SYSLOG")),
        Need::Write(b"/etc/x"),
        Need::Write(b"/usr/x"),
        Need::See(b"/srv/x"),
        Need::Write(b"/srv/x"),
        Need::SetId,
        Need::Family(1),
        Need::Family(2),
        Need::Namespaces(0x1000_0000),
        Need::Namespaces(0x4000_0000),
    ];
    let needs = needs.map(|need| !policy.withholding(need, libc::EPERM).is_empty());
    calls.chain(needs).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn lifting_more_lines_withholds_less_and_lifting_all_withholds_nothing(
        lines in prop::collection::vec(line(), 1..9),
        some in any::<u16>(),
        more in any::<u16>(),
    ) {
        let own = policy(&(lines.join("\n") + "\n"));
        let hardening = Hardening::new(&own.settings);
        let count = hardening.lines().len();
        let rest = |lifted: &BTreeSet<usize>| {
            let text = format!("[Service]\n{}", hardening.lift(lifted));
            withheld(&own.with_dropin(Path::new(DROP_IN), text.as_bytes(), &GROUPS))
        };
        let set = |mask: u16| (0..count).filter(|line| mask >> line & 1 == 1).collect::<BTreeSet<usize>>();
        let (fewer, all) = (rest(&set(some)), rest(&(0..count).collect()));
        let less = rest(&set(some | more));
        prop_assert_eq!(rest(&BTreeSet::new()), withheld(&own));
        prop_assert!(less.iter().zip(&fewer).all(|(less, fewer)| *fewer || !less), "{:?}", hardening);
        prop_assert!(!all.contains(&true), "{:?}", hardening);
    }
}
