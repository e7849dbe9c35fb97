//! The host that Telegram calls, and what people write in its place.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::network;

/// Where Telegram calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublicHost {
    /// An IPv4 address or a DNS name, in lower case.
    Given(String),
    /// The home's address, which the bot finds out and follows.
    Auto,
}

impl PublicHost {
    /// The host of the settings, if they name one. It is empty where they name a wrong one.
    pub(crate) fn given(&self) -> Option<&str> {
        match self {
            Self::Given(host) if !host.is_empty() => Some(host),
            _ => None,
        }
    }

    /// The address of the settings, if they name one.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.given()?.parse().ok()
    }
}

impl fmt::Display for PublicHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(host) => f.write_str(host),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// Ends of names that work only in a home network: by its router, or by multicast DNS.
const HOME_ENDS: [&str; 9] = [
    "local",
    "lan",
    "home",
    "localdomain",
    "localhost",
    "internal",
    "home.arpa",
    "intranet",
    "invalid",
];

/// A host that Telegram can call; a Bot API server of one's own calls private addresses and names,
/// too.
///
/// # Errors
/// What is wrong with it; the text continues the setting's name.
pub(crate) fn public_host(host: &str, own_api: bool) -> Result<PublicHost, String> {
    let host = host.trim().to_lowercase();
    if host == "auto" {
        return Ok(PublicHost::Auto);
    }
    match host.parse::<Ipv4Addr>() {
        Ok(address) if network::is_reserved(address) && !own_api => Err(format!(
            "{host} is a private or reserved address, which Telegram cannot reach: set your public address"
        )),
        Ok(_) => Ok(PublicHost::Given(host)),
        Err(_) => {
            check_name(&host, own_api)?;
            Ok(PublicHost::Given(host))
        }
    }
}

/// Checks that a host that is not an IPv4 address is a name on the internet.
fn check_name(host: &str, own_api: bool) -> Result<(), String> {
    let labels: Vec<_> = host.split('.').collect();
    let is_of_label = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_of_address = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    let what = match host {
        "" => "is empty: set your public IPv4 address, your DNS name, or \"auto\"",
        _ if host.contains("://") || host.contains('/') => {
            "is a URL: write only the name or the address, without https:// and /"
        }
        _ if host.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_ok() => {
            "is an IPv6 address, but Telegram calls only IPv4: set your IPv4 address, or \"auto\""
        }
        _ if has_port(host) => "has a port at the end: remove the port, and set public_port",
        _ if host.bytes().all(is_of_address) => {
            "is not an IPv4 address: write four numbers from 0 to 255, like 80.100.95.20"
        }
        _ if !host.is_ascii() => {
            "has letters that DNS does not allow: write a name like пример.рф in its xn-- form"
        }
        _ if host.len() > 253 || labels.iter().any(|label| label.len() > 63) => {
            "is too long: a DNS name has at most 253 characters, and at most 63 between two dots"
        }
        _ if labels.contains(&"") => {
            "is not a DNS name: there is a dot at the start or the end, or two dots together"
        }
        _ if !labels.iter().all(|label| label.bytes().all(is_of_label)) => {
            "must be an IPv4 address or a DNS name with only letters, digits, - and dots"
        }
        _ if !own_api && is_home_name(host) => {
            "is a name that works only in your home network: set your public address or DNS name, or \"auto\""
        }
        _ if !own_api && labels.len() == 1 => {
            "has no dot, so it is not a name on the internet: set the full name, the IPv4 address, or \"auto\""
        }
        _ => return Ok(()),
    };
    Err(what.into())
}

fn has_port(host: &str) -> bool {
    let Some((_, port)) = host.rsplit_once(':') else {
        return false;
    };
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a name works only in a home network.
fn is_home_name(host: &str) -> bool {
    for end in HOME_ENDS {
        if host == end || host.ends_with(&format!(".{end}")) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_host_that_telegram_cannot_call_is_refused_with_a_reason() {
        for (host, words) in [
            ("", "is empty"),
            ("raspberrypi.local", "only in your home network"),
            ("localhost", "only in your home network"),
            ("pi.fritz.home.arpa", "only in your home network"),
            ("PI.LAN", "only in your home network"),
            ("my_pi", "has no dot"),
            ("192.168.1.5", "private or reserved"),
            ("https://pi.example.org", "is a URL"),
            ("pi.example.org/hook", "is a URL"),
            ("pi.example.org:8443", "has a port"),
            ("80.100.95.20:8443", "has a port"),
            ("80.100.95.256", "four numbers from 0 to 255"),
            ("80.100.95", "four numbers from 0 to 255"),
            ("2001:db8::1", "IPv6"),
            ("[::1]", "IPv6"),
            ("a..b", "two dots together"),
            (".a.b", "two dots together"),
            ("a b.c", "letters, digits"),
            ("пример.рф", "xn--"),
            (&format!("{}.org", "a".repeat(64)), "too long"),
        ] {
            let what = public_host(host, false).unwrap_err();
            assert!(what.contains(words), "{host}: {what}");
        }
        for host in ["localhost", "my_pi", "192.168.1.5", "pi.local"] {
            assert_eq!(public_host(host, true), Ok(PublicHost::Given(host.into())));
        }
        assert_eq!(
            public_host(" Pi.Example.org ", false),
            Ok(PublicHost::Given("pi.example.org".into()))
        );
        assert_eq!(public_host("AUTO", false), Ok(PublicHost::Auto));
    }
}
