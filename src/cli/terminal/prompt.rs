//! A yes/no question on the terminal that Ctrl-C interrupts.

use crate::cli::terminal::page::Page;
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
    write!(out, "{}", lay_out(question))?;
    out.flush()?;
    let (sender, answer) = oneshot::channel();
    // A signal cannot interrupt a blocking read, so a thread reads. After a signal, no code joins the thread.
    thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line).map(|_| line);
        // A signal may have arrived before the question.
        let _ = sender.send(read);
    });
    let answered = interruption.or(async { Ok(answer.await.context("nobody answers")??) }).await;
    if answered.is_err() {
        // The cursor stands behind the question.
        writeln!(out)?;
    }
    let answer = answered?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Lays out a question: its last line is wrapped with the choice behind it.
fn lay_out(question: &str) -> String {
    let (before, last) = question.rsplit_once('\n').unwrap_or(("", question));
    let mut page = Page::default();
    // The choice is one word, and the cursor stands behind it.
    page.paragraph(0, &format!("{last} [y/N]"));
    let text = page.finish();
    let separator = if before.is_empty() { "" } else { "\n" };
    format!("{before}{separator}{} ", text.trim_end())
}
