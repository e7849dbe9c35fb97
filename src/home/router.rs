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

/// The lease of a mapping, in `watch_interval`s: it outlives two looks that go wrong. Not much more:
/// when this Pi gets another address at home, the port is blocked until the old mapping ends.
const LEASE_INTERVALS: u32 = 3;
/// The lease where the interval is short, in seconds.
const DEFAULT_LEASE: u32 = 600;
/// The shortest lease that is accepted, in seconds. A router chooses the time, and what it grants for less than this is as good as
/// nothing: the port would be closed most of the time, or the router asked all the time.
const MIN_LEASE: u32 = 60;
/// A router that is there answers at once; a lost packet is sent again.
const TIMEOUTS: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_secs(1)),
};
/// How long a router that did not say its address is not asked again.
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
    PcpOrNatPmp(PortMapping),
    Upnp(Gateway),
}

/// Why there is no mapping by PCP or NAT-PMP.
enum PacketFault {
    /// The router forwards the port for only so many seconds.
    ShortLease(u32),
    Failed(natpmp::Failure),
}

/// Why the router does not forward the port.
#[derive(Debug)]
pub(crate) enum RouterError {
    /// There is no default route.
    NoRouter,
    /// The router speaks none of the three protocols, or not to us. The port is to be forwarded by
    /// hand.
    Silent(u16),
    /// The router answers, but cannot be asked for this reason. The port is to be forwarded by hand.
    Unclear(String, u16),
    /// The router forwards the port to this other machine, or offers only another port.
    Taken(String),
    /// The router has no public address to forward from, or only this one.
    NoAddress(Option<Ipv4Addr>),
    /// The router refuses, for this reason.
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
            Self::Unclear(reason, port) => write!(
                f,
                "the router answers by UPnP, but {}: switch on port forwarding by UPnP in the router's settings, or \
                 forward port {port} there by hand",
                printable(reason)
            ),
            Self::NoAddress(None) => f.write_str(
                "the router has no address of its own on the internet: it is not connected, or your provider shares \
                 one address among customers (CGNAT); check the connection, or ask the provider for a public IPv4 \
                 address",
            ),
            Self::NoAddress(Some(address)) => {
                write!(f, "the router's own address is {address}, which is not a public address: {}", kind(*address))
            }
            Self::Refused(reason) => write!(
                f,
                "the router refused to forward the port: {}; forward the port by hand in the router's settings",
                printable(reason)
            ),
        }
    }
}

impl std::error::Error for RouterError {}

impl From<UpnpError> for RouterError {
    fn from(error: UpnpError) -> Self {
        match error {
            UpnpError::Taken(Some(by)) => Self::Taken(by.to_string()),
            UpnpError::Taken(None) => Self::Taken("another machine".into()),
            UpnpError::Refused(reason) => Self::Refused(reason),
        }
    }
}

impl Router {
    /// A router of which nothing is known yet. `nonce` must be the same at each start. The caller
    /// asks the router again after each `interval`, which decides the lease.
    ///
    /// # Errors
    /// When the system has no file descriptors left.
    pub(crate) fn new(nonce: [u32; 3], interval: Duration) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let seconds = u32::try_from(interval.as_secs()).unwrap_or(DEFAULT_LEASE);
        let lease = seconds.saturating_mul(LEASE_INTERVALS).max(DEFAULT_LEASE);
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

        if let Some(mapping) = &self.mapping
            && mapping.router == router
        {
            match &mapping.protocol {
                MappingProtocol::Upnp(gateway) => return gateway.address(),
                MappingProtocol::PcpOrNatPmp(mapping) => {
                    // A PCP answer holds the address. NAT-PMP has a question of its own for it.
                    if let PortMappingType::Pcp {
                        external_ip: IpAddr::V4(address),
                        ..
                    } = mapping.mapping_type()
                    {
                        return Some(address);
                    }
                }
            }
        }

