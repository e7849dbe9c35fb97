//! The health of the registered webhook: the bot repairs what it can, and explains the other errors.

use std::time::Instant;

use crate::common::{HOST, Home, Pihook, SOON, TOKEN, eventually, settings, telegram, text};
use pihook::telegram::delivery_error;
use simulated_telegram::{Bot, Fault, Telegram};

const CERTIFICATE: &str = "SSL error {error:0A000086:SSL routines::certificate verify failed}";

/// A bot that checks its webhook every second.
fn watchful() -> (Telegram, Bot, Home, Pihook) {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::with(
        &settings(&telegram.api_url(), "watch_interval = 1"),
        &format!("[[bot]]\ntoken = '{TOKEN}'\n"),
    );
    let pihook = home.run_for(&telegram);
    pihook.wait_log("the webhook is registered");
    (telegram, bot, home, pihook)
}

fn sets(bot: &Bot) -> usize {
    bot.calls()
        .iter()
        .filter(|call| call.method.eq_ignore_ascii_case("setWebhook"))
        .count()
}

#[test]
fn a_webhook_that_was_removed_is_set_again() {
    let (_telegram, bot, home, pihook) = watchful();
    assert!(home.pihook(&["webhook", "delete"]).status.success());
    pihook.wait_log("the webhook was removed. pihook sets the webhook again");
    bot.wait_call("setWebhook", 2, SOON).unwrap();
    bot.say(42, "still there");
    bot.wait_sent(1, SOON).unwrap();
}

