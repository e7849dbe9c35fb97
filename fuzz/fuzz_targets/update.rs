//! An update and its reply: text and formatting come back as they were.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pihook::echo::echo;
use pihook::telegram::types::Update;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A reply, as Telegram reads it.
#[derive(Deserialize)]
struct Sent {
    chat_id: i64,
    message_thread_id: Option<i64>,
    text: String,
    entities: Option<Box<RawValue>>,
    reply_parameters: ReplyParameters,
}

#[derive(Deserialize)]
struct ReplyParameters {
    message_id: i64,
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(update) = serde_json::from_slice::<Update>(bytes) else { return };
    let reply = echo(&update);
    let Some(message) = &update.message else { return assert!(reply.is_none()) };
    let Some(text) = &message.text else { return assert!(reply.is_none()) };

    let json = serde_json::to_vec(&reply.unwrap()).unwrap();
    let sent: Sent = serde_json::from_slice(&json).unwrap();
    assert_eq!(sent.text, *text);
    assert_eq!(sent.entities.map(|it| it.get().to_owned()), message.entities.as_ref().map(|it| it.get().to_owned()));
    assert_eq!((sent.chat_id, sent.reply_parameters.message_id), (message.chat.id, message.message_id));
    assert!(sent.message_thread_id.is_none() || sent.message_thread_id == message.message_thread_id);

    // A second reader sees the same text. It refuses more than an echo does, in fields that an echo passes over.
    if let Ok(whole) = serde_json::from_slice::<Value>(bytes)
        && let Some(seen) = whole["message"]["text"].as_str()
    {
        assert_eq!(seen, *text);
    }
});
