//! The address of a D-Bus bus.

use std::fmt;
use std::str::FromStr;

use zbus::connection;

/// A D-Bus bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusAddress {
    /// The system bus.
    System,
    /// The session bus.
    Session,
    /// A bus at an address of the D-Bus specification, e.g. `unix:path=/run/test/bus`.
    Address(String),
}

/// The error for a text that names no bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a bus is system, session or an address like unix:path=/run/dbus/system_bus_socket")]
pub struct BadBusAddress;

impl FromStr for BusAddress {
    type Err = BadBusAddress;

    fn from_str(text: &str) -> Result<Self, BadBusAddress> {
        match text {
            "system" => Ok(Self::System),
            "session" => Ok(Self::Session),
            address => match zbus::Address::from_str(address) {
                Ok(_) => Ok(Self::Address(address.to_owned())),
                Err(_) => Err(BadBusAddress),
            },
        }
    }
}

impl fmt::Display for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "system",
            Self::Session => "session",
            Self::Address(address) => address,
        })
    }
}

impl BusAddress {
    /// A builder for a connection to the bus.
    pub fn builder(&self) -> connection::Builder<'_> {
        match self {
            Self::System => connection::Builder::system(),
            Self::Session => connection::Builder::session(),
            Self::Address(address) => connection::Builder::address(address.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bus_is_parsed_from_name_or_address() {
        assert_eq!("system".parse(), Ok(BusAddress::System));
        assert_eq!("session".parse(), Ok(BusAddress::Session));
        let address = "unix:path=/run/test/bus";
        assert_eq!(address.parse(), Ok(BusAddress::Address(address.to_owned())));
        assert_eq!("starter".parse::<BusAddress>(), Err(BadBusAddress));
    }
}
