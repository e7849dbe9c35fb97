//! The types that Telegram sends and takes, with the fields that most bots need. Unknown fields do no
//! harm, so that a newer Bot API changes nothing; [`Update::get`] reads them.

use std::collections::{BTreeMap, HashMap};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::rich_message;

/// Fields of a message that do not tell its kind, since messages of all kinds can have them.
const COMMON_FIELDS: [&str; 12] = [
    "author_signature",
    "chat",
    "date",
    "direct_messages_topic",
    "edit_date",
    "entities",
    "from",
    "is_topic_message",
    "link_preview_options",
    "message_id",
    "message_thread_id",
    "reply_to_message",
];

/// An update: one thing that happened, `https://core.telegram.org/bots/api#update`. It has one of
/// its optional fields, or one that only [`Update::get`] reads.
#[derive(Debug, Deserialize)]
pub struct Update {
    /// Positive, one higher than the update before; the same when an update is delivered again.
    pub update_id: i64,
    /// A new message.
    pub message: Option<Message>,
    /// A message that its author changed.
    pub edited_message: Option<Message>,
    /// A new post in a channel.
    pub channel_post: Option<Message>,
    /// A post in a channel that was changed.
    pub edited_channel_post: Option<Message>,
    /// A button under a message was pressed.
    pub callback_query: Option<CallbackQuery>,
    /// The whole JSON.
    #[serde(skip)]
    body: Vec<u8>,
}

impl Update {
    /// Reads an update's JSON, as Telegram sends it.
    ///
    /// # Errors
    /// When it is not the JSON of an update. The error can quote a user's text.
    pub fn parse(body: Vec<u8>) -> serde_json::Result<Self> {
        let mut update: Self = serde_json::from_slice(&body)?;
        update.body = body;
        Ok(update)
    }

    /// A field of the update by its name in the Bot API, read as a type of your own: for updates
    /// that this type has no field for. None when the update does not have the field, or it does not
    /// fit your type.
    ///
    /// ```
    /// use pihook::bot::Update;
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// struct InlineQuery {
    ///     id: String,
    ///     query: String,
    /// }
    ///
    /// let json = br#"{"update_id": 7, "inline_query": {"id": "1", "from": {"id": 42}, "query": "cats", "offset": ""}}"#;
    /// let update = Update::parse(json.to_vec()).unwrap();
    /// let asked: InlineQuery = update.get("inline_query").unwrap();
    /// assert_eq!((asked.id.as_str(), asked.query.as_str()), ("1", "cats"));
    /// ```
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let fields: HashMap<String, Box<RawValue>> = serde_json::from_slice(&self.body).ok()?;
        serde_json::from_str(fields.get(name)?.get()).ok()
    }

    /// The kind of update, for a person: the fields of a message that not all messages have, or the
    /// update's own field, for example `callback_query`.
    pub(crate) fn kind(&self) -> String {
        let fields: BTreeMap<String, Box<RawValue>> =
            serde_json::from_slice(&self.body).unwrap_or_default();
        let Some(message) = fields.get("message") else {
            return names(&fields, &["update_id"]);
        };

        let fields: BTreeMap<String, IgnoredAny> =
            serde_json::from_str(message.get()).unwrap_or_default();
        names(&fields, &COMMON_FIELDS)
    }

    /// The message or post, new or changed.
    pub(crate) fn any_message(&self) -> Option<&Message> {
        let kinds = [
            &self.message,
            &self.channel_post,
            &self.edited_message,
            &self.edited_channel_post,
        ];
        kinds.into_iter().find_map(Option::as_ref)
    }

    /// The id of the chat of the update, where there is one.
    pub(crate) fn chat(&self) -> Option<i64> {
        if let Some(message) = self.any_message() {
            return Some(message.chat.id);
        }
        let message = self.callback_query.as_ref()?.message.as_ref()?;
        Some(message.chat.id)
    }
}

/// The names of the fields, without those in `common`.
fn names<T>(fields: &BTreeMap<String, T>, common: &[&str]) -> String {
    let mut names: Vec<_> = fields.keys().map(String::as_str).collect();
    names.retain(|name| !common.contains(name));
    names.join(", ")
}

