//! `follow`: denials as they happen, each new one with its diagnosis, until somebody has seen enough.

pub(crate) mod inbox;
pub(crate) mod shown;

use crate::audit::Note;
use crate::audit::text::plural;
use crate::cli::args::{Common, Follow};
use crate::cli::lookup::incident_source;
use crate::cli::lookup::unit_names::{is_named_by, parse_unit_name, resolve_alias};
use crate::cli::terminal::clock::local_time_now;
use crate::cli::terminal::output::warn;
use crate::cli::terminal::page::{DIM, styled};
use crate::cli::views::answer::{Answer, SCHEMA};
use crate::cli::views::answer_page;
use crate::diagnosis::diagnose;
use crate::host::unit_settings;
use crate::host::unit_settings::LoadedSettings;
use crate::incidents::local_time::{LocalTime, moment};
use crate::incidents::{Moment, RowId, Stored};
use crate::outlet::alert;
use crate::outlet::client::HardenWhyProxy;
use crate::outlet::wire::{BusError, MAX_COUNT_LAG, MAX_INCIDENTS};
use crate::systemd::manager::Managers;
use crate::systemd::manager_lookup::ManagerLookup;
use crate::systemd::syscall_groups::LoadedGroups;
use crate::systemd::{manager_lookup, syscall_groups};
use crate::units::UnitName;
use anstream::{AutoStream, ColorChoice};
use anyhow::Context as _;
use inbox::{Seen, next};
use jiff::Timestamp;
use serde::Serialize;
use shown::{News, Shown};
use std::io;
use std::io::{Stdout, Write as _};
use std::time::Duration;

/// When a bus that is gone is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long after a sighting it can be stored: the daemon's interval, and as much for what it does meanwhile.
const LATE: Duration = MAX_COUNT_LAG.saturating_mul(2);

/// How many incidents that were missed are shown.
const MOST_MISSED: usize = 16 << 10;

/// A denial that was not shown before, on a line of JSON.
#[derive(Debug, Serialize)]
struct First<'a> {
    schema: u32,
    /// Its number in the store.
    id: RowId,
    /// True.
    new: bool,
    /// As `harden-why UNIT` answers, of this denial alone.
    #[serde(flatten)]
    answer: &'a Answer,
}

/// One that was shown, and goes on.
#[derive(Debug, Serialize)]
struct Again {
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

/// Prints until the reader or the person has enough.
///
/// # Errors
/// A name is none, the daemon does not answer, or nobody reads any more.
pub(crate) async fn follow(common: &Common, asked: &Follow, color: ColorChoice) -> anyhow::Result<bool> {
    let mut names = asked.units.iter().map(|name| parse_unit_name(name)).collect::<Result<Vec<_>, _>>()?;
    let scope = incident_source::ManagerScope::from_flags(asked.system, asked.user);
    let managers = crate::systemd::manager::Managers::new(&common.bus);
    let mut own = Vec::new();
    for name in &names {
        own.extend(resolve_alias(name, scope, &managers).await);
    }
    names.append(&mut own);
    let mut client = crate::outlet::client::daemon(&common.bus).await.context("harden-whyd does not answer")?;
    let mut follower = Follower {
        out: AutoStream::new(io::stdout(), color),
        json: common.json,
        names,
        scope,
        managers,
        loaded: syscall_groups::load(),
        shown: Shown::default(),
        since: now(&local_time_now()),
        behind: false,
        subscribed: false,
        said: Vec::new(),
    };
    follower.say_who_is_unknown().await;
    loop {
        match follower.attend(&client).await {
            Ok(()) => warn(color, "the bus is gone; it is tried again"),
            Err(error) if error.is::<io::Error>() || !follower.subscribed => return Err(error),
            Err(error) => warn(color, &format!("{error:#}; it is tried again")),
        }
        client = loop {
            tokio::time::sleep(AGAIN).await;
            if let Ok(client) = crate::outlet::client::daemon(&common.bus).await {
                break client;
            }
        };
    }
}

struct Follower {
    out: AutoStream<Stdout>,
    json: bool,
    /// The units; all if empty.
    names: Vec<UnitName>,
    scope: incident_source::ManagerScope,
    managers: Managers,
    loaded: LoadedGroups,
    shown: Shown,
    /// What was stored of sightings before is known to us; in milliseconds since the epoch.
    since: i64,
    /// What was missed could not be asked for.
    behind: bool,
    /// The daemon took us on once.
    subscribed: bool,
    /// What was said of the daemon's hearing.
    said: Vec<Note>,
}

impl Follower {
    /// Of a unit that nobody knows nothing may ever come.
    async fn say_who_is_unknown(&self) {
        for name in self.names.iter().filter(|name| !name.is_template()) {
            let asked =
                manager_lookup::all_managers(&self.managers).filter(|manager| self.scope.includes(Some(*manager)));
            if manager_lookup::find_manager(&self.managers, asked, name).await == ManagerLookup::Unknown {
                self.warn(&format!("{} It is waited for", manager_lookup::unknown_unit_text(name)));
            }
        }
    }

