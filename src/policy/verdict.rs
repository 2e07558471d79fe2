//! What a unit's policy says about one call, and which directives say so.

use super::call_list::{CallList, Mode, Word};
use super::directive::{Directive, RULES, Rule, Since, Targets};
use super::effect::Effect;
use super::families::Families;
use super::settings::Settings;
use super::surroundings::{Mdwe, Surroundings, filters_blocked_abis, systemd};
use super::syscall_filter::{Reason, SyscallFilter};
use super::unit_file::{Note, Origin};
use crate::syscalls::{Abi, Calls, Groups};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A unit's whole seccomp policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What its files say.
    pub settings: Settings,
    /// Its `SystemCallFilter=`.
    pub filter: Option<SyscallFilter>,
    native: Abi,
    families: Option<Families>,
    families_notes: Vec<Note>,
    log: Option<CallList>,
    /// The groups that [`RULES`] name.
    groups: BTreeMap<&'static str, Calls>,
    surroundings: Surroundings,
    mdwe: Mdwe,
    filters_blocked_abis: bool,
    systemd: Option<u32>,
}

/// What the policy says about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It passes, and no record is written. A record of it is then somebody else's doing.
    Permitted,
    /// It passes and is logged.
    LogOnly {
        /// The word of `SystemCallLog=` that says so.
        by: Cause,
    },
    /// It depends on the arguments, which no record tells.
    Possible {
        /// What denies it for some arguments.
        by: Vec<Cause>,
    },
    /// It is denied whatever its arguments.
    Denied {
        /// The strongest action; of several errors the one installed last.
        effect: Effect,
        /// Everything that denies it, the one that decides first: each must be lifted for the call to pass.
        by: Vec<Cause>,
        /// What would then still deny it for some arguments.
        possible: Vec<Cause>,
    },
}

/// One directive's part in a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Which directive.
    pub directive: Directive,
    /// The line that made it so; `None` if the manager told it, or nothing did.
    pub origin: Option<Origin>,
    /// What it does to the call; `None` if it only logs it.
    pub effect: Option<Effect>,
    /// Why.
    pub why: Why,
}

/// Why a directive concerns a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// An allow-list does not contain it; the word began the list.
    NotAllowed(Arc<Word>),
    /// The word took it off an allow-list.
    TakenOff(Arc<Word>),
    /// The word put it on a deny-list, or denied it on an allow-list.
    Listed(Arc<Word>),
    /// systemd does not know it, and the allow-list answers such calls with ENOSYS.
    UnknownToSystemd,
    /// The word lists it, but systemd's libseccomp does not know it: no line of the unit can allow it.
    UnknownToLibseccomp(Arc<Word>),
    /// Its ABI is not among those listed.
    Abi,
    /// Its ABI is not among those that the manager lists for all that it starts: no line of the unit can allow it.
    ManagersAbi,
    /// The directive denies it, for this reason.
    Always(&'static str),
    /// The directive denies it with these arguments, for this reason.
    Argument {
        /// Which.
        which: String,
        /// Why.
        reason: &'static str,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed(_) => f.write_str("the allow-list does not contain it"),
            Self::TakenOff(word) => write!(f, "{} takes it off the allow-list", word.text),
            Self::Listed(word) => write!(f, "{} lists it", word.text),
            Self::UnknownToSystemd => {
                f.write_str("this systemd does not know it, and its allow-lists refuse such calls")
            }
            Self::UnknownToLibseccomp(word) => {
                write!(f, "{} lists it, but the libseccomp of this systemd does not know it", word.text)
            }
            Self::Abi => f.write_str("its architecture is not listed"),
            Self::ManagersAbi => f.write_str("its architecture is not listed, for all units of the manager"),
            Self::Always(reason) => f.write_str(reason),
            Self::Argument { which, .. } => write!(f, "depends on the arguments: {which}"),
        }
    }
}

