//! `pihook status`: the report of the running bot, and when the bot counts as working.

use crate::common::{HOST, SOON, TOKEN, eventually, start, telegram, text};
use serde_json::Value;

#[test]
fn status_shows_the_report_of_the_running_bot() {
    let (_telegram, bot, home, pihook) = start();
    let status = || -> Value {
        let output = home.pihook(&["status", "--json"]);
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    eventually("the webhook is registered", || {
        status()["bots"][0]["problem"].is_null() && status()["bots"][0]["name"].is_string()
    });
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
    eventually("the answer counts", || status()["answered"] == 1);

    let report = status();
    assert_eq!(report["works"], true, "{report}");
    assert_eq!(report["delivery_reason"], "Telegram reaches this Pi");
    assert_eq!(
        (report["version"].as_str(), report["delivery"].as_str()),
        (Some(env!("CARGO_PKG_VERSION")), Some("webhook"))
    );
    assert_eq!(report["address"], format!("{HOST}:8443"));
    assert!(
        report["certificate_end"].as_u64().unwrap() > 2_000_000_000,
        "{report}"
    );

    let said = text(&home.pihook(&["status"]));
    let name = report["bots"][0]["name"].as_str().unwrap();
    for line in [
        format!("bot          @{name}: https://t.me/{name}\n"),
        "answered     1 update, the last ".into(),
    ] {
        assert!(said.contains(&line), "{line}: {said}");
    }
    assert!(
        !said.contains(TOKEN) && !said.contains("AAHdqTcvCH1"),
        "{said}"
    );

    let waited = home.pihook(&["status", "--wait"]);
    let end = format!(
        "pihook {} is running. Write to @{name}: https://t.me/{name}\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(String::from_utf8_lossy(&waited.stdout), end);

    drop(pihook);
    let output = home.pihook(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("pihook is not running"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_webhook_that_telegram_reached_still_works_after_a_restart() {
    let (telegram, bot, home, pihook) = start();
    bot.say(42, "hello");
    bot.wait_sent(1, SOON).unwrap();
    eventually("the file is written", || {
        home.folder.join("state/reached").exists()
    });
    pihook.stop();
    let _pihook = home.run_for(&telegram);
    eventually("the bot works", || {
        text(&home.pihook(&["status", "--json"])).contains("\"works\": true")
    });
}

#[test]
fn a_refused_token_ends_status_wait_with_the_doctors_finding() {
    let telegram = telegram();
    let home = crate::common::Home::new(&telegram.api_url());
    let _pihook = home.run();
    let output = home.pihook(&["status", "--wait"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("✗ token: "), "{}", text(&output));
}
