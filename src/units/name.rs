//! The identity of a unit: its manager and its name (`systemd.unit(5)`).

use crate::audit::text::quote_arguments;
use std::fmt;
use std::str::FromStr;

/// A valid unit name: at most 255 bytes of systemd's alphabet with a known suffix. Display, storage and paths need
/// no escaped form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitName(Box<str>);

/// The suffixes of unit names.
pub(crate) const SUFFIXES: [&str; 11] =
    ["service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"];

/// Why a text is not a unit name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUnitName {
    /// The text has nothing before the suffix.
    #[error("a unit name needs something before its suffix")]
    Empty,
    /// The text has more than 255 bytes.
    #[error("a unit name has at most 255 characters")]
    TooLong,
    /// The text has a character outside systemd's alphabet.
    #[error("a unit name holds only letters, digits and :-_.\\@, not {0:?}")]
    Character(char),
    /// The text ends in none of the [`SUFFIXES`].
    #[error("a unit name ends in .service, .socket, .scope or another unit type")]
    Suffix,
}

/// The parts of a unit name. systemd splits it at the first `@` (`unit_name_is_valid` in `src/basic/unit-name.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameParts<'a> {
    /// The part before the instance, or before the suffix.
    pub(crate) prefix: &'a str,
    /// Empty for a template, `None` for a name without `@`.
    pub(crate) instance: Option<&'a str>,
    /// The part after the last dot.
    pub(crate) suffix: &'a str,
}

impl<'a> NameParts<'a> {
    /// Splits a valid name.
    pub(crate) fn split(name: &'a str) -> Self {
        let (stem, suffix) = name.rsplit_once('.').unwrap_or((name, ""));
        match stem.split_once('@') {
            Some((prefix, instance)) => Self { prefix, instance: Some(instance), suffix },
            None => Self { prefix: stem, instance: None, suffix },
        }
    }

    /// Returns the template's name if these are the parts of an instance.
    pub(crate) fn template(self) -> Option<String> {
        self.instance.filter(|instance| !instance.is_empty()).map(|_| format!("{}@.{}", self.prefix, self.suffix))
    }
}

impl UnitName {
    /// The name as systemd writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as the last argument of a command, as a shell takes it: `-- -.mount`, `'a\x2db.mount'`.
    #[must_use]
    pub fn to_argument(&self) -> String {
        quote_arguments([self.as_str()])
    }

    /// The part after the last dot, for example `service`.
    #[must_use]
    pub fn suffix(&self) -> &str {
        NameParts::split(&self.0).suffix
    }

    /// Whether the name is that of a template. systemd only runs instances of templates.
    #[must_use]
    pub fn is_template(&self) -> bool {
        NameParts::split(&self.0).instance == Some("")
    }

    /// Returns the template's name if this is the name of an instance: `getty@.service` for `getty@tty1.service`.
    #[must_use]
    pub fn template_name(&self) -> Option<Self> {
        NameParts::split(&self.0).template().map(|name| Self(name.into()))
    }

    /// Whether the name is that of an instance which systemd starts for one connection to a socket with `Accept=yes`: its
    /// instance is a number and the two ends of the connection (`instance_from_socket` in `src/core/socket.c`).
    #[must_use]
    pub fn is_per_connection(&self) -> bool {
        let NameParts { instance: Some(instance), suffix: "service", .. } = NameParts::split(&self.0) else {
            return false;
        };
        let Some((number, ends)) = instance.split_once('-') else { return false };
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // Of a local socket, the ends are pid and uid; systemd 257 puts the pidfd's number behind the pid.
        let is_local = |(pid, uid): (&str, &str)| pid.split('_').all(is_number) && is_number(uid);
        // Of the network, each end is an address and a port.
        let is_address = |end: &str| end.rsplit_once(':').is_some_and(|(_, port)| is_number(port));
        let is_remote = |(here, there): (&str, &str)| is_address(here) && is_address(there);
        let is_ends = |pair| is_local(pair) || is_remote(pair);
        is_number(number) && (ends == "unknown" || ends.split_once('-').is_some_and(is_ends))
    }

    /// Parses a name as a person types it. A name without a suffix means a service.
    ///
    /// # Errors
    /// The text is not a unit name.
    pub fn from_user(name: &str) -> Result<Self, BadUnitName> {
        let has_suffix = name.rsplit_once('.').is_some_and(|(_, suffix)| SUFFIXES.contains(&suffix));
        if has_suffix { name.parse() } else { format!("{name}.service").parse() }
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

    /// Returns a command of `systemctl` for this manager, for example `systemctl --user daemon-reload`.
    #[must_use]
    pub(crate) fn systemctl(self, arguments: &str) -> String {
        format!("systemctl {}{arguments}", self.option())
    }

    /// The uid of [`Manager::User`] if a log gives only the user's name: the kernel's "no uid", which no process has.
    pub const SOME_USER: u32 = u32::MAX;
}

/// The stable form for the database, JSON and D-Bus: `system` or `user:UID`.
impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::User(uid) => write!(f, "user:{uid}"),
        }
    }
}

