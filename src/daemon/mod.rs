//! The daemon: one event loop, a thread that writes the store, and a task that serves the bus.
//!
//! From a record to its alert:
//!
//! ```text
//! RecordSource ─► EventLoop::receive_records ─► Attributor::on_record ─► Storage::schedule ─► StoreWriter (a thread)
//! death notices ─► EventLoop::receive_exits ─► Attributor::on_notice      ▲                         │
//! failed calls ─► CallWatcher (asks systemd for the unit's settings) ─────┤                         │
//!                     AttributionQueue: asks systemd, then the journal ───┘                         │
//! journal ◄─ Alerts::send ◄─ Explainer (asks systemd why) ◄─ Alerts::consider ◄─ consider_alerts
//! D-Bus signal ◄─ BusConnection::announce ◄──────────────────────────────────────┘
//! ```
//!
//! The disk, the journal and the bus can be unavailable for a time. The daemon keeps a bounded backlog for each of
//! them.

mod age_limit;
mod alert_rate;
mod alerts;
mod attributor;
mod bus_connection;
mod call_watcher;
pub(crate) mod config;
mod demonstrations;
mod event_loop;
mod exit_events;
mod explainer;
mod journal_connection;
pub mod log_writer;
mod reloadable_config;
mod request_handler;
mod retry;
mod sent_deaths;
mod silent_deaths;
mod status;
mod stop_signals;
mod storage;
mod store_owner;
mod store_writer;
mod supervisor;
mod system_settings;
mod waiting_alert;

use crate::host::blind_spots;
use crate::host::late_evidence::LateEvidence;
use crate::host::live_host::LiveHost;
use crate::incidents::{RehearsalSpan, Store};
use crate::intake::netlink::{AuditSocket, AuditStream, OpenError, RECEIVE_BUFFER};
use crate::intake::record_source::{RecordSource, RecordSources};
use crate::kernel::bpf::BpfLoader;
use crate::kernel::call_sites::CallSites;
use crate::kernel::clock::now_millis;
use crate::kernel::exit_cgroups::ExitCgroups;
use crate::kernel::heap;
use crate::outlet::wire::Status;
use crate::outlet::{client_requests, journal};
use crate::systemd::bus_address::BusAddress;
use crate::systemd::journal as journal_entries;
use crate::systemd::journal::boot_id;
use crate::systemd::manager::Managers;
use alerts::Alerts;
use attributor::Attributor;
use bus_connection::BusConnection;
use call_watcher::CallWatcher;
use event_loop::EventLoop;
use exit_events::ExitEvents;
use explainer::Explainer;
use reloadable_config::ReloadableConfig;
use status::SharedStatus;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stop_signals::StopSignals;
use storage::Storage;
use store_owner::Retention;
use store_writer::StoreWriter;
use system_settings::SystemSettings;

