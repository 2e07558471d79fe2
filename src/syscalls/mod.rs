//! What the number means: the ABI of a call, (ABI, number) ↔ name, and systemd's `@groups`.

pub mod arch;
pub mod groups;
pub mod names;

pub use arch::{Abi, Arch};
pub use groups::{Calls, Groups};
pub use names::{Call, CallId};