/// A message, `https://core.telegram.org/bots/api#message`.
#[derive(Debug, Deserialize)]
pub struct Message {
    /// Unique within the chat only.
    pub message_id: i64,
    /// When it was written: Unix time in seconds; 0 for one that is too old to be read.
    #[serde(default)]
    pub date: i64,
    /// When it was changed last: Unix time in seconds.
    pub edit_date: Option<i64>,
    /// The sender; posts in channels have none.
    pub from: Option<User>,
    /// The chat of the message.
    pub chat: Chat,
    /// The topic of a forum, or another thread.
    pub message_thread_id: Option<i64>,
    /// Whether `message_thread_id` is a topic that messages can be sent to.
    #[serde(default)]
    pub is_topic_message: bool,
    /// The topic in the direct messages of a channel.
    pub direct_messages_topic: Option<DirectMessagesTopic>,
    /// The text, at most 4096 code points; photos, stickers and other kinds have none.
    pub text: Option<String>,
    /// The formatting of the text (bold, link, spoiler…): JSON as Telegram wrote it.
    pub entities: Option<Box<RawValue>>,
    /// A text with lists, tables, headings…, in place of `text`: JSON as Telegram wrote it.
    /// [`Message::rich_text`] reads it.
    pub rich_message: Option<Box<RawValue>>,
    /// The chat in whose name the message was written, in place of a person's name.
    pub sender_chat: Option<Chat>,
    /// The message's number among the ephemeral ones, which only their sender and the bot can see.
    pub ephemeral_message_id: Option<i64>,
}

impl Message {
    /// The command that the text begins with, without its slash: "start" of `/start`, `/start
    /// hello` and `/start@your_bot`. None when there is no command, or it is for another bot.
    ///
    /// ```
    /// use pihook::bot::{Me, Update};
    ///
    /// let json = br#"{"update_id": 7, "message": {"message_id": 5, "text": "/start@Echo_Bot now", "chat": {"id": 42}}}"#;
    /// let update = Update::parse(json.to_vec()).unwrap();
    /// let me = Me { id: 1, first_name: "Echo".into(), username: "echo_bot".into() };
    /// assert_eq!(update.message.unwrap().command(&me), Some("start"));
    /// ```
    #[must_use]
    pub fn command(&self, me: &Me) -> Option<&str> {
        let text = self.text.as_deref()?.strip_prefix('/')?;
        let word = text.split(char::is_whitespace).next()?;
        let (command, bot) = word.split_once('@').unwrap_or((word, &me.username));
        let is_for_me = bot.eq_ignore_ascii_case(&me.username);
        (is_for_me && !command.is_empty()).then_some(command)
    }

    /// The text of a rich message, at most 4096 characters, without its formatting. None when the
    /// message is not a rich one, or has no text.
    #[must_use]
    pub fn rich_text(&self) -> Option<String> {
        let text = rich_message::text(self.rich_message.as_deref()?);
        (!text.is_empty()).then_some(text)
    }

    /// Whether a bot wrote the message. People who write as a group or a channel have a bot's name
    /// in `from`, but they are no bots.
    #[must_use]
    pub fn is_from_bot(&self) -> bool {
        self.sender_chat.is_none() && self.from.as_ref().is_some_and(|from| from.is_bot)
    }

    /// Whether only the sender and the bot can see the message. A reply of [`Reply::to`] is then
    /// ephemeral, too.
    #[must_use]
    pub fn is_ephemeral(&self) -> bool {
        self.ephemeral_message_id.is_some() || self.message_id == 0
    }

    /// The forum's topic that a reply goes to. A thread that is not a topic takes no messages.
    pub(crate) fn topic(&self) -> Option<i64> {
        if self.is_topic_message {
            self.message_thread_id
        } else {
            None
        }
    }

    /// The topic in a channel's direct messages that a reply goes to.
    pub(crate) fn direct_messages_topic_id(&self) -> Option<i64> {
        self.direct_messages_topic
            .as_ref()
            .map(|topic| topic.topic_id)
    }
}

/// A topic in the direct messages of a channel,
/// `https://core.telegram.org/bots/api#directmessagestopic`.
#[derive(Debug, Deserialize)]
pub struct DirectMessagesTopic {
    /// Unique within the chat only.
    pub topic_id: i64,
}

/// A chat, `https://core.telegram.org/bots/api#chat`.
#[derive(Debug, Deserialize)]
pub struct Chat {
    /// Negative for groups; up to 52 bits.
    pub id: i64,
}

