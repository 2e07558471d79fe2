//! A model of a manager with one unit. It holds files, their times and the process in memory. It replaces times by their
//! order, so that sequences share states, and each step from a state is checked once.

use crate::audit::Action;
use crate::diagnosis::{FileChange, History, Situation, relatives};
use crate::incidents::{Denial, Incident, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
use crate::operations::remedy_choice::{ApplyDecision, RemedyChoice, choose};
use crate::operations::remedy_file::{ChosenRemedy, RemedyFile};
use crate::policy::{Effect, Policy, Settings, UnitFile, Verdict};
use crate::programs::{ElfFile, Program, ProgramImage};
use crate::syscalls::groups::GroupSource;
use crate::syscalls::{Abi, Arch, Call, Groups};
use crate::units::{Manager, Rung, Unit, UnitName};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{LazyLock, Mutex};

/// The path of each file of the unit.
const PATHS: [&str; 3] =
    ["/etc/x.service", "/etc/systemd/system/x.service.d/50.conf", "/etc/systemd/system/x.service.d/zz-harden-why.conf"];
pub(super) const FRAGMENT: usize = 0;
pub(super) const OWNERS: usize = 1;
pub(super) const OURS: usize = 2;

/// What the owner writes into the unit's file and into a drop-in.
pub(super) const FRAGMENTS: [&str; 4] = [
    "SystemCallFilter=~uname openat",
    "SystemCallFilter=@basic\nRestrictAddressFamilies=AF_UNIX",
    "SystemCallFilter=~@net mount\nSystemCallErrorNumber=EPERM\nRestrictAddressFamilies=AF_UNIX",
    "RestrictAddressFamilies=AF_UNIX\nLockPersonality=yes\nRestrictNamespaces=yes",
];
pub(super) const DROP_INS: [&str; 3] =
    ["", "SystemCallFilter=~uname\nRestrictAddressFamilies=AF_INET", "SystemCallErrorNumber=EACCES"];

pub(super) const CALLS: [&str; 6] = ["openat", "uname", "socket", "mount", "personality", "clone3"];

static GROUPS: LazyLock<Groups> = LazyLock::new(|| {
    let listing = "@known\n    @basic\n    @net\n    @mount\n    clone\n    clone3\n    personality\n    uname\n\
        @basic\n    read\n    write\n@mount\n    mount\n@net\n    bind\n    socket\n    openat\n    openat2\n";
    Groups::parse(listing, GroupSource::Host("252".into())).unwrap()
});

/// What the program imports: evidence for these calls, except the privileged one.
const IMPORTS: [&str; 3] = ["bind", "mount", "uname"];
const EVIDENT: [&str; 2] = ["bind", "uname"];

static PROGRAMS: LazyLock<Vec<Program>> = LazyLock::new(|| {
    let imports = IMPORTS.map(Into::into).into();
    let file = ElfFile { abi: Some(Abi::X86_64), imports, ..ElfFile::default() };
    vec![Program::new(b"/bin/x".as_slice(), ProgramImage::Native(file))]
});

/// The content of the files.
type Files = [String; 3];

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Denied {
    call: &'static str,
    action: Action,
    source: SightingSource,
    first: i64,
    last: i64,
    /// The files that were in force for the process that was denied the call last.
    under: Files,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) files: Files,
    /// Whether the program's imports are known.
    has_evidence: bool,
    /// What the remedies so far may open, by the definition for a default and by the answer for a chosen number.
    granted: BTreeSet<String>,
    /// When each file was changed.
    changed: [i64; 3],
    /// When a drop-in was added, replaced or removed.
    dir_changed: i64,
    /// The files as the manager read them.
    loaded: Files,
    loaded_at: i64,
    /// The latest start, and the files in force then.
    started: Option<(i64, Files)>,
    running: bool,
    denied: Vec<Denied>,
    now: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Event {
    Apply(Option<usize>),
    /// A rehearsal in which the program makes a call, and one more.
    Rehearse(usize, usize),
    Revert,
    Restart,
    Reload,
    Stop,
    Edit(usize, usize),
    Call(usize),
}

/// Returns the policy of the files. Sequences share most of them.
fn policy(files: &Files) -> Policy {
    static KNOWN: LazyLock<Mutex<HashMap<Files, Policy>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap();
    known.entry(files.clone()).or_insert_with(|| read_policy(files)).clone()
}

fn read_policy(files: &Files) -> Policy {
    let file = |at: usize| UnitFile::parse(Path::new(PATHS[at]), format!("[Service]\n{}\n", files[at]).as_bytes());
    let dropins = [OWNERS, OURS].into_iter().filter(|at| !files[*at].is_empty()).map(file).collect();
    let settings = Settings::new(&name(), Some(file(FRAGMENT)), dropins);
    Policy::new(settings, &GROUPS)
}

fn name() -> UnitName {
    "x.service".parse().unwrap()
}

impl State {
    pub(super) fn new(has_evidence: bool) -> Self {
        let files = [FRAGMENTS[0].to_owned(), String::new(), String::new()];
        let started = Some((2, files.clone()));
        Self {
            loaded: files.clone(),
            loaded_at: 1,
            files,
            has_evidence,
            granted: BTreeSet::new(),
            changed: [1, 0, 0],
            dir_changed: 0,
            started,
            running: true,
            denied: Vec::new(),
            now: 3,
        }
    }

    fn situation(&self) -> Situation {
        let exists = |at: &usize| !self.files[*at].is_empty();
        let change = |at: usize| FileChange { path: PATHS[at].into(), at: self.changed[at] * 1000 };
        let files = [FRAGMENT, OWNERS, OURS].into_iter().filter(exists).map(change);
        let dir = FileChange { path: "/etc/systemd/system/x.service.d".into(), at: self.dir_changed * 1000 };
        let history = History {
            changes: files.chain([dir]).collect(),
            pending: self.loaded != self.files,
            loaded: Some(self.loaded_at * 1000),
            started: self.started.as_ref().map(|(at, _)| at * 1000),
            activated: None,
            running: self.running,
            booted: 0,
        };
        Situation {
            policy: policy(&self.files),
            drop_in: PATHS[OURS].into(),
            history: Some(history),
            programs: if self.has_evidence { PROGRAMS.clone() } else { Vec::new() },
        }
    }

    fn incidents(&self) -> Vec<Incident> {
        let incident = |denied: &Denied| Incident {
            key: IncidentKey {
                unit: Some(Unit { manager: Manager::System, name: name() }),
                event: IncidentEvent::Denial(Denial {
                    call: Call::named(Arch::X86_64, denied.call),
                    action: denied.action,
                }),
                exe: b"/bin/x".to_vec(),
                source: denied.source,
            },
            rung: Some(Rung::OwnCgroup),
            count: 1,
            first: Moment::At(denied.first * 1000),
            last: Moment::At(denied.last * 1000),
            sample: Sample::default(),
        };
        self.denied.iter().map(incident).collect()
    }

    fn choose(&self, number: Option<usize>) -> anyhow::Result<ApplyDecision> {
        let choice = number.map_or(RemedyChoice::Default, RemedyChoice::Number);
        let ours = Some(self.files[OURS].as_bytes()).filter(|ours| !ours.is_empty());
        choose(self.incidents(), self.situation(), ours, choice, &name(), &GROUPS)
    }

    fn write(&mut self, at: usize, content: String) {
        self.now += 1;
        self.files[at] = content;
        self.changed[at] = self.now;
        if at != FRAGMENT {
            self.dir_changed = self.now;
        }
    }

    fn reload(&mut self) {
        self.now += 1;
        self.loaded = self.files.clone();
        self.loaded_at = self.now;
    }

    /// Applies as the verb does. Returns the remedy if it wrote one.
    fn apply(&mut self, number: Option<usize>) -> Option<ChosenRemedy> {
        let Ok(ApplyDecision::Write(chosen)) = self.choose(number) else { return None };
        let text = RemedyFile::parse(self.files[OURS].as_bytes()).compose(&chosen, "Title", "today", "undo");
        self.write(OURS, text);
        self.reload();
        Some(*chosen)
    }

    /// Makes the process call. It asks for arguments that are denied if any are.
    fn call(&mut self, call: &'static str) {
        let Some((_, under)) = self.started.clone().filter(|_| self.running) else { return };
        let action = match policy(&under).verdict(Abi::X86_64, call) {
            Verdict::Denied { effect: Effect::Kill, .. } => Action::KillProcess,
            Verdict::Denied { .. } | Verdict::Possible { .. } => Action::Errno,
            Verdict::Permitted | Verdict::LogOnly { .. } => return,
        };
        self.running &= action != Action::KillProcess;
        self.see(call, action, SightingSource::Audit, under);
    }

    /// Counts a denied call.
    fn see(&mut self, call: &'static str, action: Action, source: SightingSource, under: Files) {
        self.now += 1;
        let is_same = |denied: &Denied| denied.call == call && denied.action == action && denied.source == source;
        let known = self.denied.iter().position(is_same);
        let first = known.map_or(self.now, |at| self.denied.remove(at).first);
        self.denied.push(Denied { call, action, source, first, last: self.now, under });
    }

    /// Runs the unit without its filters, notes the calls that they would deny, and restarts it under them.
    fn rehearse(&mut self, calls: [&'static str; 2]) {
        self.reload();
        let under = self.files.clone();
        let policy = policy(&under);
        for call in calls {
            if matches!(policy.verdict(Abi::X86_64, call), Verdict::Denied { .. } | Verdict::Possible { .. }) {
                self.see(call, Action::Log, SightingSource::Rehearsal, under.clone());
            }
        }
        self.now += 1;
        self.started = Some((self.now, self.loaded.clone()));
        self.running = true;
    }

    /// Takes a step. Returns what is wrong with it.
    pub(super) fn step(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Apply(number) => {
                let before = self.clone();
                if let Some(chosen) = self.apply(number) {
                    self.granted.extend(match number {
                        None => before.check_default(&policy(&self.files))?,
                        Some(_) => check_chosen(&chosen, &policy(&self.files))?,
                    });
                }
                let after = self.clone();
                if self.apply(number).is_some() || *self != after {
                    return Err(format!("again: {:?} became {:?}", after.files[OURS], self.files[OURS]));
                }
            }
            Event::Rehearse(first, second) => self.rehearse([CALLS[first], CALLS[second]]),
            Event::Revert if self.files[OURS].is_empty() => {}
            Event::Revert => {
                self.write(OURS, String::new());
                self.reload();
                self.granted.clear();
            }
            Event::Restart => {
                // The owner reloads the manager before the next start, as systemctl asks. Otherwise no time
                // shows later under which settings a process started.
                self.reload();
                self.now += 1;
                self.started = Some((self.now, self.loaded.clone()));
                self.running = true;
            }
            Event::Reload => self.reload(),
            Event::Stop => self.running = false,
            Event::Edit(FRAGMENT, text) => self.write(FRAGMENT, FRAGMENTS[text].to_owned()),
            Event::Edit(at, text) => self.write(at, DROP_INS[text].to_owned()),
            Event::Call(call) => self.call(CALLS[call]),
        }
        self.shorten_times();
        self.check_open()
    }

    /// Checks that the drop-in opens only what its remedies may open, whatever the owner wrote since.
    fn check_open(&self) -> Result<(), String> {
        let mut without = self.files.clone();
        without[OURS].clear();
        if without == self.files {
            return Ok(());
        }
        let (with, without) = (policy(&self.files), policy(&without));
        let opened = find_opened(&without, &with);
        let wrong: Vec<_> = opened.iter().filter(|call| !self.granted.contains(*call)).collect();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!("{wrong:?} are open; granted: {:?}; {:?}", self.granted, self.files))
    }

    /// Checks that a default remedy opens only calls that were denied since the settings that decide them changed, their
    /// equivalents, and those with evidence that the owner's lines do not exclude, and no address family. Returns the
    /// calls that it may open.
    fn check_default(&self, after: &Policy) -> Result<BTreeSet<String>, String> {
        let now = policy(&self.files);
        let verdict = |policy: &Policy, call: &str| policy.verdict(Abi::X86_64, call);
        let has_denying_lines = |files: &Files, call: &str| {
            let Verdict::Denied { by, .. } = verdict(&now, call) else { return false };
            let origins = by.iter().filter_map(|cause| cause.origin.as_ref());
            let mut paths = origins.filter_map(|origin| PATHS.iter().position(|path| Path::new(path) == &*origin.path));
            paths.all(|at| files[at] == self.files[at])
        };
        let is_same = |files: &Files, call: &str| {
            verdict(&policy(files), call) == verdict(&now, call) || has_denying_lines(files, call)
        };
        let is_fresh = |denied: &&Denied| {
            // After a later start, it is unknown whether the denied process was older than an edit before the denial.
            let is_start_known = self.started.as_ref().is_some_and(|(at, _)| *at <= denied.last);
            let mut at_most = denied.under.clone();
            for at in [FRAGMENT, OWNERS].into_iter().filter(|at| !is_start_known && self.changed[*at] < denied.last) {
                at_most[at].clone_from(&self.files[at]);
            }
            is_same(&denied.under, denied.call) || is_same(&at_most, denied.call)
        };
        let fresh: Vec<&str> = self.denied.iter().filter(is_fresh).map(|denied| denied.call).collect();
        let relatives = fresh.iter().flat_map(|call| relatives::find_relatives(Abi::X86_64, call, &GROUPS));
        let mut allowed: BTreeSet<&str> =
            fresh.iter().copied().chain(relatives.map(|relative| relative.call)).collect();
        // After a rehearsal nothing is opened early.
        let is_rehearsed = self.denied.iter().any(|denied| denied.source == SightingSource::Rehearsal);
        if self.has_evidence && !is_rehearsed {
            allowed.extend(EVIDENT.iter().filter(|call| !self.is_excluded(call)));
        }
        let wrong: Vec<_> =
            find_opened(&now, after).into_iter().filter(|call| !allowed.contains(call.as_str())).collect();
        let families = |policy: &Policy| policy.families().map(|families| families.listed.len());
        if !wrong.is_empty() || families(after) != families(&now) {
            return Err(format!("opens {wrong:?}; denied: {fresh:?}; {:?}", self.files));
        }
        Ok(allowed.into_iter().map(str::to_owned).collect())
    }

    /// Whether a line of the owner takes a call from a list, by its name or its group.
    fn is_excluded(&self, call: &str) -> bool {
        let lines = [FRAGMENT, OWNERS].into_iter().flat_map(|at| self.files[at].lines());
        let mut words =
            lines.filter_map(|line| line.strip_prefix("SystemCallFilter=~")).flat_map(str::split_whitespace);
        words.any(|word| word == call || GROUPS.calls(word).is_some_and(|calls| calls.contains(call)))
    }

    /// Replaces each time by its rank.
    fn shorten_times(&mut self) {
        let started = self.started.iter_mut().map(|(at, _)| at);
        let denied = self.denied.iter_mut().flat_map(|denied| [&mut denied.first, &mut denied.last]);
        let times: Vec<&mut i64> = self
            .changed
            .iter_mut()
            .chain(started)
            .chain(denied)
            .chain([&mut self.dir_changed, &mut self.loaded_at, &mut self.now])
            .collect();
        let sorted: BTreeSet<i64> = times.iter().map(|at| **at).collect();
        let ranks: BTreeMap<i64, i64> = sorted.into_iter().zip(0..).collect();
        for at in times {
            *at = ranks[at];
        }
    }
}

