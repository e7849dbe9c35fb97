//! Starting, reloading and stopping, without a lost update or a dropped connection.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::common::tls::Tls;
use crate::common::{Home, SOON, TOKEN, settings, start, telegram, text};
use nix::sys::signal::Signal;
use simulated_telegram::Fault;

#[test]
fn a_stop_in_the_middle_of_a_slow_reply_loses_nothing() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let telegram = telegram();
        let bot = telegram.bot(TOKEN);
        let home = Home::new(&telegram.api_url());
        let pihook = home.run_for(&telegram);
        pihook.wait_log("the webhook is registered");
        let (began, begun) = mpsc::channel();
        telegram.on_call(move |call| {
            let slow = call.method.eq_ignore_ascii_case("sendMessage");
            slow.then(|| {
                began.send(()).unwrap();
                Fault::Stall(Duration::from_secs(2))
            })
        });
        bot.say(42, "slow");
        begun.recv_timeout(SOON).unwrap();
        pihook.signal(signal);
        let (status, log) = pihook.wait();
        assert!(status.success(), "{status}: {log:#?}");
        assert_eq!(bot.wait_sent(1, SOON).unwrap()[0].text, "slow");
        bot.wait_delivered(1, SOON).unwrap();
        // The webhook stays registered: what comes now waits at Telegram.
        assert_ne!(bot.webhook_info()["url"], "");
    }
}

#[test]
fn a_stop_waits_ten_seconds_for_a_reply_that_hangs_and_loses_nothing() {
    let (telegram, bot, home, pihook) = start();
    let (began, begun) = mpsc::channel();
    let mut hangs = true;
    telegram.on_call(move |call| {
        let first = call.method.eq_ignore_ascii_case("sendMessage") && std::mem::take(&mut hangs);
        first.then(|| {
            began.send(()).unwrap();
            Fault::Hang
        })
    });
    bot.say(42, "for long");
    begun.recv_timeout(SOON).unwrap();
    let start = Instant::now();
    let (status, log) = pihook.stop();
    assert!(status.success(), "{status}: {log:#?}");
    assert!(
        log.iter().any(|line| line.contains("not finished in 10 s")),
        "{log:#?}"
    );
    // The timeout of the call itself is twice as long.
    assert!(
        (10..18).contains(&start.elapsed().as_secs()),
        "{:?}",
        start.elapsed()
    );
    let _pihook = home.run_for(&telegram);
    assert_eq!(bot.wait_sent(1, SOON).unwrap()[0].text, "for long");
}

#[test]
fn updates_from_a_downtime_are_answered_after_the_start() {
    let (telegram, bot, home, pihook) = start();
    pihook.wait_log("the webhook is registered");
    assert!(pihook.stop().0.success());
    for chat in 1..=20 {
        bot.say(chat, "are you there?");
    }
    let _pihook = home.run_for(&telegram);
    assert_eq!(bot.wait_sent(20, SOON).unwrap().len(), 20);
}

#[test]
fn sighup_reloads_the_certificate_and_drops_no_connection() {
    let (_telegram, _bot, home, pihook) = start();
    let mut old = Tls::connect(pihook.address);
    assert!(home.pihook(&["cert", "--force"]).status.success());
    pihook.signal(Signal::SIGHUP);
    pihook.wait_log("The certificate was reloaded");
    let new = Tls::connect(pihook.address);
    assert_ne!(old.certificate(), new.certificate());
    assert_eq!(old.ask(b"GET / HTTP/1.1\r\n\r\n"), 404);
}

#[test]
fn sighup_with_a_wrong_certificate_keeps_the_old_one() {
    let (_telegram, _bot, home, pihook) = start();
    let old = Tls::connect(pihook.address).certificate();
    assert!(home.pihook(&["cert", "--out", "other"]).status.success());
    home.write(
        "certs/webhook_cert.pem",
        &home.read("other/webhook_cert.pem"),
    );
    pihook.signal(Signal::SIGHUP);
    let line = pihook.wait_log("the old one stays in use");
    assert!(line.contains("does not belong"), "{line}");
    home.write("certs/webhook_pkey.pem", "");
    pihook.signal(Signal::SIGHUP);
    pihook.wait_logs("the old one stays in use", 2);
    assert_eq!(Tls::connect(pihook.address).certificate(), old);
}

#[test]
fn a_stop_ends_idle_connections_in_order() {
    let telegram = telegram();
    let home = Home::new(&telegram.api_url());
    let pihook = home.run();
    let mut idle = Tls::connect(pihook.address);
    assert!(pihook.stop().0.success());
    assert!(idle.is_closed());
}

#[test]
fn a_second_instance_gets_an_error() {
    let home = Home::new("http://127.0.0.1:1");
    let first = home.run();
    let second = home.pihook(&["run"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        text(&second).contains("Another pihook process uses runtime_dir run"),
        "{}",
        text(&second)
    );

    let port = first.address.port();
    let same_port =
        settings("http://127.0.0.1:1", "").replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let other = Home::with(&same_port, &format!("[[bot]]\ntoken = '{TOKEN}'\n"));
    let third = other.pihook(&["run"]);
    assert_eq!(third.status.code(), Some(1));
    assert!(
        text(&third).contains("Cannot listen on 127.0.0.1:"),
        "{}",
        text(&third)
    );
}

#[test]
fn a_kill_leaves_nothing_in_the_way_of_the_next_start() {
    let home = Home::new("http://127.0.0.1:1");
    let mut first = home.run();
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let second = home.run();
    assert_eq!(
        Tls::connect(second.address).ask(b"GET / HTTP/1.1\r\n\r\n"),
        404
    );
}

#[test]
fn runtime_dir_and_state_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let (_telegram, _bot, home, pihook) = start();
    pihook.wait_log("the webhook is registered");
    let mode = |name: &str| {
        home.folder
            .join(name)
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("run"), 0o700);
    assert_eq!(mode("state/webhook-110201543"), 0o600);
}

#[test]
fn a_key_that_everyone_can_read_gets_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let (_telegram, _bot, home, pihook) = start();
    assert!(!pihook.log().iter().any(|line| line.contains("can read")));
    let key = home.folder.join("certs/webhook_pkey.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    pihook.signal(Signal::SIGHUP);
    pihook.wait_log("webhook_pkey.pem. Run: chmod 600 ");
}
