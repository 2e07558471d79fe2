//! The deaths by SIGSYS that a log reports, matched with the records of the same log.
//!
//! A death that has a record names the unit of that record; one without is handed on as a death of its own.

use super::core_dump_text::{CoreDumpReader, ToldCoreDump};
use super::death_line;
use super::death_line::{DeathLine, Teller, ToldDeath};
use super::line_time::{LineTime, SEARCHED};
use crate::audit::{Action, IdField, Record, Stamp};
use crate::incidents::CallSite;
use crate::units::{Evidence, Manager, Rung, Unit, UnitName};
use std::collections::{BTreeMap, BTreeSet};

/// The limits of deaths and of records that are kept of one log.
const MAX_DEATHS: usize = 1024;
const MAX_KILLS: usize = 4096;

/// The limit of units whose signals are kept.
const MAX_SIGNALS: usize = 1024;

/// How many lines after a unit's name a line is still about that unit.
const ABOUT_LINES: u32 = 40;

/// A death by SIGSYS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Death {
    /// The unit, and how it is known.
    pub(crate) unit: Option<(Unit, Rung)>,
    /// The process; `None` if nothing tells.
    pub(crate) pid: Option<u32>,
    /// The program's path or name.
    pub(crate) program: Option<String>,
    /// The date and time as printed, or in milliseconds since the epoch.
    pub(crate) at: DeathTime,
    /// The function in which it died, according to its core dump.
    pub(crate) function: Option<String>,
    time: LineTime,
    names_signal: bool,
}

/// When a death was logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeathTime {
    /// Milliseconds since the epoch.
    At(i64),
    /// As the log prints it.
    Text(String),
    /// No time is known.
    Unknown,
}

/// A record of a process that a filter killed.
#[derive(Debug)]
struct Kill {
    pid: u32,
    time: LineTime,
    /// The unit that the record's source names.
    unit: Option<Unit>,
    uid: Option<u32>,
    is_matched: bool,
}

/// The deaths of a log.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Deaths {
    /// By process: the unit that the log names for a recorded process.
    evidence: Vec<(u32, Evidence)>,
    /// The deaths without a record.
    pub(crate) unrecorded: Vec<Death>,
    /// Units whose process was killed or dumped core, and the signal, if the log tells another one than SIGSYS.
    pub(crate) failed: BTreeMap<UnitName, Option<Box<str>>>,
    /// Deaths beyond the limit.
    pub(crate) others: u64,
    /// By process: where it made its last call, according to its core dump.
    sites: BTreeMap<u32, Option<CallSite>>,
}

impl Deaths {
    /// Returns where a process that dumped core made its last call; `None` also if the log has several dumps of this pid.
    pub(crate) fn call_site(&self, pid: u32) -> Option<&CallSite> {
        self.sites.get(&pid)?.as_ref()
    }

    /// Returns the units that the log names for a recorded process that died.
    pub(crate) fn evidence(&self, pid: u32) -> impl Iterator<Item = Evidence> {
        self.evidence.iter().filter(move |(of, _)| *of == pid).map(|(_, evidence)| evidence.clone())
    }
}

/// Collects deaths and records as a log is read.
#[derive(Debug, Default)]
pub(super) struct DeathReader {
    deaths: Vec<Death>,
    others: u64,
    kills: Vec<Kill>,
    failed: BTreeMap<UnitName, Option<Box<str>>>,
    /// The latest signal other than SIGSYS that killed a process of a unit.
    signals: BTreeMap<UnitName, Box<str>>,
    cores: CoreDumpReader,
    sites: BTreeMap<u32, Option<CallSite>>,
    /// The start of the line with the record that is read next.
    head: Vec<u8>,
    /// The unit that the lines are about, and for how many more lines.
    about: Option<(UnitName, u32)>,
}

impl DeathReader {
    /// Remembers the start of a line whose record is added next, for its time.
    pub(super) fn begin_line(&mut self, line: &[u8]) {
        self.head.clear();
        self.head.extend_from_slice(&line[..line.len().min(SEARCHED)]);
    }

