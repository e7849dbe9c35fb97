//! The router, asked by PCP, NAT-PMP or `UPnP`.

use std::fmt;
use std::net::Ipv4Addr;

/// The router of this home.
#[derive(Default)]
pub struct Router {}

/// Why the router does not forward the port.
#[derive(Debug)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl Router {
    /// The router's own address on the internet's side, if it says one.
    pub fn address(&mut self, _gateway: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        None
    }

    /// Has the router forward its TCP port `public` to `local` here, or renews that.
    ///
    /// # Errors
    /// When no router does.
    pub fn forward(&mut self, _gateway: Option<Ipv4Addr>, _public: u16, _local: u16) -> Result<(), Error> {
        Err(Error("the router does not answer".into()))
    }

    /// Gives back what it was asked to forward.
    pub fn release(&mut self) {}
}
