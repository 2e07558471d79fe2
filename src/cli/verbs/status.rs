//! `status`: whether the daemon listens, its counters, and what it cannot see on this machine.

use crate::cli::args::Common;
use crate::cli::terminal::words::describe_manager;
use crate::cli::views::hearing::{FiltersOffView, Hearing, RefusalState, RehearsedUnitView, UnknownCallsView};
use crate::cli::views::refusal_logging::RecordingView;
use crate::cli::views::running_taps::RunningTapView;
use crate::host::blind_spots;
use crate::host::filter_in_force::FiltersOff;
use crate::incidents::local_time::LocalTime;
use crate::operations::local_machine::LocalMachine;
use crate::operations::refusal_logging::state::ActiveLogging;
use crate::operations::rehearsal::recover::find_known;
use crate::operations::tap::running::{RunningTap, TAPS};
use crate::outlet::client;
use crate::outlet::client::{explain_error, retry_while_busy};
use crate::systemd::manager::{Managers, SystemdError};
use crate::systemd::syscall_groups;
use crate::unit_files;
use crate::units::Manager;
use std::path::Path;

/// Asks the daemon for its status. Without a daemon, lists what would limit it.
pub(crate) async fn query_status(common: &Common, clock: &LocalTime) -> Hearing {
    let mut hearing = query_daemon(common, clock).await;
    let managers = Managers::new(&common.bus);
    for manager in [Manager::System, Manager::User(nix::unistd::geteuid().as_raw())] {
        let whose = describe_manager(&manager.to_string());
        let (state, view) = match managers.connect(manager).await {
            Ok(connection) => {
                let reason = FiltersOff::find(&connection).await;
                hearing.filters_off.extend(reason.map(|reason| FiltersOffView::new(manager, &reason)));
                let recording = ActiveLogging::find(LocalMachine::new(&managers), manager).await;
                let state = recording
                    .as_ref()
                    .map_or(RefusalState::Silent, |recording| RefusalState::Logged(recording.when(clock)));
                (state, RecordingView::new(manager, recording.as_ref()))
            }
            // Most users, and root, have no manager of their own.
            Err(SystemdError::Unreachable { .. }) if manager != Manager::System => continue,
            Err(error) => (RefusalState::Unknown(error.to_string()), RecordingView::unknown(manager)),
        };
        hearing.refusals.push((whose, state));
        hearing.recording.push(view);
    }
    let groups = syscall_groups::load().groups;
    let found = unit_files::find_unknown_calls(Path::new("/"), &groups).into_iter();
    hearing.unknown_calls = found.map(|(unit, calls)| UnknownCallsView::new(&unit, calls)).collect();
    let taps = RunningTap::find_all(Path::new(TAPS));
    hearing.taps = taps.iter().map(|tap| RunningTapView::new(tap, clock)).collect();
    let rehearsals = find_known(LocalMachine::new(&managers));
    hearing.rehearsals = rehearsals.iter().map(|known| RehearsedUnitView::new(known, clock)).collect();
    hearing
}

async fn query_daemon(common: &Common, clock: &LocalTime) -> Hearing {
    let status = async {
        let daemon = client::connect(&common.bus).await?;
        retry_while_busy(|| daemon.status()).await.map_err(explain_error)
    };
    match status.await {
        Ok(status) => Hearing::new(status, clock),
        Err(error) => {
            let limitations = blind_spots::find_common_blind_spots(Path::new("/"));
            Hearing::without_daemon(format!("{error:#}"), limitations.iter().map(ToString::to_string).collect())
        }
    }
}
