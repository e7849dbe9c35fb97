//! Keeps one bot's webhook registered: removes the old one, sets the new one, uploads the certificate,
//! sets nothing again while nothing has changed, and watches it from then on.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ring::digest;

use crate::config::{Bot, Config};
use crate::delivery::health::{Health, Verdict};
use crate::secret::Secret;
use crate::system::files;
use crate::system::status::Status;
use crate::telegram::client::{Api, Client, Webhook};
use crate::telegram::error::{Error as ApiError, NEW_TOKEN};
use crate::telegram::token::hex;
use crate::telegram::types::WebhookInfo;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// When only new settings can help.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

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
#[derive(Debug)]
pub enum Done {
    /// It was as it should be, and so Telegram knows it.
    Already(WebhookInfo),
    /// It was set anew.
    Set,
}

/// Why the webhook is not registered.
#[derive(Debug)]
pub enum Error {
    /// The Bot API refused, or cannot be reached.
    Api(ApiError),
    /// Telegram agreed to what it was told, and then says otherwise.
    Disagrees(Difference),
}

/// How the webhook that Telegram has differs from the one that we want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// There is none.
    Missing,
    /// It has another URL.
    Other,
    /// A certificate was uploaded with it and should not have been, or the other way round.
    Certificate,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the webhook was removed",
            Self::Other => "another program, or an older start of this one, has set a webhook of its own",
            Self::Certificate => "the webhook was set without the right certificate",
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(why) => why.fmt(f),
            Self::Disagrees(what) => write!(f, "Telegram took the webhook, and then says: {what}"),
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
    /// What `config` wants registered for `bot`, to be called at `host`. `certificate` is what to upload, PEM.
    #[must_use]
    pub fn new(config: &Config, bot: &Bot, api: &Api, host: &str, certificate: Option<String>) -> Self {
        let (url, secret_token) = (config.webhook_url(bot, host), bot.token.secret_token());
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
        if self.is_noted() {
            let info = self.client.webhook_info()?;
            if self.agrees(&info).is_ok() {
                return Ok(Done::Already(info));
            }
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

    /// Tells one wish from another.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What Telegram knows of this bot's webhook.
    ///
    /// # Errors
    /// What the Bot API said.
    pub fn info(&self) -> Result<WebhookInfo, Error> {
        Ok(self.client.webhook_info()?)
    }

    /// Whether Telegram has the webhook that we want.
    ///
    /// # Errors
    /// How it differs.
    pub fn agrees(&self, info: &WebhookInfo) -> Result<(), Difference> {
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

/// Who hears what becomes of the webhooks.
pub struct Listeners {
    /// How it is, for a person.
    pub status: Arc<Status>,
    /// Is told the digest of what was registered.
    pub registered: Box<dyn Fn(&str) + Send>,
    /// Is told when Telegram's calls do not arrive: the address may have changed.
    pub unreachable: Box<dyn Fn() + Send>,
}

/// Registers what comes through `wanted`, the newest first of all, tries until it succeeds, and looks after it in each
/// `interval`. Ends when the other end is gone.
pub fn keep(wanted: &Receiver<Registration>, interval: Duration, listeners: &Listeners) {
    let Ok(first) = wanted.recv() else { return };
    let mut keeper = Keeper::new(first, interval);
    loop {
        let pause = keeper.step(listeners);
        match wanted.recv_timeout(pause) {
            Ok(newer) => keeper = Keeper::new(wanted.try_iter().last().unwrap_or(newer), interval),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

struct Keeper {
    registration: Registration,
    interval: Duration,
    health: Health,
    pauses: Pauses,
    is_registered: bool,
    /// Whatever Telegram says of it.
    must_set: bool,
}

impl Keeper {
    fn new(registration: Registration, interval: Duration) -> Self {
        let health = Health::new(interval);
        Self { registration, interval, health, pauses: Pauses::default(), is_registered: false, must_set: false }
    }

    /// Does what is to be done now; how long to wait before the next step.
    fn step(&mut self, listeners: &Listeners) -> Duration {
        if self.is_registered { self.look(listeners) } else { self.register(listeners) }
    }

    fn register(&mut self, listeners: &Listeners) -> Duration {
        let bot = self.registration.bot();
        let done = if self.must_set { self.registration.set().map(|()| Done::Set) } else { self.registration.ensure() };
        let trouble = done.as_ref().err().map(|why| format!("the webhook is not registered: {why}"));
        listeners.status.webhook(bot, trouble);
        match done {
            Ok(done) => {
                match done {
                    Done::Already(info) => {
                        self.health.found(&info);
                        log::info!("bot {bot}: the webhook is registered, and unchanged.");
                    }
                    Done::Set => {
                        self.health.set();
                        log::info!("bot {bot}: the webhook is registered.");
                    }
                }
                (listeners.registered)(&self.registration.digest);
                self.is_registered = true;
                self.must_set = false;
                // Telegram calls at once, and so knows soon what is wrong.
                self.interval / 10
            }
            Err(Error::Api(why)) if why.token_is_refused() => {
                // Nobody is to wait for this one.
                (listeners.registered)(&self.registration.digest);
                self.refused(&why, listeners)
            }
            Err(why) => {
                let pause = self.pauses.after(&why);
                log::warn!("bot {bot}: the webhook is not registered: {why}. Next try in {} s.", pause.as_secs());
                pause
            }
        }
    }

    fn refused(&mut self, why: &ApiError, listeners: &Listeners) -> Duration {
        let bot = self.registration.bot();
        self.is_registered = false;
        listeners.status.webhook(bot, Some(format!("{why}. {NEW_TOKEN}")));
        log::error!("bot {bot}: {why}. {NEW_TOKEN}");
        NEVER
    }

    fn look(&mut self, listeners: &Listeners) -> Duration {
        let bot = self.registration.bot();
        let info = match self.registration.info() {
            Ok(info) => info,
            Err(Error::Api(why)) if why.token_is_refused() => return self.refused(&why, listeners),
            // While the Bot API cannot be reached there is nothing new to know; the updates' log has it.
            Err(_) => return self.interval,
        };
        let agrees = self.registration.agrees(&info);
        match self.health.judge(&info, agrees, Instant::now()) {
            Verdict::Well => {
                if listeners.status.webhook(bot, None) {
                    log::info!("bot {bot}: the webhook is well again.");
                }
            }
            Verdict::Trouble(words, unreachable) => {
                if unreachable {
                    (listeners.unreachable)();
                }
                if listeners.status.webhook(bot, Some(words.clone())) {
                    log::warn!("bot {bot}: {words}.");
                }
            }
            Verdict::Repair(why) => {
                log::warn!("bot {bot}: {why}. It is set anew.");
                self.must_set = true;
                self.is_registered = false;
                return Duration::ZERO;
            }
        }
        self.interval
    }
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
