//! Where nothing gets in, the bot polls; where something does, it uses the webhook, and changes
//! over by itself.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::common::scene::Scene;
use crate::common::tls::Tls;
use crate::common::{
    HOST, Home, Memory, OTHER_TOKEN, Pihook, SOON, TOKEN, eventually, settings, telegram, text,
};
use nix::sys::signal::Signal;
use serde_json::json;
use simulated_telegram::{Bot, Call, Fault, Options, Telegram};

const POLLING: &str = "delivery = 'polling'";

/// A bot that only polls.
fn polling() -> (Telegram, Bot, Home, Pihook) {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = home(&telegram, POLLING);
    let pihook = Pihook::start_polling(home.command(&["run"]));
    pihook.wait_log("updates arrive by polling");
    (telegram, bot, home, pihook)
}

fn home(telegram: &Telegram, more: &str) -> Home {
    Home::with(
        &settings(&telegram.api_url(), more),
        &format!("[[bot]]\ntoken = '{TOKEN}'\n"),
    )
}

/// A home where nothing gets in.
fn shut_home(telegram: &Telegram, more: &str) -> (Home, Pihook) {
    telegram.shut(HOST, 8443);
    let home = home(telegram, more);
    let pihook = home.run_for(telegram);
    (home, pihook)
}

fn methods(bot: &Bot) -> Vec<String> {
    bot.calls().into_iter().map(|call| call.method).collect()
}

fn polls(bot: &Bot) -> Vec<Call> {
    bot.calls()
        .into_iter()
        .filter(|call| call.method == "getUpdates")
        .collect()
}

fn is_send(call: &Call) -> bool {
    call.method == "sendMessage"
}

fn error(code: u16, description: &str, retry_after: Option<u64>) -> Fault {
    Fault::Error {
        code,
        description: description.into(),
        retry_after,
        migrate_to_chat_id: None,
    }
}

/// The texts that were sent, by chat.
fn by_chat(bot: &Bot) -> BTreeMap<i64, Vec<String>> {
    let mut by_chat: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for message in bot.sent() {
        by_chat.entry(message.chat).or_default().push(message.text);
    }
    by_chat
}

#[test]
fn polling_begins_within_15_s_where_telegram_cannot_reach_the_pi() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let (home, pihook) = shut_home(&telegram, "");
    // It listens some 10 ms after its start.
    let start = Instant::now();
    bot.say(42, "hello");
    assert_eq!(bot.wait_sent(1, SOON).unwrap()[0].text, "hello");
    println!(
        "{:.1} s from the start to the first echo",
        start.elapsed().as_secs_f64()
    );
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    let line = pihook.wait_log("Updates arrive by polling: Telegram's calls do not reach this Pi");
    assert!(
        line.contains("[INFO]") && line.contains("forward the port to this Pi"),
        "{line}"
    );
    pihook.wait_log("bot 110201543 is @number_110201543_bot: https://t.me/number_110201543_bot");
    // Nothing of what waited is lost with the webhook.
    let deleted = bot.wait_call("deleteWebhook", 2, SOON).unwrap();
    assert!(
        deleted
            .iter()
            .all(|call| call.text("drop_pending_updates").is_empty())
    );
    // The note and the command have the reason of the log.
    let reason = "Telegram's calls do not reach this Pi";
    let note = home.read("state/polling");
    assert!(note.contains(reason), "{note}");
    let info = text(&home.pihook(&["webhook", "info"]));
    assert!(
        info.contains(&format!("Updates arrive by polling: {reason}")),
        "{info}"
    );
}

#[test]
fn the_first_connection_from_telegram_keeps_the_webhook() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = home(&telegram, "");
    let pihook = home.run_for(&telegram);
    pihook.wait_log("Telegram reaches this Pi: updates arrive by webhook");
    std::thread::sleep(Duration::from_secs(12));
    bot.say(42, "hello");
    bot.wait_delivered(1, SOON).unwrap();
    assert!(polls(&bot).is_empty());
    assert!(!home.folder.join("state/polling").exists());
}

