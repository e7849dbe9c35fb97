//! What a bot does with messages: it sends, copies, edits and deletes them.

use std::time::Instant;

use serde_json::{Value, json};

use crate::methods::me;
use crate::state::{Account, date};
use crate::{Call, Sent};

type Result<T> = std::result::Result<T, &'static str>;

/// sendMessage.
pub(crate) fn send(account: &mut Account, call: &Call) -> Result<Value> {
    let text = raw_text(call)?;
    let place = Place::new(account, call)?;
    check_text(&text)?;
    let sent = put(account, call, &place, text);
    Ok(message(account, &sent))
}

/// copyMessage.
pub(crate) fn copy(account: &mut Account, call: &Call) -> Result<Value> {
    let from = find(account, &call.text("from_chat_id"))?;
    let id = call.integer("message_id", 0, 0, i64::from(i32::MAX));
    let text = account.chats[&from]
        .texts
        .get(&id)
        .cloned()
        .ok_or("message to copy not found")?;
    let place = Place::new(account, call)?;
    let sent = put(account, call, &place, text);
    Ok(json!({ "message_id": sent.message_id }))
}

/// editMessageText.
pub(crate) fn edit_text(account: &mut Account, call: &Call) -> Result<Value> {
    let text = raw_text(call)?;
    edit(account, call, Some(text))
}

/// editMessageReplyMarkup.
pub(crate) fn edit_markup(account: &mut Account, call: &Call) -> Result<Value> {
    edit(account, call, None)
}

/// deleteMessage.
pub(crate) fn delete(account: &mut Account, call: &Call) -> Result<Value> {
    let id = call.integer("message_id", 0, 0, i64::from(i32::MAX));
    let chat = chat(account, call)?;
    let Some(chat) = account.chats.get_mut(&chat) else {
        return Err("message to delete not found");
    };
    match chat.texts.remove(&id) {
        Some(_) => Ok(Value::Bool(true)),
        None => Err("message to delete not found"),
    }
}

/// The chat that a call is about.
pub(crate) fn chat(account: &Account, call: &Call) -> Result<i64> {
    find(account, &call.text("chat_id"))
}

/// A message of the bot's, as the Bot API shows it.
pub(crate) fn message(account: &Account, sent: &Sent) -> Value {
    let bot = me(account);
    let mut message = json!({
        "message_id": sent.message_id,
        "from": { "id": bot["id"], "is_bot": true, "first_name": bot["first_name"], "username": bot["username"] },
        "chat": { "id": sent.chat, "type": if sent.chat > 0 { "private" } else { "supergroup" } },
        "date": date(),
        "text": sent.text,
    });
    let optional = [
        ("entities", sent.entities.clone()),
        ("message_thread_id", sent.thread.map(Value::from)),
        ("reply_markup", sent.reply_markup.clone()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            message[name] = value;
        }
    }
    message
}

/// Where a new message goes.
struct Place {
    chat: i64,
    thread: Option<i64>,
    direct_topic: Option<i64>,
    receiver: Option<i64>,
    reply_to: Option<i64>,
}

impl Place {
    fn new(account: &Account, call: &Call) -> Result<Place> {
        let id = chat(account, call)?;
        let chat = &account.chats[&id];
        let thread = call
            .text("message_thread_id")
            .parse::<i64>()
            .ok()
            .filter(|thread| *thread != 0);
        if thread.is_some_and(|thread| !chat.threads.contains(&thread)) {
            return Err("message thread not found");
        }
        let direct_topic = call.text("direct_messages_topic_id").parse::<i64>().ok();
        if !chat.direct_topics.is_empty()
            && direct_topic.is_none_or(|topic| !chat.direct_topics.contains(&topic))
        {
            return Err("direct messages topic not found");
        }
        let ephemeral = object(call, "ephemeral_message_parameters").unwrap_or_default();
        let receiver = ephemeral["receiver_user_id"].as_i64();
        if receiver == Some(0) {
            return Err("user not found");
        }
        Ok(Place {
            chat: id,
            thread,
            direct_topic,
            receiver,
            reply_to: reply_target(call, chat.last_message)?,
        })
    }
}

fn put(account: &mut Account, call: &Call, place: &Place, text: String) -> Sent {
    let chat = account.chats.entry(place.chat).or_default();
    chat.last_message += 1;
    chat.texts.insert(chat.last_message, text.clone());
    let sent = Sent {
        chat: place.chat,
        message_id: chat.last_message,
        text,
        entities: object(call, "entities"),
        reply_markup: object(call, "reply_markup"),
        reply_to: place.reply_to,
        thread: place.thread,
        direct_topic: place.direct_topic,
        receiver: place.receiver,
        at: Instant::now(),
    };
    account.sent.push(sent.clone());
    sent
}

/// Changes the text, if there is one, and the buttons.
fn edit(account: &mut Account, call: &Call, text: Option<String>) -> Result<Value> {
    let chat = chat(account, call)?;
    let id = call.integer("message_id", 0, 0, i64::from(i32::MAX));
    if !account.chats[&chat].texts.contains_key(&id) {
        return Err("message to edit not found");
    }
    let mine = account
        .sent
        .iter_mut()
        .find(|sent| sent.chat == chat && sent.message_id == id);
    let sent = mine.ok_or("message can't be edited")?;
    let mut changed = sent.clone();
    if let Some(text) = text {
        check_text(&text)?;
        changed.text = text;
        changed.entities = object(call, "entities");
    }
    changed.reply_markup = object(call, "reply_markup");
    let is_same = (&changed.text, &changed.entities, &changed.reply_markup)
        == (&sent.text, &sent.entities, &sent.reply_markup);
    if is_same {
        return Err(
            "message is not modified: specified new message content and reply markup are exactly the same as a \
                    current content and reply markup of the message",
        );
    }
    *sent = changed.clone();
    let mut message = message(account, &changed);
    message["edit_date"] = date().into();
    Ok(message)
}

fn find(account: &Account, chat_id: &str) -> Result<i64> {
    if chat_id.is_empty() {
        return Err("chat_id is empty");
    }
    chat_id
        .parse()
        .ok()
        .filter(|id| account.chats.contains_key(id))
        .ok_or("chat not found")
}

fn raw_text(call: &Call) -> Result<String> {
    match call.text("text") {
        text if text.is_empty() => Err("message text is empty"),
        text if text.len() > 32768 => Err("text is too long"),
        text => Ok(text),
    }
}

fn check_text(text: &str) -> Result<()> {
    if text.trim().is_empty() {
        return Err("text must be non-empty");
    }
    if text.chars().count() > 4096 {
        Err("message is too long")
    } else {
        Ok(())
    }
}

/// A parameter that is JSON.
fn object(call: &Call, name: &str) -> Option<Value> {
    serde_json::from_str(&call.text(name)).ok()
}

/// The message to reply to, if there is one and it is wanted.
fn reply_target(call: &Call, last_message: i64) -> Result<Option<i64>> {
    let parameters = object(call, "reply_parameters").unwrap_or_default();
    let old = call.text("reply_to_message_id").parse().ok();
    let Some(target) = parameters["message_id"]
        .as_i64()
        .or(old)
        .filter(|target| *target != 0)
    else {
        return Ok(None);
    };
    if (1..=last_message).contains(&target) {
        return Ok(Some(target));
    }
    let is_optional = parameters["allow_sending_without_reply"] == true
        || call.flag("allow_sending_without_reply");
    if is_optional {
        Ok(None)
    } else {
        Err("message to be replied not found")
    }
}
