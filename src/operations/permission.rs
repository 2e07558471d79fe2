//! Checks whether the caller may change a unit, and whether the unit can take a drop-in.

use crate::audit::note;
use crate::host::unit_settings;
use crate::host::unit_settings::LoadedSettings;
use crate::operations::outcome::NoRights;
use crate::units::{Manager, Unit};
use anyhow::{bail, ensure};

/// Returns a command that requires root as this process's user has to write it.
pub(crate) fn root_command(command: &str) -> String {
    if nix::unistd::geteuid().is_root() { command.to_owned() } else { format!("sudo {command}") }
}

/// Returns a command that changes a unit of a manager, as this process's user has to write it.
pub(crate) fn owner_command(manager: Manager, command: &str) -> String {
    if manager == Manager::System { root_command(command) } else { command.to_owned() }
}

/// Returns whether user `uid` may change a unit.
///
/// Only the owner may change a user's unit. Files that root leaves in a home directory hinder the owner, and links
/// there can redirect what root writes.
pub(crate) fn may_change(unit: &Unit, uid: u32) -> bool {
    !matches!(unit.manager, Manager::User(owner) if owner != uid)
}

/// Checks that user `uid` may change a unit.
///
/// # Errors
/// Another user's manager runs the unit.
pub(crate) fn ensure_may_change(unit: &Unit, uid: u32, verb: &str) -> anyhow::Result<()> {
    match unit.manager {
        Manager::User(owner) if !may_change(unit, uid) => {
            bail!(NoRights(format!(
                "{} belongs to the user manager of uid {owner}: run harden-why {verb} --user as that user",
                unit.name
            )))
        }
        _ => Ok(()),
    }
}

/// Checks that harden-why can confirm a drop-in of the unit, and that the drop-in lasts.
///
/// # Errors
/// The manager does not show the settings, or the unit is masked, transient or not loaded.
pub(crate) fn ensure_takes_drop_ins(unit: &Unit, known: &LoadedSettings) -> anyhow::Result<()> {
    let name = &unit.name;
    let Some(facts) = &known.properties else {
        bail!(
            "the manager of {name} does not return its settings, so a change cannot be confirmed: {}",
            note::join_texts(&known.notes)
        )
    };
    ensure!(facts.unparsed.is_empty(), "{}, so a change cannot be confirmed", unit_settings::describe_unparsed(facts));
    ensure!(facts.load_state != "masked", "{name} is masked: run {} first", unit.systemctl("unmask"));
    ensure!(
        !facts.transient,
        "{name} is transient and disappears when it stops: change the command that starts it; 'harden-why {}' shows the \
        systemd-run command",
        name.to_argument()
    );
    ensure!(facts.load_state == "loaded", "{name} is not loaded ({}): correct its unit file first", facts.load_state);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake_manager::{FakeMachine, GROUPS};

    const MANAGERS: [(Manager, &str); 2] = [(Manager::System, "systemctl"), (Manager::User(4_242), "systemctl --user")];

    #[test]
    fn masked_unit_gets_the_command_of_its_own_manager() {
        for (manager, systemctl) in MANAGERS {
            let fake = FakeMachine::new(manager);
            let mut known = fake.run(fake.machine().own_settings(&fake.unit, &GROUPS)).unwrap();
            known.properties.as_mut().unwrap().load_state = "masked".to_owned();
            let error = ensure_takes_drop_ins(&fake.unit, &known).unwrap_err().to_string();
            assert_eq!(error, format!("x.service is masked: run {systemctl} unmask x.service first"));
        }
    }

    #[test]
    fn changed_files_get_the_reload_of_their_own_manager() {
        for (manager, systemctl) in MANAGERS {
            let fake = FakeMachine::new(manager);
            let directory = if manager == Manager::System { "system" } else { "user" };
            fake.write(&format!("etc/systemd/{directory}/x.service"), "[Service]\nExecStart=/bin/true\n");
            let known = fake.run(fake.machine().own_settings(&fake.unit, &GROUPS)).unwrap();
            let notes = note::join_texts(&known.notes);
            assert!(notes.contains(&format!("({systemctl} daemon-reload)")), "{notes}");
        }
    }
}
