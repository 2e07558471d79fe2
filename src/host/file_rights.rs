//! The rights that the file of a program gives to a process that executes it.

/// A program whose file would give its process other rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetIdProgram {
    /// The path of the file.
    pub(crate) path: Vec<u8>,
    /// What the file would give the process.
    pub(crate) gives: FileRights,
}

/// The rights that a program's file gives to a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FileRights {
    /// A bit for each capability.
    pub(crate) capabilities: u64,
    /// Another user than root.
    pub(crate) user: Option<u32>,
    /// A group.
    pub(crate) group: Option<u32>,
}

impl FileRights {
    /// Whether a file's user or group would be that of the process.
    pub(crate) fn owns(&self, (uid, gid): (u32, u32)) -> bool {
        self.user == Some(uid) || self.group == Some(gid)
    }
}
