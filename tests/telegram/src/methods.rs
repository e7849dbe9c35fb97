//! The methods of the Bot API.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::client::Response;
use crate::http::Parameters;
use crate::state::{Account, Shared};
use crate::{Call, json, messages, polling, webhook};

/// Carries one call out.
pub(crate) fn carry_out(
    shared: &Arc<Shared>,
    token: &str,
    account: &mut Account,
    call: &Call,
) -> Answer {
    match call.method.to_ascii_lowercase().as_str() {
        "getme" => Answer::ok(&json::text(&me(account))),
        "getupdates" => polling::get_updates(shared, account, call),
        "sendmessage" => answer(messages::send(account, call)),
        "copymessage" => answer(messages::copy(account, call)),
        "editmessagetext" => answer(messages::edit_text(account, call)),
        "editmessagereplymarkup" => answer(messages::edit_markup(account, call)),
        "deletemessage" => answer(messages::delete(account, call)),
        "sendchataction" => answer(messages::chat(account, call).map(|_| Value::Bool(true))),
        "answercallbackquery" => answer(answer_callback_query(shared, account, call)),
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

fn answer(result: Result<Value, &str>) -> Answer {
    match result {
        Ok(result) => Answer::ok(&json::text(&result)),
        Err(description) => Answer::error(400, &format!("Bad Request: {description}")),
    }
}

/// The bot as a user.
pub(crate) fn me(account: &Account) -> Value {
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

/// A query lives as long as its update.
fn answer_callback_query(
    shared: &Shared,
    account: &Account,
    call: &Call,
) -> Result<Value, &'static str> {
    let end = |asked: &Instant| *asked + shared.options.scaled(150.0);
    let query = account.queries.get(&call.text("callback_query_id"));
    if query.is_some_and(|asked| Instant::now() < end(asked)) {
        Ok(Value::Bool(true))
    } else {
        Err("query is too old and response timeout expired or query ID is invalid")
    }
}
