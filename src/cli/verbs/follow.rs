//! `follow`: prints denials as they happen, a line each, until interrupted.

pub(crate) mod inbox;
pub(crate) mod shown;

use crate::audit::Note;
use crate::audit::text::{escape, plural};
use crate::cli::args::{Common, Follow};
use crate::cli::exit_status::ExitStatus;
use crate::cli::lookup::call_sites::{ShownPackages, add_call_sites};
use crate::cli::lookup::incident_source::{ManagerScope, OtherSource, silent_daemon};
use crate::cli::lookup::source_lines::add_source_lines;
use crate::cli::lookup::unit_names::{is_named_by, resolve_alias};
use crate::cli::lookup::unit_words::ChosenUnit;
use crate::cli::terminal::clock::local_time_now;
use crate::cli::terminal::output::SCHEMA;
use crate::cli::terminal::output::{Detail, print_remark, warn};
use crate::cli::terminal::page::{BAD, BOLD, DIM, PLACE, styled};
use crate::cli::terminal::words::{count_times, describe_unit};
use crate::cli::views::answer::Answer;
use crate::cli::views::answer_page;
use crate::cli::views::decision::describe_decision;
use crate::diagnosis::{DenialCause, Elsewhere, diagnose, diagnose_causes};
use crate::host::known_paths::add_known_paths;
use crate::host::program_files::read_programs;
use crate::host::unit_settings;
use crate::host::unit_settings::LoadedSettings;
use crate::incidents::local_time::{LocalTime, moment};
use crate::incidents::{Incident, Moment, RowId, Stored, describe_briefly};
use crate::operations::outcome::NoRights;
use crate::outlet::access::OWN_UNITS_ONLY;
use crate::outlet::caveats::list_reception_notes;
use crate::outlet::client;
use crate::outlet::client::{HardenWhyProxy, explain_error, read_answer, retry_while_busy};
use crate::outlet::wire::{BusError, MAX_COUNT_LAG, MAX_INCIDENTS};
use crate::systemd::manager::Managers;
use crate::systemd::manager_lookup::ManagerLookup;
use crate::systemd::syscall_groups::LoadedGroups;
use crate::systemd::{manager_lookup, syscall_groups};
use crate::units::Manager;
use anstream::{AutoStream, ColorChoice};
use anyhow::ensure;
use inbox::{Inbox, next_item};
use jiff::Timestamp;
use serde::Serialize;
use shown::{IncidentNews, ShownIncidents};
use std::io;
use std::io::{Stdout, Write as _};
use std::path::Path;
use std::time::Duration;

/// Pause before reconnecting to the bus.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// The longest time between a sighting and its storage: the daemon's interval, and as long again for its other work.
const STORE_DELAY: Duration = MAX_COUNT_LAG.saturating_mul(2);

/// The most missed incidents that are shown.
const MOST_MISSED: usize = 16 << 10;

/// A new incident, as one line of JSON.
#[derive(Debug, Serialize)]
struct NewIncidentLine<'a> {
    schema: u32,
    /// The number in the store.
    id: RowId,
    /// True.
    new: bool,
    /// The answer of `harden-why UNIT` for this incident alone.
    #[serde(flatten)]
    answer: &'a Answer,
}

/// A repeated incident, as one line of JSON.
#[derive(Debug, Serialize)]
struct RepeatedIncidentLine {
    schema: u32,
    id: RowId,
    /// False.
    new: bool,
    unit: Option<String>,
    manager: Option<String>,
    call: Option<String>,
    count: u64,
    last: Option<String>,
}

