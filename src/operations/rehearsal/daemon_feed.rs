//! What the daemon hears of a rehearsal, while it goes on.

use crate::diagnosis::before_exec::is_rehearsal_filter_load;
use crate::incidents::{Incident, IncidentKey, SightingSource, Stored};
use crate::outlet::client::HardenWhyProxy;
use crate::outlet::wire::MAX_INCIDENTS;
use crate::systemd::bus_address::BusAddress;
use crate::units::Unit;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many incidents are looked at.
const MOST: usize = 5_000;

/// The daemon, asked about one unit.
pub(crate) struct Heard {
    client: HardenWhyProxy<'static>,
    bus: BusAddress,
    unit: Unit,
    /// Since when, in milliseconds since the epoch.
    since: i64,
    /// What earlier rehearsals had counted by then.
    before: HashMap<IncidentKey, u64>,
    /// Since when the daemon listens: another start is another daemon, which knows of no rehearsal.
    daemon: i64,
    /// It, or what it was told, is gone.
    astray: bool,
}

impl Heard {
    /// Tells the daemon that a unit is rehearsed from now on, and takes note of what it knows already.
    ///
    /// # Errors
    /// Somebody else rehearses it, or the daemon does not want to.
    pub(crate) async fn begin(
        client: HardenWhyProxy<'static>,
        bus: BusAddress,
        unit: Unit,
        since: i64,
    ) -> anyhow::Result<Self> {
        client
            .begin_rehearsal(unit.name.as_str(), &unit.manager.to_string())
            .await
            .map_err(crate::outlet::client::explained)?;
        let daemon = client.status().await.map_err(crate::outlet::client::explained)?.since;
        let mut heard = Self { client, bus, unit, since: 0, before: HashMap::new(), daemon, astray: false };
        heard.before = heard.incidents().await?.into_iter().map(|one| (one.key, one.count)).collect();
        heard.since = since;
        Ok(heard)
    }

    /// The calls so far, each with its count since the beginning. What systemd calls between the filter and the program is
    /// among them: the unit's own filter would be there as well.
    ///
    /// # Errors
    /// The daemon does not answer now.
    pub(crate) async fn calls(&mut self) -> anyhow::Result<Vec<Incident>> {
        let asked = timeout(PATIENCE, self.ask()).await;
        let incidents = match asked.unwrap_or_else(|_| Err(anyhow::anyhow!("it does not answer in time"))) {
            Ok(incidents) => incidents,
            Err(error) => {
                self.astray = true;
                return Err(error);
            }
        };
        let before = &self.before;
        let since = incidents.into_iter().filter(|one| !is_rehearsal_filter_load(one)).filter_map(|mut one| {
            // A store begun anew counts from nothing.
            one.count -= before.get(&one.key).copied().filter(|before| *before <= one.count).unwrap_or_default();
            (one.count > 0).then_some(one)
        });
        Ok(since.collect())
    }

    /// Tells the daemon that it is over. It may know already.
    pub(crate) async fn end(&self) {
        let (name, manager) = (self.unit.name.as_str(), self.unit.manager.to_string());
        let _ = timeout(PATIENCE, self.client.end_rehearsal(name, &manager)).await;
    }

    /// The way to it.
    pub(crate) fn client(&self) -> HardenWhyProxy<'static> {
        self.client.clone()
    }

    async fn ask(&mut self) -> anyhow::Result<Vec<Incident>> {
        if self.astray {
            self.client = crate::outlet::client::daemon(&self.bus).await?;
        }
        let status = self.client.status().await.map_err(crate::outlet::client::explained)?;
        if self.astray || status.since != self.daemon {
            let (name, manager) = (self.unit.name.as_str(), self.unit.manager.to_string());
            // It refuses only where it still knows.
            let _ = self.client.begin_rehearsal(name, &manager).await;
            (self.daemon, self.astray) = (status.since, false);
        }
        self.incidents().await
    }

    async fn incidents(&self) -> anyhow::Result<Vec<Incident>> {
        let (name, manager) = (self.unit.name.as_str(), self.unit.manager.to_string());
        let mut found = Vec::new();
        let mut offset = 0;
        loop {
            let page = match self.client.list_incidents(name, &manager, self.since, offset, MAX_INCIDENTS).await {
                Ok(page) => page,
                Err(error) if crate::outlet::client::is_nothing_yet(&error) => return Ok(found),
                Err(error) => return Err(crate::outlet::client::explained(error)),
            };
            let last = page.len() < MAX_INCIDENTS as usize;
            offset += MAX_INCIDENTS;
            for dict in page {
                let Stored { incident, .. } = dict.try_into()?;
                if incident.key.source == SightingSource::Rehearsal {
                    found.push(incident);
                }
            }
            if last || found.len() >= MOST {
                return Ok(found);
            }
        }
    }
}
