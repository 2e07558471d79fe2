//! Which ports and addresses a unit can use (`SocketBindAllow=`, `IPAddressAllow=` and their opposites), as systemd's BPF
//! programs decide.

use super::sandbox_settings::{SandboxSettings, SandboxWord};
use super::withheld::{Withheld, withheld};
use crate::policy::directive::Directive;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Returns the words that refuse a socket to bind to an address.
pub(super) fn bind_causes(sandbox: &SandboxSettings, address: SocketAddr) -> Vec<(SandboxWord, Withheld)> {
    let matching = |directive| sandbox.entries(directive).iter().find(|word| matches_port(&word.text, address));
    if matching(Directive::SocketBindAllow).is_some() {
        return Vec::new();
    }
    let denying = matching(Directive::SocketBindDeny).cloned();
    denying.into_iter().map(|word| (word, withheld("denies ", ""))).collect()
}

/// Returns the address that packets to an address have: an IPv4 address in IPv6 form is sent as IPv4, and the
/// unspecified address reaches this machine.
#[must_use]
pub fn reached_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// Returns the words that refuse traffic with an address.
pub(super) fn traffic_causes(sandbox: &SandboxSettings, address: IpAddr) -> Vec<(SandboxWord, Withheld)> {
    let address = reached_address(address);
    let matching = |directive| sandbox.entries(directive).iter().find(|word| matches_address(&word.text, address));
    if matching(Directive::IPAddressAllow).is_some() {
        return Vec::new();
    }
    let denying = matching(Directive::IPAddressDeny).cloned();
    denying.into_iter().map(|word| (word, withheld("denies ", ""))).collect()
}

/// Whether `FAMILY:PROTOCOL:PORTS` is about an address. The protocol of a refused socket is not known.
fn matches_port(entry: &str, address: SocketAddr) -> bool {
    // `ipv4:any` is every port of the family (`parse_ip_ports_token`).
    let words: Vec<&str> = entry.split(':').filter(|word| *word != "any").collect();
    let is_other_family = |word: &&str| matches!((*word, address.is_ipv4()), ("ipv4", false) | ("ipv6", true));
    if words.iter().any(is_other_family) {
        return false;
    }
    let port = words.into_iter().find(|word| !matches!(*word, "ipv4" | "ipv6" | "tcp" | "udp"));
    match port.map(|port| port.split_once('-').unwrap_or((port, port))) {
        None => true,
        Some((first, last)) => match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&address.port()),
            _ => false,
        },
    }
}

/// Whether `ADDRESS/PREFIX`, or one of systemd's names for networks, holds an address.
fn matches_address(entry: &str, address: IpAddr) -> bool {
    match entry {
        "any" => return true,
        "localhost" => return address.is_loopback(),
        "multicast" => return address.is_multicast(),
        "link-local" => {
            return match address {
                IpAddr::V4(address) => address.is_link_local(),
                IpAddr::V6(address) => address.is_unicast_link_local(),
            };
        }
        _ => {}
    }
    let (network, length) =
        entry.split_once('/').map_or((entry, None), |(network, length)| (network, length.parse().ok()));
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32_u32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let Ok(network) = network.parse::<IpAddr>() else { return false };
    let ((network, width), (address, other)) = (bits(network), bits(address));
    let ignored = 128 - length.unwrap_or(width).min(width);
    width == other && (ignored == 128 || network >> ignored == address >> ignored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_matches_ports_of_its_family() {
        let matches = |entry: &str, address: &str| matches_port(entry, address.parse().unwrap());
        assert!(matches("any", "1.2.3.4:80") && matches("80", "[::]:80") && matches("ipv4:tcp:70-90", "0.0.0.0:80"));
        assert!(!matches("ipv6:80", "0.0.0.0:80") && !matches("81-90", "0.0.0.0:80") && !matches("ipv6", "0.0.0.0:80"));
        assert!(matches("ipv4", "0.0.0.0:80") && matches("udp", "0.0.0.0:80"));
        assert!(
            matches("ipv4:any", "0.0.0.0:80") && matches("ipv6:tcp:any", "[::]:80") && matches("tcp:any", "[::]:1")
        );
        assert!(!matches("ipv6:any", "0.0.0.0:80"));
    }

    #[test]
    fn network_holds_addresses_of_its_prefix() {
        let matches = |entry: &str, address: &str| matches_address(entry, address.parse().unwrap());
        assert!(matches("10.0.0.0/8", "10.9.9.9") && !matches("10.0.0.0/8", "11.0.0.1"));
        assert!(matches("::/0", "fe80::1") && !matches("0.0.0.0/0", "::1") && matches("any", "::1"));
        assert!(matches("localhost", "127.0.0.2") && matches("link-local", "169.254.1.1"));
        assert!(matches("192.0.2.1", "192.0.2.1") && !matches("192.0.2.1", "192.0.2.2"));
    }
}