    /// Notes a record.
    pub(super) fn add_record(&mut self, record: &Record<'_>, unit: Option<&Unit>) {
        let kills = record.action.is_kill() || record.action == Action::Trap;
        if !kills || self.kills.len() >= MAX_KILLS {
            return;
        }
        let mut time = LineTime::parse(&self.head);
        match record.stamp {
            Stamp::Millis(millis) => time.millis = Some(millis),
            Stamp::Printed(text) if time == LineTime::default() => time = LineTime::parse(text),
            _ => {}
        }
        let uid = if let IdField::Number(uid) = record.uid { Some(uid) } else { None };
        self.kills.push(Kill { pid: record.pid, time, unit: unit.cloned(), uid, is_matched: false });
    }

    /// Reads a line that is no record. Returns whether it reports a death or of a unit.
    pub(super) fn read_line(&mut self, line: &[u8]) -> bool {
        let time = LineTime::parse(line);
        let text = String::from_utf8_lossy(line);
        let at = LineTime::text(line)
            .map_or(DeathTime::Unknown, |text| DeathTime::Text(String::from_utf8_lossy(text).into_owned()));
        self.read_text(&text, &time, &at, None)
    }

    /// Counts lines that report no death: what an earlier line was about ends some lines later.
    pub(super) fn skip_lines(&mut self, count: u64) {
        let skipped = u32::try_from(count).unwrap_or(u32::MAX);
        self.about = self.about.take().and_then(|(unit, left)| Some((unit, left.checked_sub(skipped)?)));
    }

    /// Reads the message of a journal entry. `unit` is the unit that journald names for the process that wrote it.
    /// Returns whether the message reports a death or of a unit.
    pub(super) fn read_message(&mut self, message: &[u8], millis: Option<i64>, unit: Option<&Unit>) -> bool {
        let time = millis.map_or_else(LineTime::default, LineTime::from_millis);
        let at = millis.map_or(DeathTime::Unknown, DeathTime::At);
        let mut tells = false;
        for line in message.split(|byte| *byte == b'\n') {
            tells |= self.read_text(&String::from_utf8_lossy(line), &time, &at, unit);
        }
        tells
    }

    /// Notes a death that a manager, or systemd-coredump, reports in fields that journald vouches for.
    pub(super) fn add_reported(&mut self, unit: Unit, pid: Option<u32>, at: i64) {
        let rung = if pid.is_some() { Rung::JournalEntry } else { Rung::ExitEntry };
        self.add(Death {
            unit: Some((unit, rung)),
            pid,
            program: None,
            at: DeathTime::At(at),
            function: None,
            time: LineTime::from_millis(at),
            names_signal: true,
        });
    }

    fn read_text(&mut self, text: &str, time: &LineTime, at: &DeathTime, unit: Option<&Unit>) -> bool {
        let core = self.cores.read(text);
        let is_core = core.is_some();
        if let Some(core) = core {
            self.add_core(core);
        }
        self.about = self.about.take().and_then(|(unit, left)| Some((unit, left.checked_sub(1)?)));
        let told = death_line::parse(text);
        let tells = is_core || told.is_some();
        match told {
            Some(DeathLine::About(unit)) => self.about = Some((unit, ABOUT_LINES)),
            Some(DeathLine::Failed(name)) => {
                self.name_last_death(&name);
                let signal = self.signals.get(&name).cloned();
                let known = self.failed.entry(name.clone()).or_default();
                *known = known.take().or(signal);
                self.about = Some((name, ABOUT_LINES));
            }
            Some(DeathLine::OtherSignal { unit: named, signal, dumped }) => self.add_signal(named, signal, dumped),
            // The fields of such an entry are read instead.
            Some(DeathLine::Death(death)) if unit.is_some() && death.unit.is_some() => {}
            Some(DeathLine::Death(death)) => {
                let death = self.place(death, time.clone(), at.clone(), unit);
                self.add(death);
            }
            None => {}
        }
        tells
    }

    /// Gives a death the unit that it names, or that the lines around it are about.
    fn place(&self, told: ToldDeath, time: LineTime, at: DeathTime, within: Option<&Unit>) -> Death {
        let system = |name: UnitName| Unit { manager: Manager::System, name };
        let about = || self.about.as_ref().map(|(name, _)| system(name.clone()));
        let unit = match told.teller {
            Teller::Manager { system: is_system } => told.unit.map(|name| {
                let manager = if is_system { Manager::System } else { Manager::User(Manager::SOME_USER) };
                (Unit { manager, name }, Rung::ExitEntry)
            }),
            // A tag before the line shows that another program repeats the status.
            Teller::MainProcess | Teller::Command if at != DeathTime::Unknown => {
                about().map(|unit| (unit, Rung::ExitEntry))
            }
            Teller::MainProcess => about().map(|unit| (unit, Rung::MainProcess)),
            Teller::Command => about().map(|unit| (unit, Rung::ControlProcess)),
            Teller::CoreList => None,
            Teller::Other => within.cloned().or_else(about).map(|unit| (unit, Rung::JournalEntry)),
        };
        let ToldDeath { pid, program, names_signal, .. } = told;
        Death { unit, pid, program, at, function: None, time, names_signal }
    }

