//! Births of processes, for the while in which it matters who started whom.
//!
//! Nobody is woken by a birth: the kernel keeps them in the socket's buffer until somebody looks. Still each costs the
//! machine a microsecond, so this is opened only where processes could not be told otherwise, and not for long.

use super::Connector;
use super::filter::Wanted;
use super::message::{Birth, FORK, parse_birth};
use std::io;

/// Hears of every process that is started.
pub struct BirthListener {
    connector: Connector,
}

impl BirthListener {
    /// Asks the kernel for births.
    ///
    /// # Errors
    /// As of [`ExitListener::open`](super::ExitListener::open).
    pub fn open() -> io::Result<Self> {
        Ok(Self { connector: super::open(Wanted::Births, FORK)? })
    }

    /// The next birth; `None` where there is none yet.
    ///
    /// # Errors
    /// Raw error `ENOBUFS` means that births were lost.
    pub fn receive(&mut self) -> io::Result<Option<Birth>> {
        while let Some(message) = super::receive(&self.connector.socket)? {
            if let Some(birth) = parse_birth(message.bytes()) {
                return Ok(Some(birth));
            }
        }
        Ok(None)
    }
}

impl std::fmt::Debug for BirthListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BirthListener").finish_non_exhaustive()
    }
}
