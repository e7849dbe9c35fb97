//! The router: asked by PCP, by NAT-PMP, or by `UPnP`, the first that it answers.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use crab_nat::{
    InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp, pcp,
};
use tokio::runtime::{self, Runtime};

use super::address::kind;
use super::route;
use super::upnp::{FindError, Gateway, UpnpError};
use crate::network::is_reserved;
use crate::secret::printable;

/// A mapping outlives two looks that go wrong. Not much more: who was given another address at home
/// waits for its end.
const LEASE_INTERVALS: u32 = 3;
/// In seconds.
const DEFAULT_LEASE: u32 = 600;
/// In seconds. A router chooses the time, and what it grants for less than this is as good as
/// nothing: the port would be closed most of the time, or the router asked all the time.
const MIN_LEASE: u32 = 60;
/// A router that is there answers at once; a lost packet is sent again.
const TIMEOUTS: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_secs(1)),
};
/// Before a router that did not say its address is asked again.
const SILENT_RETRY_INTERVAL: Duration = Duration::from_secs(3600);

/// The router of this home.
pub(crate) struct Router {
    runtime: Runtime,
    /// Shows a router that we are the same as before, also after a restart.
    nonce: [u32; 3],
    /// What is asked for, in seconds.
    lease: u32,
    mapping: Option<Mapping>,
    /// A router that did not say its address, and when it was asked.
    silent: Option<(Ipv4Addr, Instant)>,
}

/// A port that is forwarded to here.
struct Mapping {
    router: Ipv4Addr,
    /// Our address, which a router can give to another machine.
    here: IpAddr,
    public: u16,
    protocol: MappingProtocol,
}

/// How the mapping is asked for.
enum MappingProtocol {
    /// PCP or NAT-PMP.
    Packets(PortMapping),
    Upnp(Gateway),
}

/// Why the router does not forward the port.
#[derive(Debug)]
pub(crate) enum RouterError {
    /// There is no default route.
    NoRouter,
    /// It speaks none of the three protocols, or not to us.
    Silent(u16),
    /// It answers, and cannot be asked all the same.
    Unclear(String, u16),
    /// It forwards the port elsewhere, or offers only another.
    Taken(String),
    /// It has no address to forward from, or only this one.
    NoAddress(Option<Ipv4Addr>),
    /// What it says.
    Refused(String),
}

impl fmt::Display for RouterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRouter => f.write_str("this machine has no route to a router: check the cable or the Wi-Fi"),
            Self::Silent(port) => write!(
                f,
                "the router does not answer by PCP, NAT-PMP or UPnP: switch one of them on in the router's settings, \
                 or forward port {port} there by hand"
            ),
            Self::Taken(by) => {
                write!(
                    f,
                    "the router already forwards the port to {by}: remove that forwarding in the router's \
                     settings, or set another public_port"
                )
            }
            Self::Unclear(why, port) => write!(
                f,
                "the router answers by UPnP, but {}: switch on port forwarding by UPnP in the router's settings, or \
                 forward port {port} there by hand",
                printable(why)
            ),
            Self::NoAddress(None) => f.write_str(
                "the router has no address of its own on the internet: it is not connected, or your provider shares \
                 one address among customers (CGNAT); check the connection, or ask the provider for a public IPv4 \
                 address",
            ),
            Self::NoAddress(Some(address)) => {
                write!(f, "the router's own address is {address}, which is not a public address: {}", kind(*address))
            }
            Self::Refused(why) => write!(
                f,
                "the router refused to forward the port: {}; forward the port by hand in the router's settings",
                printable(why)
            ),
        }
    }
}

impl std::error::Error for RouterError {}

impl From<UpnpError> for RouterError {
    fn from(error: UpnpError) -> Self {
        match error {
            UpnpError::Taken(by) => {
                Self::Taken(by.map_or("another machine".into(), |by| by.to_string()))
            }
            UpnpError::Refused(why) => Self::Refused(why),
        }
    }
}

