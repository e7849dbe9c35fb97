//! Address blocks such as `149.154.160.0/20`, and the kinds of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// A block of addresses, IPv4 or IPv6, written `ADDRESS/PREFIX` or as one plain address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Whether `peer` lies in this block. A dual-stack socket reports `::ffff:149.154.167.1` where
    /// an IPv4 socket reports 149.154.167.1: both forms of an address lie in the same blocks.
    pub(crate) fn contains(&self, peer: IpAddr) -> bool {
        let canonical = peer.to_canonical();
        let mapped = match canonical {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
            IpAddr::V6(_) => canonical,
        };
        self.0.contains(&canonical) || self.0.contains(&mapped)
    }

    /// Whether this is everyone: `0.0.0.0/0` or `::/0`.
    pub(crate) fn is_everyone(&self) -> bool {
        self.contains(Ipv4Addr::UNSPECIFIED.into()) && self.contains(Ipv4Addr::BROADCAST.into())
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, has_prefix) = match text.split_once('/') {
            Some((address, _)) => (address, true),
            None => (text, false),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return Err("is not an IP address");
        };
        if !has_prefix {
            return Ok(Self(address.into()));
        }

        let Ok(network) = text.parse::<IpNet>() else {
            return Err("has a wrong number after the /: use 0 to 32, or 0 to 128 with IPv6");
        };
        if network.network() != address {
            return Err(
                "is not the first address of its network: write 10.0.0.0/8, not 10.0.0.1/8",
            );
        }
        Ok(Self(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether Telegram refuses to call this address: the blocks of `IPAddress::is_reserved` in
/// tdlib/td, `tdutils/td/utils/port/IPAddress.cpp`.
pub(crate) fn is_reserved(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    match (a, b) {
        (0 | 10 | 127 | 224..=255, _)
        | (169, 254)
        | (192, 168)
        | (100, 64..=127)
        | (172, 16..=31)
        | (198, 18 | 19) => true,
        (192, 0) => c == 0 || c == 2,
        (192, 88) => c == 99,
        (198, 51) => c == 100,
        (203, 0) => c == 113,
        _ => false,
    }
}

/// Whether this is an address of this machine alone, or of a home's own network.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_those_of_this_machine_and_a_home_network() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "192.168.1.5",
            "10.0.0.1",
            "172.17.0.1",
            "169.254.1.1",
            "::1",
            "fd00::1",
        ] {
            assert!(is_private(text.parse().unwrap()), "{text}");
        }
        for text in [
            "0.0.0.0",
            "::",
            "80.100.95.20",
            "100.64.0.1",
            "172.32.0.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!is_private(text.parse().unwrap()), "{text}");
        }
    }

    fn holds(network: &str, peer: &str) -> bool {
        network
            .parse::<Network>()
            .unwrap()
            .contains(peer.parse().unwrap())
    }

    #[test]
    fn a_network_contains_its_first_and_last_address_and_no_other() {
        for edge in ["91.108.4.0", "91.108.7.255", "::ffff:91.108.4.1"] {
            assert!(holds("91.108.4.0/22", edge), "{edge}");
        }
        for outside in ["91.108.3.255", "91.108.8.0", "::1", "::5b6c:0401"] {
            assert!(!holds("91.108.4.0/22", outside), "{outside}");
        }
        assert!(holds("0.0.0.0/0", "8.8.8.8") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("::/0", "8.8.8.8") && holds("2001:db8::/32", "2001:db8::7"));
    }

    #[test]
    fn everyone_is_no_large_network() {
        let everyone = |text: &str| text.parse::<Network>().unwrap().is_everyone();
        assert!(everyone("0.0.0.0/0") && everyone("::/0"));
        assert!(
            !everyone("0.0.0.0/1")
                && !everyone("127.0.0.0/8")
                && !everyone("2000::/3")
                && !everyone("::1")
        );
    }

    #[test]
    fn a_text_that_is_no_network_is_refused() {
        for text in [
            "",
            "telegram",
            "1.2.3.4/33",
            "1.2.3.4/-1",
            "10.0.0.1/8",
            "::1/129",
            "1.2.3/8",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        assert_eq!(
            "149.154.160.0/20".parse::<Network>().unwrap().to_string(),
            "149.154.160.0/20"
        );
        assert_eq!("::1".parse::<Network>().unwrap().to_string(), "::1/128");
    }

    #[test]
    fn reserved_addresses_are_those_that_telegram_refuses_to_call() {
        for text in [
            "192.168.1.5",
            "10.0.0.1",
            "100.64.0.1",
            "172.31.255.255",
            "203.0.113.7",
            "240.0.0.1",
        ] {
            assert!(is_reserved(text.parse().unwrap()), "{text}");
        }
        for text in [
            "80.100.95.20",
            "100.63.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
        ] {
            assert!(!is_reserved(text.parse().unwrap()), "{text}");
        }
    }
}