#[test]
fn polling_goes_on_after_a_restart_unless_the_settings_changed() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let (home, pihook) = shut_home(&telegram, "");
    pihook.wait_log("bot 110201543: updates arrive by polling");
    assert!(pihook.stop().0.success());
    let sets = bot.wait_call("setWebhook", 1, SOON).unwrap().len();
    let start = Instant::now();
    let pihook = home.run();
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(bot.wait_call("setWebhook", 1, SOON).unwrap().len(), sets);
    assert!(pihook.stop().0.success());
    home.write(
        "pihook.toml",
        &home
            .read("pihook.toml")
            .replace("public_host", "public_port = 443\npublic_host"),
    );
    let _pihook = home.run();
    assert_eq!(
        bot.wait_call("setWebhook", sets + 1, SOON).unwrap().len(),
        sets + 1
    );
}

#[test]
fn delivery_polling_opens_no_port_and_makes_no_certificate() {
    let (_telegram, bot, home, pihook) = polling();
    bot.say(42, "hello");
    assert_eq!(bot.wait_sent(1, SOON).unwrap()[0].reply_to, Some(1));
    assert!(!home.folder.join("certs").exists());
    assert_eq!(
        methods(&bot)[..3],
        ["getMe", "getWebhookInfo", "getUpdates"]
    );
    let first = &polls(&bot)[0];
    assert_eq!(first.params.get("offset"), None);
    assert_eq!([first.text("timeout"), first.text("limit")], ["50", "100"]);
    assert!(first.text("allowed_updates").contains("callback_query"));
    let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp", pihook.child.id())).unwrap();
    let own: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", pihook.child.id()))
        .unwrap()
        .filter_map(|file| std::fs::read_link(file.unwrap().path()).ok())
        .map(|link| link.display().to_string())
        .collect();
    let listens = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[3] == "0A" && own.contains(&format!("socket:[{}]", fields[9]))
    };
    assert_eq!(sockets.lines().skip(1).find(listens), None);
}

#[test]
fn polling_serves_chats_side_by_side_and_each_in_order() {
    let (_telegram, bot, _home, _pihook) = polling();
    for number in 0..20 {
        for chat in 1..=20 {
            bot.say(chat, &number.to_string());
        }
    }
    bot.wait_sent(400, SOON).unwrap();
    bot.wait_none_pending(SOON).unwrap();
    let expected: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let by_chat = by_chat(&bot);
    assert!(
        by_chat.len() == 20 && by_chat.values().all(|texts| *texts == expected),
        "{by_chat:?}"
    );
}

#[test]
fn behind_a_deferred_update_99_are_polled_and_then_all_wait() {
    let (telegram, bot, _home, _pihook) = polling();
    let mut is_first = true;
    telegram.on_call(move |call| {
        let first = is_send(call) && std::mem::take(&mut is_first);
        first.then(|| error(429, "Too Many Requests: retry after 30", Some(30)))
    });
    let start = Instant::now();
    bot.say(1, "put off");
    bot.wait_call("sendMessage", 1, SOON).unwrap();
    for chat in 2..=150 {
        bot.say(chat, "behind");
    }
    bot.wait_sent(99, SOON).unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    let before = polls(&bot).len();
    std::thread::sleep(Duration::from_secs(5));
    let asked = polls(&bot);
    assert_eq!(bot.sent().len(), 99, "the others wait for it");
    assert!(
        (3..=6).contains(&(asked.len() - before)),
        "asked {} times in 5 s",
        asked.len() - before
    );
    let offset = asked.last().unwrap().text("offset");
    assert!(
        asked[before..]
            .iter()
            .all(|call| call.text("offset") == offset && call.text("limit") == "100")
    );
    let sent = bot.wait_sent(150, Duration::from_secs(90)).unwrap();
    assert_eq!(
        sent.iter().position(|sent| sent.chat == 1),
        Some(99),
        "first of all that is left"
    );
    bot.wait_none_pending(SOON).unwrap();
    assert_eq!(bot.sent().len(), 150);
}

