//! The calls that a bot wants made: in their order, each once, whatever Telegram says in between.

use std::fs;
use std::time::Duration;

use crate::common::{Home, SOON, TOKEN, start, telegram};
use serde_json::json;
use simulated_telegram::{Bot, Call, Fault, Options, Telegram};

fn refusal(code: u16, description: &str) -> Fault {
    Fault::Error {
        code,
        description: description.into(),
        retry_after: None,
        migrate_to_chat_id: None,
    }
}

fn flood(seconds: u64) -> Fault {
    let description = format!("Too Many Requests: retry after {seconds}");
    Fault::Error {
        code: 429,
        description,
        retry_after: Some(seconds),
        migrate_to_chat_id: None,
    }
}

/// Has the calls that `is_meant` picks fail with these faults, one after the other.
fn fail(telegram: &Telegram, is_meant: fn(&Call) -> bool, faults: impl IntoIterator<Item = Fault>) {
    let mut faults: Vec<_> = faults.into_iter().collect();
    faults.reverse();
    telegram.on_call(move |call| if is_meant(call) { faults.pop() } else { None });
}

fn texts(bot: &Bot, chat: i64) -> Vec<String> {
    bot.sent()
        .into_iter()
        .filter(|sent| sent.chat == chat)
        .map(|sent| sent.text)
        .collect()
}

#[test]
fn a_deferred_call_repeats_no_call_before_it() {
    let (telegram, bot, _home, _pihook) = start();
    let faults = [
        flood(17),
        Fault::Html(502),
        refusal(500, "Internal Server Error"),
        flood(1),
    ];
    fail(&telegram, |call| call.text("text") == "two", faults);
    bot.say(42, "each one two three");
    bot.say(42, "each four five");
    bot.say(43, "each six seven");
    bot.wait_delivered(3, SOON).unwrap();
    assert_eq!(texts(&bot, 42), ["one", "two", "three", "four", "five"]);
    assert_eq!(texts(&bot, 43), ["six", "seven"]);
    let calls = bot.wait_call("sendMessage", 11, SOON).unwrap();
    let made = |text: &str| {
        calls
            .iter()
            .filter(|call| call.text("text") == text)
            .count()
    };
    assert_eq!((made("one"), made("two"), made("three")), (1, 5, 1));
    let deferred = bot
        .deliveries()
        .iter()
        .filter(|delivery| delivery.status == Some(503))
        .count();
    assert_eq!(deferred, 3, "the short flood wait is waited out");
}

#[test]
fn a_deferred_update_is_handled_by_the_bot_once() {
    let (telegram, bot, _home, _pihook) = start();
    let faults = || [flood(17), flood(1), Fault::Html(502)];
    for number in 1..=3 {
        fail(&telegram, |call| call.method == "sendMessage", faults());
        bot.say(42, "count");
        let sent = bot.wait_sent(number, SOON).unwrap();
        assert_eq!(sent[number - 1].text, format!("count {number}"));
    }
}

#[test]
fn a_deferred_call_goes_to_the_supergroup() {
    let (telegram, bot, _home, _pihook) = start();
    bot.say(-100_123, "the new group is there");
    bot.wait_delivered(1, SOON).unwrap();
    let moved = Fault::Error {
        code: 400,
        description: "Bad Request: group chat was upgraded to a supergroup chat".into(),
        retry_after: None,
        migrate_to_chat_id: Some(-100_123),
    };
    fail(
        &telegram,
        |call| call.method == "sendMessage",
        [moved, flood(17)],
    );
    bot.message(
        -5,
        json!({"text": "hello", "message_thread_id": 7, "is_topic_message": true}),
    );
    let sent = bot.wait_sent(2, SOON).unwrap();
    let sent = (
        sent[1].chat,
        sent[1].text.as_str(),
        sent[1].reply_to,
        sent[1].thread,
    );
    assert_eq!(sent, (-100_123, "hello", None, None));
    bot.wait_delivered(2, SOON).unwrap();
    let calls = bot.wait_call("sendMessage", 4, SOON).unwrap();
    assert_eq!(calls[3].text("chat_id"), "-100123");
}

#[test]
fn retry_after_is_short_for_short_lived_updates() {
    let (telegram, bot, _home, pihook) = start();
    pihook.wait_log("the webhook is registered");
    let retry_after = |bot: &Bot, id: i64| {
        let deliveries = bot.deliveries();
        let deferred = deliveries
            .iter()
            .find(|one| one.update_id == id && one.status == Some(503))
            .expect("a 503");
        deferred.header("retry-after").map(str::to_owned)
    };
    fail(
        &telegram,
        |call| call.method == "answerCallbackQuery",
        [flood(100)],
    );
    let pressed = bot.press(42, 42, "yes");
    bot.wait_delivered(1, SOON).unwrap();
    assert_eq!(retry_after(&bot, pressed.update_id).as_deref(), Some("15"));
    assert_eq!(
        bot.wait_call("answerCallbackQuery", 2, SOON).unwrap()[1].text("callback_query_id"),
        pressed.query
    );

    // The simulated Telegram has no such method, so the second call is refused for good.
    fail(
        &telegram,
        |call| call.method == "answerInlineQuery",
        [flood(100)],
    );
    let inline =
        json!({"id": "1", "from": {"id": 42, "first_name": "User"}, "query": "cats", "offset": ""});
    let inline = bot.update("inline_query", 42, inline);
    bot.wait_delivered(2, SOON).unwrap();
    assert_eq!(retry_after(&bot, inline).as_deref(), Some("1"));
    assert_eq!(
        bot.wait_call("answerInlineQuery", 2, SOON).unwrap().len(),
        2
    );
}

