//! One bot's webhook at Telegram: removes what another program has set, sets ours, uploads the
//! certificate, and sets nothing again while nothing has changed.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ring::digest;

use super::health::Difference;
use crate::config::{BotSettings, Config};
use crate::secret::Secret;
use crate::secret::hex;
use crate::system::files;
use crate::system::lock::lock;
use crate::telegram::client::{Api, Client, Webhook};
use crate::telegram::error::ApiError;
use crate::telegram::types::{Me, WebhookInfo};

/// Telegram takes one setWebhook a second (telegram-bot-api, `Client::process_set_webhook_query`).
const SET_INTERVAL: Duration = Duration::from_millis(1100);

/// One bot's webhook as the settings want it, and the note of what was set last.
#[derive(Clone)]
pub(crate) struct Registration {
    client: Client,
    url: Secret,
    secret_token: Secret,
    max_connections: u16,
    allowed_updates: &'static [&'static str],
    certificate: Option<String>,
    /// Pihook made the certificate for itself, so that nobody else has it.
    has_own_certificate: bool,
    /// What our own check finds wrong with the certificate.
    fault: Option<String>,
    /// Holds a digest of what was set last, and of what Telegram showed of it then, so that no
    /// secret lies there.
    note: PathBuf,
    digest: String,
    /// What Telegram showed of the settings after our own set, if that is known.
    shown: Arc<Mutex<Option<ShownSettings>>>,
}

/// The settings of a webhook as Telegram shows them: without kinds of update that it does not know,
/// and without the default set.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ShownSettings {
    max_connections: Option<u32>,
    allowed_updates: Option<BTreeSet<String>>,
}

impl From<&WebhookInfo> for ShownSettings {
    fn from(info: &WebhookInfo) -> Self {
        let allowed_updates = info
            .allowed_updates
            .as_ref()
            .map(|kinds| kinds.iter().cloned().collect());
        Self {
            max_connections: info.max_connections,
            allowed_updates,
        }
    }
}

/// How Telegram came to have the registration.
#[derive(Debug)]
pub(crate) enum Registered {
    /// Telegram had it already: this is what Telegram says of it.
    Unchanged(WebhookInfo),
    /// It was set: this is what Telegram says of it.
    Set(WebhookInfo),
}

/// Why the webhook is not registered.
#[derive(Debug)]
pub(crate) enum RegistrationError {
    /// The Bot API refused, or cannot be reached.
    Api(ApiError),
    /// The same of setWebhook itself.
    Set(ApiError),
    /// Telegram took the webhook, and then shows another.
    Disagrees(Difference),
}

impl fmt::Display for RegistrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(error) | Self::Set(error) => error.fmt(f),
            Self::Disagrees(difference) => write!(
                f,
                "Telegram accepted the webhook, but then reports another one: {difference}"
            ),
        }
    }
}

impl std::error::Error for RegistrationError {}

impl RegistrationError {
    /// What the Bot API said; None where it said two different things.
    pub(crate) fn api_error(&self) -> Option<&ApiError> {
        match self {
            Self::Api(error) | Self::Set(error) => Some(error),
            Self::Disagrees(_) => None,
        }
    }
}

impl From<ApiError> for RegistrationError {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl Registration {
    /// What `config` wants registered for `bot`, to be called at `host` with these kinds of update.
    /// `certificate` is what to upload, PEM.
    pub(crate) fn new(
        config: &Config,
        bot: &BotSettings,
        api: &Api,
        host: &str,
        certificate: Option<String>,
        allowed_updates: &'static [&'static str],
    ) -> Self {
        let url = config.webhook_url(bot, host);
        // The order of the kinds says nothing.
        let mut kinds = allowed_updates.to_vec();
        kinds.sort_unstable();
        kinds.dedup();
        let parts = [
            &config.api_url,
            bot.token.expose(),
            url.expose(),
            &config.max_connections.to_string(),
            certificate.as_deref().unwrap_or_default(),
            &kinds.join(","),
        ];
        let digest = sha256(&parts.join("\n"));

        Self {
            client: Client::new(api.clone(), bot.token.clone()),
            url,
            secret_token: bot.token.secret_token(),
            max_connections: config.max_connections,
            allowed_updates,
            certificate,
            has_own_certificate: false,
            fault: None,
            note: config.state_dir.join(format!("webhook-{}", bot.token.id())),
            digest,
            shown: Arc::default(),
        }
    }

