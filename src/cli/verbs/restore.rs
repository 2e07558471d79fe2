//! `restore`: cleans up after a harden-why that was killed. Every verb does this first, and so does harden-whyd's start.

use crate::cli::args::Common;
use crate::cli::terminal::output::{block_on, warn};
use crate::operations::local_machine::LocalMachine;
use crate::operations::recovery::find_stale;
use crate::systemd::manager::Managers;
use anstream::ColorChoice;
use anyhow::Context as _;
use std::time::Duration;
use tokio::time::timeout;

/// The time limit for the whole recovery. harden-whyd's start waits for the recovery and fails at its start timeout
/// (90 s by default, systemd-system.conf(5)), so the limit is lower.
const LONGEST: Duration = Duration::from_mins(1);

/// Undoes stale changes and reports each on stderr.
pub(crate) fn recover_leftovers(common: &Common, color: ColorChoice) {
    let managers = Managers::new(&common.bus);
    let machine = LocalMachine::new(&managers);
    let stale = find_stale(machine);
    if stale.is_empty() {
        return;
    }
    let recovered = block_on(async {
        let all = async {
            for change in stale {
                warn(color, &change.recover(machine).await);
            }
        };
        timeout(LONGEST, all).await.context(
            "the cleanup did not finish within a minute; 'harden-why restore' \
            continues it",
        )
    });
    if let Err(error) = recovered {
        warn(color, &format!("cannot clean up after a killed harden-why: {error:#}"));
    }
}