/// A person or a bot, `https://core.telegram.org/bots/api#user`.
#[derive(Debug, Deserialize)]
pub struct User {
    /// Up to 52 bits. It is also the id of the private chat with this user.
    pub id: i64,
    /// Whether it is a bot. Also true of the name under which people write as a group or a channel.
    #[serde(default)]
    pub is_bot: bool,
    /// The name that the user chose.
    #[serde(default)]
    pub first_name: String,
    /// Without an @.
    pub username: Option<String>,
}

/// A button that was pressed, `https://core.telegram.org/bots/api#callbackquery`. The button shows
/// that it is busy until the bot calls `answerCallbackQuery`. Telegram takes no answer after some
/// 15 s.
#[derive(Debug, Deserialize)]
pub struct CallbackQuery {
    /// The `callback_query_id` of `answerCallbackQuery`.
    pub id: String,
    /// The user who pressed the button.
    pub from: User,
    /// The message with the button; none when the message was sent through an inline query.
    pub message: Option<Message>,
    /// The button's `callback_data`, at most 64 bytes. A client that is not Telegram's can send
    /// other data.
    pub data: Option<String>,
}

/// The webhook as Telegram knows it, `https://core.telegram.org/bots/api#webhookinfo`.
#[derive(Debug, Deserialize)]
pub struct WebhookInfo {
    /// Empty when no webhook is set.
    pub url: String,
    /// Whether a certificate was uploaded.
    pub has_custom_certificate: bool,
    /// How many updates wait for delivery.
    pub pending_update_count: u64,
    /// The address that Telegram calls.
    pub ip_address: Option<String>,
    /// Unix time of the last failed call, in seconds.
    pub last_error_date: Option<i64>,
    /// Why it failed. A later success does not clear it.
    pub last_error_message: Option<String>,
    /// How many connections Telegram may open at once.
    pub max_connections: Option<u32>,
    /// The kinds of update that Telegram delivers; none when they are the default ones.
    pub allowed_updates: Option<Vec<String>>,
}

/// The bot itself, as getMe describes it: `https://core.telegram.org/bots/api#user`.
///
/// ```
/// use pihook::bot::{Me, Update};
///
/// // In a test, you make one. The program gets it from Telegram.
/// let me = Me { id: 110201543, first_name: "Echo".into(), username: "echo_bot".into() };
/// let json = br#"{"update_id": 7, "message": {"message_id": 5, "text": "/help@other_bot", "chat": {"id": -100}}}"#;
/// let update = Update::parse(json.to_vec()).unwrap();
/// // In a group, this command is for another bot.
/// assert_eq!(update.message.unwrap().command(&me), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Me {
    /// The first half of its token.
    pub id: i64,
    /// Its name, as users see it.
    #[serde(default)]
    pub first_name: String,
    /// Its name, as users write it after an @.
    pub username: String,
}

/// The parameters of `sendMessage`, for a reply.
///
/// ```
/// # use pihook::bot::{Call, Update};
/// # use pihook::telegram::types::Reply;
/// # let json = br#"{"update_id": 7, "message": {"message_id": 5, "text": "hi", "chat": {"id": 42}}}"#;
/// # let update = Update::parse(json.to_vec()).unwrap();
/// # let message = update.message.as_ref().unwrap();
/// // With the formatting of the message that it answers.
/// let reply = Reply { entities: message.entities.as_deref(), ..Reply::to(message, "hi") };
/// let call = Call::new("sendMessage", &reply);
/// ```
#[derive(Debug, Serialize)]
pub struct Reply<'a> {
    /// The chat in which the reply appears.
    pub chat_id: i64,
    /// The forum topic within the chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_thread_id: Option<i64>,
    /// The topic in the direct messages of a channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_messages_topic_id: Option<i64>,
    /// The text, at most 4096 code points.
    pub text: &'a str,
    /// The formatting of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entities: Option<&'a RawValue>,
    /// The message that the reply points at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_parameters: Option<ReplyParameters>,
    /// The person who alone can see the reply, for Bot API 10.3 and later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_message_parameters: Option<EphemeralMessageParameters>,
    /// The same, for Bot API 10.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver_user_id: Option<i64>,
}

