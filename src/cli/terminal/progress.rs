//! Progress bars on stderr for long reads and long series of queries; shown only on a terminal, after a delay.

use crate::cli::terminal::quiet::is_quiet;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io;
use std::io::{IsTerminal as _, Read};
use std::time::{Duration, Instant};

/// The delay before the bar appears; shorter work shows no bar.
const MOMENT: Duration = Duration::from_millis(300);

/// Bytes between two updates of the bar.
const STEP: u64 = 1 << 20;

/// A reader that shows its progress on stderr and removes the bar at the end.
#[derive(Debug)]
pub(crate) struct Progress<R> {
    inner: R,
    bar: ProgressBar,
    read: u64,
    /// When to show the bar; `None` once it is shown, or without a terminal.
    show_at: Option<Instant>,
}

impl<R: Read> Progress<R> {
    /// Wraps a reader of `length` bytes, if known.
    pub(crate) fn new(inner: R, length: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
        let template = match length {
            Some(_) => "{percent:>3} %  {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{bytes}, {bytes_per_sec}, {elapsed}",
        };
        // Tests on a terminal would show a wrong template.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let show_at = first_moment();
        Self { inner, bar, read: 0, show_at }
    }
}

/// Returns when to show a bar; `None` with `--quiet`, or if stderr is no terminal.
fn first_moment() -> Option<Instant> {
    (!is_quiet() && io::stderr().is_terminal()).then(|| Instant::now() + MOMENT)
}

impl<R: Read> Read for Progress<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let before = self.read;
        self.read += length as u64;
        if self.read / STEP != before / STEP || length == 0 {
            if self.show_at.take_if(|at| *at <= Instant::now()).is_some() {
                self.bar.set_draw_target(ProgressDrawTarget::stderr());
            }
            self.bar.set_position(self.read);
        }
        Ok(length)
    }
}

impl<R> Drop for Progress<R> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The progress of two concurrent series of queries, in one bar.
#[derive(Debug)]
pub(crate) struct Steps {
    bar: ProgressBar,
    /// Per list: steps done, steps in all.
    lists: [(usize, usize); 2],
    show_at: Option<Instant>,
}

impl Steps {
    /// A bar that counts steps called `name`.
    pub(crate) fn new(name: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{pos} of {len} {msg}, {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(name);
        Self { bar, lists: [(0, 0); 2], show_at: first_moment() }
    }

    /// Updates one list.
    pub(crate) fn set(&mut self, work: usize, done: usize, of: usize) {
        if let Some(counts) = self.lists.get_mut(work) {
            *counts = (done, of);
        }
        if self.show_at.take_if(|at| *at <= Instant::now()).is_some() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        let (done, of) = self.lists.iter().fold((0, 0), |(done, of), work| (done + work.0, of + work.1));
        self.bar.set_length(of as u64);
        self.bar.set_position(done as u64);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_with_progress_returns_every_byte() {
        let bytes = vec![7; 3 << 20];
        let mut progress = Progress::new(&bytes[..], Some(bytes.len() as u64));
        let mut read = Vec::new();
        progress.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        assert_eq!(progress.bar.position(), bytes.len() as u64);
    }

    #[test]
    fn steps_of_two_lists_add_up() {
        let mut steps = Steps::new("units");
        steps.set(0, 3, 10);
        steps.set(1, 4, 5);
        steps.set(0, 10, 10);
        assert_eq!((steps.bar.position(), steps.bar.length()), (14, Some(15)));
    }
}
