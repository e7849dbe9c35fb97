//! The kernel's routes: which machine is the router, whether that has changed, and our own address
//! on the way to the router.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// The table of IPv4 routes. Below `self`, where a sandbox leaves it visible.
const ROUTES: &str = "/proc/self/net/route";
/// The flags of a route by way of a router, `RTF_UP` and `RTF_GATEWAY`.
const UP_GATEWAY: u16 = 3;
/// A connected UDP socket sends nothing, so that any port will do.
const DISCARD_PORT: u16 = 9;

/// The table as it is now, to be compared with a later one; empty where it cannot be read.
pub(crate) fn table() -> String {
    fs::read_to_string(ROUTES).unwrap_or_default()
}

/// The router of the default route in `table`; of several, the one with the lowest metric.
pub(crate) fn gateway(table: &str) -> Option<Ipv4Addr> {
    let routes = table.lines().skip(1).filter_map(default_route);
    let (_metric, gateway) = routes.min_by_key(|(metric, _)| *metric)?;
    Some(gateway)
}

/// Metric and gateway of a line, if it is a default route.
fn default_route(line: &str) -> Option<(u32, Ipv4Addr)> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [_, "00000000", gateway, flags, _, _, metric, "00000000", ..] = fields[..] else {
        return None;
    };
    if u16::from_str_radix(flags, 16).ok()? & UP_GATEWAY != UP_GATEWAY {
        return None;
    }

    let address = u32::from_str_radix(gateway, 16).ok()?;
    let metric = metric.parse().ok()?;
    // The kernel writes the number as it lies in memory.
    Some((metric, Ipv4Addr::from(address.to_ne_bytes())))
}

/// Our address on the way to the router.
///
/// # Errors
/// When there is no way.
pub(crate) fn local_address(router: Ipv4Addr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((router, DISCARD_PORT))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_is_the_gateway_of_the_cheapest_default_route() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                     eth0\t00000000\tFE01A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                     eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";
        let expected = if cfg!(target_endian = "little") {
            Some(Ipv4Addr::new(192, 168, 1, 254))
        } else {
            None
        };
        assert_eq!(
            gateway(table).filter(|_| cfg!(target_endian = "little")),
            expected
        );
        assert_eq!(gateway(""), None);
        assert_eq!(
            gateway("Iface\neth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"),
            None
        );
    }
}
