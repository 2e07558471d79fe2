//! The drop-in of a rehearsal: it lets calls pass, and logs those that the unit's own settings would have denied.
//!
//! A filter that logs needs a list of calls. So the drop-in lifts the directives other than `SystemCallFilter=`, and
//! lists the calls that they deny. Some of these directives do more than filter calls. Lifting such a directive lifts
//! all of its effects, because systemd cannot lift the filter alone.

use super::drop_in_lines::list_lines;
use crate::policy::{Directive, DirectiveCause, Effect, Mode, Policy, Verdict};
use crate::syscalls::Groups;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Calls that every program makes. If a directive looks at their arguments, their records would mean nothing, since no
/// record holds arguments.
const EVERYDAY: [&str; 15] = [
    "chmod",
    "clone",
    "creat",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "mmap",
    "mmap2",
    "mprotect",
    "open",
    "openat",
];

/// The longest line, in bytes.
const WIDTH: usize = 100;

/// The drop-in of a rehearsal, and what it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RehearsalDropIn {
    /// The file's text.
    pub content: String,
    /// The directives that it lifts.
    pub lifted: Vec<Directive>,
    /// The directives that it could lift, and keeps.
    pub kept: Vec<Directive>,
    /// The calls that it logs.
    pub logged: BTreeSet<Box<str>>,
    /// Whether it also logs calls that this systemd cannot name, because an allow-list lacks them. The drop-in then
    /// logs all calls but those that pass. If the allow-list lets no call pass, the drop-in can only list names.
    pub logs_unknown: bool,
    /// Calls of lifted directives that it does not log, since every program makes them. An empty list means that it
    /// logs no call of the directive.
    pub unlogged: BTreeMap<Directive, Vec<Box<str>>>,
    /// Calls that still fail with ENOSYS. Programs then make another call, which they would not make if these calls
    /// passed.
    pub enosys: BTreeSet<Box<str>>,
    /// Whether it replaces the unit's own `SystemCallLog=`.
    pub replaces_log: bool,
}

/// A call for which the rehearsed policy has another verdict than the drop-in intends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnexpectedVerdict(Box<str>);

impl RehearsalDropIn {
    /// Makes the drop-in for a unit with this policy. Returns `None` if the policy denies nothing that can be lifted.
    #[must_use]
    pub fn new(policy: &Policy, keep: &BTreeSet<Directive>, groups: &Groups) -> Option<Self> {
        let on = |directive: &Directive| is_on(policy, *directive);
        let (kept, lifted): (Vec<_>, Vec<_>) =
            Directive::liftable().filter(on).partition(|directive| keep.contains(directive));
        let mut rehearsal = Self {
            content: String::new(),
            logs_unknown: false,
            logged: BTreeSet::new(),
            unlogged: BTreeMap::new(),
            enosys: BTreeSet::new(),
            replaces_log: !policy.logged_calls().1.is_empty(),
            lifted,
            kept,
        };
        let mut passing = Vec::new();
        let mut filtering = BTreeSet::new();
        for call in nameable_calls(groups) {
            match policy.verdict(policy.native(), call) {
                Verdict::Denied { effect, by, possible } => {
                    filtering.extend(by.iter().chain(&possible).map(|cause| cause.directive));
                    if by.iter().any(|cause| !rehearsal.lifts(cause)) {
                        passing.push(call);
                    } else if fails_as_missing(effect, &by) {
                        passing.push(call);
                        rehearsal.enosys.insert(call.into());
                    } else {
                        rehearsal.logged.insert(call.into());
                    }
                }
                Verdict::Possible { by } => {
                    let by: Vec<Directive> =
                        by.iter().filter(|cause| rehearsal.lifts(cause)).map(|cause| cause.directive).collect();
                    filtering.extend(&by);
                    if EVERYDAY.contains(&call) || by.is_empty() {
                        passing.push(call);
                        for directive in by {
                            rehearsal.unlogged.entry(directive).or_default().push(call.into());
                        }
                    } else {
                        rehearsal.logged.insert(call.into());
                    }
                }
                Verdict::Permitted | Verdict::LogOnly { .. } => passing.push(call),
            }
        }
        // Some directives filter no call on this machine.
        let unfiltered = rehearsal.lifted.iter().filter(|directive| !filtering.contains(directive));
        rehearsal.unlogged.extend(unfiltered.map(|directive| (*directive, Vec::new())));
        let allows = policy.filter.as_ref().is_some_and(|filter| filter.mode() == Mode::Allow);
        rehearsal.logs_unknown =
            allows && rehearsal.lifted.contains(&Directive::SystemCallFilter) && !passing.is_empty();
        if rehearsal.logged.is_empty() && !rehearsal.logs_unknown {
            return None;
        }
        rehearsal.content = rehearsal.text(policy.settings.section(), &passing);
        Some(rehearsal)
    }

