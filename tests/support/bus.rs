//! A bus for one test, and the daemon's answers on it.

use super::daemon::wait_for;
use super::skip::skip;
use harden_why::outlet::client::HardenWhyProxy;
use harden_why::outlet::wire::Status;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};

/// A bus. Dropping it ends it.
pub(crate) struct Bus(Child);

impl Bus {
    /// Starts one that listens at a socket in a directory, and returns its address.
    pub(crate) fn within(dir: &Path) -> Option<(Self, String)> {
        let socket = dir.join("bus");
        let address = format!("unix:path={}", socket.display());
        let bus = Self::start(&address)?;
        wait_for(|| UnixStream::connect(&socket).ok(), || "no bus".to_owned());
        Some((bus, address))
    }

    /// Starts one that will listen at an address.
    pub(crate) fn start(address: &str) -> Option<Self> {
        let arguments = ["--session", "--nofork", "--nopidfile", "--nosyslog"];
        match Command::new("dbus-daemon").args(arguments).arg(format!("--address={address}")).spawn() {
            Ok(child) => Some(Self(child)),
            Err(error) => {
                skip(&format!("no dbus-daemon: {error}"));
                None
            }
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// The status that the daemon reports on a bus, if it does.
pub(crate) fn asked(address: &str) -> Option<Status> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let connection = zbus::connection::Builder::address(address).build().await.ok()?;
        HardenWhyProxy::new(&connection).await.ok()?.status().await.ok()
    })
}
