//! The seam between the machinery and a bot: [`Bot`] is what you write, a [`Call`] is what your bot
//! wants done.
//!
//! ```no_run
//! use pihook::bot::{Bot, Call, Me, Update};
//!
//! struct Greeter;
//!
//! impl Bot for Greeter {
//!     fn handle(&self, update: &Update, me: &Me) -> Vec<Call> {
//!         let Some(message) = &update.message else { return vec![] };
//!         match message.command(me) {
//!             Some("start") => vec![Call::reply(message, "Hello! Write to me.")],
//!             _ => vec![],
//!         }
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     pihook::cli::main(Greeter)
//! }
//! ```

use serde::Serialize;
use serde_json::{Map, Value};

pub use crate::telegram::types::{Me, Update};
use crate::telegram::types::{Message, Reply, ReplyParameters};

/// More of an update's calls are not made.
pub(crate) const MAX_CALLS: usize = 10;
/// In bytes: the Bot API takes no longer JSON body (td, `HttpReader.cpp`).
const MAX_PARAMETERS: usize = 1024 * 1024;
/// What a message can have to do with its old chat, when the chat got a new id.
const BOUND_TO_CHAT: [&str; 3] = [
    "reply_parameters",
    "message_thread_id",
    "direct_messages_topic_id",
];

/// A bot: it gets what happened, and says what to do about it.
///
/// A counter of the messages in each chat:
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// use pihook::bot::{Bot, Call, Me, Update};
///
/// #[derive(Default)]
/// struct Counter(Mutex<HashMap<(i64, i64), u64>>);
///
/// impl Bot for Counter {
///     fn handle(&self, update: &Update, me: &Me) -> Vec<Call> {
///         let Some(message) = &update.message else { return vec![] };
///         let mut counts = self.0.lock().unwrap();
///         let count = counts.entry((me.id, message.chat.id)).or_default();
///         *count += 1;
///         vec![Call::reply(message, &count.to_string())]
///     }
/// }
///
/// // A test needs no network.
/// let update = br#"{"update_id": 7, "message": {"message_id": 5, "date": 1, "text": "hi", "chat": {"id": 42}}}"#;
/// let me = Me { id: 110201543, first_name: "Counter".into(), username: "count_bot".into() };
/// let calls = Counter::default().handle(&Update::parse(update.to_vec()).unwrap(), &me);
/// assert_eq!(calls[0].method(), "sendMessage");
/// assert_eq!(calls[0].parameters()["text"], "1");
/// ```
///
/// One value serves all bots of the settings, that is, all tokens. It may hold state; key that by
/// ([`Me::id`], chat).
pub trait Bot: Send + Sync + 'static {
    /// The kinds of update that Telegram sends, by the names of [`Update`]'s fields in the [Bot
    /// API](https://core.telegram.org/bots/api#update). An empty list stands for Telegram's
    /// default: all but three.
    ///
    /// It must be the same at each call. After a change, the next start of the program sets the
    /// webhook again by itself.
    ///
    /// ```
    /// # use pihook::bot::{Bot, Call, Me, Update};
    /// # struct Buttons;
    /// impl Bot for Buttons {
    ///     fn allowed_updates(&self) -> &'static [&'static str] {
    ///         &["message", "callback_query"]
    ///     }
    /// #   fn handle(&self, _: &Update, _: &Me) -> Vec<Call> { vec![] }
    /// }
    /// ```
    fn allowed_updates(&self) -> &'static [&'static str] {
        &["message"]
    }

    /// The calls to make for this update, in this order. No call: the update is done.
    ///
    /// **Shapes.** `update` is what Telegram sent; `me` is the bot that it was sent to, as getMe
    /// described it. Threads call this at the same time for different chats; for one chat, messages
    /// come one after another. Presses of buttons are a queue of their own: one can come while a
    /// message of the same chat is handled. What a call returns is not seen here.
    ///
    /// **Limits.** The first ten calls are made; the rest is dropped, with an error in the log. The
    /// next call is made once the one before is through: Telegram took it, or refused it for good
    /// (blocked, too long, no such method…), which is logged. [`Call::or`] names what is done then.
    ///
    /// **Calls that are put off.** When Telegram asks to wait or cannot be reached, the calls that
    /// are left stay in memory, and Telegram delivers the update again later. Then exactly these
    /// calls are made, and `handle` is not asked again. At most 256 updates and 1 MiB of calls are
    /// kept for a bot; the oldest are forgotten first.
    ///
    /// **A redelivery.** Telegram delivers an update again when it did not see our answer. An
    /// update that is done is not handled again. But `handle` runs again for the same update when
    /// its calls were forgotten, or when the program ended before they were through (a kill, a
    /// power cut, a restart). Some of its calls can have been made by then. State that must not
    /// count twice has to know [`Update::update_id`].
    ///
    /// **A panic.** It ends the process, with all bots in it; systemd starts the next one. Telegram
    /// delivers the update again, and `handle` gets one more try. At the second panic the update is
    /// dropped, with an error in the log. This needs a `runtime_dir` on a tmpfs, as systemd's is;
    /// without it, nothing is remembered, and the update comes until Telegram gives it up, after a
    /// day. A stack overflow, memory over the unit's `MemoryMax`, and a panic in a thread of your
    /// own end the process, too, and leave no note. The panic's message is logged: keep users'
    /// texts out of it.
    ///
    /// **A slow handler.** It holds its chat and one worker thread. Calls start within 22 s of the
    /// update's arrival; what is not started by then is put off, as above. After 45 s Telegram's
    /// connection is closed; the redeliveries get a 503 until `handle` has returned. So do not wait
    /// here for more than a few seconds. When all workers wait for two minutes, the watchdog
    /// restarts the program.
    ///
    /// Lines that your crate writes with the `log` crate, from the level `info` on, are in the log.
    fn handle(&self, update: &Update, me: &Me) -> Vec<Call>;
}

