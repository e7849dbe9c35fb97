//! A call of the Bot API: a method's name and its parameters.

use serde::Serialize;
use serde_json::{Map, Value};

use super::types::{Message, Reply, ReplyParameters};

/// Bytes of the parameters. The Bot API takes no longer JSON body (td, `HttpReader.cpp`).
const MAX_PARAMETERS: usize = 1024 * 1024;
/// The parameters that mean nothing in another chat: a chat with a new id has other messages and
/// topics.
const BOUND_TO_CHAT: [&str; 3] = [
    "reply_parameters",
    "message_thread_id",
    "direct_messages_topic_id",
];

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
    body: Body,
    fallback: Option<Box<Call>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Body {
    /// The parameters, a JSON object.
    Json(Vec<u8>),
    /// The Bot API is not asked; the reason is for the log.
    NotMade(String),
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
        let body = match serde_json::to_vec(parameters) {
            Ok(json) if json.len() > MAX_PARAMETERS => {
                let size = json.len();
                Body::NotMade(format!("they have {size} bytes, but the limit is 1 MiB"))
            }
            Ok(json) if json.starts_with(b"{") => Body::Json(json),
            Ok(_) => Body::NotMade("they are not a JSON object".into()),
            Err(error) => Body::NotMade(error.to_string()),
        };
        Self {
            method,
            body,
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
            let reason =
                "only the sender and the bot can see this message, but everyone would see the copy";
            return Self {
                method: "copyMessage",
                body: Body::NotMade(reason.into()),
                fallback: None,
            };
        }

        let copy = CopyMessage {
            chat_id: message.chat.id,
            from_chat_id: message.chat.id,
            message_id: message.message_id,
            message_thread_id: message.topic(),
            direct_messages_topic_id: message.direct_messages_topic_id(),
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
        let fallback = match self.fallback {
            Some(first) => first.or(other),
            None => other,
        };
        self.fallback = Some(Box::new(fallback));
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
        match &self.body {
            Body::Json(json) => serde_json::from_slice(json).unwrap_or_default(),
            Body::NotMade(_) => Value::Null,
        }
    }

    /// The parameters as the Bot API gets them: a JSON object.
    ///
    /// # Errors
    /// The reason why the call is not made.
    pub fn body(&self) -> Result<&[u8], &str> {
        match &self.body {
            Body::Json(json) => Ok(json),
            Body::NotMade(reason) => Err(reason),
        }
    }

    /// The call to make in place of this one, if Telegram refuses it.
    pub(crate) fn into_fallback(self) -> Option<Self> {
        self.fallback.map(|fallback| *fallback)
    }

    /// Sends the call to the chat's new id, without what points at the old chat's messages and
    /// topics.
    pub(crate) fn redirect(&mut self, chat: i64) {
        let Body::Json(json) = &self.body else {
            return;
        };
        let Ok(mut parameters) = serde_json::from_slice::<Map<String, Value>>(json) else {
            return;
        };

        parameters.insert("chat_id".into(), chat.into());
        for name in BOUND_TO_CHAT {
            parameters.remove(name);
        }

        self.body = match serde_json::to_vec(&parameters) {
            Ok(json) => Body::Json(json),
            Err(error) => Body::NotMade(error.to_string()),
        };
    }

    /// Bytes of memory that the call takes, with its fallbacks.
    pub(crate) fn size(&self) -> usize {
        let body = match &self.body {
            Body::Json(json) => json.len(),
            Body::NotMade(reason) => reason.len(),
        };
        let fallback = self.fallback.as_ref().map_or(0, |fallback| fallback.size());

        size_of::<Self>() + body + fallback
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telegram::types::Update;
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
    fn a_reply_and_a_copy_stay_in_the_messages_chat_and_topic() {
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
        let reply = Call::reply(message, "hi");
        let copy = Call::copy(message);
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
    fn an_ephemeral_message_gets_an_ephemeral_reply_and_no_copy() {
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
        // No user has the id 0: Telegram refuses the call, and nobody sees the reply.
        let update = update(&json!({"message_id": 0, "chat": {"id": -100}, "text": "/secret"}));
        assert_eq!(
            Call::reply(update.message.as_ref().unwrap(), "hi").parameters()["receiver_user_id"],
            0
        );
    }

    #[test]
    fn parameters_that_the_bot_api_would_not_read_are_an_error() {
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
    fn fallbacks_come_in_their_order() {
        let [a, b, c] = ["a", "b", "c"].map(|method| Call::new(method, &json!({})));
        let chain = a.or(b).or(c);
        assert_eq!(chain.method(), "a");
        let chain = chain.into_fallback().unwrap();
        assert_eq!(chain.method(), "b");
        let chain = chain.into_fallback().unwrap();
        assert_eq!((chain.method(), chain.into_fallback()), ("c", None));
    }

    #[test]
    fn a_redirected_call_has_no_parameters_of_the_old_chat() {
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
    fn the_size_of_a_call_includes_its_fallbacks() {
        let call = |bytes: usize| Call::new("x", &json!({ "text": "a".repeat(bytes) }));
        assert_eq!(call(1000).size() - call(0).size(), 1000);
        assert_eq!(
            call(10).or(call(20)).or(call(30)).size(),
            call(10).size() + call(20).size() + call(30).size()
        );
        assert!(call(0).size() > 0);
    }
}
