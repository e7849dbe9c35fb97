//! THE BOT. It gets an update and returns the calls to make: no network, no clock, no files. To make
//! another bot, edit this file.

use pihook::bot::{Bot, Call, Me, Update};
use pihook::telegram::types::Reply;

/// Answers every new text message with the same text, as a reply to it, and nothing else.
pub struct Echo;

impl Bot for Echo {
    fn handle(&self, update: &Update, _: &Me) -> Vec<Call> {
        let Some(message) = &update.message else {
            return vec![];
        };
        // Two bots that answer each other would never stop.
        if message.is_from_bot() {
            log::info!(
                "update {}: no answer, because another bot wrote the message",
                update.update_id
            );
            return vec![];
        }

        if let Some(text) = &message.text {
            let reply = Reply {
                entities: message.entities.as_deref(),
                ..Reply::to(message, text)
            };
            return vec![Call::new("sendMessage", &reply)];
        }

        if message.rich_message.is_none() {
            return vec![];
        }
        // A copy keeps lists, tables and headings. Where Telegram refuses it, the text comes back.
        let copy = Call::copy(message);
        match message.rich_text() {
            Some(text) => vec![copy.or(Call::reply(message, &text))],
            None => vec![copy],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The parameters of the call, if there is one.
    fn answer(update: &Value) -> Option<Value> {
        let update = Update::parse(update.to_string().into_bytes()).unwrap();
        let me = Me {
            id: 110_201_543,
            first_name: "Echo".into(),
            username: "echo_bot".into(),
        };
        let calls = Echo.handle(&update, &me);
        assert!(calls.len() <= 1 && calls.iter().all(|call| call.method() == "sendMessage"));
        calls.first().map(Call::parameters)
    }

    fn text_message(more: &Value) -> Value {
        let mut message = json!({"message_id": 5, "text": "hi", "chat": {"id": -100}});
        message
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"update_id": 7, "message": message})
    }

    #[test]
    fn a_rich_message_is_copied_with_its_text_as_a_fallback() {
        let rich = json!({"blocks": [{"type": "heading", "text": "a"}, {"type": "paragraph", "text": ["b", {"text": "c"}]}]});
        let update = json!({"update_id": 7, "message": {"message_id": 5, "rich_message": rich, "chat": {"id": 42}}});
        let update = Update::parse(update.to_string().into_bytes()).unwrap();
        let me = Me {
            id: 110_201_543,
            first_name: "Echo".into(),
            username: "echo_bot".into(),
        };
        let calls = Echo.handle(&update, &me);
        let text = Call::reply(update.message.as_ref().unwrap(), "a\nbc");
        assert_eq!(
            calls,
            [Call::copy(update.message.as_ref().unwrap()).or(text)]
        );
        // A message with both needs only its text.
        assert_eq!(
            answer(&text_message(&json!({"rich_message": rich}))).unwrap()["text"],
            "hi"
        );
    }

    #[test]
    fn a_reply_stays_in_its_topic_of_a_channels_direct_messages() {
        let answer = answer(&text_message(
            &json!({"direct_messages_topic": {"topic_id": 9}}),
        ))
        .unwrap();
        assert_eq!(answer["direct_messages_topic_id"], 9);
    }

    #[test]
    fn only_people_get_an_answer_also_in_the_name_of_a_chat() {
        let from = |id: i64, is_bot: bool| json!({"id": id, "is_bot": is_bot, "first_name": "x"});
        assert_eq!(answer(&text_message(&json!({"from": from(8, true)}))), None);
        for more in [
            json!({"from": from(8, false)}),
            // GroupAnonymousBot, Channel_Bot, and Telegram's own account.
            json!({"from": from(1_087_968_824, true), "sender_chat": {"id": -100}}),
            json!({"from": from(136_817_688, true), "sender_chat": {"id": -200}}),
            json!({"from": from(777_000, false), "sender_chat": {"id": -200}}),
        ] {
            assert_eq!(
                answer(&text_message(&more)).unwrap()["text"],
                "hi",
                "{more}"
            );
        }
    }

    #[test]
    fn a_text_is_echoed_as_a_reply() {
        let update = json!({"update_id": 7, "message": {"message_id": 5, "date": 1, "text": "hi", "chat": {"id": 42, "type": "private"}}});
        let reply = json!({"chat_id": 42, "text": "hi", "reply_parameters": {"message_id": 5, "allow_sending_without_reply": true}});
        assert_eq!(answer(&update), Some(reply));
    }

    #[test]
    fn an_echo_keeps_the_formatting() {
        let entities = json!([{"type": "bold", "offset": 0, "length": 2}, {"type": "a_type_of_tomorrow", "x": {"y": [1]}}]);
        let update = json!({"update_id": 7, "message": {"message_id": 5, "text": "hi", "entities": entities, "chat": {"id": 42}}});
        assert_eq!(answer(&update).unwrap()["entities"], entities);
    }

    #[test]
    fn a_reply_stays_in_its_forum_topic_but_not_in_a_thread() {
        let mut update = json!({"update_id": 7, "message": {"message_id": 5, "text": "hi", "chat": {"id": -100},
            "message_thread_id": 9, "is_topic_message": true}});
        assert_eq!(answer(&update).unwrap()["message_thread_id"], 9);
        update["message"]["is_topic_message"] = false.into();
        assert_eq!(answer(&update).unwrap().get("message_thread_id"), None);
    }

    #[test]
    fn other_updates_get_no_answer() {
        let photo = json!({"message_id": 5, "photo": [], "caption": "look", "chat": {"id": 42}});
        let text = json!({"message_id": 5, "text": "hi", "chat": {"id": 42}});
        assert_eq!(answer(&json!({"update_id": 7, "message": photo})), None);
        assert_eq!(
            answer(&json!({"update_id": 7, "edited_message": text})),
            None
        );
        assert_eq!(answer(&json!({"update_id": 7, "channel_post": text})), None);
        assert_eq!(answer(&json!({"update_id": 7})), None);
    }
}
