//! The unit that this program runs in.

use crate::kernel::procfs::Procfs;
use crate::units::Unit;
use crate::units::cgroup::{Placement, place};

/// Returns the unit of the calling process, by its cgroup.
pub(crate) fn own_unit() -> Option<Unit> {
    match place(&Procfs::live().cgroup(std::process::id())?) {
        Placement::Unit(unit) => Some(unit),
        Placement::None(_) => None,
    }
}

/// Returns whether the calling process runs in this unit, and would end with it.
pub(crate) fn is_own_unit(unit: &Unit) -> bool {
    own_unit().as_ref() == Some(unit)
}