/// Prints incidents until interrupted.
///
/// # Errors
/// A name is invalid, the daemon does not answer, or stdout is closed.
pub(crate) async fn follow(common: &Common, asked: &Follow, color: ColorChoice) -> anyhow::Result<ExitStatus> {
    let asked_units = asked.units.iter().chain(&asked.more_units);
    let scope = ManagerScope::from_flags(asked.managers);
    let mut names = asked_units.map(|word| ChosenUnit::find(word, scope)).collect::<Result<Vec<_>, _>>()?;
    let managers = Managers::new(&common.bus);
    let mut own = Vec::new();
    for ChosenUnit { name, managers: of } in &names {
        let resolved = resolve_alias(name, *of, &managers).await;
        own.extend(resolved.map(|name| ChosenUnit { name, managers: *of }));
    }
    names.append(&mut own);
    let mut client = client::connect(&common.bus)
        .await
        .map_err(|error| silent_daemon(&common.bus, &error.to_string(), OtherSource::Nothing))?;
    let only_manager = retry_while_busy(|| client.status()).await.map_err(explain_error)?.only_manager;
    if let Some(own) = only_manager.and_then(|manager| manager.parse().ok()).filter(|_| scope != ManagerScope::Users) {
        let can_see_any = scope == ManagerScope::All && has_any_unit(&managers, own, &names).await;
        ensure!(can_see_any, NoRights(OWN_UNITS_ONLY.to_owned()));
        warn(color, OWN_UNITS_ONLY);
    }
    let mut follower = Follower {
        out: AutoStream::new(io::stdout(), color),
        color,
        json: common.is_json(),
        detail: Detail::from_options(common),
        latest: asked.lines.unwrap_or_default() as usize,
        names,
        scope,
        managers,
        loaded: syscall_groups::load(),
        shown: ShownIncidents::default(),
        since: now_millis(&local_time_now()),
        behind: false,
        subscribed: false,
        printed_notes: Vec::new(),
    };
    follower.warn_about_unknown_units().await;
    loop {
        match follower.listen(&client).await {
            Ok(()) => warn(color, "the bus is gone; trying again"),
            Err(error) if error.is::<io::Error>() || !follower.subscribed => return Err(error),
            Err(error) => warn(color, &format!("{error:#}; trying again")),
        }
        client = loop {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            if let Ok(client) = client::connect(&common.bus).await {
                break client;
            }
        };
    }
}

/// Returns whether a manager runs, and knows any of these units. Without names, any unit counts; a template always does.
async fn has_any_unit(managers: &Managers, manager: Manager, units: &[ChosenUnit]) -> bool {
    let Ok(running) = managers.connect(manager).await else { return false };
    for ChosenUnit { name, .. } in units.iter().filter(|unit| unit.managers.includes(Some(manager))) {
        if name.is_template() || running.unit_properties(name).await.is_ok() {
            return true;
        }
    }
    units.is_empty()
}

struct Follower {
    out: AutoStream<Stdout>,
    color: ColorChoice,
    json: bool,
    detail: Detail,
    /// How many earlier incidents to show first.
    latest: usize,
    /// The units to show; all if empty.
    names: Vec<ChosenUnit>,
    scope: ManagerScope,
    managers: Managers,
    loaded: LoadedGroups,
    shown: ShownIncidents,
    /// Sightings stored before this time were shown already; milliseconds since the epoch.
    since: i64,
    /// Whether reading the missed incidents failed.
    behind: bool,
    /// Whether the daemon has accepted a subscription at least once.
    subscribed: bool,
    /// The notes printed so far.
    printed_notes: Vec<Note>,
}

impl Follower {
    /// Warns about names that no manager knows: they may be typing errors.
    async fn warn_about_unknown_units(&self) {
        for ChosenUnit { name, managers } in self.names.iter().filter(|unit| !unit.name.is_template()) {
            let asked =
                manager_lookup::all_managers(&self.managers).filter(|manager| managers.includes(Some(*manager)));
            if manager_lookup::find_manager(&self.managers, asked, name).await == ManagerLookup::Unknown {
                self.warn(&format!("Unit {name} not found: follow waits for it"));
            }
        }
    }

