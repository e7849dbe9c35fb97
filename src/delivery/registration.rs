//! One bot's webhook at Telegram: removes the old one, sets the new one, uploads the certificate, and sets nothing again
//! while nothing has changed.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ring::digest;

use super::health::Difference;
use crate::config::{BotSettings, Config};
use crate::secret::Secret;
use crate::secret::hex;
use crate::system::files;
use crate::telegram::client::{Api, Client, Webhook};
use crate::telegram::error::ApiError;
use crate::telegram::types::{Me, WebhookInfo};

/// One bot's webhook as the settings want it, and the note of what was set last.
#[derive(Clone)]
pub(crate) struct Registration {
    client: Client,
    url: Secret,
    secret_token: Secret,
    max_connections: u16,
    allowed_updates: &'static [&'static str],
    certificate: Option<String>,
    /// Holds a digest of what was set last, so that no secret lies there.
    note: PathBuf,
    digest: String,
}

/// How a registration came about.
#[derive(Debug)]
pub(crate) enum Registered {
    /// Telegram had it already: this is what Telegram says of it.
    Unchanged(WebhookInfo),
    /// It was set.
    Set,
}

/// Why the webhook is not registered.
#[derive(Debug)]
pub(crate) enum RegistrationError {
    /// The Bot API refused, or cannot be reached.
    Api(ApiError),
    /// Telegram took the webhook, and then shows another.
    Disagrees(Difference),
}

impl fmt::Display for RegistrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(why) => why.fmt(f),
            Self::Disagrees(what) => write!(f, "Telegram took the webhook, and then says: {what}"),
        }
    }
}

impl std::error::Error for RegistrationError {}

impl From<ApiError> for RegistrationError {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl Registration {
    /// What `config` wants registered for `bot`, to be called at `host` with these kinds of update. `certificate` is what to
    /// upload, PEM.
    pub(crate) fn new(
        config: &Config,
        bot: &BotSettings,
        api: &Api,
        host: &str,
        certificate: Option<String>,
        allowed_updates: &'static [&'static str],
    ) -> Self {
        let (url, secret_token) = (config.webhook_url(bot, host), bot.token.secret_token());
        let parts = [
            &config.api_url,
            bot.token.expose(),
            url.expose(),
            &config.max_connections.to_string(),
            certificate.as_deref().unwrap_or_default(),
            // Their order says nothing.
            &allowed_updates.iter().copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(","),
        ];
        let digest = hex(digest::digest(&digest::SHA256, parts.join("\n").as_bytes()).as_ref());
        Self {
            client: Client::new(api.clone(), bot.token.clone()),
            url,
            secret_token,
            max_connections: config.max_connections,
            allowed_updates,
            certificate,
            note: config.state_dir.join(format!("webhook-{}", bot.token.id())),
            digest,
        }
    }

    /// Sets the webhook, unless Telegram has it already.
    ///
    /// # Errors
    /// What the Bot API said, or that it says two different things.
    pub(crate) fn ensure(&self) -> Result<Registered, RegistrationError> {
        if self.is_noted() {
            let info = self.client.webhook_info()?;
            if self.agrees(&info).is_ok() {
                return Ok(Registered::Unchanged(info));
            }
        }
        self.set().map(|()| Registered::Set)
    }

    /// Sets the webhook, whatever was set before.
    ///
    /// # Errors
    /// As [`Registration::ensure`].
    pub(crate) fn set(&self) -> Result<(), RegistrationError> {
        self.client.delete_webhook()?;
        self.client.set_webhook(&Webhook {
            url: &self.url,
            certificate: self.certificate.as_deref(),
            secret_token: &self.secret_token,
            max_connections: self.max_connections,
            allowed_updates: self.allowed_updates,
        })?;
        self.agrees(&self.client.webhook_info()?).map_err(RegistrationError::Disagrees)?;
        if let Err(why) = self.write_note() {
            log::warn!("{}: {why}. The webhook will be set again at the next start.", self.note.display());
        }
        Ok(())
    }

    /// Removes the webhook, and the note of it.
    ///
    /// # Errors
    /// What the Bot API said.
    pub(crate) fn delete(&self) -> Result<(), RegistrationError> {
        let _ = fs::remove_file(&self.note);
        Ok(self.client.delete_webhook()?)
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
        if !self.url.matches(info.url.as_bytes()) {
            return Err(Difference::Other);
        }
        if info.has_custom_certificate != self.certificate.is_some() {
            return Err(Difference::Certificate);
        }
        Ok(())
    }

    /// The public half of the token.
    pub(crate) fn bot(&self) -> u64 {
        self.client.bot()
    }

    fn is_noted(&self) -> bool {
        fs::read_to_string(&self.note).is_ok_and(|note| note.trim() == self.digest)
    }

    fn write_note(&self) -> io::Result<()> {
        fs::create_dir_all(self.note.parent().unwrap_or(Path::new("")))?;
        files::replace(&self.note, format!("{}\n", self.digest).as_bytes(), 0o600)
    }
}
