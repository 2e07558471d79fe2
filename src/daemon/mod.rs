//! The daemon: one loop that owns everything but the disk.
//!
//! ```text
//! audit socket ─► pipeline ─► fold ─► writer thread ─► journal alert, D-Bus signal
//!                  ▲ │ open       ▲
//! notes of the dead  ▼            │
//! exit events ─► reconciler ─► asks systemd
//! ```

mod reconcile;
mod watch;
mod writer;

pub use watch::FLUSH;
pub use writer::{KEPT, MOST_ROWS};

use crate::host::departed::Departed;
use crate::host::exits::ExitListener;
use crate::host::live::LiveHost;
use crate::host::{hearing, systemd::Managers};
use crate::incidents::Store;
use crate::intake::netlink::{AuditSocket, RECEIVE_BUFFER};
use crate::outlet::address::BusAddress;
use crate::outlet::bus;
use crate::outlet::wire::Status;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::io::unix::{AsyncFd, AsyncFdReadyMutGuard};
use tokio::signal::unix::{Signal, SignalKind, signal};
use watch::{Watch, now_millis};
use writer::Writer;

/// Where the users' runtime directories are.
const RUNTIME: &str = "/run/user";

/// What the daemon is told.
#[derive(Debug)]
pub struct Options {
    /// Where the store is.
    pub state_dir: PathBuf,
    /// Where it answers, and where the system manager is asked.
    pub bus: BusAddress,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The store cannot be opened, or the audit stream cannot be heard or breaks.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    let (store, set_aside) = Store::open_or_set_aside(&options.state_dir)?;
    if let Some(aside) = set_aside {
        tracing::error!("{}; it is kept as {}, and a new store was begun", aside.error, aside.path.display());
    }
    let audit = AuditSocket::open()?;
    let mut status = Status {
        listening: true,
        since: now_millis(),
        receive_buffer: audit.receive_buffer() as u64,
        limitations: hearing::limitations(Path::new("/")).iter().map(ToString::to_string).collect(),
        ..Status::default()
    };
    // The kernel doubles what is asked for, to account for its own overhead.
    tracing::info!("listening, with a receive buffer of {} of {} bytes", audit.receive_buffer(), 2 * RECEIVE_BUFFER);
    let exits = match ExitListener::open() {
        Ok(listener) => Some(listener.into_async()?),
        Err(error) => {
            tracing::warn!("exit events cannot be heard: {error}");
            status.limitations.push(format!("deaths by SIGSYS without a record go unnoticed: {error}"));
            None
        }
    };
    let departed = match Departed::open() {
        Ok(departed) => Some(departed),
        Err(error) => {
            tracing::warn!("the cgroups of dying processes are not noted: {error}");
            status.limitations.push(hearing::without_notes(&error).to_string());
            None
        }
    };
    let status = Arc::new(Mutex::new(status));
    let bus = match bus::serve(&options.bus, &options.state_dir, source(&status)).await {
        Ok(bus) => Some(bus),
        Err(error) => {
            tracing::error!("{error}; 'harden-why --state-dir {}' reads the store", options.state_dir.display());
            None
        }
    };
    let host = LiveHost::new(managers(&options.bus), Path::new(RUNTIME)).with_departed(departed);
    let mut watch = Watch::new(host, Writer::start(store)?, status);
    notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("listening to the kernel")]);
    let outcome = serve(&mut watch, audit.into_async()?, exits, bus.as_ref(), &mut stop).await;
    notify(&[sd_notify::NotifyState::Stopping]);
    watch.finish().await;
    outcome
}

/// The loop.
async fn serve(
    watch: &mut Watch,
    mut audit: AsyncFd<AuditSocket>,
    mut exits: Option<AsyncFd<ExitListener>>,
    bus: Option<&bus::Bus>,
    stop: &mut Stop,
) -> anyhow::Result<()> {
    loop {
        let wake = watch.next_wake();
        tokio::select! {
            () = stop.asked() => return Ok(()),
            ready = audit.readable_mut() => {
                let mut ready = ready?;
                if watch.hear(ready.get_inner_mut())? {
                    ready.clear_ready();
                }
            }
            ready = readable(exits.as_mut()) => {
                let mut ready = ready?;
                if watch.hear_exits(ready.get_inner_mut())? {
                    ready.clear_ready();
                }
            }
            Some(asked) = watch.asks.join_next() => watch.settle(asked),
            done = watch.writer.done() => {
                for incident in watch.stored(done) {
                    watch.alert(&incident);
                    if let Some(bus) = bus && let Err(error) = bus.announce(&incident).await {
                        tracing::warn!("subscribers on the bus were not told: {error}");
                    }
                }
            }
            () = until(wake) => {}
        }
        watch.tend();
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

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// systemd's managers, found by the bus we answer on.
fn managers(bus: &BusAddress) -> Managers {
    match bus {
        BusAddress::Address(address) => Managers::at(address.clone(), RUNTIME),
        BusAddress::System | BusAddress::Session => Managers::live(),
    }
}

/// The status as the bus asks for it.
fn source(status: &Arc<Mutex<Status>>) -> bus::StatusSource {
    let status = Arc::clone(status);
    Arc::new(move || status.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Tells systemd; without `NOTIFY_SOCKET=` there is nobody to tell.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("systemd could not be told the state: {error}");
    }
}
