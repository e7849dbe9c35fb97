//! The values of single settings. Errors say what is wrong, in words that continue the setting's
//! name.

use std::net::SocketAddr;

use super::file::Table;
use super::settings::Delivery;
use crate::network::{self, Network};

/// The only ports that Telegram calls.
const TELEGRAMS_PORTS: [u16; 4] = [443, 80, 88, 8443];
/// What is wrong with a public address to listen at when TLS ends elsewhere.
pub(crate) const PLAIN_NEEDS_PRIVATE: &str = "must be 127.0.0.1 or a private address when tls = \"off\", because the traffic is not encrypted";

pub(super) fn delivery(text: &str) -> Result<Delivery, String> {
    match text {
        "auto" => Ok(Delivery::Auto),
        "webhook" => Ok(Delivery::Webhook),
        "polling" => Ok(Delivery::Polling),
        _ => Err("must be \"auto\", \"webhook\" or \"polling\"".into()),
    }
}

pub(super) fn tls(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be \"on\" or \"off\"".into()),
    }
}

pub(super) fn public_port(table: &mut Table, default: u16, own_api: bool) -> u16 {
    let port = table.number("public_port", default, 1..=65535);
    if !own_api && !TELEGRAMS_PORTS.contains(&port) {
        table.problem(
            "public_port",
            "must be 443, 80, 88 or 8443: Telegram calls no other port",
        );
    }
    port
}

pub(super) fn listen(text: &str, tls: bool) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "must be an address and a port, like 0.0.0.0:8443")?;
    if tls || network::is_private(address.ip()) {
        Ok(address)
    } else {
        Err(PLAIN_NEEDS_PRIVATE.into())
    }
}

pub(super) fn address_service(url: &str, own_api: bool) -> Result<String, String> {
    let is_plain = url
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"@#".contains(&byte));
    match url.split_once("://") {
        Some(("https", rest)) if is_plain && !rest.is_empty() => Ok(url.to_owned()),
        // Without TLS only for a network that has no internet, and so its own Bot API server.
        Some(("http", rest)) if is_plain && !rest.is_empty() && own_api => Ok(url.to_owned()),
        _ => Err("must hold URLs like https://api.ipify.org".into()),
    }
}

pub(super) fn network(text: &str) -> Result<Network, String> {
    text.parse()
        .map_err(|what| format!("has {text:?}, which {what}"))
}

/// Whether the router is asked: `auto` or `off`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn port_mapping(text: &str) -> Result<bool, String> {
    match text {
        "auto" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be \"auto\" or \"off\"".into()),
    }
}
