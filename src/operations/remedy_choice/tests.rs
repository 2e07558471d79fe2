//! Random sequences of verbs, owner's edits and denials, in a model of a manager with one unit.
//!
//! The model holds files, their times and the process in memory. It replaces times by their order, so that the
//! sequences share states, and each step from a state is checked once.

use super::*;
use crate::audit::Action;
use crate::diagnosis::relatives;
use crate::diagnosis::{FileChange, History};
use crate::incidents::{Denial, IncidentEvent, IncidentKey, Moment, Sample, SightingSource};
use crate::policy::{Effect, Policy, Settings, UnitFile, Verdict};
use crate::syscalls::groups::GroupSource;
use crate::syscalls::{Abi, Arch, Call};
use crate::units::{Manager, Rung, Unit};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::LazyLock;

const SEQUENCES: u64 = 100_000;
const LENGTH: u32 = 7;
const SEED: u64 = 0x5eed_0013;

/// The path of each file of the unit.
const PATHS: [&str; 3] =
    ["/etc/x.service", "/etc/systemd/system/x.service.d/50.conf", "/etc/systemd/system/x.service.d/zz-harden-why.conf"];
const FRAGMENT: usize = 0;
const OWNERS: usize = 1;
const OURS: usize = 2;

/// What the owner writes into the unit's file and into a drop-in.
const FRAGMENTS: [&str; 4] = [
    "SystemCallFilter=~uname openat",
    "SystemCallFilter=@basic\nRestrictAddressFamilies=AF_UNIX",
    "SystemCallFilter=~@net mount\nSystemCallErrorNumber=EPERM\nRestrictAddressFamilies=AF_UNIX",
    "RestrictAddressFamilies=AF_UNIX\nLockPersonality=yes\nRestrictNamespaces=yes",
];
const DROP_INS: [&str; 3] =
    ["", "SystemCallFilter=~uname\nRestrictAddressFamilies=AF_INET", "SystemCallErrorNumber=EACCES"];

const CALLS: [&str; 6] = ["openat", "uname", "socket", "mount", "personality", "clone3"];

static GROUPS: LazyLock<Groups> = LazyLock::new(|| {
    let listing = "@known\n    @basic\n    @net\n    clone\n    clone3\n    mount\n    personality\n    uname\n\
        @basic\n    read\n    write\n@net\n    bind\n    socket\n    openat\n    openat2\n";
    Groups::parse(listing, GroupSource::Host("252".into())).unwrap()
});

