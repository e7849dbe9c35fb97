//! An update that Telegram delivers again gets no second reply.

use std::fs;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::scene::Scene;
use crate::common::tls::Tls;
use crate::common::{Home, SOON, TOKEN, remembering, settings, start, telegram};
use nix::sys::signal::Signal;
use simulated_telegram::{Cut, Fault};

#[test]
fn a_redelivery_after_a_lost_answer_gets_no_second_reply() {
    let (telegram, bot, _home, pihook) = start();
    let mut lost = 0;
    telegram.on_delivery(move |_| {
        lost += 1;
        (lost <= 2).then_some(Cut::BeforeAnswer)
    });
    let said = bot.say(42, "hello");
    bot.wait_delivered(1, SOON).unwrap();
    assert_eq!(bot.sent().len(), 1);
    pihook.wait_log(&format!(
        "update {}: 200, the bot has answered this update before",
        said.update_id
    ));
    bot.redeliver(said.update_id);
    bot.wait_delivered(2, SOON).unwrap();
    assert_eq!(bot.sent().len(), 1);
}

#[test]
fn a_redelivery_in_flight_gets_the_answer_of_the_first() {
    let (telegram, bot, _home, pihook) = start();
    pihook.wait_log("the webhook is registered");
    let mut first = true;
    telegram.on_delivery(move |_| std::mem::take(&mut first).then_some(Cut::BeforeAnswer));
    telegram.on_call(|call| {
        call.method
            .eq_ignore_ascii_case("sendMessage")
            .then_some(Fault::Stall(Duration::from_secs(2)))
    });
    bot.say(42, "slow");
    bot.wait_delivered(1, SOON).unwrap();
    let statuses: Vec<_> = bot
        .deliveries()
        .into_iter()
        .map(|delivery| delivery.status)
        .collect();
    assert_eq!(
        (bot.sent().len(), statuses),
        (1, vec![None, Some(200)]),
        "nobody sees a failure"
    );
    pihook.wait_log("200, Telegram sent the update again while the bot was answering it");
}

#[test]
fn a_quarter_of_the_workers_may_wait_for_a_redelivery_in_flight() {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let home = Home::with(
        &settings(&telegram.api_url(), "max_connections = 8"),
        &format!("[[bot]]\ntoken = '{TOKEN}'\n"),
    );
    let pihook = home.run_for(&telegram);
    pihook.wait_log("the webhook is registered");
    let scene = Scene::of((telegram, bot, home, pihook));
    // The worker waits out the first 3 s by itself, and then defers the update for 77 s.
    let begun = fail_with_429(&scene, vec![77, 3]);

    let update = r#"{"update_id":9,"message":{"message_id":1,"date":1,"chat":{"id":7,"type":"private"},"text":"hi"}}"#;
    let request = scene.request(update, str::to_owned);
    let mut connections: Vec<_> = (0..4).map(|_| Tls::connect(scene.pihook.address)).collect();
    connections[0].send(&request).unwrap();
    begun.recv_timeout(SOON).unwrap();
    let asked = Instant::now();
    for tls in &mut connections[1..] {
        tls.send(&request).unwrap();
    }

    let mut answers: Vec<_> = thread::scope(|scope| {
        let answers = connections
            .iter_mut()
            .map(|tls| scope.spawn(|| (tls.answer(), asked.elapsed())));
        answers
            .collect::<Vec<_>>()
            .into_iter()
            .map(|answer| answer.join().unwrap())
            .collect()
    });
    answers.sort_by_key(|(_, took)| *took);
    let is = |answer: &str, seconds: u64| {
        answer.starts_with("HTTP/1.1 503 ")
            && answer.contains(&format!("\r\nRetry-After: {seconds}\r\n"))
    };
    // Two of eight workers may wait.
    assert!(
        is(&answers[0].0, 1) && answers[0].1 < Duration::from_secs(2),
        "{answers:#?}"
    );
    assert!(
        answers[1..].iter().all(|(answer, _)| is(answer, 77)),
        "{answers:#?}"
    );
}

/// Has sendMessage fail with these waits, the last one first. What is returned gets a message at
/// each failure.
fn fail_with_429(scene: &Scene, mut waits: Vec<u64>) -> mpsc::Receiver<()> {
    let (began, begun) = mpsc::channel();
    scene.telegram.on_call(move |call| {
        if !call.method.eq_ignore_ascii_case("sendMessage") {
            return None;
        }
        let seconds = waits.pop()?;
        let _ = began.send(());
        Some(Fault::Error {
            code: 429,
            description: "Too Many Requests".to_owned(),
            retry_after: Some(seconds),
            migrate_to_chat_id: None,
        })
    });
    begun
}

#[test]
fn a_kill_forgets_no_update_that_is_done() {
    let (telegram, bot, home, _memory) = remembering("kill");
    let mut pihook = home.run_for(&telegram);
    let said: Vec<_> = (1..=20).map(|chat| bot.say(chat, "hello")).collect();
    bot.wait_delivered(20, SOON).unwrap();
    pihook.signal(Signal::SIGKILL);
    pihook.child.wait().unwrap();

    let _pihook = home.run_for(&telegram);
    for said in said {
        bot.redeliver(said.update_id);
    }
    bot.say(42, "and a new one");
    bot.wait_delivered(41, SOON).unwrap();
    assert_eq!(bot.sent().len(), 21);
}

#[test]
fn a_kill_amid_a_reply_loses_no_update_and_is_logged() {
    let (telegram, bot, home, _memory) = remembering("amid");
    let mut pihook = home.run_for(&telegram);
    let (began, begun) = mpsc::channel();
    telegram.on_call(move |call| {
        let first = call.method.eq_ignore_ascii_case("sendMessage") && began.send(()).is_ok();
        first.then_some(Fault::Hang)
    });
    let said = bot.say(42, "hello");
    begun.recv_timeout(SOON).unwrap();
    drop(begun);
    pihook.signal(Signal::SIGKILL);
    pihook.child.wait().unwrap();

    let pihook = home.run_for(&telegram);
    bot.wait_sent(1, SOON).unwrap();
    let line = pihook.wait_log("pihook stopped while it was answering this update");
    assert!(
        line.contains(&format!("update {}", said.update_id)),
        "{line}"
    );
}

#[test]
fn a_broken_dedup_file_loses_no_update() {
    let (telegram, bot, home, memory) = remembering("broken");
    fs::create_dir_all(&memory.folder).unwrap();
    fs::write(
        memory.folder.join("once-110201543"),
        b"once upon a time".repeat(10_000),
    )
    .unwrap();
    let _pihook = home.run_for(&telegram);
    for chat in 1..=20 {
        bot.say(chat, "hello");
    }
    assert_eq!(bot.wait_sent(20, SOON).unwrap().len(), 20);
}

#[test]
fn a_runtime_dir_outside_a_tmpfs_gets_no_dedup_file() {
    let (_telegram, bot, home, pihook) = start();
    let on_disk = home.folder.join("run/once-110201543");
    if crate::common::tool("stat", &["-f", "-c", "%T", "."], &home.folder)
        .stdout
        .starts_with(b"tmpfs")
    {
        return;
    }
    pihook.wait_log("Cannot keep the list of answered updates across a restart");
    bot.say(42, "hello");
    bot.wait_delivered(1, SOON).unwrap();
    assert!(!on_disk.exists());
}
