//! The thread that keeps one bot's webhook registered: it tries until it succeeds, and watches the webhook from then on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::health::{Difference, Health, Problem, Verdict};
use super::registration::{Registered, Registration, RegistrationError};
use crate::system::status::Status;
use crate::telegram::error::{ApiError, NEW_TOKEN};
use crate::telegram::known_me::KnownMe;
use crate::webhook::observations::Observations;

const FIRST_RETRY_INTERVAL: Duration = Duration::from_secs(1);
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(300);
/// The longest wait that a 429 can ask for, in seconds; Telegram's own are below it but for the rarest.
const MAX_RETRY_AFTER: u64 = 3600;
/// While Telegram says that it does not know the token: it can be mistaken.
const FIRST_TOKEN_RETRY_INTERVAL: Duration = Duration::from_secs(10);
const MAX_TOKEN_RETRY_INTERVAL: Duration = Duration::from_secs(3600);
/// After so many refusals of the token, one after the other, nobody waits for this bot any more.
const TOKEN_REFUSALS: u32 = 3;

/// Called as the webhook's state changes.
pub(crate) struct Callbacks {
    /// Shows the webhook's state to a person.
    pub(crate) status: Arc<Status>,
    /// What the webhook notices of this bot.
    pub(crate) observations: Arc<Observations>,
    /// Called when the webhook may be set at once: Telegram connects before it answers.
    pub(crate) setting: Box<dyn Fn() + Send>,
    /// Gets the digest of a registration that Telegram has, or that the token can hardly bring about.
    pub(crate) registered: Box<dyn Fn(&str) + Send>,
    /// Called when Telegram's calls do not arrive: the address may have changed.
    pub(crate) unreachable: Box<dyn Fn() + Send>,
}

/// What the thread is to do.
pub(crate) enum Order {
    /// Have this registered.
    Register(Box<Registration>),
    /// See at once how it is.
    Look,
}

/// Registers what comes through `orders`, and only the newest of what waits there; tries until it succeeds, and checks the
/// webhook once in each `interval`. Before all of that it asks who the bot is. Returns when the sender is gone.
pub(crate) fn keep(orders: &Receiver<Order>, interval: Duration, callbacks: &Callbacks, me: &KnownMe) {
    let mut keeper: Option<Keeper> = None;
    loop {
        let order = match &mut keeper {
            None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(keeper) => orders.recv_timeout(keeper.step(callbacks, me)),
        };
        match order {
            Ok(order) => {
                let newest = [order].into_iter().chain(orders.try_iter()).filter_map(Order::registration).last();
                keeper = newest.map(|newest| Keeper::new(newest, interval)).or(keeper);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Order {
    fn registration(self) -> Option<Registration> {
        match self {
            Self::Register(registration) => Some(*registration),
            Self::Look => None,
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
    /// How often the token was refused since it last was not.
    token_refusals: u32,
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
            token_refusals: 0,
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
        (callbacks.setting)();
        let done = self.identify(me).and_then(|()| match self.must_set {
            true => self.registration.set().map(|()| Registered::Set),
            false => self.registration.ensure(),
        });
        match done {
            Ok(done) => {
                callbacks.status.webhook(bot, None);
                self.token_refusals = 0;
                match done {
                    Registered::Unchanged(info) => {
                        self.health.found(&info);
                        log::info!("bot {bot}: the webhook is registered, and unchanged.");
                    }
                    Registered::Set => {
                        self.health.set();
                        callbacks.observations.right_secret();
                        log::info!("bot {bot}: the webhook is registered.");
                    }
                }
                (callbacks.registered)(self.registration.digest());
                self.is_registered = true;
                self.must_set = false;
                // Telegram calls at once, and so knows soon what is wrong.
                self.interval / 10
            }
            Err(RegistrationError::Api(why)) if why.token_is_refused() => self.refused(&why, callbacks),
            Err(why) => {
                callbacks.status.webhook(bot, Some(format!("the webhook is not registered: {why}")));
                let pause = self.retry_pause.after(&why);
                log::warn!("bot {bot}: the webhook is not registered: {why}. Next try in {} s.", pause.as_secs());
                pause
            }
        }
    }

    /// One answer decides nothing: it is tried again, and a call that Telegram takes meanwhile revives it at once.
    fn refused(&mut self, why: &ApiError, callbacks: &Callbacks) -> Duration {
        let bot = self.registration.bot();
        let pause =
            FIRST_TOKEN_RETRY_INTERVAL.saturating_mul(1 << self.token_refusals.min(16)).min(MAX_TOKEN_RETRY_INTERVAL);
        self.is_registered = false;
        self.token_refusals = self.token_refusals.saturating_add(1);
        callbacks.observations.token_refused();
        if self.token_refusals >= TOKEN_REFUSALS {
            // The other bots' rollover must not wait for this one.
            (callbacks.registered)(self.registration.digest());
        }
        if callbacks.status.webhook(bot, Some(format!("{why}. {NEW_TOKEN}"))) {
            log::error!("bot {bot}: {why}. {NEW_TOKEN} It is tried again, ever more seldom.");
        }
        pause
    }

    fn look(&mut self, callbacks: &Callbacks) -> Duration {
        let bot = self.registration.bot();
        let info = match self.registration.info() {
            Ok(info) => info,
            Err(RegistrationError::Api(why)) if why.token_is_refused() => return self.refused(&why, callbacks),
            // While the Bot API cannot be reached there is nothing new to know; the updates' log has it.
            Err(_) => return self.interval,
        };
        self.token_refusals = 0;
        let is_secret_wrong = callbacks.observations.is_secret_wrong();
        let agrees =
            self.registration.agrees(&info).and(if is_secret_wrong { Err(Difference::Secret) } else { Ok(()) });
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
            return Duration::from_secs((*seconds).clamp(1, MAX_RETRY_AFTER));
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
        for (asked, waited) in [(7, 7), (0, 1), (3600, 3600), (u64::MAX, 3600)] {
            let flood = RegistrationError::Api(ApiError::Refused {
                code: 429,
                description: String::new(),
                retry_after: Some(asked),
                migrate_to_chat_id: None,
            });
            assert_eq!(retry_pause.after(&flood).as_secs(), waited);
        }
    }
}
