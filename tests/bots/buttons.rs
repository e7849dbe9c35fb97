//! Asks a question, and the user answers with a button: `cargo run --example demo -- buttons`.

use pihook::bot::{Bot, Call, Me, Update};
use pihook::telegram::types::{CallbackQuery, Message};
use serde_json::json;

pub struct Buttons;

impl Bot for Buttons {
    fn allowed_updates(&self) -> &'static [&'static str] {
        &["message", "callback_query"]
    }

    fn handle(&self, update: &Update, _: &Me) -> Vec<Call> {
        match (&update.message, &update.callback_query) {
            (Some(message), _) => vec![ask(message)],
            (_, Some(query)) => answer(query),
            _ => vec![],
        }
    }
}

fn ask(message: &Message) -> Call {
    let button = |text, data| json!({"text": text, "callback_data": data});
    let question = json!({
        "chat_id": message.chat.id,
        "text": "Tea or coffee?",
        "reply_markup": {"inline_keyboard": [[button("Tea", "tea"), button("Coffee", "coffee")]]},
    });
    Call::new("sendMessage", &question)
}

fn answer(query: &CallbackQuery) -> Vec<Call> {
    let choice = match query.data.as_deref() {
        Some("tea") => "Tea it is.",
        Some("coffee") => "Coffee it is.",
        // A client that is not Telegram's can send other data.
        _ => "That is not on the menu.",
    };
    let mut calls = vec![Call::new(
        "answerCallbackQuery",
        &json!({"callback_query_id": query.id, "text": choice}),
    )];
    if let Some(asked) = &query.message {
        let edit =
            json!({"chat_id": asked.chat.id, "message_id": asked.message_id, "text": choice});
        calls.push(Call::new("editMessageText", &edit));
    }
    calls
}

fn main() -> std::process::ExitCode {
    pihook::cli::main(Buttons, pihook::program!())
}
