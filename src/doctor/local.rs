//! What can be seen on this machine and in this home.

use std::fs::{File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, ToSocketAddrs};
use std::time::SystemTime;

use super::finding::Doctor;
use crate::certificate::{self, Certificate, CertificateError};
use crate::config::{Config, PublicHost};
use crate::delivery::identity;
use crate::home::address::{self, AddressError};
use crate::home::route;
use crate::home::router::Router;
use crate::home::services::Services;
use crate::home::upnp::{FindError, Gateway, UpnpError};
use crate::secret::printable;
use crate::system::files;

/// Secrets that others can read.
pub(crate) fn files(doctor: &mut Doctor, config: &Config) {
    const CHECK: &str = "files";
    let key = config.tls.then_some(&config.certificate_files.private_key);
    let secrets = config.bots.iter().filter_map(|bot| bot.file.as_ref()).chain(key);
    let open: Vec<_> =
        secrets.filter(|path| files::is_world_accessible(path)).map(|path| path.display().to_string()).collect();
    if open.is_empty() {
        doctor.good(CHECK, "no secret is readable by everyone");
    } else {
        let list = open.join(" and ");
        doctor.warn(
            CHECK,
            format!("everyone on this machine can read {list}"),
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
            let found = format!("whether the bot runs is not known: {}: {why}", config.runtime_dir.display());
            doctor.warn(CHECK, found, "run the doctor as root, or as the user that the bot runs as");
        }
        _ => doctor.bad(CHECK, "the bot does not run", "start the bot: sudo systemctl start pihook, or pihook run"),
    }
}

/// Whether the certificate is one that Telegram accepts. Returns it where it serves.
pub(crate) fn certificate(doctor: &mut Doctor, config: &Config) -> Option<Certificate> {
    const CHECK: &str = "certificate";
    let path = &config.certificate_files.certificate;
    if !path.exists() {
        doctor.warn(CHECK, format!("{} is not there", path.display()), "start the bot: it makes one");
        return None;
    }
    let certificate = load(doctor, CHECK, config)?;
    let (host, now) = (identity::known_host(config, &certificate), SystemTime::now());
    let days = certificate.days(now);
    match identity::check_fit(config, &certificate, host.as_deref()) {
        Err(why @ CertificateError::NotOurs(_)) => {
            doctor.bad(CHECK, why.to_string(), "move it away and restart the bot");
            return None;
        }
        Err(why @ CertificateError::NotYetValid(_)) => {
            doctor.bad(
                CHECK,
                why.to_string(),
                "see that the clock is right; if it is, wait, or get one that counts now",
            );
        }
        Err(why) if certificate.is_ours() => doctor.bad(CHECK, why.to_string(), "restart the bot: it makes a new one"),
        Err(why @ CertificateError::Chain(_)) => {
            doctor.bad(CHECK, why.to_string(), "then restart the bot");
        }
        Err(why) => doctor.bad(CHECK, why.to_string(), "make or get a new one"),
        Ok(doubts) if !doubts.is_empty() => {
            doctor.warn(CHECK, doubts.join(" "), "watch whether messages arrive; a usual certificate leaves no doubt");
        }
        Ok(_) if certificate.renewal(now).is_zero() && !certificate.is_ours() => {
            doctor.warn(CHECK, format!("it ends in {days} day(s)"), "renew it: pihook does so only with its own");
        }
        Ok(_) => {
            let owner = if certificate.is_ours() { "pihook's own" } else { "your own" };
            let kind = certificate.kind();
            doctor.good(CHECK, format!("{owner}, {kind}, for {days} more days"));
        }
    }
    Some(certificate)
}

fn load(doctor: &mut Doctor, check: &'static str, config: &Config) -> Option<Certificate> {
    let (why, remedy) = match certificate::load(&config.certificate_files) {
        Ok(certificate) => return Some(certificate),
        Err(why @ CertificateError::File(..)) => (why, "run the doctor as root, or as the user that the bot runs as"),
        Err(why) => (why, "put the right pair there, or move it away: then pihook makes one"),
    };
    doctor.bad(check, why.to_string(), remedy);
    None
}

