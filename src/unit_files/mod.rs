//! Unit files, drop-ins and manager configuration below a root.
//!
//! Every function takes a root: `/` for this machine, a directory for a scenario or another machine's files. Arguments
//! and results are paths inside the root, and `rooted` is the one door to them: links never lead out of the root. Sizes and counts have
//! limits, because every user writes their own unit files.
//!
//! - `find` finds a unit's files and merges them as systemd does; `names` knows templates and aliases, `search` the
//!   directories.
//! - `manager_conf` reads `system.conf` and `user.conf`.
//! - `executables` maps a program to the units that run it; `service_user` reads the user of a unit's processes.
//! - `read_only` finds places where no drop-in can be written, and writes NixOS options instead.
//! - `read_budget` limits the work of reading all unit files of a manager.
//! - `unknown_calls` finds units that name calls unknown to libseccomp.
//! - `transient` writes the `systemd-run` command of a transient unit.
//! - `changes` lists when the files changed. A diagnosis uses this to decide whether a denial is older than its remedy.

pub(crate) mod changes;
pub(crate) mod executables;
pub(crate) mod find;
pub(crate) mod kernel_version;
pub(crate) mod manager_conf;
pub(crate) mod names;
pub(crate) mod passwd;
pub(crate) mod read_budget;
pub(crate) mod read_only;
pub(crate) mod regular_file;
pub(crate) mod rooted;
pub(crate) mod search;
pub(crate) mod service_user;
pub(crate) mod transient;
pub(crate) mod unknown_calls;

pub use changes::changes;
pub(crate) use changes::is_older;
pub use executables::{Candidate, CommandMatch, ExecutableIndex};
pub use find::{LoadedUnit, UnitFiles, find, load, load_changed, load_listed};
pub(crate) use manager_conf::config_dir;
pub use manager_conf::{find_variable_line, load_manager_context};
pub use passwd::Passwd;
pub(crate) use search::{drop_in_owner, has_own_files};
pub use search::{dropin_path, persistent_dir, runtime_dir, runtime_dropin_path};
pub(crate) use unknown_calls::find_unknown_calls;