/// The daemon's command-line options.
#[derive(Debug)]
pub struct Options {
    /// The directory of the store.
    pub state_dir: PathBuf,
    /// The bus on which the daemon answers, and on which it finds the system manager.
    pub bus: BusAddress,
    /// The only configuration file to read, instead of the machine's files.
    pub config: Option<PathBuf>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The store cannot be used by this daemon, or the audit stream cannot be opened for lack of memory, or ends.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    heap::trim_always();
    let stop = StopSignals::register()?;
    let config = ReloadableConfig::load(options.config.clone())?;
    let settings = config.current().clone();
    let (store, replaced, failure) = match Store::open_or_replace(&options.state_dir) {
        Ok((store, replaced)) => (Some(store), replaced, None),
        Err(error) if error.is_temporary() => (None, None, Some(error)),
        Err(error) => return Err(error.into()),
    };
    let (audit, not_listening) = open_audit()?;
    let status = SharedStatus::new(Status {
        listening: not_listening.is_none(),
        not_listening,
        since: now_millis(),
        receive_buffer: audit.as_ref().map_or(0, |audit| audit.receive_buffer() as u64),
        ..Status::default()
    });
    let (exit_cgroups, call_sites) = open_notes(&status);
    if let Err(error) = journal_entries::check_exists(Path::new("/")) {
        status.set_journal_limitation(Some(&blind_spots::no_journal(&error)));
    }
    if let Some(evicted) = store.as_ref().and_then(|store| store.evicted().ok()) {
        status.lock().set_evicted(evicted);
    }
    if let Some(replaced) = replaced {
        status.on_store_replaced(&replaced);
    }
    let rehearsals = read_rehearsals(store.as_ref());
    let exits = ExitEvents::open(&status);
    let (orders, requests) = client_requests::channel();
    let status_source = status.source("/".into());
    let bus = BusConnection::start(options.bus.clone(), options.state_dir.clone(), status_source, orders);
    let late_evidence = LateEvidence::new(Managers::new(&options.bus));
    let system = Arc::new(SystemSettings::new(late_evidence.managers()));
    let explainer = Explainer::new(Arc::clone(&system));
    let host = LiveHost::new(late_evidence).with_exit_cgroups(exit_cgroups).with_call_sites(call_sites);
    let writer = StoreWriter::start(store, options.state_dir.clone(), Retention::from(&settings))?;
    let mut storage = Storage::new(writer, status.clone());
    if let Some(failure) = failure {
        storage.on_failure(&failure);
    }
    let mut sources: Vec<Box<dyn RecordSource>> = Vec::new();
    if let Some(audit) = audit {
        sources.push(Box::new(AuditStream::new(audit)?));
    }
    let mut attributor = Attributor::new(host, settings.max_in_memory, status.clone());
    attributor.pipeline_mut().restore_rehearsals(rehearsals, now_millis());
    let mut event_loop = EventLoop {
        sources: RecordSources::new(sources),
        exits,
        watcher: CallWatcher::new(system),
        bus,
        requests,
        config,
        stop,
        attributor,
        storage,
        alerts: Alerts::new(journal::SOCKET, settings.alerts, explainer),
        status,
        turn: event_loop::TurnState::default(),
    };
    event_loop.watch_calls();
    Box::pin(event_loop.run()).await
}

/// Reads the rehearsals that an earlier daemon knew. Processes that outlived them still log calls.
fn read_rehearsals(store: Option<&Store>) -> Vec<RehearsalSpan> {
    let (Some(store), Some(boot)) = (store, boot_id()) else { return Vec::new() };
    store.rehearsals(&boot).unwrap_or_else(|error| {
        tracing::warn!("the rehearsals of an earlier daemon are unknown: {error}");
        Vec::new()
    })
}

/// Takes the audit stream from systemd, or opens one. Returns the stream if there is one, and why no records arrive.
///
/// A kernel or container without audit is a lasting state and no failure: a restart would not help. The daemon then
/// serves its store, takes the reports of taps, and notices deaths by SIGSYS.
///
/// # Errors
/// The kernel lacks memory or descriptors.
fn open_audit() -> Result<(Option<AuditSocket>, Option<String>), OpenError> {
    let opened = match supervisor::take_audit_socket() {
        Some(audit) => Ok(audit),
        None => AuditSocket::open(),
    };
    if let Err(OpenError::Io(error)) = opened {
        return Err(OpenError::Io(error));
    }
    let not_listening =
        blind_spots::find_reason_for_no_records(Path::new("/"), opened.as_ref().err()).map(|spot| spot.to_string());
    match (&not_listening, &opened) {
        (Some(why), _) => tracing::warn!("not listening: {why}"),
        (None, Ok(audit)) => {
            // The kernel doubles the requested size, to account for its own overhead.
            let (granted, wanted) = (audit.receive_buffer(), 2 * RECEIVE_BUFFER);
            tracing::info!("listening, with a receive buffer of {granted} of {wanted} bytes");
        }
        (None, Err(_)) => {}
    }
    Ok((opened.ok(), not_listening))
}

/// Attaches the BPF programs that note the cgroups of dying processes, and where killed processes made their calls. A failure
/// of the former becomes a limitation in the status. Without the latter, answers name no call sites.
fn open_notes(status: &SharedStatus) -> (Option<ExitCgroups>, Option<CallSites>) {
    let mut loader = BpfLoader::new();
    let exit_cgroups = ExitCgroups::open_with(&mut loader);
    let exit_cgroups = exit_cgroups.inspect_err(|error| {
        tracing::warn!("the kernel does not note the cgroups of dying processes: {error}");
        status.add_limitation(&blind_spots::no_exit_cgroups(error).to_string());
        if let Some(log) = error.verifier_log() {
            status.set_verifier_log(log);
        }
    });
    let call_sites = CallSites::open_with(&mut loader);
    let call_sites =
        call_sites.inspect_err(|error| tracing::info!("the kernel does not note where denied calls are made: {error}"));
    (exit_cgroups.ok(), call_sites.ok())
}
