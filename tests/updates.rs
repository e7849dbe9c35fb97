//! What becomes of updates: order, threads, log lines, and updates that cannot be handled.

use std::time::Duration;

use crate::common::{SOON, start};
use serde_json::json;
use simulated_telegram::Fault;

#[test]
fn each_chat_keeps_its_order_on_forty_connections() {
    let (_telegram, bot, _home, _pihook) = start();
    let chats = 60;
    let each = 10_usize;
    for number in 0..each {
        for chat in 1..=chats {
            bot.say(chat, &format!("{number}"));
        }
    }
    let sent = bot.wait_sent(60 * each, SOON).unwrap();
    for chat in 1..=chats {
        let texts: Vec<_> = sent
            .iter()
            .filter(|sent| sent.chat == chat)
            .map(|sent| sent.text.clone())
            .collect();
        assert_eq!(
            texts,
            (0..each)
                .map(|number| number.to_string())
                .collect::<Vec<_>>(),
            "chat {chat}"
        );
    }
    let mut connections: Vec<_> = bot
        .deliveries()
        .iter()
        .map(|delivery| delivery.connection)
        .collect();
    connections.sort_unstable();
    connections.dedup();
    assert!(
        connections.len() > 1 && connections.len() <= 40,
        "{} connections",
        connections.len()
    );
}

#[test]
fn worker_threads_are_started_only_for_updates_at_once() {
    let (telegram, bot, _home, pihook) = start();
    for number in 1..=20 {
        bot.say(42, "alone");
        bot.wait_sent(number, SOON).unwrap();
    }
    let few = pihook.threads();
    telegram.on_call(|call| {
        (call.method == "sendMessage").then_some(Fault::Stall(Duration::from_secs(3)))
    });
    for chat in 1..=16 {
        bot.say(chat, "together");
    }
    bot.wait_call("sendMessage", 20 + 16, SOON).unwrap();
    let many = pihook.threads();
    // QEMU has threads of its own.
    assert!(few <= 16 && many >= few + 13, "{few} threads, then {many}");
    bot.wait_sent(20 + 16, SOON).unwrap();
}

#[test]
fn an_update_is_one_line_of_the_log_without_its_text_or_the_token() {
    let (_telegram, bot, _home, pihook) = start();
    let said = bot.say(42, "a very private matter");
    bot.wait_delivered(1, SOON).unwrap();
    let line = pihook.wait_log(&format!("update {}", said.update_id));
    assert!(
        line.contains("chat 42: 200 in ") && line.ends_with(" ms"),
        "{line}"
    );
    assert!(line.contains("[INFO]"), "{line}");
    let (status, log) = pihook.stop();
    assert!(status.success());
    let log = log.join("\n");
    assert!(
        !log.contains("private matter") && !log.contains("AAHdq"),
        "{log}"
    );
}

#[test]
fn a_body_that_is_no_update_is_dropped() {
    let (_telegram, bot, _home, pihook) = start();
    bot.update(
        "message",
        42,
        json!({"message_id": "secret text instead of a number", "chat": 7}),
    );
    bot.wait_delivered(1, SOON).unwrap();
    let line = pihook.wait_log("the request is not a valid update");
    assert!(
        line.contains("[WARN]") && !line.contains("secret text"),
        "{line}"
    );
    assert_eq!(bot.pending(), 0);
}

#[test]
fn a_403_drops_the_reply_and_a_502_defers_it_with_retry_after() {
    let (telegram, bot, _home, pihook) = start();
    let mut failures = 0;
    telegram.on_call(move |call| match call.text("text").as_str() {
        "blocked" => Some(Fault::Error {
            code: 403,
            description: "Forbidden: bot was blocked by the user".into(),
            retry_after: None,
            migrate_to_chat_id: None,
        }),
        "later" => {
            failures += 1;
            (failures < 3).then_some(Fault::Html(502))
        }
        _ => None,
    });
    bot.say(1, "blocked");
    bot.say(2, "later");
    let sent = bot.wait_sent(1, SOON).unwrap();
    assert_eq!(sent[0].text, "later");
    bot.wait_delivered(2, SOON).unwrap();
    let later: Vec<_> = bot
        .deliveries()
        .into_iter()
        .filter(|delivery| delivery.status == Some(503))
        .collect();
    assert_eq!(later.len(), 2);
    for delivery in &later {
        assert_eq!(delivery.header("retry-after"), Some("5"));
    }
    // Telegram came back when it was asked to: after 5 s, here half a second.
    assert!(later[1].started - later[0].started >= Duration::from_millis(400));
    assert!(
        pihook
            .wait_log("blocked by the user")
            .contains("chat 1: 200")
    );
}

#[test]
fn an_update_is_done_without_a_reply_and_lines_of_the_bot_are_logged() {
    let (_telegram, bot, _home, pihook) = start();
    let said = bot.say(42, "warn");
    bot.wait_delivered(1, SOON).unwrap();
    assert!(pihook.wait_log("a warning of the bot").contains("[WARN]"));
    pihook.wait_log(&format!(
        "update {} chat 42: 200, nothing to answer",
        said.update_id
    ));
    bot.redeliver(said.update_id);
    pihook.wait_log(&format!(
        "update {}: 200, the bot has answered this update before",
        said.update_id
    ));
    assert_eq!(bot.sent().len(), 0);
}