impl Policy {
    /// The policy of a unit on a machine of the native ABI, which is never blocked as an ABI.
    #[must_use]
    pub fn new(settings: Settings, native: Abi, groups: &Groups) -> Self {
        let named = RULES.iter().filter_map(|rule| match rule.targets {
            Targets::Group(name) => Some((name, groups.calls(name)?.clone())),
            Targets::Calls(_) => None,
        });
        let (families, families_notes) = Families::of(&settings, groups);
        Self {
            filter: SyscallFilter::simulate(settings.assignments(), groups),
            families,
            families_notes,
            log: settings.log(groups),
            groups: named.collect(),
            mdwe: Surroundings::default().mdwe(groups),
            filters_blocked_abis: filters_blocked_abis(groups),
            systemd: systemd(groups),
            surroundings: Surroundings::default(),
            native,
            settings,
        }
    }

    /// The policy where more is known than the unit's own settings.
    #[must_use]
    pub fn amid(mut self, surroundings: Surroundings, groups: &Groups) -> Self {
        self.mdwe = surroundings.mdwe(groups);
        self.surroundings = surroundings;
        self
    }

    /// The policy with the filter the manager says is in force ([`SyscallFilter::from_manager`], or
    /// better [`SyscallFilter::reconciled`] with it), in place of the files'.
    #[must_use]
    pub fn in_force(mut self, filter: Option<SyscallFilter>) -> Self {
        self.filter = filter;
        self
    }

    /// The policy with one more drop-in, put where its file name sorts it: what a remedy is proven on.
    /// Where the filter was reconciled, calls that libseccomp did not know stay unknown.
    #[must_use]
    pub fn with_dropin(&self, path: &Path, content: &[u8], groups: &Groups) -> Self {
        self.renewed(self.settings.with_dropin(path, content), groups)
    }

    /// The policy without some of its drop-ins: what it was before they were written.
    #[must_use]
    pub fn without_dropins(&self, gone: impl Fn(&Path) -> bool, groups: &Groups) -> Self {
        self.renewed(self.settings.without_dropins(gone), groups)
    }

    /// The policy as the files have it, whatever is in force: what it will be at the next reload.
    #[must_use]
    pub fn as_files_say(&self, groups: &Groups) -> Self {
        self.renewed(self.settings.clone(), groups)
    }

    fn renewed(&self, settings: Settings, groups: &Groups) -> Self {
        let mut policy = Self::new(settings, self.native, groups).amid(self.surroundings.clone(), groups);
        if let (Some(after), Some(before)) = (&mut policy.filter, &self.filter) {
            after.inherit(before);
        }
        policy
    }

    /// The mode of `SystemCallLog=` and the calls that it lists; none if it is not set.
    #[must_use]
    pub fn logging(&self) -> (Mode, Vec<&str>) {
        let listed = self.log.iter().flat_map(|list| list.entries.keys().map(AsRef::as_ref)).collect();
        (self.log.as_ref().map_or(Mode::Deny, |list| list.mode), listed)
    }

    /// The ABI that is never blocked as one.
    #[must_use]
    pub fn native(&self) -> Abi {
        self.native
    }

