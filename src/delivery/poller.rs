//! The poller of one bot: where no webhook can be reached, it asks Telegram for updates, and has
//! the same workers deal with them.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::poll_conflict::{PageOwner, PollConflict};
use super::poll_length::PollLength;
use super::polled::PolledUpdates;
use super::registration::Registration;
use super::retry_pause::{RetryPause, token_pause};
use super::token_conflict::{Contest, STOP_OTHER};
use crate::status::facts::Status;
use crate::system::lock::lock;
use crate::system::random::random;
use crate::telegram::cached_me::CachedMe;
use crate::telegram::client::{Client, POLL_TIMEOUT};
use crate::telegram::error::{ApiError, NEW_TOKEN};
use crate::telegram::queue::QueuedUpdate;
use crate::updates::handover::Handover;

/// The same offset is asked for no more often.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// A call must have returned within this time.
const RETURN_TIMEOUT: Duration = Duration::from_secs(130);
/// Between two calls that fail.
const MAX_RETRY_INTERVAL: Duration = POLL_TIMEOUT;
/// Between two looks at what the webhook has left in flight.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// For the decision on a webhook of ours that somebody has set.
const ADOPTION_TIMEOUT: Duration = Duration::from_secs(10);
/// What to do when two programs want the same updates.
const FOREIGN_WEBHOOK: &str = "another program, or an earlier run of this bot, has set a webhook";
/// When only new settings can help.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What a poller waits for.
pub(crate) enum PollEvent {
    /// A call of getUpdates has returned.
    Page(Result<Vec<QueuedUpdate>, ApiError>),
    /// An update is dealt with, or is to be tried again after so many seconds.
    Delivered(i64, Result<(), u64>),
}

/// When the call of getUpdates that is under way must have returned, for the watchdog.
#[derive(Default)]
pub(crate) struct PollDeadline(Mutex<Option<Instant>>);

impl PollDeadline {
    /// Whether it has returned in time, or none is under way.
    pub(crate) fn is_met(&self) -> bool {
        lock(&self.0).is_none_or(|deadline| Instant::now() < deadline)
    }

    fn set(&self, deadline: Option<Instant>) {
        *lock(&self.0) = deadline;
    }
}

/// What a poller needs, whenever it polls.
pub(crate) struct PollSettings {
    /// The bot, by its place in the settings.
    pub(crate) index: usize,
    /// To call with.
    pub(crate) client: Client,
    /// The answer of getMe.
    pub(crate) me: Arc<CachedMe>,
    /// The kinds of update that the bot wants.
    pub(crate) allowed_updates: &'static [&'static str],
    /// Updates that workers have at once, at most.
    pub(crate) max_in_flight: usize,
    /// The way to the workers.
    pub(crate) handover: Arc<Handover>,
    /// Where that way is walked.
    pub(crate) runtime: Handle,
    /// Shows the state to a person.
    pub(crate) status: Arc<Status>,
    /// For the watchdog.
    pub(crate) deadline: Arc<PollDeadline>,
}

/// One bot that polls.
pub(crate) struct Poller {
    settings: Arc<PollSettings>,
    /// The webhook that would be ours, if a host is known for it.
    registration: Option<Registration>,
    polled: PolledUpdates,
    send: Arc<dyn Fn(PollEvent) + Send + Sync>,
    asks: Sender<Ask>,
    stage: Stage,
    conflict: PollConflict,
    length: PollLength,
    retry_pause: RetryPause,
    /// How often the token was refused since it last was not.
    token_refusals: u32,
    not_before: Option<Instant>,
    /// The last call, and whether it is under way.
    asked: Option<Instant>,
    is_asking: bool,
    /// The last page brought something.
    is_flowing: bool,
    was_stale: bool,
    is_stopped: bool,
}

/// One call of getUpdates.
struct Ask {
    /// The offset and the limit.
    page: (Option<i64>, usize),
    /// How long Telegram may hold it.
    seconds: u32,
}

