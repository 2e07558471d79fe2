//! What a client that was killed left behind, found by the next one, whatever it is asked, and by the daemon's start
//! (`harden-why restore`): it is mended, or said how to.

use super::{log_refusals, rehearse};
use crate::cli::args::Common;
use crate::cli::terminal::output::{block_on, warn};
use crate::operations::leftover::Leftover;
use crate::systemd::bus_address::BusAddress;
use anstream::ColorChoice;
use anyhow::Context as _;
use std::time::Duration;
use tokio::time::timeout;

/// How long all of it may take: less than a daemon's start may, which fails otherwise.
const LONGEST: Duration = Duration::from_mins(1);

/// Every kind. Each looks where its own can be: at once, since every verb does.
const KINDS: [for<'a> fn(&'a BusAddress) -> Vec<Leftover<'a>>; 2] = [rehearse::left, log_refusals::left];

/// Mends what there is, and says so.
pub(crate) fn mend(common: &Common, color: ColorChoice) {
    let found: Vec<Leftover<'_>> = KINDS.into_iter().flat_map(|kind| kind(&common.bus)).collect();
    if found.is_empty() {
        return;
    }
    let mended = block_on(async {
        let all = async {
            for leftover in found {
                warn(color, &leftover.await);
            }
        };
        timeout(LONGEST, all).await.context("not all of it within a minute; harden-why restore goes on with it")
    });
    if let Err(error) = mended {
        warn(color, &format!("what a killed harden-why left behind is not put right: {error:#}"));
    }
}