    /// Listens to a bus until it is gone. The daemon may come and go.
    async fn attend(&mut self, client: &HardenWhyProxy<'static>) -> anyhow::Result<()> {
        let gone = |error: zbus::Error| crate::outlet::client::explained(error.into());
        let mut seen = Seen::of(client).await.map_err(gone)?;
        let mut owners = Box::pin(client.inner().receive_owner_changed().await.map_err(gone)?);
        self.begin(client, &mut seen).await?;
        loop {
            tokio::select! {
                stored = seen.next() => {
                    let Some(stored) = stored else { return Ok(()) };
                    self.show(&stored?).await?;
                }
                owner = next(&mut owners) => match owner {
                    Some(Some(_)) => self.begin(client, &mut seen).await?,
                    Some(None) => self.warn("harden-whyd has left; what it sees is shown once it is back"),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Subscribes with a daemon that is new to us, says what it did not hear, and shows what was missed meanwhile.
    async fn begin(&mut self, client: &HardenWhyProxy<'static>, seen: &mut Seen) -> anyhow::Result<()> {
        seen.during(client.subscribe()).await?.map_err(crate::outlet::client::explained)?;
        self.subscribed = true;
        let status = seen.during(client.status()).await?.map_err(crate::outlet::client::explained)?;
        let notes = crate::outlet::caveats::hearing_notes(&status, &local_time_now());
        for note in notes.iter().filter(|note| !self.said.contains(note)) {
            self.warn(&note.text);
        }
        self.said = notes;
        match self.missed(client, seen).await? {
            Ok(missed) => {
                self.behind = false;
                for stored in missed.iter().rev() {
                    self.show(stored).await?;
                }
            }
            Err(error) => {
                self.behind = true;
                let why = crate::outlet::client::explained(error);
                self.warn(&format!("what was missed meanwhile cannot be shown ({why}): 'harden-why' lists it"));
            }
        }
        let dropped = seen.dropped();
        if dropped > 0 {
            let sightings = plural(dropped, "sighting");
            self.warn(&format!("{sightings} came faster than could be taken: 'harden-why' lists what was denied"));
        }
        Ok(())
    }

    /// What the daemon stored since, newest first, or why it does not tell.
    async fn missed(
        &self,
        client: &HardenWhyProxy<'static>,
        seen: &mut Seen,
    ) -> anyhow::Result<Result<Vec<Stored>, BusError>> {
        let mut missed: Vec<Stored> = Vec::new();
        let mut offset = 0;
        loop {
            let page = match seen.during(client.list_incidents("", "", self.since, offset, MAX_INCIDENTS)).await? {
                Ok(page) => page,
                // A daemon that has stored nothing yet has nothing to tell.
                Err(error) if crate::outlet::client::is_nothing_yet(&error) => return Ok(Ok(missed)),
                // It or the bus has left meanwhile: all of this is done again.
                Err(BusError::ZBus(error)) => return Err(crate::outlet::client::explained(error.into())),
                Err(error) => return Ok(Err(error)),
            };
            let last = page.len() < MAX_INCIDENTS as usize;
            offset += MAX_INCIDENTS;
            for dict in page {
                missed.push(dict.try_into()?);
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
            let late = i64::try_from(LATE.as_millis()).unwrap_or_default();
            self.since = self.since.max(millis.saturating_sub(late));
        }
        let unit = incident.key.unit.as_ref();
        let named = self.names.is_empty()
            || unit.is_some_and(|unit| self.names.iter().any(|name| is_named_by(name, &unit.name)));
        if !named || !self.scope.includes(unit.map(|unit| unit.manager)) {
            return Ok(());
        }
        let text = match self.shown.note(incident) {
            News::None => return Ok(()),
            News::Again => self.again(stored)?,
            News::First => self.first(stored).await?,
        };
        self.out.write_all(text.as_bytes())?;
        self.out.flush()?;
        Ok(())
    }

    fn warn(&self, what: &str) {
        warn(self.out.current_choice(), what);
    }

    /// One that was not shown before.
    async fn first(&self, Stored { id, incident }: &Stored) -> anyhow::Result<String> {
        let groups = &self.loaded.groups;
        let unit = incident.key.unit.as_ref();
        let (mut situation, mut notes) = (None, Vec::new());
        if let Some(unit) = unit {
            let known = unit_settings::load(&self.managers, unit, groups).await;
            LoadedSettings { situation, notes, .. } = known;
        }
        let diagnosis = diagnose(vec![incident.clone()], situation.as_ref(), groups);
        let answer = Answer::new(unit, &diagnosis, situation.as_ref(), groups, &local_time_now(), notes);
        Ok(if self.json {
            serde_json::to_string(&First { schema: SCHEMA, id: *id, new: true, answer: &answer })? + "\n"
        } else {
            answer_page::answer(&answer) + "\n"
        })
    }

    /// One that was shown, and goes on.
    fn again(&self, Stored { id, incident }: &Stored) -> anyhow::Result<String> {
        if self.json {
            let unit = incident.key.unit.as_ref();
            let again = Again {
                schema: SCHEMA,
                id: *id,
                new: false,
                unit: unit.map(|unit| unit.name.to_string()),
                manager: unit.map(|unit| unit.manager.to_string()),
                call: incident.denial().map(|denial| denial.call.to_string()),
                count: incident.count,
                last: moment(&incident.last),
            };
            return Ok(serde_json::to_string(&again)? + "\n");
        }
        let at = local_time_now().show(&incident.last).unwrap_or_default();
        Ok(format!("{} {}\n", styled(DIM, at), alert::message(incident, None)))
    }
}

fn now(clock: &LocalTime) -> i64 {
    clock.now.map_or(0, Timestamp::as_millisecond)
}
