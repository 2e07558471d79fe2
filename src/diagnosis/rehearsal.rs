//! What a unit is told for a rehearsal: nothing is denied, and what would have been is logged.
//!
//! A filter that logs needs a list, so the directives other than `SystemCallFilter=` are lifted, and the calls that
//! they deny are on the list as well. Some of them do more than filter calls, and all of that is lifted with them:
//! systemd has no way to lift the filter alone.

use crate::policy::{Directive, DirectiveCause, Effect, Mode, Policy, Verdict};
use crate::syscalls::Groups;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Calls that every program makes. Where a directive looks at their arguments, which no record tells, their records would
/// say nothing.
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

/// How long a line is at most.
const WIDTH: usize = 100;

/// A rehearsal of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsal {
    /// The lines of its drop-in.
    pub content: String,
    /// What is lifted.
    pub lifted: Vec<Directive>,
    /// What could be lifted, and stays on.
    pub kept: Vec<Directive>,
    /// The calls that are logged.
    pub told: BTreeSet<Box<str>>,
    /// And those that this systemd has no name for, if an allow-list lacks them: all but what passes is logged then. Of
    /// one that lets nothing pass there is nothing to leave out, and only calls with a name are told.
    pub told_unknown: bool,
    /// What is lifted of which calls, and not logged, since every program makes them. No calls: none of it is.
    pub untold: BTreeMap<Directive, Vec<Box<str>>>,
    /// Calls that are answered as before, by an error that says that there is no such call: programs take another then,
    /// and to let them pass would hide that one.
    pub missing: BTreeSet<Box<str>>,
    /// The unit has a `SystemCallLog=` of its own, which is set aside.
    pub sets_log_aside: bool,
}

/// A call with which a rehearsal would do something else than it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Otherwise(Box<str>);

impl Rehearsal {
    /// Of a unit with this policy; `None` if there is nothing that it could tell.
    #[must_use]
    pub fn of(policy: &Policy, keep: &BTreeSet<Directive>, groups: &Groups) -> Option<Self> {
        let on = |directive: &Directive| is_on(policy, *directive);
        let (kept, lifted): (Vec<_>, Vec<_>) =
            Directive::liftable().filter(on).partition(|directive| keep.contains(directive));
        let mut rehearsal = Self {
            content: String::new(),
            told_unknown: false,
            told: BTreeSet::new(),
            untold: BTreeMap::new(),
            missing: BTreeSet::new(),
            sets_log_aside: !policy.logging().1.is_empty(),
            lifted,
            kept,
        };
        let mut passing = Vec::new();
        let mut seen = BTreeSet::new();
        for call in known(groups) {
            match policy.verdict(policy.native(), call) {
                Verdict::Denied { effect, by, possible } => {
                    seen.extend(by.iter().chain(&possible).map(|cause| cause.directive));
                    if by.iter().any(|cause| !rehearsal.lifts(cause)) {
                        passing.push(call);
                    } else if is_missing(effect, &by) {
                        passing.push(call);
                        rehearsal.missing.insert(call.into());
                    } else {
                        rehearsal.told.insert(call.into());
                    }
                }
                Verdict::Possible { by } => {
                    let by: Vec<Directive> =
                        by.iter().filter(|cause| rehearsal.lifts(cause)).map(|cause| cause.directive).collect();
                    seen.extend(&by);
                    if EVERYDAY.contains(&call) || by.is_empty() {
                        passing.push(call);
                        for directive in by {
                            rehearsal.untold.entry(directive).or_default().push(call.into());
                        }
                    } else {
                        rehearsal.told.insert(call.into());
                    }
                }
                Verdict::Permitted | Verdict::LogOnly { .. } => passing.push(call),
            }
        }
        // Some do not work by a filter here.
        let silent = rehearsal.lifted.iter().filter(|directive| !seen.contains(directive));
        rehearsal.untold.extend(silent.map(|directive| (*directive, Vec::new())));
        let allows = policy.filter.as_ref().is_some_and(|filter| filter.mode() == Mode::Allow);
        rehearsal.told_unknown =
            allows && rehearsal.lifted.contains(&Directive::SystemCallFilter) && !passing.is_empty();
        if rehearsal.told.is_empty() && !rehearsal.told_unknown {
            return None;
        }
        rehearsal.content = rehearsal.lines(policy.settings.section(), &passing);
        Some(rehearsal)
    }

