//! The blocking side: gets a whole update from tiny_http, asks the bot, and answers the update once
//! the bot's calls are done.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{Method, Request};
use tokio::sync::Semaphore;

use super::answers::{Answers, RETRY_SOON, UpdateOutcome};
use super::dedup::{Claim, Claimed, DedupWindow};
use super::deferred_calls::DeferredCalls;
use super::in_flight::InFlight;
use super::panic;
use super::retry::{self, Attempts, NextStep, Outage};
use super::webhook_signals::WebhookSignals;
use crate::bot::{Bot, MAX_CALLS};
use crate::secret::{mask, printable};
use crate::status::facts::Status;
use crate::status::report;
use crate::system::clock::unix_now;
use crate::system::log_limit::LogLimit;
use crate::telegram::cached_me::CachedMe;
use crate::telegram::call::Call;
use crate::telegram::client::Client;
use crate::telegram::error::{ApiError, NEW_TOKEN};
use crate::telegram::types::{Me, Update};

/// The id in the update that the doctor sends to see whether the bot answers. Telegram's ids are
/// positive.
const HEALTH_CHECK_ID: i64 = 0;

/// One worker in this many may wait for as long as another worker handles the same update.
const WAITING_SHARE: usize = 4;
/// Any worker may wait for another one for so long. Most updates take no longer.
const SHORT_WAIT: Duration = Duration::from_millis(100);

/// Lines about calls that failed: in an outage of the Bot API hundreds may fail.
static CALL_FAILED: LogLimit = LogLimit::new(20);
static TOKEN_REFUSED: LogLimit = LogLimit::new(1);

/// One bot of the settings, as its workers need it.
pub(crate) struct ServedBot {
    /// The Bot API, with the bot's token.
    pub(crate) client: Client,
    /// The answer of getMe.
    pub(crate) me: Arc<CachedMe>,
    /// Which updates are done.
    pub(crate) dedup: DedupWindow,
    /// The calls of updates that Telegram delivers again.
    pub(crate) deferred: DeferredCalls,
    /// The updates that are being handled.
    pub(crate) in_flight: InFlight<UpdateOutcome>,
    /// What the thread that keeps the webhook registered has to know.
    pub(crate) signals: Arc<WebhookSignals>,
}

/// What all worker threads share.
pub(crate) struct Worker {
    bot: Arc<dyn Bot>,
    served: Vec<ServedBot>,
    answers: Arc<Answers>,
    outage: Outage,
    status: Arc<Status>,
    /// A permit for each worker that may wait for another one.
    waiting: Semaphore,
}

impl Worker {
    /// `threads` is the number of worker threads.
    pub(crate) fn new(
        bot: Arc<dyn Bot>,
        served: Vec<ServedBot>,
        answers: Arc<Answers>,
        status: Arc<Status>,
        threads: usize,
    ) -> Self {
        let waiting = Semaphore::new(threads / WAITING_SHARE);
        Self {
            bot,
            served,
            answers,
            outage: Outage::default(),
            status,
            waiting,
        }
    }

    /// Handles a request, and sends its answer.
    // Not inlined: a thread that waits for requests would hold the stack of all this.
    #[inline(never)]
    pub(super) fn serve(&self, mut request: Request) {
        if request.url() == report::PATH {
            let report = tiny_http::Response::from_data(self.report());
            // The client may be gone again.
            let _ = request.respond(report);
            return;
        }

        let Some((number, bot)) = parse_path(request.url()) else {
            return;
        };
        let served = bot.and_then(|index| self.served.get(index));
        let outcome = match served {
            Some(served) if *request.method() == Method::Post => {
                let mut body = Vec::with_capacity(request.body_length().unwrap_or_default());
                match request.as_reader().read_to_end(&mut body) {
                    Ok(_) => self.handle_body(served, body),
                    Err(_) => UpdateOutcome::Deferred(RETRY_SOON),
                }
            }
            // The probe, or the handover with a new connection: they only want an answer.
            _ => UpdateOutcome::Done,
        };

        // The edge reads nothing from this connection, so tiny_http must not write there. It writes a
        // 500 for a request that is dropped, and nothing for a writer that is dropped.
        drop(request.into_writer());
        self.answers.send(number, outcome);
    }

    /// How the program is, for `pihook status`.
    fn report(&self) -> Vec<u8> {
        let username = |id| {
            let served = self
                .served
                .iter()
                .find(|served| served.client.bot() == id)?;
            Some(served.me.get()?.username.clone())
        };
        let report = self.status.report(username);
        mask(&serde_json::to_string(&report).unwrap_or_default()).into_bytes()
    }

