//! `UPnP`'s `InternetGatewayDevice`, as far as one port needs it: found by SSDP, asked by SOAP. Every
//! crate for it brings an HTTP client of its own, so it is asked with ours.
//!
//! Only the router that the routes name is listened to: anyone at home can answer a search.

pub mod xml;

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::{Agent, Body};

use self::xml::UpnpAnswer;
use super::route;
use crate::network::is_reserved;
use crate::secret::printable;

/// How long the router may take to answer a search.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(3);
/// How long each call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The bytes of an answer that are read.
const ANSWER_LIMIT: u64 = 64 * 1024;
/// The descriptions that are read in a search: a router can have several devices, and a liar any
/// number.
const MAX_LOCATIONS: usize = 8;
/// The services that are tried, of those that forward ports.
const MAX_CONTROLS: usize = 8;
/// Where searches go.
const SSDP_MULTICAST: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 255, 250), 1900);
/// The targets that a search names: many routers answer to one of them alone.
const TARGETS: [&str; 5] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
    "upnp:rootdevice",
];
/// The services that forward ports.
const SERVICES: [&str; 2] = [
    "urn:schemas-upnp-org:service:wanipconnection:",
    "urn:schemas-upnp-org:service:wanpppconnection:",
];
/// The errors `NoSuchEntryInArray` and `ConflictInMappingEntry`.
const NO_SUCH_ENTRY: u32 = 714;
const TAKEN: u32 = 718;
/// The errors of a router that accepts no lease, and forwards for ever: by the specification
/// `OnlyPermanentLeasesSupported`. Routers that do not know it say `InvalidArgs`, `ActionFailed`,
/// `ArgumentValueInvalid` or `ArgumentValueOutOfRange`.
const LEASE_REFUSED: [u32; 5] = [725, 402, 501, 600, 601];

/// A router that can be asked.
pub(crate) struct Gateway {
    agent: Agent,
    control: Control,
    /// Our address on the way to it.
    local: IpAddr,
}

/// A service that forwards ports, and where it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Control {
    service: String,
    url: String,
}

/// Why there is no router to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FindError {
    /// The router does not answer the search.
    Silent,
    /// The router answers, but cannot be asked for this reason.
    Unclear(String),
}

/// Why the router does not do as it is asked.
#[derive(Debug)]
pub(crate) enum UpnpError {
    /// The router forwards the port to another machine, which it may name.
    Taken(Option<SocketAddr>),
    /// The router refuses, in these words.
    Refused(String),
}

