//! `restore`: cleans up after a harden-why that was killed. Every verb does this first, and so does harden-whyd's start.

use crate::cli::args::Common;
use crate::cli::exit_status::ExitStatus;
use crate::cli::terminal::output::SCHEMA;
use crate::cli::terminal::output::{Detail, Reply, block_on, print_message, warn};
use crate::cli::terminal::page::WARN;
use crate::operations::local_machine::LocalMachine;
use crate::operations::recovery::find_stale;
use crate::systemd::manager::Managers;
use anstream::ColorChoice;
use anyhow::Context as _;
use serde::Serialize;
use std::io;
use std::io::IsTerminal as _;
use std::time::Duration;
use tokio::time::timeout;

/// The time limit for the whole recovery. harden-whyd's start waits for the recovery and fails at its start timeout
/// (90 s by default, systemd-system.conf(5)), so the limit is lower.
const LONGEST: Duration = Duration::from_mins(1);

/// What `restore` cleaned up. A page of it would repeat the messages on stderr. Without any, only a person needs one.
#[derive(Debug, Serialize)]
pub(crate) struct Restored {
    schema: u32,
    /// What was done, a sentence for each change of a killed harden-why.
    restored: Vec<String>,
}

impl Default for Restored {
    fn default() -> Self {
        Self { schema: SCHEMA, restored: Vec::new() }
    }
}

impl Reply for Restored {
    fn page(&self, _: Detail) -> String {
        let is_answer = self.restored.is_empty() && io::stdout().is_terminal();
        if is_answer { "Nothing to clean up.\n".to_owned() } else { String::new() }
    }

    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Done
    }
}

/// Undoes stale changes and reports each on stderr.
pub(crate) fn recover_leftovers(common: &Common, color: ColorChoice) -> Restored {
    let mut done = Restored::default();
    let managers = Managers::new(&common.bus);
    let machine = LocalMachine::new(&managers);
    let stale = find_stale(machine);
    if stale.is_empty() {
        return done;
    }
    let recovered = block_on(async {
        let all = async {
            for change in stale {
                let message = change.recover(machine).await;
                warn(color, &message);
                done.restored.push(message);
            }
        };
        timeout(LONGEST, all).await.context(
            "the cleanup did not finish within a minute; 'harden-why restore' \
            continues it",
        )
    });
    if let Err(error) = recovered {
        print_message(color, WARN, &format!("cannot clean up after a killed harden-why: {error:#}"));
    }
    done
}