impl Router {
    /// A router of which nothing is known yet. `nonce` is the same at each start; it is looked at
    /// in each `interval`.
    ///
    /// # Errors
    /// When the system has no more to give.
    pub(crate) fn new(nonce: [u32; 3], interval: Duration) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let lease = u32::try_from(interval.as_secs())
            .unwrap_or(DEFAULT_LEASE)
            .saturating_mul(LEASE_INTERVALS)
            .max(DEFAULT_LEASE);
        Ok(Self {
            runtime,
            nonce,
            lease,
            mapping: None,
            silent: None,
        })
    }

    /// The router's own address on the internet's side, if it says one. One that did not is asked
    /// again after an hour.
    pub(crate) fn address(&mut self, router: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let router = router?;
        match self
            .mapping
            .as_ref()
            .filter(|mapping| mapping.router == router)
            .map(|mapping| &mapping.protocol)
        {
            Some(MappingProtocol::Upnp(gateway)) => return gateway.address(),
            Some(MappingProtocol::Packets(mapping)) => {
                if let PortMappingType::Pcp {
                    external_ip: IpAddr::V4(address),
                    ..
                } = mapping.mapping_type()
                {
                    return Some(address);
                }
            }
            None => {}
        }
        if self.silent.is_some_and(|(silent, asked)| {
            silent == router && asked.elapsed() < SILENT_RETRY_INTERVAL
        }) {
            return None;
        }
        let address = self
            .natpmp_address(router)
            .or_else(|| Gateway::find(router).ok()?.address());
        self.silent = address.is_none().then(|| (router, Instant::now()));
        address
    }

    /// Has the router forward its TCP port `public` to `local` here, or renews that. Returns when
    /// to do so again at the latest.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn forward(
        &mut self,
        router: Option<Ipv4Addr>,
        public: u16,
        local: u16,
    ) -> Result<Duration, RouterError> {
        let router = router.ok_or(RouterError::NoRouter)?;
        let here = route::local_address(router).map_err(|_| RouterError::NoRouter)?;
        if self
            .mapping
            .as_ref()
            .is_some_and(|mapping| mapping.router != router || mapping.here != here)
        {
            self.release();
        }
        // A router that has forgotten us, or was restarted, is asked as at first.
        let renewed = self
            .mapping
            .take()
            .and_then(|mapping| self.renew(mapping, local));
        let mapping = match renewed {
            Some(mapping) => mapping,
            None => Mapping {
                router,
                here,
                public,
                protocol: self.begin((router, here), public, local)?,
            },
        };
        let lease = match &mapping.protocol {
            MappingProtocol::Packets(mapping) => mapping.lifetime().clamp(MIN_LEASE, self.lease),
            MappingProtocol::Upnp(_) => self.lease,
        };
        self.mapping = Some(mapping);
        Ok(Duration::from_secs(u64::from(lease / 2)))
    }

    fn renew(&self, mut mapping: Mapping, local: u16) -> Option<Mapping> {
        let public = mapping.public;
        let renewed = match &mut mapping.protocol {
            MappingProtocol::Packets(mapping) => {
                let renewed = self.runtime.block_on(mapping.renew()).is_ok();
                // It asks for what was granted before, and for nothing is to give it back.
                renewed
                    && mapping.external_port().get() == public
                    && mapping.lifetime() >= MIN_LEASE
            }
            MappingProtocol::Upnp(gateway) => gateway.forward(public, local, self.lease).is_ok(),
        };
        renewed.then_some(mapping)
    }

    fn begin(
        &self,
        (router, here): (Ipv4Addr, IpAddr),
        public: u16,
        local: u16,
    ) -> Result<MappingProtocol, RouterError> {
        let (Some(wanted), Some(port)) = (NonZeroU16::new(public), NonZeroU16::new(local)) else {
            return Err(RouterError::Silent(public));
        };
        let options = PortMappingOptions {
            external_port: Some(wanted),
            lifetime_seconds: Some(self.lease),
            timeout_config: Some(TIMEOUTS),
        };
        let asked = self.runtime.block_on(async {
            let request =
                pcp::BaseMapRequest::new(router.into(), here, InternetProtocol::Tcp, port);
            match pcp::port_mapping(request, Some(self.nonce), None, options).await {
                Ok(mapping) => Ok(mapping),
                Err(_) => {
                    natpmp::port_mapping(router.into(), InternetProtocol::Tcp, port, options).await
                }
            }
        });
        // How long it forwards the port, when that is too short; or why it does not at all.
        let failed = match asked {
            Ok(mapping) if mapping.external_port() == wanted && mapping.lifetime() >= MIN_LEASE => {
                return Ok(MappingProtocol::Packets(mapping));
            }
            Ok(mapping) => {
                let (port, lifetime) = (mapping.external_port(), mapping.lifetime());
                let _ = self.runtime.block_on(mapping.try_drop());
                // They give another port than was asked for, when that is taken; Telegram would not
                // call it.
                if port != wanted {
                    return Err(RouterError::Taken(
                        "another machine, or does not allow it".into(),
                    ));
                }
                Ok(lifetime)
            }
            Err(failed) => Err(failed),
        };
        self.begin_upnp(router, public, local, &failed)
    }

    /// Asks by `UPnP` a router that has `failed` to answer the others, or forwards for too short a
    /// time.
    fn begin_upnp(
        &self,
        router: Ipv4Addr,
        public: u16,
        local: u16,
        failed: &Result<u32, natpmp::Failure>,
    ) -> Result<MappingProtocol, RouterError> {
        let before = || match failed {
            Ok(lifetime) => too_short(*lifetime),
            Err(failed) => why_not(failed, public, || self.natpmp_address(router)),
        };
        let gateway = Gateway::find(router).map_err(|why| match (why, before()) {
            (FindError::Unclear(what), RouterError::Silent(port)) => {
                RouterError::Unclear(what, port)
            }
            (_, why) => why,
        })?;
        match gateway.forward(public, local, self.lease) {
            Ok(()) => Ok(MappingProtocol::Upnp(gateway)),
            Err(UpnpError::Refused(why)) => Err(refused(why, gateway.said_address())),
            Err(why) => Err(why.into()),
        }
    }

    fn natpmp_address(&self, router: Ipv4Addr) -> Option<Ipv4Addr> {
        self.runtime
            .block_on(natpmp::external_address(router.into(), Some(TIMEOUTS)))
            .ok()
    }

    /// Gives back what it was asked to forward.
    pub(crate) fn release(&mut self) {
        match self.mapping.take() {
            None => {}
            Some(Mapping {
                protocol: MappingProtocol::Packets(mapping),
                ..
            }) => {
                let _ = self.runtime.block_on(mapping.try_drop());
            }
            Some(Mapping {
                protocol: MappingProtocol::Upnp(gateway),
                public,
                ..
            }) => gateway.release(public),
        }
    }
}

