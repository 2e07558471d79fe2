//! Restores the own settings of units whose `rehearse` or `bisect` was killed.

use super::marker;
use super::marker::RehearsalMarker;
use crate::audit::text::{escape, shown_path};
use crate::host::unit_settings::REHEARSAL_DROP_IN;
use crate::operations::drop_in;
use crate::operations::drop_in::DropInError;
use crate::operations::local_machine::LocalMachine;
use crate::operations::permission::root_command;
use crate::operations::service_manager::{ServiceManager, ServiceManagers};
use crate::systemd::manager::{SystemdError, UnitJob};
use crate::unit_files::runtime_dir;
use crate::units::{Manager, Unit, UnitName};
use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to wait for a unit's start. harden-whyd's start waits for the recovery, and the unit may wait for harden-whyd.
const PATIENCE: Duration = Duration::from_secs(5);

/// A unit whose `rehearse` or `bisect` was killed.
#[derive(Debug)]
pub(crate) struct StaleRehearsal {
    unit: Unit,
    /// The path of the drop-in under its first name.
    path: PathBuf,
    marker: RehearsalMarker,
}

/// A unit that runs, or may run, without its own settings.
#[derive(Debug)]
pub(crate) struct KnownRehearsal {
    pub(crate) unit: Unit,
    /// When the rehearsal began, in milliseconds since the epoch.
    pub(crate) since: Option<i64>,
    /// The process that rehearses the unit; `None` if that was killed.
    pub(crate) owner: Option<u32>,
    path: PathBuf,
    marker: RehearsalMarker,
}

/// Finds the stale rehearsals of system units and of the caller's own units.
pub(crate) fn find_stale<M: ServiceManagers>(machine: LocalMachine<'_, M>) -> Vec<StaleRehearsal> {
    let stale = find_known(machine).into_iter().filter(|known| known.owner.is_none());
    stale.map(|KnownRehearsal { unit, path, marker, .. }| StaleRehearsal { unit, path, marker }).collect()
}

/// Finds all rehearsals of system units and of the caller's own units.
pub(crate) fn find_known<M: ServiceManagers>(machine: LocalMachine<'_, M>) -> Vec<KnownRehearsal> {
    let managers = [Manager::System, Manager::User(machine.uid())];
    managers.into_iter().flat_map(|manager| find_below(manager, &machine.resolve(&runtime_dir(manager)))).collect()
}

fn find_below(manager: Manager, dir: &Path) -> Vec<KnownRehearsal> {
    let mut known = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".d")?.parse::<UnitName>().ok());
        let path = entry.path().join(REHEARSAL_DROP_IN);
        let (Some(name), Some(drop_in)) = (name, read_drop_in(&path)) else { continue };
        let marker = RehearsalMarker::parse(&drop_in);
        let (owner, since) = (marker.living_owner(), written_at(&path));
        known.push(KnownRehearsal { unit: Unit { manager, name }, since, owner, path, marker });
    }
    known
}

/// Returns when the drop-in was written, in milliseconds since the epoch.
fn written_at(path: &Path) -> Option<i64> {
    let metadata = fs::metadata(path).or_else(|_| fs::metadata(marker::disarmed_path(path))).ok()?;
    Some(metadata.mtime() * 1_000 + metadata.mtime_nsec() / 1_000_000)
}

/// Reads the drop-in under either of its names. Ignores another program's file, and a file that cannot be read.
fn read_drop_in(path: &Path) -> Option<Vec<u8>> {
    [path.to_owned(), marker::disarmed_path(path)].iter().find_map(|path| drop_in::read(path).ok().flatten())
}

impl StaleRehearsal {
    /// Restores the unit's own settings. Returns a sentence about what was done, or what is left to do.
    pub(crate) async fn recover<M: ServiceManagers>(self, machine: LocalMachine<'_, M>) -> String {
        let name = &self.unit.name;
        let noun = self.marker.activity.plain_noun();
        let what = format!("a killed {noun} left {name} less protected than its settings say");
        if self.unit.manager == Manager::System && machine.uid() != 0 {
            return format!("{what}: the next harden-why of root restores it ({})", root_command("harden-why restore"));
        }
        match self.restore(machine).await {
            Ok(done) => format!("{what}; {done}"),
            Err(error) => {
                format!("{what}, and restoring it failed: {error:#}; try again: harden-why restore")
            }
        }
    }