    /// Checks that a policy with the drop-in has the intended verdict for each call.
    ///
    /// # Errors
    /// A call has another verdict: a drop-in that is read later overrides this one.
    pub fn verify(&self, rehearsed: &Policy, groups: &Groups) -> Result<(), UnexpectedVerdict> {
        for call in nameable_calls(groups) {
            let verdict = rehearsed.verdict(rehearsed.native(), call);
            let as_intended = if self.logged.contains(call) {
                match &verdict {
                    Verdict::LogOnly { .. } => true,
                    Verdict::Possible { by } => !by.iter().any(|cause| self.lifts(cause)),
                    _ => false,
                }
            } else {
                match &verdict {
                    Verdict::Permitted => true,
                    Verdict::LogOnly { .. } => false,
                    Verdict::Possible { by } => !by.iter().any(|cause| self.lifts(cause)),
                    Verdict::Denied { by, .. } => {
                        self.enosys.contains(call) || !by.iter().any(|cause| self.lifts(cause))
                    }
                }
            };
            if !as_intended {
                return Err(UnexpectedVerdict(call.into()));
            }
        }
        Ok(())
    }

    fn lifts(&self, cause: &DirectiveCause) -> bool {
        self.lifted.contains(&cause.directive)
    }

    fn text(&self, section: &str, passing: &[&str]) -> String {
        let mut text = format!("[{section}]\n");
        // Writing to a String cannot fail.
        for directive in &self.lifted {
            let _ = writeln!(text, "{}={}", directive.key(), directive.spec().value.lifting_value());
        }
        let missing: Vec<String> = self.enosys.iter().map(|call| format!("{call}:ENOSYS")).collect();
        let missing = list_lines("SystemCallFilter=~", missing.iter().map(String::as_str), WIDTH);
        let logged = if self.logs_unknown {
            list_lines("SystemCallLog=~", passing.iter().copied(), WIDTH)
        } else {
            list_lines("SystemCallLog=", self.logged.iter().map(AsRef::as_ref), WIDTH)
        };
        for line in missing.into_iter().chain(["SystemCallLog=".to_owned()]).chain(logged) {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// Whether the unit itself sets a liftable directive. Another directive that only implies it does not count.
fn is_on(policy: &Policy, directive: Directive) -> bool {
    let settings = &policy.settings;
    match directive {
        Directive::SystemCallFilter => policy.filter.is_some(),
        Directive::RestrictAddressFamilies => policy.families().is_some_and(crate::policy::AddressFamilies::restricts),
        Directive::RestrictNamespaces => settings.namespaces().is_some_and(crate::policy::Namespaces::restricts),
        Directive::RestrictSUIDSGID => settings.is_on(directive) && !settings.is_on(Directive::DynamicUser),
        _ => settings.is_on(directive),
    }
}

/// Whether a directive that cannot look at the call's arguments makes it fail with ENOSYS.
fn fails_as_missing(effect: Effect, by: &[DirectiveCause]) -> bool {
    effect == Effect::Errno(libc::ENOSYS)
        && by.first().is_some_and(|cause| cause.directive != Directive::SystemCallFilter)
}

/// Returns every call that a `SystemCallFilter=` line can name.
fn nameable_calls(groups: &Groups) -> BTreeSet<&str> {
    let all = groups.names().filter_map(|name| groups.calls(name)).flatten().map(AsRef::as_ref);
    all.filter(|call| groups.is_known(call)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Settings, UnitFile};
    use crate::syscalls::Abi;
    use proptest::prelude::*;
    use std::path::Path;

    const DROP_IN: &str = "/run/systemd/system/x.service.d/zzzz-harden-why-rehearsal.conf";

    fn policy(lines: &[String]) -> Policy {
        let text = format!("[Service]\n{}\n", lines.join("\n"));
        let file = UnitFile::parse(Path::new("x.service"), text.as_bytes());
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
        Policy::new(settings, &Groups::embedded().with_native(Abi::X86_64))
    }

    fn make(lines: &[&str], keep: &[Directive]) -> (Policy, Option<RehearsalDropIn>) {
        let policy = policy(&lines.iter().map(ToString::to_string).collect::<Vec<_>>());
        let keep = keep.iter().copied().collect();
        let rehearsal = RehearsalDropIn::new(&policy, &keep, &Groups::embedded());
        (policy, rehearsal)
    }

    fn logged(rehearsal: &RehearsalDropIn) -> Vec<&str> {
        rehearsal.logged.iter().map(AsRef::as_ref).collect()
    }

    #[test]
    fn calls_of_deny_list_are_logged() {
        let (_, rehearsal) = make(&["SystemCallFilter=~uname sysinfo:EPERM", "SystemCallErrorNumber=EACCES"], &[]);
        let rehearsal = rehearsal.unwrap();
        assert_eq!(rehearsal.content, "[Service]\nSystemCallFilter=\nSystemCallLog=\nSystemCallLog=sysinfo uname\n");
        assert_eq!((logged(&rehearsal), rehearsal.logs_unknown), (vec!["sysinfo", "uname"], false));
    }

    #[test]
    fn allow_list_logs_all_but_passing_calls_and_so_unnamed_calls() {
        let (_, rehearsal) = make(&["SystemCallFilter=@system-service", "SystemCallFilter=~uname"], &[]);
        let rehearsal = rehearsal.unwrap();
        assert!(
            rehearsal.logs_unknown && logged(&rehearsal).contains(&"uname") && logged(&rehearsal).contains(&"mount")
        );
        assert!(rehearsal.content.contains("\nSystemCallLog=~"));
        assert!(!rehearsal.content.split([' ', '~', '\n']).any(|word| word == "mount" || word == "uname"));
        assert!(rehearsal.content.lines().all(|line| line.len() <= WIDTH), "{}", rehearsal.content);
    }

    #[test]
    fn directives_are_lifted_except_kept_ones() {
        let lines = ["ProtectClock=yes", "ProtectHostname=yes", "RestrictRealtime=yes", "ProtectKernelTunables=yes"];
        let (_, rehearsal) = make(&lines, &[Directive::ProtectHostname]);
        let rehearsal = rehearsal.unwrap();
        assert_eq!(rehearsal.lifted, [Directive::RestrictRealtime, Directive::ProtectClock]);
        assert_eq!(rehearsal.kept, [Directive::ProtectHostname]);
        let calls = logged(&rehearsal);
        assert!(calls.contains(&"clock_settime") && calls.contains(&"sched_setscheduler"), "{calls:?}");
        assert!(!calls.contains(&"sethostname") && !calls.contains(&"_sysctl"), "{calls:?}");
        assert!(!rehearsal.content.contains("ProtectHostname") && !rehearsal.content.contains("Tunables"));
    }

    #[test]
    fn everyday_calls_are_lifted_and_not_logged() {
        let lines = ["RestrictSUIDSGID=yes", "RestrictNamespaces=yes", "RestrictAddressFamilies=AF_UNIX"];
        let (_, rehearsal) = make(&lines, &[]);
        let rehearsal = rehearsal.unwrap();
        assert_eq!(logged(&rehearsal), ["setns", "socket", "unshare"]);
        assert_eq!(rehearsal.enosys.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["clone3", "openat2"]);
        assert!(rehearsal.content.contains("SystemCallFilter=~clone3:ENOSYS openat2:ENOSYS\n"));
        assert_eq!(rehearsal.unlogged[&Directive::RestrictNamespaces], [Box::from("clone")]);
        assert!(rehearsal.unlogged[&Directive::RestrictSUIDSGID].contains(&"openat".into()));
        assert!(!rehearsal.unlogged.contains_key(&Directive::RestrictAddressFamilies));
    }

    #[test]
    fn directive_implied_by_dynamic_user_is_not_lifted() {
        let (_, rehearsal) = make(&["DynamicUser=yes", "RestrictSUIDSGID=yes", "SystemCallFilter=~uname"], &[]);
        let rehearsal = rehearsal.unwrap();
        assert_eq!(rehearsal.lifted, [Directive::SystemCallFilter]);
        assert_eq!(logged(&rehearsal), ["uname"]);
    }

    #[test]
    fn policy_that_denies_nothing_has_no_rehearsal() {
        for lines in [&[][..], &["SystemCallLog=uname"], &["DynamicUser=yes"], &["ProtectKernelTunables=yes"]] {
            assert_eq!(make(lines, &[]).1, None, "{lines:?}");
        }
        assert_eq!(make(&["SystemCallFilter=~uname"], &[Directive::SystemCallFilter]).1, None);
    }

    #[test]
    fn later_drop_in_is_detected() {
        let (policy, rehearsal) = make(&["SystemCallFilter=~uname"], &[]);
        let rehearsal = rehearsal.unwrap();
        let groups = Groups::embedded();
        let rehearsed = policy.with_dropin(Path::new(DROP_IN), rehearsal.content.as_bytes(), &groups);
        assert_eq!(rehearsal.verify(&rehearsed, &groups), Ok(()));
        assert_eq!(rehearsal.verify(&policy, &groups), Err(UnexpectedVerdict("uname".into())));
        let later = Path::new("/etc/systemd/system/x.service.d/zzzzz.conf");
        let later = rehearsed.with_dropin(later, b"[Service]\nSystemCallFilter=~sysinfo\n", &groups);
        assert_eq!(rehearsal.verify(&later, &groups), Err(UnexpectedVerdict("sysinfo".into())));
    }

    /// Generates lines of every directive that filters calls.
    fn line() -> impl Strategy<Value = String> {
        let word = prop::sample::select(
            "@system-service @basic-io @clock @default @privileged uname mount clone3 openat2 socket mmap mprotect open \
             clock_settime mseal bogus"
                .split(' ')
                .collect::<Vec<_>>(),
        );
        let filter = (any::<bool>(), prop::collection::vec((word.clone(), 0..4_u8), 0..4)).prop_map(|(deny, words)| {
            let error = |number| match number {
                0 if deny => ":EPERM",
                1 if deny => ":ENOSYS",
                2 if deny => ":kill",
                _ => "",
            };
            let words: Vec<String> =
                words.into_iter().map(|(word, number)| format!("{word}{}", error(number))).collect();
            format!("SystemCallFilter={}{}", if deny { "~" } else { "" }, words.join(" "))
        });
        let switch = (prop::sample::select(Directive::ALL.to_vec()), any::<bool>())
            .prop_filter("a switch", |(directive, _)| directive.is_switch())
            .prop_map(|(directive, on)| format!("{}={}", directive.key(), if on { "yes" } else { "no" }));
        let list = prop::sample::select(vec![
            "RestrictAddressFamilies=AF_UNIX",
            "RestrictAddressFamilies=~AF_INET",
            "RestrictAddressFamilies=none",
            "RestrictNamespaces=yes",
            "RestrictNamespaces=~user",
            "SystemCallErrorNumber=EPERM",
            "SystemCallArchitectures=native",
        ]);
        let log =
            (any::<bool>(), word).prop_map(|(all, word)| format!("SystemCallLog={}{word}", if all { "~" } else { "" }));
        prop_oneof![4 => filter, 4 => switch, 2 => list.prop_map(str::to_owned), 1 => log]
    }

    /// Checks that every call passes, and that every call that would be denied is logged.
    fn check_rehearsal(lines: &[String], keep: &BTreeSet<Directive>) -> Result<(), TestCaseError> {
        let (groups, real) = (Groups::embedded(), policy(lines));
        let Some(rehearsal) = RehearsalDropIn::new(&real, keep, &groups) else { return Ok(()) };
        let rehearsed = real.with_dropin(Path::new(DROP_IN), rehearsal.content.as_bytes(), &groups);
        prop_assert_eq!(rehearsed.notes().filter(|note| note.to_string().contains(DROP_IN)).count(), 0);
        prop_assert_eq!(rehearsal.verify(&rehearsed, &groups), Ok(()));
        let kept = |causes: &[DirectiveCause]| causes.iter().any(|cause| !rehearsal.lifted.contains(&cause.directive));
        let lifts_list = rehearsal.lifted.contains(&Directive::SystemCallFilter)
            && real.filter.as_ref().is_some_and(|filter| filter.mode() == Mode::Allow);
        // A call that is denied for some arguments may be logged, and is then not left out.
        let passes = |call: &&str| match real.verdict(real.native(), call) {
            Verdict::Denied { .. } => false,
            Verdict::Possible { .. } => !rehearsal.logged.contains(*call),
            Verdict::Permitted | Verdict::LogOnly { .. } => true,
        };
        prop_assert!(rehearsal.logs_unknown || !lifts_list || !nameable_calls(&groups).iter().any(passes));
        // A name that no systemd knows stands for the calls without a name.
        for call in nameable_calls(&groups).into_iter().chain(rehearsal.logs_unknown.then_some("no_such_call")) {
            let (is, was) = (rehearsed.verdict(real.native(), call), real.verdict(real.native(), call));
            let is_logged = matches!(is, Verdict::LogOnly { .. });
            match was {
                Verdict::Permitted | Verdict::LogOnly { .. } => prop_assert_eq!(is, Verdict::Permitted, "{}", call),
                Verdict::Denied { by, .. } if kept(&by) => prop_assert!(!is_logged, "{}", call),
                Verdict::Denied { effect, by, .. }
                    if effect == Effect::Errno(libc::ENOSYS) && by[0].directive != Directive::SystemCallFilter =>
                {
                    let missing = matches!(is, Verdict::Denied { effect, .. } if effect == Effect::Errno(libc::ENOSYS));
                    prop_assert!(missing, "{}", call);
                }
                Verdict::Denied { possible, .. } => prop_assert!(is_logged || kept(&possible), "{}: {:?}", call, is),
                Verdict::Possible { by } if kept(&by) => {
                    let is_denied = matches!(is, Verdict::Denied { .. });
                    prop_assert!(!is_denied, "{}", call);
                }
                Verdict::Possible { .. } => {
                    prop_assert_eq!(is_logged, !EVERYDAY.contains(&call), "{}: {:?}", call, is);
                    prop_assert!(is_logged || is == Verdict::Permitted);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn allow_list_whose_calls_all_depend_on_arguments_logs_named_calls() {
        let lines = ["SystemCallFilter=socket", "SystemCallFilter=~@default:EPERM", "RestrictAddressFamilies=AF_UNIX"];
        check_rehearsal(&lines.map(str::to_owned), &BTreeSet::new()).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
        #[test]
        fn every_call_passes_and_denied_ones_are_logged(
            lines in prop::collection::vec(line(), 0..8),
            keep in prop::collection::btree_set(prop::sample::select(Directive::liftable().collect::<Vec<_>>()), 0..3),
        ) {
            check_rehearsal(&lines, &keep)?;
        }
    }
}
