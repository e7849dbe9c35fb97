//! A text message comes back as a reply, unchanged; everything else is let be.

mod common;

use std::time::Duration;

use common::{SOON, start};
use serde_json::json;

#[test]
fn texts_come_back_to_the_last_code_point() {
    let (_telegram, bot, _home, _pihook) = start();
    let emoji = "😀".repeat(4096);
    let texts = [
        "hello",
        "привет 👋",
        emoji.as_str(),
        "مرحبا بالعالم, שלום \u{202e}abc\u{202c}",
        "👨\u{200d}👩\u{200d}👧\u{200d}👦 🏳️\u{200d}🌈 e\u{301} \u{feff}\u{200b}",
        "quotes \" \\ / and\nlines\r\n\ttabs \u{7f}\u{80}\u{2028}\u{10ffff}",
        "<b>no</b> *markdown* _here_",
    ];
    let said: Vec<_> = texts.iter().map(|text| bot.say(42, text)).collect();
    let sent = bot.wait_sent(texts.len(), SOON).unwrap();
    for ((text, said), sent) in texts.iter().zip(said).zip(&sent) {
        assert_eq!(sent.text, *text);
        assert_eq!((sent.chat, sent.reply_to), (42, Some(said.message_id)));
    }
    bot.wait_delivered(texts.len(), SOON).unwrap();
    assert_eq!(bot.deliveries().len(), texts.len(), "each was delivered once");
}

#[test]
fn formatting_and_forum_topics_survive() {
    let (_telegram, bot, _home, _pihook) = start();
    let entities = json!([
        {"type": "bold", "offset": 0, "length": 4},
        {"type": "text_link", "offset": 5, "length": 4, "url": "https://example.org/?a=1&b=\"2\""},
        {"type": "custom_emoji", "offset": 10, "length": 2, "custom_emoji_id": "5368324170671202286"},
    ]);
    bot.message(42, json!({"text": "bold link 👍", "entities": entities}));
    bot.message(-1001, json!({"text": "in a topic", "message_thread_id": 7, "is_topic_message": true}));
    let sent = bot.wait_sent(2, SOON).unwrap();
    let formatted = sent.iter().find(|sent| sent.chat == 42).unwrap();
    assert_eq!(formatted.entities, Some(entities));
    let in_topic = sent.iter().find(|sent| sent.chat == -1001).unwrap();
    assert_eq!(in_topic.thread, Some(7));
}

#[test]
fn what_is_no_new_text_is_acknowledged_and_let_be() {
    let (_telegram, bot, _home, _pihook) = start();
    bot.message(42, json!({"photo": [], "caption": "look"}));
    bot.message(42, json!({"sticker": {"emoji": "👍"}}));
    bot.message(42, json!({"new_chat_members": []}));
    bot.say(42, "last");
    let sent = bot.wait_sent(1, SOON).unwrap();
    assert_eq!(sent[0].text, "last");
    bot.wait_delivered(4, SOON).unwrap();
    assert_eq!(bot.sent().len(), 1);
    assert_eq!(bot.deliveries().len(), 4);
}

#[test]
fn a_reply_to_a_deleted_message_still_arrives() {
    let (_telegram, bot, _home, _pihook) = start();
    bot.say(42, "here");
    bot.message(42, json!({"text": "deleted soon after", "message_id": 999}));
    let sent = bot.wait_sent(2, SOON).unwrap();
    assert_eq!((sent[1].text.as_str(), sent[1].reply_to), ("deleted soon after", None));
}

#[test]
fn each_chat_keeps_its_order_on_forty_connections() {
    let (_telegram, bot, _home, _pihook) = start();
    let (chats, each) = (60, 10_usize);
    for number in 0..each {
        for chat in 1..=chats {
            bot.say(chat, &format!("{number}"));
        }
    }
    let sent = bot.wait_sent(60 * each, SOON).unwrap();
    for chat in 1..=chats {
        let texts: Vec<_> = sent.iter().filter(|sent| sent.chat == chat).map(|sent| sent.text.clone()).collect();
        assert_eq!(texts, (0..each).map(|number| number.to_string()).collect::<Vec<_>>(), "chat {chat}");
    }
    let mut connections: Vec<_> = bot.deliveries().iter().map(|delivery| delivery.connection).collect();
    connections.sort_unstable();
    connections.dedup();
    assert!(connections.len() > 1 && connections.len() <= 40, "{} connections", connections.len());
}

#[test]
fn an_update_is_one_line_without_its_text_or_the_token() {
    let (_telegram, bot, _home, pihook) = start();
    let said = bot.say(42, "a very private matter");
    bot.wait_delivered(1, SOON).unwrap();
    let line = pihook.wait_log(&format!("update {}", said.update_id));
    assert!(line.contains("chat 42: 200 in ") && line.ends_with(" ms"), "{line}");
    assert!(line.contains("[INFO]"), "{line}");
    let (status, log) = pihook.stop();
    assert!(status.success());
    let log = log.join("\n");
    assert!(!log.contains("private matter") && !log.contains("AAHdq"), "{log}");
}

#[test]
fn a_body_that_is_no_update_is_dropped_not_brought_back() {
    let (_telegram, bot, _home, pihook) = start();
    bot.update("message", 42, json!({"message_id": "secret text instead of a number", "chat": 7}));
    bot.wait_delivered(1, SOON).unwrap();
    let line = pihook.wait_log("is no update");
    assert!(line.contains("[WARN]") && !line.contains("secret text"), "{line}");
    assert_eq!(bot.pending(), 0);
}

#[test]
fn a_refused_reply_is_dropped_and_a_failed_one_is_brought_back() {
    use simulated_telegram::Fault;
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
    let later: Vec<_> = bot.deliveries().into_iter().filter(|delivery| delivery.status == Some(503)).collect();
    assert_eq!(later.len(), 2);
    for delivery in &later {
        assert_eq!(delivery.header("retry-after"), Some("5"));
    }
    // Telegram came back when it was asked to: after 5 s, here half a second.
    assert!(later[1].started - later[0].started >= Duration::from_millis(400));
    assert!(pihook.wait_log("blocked by the user").contains("chat 1: 200"));
}
