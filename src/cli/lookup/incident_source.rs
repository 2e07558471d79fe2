//! Where the incidents of this machine come from: the daemon, or its store.

use super::sighting_times::SightingTimes;
use crate::audit::Note;
use crate::audit::text::{plural, shown_path};
use crate::cli::args::{Common, ManagerFlags, STATE_DIR, StateDir};
use crate::incidents::incident::by_unit;
use crate::incidents::{Incident, Moment, Query, Store, StoreError, Stored, UnitSummary};
use crate::operations::permission::root_command;
use crate::outlet::client::{HardenWhyProxy, connect, explain_error, read_answer, retry_while_busy};
use crate::outlet::wire::{BusError, MAX_INCIDENTS, NO_MANAGER, Status};
use crate::systemd::bus_address::BusAddress;
use crate::units::{Manager, Unit, UnitName};
use std::fmt;
use std::path::Path;

/// The most incidents of one unit in an answer.
const MOST_INCIDENTS: usize = 5_000;

/// The daemon or its store.
#[derive(Debug)]
pub(crate) enum IncidentSource {
    /// The daemon, over the bus.
    Daemon(HardenWhyProxy<'static>),
    /// The store on disk, read without the daemon.
    Store(Store),
}

/// The incidents that one query returns.
#[derive(Debug)]
pub(crate) struct UnitIncidents {
    /// Newest first.
    pub(crate) incidents: Vec<Incident>,
    /// Whether these are all; false if more exist than an answer holds.
    pub(crate) complete: bool,
}

impl UnitIncidents {
    /// Keeps the latest incidents. Returns a note about the others.
    pub(crate) fn keep_latest(&mut self, most: Option<u32>) -> Option<Note> {
        let most = usize::try_from(most?).unwrap_or(usize::MAX);
        let left_out = self.incidents.len().saturating_sub(most);
        self.incidents.truncate(most);
        // The limit of the answer is that of the user then, not that of the source.
        self.complete |= left_out > 0;
        let older = plural(left_out as u64, "older denial");
        (left_out > 0).then(|| Note::new("older-denials", format!("left out by --lines: {older}")))
    }
}

/// Selects the incidents of a query.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct IncidentScope {
    /// The managers whose units count.
    pub(crate) managers: ManagerScope,
    /// From when to when sightings count.
    pub(crate) times: SightingTimes,
}

impl IncidentScope {
    fn includes(self, incident: &Incident) -> bool {
        self.managers.includes(incident.key.unit.as_ref().map(|unit| unit.manager)) && self.times.includes(incident)
    }
}

/// Selects incidents by their unit.
#[derive(Debug, Clone, Copy)]
enum Selection<'a> {
    All,
    Named(&'a UnitName),
    UnknownUnits,
}

/// Selects the managers whose units count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ManagerScope {
    /// All managers.
    #[default]
    All,
    /// The system manager.
    System,
    /// All user managers.
    Users,
    /// The manager of one user.
    User(u32),
}

impl ManagerScope {
    /// Returns the scope that `--system` and `--user` select.
    pub(crate) fn from_flags(flags: ManagerFlags) -> Self {
        match flags {
            ManagerFlags { system: true, .. } => Self::System,
            ManagerFlags { user: true, .. } => Self::Users,
            ManagerFlags { .. } => Self::All,
        }
    }

    /// Returns the scope that `--system` and `--user` select for a verb that changes units: the caller's own manager is
    /// the only one of a user that it can change.
    pub(crate) fn from_own_flags(flags: ManagerFlags) -> Self {
        match Self::from_flags(flags) {
            Self::Users => Self::User(nix::unistd::geteuid().as_raw()),
            scope => scope,
        }
    }

    /// Returns the managers that both scopes include; `None` if there are none.
    pub(crate) fn intersect(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::All, one) | (one, Self::All) => Some(one),
            (Self::Users, Self::User(uid)) | (Self::User(uid), Self::Users) => Some(Self::User(uid)),
            (one, same) => (one == same).then_some(one),
        }
    }

    /// Returns whether a manager is in scope; `None` stands for processes of an unknown unit.
    pub(crate) fn includes(self, manager: Option<Manager>) -> bool {
        match self {
            Self::All => true,
            Self::System => manager == Some(Manager::System),
            Self::Users => matches!(manager, Some(Manager::User(_))),
            Self::User(uid) => manager == Some(Manager::User(uid)),
        }
    }
}

impl From<Manager> for ManagerScope {
    fn from(manager: Manager) -> Self {
        match manager {
            Manager::System => Self::System,
            Manager::User(uid) => Self::User(uid),
        }
    }
}

