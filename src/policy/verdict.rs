//! What a unit's policy says about one call, and which directives say so.

use super::call_list::{CallList, Mode, Word};
use super::directive::{Directive, RULES, Rule, Targets};
use super::effect::Effect;
use super::settings::Settings;
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
    log: Option<CallList>,
    /// The groups that [`RULES`] name.
    groups: BTreeMap<&'static str, Calls>,
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
        /// Everything that denies it: each must be lifted for the call to pass.
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
        Self {
            filter: SyscallFilter::simulate(settings.assignments(), groups),
            log: settings.log(groups),
            groups: named.collect(),
            native,
            settings,
        }
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

    /// The policy as the files have it, whatever is in force: what it will be at the next reload.
    #[must_use]
    pub fn as_files_say(&self, groups: &Groups) -> Self {
        self.renewed(self.settings.clone(), groups)
    }

    fn renewed(&self, settings: Settings, groups: &Groups) -> Self {
        let mut policy = Self::new(settings, self.native, groups);
        if let (Some(after), Some(before)) = (&mut policy.filter, &self.filter) {
            after.inherit(before);
        }
        policy
    }

    /// Whatever was odd in the files.
    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        let filter = self.filter.iter().flat_map(SyscallFilter::notes);
        let log = self.log.iter().flat_map(|list| &list.notes);
        self.settings.notes().iter().chain(filter).chain(log)
    }

    /// What happens to a call of an ABI.
    pub fn verdict(&self, abi: Abi, call: &str) -> Verdict {
        let mut causes = self.causes(abi, call);
        causes.sort_by_key(|(cause, _)| cause.directive);
        // No filter is installed any more for an ABI that is blocked; those installed before stay.
        if causes.iter().any(|(cause, _)| cause.why == Why::Abi) {
            causes.retain(|(cause, _)| cause.directive <= Directive::SystemCallArchitectures);
        }
        let mut effect: Option<Effect> = None;
        for (cause, _) in causes.iter().filter(|(_, certain)| *certain) {
            effect = match (effect, cause.effect) {
                (Some(before), Some(this)) if !before.yields_to(this) => Some(before),
                (before, this) => this.or(before),
            };
        }
        let (certain, possible): (Vec<_>, Vec<_>) = causes.into_iter().partition(|(_, certain)| *certain);
        let only = |causes: Vec<(Cause, bool)>| causes.into_iter().map(|(cause, _)| cause).collect::<Vec<_>>();
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
        let families = self.settings.families().filter(|families| families.restricts());
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
        let rules = RULES.iter().filter(|rule| self.targets(rule, call)).filter_map(|rule| self.by_rule(rule, call));
        rules
            .chain(self.by_family(abi, call))
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
            (directive, origin, rule.argument.map(ToOwned::to_owned))
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
        let families = self.settings.families().filter(|families| families.restricts())?;
        if call != "socket" || !filters_socket(abi) {
            return None;
        }
        let reason = "no sockets but of the families listed";
        let listed: Vec<&str> = families.listed.keys().map(AsRef::as_ref).collect();
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
        let listed = &self.settings.architectures().listed;
        let named = abi.systemd_name().is_some_and(|name| listed.contains_key(name));
        let blocked = !listed.is_empty() && abi != self.native && !named;
        blocked.then(|| Cause {
            directive: Directive::SystemCallArchitectures,
            origin: self.settings.architectures().origin().cloned(),
            effect: Some(Effect::KillThread),
            why: Why::Abi,
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
        assert_eq!(said(text, "settimeofday"), "kill ProtectClock@2 SystemCallFilter@3");
        let text = "SystemCallErrorNumber=ENOSYS\nProtectClock=yes\nSystemCallFilter=read";
        assert_eq!(said(text, "settimeofday"), "ENOSYS ProtectClock@3 SystemCallFilter@4");
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
