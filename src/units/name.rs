//! The identity of a unit: which manager runs it, and its name (`systemd.unit(5)`).

use std::fmt;
use std::str::FromStr;

/// A valid, fully instantiated unit name: at most 255 bytes of systemd's alphabet and a known
/// suffix, so it can be shown, stored and used in a path as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitName(Box<str>);

/// What a unit name may end in.
pub const SUFFIXES: [&str; 11] =
    ["service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"];

/// Why a name is no unit name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUnitName {
    /// Nothing before the suffix.
    #[error("a unit name needs something before its suffix")]
    Empty,
    /// Over 255 bytes.
    #[error("a unit name has at most 255 characters")]
    TooLong,
    /// A byte outside systemd's alphabet.
    #[error("a unit name holds only letters, digits and :-_.\\@, not {0:?}")]
    Character(char),
    /// Not one of [`SUFFIXES`].
    #[error("a unit name ends in .service, .socket, .scope or another unit type")]
    Suffix,
}

impl UnitName {
    /// The name as systemd writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the last dot, e.g. `service`.
    #[must_use]
    pub fn suffix(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, suffix)| suffix)
    }

    /// Whether it is a template, of which only instances run.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.0.rsplit_once('.').is_some_and(|(stem, _)| stem.ends_with('@'))
    }

    /// The template this is an instance of, e.g. `getty@.service` for `getty@tty1.service`.
    #[must_use]
    pub fn template(&self) -> Option<String> {
        let (stem, suffix) = self.0.rsplit_once('.')?;
        let (prefix, _) = stem.split_once('@')?;
        Some(format!("{prefix}@.{suffix}"))
    }

    /// A name as a person types it: without a suffix it means a service.
    ///
    /// # Errors
    /// Says what is wrong with the name.
    pub fn from_user(name: &str) -> Result<Self, BadUnitName> {
        let typed = name.rsplit_once('.').is_some_and(|(_, suffix)| SUFFIXES.contains(&suffix));
        if typed { name.parse() } else { format!("{name}.service").parse() }
    }
}

impl FromStr for UnitName {
    type Err = BadUnitName;

    fn from_str(name: &str) -> Result<Self, BadUnitName> {
        if let Some(bad) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !":-_.\\@".contains(*c)) {
            return Err(BadUnitName::Character(bad));
        }
        let (stem, suffix) = name.rsplit_once('.').ok_or(BadUnitName::Suffix)?;
        if !SUFFIXES.contains(&suffix) {
            return Err(BadUnitName::Suffix);
        }
        if stem.is_empty() || stem.starts_with('@') {
            return Err(BadUnitName::Empty);
        }
        if name.len() > 255 {
            return Err(BadUnitName::TooLong);
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The systemd instance that runs a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Manager {
    /// PID 1.
    System,
    /// The user manager of a uid.
    User(u32),
}

impl Manager {
    /// Returns the option of `systemctl` and `harden-why` that chooses this manager, with a space after it; empty for
    /// the system manager.
    #[must_use]
    pub(crate) fn option(self) -> &'static str {
        if self == Self::System { "" } else { "--user " }
    }

    /// The uid of [`Manager::User`] where only a log's name for the user is known: the kernel's own
    /// "no uid", which no process has.
    pub const SOME_USER: u32 = u32::MAX;
}

/// Its stable form, for the database, JSON and D-Bus: `system` or `user:UID`.
impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::User(uid) => write!(f, "user:{uid}"),
        }
    }
}

/// What is no manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a manager is `system` or `user:` and a uid")]
pub struct BadManager;

impl FromStr for Manager {
    type Err = BadManager;

    /// Takes what [`Display`](fmt::Display) writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, BadManager> {
        if text == "system" {
            return Ok(Self::System);
        }
        let uid = text.strip_prefix("user:").ok_or(BadManager)?;
        let manager = Self::User(uid.parse().map_err(|_| BadManager)?);
        if manager.to_string() == text { Ok(manager) } else { Err(BadManager) }
    }
}

/// A unit of one manager.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unit {
    /// Who runs it.
    pub manager: Manager,
    /// What it is called there.
    pub name: UnitName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_suffix_means_a_service() {
        assert_eq!(UnitName::from_user("remote-ssh-agent").unwrap().as_str(), "remote-ssh-agent.service");
        assert_eq!(UnitName::from_user("run-u12.scope").unwrap().as_str(), "run-u12.scope");
        assert_eq!(UnitName::from_user("dbus-org.foo").unwrap().as_str(), "dbus-org.foo.service");
    }

    #[test]
    fn what_is_no_unit_name_says_why() {
        assert_eq!(UnitName::from_user("a b"), Err(BadUnitName::Character(' ')));
        assert_eq!(UnitName::from_user("../etc"), Err(BadUnitName::Character('/')));
        assert_eq!(UnitName::from_user(""), Err(BadUnitName::Empty));
        assert_eq!(UnitName::from_user(&"a".repeat(250)), Err(BadUnitName::TooLong));
        assert_eq!("x.conf".parse::<UnitName>(), Err(BadUnitName::Suffix));
    }

    #[test]
    fn a_manager_survives_being_written_down() {
        for manager in [Manager::System, Manager::User(0), Manager::User(1000), Manager::User(u32::MAX)] {
            assert_eq!(manager.to_string().parse(), Ok(manager));
        }
        for bad in ["", "System", "user", "user:", "user:-1", "user:+1", "user:01", "user: 1", "user:4294967296"] {
            assert_eq!(bad.parse::<Manager>(), Err(BadManager), "{bad}");
        }
    }

    #[test]
    fn an_instance_knows_its_template() {
        let name: UnitName = "postfix@-.service".parse().unwrap();
        assert_eq!(name.template().as_deref(), Some("postfix@.service"));
        assert!(!name.is_template() && "postfix@.service".parse::<UnitName>().unwrap().is_template());
        assert_eq!("ssh.service".parse::<UnitName>().unwrap().template(), None);
    }
}
