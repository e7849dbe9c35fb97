//! Keeps one bot's webhook registered: tries until it succeeds, and watches the webhook from then
//! on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::health::{Difference, Health, Problem, Verdict};
use super::look_turns::LookTurns;
use super::policy::Seen;
use super::reachability::{ARRIVAL_TIMEOUT, Look, Obstacle, Reachability};
use super::registration::{Registered, Registration, RegistrationError};
use super::retry_pause::{RetryPause, token_pause};
use super::token_conflict::Contest;
use crate::edge::arrivals::{Arrivals, Arrived};
use crate::status::facts::Status;
use crate::telegram::cached_me::CachedMe;
use crate::telegram::error::{ApiError, NEW_TOKEN};
use crate::telegram::types::WebhookInfo;
use crate::updates::observations::Observations;

const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(300);
/// After so many refusals of the token, one after the other, nobody waits for this bot any more.
const TOKEN_REFUSALS: u32 = 3;
/// A longer wait that a 429 asks for is a refusal: meanwhile the bot had better poll.
const LONGEST_FLOOD_WAIT: u64 = 10;
/// When setWebhook fails for longer, and the bot has no request meanwhile, the bot had better poll,
/// too.
const SET_PATIENCE: Duration = Duration::from_secs(30);
/// What a person is told when a test has shown that nothing gets in.
const SILENCE: &str = "updates wait at Telegram, but Telegram's calls do not reach this Pi, and Telegram shows no error: \
                       a firewall, a tunnel or a proxy may close the connections. Run `pihook doctor`";

/// Called as the webhook's state changes.
pub(crate) struct Callbacks {
    /// The bot, by its place in the settings.
    pub(crate) index: usize,
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
    /// Called when Telegram has taken the webhook, with the number of arrivals before that.
    pub(crate) set: Box<dyn Fn(u64) + Send>,
    /// Gets what decides on webhook or polling. False when the settings have decided.
    pub(crate) seen: Box<dyn Fn(Seen) -> bool + Send>,
    /// Called when Telegram's calls do not arrive: the address may have changed.
    pub(crate) unreachable: Box<dyn Fn() + Send>,
}

impl Callbacks {
    fn arrived(&self) -> Arrived {
        self.arrivals.of(self.index)
    }
}

/// One bot's webhook.
pub(crate) struct Keeper {
    registration: Registration,
    interval: Duration,
    turns: LookTurns,
    health: Health,
    reachability: Reachability,
    retry_pause: RetryPause,
    is_registered: bool,
    /// getMe has answered.
    is_identified: bool,
    /// The webhook is to be set even if Telegram shows the right one.
    must_set: bool,
    /// Since when setWebhook fails, and how many requests of the bot there had been.
    failing: Option<(Instant, u64)>,
    /// How often the token was refused since it last was not.
    token_refusals: u32,
    looked: Option<Instant>,
    /// How many arrivals there had been at the last look, or when it was left out.
    arrived_before: u64,
    /// None: at once.
    next_look: Option<Instant>,
}

impl Keeper {
    /// Registers this, and looks at it from then on: at each of its `turns` where nothing has
    /// arrived since the one before, and otherwise once in each `interval`. With `must_set` it is
    /// set also if Telegram has it already.
    pub(crate) fn new(
        registration: Registration,
        interval: Duration,
        turns: LookTurns,
        must_set: bool,
    ) -> Self {
        Self {
            registration,
            interval,
            turns,
            health: Health::default(),
            reachability: Reachability::default(),
            retry_pause: RetryPause::new(MAX_RETRY_INTERVAL),
            is_registered: false,
            is_identified: false,
            must_set,
            failing: None,
            token_refusals: 0,
            looked: None,
            arrived_before: 0,
            next_look: None,
        }
    }

