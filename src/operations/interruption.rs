//! Ctrl-C and its like while a change is under way: it is finished or put back, never left half done.

use std::task::Poll;
use std::{fs, io};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a terminal, its user or a manager sends to end a program.
const SIGNALS: [(libc::c_int, &str); 3] =
    [(libc::SIGINT, "SIGINT"), (libc::SIGTERM, "SIGTERM"), (libc::SIGHUP, "SIGHUP")];

/// Signals that no longer end the program by themselves.
pub(crate) struct Interruption(Vec<(Signal, &'static str)>);

impl Interruption {
    /// Hears them from now on, but for those that whoever started us had us ignore (`nohup`).
    pub(crate) fn heard() -> io::Result<Self> {
        let ignored = ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default());
        let heard = SIGNALS.into_iter().filter(|(number, _)| ignored >> (number - 1) & 1 == 0);
        heard
            .map(|(number, name)| Ok((signal(SignalKind::from_raw(number))?, name)))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// The result of some work, or an error that names the signal which came before it.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            biased;
            name = self.next() => Err(anyhow::anyhow!("interrupted by {name}")),
            done = work => done,
        }
    }

    /// The next of them.
    pub(crate) async fn next(&mut self) -> &'static str {
        std::future::poll_fn(|context| {
            let mut came =
                self.0.iter_mut().filter_map(|(signal, name)| signal.poll_recv(context).is_ready().then_some(*name));
            came.next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// The set of ignored signals in a `/proc/PID/status`.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_a_mask() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n"), 0x1001);
        assert_eq!(ignored(""), 0);
    }
}
