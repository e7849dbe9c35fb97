//! The thread that keeps one bot's webhook registered: it tries until it succeeds, and watches the webhook from then on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::health::{Health, Problem, Verdict};
use super::registration::{Registered, Registration, RegistrationError};
use crate::system::status::Status;
use crate::telegram::error::{ApiError, NEW_TOKEN};
use crate::telegram::known_me::KnownMe;

const FIRST_RETRY_INTERVAL: Duration = Duration::from_secs(1);
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(300);
/// When only new settings can help.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Called as the webhook's state changes.
pub(crate) struct Callbacks {
    /// Shows the webhook's state to a person.
    pub(crate) status: Arc<Status>,
    /// Gets the digest of a registration that Telegram has, or that no token can bring about.
    pub(crate) registered: Box<dyn Fn(&str) + Send>,
    /// Called when Telegram's calls do not arrive: the address may have changed.
    pub(crate) unreachable: Box<dyn Fn() + Send>,
}

/// Registers what comes through `wanted`, and only the newest of what waits there; tries until it succeeds, and checks the
/// webhook once in each `interval`. Before all of that it asks who the bot is. Returns when the sender is gone.
pub(crate) fn keep(wanted: &Receiver<Registration>, interval: Duration, callbacks: &Callbacks, me: &KnownMe) {
    let Ok(first) = wanted.recv() else { return };
    let mut keeper = Keeper::new(first, interval);
    loop {
        let pause = keeper.step(callbacks, me);
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
    retry_pause: RetryPause,
    is_registered: bool,
    /// getMe has answered.
    is_identified: bool,
    /// The webhook is to be set even if Telegram shows the right one.
    must_set: bool,
}

impl Keeper {
    fn new(registration: Registration, interval: Duration) -> Self {
        let health = Health::new(interval);
        Self {
            registration,
            interval,
            health,
            retry_pause: RetryPause::default(),
            is_registered: false,
            is_identified: false,
            must_set: false,
        }
    }

    /// One step: registers, or checks. Returns how long to wait before the next one.
    fn step(&mut self, callbacks: &Callbacks, me: &KnownMe) -> Duration {
        if self.is_registered { self.look(callbacks) } else { self.register(callbacks, me) }
    }

    /// Updates come as soon as the webhook is set, and the bot can handle none before it knows who it is.
    fn identify(&mut self, me: &KnownMe) -> Result<(), RegistrationError> {
        if !self.is_identified {
            me.set(self.registration.me()?);
            self.is_identified = true;
        }
        Ok(())
    }

    fn register(&mut self, callbacks: &Callbacks, me: &KnownMe) -> Duration {
        let bot = self.registration.bot();
        let done = self.identify(me).and_then(|()| match self.must_set {
            true => self.registration.set().map(|()| Registered::Set),
            false => self.registration.ensure(),
        });
        let problem = done.as_ref().err().map(|why| format!("the webhook is not registered: {why}"));
        callbacks.status.webhook(bot, problem);
        match done {
            Ok(done) => {
                match done {
                    Registered::Unchanged(info) => {
                        self.health.found(&info);
                        log::info!("bot {bot}: the webhook is registered, and unchanged.");
                    }
                    Registered::Set => {
                        self.health.set();
                        log::info!("bot {bot}: the webhook is registered.");
                    }
                }
                (callbacks.registered)(self.registration.digest());
                self.is_registered = true;
                self.must_set = false;
                // Telegram calls at once, and so knows soon what is wrong.
                self.interval / 10
            }
            Err(RegistrationError::Api(why)) if why.token_is_refused() => {
                // The other bots' rollover must not wait for this one.
                (callbacks.registered)(self.registration.digest());
                self.refused(&why, callbacks)
            }
            Err(why) => {
                let pause = self.retry_pause.after(&why);
                log::warn!("bot {bot}: the webhook is not registered: {why}. Next try in {} s.", pause.as_secs());
                pause
            }
        }
    }

    fn refused(&mut self, why: &ApiError, callbacks: &Callbacks) -> Duration {
        let bot = self.registration.bot();
        self.is_registered = false;
        callbacks.status.webhook(bot, Some(format!("{why}. {NEW_TOKEN}")));
        log::error!("bot {bot}: {why}. {NEW_TOKEN}");
        NEVER
    }

    fn look(&mut self, callbacks: &Callbacks) -> Duration {
        let bot = self.registration.bot();
        let info = match self.registration.info() {
            Ok(info) => info,
            Err(RegistrationError::Api(why)) if why.token_is_refused() => return self.refused(&why, callbacks),
            // While the Bot API cannot be reached there is nothing new to know; the updates' log has it.
            Err(_) => return self.interval,
        };
        let agrees = self.registration.agrees(&info);
        match self.health.assess(&info, agrees, Instant::now()) {
            Verdict::Well => {
                if callbacks.status.webhook(bot, None) {
                    log::info!("bot {bot}: the webhook is well again.");
                }
            }
            Verdict::Problem(Problem { words, is_unreachable }) => {
                if is_unreachable {
                    (callbacks.unreachable)();
                }
                if callbacks.status.webhook(bot, Some(words.clone())) {
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
struct RetryPause {
    last: Option<Duration>,
}

impl RetryPause {
    fn after(&mut self, error: &RegistrationError) -> Duration {
        if let RegistrationError::Api(ApiError::Refused { retry_after: Some(seconds), .. }) = error {
            return Duration::from_secs((*seconds).max(1));
        }
        let pause = self.last.map_or(FIRST_RETRY_INTERVAL, |last| MAX_RETRY_INTERVAL.min(last * 2));
        self.last = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_give_way_to_telegrams_own() {
        let mut retry_pause = RetryPause::default();
        let gone = RegistrationError::Api(ApiError::Unreachable(String::new()));
        let seconds: Vec<_> = (0..11).map(|_| retry_pause.after(&gone).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let flood = RegistrationError::Api(ApiError::Refused {
            code: 429,
            description: String::new(),
            retry_after: Some(7),
            migrate_to_chat_id: None,
        });
        assert_eq!(retry_pause.after(&flood).as_secs(), 7);
    }
}
