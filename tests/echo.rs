//! A text message comes back as a reply, unchanged; everything else is let be. This is the test of `src/echo.rs`, the only one.

mod common;

use common::{SOON, start_bot};
use serde_json::json;

#[test]
fn texts_come_back_to_the_last_code_point() {
    let (_telegram, bot, _home, _pihook) = start_bot("pihook");
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
    let (_telegram, bot, _home, _pihook) = start_bot("pihook");
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
    let (_telegram, bot, _home, _pihook) = start_bot("pihook");
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
    let (_telegram, bot, _home, _pihook) = start_bot("pihook");
    bot.say(42, "here");
    bot.message(42, json!({"text": "deleted soon after", "message_id": 999}));
    let sent = bot.wait_sent(2, SOON).unwrap();
    assert_eq!((sent[1].text.as_str(), sent[1].reply_to), ("deleted soon after", None));
}