impl Gateway {
    /// Searches for the router at this address.
    ///
    /// # Errors
    /// When it does not answer, or not so that it can be asked.
    pub(crate) fn find(router: Ipv4Addr) -> Result<Self, FindError> {
        let socket = search(router).map_err(|_| FindError::Silent)?;
        let end = Instant::now() + SEARCH_TIMEOUT;

        let mut error = FindError::Silent;
        let mut described = Vec::new();
        let mut buffer = [0; 1500];
        while Instant::now() < end && described.len() < MAX_LOCATIONS {
            // A timeout of nothing is an error.
            let left = end
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1));
            if socket.set_read_timeout(Some(left)).is_err() {
                break;
            }
            let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                break;
            };

            let text = String::from_utf8_lossy(&buffer[..length]);
            let Some(url) = location(&text) else {
                continue;
            };
            if from.ip() != router || described.contains(&url) {
                continue;
            }
            match Self::describe(&url, router) {
                Ok(gateway) => return Ok(gateway),
                Err(reason) => error = FindError::Unclear(reason),
            }
            described.push(url);
        }
        Err(error)
    }

    /// Reads the description at `location`, and finds the service to ask in it.
    fn describe(location: &str, router: Ipv4Addr) -> Result<Self, String> {
        if authority(location, router).is_none() {
            return Err(format!(
                "its description is at {}, which is another machine",
                printable(location)
            ));
        }

        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .max_idle_connections(0)
            .timeout_global(Some(CALL_TIMEOUT));
        let agent: Agent = config.build().into();
        let mut answer = agent
            .get(location)
            .call()
            .map_err(|error| format!("its description cannot be read: {error}"))?;
        let bytes = read_body(&mut answer);

        let controls = controls(&xml::description(&bytes), location, router);
        let Some(control) = controls.first().cloned() else {
            let what = if answer.status().is_success() {
                excerpt(&bytes)
            } else {
                answer.status().to_string()
            };
            return Err(format!(
                "its description lists no service for port forwarding: {what}"
            ));
        };

        let local = route::local_address(router).map_err(|error| error.to_string())?;
        let mut gateway = Self {
            agent,
            control,
            local,
        };
        if controls.len() > 1 {
            gateway.choose(controls);
        }
        Ok(gateway)
    }

    /// Chooses the service that is connected: a router with several ways out lists them all.
    fn choose(&mut self, controls: Vec<Control>) {
        let mut best = self.control.clone();
        let mut best_rank = None;
        for control in controls.into_iter().take(MAX_CONTROLS) {
            self.control = control;
            let rank = Some(self.rank());
            // Nothing is less than any rank.
            if rank > best_rank {
                best = self.control.clone();
                best_rank = rank;
            }
        }
        self.control = best;
    }

    /// How likely the service is the way out: 3 with a public address, 2 with another one, 1 if it
    /// answers at all; among equals, whether it says that it is connected.
    fn rank(&self) -> (u8, bool) {
        let status = self.call("GetStatusInfo", &[], "NewConnectionStatus");
        let is_connected =
            matches!(status, Ok(UpnpAnswer::Value(word)) if word.eq_ignore_ascii_case("connected"));

        let rank = match self.call("GetExternalIPAddress", &[], "NewExternalIPAddress") {
            Ok(UpnpAnswer::Value(text)) => match text.trim().parse() {
                Ok(Ipv4Addr::UNSPECIFIED) | Err(_) => 1,
                Ok(address) if is_reserved(address) => 2,
                Ok(_) => 3,
            },
            Ok(UpnpAnswer::Refused(..)) => 1,
            Err(_) => 0,
        };
        (rank, is_connected)
    }

    /// The router's own address on the internet's side; None when it has none, or does not say it.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.said_address()
            .filter(|address| !address.is_unspecified())
    }

    /// Like [`Gateway::address`], but 0.0.0.0 when the router says that it has none.
    pub(crate) fn said_address(&self) -> Option<Ipv4Addr> {
        let answer = self.call("GetExternalIPAddress", &[], "NewExternalIPAddress");
        match answer {
            Ok(UpnpAnswer::Value(address)) => address.trim().parse().ok(),
            Ok(UpnpAnswer::Refused(..)) | Err(_) => None,
        }
    }

    /// Has TCP port `public` forwarded to `local` here for `lease` seconds, or for longer.
    ///
    /// # Errors
    /// What the router says.
    pub(crate) fn forward(&self, public: u16, local: u16, lease: u32) -> Result<(), UpnpError> {
        let answer = match self.add(public, local, lease)? {
            // Such a router may accept a mapping without an end.
            UpnpAnswer::Refused(code, _) if LEASE_REFUSED.contains(&code) => {
                self.add(public, local, 0)?
            }
            answer => answer,
        };

        match answer {
            UpnpAnswer::Value(_) => Ok(()),
            // Some routers say this of a port that they forward to us already.
            UpnpAnswer::Refused(TAKEN, _) => match self.forwarded(public) {
                Ok(Some(there)) if there == SocketAddr::new(self.local, local) => Ok(()),
                Ok(there) => Err(UpnpError::Taken(there)),
                Err(_) => Err(UpnpError::Taken(None)),
            },
            UpnpAnswer::Refused(code, words) => Err(refused(code, &words)),
        }
    }

    /// Asks for the mapping, without an end if `lease` is 0.
    fn add(&self, public: u16, local: u16, lease: u32) -> Result<UpnpAnswer, UpnpError> {
        let arguments = [
            ("NewRemoteHost", String::new()),
            ("NewExternalPort", public.to_string()),
            ("NewProtocol", "TCP".into()),
            ("NewInternalPort", local.to_string()),
            ("NewInternalClient", self.local.to_string()),
            ("NewEnabled", "1".into()),
            ("NewPortMappingDescription", "pihook".into()),
            ("NewLeaseDuration", lease.to_string()),
        ];
        self.call("AddPortMapping", &arguments, "AddPortMappingResponse")
    }

    /// Where the router forwards TCP port `public` to; None when nowhere, or it does not say.
    ///
    /// # Errors
    /// What the router says.
    pub(crate) fn forwarded(&self, public: u16) -> Result<Option<SocketAddr>, UpnpError> {
        let entry = |wanted: &str| {
            self.call(
                "GetSpecificPortMappingEntry",
                &port_arguments(public),
                wanted,
            )
        };
        let client = match entry("NewInternalClient")? {
            UpnpAnswer::Value(client) => client,
            UpnpAnswer::Refused(NO_SUCH_ENTRY, _) => return Ok(None),
            UpnpAnswer::Refused(code, words) => return Err(refused(code, &words)),
        };
        match entry("NewInternalPort")? {
            UpnpAnswer::Value(port) => Ok(format!("{client}:{port}").parse().ok()),
            UpnpAnswer::Refused(..) => Ok(None),
        }
    }

    /// Ends the forwarding, if it is to here.
    pub(crate) fn release(&self, public: u16) {
        // A router deletes a mapping for anyone: another machine's must stay.
        if let Ok(Some(there)) = self.forwarded(public)
            && there.ip() == self.local
        {
            let _ = self.call(
                "DeletePortMapping",
                &port_arguments(public),
                "DeletePortMappingResponse",
            );
        }
    }

    /// Calls an action of the service, and reads the element `wanted` of its answer.
    fn call(
        &self,
        action: &str,
        arguments: &[(&str, String)],
        wanted: &str,
    ) -> Result<UpnpAnswer, UpnpError> {
        let mut elements = String::new();
        for (name, value) in arguments {
            elements += &format!("<{name}>{value}</{name}>");
        }
        let Control { service, url } = &self.control;
        let body = format!(
            "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{action} xmlns:u=\"{service}\">{elements}</u:{action}></s:Body></s:Envelope>"
        );

        let mut answer = self
            .agent
            .post(url)
            .header("SOAPAction", format!("\"{service}#{action}\""))
            .content_type("text/xml; charset=\"utf-8\"")
            .send(&body)
            .map_err(|error| UpnpError::Refused(error.to_string()))?;
        let bytes = read_body(&mut answer);
        if let Some(answer) = xml::answer(&bytes, wanted) {
            return Ok(answer);
        }

        let status = answer.status();
        let words = excerpt(&bytes);
        Err(UpnpError::Refused(format!(
            "pihook does not understand its answer to {action}: {status} {words}"
        )))
    }
}

