//! What a unit's `SystemCallFilter=` lines come to (`systemd.exec(5)`).

use super::call_list::{CallList, Dialect, Entry, Mode, Word};
use super::directive::Directive;
use super::effect::Effect;
use super::surroundings::systemd;
use super::unit_file::{Assignment, Note, Origin};
use crate::syscalls::{Abi, Calls, Groups};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The first systemd in which an allow-list answers calls its build does not know with ENOSYS,
/// rather than with the filter's own action (`override_default_action`, `seccomp-util.c`).
const ENOSYS_FOR_UNKNOWN_SINCE: u32 = 255;

/// Two calls of PowerPC alone. Elsewhere libseccomp has one pseudo number for both, so that a manager
/// tells the one where a file lists the other (seen with 2.5.4).
const SHARED_NUMBER: [&str; 2] = ["switch_endian", "sys_debug_setcontext"];

/// A filter in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyscallFilter {
    list: CallList,
    default: DefaultEffect,
    /// Where an allow-list answers some calls with ENOSYS.
    known: Option<Known>,
    /// Listed in the files, but not in force.
    unresolved: BTreeMap<Box<str>, Arc<Word>>,
}

/// The calls that an allow-list since 255 refuses as it refuses by default; what else is not listed gets ENOSYS.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// Those that `@known` lists itself and that have a number in the native ABI (seen with 257: calls of
    /// `@obsolete`, and those of another ABI alone, are not among them).
    refused: Arc<Calls>,
    /// Every call that a line can name.
    named: Arc<Calls>,
}

/// What `SystemCallErrorNumber=` says, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultEffect {
    /// Kill unless said otherwise.
    pub effect: Effect,
    /// `None` where nothing was said.
    pub origin: Option<Origin>,
}

impl Default for DefaultEffect {
    fn default() -> Self {
        Self { effect: Effect::Kill, origin: None }
    }
}

impl DefaultEffect {
    /// Applies one line; false where systemd ignores it.
    pub(crate) fn apply(&mut self, line: &Assignment) -> bool {
        let effect = if line.value.is_empty() { Some(Effect::Kill) } else { Effect::parse(&line.value) };
        match effect {
            None | Some(Effect::Errno(0)) => false,
            Some(effect) => {
                *self = Self { effect, origin: Some(line.origin.clone()) };
                true
            }
        }
    }
}

/// Why a call passes a filter or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The word put it on the list.
    Listed,
    /// No word did; the word is the line that began the list.
    NotListed,
    /// The word took it off the list again.
    Removed,
    /// systemd's build does not know the call, and an allow-list answers those with ENOSYS.
    Unknown,
    /// The word lists it, but systemd's libseccomp does not know the call, so no filter does.
    Unresolved,
}

/// What a filter does with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Ruling {
    /// `None` if the call passes.
    pub denied: Option<Effect>,
    /// Why.
    pub reason: Reason,
    /// The word that decided.
    pub word: Arc<Word>,
}

