//! What the Bot API answers.

mod common;

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use common::{HOST, SOON, TOKEN, call, post, upload};
use serde_json::{Value, json};
use simulated_telegram::{Bot, Fault, Options, Telegram};

fn start() -> Telegram {
    // So fast that setWebhook may be called as often as one likes.
    let telegram = Telegram::start(Options {
        speed: 1e6,
        ..Options::default()
    })
    .unwrap();
    telegram.bot(TOKEN);
    telegram
}

fn error(telegram: &Telegram, method: &str, params: Value) -> String {
    let (code, body) = call(telegram, method, &params);
    assert_eq!(body["ok"], code == 200, "{body}");
    if code != 200 {
        assert_eq!(body["error_code"], code);
    }
    format!(
        "{code} {}",
        body["description"].as_str().unwrap_or_default()
    )
}

#[test]
fn set_webhook_refuses_in_telegrams_words() {
    let telegram = start();
    let long = "x".repeat(257);
    let table = [
        (
            json!({"url": "https://a:0/"}),
            "invalid webhook URL specified",
        ),
        (
            json!({"url": "https://a/", "secret_token": long}),
            "secret token is too long",
        ),
        (
            json!({"url": "https://a/", "secret_token": "a b"}),
            "secret token contains unallowed characters",
        ),
        (
            json!({"url": "http://a:1/"}),
            "bad webhook: An HTTPS URL must be provided for webhook",
        ),
        (
            json!({"url": "https://a:444/"}),
            "bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443",
        ),
        (
            json!({"url": "https://a/", "ip_address": "x"}),
            "bad webhook: Invalid IP address specified",
        ),
        (
            json!({"url": "https://192.168.0.5/"}),
            "bad webhook: IP address 192.168.0.5 is reserved",
        ),
        (
            json!({"url": "https://localhost/"}),
            "bad webhook: IP address 127.0.0.1 is reserved",
        ),
        (
            json!({"url": "https://a/", "ip_address": "10.0.0.1"}),
            "bad webhook: IP address 10.0.0.1 is reserved",
        ),
        (
            json!({"url": "https://[2001:db8::1]/"}),
            "bad webhook: IPv6-only addresses are not allowed",
        ),
        (
            json!({"url": "https://a.invalid/"}),
            "bad webhook: Failed to resolve host: Name or service not known",
        ),
    ];
    for (params, expected) in table {
        assert_eq!(
            error(&telegram, "setWebhook", params),
            format!("400 Bad Request: {expected}")
        );
    }
}

#[test]
fn set_webhook_refuses_a_certificate_that_openssl_cannot_load() {
    let telegram = start();
    let url = format!("https://{HOST}/");
    let answer = upload(&telegram, &[("url", &url)], "junk");
    assert_eq!(
        answer["description"],
        "Bad Request: bad webhook: Failed to set custom certificate file{error:05800088:x509 certificate routines::no certificate or crl found}"
    );
    let answer = upload(&telegram, &[("url", &url)], &"x".repeat(3145729));
    assert_eq!(
        answer["description"],
        "Bad Request: certificate size is too big (3145729 bytes)"
    );
}

#[test]
fn a_webhook_is_set_kept_and_deleted() {
    let telegram = start();
    let bot = telegram.bot(TOKEN);
    let params = json!({"url": format!("https://{HOST}/"), "allowed_updates": ["message", "nonsense"], "certificate": "ignored", "max_connections": 1000});
    assert_eq!(
        error(&telegram, "setWebhook", params.clone()),
        "200 Webhook was set"
    );
    assert_eq!(
        error(&telegram, "setWebhook", params),
        "200 Webhook is already set"
    );
    assert_eq!(
        bot.webhook_info(),
        json!({"url": format!("https://{HOST}/"), "has_custom_certificate": false, "pending_update_count": 0,
               "max_connections": 100, "ip_address": HOST, "allowed_updates": ["message"]})
    );
    assert_eq!(bot.update("callback_query", 1, json!({})), 0, "not allowed");
    assert_eq!(
        error(&telegram, "getUpdates", json!({})),
        "409 Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
    );
    bot.say(7, "x");
    assert_eq!(
        error(
            &telegram,
            "setWebhook",
            json!({"url": "x y", "drop_pending_updates": true})
        ),
        "400 Bad Request: invalid webhook URL specified"
    );
    assert_eq!(
        bot.webhook_info(),
        json!({"url": "", "has_custom_certificate": false, "pending_update_count": 0, "allowed_updates": ["message"]})
    );
    assert_eq!(
        error(&telegram, "deleteWebhook", json!({})),
        "200 Webhook is already deleted"
    );
    assert_eq!(
        error(&telegram, "setWebhook", json!({"url": "a"})),
        "200 Webhook was set"
    );
    assert_eq!(
        error(&telegram, "setWebhook", json!({})),
        "200 Webhook was deleted"
    );
}

