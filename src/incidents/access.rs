//! What a call could not reach, because the unit's sandbox withholds it: a path, a capability, a device, memory, an
//! address, or what one of its arguments asks for.

use crate::policy::Capability;
use crate::syscalls::Call;
use core::net::SocketAddr;
use std::fmt;
use std::str::FromStr;

/// A call that the kernel executed, and that failed because of the unit's sandbox; or one that a filter refused because of
/// an argument that is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessDenial {
    /// The call, in the ABI that the process used.
    pub call: Call,
    /// The error that the process got; 0 for a program that started without its set-id rights.
    pub errno: i32,
    /// What the call could not reach.
    pub access: Access,
}

/// What a call could not reach.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// A path below a mount that is read-only for the unit, on a file system that is not.
    ReadOnlyPath(AccessPath),
    /// A path that the host has, and that a mount of the unit covers.
    HiddenPath(AccessPath),
    /// A program below a mount of the unit that permits no execution.
    NoExecPath(AccessPath),
    /// A program with set-user-ID or set-group-ID bits or file capabilities, which `no_new_privs` disables.
    SetIdProgram(AccessPath),
    /// A device node.
    Device {
        /// The path of the node.
        path: AccessPath,
        /// The device.
        node: DeviceNode,
        /// What the call asked for.
        wanted: DeviceAccess,
    },
    /// A capability that the process lacks.
    Capability {
        /// The capability.
        capability: Capability,
        /// How the process lacks it.
        lack: CapabilityLack,
    },
    /// A capability in a user namespace above the unit's own, whatever the process holds in its own.
    UserNamespace,
    /// Memory that is to become executable and holds no file.
    ExecutableMemory,
    /// An Internet address and port, to bind to or to send to. An IPv6 address has no flow label.
    Address(SocketAddr),
    /// A socket address family (`AF_*`), by number.
    AddressFamily(u16),
    /// Namespaces, by their `CLONE_NEW*` flags; 0 for one of any type.
    Namespaces(u32),
    /// A file with a set-user-ID or set-group-ID bit.
    SetIdMode,
    /// A scheduling policy (`SCHED_*`), by number.
    Scheduling(u32),
    /// An execution domain (`personality(2)`).
    Personality(u32),
}

/// A path, as bytes that a process chose. It has no NUL and at most [`AccessPath::MOST`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessPath(Box<[u8]>);

/// How a process lacks a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CapabilityLack {
    /// Its bounding set lacks the capability.
    NotInBoundingSet,
    /// Its bounding set holds the capability, its effective set does not: it runs as another user than root.
    NotEffective,
}

/// The number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceNode {
    /// Whether it is a block device, rather than a character device.
    pub is_block: bool,
    /// The number of its driver.
    pub major: u32,
    /// Its number for the driver.
    pub minor: u32,
}

/// The access to a device that a call asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceAccess {
    /// To read from it.
    pub read: bool,
    /// To write to it.
    pub write: bool,
    /// To make its node.
    pub make: bool,
}

impl AccessPath {
    /// The most bytes that are kept: `PATH_MAX`.
    pub const MOST: usize = 4096;