impl SyscallFilter {
    /// What the lines come to, in merge order; `None` if they leave no filter. Lines other than
    /// `SystemCallFilter=` and `SystemCallErrorNumber=` are skipped.
    #[must_use]
    pub fn simulate<'a>(lines: impl IntoIterator<Item = &'a Assignment>, groups: &Groups) -> Option<Self> {
        Self::resume(None, DefaultEffect::default(), lines, groups)
    }

    /// The filter after further lines, e.g. those of a drop-in that comes last.
    #[must_use]
    pub fn with<'a>(&self, lines: impl IntoIterator<Item = &'a Assignment>, groups: &Groups) -> Option<Self> {
        let mut filter = Self::resume(Some(self.list.clone()), self.default.clone(), lines, groups)?;
        filter.inherit(self);
        Some(filter)
    }

    /// Leaves out what another filter of the same machine showed libseccomp not to know.
    pub(crate) fn inherit(&mut self, other: &Self) {
        self.leave_out(|call, _| other.unresolved.contains_key(call));
    }

    fn resume<'a>(
        mut list: Option<CallList>,
        mut default: DefaultEffect,
        lines: impl IntoIterator<Item = &'a Assignment>,
        groups: &Groups,
    ) -> Option<Self> {
        let of_filter = lines.into_iter().filter(|line| match Directive::from_key(&line.key) {
            Some(Directive::SystemCallErrorNumber) => {
                default.apply(line);
                false
            }
            directive => directive == Some(Directive::SystemCallFilter),
        });
        CallList::apply(&mut list, of_filter, Dialect::Filter, groups);
        let mut filter = Self { list: list?, default, known: known(groups), unresolved: BTreeMap::new() };
        filter.leave_out(|call, _| !groups.resolves(call));
        Some(filter)
    }

    /// The filter a manager says is in force, from the D-Bus properties `SystemCallFilter (bas)` and
    /// `SystemCallErrorNumber (i)`. `None` if there is none.
    ///
    /// The manager leaves out what `~call:ERRNO` lines keep in an allow-list, so those calls appear
    /// denied with the default effect.
    #[must_use]
    pub fn from_manager(allow_list: bool, entries: &[String], errno: i32, groups: &Groups) -> Option<Self> {
        if !allow_list && entries.is_empty() {
            return None;
        }
        let mode = if allow_list { Mode::Allow } else { Mode::Deny };
        let told = Word { text: "as systemd holds it".into(), origin: None, implied: false };
        let mut list = CallList::new(mode, told);
        let word = Arc::clone(&list.opened);
        for entry in entries {
            let (name, effect) = match entry.split_once(':') {
                Some((name, effect)) => (name, Effect::parse(effect)),
                None => (entry.as_str(), None),
            };
            if !groups.knows(name) {
                let text = format!("{} is in force, but in no group of this systemd", super::unit_file::shown(name));
                list.notes.push(Note { origin: None, text });
            }
            list.entries.insert(name.into(), Entry { effect, word: Arc::clone(&word) });
        }
        let effect = if (1..=super::errno::MAX).contains(&errno) { Effect::Errno(errno) } else { Effect::Kill };
        let default = DefaultEffect { effect, origin: None };
        Some(Self { list, default, known: known(groups), unresolved: BTreeMap::new() })
    }

    /// This filter, simulated from files, with what the manager holds where it holds less: calls that
    /// its libseccomp does not know, though its groups list them. Keeps the words that decided.
    ///
    /// `None` if the two differ in any other way: the files changed since they were loaded, or they
    /// are not all of them. Only meaningful where the manager says no reload is needed.
    #[must_use]
    pub fn reconciled(&self, held: &Self) -> Option<Self> {
        let (ours, theirs) = (&self.list.entries, &held.list.entries);
        let same = self.mode() == held.mode() && self.default.effect == held.default.effect;
        let alike = theirs
            .iter()
            .filter(|(call, _)| !SHARED_NUMBER.contains(&&***call))
            .all(|(call, entry)| ours.get(call).is_some_and(|own| own.effect == entry.effect));
        if !same || !alike {
            return None;
        }
        let mut filter = self.clone();
        // Of an allow-list the manager does not tell the entries with an effect.
        let told = |entry: &Entry| self.mode() == Mode::Deny || entry.effect.is_none();
        filter.leave_out(|call, entry| told(entry) && !theirs.contains_key(call));
        Some(filter)
    }

    /// Takes calls off the list that libseccomp does not know.
    fn leave_out(&mut self, unresolved: impl Fn(&str, &Entry) -> bool) {
        self.list.entries.retain(|call, entry| {
            let gone = unresolved(call, entry);
            if gone {
                self.unresolved.insert(call.clone(), Arc::clone(&entry.word));
            }
            !gone
        });
    }

    /// Whether it is an allow-list or a deny-list.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.list.mode
    }

    /// What happens to a denied call that has no effect of its own.
    #[must_use]
    pub fn default_effect(&self) -> &DefaultEffect {
        &self.default
    }

    /// The list itself: in an allow-list what passes (but for entries with an effect of their own),
    /// in a deny-list what does not.
    #[must_use]
    pub fn effective(&self) -> &BTreeMap<Box<str>, Entry> {
        &self.list.entries
    }

    /// What systemd ignored.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.list.notes
    }

    /// Whether it answers any call with an error rather than death.
    #[must_use]
    pub fn refuses(&self) -> bool {
        let is_errno = |effect: Effect| matches!(effect, Effect::Errno(_));
        let mut listed = self.list.entries.values().map(|entry| entry.effect);
        let by_default = is_errno(self.default.effect);
        match self.mode() {
            Mode::Allow => by_default || listed.any(|effect| effect.is_some_and(is_errno)),
            Mode::Deny => listed.any(|effect| effect.map_or(by_default, is_errno)),
        }
    }

    /// Whether a call passes.
    #[must_use]
    pub fn permits(&self, call: &str) -> bool {
        self.ruling(call).denied.is_none()
    }

    /// What happens to a call, and which word decided it.
    pub fn ruling(&self, call: &str) -> Ruling {
        let default = self.default.effect;
        let list = &self.list;
        if let Some(entry) = list.entries.get(call) {
            let denied = match (list.mode, entry.effect) {
                (_, Some(effect)) => Some(effect),
                (Mode::Allow, None) => None,
                (Mode::Deny, None) => Some(default),
            };
            return Ruling { denied, reason: Reason::Listed, word: Arc::clone(&entry.word) };
        }
        let enosys = |known: &Known| !known.refused.contains(call);
        let effect = if self.known.as_ref().is_some_and(enosys) { Effect::Errno(libc::ENOSYS) } else { default };
        let denied = (list.mode == Mode::Allow).then_some(effect);
        if let Some(word) = self.unresolved.get(call) {
            let denied = denied.map(|effect| if self.known.is_some() { Effect::Errno(libc::ENOSYS) } else { effect });
            return Ruling { denied, reason: Reason::Unresolved, word: Arc::clone(word) };
        }
        let nameless = |known: &Known| !known.named.contains(call);
        let (reason, word) = match list.removed.get(call) {
            Some(word) => (Reason::Removed, word),
            None if denied.is_some() && self.known.as_ref().is_some_and(nameless) => (Reason::Unknown, &list.opened),
            None => (Reason::NotListed, &list.opened),
        };
        Ruling { denied, reason, word: Arc::clone(word) }
    }
}

/// The calls systemd's build knows, if it treats the others differently.
fn known(groups: &Groups) -> Option<Known> {
    let treats = systemd(groups).is_some_and(|systemd| systemd >= ENOSYS_FOR_UNKNOWN_SINCE);
    let named = groups.calls("@known").filter(|_| treats)?;
    let refused = groups.own_calls("@known").filter(|call| Abi::native().call_number(call).is_some());
    Some(Known { refused: Arc::new(refused.map(Into::into).collect()), named: Arc::new(named.clone()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::unit_file::UnitFile;
    use crate::syscalls::groups::Source;
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
        Groups::parse(LISTING, Source::Host(version.into())).unwrap()
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
        let listing =
            "@default\n    exit\n@obsolete\n    _sysctl\n@known\n    @obsolete\n    read\n    stime\n    exit\n";
        let groups = Groups::parse(listing, Source::Host("257.13".into())).unwrap();
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
        (any::<bool>(), words)
            .prop_map(|(negated, words)| format!("{}{}", if negated { "~" } else { "" }, words.join(" ")))
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
}
