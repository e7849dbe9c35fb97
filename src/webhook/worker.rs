//! The blocking side: a fixed set of threads that take whole updates from tiny_http and answer each
//! once its reply is out.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{Method, Request, Response, Server};

use super::dedup::{Claim, Claimed, DedupWindow};
use super::retry::{self, Attempts, Decision, Outage};
use crate::echo::echo;
use crate::system::clock::unix_now;
use crate::system::log_limit::LogLimit;
use crate::system::status::Status;
use crate::telegram::client::Client;
use crate::telegram::error::{ApiError, NEW_TOKEN};
use crate::telegram::types::{Reply, Update};

/// Seconds after which Telegram is to deliver an update again that is being answered at this moment.
const IN_FLIGHT_RETRY_AFTER: u64 = 1;

/// Lines about replies that could not be sent: hundreds may wait while the Bot API is away.
static NOT_SENT: LogLimit = LogLimit::new(20);
static TOKEN_REFUSED: LogLimit = LogLimit::new(1);

/// One bot, as its workers need it.
pub(crate) struct ServedBot {
    /// To send with.
    pub(crate) client: Client,
    /// Which updates were answered.
    pub(crate) dedup: DedupWindow,
}

/// What the webhook answers, and with it what becomes of the update.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 200: it is dealt with, and never comes again.
    Done,
    /// 503: Telegram keeps it, and brings it back after so many seconds.
    Later(u64),
}

impl Answer {
    fn status(&self) -> u16 {
        match self {
            Self::Done => 200,
            Self::Later(_) => 503,
        }
    }
}

/// What all workers share.
struct Shared {
    bots: Vec<ServedBot>,
    outage: Outage,
    status: Arc<Status>,
}

/// Starts tiny_http on `listener`, and `workers` threads that serve it for as long as the program runs.
///
/// # Errors
/// When a thread cannot be started.
pub(crate) fn start(
    listener: UnixListener,
    workers: usize,
    bots: Vec<ServedBot>,
    status: Arc<Status>,
) -> io::Result<()> {
    let server = Arc::new(Server::from_listener(listener, None).map_err(io::Error::other)?);
    let shared = Arc::new(Shared { bots, outage: Outage::default(), status });
    for number in 0..workers {
        let (server, shared) = (Arc::clone(&server), Arc::clone(&shared));
        let work = move || {
            // It ends only with an accept error, after which tiny_http takes no connection for ever.
            while let Ok(request) = server.recv() {
                shared.serve(request);
            }
            log::error!("The workers' socket failed: stopping, so that systemd starts me anew.");
            std::process::exit(1);
        };
        thread::Builder::new().name(format!("worker {number}")).spawn(work)?;
    }
    Ok(())
}

impl Shared {
    fn serve(&self, mut request: Request) {
        let bot = request.url().strip_prefix('/').and_then(|index| index.parse::<usize>().ok());
        let answer = match bot.and_then(|index| self.bots.get(index)) {
            Some(bot) if *request.method() == Method::Post => {
                let mut body = Vec::with_capacity(request.body_length().unwrap_or_default());
                match request.as_reader().read_to_end(&mut body) {
                    Ok(_) => self.answer(bot, &body),
                    Err(_) => Answer::Later(IN_FLIGHT_RETRY_AFTER),
                }
            }
            // The handover opens a connection so, and the probe asks whether a worker answers.
            _ => Answer::Done,
        };
        let mut response = Response::empty(answer.status());
        if let Answer::Later(seconds) = answer
            && let Ok(header) = format!("Retry-After: {seconds}").parse::<tiny_http::Header>()
        {
            response.add_header(header);
        }
        // The edge is gone with its connection; Telegram delivers the update again.
        let _ = request.respond(response);
    }

    fn answer(&self, bot: &ServedBot, body: &[u8]) -> Answer {
        let start = Instant::now();
        let bot_id = bot.client.bot();
        let update: Update = match serde_json::from_slice(body) {
            Ok(update) => update,
            Err(error) => {
                // The error itself quotes the text, so that only its place is logged.
                let (line, column) = (error.line(), error.column());
                log::warn!("bot {bot_id}: this is no update (line {line}, column {column}); it is dropped.");
                return Answer::Done;
            }
        };
        let id = update.update_id;
        let Some(reply) = echo(&update) else {
            log::info!("bot {bot_id} update {id}: 200, nothing to answer");
            return Answer::Done;
        };
        match bot.dedup.claim(id) {
            Claim::Granted(claimed) => self.reply(bot, &update, reply, claimed, start),
            Claim::InFlight => {
                log::info!("bot {bot_id} update {id}: 503, its reply is being sent");
                Answer::Later(IN_FLIGHT_RETRY_AFTER)
            }
            Claim::Answered => {
                log::info!("bot {bot_id} update {id}: 200, it was answered before");
                Answer::Done
            }
        }
    }

    /// Sends the reply to a claimed update, and logs what became of it.
    fn reply(
        &self,
        bot: &ServedBot,
        update: &Update,
        reply: Reply<'_>,
        claimed: Claimed<'_>,
        start: Instant,
    ) -> Answer {
        let (bot_id, id, chat) = (bot.client.bot(), update.update_id, reply.chat_id);
        if claimed.interrupted {
            log::warn!(
                "bot {bot_id} update {id}: the program ended while it was sending this reply, which may come twice"
            );
        }
        let date = update.message.as_ref().map_or(0, |message| message.date);
        let sent = self.send(&bot.client, reply, date, start);
        let took = start.elapsed().as_millis();
        match sent {
            Ok(()) => {
                claimed.answered();
                self.status.answered();
                log::info!("bot {bot_id} update {id} chat {chat}: 200 in {took} ms");
                Answer::Done
            }
            Err((answer, why)) => {
                let status = answer.status();
                NOT_SENT.warn(format_args!("bot {bot_id} update {id} chat {chat}: {status} in {took} ms, {why}"));
                if why.token_is_refused() {
                    TOKEN_REFUSED.log(log::Level::Error, format_args!("bot {bot_id}: {NEW_TOKEN}"));
                }
                answer
            }
        }
    }

    /// Sends a reply, as often as [`retry::decide`] says.
    fn send(&self, client: &Client, mut reply: Reply<'_>, date: i64, start: Instant) -> Result<(), (Answer, ApiError)> {
        let mut attempts = Attempts::default();
        loop {
            let Err(why) = client.send_message(&reply) else {
                self.outage.ended();
                return Ok(());
            };
            attempts.elapsed = start.elapsed();
            attempts.outage = if why.is_an_answer() {
                self.outage.ended();
                Duration::ZERO
            } else {
                self.outage.lasts(Instant::now())
            };
            attempts.left = retry::seconds_left(date, unix_now().try_into().unwrap_or(i64::MAX));
            match retry::decide(&why, &attempts) {
                Decision::Done => return Err((Answer::Done, why)),
                Decision::Later(seconds) => return Err((Answer::Later(seconds), why)),
                Decision::Again => attempts.again = true,
                Decision::Wait(time) => thread::sleep(time),
                Decision::SendTo(chat) => {
                    attempts.moved = true;
                    // The chat's messages have other numbers now.
                    reply = Reply { chat_id: chat, reply_parameters: None, message_thread_id: None, ..reply };
                }
            }
        }
    }
}
