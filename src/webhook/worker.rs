//! The blocking side: a fixed set of threads that take whole updates from tiny_http and answer each
//! once its reply is out.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{Method, Request, Response, Server};

use super::dedup::{Begun, Once};
use super::retry::Outage;
use super::retry::{self, Next, Tried};
use crate::echo::echo;
use crate::system::clock::unix_now;
use crate::system::log_limit::Seldom;
use crate::system::status::Status;
use crate::telegram::client::Client;
use crate::telegram::error::{Error, NEW_TOKEN};
use crate::telegram::types::{Reply, Update};

/// After so many seconds Telegram asks again for an update that is being answered at this moment.
const BUSY: u64 = 1;

/// Lines about replies that could not be sent: hundreds may wait while the Bot API is away.
static NOT_SENT: Seldom = Seldom::new(20);
static TOKEN_REFUSED: Seldom = Seldom::new(1);

/// One bot, as its workers need it.
pub(crate) struct Bot {
    /// To send with.
    pub(crate) client: Client,
    /// What was answered.
    pub(crate) once: Once,
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
    bots: Vec<Bot>,
    outage: Outage,
    status: Arc<Status>,
}

/// Starts tiny_http on `listener`, and `workers` threads that serve it for as long as the program runs.
///
/// # Errors
/// When a thread cannot be started.
pub(crate) fn start(listener: UnixListener, workers: usize, bots: Vec<Bot>, status: Arc<Status>) -> io::Result<()> {
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
                    Err(_) => Answer::Later(BUSY),
                }
            }
            // The edge sees whether it is heard, and the probe whether anyone is there.
            _ => Answer::Done,
        };
        let mut response = Response::empty(answer.status());
        if let Answer::Later(seconds) = answer
            && let Ok(header) = format!("Retry-After: {seconds}").parse::<tiny_http::Header>()
        {
            response.add_header(header);
        }
        // The edge is gone with its connection; Telegram brings the update back.
        let _ = request.respond(response);
    }

    fn answer(&self, bot: &Bot, body: &[u8]) -> Answer {
        let start = Instant::now();
        let bot_id = bot.client.bot();
        let update: Update = match serde_json::from_slice(body) {
            Ok(update) => update,
            Err(error) => {
                // Only where, not what: the error quotes the text.
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
        let sending = match bot.once.begin(id) {
            Begun::Now(sending) => sending,
            Begun::Busy => {
                log::info!("bot {bot_id} update {id}: 503, its reply is being sent");
                return Answer::Later(BUSY);
            }
            Begun::Answered => {
                log::info!("bot {bot_id} update {id}: 200, it was answered before");
                return Answer::Done;
            }
        };
        if sending.again {
            log::warn!(
                "bot {bot_id} update {id}: the program ended while it was sending this reply, which may come twice"
            );
        }
        let date = update.message.as_ref().map_or(0, |message| message.date);
        let (chat, sent) = (reply.chat_id, self.send(&bot.client, reply, date, start));
        let took = start.elapsed().as_millis();
        match sent {
            Ok(()) => {
                sending.answered();
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

    /// Sends a reply, as often as [`outcome`] says.
    fn send(&self, client: &Client, mut reply: Reply<'_>, date: i64, start: Instant) -> Result<(), (Answer, Error)> {
        let mut tried = Tried::default();
        loop {
            let Err(why) = client.send_message(&reply) else {
                self.outage.over();
                return Ok(());
            };
            tried.elapsed = start.elapsed();
            tried.outage = if why.is_an_answer() {
                self.outage.over();
                Duration::ZERO
            } else {
                self.outage.goes_on(Instant::now())
            };
            tried.left = retry::left(date, unix_now().try_into().unwrap_or(i64::MAX));
            match retry::next(&why, &tried) {
                Next::Done => return Err((Answer::Done, why)),
                Next::Later(seconds) => return Err((Answer::Later(seconds), why)),
                Next::Again => tried.again = true,
                Next::Wait(time) => thread::sleep(time),
                Next::SendTo(chat) => {
                    tried.moved = true;
                    // The chat's messages have other numbers now.
                    reply = Reply { chat_id: chat, reply_parameters: None, message_thread_id: None, ..reply };
                }
            }
        }
    }
}