    fn handle_body(&self, served: &ServedBot, body: Vec<u8>) -> UpdateOutcome {
        let start = Instant::now();
        let bot_id = served.client.bot();
        let update = match Update::parse(body) {
            Ok(update) => update,
            Err(error) => {
                // The error itself quotes the text, so only its place is logged.
                let line = error.line();
                let column = error.column();
                log::warn!(
                    "bot {bot_id}: the request is not a valid update (error at line {line}, column {column}): it is \
                     dropped."
                );
                return UpdateOutcome::Done;
            }
        };
        let id = update.update_id;
        if id == HEALTH_CHECK_ID {
            return UpdateOutcome::Done;
        }

        let mut name = format!("bot {bot_id} update {id}");
        let Some(me) = served.me.get() else {
            log::info!("{name}: 503, the Bot API has not answered getMe yet");
            return UpdateOutcome::Deferred(RETRY_SOON);
        };

        match served.dedup.claim(id) {
            Claim::Granted(claimed) => {
                if let Some(chat) = update.chat() {
                    // Writing to a String does not fail.
                    let _ = write!(name, " chat {chat}");
                }
                served.in_flight.run(id, start, || {
                    let task = Task::new(served, name, &update, start);
                    self.handle(&task, update, &me, claimed)
                })
            }
            Claim::InFlight => {
                // It can be large, and the wait can be long.
                drop(update);
                self.wait_for_other_worker(served, id, &name)
            }
            Claim::Done => {
                log::info!("{name}: 200, the bot has answered this update before");
                UpdateOutcome::Done
            }
        }
    }

    /// Waits for the outcome of an update that another worker handles at this moment.
    fn wait_for_other_worker(&self, served: &ServedBot, id: i64, name: &str) -> UpdateOutcome {
        let mut outcome = None;
        if let Ok(_permit) = self.waiting.try_acquire() {
            outcome = served.in_flight.wait(id, retry::UPDATE_TIMEOUT);
        }
        if outcome.is_none() {
            outcome = served.in_flight.wait(id, SHORT_WAIT);
        }

        let outcome = outcome.unwrap_or(UpdateOutcome::Deferred(RETRY_SOON));
        log::info!(
            "{name}: {}, Telegram sent the update again while the bot was answering it",
            outcome.status()
        );
        outcome
    }

    /// Makes the calls for a claimed update, and logs what became of them.
    fn handle(
        &self,
        task: &Task<'_>,
        update: Update,
        me: &Me,
        claimed: Claimed<'_>,
    ) -> UpdateOutcome {
        let name = &task.name;
        let calls = match task.served.deferred.remove(task.update_id) {
            Some(deferred) => deferred,
            None => self.ask_bot(name, &update, me, &claimed),
        };
        if calls.is_empty() {
            claimed.done();
            log::info!(
                "{name}: 200, nothing to answer ({})",
                printable(&update.kind())
            );
            return UpdateOutcome::Done;
        }

        // It can be large, and the calls can take long.
        drop(update);
        let mut update_log = UpdateLog::default();
        let outcome = self.make_calls(task, calls, &mut update_log);
        if outcome == UpdateOutcome::Done {
            claimed.done();
            if update_log.calls_done > 0 {
                self.status.answered();
            }
        }
        update_log.write(task, &outcome);
        outcome
    }

    /// The calls that the bot wants for an update, at most [`MAX_CALLS`].
    fn ask_bot(&self, name: &str, update: &Update, me: &Me, claimed: &Claimed<'_>) -> Vec<Call> {
        if claimed.interrupted {
            log::warn!(
                "{name}: pihook stopped while it was answering this update: the reply may arrive twice"
            );
        }

        let mut calls = panic::handling(name, claimed, || self.bot.handle(update, me));
        let count = calls.len();
        if count > MAX_CALLS {
            CALL_FAILED.log(
                log::Level::Error,
                format_args!(
                    "{name}: the bot returned {count} calls, but the limit is {MAX_CALLS}: the rest is dropped"
                ),
            );
            calls.truncate(MAX_CALLS);
        }
        calls
    }

    /// Makes the calls in their order. When one has to be deferred, all that are left are kept for
    /// the redelivery.
    fn make_calls(
        &self,
        task: &Task<'_>,
        calls: Vec<Call>,
        update_log: &mut UpdateLog,
    ) -> UpdateOutcome {
        let mut calls = VecDeque::from(calls);
        while let Some(call) = calls.pop_front() {
            match self.make_call(task, call) {
                CallOutcome::Done => update_log.calls_done += 1,
                CallOutcome::Refused {
                    call,
                    reason,
                    is_error,
                } => {
                    let method = call.method();
                    match call.into_fallback() {
                        Some(fallback) => calls.push_front(fallback),
                        None => update_log.add_failure(format!("{method}: {reason}"), is_error),
                    }
                }
                CallOutcome::Deferred {
                    call,
                    seconds,
                    reason,
                } => {
                    update_log.add_failure(format!("{}: {reason}", call.method()), false);
                    calls.push_front(call);
                    task.served.deferred.insert(task.update_id, calls.into());
                    return UpdateOutcome::Deferred(seconds);
                }
            }
        }
        UpdateOutcome::Done
    }

