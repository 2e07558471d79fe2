//! What a rehearsed unit would be denied, as harden-whyd stores it: the calls of the kernel's records, and what a tap sees.

use super::feed::RehearsalFeed;
use crate::audit::text::escape;
use crate::diagnosis::before_exec::is_rehearsal_filter_load;
use crate::incidents::{Incident, IncidentKey, SightingSource, Stored};
use crate::operations::permission::root_command;
use crate::operations::tap::background::BackgroundTap;
use crate::operations::tap::report::report_incidents;
use crate::outlet::client;
use crate::outlet::client::HardenWhyProxy;
use crate::outlet::wire::{BusError, MAX_INCIDENTS, Status};
use crate::systemd::bus_address::BusAddress;
use crate::units::Unit;
use anyhow::{Context as _, ensure};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The number of incidents after which the feed stops reading.
const MAX_READ: usize = 5_000;

/// A connection to a daemon that listens to the kernel's records.
pub(crate) struct ListeningDaemon {
    pub(crate) client: HardenWhyProxy<'static>,
    pub(crate) status: Status,
}

/// The daemon's incidents of one unit under rehearsal.
pub(crate) struct DaemonFeed {
    client: HardenWhyProxy<'static>,
    bus: BusAddress,
    unit: Unit,
    /// The start of the rehearsal, in milliseconds since the epoch.
    since: i64,
    /// The counts of earlier rehearsals.
    before: HashMap<IncidentKey, u64>,
    /// When the daemon began to listen. A restarted daemon has another time, and does not know the rehearsal.
    daemon_since: i64,
    /// Whether the latest read failed: the connection or the daemon's note of the rehearsal may be lost.
    lost: bool,
    /// Sees what no record shows: paths, capabilities, devices and arguments. `None` if this process may not tap.
    tap: Option<Arc<BackgroundTap>>,
    /// What the tap saw and the daemon did not take yet.
    unreported: Vec<Incident>,
}

impl ListeningDaemon {
    /// Connects to the daemon.
    ///
    /// # Errors
    /// The daemon does not answer, or does not receive the kernel's records.
    pub(crate) async fn connect(bus: &BusAddress) -> anyhow::Result<Self> {
        let client = client::connect(bus).await.with_context(|| {
            let start = root_command("systemctl start harden-whyd");
            format!("harden-whyd, which a rehearsal requires, does not answer ({start})")
        })?;
        let status = client.status().await.map_err(client::explain_error)?;
        ensure!(
            status.listening,
            "harden-whyd receives no records here, so a rehearsal would show nothing: {}. 'harden-why tap UNIT' works \
             without records",
            escape(status.not_listening.unwrap_or_default().as_bytes())
        );
        Ok(Self { client, status })
    }
}

impl DaemonFeed {
    /// Tells the daemon that a unit's rehearsal begins, and reads the counts of earlier rehearsals. `since` is the time
    /// in milliseconds since the epoch.
    ///
    /// # Errors
    /// Another process rehearses the unit, or the daemon refuses.
    pub(crate) async fn begin(
        client: HardenWhyProxy<'static>,
        bus: BusAddress,
        unit: Unit,
        since: i64,
        tap: Option<Arc<BackgroundTap>>,
    ) -> anyhow::Result<Self> {
        client.begin_rehearsal(unit.name.as_str(), &unit.manager.to_string()).await.map_err(client::explain_error)?;
        let daemon_since = client.status().await.map_err(client::explain_error)?.since;
        let (before, unreported) = (HashMap::new(), Vec::new());
        let mut feed = Self { client, bus, unit, since: 0, before, daemon_since, lost: false, tap, unreported };
        feed.before = feed.incidents().await?.into_iter().map(|one| (one.key, one.count)).collect();
        feed.since = since;
        Ok(feed)
    }

    /// Returns the connection to the daemon.
    pub(crate) fn client(&self) -> HardenWhyProxy<'static> {
        self.client.clone()
    }

    /// Reads the incidents. First reconnects, and repeats the note of the rehearsal, if the daemon lost it.
    async fn read(&mut self) -> anyhow::Result<Vec<Incident>> {
        if self.lost {
            self.client = client::connect(&self.bus).await?;
        }
        let status = self.client.status().await.map_err(client::explain_error)?;
        if self.lost || status.since != self.daemon_since {
            let (name, manager) = (self.unit.name.as_str(), self.unit.manager.to_string());
            // The daemon refuses only if it still has the note.
            let _ = self.client.begin_rehearsal(name, &manager).await;
            (self.daemon_since, self.lost) = (status.since, false);
        }
        self.report().await?;
        self.incidents().await
    }

    /// Gives the daemon what the tap saw. What it does not take stays for the next time.
    async fn report(&mut self) -> anyhow::Result<()> {
        if self.unreported.is_empty() {
            self.unreported = self.tap.as_ref().map_or_else(Vec::new, |tap| tap.take_incidents());
        }
        report_incidents(&self.client, &mut self.unreported).await
    }

    async fn incidents(&self) -> anyhow::Result<Vec<Incident>> {
        let (name, manager) = (self.unit.name.as_str(), self.unit.manager.to_string());
        let mut incidents = Vec::new();
        let mut offset = 0;
        loop {
            let page = match self.client.list_incidents(name, &manager, self.since, offset, MAX_INCIDENTS).await {
                Ok(page) => page,
                Err(BusError::NoStore(_)) => return Ok(incidents),
                Err(error) => return Err(client::explain_error(error)),
            };
            let last = page.len() < MAX_INCIDENTS as usize;
            offset += MAX_INCIDENTS;
            for dict in page {
                let Stored { incident, .. } = client::read_answer(dict)?;
                if incident.key.source == SightingSource::Rehearsal || incident.access().is_some() {
                    incidents.push(incident);
                }
            }
            if last || incidents.len() >= MAX_READ {
                return Ok(incidents);
            }
        }
    }
}

impl RehearsalFeed for DaemonFeed {
    /// Includes calls that systemd makes after it loads the filter and before it starts the program: the unit's own
    /// filter would be in force there as well.
    async fn calls(&mut self) -> anyhow::Result<Vec<Incident>> {
        let answer = timeout(PATIENCE, self.read()).await;
        let incidents = match answer.unwrap_or_else(|_| Err(anyhow::anyhow!("it does not answer in time"))) {
            Ok(incidents) => incidents,
            Err(error) => {
                self.lost = true;
                return Err(error);
            }
        };
        let before = &self.before;
        let since = incidents.into_iter().filter(|one| !is_rehearsal_filter_load(one)).filter_map(|mut one| {
            // A replaced store counts from zero.
            one.count -= before.get(&one.key).copied().filter(|before| *before <= one.count).unwrap_or_default();
            (one.count > 0).then_some(one)
        });
        Ok(since.collect())
    }

    async fn end(&self) {
        let (name, manager) = (self.unit.name.as_str(), self.unit.manager.to_string());
        // The daemon may know the end already.
        let _ = timeout(PATIENCE, self.client.end_rehearsal(name, &manager)).await;
    }
}