        if let Some((silent, asked)) = self.silent
            && silent == router
            && asked.elapsed() < SILENT_RETRY_INTERVAL
        {
            return None;
        }
        let mut address = self.natpmp_address(router);
        if address.is_none()
            && let Ok(gateway) = Gateway::find(router)
        {
            address = gateway.address();
        }
        self.silent = match address {
            Some(_) => None,
            None => Some((router, Instant::now())),
        };
        address
    }

    /// Has the router forward its TCP port `public` to `local` here, or renews that. Returns when
    /// to do so again at the latest.
    ///
    /// # Errors
    /// When the router does not forward the port.
    pub(crate) fn forward(
        &mut self,
        router: Option<Ipv4Addr>,
        public: u16,
        local: u16,
    ) -> Result<Duration, RouterError> {
        let router = router.ok_or(RouterError::NoRouter)?;
        let here = route::local_address(router).map_err(|_| RouterError::NoRouter)?;

        // A mapping of another network, or to an address that is not ours any more.
        if let Some(mapping) = &self.mapping
            && (mapping.router != router || mapping.here != here)
        {
            self.release();
        }

        let renewed = match self.mapping.take() {
            Some(mapping) => self.renew(mapping, local),
            None => None,
        };
        let mapping = match renewed {
            Some(mapping) => mapping,
            // A router that has forgotten us, or was restarted, is asked as at first.
            None => Mapping {
                router,
                here,
                public,
                protocol: self.begin(router, here, public, local)?,
            },
        };

        let lease = match &mapping.protocol {
            MappingProtocol::PcpOrNatPmp(mapping) => {
                mapping.lifetime().clamp(MIN_LEASE, self.lease)
            }
            MappingProtocol::Upnp(_) => self.lease,
        };
        self.mapping = Some(mapping);
        Ok(Duration::from_secs(u64::from(lease / 2)))
    }

    /// Renews a mapping; None when the router does not forward the same port any more.
    fn renew(&self, mut mapping: Mapping, local: u16) -> Option<Mapping> {
        let public = mapping.public;
        let is_renewed = match &mut mapping.protocol {
            MappingProtocol::PcpOrNatPmp(mapping) => {
                let is_answered = self.runtime.block_on(mapping.renew()).is_ok();
                // A renewal asks for the port that was granted before. A lease of 0 s gives it
                // back.
                is_answered
                    && mapping.external_port().get() == public
                    && mapping.lifetime() >= MIN_LEASE
            }
            MappingProtocol::Upnp(gateway) => gateway.forward(public, local, self.lease).is_ok(),
        };
        if is_renewed { Some(mapping) } else { None }
    }

    /// Asks for a new mapping, by each protocol until one serves.
    fn begin(
        &self,
        router: Ipv4Addr,
        here: IpAddr,
        public: u16,
        local: u16,
    ) -> Result<MappingProtocol, RouterError> {
        let Some(wanted) = NonZeroU16::new(public) else {
            return Err(RouterError::Silent(public));
        };
        let Some(port) = NonZeroU16::new(local) else {
            return Err(RouterError::Silent(public));
        };

        let fault = match self.ask_by_packets(router, here, wanted, port) {
            Ok(mapping) if mapping.external_port() == wanted && mapping.lifetime() >= MIN_LEASE => {
                return Ok(MappingProtocol::PcpOrNatPmp(mapping));
            }
            Ok(mapping) => {
                let granted = mapping.external_port();
                let lifetime = mapping.lifetime();
                let _ = self.runtime.block_on(mapping.try_drop());
                // A router grants another port than was asked for when that one is taken. Telegram
                // would not call it.
                if granted != wanted {
                    return Err(RouterError::Taken(
                        "another machine, or does not allow it".into(),
                    ));
                }
                PacketFault::ShortLease(lifetime)
            }
            Err(failure) => PacketFault::Failed(failure),
        };
        self.begin_upnp(router, public, local, &fault)
    }

    /// Asks by PCP, and a router that does not answer that, by NAT-PMP.
    fn ask_by_packets(
        &self,
        router: Ipv4Addr,
        here: IpAddr,
        wanted: NonZeroU16,
        port: NonZeroU16,
    ) -> Result<PortMapping, natpmp::Failure> {
        let options = PortMappingOptions {
            external_port: Some(wanted),
            lifetime_seconds: Some(self.lease),
            timeout_config: Some(TIMEOUTS),
        };
        let request = pcp::BaseMapRequest::new(router.into(), here, InternetProtocol::Tcp, port);
        self.runtime.block_on(async {
            match pcp::port_mapping(request, Some(self.nonce), None, options).await {
                Ok(mapping) => Ok(mapping),
                Err(_) => {
                    natpmp::port_mapping(router.into(), InternetProtocol::Tcp, port, options).await
                }
            }
        })
    }

    /// Asks by `UPnP`, where the others failed with `fault`.
    fn begin_upnp(
        &self,
        router: Ipv4Addr,
        public: u16,
        local: u16,
        fault: &PacketFault,
    ) -> Result<MappingProtocol, RouterError> {
        let gateway = match Gateway::find(router) {
            Ok(gateway) => gateway,
            Err(error) => {
                let before = match fault {
                    PacketFault::ShortLease(lifetime) => too_short(*lifetime),
                    PacketFault::Failed(failure) => {
                        refused_by_packets(failure, public, || self.natpmp_address(router))
                    }
                };
                return Err(match (error, before) {
                    (FindError::Unclear(reason), RouterError::Silent(port)) => {
                        RouterError::Unclear(reason, port)
                    }
                    (_, before) => before,
                });
            }
        };

        match gateway.forward(public, local, self.lease) {
            Ok(()) => Ok(MappingProtocol::Upnp(gateway)),
            Err(UpnpError::Refused(reason)) => Err(refused_by_upnp(reason, gateway.said_address())),
            Err(error) => Err(error.into()),
        }
    }

    fn natpmp_address(&self, router: Ipv4Addr) -> Option<Ipv4Addr> {
        let question = natpmp::external_address(router.into(), Some(TIMEOUTS));
        self.runtime.block_on(question).ok()
    }

    /// Ends the mapping, if the router has one for us.
    pub(crate) fn release(&mut self) {
        let Some(mapping) = self.mapping.take() else {
            return;
        };
        match mapping.protocol {
            MappingProtocol::PcpOrNatPmp(packets) => {
                let _ = self.runtime.block_on(packets.try_drop());
            }
            MappingProtocol::Upnp(gateway) => gateway.release(mapping.public),
        }
    }
}

