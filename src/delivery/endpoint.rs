//! The identity by which Telegram knows this bot: a host and a certificate. They change together,
//! and are registered together. Where TLS ends elsewhere, the certificate is somebody else's, and
//! there is a host alone.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;

use super::bot_thread::{BotDelivery, Order};
use super::reached::Reached;
use super::registration::Registration;
use crate::certificate::rollover::Rollover;
use crate::certificate::{self, Certificate, CertificateError};
use crate::config::{BotSettings, Config, Delivery, PublicHost};
use crate::status::facts::Status;
use crate::system::files;
use crate::telegram::client::Api;

/// Stands in the certificate until there is an address.
const PLACEHOLDER_HOST: &str = "pihook.invalid";
/// Between two looks at the certificate's dates: somebody can set the clock at any time.
const CHECK_INTERVAL: Duration = Duration::from_secs(3600);

/// Host and certificate as they are now. A change is registered, and rolled over at the edge.
pub(crate) struct Identity<'c> {
    config: &'c Config,
    /// None until the address is known.
    host: Option<String>,
    /// None where TLS ends elsewhere.
    tls: Option<Tls>,
    registrar: Arc<Registrar>,
    /// There is no webhook for now: nothing is registered.
    is_polling: bool,
    /// The digests of the registrations that Telegram does not have yet.
    wanted: BTreeSet<String>,
    reached: Reached,
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
    let (host, files) = (
        config.public_host.given().unwrap_or(PLACEHOLDER_HOST),
        &config.certificate_files,
    );
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
/// Why not.
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
/// Why not.
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
/// Why not.
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
        Err(why) => {
            log::warn!(
                "The new certificate for {host} could not be saved, and is lost at the next restart: {why}"
            );
        }
    }
    Ok(renewed.certificate)
}

impl<'c> Identity<'c> {
    /// Begins with what [`prepare`] found. Nothing is registered yet.
    pub(crate) fn new(
        config: &'c Config,
        prepared: Prepared,
        registrar: Arc<Registrar>,
        status: Arc<Status>,
    ) -> Self {
        let Prepared { host, tls } = prepared;
        Self {
            config,
            host,
            tls,
            registrar,
            is_polling: false,
            wanted: BTreeSet::new(),
            reached: Reached::new(&config.state_dir, status),
            is_expiry_logged: false,
        }
    }

    /// Whether there is a host to register.
    pub(crate) fn has_host(&self) -> bool {
        self.host.is_some()
    }

    /// Has all bots poll, and registers nothing until [`Identity::try_webhook`].
    pub(crate) fn poll(&mut self) {
        self.is_polling = true;
        self.wanted.clear();
        // Nobody is left who knows the old certificate.
        self.finish_rollover();
        self.register();
    }

    /// Has all bots set their webhooks.
    pub(crate) fn try_webhook(&mut self) {
        self.is_polling = false;
        self.order(true);
    }

    /// The home has moved to `address`; [`Identity::renew`] has the certificate follow.
    pub(crate) fn moved(&mut self, address: Ipv4Addr) {
        log::info!("This home's address is {address}.");
        self.host = Some(address.to_string());
        if self
            .tls
            .as_ref()
            .is_some_and(|tls| tls.certificate.names(&address.to_string()))
        {
            self.register();
        }
    }

    fn finish_rollover(&self) {
        self.tls.iter().for_each(|tls| tls.rollover.finish());
    }

    /// Takes the files' certificate in place of the one that is served, and registers it.
    ///
    /// # Errors
    /// When it cannot serve. Then the old one stays.
    pub(crate) fn reload(&mut self) -> Result<(), CertificateError> {
        self.adopt(certificate::load(&self.config.certificate_files)?)
    }