#[test]
fn set_webhook_may_be_called_once_a_second() {
    let telegram = Telegram::start(Options::default()).unwrap();
    telegram.bot(TOKEN);
    let params = json!({"url": "https://a/"});
    assert_eq!(
        error(&telegram, "setWebhook", params.clone()),
        "200 Webhook was set"
    );
    let (code, body) = call(&telegram, "setWebhook", &params);
    assert_eq!((code, &body["parameters"]["retry_after"]), (429, &json!(1)));
    assert_eq!(body["description"], "Too Many Requests: retry after 1");
    assert_eq!(
        error(&telegram, "deleteWebhook", json!({})),
        "200 Webhook was deleted"
    );
}

#[test]
fn what_a_refused_set_webhook_has_changed_stays() {
    let telegram = start();
    let bot = telegram.bot(TOKEN);
    let set = |params: Value| error(&telegram, "setWebhook", params);
    // Refused before the list is looked at, and after it.
    set(json!({"url": "https://a/", "secret_token": "a b", "allowed_updates": ["poll"]}));
    assert_eq!(bot.webhook_info().get("allowed_updates"), None);
    set(json!({"url": "https://a:444/", "allowed_updates": ["Poll", "MESSAGE", "nonsense"]}));
    assert_eq!(
        bot.webhook_info()["allowed_updates"],
        json!(["message", "poll"]),
        "in Telegram's order"
    );
    set(json!({"url": "https://a/", "allowed_updates": ["message", 1]}));
    assert_eq!(
        bot.webhook_info()["allowed_updates"],
        json!(["message", "poll"])
    );
    set(json!({"url": "https://a/", "allowed_updates": []}));
    assert_eq!(bot.webhook_info().get("allowed_updates"), None);
}

#[test]
fn numbers_are_the_digits_that_begin_them() {
    let telegram = start();
    let bot = telegram.bot(TOKEN);
    for (given, expected) in [
        (json!("junk"), 1),
        (json!("7 of them"), 7),
        (json!(7.9), 7),
        (json!("+7"), 1),
        (json!(-3), 1),
        (json!("4294967303"), 7),
        (json!(""), 40),
    ] {
        error(
            &telegram,
            "setWebhook",
            json!({"url": "https://a/", "max_connections": given}),
        );
        assert_eq!(bot.webhook_info()["max_connections"], expected, "{given}");
    }
}

#[test]
fn a_name_has_an_address_when_its_webhook_is_set() {
    let telegram = start();
    let bot = telegram.bot(TOKEN);
    error(
        &telegram,
        "setWebhook",
        json!({"url": "https://some.example.org/"}),
    );
    assert!(
        bot.webhook_info()["ip_address"]
            .as_str()
            .unwrap()
            .parse::<std::net::Ipv4Addr>()
            .is_ok()
    );
    telegram.resolve("Bot.example.org", HOST.parse().unwrap());
    error(
        &telegram,
        "setWebhook",
        json!({"url": "https://bot.Example.org/"}),
    );
    assert_eq!(bot.webhook_info()["ip_address"], HOST);
    telegram.resolve("bot.example.org", "192.168.1.1".parse().unwrap());
    assert_eq!(
        error(
            &telegram,
            "setWebhook",
            json!({"url": "https://bot.example.org/", "max_connections": 2})
        ),
        "400 Bad Request: bad webhook: IP address 192.168.1.1 is reserved"
    );
}

