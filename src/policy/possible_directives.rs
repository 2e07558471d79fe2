//! The directives that may have decided a call of a unit whose settings were not read.

use super::directive::{Directive, Targets};
use super::effect::Effect;
use super::evaluate::filters_socket;
use super::manager_context::kills_processes_since;
use crate::audit::Action;
use crate::syscalls::{Call, Groups};
use std::collections::BTreeSet;

/// Returns the directives that act on a call as the kernel recorded, if a unit has them.
pub(crate) fn find_possible_directives(call: &Call, action: Action, groups: &Groups) -> BTreeSet<Directive> {
    match action {
        Action::KillProcess | Action::Kill => [Directive::SystemCallFilter].into(),
        Action::KillThread if kills_processes_since(groups) => [Directive::SystemCallArchitectures].into(),
        Action::KillThread => [Directive::SystemCallArchitectures, Directive::SystemCallFilter].into(),
        Action::Log => [Directive::SystemCallLog].into(),
        Action::Errno => {
            let refusing = call.name().into_iter().flat_map(|name| find_refusing(name, groups));
            let families = || call.name() == Some("socket") && call.abi().is_some_and(filters_socket);
            let families = families().then_some(Directive::RestrictAddressFamilies);
            refusing.chain(families).chain([Directive::SystemCallFilter]).collect()
        }
        Action::Trap | Action::UserNotif | Action::Trace | Action::Other(_) => BTreeSet::new(),
    }
}

/// Returns the directives with a rule that refuses a call with an error, whatever its arguments or for some.
fn find_refusing<'a>(call: &'a str, groups: &'a Groups) -> impl Iterator<Item = Directive> + 'a {
    let is_target = move |targets: Targets| match targets {
        Targets::Calls(calls) => calls.contains(&call),
        Targets::Group(group) => groups.calls(group).is_some_and(|calls| calls.contains(call)),
    };
    let rules = Directive::rules().filter(move |(_, rule)| is_target(rule.targets));
    rules.filter(|(_, rule)| matches!(rule.effect, Effect::Errno(_))).map(|(directive, _)| directive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Policy, Settings, UnitFile, Verdict};
    use crate::syscalls::groups::GroupSource;
    use crate::syscalls::{Abi, Arch};
    use std::path::Path;

    fn possible(call: &str, action: Action) -> Vec<&'static str> {
        let call = Call::named(Arch::X86_64, call);
        find_possible_directives(&call, action, &Groups::embedded()).into_iter().map(Directive::key).collect()
    }

    #[test]
    fn error_may_come_from_each_directive_that_refuses_the_call() {
        assert_eq!(possible("read", Action::Errno), ["SystemCallFilter"]);
        assert_eq!(possible("socket", Action::Errno), ["RestrictAddressFamilies", "SystemCallFilter"]);
        assert_eq!(possible("settimeofday", Action::Errno), ["ProtectClock", "SystemCallFilter"]);
        assert_eq!(possible("unshare", Action::Errno), ["RestrictNamespaces", "SystemCallFilter"]);
    }

    #[test]
    fn kill_comes_from_the_filter_or_the_list_of_architectures_alone() {
        assert_eq!(possible("socket", Action::KillProcess), ["SystemCallFilter"]);
        let listing = "@known\n    read\n";
        let version = |version: &str| {
            let groups = Groups::parse(listing, GroupSource::Host(version.into())).unwrap();
            let call = Call::named(Arch::X86_64, "read");
            find_possible_directives(&call, Action::KillThread, &groups).len()
        };
        assert_eq!((version("242"), version("243")), (2, 1), "older filters killed the thread");
        assert!(possible("read", Action::Other(0)).is_empty() && possible("read", Action::Trap).is_empty());
    }

    /// Every directive that a unit's policy names for an error is a possible one, so that an answer without the unit's
    /// settings never leaves the real cause out.
    #[test]
    fn every_cause_of_an_error_in_a_policy_is_possible() {
        let groups = Groups::embedded().with_native(Abi::X86_64);
        let mut lines: Vec<String> =
            Directive::switches().map(|directive| format!("{}=yes", directive.key())).collect();
        lines.extend(["RestrictAddressFamilies=AF_UNIX", "RestrictNamespaces=yes"].map(ToOwned::to_owned));
        let text =
            format!("[Service]\n{}\nSystemCallErrorNumber=EPERM\nSystemCallFilter=@basic-io\n", lines.join("\n"));
        let file = UnitFile::parse(Path::new("x.service"), text.as_bytes());
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
        let policy = Policy::new(settings, &groups);
        let mut compared = 0;
        for name in groups.calls("@known").unwrap().iter().filter(|name| Abi::X86_64.call_number(name).is_some()) {
            let possible = find_possible_directives(&Call::named(Arch::X86_64, name), Action::Errno, &groups);
            let (Verdict::Denied { by, .. } | Verdict::Possible { by }) = policy.verdict(Abi::X86_64, name) else {
                continue;
            };
            // DynamicUser= implies RestrictSUIDSGID=, and stands for it here.
            for cause in by.iter().filter(|cause| cause.directive != Directive::DynamicUser) {
                compared += 1;
                assert!(possible.contains(&cause.directive), "{name}: {:?}", cause.directive);
            }
        }
        assert!(compared > 300, "{compared}");
    }
}