impl<'a> Reply<'a> {
    /// A plain text to the chat and topic of `message`, as a reply to it. Only the sender and the
    /// bot can see the reply to an ephemeral message.
    #[must_use]
    pub fn to(message: &Message, text: &'a str) -> Self {
        let mut reply = Self {
            chat_id: message.chat.id,
            message_thread_id: message.topic(),
            direct_messages_topic_id: message.direct_messages_topic_id(),
            text,
            entities: None,
            reply_parameters: Some(ReplyParameters::to(message)),
            ephemeral_message_parameters: None,
            receiver_user_id: None,
        };
        if message.is_ephemeral() {
            // No user has the id 0. Where the sender is not known, Telegram refuses the reply, and
            // nobody sees it.
            let receiver_user_id = message.from.as_ref().map_or(0, |from| from.id);
            reply.receiver_user_id = Some(receiver_user_id);
            reply.ephemeral_message_parameters =
                Some(EphemeralMessageParameters { receiver_user_id });
        }
        reply
    }
}

/// The person who can see an ephemeral message.
#[derive(Debug, Serialize)]
pub struct EphemeralMessageParameters {
    /// The id of one user in the chat.
    pub receiver_user_id: i64,
}

/// The message that a reply points at.
#[derive(Debug, Serialize)]
pub struct ReplyParameters {
    /// A message of the same chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<i64>,
    /// In its place, the number of an ephemeral message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_message_id: Option<i64>,
    /// Whether the reply arrives also when the message was deleted by then.
    pub allow_sending_without_reply: bool,
}

impl ReplyParameters {
    /// Points at `message`, if it is still there.
    #[must_use]
    pub fn to(message: &Message) -> Self {
        Self {
            message_id: (!message.is_ephemeral()).then_some(message.message_id),
            ephemeral_message_id: message.ephemeral_message_id,
            allow_sending_without_reply: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn update(kind: &str, value: &Value) -> Update {
        Update::parse(
            json!({"update_id": 7, kind: value})
                .to_string()
                .into_bytes(),
        )
        .unwrap()
    }

    #[test]
    fn a_command_is_for_this_bot_or_for_every_bot() {
        let me = Me {
            id: 1,
            first_name: String::new(),
            username: "echo_bot".into(),
        };
        for (text, command) in [
            ("/start", Some("start")),
            ("/start payload /help", Some("start")),
            ("/start\nhello", Some("start")),
            ("/start@echo_bot", Some("start")),
            ("/start@ECHO_bot x", Some("start")),
            ("/start@other_bot", None),
            ("/start@", None),
            ("start", None),
            (" /start", None),
            ("/", None),
            ("/ start", None),
            ("/@echo_bot", None),
            ("", None),
        ] {
            let update = update(
                "message",
                &json!({"message_id": 5, "text": text, "chat": {"id": 42}}),
            );
            assert_eq!(update.message.unwrap().command(&me), command, "{text:?}");
        }
        let photo = update(
            "message",
            &json!({"message_id": 5, "photo": [], "chat": {"id": 42}}),
        );
        assert_eq!(photo.message.unwrap().command(&me), None);
    }

    #[test]
    fn every_kind_of_update_has_its_chat_and_any_field_can_be_read() {
        let message = json!({"message_id": 5, "chat": {"id": 42}, "caption": "look"});
        for kind in [
            "message",
            "edited_message",
            "channel_post",
            "edited_channel_post",
        ] {
            let update = update(kind, &message);
            assert_eq!(
                (update.chat(), update.any_message().unwrap().message_id),
                (Some(42), 5),
                "{kind}"
            );
            assert_eq!(update.get::<Value>(kind).unwrap()["caption"], "look");
        }
        let pressed = json!({"id": "1", "from": {"id": 8, "first_name": "Ada"}, "message": message, "data": "yes"});
        let pressed = update("callback_query", &pressed);
        assert_eq!(
            (pressed.chat(), pressed.any_message().is_none()),
            (Some(42), true)
        );
        let inline = update("inline_query", &json!({"id": "1"}));
        assert_eq!(
            (inline.chat(), inline.get::<i64>("update_id")),
            (None, Some(7))
        );
        assert_eq!(
            (
                inline.get::<Value>("message"),
                inline.get::<i64>("inline_query")
            ),
            (None, None)
        );
    }
}
