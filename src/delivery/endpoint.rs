//! The endpoint by which Telegram knows this bot: a host and a certificate. They change together,
//! and are registered together. Where TLS ends elsewhere, there is a host alone: the certificate
//! belongs to the proxy or the tunnel.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;

use super::bot_threads::BotThreads;
use super::reached_note::ReachedNote;
use super::registration::Registration;
use crate::certificate::rollover::Rollover;
use crate::certificate::{self, Certificate, CertificateError};
use crate::config::{BotSettings, Config, Delivery, PublicHost};
use crate::status::facts::Status;
use crate::system::files;
use crate::telegram::client::Api;

/// The host that stands in the certificate until an address is known.
const PLACEHOLDER_HOST: &str = "pihook.invalid";
/// The longest wait between two looks at the certificate's dates: somebody can set the clock at any
/// time.
const CHECK_INTERVAL: Duration = Duration::from_secs(3600);

/// Host and certificate as they are now. A change is registered with Telegram; until Telegram has
/// it, the edge can show the old certificate, too.
pub(crate) struct Endpoint<'c> {
    config: &'c Config,
    /// None until the address is known.
    host: Option<String>,
    /// None where TLS ends elsewhere.
    tls: Option<Tls>,
    api: Api,
    /// The kinds of update that the bots want.
    allowed_updates: &'static [&'static str],
    threads: Arc<BotThreads>,
    /// The bots poll for now: nothing is registered.
    is_polling: bool,
    /// The digests of the registrations that Telegram does not have yet.
    wanted: BTreeSet<String>,
    reached_note: ReachedNote,
    /// Shows the endpoint to a person.
    status: Arc<Status>,
    is_expiry_logged: bool,
}

/// Host and certificate to begin with.
pub(crate) struct Prepared {
    /// None until the address is known.
    host: Option<String>,
    tls: Option<Tls>,
}

/// The certificate, and how the edge shows it.
struct Tls {
    certificate: Certificate,
    rollover: Arc<Rollover>,
}

impl Prepared {
    /// The certificates that the edge shows; None where TLS ends elsewhere.
    pub(crate) fn rollover(&self) -> Option<Arc<Rollover>> {
        self.tls.as_ref().map(|tls| Arc::clone(&tls.rollover))
    }

    /// The address that was used last, if it was one.
    pub(crate) fn last_address(&self) -> Option<Ipv4Addr> {
        self.tls.as_ref()?.certificate.address()
    }
}

/// Finds host and certificate. A certificate of ours is made when there is none, or when it does
/// not fit.
///
/// # Errors
/// When a certificate cannot be made, or a user's own does not fit.
pub(crate) fn prepare(config: &Config) -> Result<Prepared, CertificateError> {
    if !config.tls {
        return Ok(Prepared {
            host: known_host(config, None),
            tls: None,
        });
    }
    let files = &config.certificate_files;
    let mut certificate = if files.certificate.exists() {
        certificate::load(files)?
    } else {
        make_first(config)?
    };

    let host = known_host(config, Some(&certificate));
    if let Some(host) = &host
        && certificate.is_ours()
        && !certificate.is_good_for(host, SystemTime::now())
    {
        certificate = renew(host, config)?;
    }
    accept(&certificate, host.as_deref(), config)?;

    let rollover = Arc::new(Rollover::new(tls(&certificate)?));
    Ok(Prepared {
        host,
        tls: Some(Tls {
            certificate,
            rollover,
        }),
    })
}

fn make_first(config: &Config) -> Result<Certificate, CertificateError> {
    let host = config.public_host.given().unwrap_or(PLACEHOLDER_HOST);
    let files = &config.certificate_files;
    let made = certificate::renew(host, files)?;
    made.written?;
    log::info!(
        "Made a certificate for {host}: {}.",
        files.certificate.display()
    );
    Ok(made.certificate)
}

/// The host that Telegram calls. Where the settings name none, the certificate holds the last
/// address; None when there was none.
pub(crate) fn known_host(config: &Config, certificate: Option<&Certificate>) -> Option<String> {
    match &config.public_host {
        PublicHost::Given(host) => Some(host.clone()),
        PublicHost::Auto => certificate?.address().map(|address| address.to_string()),
    }
}

/// Whether `certificate` names `host` under these settings, and is valid.
///
/// # Errors
/// Why it cannot.
fn check_fit(
    config: &Config,
    certificate: &Certificate,
    host: Option<&str>,
) -> Result<(), CertificateError> {
    check_owner(config, certificate)?;
    match host {
        Some(host) => certificate.check(host, SystemTime::now()),
        None => Ok(()),
    }
}

