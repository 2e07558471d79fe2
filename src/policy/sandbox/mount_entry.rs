//! One mount that a unit's settings make.

use super::sandbox_settings::SandboxWord;

/// What a mount does. Of several for one path, systemd keeps the first in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MountMode {
    Inaccessible,
    Bind,
    PrivateTmp,
    PrivateDevices,
    Procfs,
    /// `/proc`, `/sys` or `/dev` as on the host, mounted once more.
    ApiFileSystem,
    ReadOnly,
    ReadWrite,
    NoExec,
    Exec,
    TemporaryFileSystem,
    /// Written by systemd, not by a line: it has no say where a line names the path.
    ImplicitReadWrite,
}

/// One mount.
#[derive(Debug, Clone)]
pub(super) struct MountEntry {
    pub(super) path: Box<str>,
    pub(super) mode: MountMode,
    /// The word that makes the mount; `None` if it only keeps a path as it is.
    pub(super) word: Option<SandboxWord>,
    /// Why the word makes the mount, if it does not name the path.
    pub(super) implied: Option<&'static str>,
    /// The word that makes it read-only.
    pub(super) read_only: Option<usize>,
    /// The word that forbids execution.
    pub(super) no_exec: Option<usize>,
    pub(super) is_exec: bool,
    /// Whether the host's own files are seen there.
    pub(super) shows_host: bool,
    /// Its number in the list before sorting.
    pub(super) number: usize,
}

/// A word that makes a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountCause {
    /// The word.
    pub(crate) word: SandboxWord,
    /// The path of the mount.
    pub(crate) path: Box<str>,
    /// Why the word makes the mount, if it does not name the path.
    pub(crate) implied: Option<&'static str>,
}

impl MountEntry {
    pub(super) fn new(path: &str, mode: MountMode, word: Option<SandboxWord>) -> Self {
        Self {
            path: path.into(),
            mode,
            word,
            implied: None,
            read_only: None,
            no_exec: None,
            is_exec: mode == MountMode::Exec,
            shows_host: false,
            number: 0,
        }
    }

    /// Adds why the word makes the mount.
    pub(super) fn because(self, implied: Option<&'static str>) -> Self {
        Self { implied, ..self }
    }

    /// Makes a mount of its own read-only.
    pub(super) fn read_only(self) -> Self {
        Self { read_only: Some(0), ..self }
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only.is_some() || matches!(self.mode, MountMode::ReadOnly | MountMode::Inaccessible)
    }

    pub(super) fn covers(&self) -> bool {
        use MountMode as Mode;
        matches!(
            self.mode,
            Mode::Inaccessible
                | Mode::Bind
                | Mode::PrivateTmp
                | Mode::PrivateDevices
                | Mode::Procfs
                | Mode::TemporaryFileSystem
        )
    }

    pub(super) fn cause(&self) -> Option<MountCause> {
        Some(MountCause { word: self.word.clone()?, path: self.path.clone(), implied: self.implied })
    }
}