/// One call of the [Bot API](https://core.telegram.org/bots/api#available-methods): a method and
/// its parameters.
///
/// ```
/// use pihook::bot::{Call, Update};
/// use serde_json::json;
///
/// let json = br#"{"update_id": 7, "message": {"message_id": 5, "text": "hi", "chat": {"id": 42}}}"#;
/// let update = Update::parse(json.to_vec()).unwrap();
/// let message = update.message.as_ref().unwrap();
/// // A copy of the message. If Telegram refuses that, a text. And after it, a dice.
/// let calls = vec![
///     Call::copy(message).or(Call::reply(message, "I cannot copy this.")),
///     Call::new("sendDice", &json!({"chat_id": message.chat.id})),
/// ];
/// assert_eq!(calls[0].method(), "copyMessage");
/// assert_eq!(calls[1].parameters()["chat_id"], 42);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    method: &'static str,
    /// A JSON object; or why there is none.
    parameters: Result<Vec<u8>, String>,
    fallback: Option<Box<Call>>,
}

#[derive(Serialize)]
struct CopyMessage {
    chat_id: i64,
    from_chat_id: i64,
    message_id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_thread_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direct_messages_topic_id: Option<i64>,
    reply_parameters: ReplyParameters,
}

impl Call {
    /// Any method. `parameters` become a JSON object of at most 1 MiB, with the names that the Bot
    /// API gives them: a struct of your own, one of [`types`](crate::telegram::types), or
    /// `serde_json::json!`. Leave a parameter out where it has no value: the Bot API reads `null`
    /// as the text "null". Where there is no such object, the call is not made, and an error is
    /// logged in its place.
    ///
    /// ```
    /// use pihook::bot::Call;
    /// use serde_json::json;
    ///
    /// let call = Call::new("sendDice", &json!({"chat_id": 42, "emoji": "🎲"}));
    /// assert_eq!(call.parameters()["chat_id"], 42);
    /// ```
    #[must_use]
    pub fn new(method: &'static str, parameters: &impl Serialize) -> Self {
        let parameters = match serde_json::to_vec(parameters) {
            Ok(json) if json.len() > MAX_PARAMETERS => Err(format!(
                "they have {} bytes, but the limit is 1 MiB",
                json.len()
            )),
            Ok(json) if json.starts_with(b"{") => Ok(json),
            Ok(_) => Err("they are not a JSON object".into()),
            Err(why) => Err(why.to_string()),
        };
        Self {
            method,
            parameters,
            fallback: None,
        }
    }

    /// A text as a reply to `message`, at most 4096 characters. It goes to the same chat and topic;
    /// should the message be deleted by then, it arrives all the same. What only its writer and the
    /// bot can see gets an answer that only these can see.
    #[must_use]
    pub fn reply(message: &Message, text: &str) -> Self {
        Self::new("sendMessage", &Reply::to(message, text))
    }

