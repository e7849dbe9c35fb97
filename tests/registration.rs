//! The webhook's registration: in the lesson's order, only when needed, and for as long as it
//! takes.

use std::time::{Duration, Instant};

use crate::common::peer;
use crate::common::{HOST, Home, Pihook, SOON, TOKEN, eventually, settings, start, telegram, text};
use nix::sys::signal::Signal;
use simulated_telegram::{Bot, Call, Fault, Telegram};
use ureq::unversioned::multipart::{Form, Part};

fn methods(bot: &Bot) -> Vec<String> {
    bot.calls().into_iter().map(|call| call.method).collect()
}

fn error(code: u16, description: &str, retry_after: Option<u64>) -> Fault {
    Fault::Error {
        code,
        description: description.into(),
        retry_after,
        migrate_to_chat_id: None,
    }
}

/// Has the first `count` calls of `method` go wrong.
fn fail(
    telegram: &Telegram,
    method: &'static str,
    count: usize,
    fault: impl Fn() -> Fault + Send + 'static,
) {
    let mut left = count;
    telegram.on_call(move |call: &Call| {
        let fails = call.method.eq_ignore_ascii_case(method) && left > 0;
        left -= usize::from(fails);
        fails.then(&fault)
    });
}

fn registered(pihook: &Pihook) -> String {
    pihook.wait_log("the webhook is registered")
}

#[test]
fn registration_deletes_the_old_webhook_and_uploads_the_certificate() {
    let (_telegram, bot, home, pihook) = start();
    registered(&pihook);
    assert_eq!(
        methods(&bot),
        ["getMe", "deleteWebhook", "setWebhook", "getWebhookInfo"]
    );
    let call = &bot.calls()[2];
    assert_eq!(call.text("url"), format!("https://{HOST}:8443/{TOKEN}/"));
    assert_eq!(call.text("max_connections"), "40");
    assert_eq!(
        call.text("allowed_updates"),
        r#"["message","callback_query","inline_query"]"#
    );
    assert_eq!(call.text("secret_token").len(), 64);
    let certificate = String::from_utf8(call.files["certificate"].clone()).unwrap();
    assert_eq!(
        certificate.replace("\r\n", "\n"),
        home.read("certs/webhook_cert.pem").replace("\r\n", "\n")
    );
    assert_eq!(bot.webhook_info()["has_custom_certificate"], true);
    assert_eq!(
        bot.webhook_info()["last_error_message"],
        serde_json::Value::Null
    );
}

#[test]
fn a_restart_does_not_set_the_webhook_again() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    let first = home.run_for(&telegram);
    registered(&first);
    assert!(first.stop().0.success());
    let second = home.run_for(&telegram);
    assert!(registered(&second).contains("unchanged"));
    assert_eq!(methods(&bot)[4..], ["getMe", "getWebhookInfo"]);
    bot.say(42, "still there");
    bot.wait_sent(1, SOON).unwrap();
    let note = home.read("state/webhook-110201543");
    assert!(!note.contains("AAHdq") && note.trim().len() == 64, "{note}");
}

#[test]
fn changed_settings_or_certificate_set_the_webhook_again() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    registered(&home.run_for(&telegram));
    let config = home.read("pihook.toml");
    home.write("pihook.toml", &format!("max_connections = 20\n{config}"));
    registered(&home.run_for(&telegram));
    assert_eq!(
        bot.wait_call("setWebhook", 2, SOON).unwrap()[1].text("max_connections"),
        "20"
    );
    assert!(home.pihook(&["cert", "--force"]).status.success());
    registered(&home.run_for(&telegram));
    bot.wait_call("setWebhook", 3, SOON).unwrap();
}

#[test]
fn changed_allowed_updates_are_set_at_the_next_start() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    let run = |kinds: &str| {
        let mut command = home.command(&["run"]);
        command.env("KINDS", kinds);
        let pihook = Pihook::start(command);
        telegram.route(HOST, 8443, pihook.address);
        registered(&pihook)
    };
    // Telegram lists them in an order of its own.
    let is_allowed = |kind: &str| {
        bot.webhook_info()["allowed_updates"]
            .as_array()
            .unwrap()
            .contains(&kind.into())
    };
    run("few");
    assert!(is_allowed("message") && !is_allowed("callback_query"));
    run("many");
    assert!(
        ["message", "callback_query", "inline_query"]
            .into_iter()
            .all(is_allowed)
    );
    assert!(run("many").contains("unchanged"));
}

