//! Whether Telegram's calls get in: what is taken for a sign that they do not, and what is not.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{HOST, Home, OTHER_TOKEN, Pihook, SOON, TOKEN, settings, telegram, text};
use simulated_telegram::{Bot, Call, Fault, Telegram};

const POLLS: &str = "Updates arrive by polling";

/// A bot whose webhook Telegram has reached; seconds are fifths of minutes for it.
fn reached(more: &str) -> (Telegram, Bot, Home, Pihook) {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::with(
        &settings(&telegram.api_url(), &format!("watch_interval = 5\n{more}")),
        &format!("[[bot]]\ntoken = '{TOKEN}'\n"),
    );
    let pihook = home.run_for(&telegram);
    pihook.wait_log("the webhook is registered");
    (telegram, bot, home, pihook)
}

fn methods(bot: &Bot) -> Vec<String> {
    bot.calls().into_iter().map(|call| call.method).collect()
}

fn count(bot: &Bot, method: &str) -> usize {
    methods(bot)
        .iter()
        .filter(|called| *called == method)
        .count()
}

fn polls(pihook: &Pihook) -> bool {
    pihook.log().iter().any(|line| line.contains(POLLS))
}

/// What accepts connections and ends them with FIN, as a dead tunnel does. All that came is read,
/// so that there is no reset.
fn silent_machine() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut tcp in listener.incoming().map_while(Result::ok) {
            let mut hello = [0; 4096];
            let _ = tcp.read(&mut hello);
        }
    });
    address
}

/// The way leads to a machine that is silent. The connection that is open ends with its next
/// answer.
fn silence(telegram: &Telegram, bot: &Bot) {
    telegram.route(HOST, 8443, silent_machine());
    let sent = bot.sent().len();
    bot.say(41, "the last one");
    bot.wait_sent(sent + 1, SOON).unwrap();
    bot.wait_connections(0, SOON).unwrap();
}

#[test]
fn a_late_429_in_a_quiet_chat_is_no_reason_to_poll() {
    let (telegram, bot, _home, pihook) = reached("");
    let mut faults = 2;
    telegram.on_call(move |call: &Call| {
        let fails = call.method == "sendMessage" && faults > 0;
        faults -= u32::from(fails);
        let description = "Too Many Requests: retry after 30".into();
        let refusal = Fault::Error {
            code: 429,
            description,
            retry_after: Some(30),
            migrate_to_chat_id: None,
        };
        fails.then(|| Fault::Late(Duration::from_secs(2), Box::new(refusal)))
    });
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
    bot.wait_none_pending(SOON).unwrap();
    let refused = bot
        .deliveries()
        .iter()
        .filter(|delivery| delivery.status == Some(503))
        .count();
    assert_eq!(refused, 2);
    assert!(!polls(&pihook), "{:#?}", pihook.log());
    assert_eq!(count(&bot, "setWebhook"), 1, "nothing had to be tested");
}

#[test]
fn a_silent_close_is_tested_and_then_polled() {
    let (telegram, bot, home, pihook) = reached("");
    silence(&telegram, &bot);
    let start = Instant::now();
    bot.say(42, "hello");
    pihook.wait_log(
        "updates wait at Telegram, but nothing arrives. pihook sets the webhook again, as a test",
    );
    assert_eq!(
        bot.webhook_info().get("last_error_message"),
        None,
        "Telegram tells nothing"
    );
    let line = pihook.wait_log(POLLS);
    assert!(
        line.contains("Telegram's calls do not reach this Pi"),
        "{line}"
    );
    bot.wait_sent(2, SOON).unwrap();
    println!(
        "{:.1} s from the message to its echo",
        start.elapsed().as_secs_f64()
    );

    let methods = methods(&bot);
    let sets: Vec<_> = (0..methods.len())
        .filter(|at| methods[*at] == "setWebhook")
        .collect();
    assert_eq!(sets.len(), 2);
    assert!(
        !methods[sets[0]..sets[1]].contains(&"deleteWebhook".into()),
        "{methods:?}"
    );
    assert!(text(&home.pihook(&["status"])).contains("polling"));
}

#[test]
fn with_delivery_webhook_a_silent_close_is_a_warning_until_an_update_arrives() {
    let (telegram, bot, home, pihook) = reached("delivery = 'webhook'");
    silence(&telegram, &bot);
    bot.say(42, "hello");
    let line =
        pihook.wait_log("Telegram's calls do not reach this Pi, and Telegram shows no error");
    assert!(line.contains("[WARN]"), "{line}");
    assert!(text(&home.pihook(&["status"])).contains("Telegram shows no error"));
    telegram.route(HOST, 8443, pihook.address);
    bot.wait_sent(2, SOON).unwrap();
    pihook.wait_log("the webhook works again");
}

#[test]
fn a_setwebhook_that_keeps_failing_leads_to_polling() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    telegram.on_call(|call| (call.method == "setWebhook").then_some(Fault::Html(502)));
    let home = Home::new(&telegram.api_url());
    let pihook = home.run_for(&telegram);
    let start = Instant::now();
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
    println!(
        "{:.1} s from the start to the first echo",
        start.elapsed().as_secs_f64()
    );
    let line = pihook.wait_log(POLLS);
    assert!(
        line.contains("does not set the webhook now") && line.contains("status 502"),
        "{line}"
    );
}

#[test]
fn quiet_webhooks_are_checked_in_turn_and_one_that_delivers_rarely() {
    let telegram = telegram();
    let bots = [TOKEN, OTHER_TOKEN].map(|token| telegram.bot(token));
    let both = format!("[[bot]]\ntoken = '{TOKEN}'\n[[bot]]\ntoken = '{OTHER_TOKEN}'\n");
    let home = Home::with(&settings(&telegram.api_url(), "watch_interval = 5"), &both);
    let pihook = home.run_for(&telegram);
    pihook.wait_logs("the webhook is registered", 2);
    let looks = || bots.each_ref().map(|bot| count(bot, "getWebhookInfo"));

    // The first look after a set comes early.
    thread::sleep(Duration::from_secs(2));
    let before = looks();
    thread::sleep(Duration::from_secs(8));
    let quiet: Vec<_> = looks()
        .iter()
        .zip(before)
        .map(|(now, before)| now - before)
        .collect();
    // One a second for both.
    assert!(
        quiet.iter().all(|looks| (3..=5).contains(looks)),
        "{quiet:?}"
    );

    let before = looks()[0];
    for number in 0..40 {
        bots[0].say(42, &number.to_string());
        thread::sleep(Duration::from_millis(200));
    }
    assert!(
        looks()[0] - before <= 2,
        "{} looks in 8 s",
        looks()[0] - before
    );
}