#[test]
fn two_programs_with_one_token_set_the_webhook_more_and_more_rarely() {
    let start = Instant::now();
    let (telegram, bot, home, pihook) = watchful();
    // The other program is in another home, with the same token.
    let settings =
        settings(&telegram.api_url(), "watch_interval = 1").replace(HOST, "80.100.95.99");
    let elsewhere = Home::with(&settings, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    let other = elsewhere.run();
    telegram.route("80.100.95.99", 8443, other.address);
    let line = pihook
        .wait_log("again; only one program can use a token: stop the other program, or give it a token of its own");
    assert!(
        line.contains("another program") && line.contains("sets the webhook again later"),
        "{line}"
    );
    // While they wait for each other, one of them has the webhook, and echoes.
    bot.say(42, "whoever you are");
    bot.wait_sent(1, SOON).unwrap();
    // Between the two answers, it can change hands.
    eventually("one of them says that the other has it", || {
        let said = text(&elsewhere.pihook(&["webhook", "info"]))
            + &text(&home.pihook(&["webhook", "info"]));
        said.contains("another program, or an earlier run of this bot, has set another webhook")
    });
    // Each has set it once at its start and once later. From then on its pauses double from 1 s.
    let most = 2.0 * (2.0 + start.elapsed().as_secs_f64().max(4.0).log2());
    let sets = u32::try_from(sets(&bot)).unwrap();
    assert!(f64::from(sets) <= most, "{sets} times");
}

#[test]
fn a_certificate_that_telegram_does_not_accept_is_uploaded_again() {
    let (_telegram, bot, _home, pihook) = watchful();
    bot.fail(CERTIFICATE);
    pihook.wait_log("pihook sets the webhook again");
    bot.wait_call("setWebhook", 2, SOON).unwrap();
    bot.fail(CERTIFICATE);
    let line = pihook.wait_log("again; pihook sets the webhook again later");
    assert!(line.contains("is not the uploaded one"), "{line}");
}

/// Telegram's messages, each with words of its cause and of its remedy.
const DELIVERY_ERRORS: [(&str, &str, &str); 30] = [
    (
        "Wrong response from the webhook: 503 Service Unavailable",
        "the Bot API did not accept the reply",
        "journalctl",
    ),
    (
        "Wrong response from the webhook: 403 Forbidden",
        "the path or the secret token is wrong",
        "pihook webhook set",
    ),
    (
        "Wrong response from the webhook: 404 Not Found",
        "the path or the secret token is wrong",
        "pihook webhook set",
    ),
    (
        "Wrong response from the webhook: 302 Found",
        "not this bot",
        "forwards the port to this Pi",
    ),
    (
        "Wrong response from the webhook: 100 Continue",
        "not this bot",
        "forwards the port to this Pi",
    ),
    (
        "Read timeout expired",
        "complete answer within 60 s",
        "journalctl",
    ),
    (
        "Write timeout expired",
        "the router does not forward the port",
        "port_mapping",
    ),
    (
        "Connection timed out",
        "the provider shares the address (CGNAT)",
        "pihook doctor",
    ),
    (
        "Connection refused",
        "nothing listens at this port",
        "check that the bot runs",
    ),
    (
        "Connection reset by peer",
        "the connection was closed",
        "allow_from",
    ),
    (
        "Wrong response from the webhook: 408 Request Timeout",
        "did not arrive completely",
        "sends the update again",
    ),
    (
        "Wrong response from the webhook: 413 Payload Too Large",
        "too large for the program that answers",
        "update pihook",
    ),
    (
        "Wrong response from the webhook: 502 Bad Gateway",
        "a proxy answers",
        "the address in listen",
    ),
    (
        "Wrong response from the webhook: 504 Gateway Timeout",
        "a proxy answers",
        "the address in listen",
    ),
    (
        "Broken pipe",
        "while Telegram was still sending",
        "journalctl",
    ),
    (
        "No route to host",
        "finds no route to this address",
        "pihook doctor",
    ),
    (
        "Network is unreachable",
        "finds no route to this address",
        "pihook doctor",
    ),
    (
        "Host is down",
        "finds no route to this address",
        "pihook doctor",
    ),
    // Telegram's error when allow_from refuses it before it has written anything.
    (
        "SSL error {error:0A000126:SSL routines::unexpected eof while reading}",
        "is not in allow_from",
        "allow_from",
    ),
    (
        "SSL error {error:0A00010B:SSL routines::wrong version number}",
        "is not the TLS that Telegram needs",
        "not to another machine",
    ),
    (
        "SSL error {error:0A00014D:SSL routines::legacy sigalg disallowed or unsupported}",
        "is not the TLS that Telegram needs",
        "not to another machine",
    ),
    (
        "Broken pipe",
        "closed while Telegram was still sending",
        "the bot's log",
    ),
    (
        "Can't connect to the webhook",
        "nothing answers",
        "forward the port",
    ),
    (
        "Can't create an SSL context: x",
        "Telegram has an internal problem",
        "wait",
    ),
    (
        "Can't create an SSL connection: x",
        "Telegram has an internal problem",
        "wait",
    ),
    ("Bad Request", "not this bot", "not to another machine"),
    ("Not Implemented", "not this bot", "not to another machine"),
    (
        "HTTP Version Not Supported",
        "not this bot",
        "not to another machine",
    ),
    (
        "Unsupported Media Type: unsupported content-encoding",
        "not this bot",
        "not to another machine",
    ),
    (
        "Request Entity Too Large: too many parameters",
        "not this bot",
        "not to another machine",
    ),
];

#[test]
fn each_delivery_error_is_logged_once_with_its_cause_and_remedy() {
    let (_telegram, bot, home, pihook) = watchful();
    for (message, cause, remedy) in DELIVERY_ERRORS {
        bot.fail(message);
        let line = pihook.wait_log(&format!(
            "Telegram could not deliver an update: \"{message}\""
        ));
        let info = text(&home.pihook(&["webhook", "info"]));
        for said in [&line, &info] {
            assert!(
                said.contains(cause) && said.contains(remedy),
                "{message}: {said}"
            );
        }
    }

    // Older servers of Telegram have another number for the same error.
    for message in [
        CERTIFICATE,
        "SSL error {error:1416F086:SSL routines::certificate verify failed}",
    ] {
        assert!(
            delivery_error::sentence(message).contains("`pihook webhook set`"),
            "{message}"
        );
    }
    assert!(delivery_error::explain("something new").is_none());

    let log = pihook.log();
    let lines = log
        .iter()
        .filter(|line| line.contains("\"Connection refused\""));
    assert_eq!(lines.count(), 1);
    pihook.wait_log("the webhook works again");
    assert_eq!(
        sets(&bot),
        1,
        "nothing of this is mended by setting it again"
    );
}

#[test]
fn a_revoked_token_is_an_error_in_the_log_without_any_update() {
    let (telegram, _bot, _home, pihook) = watchful();
    telegram.on_call(|_| {
        Some(Fault::Error {
            code: 401,
            description: "Unauthorized".into(),
            retry_after: None,
            migrate_to_chat_id: None,
        })
    });
    let line = pihook.wait_log("Telegram does not accept this token");
    assert!(
        line.contains("[ERROR]") && line.contains("BotFather"),
        "{line}"
    );
}