/// The error of a router that refuses by `UPnP`. `said` is the address that it says it has, 0.0.0.0
/// when it has none.
fn refused_by_upnp(reason: String, said: Option<Ipv4Addr>) -> RouterError {
    match said {
        Some(Ipv4Addr::UNSPECIFIED) => RouterError::NoAddress(None),
        Some(address) if is_reserved(address) => RouterError::NoAddress(Some(address)),
        Some(_) => RouterError::Refused(reason),
        // Some routers with a private address do not say it.
        None => RouterError::Refused(format!(
            "{reason}; the router reports no address of its own: perhaps it is not connected, or your provider shares \
             one address among customers (CGNAT)"
        )),
    }
}

fn too_short(lifetime: u32) -> RouterError {
    RouterError::Refused(format!(
        "it forwards for only {lifetime} s at a time, but pihook needs at least {MIN_LEASE} s"
    ))
}

/// The error of a router that speaks no `UPnP`. `address` asks it for its own address, which costs
/// time and is not always needed.
fn refused_by_packets(
    failure: &natpmp::Failure,
    public: u16,
    address: impl Fn() -> Option<Ipv4Addr>,
) -> RouterError {
    match failure {
        natpmp::Failure::Socket(_) | natpmp::Failure::Timeout => RouterError::Silent(public),
        // A router without a public address fails so. But one that has it also does, when it cannot
        // forward for another reason.
        natpmp::Failure::NetworkFailure | natpmp::Failure::OutOfResources => match address() {
            Some(address) if !is_reserved(address) => RouterError::Refused(failure.to_string()),
            address => RouterError::NoAddress(address),
        },
        _ => RouterError::Refused(failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::router_sockets;
    use std::thread;

    /// A router that speaks NAT-PMP alone (RFC 6886), and grants every mapping for so many seconds.
    /// Returns its address.
    fn router_that_grants(lifetime: u32) -> Ipv4Addr {
        let (address, upnp, socket) = router_sockets();
        thread::spawn(move || {
            // It is silent there.
            let _upnp = upnp;
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
                    // Unsupported version: this router does not know PCP.
                    _ => answer[3] = 1,
                }
                socket.send_to(&answer, from).unwrap();
            }
        });
        address
    }

    #[test]
    fn a_router_with_a_lease_under_60_s_is_refused_and_never_asked_without_end() {
        let forward = |address| {
            Router::new([0; 3], Duration::from_secs(300))
                .unwrap()
                .forward(Some(address), 8443, 8443)
        };
        for lifetime in [0, 1, MIN_LEASE - 1] {
            let refused = forward(router_that_grants(lifetime))
                .unwrap_err()
                .to_string();
            assert!(
                refused.contains(&format!("forwards for only {lifetime} s at a time")),
                "{refused}"
            );
        }
        // Whatever it says, it is asked again no later than it would be by itself.
        for (lifetime, seconds) in [(MIN_LEASE, 30), (700, 350), (900, 450), (u32::MAX, 450)] {
            assert_eq!(
                forward(router_that_grants(lifetime)).unwrap().as_secs(),
                seconds,
                "{lifetime}"
            );
        }
    }

    #[test]
    fn no_address_is_said_only_of_a_router_without_a_public_one() {
        let [public, shared] =
            [Ipv4Addr::new(80, 100, 95, 20), Ipv4Addr::new(100, 64, 0, 2)].map(Some);
        for failed in [
            natpmp::Failure::NetworkFailure,
            natpmp::Failure::OutOfResources,
        ] {
            assert!(matches!(
                refused_by_packets(&failed, 8443, || None),
                RouterError::NoAddress(_)
            ));
            assert!(matches!(
                refused_by_packets(&failed, 8443, || shared),
                RouterError::NoAddress(_)
            ));
            assert!(matches!(
                refused_by_packets(&failed, 8443, || public),
                RouterError::Refused(_)
            ));
        }
        let by_upnp = |said| refused_by_upnp("Action Failed (501)".into(), said).to_string();
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