#[test]
fn a_deleted_webhook_is_set_again_at_the_start() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    registered(&home.run_for(&telegram));
    assert!(home.pihook(&["webhook", "delete"]).status.success());
    assert_eq!(bot.webhook_info()["url"], "");
    registered(&home.run_for(&telegram));
    assert_eq!(
        bot.webhook_info()["url"],
        format!("https://{HOST}:8443/{TOKEN}/")
    );
}

#[test]
fn a_429_of_setwebhook_is_retried_after_its_retry_after() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    fail(&telegram, "setWebhook", 1, || {
        error(429, "Too Many Requests: retry after 2", Some(2))
    });
    let home = Home::new(&telegram.api_url());
    let pihook = home.run_for(&telegram);
    assert!(pihook.wait_log("retry after 2").contains("Next try in 2 s"));
    registered(&pihook);
    let calls = bot.wait_call("setWebhook", 2, SOON).unwrap();
    assert!((calls[1].at - calls[0].at).as_secs() >= 2);
}

#[test]
fn registration_is_retried_after_a_502_a_cut_connection_and_a_timeout() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let mut faults = vec![Fault::Hang, Fault::CutBefore, Fault::Html(502)];
    telegram.on_call(move |call| {
        if call.method.eq_ignore_ascii_case("setWebhook") {
            faults.pop()
        } else {
            None
        }
    });
    let home = Home::new(&telegram.api_url());
    let pihook = home.run_for(&telegram);
    pihook.wait_log("not from the Bot API (status 502). Next try in 1 s");
    // The cut line was a kept connection's, and so the call was made again at once.
    pihook.wait_log("no usable answer from the Bot API: timeout. Next try in 2 s");
    registered(&pihook);
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
}

#[test]
fn the_bot_serves_while_the_api_cannot_be_reached() {
    let (_socket, nobody) = peer::nobody();
    let home = Home::new(&format!("http://{nobody}"));
    let pihook = home.run();
    pihook.wait_logs(
        "the webhook is not registered: the Bot API cannot be reached",
        2,
    );
    let mut tls = crate::common::tls::Tls::connect(pihook.address);
    assert_eq!(tls.ask(b"GET / HTTP/1.1\r\n\r\n"), 404);
    assert!(pihook.stop().0.success());
}

#[test]
fn an_unknown_token_is_logged_as_an_error() {
    let telegram = telegram();
    let home = Home::new(&telegram.api_url());
    let pihook = home.run();
    let line = pihook.wait_log("Telegram does not accept this token");
    assert!(
        line.contains("[ERROR]") && line.contains("BotFather"),
        "{line}"
    );
    assert!(pihook.stop().0.success());
}

#[test]
fn a_new_certificate_is_uploaded_on_sighup() {
    let (_telegram, bot, home, pihook) = start();
    registered(&pihook);
    assert!(home.pihook(&["cert", "--force"]).status.success());
    pihook.signal(Signal::SIGHUP);
    let calls = bot.wait_call("setWebhook", 2, SOON).unwrap();
    assert_ne!(calls[0].files["certificate"], calls[1].files["certificate"]);
    bot.say(42, "with the new one");
    bot.wait_sent(1, SOON).unwrap();
}

#[test]
fn the_commands_of_webhook_show_set_and_delete_it() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    assert!(home.pihook(&["cert"]).status.success());
    let said = |arguments: &[&str]| {
        let output = home.pihook(arguments);
        assert!(output.status.success(), "{}", text(&output));
        assert!(!text(&output).contains("AAHdq"));
        text(&output)
    };
    assert!(said(&["webhook", "info"]).contains("the webhook is not set"));
    assert!(said(&["webhook", "set"]).contains("the webhook is set"));
    let info = said(&["webhook", "info"]);
    assert!(
        info.contains("the webhook matches the settings") && info.contains("waiting updates: 0"),
        "{info}"
    );
    assert!(said(&["webhook", "delete"]).contains("removed"));
    assert_eq!(bot.webhook_info()["url"], "");

    // It does not end well when Telegram says no.
    fail(&telegram, "setWebhook", 1, || {
        error(400, "Bad Request: bad webhook: whatever", None)
    });
    let output = home.pihook(&["webhook", "set"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("bad webhook: whatever"),
        "{}",
        text(&output)
    );
}