    /// Keeps the bytes before the first NUL, at most [`Self::MOST`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        Self(bytes.get(..Self::MOST).unwrap_or(bytes).into())
    }

    /// Returns the bytes. Escape them before display.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Access {
    /// Whether an argument of the call asks for it, so that a filter can deny it.
    #[must_use]
    pub(crate) fn is_of_argument(&self) -> bool {
        matches!(
            self,
            Self::AddressFamily(_)
                | Self::Namespaces(_)
                | Self::SetIdMode
                | Self::Scheduling(_)
                | Self::Personality(_)
                | Self::ExecutableMemory
        )
    }

    /// Returns its word in the store, on D-Bus and in JSON.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ReadOnlyPath(_) => "read-only-path",
            Self::HiddenPath(_) => "hidden-path",
            Self::NoExecPath(_) => "noexec-path",
            Self::SetIdProgram(_) => "set-id-program",
            Self::Device { .. } => "device",
            Self::Capability { .. } => "capability",
            Self::UserNamespace => "user-namespace",
            Self::ExecutableMemory => "executable-memory",
            Self::Address(_) => "address",
            Self::AddressFamily(_) => "address-family",
            Self::Namespaces(_) => "namespaces",
            Self::SetIdMode => "set-id-mode",
            Self::Scheduling(_) => "scheduling",
            Self::Personality(_) => "personality",
        }
    }

    /// Returns the path, if it is about one.
    #[must_use]
    pub fn path(&self) -> Option<&AccessPath> {
        match self {
            Self::ReadOnlyPath(path)
            | Self::HiddenPath(path)
            | Self::NoExecPath(path)
            | Self::SetIdProgram(path)
            | Self::Device { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Returns all that the kind and the path do not tell, in words: `char 10:229 rw` of a device, `CAP_CHOWN bounding`
    /// of a capability, the address, or the number of the family or the like; empty if there is nothing to tell.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Device { node, wanted, .. } => format!("{node} {wanted}"),
            Self::Capability { capability, lack } => format!("{capability} {}", lack.as_str()),
            Self::Address(address) => address.to_string(),
            Self::AddressFamily(family) => family.to_string(),
            Self::Namespaces(flags) => format_hex(*flags),
            Self::Scheduling(policy) => policy.to_string(),
            Self::Personality(domain) => format_hex(*domain),
            _ => String::new(),
        }
    }

    /// Returns the access with this kind, path and detail; `None` if they do not belong together.
    #[must_use]
    pub fn from_parts(kind: &str, path: &[u8], detail: &str) -> Option<Self> {
        let with_path = |make: fn(AccessPath) -> Self| detail.is_empty().then(|| make(AccessPath::new(path)));
        let bare = |access: Self| (path.is_empty() && detail.is_empty()).then_some(access);
        match kind {
            "read-only-path" => with_path(Self::ReadOnlyPath),
            "hidden-path" => with_path(Self::HiddenPath),
            "noexec-path" => with_path(Self::NoExecPath),
            "set-id-program" => with_path(Self::SetIdProgram),
            "device" => {
                let (node, wanted) = detail.rsplit_once(' ')?;
                Some(Self::Device {
                    path: AccessPath::new(path),
                    node: node.parse().ok()?,
                    wanted: wanted.parse().ok()?,
                })
            }
            "capability" if path.is_empty() => {
                let (capability, lack) = detail.split_once(' ')?;
                Some(Self::Capability { capability: capability.parse().ok()?, lack: CapabilityLack::from_word(lack)? })
            }
            "user-namespace" => bare(Self::UserNamespace),
            "executable-memory" => bare(Self::ExecutableMemory),
            "address" if path.is_empty() => detail.parse().ok().map(Self::Address),
            "address-family" if path.is_empty() => detail.parse().ok().map(Self::AddressFamily),
            "namespaces" if path.is_empty() => parse_hex(detail).map(Self::Namespaces),
            "set-id-mode" => bare(Self::SetIdMode),
            "scheduling" if path.is_empty() => detail.parse().ok().map(Self::Scheduling),
            "personality" if path.is_empty() => parse_hex(detail).map(Self::Personality),
            _ => None,
        }
    }
}

fn format_hex(number: u32) -> String {
    format!("{number:#x}")
}

fn parse_hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

impl CapabilityLack {
    /// Returns its word in the detail of a capability.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotInBoundingSet => "bounding",
            Self::NotEffective => "effective",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::NotInBoundingSet, Self::NotEffective].into_iter().find(|lack| lack.as_str() == word)
    }
}

/// The error for text that names no device, or no access to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither a device nor an access to one")]
pub struct UnknownDevice;

/// Prints a device as `char 10:229`.
impl fmt::Display for DeviceNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:{}", if self.is_block { "block" } else { "char" }, self.major, self.minor)
    }
}

