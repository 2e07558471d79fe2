//! The forms of directives' values.

/// The form of a directive's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Yes or no.
    Switch,
    /// An error's name or number, or `kill`.
    ErrorNumber,
    /// Yes, no, or the allowed namespaces; after `~` the namespaces that are not allowed.
    Namespaces,
    /// The address families that pass; after `~` the families that do not pass.
    AddressFamilies,
    /// ABIs.
    Architectures,
    /// Calls and groups of calls.
    Calls,
    /// Yes or no; later versions of systemd also take other words.
    Toggle,
    /// Yes, no or another word.
    Word,
    /// Paths.
    Paths,
    /// Paths, each with options of a file system after a colon.
    Mounts,
    /// Paths, each with the place where it is shown after a colon.
    Binds,
    /// Names of directories.
    Names,
    /// Capabilities; after `~` those that are not in the set.
    Capabilities,
    /// A device or a kind of devices, with letters for the access.
    Devices,
    /// A port, perhaps after an address family and a protocol.
    SocketBinds,
    /// IP addresses with the length of their prefix.
    Addresses,
}

impl ValueKind {
    /// The type of the D-Bus property (`org.freedesktop.systemd1(5)`).
    #[must_use]
    pub fn bus_signature(self) -> &'static str {
        match self {
            Self::Switch | Self::Toggle => "b",
            Self::ErrorNumber => "i",
            Self::Namespaces | Self::Capabilities => "t",
            Self::AddressFamilies | Self::Calls => "(bas)",
            Self::Architectures | Self::Paths | Self::Names => "as",
            Self::Word => "s",
            Self::Mounts | Self::Devices => "a(ss)",
            Self::Binds => "a(ssbt)",
            Self::SocketBinds => "a(iiqq)",
            Self::Addresses => "a(iayu)",
        }
    }

    /// The value in a unit file that undoes earlier lines.
    #[must_use]
    pub fn lifting_value(self) -> &'static str {
        match self {
            Self::Switch | Self::Toggle | Self::Namespaces => "no",
            _ => "",
        }
    }

    /// Whether it is a list of paths, or of names of directories.
    #[must_use]
    pub(crate) fn is_of_paths(self) -> bool {
        matches!(self, Self::Paths | Self::Mounts | Self::Binds | Self::Names)
    }

    /// Whether lines add to each other.
    #[must_use]
    pub(crate) fn is_list(self) -> bool {
        !matches!(self, Self::Switch | Self::Toggle | Self::Word | Self::ErrorNumber)
    }
}
