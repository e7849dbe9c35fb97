//! Keeps one bot's webhook registered: tries until it succeeds, and watches the webhook from then
//! on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::health::{Difference, Health, Problem, Verdict};
use super::policy::Seen;
use super::registration::{Registered, Registration, RegistrationError};
use super::retry_pause::{RetryPause, token_pause};
use super::token_conflict::Contest;
use crate::edge::arrivals::Arrivals;
use crate::status::facts::Status;
use crate::telegram::cached_me::CachedMe;
use crate::telegram::error::{ApiError, NEW_TOKEN};
use crate::updates::observations::Observations;

const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(300);
/// After so many refusals of the token, one after the other, nobody waits for this bot any more.
const TOKEN_REFUSALS: u32 = 3;
/// A longer wait that a 429 asks for is a refusal: meanwhile the bot had better poll.
const LONGEST_FLOOD_WAIT: u64 = 10;

/// Called as the webhook's state changes.
pub(crate) struct Callbacks {
    /// Shows the webhook's state to a person.
    pub(crate) status: Arc<Status>,
    /// What shows that Telegram gets in.
    pub(crate) arrivals: Arc<Arrivals>,
    /// What the webhook notices of this bot.
    pub(crate) observations: Arc<Observations>,
    /// Called when the webhook may be set at once: Telegram connects before it answers.
    pub(crate) setting: Box<dyn Fn() + Send>,
    /// Gets the digest of a registration that Telegram has, or that the token can hardly bring
    /// about.
    pub(crate) registered: Box<dyn Fn(&str) + Send>,
    /// Gets what decides on webhook or polling. False when the settings have decided.
    pub(crate) seen: Box<dyn Fn(Seen) -> bool + Send>,
    /// Called when Telegram's calls do not arrive: the address may have changed.
    pub(crate) unreachable: Box<dyn Fn() + Send>,
}

/// One bot's webhook.
pub(crate) struct Keeper {
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
    /// Registers this, and checks it once in each `interval`. With `must_set` it is set also if
    /// Telegram has it already.
    pub(crate) fn new(registration: Registration, interval: Duration, must_set: bool) -> Self {
        Self {
            registration,
            interval,
            health: Health::default(),
            retry_pause: RetryPause::new(MAX_RETRY_INTERVAL),
            is_registered: false,
            is_identified: false,
            must_set,
            token_refusals: 0,
        }
    }

    /// One step: registers, or checks. Returns how long to wait before the next one.
    pub(crate) fn step(
        &mut self,
        callbacks: &Callbacks,
        me: &CachedMe,
        contest: &mut Contest,
    ) -> Duration {
        let now = Instant::now();
        if self.is_registered {
            return self.look(callbacks, contest);
        }
        match contest.lost_until() {
            Some(until) if now < until => until - now,
            lost => {
                if lost.is_some() {
                    // What follows takes the bot from another program.
                    contest.may_repair(true, now);
                }
                self.register(callbacks, me)
            }
        }
    }

    /// Updates come as soon as the webhook is set, and the bot can handle none before it knows who
    /// it is.
    fn identify(&mut self, me: &CachedMe) -> Result<(), RegistrationError> {
        if !self.is_identified {
            me.set(self.registration.me()?);
            self.is_identified = true;
        }
        Ok(())
    }

    fn register(&mut self, callbacks: &Callbacks, me: &CachedMe) -> Duration {
        let (bot, before) = (self.registration.bot(), callbacks.arrivals.count());
        (callbacks.setting)();
        let done = self.identify(me).and_then(|()| match self.must_set {
            true => self.registration.set().map(|()| Registered::Set),
            false => self.registration.ensure(),
        });
        match done {
            Ok(done) => {
                let arrivals = callbacks.arrivals.count();
                callbacks.status.webhook(bot, None);
                self.token_refusals = 0;
                match done {
                    Registered::Unchanged(info) => {
                        self.health.found(&info, arrivals);
                        log::info!("bot {bot}: the webhook is registered, and unchanged.");
                    }
                    Registered::Set => {
                        self.health.set(arrivals);
                        callbacks.observations.right_secret();
                        log::info!("bot {bot}: the webhook is registered.");
                        (callbacks.seen)(Seen::Set(arrivals > before));
                    }
                }
                (callbacks.registered)(self.registration.digest());
                self.is_registered = true;
                self.must_set = false;
                // Telegram calls at once, and so knows soon what is wrong.
                self.interval / 10
            }
            Err(RegistrationError::Api(why)) if why.token_is_refused() => {
                self.refused(&why, callbacks)
            }
            Err(why) => {
                callbacks
                    .status
                    .webhook(bot, Some(format!("the webhook is not registered: {why}")));
                let error = match &why {
                    RegistrationError::Api(why) => Some(why),
                    RegistrationError::Disagrees(_) => None,
                };
                let pause = self.retry_pause.after(error);
                log::warn!(
                    "bot {bot}: the webhook is not registered: {why}. Next try in {} s.",
                    pause.as_secs()
                );
                if error.is_some_and(is_final) {
                    (callbacks.seen)(Seen::Refused(why.to_string()));
                }
                pause
            }
        }
    }

