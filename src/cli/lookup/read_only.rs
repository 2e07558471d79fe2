//! The answer where no drop-in can be written: image-based systems and NixOS.

use crate::audit::text::shown_path;
use crate::cli::views::answer::Answer;
use crate::cli::views::system_configuration::SystemConfiguration;
use crate::diagnosis::{Remedy, Situation};
use crate::unit_files;
use crate::unit_files::read_only::{find_read_only_place, is_in_store, nixos_options};
use crate::units::{Manager, Unit, UnitName};
use std::path::{Path, PathBuf};

/// A file of every NixOS system.
const NIXOS: &str = "/etc/NIXOS";

/// Returns a remedy's lines for the system's own configuration, if its drop-in is in a read-only place.
pub(crate) fn find_configuration(
    manager: Manager,
    remedy: &Remedy,
    situation: &Situation,
) -> Option<SystemConfiguration> {
    let place = find_read_only_place(&remedy.drop_in)?;
    let owner = owner(remedy)?;
    let mut files = situation.policy.settings.assignments().map(|line| &line.origin.path);
    let is_nixos = place.is_store || Path::new(NIXOS).exists() || files.any(|path| is_in_store(path));
    let is_user = manager != Manager::System;
    let options = is_nixos.then(|| nixos_options(&owner, is_user, &remedy.lines)).flatten();
    let unit_file = || {
        let header = format!("[{}]", situation.policy.settings.section());
        SystemConfiguration::unit_file(&place.dir, [header].into_iter().chain(remedy.lines.clone()).collect())
    };
    Some(options.map_or_else(unit_file, |lines| SystemConfiguration::nixos(&place.dir, lines)))
}

/// Replaces persistent drop-ins by those below `/run` in an answer, and adds the lines for the system's configuration.
pub(super) fn describe_read_only(answer: &mut Answer, manager: Manager, remedies: &[Remedy], situation: &Situation) {
    let default = answer.remedies.iter().position(|remedy| remedy.default).unwrap_or_default();
    let Some(configuration) = remedies.get(default).and_then(|remedy| find_configuration(manager, remedy, situation))
    else {
        return;
    };
    for (view, remedy) in answer.remedies.iter_mut().zip(remedies) {
        view.path = runtime_path(manager, remedy).map(|path| shown_path(&path)).or(view.path.take());
    }
    answer.apply = answer.apply.take().map(|command| command.replacen(" apply ", " apply --runtime ", 1));
    answer.configuration = Some(configuration);
}

fn runtime_path(manager: Manager, remedy: &Remedy) -> Option<PathBuf> {
    let unit = Unit { manager, name: owner(remedy)? };
    Some(unit_files::runtime_dropin_path(&unit, remedy.drop_in.file_name()?.to_str()?))
}

/// Returns the unit or template whose drop-in a remedy is.
fn owner(remedy: &Remedy) -> Option<UnitName> {
    remedy.drop_in.parent()?.file_name()?.to_str()?.strip_suffix(".d")?.parse().ok()
}