/// The content of the files.
type Files = [String; 3];

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Denied {
    call: &'static str,
    action: Action,
    first: i64,
    last: i64,
    /// The files that were in force for the process that was denied the call last.
    under: Files,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    files: Files,
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
enum Event {
    Apply(Option<usize>),
    Revert,
    Restart,
    Reload,
    Stop,
    Edit(usize, usize),
    Call(usize),
}

fn policy(files: &Files) -> Policy {
    let file = |at: usize| UnitFile::parse(Path::new(PATHS[at]), format!("[Service]\n{}\n", files[at]).as_bytes());
    let dropins = [OWNERS, OURS].into_iter().filter(|at| !files[*at].is_empty()).map(file).collect();
    let settings = Settings::new(&name(), Some(file(FRAGMENT)), dropins);
    Policy::new(settings, &GROUPS)
}

fn name() -> UnitName {
    "x.service".parse().unwrap()
}

impl State {
    fn new() -> Self {
        let files = [FRAGMENTS[0].to_owned(), String::new(), String::new()];
        let started = Some((2, files.clone()));
        Self {
            loaded: files.clone(),
            loaded_at: 1,
            files,
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
            programs: Vec::new(),
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
                source: SightingSource::Audit,
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
    fn apply(&mut self, number: Option<usize>) -> Option<Remedy> {
        let Ok(ApplyDecision::Write(chosen)) = self.choose(number) else { return None };
        let text = RemedyFile::parse(self.files[OURS].as_bytes()).compose(&chosen, "Title", "today", "undo");
        self.write(OURS, text);
        self.reload();
        Some(chosen.remedy)
    }

    /// Makes the process call. It asks for arguments that are denied if any are.
    fn call(&mut self, call: &'static str) {
        let Some((_, under)) = self.started.clone().filter(|_| self.running) else { return };
        let action = match policy(&under).verdict(Abi::X86_64, call) {
            Verdict::Denied { effect: Effect::Kill, .. } => Action::KillProcess,
            Verdict::Denied { .. } | Verdict::Possible { .. } => Action::Errno,
            Verdict::Permitted | Verdict::LogOnly { .. } => return,
        };
        self.now += 1;
        self.running &= action != Action::KillProcess;
        let known = self.denied.iter().position(|denied| denied.call == call && denied.action == action);
        let first = known.map_or(self.now, |at| self.denied.remove(at).first);
        self.denied.push(Denied { call, action, first, last: self.now, under });
    }

    /// Takes a step. Returns what is wrong with it.
    fn step(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Apply(number) => {
                let before = self.clone();
                let written = self.apply(number).filter(|_| number.is_none());
                if written.is_some() {
                    before.check_opened(&policy(&self.files))?;
                }
                let after = self.clone();
                if self.apply(number).is_some() || *self != after {
                    return Err(format!("again: {:?} became {:?}", after.files[OURS], self.files[OURS]));
                }
            }
            Event::Revert if self.files[OURS].is_empty() => {}
            Event::Revert => {
                self.write(OURS, String::new());
                self.reload();
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
        Ok(())
    }

    /// Checks that a default remedy opens only calls that were denied since the settings that decide them changed, and
    /// their equivalents, and no address family.
    fn check_opened(&self, after: &Policy) -> Result<(), String> {
        let now = policy(&self.files);
        let verdict = |policy: &Policy, call: &str| policy.verdict(Abi::X86_64, call);
        let is_open = |policy: &Policy, call: &str| !matches!(verdict(policy, call), Verdict::Denied { .. });
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
        let allowed: BTreeSet<&str> = fresh.iter().copied().chain(relatives.map(|relative| relative.call)).collect();
        let known = GROUPS.calls("@known").unwrap();
        let opened = known.iter().filter(|call| is_open(after, call) && !is_open(&now, call));
        let wrong: Vec<_> = opened.filter(|call| !allowed.contains(&***call)).collect();
        let families = |policy: &Policy| policy.families().map(|families| families.listed.len());
        if !wrong.is_empty() || families(after) != families(&now) {
            return Err(format!("opens {wrong:?}; denied: {fresh:?}; {:?}", self.files));
        }
        Ok(())
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

/// A generator of pseudo-random numbers (`SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }

    fn event(&mut self) -> Event {
        match self.below(12) {
            0..3 => Event::Apply(None),
            3..5 => Event::Apply(Some(1 + self.below(3))),
            5 => Event::Revert,
            6 => Event::Restart,
            7 => [Event::Reload, Event::Stop][self.below(2)],
            8 => Event::Edit(FRAGMENT, self.below(FRAGMENTS.len())),
            9 => Event::Edit(OWNERS, self.below(DROP_INS.len())),
            _ => Event::Call(self.below(CALLS.len())),
        }
    }
}

#[test]
fn default_remedy_opens_only_calls_denied_since_last_change_and_asking_twice_changes_nothing() {
    let mut random = Random(SEED);
    let mut steps: HashMap<(State, Event), Result<State, String>> = HashMap::new();
    for sequence in 0..SEQUENCES {
        let mut state = State::new();
        let mut events = Vec::new();
        for _ in 0..LENGTH {
            let event = random.event();
            events.push(event);
            let step = steps.entry((state, event)).or_insert_with_key(|(state, event)| {
                let mut next = state.clone();
                next.step(*event).map(|()| next)
            });
            match step {
                Ok(next) => state = next.clone(),
                Err(why) => panic!("sequence {sequence} {events:?}: {why}"),
            }
        }
    }
    let writes_default = |((before, event), after): &(&(State, Event), &Result<State, String>)| {
        let is_written = after.as_ref().is_ok_and(|after| after.files[OURS] != before.files[OURS]);
        *event == Event::Apply(None) && is_written
    };
    let written = steps.iter().filter(writes_default).count();
    // A choice that always refuses would pass the other checks. With this seed, 264 different steps write.
    assert!(written > 200, "only {written} of {} different steps write a default remedy", steps.len());
}
