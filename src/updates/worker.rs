//! The blocking side: takes a whole update from tiny_http, asks the bot, and answers the update
//! once the bot's calls are through.

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
use super::observations::Observations;
use super::panic;
use super::retry::{self, Attempts, NextStep, Outage};
use crate::bot::{Bot, MAX_CALLS};
use crate::secret::{mask, printable};
use crate::status::facts::Status;
use crate::status::report;
use crate::system::clock::unix_now;
use crate::system::log_limit::LogLimit;
use crate::telegram::cached_me::KnownMe;
use crate::telegram::call::Call;
use crate::telegram::client::Client;
use crate::telegram::error::{ApiError, NEW_TOKEN};
use crate::telegram::types::{Me, Update};

/// The id in what the doctor sends to see whether the bot answers; Telegram's are positive. Nobody
/// said anything.
const HEALTH_CHECK_ID: i64 = 0;

/// One of so many workers may wait for what another one does.
const WAITING_SHARE: usize = 4;
/// Any worker may wait so long.
const SHORT_WAIT: Duration = Duration::from_millis(100);

/// Lines about calls that were not taken: hundreds may wait while the Bot API is away.
static NOT_TAKEN: LogLimit = LogLimit::new(20);
static TOKEN_REFUSED: LogLimit = LogLimit::new(1);

/// One bot of the settings, as its workers need it.
pub(crate) struct ServedBot {
    /// To make calls with.
    pub(crate) client: Client,
    /// The answer of getMe.
    pub(crate) me: Arc<KnownMe>,
    /// Which updates were answered.
    pub(crate) dedup: DedupWindow,
    /// What is left of updates that Telegram delivers again.
    pub(crate) deferred: DeferredCalls,
    /// The updates that are being answered.
    pub(crate) in_flight: InFlight<UpdateOutcome>,
    /// For whoever keeps it registered.
    pub(crate) observations: Arc<Observations>,
}

/// What all worker threads share.
pub(crate) struct Worker {
    bot: Arc<dyn Bot>,
    served: Vec<ServedBot>,
    answers: Arc<Answers>,
    outage: Outage,
    status: Arc<Status>,
    /// For workers that wait for what another one does: the others must be enough.
    waiting: Semaphore,
}

impl Worker {
    /// For so many threads.
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

    /// Answers a request.
    // Not inlined: a thread that waits for requests would hold the stack of all this.
    #[inline(never)]
    pub(super) fn serve(&self, mut request: Request) {
        if request.url() == report::PATH {
            // Whoever asked may be gone again.
            let _ = request.respond(tiny_http::Response::from_data(self.report()));
            return;
        }
        // "/REQUEST/BOT", as the handover writes it.
        let mut path = request.url().split('/').skip(1);
        let mut next = || path.next();
        let Some(number) = next().and_then(|number| number.parse().ok()) else {
            return;
        };
        let bot = next().and_then(|index| index.parse::<usize>().ok());
        let answer = match bot.and_then(|index| self.served.get(index)) {
            Some(served) if *request.method() == Method::Post => {
                let mut body = Vec::with_capacity(request.body_length().unwrap_or_default());
                match request.as_reader().read_to_end(&mut body) {
                    Ok(_) => self.answer(served, body),
                    Err(_) => UpdateOutcome::Deferred(RETRY_SOON),
                }
            }
            // The handover opens a connection so, and the probe asks whether a worker answers.
            _ => UpdateOutcome::Done,
        };
        // Without a word, which needs a writer: a request that is dropped as it is answers 500.
        drop(request.into_writer());
        self.answers.send(number, answer);
    }

    /// How the program is, for `pihook status`.
    fn report(&self) -> Vec<u8> {
        let served = |id| self.served.iter().find(|served| served.client.bot() == id);
        let report = self
            .status
            .report(|id| Some(served(id)?.me.get()?.username.clone()));
        mask(&serde_json::to_string(&report).unwrap_or_default()).into_bytes()
    }