    /// One answer decides nothing: it is tried again, and a call that Telegram takes meanwhile
    /// revives it at once.
    fn refused(&mut self, why: &ApiError, callbacks: &Callbacks) -> Duration {
        let bot = self.registration.bot();
        let pause = token_pause(self.token_refusals);
        self.is_registered = false;
        self.token_refusals = self.token_refusals.saturating_add(1);
        callbacks.observations.token_refused();
        if self.token_refusals >= TOKEN_REFUSALS {
            // The other bots' rollover must not wait for this one.
            (callbacks.registered)(self.registration.digest());
        }
        if callbacks
            .status
            .webhook(bot, Some(format!("{why}. {NEW_TOKEN}")))
        {
            log::error!("bot {bot}: {why}. {NEW_TOKEN} pihook tries again, at growing intervals.");
        }
        pause
    }

    fn look(&mut self, callbacks: &Callbacks, contest: &mut Contest) -> Duration {
        let bot = self.registration.bot();
        let info = match self.registration.info() {
            Ok(info) => info,
            Err(RegistrationError::Api(why)) if why.token_is_refused() => {
                return self.refused(&why, callbacks);
            }
            // While the Bot API cannot be reached there is nothing new to know; the updates' log
            // has it.
            Err(_) => return self.interval,
        };
        self.token_refusals = 0;
        let (agrees, arrivals) = (self.registration.agrees(&info), callbacks.arrivals.count());
        let is_secret_wrong = callbacks.observations.is_secret_wrong();
        let agrees = agrees.and(if is_secret_wrong {
            Err(Difference::Secret)
        } else {
            Ok(())
        });
        let undelivered = self
            .health
            .undelivered(&info, arrivals)
            .filter(|_| agrees.is_ok());
        let verdict = self.health.assess(
            &info,
            (agrees, self.registration.fault()),
            contest,
            Instant::now(),
        );
        match verdict {
            Verdict::Well => {
                if callbacks.status.webhook(bot, None) {
                    log::info!("bot {bot}: the webhook works again.");
                }
            }
            Verdict::Problem(Problem {
                words,
                is_unreachable,
            }) => {
                if is_unreachable {
                    (callbacks.unreachable)();
                }
                if callbacks.status.webhook(bot, Some(words.clone())) {
                    log::warn!("bot {bot}: {words}.");
                }
            }
            Verdict::Repair(why) => {
                log::warn!("bot {bot}: {why}. pihook sets the webhook again.");
                self.must_set = true;
                self.is_registered = false;
                return Duration::ZERO;
            }
        }
        if let Some(words) = undelivered {
            (callbacks.unreachable)();
            (callbacks.seen)(Seen::Undelivered(format!("\"{words}\"")));
        }
        // While something waits, it may be that nothing gets in any more.
        let is_quiet = info.pending_update_count > 0 && agrees.is_ok();
        if is_quiet {
            self.interval / 10
        } else {
            self.interval
        }
    }
}

/// Whether Telegram will not take this webhook, however often it is asked.
fn is_final(error: &ApiError) -> bool {
    match error {
        ApiError::Refused {
            retry_after: Some(seconds),
            ..
        } => *seconds > LONGEST_FLOOD_WAIT,
        ApiError::Refused { code, .. } => {
            (400..500).contains(code) && ![401, 404, 409, 429].contains(code)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_telegram_will_never_take_is_told_from_what_passes() {
        let refused = |code, retry_after| {
            is_final(&ApiError::Refused {
                code,
                description: String::new(),
                retry_after,
                migrate_to_chat_id: None,
            })
        };
        assert!(refused(400, None) && refused(499, None) && refused(429, Some(11)));
        assert!(
            ![401, 404, 409, 429, 500]
                .into_iter()
                .any(|code| refused(code, None))
        );
        assert!(!refused(429, Some(10)) && !is_final(&ApiError::Foreign { status: 400 }));
    }
}