    /// Prints incidents until the bus is gone. The daemon may restart.
    async fn listen(&mut self, client: &HardenWhyProxy<'static>) -> anyhow::Result<()> {
        let gone = |error: zbus::Error| explain_error(error.into());
        let mut inbox = Inbox::open(client).await.map_err(gone)?;
        let mut owners = Box::pin(client.inner().receive_owner_changed().await.map_err(gone)?);
        self.subscribe(client, &mut inbox).await?;
        loop {
            tokio::select! {
                stored = inbox.next() => {
                    let Some(stored) = stored else { return Ok(()) };
                    self.show(&stored?).await?;
                }
                owner = next_item(&mut owners) => match owner {
                    Some(Some(_)) => self.subscribe(client, &mut inbox).await?,
                    Some(None) => self.warn("harden-whyd has stopped; follow continues when it is back"),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Subscribes to a daemon that just appeared, prints its caveats, and shows the incidents missed before.
    async fn subscribe(&mut self, client: &HardenWhyProxy<'static>, inbox: &mut Inbox) -> anyhow::Result<()> {
        inbox.call(client.subscribe()).await?.map_err(explain_error)?;
        if !self.subscribed {
            let what = "connected to harden-whyd, waiting for denials (Ctrl-C ends it)";
            print_remark(self.color, DIM, what);
        }
        self.subscribed = true;
        let status = inbox.call(client.status()).await?.map_err(explain_error)?;
        let notes = list_reception_notes(&status);
        for note in notes.iter().filter(|note| !self.printed_notes.contains(note)) {
            self.warn(&note.text);
        }
        self.printed_notes = notes;
        self.show_latest(client, inbox).await?;
        match self.list_missed(client, inbox).await? {
            Ok(missed) => {
                self.behind = false;
                for stored in missed.iter().rev() {
                    self.show(stored).await?;
                }
            }
            Err(error) => {
                self.behind = true;
                let why = explain_error(error);
                self.warn(&format!("denials in the meantime cannot be shown ({why}): 'harden-why' lists them"));
            }
        }
        let dropped = inbox.take_dropped();
        if dropped > 0 {
            let sightings = plural(dropped, "sighting");
            self.warn(&format!("{sightings} came too fast to be shown: 'harden-why' lists them"));
        }
        Ok(())
    }

    /// Shows the latest incidents of before, once, the oldest of them first.
    async fn show_latest(&mut self, client: &HardenWhyProxy<'static>, inbox: &mut Inbox) -> anyhow::Result<()> {
        let most = std::mem::take(&mut self.latest);
        let mut latest: Vec<Stored> = Vec::new();
        let mut offset = 0;
        while latest.len() < most {
            let page = match inbox.call(client.list_incidents("", "", 0, offset, MAX_INCIDENTS)).await? {
                Err(BusError::NoStore(_)) => break,
                page => page.map_err(explain_error)?,
            };
            let is_last = page.len() < MAX_INCIDENTS as usize;
            offset += MAX_INCIDENTS;
            for dict in page {
                let stored: Stored = read_answer(dict)?;
                if self.is_wanted(&stored) && latest.len() < most {
                    latest.push(stored);
                }
            }
            if is_last {
                break;
            }
        }
        for stored in latest.iter().rev() {
            self.show(stored).await?;
        }
        Ok(())
    }

    /// Whether an incident is of a unit to show.
    fn is_wanted(&self, stored: &Stored) -> bool {
        let unit = stored.incident.key.unit.as_ref();
        let is_named = self.names.is_empty()
            || unit.is_some_and(|unit| {
                let is_it =
                    |one: &ChosenUnit| is_named_by(&one.name, &unit.name) && one.managers.includes(Some(unit.manager));
                self.names.iter().any(is_it)
            });
        is_named && self.scope.includes(unit.map(|unit| unit.manager))
    }

    /// Lists the incidents that the daemon stored since the last one shown, newest first.
    async fn list_missed(
        &self,
        client: &HardenWhyProxy<'static>,
        inbox: &mut Inbox,
    ) -> anyhow::Result<Result<Vec<Stored>, BusError>> {
        let mut missed: Vec<Stored> = Vec::new();
        let mut offset = 0;
        loop {
            let page = match inbox.call(client.list_incidents("", "", self.since, offset, MAX_INCIDENTS)).await? {
                Ok(page) => page,
                Err(BusError::NoStore(_)) => return Ok(Ok(missed)),
                // The daemon or the bus is gone: the caller reconnects.
                Err(BusError::ZBus(error)) => return Err(explain_error(error.into())),
                Err(error) => return Ok(Err(error)),
            };
            let last = page.len() < MAX_INCIDENTS as usize;
            offset += MAX_INCIDENTS;
            for dict in page {
                missed.push(read_answer(dict)?);
            }
            if last {
                return Ok(Ok(missed));
            }
            if missed.len() >= MOST_MISSED {
                let count = missed.len();
                self.warn(&format!("more than {count} denials were missed: 'harden-why' lists those before"));
                return Ok(Ok(missed));
            }
        }
    }

    async fn show(&mut self, stored: &Stored) -> anyhow::Result<()> {
        let incident = &stored.incident;
        if let Moment::At(millis) = incident.last
            && !self.behind
        {
            let late = i64::try_from(STORE_DELAY.as_millis()).unwrap_or_default();
            self.since = self.since.max(millis.saturating_sub(late));
        }
        if !self.is_wanted(stored) {
            return Ok(());
        }
        let text = match self.shown.record(incident) {
            IncidentNews::Known => return Ok(()),
            IncidentNews::Repeated => self.render_repeated(stored)?,
            IncidentNews::New => self.render_new(stored).await?,
        };
        self.out.write_all(text.as_bytes())?;
        self.out.flush()?;
        Ok(())
    }

    fn warn(&self, what: &str) {
        warn(self.out.current_choice(), what);
    }

    /// Lays out a new incident: a line, with `--verbose` the whole answer as well, or JSON.
    async fn render_new(&mut self, stored: &Stored) -> anyhow::Result<String> {
        let Stored { id, incident } = stored;
        let unit = incident.key.unit.clone();
        let (mut situation, mut notes) = (None, Vec::new());
        if let Some(unit) = &unit {
            let known = unit_settings::load(&self.managers, unit, &self.loaded.groups).await;
            LoadedSettings { situation, notes, .. } = known;
        }
        let groups = &self.loaded.groups;
        let clock = local_time_now();
        let causes = diagnose_causes(vec![incident.clone()], situation.as_ref(), groups);
        let decision = causes.findings.first().map_or_else(String::new, |finding| {
            let place = describe_decision(finding, &clock);
            let is_fixed = matches!(finding.cause, DenialCause::Elsewhere(Elsewhere::Fixed(_)));
            match place.as_str() {
                "unknown" => String::new(),
                _ if is_fixed => format!("; fixed by {}", styled(PLACE, place)),
                _ if place.contains('/') => format!(", denied at {}", styled(PLACE, place)),
                _ => format!(", denied by {}", styled(PLACE, place)),
            }
        });
        let line = describe_denial(incident, &decision, &clock);
        self.shown.set_decision(&incident.key, &decision);
        if !self.json && self.detail != Detail::Full {
            return Ok(line);
        }
        if let Some((situation, unit)) = situation.as_mut().zip(unit.as_ref()) {
            read_programs(situation, unit.manager, Path::new("/"), std::slice::from_ref(incident));
            add_known_paths(situation, Path::new("/"), std::slice::from_ref(incident));
        }
        let diagnosis = diagnose(vec![incident.clone()], situation.as_ref(), groups);
        let mut answer = Answer::new(unit.as_ref(), &diagnosis, situation.as_ref(), groups, &clock, notes);
        add_source_lines(&mut answer, &diagnosis, Path::new("/"));
        add_call_sites(&mut answer, &diagnosis, Path::new("/"), ShownPackages::All);
        Ok(if self.json {
            serde_json::to_string(&NewIncidentLine { schema: SCHEMA, id: *id, new: true, answer: &answer })? + "\n"
        } else {
            format!("{line}\n{}\n", answer_page::render_unit_answer(&answer, Detail::Full))
        })
    }

    /// Lays out a repeated incident on one line.
    fn render_repeated(&self, Stored { id, incident }: &Stored) -> anyhow::Result<String> {
        if self.json {
            let unit = incident.key.unit.as_ref();
            let line = RepeatedIncidentLine {
                schema: SCHEMA,
                id: *id,
                new: false,
                unit: unit.map(|unit| unit.name.to_string()),
                manager: unit.map(|unit| unit.manager.to_string()),
                call: incident.call().map(ToString::to_string),
                count: incident.count,
                last: moment(&incident.last),
            };
            return Ok(serde_json::to_string(&line)? + "\n");
        }
        Ok(describe_denial(incident, self.shown.decision(&incident.key), &local_time_now()))
    }
}

/// Describes an incident on one line: time, unit, call, outcome, and what decided.
fn describe_denial(incident: &Incident, decision: &str, clock: &LocalTime) -> String {
    let shown = clock.show(&incident.last).unwrap_or_default();
    let at = shown.strip_prefix(&clock.today()).map_or(shown.as_str(), str::trim_start);
    let unit = incident.key.unit.as_ref();
    let unit = unit
        .map_or_else(|| "unit unknown".to_owned(), |unit| describe_unit(unit.name.as_str(), &unit.manager.to_string()));
    let call = incident.call().map_or_else(|| "SIGSYS".to_owned(), ToString::to_string);
    let count = if incident.count > 1 { format!(", {}", count_times(incident.count)) } else { String::new() };
    let program = if incident.key.exe.is_empty() { &incident.sample.comm } else { &incident.key.exe };
    let program = if program.is_empty() { String::new() } else { format!(", by {}", escape(program)) };
    let outcome = describe_briefly(incident, None);
    format!("{} {}: {} {outcome}{count}{program}{decision}\n", styled(DIM, at), styled(BOLD, unit), styled(BAD, call))
}

fn now_millis(clock: &LocalTime) -> i64 {
    clock.now.map_or(0, Timestamp::as_millisecond)
}
