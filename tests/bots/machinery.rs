//! The bot for the tests of everything around a bot: a change of `src/echo.rs` does not touch them.
//!
//! It sends every text back, except for a few words, which are orders. With CALM in its environment
//! it does not panic. With KINDS=few it asks Telegram for messages only. LEVEL is the level of its
//! log.

use std::sync::atomic::{AtomicU32, Ordering};

use pihook::bot::{Bot, Call, Me, Update};
use pihook::cli::LogLevel;
use pihook::telegram::types::{Message, Reply};
use serde_json::json;

/// The bot logs its token, as a mistake of its author.
const TOKEN: &str = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw";

#[derive(Default)]
struct Machinery {
    asked: AtomicU32,
}

impl Bot for Machinery {
    fn allowed_updates(&self) -> &'static [&'static str] {
        if std::env::var("KINDS").is_ok_and(|kinds| kinds == "few") {
            return &["message"];
        }
        &["message", "callback_query", "inline_query"]
    }

    fn handle(&self, update: &Update, me: &Me) -> Vec<Call> {
        if let Some(query) = &update.callback_query {
            return vec![Call::new(
                "answerCallbackQuery",
                &json!({"callback_query_id": query.id}),
            )];
        }
        if let Some(query) = update.get::<serde_json::Value>("inline_query") {
            return vec![Call::new(
                "answerInlineQuery",
                &json!({"inline_query_id": query["id"], "results": []}),
            )];
        }
        let Some(message) = &update.message else {
            return vec![];
        };
        let Some(text) = &message.text else {
            return vec![];
        };
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "panic" | "thread" if std::env::var_os("CALM").is_some() => vec![echo(message, text)],
            "panic" => panic!("as the test wants it"),
            "thread" => {
                let _ = std::thread::spawn(|| panic!("as the test wants it")).join();
                vec![]
            }
            "warn" => {
                log::warn!("a warning of the bot");
                vec![]
            }
            "log" => {
                log::info!("an info of the bot");
                log::debug!("a debug line of the bot");
                log::trace!("a trace line of the bot: {TOKEN}");
                vec![]
            }
            "each" => rest
                .split(' ')
                .map(|word| Call::reply(message, word))
                .collect(),
            "unknown" => vec![Call::new("sendNothing", &json!({})), echo(message, text)],
            "broken" => vec![Call::new("sendMessage", &[1]), echo(message, text)],
            "copy" => vec![Call::copy(message).or(Call::reply(message, "no copy"))],
            "count" => {
                let count = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
                vec![Call::reply(message, &format!("count {count}"))]
            }
            "me" => vec![Call::reply(message, &format!("{} {}", me.id, me.username))],
            _ => vec![echo(message, text)],
        }
    }
}

fn echo(message: &Message, text: &str) -> Call {
    let reply = Reply {
        entities: message.entities.as_deref(),
        ..Reply::to(message, text)
    };
    Call::new("sendMessage", &reply)
}

fn main() -> std::process::ExitCode {
    let level = std::env::var("LEVEL")
        .ok()
        .and_then(|level| level.parse().ok());
    pihook::cli::main(
        Machinery::default(),
        pihook::program!().log_level(level.unwrap_or(LogLevel::Info)),
    )
}
