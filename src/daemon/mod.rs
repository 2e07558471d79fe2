//! The daemon: one loop that owns everything but the disk.
//!
//! ```text
//! audit socket ─► pipeline ─► fold ─► writer thread ─► journal alert, D-Bus signal
//!                  ▲ │ open       ▲                      ▲
//! notes of the dead  ▼            │                  explainer
//! exit events ─► reconciler ─► asks systemd,             │
//!                              then the journal     asks systemd
//! ```
//!
//! Whatever is not the kernel can be away for a while: the disk, the journal, the bus. What they
//! should have had waits for them, within bounds.

mod alerts;
mod bus_connection;
pub mod config;
mod event_loop;
mod explainer;
mod flush_schedule;
mod journal_lookup;
mod limits;
mod query_batch;
mod rate;
mod reconcile;
mod supervisor;
mod writer;

use crate::host::blind_spots;
use crate::host::late_evidence::LateEvidence;
use crate::host::live_host::LiveHost;
use crate::incidents::Store;
use crate::intake::netlink::{AuditSocket, AuditStream, RECEIVE_BUFFER};
use crate::kernel::clock::now_millis;
use crate::kernel::exit_cgroups::ExitCgroups;
use crate::kernel::proc_events::ExitListener;
use crate::outlet::client_requests::Ordered;
use crate::outlet::wire::Status;
use crate::outlet::{client_requests, journal};
use crate::systemd::bus_address::BusAddress;
use crate::systemd::journal as journal_entries;
use crate::systemd::manager::Managers;
use alerts::Alerts;
use bus_connection::Presence;
use config::Config;
use event_loop::Watch;
use explainer::Explainer;
use limits::{limit, miss_exits, was_set_aside};
use sd_notify::NotifyState;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::unix::{AsyncFd, AsyncFdReadyMutGuard};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;
use writer::{Retention, Writer};

/// How long what waits may be overdue while there is always more to hear.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long stopping may take to learn whose the last processes were.
const GRACE: Duration = Duration::from_secs(3);

/// What the daemon is told.
#[derive(Debug)]
pub struct Options {
    /// Where the store is.
    pub state_dir: PathBuf,
    /// Where it answers, and where the system manager is asked.
    pub bus: BusAddress,
    /// The only configuration to read; otherwise that of the machine.
    pub config: Option<PathBuf>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The store is no store for this daemon, or the audit stream cannot be heard or breaks.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    let mut settings = Settings::read(options)?;
    let config = settings.config.clone();
    let (store, set_aside, failure) = match Store::open_or_replace(&options.state_dir) {
        Ok((store, set_aside)) => (Some(store), set_aside, None),
        Err(error) if error.is_temporary() => (None, None, Some(error)),
        Err(error) => return Err(error.into()),
    };
    let (audit, inherited) = match supervisor::inherited() {
        Some(audit) => (audit, true),
        None => (AuditSocket::open()?, false),
    };
    let mut status = Status {
        listening: true,
        since: now_millis(),
        receive_buffer: audit.receive_buffer() as u64,
        ..Status::default()
    };
    // The kernel doubles what is asked for, to account for its own overhead.
    tracing::info!("listening, with a receive buffer of {} of {} bytes", audit.receive_buffer(), 2 * RECEIVE_BUFFER);
    let departed = match ExitCgroups::open() {
        Ok(departed) => Some(departed),
        Err(error) => {
            tracing::warn!("the cgroups of dying processes are not noted: {error}");
            status.limitations.push(blind_spots::no_exit_cgroups(&error).to_string());
            None
        }
    };
    if let Err(error) = journal_entries::is_there(Path::new("/")) {
        status.limitations.push(blind_spots::no_journal(&error).to_string());
    }
    if let Some(forgotten) = store.as_ref().and_then(|store| store.evicted().ok()) {
        status.set_evicted(forgotten);
    }
    let status = Arc::new(Mutex::new(status));
    if let Some(aside) = set_aside {
        was_set_aside(&status, &aside);
    }
    let exits = match ExitListener::open().and_then(ExitListener::into_async) {
        Ok(listener) => Some(listener),
        Err(error) => {
            miss_exits(&status, &error);
            None
        }
    };
    let (orders, mut ordered) = client_requests::channel();
    let told = limits::source(&status, "/".into(), inherited);
    let presence = Presence::start(options.bus.clone(), options.state_dir.clone(), told, orders);
    let late_evidence = LateEvidence::new(Managers::new(&options.bus));
    let host = LiveHost::new(late_evidence).with_departed(departed);
    let writer =
        Writer::start(store, options.state_dir.clone(), Retention { keep: config.keep, most: config.most_stored })?;
    let alerts = Alerts::to(journal::SOCKET, config.alerts, Explainer::new(host.late_evidence().managers()));
    let mut watch = Watch::new(host, config.most_in_memory, writer, alerts, status);
    if let Some(failure) = failure {
        watch.miss_store(&failure);
    }
    let outcome =
        serve(&mut watch, AuditStream::new(audit)?, exits, presence, &mut ordered, &mut settings, &mut stop).await;
    watch.finish().await;
    outcome
}

