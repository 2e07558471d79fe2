//! What a default remedy may open. This is the one definition: the search for remedies, `apply`, the answer after a
//! rehearsal and `--json` all use it.
//!
//! 1. The calls that were denied to the unit's own processes. A denial that [may show an
//!    intrusion](super::possible_intrusion) does not count, nor one that most callers answer with an older call.
//! 2. Their relatives (see [`super::relatives`]), which give no further power. The owner's lines do not exclude a relative of a
//!    denied call: the denial shows that they are wrong about its kind.
//! 3. Calls with evidence about this program (see [`ProgramCalls`]), unless the owner's lines exclude them, or another
//!    form of them (`clone` for `clone3`), or they [control more than the program](super::privileged_calls). After a
//!    rehearsal there is nothing left to open.
//! 4. Nothing else. But a switch such as `ProtectClock=` cannot be relaxed for one call, so a default that relaxes it
//!    opens whatever only this switch denied.

use super::program_calls::ProgramCalls;
use super::relatives;
use super::relatives::Relative;
use crate::policy::{Directive, DirectiveCause, Policy, Verdict};
use crate::programs::Program;
use crate::syscalls::{Abi, CallNames, Groups};
use std::collections::{BTreeMap, BTreeSet};

/// What a default remedy may open for some denied calls.
#[derive(Debug)]
pub struct DefaultScope<'a> {
    policy: &'a Policy,
    denied: BTreeSet<(Abi, &'a str)>,
    /// Relatives of the calls that `SystemCallFilter=` denied, with the reasons.
    relatives: BTreeMap<(Abi, &'static str), &'static str>,
    /// The directives that denied any of the calls and cannot be relaxed for one call.
    indivisible: BTreeSet<Directive>,
    /// The calls that the owner's lines exclude.
    excluded: CallNames,
    /// The calls with evidence about this program.
    program: ProgramCalls,
}

impl<'a> DefaultScope<'a> {
    /// Returns the scope for calls that a policy denied, or may have denied.
    #[must_use]
    pub fn new(denied: impl IntoIterator<Item = (Abi, &'a str)>, policy: &'a Policy, groups: &Groups) -> Self {
        let denied: BTreeSet<(Abi, &str)> = denied.into_iter().collect();
        let mut scope = Self {
            policy,
            denied,
            relatives: BTreeMap::new(),
            indivisible: BTreeSet::new(),
            excluded: policy.excluded_calls(groups),
            program: ProgramCalls::default(),
        };
        for (abi, call) in &scope.denied {
            let causes = denying_causes(policy, *abi, call);
            scope.indivisible.extend(causes.iter().map(|cause| cause.directive).filter(|cause| is_indivisible(*cause)));
            if causes.iter().any(|cause| cause.directive == Directive::SystemCallFilter) {
                for Relative { call, reason } in relatives::find_relatives(*abi, call, groups) {
                    scope.relatives.entry((*abi, call)).or_insert(reason);
                }
            }
        }
        scope.relatives.retain(|call, _| !scope.denied.contains(call));
        scope
    }

    /// Adds the calls with evidence about the unit's programs.
    #[must_use]
    pub fn with_programs(mut self, programs: &[Program], groups: &Groups) -> Self {
        self.program = ProgramCalls::weigh(programs, &self.denied, self.policy, groups);
        self
    }

    /// Whether a default may open a call.
    #[must_use]
    pub fn permits(&self, abi: Abi, call: &str) -> bool {
        self.is_denied_or_relative(call)
            || (self.program.has(call) && !self.is_excluded(call))
            || self.is_denied_by_relaxed(abi, call)
    }

    /// The evidence about the unit's programs.
    pub(super) fn program(&self) -> &ProgramCalls {
        &self.program
    }

    /// Whether the owner's lines exclude a call or another form of it, and none of its relatives was denied.
    #[must_use]
    pub fn is_excluded(&self, call: &str) -> bool {
        let is_named = |call: &str| self.excluded.contains(call) || self.policy.filter_names_as_denied(call);
        let is_unwanted = is_named(call) || relatives::find_equivalents(call).any(is_named);
        is_unwanted && !self.is_denied_or_relative(call)
    }

    /// The relatives of the denied calls, with the reasons.
    pub(super) fn relatives(&self) -> impl Iterator<Item = (Abi, Relative)> {
        self.relatives.iter().map(|((abi, call), reason)| (*abi, Relative { call, reason }))
    }

    /// Goes by the name alone: a filter lists calls for every ABI.
    fn is_denied_or_relative(&self, call: &str) -> bool {
        let mut names = self.denied.iter().map(|(_, name)| *name).chain(self.relatives.keys().map(|(_, name)| *name));
        names.any(|name| name == call)
    }

    /// Whether only directives that a default has to relax deny the call.
    fn is_denied_by_relaxed(&self, abi: Abi, call: &str) -> bool {
        let causes = denying_causes(self.policy, abi, call);
        !causes.is_empty() && causes.iter().all(|cause| self.indivisible.contains(&cause.directive))
    }
}

/// Whether a directive cannot be relaxed for one call: it is on or off, for all its calls or for those of an ABI.
fn is_indivisible(directive: Directive) -> bool {
    directive.is_switch() || directive == Directive::SystemCallArchitectures
}

/// Returns the directives that deny a call, for any arguments or for some.
fn denying_causes(policy: &Policy, abi: Abi, call: &str) -> Vec<DirectiveCause> {
    match policy.verdict(abi, call) {
        Verdict::Denied { by, .. } | Verdict::Possible { by } => by,
        Verdict::Permitted | Verdict::LogOnly { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Settings, UnitFile};
    use crate::programs::{ElfFile, Libc, ProgramImage};
    use std::path::Path;

    fn policy(lines: &str) -> Policy {
        let file = UnitFile::parse(Path::new("x.service"), format!("[Service]\n{lines}\n").as_bytes());
        let settings = Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new());
        Policy::new(settings, &Groups::embedded().with_native(Abi::X86_64))
    }

    /// Returns those of `asked` that a default may open, and those that the owner's lines exclude.
    fn scope<'a>(lines: &str, denied: &[&str], asked: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
        let (policy, groups) = (policy(lines), Groups::embedded());
        let scope = DefaultScope::new(denied.iter().map(|call| (Abi::X86_64, *call)), &policy, &groups);
        let only = |is: &dyn Fn(&str) -> bool| asked.iter().copied().filter(|call| is(call)).collect();
        (only(&|call| scope.permits(Abi::X86_64, call)), only(&|call| scope.is_excluded(call)))
    }

    #[test]
    fn denied_call_and_its_relatives_are_in_scope_and_nothing_else() {
        let asked = ["access", "faccessat", "faccessat2", "socket", "stat", "setgid"];
        let (permitted, excluded) =
            scope("SystemCallFilter=@basic-io @process\nSystemCallFilter=~@network-io", &["access"], &asked);
        assert_eq!(permitted, ["access", "faccessat", "faccessat2"]);
        assert_eq!(excluded, ["socket"]);
    }

    #[test]
    fn calls_under_one_capability_are_relatives_even_if_the_owner_excludes_them() {
        let asked = ["setgid", "setgroups", "setresgid", "setuid", "chown"];
        let (permitted, excluded) =
            scope("SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @setuid", &["setgid"], &asked);
        assert_eq!(permitted, ["setgid", "setgroups", "setresgid"]);
        assert_eq!(excluded, ["setuid", "chown"]);
    }

    #[test]
    fn other_form_of_an_excluded_call_is_excluded() {
        let forms = ["clone3", "vfork", "unlinkat", "renameat2", "faccessat2", "accept4", "chown", "setuid", "bind"];
        let lines = "SystemCallFilter=@basic-io\nSystemCallFilter=~clone unlink rename access accept fchown setreuid socketcall";
        assert_eq!(scope(lines, &["mkdir"], &forms).1, forms[..6]);
        assert_eq!(scope(lines, &["clone"], &forms).1, forms[2..6], "a denied form shows that the owner is wrong");
    }

    #[test]
    fn imported_form_of_an_excluded_call_is_not_opened() {
        let (policy, groups) =
            (policy("SystemCallFilter=@basic-io\nSystemCallFilter=~clone unlink"), Groups::embedded());
        let file = ElfFile {
            abi: Some(Abi::X86_64),
            libc: Libc::Glibc,
            imports: ["pthread_create", "unlinkat", "socket"].map(Into::into).into(),
            ..ElfFile::default()
        };
        let program = Program::new(b"/usr/bin/x".as_slice(), ProgramImage::Native(file));
        let scope = DefaultScope::new([(Abi::X86_64, "mkdir")], &policy, &groups).with_programs(&[program], &groups);
        let permitted = ["clone3", "unlinkat", "socket"].map(|call| scope.permits(Abi::X86_64, call));
        assert_eq!(permitted, [false, false, true]);
    }

    #[test]
    fn relaxed_switch_opens_what_it_alone_denied() {
        let asked = ["settimeofday", "adjtimex", "iopl"];
        let (permitted, _) = scope("ProtectClock=yes\nPrivateDevices=yes", &["settimeofday"], &asked);
        assert_eq!(permitted, ["settimeofday", "adjtimex"]);
        let filtered = "ProtectClock=yes\nSystemCallFilter=~@clock";
        assert_eq!(scope(filtered, &["adjtimex"], &asked).0, ["adjtimex"], "the filter denies settimeofday as well");
    }

    #[test]
    fn list_directive_opens_denied_calls_only() {
        let (permitted, _) = scope("RestrictNamespaces=yes", &["unshare"], &["unshare", "clone3", "setns"]);
        assert_eq!(permitted, ["unshare"]);
    }
}
