//! Everything that can fail, looked at before anything is changed.

use super::marker;
use super::marker::Ledger;
use crate::audit::Note;
use crate::audit::text::{escape, join, shown_path};
use crate::diagnosis::{RehearsalDropIn, Situation};
use crate::host::unit_settings;
use crate::host::unit_settings::REHEARSAL_DROP_IN;
use crate::incidents::local_time::LocalTime;
use crate::kernel::procfs::Procfs;
use crate::operations::drop_in;
use crate::operations::permission::{can_take_drop_ins, may_change};
use crate::outlet::caveats::hearing_notes;
use crate::outlet::client::HardenWhyProxy;
use crate::policy::Directive;
use crate::policy::unit_file::shown;
use crate::systemd::bus_address::BusAddress;
use crate::systemd::manager::{Managers, SystemdError, SystemdManager, UnitProperties};
use crate::systemd::syscall_groups;
use crate::systemd::syscall_groups::{LoadedGroups, groups_note};
use crate::unit_files::runtime_dropin_path;
use crate::units::cgroup::{Placement, place};
use crate::units::{Manager, Unit, UnitName};
use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Units without which nobody would hear or be told anything.
const NEEDED: [&str; 4] = ["harden-whyd.service", "harden-whyd.socket", "dbus.service", "dbus-broker.service"];

/// Where the kernel says which decisions it makes records of.
const ACTIONS_LOGGED: &str = "/proc/sys/kernel/seccomp/actions_logged";

/// When it ends, other than by a person or the unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// After so long.
    pub(crate) time: Option<Duration>,
    /// After so long without a call that is new.
    pub(crate) idle: Option<Duration>,
}

/// What a person asks to be rehearsed.
#[derive(Debug, Clone)]
pub(crate) struct RehearsalRequest {
    /// The unit's name, or an alias.
    pub(crate) unit: UnitName,
    /// Only a unit of the system manager.
    pub(crate) system: bool,
    /// Only a unit of the caller's own manager.
    pub(crate) user: bool,
    /// When it ends.
    pub(crate) limits: Limits,
    /// Directives that stay in force, by key; a `=` at the end is ignored.
    pub(crate) keep: Vec<String>,
}

/// A rehearsal that nothing known speaks against.
pub(crate) struct Plan {
    pub(crate) unit: Unit,
    /// The unit before.
    pub(crate) facts: UnitProperties,
    /// Its own settings.
    pub(crate) situation: Situation,
    pub(crate) rehearsal: RehearsalDropIn,
    pub(crate) limits: Limits,
    /// Where its drop-in goes.
    pub(crate) path: PathBuf,
    /// The day.
    today: String,
    pub(crate) ledger: Ledger,
    pub(crate) managers: Managers,
    pub(crate) manager: SystemdManager,
    pub(crate) client: HardenWhyProxy<'static>,
    pub(crate) loaded: LoadedGroups,
    pub(crate) notes: Vec<Note>,
}

impl Plan {
    /// Of what is asked for.
    ///
    /// # Errors
    /// Says what is in the way. Nothing was changed.
    pub(crate) async fn of(bus: &BusAddress, asked: &RehearsalRequest, clock: &LocalTime) -> anyhow::Result<Self> {
        let limits = asked.limits;
        let keep = kept(&asked.keep)?;
        let client = crate::outlet::client::daemon(bus).await.context(
            "harden-whyd, which hears what a rehearsal shows, does not answer (systemctl start harden-whyd)",
        )?;
        let status = client.status().await.map_err(crate::outlet::client::explained)?;
        ensure!(status.listening, "harden-whyd cannot hear the kernel's records, so a rehearsal would show nothing");
        kernel_logs()?;

        let managers = Managers::new(bus);
        let loaded = syscall_groups::load();
        ensure!(!asked.system || nix::unistd::geteuid().is_root(), "a unit of the system is rehearsed by root alone");
        let (unit, manager) = found(asked, &managers).await?;
        let is_needed = unit.manager == Manager::System && NEEDED.contains(&unit.name.as_str());
        ensure!(!is_needed, "without {} nothing of a rehearsal would be heard", unit.name);
        may_change(&unit, "rehearse")?;
        ensure!(
            unit.manager != Manager::System || nix::unistd::geteuid().is_root(),
            "{} is a unit of the system, which is rehearsed by root alone; say --user for one of your own",
            unit.name
        );
        let known = unit_settings::load_in_force(&managers, &unit, &loaded.groups).await;
        can_take_drop_ins(&unit.name, &known)?;
        let facts = known.properties.context("systemd does not tell the unit's settings")?;
        let situation = known.situation.with_context(|| format!("the settings of {} cannot be read", unit.name))?;
        let section = situation.policy.settings.section();
        ensure!(!section.is_empty(), "{} runs no processes, so there is nothing to rehearse", unit.name);
        if facts.system_call_log.is_none() {
            let version = manager.version().await.map(|version| format!(" ({})", escape(version.as_bytes())));
            let version = version.unwrap_or_default();
            bail!("the systemd that runs {}{version} has no SystemCallLog=, which came with 247", unit.name);
        }
        ensure!(facts.can_start != Some(false), "{} may be started by other units alone, so not for this", unit.name);
        let is_held = facts.refuse_manual_stop == Some(true) && facts.is_running();
        ensure!(!is_held, "{} may be stopped by other units alone, so not for this", unit.name);
        runs_us(&unit)?;
        let path = runtime_dropin_path(&unit, REHEARSAL_DROP_IN);
        is_free(&path, &facts)?;
        ensure!(
            known.matches_manager,
            "systemd holds other settings of {} than its files say: {}",
            unit.name,
            crate::audit::note::join_texts(&known.notes)
        );

        let Some(rehearsal) = RehearsalDropIn::new(&situation.policy, &keep, &loaded.groups) else {
            bail!("there is nothing to rehearse: the settings of {} deny nothing that would be seen then", unit.name)
        };
        let rehearsed = situation.policy.with_dropin(&path, rehearsal.content.as_bytes(), &loaded.groups);
        if let Err(call) = rehearsal.verify(&rehearsed, &loaded.groups) {
            let behind = join(situation.policy.settings.later_dropins(&path).map(shown_path));
            let behind = if behind.is_empty() { "another setting".to_owned() } else { behind };
            bail!("{behind} has the last word on {call}, so {} cannot be rehearsed: give it a lower name", unit.name);
        }
        let mut notes = Vec::new();
        notes.extend(groups_note(&loaded));
        notes.extend(hearing_notes(&status, clock));
        let ledger = Ledger::ours(&facts);
        Ok(Self {
            unit,
            facts,
            situation,
            rehearsal,
            limits,
            path,
            today: clock.today(),
            ledger,
            managers,
            manager,
            client,
            loaded,
            notes,
        })
    }
}

