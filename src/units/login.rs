//! The login that a process descends from, as its audit record shows it.

use super::name::Manager;
use crate::audit::{IdField, Record};

/// The login from which a process descends. Processes of system services have none. PAM gives a user manager a login of
/// its user (`systemd-user`), and all units of that manager inherit the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Login {
    /// Whether the process runs as the user who logged in.
    pub own: bool,
}

impl Login {
    /// Reads the login from a record; `None` if the record has no login.
    #[must_use]
    pub(crate) fn from_record(record: &Record<'_>) -> Option<Self> {
        let is_set = record.session != IdField::Unset && record.auid != IdField::Unset;
        is_set.then(|| Self { own: record.auid == record.uid })
    }

    /// Whether the process can belong to one of a manager's units.
    #[must_use]
    pub(crate) fn can_belong_to(self, manager: Manager) -> bool {
        self.own && manager != Manager::System
    }
}