    /// Whether a policy with the drop-in does with each call what it should.
    ///
    /// # Errors
    /// A call with which it does something else: what comes after the drop-in has the last word.
    pub fn holds(&self, rehearsed: &Policy, groups: &Groups) -> Result<(), Otherwise> {
        for call in known(groups) {
            let verdict = rehearsed.verdict(rehearsed.native(), call);
            let as_it_should = if self.told.contains(call) {
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
                        self.missing.contains(call) || !by.iter().any(|cause| self.lifts(cause))
                    }
                }
            };
            if !as_it_should {
                return Err(Otherwise(call.into()));
            }
        }
        Ok(())
    }

    fn lifts(&self, cause: &DirectiveCause) -> bool {
        self.lifted.contains(&cause.directive)
    }

    fn lines(&self, section: &str, passing: &[&str]) -> String {
        let mut text = format!("[{section}]\n");
        // Writing to a String cannot fail.
        for directive in &self.lifted {
            let _ = writeln!(text, "{}={}", directive.key(), directive.spec().value.lifting());
        }
        if !self.missing.is_empty() {
            let _ = writeln!(
                text,
                "SystemCallFilter=~{}",
                joined(self.missing.iter().map(|call| format!("{call}:ENOSYS")))
            );
        }
        let _ = writeln!(text, "SystemCallLog=");
        let (sign, calls): (&str, Vec<&str>) = if self.told_unknown {
            ("~", passing.to_vec())
        } else {
            ("", self.told.iter().map(AsRef::as_ref).collect())
        };
        let mut line = String::new();
        for call in calls {
            if line.len() + 1 + call.len() > WIDTH {
                let _ = writeln!(text, "{line}");
                line.clear();
            }
            if line.is_empty() {
                let _ = write!(line, "SystemCallLog={sign}{call}");
            } else {
                let _ = write!(line, " {call}");
            }
        }
        let _ = writeln!(text, "{line}");
        text
    }
}

/// Whether a directive that can be lifted is set, and not by another that implies it.
fn is_on(policy: &Policy, directive: Directive) -> bool {
    let settings = &policy.settings;
    let on = |directive| settings.switch(directive).is_some_and(|switch| switch.on);
    match directive {
        Directive::SystemCallFilter => policy.filter.is_some(),
        Directive::RestrictAddressFamilies => policy.families().is_some_and(crate::policy::AddressFamilies::restricts),
        Directive::RestrictNamespaces => settings.namespaces().is_some_and(crate::policy::lists::Namespaces::restricts),
        Directive::RestrictSUIDSGID => on(directive) && !on(Directive::DynamicUser),
        _ => on(directive),
    }
}

/// Whether the call is answered as if the kernel had none of the name, by a directive that cannot look into it.
fn is_missing(effect: Effect, by: &[DirectiveCause]) -> bool {
    effect == Effect::Errno(libc::ENOSYS)
        && by.first().is_some_and(|cause| cause.directive != Directive::SystemCallFilter)
}