    fn answer(&self, served: &ServedBot, body: Vec<u8>) -> UpdateOutcome {
        let start = Instant::now();
        let bot_id = served.client.bot();
        let update = match Update::parse(body) {
            Ok(update) => update,
            Err(error) => {
                // The error itself quotes the text, so that only its place is logged.
                let (line, column) = (error.line(), error.column());
                log::warn!(
                    "bot {bot_id}: the request is not a valid update (error at line {line}, column {column}): it is \
                     dropped."
                );
                return UpdateOutcome::Done;
            }
        };
        if update.update_id == HEALTH_CHECK_ID {
            return UpdateOutcome::Done;
        }
        let mut name = format!("bot {bot_id} update {}", update.update_id);
        let Some(me) = served.me.get() else {
            log::info!("{name}: 503, the Bot API has not answered getMe yet");
            return UpdateOutcome::Deferred(RETRY_SOON);
        };
        let id = update.update_id;
        match served.dedup.claim(id) {
            Claim::Granted(claimed) => {
                if let Some(chat) = update.chat() {
                    // Writing to a String does not fail.
                    let _ = write!(name, " chat {chat}");
                }
                served.in_flight.run(id, start, || {
                    self.handle(served, name, update, &me, start, claimed)
                })
            }
            Claim::InFlight => {
                drop(update);
                let wait = |longest| served.in_flight.wait(id, longest);
                let waited = self
                    .waiting
                    .try_acquire()
                    .ok()
                    .and_then(|_place| wait(retry::UPDATE_TIMEOUT));
                // Where all places are taken: most updates take no longer than this.
                let answer = waited
                    .or_else(|| wait(SHORT_WAIT))
                    .unwrap_or(UpdateOutcome::Deferred(RETRY_SOON));
                log::info!(
                    "{name}: {}, Telegram sent the update again while the bot was answering it",
                    answer.status()
                );
                answer
            }
            Claim::Done => {
                log::info!("{name}: 200, the bot has answered this update before");
                UpdateOutcome::Done
            }
        }
    }

    /// Makes the calls for a claimed update, and logs what became of them.
    fn handle(
        &self,
        served: &ServedBot,
        name: String,
        update: Update,
        me: &Me,
        start: Instant,
        claimed: Claimed<'_>,
    ) -> UpdateOutcome {
        let task = Task {
            served,
            name,
            update_id: update.update_id,
            date: date(&update),
            longest_wait: retry::longest_wait(&update),
            start,
        };
        let postponed = served.deferred.remove(task.update_id);
        let calls = postponed.unwrap_or_else(|| self.ask_bot(&task.name, &update, me, &claimed));
        let name = &task.name;
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
        let mut report = Report::default();
        let answer = self.make_calls(&task, calls, &mut report);
        if answer == UpdateOutcome::Done {
            claimed.done();
            if report.taken > 0 {
                self.status.answered();
            }
        }
        let (status, took) = (answer.status(), start.elapsed().as_millis());
        if report.trouble.is_empty() {
            log::info!("{name}: {status} in {took} ms");
        } else {
            let level = if report.is_error {
                log::Level::Error
            } else {
                log::Level::Warn
            };
            NOT_TAKEN.log(
                level,
                format_args!(
                    "{name}: {status} in {took} ms, {}",
                    report.trouble.join("; ")
                ),
            );
        }
        answer
    }

    /// What the bot wants done for an update that is new to it, or has to be.
    fn ask_bot(&self, name: &str, update: &Update, me: &Me, claimed: &Claimed<'_>) -> Vec<Call> {
        if claimed.interrupted {
            log::warn!(
                "{name}: pihook stopped while it was answering this update: the reply may arrive twice"
            );
        }
        let mut calls = panic::handling(name, claimed, || self.bot.handle(update, me));
        if calls.len() > MAX_CALLS {
            let count = calls.len();
            NOT_TAKEN.log(
                log::Level::Error,
                format_args!(
                    "{name}: the bot returned {count} calls, but the limit is {MAX_CALLS}: the rest is dropped"
                ),
            );
            calls.truncate(MAX_CALLS);
        }
        calls
    }

