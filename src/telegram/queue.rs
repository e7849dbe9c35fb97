//! The queue that an update waits in at Telegram. Updates of one queue come one after another;
//! different queues have nothing to do with each other (telegram-bot-api, `Client.cpp`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The name of a queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UpdateQueue(String);

/// One update of a page of getUpdates.
#[derive(Clone, Debug)]
pub(crate) struct QueuedUpdate {
    /// Its `update_id`.
    pub(crate) id: i64,
    /// Where it waits.
    pub(crate) queue: UpdateQueue,
    /// Its JSON, as Telegram wrote it.
    pub(crate) body: Box<str>,
}

impl QueuedUpdate {
    /// Reads as much of an update's JSON as its place needs; None when it has no id.
    pub(crate) fn read(json: &RawValue) -> Option<Self> {
        let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(json.get()).ok()?;
        let id = serde_json::from_str(fields.get("update_id")?.get()).ok()?;
        let content = fields.iter().find(|(name, _)| *name != "update_id");
        let queue = content.map_or_else(
            || UpdateQueue(String::new()),
            |(kind, content)| UpdateQueue::of(kind, content),
        );
        Some(Self {
            id,
            queue,
            body: json.get().into(),
        })
    }
}

/// What can decide on the queue.
#[derive(Default, Deserialize)]
struct Content<'j> {
    chat: Option<WithId>,
    from: Option<WithId>,
    user: Option<WithId>,
    new_chat_member: Option<Member>,
    #[serde(borrow)]
    id: Option<&'j RawValue>,
    #[serde(borrow)]
    poll_id: Option<&'j RawValue>,
}

#[derive(Clone, Copy, Deserialize)]
struct WithId {
    id: i64,
}

#[derive(Deserialize)]
struct Member {
    user: WithId,
}

impl UpdateQueue {
    fn of(kind: &str, content: &RawValue) -> Self {
        let content: Content<'_> = serde_json::from_str(content.get()).unwrap_or_default();
        let (chat, from) = (content.chat, content.from);
        let member = content.new_chat_member.map(|member| member.user);
        let (class, of) = match kind {
            "message" | "edited_message" | "channel_post" | "edited_channel_post" => ("chat", chat),
            "shipping_query" | "pre_checkout_query" => ("payment", from),
            "chat_member" => ("member", member),
            "chat_join_request" => ("member", from),
            "poll" => return Self(format!("poll {}", content.id.map_or("", RawValue::get))),
            "poll_answer" => {
                return Self(format!(
                    "poll {}",
                    content.poll_id.map_or("", RawValue::get)
                ));
            }
            "callback_query" | "inline_query" | "chosen_inline_result" => (kind, from),
            kind => (kind, chat.or(from).or(content.user)),
        };
        Self(format!("{class} {}", of.map_or(0, |of| of.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json, value::to_raw_value};

    fn queue(update: &Value) -> String {
        QueuedUpdate::read(&to_raw_value(update).unwrap())
            .unwrap()
            .queue
            .0
    }

    #[test]
    fn each_kind_has_the_queue_that_telegram_gives_it() {
        let (chat, user) = (json!({"id": -100}), json!({"id": 42}));
        let message = json!({"chat": chat, "from": user});
        for (kind, content, expected) in [
            ("message", &message, "chat -100"),
            ("edited_message", &message, "chat -100"),
            (
                "channel_post",
                &json!({"chat": chat, "sender_chat": chat}),
                "chat -100",
            ),
            ("edited_channel_post", &message, "chat -100"),
            (
                "callback_query",
                &json!({"id": "7", "from": user, "message": message}),
                "callback_query 42",
            ),
            (
                "inline_query",
                &json!({"id": "7", "from": user}),
                "inline_query 42",
            ),
            (
                "chosen_inline_result",
                &json!({"from": user}),
                "chosen_inline_result 42",
            ),
            (
                "shipping_query",
                &json!({"id": "7", "from": user}),
                "payment 42",
            ),
            (
                "pre_checkout_query",
                &json!({"id": "7", "from": user}),
                "payment 42",
            ),
            ("my_chat_member", &message, "my_chat_member -100"),
            (
                "chat_member",
                &json!({"chat": chat, "from": {"id": 1}, "new_chat_member": {"user": user}}),
                "member 42",
            ),
            ("chat_join_request", &message, "member 42"),
            ("poll", &json!({"id": "77"}), "poll \"77\""),
            (
                "poll_answer",
                &json!({"poll_id": "77", "user": user}),
                "poll \"77\"",
            ),
            (
                "message_reaction",
                &json!({"chat": chat, "user": user}),
                "message_reaction -100",
            ),
            (
                "business_connection",
                &json!({"id": "x", "user": user}),
                "business_connection 42",
            ),
            (
                "purchased_paid_media",
                &json!({"from": user}),
                "purchased_paid_media 42",
            ),
            ("of_tomorrow", &json!([1]), "of_tomorrow 0"),
        ] {
            assert_eq!(
                queue(&json!({"update_id": 1, kind: content})),
                expected,
                "{kind}"
            );
        }
        assert_eq!(queue(&json!({"update_id": 1})), "");
    }

    #[test]
    fn an_update_is_passed_on_to_the_letter_and_one_without_an_id_is_none() {
        let json = "{\"update_id\":7,\n\"message\":{\"text\":\"\\u0436\",\"chat\":{\"id\":1}}}";
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        let update = QueuedUpdate::read(&raw).unwrap();
        assert_eq!((update.id, &*update.body), (7, json));
        for odd in ["{}", "[]", "7", "{\"update_id\":\"x\"}"] {
            let raw: Box<RawValue> = serde_json::from_str(odd).unwrap();
            assert!(QueuedUpdate::read(&raw).is_none(), "{odd}");
        }
    }
}