/// The loop.
async fn serve(
    watch: &mut Watch,
    mut audit: AuditStream,
    mut exits: Option<AsyncFd<ExitListener>>,
    mut presence: Presence,
    ordered: &mut Receiver<Ordered>,
    settings: &mut Settings<'_>,
    stop: &mut Stop,
) -> anyhow::Result<()> {
    let mut ready_said = false;
    let mut watchdog = supervisor::Watchdog::of_environment();
    // Set once we are to stop.
    let mut deadline = None;
    while deadline.is_none_or(|deadline| Instant::now() < deadline && !watch.is_settled()) {
        // Until then nobody is to be woken by what comes.
        if watch.rests_until().or(watch.holds_until()).is_some() {
            audit.disarm()?;
        }
        let wake = watch.next_wake().into_iter().chain(deadline).chain(watchdog.next_wake()).min();
        tokio::select! {
            () = stop.asked(), if deadline.is_none() => {
                supervisor::tell(&[NotifyState::Stopping]);
                let latest = Instant::now() + GRACE;
                deadline = Some(latest);
                // What the kernel has sent until now is ours to take.
                watch.in_haste = true;
                while !watch.hear(audit.socket())? && Instant::now() < latest {}
            }
            () = settings.asked(), if ready_said && deadline.is_none() => {
                supervisor::reloading();
                watch.configure(settings.again());
                supervisor::tell(&[NotifyState::Ready]);
            }
            () = presence.tried(), if !ready_said && deadline.is_none() => {
                supervisor::tell(&[NotifyState::Ready, NotifyState::Status("listening to the kernel")]);
                ready_said = true;
            }
            ready = heard_again(&mut audit, watch.rests_until()), if watch.holds_until().is_none() => {
                ready?;
                watch.hear(audit.socket())?;
            }
            ready = readable(exits.as_mut()), if watch.holds_until().is_none() => {
                let mut ready = ready?;
                match watch.hear_exits(ready.get_inner_mut()) {
                    Ok(true) => ready.clear_ready(),
                    Ok(false) => {}
                    Err(error) => {
                        watch.miss_exits(&error);
                        exits = None;
                    }
                }
            }
            () = until(watch.next_due()), if watch.holds_until().is_none() => {
                // We may be late, and what is waited for may long be there.
                let all_heard = watch.hear(audit.socket())?;
                let all_told = exits.as_mut().is_none_or(|exits| watch.hear_exits(exits.get_mut()).unwrap_or(true));
                // In a flood that never ends there is always more to hear.
                let overdue = watch.next_due().is_some_and(|due| due + PATIENCE < Instant::now());
                if (all_heard && all_told) || overdue {
                    watch.give_up_waiting();
                }
            }
            answers = watch.alerts.learned() => watch.alerts.explain(answers),
            Some(answered) = watch.asks.next(), if watch.holds_until().is_none() => watch.settle(answered),
            Some(seen) = watch.again.next(), if watch.holds_until().is_none() => watch.looked(seen),
            done = watch.storing.done() => {
                for stored in watch.stored(done) {
                    presence.tell(stored);
                }
            }
            Some(ordered) = ordered.recv() => {
                // What the kernel sent until now was before.
                let latest = Instant::now() + GRACE;
                while !watch.hear(audit.socket())? && watch.holds_until().is_none() && Instant::now() < latest {}
                watch.obey(ordered);
            }
            () = until(wake) => {}
        }
        watch.tend();
        watchdog.turned(Instant::now());
        // In a storm there is always more to hear, and whoever brings the answers would never get a turn.
        if watch.is_asking() {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// What holds, and SIGHUP, which asks for it to be read again.
struct Settings<'a> {
    options: &'a Options,
    config: Config,
    hangup: Signal,
}

impl<'a> Settings<'a> {
    fn read(options: &'a Options) -> std::io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        let mut settings = Self { options, config: Config::default(), hangup };
        settings.take();
        Ok(settings)
    }

    fn take(&mut self) {
        let (config, complaints) = match self.options.config.as_deref() {
            Some(file) => Config::of_file(file, &self.config),
            None => Config::load(Path::new("/"), &self.config),
        };
        for complaint in complaints {
            tracing::warn!("{complaint}");
        }
        self.config = config;
    }

    async fn asked(&mut self) {
        self.hangup.recv().await;
    }

    fn again(&mut self) -> &Config {
        self.take();
        tracing::info!("SIGHUP: the configuration was read again");
        &self.config
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
    }
}

/// Readiness of a socket that may not be there.
async fn readable<T: AsRawFd>(fd: Option<&mut AsyncFd<T>>) -> std::io::Result<AsyncFdReadyMutGuard<'_, T>> {
    match fd {
        Some(fd) => fd.readable_mut().await,
        None => std::future::pending().await,
    }
}

/// Readiness of the audit socket, not before a moment.
async fn heard_again(audit: &mut AuditStream, not_before: Option<Instant>) -> std::io::Result<()> {
    if let Some(moment) = not_before {
        tokio::time::sleep_until(moment.into()).await;
    }
    audit.readable().await
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