#[test]
fn a_page_of_getupdates_that_is_too_large_is_asked_for_in_parts() {
    let (_telegram, bot, home, pihook) = polling();
    assert!(pihook.stop().0.success());
    // Ten of 400 KB each, with one of another kind behind; what is answered is the text alone.
    for chat in 1..=10 {
        bot.message(
            chat,
            json!({"text": "large", "filler": "x".repeat(400_000)}),
        );
    }
    bot.say(11, "small");
    let _pihook = Pihook::start_polling(home.command(&["run"]));
    bot.wait_sent(11, SOON).unwrap();
    bot.wait_none_pending(SOON).unwrap();
    let limits: Vec<_> = polls(&bot).iter().map(|call| call.text("limit")).collect();
    assert!(
        limits.contains(&"50".to_owned()) && limits.contains(&"3".to_owned()),
        "{limits:?}"
    );
    assert_eq!(bot.sent().len(), 11);
}

#[test]
fn a_stop_does_not_wait_for_the_poll_and_confirms_updates_that_are_done() {
    let (telegram, bot, home, pihook) = polling();
    let start = Instant::now();
    assert!(pihook.stop().0.success());
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );

    // In the middle of a reply it waits for that, and nothing comes again, although nothing is
    // remembered here.
    let pihook = Pihook::start_polling(home.command(&["run"]));
    pihook.wait_log("updates arrive by polling");
    let (began, begun) = mpsc::channel();
    telegram.on_call(move |call| {
        is_send(call).then(|| {
            began.send(()).unwrap();
            Fault::Stall(Duration::from_secs(2))
        })
    });
    bot.say(42, "slow");
    begun.recv_timeout(SOON).unwrap();
    pihook.signal(Signal::SIGTERM);
    let (status, log) = pihook.wait();
    assert!(
        status.success() && !log.iter().any(|line| line.contains("not finished in 10 s")),
        "{status}: {log:#?}"
    );
    assert_eq!((bot.sent().len(), bot.pending()), (1, 0));
}

#[test]
fn a_kill_while_polling_loses_no_update_and_repeats_none_that_is_done() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let memory = Memory::new("polling");
    let home = home(&telegram, &format!("{POLLING}\n{}", memory.setting()));
    let mut pihook = Pihook::start_polling(home.command(&["run"]));
    let (answered, hanging) = mpsc::channel();
    telegram.on_call(move |call| {
        let hangs = is_send(call) && call.text("text") == "hang";
        hangs.then(|| {
            answered.send(()).unwrap();
            Fault::Stall(Duration::from_secs(5))
        })
    });
    // Answered, and not confirmed as long as the one before is not through.
    bot.say(1, "hang");
    hanging.recv_timeout(SOON).unwrap();
    bot.say(2, "quick");
    pihook.wait_log("chat 2: 200 in");
    pihook.child.kill().unwrap();
    pihook.child.wait().unwrap();
    telegram.on_call(|_| None);
    let _pihook = Pihook::start_polling(home.command(&["run"]));
    bot.wait_none_pending(SOON).unwrap();
    let by_chat = by_chat(&bot);
    assert_eq!(by_chat[&2], ["quick"]);
    assert!(by_chat[&1].iter().all(|text| text == "hang"), "{by_chat:?}");
}

#[test]
fn polling_pauses_during_an_outage_of_the_bot_api_and_goes_on_after_it() {
    let (telegram, bot, _home, pihook) = polling();
    telegram.on_call(|_| Some(Fault::Html(502)));
    bot.say(42, "amid");
    pihook.wait_log("polling failed: the answer is not from the Bot API (status 502)");
    let cpu = pihook.cpu();
    let calls = bot.calls().len();
    std::thread::sleep(Duration::from_secs(6));
    assert!(
        bot.calls().len() - calls <= 4,
        "{} calls",
        bot.calls().len() - calls
    );
    assert!(
        pihook.cpu() - cpu < Duration::from_millis(300),
        "{:?}",
        pihook.cpu() - cpu
    );
    telegram.on_call(|_| None);
    bot.wait_sent(1, SOON).unwrap();
    pihook.wait_logs("bot 110201543: updates arrive by polling", 2);
}