/// Checks that a remedy that a person chose opens what the answer says. Returns what it may open later: its lines can
/// open more once the owner changes other lines.
fn check_chosen(chosen: &ChosenRemedy, after: &Policy) -> Result<BTreeSet<String>, String> {
    let remedy = &chosen.remedy;
    let denied = chosen.diagnosis.findings.iter().filter_map(|finding| finding.incident.call()?.name());
    let mut shown: BTreeSet<String> = denied.map(str::to_owned).collect();
    shown.extend(remedy.opens.iter().map(ToString::to_string));
    let opened = find_opened(&chosen.situation.policy, after);
    let wrong: Vec<_> = opened.iter().filter(|call| !shown.contains(*call)).collect();
    if !wrong.is_empty() {
        return Err(format!("remedy {} opens {wrong:?}, and shows {shown:?}: {:?}", chosen.number, remedy.lines));
    }
    let words = remedy.lines.iter().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let words = words.filter(|words| !words.starts_with('~')).flat_map(str::split_whitespace);
    for word in words {
        match GROUPS.calls(word) {
            Some(calls) => shown.extend(calls.iter().map(ToString::to_string)),
            None => _ = shown.insert(word.to_owned()),
        }
    }
    Ok(shown)
}

/// Returns the calls that pass under a policy and did not under another.
fn find_opened(before: &Policy, after: &Policy) -> Vec<String> {
    let is_open = |policy: &Policy, call: &str| !matches!(policy.verdict(Abi::X86_64, call), Verdict::Denied { .. });
    let known = GROUPS.calls("@known").unwrap();
    known.iter().filter(|call| is_open(after, call) && !is_open(before, call)).map(ToString::to_string).collect()
}
