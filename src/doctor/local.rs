//! The checks on this machine and in this home: files, process, certificate, address and router.

use std::fs::{File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, ToSocketAddrs};
use std::time::SystemTime;

use super::finding::Doctor;
use crate::certificate::{self, Certificate, CertificateError};
use crate::config::{Config, PublicHost};
use crate::delivery::endpoint;
use crate::delivery::token_conflict::STOP_OTHER;
use crate::home::address::{self, AddressError};
use crate::home::route;
use crate::home::router::Router;
use crate::home::services::Services;
use crate::home::upnp::{FindError, Gateway, UpnpError};
use crate::secret::printable;
use crate::status::report::{self, Report};
use crate::system::files;
use crate::telegram::delivery_error::READ_LOG;

const CERTIFICATE: &str = "certificate";
const ADDRESS: &str = "public address";
const ROUTER: &str = "router";

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

/// Seconds after which a conflict is over for good. Another pihook looks more often.
const RECENT_CONFLICT: u64 = 600;

/// Whether other users can read the secrets.
pub(crate) fn files(doctor: &mut Doctor, config: &Config) {
    const CHECK: &str = "files";
    let mut secrets: Vec<_> = config.bots.iter().flat_map(|bot| &bot.file).collect();
    if config.tls {
        secrets.push(&config.certificate_files.private_key);
    }

    let mut open = Vec::new();
    for path in secrets {
        if files::is_world_accessible(path) {
            open.push(path.display().to_string());
        }
    }

    if open.is_empty() {
        return doctor.good(CHECK, "other users cannot read the secrets");
    }
    let found = format!("every user of this machine can read {}", open.join(" and "));
    doctor.warn(CHECK, found, format!("chmod 600 {}", open.join(" ")));
}

/// Whether a bot runs that has no port to ask at. A running bot has locked its `runtime_dir`.
pub(crate) fn process(doctor: &mut Doctor, config: &Config) {
    const CHECK: &str = "process";
    let folder = config.runtime_dir.display();
    match File::open(&config.runtime_dir).map(|folder| folder.try_lock()) {
        Ok(Err(TryLockError::WouldBlock)) => doctor.good(CHECK, "the bot runs"),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let found = format!("the doctor cannot see whether the bot runs: {folder}: {error}");
            doctor.warn(CHECK, found, AS_ROOT);
        }
        _ => doctor.not_running(CHECK, "the bot is not running"),
    }
}

/// What the running bot says of its polling. A bot that does not run, or cannot be asked, is found
/// by other checks.
pub(crate) fn polling(doctor: &mut Doctor, config: &Config) {
    const CHECK: &str = "polling";
    let Ok(report) = Report::ask(&report::socket(&config.runtime_dir)) else {
        return;
    };
    if !report.does_poll() {
        return;
    }

    for bot in report.bots {
        let id = bot.id;
        let conflict = bot
            .conflict_ago
            .filter(|seconds| *seconds < RECENT_CONFLICT);
        match (conflict, bot.problem) {
            (Some(seconds), Some(_)) => {
                let found = format!(
                    "bot {id}: another program polls with this token; {seconds} s ago it interrupted this bot"
                );
                doctor.bad(CHECK, found, STOP_OTHER);
            }
            (Some(seconds), None) => {
                let found =
                    format!("bot {id}: {seconds} s ago another program polled with this token");
                doctor.warn(CHECK, found, STOP_OTHER);
            }
            (None, Some(problem)) => doctor.bad(CHECK, format!("bot {id}: {problem}"), READ_LOG),
            (None, None) => doctor.good(CHECK, format!("bot {id}: getUpdates works")),
        }
    }
}