#[test]
fn an_idle_poller_makes_no_other_calls_and_uses_no_cpu() {
    let (_telegram, bot, _home, pihook) = polling();
    let cpu = pihook.cpu();
    let calls = bot.calls().len();
    // Telegram's 50 s are 5 s here.
    std::thread::sleep(Duration::from_secs(11));
    assert!(
        (1..=3).contains(&(bot.calls().len() - calls)),
        "{:?}",
        methods(&bot)
    );
    assert!(
        pihook.cpu() - cpu < Duration::from_millis(100),
        "{:?}",
        pihook.cpu() - cpu
    );
}

#[test]
fn a_refused_token_does_not_stop_the_polling_of_other_bots() {
    let telegram = telegram();
    let bots = [TOKEN, OTHER_TOKEN].map(|token| telegram.bot(token));
    let both = format!(
        "[[bot]]\ntoken = '{TOKEN}'\n[[bot]]\ntoken = '{OTHER_TOKEN}'\n[[bot]]\ntoken = '7:x'\n"
    );
    telegram.shut(HOST, 8443);
    let home = Home::with(&settings(&telegram.api_url(), ""), &both);
    let pihook = home.run_for(&telegram);
    for bot in &bots {
        bot.say(42, "hello");
    }
    for bot in &bots {
        bot.wait_sent(1, SOON).unwrap();
        assert!(!polls(bot).is_empty() && bot.webhook_info()["url"] == "");
    }
    let line = pihook.wait_log("bot 7: the Bot API said");
    assert!(
        line.contains("[ERROR]") && line.contains("BotFather"),
        "{line}"
    );
}

#[test]
fn a_foreign_webhook_is_removed_at_growing_intervals() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    // Another program is somewhere else, with the same token.
    let settings =
        settings(&telegram.api_url(), "watch_interval = 3").replace(HOST, "80.100.95.99");
    let elsewhere = Home::with(&settings, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    assert!(elsewhere.pihook(&["cert"]).status.success());
    // Telegram takes one in a tenth of a second.
    let set = || {
        eventually("the other one's webhook", || {
            elsewhere.pihook(&["webhook", "set"]).status.success()
        });
    };
    set();
    let home = home(&telegram, &format!("{POLLING}\nwatch_interval = 3"));
    let pihook = Pihook::start_polling(home.command(&["run"]));
    pihook.wait_log("has set a webhook. pihook removes the webhook");
    pihook.wait_log("bot 110201543: updates arrive by polling");
    assert_eq!(bot.webhook_info()["url"], "");
    set();
    let lost = Instant::now();
    let line = pihook.wait_log("again; only one program can use a token");
    assert!(
        line.contains("[WARN]") && line.contains("stop the other"),
        "{line}"
    );
    assert_ne!(bot.webhook_info()["url"], "", "it is left alone");
    let calls = bot.calls().len();
    pihook.wait_logs("bot 110201543: updates arrive by polling", 2);
    assert!(
        lost.elapsed() > Duration::from_secs(2),
        "{:?}",
        lost.elapsed()
    );
    assert!(bot.calls().len() - calls < 8, "{:?}", methods(&bot));
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
}

/// A program that asks for updates with our token, once, as a browser does. Telegram holds the call
/// for so many seconds of its own.
fn browse(telegram: &Telegram, seconds: u32) -> String {
    let url = format!(
        "{}/bot{TOKEN}/getUpdates?timeout={seconds}",
        telegram.api_url()
    );
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build();
    config
        .new_agent()
        .get(url)
        .call()
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap()
}

