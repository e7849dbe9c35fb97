//! `UPnP`'s `InternetGatewayDevice`, as far as one port needs it: found by SSDP, asked by SOAP. No crate of it is without an HTTP
//! client of its own, so it is asked with ours.
//!
//! Only the router that the routes name is listened to: anyone at home can answer a search.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use roxmltree::{Document, Node};
use ureq::Agent;

use super::route;

/// For an answer to a search.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(3);
/// For each call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_LIMIT: u64 = 64 * 1024;
/// A parser's work grows with the cube of these, and a router has use for a handful.
const NAMESPACES: usize = 32;
/// Where searches go.
const SSDP_MULTICAST: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 255, 250), 1900);
/// What a router is searched by, and the services that forward ports.
const DEVICE: &str = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
const SERVICES: [&str; 2] =
    ["urn:schemas-upnp-org:service:WANIPConnection:", "urn:schemas-upnp-org:service:WANPPPConnection:"];
/// `NoSuchEntryInArray`, `ConflictInMappingEntry` and `OnlyPermanentLeasesSupported`.
const NO_SUCH_ENTRY: u32 = 714;
const TAKEN: u32 = 718;
const PERMANENT_ONLY: u32 = 725;

/// A router that can be asked.
pub(crate) struct Gateway {
    agent: Agent,
    control: String,
    service: String,
    /// Our address on the way to it.
    local: IpAddr,
}

/// Why the router does not do as it is asked.
#[derive(Debug)]
pub(crate) enum UpnpError {
    /// It forwards the port to another machine, which it may name.
    Taken(Option<SocketAddr>),
    /// What it says.
    Refused(String),
}

/// An answer's element, or the router's number for why not.
enum Answer {
    Value(String),
    Refused(u32, String),
}