/// The texts of one page of getUpdates.
fn page(telegram: &Telegram, params: Value) -> Vec<String> {
    let (code, body) = call(telegram, "getUpdates", &params);
    assert_eq!(code, 200, "{body}");
    let texts = body["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|update| update["message"]["text"].as_str().unwrap().to_owned());
    texts.collect()
}

#[test]
fn updates_come_in_pages_and_an_offset_confirms_what_is_before_it() {
    // Not so fast that an update would expire.
    let telegram = Telegram::start(Options {
        speed: 100.0,
        ..Options::default()
    })
    .unwrap();
    let bot = telegram.bot(TOKEN);
    let first = bot.say(7, "0").update_id;
    for number in 1..150 {
        bot.say(7 + number % 3, &number.to_string());
    }
    assert_eq!(page(&telegram, json!({})).len(), 100);
    assert_eq!(
        page(&telegram, json!({"limit": 1000, "offset": first + 1})).len(),
        100
    );
    assert_eq!(bot.pending(), 149);
    assert_eq!(
        page(&telegram, json!({"limit": 0})),
        ["1"],
        "no less than one"
    );
    assert_eq!(
        page(&telegram, json!({"limit": "2", "offset": first + 100})),
        ["100", "101"]
    );
    assert_eq!(page(&telegram, json!({"offset": -2})), ["148", "149"]);
    assert_eq!(bot.pending(), 2);
    let tail = first + 150;
    assert_eq!(
        page(&telegram, json!({"offset": tail + 11})),
        ["148", "149"],
        "too far in the future to be an id"
    );
    assert_eq!(
        page(&telegram, json!({"offset": tail, "timeout": 1})),
        [""; 0]
    );
    assert_eq!(bot.pending(), 0);
    for _ in 0..10 {
        bot.say(7, &"x".repeat(500_000));
    }
    assert_eq!(
        page(&telegram, json!({})).len(),
        8,
        "no more than four megabytes"
    );
}

#[test]
fn the_same_again_has_to_wait() {
    let telegram = Telegram::start(Options {
        speed: 10.0,
        ..Options::default()
    })
    .unwrap();
    let bot = telegram.bot(TOKEN);
    let timed = |params: Value| {
        let start = Instant::now();
        let length = page(&telegram, params).len();
        (length, start.elapsed().as_secs_f64() * 10.0)
    };
    assert!(timed(json!({"offset": 1})).1 < 2.0);
    let (length, seconds) = timed(json!({"offset": 1}));
    assert!(length == 0 && seconds >= 3.0, "{seconds}");
    bot.say(7, "x");
    bot.say(7, "y");
    assert_eq!(timed(json!({})).0, 2);
    assert_eq!(timed(json!({})).0, 1, "only one within half a second");
    thread::sleep(Duration::from_millis(60));
    assert_eq!(timed(json!({})).0, 2);
}

#[test]
fn a_long_poll_holds_until_there_is_something() {
    let telegram = Telegram::start(Options {
        speed: 10.0,
        ..Options::default()
    })
    .unwrap();
    let bot = telegram.bot(TOKEN);
    let start = Instant::now();
    assert_eq!(page(&telegram, json!({"offset": 1, "timeout": 5})), [""; 0]);
    assert!(start.elapsed() >= Duration::from_millis(500));
    thread::scope(|scope| {
        let poll = scope.spawn(|| page(&telegram, json!({"timeout": 50, "offset": -1})));
        bot.wait_call("getUpdates", 2, SOON).unwrap();
        bot.say(7, "x");
        assert_eq!(poll.join().unwrap(), ["x"]);
        bot.say(7, "y");
        assert_eq!(
            page(&telegram, json!({"timeout": 50, "offset": 0})),
            ["x", "y"]
        );
    });
}

#[test]
fn conflicts_end_long_polls_and_the_second_one_is_held_back() {
    let telegram = Telegram::start(Options {
        speed: 10.0,
        ..Options::default()
    })
    .unwrap();
    let bot = telegram.bot(TOKEN);
    let poll = |offset: i64| {
        let answer = error(
            &telegram,
            "getUpdates",
            json!({"offset": offset, "timeout": 50}),
        );
        (answer, Instant::now())
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| poll(1));
        bot.wait_call("getUpdates", 1, SOON).unwrap();
        let second = scope.spawn(|| poll(2));
        let (answer, at) = first.join().unwrap();
        assert_eq!(
            answer,
            "409 Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
        );
        let set = json!({"url": format!("https://{HOST}/")});
        assert_eq!(error(&telegram, "setWebhook", set), "200 Webhook was set");
        let (answer, later) = second.join().unwrap();
        assert_eq!(answer, "409 Conflict: terminated by setWebhook request");
        assert!(later - at >= Duration::from_millis(290), "{:?}", later - at);
    });
    let start = Instant::now();
    let active = "409 Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first";
    assert_eq!(poll(1).0, active);
    assert_eq!(poll(1).0, active);
    assert!(start.elapsed() >= Duration::from_millis(290));
}