/// Every call that a line can name.
fn known(groups: &Groups) -> BTreeSet<&str> {
    let all = groups.names().filter_map(|name| groups.calls(name)).flatten().map(AsRef::as_ref);
    all.filter(|call| groups.is_known(call)).collect()
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(" ")
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
        Policy::new(settings, Abi::from_name("x86_64").unwrap(), &Groups::embedded())
    }

    fn of(lines: &[&str], keep: &[Directive]) -> (Policy, Option<Rehearsal>) {
        let policy = policy(&lines.iter().map(ToString::to_string).collect::<Vec<_>>());
        let keep = keep.iter().copied().collect();
        let rehearsal = Rehearsal::of(&policy, &keep, &Groups::embedded());
        (policy, rehearsal)
    }

    fn told(rehearsal: &Rehearsal) -> Vec<&str> {
        rehearsal.told.iter().map(AsRef::as_ref).collect()
    }

    #[test]
    fn a_deny_list_is_logged_as_it_is() {
        let (_, rehearsal) = of(&["SystemCallFilter=~uname sysinfo:EPERM", "SystemCallErrorNumber=EACCES"], &[]);
        let rehearsal = rehearsal.unwrap();
        assert_eq!(rehearsal.content, "[Service]\nSystemCallFilter=\nSystemCallLog=\nSystemCallLog=sysinfo uname\n");
        assert_eq!((told(&rehearsal), rehearsal.told_unknown), (vec!["sysinfo", "uname"], false));
    }

    #[test]
    fn of_an_allow_list_what_passes_is_left_out_so_that_calls_without_a_name_are_logged() {
        let (_, rehearsal) = of(&["SystemCallFilter=@system-service", "SystemCallFilter=~uname"], &[]);
        let rehearsal = rehearsal.unwrap();
        assert!(rehearsal.told_unknown && told(&rehearsal).contains(&"uname") && told(&rehearsal).contains(&"mount"));
        assert!(rehearsal.content.contains("\nSystemCallLog=~"));
        assert!(!rehearsal.content.split([' ', '~', '\n']).any(|word| word == "mount" || word == "uname"));
        assert!(rehearsal.content.lines().all(|line| line.len() <= WIDTH), "{}", rehearsal.content);
    }

    #[test]
    fn directives_are_lifted_unless_they_are_to_be_kept() {
        let lines = ["ProtectClock=yes", "ProtectHostname=yes", "RestrictRealtime=yes", "ProtectKernelTunables=yes"];
        let (_, rehearsal) = of(&lines, &[Directive::ProtectHostname]);
        let rehearsal = rehearsal.unwrap();
        assert_eq!(rehearsal.lifted, [Directive::RestrictRealtime, Directive::ProtectClock]);
        assert_eq!(rehearsal.kept, [Directive::ProtectHostname]);
        let calls = told(&rehearsal);
        assert!(calls.contains(&"clock_settime") && calls.contains(&"sched_setscheduler"), "{calls:?}");
        assert!(!calls.contains(&"sethostname") && !calls.contains(&"_sysctl"), "{calls:?}");
        assert!(!rehearsal.content.contains("ProtectHostname") && !rehearsal.content.contains("Tunables"));
    }

    #[test]
    fn what_every_program_calls_is_lifted_and_not_told() {
        let lines = ["RestrictSUIDSGID=yes", "RestrictNamespaces=yes", "RestrictAddressFamilies=AF_UNIX"];
        let (_, rehearsal) = of(&lines, &[]);
        let rehearsal = rehearsal.unwrap();
        assert_eq!(told(&rehearsal), ["setns", "socket", "unshare"]);
        assert_eq!(rehearsal.missing.iter().map(AsRef::as_ref).collect::<Vec<_>>(), ["clone3", "openat2"]);
        assert!(rehearsal.content.contains("SystemCallFilter=~clone3:ENOSYS openat2:ENOSYS\n"));
        assert_eq!(rehearsal.untold[&Directive::RestrictNamespaces], [Box::from("clone")]);
        assert!(rehearsal.untold[&Directive::RestrictSUIDSGID].contains(&"openat".into()));
        assert!(!rehearsal.untold.contains_key(&Directive::RestrictAddressFamilies));
    }

    #[test]
    fn what_dynamic_user_implies_stays() {
        let (_, rehearsal) = of(&["DynamicUser=yes", "RestrictSUIDSGID=yes", "SystemCallFilter=~uname"], &[]);
        let rehearsal = rehearsal.unwrap();
        assert_eq!(rehearsal.lifted, [Directive::SystemCallFilter]);
        assert_eq!(told(&rehearsal), ["uname"]);
    }

    #[test]
    fn where_nothing_is_denied_there_is_nothing_to_rehearse() {
        for lines in [&[][..], &["SystemCallLog=uname"], &["DynamicUser=yes"], &["ProtectKernelTunables=yes"]] {
            assert_eq!(of(lines, &[]).1, None, "{lines:?}");
        }
        assert_eq!(of(&["SystemCallFilter=~uname"], &[Directive::SystemCallFilter]).1, None);
    }

    #[test]
    fn what_comes_behind_it_is_noticed() {
        let (policy, rehearsal) = of(&["SystemCallFilter=~uname"], &[]);
        let rehearsal = rehearsal.unwrap();
        let groups = Groups::embedded();
        let rehearsed = policy.with_dropin(Path::new(DROP_IN), rehearsal.content.as_bytes(), &groups);
        assert_eq!(rehearsal.holds(&rehearsed, &groups), Ok(()));
        assert_eq!(rehearsal.holds(&policy, &groups), Err(Otherwise("uname".into())));
        let behind = Path::new("/etc/systemd/system/x.service.d/zzzzz.conf");
        let behind = rehearsed.with_dropin(behind, b"[Service]\nSystemCallFilter=~sysinfo\n", &groups);
        assert_eq!(rehearsal.holds(&behind, &groups), Err(Otherwise("sysinfo".into())));
    }

    /// Lines of every directive that bears on calls.
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

    /// Everything passes, and what would be denied is logged.
    fn is_sound(lines: &[String], keep: &BTreeSet<Directive>) -> Result<(), TestCaseError> {
        let (groups, real) = (Groups::embedded(), policy(lines));
        let Some(rehearsal) = Rehearsal::of(&real, keep, &groups) else { return Ok(()) };
        let rehearsed = real.with_dropin(Path::new(DROP_IN), rehearsal.content.as_bytes(), &groups);
        prop_assert_eq!(rehearsed.notes().filter(|note| note.to_string().contains(DROP_IN)).count(), 0);
        prop_assert_eq!(rehearsal.holds(&rehearsed, &groups), Ok(()));
        let kept = |causes: &[DirectiveCause]| causes.iter().any(|cause| !rehearsal.lifted.contains(&cause.directive));
        let lifts_list = rehearsal.lifted.contains(&Directive::SystemCallFilter)
            && real.filter.as_ref().is_some_and(|filter| filter.mode() == Mode::Allow);
        // What depends on arguments may be told, and is then none to be left out.
        let passes = |call: &&str| match real.verdict(real.native(), call) {
            Verdict::Denied { .. } => false,
            Verdict::Possible { .. } => !rehearsal.told.contains(*call),
            Verdict::Permitted | Verdict::LogOnly { .. } => true,
        };
        prop_assert!(rehearsal.told_unknown || !lifts_list || !known(&groups).iter().any(passes));
        // One that no systemd knows stands for those without a name.
        for call in known(&groups).into_iter().chain(rehearsal.told_unknown.then_some("no_such_call")) {
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
    fn of_a_list_that_lets_pass_only_what_depends_on_arguments_the_named_calls_are_told() {
        let lines = ["SystemCallFilter=socket", "SystemCallFilter=~@default:EPERM", "RestrictAddressFamilies=AF_UNIX"];
        is_sound(&lines.map(str::to_owned), &BTreeSet::new()).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
        #[test]
        fn everything_passes_and_what_would_be_denied_is_logged(
            lines in prop::collection::vec(line(), 0..8),
            keep in prop::collection::btree_set(prop::sample::select(Directive::liftable().collect::<Vec<_>>()), 0..3),
        ) {
            is_sound(&lines, &keep)?;
        }
    }
}