/// Sends the searches for a router at this address; the socket gets the answers.
fn search(router: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // Directly, too: some networks carry no multicast.
    for place in [SSDP_MULTICAST, (router, SSDP_MULTICAST.1)] {
        let (address, port) = place;
        for target in TARGETS {
            let search = format!(
                "M-SEARCH * HTTP/1.1\r\nHOST: {address}:{port}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {target}\r\n\r\n"
            );
            // Without a way there, nothing comes back.
            let _ = socket.send_to(search.as_bytes(), place);
        }
    }
    Ok(socket)
}

/// The body of an answer, as far as it comes. Routers count wrongly what they send, or end it in the
/// middle. Where a router names far too small a length, the rest is lost, as it is to other clients
/// (miniupnpc).
fn read_body(answer: &mut Response<Body>) -> Vec<u8> {
    let mut reader = answer.body_mut().with_config().limit(ANSWER_LIMIT).reader();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = reader.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..length]);
    }
    bytes
}

/// The beginning of an answer's body, for a message.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
    if text.trim().is_empty() {
        "(empty)".into()
    } else {
        format!("\"{}\"", printable(text.trim()))
    }
}

/// The arguments that name a port of the router.
fn port_arguments(public: u16) -> [(&'static str, String); 3] {
    [
        ("NewRemoteHost", String::new()),
        ("NewExternalPort", public.to_string()),
        ("NewProtocol", "TCP".into()),
    ]
}

/// The refusal of a router, in its words.
fn refused(code: u32, words: &str) -> UpnpError {
    UpnpError::Refused(format!("{words} ({code})"))
}

/// Where an answer to a search says that the description is.
fn location(answer: &str) -> Option<String> {
    for line in answer.lines() {
        if let Some((name, url)) = line.split_once(':')
            && name.trim().eq_ignore_ascii_case("location")
        {
            return Some(url.trim().to_owned());
        }
    }
    None
}

/// The part of `http://ADDRESS[:PORT]/…` before the path, if it is the router itself.
fn authority(url: &str, router: Ipv4Addr) -> Option<&str> {
    let (scheme, rest) = url.split_at_checked("http://".len())?;
    if !scheme.eq_ignore_ascii_case("http://") {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;

    let address = match authority.parse::<SocketAddrV4>() {
        Ok(address) => *address.ip(),
        Err(_) => authority.parse().ok()?,
    };
    if address == router {
        Some(authority)
    } else {
        None
    }
}

/// The services that forward ports, and where they can be asked.
fn controls(description: &xml::Description, location: &str, router: Ipv4Addr) -> Vec<Control> {
    let base = match description.url_base.as_deref() {
        Some(base) if authority(base, router).is_some() => base,
        _ => location,
    };

    let mut controls = Vec::new();
    for (service, url) in &description.services {
        if !forwards_ports(service) {
            continue;
        }
        for url in resolve(base, url, router) {
            let control = Control {
                service: service.clone(),
                url,
            };
            if !controls.contains(&control) {
                controls.push(control);
            }
        }
    }
    controls
}

/// Whether a service is of a type that forwards ports, whatever its version.
fn forwards_ports(service: &str) -> bool {
    let service = service.to_ascii_lowercase();
    SERVICES.iter().any(|known| service.starts_with(known))
}

/// The URLs that `url` can mean beside `base`: a relative one is meant from the root by many
/// routers, whatever RFC 3986 says.
fn resolve(base: &str, url: &str, router: Ipv4Addr) -> Vec<String> {
    let Some(host) = authority(base, router) else {
        return Vec::new();
    };
    if url.contains("://") {
        return match authority(url, router) {
            Some(_) => vec![url.to_owned()],
            None => Vec::new(),
        };
    }

    let root = format!("http://{host}/");
    if let Some(path) = url.strip_prefix('/') {
        return vec![format!("{root}{path}")];
    }
    let path = base.get(root.len()..).unwrap_or_default();
    let path = path.split(['?', '#']).next().unwrap_or_default();
    match path.rsplit_once('/') {
        Some((folder, _)) => vec![format!("{root}{folder}/{url}"), format!("{root}{url}")],
        None => vec![format!("{root}{url}")],
    }
}

#[cfg(test)]
mod tests;
