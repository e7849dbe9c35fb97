//! Where this Pi is at home: the address that the internet sees, and the router in between.
//!
//! [`watch`] looks again and again: it asks the [`router`] and outside [`services`], and
//! [`address`] decides what to believe.

pub(crate) mod address;
pub(crate) mod route;
pub(crate) mod router;
pub(crate) mod services;
pub mod upnp;
pub(crate) mod watch;

/// For tests: a router's socket for the searches of `UPnP`, and one for NAT-PMP. No other test has
/// their loopback address, also not one of another run at the same time.
#[cfg(test)]
fn router_sockets() -> (std::net::Ipv4Addr, std::net::UdpSocket, std::net::UdpSocket) {
    for number in 1..=u16::MAX {
        let [high, low] = number.to_be_bytes();
        let address = std::net::Ipv4Addr::new(127, 53, high, low);
        let upnp = std::net::UdpSocket::bind((address, 1900));
        let nat_pmp = std::net::UdpSocket::bind((address, 5351));
        if let (Ok(upnp), Ok(nat_pmp)) = (upnp, nat_pmp) {
            return (address, upnp, nat_pmp);
        }
    }
    panic!("no loopback address has the ports 1900 and 5351 free");
}