impl fmt::Display for ManagerScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("any manager"),
            Self::System => f.write_str("the system manager"),
            Self::Users => f.write_str("a user manager"),
            Self::User(uid) => write!(f, "the user manager of uid {uid}"),
        }
    }
}

/// Returns the daemon's answer. Before its first incident, the daemon has no store to read: then that is no incidents.
fn or_empty<T>(answer: Result<Vec<T>, BusError>) -> anyhow::Result<Vec<T>> {
    match answer {
        Err(BusError::NoStore(_)) => Ok(Vec::new()),
        answer => answer.map_err(explain_error),
    }
}

/// Returns the totals of each unit, the unit with the newest incident first.
fn summarise(incidents: Vec<Incident>) -> Vec<UnitSummary> {
    let summary = |(unit, incidents): (Option<Unit>, Vec<Incident>)| UnitSummary {
        unit,
        incidents: incidents.len() as u64,
        count: incidents.iter().map(|incident| incident.count).fold(0, u64::saturating_add),
        last: incidents.first().map_or(Moment::Unknown, |newest| newest.last.clone()),
    };
    by_unit(incidents).into_iter().map(summary).collect()
}

/// What a verb can read in place of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OtherSource {
    /// A store, or a log by the verb `explain`.
    ExplainLog,
    /// A store, or a log by the option `--log`.
    LogOption,
    /// A store alone.
    Store,
    /// Nothing: the verb waits for new denials.
    Nothing,
}

/// Returns the error for a daemon that does not answer: why, and what to do.
pub(crate) fn silent_daemon(bus: &BusAddress, error: &str, other: OtherSource) -> anyhow::Error {
    // The sentence names the bus already, and the number of an error says no more than its words.
    let reason = error.strip_prefix("failed to connect to `").and_then(|rest| rest.split_once("`: "));
    let reason = reason.map_or(error, |(_, reason)| reason);
    let reason = reason.split(" (os error ").next().unwrap_or_default();
    let start = format!("start it ({})", root_command("systemctl start harden-whyd"));
    let ways = match other {
        OtherSource::ExplainLog => {
            format!("{start}, read a store with --state-dir DIR, or a log with 'harden-why explain FILE'")
        }
        OtherSource::LogOption => format!("{start}, read a store with --state-dir DIR, or a log with --log FILE"),
        OtherSource::Store => format!("{start}, or name a store with --state-dir DIR"),
        OtherSource::Nothing => start,
    };
    anyhow::anyhow!("harden-whyd does not answer on the {bus} bus ({reason}): {ways}")
}

/// Returns the error for a directory of `--state-dir` without a store.
fn no_store(dir: &Path) -> anyhow::Error {
    let what = if dir.is_dir() { "has no store" } else { "is no directory" };
    anyhow::anyhow!("{} {what}: name the directory of a store with --state-dir, such as {STATE_DIR}", shown_path(dir))
}