/// Whether Telegram will accept `certificate` at `host` under these settings: this asks `openssl
/// verify`. Returns a sentence where it cannot be known.
///
/// # Errors
/// Why it cannot.
pub(crate) fn judge(
    config: &Config,
    certificate: &Certificate,
    host: Option<&str>,
) -> Result<Option<String>, CertificateError> {
    check_owner(config, certificate)?;
    match host {
        Some(host) => certificate.judge(host, SystemTime::now()),
        None => Ok(None),
    }
}

/// Only a certificate of ours follows the address.
fn check_owner(config: &Config, certificate: &Certificate) -> Result<(), CertificateError> {
    if config.public_host == PublicHost::Auto && !certificate.is_ours() {
        return Err(CertificateError::NotOurs(
            config.certificate_files.certificate.clone(),
        ));
    }
    Ok(())
}

/// Whether the files hold a certificate that Telegram will accept under these settings, or none:
/// then, and where one of ours does not fit, `pihook run` makes one. Returns a sentence where it
/// cannot be known.
///
/// # Errors
/// Why it cannot.
pub(crate) fn judge_files(config: &Config) -> Result<Option<String>, CertificateError> {
    if config.delivery == Delivery::Polling
        || !config.tls
        || !config.certificate_files.certificate.exists()
    {
        return Ok(None);
    }
    let certificate = certificate::load(&config.certificate_files)?;
    if certificate.is_ours() {
        Ok(None)
    } else {
        judge(config, &certificate, config.public_host.given())
    }
}

/// Like [`check_fit`], but with a warning alone where the clock may be wrong.
fn accept(
    certificate: &Certificate,
    host: Option<&str>,
    config: &Config,
) -> Result<(), CertificateError> {
    match check_fit(config, certificate, host) {
        // A Pi starts with a clock from the past, and Telegram has one of its own.
        Err(error @ CertificateError::NotYetValid(_)) => {
            log::warn!("{error} The bot uses this certificate anyway.");
        }
        checked => checked?,
    }

    let key = &config.certificate_files.private_key;
    if files::is_world_accessible(key) {
        log::warn!(
            "Every user of this machine can read {0}. Run: chmod 600 {0}",
            key.display()
        );
    }
    Ok(())
}

fn renew(host: &str, config: &Config) -> Result<Certificate, CertificateError> {
    let renewed = certificate::renew(host, &config.certificate_files)?;
    match renewed.written {
        Ok(()) => log::info!("Made a new certificate for {host}."),
        Err(error) => {
            log::warn!(
                "The new certificate for {host} could not be saved, and is lost at the next restart: {error}"
            );
        }
    }
    Ok(renewed.certificate)
}

