//! What Telegram sends and takes, as far as an echo needs it. Unknown fields are passed over, so that a newer Bot API
//! changes nothing; add here what your own bot wants to read or send.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One thing that happened, as `https://core.telegram.org/bots/api#update` has it.
#[derive(Debug, Deserialize)]
pub struct Update {
    /// Positive, one higher than the update before; the same when an update is delivered again.
    pub update_id: i64,
    /// A new message. Other kinds of update leave it empty.
    pub message: Option<Message>,
}

/// A message, `https://core.telegram.org/bots/api#message`.
#[derive(Debug, Deserialize)]
pub struct Message {
    /// Unique within the chat only.
    pub message_id: i64,
    /// When it was written: Unix time in seconds.
    #[serde(default)]
    pub date: i64,
    /// Where it was written.
    pub chat: Chat,
    /// The topic of a forum, or another thread.
    pub message_thread_id: Option<i64>,
    /// Whether `message_thread_id` is a topic that messages can be sent to.
    #[serde(default)]
    pub is_topic_message: bool,
    /// The text, at most 4096 code points; photos, stickers and the rest have none.
    pub text: Option<String>,
    /// What is bold, a link, a spoiler…: JSON as Telegram wrote it, since an echo only passes it on.
    pub entities: Option<Box<RawValue>>,
}

/// A chat, `https://core.telegram.org/bots/api#chat`.
#[derive(Debug, Deserialize)]
pub struct Chat {
    /// Negative for groups; up to 52 bits.
    pub id: i64,
}

/// `https://core.telegram.org/bots/api#webhookinfo`.
#[derive(Debug, Deserialize)]
pub struct WebhookInfo {
    /// Empty when no webhook is set.
    pub url: String,
    /// Whether a certificate was uploaded.
    pub has_custom_certificate: bool,
    /// Updates that wait for delivery.
    pub pending_update_count: u64,
    /// The address that Telegram calls.
    pub ip_address: Option<String>,
    /// Unix time of the last failed call, in seconds.
    pub last_error_date: Option<i64>,
    /// Why it failed. A later success does not clear it.
    pub last_error_message: Option<String>,
    /// Connections that Telegram may open at once.
    pub max_connections: Option<u32>,
}

/// What getMe says of a bot, `https://core.telegram.org/bots/api#user`.
#[derive(Debug, Deserialize)]
pub struct Me {
    /// Its name, as users write it after an @.
    pub username: String,
}

/// A message to send, with the names that `sendMessage` gives its parameters.
#[derive(Debug, Serialize)]
pub struct Reply<'a> {
    /// The chat that it goes to.
    pub chat_id: i64,
    /// The forum topic within the chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_thread_id: Option<i64>,
    /// What it says.
    pub text: &'a str,
    /// How the text is formatted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entities: Option<&'a RawValue>,
    /// The message that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_parameters: Option<ReplyParameters>,
}

/// Which message a reply points at.
#[derive(Debug, Serialize)]
pub struct ReplyParameters {
    /// A message of the same chat.
    pub message_id: i64,
    /// A user may delete the message before we answer: then the text alone still arrives.
    pub allow_sending_without_reply: bool,
}