#[test]
fn a_conflict_with_a_browser_stops_polling_for_some_seconds() {
    let (telegram, bot, home, pihook) = polling();
    bot.wait_call("getUpdates", 1, SOON).unwrap();
    for _ in 0..2 {
        browse(&telegram, 3);
        std::thread::sleep(Duration::from_secs(1));
    }
    let line = pihook.wait_log("another program polls with this token, too");
    assert!(
        line.contains("[WARN]") && line.contains("stop the other program"),
        "{line}"
    );
    let said = Instant::now();
    bot.say(42, "hello");
    let doctor = home.pihook(&["doctor"]);
    let words = text(&doctor);
    assert!(
        words.contains("✗ polling: bot 110201543: another program polls with this token"),
        "{words}"
    );
    assert!(
        words.contains("→ stop the other program") && !doctor.status.success(),
        "{words}"
    );
    let status = text(&home.pihook(&["status"]));
    assert!(
        status.contains("(another program polls with this token"),
        "{status}"
    );
    bot.wait_sent(1, SOON).unwrap();
    println!(
        "{:.1} s from the second call of a browser to the echo",
        said.elapsed().as_secs_f64()
    );
    // 15 s, and 3 s for the updates that the other program may be answering.
    assert!(
        said.elapsed() < Duration::from_secs(20),
        "{:?}",
        said.elapsed()
    );

    pihook.wait_logs("bot 110201543: updates arrive by polling", 2);
    let doctor = home.pihook(&["doctor"]);
    let words = text(&doctor);
    assert!(
        words.contains("! polling: bot 110201543:") && doctor.status.success(),
        "{words}"
    );
}

/// Messages that two programs answered.
fn twice(bot: &Bot) -> Vec<String> {
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for message in bot.sent() {
        *answers.entry(message.text).or_default() += 1;
    }
    answers
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .map(|(text, _)| text)
        .collect()
}

#[test]
fn a_conflict_of_two_pollers_ends_with_one_and_without_double_replies() {
    let telegram = Telegram::start(Options::default()).unwrap();
    let bot = telegram.bot(TOKEN);
    // As long as it takes over the internet: in this time, the other one can be told of the same
    // update.
    telegram.on_call(|call| is_send(call).then_some(Fault::Stall(Duration::from_millis(250))));
    let homes = [(); 2].map(|()| home(&telegram, POLLING));
    let pihooks = homes
        .each_ref()
        .map(|home| Pihook::start_polling(home.command(&["run"])));
    let gives_way = |pihook: &Pihook| {
        pihook
            .log()
            .iter()
            .any(|line| line.contains("leaves the updates to the other"))
    };
    let start = Instant::now();
    let mut said = 0;
    let mut say = || {
        bot.say(said, &said.to_string());
        said += 1;
        std::thread::sleep(Duration::from_secs(1));
    };

    while !pihooks.iter().any(gives_way) {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "{:#?}",
            pihooks.each_ref().map(Pihook::log)
        );
        say();
    }
    let given = start.elapsed();
    let before = twice(&bot);
    assert!(before.len() <= 2, "{before:?}");
    // The other one may have had a 409, too, and pauses up to 15 s. After that it answers alone, and
    // the next look of the one that gave way is at least a minute after it gave way.
    while start.elapsed() < given + Duration::from_secs(20) {
        say();
    }
    bot.wait_none_pending(SOON).unwrap();
    let answered: std::collections::BTreeSet<_> =
        bot.sent().into_iter().map(|message| message.text).collect();
    println!(
        "one gave way after {:.0} s; {} of {said} messages were answered twice before, and {} after",
        given.as_secs_f64(),
        before.len(),
        twice(&bot).len() - before.len()
    );
    assert_eq!(twice(&bot), before);
    assert_eq!(answered.len(), usize::try_from(said).unwrap());
    assert!(
        pihooks.iter().any(|pihook| !gives_way(pihook)),
        "one of them has the bot"
    );
}

#[test]
fn a_poll_that_is_cut_while_it_waits_is_repeated_at_once_with_a_shorter_timeout() {
    let (telegram, bot, _home, pihook) = polling();
    // 20 s are 2 s here.
    let cut = Duration::from_secs(3);
    telegram.on_call(move |call| (call.method == "getUpdates").then_some(Fault::CutWaiting(cut)));
    let start = polls(&bot).len();
    let calls = bot.wait_call("getUpdates", start + 4, SOON).unwrap();
    let [first, second, third] = &calls[start..start + 3] else {
        panic!("{calls:?}")
    };
    assert_eq!(
        [
            first.text("timeout"),
            second.text("timeout"),
            third.text("timeout")
        ],
        ["50", "5", "5"]
    );
    let pause = second.at - first.answered.unwrap();
    assert!(pause < Duration::from_millis(500), "{pause:?}");
    bot.say(42, "hello");
    let said = Instant::now();
    bot.wait_sent(1, SOON).unwrap();
    assert!(
        said.elapsed() < Duration::from_secs(1),
        "{:?}",
        said.elapsed()
    );
    assert!(
        !pihook.log().iter().any(|line| line.contains("[WARN]")),
        "it is no failure: {:#?}",
        pihook.log()
    );
}

