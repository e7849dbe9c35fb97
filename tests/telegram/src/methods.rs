//! The methods of the Bot API.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::api::{Answer, Poll};
use crate::client::Response;
use crate::http::Parameters;
use crate::state::{Account, Shared, date};
use crate::{Call, Sent, json, webhook};

/// Carries one call out.
pub(crate) fn carry_out(shared: &Arc<Shared>, token: &str, account: &mut Account, call: &Call) -> Answer {
    match call.method.to_ascii_lowercase().as_str() {
        "getme" => Answer::ok(&json::text(&me(account))),
        "getupdates" => get_updates(shared, account, call),
        "sendmessage" => send_message(account, call).unwrap_or_else(|description| bad_request(&description)),
        "getwebhookinfo" => Answer::ok(&account.webhook_info()),
        "setwebhook" => webhook::set(shared, token, account, call),
        "deletewebhook" => webhook::delete(account, call),
        _ => Answer::error(404, "Not Found: method not found"),
    }
}

/// Carries out the call that a webhook's answer may hold. Its result is nobody's.
pub(crate) fn call_in_response(shared: &Arc<Shared>, token: &str, response: &Response) {
    if response.body.is_empty() {
        return;
    }
    let content_type = response.header("content-type").unwrap_or_default();
    let parameters = Parameters::read("", content_type, &response.body);
    let mut call = Call::new(0, "", parameters);
    call.method = call.text("method");
    let method = call.method.to_ascii_lowercase();
    let ignored = ["", "setwebhook", "deletewebhook", "close", "logout"];
    if !ignored.contains(&method.as_str()) && !method.starts_with("get") {
        shared.account(token, |account| {
            call.bot = account.id;
            call.carried_out = Some(call.at);
            carry_out(shared, token, account, &call);
            account.calls.push(call);
        });
    }
}

fn bad_request(description: &str) -> Answer {
    Answer::error(400, &format!("Bad Request: {description}"))
}

fn me(account: &Account) -> Value {
    json!({
        "id": account.id,
        "is_bot": true,
        "first_name": "Bot",
        "username": format!("number_{}_bot", account.id),
        "can_join_groups": true,
        "can_read_all_group_messages": false,
        "supports_inline_queries": false,
    })
}

fn get_updates(shared: &Shared, account: &mut Account, call: &Call) -> Answer {
    let options = &shared.options;
    if account.webhook.is_some() {
        return account.conflict(
            "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first",
            options,
        );
    }
    let offset = call.integer("offset", 0, i64::from(i32::MIN), i64::from(i32::MAX));
    let mut limit = call.integer("limit", 100, 1, 100);
    let mut timeout = call.integer("timeout", 0, 0, 50);
    webhook::set_allowed_updates(account, call);
    let now = Instant::now();
    // Who asks the same again and again has to wait.
    if let Some((_, then)) = account.polling.previous.filter(|(previous, _)| *previous == offset) {
        if timeout < 3 && now < then + options.scaled(3.0) {
            timeout = 3;
        }
        if now < then + options.scaled(0.5) {
            limit = 1;
        }
    }
    account.polling.previous = Some((offset, now));
    let limit = usize::try_from(limit).unwrap_or(1);
    let page = account.page(offset, limit);
    if timeout == 0 || !page.is_empty() {
        return Answer::updates(&page);
    }
    account.abort_poll(
        "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
        options,
    );
    let (waiting, aborted) = oneshot::channel();
    account.polling.waiting = Some(waiting);
    let seconds = u32::try_from(timeout).unwrap_or(0);
    Answer::updates(&[]).poll(Poll { offset, limit, end: now + options.scaled(seconds.into()), aborted })
}

fn send_message(account: &mut Account, call: &Call) -> Result<Answer, String> {
    let text = call.text("text");
    if text.is_empty() {
        return Err("message text is empty".into());
    }
    if text.len() > 32768 {
        return Err("text is too long".into());
    }
    let chat_id = call.text("chat_id");
    if chat_id.is_empty() {
        return Err("chat_id is empty".into());
    }
    let bot = me(account);
    let known = chat_id.parse::<i64>().ok().and_then(|id| Some((id, account.chats.get_mut(&id)?)));
    let (id, chat) = known.ok_or("chat not found")?;
    let thread = call.text("message_thread_id").parse::<i64>().ok().filter(|thread| *thread != 0);
    if thread.is_some_and(|thread| !chat.threads.contains(&thread)) {
        return Err("message thread not found".into());
    }
    let reply_to = reply_target(call, chat.last_message)?;
    if text.trim().is_empty() {
        return Err("text must be non-empty".into());
    }
    if text.chars().count() > 4096 {
        return Err("message is too long".into());
    }
    chat.last_message += 1;
    let message_id = chat.last_message;
    let entities = serde_json::from_str(&call.text("entities")).ok();
    let mut message = json!({
        "message_id": message_id,
        "from": { "id": bot["id"], "is_bot": true, "first_name": bot["first_name"], "username": bot["username"] },
        "chat": { "id": id, "type": if id > 0 { "private" } else { "supergroup" } },
        "date": date(),
        "text": text,
    });
    let optional = [("entities", entities.clone()), ("message_thread_id", thread.map(Value::from))];
    for (name, value) in optional {
        if let Some(value) = value {
            message[name] = value;
        }
    }
    account.sent.push(Sent { chat: id, message_id, text, entities, reply_to, thread, at: Instant::now() });
    Ok(Answer::ok(&json::text(&message)))
}

/// The message to reply to, if there is one and it is wanted.
fn reply_target(call: &Call, last_message: i64) -> Result<Option<i64>, String> {
    let parameters: Value = serde_json::from_str(&call.text("reply_parameters")).unwrap_or_default();
    let old = call.text("reply_to_message_id").parse().ok();
    let Some(target) = parameters["message_id"].as_i64().or(old).filter(|target| *target != 0) else {
        return Ok(None);
    };
    if (1..=last_message).contains(&target) {
        return Ok(Some(target));
    }
    let is_optional = parameters["allow_sending_without_reply"] == true || call.flag("allow_sending_without_reply");
    if is_optional { Ok(None) } else { Err("message to be replied not found".into()) }
}