/// Parses the output of [`Display`](fmt::Display).
impl FromStr for DeviceNode {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let parse = || {
            let (kind, numbers) = text.split_once(' ')?;
            let is_block = match kind {
                "block" => true,
                "char" => false,
                _ => return None,
            };
            let (major, minor) = numbers.split_once(':')?;
            Some(Self { is_block, major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        parse().ok_or(UnknownDevice)
    }
}

/// Prints the letters of `DeviceAllow=`; `-` for none.
impl fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(self.read, "r"), (self.write, "w"), (self.make, "m")];
        let text: String = letters.into_iter().filter_map(|(is_set, letter)| is_set.then_some(letter)).collect();
        f.write_str(if text.is_empty() { "-" } else { &text })
    }
}

/// Parses the letters of `DeviceAllow=`, or `-`.
impl FromStr for DeviceAccess {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let mut access = Self::default();
        for letter in text.chars().filter(|_| text != "-") {
            match letter {
                'r' => access.read = true,
                'w' => access.write = true,
                'm' => access.make = true,
                _ => return Err(UnknownDevice),
            }
        }
        Ok(access)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> AccessPath {
        AccessPath::new(text.as_bytes())
    }

    #[test]
    fn every_access_is_read_back_from_its_parts() {
        let node = DeviceNode { is_block: false, major: 10, minor: 229 };
        let wanted = DeviceAccess { read: true, write: true, make: false };
        let all = [
            Access::ReadOnlyPath(path("/var/lib/x")),
            Access::HiddenPath(path("/home/a b")),
            Access::HiddenPath(path("")),
            Access::NoExecPath(path("/srv/x")),
            Access::SetIdProgram(path("/usr/sbin/postdrop")),
            Access::Device { path: path("/dev/fuse"), node, wanted },
            Access::Device { path: path("/dev/fuse"), node, wanted: DeviceAccess::default() },
            Access::Capability { capability: Capability::new(10), lack: CapabilityLack::NotInBoundingSet },
            Access::Capability { capability: Capability::new(99), lack: CapabilityLack::NotEffective },
            Access::UserNamespace,
            Access::ExecutableMemory,
            Access::Address("[::1]:80".parse().unwrap()),
            Access::AddressFamily(16),
            Access::Namespaces(0x1000_0000),
            Access::Namespaces(0),
            Access::SetIdMode,
            Access::Scheduling(1),
            Access::Personality(0x0002_0000),
        ];
        for access in all {
            let bytes = access.path().map(AccessPath::as_bytes).unwrap_or_default();
            assert_eq!(Access::from_parts(access.kind(), bytes, &access.detail()), Some(access.clone()), "{access:?}");
        }
    }

    #[test]
    fn parts_that_do_not_belong_together_are_no_access() {
        for (kind, path, detail) in [
            ("read-only-path", "/x", "rw"),
            ("device", "/x", "char 1:2"),
            ("device", "/x", "pipe 1:2 r"),
            ("capability", "", "CAP_CHOWN"),
            ("capability", "/x", "CAP_CHOWN bounding"),
            ("user-namespace", "/x", ""),
            ("address", "", "localhost:80"),
            ("unknown", "", ""),
        ] {
            assert_eq!(Access::from_parts(kind, path.as_bytes(), detail), None, "{kind} {path} {detail}");
        }
    }

    #[test]
    fn path_is_cut_at_nul_and_at_its_limit() {
        assert_eq!(path("/a\0b").as_bytes(), b"/a");
        assert_eq!(AccessPath::new(&vec![b'x'; 5000]).as_bytes().len(), AccessPath::MOST);
    }

    proptest! {
        #[test]
        fn any_parts_are_read(kind in "read-only-path|device|capability|address|.{0,9}", path: Vec<u8>, detail in ".{0,20}") {
            if let Some(access) = Access::from_parts(&kind, &path, &detail) {
                prop_assert_eq!(access.kind(), kind);
                prop_assert!(access.path().is_none_or(|path| !path.as_bytes().contains(&0)));
            }
        }
    }
}
