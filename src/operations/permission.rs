//! permission.

use crate::audit::note;
use crate::host::unit_settings;
use crate::host::unit_settings::LoadedSettings;
use crate::units::{Manager, Unit, UnitName};
use anyhow::{bail, ensure};

/// A user's files are that user's to change: what root leaves in a home is in its owner's way, and may be led astray
/// by links.
pub(crate) fn may_change(unit: &Unit, verb: &str) -> anyhow::Result<()> {
    match unit.manager {
        Manager::User(uid) if uid != nix::unistd::geteuid().as_raw() => {
            bail!("{} is run by the manager of uid {uid}: run harden-why {verb} --user as that user", unit.name)
        }
        _ => Ok(()),
    }
}

/// Whether what a unit takes can be confirmed, and lasts.
pub(crate) fn can_take_drop_ins(name: &UnitName, known: &LoadedSettings) -> anyhow::Result<()> {
    let Some(facts) = &known.properties else {
        bail!(
            "the manager of {name} does not tell its settings, so nothing it takes could be confirmed: {}",
            note::join_texts(&known.notes)
        )
    };
    ensure!(
        facts.unparsed.is_empty(),
        "{}, so nothing it takes could be confirmed",
        unit_settings::unparsed_text(facts)
    );
    ensure!(facts.load_state != "masked", "{name} is masked: systemctl unmask it first");
    ensure!(!facts.transient, "{name} is transient and gone once it stops: change what starts it (systemd-run -p)");
    ensure!(facts.load_state == "loaded", "{name} is not loaded ({}): mend its unit file first", facts.load_state);
    Ok(())
}
