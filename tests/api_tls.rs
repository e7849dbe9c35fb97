//! The Bot API over HTTPS: pihook trusts the system's CA certificates, or those of `SSL_CERT_FILE`.

use crate::common::authority::authority;
use crate::common::{HOST, Home, Pihook, SOON, TOKEN};
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
fn a_root_that_the_system_does_not_have_is_not_trusted() {
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
fn without_any_root_the_built_in_list_counts() {
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
fn a_clock_that_may_be_wrong_is_in_the_error_of_an_expired_certificate() {
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