    /// Whether TLS ends here, so that there is a certificate.
    pub(crate) fn has_certificate(&self) -> bool {
        self.tls.is_some()
    }

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
        let (Some(host), Some(tls)) = (self.host.clone(), &self.tls) else {
            return CHECK_INTERVAL;
        };
        if tls.certificate.is_good_for(&host, SystemTime::now()) {
            return tls
                .certificate
                .renewal(SystemTime::now())
                .min(CHECK_INTERVAL);
        }
        if tls.certificate.is_ours() {
            if let Err(why) = renew(&host, self.config).and_then(|new| self.adopt(new)) {
                log::error!("pihook could not make a certificate for {host}: {why}");
            }
        } else if !self.is_expiry_logged {
            self.is_expiry_logged = true;
            self.log_expiry(&tls.certificate);
        }
        CHECK_INTERVAL
    }

    /// Says what is wrong with the dates of a user's own certificate.
    fn log_expiry(&self, certificate: &Certificate) {
        let (path, now) = (
            self.config.certificate_files.certificate.display(),
            SystemTime::now(),
        );
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
            self.reached.registered();
        }
    }

    /// Whether the first call of Telegram's is awaited.
    pub(crate) fn awaits_arrival(&self) -> bool {
        self.reached.is_awaited()
    }

    /// Notes that Telegram gets in.
    pub(crate) fn arrived(&mut self) {
        self.reached.arrived();
    }

    /// Registers host and certificate as they are now. While the bots poll, they only hear of it.
    pub(crate) fn register(&mut self) {
        self.order(false);
    }

    fn order(&mut self, must_set: bool) {
        let (config, registrar) = (self.config, &self.registrar);
        let registration = |index| {
            let bot = config.bots.get(index)?;
            Some(registrar.registration(config, bot, self.host.as_ref()?, self.tls.as_ref()))
        };
        if self.is_polling {
            registrar.poll(registration);
            self.finish_rollover();
            self.reached.begin(&BTreeSet::new());
        } else if let Some(host) = &self.host {
            self.wanted = registrar.register(registration, must_set);
            self.reached.begin(&self.wanted);
            let end = self.tls.as_ref().map(|tls| tls.certificate.end());
            self.reached
                .status
                .serves(format!("{host}:{}", config.public_port), end);
        }
    }
}

fn tls(certificate: &Certificate) -> Result<Arc<ServerConfig>, CertificateError> {
    certificate
        .tls()
        .map(Arc::new)
        .map_err(|why| CertificateError::Tls(why.to_string()))
}

/// The deliveries of all bots.
pub(crate) struct Registrar {
    /// The Bot API.
    pub(crate) api: Api,
    /// The kinds of update that the bots want.
    pub(crate) allowed_updates: &'static [&'static str],
    /// In the order of the settings.
    pub(crate) bots: Vec<BotDelivery>,
}

impl Registrar {
    fn registration(
        &self,
        config: &Config,
        bot: &BotSettings,
        host: &str,
        tls: Option<&Tls>,
    ) -> Registration {
        let certificate = tls.map(|tls| &tls.certificate);
        let upload = certificate.and_then(|certificate| certificate.upload(host));
        let registration =
            Registration::new(config, bot, &self.api, host, upload, self.allowed_updates);
        let fault =
            certificate.and_then(|certificate| check_fit(config, certificate, Some(host)).err());
        // The clock here says nothing about Telegram's.
        let fault = fault.filter(|why| !matches!(why, CertificateError::NotYetValid(_)));
        registration
            .with_fault(fault.map(|why| why.to_string()))
            .with_own_certificate(certificate.is_some_and(Certificate::is_ours))
    }

    /// Hands each bot its registration. Returns their digests.
    fn register(
        &self,
        registration: impl Fn(usize) -> Option<Registration>,
        must_set: bool,
    ) -> BTreeSet<String> {
        let mut digests = BTreeSet::new();
        for (index, bot) in self.bots.iter().enumerate() {
            let Some(wanted) = registration(index) else {
                continue;
            };
            digests.insert(wanted.digest().to_owned());
            bot.order(Order::Webhook(wanted, must_set));
        }
        digests
    }

    /// Has each bot poll; `registration` is the webhook that would be its own.
    pub(crate) fn poll(&self, registration: impl Fn(usize) -> Option<Registration>) {
        for (index, bot) in self.bots.iter().enumerate() {
            bot.order(Order::Poll(registration(index)));
        }
    }

    /// Ends it: what was polled is dealt with, and nothing new is taken. Whether that was so within
    /// `limit`.
    pub(crate) fn end(&self, limit: Duration) -> bool {
        let (done, all_done) = mpsc::channel::<()>();
        for bot in &self.bots {
            bot.order(Order::End(done.clone()));
        }
        drop(done);
        matches!(
            all_done.recv_timeout(limit),
            Err(mpsc::RecvTimeoutError::Disconnected)
        )
    }
}