/// Whether Telegram accepts the certificate. Returns the certificate that the bot serves; None when
/// the bot cannot start with it.
pub(crate) fn certificate(doctor: &mut Doctor, config: &Config) -> Option<Certificate> {
    let path = &config.certificate_files.certificate;
    if !path.exists() {
        let found = format!("{} does not exist", path.display());
        doctor.warn(CERTIFICATE, found, "start the bot: it makes a certificate");
        return None;
    }
    let certificate = match certificate::load(&config.certificate_files) {
        Ok(certificate) => certificate,
        Err(error) => {
            let remedy = if error.is_forbidden() {
                AS_ROOT
            } else {
                RIGHT_PAIR
            };
            doctor.bad(CERTIFICATE, error.to_string(), remedy);
            return None;
        }
    };

    let host = endpoint::known_host(config, Some(&certificate));
    match endpoint::judge(config, &certificate, host.as_deref()) {
        Err(error) => {
            let remedy = remedy(&error, certificate.is_ours());
            doctor.bad(CERTIFICATE, error.to_string(), remedy);
            if matches!(error, CertificateError::NotOurs(_)) {
                return None;
            }
        }
        Ok(Some(doubt)) => {
            let remedy = "write to the bot: if it answers, Telegram accepts the certificate";
            doctor.warn(CERTIFICATE, doubt, remedy);
        }
        Ok(None) => validity(doctor, &certificate),
    }
    Some(certificate)
}

/// What to do about a certificate that the bot cannot use; `is_ours` where pihook made it.
fn remedy(error: &CertificateError, is_ours: bool) -> &'static str {
    match error {
        CertificateError::NotOurs(_) => MOVE_AWAY,
        CertificateError::NotYetValid(_) => NOT_YET,
        _ if is_ours => "restart the bot: it makes a new certificate",
        CertificateError::Chain(_) => {
            "repair the certificate file as the message says, and restart the bot"
        }
        _ => "make or get a new certificate, and restart the bot",
    }
}

/// Says how long a certificate that Telegram accepts is still valid.
fn validity(doctor: &mut Doctor, certificate: &Certificate) {
    let now = SystemTime::now();
    let days = certificate.days(now);
    let kind = certificate.kind();
    if certificate.is_ours() {
        let found = format!("made by pihook, {kind}, valid for {days} more days");
        doctor.good(CERTIFICATE, found);
    } else if certificate.renewal(now).is_zero() {
        let found = format!("the certificate expires in {days} day(s)");
        doctor.warn(CERTIFICATE, found, RENEW);
    } else {
        let found = format!("your own, {kind}, valid for {days} more days");
        doctor.good(CERTIFICATE, found);
    }
}

/// Whether the internet sees this home at the address that Telegram calls; then the router. Returns
/// the address that the internet sees.
pub(crate) fn address(
    doctor: &mut Doctor,
    config: &Config,
    host: Option<&str>,
) -> Option<Ipv4Addr> {
    let gateway = route::gateway(&route::table());
    // Only a mapping needs a nonce, and the doctor asks for none.
    let own = match Router::new([0; 3], config.watch_interval) {
        Ok(mut router) => router.address(gateway),
        Err(_) => None,
    };

    let address = match address::agree(own, Services::new(&config.address_services).ask()) {
        Ok(address) => address,
        Err(error @ AddressError::Reserved(_)) => {
            doctor.bad(ADDRESS, error.to_string(), POLL);
            return None;
        }
        Err(error) => {
            let remedy = if config.proxy.is_some() {
                ONLY_PROXY
            } else {
                SERVICES
            };
            doctor.warn(ADDRESS, error.to_string(), remedy);
            return None;
        }
    };
    compare(doctor, config, host, address);

    if translation(doctor, own, address) {
        forwarding(doctor, config, gateway, own);
    }
    Some(address)
}