    /// Makes a call, as often as [`retry::decide`] says.
    fn make_call(&self, task: &Task<'_>, mut call: Call) -> CallOutcome {
        if !retry::is_in_time(task.start.elapsed()) {
            return CallOutcome::Deferred {
                call,
                seconds: RETRY_SOON,
                reason: "no time was left for this call".into(),
            };
        }

        let client = &task.served.client;
        let mut attempts = Attempts::default();
        loop {
            let parameters = match call.body() {
                Ok(parameters) => parameters,
                Err(reason) => {
                    let reason = format!("the parameters cannot be sent: {}", printable(reason));
                    return CallOutcome::Refused {
                        call,
                        reason,
                        is_error: true,
                    };
                }
            };
            let Err(error) = client.make_call(call.method(), parameters) else {
                self.outage.ended();
                task.served.signals.token_accepted();
                return CallOutcome::Done;
            };

            self.note_failure(task, &error, &mut attempts);
            match retry::decide(&error, &attempts) {
                NextStep::GiveUp => {
                    return CallOutcome::Refused {
                        call,
                        reason: error.to_string(),
                        is_error: error.is_unknown_method() || error.is_old_query(),
                    };
                }
                NextStep::Defer(seconds) => {
                    if error.token_is_refused() {
                        TOKEN_REFUSED.log(
                            log::Level::Error,
                            format_args!("bot {}: {NEW_TOKEN}", client.bot()),
                        );
                    }
                    return CallOutcome::Deferred {
                        call,
                        seconds,
                        reason: error.to_string(),
                    };
                }
                NextStep::Retry => attempts.is_retried = true,
                NextStep::Wait(time) => thread::sleep(time),
                NextStep::SendTo(chat) => {
                    attempts.is_moved = true;
                    call.redirect(chat);
                }
            }
        }
    }

    /// Notes what [`retry::decide`] has to know about a call that failed.
    fn note_failure(&self, task: &Task<'_>, error: &ApiError, attempts: &mut Attempts) {
        attempts.elapsed = task.start.elapsed();
        attempts.outage = if error.is_an_answer() {
            self.outage.ended();
            Duration::ZERO
        } else {
            self.outage.goes_on(Instant::now())
        };
        let now = unix_now().try_into().unwrap_or(i64::MAX);
        attempts.seconds_left = task.date.and_then(|date| retry::seconds_left(date, now));
        attempts.longest_wait = task.longest_wait;
    }
}

/// The request's number and the bot's index, from the path `/NUMBER/BOT` that the handover writes.
/// A request without a bot has no index.
fn parse_path(path: &str) -> Option<(u64, Option<usize>)> {
    let mut segments = path.split('/').skip(1);
    let number = segments.next()?.parse().ok()?;
    let bot = segments.next().and_then(|index| index.parse().ok());
    Some((number, bot))
}

/// An update that a worker handles.
struct Task<'a> {
    served: &'a ServedBot,
    /// "bot 7 update 8 chat 9".
    name: String,
    update_id: i64,
    /// When its message was written or edited: Unix time in seconds.
    date: Option<i64>,
    /// The longest wait, in seconds, for a kind of update that Telegram keeps only for a short
    /// time.
    longest_wait: Option<u64>,
    /// When the worker had read the update. The wait for a worker is not included.
    start: Instant,
}

impl<'a> Task<'a> {
    fn new(served: &'a ServedBot, name: String, update: &Update, start: Instant) -> Self {
        let message = update.any_message();
        Self {
            served,
            name,
            update_id: update.update_id,
            date: message.map(|message| message.edit_date.unwrap_or(message.date)),
            longest_wait: retry::longest_wait(update),
            start,
        }
    }
}

/// What became of one call.
enum CallOutcome {
    Done,
    /// The Bot API will never accept it.
    Refused {
        call: Call,
        reason: String,
        /// The bot has a mistake that its author should know.
        is_error: bool,
    },
    /// It is to be made again after so many seconds.
    Deferred {
        call: Call,
        seconds: u64,
        reason: String,
    },
}

/// What the log's line says about an update.
#[derive(Default)]
struct UpdateLog {
    calls_done: usize,
    /// The calls that failed, each with the reason.
    failures: Vec<String>,
    is_error: bool,
}

impl UpdateLog {
    fn add_failure(&mut self, failure: String, is_error: bool) {
        self.failures.push(failure);
        self.is_error |= is_error;
    }

    fn write(&self, task: &Task<'_>, outcome: &UpdateOutcome) {
        let name = &task.name;
        let status = outcome.status();
        let took = task.start.elapsed().as_millis();
        if self.failures.is_empty() {
            log::info!("{name}: {status} in {took} ms");
            return;
        }

        let level = if self.is_error {
            log::Level::Error
        } else {
            log::Level::Warn
        };
        let failures = self.failures.join("; ");
        CALL_FAILED.log(
            level,
            format_args!("{name}: {status} in {took} ms, {failures}"),
        );
    }
}