/// Why a router that answers by `UPnP` does not forward. `said` is the address that it says it has,
/// 0.0.0.0 when it has none.
fn refused(why: String, said: Option<Ipv4Addr>) -> RouterError {
    match said {
        Some(Ipv4Addr::UNSPECIFIED) => RouterError::NoAddress(None),
        Some(address) if is_reserved(address) => RouterError::NoAddress(Some(address)),
        Some(_) => RouterError::Refused(why),
        // Routers with a private address are among these.
        None => RouterError::Refused(format!(
            "{why}; the router reports no address of its own: perhaps it is not connected, or your provider shares \
             one address among customers (CGNAT)"
        )),
    }
}

fn too_short(lifetime: u32) -> RouterError {
    RouterError::Refused(format!(
        "it forwards for only {lifetime} s at a time, but pihook needs at least {MIN_LEASE} s"
    ))
}

/// Why a router does not forward that speaks no `UPnP`. `address` asks for its own.
fn why_not(
    failed: &natpmp::Failure,
    public: u16,
    address: impl Fn() -> Option<Ipv4Addr>,
) -> RouterError {
    match failed {
        natpmp::Failure::Socket(_) | natpmp::Failure::Timeout => RouterError::Silent(public),
        // One with an address says the same when it cannot forward for another reason.
        failed @ (natpmp::Failure::NetworkFailure | natpmp::Failure::OutOfResources) => {
            match address() {
                Some(address) if !is_reserved(address) => RouterError::Refused(failed.to_string()),
                address => RouterError::NoAddress(address),
            }
        }
        failed => RouterError::Refused(failed.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::thread;

    /// A router that speaks NAT-PMP alone (RFC 6886), and grants every mapping for so many seconds.
    /// Its address.
    fn router_that_grants(number: u8, lifetime: u32) -> Ipv4Addr {
        let address = Ipv4Addr::new(127, 53, 51, number);
        let socket = UdpSocket::bind((address, 5351)).unwrap();
        thread::spawn(move || {
            let mut request = [0; 1100];
            while let Ok((_, from)) = socket.recv_from(&mut request) {
                let operation = request[1];
                let mut answer = vec![0, operation | 0x80, 0, 0, 0, 0, 0, 9];
                match (request[0], operation) {
                    (0, 0) => answer.extend([80, 100, 95, 20]),
                    (0, 2) => {
                        answer.extend_from_slice(&request[4..8]);
                        answer.extend(lifetime.to_be_bytes());
                    }
                    // It is no version of PCP that this one knows.
                    _ => answer[3] = 1,
                }
                socket.send_to(&answer, from).unwrap();
            }
        });
        address
    }

    #[test]
    fn a_router_that_forwards_for_a_moment_is_not_asked_without_end() {
        let forward = |address| {
            Router::new([0; 3], Duration::from_secs(300))
                .unwrap()
                .forward(Some(address), 8443, 8443)
        };
        for (number, lifetime) in [(1, 0), (2, 1), (3, MIN_LEASE - 1)] {
            let refused = forward(router_that_grants(number, lifetime))
                .unwrap_err()
                .to_string();
            assert!(
                refused.contains(&format!("forwards for only {lifetime} s at a time")),
                "{refused}"
            );
        }
        // Whatever it says, it is asked again no later than it would be by itself.
        for (number, lifetime, seconds) in [
            (4, MIN_LEASE, 30),
            (5, 700, 350),
            (6, 900, 450),
            (7, u32::MAX, 450),
        ] {
            assert_eq!(
                forward(router_that_grants(number, lifetime))
                    .unwrap()
                    .as_secs(),
                seconds,
                "{lifetime}"
            );
        }
    }

    #[test]
    fn only_a_router_without_a_public_address_is_said_to_have_none() {
        let [public, shared] =
            [Ipv4Addr::new(80, 100, 95, 20), Ipv4Addr::new(100, 64, 0, 2)].map(Some);
        for failed in [
            natpmp::Failure::NetworkFailure,
            natpmp::Failure::OutOfResources,
        ] {
            assert!(matches!(
                why_not(&failed, 8443, || None),
                RouterError::NoAddress(_)
            ));
            assert!(matches!(
                why_not(&failed, 8443, || shared),
                RouterError::NoAddress(_)
            ));
            assert!(matches!(
                why_not(&failed, 8443, || public),
                RouterError::Refused(_)
            ));
        }
        let by_upnp = |said| refused("Action Failed (501)".into(), said).to_string();
        assert!(by_upnp(Some(Ipv4Addr::UNSPECIFIED)).contains("has no address of its own"));
        assert!(by_upnp(shared).contains("own address is 100.64.0.2"));
        assert!(by_upnp(public).starts_with(
            "the router refused to forward the port: Action Failed (501); forward the port by hand"
        ));
        let silent = by_upnp(None);
        assert!(
            silent.contains("the port: Action Failed (501)") && silent.contains("perhaps"),
            "{silent}"
        );
    }
}
