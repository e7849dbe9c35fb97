//! Large updates, and connections that the bot closes: Telegram gets an answer to each request, and
//! no "Broken pipe".

use std::time::Duration;

use crate::common::{SOON, start};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use simulated_telegram::Fault;

/// The errors of deliveries that got no answer.
fn errors(bot: &simulated_telegram::Bot) -> Vec<String> {
    bot.deliveries()
        .into_iter()
        .filter_map(|delivery| delivery.error)
        .collect()
}

/// A message whose update has so many bytes, without the envelope of its id.
fn large(length: usize) -> Value {
    let message = |filler: usize| {
        json!({ "message_id": 1, "from": { "id": 7, "is_bot": false }, "chat": { "id": 7, "type": "private" },
                "date": 1, "filler": "x".repeat(filler), "text": "x" })
    };
    message(length - r#""message":"#.len() - message(0).to_string().len())
}

#[test]
fn the_largest_update_of_all_is_answered() {
    let (_telegram, bot, _home, _pihook) = start();
    bot.wait_connections(1, SOON).unwrap();
    assert!(bot.update("message", 7, large(524_288)) > 0);
    assert_eq!(
        bot.update("message", 7, large(524_289)),
        0,
        "no larger one is sent"
    );
    bot.wait_none_pending(SOON).unwrap();
    let deliveries = bot.deliveries();
    assert_eq!(
        (deliveries.len(), deliveries[0].status),
        (1, Some(200)),
        "{deliveries:?}"
    );
}

#[test]
fn small_updates_and_large_ones_at_once_are_all_answered() {
    let (_telegram, bot, _home, _pihook) = start();
    for round in 0..8 {
        assert!(bot.update("message", 100 + round, large(400_000)) > 0);
        for chat in 1..=8 {
            bot.say(chat, "small");
        }
    }
    bot.wait_none_pending(SOON).unwrap();
    let statuses: Vec<_> = bot
        .deliveries()
        .iter()
        .map(|delivery| delivery.status)
        .collect();
    assert_eq!(statuses, [Some(200); 72], "{:?}", errors(&bot));
}

#[test]
fn a_stop_breaks_no_pipe_of_telegram() {
    let (telegram, bot, _home, pihook) = start();
    telegram.on_call(|call| {
        (call.method == "sendMessage").then_some(Fault::Stall(Duration::from_millis(300)))
    });
    bot.wait_connections(1, SOON).unwrap();
    // The second update waits for the first, and would be sent on the same connection.
    bot.say(7, "one");
    bot.say(7, "two");
    bot.wait_call("sendMessage", 1, SOON).unwrap();
    pihook.signal(Signal::SIGTERM);
    bot.wait_delivered(1, SOON).unwrap();
    pihook.wait();
    let delivered = &bot.deliveries()[0];
    assert_eq!(
        delivered
            .header("connection")
            .map(str::to_ascii_lowercase)
            .as_deref(),
        Some("close"),
        "{delivered:?}"
    );
    assert!(
        !errors(&bot).contains(&"Broken pipe".to_owned()),
        "{:?}",
        errors(&bot)
    );
}
