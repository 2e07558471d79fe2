//! The resources of every verb that answers for units of this machine.

use super::call_sites::ShownPackages;
use super::incident_source::{IncidentScope, IncidentSource, ManagerScope, OtherSource};
use super::sighting_times::SightingTimes;
use crate::audit::Note;
use crate::audit::text::{quote_word, shown_path};
use crate::cli::args::machine::Machine;
use crate::cli::args::{Common, StateDir};
use crate::cli::terminal::clock::local_time_now;
use crate::outlet::access::OWN_UNITS_ONLY;
use crate::outlet::caveats::{eviction_note, list_reception_notes};
use crate::outlet::client::HardenWhyProxy;
use crate::syscalls::Groups;
use crate::systemd::manager::Managers;
use crate::systemd::syscall_groups;
use crate::systemd::syscall_groups::LoadedGroups;
use crate::units::UnitName;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tokio::task::{JoinHandle, spawn_blocking};

/// Incidents, managers, groups and notes: opened once for a verb, and passed on by reference.
#[derive(Debug)]
pub(crate) struct Context {
    /// The source of incidents.
    pub(crate) incidents: IncidentSource,
    /// The service managers of this machine.
    pub(crate) managers: Managers,
    /// The system call groups of this machine, or the embedded ones.
    pub(crate) loaded_groups: LoadedGroups,
    /// What limits every answer of this verb.
    pub(crate) notes: Vec<Note>,
    /// The other machines for which an answer judges its remedies.
    pub(crate) machines: Vec<Machine>,
    /// Which packages of call sites its answers show.
    pub(crate) packages: ShownPackages,
    /// Whether the caller may read only the incidents of units of their own manager.
    own_units_only: bool,
    /// The directory of the store, if the user named one.
    store: Option<PathBuf>,
    /// Since when the daemon receives records, in milliseconds since the epoch.
    listening_since: Option<i64>,
    /// A note about evicted incidents, and the latest sighting of any of them.
    evicted: Option<(i64, Note)>,
}

/// Returns the option that reads a store, with a space after it; empty if no directory is named.
pub(crate) fn describe_store_option(directory: Option<&Path>) -> String {
    directory.map_or_else(String::new, |directory| format!("--state-dir {} ", quote_word(&shown_path(directory))))
}

impl Context {
    /// Opens the incident source, loads the groups, and collects what limits the answer.
    ///
    /// # Errors
    /// Neither the daemon nor a store can be read.
    pub(crate) async fn open(common: &Common, state_dir: &StateDir, other: OtherSource) -> anyhow::Result<Self> {
        let groups = spawn_blocking(syscall_groups::load);
        let (incidents, notes) = IncidentSource::open(common, state_dir, other).await?;
        let store = state_dir.state_dir.clone();
        Ok(Self { store, ..Self::collect(incidents, groups, common, notes).await })
    }

    /// Lists the units with denials, for a pattern of names.
    ///
    /// # Errors
    /// The incident source fails.
    pub(crate) async fn list_denied_units(&self, managers: ManagerScope) -> anyhow::Result<BTreeSet<UnitName>> {
        let units = self.incidents.units(IncidentScope { managers, times: SightingTimes::default() }).await?;
        Ok(units.into_iter().filter_map(|summary| Some(summary.unit?.name)).collect())
    }

    /// Builds the context over a daemon that is connected already.
    pub(crate) async fn from_daemon(daemon: HardenWhyProxy<'static>, common: &Common) -> Self {
        let groups = spawn_blocking(syscall_groups::load);
        Self::collect(IncidentSource::Daemon(daemon), groups, common, Vec::new()).await
    }

    async fn collect(
        incidents: IncidentSource,
        groups: JoinHandle<LoadedGroups>,
        common: &Common,
        mut notes: Vec<Note>,
    ) -> Self {
        let status = incidents.status().await;
        // The thread fails only if it panics.
        let loaded_groups = groups.await.unwrap_or_else(|_| syscall_groups::load());
        notes.extend(syscall_groups::groups_note(&loaded_groups));
        if let Some(status) = &status {
            notes.extend(list_reception_notes(status));
        }
        let evicted = status.as_ref().and_then(|status| eviction_note(status, &local_time_now()));
        let own_units_only = status.as_ref().is_some_and(|status| status.only_manager.is_some());
        let listening_since = status.filter(|status| status.listening).map(|status| status.since);
        Self {
            incidents,
            managers: Managers::new(&common.bus),
            loaded_groups,
            notes,
            machines: Vec::new(),
            packages: ShownPackages::from_options(common),
            own_units_only,
            store: None,
            listening_since,
            evicted,
        }
    }

    /// Returns the option by which a printed command reads the same store, with a space after it; empty for the daemon.
    pub(crate) fn store_option(&self) -> String {
        describe_store_option(self.store.as_deref())
    }

    /// Returns a note about evicted incidents, if some of them can be missing in an answer about incidents since a moment
    /// (`None` for all), in milliseconds since the epoch.
    pub(crate) fn eviction_note(&self, since: Option<i64>) -> Option<Note> {
        let (last, note) = self.evicted.as_ref()?;
        (since.unwrap_or(i64::MIN) <= *last).then(|| note.clone())
    }

    /// Returns a note if the caller may not read all incidents of these managers' units. `--user` selects the caller's
    /// own units here.
    pub(crate) fn hidden_incidents_note(&self, managers: ManagerScope) -> Option<Note> {
        let own = ManagerScope::User(nix::unistd::geteuid().as_raw());
        let is_hidden = self.own_units_only && managers != ManagerScope::Users && managers != own;
        is_hidden.then(|| Note::new("own-units-only", OWN_UNITS_ONLY))
    }

    /// Says that a unit has no denials, and since when harden-whyd would have seen one.
    pub(crate) fn describe_no_denials(&self) -> String {
        self.listening_since.filter(|since| *since > 0).map_or_else(
            || "No denials.".to_owned(),
            |since| format!("No denials; harden-whyd has listened since {}.", local_time_now().show_briefly(since)),
        )
    }

    /// The system call groups.
    pub(crate) fn groups(&self) -> &Groups {
        &self.loaded_groups.groups
    }
}
