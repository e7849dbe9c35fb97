//! What can be seen on this machine and in this home.

use std::fs::{File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, ToSocketAddrs};
use std::time::SystemTime;

use super::finding::{Doctor, START};
use crate::certificate::{self, Certificate, CertificateError};
use crate::config::{Config, PublicHost};
use crate::delivery::endpoint;
use crate::home::address::{self, AddressError};
use crate::home::route;
use crate::home::router::Router;
use crate::home::services::Services;
use crate::home::upnp::{FindError, Gateway, UpnpError};
use crate::secret::printable;
use crate::system::files;

const AS_ROOT: &str = "run the doctor with sudo, or as the user that runs the bot";
const MOVE_AWAY: &str = "move the certificate and its key to another folder, and restart the bot";
const NOT_YET: &str =
    "check the clock; if the clock is right, wait, or get a certificate that is already valid";
const RENEW: &str = "renew the certificate: pihook renews only a certificate that it made";
const RIGHT_PAIR: &str = "put the right pair of certificate and key there; or move both to another folder and restart the bot: \
                          it makes a new pair";
const POLL: &str =
    "without a public address, a webhook cannot work: let the bot poll (delivery = \"polling\")";
const SERVICES: &str =
    "check that this machine reaches the addresses in address_services, and run the doctor again";
const ONLY_PROXY: &str = "this is normal if this machine reaches the internet only through the proxy; Telegram cannot call the bot \
                          then: set delivery = \"polling\"";
const FORWARD: &str =
    "forward the port to this Pi in the router's settings, and give this Pi a fixed address there";
const BY_HAND: &str = "check in the router's settings that it forwards the port to this Pi";
const BY_HAND_OR_UPNP: &str = "check in the router's settings that it forwards the port to this Pi; or switch UPnP on there, and \
                               set port_mapping = \"auto\"";

/// Secrets that others can read.
pub(crate) fn files(doctor: &mut Doctor, config: &Config) {
    const CHECK: &str = "files";
    let key = config.tls.then_some(&config.certificate_files.private_key);
    let secrets = config
        .bots
        .iter()
        .filter_map(|bot| bot.file.as_ref())
        .chain(key);
    let open: Vec<_> = secrets
        .filter(|path| files::is_world_accessible(path))
        .map(|path| path.display().to_string())
        .collect();
    if open.is_empty() {
        doctor.good(CHECK, "other users cannot read the secrets");
    } else {
        let list = open.join(" and ");
        doctor.warn(
            CHECK,
            format!("every user of this machine can read {list}"),
            format!("chmod 600 {}", open.join(" ")),
        );
    }
}

/// Whether the bot runs, where there is no port to ask at: a bot that runs has locked its folder.
pub(crate) fn process(doctor: &mut Doctor, config: &Config) {
    const CHECK: &str = "process";
    match File::open(&config.runtime_dir).map(|folder| folder.try_lock()) {
        Ok(Err(TryLockError::WouldBlock)) => doctor.good(CHECK, "the bot runs"),
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            let found = format!(
                "the doctor cannot see whether the bot runs: {}: {why}",
                config.runtime_dir.display()
            );
            doctor.warn(CHECK, found, AS_ROOT);
        }
        _ => doctor.bad(CHECK, "the bot is not running", START),
    }
}

/// Whether the certificate is one that Telegram accepts. Returns it where it serves.
pub(crate) fn certificate(doctor: &mut Doctor, config: &Config) -> Option<Certificate> {
    const CHECK: &str = "certificate";
    let path = &config.certificate_files.certificate;
    if !path.exists() {
        doctor.warn(
            CHECK,
            format!("{} does not exist", path.display()),
            "start the bot: it makes a certificate",
        );
        return None;
    }
    let certificate = load(doctor, CHECK, config)?;
    let (host, now) = (
        endpoint::known_host(config, Some(&certificate)),
        SystemTime::now(),
    );
    let days = certificate.days(now);
    match endpoint::check_fit(config, &certificate, host.as_deref()) {
        Err(why @ CertificateError::NotOurs(_)) => {
            doctor.bad(CHECK, why.to_string(), MOVE_AWAY);
            return None;
        }
        Err(why @ CertificateError::NotYetValid(_)) => doctor.bad(CHECK, why.to_string(), NOT_YET),
        Err(why) if certificate.is_ours() => {
            doctor.bad(
                CHECK,
                why.to_string(),
                "restart the bot: it makes a new certificate",
            );
        }
        Err(why @ CertificateError::Chain(_)) => {
            doctor.bad(
                CHECK,
                why.to_string(),
                "repair the certificate file as the message says, and restart the bot",
            );
        }
        Err(why) => doctor.bad(
            CHECK,
            why.to_string(),
            "make or get a new certificate, and restart the bot",
        ),
        Ok(doubts) if !doubts.is_empty() => {
            doctor.warn(
                CHECK,
                doubts.join(" "),
                "write to the bot: if it answers, Telegram accepts the certificate",
            );
        }
        Ok(_) if certificate.renewal(now).is_zero() && !certificate.is_ours() => {
            doctor.warn(
                CHECK,
                format!("the certificate expires in {days} day(s)"),
                RENEW,
            );
        }
        Ok(_) => {
            let owner = if certificate.is_ours() {
                "made by pihook"
            } else {
                "your own"
            };
            let kind = certificate.kind();
            doctor.good(
                CHECK,
                format!("{owner}, {kind}, valid for {days} more days"),
            );
        }
    }
    Some(certificate)
}

