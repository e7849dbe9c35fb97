//! The way to the Bot API by HTTPS: the system's CA store counts, which `SSL_CERT_FILE` can name.

mod common;

use common::authority::authority;
use common::{HOST, Home, Pihook, SOON, TOKEN};
use simulated_telegram::{Options, Telegram};

/// A root, and a certificate for localhost that it signed, with its key.
fn localhost() -> (String, (String, String)) {
    authority("localhost", |_| ())
}

fn run(home: &Home, roots: &str) -> Pihook {
    let mut command = home.command(&["run"]);
    command.env("SSL_CERT_FILE", home.write("roots.pem", roots));
    Pihook::start(command)
}

#[test]
fn a_root_of_the_system_is_trusted() {
    let (root, pair) = localhost();
    let telegram = Telegram::start(Options {
        api_tls: Some(pair),
        speed: 10.0,
        ..Options::default()
    })
    .unwrap();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    let pihook = run(&home, &root);
    telegram.route(HOST, 8443, pihook.address);
    bot.say(42, "over TLS");
    bot.wait_sent(1, SOON).unwrap();
}

#[test]
fn any_other_is_not() {
    let (_, pair) = localhost();
    let (stranger, _) = localhost();
    let telegram = Telegram::start(Options {
        api_tls: Some(pair),
        speed: 10.0,
        ..Options::default()
    })
    .unwrap();
    let bot = telegram.bot(TOKEN);
    let home = Home::new(&telegram.api_url());
    let pihook = run(&home, &stranger);
    let line = pihook.wait_log("TLS failed");
    assert!(line.contains("certificate"), "{line}");
    assert_eq!(bot.calls().len(), 0);
}

#[test]
fn a_store_without_a_single_root_falls_back_to_the_list_built_in() {
    let (_, pair) = localhost();
    let telegram = Telegram::start(Options {
        api_tls: Some(pair),
        speed: 10.0,
        ..Options::default()
    })
    .unwrap();
    let home = Home::new(&telegram.api_url());
    let pihook = run(&home, "");
    pihook.wait_log("no list of CA certificates");
    pihook.wait_log("TLS failed");
}

#[test]
fn a_clock_that_may_be_wrong_is_named_with_the_certificates_date() {
    let (root, pair) = authority("localhost", |leaf| {
        leaf.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    let telegram = Telegram::start(Options {
        api_tls: Some(pair),
        speed: 10.0,
        ..Options::default()
    })
    .unwrap();
    let home = Home::new(&telegram.api_url());
    let pihook = run(&home, &root);
    let line = pihook.wait_log("TLS failed");
    assert!(
        line.contains("certificate is expired if this machine's clock is right (")
            && line.contains("the clock is wrong by "),
        "{line}"
    );
}
