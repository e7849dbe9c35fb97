//! `UPnP`'s `InternetGatewayDevice`, as far as one port needs it: found by SSDP, asked by SOAP. No
//! crate of it is without an HTTP client of its own, so it is asked with ours.
//!
//! Only the router that the routes name is listened to: anyone at home can answer a search.

pub mod xml;

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::{Agent, Body};

use self::xml::Answer;
use super::route;
use crate::network::is_reserved;
use crate::secret::printable;

/// For an answer to a search.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(3);
/// For each call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_LIMIT: u64 = 64 * 1024;
/// Descriptions that are read in a search: a router can have several devices, and a liar any
/// number.
const LOCATIONS: usize = 8;
/// Ways to ask for the port that are tried.
const CONTROLS: usize = 8;
/// Where searches go.
const SSDP_MULTICAST: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 255, 250), 1900);
/// What a router is searched by: many answer to one of them alone.
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
/// `NoSuchEntryInArray` and `ConflictInMappingEntry`.
const NO_SUCH_ENTRY: u32 = 714;
const TAKEN: u32 = 718;
/// What routers say that forward for ever or not at all: `OnlyPermanentLeasesSupported`, and what
/// those say that do not know it: `InvalidArgs`, `ActionFailed`, `ArgumentValueInvalid` and
/// `ArgumentValueOutOfRange`.
const LEASE_DISLIKED: [u32; 5] = [725, 402, 501, 600, 601];

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
    /// Nothing answers the search.
    Silent,
    /// It answers, and this is why it cannot be asked.
    Unclear(String),
}

/// Why the router does not do as it is asked.
#[derive(Debug)]
pub(crate) enum UpnpError {
    /// It forwards the port to another machine, which it may name.
    Taken(Option<SocketAddr>),
    /// What it says.
    Refused(String),
}