    /// Notes that a process of a unit died of another signal than SIGSYS. A manager ends processes by such signals as well,
    /// but lets none of them dump core: only a core dump, or the status of a unit that failed, tells what ended it.
    fn add_signal(&mut self, unit: Option<UnitName>, signal: Box<str>, dumped: bool) {
        let is_status = unit.is_none();
        let unit = unit.or_else(|| self.about.as_ref().map(|(name, _)| name.clone()));
        let Some(unit) = unit.filter(|_| self.signals.len() < MAX_SIGNALS) else { return };
        if dumped || (is_status && self.failed.contains_key(&unit)) {
            self.failed.entry(unit.clone()).or_default().get_or_insert_with(|| signal.clone());
        }
        self.signals.insert(unit, signal);
    }

    fn add_core(&mut self, core: ToldCoreDump) {
        let site = core.call_site().filter(|_| core.is_sigsys != Some(false));
        if let Some((pid, site)) = core.pid.zip(site)
            && (self.sites.len() < MAX_DEATHS || self.sites.contains_key(&pid))
        {
            let known = self.sites.entry(pid).or_insert_with(|| Some(site.clone()));
            // The journal and a report can have the same dump.
            *known = known.take().filter(|known| *known == site);
        }
        let known = self.deaths.iter_mut().find(|death| death.pid.is_some() && death.pid == core.pid);
        let unit = core.unit.map(|unit| (unit, Rung::JournalEntry));
        if let Some(death) = known {
            death.function = death.function.take().or(core.function);
            death.unit = death.unit.take().or(unit);
        } else if core.is_sigsys == Some(true) {
            let (pid, program, function) = (core.pid, core.program, core.function);
            let (at, time) = (DeathTime::Unknown, LineTime::default());
            self.add(Death { unit, pid, program, at, function, time, names_signal: true });
        }
    }

    /// Names the unit of a death from the line just before, as `systemctl status` and then PID 1 do.
    fn name_last_death(&mut self, name: &UnitName) {
        let unit = Unit { manager: Manager::System, name: name.clone() };
        if let Some(death) = self.deaths.last_mut().filter(|death| death.unit.is_none() && death.pid.is_some()) {
            death.unit = Some((unit, Rung::ExitEntry));
        }
    }

    /// Adds a death, or what it adds to one of the same process.
    fn add(&mut self, death: Death) {
        let same = self.deaths.iter_mut().find(|known| death.pid.is_some() && known.pid == death.pid);
        if let Some(known) = same {
            let surer = |unit: &(Unit, Rung)| known.unit.as_ref().is_none_or(|(_, rung)| unit.1 < *rung);
            if death.unit.as_ref().is_some_and(surer) {
                known.unit = death.unit;
            }
            let is_path = |program: &Option<String>| program.as_ref().is_some_and(|program| program.starts_with('/'));
            if known.program.is_none() || (!is_path(&known.program) && is_path(&death.program)) {
                known.program = death.program.or(known.program.take());
            }
            if known.at == DeathTime::Unknown {
                (known.at, known.time) = (death.at, death.time);
            }
            known.function = known.function.take().or(death.function);
            known.names_signal |= death.names_signal;
        } else if self.deaths.len() < MAX_DEATHS {
            self.deaths.push(death);
        } else {
            self.others += 1;
        }
    }

