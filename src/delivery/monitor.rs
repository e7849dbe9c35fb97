//! The monitor of one bot's webhook: registers it, and looks at it from then on.

use std::time::{Duration, Instant};

use super::bot_links::BotLinks;
use super::health::{Difference, Health, Problem, Verdict};
use super::look_turns::LookTurns;
use super::policy::Event;
use super::reachability::{Look, Obstacle, REACH_TIMEOUT, Reachability};
use super::registration::{Registered, Registration, RegistrationError};
use super::retry_pause::{RetryPause, token_pause};
use super::token_conflict::TokenConflict;
use crate::edge::reach::ReachRecord;
use crate::telegram::cached_me::CachedMe;
use crate::telegram::error::{ApiError, NEW_TOKEN};
use crate::telegram::types::WebhookInfo;

/// The longest wait between two tries to register the webhook.
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(300);
/// Where news is likely, the next look comes in a `watch_interval` divided by this: 30 s by default.
const SOON_DIVISOR: u32 = 10;
/// After so many refusals of the token, one after the other, the other bots' change of certificate
/// no longer waits for this bot.
const TOKEN_REFUSALS: u32 = 3;
/// When a 429 asks for a longer wait, in seconds, it counts as a refusal, and the bots poll.
const LONGEST_FLOOD_WAIT: u64 = 10;
/// When setWebhook has failed for longer, and no request of Telegram's has come meanwhile, the bots
/// poll.
const SET_PATIENCE: Duration = Duration::from_secs(30);
/// The look at a test comes so much after the policy's deadline. Where nothing has reached the bot
/// since the set, the policy's reason says more than Telegram's error: it knows of a router that
/// rewrites sources.
const AFTER_DEADLINE: Duration = Duration::from_secs(2);
/// What a person is told when a test has shown that Telegram does not reach the bot.
const SILENCE: &str = "updates wait at Telegram, but Telegram's calls do not reach this Pi, and Telegram shows no error: \
                       a firewall, a tunnel or a proxy may close the connections. Run `pihook doctor`";

/// One bot's webhook.
pub(crate) struct WebhookMonitor {
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
    /// Since when setWebhook fails, and how many requests the bot had had then.
    failing: Option<(Instant, u64)>,
    /// How often the token was refused, one time after the other.
    token_refusals: u32,
    /// When the last look was.
    looked: Option<Instant>,
    /// How often Telegram had reached the bot at the last look, or when one was left out.
    reached_before: u64,
    /// None when the next step must look at once.
    next_look: Option<Instant>,
}

