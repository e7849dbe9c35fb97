//! An update and its reply: text and formatting come back as they were.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pihook::bot::{Bot, Me, Update};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

#[path = "../../src/echo.rs"]
mod echo;

/// A reply, as Telegram reads it.
#[derive(Deserialize)]
struct Sent {
    chat_id: i64,
    message_thread_id: Option<i64>,
    text: String,
    entities: Option<Box<RawValue>>,
    reply_parameters: ReplyParameters,
    ephemeral_message_parameters: Option<Value>,
}

#[derive(Deserialize)]
struct ReplyParameters {
    message_id: Option<i64>,
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(update) = Update::parse(bytes.to_vec()) else {
        return;
    };
    let me = Me {
        id: 1,
        first_name: String::new(),
        username: "echo_bot".into(),
    };
    let calls = echo::Echo.handle(&update, &me);
    let Some(message) = &update.message else {
        return assert!(calls.is_empty());
    };
    if message.is_from_bot() {
        return assert!(calls.is_empty());
    }
    let Some(text) = &message.text else {
        let text = message.rich_text().unwrap_or_default();
        assert!(text.chars().count() <= 4096);
        return assert_eq!(calls.len(), usize::from(message.rich_message.is_some()));
    };

    assert_eq!((calls.len(), calls[0].method()), (1, "sendMessage"));
    let sent: Sent = serde_json::from_slice(calls[0].body().unwrap()).unwrap();
    assert_eq!(sent.text, *text);
    assert_eq!(
        sent.entities.map(|it| it.get().to_owned()),
        message.entities.as_ref().map(|it| it.get().to_owned())
    );
    let is_private = message.is_ephemeral();
    let replied = (!is_private).then_some(message.message_id);
    assert_eq!(
        (sent.chat_id, sent.reply_parameters.message_id),
        (message.chat.id, replied)
    );
    assert_eq!(sent.ephemeral_message_parameters.is_some(), is_private);
    assert!(
        sent.message_thread_id.is_none() || sent.message_thread_id == message.message_thread_id
    );

    // A second reader sees the same text. It refuses more than an echo does, in fields that an echo
    // passes over.
    if let Ok(whole) = serde_json::from_slice::<Value>(bytes)
        && let Some(seen) = whole["message"]["text"].as_str()
    {
        assert_eq!(seen, *text);
    }
});
