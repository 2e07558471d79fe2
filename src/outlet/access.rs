//! Decides which incidents a user may read.

use crate::units::Manager;

/// The groups whose members may read the system's journal, and so every incident.
pub(crate) const TRUSTED_GROUPS: [&str; 3] = ["adm", "systemd-journal", "wheel"];

/// What a user reads whose access is limited to [`CallerAccess::Own`].
pub(crate) const OWN_UNITS_ONLY: &str =
    "you may see only the denials of your own units: run with sudo, or join group adm or systemd-journal";

/// The user of a call, as the kernel or the bus reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BusCaller {
    /// The effective uid.
    pub uid: u32,
    /// The primary and supplementary groups.
    pub groups: Vec<u32>,
}

/// The users that may read everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trust {
    /// The uid of the daemon, which could read the store itself.
    pub daemon: u32,
    /// The gids of those [`TRUSTED_GROUPS`] that this machine has.
    pub groups: Vec<u32>,
}

/// The incidents that a user may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallerAccess {
    /// Every incident.
    Everything,
    /// Those of the units of the user's own manager.
    Own(u32),
}

impl CallerAccess {
    /// Returns what a caller may read.
    #[must_use]
    pub(crate) fn from_caller(caller: &BusCaller, trust: &Trust) -> Self {
        let member = caller.groups.iter().any(|group| trust.groups.contains(group));
        if caller.uid == 0 || caller.uid == trust.daemon || member { Self::Everything } else { Self::Own(caller.uid) }
    }

    /// Whether the user may read incidents of a manager's units; `None` stands for processes of no known unit.
    #[must_use]
    pub(crate) fn permits(self, manager: Option<Manager>) -> bool {
        match self {
            Self::Everything => true,
            Self::Own(uid) => manager == Some(Manager::User(uid)),
        }
    }

    /// Returns the only manager whose incidents the user may read; `None` if the user may read all.
    pub(crate) fn only_manager(self) -> Option<Manager> {
        match self {
            Self::Everything => None,
            Self::Own(uid) => Some(Manager::User(uid)),
        }
    }

    /// Narrows a query for a manager, or for all managers (`None`), to what the caller may read.
    ///
    /// # Errors
    /// The caller may not read that manager's incidents.
    pub(crate) fn narrow(self, asked: Option<Manager>) -> Result<Option<Manager>, NotPermitted> {
        match (self, asked) {
            (Self::Everything, asked) => Ok(asked),
            (Self::Own(_), None) => Ok(self.only_manager()),
            (Self::Own(_), Some(_)) if self.permits(asked) => Ok(asked),
            (Self::Own(_), Some(_)) => Err(NotPermitted),
        }
    }
}

/// The caller may not read the incidents of that manager.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotPermitted;

#[cfg(test)]
mod tests {
    use super::*;

    fn access(uid: u32, groups: &[u32]) -> CallerAccess {
        let trust = Trust { daemon: 990, groups: vec![4, 101] };
        CallerAccess::from_caller(&BusCaller { uid, groups: groups.to_vec() }, &trust)
    }

    #[test]
    fn root_daemon_and_journal_readers_may_read_everything() {
        assert_eq!(access(0, &[]), CallerAccess::Everything);
        assert_eq!(access(990, &[990]), CallerAccess::Everything);
        assert_eq!(access(1000, &[1000, 101]), CallerAccess::Everything);
    }

    #[test]
    fn other_user_may_read_only_own_user_units() {
        let other = access(1000, &[1000, 5, 0]);
        assert_eq!(other, CallerAccess::Own(1000));
        assert!(other.permits(Some(Manager::User(1000))));
        for manager in [None, Some(Manager::System), Some(Manager::User(1001)), Some(Manager::User(0))] {
            assert!(!other.permits(manager));
        }
    }

    #[test]
    fn query_for_all_is_narrowed_and_query_for_other_manager_is_refused() {
        let (all, own) = (CallerAccess::Everything, CallerAccess::Own(1000));
        assert_eq!(all.narrow(None), Ok(None));
        assert_eq!(all.narrow(Some(Manager::System)), Ok(Some(Manager::System)));
        assert_eq!(own.narrow(None), Ok(Some(Manager::User(1000))));
        assert_eq!(own.narrow(Some(Manager::User(1000))), Ok(Some(Manager::User(1000))));
        assert_eq!(own.narrow(Some(Manager::User(1001))), Err(NotPermitted));
        assert_eq!(own.narrow(Some(Manager::System)), Err(NotPermitted));
    }
}