enum Stage {
    /// There may be a webhook, in whose way we would be. One of ours that has just appeared is not
    /// simply removed.
    Webhook {
        is_new: bool,
    },
    /// The webhook is gone; what it brought is waited for.
    InFlight,
    Polling,
}

impl Poller {
    /// Starts its thread. `send` gets what it waits for, to be handed to [`Poller::take`].
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(
        settings: Arc<PollSettings>,
        registration: Option<Registration>,
        send: impl Fn(PollEvent) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (asks, asked) = mpsc::channel();
        let send: Arc<dyn Fn(PollEvent) + Send + Sync> = Arc::new(send);
        let (asking, answer) = (Arc::clone(&settings), Arc::clone(&send));
        let poll = move || ask(&asking, &asked, &*answer);
        thread::Builder::new()
            .name(format!("poll {}", settings.client.bot()))
            .spawn(poll)?;
        Ok(Self {
            settings,
            registration,
            polled: PolledUpdates::new(),
            send,
            asks,
            stage: Stage::Webhook { is_new: false },
            conflict: PollConflict::new(),
            length: PollLength::new(),
            retry_pause: RetryPause::new(MAX_RETRY_INTERVAL),
            token_refusals: 0,
            not_before: None,
            asked: None,
            is_asking: false,
            is_flowing: false,
            was_stale: false,
            is_stopped: false,
        })
    }

    /// The webhook that would be ours from now on.
    pub(crate) fn know(&mut self, registration: Registration) {
        self.registration = Some(registration);
    }

    /// Does what is to be done. Returns how long to wait for the next step, unless something
    /// happens before. `own_webhook` is called when somebody has set our webhook; false when that
    /// is not wanted.
    pub(crate) fn step(
        &mut self,
        contest: &mut Contest,
        own_webhook: &dyn Fn() -> bool,
    ) -> Duration {
        let now = Instant::now();
        if self.is_stopped {
            return NEVER;
        }
        self.deliver(now);
        if self.conflict.ends(now) {
            self.say_state();
        }
        let start = [self.not_before, self.conflict.next_try()]
            .into_iter()
            .flatten()
            .max();
        if let Some(start) = start.filter(|start| now < *start) {
            return self.pause(start, now);
        }
        match self.stage {
            Stage::Webhook { is_new } => {
                let removed = self.remove_webhook(is_new, contest, own_webhook);
                if let Err(why) = removed {
                    self.fail(&why);
                }
                Duration::ZERO
            }
            Stage::InFlight if self.settings.handover.in_flight(self.settings.index) > 0 => {
                LOOK_INTERVAL
            }
            Stage::InFlight => {
                self.stage = Stage::Polling;
                self.say_state();
                Duration::ZERO
            }
            Stage::Polling => self.ask(now),
        }
    }

    fn ask(&mut self, now: Instant) -> Duration {
        if self.is_asking {
            return self.pause(now + NEVER, now);
        }
        let is_free = self.is_flowing && self.polled.is_all_through();
        if let Some(next) = self
            .asked
            .map(|asked| asked + ASK_INTERVAL)
            .filter(|next| !is_free && now < *next)
        {
            return self.pause(next, now);
        }
        let ask = Ask {
            page: self.polled.next_page(),
            seconds: self.length.seconds(now),
        };
        self.is_asking = self.asks.send(ask).is_ok();
        self.asked = Some(now);
        self.settings.deadline.set(Some(now + RETURN_TIMEOUT));
        self.pause(now + NEVER, now)
    }

    /// How long to wait for `next`, for an update that was put off, or for the end of a conflict.
    fn pause(&self, next: Instant, now: Instant) -> Duration {
        let others = [self.polled.next_due(), self.conflict.end()];
        let first = others.into_iter().flatten().fold(next, Instant::min);
        first.saturating_duration_since(now)
    }

