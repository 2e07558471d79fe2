//! Compares what the policy says about sandboxing directives with a real systemd, for random unit files: what processes see of
//! paths, which rights and devices they have, and what the manager holds.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod held;
#[path = "../support/manager.rs"]
#[expect(dead_code, reason = "each test uses a part")]
mod manager;
mod paths;
#[path = "../support/random.rs"]
mod random;
mod rights;
#[path = "../support/skip.rs"]
#[expect(dead_code, reason = "other programs need more of it")]
mod skip;
mod units;