impl WebhookMonitor {
    /// Registers this webhook, and looks at it from then on: at each of its `turns` where Telegram
    /// has not reached the bot since the one before, and otherwise once in each `interval`. With
    /// `must_set` it is set also if Telegram has it already.
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
            reached_before: 0,
            next_look: None,
        }
    }

    /// The next step looks, also where Telegram has just reached the bot.
    pub(crate) fn look_now(&mut self) {
        self.next_look = None;
    }

    /// Registers the webhook, or looks at it. Returns how long to wait before the next step.
    pub(crate) fn step(
        &mut self,
        links: &BotLinks,
        me: &CachedMe,
        token_conflict: &mut TokenConflict,
    ) -> Duration {
        let now = Instant::now();
        if self.is_registered {
            let pause = self.look_in_time(links, token_conflict, now);
            self.next_look = Some(Instant::now() + pause);
            return pause;
        }
        match token_conflict.lost_until() {
            Some(until) if now < until => until - now,
            lost => {
                if lost.is_some() {
                    // What follows takes the bot from another program.
                    token_conflict.may_repair(true, now);
                }
                let pause = self.register(links, me);
                self.next_look = Some(Instant::now() + pause);
                pause
            }
        }
    }

    /// Looks, if it is time to, and if there is something to be seen.
    fn look_in_time(
        &mut self,
        links: &BotLinks,
        token_conflict: &mut TokenConflict,
        now: Instant,
    ) -> Duration {
        let Some(next) = self.next_look else {
            return self.look(links, token_conflict);
        };
        if now < next {
            return next - now;
        }
        let count = links.reach_record().count();
        let is_reached = count > self.reached_before;
        self.reached_before = count;
        let is_recent = self
            .looked
            .is_some_and(|looked| now.saturating_duration_since(looked) < self.interval);
        if is_reached
            && is_recent
            && !self.health.has_problem()
            && !self.reachability.is_unreachable()
        {
            return self.turns.next_in(now);
        }
        self.look(links, token_conflict)
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

    fn register(&mut self, links: &BotLinks, me: &CachedMe) -> Duration {
        let before = links.reach_record().count();
        links.before_set();
        match self.try_register(me) {
            Ok(done) => {
                self.registered(&done, before, links);
                if self.reachability.is_tested() {
                    return REACH_TIMEOUT + AFTER_DEADLINE;
                }
                // Telegram calls at once, and so knows soon what is wrong.
                self.interval / SOON_DIVISOR
            }
            Err(error) => match error.api_error() {
                Some(refusal) if refusal.token_is_refused() => self.refused(refusal, links),
                _ => self.not_registered(&error, links),
            },
        }
    }

    fn try_register(&mut self, me: &CachedMe) -> Result<Registered, RegistrationError> {
        self.identify(me)?;
        if self.must_set {
            let info = self.registration.set()?;
            Ok(Registered::Set(info))
        } else {
            self.registration.ensure()
        }
    }

    /// Notes that Telegram has the webhook, and had reached the bot so often before.
    fn registered(&mut self, done: &Registered, before: u64, links: &BotLinks) {
        let bot = self.registration.bot();
        links.status.webhook(bot, None);
        self.token_refusals = 0;
        self.failing = None;
        self.retry_pause.reset();
        let reach = links.reach_record();
        self.looked = Some(Instant::now());
        self.reached_before = reach.count();

        match done {
            Registered::Unchanged(info) => {
                self.health.found(info);
                let look = self.look_at(info, reach);
                self.reachability.found(&look);
                log::info!("bot {bot}: the webhook is registered, and unchanged.");
            }
            Registered::Set(info) => {
                self.health.set();
                self.reachability
                    .set(before, info.pending_update_count > 0, Instant::now());
                links.signals.right_secret();
                log::info!("bot {bot}: the webhook is registered.");
                links.set(before);
            }
        }
        links.registered(self.registration.digest());
        self.is_registered = true;
        self.must_set = false;
    }

    fn not_registered(&mut self, error: &RegistrationError, links: &BotLinks) -> Duration {
        let bot = self.registration.bot();
        links
            .status
            .webhook(bot, Some(format!("the webhook is not registered: {error}")));
        let pause = self.retry_pause.after(error.api_error());
        log::warn!(
            "bot {bot}: the webhook is not registered: {error}. Next try in {} s.",
            pause.as_secs()
        );
        if error.api_error().is_some_and(is_final) {
            links.report(Event::Refused(error.to_string()));
        } else if let RegistrationError::Set(refusal) = error {
            let requests = links.reach_record().requests;
            if !matches!(refusal, ApiError::Unreachable(_) | ApiError::WrongClock(_))
                && self.fails_for_long(requests, Instant::now())
            {
                links.report(Event::NotSet(error.to_string()));
            }
        }
        pause
    }

    /// Notes a failed setWebhook; `requests` of Telegram's have come until now. Returns whether
    /// setWebhook has failed for [`SET_PATIENCE`] without a new request.
    fn fails_for_long(&mut self, requests: u64, now: Instant) -> bool {
        let since = match self.failing {
            Some((since, count)) if count == requests => since,
            _ => now,
        };
        self.failing = Some((since, requests));
        now.saturating_duration_since(since) >= SET_PATIENCE
    }

    /// Notes that the Bot API refused the token. One answer decides nothing: the token is tried
    /// again, at once when the Bot API accepts another call with it.
    fn refused(&mut self, error: &ApiError, links: &BotLinks) -> Duration {
        let bot = self.registration.bot();
        let pause = token_pause(self.token_refusals);
        self.is_registered = false;
        self.token_refusals = self.token_refusals.saturating_add(1);
        links.signals.token_refused();
        if self.token_refusals >= TOKEN_REFUSALS {
            // The other bots' change of certificate must not wait for this bot.
            links.registered(self.registration.digest());
        }
        if links
            .status
            .webhook(bot, Some(format!("{error}. {NEW_TOKEN}")))
        {
            log::error!(
                "bot {bot}: {error}. {NEW_TOKEN} pihook tries again, at growing intervals."
            );
        }
        links.status.token_refused(bot);
        pause
    }

    fn look_at<'l>(&self, info: &'l WebhookInfo, reach: ReachRecord) -> Look<'l> {
        Look {
            info,
            reach,
            has_own_certificate: self.registration.has_own_certificate(),
            now: Instant::now(),
            telegram_time: self.registration.telegram_time(),
        }
    }

    fn look(&mut self, links: &BotLinks, token_conflict: &mut TokenConflict) -> Duration {
        let info = match self.registration.info() {
            Ok(info) => info,
            Err(RegistrationError::Api(error)) if error.token_is_refused() => {
                return self.refused(&error, links);
            }
            // The call failed, so this look shows nothing. The next turn tries again.
            Err(_) => return self.turns.next_in(Instant::now()),
        };
        self.token_refusals = 0;
        let reach = links.reach_record();
        self.looked = Some(Instant::now());
        self.reached_before = reach.count();

        let mut agrees = self.registration.agrees(&info);
        if agrees.is_ok() && links.signals.is_secret_wrong() {
            agrees = Err(Difference::Secret);
        }
        let mut obstacle = self.reachability.look(&self.look_at(&info, reach));
        if agrees.is_err() {
            // The obstacle belongs to another program's webhook.
            obstacle = None;
        }
        let fault = self.registration.fault();
        let verdict = self
            .health
            .assess(&info, agrees, fault, token_conflict, Instant::now());

        let bot = self.registration.bot();
        if let Verdict::Repair(reason) = &verdict {
            log::warn!("bot {bot}: {reason}. pihook sets the webhook again.");
            return self.set_again();
        }
        if obstacle == Some(Obstacle::Silence) && token_conflict.may_repair(false, Instant::now()) {
            log::info!(
                "bot {bot}: updates wait at Telegram, but nothing arrives. pihook sets the webhook again, as a test."
            );
            return self.set_again();
        }
        self.show(verdict, links);
        report_obstacle(obstacle, links);

        // While something waits, Telegram may no longer reach the bot: the next look is soon.
        let has_waiting_updates = info.pending_update_count > 0 && agrees.is_ok();
        if has_waiting_updates {
            self.interval / SOON_DIVISOR
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
    fn show(&self, verdict: Verdict, links: &BotLinks) {
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
                if links.status.webhook(bot, None) {
                    log::info!("bot {bot}: the webhook works again.");
                }
            }
            Some(Problem {
                words,
                is_unreachable,
            }) => {
                if is_unreachable {
                    links.unreachable();
                }
                if links.status.webhook(bot, Some(words.clone())) {
                    log::warn!("bot {bot}: {words}.");
                }
            }
        }
    }
}

/// Reports what keeps updates from arriving. Silence is not reported: a test decides on it first.
fn report_obstacle(obstacle: Option<Obstacle>, links: &BotLinks) {
    let event = match obstacle {
        Some(Obstacle::Error(message)) => Event::Undelivered(message),
        Some(Obstacle::FailedTest) => Event::NotReached,
        Some(Obstacle::Silence) | None => return,
    };
    links.unreachable();
    links.report(event);
}

/// Whether the bots should poll because of this refusal: Telegram will not take the webhook, or only
/// after a long wait.
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
    fn a_final_refusal_of_set_webhook_is_told_from_a_passing_one() {
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