impl Gateway {
    /// Searches for the router at this address.
    ///
    /// # Errors
    /// When it does not answer, or not so that it can be asked.
    pub(crate) fn find(router: Ipv4Addr) -> Result<Self, FindError> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(|_| FindError::Silent)?;
        // Directly, too: some networks carry no multicast.
        for (place, target) in [SSDP_MULTICAST, (router, SSDP_MULTICAST.1)]
            .iter()
            .flat_map(|place| TARGETS.map(|target| (place, target)))
        {
            let (address, port) = place;
            let search = format!(
                "M-SEARCH * HTTP/1.1\r\nHOST: {address}:{port}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {target}\r\n\r\n"
            );
            // Without a way there, nothing comes back.
            let _ = socket.send_to(search.as_bytes(), place);
        }
        let (end, mut asked, mut why) = (
            Instant::now() + SEARCH_TIMEOUT,
            Vec::new(),
            FindError::Silent,
        );
        let mut buffer = [0; 1500];
        while Instant::now() < end && asked.len() < LOCATIONS {
            let left = end
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1));
            let received = socket
                .set_read_timeout(Some(left))
                .and_then(|()| socket.recv_from(&mut buffer));
            let Ok((length, from)) = received else { break };
            let text = String::from_utf8_lossy(&buffer[..length]);
            let Some(url) =
                location(&text).filter(|url| from.ip() == router && !asked.contains(url))
            else {
                continue;
            };
            match Self::describe(&url, router) {
                Ok(gateway) => return Ok(gateway),
                Err(what) => why = FindError::Unclear(what),
            }
            asked.push(url);
        }
        Err(why)
    }

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
            .map_err(|why| format!("its description cannot be read: {why}"))?;
        let bytes = read(&mut answer);
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
        let local = route::local_address(router).map_err(|why| why.to_string())?;
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

    /// Takes the service that is connected: a router with several ways out lists them all.
    fn choose(&mut self, controls: Vec<Control>) {
        let mut best = None;
        for control in controls.into_iter().take(CONTROLS) {
            self.control = control;
            let rank = self.rank();
            if best.as_ref().is_none_or(|(before, _)| rank > *before) {
                best = Some((rank, self.control.clone()));
            }
        }
        if let Some((_, control)) = best {
            self.control = control;
        }
    }

    /// How likely it is the way out: whether it has an address of the internet, another one, is
    /// connected, or answers at all.
    fn rank(&self) -> (u8, bool) {
        let status = self.call("GetStatusInfo", &[], "NewConnectionStatus");
        let is_connected =
            matches!(status, Ok(Answer::Value(word)) if word.eq_ignore_ascii_case("connected"));
        let rank = match self.call("GetExternalIPAddress", &[], "NewExternalIPAddress") {
            Ok(Answer::Value(text)) => match known(&text) {
                Some(address) if !is_reserved(address) => 3,
                Some(_) => 2,
                None => 1,
            },
            Ok(Answer::Refused(..)) => 1,
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
        match self
            .call("GetExternalIPAddress", &[], "NewExternalIPAddress")
            .ok()?
        {
            Answer::Value(address) => address.trim().parse().ok(),
            Answer::Refused(..) => None,
        }
    }

    /// Has TCP port `public` forwarded to `local` here for `lease` seconds, or for longer.
    ///
    /// # Errors
    /// What the router says.
    pub(crate) fn forward(&self, public: u16, local: u16, lease: u32) -> Result<(), UpnpError> {
        let answer = match self.add(public, local, lease)? {
            // Without an end, then: it is what they dislike.
            Answer::Refused(code, _) if LEASE_DISLIKED.contains(&code) => {
                self.add(public, local, 0)?
            }
            answer => answer,
        };
        match answer {
            Answer::Value(_) => Ok(()),
            // Some routers say so of what they forward here already.
            Answer::Refused(TAKEN, _) => match self.forwarded(public) {
                Ok(Some(there)) if there == SocketAddr::new(self.local, local) => Ok(()),
                Ok(there) => Err(UpnpError::Taken(there)),
                Err(_) => Err(UpnpError::Taken(None)),
            },
            Answer::Refused(code, why) => Err(refused(code, &why)),
        }
    }

    fn add(&self, public: u16, local: u16, lease: u32) -> Result<Answer, UpnpError> {
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

    /// Where the router forwards TCP port `public` to.
    ///
    /// # Errors
    /// What the router says.
    pub(crate) fn forwarded(&self, public: u16) -> Result<Option<SocketAddr>, UpnpError> {
        let entry = |wanted: &str| self.call("GetSpecificPortMappingEntry", &port(public), wanted);
        let client = match entry("NewInternalClient")? {
            Answer::Value(client) => client,
            Answer::Refused(NO_SUCH_ENTRY, _) => return Ok(None),
            Answer::Refused(code, why) => return Err(refused(code, &why)),
        };
        let there = match entry("NewInternalPort")? {
            Answer::Value(port) => format!("{client}:{port}").parse().ok(),
            Answer::Refused(..) => None,
        };
        Ok(there)
    }

    /// Ends the forwarding, if it is to here.
    pub(crate) fn release(&self, public: u16) {
        // A router takes this from anyone, whosever port it is.
        if self
            .forwarded(public)
            .is_ok_and(|there| there.is_some_and(|there| there.ip() == self.local))
        {
            let _ = self.call(
                "DeletePortMapping",
                &port(public),
                "DeletePortMappingResponse",
            );
        }
    }

    fn call(
        &self,
        action: &str,
        arguments: &[(&str, String)],
        wanted: &str,
    ) -> Result<Answer, UpnpError> {
        let arguments: String = arguments
            .iter()
            .map(|(name, value)| format!("<{name}>{value}</{name}>"))
            .collect();
        let Control { service, url } = &self.control;
        let body = format!(
            "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{action} xmlns:u=\"{service}\">{arguments}</u:{action}></s:Body></s:Envelope>"
        );
        let request = self
            .agent
            .post(url)
            .header("SOAPAction", format!("\"{service}#{action}\""));
        let answer = request
            .content_type("text/xml; charset=\"utf-8\"")
            .send(&body);
        let mut answer = answer.map_err(|why| UpnpError::Refused(why.to_string()))?;
        let bytes = read(&mut answer);
        xml::answer(&bytes, wanted).ok_or_else(|| {
            let (status, what) = (answer.status(), excerpt(&bytes));
            UpnpError::Refused(format!(
                "pihook does not understand its answer to {action}: {status} {what}"
            ))
        })
    }
}

/// What there is of an answer. Routers count wrongly what they send, or end it in the middle: what
/// came is looked at. Where a router names far too small a length, the rest is lost, as it is to
/// other clients (miniupnpc).
fn read(answer: &mut Response<Body>) -> Vec<u8> {
    let mut reader = answer.body_mut().with_config().limit(ANSWER_LIMIT).reader();
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = reader.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..length]);
    }
    bytes
}

