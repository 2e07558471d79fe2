//! A yes/no question on the terminal that Ctrl-C interrupts.

use crate::operations::interruption::Interruption;
use anyhow::Context as _;
use std::io::Write as _;
use std::thread;
use tokio::sync::oneshot;

/// Asks a question. Returns whether the answer is yes.
///
/// # Errors
/// There is no terminal, or a signal interrupts.
pub(crate) async fn ask(question: &str, interruption: &mut Interruption) -> anyhow::Result<bool> {
    let mut out = anstream::stderr();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let (answered, answer) = oneshot::channel();
    // A signal cannot interrupt a blocking read, so a thread reads. After a signal, no code joins the thread.
    thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line).map(|_| line);
        // A signal may have arrived before the question.
        let _ = answered.send(read);
    });
    let answer = interruption.or(async { Ok(answer.await.context("nobody answers")??) }).await?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