#[test]
fn messages_are_sent_or_refused() {
    let telegram = start();
    let bot = telegram.bot(TOKEN);
    let said = bot.message(-5, json!({"text": "x", "message_thread_id": 3}));
    let send = |params| error(&telegram, "sendMessage", params);
    assert_eq!(
        send(json!({"chat_id": -5})),
        "400 Bad Request: message text is empty"
    );
    assert_eq!(
        send(json!({"text": "x"})),
        "400 Bad Request: chat_id is empty"
    );
    assert_eq!(
        send(json!({"chat_id": 9, "text": "x"})),
        "400 Bad Request: chat not found"
    );
    assert_eq!(
        send(json!({"chat_id": -5, "text": " \n"})),
        "400 Bad Request: text must be non-empty"
    );
    assert_eq!(
        send(json!({"chat_id": -5, "text": "é".repeat(4097)})),
        "400 Bad Request: message is too long"
    );
    assert_eq!(
        send(json!({"chat_id": -5, "text": "é".repeat(16385)})),
        "400 Bad Request: text is too long"
    );
    assert_eq!(
        send(json!({"chat_id": -5, "text": "x", "message_thread_id": 4})),
        "400 Bad Request: message thread not found"
    );
    let reply = |id: i64, lax: bool| json!({"chat_id": -5, "text": " 😀 ", "reply_parameters": {"message_id": id, "allow_sending_without_reply": lax}});
    assert_eq!(
        send(reply(99, false)),
        "400 Bad Request: message to be replied not found"
    );
    assert_eq!(send(reply(99, true)), "200 ");
    assert_eq!(send(reply(said.message_id, false)), "200 ");
    let entities = json!([{"type": "bold", "offset": 0, "length": 1}]);
    let (_, body) = call(
        &telegram,
        "sendMessage",
        &json!({"chat_id": "-5", "text": "x", "message_thread_id": 3, "entities": entities}),
    );
    assert_eq!(body["result"]["message_id"], 4);
    let sent = bot.sent();
    assert_eq!(
        (sent[0].text.as_str(), sent[0].reply_to, sent[1].reply_to),
        (" 😀 ", None, Some(1))
    );
    assert_eq!(
        (sent[2].thread, sent[2].entities.clone()),
        (Some(3), Some(entities))
    );
    assert_eq!(bot.calls().len(), 11);
}

const OLD_QUERY: &str =
    "400 Bad Request: query is too old and response timeout expired or query ID is invalid";

/// A chat with a user's message, and behind it one of the bot with these buttons.
fn with_buttons() -> (Telegram, Bot, Value) {
    let telegram = Telegram::start(Options::default()).unwrap();
    let bot = telegram.bot(TOKEN);
    bot.say(7, "/start");
    let buttons = json!({"inline_keyboard": [[{"text": "Yes", "callback_data": "yes"}]]});
    let question = json!({"chat_id": 7, "text": "Well?", "reply_markup": buttons});
    assert_eq!(error(&telegram, "sendMessage", question), "200 ");
    (telegram, bot, buttons)
}

#[test]
fn a_button_can_be_pressed_and_answered() {
    let (telegram, bot, buttons) = with_buttons();
    let pressed = bot.press(7, 8, "yes");
    let (_, body) = call(
        &telegram,
        "getUpdates",
        &json!({"offset": pressed.update_id}),
    );
    let query = &body["result"][0]["callback_query"];
    assert_eq!(query["id"], pressed.query);
    assert_eq!(
        (&query["from"]["id"], &query["data"]),
        (&json!(8), &json!("yes"))
    );
    assert_eq!(
        (
            &query["message"]["message_id"],
            &query["message"]["reply_markup"]
        ),
        (&json!(2), &buttons)
    );
    let answer = json!({"callback_query_id": "1"});
    assert_eq!(error(&telegram, "answerCallbackQuery", answer), OLD_QUERY);
}