#[test]
fn webhook_info_prints_no_control_characters() {
    let telegram = telegram();
    telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    assert!(home.pihook(&["cert"]).status.success());
    let info = r#"{"ok":true,"result":{"url":"","has_custom_certificate":false,"pending_update_count":0,
        "ip_address":"1.2.3.4\u001b[2J\n","last_error_date":1,"last_error_message":"a\r\n\u001b]0;b\u0007\u009bc\u202e\u2066d\u2028"}}"#;
    telegram.on_call(move |_| Some(Fault::Body(200, info.into())));
    let said = text(&home.pihook(&["webhook", "info"]));
    assert!(
        said.contains("1.2.3.4 [2J \n") && said.contains("s ago: \"a   ]0;b  c  d \"\n"),
        "{said:?}"
    );
    assert!(
        !said.contains(['\u{202e}', '\u{2066}', '\u{2028}']),
        "{said:?}"
    );
    assert!(
        !said.chars().any(|c| c.is_control() && c != '\n'),
        "{said:?}"
    );
}

/// Another program sets the webhook at our URL, with our certificate; `form` has the rest.
fn set_by_another(telegram: &Telegram, home: &Home, more: &[(&str, &str)]) {
    set_at_by_another(
        telegram,
        home,
        &format!("https://{HOST}:8443/{TOKEN}/"),
        more,
    );
}

fn set_at_by_another(telegram: &Telegram, home: &Home, url: &str, more: &[(&str, &str)]) {
    let certificate = home.read("certs/webhook_cert.pem");
    let set = || {
        let form = Form::new().text("url", url);
        let form = more
            .iter()
            .fold(form, |form, (name, value)| form.text(name, value));
        let form = form.part(
            "certificate",
            Part::bytes(certificate.as_bytes()).file_name("cert.pem"),
        );
        ureq::post(format!("{}/bot{TOKEN}/setWebhook", telegram.api_url())).send(form)
    };
    // Telegram takes one set a second.
    eventually("another program has set the webhook", || set().is_ok());
}

/// Waits until the bot itself, as its settings are, has set the webhook so often.
fn wait_own_sets(bot: &Bot, count: usize) {
    // Some may have come too soon after another's.
    let is_own = |call: &Call| {
        call.method == "setWebhook"
            && call.text("max_connections") == "40"
            && call.answer.contains("\"ok\":true")
    };
    let own = || bot.calls().into_iter().filter(is_own).collect::<Vec<_>>();
    eventually("the bot has set its webhook", || own().len() >= count);
    let set = |call: &Call| ["allowed_updates", "secret_token"].map(|name| call.text(name));
    assert!(own().iter().all(|call| set(call) == set(&own()[0])));
    assert_eq!(own().len(), count);
}

/// A bot that looks often, and is registered.
fn watching() -> (Telegram, Bot, Home, Pihook) {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::with(
        &settings(&telegram.api_url(), "watch_interval = 2"),
        &format!("[[bot]]\ntoken = '{TOKEN}'\n"),
    );
    let pihook = home.run_for(&telegram);
    registered(&pihook);
    (telegram, bot, home, pihook)
}

#[test]
fn a_foreign_set_at_our_url_is_corrected_also_after_a_restart() {
    let other: [&[(&str, &str)]; 3] = [
        &[("allowed_updates", "[\"callback_query\"]")],
        &[
            ("max_connections", "7"),
            ("allowed_updates", "[\"message\"]"),
        ],
        &[("allowed_updates", "[]")],
    ];
    for more in other {
        let (telegram, bot, home, pihook) = watching();
        let secret = bot
            .calls()
            .iter()
            .find(|call| call.method == "setWebhook")
            .unwrap()
            .text("secret_token");
        let more = [more, &[("secret_token", secret.as_str())]].concat();
        set_by_another(&telegram, &home, &more);
        pihook.wait_log(
            "another program has set the webhook with different allowed_updates or max_connections",
        );
        wait_own_sets(&bot, 2);
        assert!(pihook.stop().0.success());
        set_by_another(&telegram, &home, &more);
        let pihook = home.run_for(&telegram);
        assert!(!registered(&pihook).contains("unchanged"), "{more:?}");
        wait_own_sets(&bot, 3);
        assert!(pihook.stop().0.success());
        // And once it is right, it is left alone.
        assert!(
            registered(&home.run_for(&telegram)).contains("unchanged"),
            "{more:?}"
        );
    }
}