    /// Whatever was odd in the files.
    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        let filter = self.filter.iter().flat_map(SyscallFilter::notes);
        let log = self.log.iter().flat_map(|list| &list.notes);
        self.settings.notes().iter().chain(&self.families_notes).chain(filter).chain(log)
    }

    /// What `RestrictAddressFamilies=` comes to, if set.
    #[must_use]
    pub fn families(&self) -> Option<&Families> {
        self.families.as_ref()
    }

    /// What happens to a call of an ABI.
    pub fn verdict(&self, abi: Abi, call: &str) -> Verdict {
        let mut causes = self.causes(abi, call);
        causes.sort_by_key(|(cause, _)| cause.directive);
        // No filter is installed any more for an ABI that is blocked; those installed before stay.
        if causes.iter().any(|(cause, _)| cause.why == Why::Abi) {
            causes.retain(|(cause, _)| cause.directive <= Directive::SystemCallArchitectures);
        }
        if !self.filters_blocked_abis && self.surroundings.own.blocks(abi, self.native) {
            causes.retain(|(cause, _)| cause.why == Why::ManagersAbi);
        }
        let mut effect: Option<Effect> = None;
        for (cause, _) in causes.iter().filter(|(_, certain)| *certain) {
            effect = match (effect, cause.effect) {
                (Some(before), Some(this)) if !before.yields_to(this) => Some(before),
                (before, this) => this.or(before),
            };
        }
        let (certain, possible): (Vec<_>, Vec<_>) = causes.into_iter().partition(|(_, certain)| *certain);
        // The strongest first, and of equals the newest: the one that decided leads.
        let only = |causes: Vec<(Cause, bool)>| {
            let mut causes: Vec<Cause> = causes.into_iter().rev().map(|(cause, _)| cause).collect();
            causes.sort_by_key(|cause| std::cmp::Reverse(cause.effect.map(Effect::severity)));
            causes
        };
        let (by, possible) = (only(certain), only(possible));
        match effect {
            Some(effect) => Verdict::Denied { effect, by, possible },
            None if !possible.is_empty() => Verdict::Possible { by: possible },
            None => self.logged(call).map_or(Verdict::Permitted, |by| Verdict::LogOnly { by }),
        }
    }

    /// The directives that refuse some call with an error rather than kill, in order.
    #[must_use]
    pub fn refusing(&self) -> Vec<Directive> {
        let is_errno = |effect: Option<Effect>| matches!(effect, Some(Effect::Errno(_)));
        let rules =
            RULES.iter().filter_map(|rule| Some(self.by_rule(rule, "")?.0)).filter(|cause| is_errno(cause.effect));
        let families = self.families().filter(|families| families.restricts());
        let filter = self.filter.as_ref().filter(|filter| filter.refuses());
        let found: BTreeSet<Directive> = rules
            .map(|cause| cause.directive)
            .chain(families.map(|_| Directive::RestrictAddressFamilies))
            .chain(filter.map(|_| Directive::SystemCallFilter))
            .collect();
        found.into_iter().collect()
    }

    /// Every directive that denies the call, and whether it does so whatever the arguments.
    fn causes(&self, abi: Abi, call: &str) -> Vec<(Cause, bool)> {
        let by_filter = |rule: &&Rule| rule.directive != Directive::MemoryDenyWriteExecute || self.mdwe != Mdwe::Kernel;
        let rules = RULES.iter().filter(|rule| self.targets(rule, call)).filter(by_filter);
        rules
            .filter_map(|rule| self.by_rule(rule, call))
            .chain(self.by_family(abi, call))
            .chain(self.by_managers_abi(abi).map(|cause| (cause, true)))
            .chain(self.by_abi(abi).map(|cause| (cause, true)))
            .chain(self.by_filter(call).map(|cause| (cause, true)))
            .collect()
    }

    fn targets(&self, rule: &Rule, call: &str) -> bool {
        match rule.targets {
            Targets::Calls(calls) => calls.contains(&call),
            Targets::Group(group) => self.groups.get(group).is_some_and(|calls| calls.contains(call)),
        }
    }

    fn by_rule(&self, rule: &Rule, call: &str) -> Option<(Cause, bool)> {
        let unsure = match (rule.since, self.systemd) {
            (Since::Ever, _) => None,
            (Since::Between(not, _), Some(systemd)) if systemd <= not => return None,
            (Since::Between(_, seen), Some(systemd)) if systemd >= seen => None,
            (Since::Between(..), _) => Some("whether this systemd refuses it is not known"),
        };
        let (directive, origin, argument) = if rule.directive == Directive::RestrictNamespaces {
            let namespaces = self.settings.namespaces().filter(|namespaces| namespaces.restricts())?;
            let argument = match (rule.argument, namespaces.retained.is_empty()) {
                (Some(_), true) if call == "setns" => None,
                (Some(which), true) => Some(format!("{which}; none is allowed")),
                (Some(which), false) => Some(format!("{which}; allowed are {}", namespaces.retained.join(" "))),
                (None, _) => None,
            };
            (rule.directive, &namespaces.origin, argument)
        } else {
            let (directive, origin) = self.switched_on(rule.directive)?;
            let perhaps = directive == Directive::MemoryDenyWriteExecute && self.mdwe == Mdwe::Either;
            let perhaps = if perhaps {
                "; with systemd 254 and Linux 6.3 the kernel refuses it with EACCES and no record"
            } else {
                ""
            };
            (directive, origin, rule.argument.or(unsure).map(|argument| format!("{argument}{perhaps}")))
        };
        let certain = argument.is_none();
        let why = match argument {
            Some(which) => Why::Argument { which, reason: rule.reason },
            None => Why::Always(rule.reason),
        };
        Some((Cause { directive, origin: Some(origin.clone()), effect: Some(rule.effect), why }, certain))
    }

    /// The directive that switches a rule on, itself or another that implies it, and its line.
    fn switched_on(&self, directive: Directive) -> Option<(Directive, &Origin)> {
        let on = |directive| self.settings.switch(directive).filter(|s| s.on).map(|s| (directive, &s.origin));
        // What is implied cannot be switched off, so it is what a remedy must deal with.
        let implied = (directive == Directive::RestrictSUIDSGID).then(|| on(Directive::DynamicUser)).flatten();
        implied.or_else(|| on(directive))
    }

    fn by_family(&self, abi: Abi, call: &str) -> Option<(Cause, bool)> {
        let families = self.families().filter(|families| families.restricts())?;
        if call != "socket" || !filters_socket(abi) {
            return None;
        }
        let reason = "no sockets but of the families listed";
        let listed: Vec<&str> = families.listed.keys().copied().collect();
        let certain = families.refuses_all();
        let why = match (certain, families.allow_list) {
            (true, _) => Why::Always(reason),
            (false, true) => Why::Argument { which: format!("a family other than {}", listed.join(" ")), reason },
            (false, false) => Why::Argument { which: format!("one of {}", listed.join(" ")), reason },
        };
        let effect = Some(Effect::Errno(libc::EAFNOSUPPORT));
        let origin = Some(families.opened.clone());
        Some((Cause { directive: Directive::RestrictAddressFamilies, origin, effect, why }, certain))
    }

    fn by_abi(&self, abi: Abi) -> Option<Cause> {
        let blocked = self.settings.architectures().blocks(abi, self.native);
        blocked.then(|| Cause {
            directive: Directive::SystemCallArchitectures,
            origin: self.settings.architectures().origin().cloned(),
            effect: Some(Effect::KillThread),
            why: Why::Abi,
        })
    }

    fn by_managers_abi(&self, abi: Abi) -> impl Iterator<Item = Cause> {
        self.surroundings.blocking(abi, self.native).map(|architectures| Cause {
            directive: Directive::SystemCallArchitectures,
            origin: architectures.origin().cloned(),
            effect: Some(Effect::KillThread),
            why: Why::ManagersAbi,
        })
    }

    fn by_filter(&self, call: &str) -> Option<Cause> {
        let ruling = self.filter.as_ref()?.ruling(call);
        let effect = ruling.denied?;
        let origin = ruling.word.origin.clone();
        let why = match ruling.reason {
            Reason::Listed => Why::Listed(ruling.word),
            Reason::Removed => Why::TakenOff(ruling.word),
            Reason::NotListed => Why::NotAllowed(ruling.word),
            Reason::Unknown => Why::UnknownToSystemd,
            Reason::Unresolved => Why::UnknownToLibseccomp(ruling.word),
        };
        Some(Cause { directive: Directive::SystemCallFilter, origin, effect: Some(effect), why })
    }

    fn logged(&self, call: &str) -> Option<Cause> {
        let list = self.log.as_ref()?;
        let word = match (list.mode, list.entries.get(call)) {
            (Mode::Allow, Some(entry)) => &entry.word,
            (Mode::Deny, None) => list.removed.get(call).unwrap_or(&list.opened),
            _ => return None,
        };
        let why = Why::Listed(Arc::clone(word));
        Some(Cause { directive: Directive::SystemCallLog, origin: word.origin.clone(), effect: None, why })
    }
}

