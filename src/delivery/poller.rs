//! The poller of one bot: where Telegram reaches no webhook, it asks Telegram for updates, and has
//! the same workers handle them.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::bot_links::BotLinks;
use super::policy::Event;
use super::poll_conflict::{PageOwner, PollConflict};
use super::poll_length::PollLength;
use super::polled::PolledUpdates;
use super::registration::Registration;
use super::retry_pause::{RetryPause, token_pause};
use super::token_conflict::TokenConflict;
use crate::status::facts::Status;
use crate::system::lock::lock;
use crate::system::random::random;
use crate::telegram::cached_me::CachedMe;
use crate::telegram::client::{Client, POLL_TIMEOUT};
use crate::telegram::error::{ApiError, NEW_TOKEN};
use crate::telegram::queue::QueuedUpdate;
use crate::updates::handover::Handover;

/// Two calls with the same offset are at least so far apart.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// A call must have returned within this time, or the watchdog says that the bot hangs.
const RETURN_TIMEOUT: Duration = Duration::from_secs(130);
/// The longest wait after a call that failed.
const MAX_RETRY_INTERVAL: Duration = POLL_TIMEOUT;
/// The wait between two looks at the updates that the webhook has left in flight.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The wait for the decision on a webhook of ours that somebody has set.
const ADOPTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The advice when two programs want the same updates.
const ONE_PROGRAM: &str = "only one program can use a token: stop the other program, or get a token of its own for it from BotFather";
const FOREIGN_WEBHOOK: &str = "another program, or an earlier run of this bot, has set a webhook";
/// The wait when only an event brings something to do.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);
/// The longest time for which a worker may defer an update, in seconds.
const MAX_DEFERRAL: u64 = 3600;

/// An event that a poller waits for.
pub(crate) enum PollEvent {
    /// A call of getUpdates has returned.
    Page(Result<Vec<QueuedUpdate>, ApiError>),
    /// A worker has done the update with this id, or has deferred it for so many seconds.
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
    /// Runs the tasks that wait for the workers' answers.
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
    phase: PollPhase,
    conflict: PollConflict,
    length: PollLength,
    retry_pause: RetryPause,
    /// How often the token was refused, one time after the other.
    token_refusals: u32,
    /// No call is made before this time.
    not_before: Option<Instant>,
    /// When the last call began.
    asked: Option<Instant>,
    /// The last call is under way.
    is_asking: bool,
    /// The last page brought something.
    is_flowing: bool,
    /// The last call failed because its kept connection was dead.
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

enum PollPhase {
    /// There may be a webhook, and while there is one, getUpdates returns nothing. One of ours that
    /// has just appeared (`is_new`) is reported before it is removed.
    Webhook {
        is_new: bool,
    },
    /// The webhook is gone. The updates that it brought are waited for.
    InFlight,
    Polling,
}

impl Poller {
    /// Starts the poller's thread. `send` gets the events, to be handed to [`Poller::handle`].
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