    /// Hands the workers what they can have.
    fn deliver(&mut self, now: Instant) {
        while self.polled.in_flight() < self.settings.max_in_flight {
            let Some((id, body)) = self.polled.take(now) else {
                return;
            };
            let (settings, send) = (Arc::clone(&self.settings), Arc::clone(&self.send));
            self.settings.runtime.spawn(async move {
                let delivered = settings
                    .handover
                    .deliver(settings.index, body.as_bytes())
                    .await;
                send(PollEvent::Delivered(id, delivered));
            });
        }
    }

    /// Takes in what has happened.
    pub(crate) fn take(&mut self, event: PollEvent, contest: &mut Contest) {
        let now = Instant::now();
        match event {
            PollEvent::Delivered(id, Ok(())) => self.polled.through(id),
            PollEvent::Delivered(id, Err(seconds)) => {
                self.polled
                    .put_off(id, now + Duration::from_secs(seconds.clamp(1, 3600)));
            }
            PollEvent::Page(page) => {
                self.is_asking = false;
                self.settings.deadline.set(None);
                // What comes now is Telegram's to deliver again; our own setWebhook ends the call
                // with an error.
                if !self.is_stopped {
                    self.take_page(page, contest, now);
                }
            }
        }
    }

    fn take_page(
        &mut self,
        page: Result<Vec<QueuedUpdate>, ApiError>,
        contest: &mut Contest,
        now: Instant,
    ) {
        let lasted = self
            .asked
            .map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked));
        match page {
            Ok(page) => {
                self.retry_pause.reset();
                self.token_refusals = 0;
                self.was_stale = false;
                self.not_before = None;
                contest.won();
                let ids = page.iter().map(|update| update.id).collect();
                match self.conflict.judge(&ids, lasted, now) {
                    PageOwner::Ours => self.is_flowing = self.polled.take_page(page) > 0,
                    PageOwner::Unknown => {}
                    PageOwner::Other => self.refused_by_other(now),
                }
                self.say_state();
            }
            Err(ApiError::TooLarge) if self.polled.too_large() => {}
            Err(why) if why.is_webhook_conflict() => {
                self.stage = Stage::Webhook { is_new: true };
                // Nobody polls while there is a webhook.
                self.conflict = PollConflict::new();
            }
            Err(why) if why.is_poll_conflict() => {
                self.retry_pause.reset();
                self.refused_by_other(now);
                self.say_state();
            }
            Err(why) => {
                if matches!(why, ApiError::Unanswered(_)) {
                    self.polled.no_page();
                }
                let was_cut = self.length.was_cut(&why, lasted, now);
                // A kept connection was dead.
                let is_stale = matches!(why, ApiError::StaleConnection(_));
                let is_first_stale = is_stale && !std::mem::replace(&mut self.was_stale, true);
                if !was_cut && !is_first_stale {
                    self.fail(&why);
                }
            }
        }
    }

    /// Another program polls: it got what we asked for.
    fn refused_by_other(&mut self, now: Instant) {
        self.conflict.refused(now, random());
        self.is_flowing = false;
        self.settings
            .status
            .poll_conflict(self.settings.client.bot());
    }

    /// Shows how the polling is, and logs what is new.
    fn say_state(&self) {
        let bot = self.settings.client.bot();
        if !self.conflict.is_on() {
            if self.settings.status.polling(bot, None) {
                log::info!("bot {bot}: updates arrive by polling.");
            }
            return;
        }
        let plan = if self.conflict.has_given_way() {
            "pihook leaves the updates to the other program, and tries again every minute or two"
        } else {
            "pihook tries again in some seconds"
        };
        let words = format!(
            "another program polls with this token, too; only one program can use a token: {STOP_OTHER}; {plan}"
        );
        if self.settings.status.polling(bot, Some(words.clone())) {
            log::warn!("bot {bot}: {words}.");
        }
    }

    /// Makes way: a webhook of ours is removed, and what waits stays. One of another program's is
    /// left for a while.
    fn remove_webhook(
        &mut self,
        is_new: bool,
        contest: &mut Contest,
        own_webhook: &dyn Fn() -> bool,
    ) -> Result<(), ApiError> {
        let (now, client) = (Instant::now(), &self.settings.client);
        self.settings.me.set(client.me()?);
        let info = client.webhook_info()?;
        let is_ours = self
            .registration
            .as_ref()
            .is_some_and(|registration| registration.has_url(&info.url));
        if is_ours && is_new && own_webhook() {
            self.not_before = Some(now + ADOPTION_TIMEOUT);
            self.stage = Stage::Webhook { is_new: false };
            return Ok(());
        }
        let is_free = info.url.is_empty() || is_ours;
        if !is_free && !contest.may_repair(true, now) {
            self.leave_to_webhook(contest, now);
            return Ok(());
        }
        if !is_free {
            let bot = client.bot();
            log::warn!("bot {bot}: {FOREIGN_WEBHOOK}. pihook removes the webhook.");
        }
        if !info.url.is_empty() {
            self.settings.client.delete_webhook()?;
        }
        self.stage = Stage::InFlight;
        Ok(())
    }

    /// Another program's webhook stays for now. It may go by itself, so it is looked at before it
    /// may be removed.
    fn leave_to_webhook(&mut self, contest: &Contest, now: Instant) {
        self.not_before = Some(contest.next_look(now, random()));
        let bot = self.settings.client.bot();
        let words = format!(
            "{FOREIGN_WEBHOOK}, again; only one program can use a token: {STOP_OTHER}; pihook polls again later"
        );
        if self.settings.status.polling(bot, Some(words.clone())) {
            log::warn!("bot {bot}: {words}.");
        }
    }

    fn fail(&mut self, why: &ApiError) {
        let bot = self.settings.client.bot();
        if why.token_is_refused() {
            self.not_before = Some(Instant::now() + token_pause(self.token_refusals));
            self.token_refusals = self.token_refusals.saturating_add(1);
            if self
                .settings
                .status
                .polling(bot, Some(format!("{why}. {NEW_TOKEN}")))
            {
                log::error!(
                    "bot {bot}: {why}. {NEW_TOKEN} pihook tries again, at growing intervals."
                );
            }
            self.settings.status.token_refused(bot);
            return;
        }
        let pause = self.retry_pause.after(Some(why));
        self.not_before = Some(Instant::now() + pause);
        let words = format!("polling failed: {why}");
        if self.settings.status.polling(bot, Some(words.clone())) {
            log::warn!("bot {bot}: {words}. pihook tries again.");
        }
    }

    /// Takes nothing new from now on.
    pub(crate) fn stop(&mut self) {
        self.is_stopped = true;
        self.settings.deadline.set(None);
    }

    /// Whether the workers have nothing of it.
    pub(crate) fn is_idle(&self) -> bool {
        self.polled.in_flight() == 0
    }

    /// Tells Telegram what is through, and forgets the rest: Telegram still has it.
    pub(crate) fn end(mut self) {
        if self.polled.is_unconfirmed() {
            let (offset, _) = self.polled.next_page();
            // Where that fails, it comes again, and the dedup window knows it.
            let _ = self
                .settings
                .client
                .updates((offset, 1), self.settings.allowed_updates, 0);
        }
    }
}

/// Asks Telegram for what comes through `asks`, until the other end is gone.
fn ask(settings: &PollSettings, asks: &Receiver<Ask>, answer: &dyn Fn(PollEvent)) {
    while let Ok(ask) = asks.recv() {
        let page = settings
            .client
            .updates(ask.page, settings.allowed_updates, ask.seconds);
        answer(PollEvent::Page(page));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_hears_of_a_poll_that_does_not_return() {
        let deadline = PollDeadline::default();
        assert!(deadline.is_met(), "none is under way");
        deadline.set(Some(Instant::now() + RETURN_TIMEOUT));
        assert!(deadline.is_met());
        deadline.set(Some(Instant::now()));
        assert!(!deadline.is_met());
        deadline.set(None);
        assert!(deadline.is_met());
    }
}