/// Whether systemd filters `socket(2)` in this ABI: not where it can be reached through
/// `socketcall(2)` as well (`seccomp_restrict_address_families`).
fn filters_socket(abi: Abi) -> bool {
    const FILTERED: [&str; 10] = [
        "x86-64",
        "x32",
        "arm",
        "arm64",
        "loongarch64",
        "mips64",
        "mips64-le",
        "mips64-n32",
        "mips64-le-n32",
        "riscv64",
    ];
    abi.systemd_name().is_some_and(|name| FILTERED.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::surroundings::manager_architectures;
    use crate::policy::unit_file::UnitFile;
    use crate::syscalls::groups::Source;
    use std::path::Path;

    const LISTING: &str = "\
@default
    exit

@clock
    settimeofday

@module
    init_module

@raw-io
    iopl

@known
    @default
    @clock
    @module
    @raw-io
    clone3
    socket
    personality
    setns
    chmod
    openat2
    read
";

    fn policy(text: &str) -> Policy {
        let groups = Groups::parse(LISTING, Source::Host("252".into())).unwrap();
        let file = UnitFile::parse(Path::new("x"), format!("[Service]\n{text}").as_bytes());
        Policy::new(Settings::new(&"x.service".parse().unwrap(), Some(file), Vec::new()), Abi::X86_64, &groups)
    }

    /// The verdict in one line.
    fn said(text: &str, call: &str) -> String {
        let causes = |causes: &[Cause]| -> String {
            let said = causes.iter().map(|cause| match &cause.origin {
                Some(origin) => format!(" {}@{}", cause.directive.key(), origin.line),
                None => format!(" {}", cause.directive.key()),
            });
            said.collect()
        };
        match policy(text).verdict(Abi::X86_64, call) {
            Verdict::Permitted => "permitted".into(),
            Verdict::LogOnly { by } => format!("logged{}", causes(&[by])),
            Verdict::Possible { by } => format!("possible{}", causes(&by)),
            Verdict::Denied { effect, by, possible } if possible.is_empty() => format!("{effect}{}", causes(&by)),
            Verdict::Denied { effect, by, possible } => {
                format!("{effect}{} and perhaps{}", causes(&by), causes(&possible))
            }
        }
    }

    #[test]
    fn every_directive_of_the_table_acts() {
        for (line, call, verdict) in [
            ("", "read", "permitted"),
            ("ProtectHostname=yes", "sethostname", "EPERM ProtectHostname@2"),
            ("RestrictAddressFamilies=AF_UNIX", "socket", "possible RestrictAddressFamilies@2"),
            ("RestrictAddressFamilies=none", "socket", "EAFNOSUPPORT RestrictAddressFamilies@2"),
            ("RestrictAddressFamilies=~AF_UNIX", "socket", "possible RestrictAddressFamilies@2"),
            ("RestrictAddressFamilies=AF_UNIX", "read", "permitted"),
            ("MemoryDenyWriteExecute=yes", "mprotect", "possible MemoryDenyWriteExecute@2"),
            ("RestrictRealtime=yes", "sched_setscheduler", "possible RestrictRealtime@2"),
            ("RestrictSUIDSGID=yes", "chmod", "possible RestrictSUIDSGID@2"),
            ("RestrictSUIDSGID=yes", "openat2", "ENOSYS RestrictSUIDSGID@2"),
            ("DynamicUser=yes\nRestrictSUIDSGID=no", "openat2", "ENOSYS DynamicUser@2"),
            ("RestrictNamespaces=yes", "clone3", "ENOSYS RestrictNamespaces@2"),
            ("RestrictNamespaces=net", "clone3", "ENOSYS RestrictNamespaces@2"),
            ("RestrictNamespaces=no", "clone3", "permitted"),
            ("RestrictNamespaces=yes", "setns", "EPERM RestrictNamespaces@2"),
            ("RestrictNamespaces=net", "setns", "possible RestrictNamespaces@2"),
            ("RestrictNamespaces=yes", "clone", "possible RestrictNamespaces@2"),
            ("ProtectKernelTunables=yes", "_sysctl", "EPERM ProtectKernelTunables@2"),
            ("ProtectKernelModules=yes", "init_module", "EPERM ProtectKernelModules@2"),
            ("ProtectKernelLogs=yes", "syslog", "EPERM ProtectKernelLogs@2"),
            ("ProtectClock=yes", "settimeofday", "EPERM ProtectClock@2"),
            ("ProtectClock=no", "settimeofday", "permitted"),
            ("PrivateDevices=yes", "iopl", "EPERM PrivateDevices@2"),
            ("LockPersonality=yes", "personality", "possible LockPersonality@2"),
            ("SystemCallLog=read", "read", "logged SystemCallLog@2"),
            ("SystemCallLog=~read", "socket", "logged SystemCallLog@2"),
            ("SystemCallLog=~read", "read", "permitted"),
            ("SystemCallFilter=read", "socket", "kill SystemCallFilter@2"),
            ("SystemCallFilter=~read", "read", "kill SystemCallFilter@2"),
        ] {
            assert_eq!(said(line, call), verdict, "{line}: {call}");
        }
    }

    #[test]
    fn all_that_deny_are_named_and_the_strongest_decides() {
        let text = "ProtectClock=yes\nSystemCallFilter=~settimeofday";
        assert_eq!(said(text, "settimeofday"), "kill SystemCallFilter@3 ProtectClock@2");
        let text = "SystemCallErrorNumber=ENOSYS\nProtectClock=yes\nSystemCallFilter=read";
        assert_eq!(said(text, "settimeofday"), "ENOSYS SystemCallFilter@4 ProtectClock@3");
        let text = "SystemCallFilter=read\nLockPersonality=yes";
        assert_eq!(said(text, "personality"), "kill SystemCallFilter@2 and perhaps LockPersonality@3");
    }

    #[test]
    fn a_denied_call_is_not_merely_logged() {
        assert_eq!(said("SystemCallLog=read\nSystemCallFilter=~read", "read"), "kill SystemCallFilter@3");
    }

    #[test]
    fn the_native_abi_is_never_blocked() {
        assert_eq!(said("SystemCallArchitectures=x86", "read"), "permitted");
    }

    #[test]
    fn a_managers_own_architectures_are_all_its_units() {
        let groups = Groups::parse(LISTING, Source::Host("252".into())).unwrap();
        let conf = UnitFile::parse(Path::new("system.conf"), b"[Manager]\nSystemCallArchitectures=native\n");
        let (architectures, _) = manager_architectures([&conf]);
        let above = Surroundings { above: architectures.clone(), ..Surroundings::default() };
        let own = Surroundings { own: architectures, ..Surroundings::default() };
        let under = |surroundings: &Surroundings, groups: &Groups| {
            let policy = policy("SystemCallFilter=~read");
            Policy::new(policy.settings, Abi::X86_64, groups).amid(surroundings.clone(), groups)
        };
        assert_eq!(under(&own, &groups).verdict(Abi::X86_64, "socket"), Verdict::Permitted);
        let denied = |policy: &Policy, call: &str| match policy.verdict(Abi::I386, call) {
            Verdict::Denied { effect, by, .. } => {
                format!("{effect} {} {:?}", by.len(), by[0].origin.as_ref().unwrap().line)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(denied(&under(&own, &groups), "socket"), "kill thread 1 2");
        // The unit's own filter is not put on an ABI that its manager blocks, but on one that another blocks.
        assert_eq!(denied(&under(&own, &groups), "read"), "kill thread 1 2");
        assert_eq!(denied(&under(&above, &groups), "read"), "kill 2 2");
        let newer = Groups::parse(LISTING, Source::Host("257.13".into())).unwrap();
        assert_eq!(denied(&under(&own, &newer), "read"), "kill 2 2");
        // No line of the unit lets the call pass.
        let lines = b"[Service]\nSystemCallFilter=\nSystemCallArchitectures=x86\n";
        let lifted = under(&above, &groups).with_dropin(Path::new("z.conf"), lines, &groups);
        assert_eq!(denied(&lifted, "read"), "kill thread 1 2");
    }

    #[test]
    fn writable_code_is_no_filters_business_where_the_kernel_forbids_it() {
        let on = |version: &str, kernel| {
            let groups = Groups::parse(LISTING, Source::Host(version.into())).unwrap();
            let policy =
                policy("MemoryDenyWriteExecute=yes").amid(Surroundings { kernel, ..Surroundings::default() }, &groups);
            assert_eq!(policy.refusing(), [Directive::MemoryDenyWriteExecute], "it is as silent there");
            policy.verdict(Abi::X86_64, "mprotect")
        };
        assert_eq!(on("257.13", Some((6, 12))), Verdict::Permitted);
        let which = |verdict: Verdict| match verdict {
            Verdict::Possible { by } => by[0].why.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(which(on("252", Some((6, 12)))), "depends on the arguments: memory made executable");
        assert!(which(on("257", None)).contains("EACCES"), "one or the other");
    }

    #[test]
    fn what_newer_systemds_refuse_depends_on_the_version() {
        let on = |version: &str| {
            let groups = Groups::parse(LISTING, Source::Host(version.into())).unwrap();
            Policy::new(policy("RestrictRealtime=yes").settings, Abi::X86_64, &groups)
                .verdict(Abi::X86_64, "sched_setattr")
        };
        assert_eq!(on("257.13"), Verdict::Permitted);
        assert!(matches!(on("260"), Verdict::Possible { .. }));
        assert!(matches!(on("262.1-1"), Verdict::Denied { effect: Effect::Errno(libc::EPERM), .. }));
    }

    #[test]
    fn a_policy_is_known_without_some_drop_ins() {
        let groups = Groups::parse(LISTING, Source::Host("252".into())).unwrap();
        let with = policy("SystemCallFilter=@clock").with_dropin(
            Path::new("x.d/50.conf"),
            b"[Service]\nSystemCallFilter=read\n",
            &groups,
        );
        assert_eq!(with.verdict(Abi::X86_64, "read"), Verdict::Permitted);
        let without = with.without_dropins(|path| path.ends_with("50.conf"), &groups);
        assert!(matches!(without.verdict(Abi::X86_64, "read"), Verdict::Denied { .. }));
    }

    #[test]
    fn what_the_manager_holds_replaces_the_files_filter() {
        let policy = policy("SystemCallFilter=read").in_force(None);
        assert_eq!(policy.verdict(Abi::X86_64, "socket"), Verdict::Permitted);
    }

    #[test]
    fn a_dropin_is_tried_before_it_is_written() {
        let groups = Groups::parse(LISTING, Source::Host("252".into())).unwrap();
        let before = policy("SystemCallFilter=@clock\nProtectClock=yes");
        let lifted = |text: &str, call: &str| {
            let content = format!("[Service]\n{text}\n");
            before.with_dropin(Path::new("x.d/50.conf"), content.as_bytes(), &groups).verdict(Abi::X86_64, call)
                == Verdict::Permitted
        };
        assert!(lifted("SystemCallFilter=read", "read"));
        assert!(!lifted("SystemCallFilter=socket", "read"));
        assert!(lifted("ProtectClock=no", "settimeofday"));
    }

    #[test]
    fn what_refuses_with_an_error_is_named() {
        let refusing = |text: &str| -> Vec<&str> { policy(text).refusing().into_iter().map(Directive::key).collect() };
        assert!(refusing("SystemCallFilter=read\nSystemCallArchitectures=native\nSystemCallLog=read").is_empty());
        assert_eq!(refusing("SystemCallFilter=read\nSystemCallErrorNumber=EPERM"), ["SystemCallFilter"]);
        assert_eq!(refusing("SystemCallFilter=~read:EPERM socket"), ["SystemCallFilter"]);
        assert_eq!(refusing("SystemCallErrorNumber=EPERM\nSystemCallFilter=~read:kill"), Vec::<&str>::new());
        assert_eq!(refusing("DynamicUser=yes\nRestrictNamespaces=no"), ["DynamicUser"]);
        assert_eq!(refusing("ProtectClock=yes\nRestrictAddressFamilies=AF_UNIX").len(), 2);
    }

    #[test]
    fn a_why_reads_as_a_sentence() {
        let why = |text: &str, call: &str| match policy(text).verdict(Abi::X86_64, call) {
            Verdict::Denied { by, .. } | Verdict::Possible { by } => by[0].why.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(why("SystemCallFilter=@clock", "read"), "the allow-list does not contain it");
        assert_eq!(
            why("SystemCallFilter=@clock\nSystemCallFilter=~@clock", "settimeofday"),
            "~@clock takes it off the allow-list"
        );
        assert_eq!(why("SystemCallFilter=~@clock", "settimeofday"), "~@clock lists it");
        assert_eq!(
            why("RestrictNamespaces=net", "setns"),
            "depends on the arguments: no type, or one of a namespace that is not allowed; allowed are net"
        );
    }
}