/// The text names no manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a manager is `system` or `user:` and a uid")]
pub struct BadManager;

impl FromStr for Manager {
    type Err = BadManager;

    /// Parses exactly the text that [`Display`](fmt::Display) writes.
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
    /// The manager that runs the unit.
    pub manager: Manager,
    /// The unit's name under that manager.
    pub name: UnitName,
}

impl Unit {
    /// Returns the last arguments of a command of `harden-why` for this unit: the option of its manager, and its name.
    #[must_use]
    pub(crate) fn to_arguments(&self) -> String {
        format!("{}{}", self.manager.option(), self.name.to_argument())
    }

    /// Returns a command of `systemctl` for this unit, for example `systemctl --user restart a.service`.
    #[must_use]
    pub(crate) fn systemctl(&self, verb: &str) -> String {
        self.manager.systemctl(&format!("{verb} {}", self.name.to_argument()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_without_suffix_means_a_service() {
        assert_eq!(UnitName::from_user("remote-ssh-agent").unwrap().as_str(), "remote-ssh-agent.service");
        assert_eq!(UnitName::from_user("run-u12.scope").unwrap().as_str(), "run-u12.scope");
        assert_eq!(UnitName::from_user("dbus-org.foo").unwrap().as_str(), "dbus-org.foo.service");
    }

    #[test]
    fn arguments_reach_a_command_whole() {
        let unit = |name: &str| Unit { manager: Manager::System, name: name.parse().unwrap() };
        for (name, argument) in [
            ("nginx.service", "nginx.service"),
            ("mnt-my\\x2dbackup.mount", "'mnt-my\\x2dbackup.mount'"),
            ("-.mount", "-- -.mount"),
            ("-a\\x2d.mount", "-- '-a\\x2d.mount'"),
        ] {
            assert_eq!(unit(name).to_arguments(), argument);
        }
        let own = Unit { manager: Manager::User(7), ..unit("-.slice") };
        assert_eq!(own.to_arguments(), "--user -- -.slice");
        assert_eq!(own.systemctl("restart"), "systemctl --user restart -- -.slice");
    }

    #[test]
    fn instance_for_one_connection_is_known_by_its_name() {
        let is = |name: &str| name.parse::<UnitName>().unwrap().is_per_connection();
        for name in [
            "echo@0-11471-0.service",
            "echo@12-1.2.3.4:22-5.6.7.8:50000.service",
            "echo@12-::1:22-fe80::1:50000.service",
            "echo@3-unknown.service",
            "echo@3-11471_42-1000.service",
        ] {
            assert!(is(name), "{name}");
        }
        for name in ["echo@web.service", "echo@.service", "echo@1.service", "pg@15-main.service", "a@1-2-3.socket"] {
            assert!(!is(name), "{name}");
        }
    }

    #[test]
    fn invalid_unit_name_gives_the_reason() {
        assert_eq!(UnitName::from_user("a b"), Err(BadUnitName::Character(' ')));
        assert_eq!(UnitName::from_user("../etc"), Err(BadUnitName::Character('/')));
        assert_eq!(UnitName::from_user(""), Err(BadUnitName::Empty));
        assert_eq!(UnitName::from_user(&"a".repeat(250)), Err(BadUnitName::TooLong));
        assert_eq!("x.conf".parse::<UnitName>(), Err(BadUnitName::Suffix));
    }

    #[test]
    fn manager_parses_from_its_display_form_only() {
        for manager in [Manager::System, Manager::User(0), Manager::User(1000), Manager::User(u32::MAX)] {
            assert_eq!(manager.to_string().parse(), Ok(manager));
        }
        for bad in ["", "System", "user", "user:", "user:-1", "user:+1", "user:01", "user: 1", "user:4294967296"] {
            assert_eq!(bad.parse::<Manager>(), Err(BadManager), "{bad}");
        }
    }

    #[test]
    fn name_is_split_at_its_first_at_sign() {
        for (name, template) in [
            ("postfix@-.service", Some("postfix@.service")),
            ("a@b@.service", Some("a@.service")),
            ("foo@.bar.service", Some("foo@.service")),
            ("ssh.service", None),
            ("postfix@.service", None),
        ] {
            let name: UnitName = name.parse().unwrap();
            assert_eq!(name.template_name().as_ref().map(UnitName::as_str), template, "{name}");
            assert_eq!(name.is_template(), name.as_str() == "postfix@.service", "{name}");
        }
    }
}
