//! Receives the signals that ask this program to end, so that it can finish or undo a change first.

use std::fs;
use std::io;
use std::task::{Context, Poll};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals by which a terminal, its user or a manager ends a program.
const SIGNALS: [(libc::c_int, &str); 3] =
    [(libc::SIGINT, "SIGINT"), (libc::SIGTERM, "SIGTERM"), (libc::SIGHUP, "SIGHUP")];

/// A source of signals: ready with the name of the next signal.
type SignalSource = dyn FnMut(&mut Context<'_>) -> Poll<&'static str>;

/// A signal came before the work was done.
#[derive(Debug, thiserror::Error)]
#[error("interrupted by {0}")]
pub(crate) struct Interrupted(&'static str);

/// Signals that no longer end the program by themselves.
pub(crate) struct Interruption(Box<SignalSource>);

impl Interruption {
    /// Receives signals from now on, except signals that the parent process set to be ignored (`nohup`).
    ///
    /// # Errors
    /// The runtime cannot register a handler.
    pub(crate) fn from_signals() -> io::Result<Self> {
        let ignored = ignored_signals(&fs::read_to_string("/proc/self/status").unwrap_or_default());
        let received = SIGNALS.into_iter().filter(|(number, _)| ignored >> (number - 1) & 1 == 0);
        let mut signals: Vec<(Signal, &'static str)> = received
            .map(|(number, name)| Ok((signal(SignalKind::from_raw(number))?, name)))
            .collect::<io::Result<_>>()?;
        Ok(Self::new(move |context| {
            let mut names =
                signals.iter_mut().filter_map(|(signal, name)| signal.poll_recv(context).is_ready().then_some(*name));
            names.next().map_or(Poll::Pending, Poll::Ready)
        }))
    }

    /// Receives signals from the given source.
    pub(crate) fn new(source: impl FnMut(&mut Context<'_>) -> Poll<&'static str> + 'static) -> Self {
        Self(Box::new(source))
    }

    /// Returns the result of the work, or an error with the name of a signal that came first. A signal that came
    /// earlier prevents the work.
    ///
    /// # Errors
    /// The work fails, or a signal came.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            biased;
            name = self.next() => Err(Interrupted(name).into()),
            done = work => done,
        }
    }

    /// Waits for the next signal and returns its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        std::future::poll_fn(|context| (self.0)(context)).await
    }
}

/// Returns the set of ignored signals in a `/proc/PID/status`.
fn ignored_signals(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_parse_from_status_as_a_mask() {
        assert_eq!(ignored_signals("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n"), 0x1001);
        assert_eq!(ignored_signals(""), 0);
    }
}