#[test]
fn a_message_can_be_edited_copied_and_deleted() {
    let (telegram, bot, buttons) = with_buttons();
    let edit = |id: i64, text: &str| {
        error(
            &telegram,
            "editMessageText",
            json!({"chat_id": 7, "message_id": id, "text": text}),
        )
    };
    assert_eq!(edit(2, "Yes."), "200 ");
    assert!(edit(2, "Yes.").starts_with("400 Bad Request: message is not modified: specified new"));
    assert_eq!(edit(1, "Yes."), "400 Bad Request: message can't be edited");
    assert_eq!(
        edit(3, "Yes."),
        "400 Bad Request: message to edit not found"
    );
    assert_eq!(
        (bot.sent()[0].text.as_str(), &bot.sent()[0].reply_markup),
        ("Yes.", &None)
    );
    let other = json!({"chat_id": 7, "message_id": 2, "reply_markup": buttons});
    assert_eq!(error(&telegram, "editMessageReplyMarkup", other), "200 ");
    let copy = |id: i64| {
        error(
            &telegram,
            "copyMessage",
            json!({"chat_id": 7, "from_chat_id": 7, "message_id": id}),
        )
    };
    assert_eq!(copy(1), "200 ");
    assert_eq!(copy(9), "400 Bad Request: message to copy not found");
    assert_eq!(
        (bot.sent()[1].text.as_str(), bot.sent()[1].message_id),
        ("/start", 3)
    );
    assert_eq!(
        error(
            &telegram,
            "deleteMessage",
            json!({"chat_id": 7, "message_id": 3})
        ),
        "200 "
    );
    assert_eq!(edit(3, "x"), "400 Bad Request: message to edit not found");
    assert_eq!(
        error(
            &telegram,
            "sendChatAction",
            json!({"chat_id": 7, "action": "typing"})
        ),
        "200 "
    );
}

#[test]
fn a_query_is_too_old_after_150_s() {
    // A thousand times as fast, 150 s are 150 ms.
    let fast = Telegram::start(Options {
        speed: 1000.0,
        ..Options::default()
    })
    .unwrap();
    let query = fast.bot(TOKEN).press(7, 7, "x").query;
    let late = json!({"callback_query_id": query});
    assert_eq!(error(&fast, "answerCallbackQuery", late.clone()), "200 ");
    thread::sleep(Duration::from_millis(160));
    assert_eq!(error(&fast, "answerCallbackQuery", late), OLD_QUERY);
}

#[test]
fn strangers_and_nonsense_are_refused() {
    let telegram = start();
    let status = |path: &str| post(&telegram, path, "", b"")[9..12].to_owned();
    assert_eq!(status("/bot43:AA/getMe"), "401");
    assert_eq!(status("/bot0:AA/getMe"), "401");
    assert_eq!(status("/index.html"), "404");
    assert_eq!(status(&format!("/bot{TOKEN}/nothing")), "404");
    assert_eq!(status(&format!("/bot{TOKEN}/GETME")), "200");
    let big = vec![b'x'; 1024 * 1024 + 1];
    assert_eq!(
        &post(
            &telegram,
            &format!("/bot{TOKEN}/getMe"),
            "application/json",
            &big
        )[9..12],
        "413"
    );
}

#[test]
fn calls_can_be_made_to_fail() {
    let telegram = start();
    let bot = telegram.bot(TOKEN);
    bot.say(7, "x");
    let path = format!("/bot{TOKEN}/sendMessage?chat_id=7&text=x");
    let with = |fault: Fault| {
        telegram.on_call(move |call| (call.text("text") == "x").then(|| fault.clone()));
        let answer = post(&telegram, &path, "", b"");
        (answer, bot.sent().len())
    };
    let flood = Fault::Error {
        code: 429,
        description: "Too Many Requests: retry after 5".into(),
        retry_after: Some(5),
        migrate_to_chat_id: None,
    };
    let (answer, _) = with(flood);
    assert!(
        answer.contains("Retry-After: 5\r\n")
            && answer.ends_with("\"parameters\":{\"retry_after\":5}}"),
        "{answer}"
    );
    assert!(
        with(Fault::Html(502))
            .0
            .contains("<h1>502 Bad Gateway</h1>")
    );
    assert_eq!(
        with(Fault::Body(200, "[".into())).0.chars().last(),
        Some('[')
    );
    assert_eq!(with(Fault::CutBefore), (String::new(), 0));
    assert_eq!(with(Fault::CutAfter), (String::new(), 1));
    assert_eq!(with(Fault::CutInside(8)), ("HTTP/1.1".into(), 2));
    assert_eq!(with(Fault::Stall(Duration::from_millis(1))).1, 3);
    telegram.on_call(|_| Some(Fault::Hang));
    let mut stream =
        std::net::TcpStream::connect(telegram.api_url().strip_prefix("http://").unwrap()).unwrap();
    std::io::Write::write_all(
        &mut stream,
        format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes(),
    )
    .unwrap();
    bot.wait_call("sendmessage", 8, SOON).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert!(stream.read(&mut [0]).is_err());
}

