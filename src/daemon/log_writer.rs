//! Writes the daemon's log without ever making the event loop wait: a thread writes the lines to standard error, which may
//! be a pipe that nobody reads.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// How many bytes of lines wait for the thread.
const MAX_WAITING: usize = 1 << 20;

/// The end of the log that takes lines. It drops and counts those for which there is no room.
#[derive(Debug, Clone)]
pub struct LogWriter {
    lines: Sender<Message>,
    backlog: Arc<Backlog>,
}

/// What waits, and what was lost.
#[derive(Debug, Default)]
struct Backlog {
    waiting: AtomicUsize,
    lost: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

impl LogWriter {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, inbox) = channel();
        let backlog = Arc::new(Backlog::default());
        let shared = Arc::clone(&backlog);
        std::thread::Builder::new().name("log".into()).spawn(move || write_lines(&inbox, &shared, out))?;
        Ok(Self { lines, backlog })
    }

    /// Waits until the lines so far are written, but no longer than `patience`.
    pub fn flush_within(&self, patience: Duration) {
        let (written, was_written) = channel();
        if self.lines.send(Message::Flush(written)).is_ok() {
            // If nobody reads the log, its end is lost.
            _ = was_written.recv_timeout(patience);
        }
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let before = self.backlog.waiting.fetch_add(line.len(), Ordering::Relaxed);
        if before.saturating_add(line.len()) > MAX_WAITING || self.lines.send(Message::Line(line.to_vec())).is_err() {
            self.backlog.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            self.backlog.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(inbox: &Receiver<Message>, backlog: &Backlog, mut out: impl Write) {
    while let Ok(message) = inbox.recv() {
        match message {
            Message::Line(line) => {
                // There is no other place to report that the log cannot be written.
                _ = out.write_all(&line);
                backlog.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Message::Flush(written) => {
                _ = out.flush();
                _ = written.send(());
            }
        }
        let lost = backlog.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            _ = writeln!(out, " WARN {lost} lines of the log were lost, because standard error was not read");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn log_that_nobody_reads_does_not_block_and_its_lost_lines_are_counted() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut log = LogWriter::start(writer).unwrap();
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        // The reader begins after the last line, so a write that waited for it would never return.
        for _ in 0..50_000 {
            log.write_all(&line).unwrap();
        }
        log.flush_within(Duration::from_millis(10));
        assert!(log.backlog.waiting.load(Ordering::Relaxed) <= MAX_WAITING);
        let text = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        log.flush_within(Duration::from_mins(10));
        drop(log);
        let text = text.join().unwrap();
        let reports =
            text.lines().filter_map(|line| line.strip_prefix(" WARN ")?.split_once(" lines of the log were lost"));
        let lost: u64 = reports.map(|(number, _)| number.parse::<u64>().unwrap()).sum();
        assert!(lost > 30_000, "{lost} lost");
        let written = u64::try_from(text.lines().filter(|line| line.starts_with('x')).count()).unwrap();
        assert_eq!(written + lost, 50_000);
    }
}
