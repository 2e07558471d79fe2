//! The source of a rehearsal's calls, and their display.

use crate::incidents::Incident;

/// A source of the calls that a rehearsed unit makes.
pub(crate) trait RehearsalFeed {
    /// Returns the calls so far, each with its count since the beginning, or an error within a few seconds.
    ///
    /// # Errors
    /// The source does not answer now.
    async fn calls(&mut self) -> anyhow::Result<Vec<Incident>>;

    /// Tells the source that the rehearsal is over.
    async fn end(&self);
}

/// Shows a rehearsal's progress to the user.
pub(crate) trait RehearsalObserver {
    /// Starts the display, once harden-why has written the unit's drop-in.
    fn start(&mut self);

    /// Shows the calls so far. Returns whether one of them is new.
    fn show_calls(&mut self, calls: &[Incident]) -> bool;

    /// Shows that time has passed.
    fn tick(&mut self);

    /// Shows a message.
    fn say(&mut self, message: &str);

    /// Shows that the unit is stopped, and gets its own settings back.
    fn show_end(&mut self);

    /// Ends the display.
    fn finish(&mut self);
}
