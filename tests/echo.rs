//! A text message comes back as a reply, unchanged; anything else gets no answer. This is the only
//! test of `src/echo.rs`.

use crate::common::{SOON, start_bot};
use serde_json::json;
use simulated_telegram::Fault;

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
    assert_eq!(
        bot.deliveries().len(),
        texts.len(),
        "each was delivered once"
    );
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
    bot.message(
        -1001,
        json!({"text": "in a topic", "message_thread_id": 7, "is_topic_message": true}),
    );
    let sent = bot.wait_sent(2, SOON).unwrap();
    let formatted = sent.iter().find(|sent| sent.chat == 42).unwrap();
    assert_eq!(formatted.entities, Some(entities));
    let in_topic = sent.iter().find(|sent| sent.chat == -1001).unwrap();
    assert_eq!(in_topic.thread, Some(7));
}

#[test]
fn an_update_without_a_text_gets_no_answer_and_its_kind_is_logged() {
    let (_telegram, bot, _home, pihook) = start_bot("pihook");
    bot.message(42, json!({"photo": [], "caption": "look"}));
    bot.message(42, json!({"sticker": {"emoji": "👍"}}));
    bot.message(42, json!({"new_chat_members": []}));
    bot.say(42, "last");
    let sent = bot.wait_sent(1, SOON).unwrap();
    assert_eq!(sent[0].text, "last");
    bot.wait_delivered(4, SOON).unwrap();
    assert_eq!(bot.sent().len(), 1);
    assert_eq!(bot.deliveries().len(), 4);
    for kind in ["caption, photo", "sticker", "new_chat_members"] {
        pihook.wait_log(&format!("200, nothing to answer ({kind})"));
    }
}

#[test]
fn a_rich_message_is_copied_or_else_its_text_comes_back() {
    let (telegram, bot, _home, pihook) = start_bot("pihook");
    let rich = json!({"blocks": [
        {"type": "heading", "size": 1, "text": "Shopping"},
        {"type": "list", "items": [
            {"label": "1.", "blocks": [{"type": "paragraph", "text": ["two ", {"type": "bold", "text": "eggs"}]}]},
            {"label": "2.", "blocks": [{"type": "hologram", "text": "?"}, {"type": "paragraph", "text": {"text": "milk"}}]}]}]});
    let said = bot.message(42, json!({"rich_message": rich}));
    let copied = &bot.wait_call("copyMessage", 1, SOON).unwrap()[0];
    assert_eq!(
        (copied.text("chat_id"), copied.text("message_id")),
        ("42".into(), said.message_id.to_string())
    );
    assert_eq!(
        bot.wait_sent(1, SOON).unwrap()[0].reply_to,
        Some(said.message_id)
    );

    telegram.on_call(|call| {
        let refusal = Fault::Error {
            code: 400,
            description: "Bad Request: message can't be copied".into(),
            retry_after: None,
            migrate_to_chat_id: None,
        };
        call.method
            .eq_ignore_ascii_case("copyMessage")
            .then_some(refusal)
    });
    bot.message(42, json!({"rich_message": rich}));
    let sent = bot.wait_sent(2, SOON).unwrap();
    assert_eq!(sent[1].text, "Shopping\n1. two eggs\n2. milk");
    // A rich message without any text: the error of the copy is logged.
    bot.message(
        42,
        json!({"rich_message": {"blocks": [{"type": "hologram"}]}}),
    );
    pihook.wait_log("copyMessage: the Bot API said: Bad Request: message can't be copied");
    bot.wait_delivered(3, SOON).unwrap();
    assert_eq!(bot.deliveries().len(), 3);
}

#[test]
fn direct_messages_of_a_channel_are_answered_in_their_topic() {
    let (_telegram, bot, _home, _pihook) = start_bot("pihook");
    bot.message(
        -1001,
        json!({"text": "hello", "direct_messages_topic": {"topic_id": 77}}),
    );
    assert_eq!(bot.wait_sent(1, SOON).unwrap()[0].direct_topic, Some(77));
}

#[test]
fn an_ephemeral_message_gets_only_an_ephemeral_reply() {
    let (telegram, bot, _home, pihook) = start_bot("pihook");
    let rich = json!({"blocks": [{"type": "paragraph", "text": "rich"}]});
    bot.message(
        -1001,
        json!({"text": "/secret", "message_id": 0, "ephemeral_message_id": 5}),
    );
    bot.message(
        -1002,
        json!({"rich_message": rich, "message_id": 0, "ephemeral_message_id": 6}),
    );
    let sent = bot.wait_sent(2, SOON).unwrap();
    assert!(
        sent.iter().all(|sent| sent.receiver == Some(1_000_001)),
        "{sent:?}"
    );
    let calls = bot.wait_call("sendMessage", 2, SOON).unwrap();
    assert!(calls.iter().any(|call| {
        call.text("reply_parameters")
            .contains("\"ephemeral_message_id\":5")
    }));
    // A refused reply, and a message without its author: one line each, and no answer.
    telegram.on_call(|call| {
        let refusal = Fault::Error {
            code: 400,
            description: "Bad Request: BOT_NOT_ADMIN".into(),
            retry_after: None,
            migrate_to_chat_id: None,
        };
        call.text("ephemeral_message_parameters")
            .contains("1000001")
            .then_some(refusal)
    });
    bot.message(
        -1003,
        json!({"text": "/secret", "message_id": 0, "ephemeral_message_id": 7}),
    );
    bot.message(
        -1004,
        json!({"text": "/secret", "message_id": 0, "from": null}),
    );
    bot.wait_delivered(4, SOON).unwrap();
    pihook.wait_log("sendMessage: the Bot API said: Bad Request: BOT_NOT_ADMIN");
    pihook.wait_log("sendMessage: the Bot API said: Bad Request: user not found");
    assert_eq!((bot.sent().len(), bot.deliveries().len()), (2, 4));
    assert!(bot.calls().iter().all(|call| call.method != "copyMessage"));
}

#[test]
fn another_bot_gets_no_echo() {
    let (_telegram, bot, _home, pihook) = start_bot("pihook");
    let said = bot.message(
        -1001,
        json!({"text": "hi", "from": {"id": 8, "is_bot": true, "first_name": "Other"}}),
    );
    pihook.wait_log(&format!(
        "update {}: no answer, because another bot wrote the message",
        said.update_id
    ));
    let anonymous = json!({"id": 1_087_968_824, "is_bot": true, "first_name": "Group", "username": "GroupAnonymousBot"});
    bot.message(-1001, json!({"text": "we", "from": anonymous, "sender_chat": {"id": -1001, "type": "supergroup"}}));
    bot.wait_delivered(2, SOON).unwrap();
    let texts: Vec<_> = bot.sent().into_iter().map(|sent| sent.text).collect();
    assert_eq!(texts, ["we"]);
}

#[test]
fn a_reply_to_a_deleted_message_still_arrives() {
    let (_telegram, bot, _home, _pihook) = start_bot("pihook");
    bot.say(42, "here");
    bot.message(42, json!({"text": "deleted soon after", "message_id": 999}));
    let sent = bot.wait_sent(2, SOON).unwrap();
    assert_eq!(
        (sent[1].text.as_str(), sent[1].reply_to),
        ("deleted soon after", None)
    );
}
