//! leftover.

use std::pin::Pin;

/// Mends one thing, and says what was done, or what is left to do. Nothing happens before it is awaited. The daemon's
/// start waits for it, so it waits for nobody for long.
pub(crate) type Leftover<'a> = Pin<Box<dyn Future<Output = String> + 'a>>;
