//! A long read, or a long list of questions, shows how far it is: on a terminal, and only once it has taken a moment.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io;
use std::io::{IsTerminal as _, Read};
use std::time::{Duration, Instant};

/// A read that is over by then was not worth a bar.
const MOMENT: Duration = Duration::from_millis(300);

/// How often the bar is brought up to date, in bytes read.
const STEP: u64 = 1 << 20;

/// A reader that shows its progress on standard error, and takes the bar away in the end.
#[derive(Debug)]
pub(crate) struct Progress<R> {
    inner: R,
    bar: ProgressBar,
    read: u64,
    /// When to show the bar; `None` once it is shown, or never will be.
    show_at: Option<Instant>,
}

impl<R: Read> Progress<R> {
    /// Of so many bytes, where that is known.
    pub(crate) fn new(inner: R, length: Option<u64>) -> Self {
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

/// Steps of several works at once, shown the same way.
#[derive(Debug)]
pub(crate) struct Steps {
    bar: ProgressBar,
    /// Of each work how many are done, of how many.
    works: [(usize, usize); 2],
    show_at: Option<Instant>,
}

impl Steps {
    /// Of things of a name.
    pub(crate) fn new(name: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{pos} of {len} {msg}, {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(name);
        Self { bar, works: [(0, 0); 2], show_at: io::stderr().is_terminal().then(|| Instant::now() + MOMENT) }
    }

    /// How far one of the works is.
    pub(crate) fn set(&mut self, work: usize, done: usize, of: usize) {
        if let Some(counts) = self.works.get_mut(work) {
            *counts = (done, of);
        }
        if self.show_at.take_if(|at| *at <= Instant::now()).is_some() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        let (done, of) = self.works.iter().fold((0, 0), |(done, of), work| (done + work.0, of + work.1));
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
    fn what_is_read_is_what_there_was() {
        let bytes = vec![7; 3 << 20];
        let mut progress = Progress::new(&bytes[..], Some(bytes.len() as u64));
        let mut read = Vec::new();
        progress.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        assert_eq!(progress.bar.position(), bytes.len() as u64);
    }

    #[test]
    fn steps_of_several_works_add_up() {
        let mut steps = Steps::new("units");
        steps.set(0, 3, 10);
        steps.set(1, 4, 5);
        steps.set(0, 10, 10);
        assert_eq!((steps.bar.position(), steps.bar.length()), (14, Some(15)));
    }
}
