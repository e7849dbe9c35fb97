//! The thread that keeps one bot's webhook registered: it tries until it succeeds, and watches the webhook from then on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::health::{Health, Verdict};
use super::registration::{Done, Error, Registration};
use crate::system::status::Status;
use crate::telegram::error::{Error as ApiError, NEW_TOKEN};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// When only new settings can help.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Who hears what becomes of the webhooks.
pub(crate) struct Listeners {
    /// How it is, for a person.
    pub(crate) status: Arc<Status>,
    /// Is told the digest of what was registered.
    pub(crate) registered: Box<dyn Fn(&str) + Send>,
    /// Is told when Telegram's calls do not arrive: the address may have changed.
    pub(crate) unreachable: Box<dyn Fn() + Send>,
}

/// Registers what comes through `wanted`, the newest first of all, tries until it succeeds, and looks after it in each
/// `interval`. Ends when the other end is gone.
pub(crate) fn keep(wanted: &Receiver<Registration>, interval: Duration, listeners: &Listeners) {
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
                (listeners.registered)(self.registration.digest());
                self.is_registered = true;
                self.must_set = false;
                // Telegram calls at once, and so knows soon what is wrong.
                self.interval / 10
            }
            Err(Error::Api(why)) if why.token_is_refused() => {
                // Nobody is to wait for this one.
                (listeners.registered)(self.registration.digest());
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
