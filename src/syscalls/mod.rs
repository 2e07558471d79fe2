//! The meaning of a call number: its ABI, its name, and systemd's `@groups` with that call.

#![forbid(unsafe_code)]

mod abi;
mod arch;
pub mod groups;
pub(crate) mod introduced;
mod names;
#[rustfmt::skip]
mod table;

pub use abi::Abi;
pub use arch::Arch;
pub use groups::{CallNames, Groups};
pub use names::{Call, CallId};
