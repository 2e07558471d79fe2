//! The terminal itself: pages, the pager, colours, prompts, progress, the live table, local time.

pub(crate) mod clock;
pub(crate) mod live_table;
pub(crate) mod output;
pub(crate) mod page;
pub(crate) mod pager;
pub(crate) mod progress;
pub(crate) mod prompt;
pub(crate) mod quiet;
pub(crate) mod words;
