//! What Telegram knows this bot by, the host and the certificate: they change together, and are registered together.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;

use super::keeper::{self, Listeners};
use super::registration::Registration;
use crate::certificate::rollover::Offer;
use crate::certificate::{self, Certificate, Error};
use crate::config::{Config, Host};
use crate::system::files;
use crate::telegram::client::Api;

/// Stands in the certificate until there is an address.
const NOWHERE: &str = "pihook.invalid";
/// A clock can be set at any time, so that a certificate's time is looked at more often than it would seem to need.
const LOOK: Duration = Duration::from_secs(3600);

/// Host and certificate as they are now, and who is told of a change.
pub(crate) struct Identity<'c> {
    config: &'c Config,
    /// None until the address is known.
    host: Option<String>,
    certificate: Certificate,
    offer: Arc<Offer>,
    registrar: Registrar,
    /// What is wanted and not registered yet.
    wanted: BTreeSet<String>,
    is_end_told: bool,
}

/// Host and certificate to begin with. A certificate of ours is made when there is none, or when it does not fit.
///
/// # Errors
/// When a certificate cannot be made, or a user's own does not fit.
pub(crate) fn first(config: &Config) -> Result<(Option<String>, Certificate), Error> {
    let paths = (&*config.certificate, &*config.private_key);
    if !config.certificate.exists() {
        let host = match &config.public_host {
            Host::Given(host) => host,
            Host::Auto => NOWHERE,
        };
        certificate::renew(host, paths.0, paths.1)?.1?;
        log::info!("Made a certificate for {host}: {}.", paths.0.display());
    }
    let mut certificate = certificate::load(paths.0, paths.1)?;
    if config.public_host == Host::Auto && !certificate.is_ours() {
        return Err(Error::NotOurs(paths.0.to_owned()));
    }
    let host = host(config, &certificate);
    if let Some(host) = &host {
        if certificate.is_ours() && !is_good(&certificate, host) {
            certificate = renew(host, config)?;
        }
        check(&certificate, host, config)?;
    }
    Ok((host, certificate))
}

/// Where Telegram is to call, as far as it is known: without an address in the settings, the certificate has the last one.
#[must_use]
pub(crate) fn host(config: &Config, certificate: &Certificate) -> Option<String> {
    match &config.public_host {
        Host::Given(host) => Some(host.clone()),
        Host::Auto => certificate.address().map(|address| address.to_string()),
    }
}

/// Whether it names the host, and does so for long enough.
fn is_good(certificate: &Certificate, host: &str) -> bool {
    certificate.names(host) && !certificate.renewal(SystemTime::now()).is_zero()
}

fn renew(host: &str, config: &Config) -> Result<Certificate, Error> {
    let (made, written) = certificate::renew(host, &config.certificate, &config.private_key)?;
    match written {
        Ok(()) => log::info!("Made a new certificate for {host}."),
        Err(why) => log::warn!("The new certificate for {host} lasts until the next start: {why}"),
    }
    Ok(made)
}

/// As [`Certificate::check`], with warnings where it serves all the same.
fn check(certificate: &Certificate, host: &str, config: &Config) -> Result<(), Error> {
    match certificate.check(host, SystemTime::now()) {
        // A Pi starts with a clock from the past, and Telegram has one of its own.
        Err(why @ Error::NotYetValid) => log::warn!("{why} It is served all the same."),
        checked => checked?,
    }
    let key = &config.private_key;
    if files::is_open(key) {
        log::warn!("Everyone on this machine can read {}: chmod 600 it.", key.display());
    }
    Ok(())
}

impl<'c> Identity<'c> {
    /// Takes what [`first`] found, and registers it.
    ///
    /// # Errors
    /// When the certificate cannot serve.
    pub(crate) fn new(
        config: &'c Config,
        (host, certificate): (Option<String>, Certificate),
        registrar: Registrar,
    ) -> Result<Self, Error> {
        let offer = Arc::new(Offer::new(tls(&certificate)?));
        let mut identity =
            Self { config, host, certificate, offer, registrar, wanted: BTreeSet::new(), is_end_told: false };
        identity.register();
        Ok(identity)
    }