#[test]
fn a_foreign_set_with_another_secret_is_corrected_after_wrong_requests() {
    for secret in [&[("secret_token", "somebody-elses")][..], &[]] {
        let (telegram, bot, home, pihook) = start();
        registered(&pihook);
        set_by_another(&telegram, &home, secret);
        bot.say(42, "hello");
        pihook.wait_log("another program has set the webhook with a different secret");
        assert_eq!(bot.wait_sent(1, SOON).unwrap()[0].text, "hello");
        wait_own_sets(&bot, 2);
        // One or two can be anybody's.
        let mut stranger = crate::common::tls::Tls::connect(pihook.address);
        let request = format!(
            "POST /{TOKEN}/ HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        assert_eq!(stranger.ask(request.as_bytes()), 403);
        bot.say(42, "still well");
        bot.wait_sent(2, SOON).unwrap();
        wait_own_sets(&bot, 2);
    }
}

#[test]
fn our_own_webhook_is_replaced_without_deletewebhook() {
    let (telegram, bot, home, pihook) = watching();
    let removals = || {
        bot.calls()
            .iter()
            .filter(|call| call.method == "deleteWebhook")
            .count()
    };
    assert_eq!(
        removals(),
        1,
        "at the first start whatever is there is another's"
    );
    // A gateway fails the set: Telegram keeps the webhook that it has, and goes on delivering.
    fail(&telegram, "setWebhook", 2, || Fault::Html(502));
    assert!(home.pihook(&["cert", "--force"]).status.success());
    pihook.signal(Signal::SIGHUP);
    pihook.wait_log("not from the Bot API (status 502)");
    bot.say(42, "meanwhile");
    bot.wait_sent(1, SOON).unwrap();
    bot.wait_call("setWebhook", 4, SOON).unwrap();
    assert!(home.pihook(&["webhook", "set"]).status.success());
    assert_eq!(removals(), 1);
    // Another's is removed.
    set_at_by_another(&telegram, &home, "https://80.100.95.99:8443/", &[]);
    pihook.wait_log("another program, or an earlier run of this bot, has set another webhook");
    bot.wait_call("deleteWebhook", 2, SOON).unwrap();
}

#[test]
fn a_token_that_is_refused_once_is_tried_again() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    fail(&telegram, "setWebhook", 1, || {
        error(401, "Unauthorized", None)
    });
    let home = Home::new(&telegram.api_url());
    let pihook = home.run_for(&telegram);
    pihook.wait_log("Telegram does not accept this token");
    registered(&pihook);
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
    assert_eq!(
        pihook
            .log()
            .iter()
            .filter(|line| line.contains("[ERROR]"))
            .count(),
        1
    );
}

#[test]
fn a_good_call_retries_a_refused_token_early() {
    let (telegram, bot, _home, pihook) = watching();
    fail(&telegram, "getWebhookInfo", 1, || {
        error(404, "Not Found", None)
    });
    pihook.wait_log("Telegram does not accept this token");
    let refused = Instant::now();
    let asked = bot.calls().len();
    bot.say(42, "the token is as good as ever");
    bot.wait_sent(1, SOON).unwrap();
    pihook.wait_logs("the webhook is registered", 2);
    assert!(
        refused.elapsed() < Duration::from_secs(8),
        "{:?}",
        refused.elapsed()
    );
    assert!(
        bot.calls()[asked..]
            .iter()
            .all(|call| call.method != "deleteWebhook")
    );
}

#[test]
fn webhook_set_waits_for_a_short_retry_after_and_fails_at_a_long_one() {
    let telegram = telegram();
    telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    assert!(home.pihook(&["cert"]).status.success());
    fail(&telegram, "setWebhook", 2, || {
        error(429, "Too Many Requests: retry after 1", Some(1))
    });
    let start = Instant::now();
    let output = home.pihook(&["webhook", "set"]);
    assert!(
        output.status.success() && start.elapsed() >= Duration::from_secs(2),
        "{}",
        text(&output)
    );
    fail(&telegram, "setWebhook", 1, || {
        error(429, "Too Many Requests: retry after 5000", Some(5000))
    });
    let output = home.pihook(&["webhook", "set"]);
    assert!(
        output.status.code() == Some(1) && text(&output).contains("retry after 5000"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_certificate_change_with_failed_sets_causes_no_tls_error() {
    for _ in 0..4 {
        let (telegram, bot, home, pihook) = watching();
        fail(&telegram, "setWebhook", 2, || Fault::Html(502));
        assert!(home.pihook(&["cert", "--force"]).status.success());
        pihook.signal(Signal::SIGHUP);
        // Telegram has the old certificate still, and new connections find that one.
        pihook.wait_log("not from the Bot API (status 502)");
        telegram.route(HOST, 8443, pihook.address);
        bot.say(42, "by the old certificate");
        bot.wait_sent(1, SOON).unwrap();
        pihook.wait_logs("the webhook is registered", 2);
        bot.say(42, "by the new one");
        bot.wait_sent(2, SOON).unwrap();
        assert_eq!(
            bot.webhook_info()["last_error_message"],
            serde_json::Value::Null
        );
    }
}
