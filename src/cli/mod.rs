//! What a person at the terminal asks, and the answer.

pub mod args;
