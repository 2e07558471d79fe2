//! `follow`: denials as they happen, each new one with its diagnosis, until somebody has seen enough.

use super::answer::{Answer, Clock, SCHEMA, moment};
use super::args::{Common, Follow};
use super::page::{DIM, WARN, styled};
use super::situation::{self, Known};
use super::{clock, render, source, units};
use crate::audit::text::escape;
use crate::diagnosis::{denied, diagnose};
use crate::host::groups::{self, LoadedGroups};
use crate::host::systemd::Managers;
use crate::incidents::{Moment, RowId, Stored};
use crate::outlet::alert;
use crate::outlet::client::HardenWhyProxy;
use crate::outlet::wire::MAX_INCIDENTS;
use crate::units::UnitName;
use anstream::{AutoStream, ColorChoice};
use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, Stdout, Write as _};
use std::pin::Pin;
use std::time::Duration;
use zbus::export::futures_core::Stream;

/// When a bus that is gone is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How many incidents are remembered to have been shown.
const MOST: usize = 16 << 10;

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
pub(super) async fn follow(common: &Common, asked: &Follow, color: ColorChoice) -> anyhow::Result<bool> {
    ensure!(
        common.state_dir.is_none(),
        "a store is written by its daemon, which is to be followed: leave out --state-dir"
    );
    let names = asked.units.iter().map(|name| units::unit_name(name)).collect::<Result<_, _>>()?;
    let mut client = source::daemon(&common.bus).await.context("harden-whyd does not answer")?;
    let mut follower = Follower {
        out: AutoStream::new(io::stdout(), color),
        json: common.json,
        names,
        scope: source::Managers::of(asked.system, asked.user),
        managers: units::managers(&common.bus),
        loaded: groups::load(),
        shown: HashMap::new(),
        latest: now(&clock()),
        subscribed: false,
    };
    loop {
        match follower.attend(&client).await {
            Ok(()) => complain(color, "the bus is gone; it is tried again"),
            Err(error) if error.is::<io::Error>() || !follower.subscribed => return Err(error),
            Err(error) => complain(color, &format!("{error:#}; it is tried again")),
        }
        client = loop {
            tokio::time::sleep(AGAIN).await;
            if let Ok(client) = source::daemon(&common.bus).await {
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
    scope: source::Managers,
    managers: Managers,
    loaded: LoadedGroups,
    /// The incidents that were shown, with their count then.
    shown: HashMap<RowId, u64>,
    /// The latest sighting that was shown, or when we began; in milliseconds since the epoch.
    latest: i64,
    /// The daemon took us on once.
    subscribed: bool,
}

impl Follower {
    /// Listens to a bus until it is gone. The daemon may come and go.
    async fn attend(&mut self, client: &HardenWhyProxy<'static>) -> anyhow::Result<()> {
        let mut seen = Box::pin(client.receive_incident_seen().await?);
        let mut owners = Box::pin(client.inner().receive_owner_changed().await?);
        self.begin(client).await?;
        loop {
            tokio::select! {
                signal = next(&mut seen) => {
                    let Some(signal) = signal else { return Ok(()) };
                    let stored = signal.args()?.incident().clone().try_into()?;
                    self.show(&stored).await?;
                }
                owner = next(&mut owners) => match owner {
                    Some(Some(_)) => self.begin(client).await?,
                    Some(None) => complain(self.out.current_choice(), "harden-whyd has left; what it sees is shown once it is back"),
                    None => return Ok(()),
                },
            }
        }
    }

    /// Subscribes with a daemon that is new to us, and shows what was missed meanwhile.
    async fn begin(&mut self, client: &HardenWhyProxy<'static>) -> anyhow::Result<()> {
        client.subscribe().await.map_err(source::explained)?;
        self.subscribed = true;
        let missed = client.list_incidents("", "", self.latest, 0, MAX_INCIDENTS).await.map_err(source::explained);
        // A daemon that has stored nothing yet has nothing to tell.
        for dict in missed.unwrap_or_default().into_iter().rev() {
            self.show(&dict.try_into()?).await?;
        }
        Ok(())
    }

    async fn show(&mut self, stored: &Stored) -> anyhow::Result<()> {
        let incident = &stored.incident;
        let unit = incident.key.unit.as_ref();
        let named = self.names.is_empty() || unit.is_some_and(|unit| self.names.contains(&unit.name));
        if !named || !self.scope.include(unit.map(|unit| unit.manager)) {
            return Ok(());
        }
        if let Moment::At(millis) = incident.last {
            self.latest = self.latest.max(millis);
        }
        if self.shown.len() >= MOST {
            self.shown.clear();
        }
        let text = match self.shown.insert(stored.id, incident.count) {
            Some(count) if count == incident.count => return Ok(()),
            Some(_) => self.again(stored)?,
            None => self.first(stored).await?,
        };
        self.out.write_all(text.as_bytes())?;
        self.out.flush()?;
        Ok(())
    }

    /// One that was not shown before.
    async fn first(&self, Stored { id, incident }: &Stored) -> anyhow::Result<String> {
        let groups = &self.loaded.groups;
        let unit = incident.key.unit.as_ref();
        let (mut situation, mut notes) = (None, Vec::new());
        if let Some(unit) = unit {
            let known = situation::live(&self.managers, unit, groups).await;
            Known { situation, notes, .. } = known;
        }
        let diagnosis = diagnose(vec![incident.clone()], situation.as_ref(), groups);
        let answer = Answer::new(unit, &diagnosis, situation.as_ref(), groups, &clock(), notes);
        Ok(if self.json {
            serde_json::to_string(&First { schema: SCHEMA, id: *id, new: true, answer: &answer })? + "\n"
        } else {
            render::answer(&answer) + "\n"
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
                call: denied(incident).map(|denial| denial.call.to_string()),
                count: incident.count,
                last: moment(&incident.last),
            };
            return Ok(serde_json::to_string(&again)? + "\n");
        }
        let at = clock().show(&incident.last).unwrap_or_default();
        Ok(format!("{} {}\n", styled(DIM, at), alert::message(incident)))
    }
}

/// Says what is wrong beside what is followed.
fn complain(color: ColorChoice, what: &str) {
    let mut out = AutoStream::new(io::stderr(), color);
    // There is nobody left to tell that it cannot be told.
    let _ = writeln!(out, "{} {}", styled(WARN, "harden-why:"), escape(what.as_bytes()));
}

fn now(clock: &Clock) -> i64 {
    clock.now.map_or(0, Timestamp::as_millisecond)
}

async fn next<S: Stream>(stream: &mut Pin<Box<S>>) -> Option<S::Item> {
    poll_fn(|context| stream.as_mut().poll_next(context)).await
}