/// Compares the host that Telegram calls with the address that the internet sees.
fn compare(doctor: &mut Doctor, config: &Config, host: Option<&str>, address: Ipv4Addr) {
    let Some(host) = host else {
        let found = format!("{address}; the bot finds this address when it starts");
        return doctor.good(ADDRESS, found);
    };

    let Ok(known) = host.parse::<Ipv4Addr>() else {
        // A DNS name.
        if resolves_to(host, address) {
            return doctor.good(ADDRESS, format!("{address}, and {host} has this address"));
        }
        let found = format!("{address}, but {host} has another address or none");
        let remedy = "check your dynamic DNS, or set public_host = \"auto\"";
        return doctor.bad(ADDRESS, found, remedy);
    };

    if known == address {
        doctor.good(ADDRESS, format!("{address}, the same that the bot uses"));
    } else if config.public_host == PublicHost::Auto {
        let found = format!("{address}, but the certificate is still for {host}");
        let remedy = "wait some minutes: the running bot makes a new certificate";
        doctor.warn(ADDRESS, found, remedy);
    } else {
        let found = format!("{address}, but public_host is {host}");
        let remedy = format!(
            "set public_host = \"{address}\", or \"auto\": then the bot uses each new address"
        );
        doctor.bad(ADDRESS, found, remedy);
    }
}

fn resolves_to(name: &str, address: Ipv4Addr) -> bool {
    match (name, 0).to_socket_addrs() {
        Ok(mut found) => found.any(|found| found.ip() == address),
        Err(_) => false,
    }
}

/// Whether Telegram's calls can pass from the internet to the router, whose own address is `own`.
fn translation(doctor: &mut Doctor, own: Option<Ipv4Addr>, outside: Ipv4Addr) -> bool {
    let Some(found) = address::translation(own, outside) else {
        return true;
    };
    // With a private address there are two routers at home. If both forward the port, it works.
    if own.is_some_and(|own| own.is_private()) {
        doctor.warn(ROUTER, found, "");
        return true;
    }
    let remedy = "until this is solved, Telegram cannot call this home";
    doctor.bad(ROUTER, found, remedy);
    false
}

/// Where the router at `gateway` forwards the port to. `own` is the router's own address, if it says
/// that itself.
fn forwarding(
    doctor: &mut Doctor,
    config: &Config,
    gateway: Option<Ipv4Addr>,
    own: Option<Ipv4Addr>,
) {
    let port = config.public_port;
    let here = gateway.and_then(|gateway| route::local_address(gateway).ok());

    // Of the three protocols, only UPnP tells the target of a mapping.
    let found = match gateway {
        Some(gateway) => Gateway::find(gateway),
        None => Err(FindError::Silent),
    };
    let answer = match found {
        Ok(router) => Some(router.forwarded(port)),
        Err(FindError::Silent) => None,
        Err(FindError::Unclear(reason)) => {
            let found = format!("the router answers by UPnP, but {}", printable(&reason));
            return doctor.warn(ROUTER, found, BY_HAND);
        }
    };

    match answer {
        Some(Ok(Some(target))) if Some(target.ip()) == here => {
            let found = format!("the router forwards port {port} to {target}, which is this Pi");
            doctor.good(ROUTER, found);
        }
        Some(Ok(Some(target))) => {
            let found =
                format!("the router forwards port {port} to {target}, which is not this Pi");
            doctor.bad(ROUTER, found, FORWARD);
        }
        Some(Ok(None)) if config.port_mapping => {
            let found = format!("the router does not forward port {port}");
            let remedy = "start the bot: it asks the router to forward the port";
            doctor.warn(ROUTER, found, remedy);
        }
        Some(Err(UpnpError::Refused(reason))) => {
            let found = format!(
                "the router does not say where it forwards the port: {}",
                printable(&reason)
            );
            doctor.warn(ROUTER, found, BY_HAND);
        }
        _ => unknown_forwarding(doctor, own),
    }
}

/// The router does not tell where it forwards the port to.
fn unknown_forwarding(doctor: &mut Doctor, own: Option<Ipv4Addr>) {
    let Some(own) = own else {
        let found = "the router does not answer by PCP, NAT-PMP or UPnP";
        return doctor.warn(ROUTER, found, BY_HAND_OR_UPNP);
    };
    let found = format!(
        "the router's own address is {own}, the same that the internet sees; the router does not say where it \
         forwards the port"
    );
    doctor.warn(ROUTER, found, BY_HAND);
}