    /// What the edge shows.
    #[must_use]
    pub(crate) fn offer(&self) -> Arc<Offer> {
        Arc::clone(&self.offer)
    }

    /// The home has moved to `address`; [`Identity::renew`] has the certificate follow.
    pub(crate) fn moved(&mut self, address: Ipv4Addr) {
        log::info!("This home's address is {address}.");
        self.host = Some(address.to_string());
        if self.certificate.names(&address.to_string()) {
            self.register();
        }
    }

    /// Takes the files' certificate in place of the one that is served, and registers it.
    ///
    /// # Errors
    /// When it cannot serve. Then the old one stays.
    pub(crate) fn reload(&mut self) -> Result<(), Error> {
        self.adopt(certificate::load(&self.config.certificate, &self.config.private_key)?)
    }

    fn adopt(&mut self, new: Certificate) -> Result<(), Error> {
        if self.config.public_host == Host::Auto && !new.is_ours() {
            return Err(Error::NotOurs(self.config.certificate.clone()));
        }
        if let Some(host) = &self.host {
            check(&new, host, self.config)?;
        }
        self.offer.begin(tls(&new)?);
        self.certificate = new;
        self.is_end_told = false;
        self.register();
        Ok(())
    }

    /// Sees to it that the certificate is good: one of ours is made anew when it ends, or the host is another. Returns when to
    /// ask again.
    pub(crate) fn renew(&mut self) -> Duration {
        let Some(host) = self.host.clone() else { return LOOK };
        if is_good(&self.certificate, &host) {
            return self.certificate.renewal(SystemTime::now()).min(LOOK);
        }
        if self.certificate.is_ours() {
            let renewed = renew(&host, self.config).and_then(|new| self.adopt(new));
            match renewed {
                Ok(()) => {}
                Err(why) => log::error!("No certificate could be made for {host}: {why}"),
            }
        } else if !self.is_end_told {
            self.is_end_told = true;
            log::warn!("The certificate {} ends soon: renew it.", self.config.certificate.display());
        }
        LOOK
    }

    /// Telegram has what this digest stands for. When it has all, the old certificate is shown no more.
    pub(crate) fn registered(&mut self, digest: &str) {
        if self.wanted.remove(digest) && self.wanted.is_empty() {
            self.offer.settle();
        }
    }

    fn register(&mut self) {
        if let Some(host) = &self.host {
            self.wanted = self.registrar.register(self.config, host, &self.certificate);
        }
    }
}

fn tls(certificate: &Certificate) -> Result<Arc<ServerConfig>, Error> {
    certificate.tls().map(Arc::new).map_err(|why| Error::Tls(why.to_string()))
}

/// The threads that keep the webhooks registered, one for each bot.
pub(crate) struct Registrar {
    api: Api,
    bots: Vec<Sender<Registration>>,
}

impl Registrar {
    /// Starts them; `listeners` makes what each of them tells.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn start(config: &Config, api: Api, listeners: impl Fn() -> Listeners) -> io::Result<Self> {
        let mut bots = Vec::new();
        for bot in &config.bots {
            let (sender, wanted) = mpsc::channel();
            let (interval, listeners) = (config.watch_interval, listeners());
            let keep = move || keeper::keep(&wanted, interval, &listeners);
            thread::Builder::new().name(format!("webhook {}", bot.token.id())).spawn(keep)?;
            bots.push(sender);
        }
        Ok(Self { api, bots })
    }

    /// Wants this registered; the digests of it.
    fn register(&self, config: &Config, host: &str, certificate: &Certificate) -> BTreeSet<String> {
        let mut digests = BTreeSet::new();
        for (bot, sender) in config.bots.iter().zip(&self.bots) {
            let wanted = Registration::new(config, bot, &self.api, host, certificate.upload());
            digests.insert(wanted.digest().to_owned());
            // The thread lives as long as this sender.
            let _ = sender.send(wanted);
        }
        digests
    }
}