impl IncidentSource {
    /// Opens the store in `--state-dir`, or connects to the daemon. If the daemon does not answer, opens the store that
    /// it left, and returns a note about that.
    ///
    /// # Errors
    /// Neither can be read; the error says what to do.
    pub(crate) async fn open(
        common: &Common,
        asked: &StateDir,
        other: OtherSource,
    ) -> anyhow::Result<(Self, Vec<Note>)> {
        if let Some(dir) = &asked.state_dir {
            let store = Store::open_read_only(dir).map_err(|error| match error {
                StoreError::Missing { .. } => no_store(dir),
                error => error.into(),
            })?;
            return Ok((Self::Store(store), Vec::new()));
        }
        let error = match connect(&common.bus).await {
            Ok(daemon) => return Ok((Self::Daemon(daemon), Vec::new())),
            Err(error) => error,
        };
        if common.bus == BusAddress::System {
            match Store::open_read_only(Path::new(STATE_DIR)) {
                Ok(store) => {
                    let note = format!("harden-whyd does not answer ({error}): this answer is from its store");
                    return Ok((Self::Store(store), vec![Note::new("daemon-not-running", note)]));
                }
                Err(StoreError::Missing { .. } | StoreError::Unreadable { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(silent_daemon(&common.bus, &error.to_string(), other))
    }

    /// Lists every unit with incidents, newest first.
    ///
    /// # Errors
    /// The daemon or the store fails.
    pub(crate) async fn units(&self, scope: IncidentScope) -> anyhow::Result<Vec<UnitSummary>> {
        if scope.times.until.is_some() {
            // The first sightings decide, which a list of units does not have.
            return Ok(summarise(self.list(Selection::All, scope, usize::MAX).await?.incidents));
        }
        let units: Vec<UnitSummary> = match self {
            Self::Daemon(daemon) => {
                let since = scope.times.since.unwrap_or_default();
                let units = or_empty(retry_while_busy(|| daemon.list_units(since)).await)?;
                units.into_iter().map(read_answer).collect::<Result<_, _>>()?
            }
            Self::Store(store) => store.units(&Query { since: scope.times.since, ..Query::default() })?,
        };
        let included = |summary: &UnitSummary| scope.managers.includes(summary.unit.as_ref().map(|unit| unit.manager));
        Ok(units.into_iter().filter(included).collect())
    }

    /// Lists the incidents of all units of a name, newest first; without a name, those of processes whose unit is unknown.
    ///
    /// # Errors
    /// The daemon or the store fails.
    pub(crate) async fn incidents(
        &self,
        name: Option<&UnitName>,
        scope: IncidentScope,
    ) -> anyhow::Result<UnitIncidents> {
        self.list(name.map_or(Selection::UnknownUnits, Selection::Named), scope, MOST_INCIDENTS).await
    }

    /// Lists the incidents of all units and of unknown units, newest first.
    ///
    /// # Errors
    /// The daemon or the store fails.
    pub(crate) async fn all_incidents(&self, scope: IncidentScope) -> anyhow::Result<UnitIncidents> {
        self.list(Selection::All, scope, MOST_INCIDENTS).await
    }

    async fn list(&self, selection: Selection<'_>, scope: IncidentScope, most: usize) -> anyhow::Result<UnitIncidents> {
        let mut found = Vec::new();
        let mut offset = 0;
        loop {
            let page = self.page(selection, scope.times.since, offset).await?;
            let last = page.len() < MAX_INCIDENTS as usize;
            offset += MAX_INCIDENTS;
            let incidents = page.into_iter().map(|stored| stored.incident);
            found.extend(incidents.filter(|incident| scope.includes(incident)));
            if last || found.len() >= most {
                return Ok(UnitIncidents { incidents: found, complete: last });
            }
        }
    }

    async fn page(&self, selection: Selection<'_>, since: Option<i64>, offset: u32) -> anyhow::Result<Vec<Stored>> {
        match self {
            Self::Daemon(daemon) => {
                let since = since.unwrap_or_default();
                let (unit, manager) = match selection {
                    Selection::All => ("", ""),
                    Selection::Named(name) => (name.as_str(), ""),
                    Selection::UnknownUnits => ("", NO_MANAGER),
                };
                let page =
                    retry_while_busy(|| daemon.list_incidents(unit, manager, since, offset, MAX_INCIDENTS)).await;
                Ok(or_empty(page)?.into_iter().map(read_answer).collect::<Result<_, _>>()?)
            }
            Self::Store(store) => {
                let unit = if let Selection::Named(name) = selection { Some(name.clone()) } else { None };
                let (unknown, limit) = (matches!(selection, Selection::UnknownUnits), Some(MAX_INCIDENTS));
                Ok(store.incidents(&Query { unknown, unit, since, limit, offset, manager: None })?)
            }
        }
    }

    /// Deletes the incidents of a unit, or (`None`) of processes whose unit is unknown. Returns how many were deleted.
    ///
    /// # Errors
    /// The caller may not, or the daemon or the store fails. A store can be written only while no daemon uses it.
    pub(crate) async fn forget(&self, unit: Option<&Unit>) -> anyhow::Result<u64> {
        match self {
            Self::Daemon(daemon) => {
                let (name, manager) = unit.map_or_else(
                    || (String::new(), NO_MANAGER.to_owned()),
                    |unit| (unit.name.to_string(), unit.manager.to_string()),
                );
                retry_while_busy(|| daemon.forget(&name, &manager)).await.map_err(explain_error)
            }
            Self::Store(store) => {
                let dir = store.path().parent().unwrap_or(Path::new("/")).to_owned();
                Ok(Store::open(&dir)?.forget_unit(unit)?)
            }
        }
    }

    /// Returns the daemon's status; for a store, only what it evicted.
    pub(crate) async fn status(&self) -> Option<Status> {
        match self {
            Self::Daemon(daemon) => retry_while_busy(|| daemon.status()).await.ok(),
            Self::Store(store) => {
                let mut status = Status::default();
                status.set_evicted(store.evicted().ok()?);
                Some(status)
            }
        }
    }
}