#[test]
fn a_long_poll_has_tcp_keepalive() {
    let telegram = Telegram::start(Options::default()).unwrap();
    let bot = telegram.bot(TOKEN);
    let home = home(&telegram, POLLING);
    let pihook = Pihook::start_polling(home.command(&["run"]));
    bot.wait_call("getUpdates", 1, SOON).unwrap();
    // The timer of the connection to the Bot API, and in how many hundredths of a second it is due;
    // 2 is that of keepalive.
    let port = telegram
        .api_url()
        .rsplit(':')
        .next()
        .unwrap()
        .parse::<u16>()
        .unwrap();
    let timers = || -> Vec<(String, u64)> {
        let sockets =
            std::fs::read_to_string(format!("/proc/{}/net/tcp", pihook.child.id())).unwrap();
        let lines = sockets
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let to_api = lines
            .filter(|fields| fields[2].ends_with(&format!(":{port:04X}")) && fields[3] == "01");
        to_api
            .map(|fields| {
                let (timer, due) = fields[5].split_once(':').unwrap();
                (timer.to_owned(), u64::from_str_radix(due, 16).unwrap())
            })
            .collect()
    };
    let start = Instant::now();
    let due = loop {
        match timers().into_iter().find(|(timer, _)| timer == "02") {
            Some((_, due)) => break due,
            None => assert!(start.elapsed() < Duration::from_secs(15), "{:?}", timers()),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let silence = start.elapsed() + Duration::from_millis(10 * due);
    assert!(
        silence < Duration::from_secs(20),
        "the first probe comes after {silence:?} of silence"
    );
    // A connection that waits for nothing costs nothing.
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
    let answered = Instant::now();
    while !timers().iter().all(|(timer, _)| timer == "00") {
        assert!(
            answered.elapsed() < Duration::from_secs(5),
            "{:?}",
            timers()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn failed_polls_leave_no_update_unanswered_while_one_is_deferred() {
    let (telegram, bot, _home, pihook) = polling();
    let mut failures = 0;
    telegram.on_call(move |call| match call.method.as_str() {
        "getUpdates" if failures < 3 => {
            failures += 1;
            Some(if failures == 2 {
                Fault::Html(502)
            } else {
                Fault::CutInside(20)
            })
        }
        "sendMessage" if call.text("chat_id") == "1" => {
            Some(error(429, "Too Many Requests: retry after 240", Some(240)))
        }
        _ => None,
    });
    pihook.wait_log("polling failed");
    bot.say(1, "put off");
    bot.wait_call("sendMessage", 1, SOON).unwrap();
    let said = Instant::now();
    for chat in 2..=100 {
        bot.say(chat, "behind");
    }
    bot.wait_sent(99, SOON).unwrap();
    println!(
        "{:.1} s until 99 others were answered",
        said.elapsed().as_secs_f64()
    );
    assert!(
        said.elapsed() < Duration::from_secs(10),
        "{:?}",
        said.elapsed()
    );
}

#[test]
fn our_webhook_that_is_set_during_polling_is_tried_and_given_up() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let (home, pihook) = shut_home(&telegram, "");
    pihook.wait_log("bot 110201543: updates arrive by polling");
    assert!(home.pihook(&["webhook", "set"]).status.success());
    pihook.wait_log("pihook tries the webhook");
    pihook.wait_logs("Updates arrive by polling: Telegram's calls do not", 2);
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
    // The conflict of our own making is nobody's business.
    assert!(
        !pihook.log().iter().any(|line| line.contains("Conflict")),
        "{:#?}",
        pihook.log()
    );
    // Now it is let in.
    telegram.open(HOST, 8443);
    assert!(home.pihook(&["webhook", "set"]).status.success());
    pihook.wait_log("Telegram reaches this Pi: updates arrive by webhook");
    bot.say(42, "direct");
    bot.wait_delivered(1, SOON).unwrap();
    assert!(!home.folder.join("state/polling").exists());
}

#[test]
fn a_request_during_polling_does_not_prove_a_webhook_that_is_tried_later() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let (home, pihook) = shut_home(&telegram, "watch_interval = 5");
    pihook.wait_log("bot 110201543: updates arrive by polling");
    let scene = Scene::of((telegram, bot, home, pihook));
    // Somebody who has path and secret.
    assert_eq!(Tls::connect(scene.pihook.address).ask(&scene.good()), 200);
    scene.pihook.wait_log("pihook tries the webhook");
    scene
        .pihook
        .wait_logs("Updates arrive by polling: Telegram's calls do not", 2);
    assert!(
        !scene
            .pihook
            .log()
            .iter()
            .any(|line| line.contains("updates arrive by webhook"))
    );
}

#[test]
fn delivery_changes_to_webhook_and_back_to_polling_without_a_lost_update() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    // 2 s instead of 10 min.
    let (_home, pihook) = shut_home(&telegram, "watch_interval = 5");
    pihook.wait_log("bot 110201543: updates arrive by polling");
    let mut said = 0;
    let mut say = |bot: &Bot| {
        for chat in 1..=5 {
            bot.say(chat, &said.to_string());
        }
        said += 1;
        bot.wait_sent(5 * said, SOON).unwrap();
    };
    say(&bot);
    let opened = Instant::now();
    telegram.open(HOST, 8443);
    while bot.deliveries().is_empty() {
        say(&bot);
    }
    println!(
        "{:.1} s from the opening of the home to the first call",
        opened.elapsed().as_secs_f64()
    );
    for _ in 0..5 {
        say(&bot);
    }
    let shut = Instant::now();
    telegram.shut(HOST, 8443);
    say(&bot);
    println!(
        "{:.1} s from its shutting to the next echo",
        shut.elapsed().as_secs_f64()
    );
    pihook.wait_log("Updates arrive by polling: Telegram could not deliver");
    say(&bot);
    bot.wait_none_pending(SOON).unwrap();
    let expected: Vec<_> = (0..said).map(|number| number.to_string()).collect();
    let by_chat = by_chat(&bot);
    assert!(
        by_chat.values().all(|texts| *texts == expected),
        "{by_chat:?}"
    );
}

#[test]
fn a_token_in_the_environment_is_the_only_setting_needed() {
    if std::env::var_os("PIHOOK_RUNNER").is_some() {
        println!(
            "SKIPPED: an emulated program cannot execute itself again, which takes the token out of the environment"
        );
        return;
    }
    let folder = Home::with("", "");
    std::fs::remove_file(folder.folder.join("pihook.toml")).unwrap();
    let command = |variables: &[(&str, &str)]| -> Command {
        let mut command = folder.command(&["check"]);
        command
            .env("TELEGRAM_BOT_TOKEN", TOKEN)
            .envs(variables.iter().copied());
        command
    };
    let output = command(&[("HOME", "/home/pi")]).output().unwrap();
    let said = text(&output);
    assert!(
        output.status.success() && said.contains("/home/pi/.local/state/pihook/110201543/"),
        "{said}"
    );
    assert!(
        said.contains("delivery         = \"auto\"")
            && said.contains("public_host      = \"auto\""),
        "{said}"
    );
    assert!(
        said.contains(
            "# The bot asks these services for your public address: https://api.ipify.org"
        ),
        "{said}"
    );
    let output = command(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output).contains("Set HOME or XDG_STATE_HOME"),
        "{}",
        text(&output)
    );
    // It cannot be made, and it is not made elsewhere.
    folder.write("file", "");
    let file = folder.folder.join("file");
    let mut run = folder.command(&["run"]);
    run.env("TELEGRAM_BOT_TOKEN", TOKEN)
        .env("XDG_STATE_HOME", &file);
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", text(&output));
    assert!(
        text(&output).contains("Cannot create the folder"),
        "{}",
        text(&output)
    );
    let left: Vec<_> = std::fs::read_dir(&folder.folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["file"]);
}
