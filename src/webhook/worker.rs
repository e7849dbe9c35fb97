//! The blocking side: a fixed set of threads that take whole updates from tiny_http and answer each
//! once its reply is out.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use tiny_http::{Method, Request, Response, Server};

use crate::echo::echo;
use crate::telegram::client::Client;
use crate::telegram::error::Error;
use crate::telegram::types::Update;

/// Seconds after which Telegram tries again what could not be answered now. With a `Retry-After` it
/// comes back exactly then, and its own, growing back-off stays out of it.
const RETRY: u64 = 5;
/// The longest wait that Telegram takes (telegram-bot-api, `WebhookActor::on_update_error`).
const LONGEST_RETRY: u64 = 3600;

/// What the webhook answers, and with it what becomes of the update.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
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

/// Starts tiny_http on `listener`, and `workers` threads that serve it for as long as the program runs.
///
/// # Errors
/// When a thread cannot be started.
pub fn start(listener: UnixListener, workers: usize, bots: Vec<Client>) -> io::Result<()> {
    let server = Arc::new(Server::from_listener(listener, None).map_err(io::Error::other)?);
    let bots: Arc<[Client]> = bots.into();
    for number in 0..workers {
        let (server, bots) = (Arc::clone(&server), Arc::clone(&bots));
        let work = move || {
            // It ends only with an accept error, after which tiny_http takes no connection for ever.
            while let Ok(request) = server.recv() {
                serve(request, &bots);
            }
            log::error!("The workers' socket failed: stopping, so that systemd starts me anew.");
            std::process::exit(1);
        };
        thread::Builder::new().name(format!("worker {number}")).spawn(work)?;
    }
    Ok(())
}

fn serve(mut request: Request, bots: &[Client]) {
    let bot = request.url().strip_prefix('/').and_then(|index| index.parse::<usize>().ok());
    let answer = match bot.and_then(|index| bots.get(index)) {
        Some(bot) if *request.method() == Method::Post => {
            let mut body = Vec::with_capacity(request.body_length().unwrap_or_default());
            match request.as_reader().read_to_end(&mut body) {
                Ok(_) => answer(bot, &body),
                Err(_) => Answer::Later(RETRY),
            }
        }
        // The edge sees whether it is heard.
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

fn answer(bot: &Client, body: &[u8]) -> Answer {
    let start = Instant::now();
    let update: Update = match serde_json::from_slice(body) {
        Ok(update) => update,
        Err(error) => {
            // Only where, not what: the error quotes the text.
            let (line, column) = (error.line(), error.column());
            log::warn!("bot {}: this is no update (line {line}, column {column}); it is dropped.", bot.bot());
            return Answer::Done;
        }
    };
    let (bot_id, id) = (bot.bot(), update.update_id);
    let Some(reply) = echo(&update) else {
        log::info!("bot {bot_id} update {id}: 200, nothing to answer");
        return Answer::Done;
    };
    let chat = reply.chat_id;
    let sent = bot.send_message(&reply);
    let answer = sent.as_ref().map_or_else(after, |()| Answer::Done);
    let (status, took) = (answer.status(), start.elapsed().as_millis());
    match sent {
        Ok(()) => log::info!("bot {bot_id} update {id} chat {chat}: {status} in {took} ms"),
        Err(why) => log::warn!("bot {bot_id} update {id} chat {chat}: {status} in {took} ms, {why}"),
    }
    answer
}

/// What becomes of an update whose reply was not taken.
fn after(error: &Error) -> Answer {
    match error {
        // This reply will never be taken: blocked, kicked, deleted, too long…
        Error::Refused { code: 400 | 403, .. } => Answer::Done,
        Error::Refused { retry_after: Some(seconds), .. } => Answer::Later((*seconds).clamp(1, LONGEST_RETRY)),
        _ => Answer::Later(RETRY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, retry_after: Option<u64>) -> Error {
        Error::Refused { code, description: String::new(), retry_after, migrate_to_chat_id: None }
    }

    #[test]
    fn what_can_never_be_sent_is_done_and_the_rest_comes_back() {
        for (error, expected) in [
            (refused(400, None), Answer::Done),
            (refused(403, None), Answer::Done),
            (refused(429, Some(7)), Answer::Later(7)),
            (refused(429, Some(0)), Answer::Later(1)),
            (refused(429, Some(100_000)), Answer::Later(LONGEST_RETRY)),
            (refused(401, None), Answer::Later(RETRY)),
            (refused(500, None), Answer::Later(RETRY)),
            (Error::Foreign { status: 502 }, Answer::Later(RETRY)),
            (Error::Unreachable(String::new()), Answer::Later(RETRY)),
            (Error::Unanswered(String::new()), Answer::Later(RETRY)),
        ] {
            assert_eq!(after(&error), expected, "{error:?}");
        }
    }
}
