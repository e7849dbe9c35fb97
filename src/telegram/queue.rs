//! The queue in which an update waits at Telegram. Telegram delivers the updates of one queue one
//! after another, and those of different queues at the same time (telegram-bot-api, `Client.cpp`). A
//! bot that polls keeps the same order.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The name of a queue: two updates with the same name are of one queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UpdateQueue(String);

/// One update of a page of getUpdates.
#[derive(Clone, Debug)]
pub(crate) struct QueuedUpdate {
    /// Its `update_id`.
    pub(crate) id: i64,
    /// Its queue at Telegram.
    pub(crate) queue: UpdateQueue,
    /// Its JSON, as Telegram wrote it.
    pub(crate) body: Box<str>,
}

impl QueuedUpdate {
    /// Reads the id and the queue from an update's JSON; None when it has no id.
    pub(crate) fn read(json: &RawValue) -> Option<Self> {
        let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(json.get()).ok()?;
        let id = serde_json::from_str(fields.get("update_id")?.get()).ok()?;

        // Next to its id, an update has one field: its kind, with the content.
        let content = fields.iter().find(|(name, _)| *name != "update_id");
        let queue = match content {
            Some((kind, content)) => UpdateQueue::of(kind, content),
            None => UpdateQueue(String::new()),
        };

        Some(Self {
            id,
            queue,
            body: json.get().into(),
        })
    }
}

/// The parts of an update's content on which its queue depends.
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
    /// The queue of an update of this kind (`message`, `poll`…) with this content.
    fn of(kind: &str, content: &RawValue) -> Self {
        // A kind of tomorrow can be no object.
        let content: Content<'_> = serde_json::from_str(content.get()).unwrap_or_default();
        let chat = content.chat;
        let from = content.from;

        let (class, owner) = match kind {
            "message" | "edited_message" | "channel_post" | "edited_channel_post" => ("chat", chat),
            "shipping_query" | "pre_checkout_query" => ("payment", from),
            "chat_member" => ("member", content.new_chat_member.map(|member| member.user)),
            "chat_join_request" => ("member", from),
            "poll" => return Self::of_poll(content.id),
            "poll_answer" => return Self::of_poll(content.poll_id),
            "callback_query" | "inline_query" | "chosen_inline_result" => (kind, from),
            kind => (kind, chat.or(from).or(content.user)),
        };
        let id = owner.map_or(0, |owner| owner.id);
        Self(format!("{class} {id}"))
    }

    /// A poll's id is a string in JSON, and every string is an id.
    fn of_poll(id: Option<&RawValue>) -> Self {
        Self(format!("poll {}", id.map_or("", RawValue::get)))
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
    fn each_kind_of_update_has_the_queue_that_telegram_gives_it() {
        let chat = json!({"id": -100});
        let user = json!({"id": 42});
        let message = json!({"chat": chat, "from": user});
        let post = json!({"chat": chat, "sender_chat": chat});
        let pressed = json!({"id": "7", "from": user, "message": message});
        let query = json!({"id": "7", "from": user});
        let chosen = json!({"from": user});
        let member = json!({"chat": chat, "from": {"id": 1}, "new_chat_member": {"user": user}});
        let poll = json!({"id": "77"});
        let vote = json!({"poll_id": "77", "user": user});
        let reaction = json!({"chat": chat, "user": user});
        let connection = json!({"id": "x", "user": user});
        for (kind, content, expected) in [
            ("message", &message, "chat -100"),
            ("edited_message", &message, "chat -100"),
            ("channel_post", &post, "chat -100"),
            ("edited_channel_post", &message, "chat -100"),
            ("callback_query", &pressed, "callback_query 42"),
            ("inline_query", &query, "inline_query 42"),
            ("chosen_inline_result", &chosen, "chosen_inline_result 42"),
            ("shipping_query", &query, "payment 42"),
            ("pre_checkout_query", &query, "payment 42"),
            ("my_chat_member", &message, "my_chat_member -100"),
            ("chat_member", &member, "member 42"),
            ("chat_join_request", &message, "member 42"),
            ("poll", &poll, "poll \"77\""),
            ("poll_answer", &vote, "poll \"77\""),
            ("message_reaction", &reaction, "message_reaction -100"),
            ("business_connection", &connection, "business_connection 42"),
            ("purchased_paid_media", &chosen, "purchased_paid_media 42"),
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
    fn an_update_keeps_its_json_and_one_without_an_id_is_none() {
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