    /// Makes the calls in their order. Those that cannot be made now are kept for the redelivery.
    fn make_calls(&self, task: &Task<'_>, calls: Vec<Call>, report: &mut Report) -> UpdateOutcome {
        let mut calls = VecDeque::from(calls);
        while let Some(call) = calls.pop_front() {
            match self.make_call(task, call) {
                Outcome::Taken => report.taken += 1,
                Outcome::Refused {
                    call,
                    why,
                    is_error,
                } => {
                    let method = call.method();
                    match call.into_fallback() {
                        Some(fallback) => calls.push_front(fallback),
                        None => report.add(format!("{method}: {why}"), is_error),
                    }
                }
                Outcome::Later { call, seconds, why } => {
                    report.add(format!("{}: {why}", call.method()), false);
                    calls.push_front(call);
                    task.served.deferred.insert(task.update_id, calls.into());
                    return UpdateOutcome::Deferred(seconds);
                }
            }
        }
        UpdateOutcome::Done
    }

    /// Makes a call, as often as [`retry::decide`] says.
    fn make_call(&self, task: &Task<'_>, mut call: Call) -> Outcome {
        let client = &task.served.client;
        if !retry::is_in_time(task.start.elapsed()) {
            return Outcome::Later {
                call,
                seconds: RETRY_SOON,
                why: "no time was left for this call".into(),
            };
        }
        let mut attempts = Attempts::default();
        loop {
            let made = match call.body() {
                Ok(parameters) => client.make_call(call.method(), parameters),
                Err(why) => {
                    let why = format!("the parameters cannot be sent: {}", printable(why));
                    return Outcome::Refused {
                        call,
                        why,
                        is_error: true,
                    };
                }
            };
            let Err(why) = made else {
                self.outage.ended();
                task.served.observations.call_taken();
                return Outcome::Taken;
            };
            self.note(task, &why, &mut attempts);
            match retry::decide(&why, &attempts) {
                NextStep::GiveUp => {
                    let is_error = why.is_unknown_method() || why.is_old_query();
                    return Outcome::Refused {
                        call,
                        why: why.to_string(),
                        is_error,
                    };
                }
                NextStep::Defer(seconds) => {
                    if why.token_is_refused() {
                        TOKEN_REFUSED.log(
                            log::Level::Error,
                            format_args!("bot {}: {NEW_TOKEN}", client.bot()),
                        );
                    }
                    return Outcome::Later {
                        call,
                        seconds,
                        why: why.to_string(),
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

    /// Notes what counts for the decision on a call that was not taken.
    fn note(&self, task: &Task<'_>, why: &ApiError, attempts: &mut Attempts) {
        attempts.elapsed = task.start.elapsed();
        attempts.outage = if why.is_an_answer() {
            self.outage.ended();
            Duration::ZERO
        } else {
            self.outage.goes_on(Instant::now())
        };
        let now = unix_now().try_into().unwrap_or(i64::MAX);
        attempts.left = task.date.and_then(|date| retry::seconds_left(date, now));
        attempts.longest_wait = task.longest_wait;
    }
}

/// An update that a worker has to deal with.
struct Task<'a> {
    served: &'a ServedBot,
    /// "bot 7 update 8 chat 9".
    name: String,
    update_id: i64,
    /// When its message was written or changed: Unix time in seconds.
    date: Option<i64>,
    /// Seconds that Telegram can wait with it at most, for kinds that do not live long.
    longest_wait: Option<u64>,
    /// When it came.
    start: Instant,
}

/// What became of one call.
enum Outcome {
    Taken,
    /// It will never be taken.
    Refused {
        call: Call,
        why: String,
        /// The bot's author should hear of it.
        is_error: bool,
    },
    /// It is to be made again after so many seconds.
    Later {
        call: Call,
        seconds: u64,
        why: String,
    },
}

/// What became of an update's calls.
#[derive(Default)]
struct Report {
    taken: usize,
    /// Which calls were not taken, and why.
    trouble: Vec<String>,
    is_error: bool,
}

impl Report {
    fn add(&mut self, trouble: String, is_error: bool) {
        self.trouble.push(trouble);
        self.is_error |= is_error;
    }
}

fn date(update: &Update) -> Option<i64> {
    let message = update.any_message()?;
    Some(message.edit_date.unwrap_or(message.date))
}
