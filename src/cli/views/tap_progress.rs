//! The progress of a tap on the terminal.

use super::tapped::{RefusalView, errno_words};
use crate::audit::text::plural;
use crate::cli::terminal::page::{BAD, DIM, styled};
use crate::cli::terminal::words::count_times;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io;
use std::io::IsTerminal as _;
use std::time::Duration;

/// The most calls shown at once.
const SHOWN: usize = 16;

/// A growing table, removed at the end.
pub(crate) struct TapProgress(Option<ProgressBar>);

impl TapProgress {
    /// Shows progress on stderr, if `wanted` and stderr is a terminal.
    pub(crate) fn new(wanted: bool) -> Self {
        if !wanted || !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // Tests on a terminal would show a wrong template.
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    /// Shows the refusals so far.
    pub(crate) fn show(&self, elapsed: Duration, most: Duration, refusals: impl FnOnce() -> Vec<RefusalView>) {
        let Some(bar) = &self.0 else { return };
        bar.set_message(table(elapsed, most, &refusals()));
        bar.tick();
    }
}

impl Drop for TapProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn table(elapsed: Duration, most: Duration, refusals: &[RefusalView]) -> String {
    let count = refusals.iter().map(|refusal| refusal.count).fold(0, u64::saturating_add);
    let seen = match count {
        0 => "no call refused so far".to_owned(),
        count => format!("{} refused, {} in all", plural(refusals.len() as u64, "call"), count_times(count)),
    };
    let mut lines = vec![format!("{} of {} s: {seen} (Ctrl-C ends it)", elapsed.as_secs(), most.as_secs())];
    lines.extend(refusals.iter().take(SHOWN).map(|refusal| {
        let threads = plural(refusal.threads.len() as u64, "thread");
        let unit = refusal.unit.as_deref().unwrap_or("unit unknown");
        let call = styled(BAD, format_args!("{:<24}", refusal.call));
        format!("  {call} {:<14} {:>10}  {threads}, {}", errno_words(refusal), refusal.count, styled(DIM, unit))
    }));
    if refusals.len() > SHOWN {
        lines.push(format!("  and {} more", refusals.len() - SHOWN));
    }
    lines.join("\n")
}
