//! What becomes of a reply when the Bot API answers with an error, or not at all. The whole table
//! is in `src/updates/retry.rs`.

use std::time::Duration;

use crate::common::{SOON, start};
use simulated_telegram::{Call, Fault, Telegram};

/// Has sendMessage fail with these faults, one after the other.
fn fail(telegram: &Telegram, faults: impl IntoIterator<Item = Fault>) {
    let mut faults: Vec<_> = faults.into_iter().collect();
    faults.reverse();
    telegram.on_call(move |call| if is_reply(call) { faults.pop() } else { None });
}

fn is_reply(call: &Call) -> bool {
    call.method.eq_ignore_ascii_case("sendMessage")
}

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

#[test]
fn a_429_up_to_5_s_is_waited_out() {
    let (telegram, bot, _home, _pihook) = start();
    fail(&telegram, [flood(1), flood(1)]);
    bot.say(42, "hello");
    let delivered = bot.wait_delivered(1, SOON).unwrap();
    assert_eq!((bot.deliveries().len(), bot.sent().len()), (1, 1));
    assert!(delivered[0].ended.unwrap() - delivered[0].started >= Duration::from_secs(2));
}

#[test]
fn a_429_above_5_s_is_deferred_with_its_retry_after() {
    let (telegram, bot, _home, _pihook) = start();
    fail(&telegram, [flood(17)]);
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
    let deliveries = bot.deliveries();
    assert_eq!(
        (deliveries[0].status, deliveries[0].header("retry-after")),
        (Some(503), Some("17"))
    );
}

#[test]
fn a_group_that_became_a_supergroup_gets_its_reply() {
    let (telegram, bot, _home, _pihook) = start();
    bot.say(-100_123, "the new group is there");
    bot.wait_delivered(1, SOON).unwrap();
    let moved = Fault::Error {
        code: 400,
        description: "Bad Request: group chat was upgraded to a supergroup chat".into(),
        retry_after: None,
        migrate_to_chat_id: Some(-100_123),
    };
    fail(&telegram, [moved]);
    bot.say(-5, "hello");
    let sent = bot.wait_sent(2, SOON).unwrap();
    assert_eq!(
        (sent[1].chat, sent[1].text.as_str(), sent[1].reply_to),
        (-100_123, "hello", None)
    );
    bot.wait_delivered(2, SOON).unwrap();
    assert_eq!(bot.deliveries().len(), 2);
}

#[test]
fn a_permanent_4xx_is_logged_and_the_call_dropped() {
    let (telegram, bot, _home, pihook) = start();
    fail(
        &telegram,
        [
            refusal(400, "Bad Request: message is too long"),
            refusal(403, "Forbidden: bot was kicked"),
        ],
    );
    bot.say(1, "one");
    bot.wait_delivered(1, SOON).unwrap();
    bot.say(2, "two");
    bot.wait_delivered(2, SOON).unwrap();
    assert_eq!((bot.sent().len(), bot.deliveries().len()), (0, 2));
    pihook.wait_log("message is too long");
    pihook.wait_log("bot was kicked");
    fail(
        &telegram,
        [
            refusal(409, "Conflict: for now"),
            refusal(413, "Request Entity Too Large"),
        ],
    );
    bot.say(3, "three");
    bot.wait_delivered(3, SOON).unwrap();
    assert_eq!(
        (bot.sent().len(), bot.deliveries().len()),
        (0, 4),
        "the conflict was tried again"
    );
    pihook.wait_log("Request Entity Too Large");
}

#[test]
fn a_refused_token_is_an_error_and_loses_no_update() {
    let (telegram, bot, _home, pihook) = start();
    fail(
        &telegram,
        [refusal(401, "Unauthorized"), refusal(404, "Not Found")],
    );
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
    let deliveries = bot.wait_deliveries(3, SOON).unwrap();
    assert_eq!(
        (deliveries[0].status, deliveries[0].header("retry-after")),
        (Some(503), Some("60"))
    );
    let line = pihook.wait_log("Telegram does not accept this token");
    assert!(line.contains("[ERROR]"), "{line}");
}

#[test]
fn a_stale_connection_costs_one_retry_and_no_delivery() {
    let (telegram, bot, _home, _pihook) = start();
    bot.say(42, "this opens the connection");
    bot.wait_delivered(1, SOON).unwrap();
    fail(&telegram, [Fault::CutBefore]);
    bot.say(42, "and this finds it dead");
    let sent = bot.wait_sent(2, SOON).unwrap();
    assert_eq!(sent[1].text, "and this finds it dead");
    bot.wait_delivered(2, SOON).unwrap();
    assert_eq!(bot.deliveries().len(), 2);
}

#[test]
fn an_answer_cut_off_after_its_status_counts_as_sent() {
    let (telegram, bot, _home, _pihook) = start();
    // The head is some hundred bytes long, the body longer.
    fail(&telegram, [Fault::CutInside(200)]);
    bot.say(42, "hello");
    bot.wait_delivered(1, SOON).unwrap();
    assert_eq!((bot.sent().len(), bot.deliveries().len()), (1, 1));
}

#[test]
fn bad_gateways_garbage_and_cut_connections_lose_no_reply() {
    let (telegram, bot, _home, _pihook) = start();
    fail(
        &telegram,
        [
            Fault::Html(502),
            refusal(500, "Internal Server Error"),
            Fault::Body(200, "{".into()),
            Fault::Body(504, String::new()),
            Fault::CutBefore,
            Fault::CutBefore,
        ],
    );
    bot.say(42, "hello");
    let sent = bot.wait_sent(1, SOON).unwrap();
    assert_eq!(sent[0].text, "hello");
    bot.wait_delivered(1, SOON).unwrap();
    for delivery in bot
        .deliveries()
        .iter()
        .filter(|delivery| delivery.status == Some(503))
    {
        assert_eq!(delivery.header("retry-after"), Some("5"));
    }
}

#[test]
fn an_answer_that_is_not_from_the_bot_api_does_not_count_as_sent() {
    let (telegram, bot, _home, pihook) = start();
    let page = "x".repeat(300 * 1024);
    let head = |more: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{more}\r\n\r\n");
    let faults = [
        // The page of a captive portal: whole, cut off, and with wrong chunks.
        format!(
            "{}<html>{page}</html>",
            head(&format!("Content-Length: {}", page.len() + 13))
        ),
        format!("{}<html>", head("Content-Length: 5000")),
        format!("{}{{\"ok\"", head("Content-Length: 5000")),
        format!(
            "{}zz\r\n{{\"ok\":true}}\r\n",
            head("Transfer-Encoding: chunked")
        ),
        format!("{}<html>", head("Connection: close")),
        head("Content-Length: 0"),
        head("Content-Encoding: gzip\r\nContent-Length: 0"),
    ];
    let count = faults.len();
    fail(&telegram, faults.map(Fault::Raw));
    bot.say(42, "hello");
    assert_eq!(bot.wait_sent(1, SOON).unwrap()[0].text, "hello");
    bot.wait_delivered(1, SOON).unwrap();
    assert_eq!(
        (bot.sent().len(), bot.deliveries().len()),
        (1, count + 1),
        "{:#?}",
        pihook.log()
    );
}
