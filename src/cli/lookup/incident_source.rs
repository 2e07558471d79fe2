//! Where the incidents of this machine are asked for: the daemon, or its store.

use crate::audit::Note;
use crate::cli::args::{Common, STATE_DIR, StateDir};
use crate::incidents::{Incident, Query, Store, StoreError, Stored, UnitSummary};
use crate::outlet::client::{HardenWhyProxy, daemon, explained, patiently};
use crate::outlet::wire::{MAX_INCIDENTS, NO_MANAGER, Status};
use crate::systemd::bus_address::BusAddress;
use crate::units::{Manager, UnitName};
use std::path::Path;

/// The most incidents of one unit that are answered for.
const MOST_INCIDENTS: usize = 5_000;

/// The daemon or its store.
#[derive(Debug)]
pub(crate) enum Source {
    /// On the bus.
    Daemon(HardenWhyProxy<'static>),
    /// Read beside the daemon, or without one.
    Store(Store),
}

/// What is asked about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scope {
    /// Which managers' units.
    pub(crate) managers: Managers,
    /// Only what was seen then or later, in milliseconds since the epoch.
    pub(crate) since: Option<i64>,
}

/// Which managers' units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Managers {
    /// Every manager's.
    #[default]
    All,
    /// The system's.
    System,
    /// Users'.
    Users,
}

impl Managers {
    /// As `--system` and `--user` say.
    pub(crate) fn of(system: bool, user: bool) -> Self {
        match (system, user) {
            (true, _) => Self::System,
            (_, true) => Self::Users,
            _ => Self::All,
        }
    }

    /// Whether it is one of them; `None` stands for processes of no known unit.
    pub(crate) fn include(self, manager: Option<Manager>) -> bool {
        match self {
            Self::All => true,
            Self::System => manager == Some(Manager::System),
            Self::Users => matches!(manager, Some(Manager::User(_))),
        }
    }
}

impl Source {
    /// The store in `--state-dir`, or the daemon. Where that does not answer, the store it left behind, with a note.
    ///
    /// # Errors
    /// There is neither; says what to do.
    pub(crate) async fn open(common: &Common, asked: &StateDir) -> anyhow::Result<(Self, Vec<Note>)> {
        if let Some(dir) = &asked.state_dir {
            return Ok((Self::Store(Store::open_read_only(dir)?), Vec::new()));
        }
        let error = match daemon(&common.bus).await {
            Ok(daemon) => return Ok((Self::Daemon(daemon), Vec::new())),
            Err(error) => error,
        };
        if common.bus == BusAddress::System {
            match Store::open_read_only(Path::new(STATE_DIR)) {
                Ok(store) => {
                    let note = format!("harden-whyd does not run ({error}): this is what it stored before");
                    return Ok((Self::Store(store), vec![Note::new("daemon-not-running", note)]));
                }
                Err(StoreError::Missing { .. } | StoreError::Unreadable { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        anyhow::bail!(
            "harden-whyd does not answer on the {} bus ({error}): start it (systemctl start harden-whyd), read a store \
             with --state-dir DIR, or a log with 'harden-why explain FILE'",
            common.bus
        )
    }

    /// Every unit with incidents, newest first.
    ///
    /// # Errors
    /// Those of the daemon or the store.
    pub(crate) async fn units(&self, scope: Scope) -> anyhow::Result<Vec<UnitSummary>> {
        let units: Vec<UnitSummary> = match self {
            Self::Daemon(daemon) => {
                let since = scope.since.unwrap_or_default();
                let units = patiently(|| daemon.list_units(since)).await.map_err(explained)?;
                units.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?
            }
            Self::Store(store) => store.units(&Query { since: scope.since, ..Query::default() })?,
        };
        let included = |summary: &UnitSummary| scope.managers.include(summary.unit.as_ref().map(|unit| unit.manager));
        Ok(units.into_iter().filter(included).collect())
    }

    /// The incidents of units of a name, or of processes whose unit is not known, newest first, and whether those are
    /// all.
    ///
    /// # Errors
    /// Those of the daemon or the store.
    pub(crate) async fn incidents(
        &self,
        name: Option<&UnitName>,
        scope: Scope,
    ) -> anyhow::Result<(Vec<Incident>, bool)> {
        let mut found = Vec::new();
        let mut offset = 0;
        loop {
            let page = self.page(name, scope.since, offset).await?;
            let last = page.len() < MAX_INCIDENTS as usize;
            offset += MAX_INCIDENTS;
            let incidents = page.into_iter().map(|stored| stored.incident);
            found
                .extend(incidents.filter(|one| scope.managers.include(one.key.unit.as_ref().map(|unit| unit.manager))));
            if last || found.len() >= MOST_INCIDENTS {
                return Ok((found, last));
            }
        }
    }

    async fn page(&self, name: Option<&UnitName>, since: Option<i64>, offset: u32) -> anyhow::Result<Vec<Stored>> {
        match self {
            Self::Daemon(daemon) => {
                let since = since.unwrap_or_default();
                let (unit, manager) = name.map_or(("", NO_MANAGER), |name| (name.as_str(), ""));
                let page = patiently(|| daemon.list_incidents(unit, manager, since, offset, MAX_INCIDENTS)).await;
                Ok(page.map_err(explained)?.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?)
            }
            Self::Store(store) => {
                let (unknown, limit) = (name.is_none(), Some(MAX_INCIDENTS));
                Ok(store.incidents(&Query { unknown, unit: name.cloned(), since, limit, offset, manager: None })?)
            }
        }
    }

    /// How well the daemon hears; of a store that is read without it, what had to give way.
    pub(crate) async fn status(&self) -> Option<Status> {
        match self {
            Self::Daemon(daemon) => patiently(|| daemon.status()).await.ok(),
            Self::Store(store) => {
                let mut status = Status::default();
                status.set_evicted(store.evicted().ok()?);
                Some(status)
            }
        }
    }
}
