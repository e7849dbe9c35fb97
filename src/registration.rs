//! Keeps one bot's webhook registered: removes the old one, sets the new one, uploads the certificate,
//! and sets nothing again while nothing has changed.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use ring::digest;

use crate::config::{Bot, Config};
use crate::files;
use crate::secret::Secret;
use crate::status::Status;
use crate::telegram::client::{Api, Client, Webhook};
use crate::telegram::error::Error as ApiError;
use crate::telegram::token::hex;
use crate::telegram::types::WebhookInfo;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What is to be registered for one bot, and where it is noted what was.
#[derive(Clone)]
pub struct Registration {
    client: Client,
    url: Secret,
    secret_token: Secret,
    max_connections: u16,
    certificate: Option<String>,
    /// Holds a digest of what was set last, so that no secret lies there.
    note: PathBuf,
    digest: String,
}

/// How a registration came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was as it should be.
    Already,
    /// It was set anew.
    Set,
}

/// Why the webhook is not registered.
#[derive(Debug)]
pub enum Error {
    /// The Bot API refused, or cannot be reached.
    Api(ApiError),
    /// Telegram agreed to what it was told, and then says otherwise.
    Disagrees(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(why) => why.fmt(f),
            Self::Disagrees(what) => write!(f, "Telegram took the webhook, but getWebhookInfo shows another {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl Registration {
    /// What `config` wants registered for `bot`. `certificate` is what to upload, PEM.
    #[must_use]
    pub fn new(config: &Config, bot: &Bot, api: &Api, certificate: Option<String>) -> Self {
        let (url, secret_token) = (config.webhook_url(bot), bot.token.secret_token());
        let parts = [
            &config.api_url,
            bot.token.expose(),
            url.expose(),
            &config.max_connections.to_string(),
            certificate.as_deref().unwrap_or_default(),
        ];
        let digest = hex(digest::digest(&digest::SHA256, parts.join("\n").as_bytes()).as_ref());
        Self {
            client: Client::new(api.clone(), bot.token.clone()),
            url,
            secret_token,
            max_connections: config.max_connections,
            certificate,
            note: config.state_dir.join(format!("webhook-{}", bot.token.id())),
            digest,
        }
    }

    /// Sees to it that the webhook is registered, and sets it only if it must.
    ///
    /// # Errors
    /// What the Bot API said, or that it says two different things.
    pub fn ensure(&self) -> Result<Done, Error> {
        if self.is_noted() && self.agrees(&self.client.webhook_info()?).is_ok() {
            return Ok(Done::Already);
        }
        self.set().map(|()| Done::Set)
    }

    /// Sets the webhook, whatever was set before.
    ///
    /// # Errors
    /// As [`Registration::ensure`].
    pub fn set(&self) -> Result<(), Error> {
        self.client.delete_webhook()?;
        self.client.set_webhook(&Webhook {
            url: &self.url,
            certificate: self.certificate.as_deref(),
            secret_token: &self.secret_token,
            max_connections: self.max_connections,
        })?;
        self.agrees(&self.client.webhook_info()?).map_err(Error::Disagrees)?;
        if let Err(why) = self.write_note() {
            log::warn!("{}: {why}. The webhook will be set again at the next start.", self.note.display());
        }
        Ok(())
    }

    /// Removes the webhook, and the note of it.
    ///
    /// # Errors
    /// What the Bot API said.
    pub fn delete(&self) -> Result<(), Error> {
        let _ = fs::remove_file(&self.note);
        Ok(self.client.delete_webhook()?)
    }

    /// What Telegram knows of this bot's webhook.
    ///
    /// # Errors
    /// What the Bot API said.
    pub fn info(&self) -> Result<WebhookInfo, Error> {
        Ok(self.client.webhook_info()?)
    }

    /// Whether Telegram has the webhook that we want; else, what of it differs.
    ///
    /// # Errors
    /// The word for what differs.
    pub fn agrees(&self, info: &WebhookInfo) -> Result<(), &'static str> {
        if !self.url.matches(info.url.as_bytes()) {
            return Err("URL");
        }
        if info.has_custom_certificate != self.certificate.is_some() {
            return Err("certificate");
        }
        Ok(())
    }

    /// The public half of the token.
    #[must_use]
    pub fn bot(&self) -> u64 {
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

/// Registers what comes through `wanted`, the newest first of all, and tries until it succeeds. Ends
/// when the other end is gone.
pub fn keep(wanted: &Receiver<Registration>, status: &Status) {
    while let Ok(mut registration) = wanted.recv() {
        let mut pauses = Pauses::default();
        while let Some(pause) = attempt(&registration, &mut pauses, status) {
            match wanted.recv_timeout(pause) {
                Ok(newer) => registration = newer,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Tries once; how long to wait before the next try, or None when there is to be none.
fn attempt(registration: &Registration, pauses: &mut Pauses, status: &Status) -> Option<Duration> {
    let bot = registration.bot();
    let done = registration.ensure();
    status.webhook(bot, done.as_ref().err().map(|why| format!("the webhook is not registered: {why}")));
    match done {
        Ok(Done::Already) => log::info!("bot {bot}: the webhook is registered, and unchanged."),
        Ok(Done::Set) => log::info!("bot {bot}: the webhook is registered."),
        Err(Error::Api(why)) if why.token_is_refused() => {
            log::error!("bot {bot}: {why}. Telegram does not know this token: get a new one from BotFather.");
        }
        Err(why) => {
            let pause = pauses.after(&why);
            log::warn!("bot {bot}: the webhook is not registered: {why}. Next try in {} s.", pause.as_secs());
            return Some(pause);
        }
    }
    None
}

/// The waits between tries: doubling from 1 s to 5 min, or what a 429 asks for.
#[derive(Default)]
struct Pauses {
    last: Option<Duration>,
}

impl Pauses {
    fn after(&mut self, error: &Error) -> Duration {
        if let Error::Api(ApiError::Refused { retry_after: Some(seconds), .. }) = error {
            return Duration::from_secs((*seconds).max(1));
        }
        let pause = self.last.map_or(FIRST_PAUSE, |last| LONGEST_PAUSE.min(last * 2));
        self.last = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_give_way_to_telegrams_own() {
        let mut pauses = Pauses::default();
        let gone = Error::Api(ApiError::Unreachable(String::new()));
        let seconds: Vec<_> = (0..11).map(|_| pauses.after(&gone).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let flood = Error::Api(ApiError::Refused {
            code: 429,
            description: String::new(),
            retry_after: Some(7),
            migrate_to_chat_id: None,
        });
        assert_eq!(pauses.after(&flood).as_secs(), 7);
    }
}
