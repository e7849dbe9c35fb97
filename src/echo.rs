//! THE BOT. It gets what happened and says what to answer: no network, no clock, no files.
//! To make another bot, edit this file.

use pihook::bot::{Bot, Call, Me, Update};
use pihook::telegram::types::Reply;

/// Answers every new text message with the same text, as a reply to it, and nothing else.
pub struct Echo;

impl Bot for Echo {
    fn handle(&self, update: &Update, _: &Me) -> Vec<Call> {
        let Some(message) = &update.message else { return vec![] };
        let Some(text) = &message.text else { return vec![] };
        let reply = Reply { entities: message.entities.as_deref(), ..Reply::to(message, text) };
        vec![Call::new("sendMessage", &reply)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The parameters of the call, if there is one.
    fn answer(update: &Value) -> Option<Value> {
        let update = Update::parse(update.to_string().into_bytes()).unwrap();
        let me = Me { id: 110_201_543, first_name: "Echo".into(), username: "echo_bot".into() };
        let calls = Echo.handle(&update, &me);
        assert!(calls.len() <= 1 && calls.iter().all(|call| call.method() == "sendMessage"));
        calls.first().map(Call::parameters)
    }

    #[test]
    fn a_text_comes_back_as_a_reply() {
        let update = json!({"update_id": 7, "message": {"message_id": 5, "date": 1, "text": "hi", "chat": {"id": 42, "type": "private"}}});
        let reply = json!({"chat_id": 42, "text": "hi", "reply_parameters": {"message_id": 5, "allow_sending_without_reply": true}});
        assert_eq!(answer(&update), Some(reply));
    }

    #[test]
    fn formatting_survives_to_the_letter() {
        let entities =
            json!([{"type": "bold", "offset": 0, "length": 2}, {"type": "a_type_of_tomorrow", "x": {"y": [1]}}]);
        let update = json!({"update_id": 7, "message": {"message_id": 5, "text": "hi", "entities": entities, "chat": {"id": 42}}});
        assert_eq!(answer(&update).unwrap()["entities"], entities);
    }

    #[test]
    fn a_reply_stays_in_its_forum_topic_but_not_in_a_mere_thread() {
        let mut update = json!({"update_id": 7, "message": {"message_id": 5, "text": "hi", "chat": {"id": -100},
            "message_thread_id": 9, "is_topic_message": true}});
        assert_eq!(answer(&update).unwrap()["message_thread_id"], 9);
        update["message"]["is_topic_message"] = false.into();
        assert_eq!(answer(&update).unwrap().get("message_thread_id"), None);
    }

    #[test]
    fn everything_else_is_left_alone() {
        let photo = json!({"message_id": 5, "photo": [], "caption": "look", "chat": {"id": 42}});
        let text = json!({"message_id": 5, "text": "hi", "chat": {"id": 42}});
        assert_eq!(answer(&json!({"update_id": 7, "message": photo})), None);
        assert_eq!(answer(&json!({"update_id": 7, "edited_message": text})), None);
        assert_eq!(answer(&json!({"update_id": 7, "channel_post": text})), None);
        assert_eq!(answer(&json!({"update_id": 7})), None);
    }
}