impl Gateway {
    /// Searches for the router at this address; None when it does not answer.
    pub(crate) fn find(router: Ipv4Addr) -> Option<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        // Directly, too: some networks carry no multicast.
        for place in [SSDP_MULTICAST, (router, SSDP_MULTICAST.1)] {
            let (address, port) = place;
            let search = format!(
                "M-SEARCH * HTTP/1.1\r\nHOST: {address}:{port}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {DEVICE}\r\n\r\n"
            );
            // Without a way there, nothing comes back.
            let _ = socket.send_to(search.as_bytes(), place);
        }
        let end = Instant::now() + SEARCH_TIMEOUT;
        let mut buffer = [0; 1500];
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            socket.set_read_timeout(Some(left)).ok()?;
            let (length, from) = socket.recv_from(&mut buffer).ok()?;
            let text = String::from_utf8_lossy(&buffer[..length]);
            let location = text.lines().filter_map(|line| line.split_once(':'));
            let mut location = location.filter(|(name, _)| name.trim().eq_ignore_ascii_case("location"));
            if let (true, Some((_, url))) = (from.ip() == router, location.next())
                && let Some(gateway) = Self::describe(url.trim(), router)
            {
                return Some(gateway);
            }
            if Instant::now() >= end {
                return None;
            }
        }
    }

    fn describe(location: &str, router: Ipv4Addr) -> Option<Self> {
        let authority = authority(location, router)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .max_idle_connections(0)
            .timeout_global(Some(CALL_TIMEOUT));
        let agent: Agent = config.build().into();
        let mut answer = agent.get(location).call().ok()?;
        let text = answer.body_mut().with_config().limit(ANSWER_LIMIT).read_to_string().ok()?;
        let (service, path) = wan_service(&text)?;
        let control = match self::authority(&path, router) {
            Some(_) => path,
            None => format!("http://{authority}/{}", path.trim_start_matches('/')),
        };
        Some(Self { agent, control, service, local: route::local_address(router).ok()? })
    }

    /// The router's own address on the internet's side.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        match self.call("GetExternalIPAddress", &[], "NewExternalIPAddress").ok()? {
            Answer::Value(address) => address.parse().ok(),
            Answer::Refused(..) => None,
        }
    }

    /// Has TCP port `public` forwarded to `local` here for `lease` seconds, or for longer.
    ///
    /// # Errors
    /// What the router says.
    pub(crate) fn forward(&self, public: u16, local: u16, lease: u32) -> Result<(), UpnpError> {
        match self.add(public, local, lease)? {
            Answer::Value(_) => Ok(()),
            Answer::Refused(PERMANENT_ONLY, _) => match self.add(public, local, 0)? {
                Answer::Value(_) => Ok(()),
                Answer::Refused(code, why) => Err(refused(code, &why)),
            },
            // Some routers say so of what they forward here already.
            Answer::Refused(TAKEN, _) => match self.forwarded(public)? {
                Some(there) if there == SocketAddr::new(self.local, local) => Ok(()),
                Some(there) => Err(UpnpError::Taken(Some(there))),
                None => Err(UpnpError::Taken(None)),
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
        if self.forwarded(public).is_ok_and(|there| there.is_some_and(|there| there.ip() == self.local)) {
            let _ = self.call("DeletePortMapping", &port(public), "DeletePortMappingResponse");
        }
    }

    fn call(&self, action: &str, arguments: &[(&str, String)], wanted: &str) -> Result<Answer, UpnpError> {
        let arguments: String = arguments.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
        let service = &self.service;
        let body = format!(
            "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{action} xmlns:u=\"{service}\">{arguments}</u:{action}></s:Body></s:Envelope>"
        );
        let request = self.agent.post(&self.control).header("SOAPAction", format!("\"{service}#{action}\""));
        let answer = request.content_type("text/xml; charset=\"utf-8\"").send(&body);
        let text = answer.and_then(|mut answer| answer.body_mut().with_config().limit(ANSWER_LIMIT).read_to_string());
        let text = text.map_err(|why| UpnpError::Refused(why.to_string()))?;
        read(&text, wanted).ok_or_else(|| UpnpError::Refused("its answer is not to be understood".into()))
    }
}

fn port(public: u16) -> [(&'static str, String); 3] {
    [("NewRemoteHost", String::new()), ("NewExternalPort", public.to_string()), ("NewProtocol", "TCP".into())]
}

fn refused(code: u32, why: &str) -> UpnpError {
    UpnpError::Refused(format!("{why} ({code})"))
}

/// The part of `http://ADDRESS[:PORT]/…` before the path, if it is the router itself.
fn authority(url: &str, router: Ipv4Addr) -> Option<&str> {
    let authority = url.strip_prefix("http://")?.split('/').next()?;
    let address = authority.parse().or_else(|_| authority.parse::<SocketAddrV4>().map(|address| *address.ip()));
    (address == Ok(router)).then_some(authority)
}

/// The service that forwards ports, and where it is to be asked.
fn wan_service(description: &str) -> Option<(String, String)> {
    let document = parse(description)?;
    let services = document.descendants().filter(|node| node.tag_name().name() == "service");
    let found = services.filter_map(|node| Some((child(node, "serviceType")?, child(node, "controlURL")?)));
    let mut forwarding = found.filter(|(kind, _)| SERVICES.iter().any(|service| kind.starts_with(service)));
    forwarding.next().map(|(service, path)| (service.to_owned(), path.to_owned()))
}

fn parse(text: &str) -> Option<Document<'_>> {
    if text.matches("xmlns").count() > NAMESPACES { None } else { Document::parse(text).ok() }
}

fn child<'d>(node: Node<'d, '_>, name: &str) -> Option<&'d str> {
    node.children().find(|child| child.tag_name().name() == name)?.text().map(str::trim)
}

/// The element `wanted` of an answer, or the error in it.
fn read(answer: &str, wanted: &str) -> Option<Answer> {
    let document = parse(answer)?;
    let text = |name: &str| {
        let node = document.descendants().find(|node| node.tag_name().name() == name)?;
        Some(node.text().unwrap_or_default().trim().to_owned())
    };
    if let Some(code) = text("errorCode") {
        return Some(Answer::Refused(code.parse().ok()?, text("errorDescription").unwrap_or_default()));
    }
    text(wanted).map(Answer::Value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    #[test]
    fn only_the_router_itself_is_asked() {
        assert_eq!(authority("http://192.168.1.1:5000/root.xml", ROUTER), Some("192.168.1.1:5000"));
        assert_eq!(authority("http://192.168.1.1/", ROUTER), Some("192.168.1.1"));
        for other in [
            "http://192.168.1.10:80/",
            "https://192.168.1.1/",
            "http://192.168.1.1@evil/",
            "http://192.168.1.1:80@evil/",
            "/ctl",
            "",
        ] {
            assert_eq!(authority(other, ROUTER), None, "{other}");
        }
    }

    #[test]
    fn the_service_is_found_wherever_a_description_has_it() {
        let description = "<?xml version='1.0'?><root xmlns='urn:schemas-upnp-org:device-1-0'><device><deviceList><device>\
             <serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>\
             <controlURL>/l3</controlURL></service><service>\
             <serviceType> urn:schemas-upnp-org:service:WANPPPConnection:2 </serviceType><controlURL>/ctl/ip</controlURL>\
             </service></serviceList></device></deviceList></device></root>";
        let expected = ("urn:schemas-upnp-org:service:WANPPPConnection:2".into(), "/ctl/ip".into());
        assert_eq!(wan_service(description), Some(expected));
        for nothing in ["", "<root/>", "<service><serviceType>x</serviceType></service>", "<html>404"] {
            assert_eq!(wan_service(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn answers_are_told_from_errors() {
        let value = "<s:Envelope xmlns:s='x'><s:Body><u:R xmlns:u='y'><NewExternalIPAddress>80.100.95.20</NewExternalIPAddress></u:R></s:Body></s:Envelope>";
        assert!(matches!(read(value, "NewExternalIPAddress"), Some(Answer::Value(text)) if text == "80.100.95.20"));
        let error = "<s:Fault xmlns:s='x'><detail><UPnPError xmlns='z'><errorCode>718</errorCode><errorDescription>ConflictInMappingEntry</errorDescription></UPnPError></detail></s:Fault>";
        assert!(matches!(read(error, "whatever"), Some(Answer::Refused(718, why)) if why == "ConflictInMappingEntry"));
        assert!(read("<html>", "x").is_none() && read("<a/>", "x").is_none());
        // What would keep a parser busy for hours.
        let bomb: String = (0..1000).map(|number| format!("<a xmlns:q{number}='b'>")).collect();
        assert!(read(&(bomb + &"</a>".repeat(1000)), "a").is_none());
    }
}