impl<'c> Endpoint<'c> {
    /// Begins with what [`prepare`] found. Nothing is registered yet.
    pub(crate) fn new(
        config: &'c Config,
        prepared: Prepared,
        api: Api,
        allowed_updates: &'static [&'static str],
        threads: Arc<BotThreads>,
        status: Arc<Status>,
    ) -> Self {
        let Prepared { host, tls } = prepared;
        Self {
            config,
            host,
            tls,
            api,
            allowed_updates,
            threads,
            is_polling: false,
            wanted: BTreeSet::new(),
            reached_note: ReachedNote::new(&config.state_dir, Arc::clone(&status)),
            status,
            is_expiry_logged: false,
        }
    }

    /// Whether there is a host to register.
    pub(crate) fn has_host(&self) -> bool {
        self.host.is_some()
    }

    /// Has all bots poll, and registers nothing until [`Endpoint::try_webhook`].
    pub(crate) fn poll(&mut self) {
        self.is_polling = true;
        self.wanted.clear();
        // Without a webhook, Telegram knows no old certificate.
        self.finish_rollover();
        self.register();
    }

    /// Has all bots set their webhooks.
    pub(crate) fn try_webhook(&mut self) {
        self.is_polling = false;
        self.order(true);
    }

    /// The home has moved to `address`; [`Endpoint::renew`] has the certificate follow.
    pub(crate) fn moved(&mut self, address: Ipv4Addr) {
        log::info!("This home's address is {address}.");
        let host = address.to_string();
        let is_named = match &self.tls {
            Some(tls) => tls.certificate.names(&host),
            None => false,
        };
        self.host = Some(host);
        if is_named {
            self.register();
        }
    }

    fn finish_rollover(&self) {
        if let Some(tls) = &self.tls {
            tls.rollover.finish();
        }
    }

    /// Takes the files' certificate in place of the one that is served, and registers it.
    ///
    /// # Errors
    /// When it cannot serve. Then the old one stays.
    pub(crate) fn reload(&mut self) -> Result<(), CertificateError> {
        self.adopt(certificate::load(&self.config.certificate_files)?)
    }

    /// Whether TLS ends here: then there is a certificate.
    pub(crate) fn has_certificate(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves the new certificate from now on, and registers it.
    fn adopt(&mut self, new: Certificate) -> Result<(), CertificateError> {
        let Some(shown) = &mut self.tls else {
            return Ok(());
        };
        accept(&new, self.host.as_deref(), self.config)?;
        shown.rollover.begin(tls(&new)?);
        shown.certificate = new;
        self.is_expiry_logged = false;
        self.register();
        Ok(())
    }

    /// Renews a certificate of ours that ends soon, or that is for another host. Returns how long
    /// to wait before the next look.
    pub(crate) fn renew(&mut self) -> Duration {
        let Some(host) = self.host.clone() else {
            return CHECK_INTERVAL;
        };
        let Some(tls) = &self.tls else {
            return CHECK_INTERVAL;
        };
        let now = SystemTime::now();
        if tls.certificate.is_good_for(&host, now) {
            return tls.certificate.renewal(now).min(CHECK_INTERVAL);
        }

        if tls.certificate.is_ours() {
            let renewed = renew(&host, self.config).and_then(|new| self.adopt(new));
            if let Err(error) = renewed {
                log::error!("pihook could not make a certificate for {host}: {error}");
            }
        } else if !self.is_expiry_logged {
            self.is_expiry_logged = true;
            self.log_expiry(&tls.certificate);
        }
        CHECK_INTERVAL
    }

    /// Says what is wrong with the dates of a user's own certificate.
    fn log_expiry(&self, certificate: &Certificate) {
        let path = self.config.certificate_files.certificate.display();
        let now = SystemTime::now();
        match certificate.begins_in(now) {
            Some(left) => log::warn!("{path}: {}", CertificateError::NotYetValid(left)),
            None if certificate.days(now) == 0 => {
                log::warn!(
                    "The certificate {path} expires within a day, or has expired: renew it."
                );
            }
            None => log::warn!(
                "The certificate {path} expires in {} day(s): renew it.",
                certificate.days(now)
            ),
        }
    }

    /// Notes that Telegram has the registration of this digest. When Telegram has all of them, the
    /// old certificate is dropped.
    pub(crate) fn registered(&mut self, digest: &str) {
        if self.wanted.remove(digest) && self.wanted.is_empty() {
            self.finish_rollover();
            self.reached_note.registered();
        }
    }

    /// Whether it would be news that Telegram reaches this Pi.
    pub(crate) fn awaits_reach(&self) -> bool {
        self.reached_note.is_awaited()
    }

    /// Notes that Telegram has reached this Pi.
    pub(crate) fn reached(&mut self) {
        self.reached_note.reached();
    }

    /// Registers host and certificate as they are now. While the bots poll, they only learn which
    /// webhook would be theirs.
    pub(crate) fn register(&mut self) {
        self.order(false);
    }

    fn order(&mut self, must_set: bool) {
        let registrations = self.registrations();
        if self.is_polling {
            self.threads.poll(registrations);
            self.finish_rollover();
            self.reached_note.begin(&BTreeSet::new());
            return;
        }
        let Some(host) = &self.host else {
            return;
        };

        let address = format!("{host}:{}", self.config.public_port);
        let end = self.tls.as_ref().map(|tls| tls.certificate.end());
        self.wanted = registrations
            .iter()
            .map(|registration| registration.digest().to_owned())
            .collect();
        self.threads.register(registrations, must_set);
        self.reached_note.begin(&self.wanted);
        self.status.serves(address, end);
    }

    /// One for each bot, in the order of the settings; none while the host is not known.
    fn registrations(&self) -> Vec<Registration> {
        let Some(host) = &self.host else {
            return Vec::new();
        };
        let mut registrations = Vec::new();
        for bot in &self.config.bots {
            registrations.push(self.registration(bot, host));
        }
        registrations
    }

    fn registration(&self, bot: &BotSettings, host: &str) -> Registration {
        let certificate = self.tls.as_ref().map(|tls| &tls.certificate);
        let upload = certificate.and_then(|certificate| certificate.upload(host));
        let registration = Registration::new(
            self.config,
            bot,
            &self.api,
            host,
            upload,
            self.allowed_updates,
        );
        let Some(certificate) = certificate else {
            return registration;
        };

        let fault = match check_fit(self.config, certificate, Some(host)) {
            // The clock here says nothing about Telegram's.
            Ok(_) | Err(CertificateError::NotYetValid(_)) => None,
            Err(error) => Some(error.to_string()),
        };
        registration
            .with_fault(fault)
            .with_own_certificate(certificate.is_ours())
    }
}

fn tls(certificate: &Certificate) -> Result<Arc<ServerConfig>, CertificateError> {
    certificate
        .tls()
        .map(Arc::new)
        .map_err(|error| CertificateError::Tls(error.to_string()))
}
