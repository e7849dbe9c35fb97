//! An update that Telegram brings again gets no second reply.

mod common;

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use common::{Home, Memory, SOON, TOKEN, settings, start, telegram};
use nix::sys::signal::Signal;
use simulated_telegram::{Bot, Cut, Fault, Telegram};

/// A Telegram, one bot's account there, and the bot's home, which remembers across restarts as under systemd.
fn remembering(test: &str) -> (Telegram, Bot, Home, Memory) {
    let telegram = telegram();
    let bot = telegram.bot(TOKEN);
    let memory = Memory::new(test);
    let settings = settings(&telegram.api_url(), &memory.setting());
    (telegram, bot, Home::with(&settings, &format!("[[bot]]\ntoken = '{TOKEN}'\n")), memory)
}

#[test]
fn a_lost_answer_costs_no_second_reply() {
    let (telegram, bot, _home, pihook) = start();
    let mut lost = 0;
    telegram.on_delivery(move |_| {
        lost += 1;
        (lost <= 2).then_some(Cut::BeforeAnswer)
    });
    let said = bot.say(42, "hello");
    bot.wait_delivered(1, SOON).unwrap();
    assert_eq!(bot.sent().len(), 1);
    pihook.wait_log(&format!("update {}: 200, it was answered before", said.update_id));
    bot.redeliver(said.update_id);
    bot.wait_delivered(2, SOON).unwrap();
    assert_eq!(bot.sent().len(), 1);
}

#[test]
fn what_comes_again_while_its_reply_is_being_sent_is_put_off_for_a_second() {
    let (telegram, bot, _home, pihook) = start();
    pihook.wait_log("the webhook is registered");
    let mut first = true;
    telegram.on_delivery(move |_| std::mem::take(&mut first).then_some(Cut::BeforeAnswer));
    telegram.on_call(|call| {
        call.method.eq_ignore_ascii_case("sendMessage").then_some(Fault::Stall(Duration::from_secs(2)))
    });
    bot.say(42, "slow");
    bot.wait_delivered(1, SOON).unwrap();
    assert_eq!(bot.sent().len(), 1);
    let busy = bot.deliveries().into_iter().find(|delivery| delivery.status == Some(503)).expect("a 503");
    assert_eq!(busy.header("retry-after"), Some("1"));
    pihook.wait_log("503, its reply is being sent");
}

#[test]
fn a_kill_forgets_nothing_that_was_answered() {
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
fn a_kill_amid_a_reply_loses_nothing_and_is_told() {
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
    let line = pihook.wait_log("the program ended while it was sending this reply");
    assert!(line.contains(&format!("update {}", said.update_id)), "{line}");
}

#[test]
fn a_broken_file_loses_nothing() {
    let (telegram, bot, home, memory) = remembering("broken");
    fs::create_dir_all(&memory.folder).unwrap();
    fs::write(memory.folder.join("once-110201543"), b"once upon a time".repeat(10_000)).unwrap();
    let _pihook = home.run_for(&telegram);
    for chat in 1..=20 {
        bot.say(chat, "hello");
    }
    assert_eq!(bot.wait_sent(20, SOON).unwrap().len(), 20);
}

#[test]
fn a_folder_that_would_wear_out_is_not_written_to() {
    let (_telegram, bot, home, pihook) = start();
    let on_disk = home.folder.join("run/once-110201543");
    if common::tool("stat", &["-f", "-c", "%T", "."], &home.folder).stdout.starts_with(b"tmpfs") {
        return;
    }
    pihook.wait_log("not remembered across a restart");
    bot.say(42, "hello");
    bot.wait_delivered(1, SOON).unwrap();
    assert!(!on_disk.exists());
}