    /// Matches the deaths with the records.
    pub(super) fn finish(mut self) -> Deaths {
        if let Some(core) = std::mem::take(&mut self.cores).finish() {
            self.add_core(core);
        }
        let Self { deaths, others, mut kills, mut failed, sites, .. } = self;
        let mut evidence = Vec::new();
        let (with_pid, without): (Vec<Death>, Vec<Death>) = deaths.into_iter().partition(|death| death.pid.is_some());
        let mut unrecorded = Vec::new();
        // The same death, told with and without its pid.
        let mut told: Vec<UnitName> = Vec::new();
        for death in with_pid {
            let mut own = kills.iter_mut().filter(|kill| Some(kill.pid) == death.pid).peekable();
            let is_recorded = own.peek().is_some();
            own.for_each(|kill| kill.is_matched = true);
            if let Some((unit, rung)) = &death.unit {
                told.push(unit.name.clone());
                if let Some(pid) = death.pid.filter(|_| is_recorded) {
                    evidence.push((pid, Evidence::Named(*rung, unit.clone())));
                }
            }
            if !is_recorded {
                unrecorded.push(death);
            }
        }
        let mut rest = Vec::new();
        for death in without {
            let unit = death.unit.as_ref().map(|(unit, _)| unit.name.clone());
            match unit.and_then(|unit| told.iter().position(|told| *told == unit)) {
                Some(at) => _ = told.swap_remove(at),
                None => rest.push(death),
            }
        }
        let left = match_by_time(rest, &mut kills, &mut evidence);
        // What no unit and no process tells is of a death that something else tells better.
        let is_told_better =
            !kills.is_empty() || !unrecorded.is_empty() || left.iter().any(|death| death.unit.is_some());
        unrecorded.extend(left.into_iter().filter(|death| death.unit.is_some() || !is_told_better));
        let named = |death: &Death| death.unit.as_ref().map(|(unit, _)| unit.name.clone());
        for name in unrecorded.iter().filter_map(named) {
            failed.remove(&name);
        }
        for (_, evidence) in &evidence {
            if let Evidence::Named(_, unit) = evidence {
                failed.remove(&unit.name);
            }
        }
        Deaths { evidence, unrecorded, failed, others, sites }
    }
}

/// Matches deaths, whose unit is known and whose process is not, with records at the same time. Returns those without a
/// record.
///
/// A record is matched with a unit only if one process was killed at that time, and processes of one unit died.
fn match_by_time(deaths: Vec<Death>, kills: &mut [Kill], evidence: &mut Vec<(u32, Evidence)>) -> Vec<Death> {
    let (manager_told, mut left): (Vec<Death>, Vec<Death>) =
        deaths.into_iter().partition(|death| matches!(&death.unit, Some((_, Rung::ExitEntry))));
    let mut is_matched = vec![false; manager_told.len()];
    for at in 0..kills.len() {
        if kills[at].is_matched {
            continue;
        }
        let near = |death: &Death| kills[at].time.precedes(&death.time);
        let dead: Vec<usize> = (0..manager_told.len()).filter(|&index| near(&manager_told[index])).collect();
        let units: BTreeSet<&UnitName> =
            dead.iter().filter_map(|&index| manager_told[index].unit.as_ref()).map(|(unit, _)| &unit.name).collect();
        let Some((unit, _)) = dead.first().and_then(|&index| manager_told[index].unit.as_ref()) else { continue };
        let own = kills[at].unit.as_ref().is_some_and(|own| units.contains(&own.name));
        let rivals = || {
            let rival = |kill: &Kill| !kill.is_matched && kill.pid != kills[at].pid && kill.unit.is_none();
            kills
                .iter()
                .any(|kill| rival(kill) && dead.iter().any(|&index| kill.time.precedes(&manager_told[index].time)))
        };
        if kills[at].unit.is_none() && units.len() == 1 && !rivals() {
            let unit = with_owner(unit, kills[at].uid);
            evidence.push((kills[at].pid, Evidence::Named(Rung::ExitEntry, unit)));
        } else if !own {
            continue;
        }
        kills[at].is_matched = true;
        for &index in &dead {
            is_matched[index] = true;
        }
    }
    left.extend(manager_told.into_iter().zip(is_matched).filter(|(_, is_matched)| !is_matched).map(|(death, _)| death));
    left
}

/// Returns the unit of a user manager whose user the log does not tell, as one of the process's user.
fn with_owner(unit: &Unit, uid: Option<u32>) -> Unit {
    match (unit.manager, uid) {
        (Manager::User(Manager::SOME_USER), Some(uid)) => Unit { manager: Manager::User(uid), name: unit.name.clone() },
        _ => unit.clone(),
    }
}
