//! Rehearsals whose client was killed: the unit's own settings come back into force.

use super::marker;
use super::marker::Ledger;
use crate::audit::text::shown_path;
use crate::host::unit_settings::REHEARSAL_DROP_IN;
use crate::operations::drop_in;
use crate::operations::drop_in::DropInError;
use crate::operations::leftover::Leftover;
use crate::systemd::bus_address::BusAddress;
use crate::systemd::manager::{Managers, SystemdError, UnitJob};
use crate::unit_files::runtime_dir;
use crate::units::{Manager, Unit, UnitName};
use nix::fcntl::{Flock, FlockArg};
use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a unit's start is waited for. The daemon's own start may wait for this, and the unit's for that.
const WAIT: Duration = Duration::from_secs(5);

/// A drop-in whose client is gone.
struct Left {
    unit: Unit,
    /// Under the name that it would have in force.
    path: PathBuf,
    ledger: Ledger,
}

/// Those of the system's units, and of our own user's.
pub(crate) fn left(bus: &BusAddress) -> Vec<Leftover<'_>> {
    let own = Manager::User(nix::unistd::geteuid().as_raw());
    let left = [Manager::System, own].into_iter().flat_map(|manager| of(manager, &runtime_dir(manager)));
    left.map(|left| Box::pin(mended(bus, left)) as Leftover<'_>).collect()
}

fn of(manager: Manager, dir: &Path) -> Vec<Left> {
    let mut left = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".d")?.parse::<UnitName>().ok());
        let path = entry.path().join(REHEARSAL_DROP_IN);
        if name.is_some() {
            drop_in::sweep(&entry.path());
        }
        let (Some(name), Some(drop_in)) = (name, read(&path)) else { continue };
        let ledger = Ledger::read(&drop_in);
        if ledger.living_owner().is_none() {
            left.push(Left { unit: Unit { manager, name }, path, ledger });
        }
    }
    left
}

/// The drop-in under either of its names. Somebody else's is none of ours, and what cannot be read cannot be mended.
fn read(path: &Path) -> Option<Vec<u8>> {
    [path.to_owned(), marker::over(path)].iter().find_map(|path| drop_in::read(path).ok().flatten())
}

/// Mends it, and says what was done.
async fn mended(bus: &BusAddress, left: Left) -> String {
    let name = &left.unit.name;
    let what = format!("{name} was left less protected than its settings say, by a rehearsal that was killed");
    let (whom, how) = match left.unit.manager {
        Manager::System => ("root", "as root"),
        Manager::User(_) => ("its user", "as its user"),
    };
    if left.unit.manager == Manager::System && !nix::unistd::geteuid().is_root() {
        return format!("{what}: any harden-why that {whom} runs mends it (harden-why restore)");
    }
    match mend(bus, &left).await {
        Ok(done) => format!("{what}; {done}"),
        Err(error) => format!("{what}, and that could not be mended: {error:#}; try again: harden-why restore, {how}"),
    }
}

async fn mend(bus: &BusAddress, left: &Left) -> anyhow::Result<String> {
    let Left { unit: Unit { manager, name }, path, ledger } = left;
    let over = marker::over(path);
    // Others were mended before this one, and that takes its time.
    if let Some(drop_in) = read(path)
        && Ledger::read(&drop_in).living_owner().is_some()
    {
        return Ok("it is rehearsed anew by now".to_owned());
    }
    match drop_in::rename(path, &over) {
        // Another gave it the other name before us, and may have been killed as well.
        Ok(()) | Err(DropInError::Gone(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let Ok(file) = File::open(&over) else { return Ok("another harden-why mended it just now".to_owned()) };
    let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        return Ok("another harden-why is mending it".to_owned());
    };
    let manager = Managers::new(bus).connect(*manager).await?;
    manager.reload().await?;
    let done = match manager.wait_for_unit_properties(name, WAIT).await {
        Err(SystemdError::NoSuchUnit(_)) => "it is gone by now".to_owned(),
        Err(error) => return Err(error.into()),
        Ok(facts) if !ledger.was_started_since(&facts) => "its own settings are in force again".to_owned(),
        Ok(_) => {
            let (order, word) = if ledger.ran { (UnitJob::Restart, "restarted") } else { (UnitJob::Stop, "stopped") };
            manager.start_job(name, order).await?;
            let state = match manager.wait_for_job(name, WAIT).await {
                Ok(outcome) => outcome.active_state,
                Err(SystemdError::TimedOut) => "not done yet".to_owned(),
                Err(error) => return Err(error.into()),
            };
            let state = crate::audit::text::escape(state.as_bytes());
            format!("its own settings are in force again, under which it was {word} ({state})")
        }
    };
    match drop_in::remove(&over) {
        Ok(_) => Ok(done),
        Err(error) => Ok(format!("{done}; {} is left: {error}", shown_path(&over))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found_under_either_name() {
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
        let own = Procfs::live().start_time(std::process::id()).unwrap();
        let living = format!("# Written by harden-why\n# Owner: {} {own}\n", std::process::id());
        put("f.service.d/zzzz-harden-why-rehearsal.conf", &living);
        let mut found: Vec<String> =
            of(Manager::System, dir.path()).iter().map(|left| left.unit.name.to_string()).collect();
        found.sort();
        assert_eq!(found, ["a.service", "b@x.service"]);
        assert!(of(Manager::System, &dir.path().join("none")).is_empty());
    }

    use crate::kernel::procfs::Procfs;
}