/// Whether the internet sees this home where Telegram is told to call. Returns the address that it sees.
pub(crate) fn address(doctor: &mut Doctor, config: &Config, host: Option<&str>) -> Option<Ipv4Addr> {
    const CHECK: &str = "public address";
    let gateway = route::gateway(&route::table());
    // It is asked for nothing that a nonce is for.
    let own = Router::new([0; 3], config.watch_interval).ok().and_then(|mut router| router.address(gateway));
    let address = match address::agree(own, Services::new(&config.address_services).ask()) {
        Ok(address) => address,
        Err(why @ AddressError::Reserved(_)) => {
            doctor.bad(CHECK, why.to_string(), "without a public address no webhook can work");
            return None;
        }
        Err(why) => {
            let remedy = match config.proxy {
                None => "see that address_services can be reached; then run this again",
                Some(_) => {
                    "where only the proxy leads out, that is so, and nothing gets in: set delivery = \"polling\""
                }
            };
            doctor.warn(CHECK, why.to_string(), remedy);
            return None;
        }
    };
    let there = |name: &str| (name, 0).to_socket_addrs().into_iter().flatten().any(|found| found.ip() == address);
    match host {
        Some(host) if host.parse() == Ok(address) => doctor.good(CHECK, format!("{address}, as it should be")),
        Some(host) if host.parse::<Ipv4Addr>().is_err() && there(host) => {
            doctor.good(CHECK, format!("{address}, where {host} leads"));
        }
        Some(host) if host.parse::<Ipv4Addr>().is_err() => doctor.bad(
            CHECK,
            format!("{address}, and {host} leads somewhere else, or nowhere"),
            "see to your dynamic DNS, or set public_host = \"auto\"",
        ),
        None => doctor.good(CHECK, format!("{address}, and the bot will find it")),
        Some(host) if config.public_host == PublicHost::Auto => doctor.warn(
            CHECK,
            format!("{address}, and the certificate is still for {host}"),
            "wait some minutes: the running bot follows",
        ),
        Some(host) => doctor.bad(
            CHECK,
            format!("{address}, and public_host is {host}"),
            format!("set public_host = \"{address}\", or \"auto\" so that it follows the address"),
        ),
    }
    router(doctor, config, (gateway, own), address);
    Some(address)
}

/// Whether something translates addresses between the router and the internet, and where the router forwards the port to.
fn router(
    doctor: &mut Doctor,
    config: &Config,
    (gateway, own): (Option<Ipv4Addr>, Option<Ipv4Addr>),
    outside: Ipv4Addr,
) {
    const CHECK: &str = "router";
    const BY_HAND: &str = "see in its settings that it forwards the port to this Pi";
    match (address::translation(own, outside), own) {
        (None, _) => {}
        // Two routers that both forward the port are enough.
        (Some(why), Some(own)) if own.is_private() => doctor.warn(CHECK, why, ""),
        (Some(why), _) => return doctor.bad(CHECK, why, "until then Telegram cannot call this home"),
    }
    let port = config.public_port;
    let here = gateway.and_then(|gateway| route::local_address(gateway).ok());
    // Only UPnP can be asked that.
    let found = gateway.map_or(Err(FindError::Silent), Gateway::find);
    if let Err(FindError::Unclear(what)) = &found {
        return doctor.warn(CHECK, format!("it answers by UPnP, and {}", printable(what)), BY_HAND);
    }
    match (found.ok().map(|gateway| gateway.forwarded(port)), own) {
        (Some(Ok(Some(there))), _) if Some(there.ip()) == here => {
            doctor.good(CHECK, format!("it forwards port {port} to {there}, which is here"));
        }
        (Some(Ok(Some(there))), _) => doctor.bad(
            CHECK,
            format!("it forwards port {port} to {there}, and this Pi is another machine"),
            "change that in its settings, and give this Pi a fixed address there",
        ),
        (Some(Ok(None)), _) if config.port_mapping => {
            doctor.warn(CHECK, format!("it has no mapping of port {port}"), "start the bot: it asks for one");
        }
        (Some(Err(UpnpError::Refused(what))), _) => {
            doctor.warn(CHECK, format!("it does not say what it forwards: {}", printable(&what)), BY_HAND);
        }
        (_, Some(own)) => {
            let found =
                format!("its own address is {own}, the one that the internet sees; what it forwards it does not say");
            doctor.warn(CHECK, found, BY_HAND);
        }
        (_, None) => doctor.warn(
            CHECK,
            "it says nothing by PCP, NAT-PMP or UPnP",
            "see in its settings that it forwards the port to this Pi, or switch UPnP on for port_mapping = \"auto\"",
        ),
    }
}