    /// The same, with what our own check finds wrong with the certificate.
    pub(crate) fn with_fault(self, fault: Option<String>) -> Self {
        Self { fault, ..self }
    }

    /// The same, where pihook made the certificate for itself.
    pub(crate) fn with_own_certificate(self, has_own_certificate: bool) -> Self {
        Self {
            has_own_certificate,
            ..self
        }
    }

    /// Whether nobody but pihook has the certificate: then only this bot answers with it.
    pub(crate) fn has_own_certificate(&self) -> bool {
        self.has_own_certificate
    }

    /// Unix time in seconds by Telegram's clock.
    pub(crate) fn telegram_time(&self) -> i64 {
        self.client.telegram_time()
    }

    /// What our own check finds wrong with the certificate: setting the webhook again cannot help
    /// that.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Sets the webhook, unless Telegram has it already.
    ///
    /// # Errors
    /// What the Bot API said, or that it says two different things.
    pub(crate) fn ensure(&self) -> Result<Registered, RegistrationError> {
        if !self.may_be_ours() {
            let info = self.set_in_place_of(None)?;
            return Ok(Registered::Set(info));
        }

        let info = self.client.webhook_info()?;
        if self.agrees(&info).is_ok() && self.is_noted(&info) {
            *lock(&self.shown) = Some(ShownSettings::from(&info));
            return Ok(Registered::Unchanged(info));
        }
        let info = self.set_in_place_of(Some(&info))?;
        Ok(Registered::Set(info))
    }

    /// Sets the webhook, whatever was set before. Telegram connects to it at once. Returns what
    /// Telegram says of it.
    ///
    /// # Errors
    /// As [`Registration::ensure`].
    pub(crate) fn set(&self) -> Result<WebhookInfo, RegistrationError> {
        let before = if self.may_be_ours() {
            Some(self.client.webhook_info()?)
        } else {
            None
        };
        self.set_in_place_of(before.as_ref())
    }

    /// Sets the webhook; `before` is the one that is there, if it can be ours. That one is
    /// replaced: if it was removed first, and the new one could not be set, there would be none.
    /// Any other is removed.
    fn set_in_place_of(
        &self,
        before: Option<&WebhookInfo>,
    ) -> Result<WebhookInfo, RegistrationError> {
        match before {
            Some(before) if self.has_path(&before.url) => {
                if self.may_be_the_same(before) {
                    self.set_another()?;
                }
            }
            _ => self.client.delete_webhook()?,
        }

        self.set_with(self.max_connections)?;
        let info = self.client.webhook_info()?;
        *lock(&self.shown) = Some(ShownSettings::from(&info));
        self.agrees(&info).map_err(RegistrationError::Disagrees)?;
        if let Err(error) = self.write_note(&info) {
            log::warn!(
                "{} could not be written: {error}. At the next start, the bot sets the webhook again.",
                self.note.display()
            );
        }
        Ok(info)
    }

    /// Whether Telegram would answer "already set", keep what it knows of the webhook, and not
    /// connect.
    fn may_be_the_same(&self, before: &WebhookInfo) -> bool {
        let has_certificate = self.certificate.is_some() || before.has_custom_certificate;
        let has_our_connections = match before.max_connections {
            Some(shown) => shown == u32::from(self.max_connections),
            None => true,
        };
        !has_certificate && self.has_url(&before.url) && has_our_connections
    }

    /// Sets the webhook with another number of connections, so that the next set is a new one to
    /// Telegram.
    fn set_another(&self) -> Result<(), RegistrationError> {
        self.set_with(self.other_connections())?;
        thread::sleep(SET_INTERVAL);
        Ok(())
    }

