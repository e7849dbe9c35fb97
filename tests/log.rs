//! The log: the crates whose lines it has, their levels, and no token in it.

use crate::common::{HOST, Home, Pihook, SOON, TOKEN, settings, telegram};
use simulated_telegram::Fault;

/// The whole log of a bot whose own level is `level`, while calls fail and connections break.
fn run(level: &str, delivery: &str) -> Vec<String> {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let mut faults = vec![Fault::CutInside(30), Fault::CutBefore, Fault::Html(502)];
    telegram.on_call(move |call| {
        if call.method == "sendMessage" {
            faults.pop()
        } else {
            None
        }
    });
    let settings = settings(&telegram.api_url(), &format!("delivery = '{delivery}'"));
    let home = Home::with(&settings, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    let mut command = home.command(&["run"]);
    command.env("LEVEL", level);
    let pihook = if delivery == "polling" {
        Pihook::start_polling(command)
    } else {
        Pihook::start(command)
    };
    telegram.route(HOST, 8443, pihook.address);

    for text in ["hello", "log", "unknown"] {
        bot.say(1, text);
    }
    bot.wait_none_pending(SOON).unwrap();
    assert!(bot.sent().len() >= 2, "{:#?}", pihook.log());
    let (status, log) = pihook.stop();
    assert!(status.success(), "{log:#?}");
    log
}

#[test]
fn log_level_trace_shows_lines_of_the_bot_alone_and_no_token() {
    let secret = TOKEN.split_once(':').unwrap().1;
    for delivery in ["webhook", "polling"] {
        let log = run("trace", delivery);
        let fine: Vec<_> = log
            .iter()
            .filter(|line| line.contains("[DEBUG]") || line.contains("[TRACE]"))
            .collect();
        assert!(
            fine.iter()
                .any(|line| line.ends_with("[DEBUG] a debug line of the bot")),
            "{log:#?}"
        );
        assert!(
            fine.iter()
                .any(|line| line.ends_with("[TRACE] a trace line of the bot: 110201543:***")),
            "{log:#?}"
        );
        assert!(
            fine.iter().all(|line| line.contains(" line of the bot")),
            "lines of others: {fine:#?}"
        );
        assert!(!log.concat().contains(secret), "{log:#?}");
    }
}

#[test]
fn log_level_changes_lines_of_the_bot_and_not_of_pihook() {
    for (level, shown, hidden) in [
        ("info", "[INFO] an info of the bot", "[DEBUG]"),
        ("off", "[INFO] ", "of the bot"),
    ] {
        let log = run(level, "webhook");
        assert!(log.iter().any(|line| line.contains(shown)), "{log:#?}");
        assert!(!log.iter().any(|line| line.contains(hidden)), "{log:#?}");
        assert!(
            log.iter().any(|line| line.contains("[INFO] Listening on ")),
            "{log:#?}"
        );
    }
}
