//! A question on the terminal, to which Ctrl-C is an answer as well.

use crate::operations::interruption::Interruption;
use anyhow::Context as _;
use std::io::Write as _;
use std::thread;
use tokio::sync::oneshot;

/// Asks, and waits for yes or anything else.
///
/// # Errors
/// There is no terminal, or a signal came.
pub(crate) async fn agreed(question: &str, interruption: &mut Interruption) -> anyhow::Result<bool> {
    let mut out = anstream::stderr();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let (answered, answer) = oneshot::channel();
    // Whoever waits for a person cannot hear signals, and nobody waits for this one in the end.
    thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line).map(|_| line);
        // A signal may have come before.
        let _ = answered.send(read);
    });
    let answer = interruption.or(async { Ok(answer.await.context("nobody answers")??) }).await?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