        let call_settings = Arc::clone(&settings);
        let answer = Arc::clone(&send);
        let name = format!("poll {}", settings.client.bot());
        thread::Builder::new()
            .name(name)
            .spawn(move || call_get_updates(&call_settings, &asked, &*answer))?;
        Ok(Self {
            settings,
            registration,
            polled: PolledUpdates::new(),
            send,
            asks,
            phase: PollPhase::Webhook { is_new: false },
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

    /// Sets the webhook that would be ours from now on.
    pub(crate) fn set_registration(&mut self, registration: Registration) {
        self.registration = Some(registration);
    }

    /// Does what is to be done. Returns how long to wait for the next step, unless something
    /// happens before.
    pub(crate) fn step(
        &mut self,
        links: &BotLinks,
        token_conflict: &mut TokenConflict,
    ) -> Duration {
        if self.is_stopped {
            return NEVER;
        }
        let now = Instant::now();
        self.deliver(now);
        if self.conflict.ends(now) {
            self.show_state();
        }

        let start = self.not_before.max(self.conflict.next_try());
        if let Some(start) = start
            && now < start
        {
            return self.pause(start, now);
        }
        match self.phase {
            PollPhase::Webhook { is_new } => {
                if let Err(error) = self.remove_webhook(is_new, links, token_conflict) {
                    self.fail(&error);
                }
                Duration::ZERO
            }
            PollPhase::InFlight => {
                let handover = &self.settings.handover;
                if handover.in_flight(self.settings.index) > 0 {
                    return LOOK_INTERVAL;
                }
                self.phase = PollPhase::Polling;
                self.show_state();
                Duration::ZERO
            }
            PollPhase::Polling => self.ask(now),
        }
    }

    /// Has the poller's thread call getUpdates, unless it is too early or a call is under way.
    fn ask(&mut self, now: Instant) -> Duration {
        if self.is_asking {
            return self.pause(now + NEVER, now);
        }
        // While pages bring updates and the workers keep up, the offset moves, and the next call
        // may follow at once.
        let is_free = self.is_flowing && self.polled.is_all_done();
        if let Some(asked) = self.asked
            && !is_free
            && now < asked + ASK_INTERVAL
        {
            return self.pause(asked + ASK_INTERVAL, now);
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

    /// How long to wait for `next`, for a deferred update, or for the end of a conflict.
    fn pause(&self, next: Instant, now: Instant) -> Duration {
        let others = [self.polled.next_due(), self.conflict.end()];
        let first = others.into_iter().flatten().fold(next, Instant::min);
        first.saturating_duration_since(now)
    }

    /// Hands the workers as many updates as they may have at once.
    fn deliver(&mut self, now: Instant) {
        while self.polled.in_flight() < self.settings.max_in_flight {
            let Some((id, body)) = self.polled.next_for_worker(now) else {
                return;
            };
            let settings = Arc::clone(&self.settings);
            let send = Arc::clone(&self.send);
            self.settings.runtime.spawn(async move {
                let delivered = settings
                    .handover
                    .deliver(settings.index, body.as_bytes())
                    .await;
                send(PollEvent::Delivered(id, delivered));
            });
        }
    }

    /// Does what an event asks for.
    pub(crate) fn handle(&mut self, event: PollEvent, token_conflict: &mut TokenConflict) {
        let now = Instant::now();
        match event {
            PollEvent::Delivered(id, Ok(())) => self.polled.done(id),
            PollEvent::Delivered(id, Err(seconds)) => {
                let wait = Duration::from_secs(seconds.clamp(1, MAX_DEFERRAL));
                self.polled.defer(id, now + wait);
            }
            PollEvent::Page(page) => {
                self.is_asking = false;
                self.settings.deadline.set(None);
                // After a stop, Telegram delivers a page again by webhook, and an error comes from our
                // own setWebhook.
                if !self.is_stopped {
                    self.handle_page(page, token_conflict, now);
                }
            }
        }
    }

    fn handle_page(
        &mut self,
        page: Result<Vec<QueuedUpdate>, ApiError>,
        token_conflict: &mut TokenConflict,
        now: Instant,
    ) {
        let lasted = match self.asked {
            Some(asked) => now.saturating_duration_since(asked),
            None => Duration::ZERO,
        };
        match page {
            Ok(page) => {
                self.retry_pause.reset();
                self.token_refusals = 0;
                self.was_stale = false;
                self.not_before = None;
                token_conflict.resolved();
                self.insert_page(page, lasted, now);
                self.show_state();
            }
            Err(ApiError::TooLarge) if self.polled.too_large() => {}
            Err(error) if error.is_webhook_conflict() => {
                self.phase = PollPhase::Webhook { is_new: true };
                // Nobody polls while there is a webhook.
                self.conflict = PollConflict::new();
            }
            Err(error) if error.is_poll_conflict() => {
                self.retry_pause.reset();
                self.refused_by_other(now);
                self.show_state();
            }
            Err(error) => self.handle_failure(&error, lasted, now),
        }
    }

    /// Inserts a page, where its updates are not another program's.
    fn insert_page(&mut self, page: Vec<QueuedUpdate>, lasted: Duration, now: Instant) {
        let ids = page.iter().map(|update| update.id).collect();
        match self.conflict.judge(&ids, lasted, now) {
            PageOwner::Ours => self.is_flowing = self.polled.insert_page(page) > 0,
            PageOwner::Unknown => {}
            PageOwner::Other => self.refused_by_other(now),
        }
    }

    /// A poll that lasted this long has failed. Where only the connection is to blame, the next
    /// call follows at once.
    fn handle_failure(&mut self, error: &ApiError, lasted: Duration, now: Instant) {
        if matches!(error, ApiError::Unanswered(_)) {
            self.polled.no_page();
        }
        let was_cut = self.length.was_cut(error, lasted, now);

        // A kept connection can have died meanwhile. A second one in a row is a failure.
        let mut is_first_stale = false;
        if matches!(error, ApiError::StaleConnection(_)) {
            is_first_stale = !self.was_stale;
            self.was_stale = true;
        }
        if !was_cut && !is_first_stale {
            self.fail(error);
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
    fn show_state(&self) {
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
        let words = format!("another program polls with this token, too; {ONE_PROGRAM}; {plan}");
        if self.settings.status.polling(bot, Some(words.clone())) {
            log::warn!("bot {bot}: {words}.");
        }
    }

    /// Removes a webhook of ours, since nothing comes by getUpdates while there is one; updates that
    /// wait stay. A webhook of another program is left for a while.
    fn remove_webhook(
        &mut self,
        is_new: bool,
        links: &BotLinks,
        token_conflict: &mut TokenConflict,
    ) -> Result<(), ApiError> {
        let now = Instant::now();
        let client = &self.settings.client;
        self.settings.me.set(client.me()?);
        let info = client.webhook_info()?;
        let is_ours = match &self.registration {
            Some(registration) => registration.has_url(&info.url),
            None => false,
        };
        if is_ours && is_new && links.report(Event::OwnWebhook) {
            self.not_before = Some(now + ADOPTION_TIMEOUT);
            self.phase = PollPhase::Webhook { is_new: false };
            return Ok(());
        }

        let is_foreign = !info.url.is_empty() && !is_ours;
        if is_foreign && !token_conflict.may_repair(true, now) {
            self.leave_to_webhook(token_conflict, now);
            return Ok(());
        }
        if is_foreign {
            let bot = client.bot();
            log::warn!("bot {bot}: {FOREIGN_WEBHOOK}. pihook removes the webhook.");
        }
        if !info.url.is_empty() {
            client.delete_webhook()?;
        }
        self.phase = PollPhase::InFlight;
        Ok(())
    }

    /// Another program's webhook stays for now. It may go by itself, so it is looked at before it
    /// may be removed.
    fn leave_to_webhook(&mut self, token_conflict: &TokenConflict, now: Instant) {
        self.not_before = Some(token_conflict.next_look(now, random()));
        let bot = self.settings.client.bot();
        let words = format!("{FOREIGN_WEBHOOK}, again; {ONE_PROGRAM}; pihook polls again later");
        if self.settings.status.polling(bot, Some(words.clone())) {
            log::warn!("bot {bot}: {words}.");
        }
    }

    /// Sets a wait before the next call, and tells a person the error.
    fn fail(&mut self, error: &ApiError) {
        let bot = self.settings.client.bot();
        let status = &self.settings.status;
        if error.token_is_refused() {
            self.not_before = Some(Instant::now() + token_pause(self.token_refusals));
            self.token_refusals = self.token_refusals.saturating_add(1);
            if status.polling(bot, Some(format!("{error}. {NEW_TOKEN}"))) {
                log::error!(
                    "bot {bot}: {error}. {NEW_TOKEN} pihook tries again, at growing intervals."
                );
            }
            self.settings.status.token_refused(bot);
            return;
        }

        self.not_before = Some(Instant::now() + self.retry_pause.after(Some(error)));
        let words = format!("polling failed: {error}");
        if status.polling(bot, Some(words.clone())) {
            log::warn!("bot {bot}: {words}. pihook tries again.");
        }
    }

    /// Makes no more calls from now on.
    pub(crate) fn stop(&mut self) {
        self.is_stopped = true;
        self.settings.deadline.set(None);
    }

    /// Whether the workers have none of its updates.
    pub(crate) fn is_idle(&self) -> bool {
        self.polled.in_flight() == 0
    }

    /// Tells Telegram which updates are done, and forgets the rest: Telegram still has them.
    pub(crate) fn end(mut self) {
        if self.polled.is_unconfirmed() {
            let (offset, _) = self.polled.next_page();
            // If this fails, they come again, and the dedup window knows them.
            let _ = self
                .settings
                .client
                .updates((offset, 1), self.settings.allowed_updates, 0);
        }
    }
}

/// Makes the calls that come through `asks`, until the other end is gone.
fn call_get_updates(settings: &PollSettings, asks: &Receiver<Ask>, answer: &dyn Fn(PollEvent)) {
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
    fn a_poll_deadline_is_missed_by_a_poll_that_does_not_return() {
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
