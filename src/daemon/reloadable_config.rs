//! The configuration in force, and the SIGHUP handler. SIGHUP asks the daemon to reread the configuration.

use super::config::Config;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The configuration in force.
#[derive(Debug)]
pub(super) struct ReloadableConfig {
    /// The only file to read, instead of the machine's files.
    file: Option<PathBuf>,
    current: Config,
    hangup: Signal,
}

impl ReloadableConfig {
    /// Reads the configuration and registers a handler for SIGHUP.
    ///
    /// # Errors
    /// The kernel refuses the handler.
    pub(super) fn load(file: Option<PathBuf>) -> std::io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        let mut config = Self { file, current: Config::default(), hangup };
        config.read();
        Ok(config)
    }

    pub(super) fn current(&self) -> &Config {
        &self.current
    }

    /// Waits for SIGHUP.
    pub(super) async fn reload_requested(&mut self) {
        self.hangup.recv().await;
    }

    /// Rereads the configuration.
    pub(super) fn reload(&mut self) -> &Config {
        self.read();
        tracing::info!("SIGHUP: reread the configuration");
        &self.current
    }

    fn read(&mut self) {
        let (config, complaints) = match self.file.as_deref() {
            Some(file) => Config::load_file(file, &self.current),
            None => Config::load(Path::new("/"), &self.current),
        };
        for complaint in complaints {
            tracing::warn!("{complaint}");
        }
        self.current = config;
    }
}