#[test]
fn a_call_tells_what_became_of_it() {
    let telegram = start();
    let bot = telegram.bot(TOKEN);
    bot.say(7, "x");
    let head = "HTTP/1.1 200 OK\r\n";
    for (fault, is_carried_out, answer, is_heard) in [
        (None, true, head, true),
        (
            Some(Fault::Stall(Duration::from_millis(1))),
            true,
            head,
            true,
        ),
        (Some(Fault::CutInside(200)), true, head, true),
        (Some(Fault::CutInside(17)), true, head, false),
        (Some(Fault::CutAfter), true, "", false),
        (Some(Fault::CutBefore), false, "", false),
        (
            Some(Fault::Html(502)),
            false,
            "HTTP/1.1 502 Bad Gateway\r\n",
            false,
        ),
    ] {
        let wanted = fault.clone();
        telegram.on_call(move |_| wanted.clone());
        post(
            &telegram,
            &format!("/bot{TOKEN}/sendMessage?chat_id=7&text=x"),
            "",
            b"",
        );
        let call = bot.calls().pop().unwrap();
        assert_eq!(format!("{:?}", call.fault), format!("{fault:?}"));
        assert_eq!(call.carried_out.is_some(), is_carried_out, "{fault:?}");
        assert!(
            call.answer.starts_with(answer),
            "{fault:?}: {}",
            call.answer
        );
        assert_eq!(call.is_heard(), is_heard, "{fault:?}");
        assert!(call.answered.unwrap() >= call.carried_out.unwrap_or(call.at));
    }
    assert_eq!(bot.sent().len(), 5);
}

#[test]
fn a_request_can_be_cut() {
    let telegram = start();
    let bot = telegram.bot(TOKEN);
    let request = format!("GET /bot{TOKEN}/getMe HTTP/1.1\r\nConnection: close\r\n\r\n");
    let length = request.len();
    let mut limits = vec![Some(length - 1), Some(0), Some(length), None];
    telegram.on_request(move || limits.pop().unwrap_or(None));
    let ask = || {
        let mut stream =
            std::net::TcpStream::connect(telegram.api_url().strip_prefix("http://").unwrap())
                .unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // What is closed already may say so.
        let _ = std::io::Write::write_all(&mut stream, request.as_bytes());
        stream.read(&mut [0; 1024]).unwrap_or(0) > 0
    };
    assert!(ask());
    assert_eq!(bot.calls().len(), 1);
    assert!(ask(), "a limit of its whole length does nothing");
    assert!(!ask());
    assert!(!ask());
    assert_eq!(bot.calls().len(), 2);
}

#[test]
fn the_api_can_be_served_over_tls() {
    let identity = common::self_signed(common::params(Some("localhost")));
    let options = Options {
        api_tls: Some((identity.chain.clone(), identity.key)),
        ..Options::default()
    };
    let telegram = Telegram::start(options).unwrap();
    telegram.bot(TOKEN);
    let port = telegram
        .api_url()
        .strip_prefix("https://localhost:")
        .unwrap()
        .parse()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    use simulated_telegram::client::{Connection, Target, Trust};
    let target = Target::new(&format!("https://localhost:{port}/bot{TOKEN}/getMe"), None).unwrap();
    let trust = Trust::uploaded(identity.chain.as_bytes()).unwrap();
    let response = runtime.block_on(async {
        let to = ([127, 0, 0, 1], port).into();
        let mut connection = Connection::open(to, [127, 0, 0, 1].into(), &target.host, &trust)
            .await
            .unwrap();
        connection.post(&target, b"{}").await.unwrap();
        connection.post(&target, b"{}").await.unwrap()
    });
    assert_eq!(
        serde_json::from_slice::<Value>(&response.body).unwrap()["result"]["id"],
        42
    );
}