    /// The next step looks, whatever has arrived.
    pub(crate) fn look_now(&mut self) {
        self.next_look = None;
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
            let pause = self.look_in_time(callbacks, contest, now);
            self.next_look = Some(Instant::now() + pause);
            return pause;
        }
        match contest.lost_until() {
            Some(until) if now < until => until - now,
            lost => {
                if lost.is_some() {
                    // What follows takes the bot from another program.
                    contest.may_repair(true, now);
                }
                let pause = self.register(callbacks, me);
                self.next_look = Some(Instant::now() + pause);
                pause
            }
        }
    }

    /// Looks, if it is time to, and if there is something to be seen.
    fn look_in_time(
        &mut self,
        callbacks: &Callbacks,
        contest: &mut Contest,
        now: Instant,
    ) -> Duration {
        let Some(next) = self.next_look else {
            return self.look(callbacks, contest);
        };
        if now < next {
            return next - now;
        }
        let count = callbacks.arrived().count();
        let has_arrived = std::mem::replace(&mut self.arrived_before, count) < count;
        let is_recent = self
            .looked
            .is_some_and(|looked| now.saturating_duration_since(looked) < self.interval);
        if has_arrived
            && is_recent
            && !self.health.has_problem()
            && !self.reachability.is_unreachable()
        {
            return self.turns.next_in(now);
        }
        self.look(callbacks, contest)
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
        let before = callbacks.arrived().count();
        (callbacks.setting)();
        let done = self.identify(me).and_then(|()| match self.must_set {
            true => self.registration.set().map(Registered::Set),
            false => self.registration.ensure(),
        });
        match done {
            Ok(done) => {
                self.registered(&done, before, callbacks);
                if self.reachability.is_tested() {
                    return ARRIVAL_TIMEOUT;
                }
                // Telegram calls at once, and so knows soon what is wrong.
                self.interval / 10
            }
            Err(error) => match error.api_error() {
                Some(refusal) if refusal.token_is_refused() => self.refused(refusal, callbacks),
                _ => self.not_registered(&error, callbacks),
            },
        }
    }

    /// Telegram has the webhook; before that there had been so many arrivals.
    fn registered(&mut self, done: &Registered, before: u64, callbacks: &Callbacks) {
        let bot = self.registration.bot();
        callbacks.status.webhook(bot, None);
        self.token_refusals = 0;
        self.failing = None;
        self.retry_pause.reset();
        let arrived = callbacks.arrived();
        self.looked = Some(Instant::now());
        self.arrived_before = arrived.count();
        match done {
            Registered::Unchanged(info) => {
                self.health.found(info);
                let look = self.look_at(info, arrived);
                self.reachability.found(&look);
                log::info!("bot {bot}: the webhook is registered, and unchanged.");
            }
            Registered::Set(info) => {
                self.health.set();
                self.reachability
                    .set(before, info.pending_update_count > 0, Instant::now());
                callbacks.observations.right_secret();
                log::info!("bot {bot}: the webhook is registered.");
                (callbacks.set)(before);
            }
        }
        (callbacks.registered)(self.registration.digest());
        self.is_registered = true;
        self.must_set = false;
    }

    fn not_registered(&mut self, error: &RegistrationError, callbacks: &Callbacks) -> Duration {
        let bot = self.registration.bot();
        callbacks
            .status
            .webhook(bot, Some(format!("the webhook is not registered: {error}")));
        let pause = self.retry_pause.after(error.api_error());
        log::warn!(
            "bot {bot}: the webhook is not registered: {error}. Next try in {} s.",
            pause.as_secs()
        );
        if error.api_error().is_some_and(is_final) {
            (callbacks.seen)(Seen::Refused(error.to_string()));
        } else if let RegistrationError::Set(refusal) = error {
            let requests = callbacks.arrived().requests;
            if !matches!(refusal, ApiError::Unreachable(_) | ApiError::WrongClock(_))
                && self.fails_for_long(requests, Instant::now())
            {
                (callbacks.seen)(Seen::NotSet(error.to_string()));
            }
        }
        pause
    }

    /// Takes in that setWebhook has failed, when there had been so many requests. Whether it has
    /// for long, without a request.
    fn fails_for_long(&mut self, requests: u64, now: Instant) -> bool {
        let (since, count) = self
            .failing
            .filter(|(_, count)| *count == requests)
            .unwrap_or((now, requests));
        self.failing = Some((since, count));
        now.saturating_duration_since(since) >= SET_PATIENCE
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
        callbacks.status.token_refused(bot);
        pause
    }

    fn look_at<'l>(&self, info: &'l WebhookInfo, arrived: Arrived) -> Look<'l> {
        Look {
            info,
            arrived,
            has_own_certificate: self.registration.has_own_certificate(),
            now: Instant::now(),
            telegram_time: self.registration.telegram_time(),
        }
    }

    fn look(&mut self, callbacks: &Callbacks, contest: &mut Contest) -> Duration {
        let info = match self.registration.info() {
            Ok(info) => info,
            Err(RegistrationError::Api(why)) if why.token_is_refused() => {
                return self.refused(&why, callbacks);
            }
            // While the Bot API cannot be reached there is nothing new to know; the updates' log
            // has it.
            Err(_) => return self.turns.next_in(Instant::now()),
        };
        self.token_refusals = 0;
        let arrived = callbacks.arrived();
        self.looked = Some(Instant::now());
        self.arrived_before = arrived.count();
        let is_secret_wrong = callbacks.observations.is_secret_wrong();
        let agrees = self.registration.agrees(&info);
        let agrees = agrees.and(if is_secret_wrong {
            Err(Difference::Secret)
        } else {
            Ok(())
        });

        let look = self.look_at(&info, arrived);
        let obstacle = self.reachability.look(&look).filter(|_| agrees.is_ok());
        let verdict = self.health.assess(
            &info,
            (agrees, self.registration.fault()),
            contest,
            Instant::now(),
        );
        if let Verdict::Repair(reason) = &verdict {
            log::warn!(
                "bot {}: {reason}. pihook sets the webhook again.",
                self.registration.bot()
            );
            return self.set_again();
        }
        if obstacle == Some(Obstacle::Silence) && contest.may_repair(false, Instant::now()) {
            log::info!(
                "bot {}: updates wait at Telegram, but nothing arrives. pihook sets the webhook again, as a test.",
                self.registration.bot()
            );
            return self.set_again();
        }
        self.tell(verdict, callbacks);
        match obstacle {
            Some(Obstacle::Error(message)) => {
                (callbacks.unreachable)();
                (callbacks.seen)(Seen::Undelivered(message));
            }
            Some(Obstacle::FailedTest) => {
                (callbacks.unreachable)();
                (callbacks.seen)(Seen::NothingArrives);
            }
            Some(Obstacle::Silence) | None => {}
        }
        // While something waits, it may be that nothing gets in any more.
        let is_waited_for = info.pending_update_count > 0 && agrees.is_ok();
        if is_waited_for {
            self.interval / 10
        } else {
            self.turns.next_in(Instant::now())
        }
    }

    fn set_again(&mut self) -> Duration {
        self.must_set = true;
        self.is_registered = false;
        Duration::ZERO
    }

    /// Shows a person how the webhook is.
    fn tell(&self, verdict: Verdict, callbacks: &Callbacks) {
        let bot = self.registration.bot();
        let problem = match verdict {
            Verdict::Problem(problem) => Some(problem),
            _ if self.reachability.is_unreachable() => Some(Problem {
                words: SILENCE.into(),
                is_unreachable: true,
            }),
            Verdict::Well | Verdict::Repair(_) => None,
        };
        match problem {
            None => {
                if callbacks.status.webhook(bot, None) {
                    log::info!("bot {bot}: the webhook works again.");
                }
            }
            Some(Problem {
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