fn load(doctor: &mut Doctor, check: &'static str, config: &Config) -> Option<Certificate> {
    let (why, remedy) = match certificate::load(&config.certificate_files) {
        Ok(certificate) => return Some(certificate),
        Err(why) if why.is_forbidden() => (why, AS_ROOT),
        Err(why) => (why, RIGHT_PAIR),
    };
    doctor.bad(check, why.to_string(), remedy);
    None
}

/// Whether the internet sees this home where Telegram is told to call. Returns the address that it
/// sees.
pub(crate) fn address(
    doctor: &mut Doctor,
    config: &Config,
    host: Option<&str>,
) -> Option<Ipv4Addr> {
    const CHECK: &str = "public address";
    let gateway = route::gateway(&route::table());
    // It is asked for nothing that a nonce is for.
    let own = Router::new([0; 3], config.watch_interval)
        .ok()
        .and_then(|mut router| router.address(gateway));
    let address = match address::agree(own, Services::new(&config.address_services).ask()) {
        Ok(address) => address,
        Err(why @ AddressError::Reserved(_)) => {
            doctor.bad(CHECK, why.to_string(), POLL);
            return None;
        }
        Err(why) => {
            let remedy = if config.proxy.is_some() {
                ONLY_PROXY
            } else {
                SERVICES
            };
            doctor.warn(CHECK, why.to_string(), remedy);
            return None;
        }
    };
    let there = |name: &str| {
        (name, 0)
            .to_socket_addrs()
            .into_iter()
            .flatten()
            .any(|found| found.ip() == address)
    };
    match host {
        Some(host) if host.parse() == Ok(address) => {
            doctor.good(CHECK, format!("{address}, the same that the bot uses"));
        }
        Some(host) if host.parse::<Ipv4Addr>().is_err() && there(host) => {
            doctor.good(CHECK, format!("{address}, and {host} has this address"));
        }
        Some(host) if host.parse::<Ipv4Addr>().is_err() => doctor.bad(
            CHECK,
            format!("{address}, but {host} has another address or none"),
            "check your dynamic DNS, or set public_host = \"auto\"",
        ),
        None => doctor.good(
            CHECK,
            format!("{address}; the bot finds this address when it starts"),
        ),
        Some(host) if config.public_host == PublicHost::Auto => doctor.warn(
            CHECK,
            format!("{address}, but the certificate is still for {host}"),
            "wait some minutes: the running bot makes a new certificate",
        ),
        Some(host) => doctor.bad(
            CHECK,
            format!("{address}, but public_host is {host}"),
            format!(
                "set public_host = \"{address}\", or \"auto\": then the bot uses each new address"
            ),
        ),
    }
    router(doctor, config, (gateway, own), address);
    Some(address)
}

/// Whether something translates addresses between the router and the internet, and where the router
/// forwards the port to.
fn router(
    doctor: &mut Doctor,
    config: &Config,
    (gateway, own): (Option<Ipv4Addr>, Option<Ipv4Addr>),
    outside: Ipv4Addr,
) {
    const CHECK: &str = "router";
    match (address::translation(own, outside), own) {
        (None, _) => {}
        // Two routers that both forward the port are enough.
        (Some(why), Some(own)) if own.is_private() => doctor.warn(CHECK, why, ""),
        (Some(why), _) => {
            return doctor.bad(
                CHECK,
                why,
                "until this is solved, Telegram cannot call this home",
            );
        }
    }
    let port = config.public_port;
    let here = gateway.and_then(|gateway| route::local_address(gateway).ok());
    // Only UPnP can be asked that.
    let found = gateway.map_or(Err(FindError::Silent), Gateway::find);
    if let Err(FindError::Unclear(what)) = &found {
        return doctor.warn(
            CHECK,
            format!("the router answers by UPnP, but {}", printable(what)),
            BY_HAND,
        );
    }
    match (found.ok().map(|gateway| gateway.forwarded(port)), own) {
        (Some(Ok(Some(there))), _) if Some(there.ip()) == here => {
            doctor.good(
                CHECK,
                format!("the router forwards port {port} to {there}, which is this Pi"),
            );
        }
        (Some(Ok(Some(there))), _) => {
            doctor.bad(
                CHECK,
                format!("the router forwards port {port} to {there}, which is not this Pi"),
                FORWARD,
            );
        }
        (Some(Ok(None)), _) if config.port_mapping => {
            doctor.warn(
                CHECK,
                format!("the router does not forward port {port}"),
                "start the bot: it asks the router to forward the port",
            );
        }
        (Some(Err(UpnpError::Refused(what))), _) => {
            let found = format!(
                "the router does not say where it forwards the port: {}",
                printable(&what)
            );
            doctor.warn(CHECK, found, BY_HAND);
        }
        (_, Some(own)) => {
            let found = format!(
                "the router's own address is {own}, the same that the internet sees; the router does not say where it \
                 forwards the port"
            );
            doctor.warn(CHECK, found, BY_HAND);
        }
        (_, None) => doctor.warn(
            CHECK,
            "the router does not answer by PCP, NAT-PMP or UPnP",
            BY_HAND_OR_UPNP,
        ),
    }
}