    /// A copy of `message` as a reply to it, of whatever kind it is: a photo, a sticker, a voice.
    /// Telegram refuses to copy service messages, invoices, giveaways and paid media.
    ///
    /// What only its writer and the bot can see is never copied: the copy would be for everyone.
    /// Then the call is not made, and what [`Call::or`] names is made in its place.
    #[must_use]
    pub fn copy(message: &Message) -> Self {
        if message.is_ephemeral() {
            let parameters = Err(
                "only the sender and the bot can see this message, but everyone would see the copy"
                    .into(),
            );
            return Self {
                method: "copyMessage",
                parameters,
                fallback: None,
            };
        }
        let copy = CopyMessage {
            chat_id: message.chat.id,
            from_chat_id: message.chat.id,
            message_id: message.message_id,
            message_thread_id: message.topic(),
            direct_messages_topic_id: message
                .direct_messages_topic
                .as_ref()
                .map(|topic| topic.topic_id),
            reply_parameters: ReplyParameters::to(message),
        };
        Self::new("copyMessage", &copy)
    }

    /// What is made in place of this call when Telegram refuses it for good. More than one `or`
    /// makes a chain.
    ///
    /// ```
    /// # use pihook::bot::{Call, Update};
    /// # let update = br#"{"update_id": 7, "message": {"message_id": 5, "date": 1, "chat": {"id": 42}}}"#;
    /// # let update = Update::parse(update.to_vec()).unwrap();
    /// # let message = update.message.as_ref().unwrap();
    /// let call = Call::copy(message).or(Call::reply(message, "I cannot copy this."));
    /// assert_eq!(call.method(), "copyMessage");
    /// ```
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.fallback = Some(Box::new(match self.fallback {
            Some(fallback) => fallback.or(other),
            None => other,
        }));
        self
    }

    /// The method's name.
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The parameters, for your tests; null where they are none that the Bot API would take.
    #[must_use]
    pub fn parameters(&self) -> Value {
        self.body()
            .ok()
            .and_then(|body| serde_json::from_slice(body).ok())
            .unwrap_or_default()
    }

    /// The parameters as the Bot API gets them: a JSON object.
    ///
    /// # Errors
    /// Why there is none.
    pub fn body(&self) -> Result<&[u8], &str> {
        self.parameters.as_deref().map_err(String::as_str)
    }

    /// What is made in its place.
    pub(crate) fn into_fallback(self) -> Option<Self> {
        self.fallback.map(|fallback| *fallback)
    }

    /// Has the call go to the chat's new id. The chat's messages and topics have other numbers
    /// there.
    pub(crate) fn redirect(&mut self, chat: i64) {
        let read = self
            .body()
            .ok()
            .and_then(|body| serde_json::from_slice::<Map<String, Value>>(body).ok());
        let Some(mut parameters) = read else { return };
        parameters.insert("chat_id".into(), chat.into());
        for name in BOUND_TO_CHAT {
            parameters.remove(name);
        }
        self.parameters = serde_json::to_vec(&parameters).map_err(|why| why.to_string());
    }

    /// Bytes of memory that it takes, with all that would be made in its place.
    pub(crate) fn size(&self) -> usize {
        let parameters = match &self.parameters {
            Ok(json) => json.len(),
            Err(why) => why.len(),
        };
        size_of::<Self>()
            + parameters
            + self.fallback.as_ref().map_or(0, |fallback| fallback.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn update(message: &Value) -> Update {
        Update::parse(
            json!({"update_id": 7, "message": message})
                .to_string()
                .into_bytes(),
        )
        .unwrap()
    }

    #[test]
    fn a_reply_and_a_copy_stay_where_the_message_was() {
        let in_topic = update(
            &json!({"message_id": 5, "chat": {"id": -100}, "message_thread_id": 9,
            "is_topic_message": true, "direct_messages_topic": {"topic_id": 3}}),
        );
        let message = in_topic.message.as_ref().unwrap();
        let place = json!({"chat_id": -100, "message_thread_id": 9, "direct_messages_topic_id": 3,
            "reply_parameters": {"message_id": 5, "allow_sending_without_reply": true}});
        let with = |more: Value| {
            let mut all = place.as_object().unwrap().clone();
            all.extend(more.as_object().unwrap().clone());
            Value::from(all)
        };
        let (reply, copy) = (Call::reply(message, "hi"), Call::copy(message));
        assert_eq!(
            (reply.method(), reply.parameters()),
            ("sendMessage", with(json!({"text": "hi"})))
        );
        assert_eq!(
            (copy.method(), copy.parameters()),
            (
                "copyMessage",
                with(json!({"from_chat_id": -100, "message_id": 5}))
            )
        );

        // A thread that is no topic takes no messages.
        let in_thread =
            update(&json!({"message_id": 5, "chat": {"id": -100}, "message_thread_id": 9}));
        let message = in_thread.message.as_ref().unwrap();
        for call in [Call::reply(message, "hi"), Call::copy(message)] {
            let parameters = call.parameters();
            assert_eq!(
                (
                    parameters.get("message_thread_id"),
                    parameters.get("direct_messages_topic_id")
                ),
                (None, None)
            );
        }
    }

    #[test]
    fn what_one_person_alone_can_see_is_answered_to_that_person_alone() {
        for more in [json!({"ephemeral_message_id": 8}), json!({})] {
            let mut message = json!({"message_id": 0, "chat": {"id": -100}, "from": {"id": 7}, "text": "/secret"});
            message
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            let update = update(&message);
            let message = update.message.as_ref().unwrap();
            let reply = Call::reply(message, "hi").parameters();
            assert_eq!(
                (
                    &reply["ephemeral_message_parameters"],
                    &reply["receiver_user_id"]
                ),
                (&json!({"receiver_user_id": 7}), &json!(7))
            );
            assert_eq!(reply["reply_parameters"].get("message_id"), None);
            assert_eq!(
                reply["reply_parameters"].get("ephemeral_message_id"),
                more.get("ephemeral_message_id")
            );
            let mut redirected = Call::reply(message, "hi");
            redirected.redirect(-5);
            assert_eq!(redirected.parameters()["receiver_user_id"], 7);
            assert!(Call::copy(message).body().is_err());
        }
        // Nobody has this id: Telegram refuses it.
        let update = update(&json!({"message_id": 0, "chat": {"id": -100}, "text": "/secret"}));
        assert_eq!(
            Call::reply(update.message.as_ref().unwrap(), "hi").parameters()["receiver_user_id"],
            0
        );
    }

    #[test]
    fn what_the_bot_api_would_not_read_is_an_error_and_no_call() {
        let long = |bytes: usize| {
            Call::new(
                "x",
                &json!({ "text": "a".repeat(bytes - r#"{"text":""}"#.len()) }),
            )
        };
        assert_eq!(long(1024 * 1024).body().map(<[u8]>::len), Ok(1024 * 1024));
        assert!(
            long(1024 * 1024 + 1)
                .body()
                .unwrap_err()
                .contains("1048577 bytes")
        );
        for call in [
            Call::new("x", &()),
            Call::new("x", &[1]),
            Call::new("x", &"{"),
        ] {
            assert_eq!(
                (call.body(), call.parameters()),
                (Err("they are not a JSON object"), Value::Null)
            );
        }
        let keyed_by_lists = std::collections::BTreeMap::from([([1], 2)]);
        assert!(Call::new("x", &keyed_by_lists).body().is_err());
    }

    #[test]
    fn fallbacks_are_taken_in_their_order() {
        let [a, b, c] = ["a", "b", "c"].map(|method| Call::new(method, &json!({})));
        let chain = a.or(b).or(c);
        assert_eq!(chain.method(), "a");
        let chain = chain.into_fallback().unwrap();
        assert_eq!(chain.method(), "b");
        let chain = chain.into_fallback().unwrap();
        assert_eq!((chain.method(), chain.into_fallback()), ("c", None));
    }

    #[test]
    fn a_redirected_call_leaves_what_is_bound_to_the_old_chat() {
        let mut call = Call::new(
            "sendMessage",
            &json!({"chat_id": -5, "text": "hi", "reply_parameters": {"message_id": 1}, "message_thread_id": 2,
                "direct_messages_topic_id": 3, "reply_markup": {"keyboard": []}}),
        );
        call.redirect(-100_123);
        assert_eq!(
            call.parameters(),
            json!({"chat_id": -100_123, "text": "hi", "reply_markup": {"keyboard": []}})
        );
    }

    #[test]
    fn a_call_weighs_as_much_as_all_that_it_holds() {
        let call = |bytes: usize| Call::new("x", &json!({ "text": "a".repeat(bytes) }));
        assert_eq!(call(1000).size() - call(0).size(), 1000);
        assert_eq!(
            call(10).or(call(20)).or(call(30)).size(),
            call(10).size() + call(20).size() + call(30).size()
        );
        assert!(call(0).size() > 0);
    }
}