impl Plan {
    /// Goes by how the unit is now: a person takes time to answer.
    ///
    /// # Errors
    /// Its manager does not tell.
    pub(crate) async fn renew(&mut self) -> anyhow::Result<()> {
        self.facts = self.manager.unit_properties(&self.unit.name).await.context("nothing was changed")?;
        self.ledger = Ledger::ours(&self.facts);
        Ok(())
    }

    /// The drop-in.
    pub(crate) fn text(&self) -> String {
        let why = format!("a rehearsal of {}, which is less protected meanwhile", self.unit.name);
        let content = format!("{}{}", self.ledger.lines(), self.rehearsal.content);
        drop_in::compose(&content, &self.today, &why, "harden-why restore")
    }
}

fn kept(names: &[String]) -> anyhow::Result<BTreeSet<Directive>> {
    let known = |name: &String| {
        let directive = Directive::from_key(name.strip_suffix('=').unwrap_or(name));
        directive.filter(|directive| directive.is_liftable()).with_context(|| {
            let all = join(Directive::liftable().map(|directive| directive.key().to_owned()));
            format!("{} is nothing that a rehearsal lifts; that is {all}", shown(name))
        })
    };
    names.iter().map(known).collect()
}

/// Whether the kernel makes records of what is logged.
fn kernel_logs() -> anyhow::Result<()> {
    let Ok(logged) = std::fs::read_to_string(ACTIONS_LOGGED) else { return Ok(()) };
    ensure!(
        logged.split_ascii_whitespace().any(|action| action == "log"),
        "kernel.seccomp.actions_logged lacks log, so a rehearsal would show nothing: sysctl \
         kernel.seccomp.actions_logged='{} log'",
        logged.trim()
    );
    Ok(())
}

/// The unit of a name, by the name that its manager gives it, and that manager: of two the system's.
async fn found(asked: &RehearsalRequest, managers: &Managers) -> anyhow::Result<(Unit, SystemdManager)> {
    let name = &asked.unit;
    let own = Manager::User(nix::unistd::geteuid().as_raw());
    let candidates = match (asked.system, asked.user) {
        (true, _) => vec![Manager::System],
        (_, true) => vec![own],
        _ => vec![Manager::System, own],
    };
    let mut why = None;
    for whose in candidates {
        let asked = async {
            let manager = managers.connect(whose).await?;
            let facts = manager.unit_properties(name).await?;
            Ok::<_, SystemdError>((Unit { manager: whose, name: facts.id }, manager))
        };
        match asked.await {
            Ok(found) => return Ok(found),
            // Another manager's silence says less than that there is no such unit.
            Err(error @ SystemdError::NoSuchUnit(_)) => why = Some(error),
            Err(error) => why = why.or(Some(error)),
        }
    }
    Err(why.map_or_else(|| anyhow::anyhow!("there is no unit {name}"), Into::into))
}

/// Whether it would end whoever asks.
fn runs_us(unit: &Unit) -> anyhow::Result<()> {
    let own = Procfs::live().cgroup(std::process::id()).map(|cgroup| place(&cgroup));
    let is_ours = matches!(own, Some(Placement::Unit(own)) if own == *unit);
    ensure!(!is_ours, "this harden-why runs within {}, and would be ended with it", unit.name);
    Ok(())
}

/// Whether nobody rehearses it, and nobody's file is in the way.
fn is_free(path: &Path, facts: &UnitProperties) -> anyhow::Result<()> {
    for path in [path, &marker::over(path)] {
        let Some(drop_in) = drop_in::read(path)? else { continue };
        match Ledger::read(&drop_in).living_owner() {
            Some(pid) => bail!("{} is being rehearsed already, by process {pid}", facts.id),
            None => bail!("an earlier rehearsal of {} left {}: harden-why restore", facts.id, shown_path(path)),
        }
    }
    let hides = facts.dropins.iter().find(|other| other.file_name() == path.file_name());
    if let Some(other) = hides {
        bail!("{} would take the place of a rehearsal's drop-in: move it away", shown_path(other));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_lifted_can_be_kept() {
        let names = ["ProtectClock=".to_owned(), "SystemCallFilter".to_owned()];
        assert_eq!(kept(&names).unwrap(), BTreeSet::from([Directive::ProtectClock, Directive::SystemCallFilter]));
        for name in ["SystemCallArchitectures", "protectclock", "", "ProtectKernelTunables"] {
            assert!(kept(&[name.to_owned()]).unwrap_err().to_string().contains("nothing that a rehearsal lifts"));
        }
    }
}