/// The beginning of what was said, for a message.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
    if text.trim().is_empty() {
        "(empty)".into()
    } else {
        format!("\"{}\"", printable(text.trim()))
    }
}

/// An address that a router says, unless it is the one that means none.
fn known(text: &str) -> Option<Ipv4Addr> {
    text.trim()
        .parse()
        .ok()
        .filter(|address: &Ipv4Addr| !address.is_unspecified())
}

fn port(public: u16) -> [(&'static str, String); 3] {
    [
        ("NewRemoteHost", String::new()),
        ("NewExternalPort", public.to_string()),
        ("NewProtocol", "TCP".into()),
    ]
}

fn refused(code: u32, why: &str) -> UpnpError {
    UpnpError::Refused(format!("{why} ({code})"))
}

/// Where an answer to a search says that the description is.
fn location(answer: &str) -> Option<String> {
    let mut fields = answer.lines().filter_map(|line| line.split_once(':'));
    let (_, url) = fields.find(|(name, _)| name.trim().eq_ignore_ascii_case("location"))?;
    Some(url.trim().to_owned())
}

/// The part of `http://ADDRESS[:PORT]/…` before the path, if it is the router itself.
fn authority(url: &str, router: Ipv4Addr) -> Option<&str> {
    let rest = url
        .get(..7)
        .filter(|scheme| scheme.eq_ignore_ascii_case("http://"))
        .and(url.get(7..))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let address = authority.parse().or_else(|_| {
        authority
            .parse::<SocketAddrV4>()
            .map(|address| *address.ip())
    });
    (address == Ok(router)).then_some(authority)
}

/// The services that forward ports, and where they can be asked.
fn controls(description: &xml::Description, location: &str, router: Ipv4Addr) -> Vec<Control> {
    let base = description
        .url_base
        .as_deref()
        .filter(|base| authority(base, router).is_some())
        .unwrap_or(location);
    let forwards = |kind: &str| {
        SERVICES
            .iter()
            .any(|service| kind.to_ascii_lowercase().starts_with(service))
    };
    let mut controls = Vec::new();
    for (service, url) in description
        .services
        .iter()
        .filter(|(kind, _)| forwards(kind))
    {
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

/// The URLs that `url` can mean beside `base`: a relative one is meant from the root by many
/// routers, whatever RFC 3986 says.
fn resolve(base: &str, url: &str, router: Ipv4Addr) -> Vec<String> {
    let Some(authority) = authority(base, router) else {
        return Vec::new();
    };
    if url.contains("://") {
        return self::authority(url, router)
            .map(|_| url.to_owned())
            .into_iter()
            .collect();
    }
    let root = format!("http://{authority}/");
    let path = base
        .get(root.len()..)
        .unwrap_or_default()
        .split(['?', '#'])
        .next()
        .unwrap_or_default();
    let folder = path
        .rsplit_once('/')
        .map_or(String::new(), |(folder, _)| format!("{folder}/"));
    match url.strip_prefix('/') {
        Some(path) => vec![format!("{root}{path}")],
        None => vec![format!("{root}{folder}{url}"), format!("{root}{url}")],
    }
}

#[cfg(test)]
mod tests;