    async fn restore<M: ServiceManagers>(&self, machine: LocalMachine<'_, M>) -> anyhow::Result<String> {
        let Self { unit, path, .. } = self;
        let disarmed = marker::disarmed_path(path);
        // During the recovery of other units, another process can begin to rehearse this unit.
        if let Some(drop_in) = read_drop_in(path)
            && let marker = RehearsalMarker::parse(&drop_in)
            && marker.living_owner().is_some()
        {
            return Ok(format!("another {} of it is running", marker.activity.plain_noun()));
        }
        match drop_in::rename(path, &disarmed) {
            // Another process renamed the file, and may have been killed as well.
            Ok(()) | Err(DropInError::Gone(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let file = match File::open(&disarmed) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok("another harden-why has restored it".to_owned());
            }
            file => file.with_context(|| format!("cannot open {}", shown_path(&disarmed)))?,
        };
        let _lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Ok("another harden-why is restoring it".to_owned()),
            Err((_, error)) => {
                return Err(anyhow::Error::new(error).context(format!("cannot lock {}", shown_path(&disarmed))));
            }
        };
        let manager = machine.connect(unit.manager).await?;
        let done = self.reset_unit(&manager).await?;
        match drop_in::remove(&disarmed) {
            Ok(removed) => {
                removed.into_iter().for_each(drop_in::Undo::keep);
                Ok(done)
            }
            Err(error) => Ok(format!("{done}; {} is left: {error}", shown_path(&disarmed))),
        }
    }

    /// Reloads the manager, and restarts or stops a unit that runs without its own settings. Returns what was done.
    async fn reset_unit(&self, manager: &impl ServiceManager) -> anyhow::Result<String> {
        let Self { unit: Unit { name, .. }, marker, .. } = self;
        manager.reload().await?;
        match manager.wait_for_unit_properties(name, PATIENCE).await {
            Err(SystemdError::NoSuchUnit(_)) => Ok("it no longer exists".to_owned()),
            Err(error) => Err(error.into()),
            Ok(facts) => {
                let job = marker.restoring_job(&facts);
                if let Some(job) = job {
                    manager.start_job(name, job).await?;
                }
                let is_as_before = job.is_some() || !(marker.ran || facts.is_running());
                let note = if is_as_before { marker.start_interrupted(name, manager).await } else { None };
                let rest = note.map_or_else(String::new, |note| format!("; {note}"));
                let Some(job) = job else {
                    return Ok(format!("its own settings are in force again{rest}"));
                };
                let word = if job == UnitJob::Stop { "stopped" } else { "restarted" };
                let state = match manager.wait_for_job(name, PATIENCE).await {
                    Ok(outcome) => outcome.active_state,
                    Err(SystemdError::TimedOut) => "not done yet".to_owned(),
                    Err(error) => return Err(error.into()),
                };
                let state = escape(state.as_bytes());
                Ok(format!("its own settings are in force again, under which it was {word} ({state}){rest}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake_manager::FakeMachine;
    use crate::operations::owner_marker::OwnerMarker;

    #[test]
    fn stale_rehearsal_is_found_under_either_name() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let gone = "# Written by harden-why\n# Owner: 1 0\n# Before: stopped -\n";
        put("a.service.d/zzzz-harden-why-rehearsal.conf", gone);
        put("b@x.service.d/zzzz-harden-why-rehearsal.over", gone);
        put("c.service.d/zzzz-harden-why-rehearsal.conf", "[Service]\n");
        put("d.service.d/zz-harden-why.conf", gone);
        put("e.d/zzzz-harden-why-rehearsal.conf", gone);
        let living = format!("# Written by harden-why\n{}\n", OwnerMarker::current().unwrap());
        put("f.service.d/zzzz-harden-why-rehearsal.conf", &living);
        let mut names: Vec<String> = find_below(Manager::System, dir.path())
            .iter()
            .filter(|one| one.owner.is_none())
            .map(|one| one.unit.name.to_string())
            .collect();
        names.sort();
        assert_eq!(names, ["a.service", "b@x.service"]);
        let known = find_below(Manager::System, dir.path());
        let running: Vec<_> = known.iter().filter(|one| one.owner.is_some()).collect();
        assert!(running.len() == 1 && running[0].unit.name.as_str() == "f.service" && running[0].since > Some(0));
        assert!(find_below(Manager::System, &dir.path().join("none")).is_empty());
    }

    #[test]
    fn file_that_cannot_be_opened_is_not_taken_for_a_restored_unit() {
        let fake = FakeMachine::running();
        let path = fake.machine().resolve(&runtime_dir(Manager::System)).join("x.service.d").join(REHEARSAL_DROP_IN);
        let recover = || {
            let (unit, path, marker) = (fake.unit.clone(), path.clone(), RehearsalMarker::parse(b""));
            fake.run(StaleRehearsal { unit, path, marker }.recover(fake.machine())).unwrap()
        };
        assert!(recover().ends_with("another harden-why has restored it"), "{}", recover());
        let disarmed = marker::disarmed_path(&path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Nobody can open a link to itself.
        std::os::unix::fs::symlink(&disarmed, &disarmed).unwrap();
        assert!(recover().contains("restoring it failed: cannot open "), "{}", recover());
    }
}
