//! A long read shows how far it is: on a terminal, and only once it has taken a moment.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal as _, Read};
use std::time::{Duration, Instant};

/// A read that is over by then was not worth a bar.
const MOMENT: Duration = Duration::from_millis(300);

/// How often the bar is brought up to date, in bytes read.
const STEP: u64 = 1 << 20;

/// A reader that shows its progress on standard error, and takes the bar away in the end.
#[derive(Debug)]
pub(super) struct Progress<R> {
    inner: R,
    bar: ProgressBar,
    read: u64,
    /// When to show the bar; `None` once it is shown, or never will be.
    show_at: Option<Instant>,
}

impl<R: Read> Progress<R> {
    /// Of so many bytes, where that is known.
    pub(super) fn new(inner: R, length: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
        let template = match length {
            Some(_) => "{percent:>3} %  {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{bytes}, {bytes_per_sec}, {elapsed}",
        };
        // A template that is wrong would show in every test of the terminal.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let show_at = io::stderr().is_terminal().then(|| Instant::now() + MOMENT);
        Self { inner, bar, read: 0, show_at }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_there_was() {
        let bytes = vec![7; 3 << 20];
        let mut progress = Progress::new(&bytes[..], Some(bytes.len() as u64));
        let mut read = Vec::new();
        progress.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        assert_eq!(progress.bar.position(), bytes.len() as u64);
    }
}