    /// One lower than the settings have it, if that can be.
    fn other_connections(&self) -> u16 {
        if self.max_connections > 1 {
            self.max_connections - 1
        } else {
            2
        }
    }

    fn set_with(&self, max_connections: u16) -> Result<(), RegistrationError> {
        let webhook = Webhook {
            url: &self.url,
            certificate: self.certificate.as_deref(),
            secret_token: &self.secret_token,
            max_connections,
            allowed_updates: self.allowed_updates,
        };
        self.client
            .set_webhook(&webhook)
            .map_err(RegistrationError::Set)
    }

    /// Removes the webhook, and the note of it.
    ///
    /// # Errors
    /// What the Bot API said.
    pub(crate) fn delete(&self) -> Result<(), RegistrationError> {
        let _ = fs::remove_file(&self.note);
        Ok(self.client.delete_webhook()?)
    }

    /// Whether this is the URL of our webhook.
    pub(crate) fn has_url(&self, url: &str) -> bool {
        self.url.matches(url.as_bytes())
    }

    /// Whether this is the URL of our webhook, perhaps at an earlier address of this home.
    fn has_path(&self, url: &str) -> bool {
        let our_path = Secret::from(path(self.url.expose()).to_owned());
        our_path.matches(path(url).as_bytes())
    }

    /// A digest of all that is registered, to tell one registration from another.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// Who this bot is.
    ///
    /// # Errors
    /// What the Bot API said.
    pub(crate) fn me(&self) -> Result<Me, RegistrationError> {
        Ok(self.client.me()?)
    }

    /// What Telegram knows of this bot's webhook.
    ///
    /// # Errors
    /// What the Bot API said.
    pub(crate) fn info(&self) -> Result<WebhookInfo, RegistrationError> {
        Ok(self.client.webhook_info()?)
    }

    /// Whether Telegram has the webhook that we want.
    ///
    /// # Errors
    /// How it differs.
    pub(crate) fn agrees(&self, info: &WebhookInfo) -> Result<(), Difference> {
        if info.url.is_empty() {
            return Err(Difference::Missing);
        }
        if !self.has_url(&info.url) {
            return Err(Difference::Other);
        }
        if info.has_custom_certificate != self.certificate.is_some() {
            return Err(Difference::Certificate);
        }

        let mut seen = ShownSettings::from(info);
        if self.certificate.is_none()
            && seen.max_connections == Some(self.other_connections().into())
        {
            // A set of ours is between its two calls, perhaps in another process, or its second call
            // failed.
            seen.max_connections = Some(self.max_connections.into());
        }
        let is_other = match &*lock(&self.shown) {
            Some(shown) => *shown != seen,
            // Another process has set it; what it noted may be of other settings.
            None => match seen.max_connections {
                Some(seen) => seen != u32::from(self.max_connections),
                None => false,
            },
        };
        if is_other {
            Err(Difference::Settings)
        } else {
            Ok(())
        }
    }

    /// The public half of the token.
    pub(crate) fn bot(&self) -> u64 {
        self.client.bot()
    }

    /// Whether a webhook of ours was set: by this process, or by one that left a note.
    fn may_be_ours(&self) -> bool {
        lock(&self.shown).is_some() || self.note.exists()
    }

    /// Whether this is what was set last, and what Telegram showed then.
    fn is_noted(&self, info: &WebhookInfo) -> bool {
        fs::read_to_string(&self.note).is_ok_and(|note| note.trim() == self.note_of(info))
    }

    fn note_of(&self, info: &WebhookInfo) -> String {
        let all = format!("{}\n{:?}", self.digest, ShownSettings::from(info));
        sha256(&all)
    }

    fn write_note(&self, info: &WebhookInfo) -> io::Result<()> {
        files::write_note(&self.note, format!("{}\n", self.note_of(info)).as_bytes())
    }
}

/// What follows the host and the port in a URL, without its first slash.
fn path(url: &str) -> &str {
    url.splitn(4, '/').nth(3).unwrap_or_default()
}

fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}