#[test]
fn a_mistake_of_the_bot_is_an_error_and_the_next_call_is_made() {
    let (_telegram, bot, _home, pihook) = start();
    for (number, text, error) in [
        (
            1,
            "unknown method",
            "sendNothing: the Bot API said: Not Found: method not found",
        ),
        (
            2,
            "broken parameters",
            "sendMessage: the parameters cannot be sent: they are not a JSON object",
        ),
    ] {
        let said = bot.say(42, text);
        bot.wait_delivered(number, SOON).unwrap();
        assert_eq!(
            (bot.sent().len(), bot.deliveries().len()),
            (number, number),
            "the next call is made, at once"
        );
        let line = pihook.wait_log(error);
        let place = format!(
            "[ERROR] bot 110201543 update {} chat 42: 200 in ",
            said.update_id
        );
        assert!(line.contains(&place), "{line}");
    }
    let query = json!({"id": "1", "from": {"id": 42, "first_name": "User"}, "data": "yes"});
    bot.update("callback_query", 42, query);
    bot.wait_delivered(3, SOON).unwrap();
    let line = pihook.wait_log("query is too old");
    assert!(
        line.contains("[ERROR]") && line.contains(": 200 in "),
        "{line}"
    );
    assert_eq!(bot.deliveries().len(), 3, "none is tried again");
    assert!(
        !pihook
            .log()
            .iter()
            .any(|line| line.contains("does not accept this token"))
    );
}

#[test]
fn a_refused_call_has_a_fallback_and_a_deferred_one_has_none() {
    let (telegram, bot, _home, pihook) = start();
    fail(
        &telegram,
        |call| call.method == "copyMessage",
        [
            refusal(400, "Bad Request: message can't be copied"),
            flood(17),
        ],
    );
    bot.say(42, "copy");
    bot.wait_delivered(1, SOON).unwrap();
    assert_eq!(texts(&bot, 42), ["no copy"]);
    bot.say(42, "copy");
    bot.wait_delivered(2, SOON).unwrap();
    assert_eq!(
        texts(&bot, 42),
        ["no copy", "copy"],
        "a copy that only has to wait is no reason for it"
    );
    assert!(
        !pihook
            .log()
            .iter()
            .any(|line| line.contains("can't be copied"))
    );
}

#[test]
fn no_more_than_ten_calls_are_made_for_an_update() {
    let (_telegram, bot, _home, pihook) = start();
    bot.say(41, "each 1 2 3 4 5 6 7 8 9 10");
    bot.wait_sent(10, SOON).unwrap();
    bot.say(42, "each 1 2 3 4 5 6 7 8 9 10 11");
    bot.wait_delivered(2, SOON).unwrap();
    assert_eq!(
        texts(&bot, 42),
        ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]
    );
    assert!(
        pihook
            .wait_log("the bot returned 11 calls")
            .contains("[ERROR]")
    );
    assert!(
        !pihook
            .log()
            .iter()
            .any(|line| line.contains("the bot returned 10 calls"))
    );
}

#[test]
fn calls_without_time_are_deferred_to_the_redelivery() {
    // In real time: an update has 42 s, and a call up to 20 s of them.
    let telegram = Telegram::start(Options::default()).unwrap();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    let pihook = home.run_for(&telegram);
    let stall = || Fault::Stall(Duration::from_millis(11_100));
    fail(
        &telegram,
        |call| call.method == "sendMessage",
        [stall(), stall()],
    );
    bot.say(42, "each one two three");
    bot.wait_delivered(1, SOON).unwrap();
    assert_eq!(texts(&bot, 42), ["one", "two", "three"]);
    let deliveries = bot.deliveries();
    assert_eq!(
        (deliveries.len(), deliveries[0].header("retry-after")),
        (2, Some("1"))
    );
    pihook.wait_log("sendMessage: no time was left for this call");
}

#[test]
fn updates_are_deferred_until_get_me_is_answered() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    home.run_for(&telegram)
        .wait_log("the webhook is registered");
    let is_get_me: fn(&Call) -> bool = |call| call.method == "getMe";

    // The bot remembers the answer of getMe from the last time.
    fail(&telegram, is_get_me, [Fault::Html(502)]);
    let pihook = home.run_for(&telegram);
    bot.say(42, "me");
    assert_eq!(
        bot.wait_sent(1, SOON).unwrap()[0].text,
        "110201543 number_110201543_bot"
    );
    pihook
        .wait_log("the webhook is not registered: the answer is not from the Bot API (status 502)");
    drop(pihook);

    for broken in [
        None,
        Some("{}"),
        Some(r#"{"id":7,"first_name":"x","username":"another_bot"}"#),
    ] {
        let file = home.folder.join("state/me-110201543");
        match broken {
            None => fs::remove_file(file).unwrap(),
            Some(text) => fs::write(file, text).unwrap(),
        }
        let before = bot.sent().len();
        telegram.on_call(move |call| is_get_me(call).then_some(Fault::Html(502)));
        let pihook = home.run_for(&telegram);
        bot.say(42, "me");
        pihook.wait_log("503, the Bot API has not answered getMe yet");
        telegram.on_call(|_| None);
        assert_eq!(
            bot.wait_sent(before + 1, SOON).unwrap()[before].text,
            "110201543 number_110201543_bot"
        );
    }
}
