//! The bots of tests/bots, each in its own program.

use crate::common::{Home, OTHER_TOKEN, SOON, TOKEN, settings, start_bot, telegram};

#[test]
fn the_greeting_bot_greets_and_says_the_rest_backwards() {
    let (_telegram, bot, _home, _pihook) = start_bot("greeting");
    for (number, (text, answer)) in [
        ("/start", "Hello, User! Write something."),
        (
            "/start@number_110201543_bot",
            "Hello, User! Write something.",
        ),
        ("/start@another_bot", "tob_rehtona@trats/"),
        ("привет 👋", "👋 тевирп"),
    ]
    .into_iter()
    .enumerate()
    {
        let said = bot.say(42, text);
        let sent = bot.wait_sent(number + 1, SOON).unwrap();
        assert_eq!(
            (sent[number].text.as_str(), sent[number].reply_to),
            (answer, Some(said.message_id)),
            "{text}"
        );
    }
}

#[test]
fn the_button_bot_asks_and_shows_the_choice() {
    let (_telegram, bot, _home, pihook) = start_bot("buttons");
    pihook.wait_log("the webhook is registered");
    bot.say(42, "/start");
    bot.wait_sent(1, SOON).unwrap();
    let asked = &bot.wait_call("sendMessage", 1, SOON).unwrap()[0];
    let buttons = &asked.params["reply_markup"]["inline_keyboard"][0];
    assert_eq!(
        (&buttons[0]["text"], &buttons[1]["text"]),
        (&"Tea".into(), &"Coffee".into())
    );
    for (number, (data, choice)) in [
        (
            buttons[1]["callback_data"].as_str().unwrap(),
            "Coffee it is.",
        ),
        ("a strange client's", "That is not on the menu."),
    ]
    .into_iter()
    .enumerate()
    {
        let pressed = bot.press(42, 42, data);
        let edit = &bot.wait_call("editMessageText", number + 1, SOON).unwrap()[number];
        let answer = &bot
            .wait_call("answerCallbackQuery", number + 1, SOON)
            .unwrap()[number];
        assert_eq!(
            (answer.text("callback_query_id"), answer.text("text")),
            (pressed.query, choice.to_owned())
        );
        assert_eq!(
            (edit.text("text"), edit.text("message_id")),
            (choice.to_owned(), "2".to_owned())
        );
    }
    bot.wait_none_pending(SOON).unwrap();
    assert!(
        !pihook.log().iter().any(|line| line.contains("[ERROR]")),
        "{:#?}",
        pihook.log()
    );
}

#[test]
fn the_counter_counts_by_bot_and_chat() {
    let telegram = telegram();
    let bots = [TOKEN, OTHER_TOKEN].map(|token| telegram.bot(token));
    let both = format!(
        "[[bot]]\ntoken = '{TOKEN}'\npath = '/one'\n[[bot]]\ntoken = '{OTHER_TOKEN}'\npath = '/two'\n"
    );
    let home = Home::with(&settings(&telegram.api_url(), ""), &both);
    let _pihook = home.run_bot_for("counter", &telegram);
    for (bot, messages) in [
        (&bots[0], [(42, 1), (42, 2), (43, 1)]),
        (&bots[1], [(42, 1), (43, 1), (42, 2)]),
    ] {
        for (number, (chat, count)) in messages.into_iter().enumerate() {
            bot.say(chat, "hello");
            let sent = bot.wait_sent(number + 1, SOON).unwrap();
            assert_eq!(
                (sent[number].chat, sent[number].text.clone()),
                (chat, format!("Message {count} in this chat."))
            );
        }
    }
}
